"""The commands that send dead letters again: replay, and what follows a replay or takes it back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated

import typer

from worker.cli import exits, tables
from worker.cli.asking import DryRun, Yes, ask
from worker.cli.exits import FailOn, FailOnWithFollow, FollowedFailOn
from worker.cli.output import AsJson, AsJsonLines, Form, form_of, say_json
from worker.cli.progress import progress_bar, watch
from worker.cli.session import Follow, Note, Session, filtered, session
from worker.domain.job import KIND_WORDS, DeadKind
from worker.domain.text import counted
from worker.errors import BadgesError, StoreError
from worker.files.columns import fixed_fields
from worker.operate import cancelling, deadlist, following, replaying
from worker.operate.deadlist import Filter
from worker.operate.following import Following
from worker.operate.progress import RunProgress
from worker.operate.replaying import UNDO, Replayed
from worker.operate.report import option
from worker.store import audit

replays_cli = typer.Typer()

ReplayId = Annotated[str, typer.Argument(metavar="REPLAY", help="As the replay said it; see: badges audit.")]


@replays_cli.command("replay")
@filtered
def dead_replay(
    which: Filter,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Mend a field: each becomes a new job."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most that many, the oldest.")] = None,
    dry_run: DryRun = False,
    follow_it: Follow = False,
    may_issue_twice: Annotated[
        bool,
        typer.Option("--may-issue-twice", help="With --kind in_doubt: replay them, whatever the vendor did."),
    ] = False,
    fail_on: FailOnWithFollow = None,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Queue dead letters again, with a new count of attempts; they go out at the org's rate.

    Invalid rows can't be replayed: mend them in a report (badges results --kind invalid), and import that.
    Jobs in doubt may have been issued, and are only replayed with --kind in_doubt: the badge may then be
    issued twice, so that this is asked about, or needs --may-issue-twice. Ctrl-C leaves queued what was
    replayed so far; to take that back: badges dead cancel. Exit status: 0 or 1, with --follow as --fail-on
    says.
    """
    if which.kind is DeadKind.INVALID:
        raise typer.BadParameter("an invalid row can't be replayed: mend it in a report, and import that")
    try:
        changes = fixed_fields(change or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--set") from None
    with session() as here:
        which = here.chosen(which)
        if dry_run:
            _say_dry_run(here, which, changes, limit, as_json=as_json)
            return
        if which.kind is DeadKind.IN_DOUBT:
            which = _ask_about_doubt(here, which, limit, allowed=may_issue_twice, as_json=as_json)
        replay = audit.action_id(here.queue, "replay")
        with _breaking_off(replay):
            with progress_bar("replaying", None, unit="dead letter") as move:
                done = replaying.replay_all(
                    here.operator(note),
                    which,
                    changes=changes,
                    limit=limit,
                    may_issue_twice=True,
                    replay=replay,
                    on_progress=move,
                )
            if not as_json:
                _say_replayed(done, which, here.reports.run(which.run, which.org) if which.run else None)
            last = None
            if follow_it and done.replayed:
                last = watch_replay(here, replay, form="json" if as_json else "words")
        if as_json:
            say_json(done.as_json() | {"dry_run": False} | ({"followed": last.as_json()} if last else {}))
    _refuse_what_stays(done)
    if last:
        end_followed(last, fail_on)


@replays_cli.command("follow")
def dead_follow(
    replay: ReplayId,
    fail_on: FollowedFailOn = None,
    as_json: AsJson = False,
    as_lines: AsJsonLines = False,
) -> None:
    """Watch a replay until every job of it has ended again; Ctrl-C stops watching, not the jobs.

    With --json its last state, with --jsonl a line each time it is looked at.
    """
    form = form_of(as_json=as_json, as_lines=as_lines)
    with session() as here, _breaking_off(replay):
        last = watch_replay(here, replay, form=form)
    if form == "json":
        say_json(last.as_json())
    end_followed(last, fail_on)


@replays_cli.command("cancel")
def dead_cancel(
    replay: ReplayId, dry_run: DryRun = False, yes: Yes = False, note: Note = "", as_json: AsJson = False
) -> None:
    """Take a replay back: what of it still waits becomes a dead letter again, of the kind cancelled.

    What a later replay queued once more is that one's.
    """
    with session() as here:
        by_org = following.still_its(here.reports, replay)
        waiting = following.waiting(here.reports, by_org)
        if not dry_run:
            act = f"{counted(waiting, 'job')} of {replay} would be cancelled: not sent, but dead letters"
            ask(act, waiting, allowed=yes, as_json=as_json)
        cancelled = waiting if dry_run else _cancel(here, replay, by_org, note)
    if as_json:
        say_json({"replay": replay, "cancelled": cancelled}, dry_run=dry_run)
    elif dry_run:
        tables.out.print(f"{cancelled:,} would be cancelled")
    else:
        tables.out.print(f"{cancelled:,} cancelled; what was sent already, or has ended, stays as it is,")
        tables.out.print("  and what an earlier call may have issued is in doubt again")


def _cancel(here: Session, replay: str, by_org: Mapping[str, list[str]], note: str) -> int:
    action, cancelled = audit.action_id(here.queue, "cancel"), 0
    try:
        for org, ids in by_org.items():
            here.operator(note).begin(org, action, {"replay": replay})
            with progress_bar(f"cancelling in {org}", len(ids), unit="job") as move:
                cancelled += cancelling.cancel(here.queue, org, ids, action=action, on_progress=move)
    except (KeyboardInterrupt, StoreError):
        tables.err.print(f"What isn't cancelled yet is sent; to end that: badges dead cancel {replay}")
        raise
    return cancelled


def _ask_about_doubt(
    here: Session, which: Filter, limit: int | None, *, allowed: bool, as_json: bool
) -> Filter:
    """Return the filter for what a person was told of and allowed."""
    which = replace(which, until_ms=deadlist.now_ms(here.reports))
    count = replaying.doubtful(here.reports, which, limit)
    act = replaying.doubt_words(count)
    if allowed and count:
        tables.err.print(f"[yellow]{act}[/]")
    ask(act, count, flag="--may-issue-twice", allowed=allowed, as_json=as_json)
    return which


@contextmanager
def _breaking_off(replay: str) -> Iterator[None]:
    """Say, where Ctrl-C is pressed or Redis is lost, what goes on and how to end that too."""
    try:
        yield
    except (KeyboardInterrupt, StoreError):
        tables.err.print(
            f"What was replayed, if anything was, stays queued. Watch it: badges dead follow {replay}; "
            f"take it back: badges dead cancel {replay}"
        )
        raise


def _say_dry_run(
    here: Session, which: Filter, changes: dict[str, str], limit: int | None, *, as_json: bool
) -> None:
    with progress_bar("looking", None, unit="dead letter") as move:
        done = replaying.replay_all(
            here.operator(), which, changes=changes, limit=limit, dry_run=True, on_progress=move
        )
    if as_json:
        say_json(done.as_json() | {"replay": None, "run": None, "dry_run": True})
        _refuse_what_stays(done)
        return
    tables.show_groups(deadlist.groups(here.reports, which, replayable=True))
    at_most = f", at most {limit:,} as said" if limit else ""
    tables.out.print(f"{done.replayed:,} would be replayed{at_most}, {_refused(done)}")
    _say_what_is_left(done, which)
    _refuse_what_stays(done)


def _refused(done: Replayed) -> str:
    return f"{done.duplicates:,} refused as {'a duplicate' if done.duplicates == 1 else 'duplicates'}"


def _say_replayed(done: Replayed, which: Filter, its_run: RunProgress | None) -> None:
    tables.out.print(f"{done.replayed:,} replayed, {_refused(done)}")
    _say_what_is_left(done, which)
    if not done.replayed:
        return
    if done.run:
        tables.out.print(f"  as new jobs, in run {done.run}: badges run follow {done.run}")
    else:
        tables.out.print(f"  watch them: badges dead follow {done.replay}")
    tables.out.print(f"  take back what still waits: badges dead cancel {done.replay}")
    if its_run and its_run.later and its_run.held:
        tables.out.print(
            f"  [yellow]nothing of run {tables.safe(its_run.run)} is sent yet:[/] {tables.safe(its_run.held)}"
        )


def _say_what_is_left(done: Replayed, which: Filter) -> None:
    """Say which dead letters fit that a replay leaves out, and what to do about them."""
    its = {"org": which.org, "run": which.run}
    said = "".join(f" {option(name, value)}" for name, value in its.items() if value)
    report = f"badges results{said} --kind invalid --format csv -o report.csv"
    cures = {
        "invalid": f"invalid, never sent: mend them in a report ({report})",
        "in_doubt": "in doubt: look them up at the vendor, or say --kind in_doubt",
        UNDO: "of an undo, to take a badge back: to call them all the same, say --run and its name",
        "repeat": "held back as repeats: to send them all the same, say --kind repeat",
    }
    for kind, count in done.left_out.items():
        cure = cures.get(kind, f"{KIND_WORDS.get(kind, kind)}: to send them again, say --kind {kind}")
        tables.out.print(f"  left out: {count:,} {tables.safe(cure)}")
    if not (done.replayed or done.duplicates or done.skipped or done.unconfigured):
        tables.out.print("  nothing fits that can be replayed")


def _refuse_what_stays(done: Replayed) -> None:
    """Say what was asked for and can't be replayed.

    Raises:
        BadgesError: there is something.
    """
    stays = [
        f"org {org} isn't configured, so its {counted(count, 'dead letter')} "
        f"{'stays as it is' if count == 1 else 'stay as they are'}: put its table back into "
        "BADGES_ORGS_FILE, or discard them"
        for org, count in done.unconfigured.items()
    ]
    if done.problem:
        stays.append(
            f"{counted(done.skipped, 'job')} "
            f"{'stays as it is' if done.skipped == 1 else 'stay as they are'}: {done.problem}"
        )
    if stays:
        raise BadgesError("; ".join(stays))


def watch_replay(here: Session, replay: str, *, form: Form) -> Following:
    """Follow a replay, or an undo, to its end and return its last state."""
    return watch(following.follow(here.reports, replay, every_s=0.3), tables.show_replay, form=form)


def end_followed(last: Following, fail_on: FailOn | None) -> None:
    """End the command as what was followed ended."""
    invalid = last.dead_kinds.get(DeadKind.INVALID, 0)
    exits.end(fail_on or FailOn.DEAD, dead=last.dead, invalid=invalid)
