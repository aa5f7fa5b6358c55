"""The commands about dead letters."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from worker.cli import tables
from worker.cli.progress import progress_bar, show_following
from worker.cli.session import AsJson, ItsOrg, Note, Session, filtered, session
from worker.domain.badge import BadgeIssue
from worker.domain.job import DeadKind
from worker.errors import BadgesError
from worker.operate import deadletters, deadlist
from worker.operate.deadletters import Replayed
from worker.operate.deadlist import Filter
from worker.operate.report import option
from worker.store import audit

dead_cli = typer.Typer(help="Dead letters: jobs that need a person.", no_args_is_help=True)

LISTED = 50

ReplayId = Annotated[str, typer.Argument(metavar="REPLAY", help="As the replay said it; see: badges audit.")]


@dead_cli.command("list")
@filtered
def dead_list(which: Filter, as_json: AsJson = False) -> None:
    """List dead letters, each with its reason; with --json one a line, all of them."""
    with session() as here:
        rows = deadlist.rows(here.reports, which)
        if as_json:
            for row in rows:
                tables.say_json(row)
            return
        shown = [row for row, _ in zip(rows, range(LISTED + 1), strict=False)]
    tables.show_dead(shown[:LISTED])
    if len(shown) > LISTED:
        tables.out.print(f"… only the first {LISTED}; all of them: --json, or: badges dead groups")


@dead_cli.command("groups")
@filtered
def dead_groups(which: Filter, as_json: AsJson = False) -> None:
    """Count dead letters by kind, code and badge, largest group first."""
    with session() as here:
        groups = deadlist.groups(here.reports, which)
    if as_json:
        tables.say_json(groups)
        return
    tables.show_groups(groups)
    run = f" {option('run', which.run)}" if which.run else ""
    for what, command in {
        "a group mended": f"badges dead replay{run} --badge BADGE --set badgeMetaId=… --dry-run",
        "row by row": f"badges results{run} --state dead --format csv -o report.csv",
    }.items():
        tables.out.print(f"  {what}: {tables.safe(command)}")


@dead_cli.command("replay")
@filtered
def dead_replay(
    which: Filter,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Mend a field: each becomes a new job."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, the oldest.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be replayed.")] = False,
    follow_it: Annotated[bool, typer.Option("--follow", help="Stay until every job has ended.")] = False,
    note: Note = "",
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask about jobs in doubt.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue dead letters again, with a new count of attempts; they go out at the org's rate.

    Invalid rows can't be replayed: mend them in a report (badges results --kind invalid), and import that.
    Jobs in doubt may have been issued, and are only replayed with --kind in_doubt: the badge may then be
    issued twice. Ctrl-C leaves queued what was replayed so far; to take that back: badges dead cancel.
    """
    if which.kind is DeadKind.INVALID:
        raise typer.BadParameter("an invalid row can't be replayed: mend it in a report, and import that")
    changes = _changes(change or [])
    with session() as here:
        if dry_run:
            _say_dry_run(here, which, changes, limit, as_json=as_json)
            return
        if which.kind is DeadKind.IN_DOUBT:
            _warn_of_doubt(here, which, ask=sys.stdin.isatty() and not (yes or as_json))
        replay = audit.action_id(here.queue, "replay")
        with _breaking_off(replay), progress_bar("replaying", None, unit="looked at") as move:
            done = deadletters.replay_all(
                here.queue,
                here.reports,
                here.settings.orgs(),
                which,
                by=audit.os_user(),
                note=note,
                changes=changes,
                limit=limit,
                replay=replay,
                on_progress=move,
            )
        if as_json:
            tables.say_json(done.as_json() | {"dry_run": False})
        else:
            _say_replayed(done, which)
        if follow_it and done.replayed:
            _follow(here, replay, as_json=as_json)
    _refuse_what_stays(done)


@dead_cli.command("follow")
def dead_follow(replay: ReplayId, as_json: AsJson = False) -> None:
    """Watch a replay until every job of it has ended again; Ctrl-C stops watching, not the jobs."""
    with session() as here:
        _follow(here, replay, as_json=as_json)


@dead_cli.command("cancel")
def dead_cancel(replay: ReplayId, note: Note = "", as_json: AsJson = False) -> None:
    """Take a replay back: what of it still waits becomes a dead letter again, of the kind cancelled."""
    cancelled = 0
    with session() as here:
        action = audit.action_id(here.queue, "cancel")
        for org, ids in deadletters.replayed_ids(here.reports, replay).items():
            audit.begin(here.queue, org, action, by=audit.os_user(), note=note, which={"replay": replay})
            with progress_bar(f"cancelling in {org}", len(ids), unit="jobs") as move:
                cancelled += deadletters.cancel(here.queue, org, ids, action=action, on_progress=move)
    if as_json:
        tables.say_json({"replay": replay, "cancelled": cancelled})
    else:
        tables.out.print(f"{cancelled:,} cancelled; what was sent already, or has ended, stays as it is")


@dead_cli.command("resolve")
def dead_resolve(
    job_id: Annotated[
        str, typer.Argument(metavar="ID", help="The job's; see: badges dead list --kind in_doubt.")
    ],
    issued: Annotated[
        bool | None,
        typer.Option("--issued/--not-issued", help="What you found out; --not-issued sends it again now."),
    ] = None,
    note: Note = "",
    org: ItsOrg = None,
) -> None:
    """Say what became of a job in doubt, once you have looked it up at the vendor."""
    if issued is None:
        raise typer.BadParameter("say --issued or --not-issued")
    with session() as here:
        job = here.reports.job(job_id, org)
        done = deadletters.resolve(
            here.queue,
            here.reports,
            here.settings.org(job["org"]),
            job_id,
            issued=issued,
            by=audit.os_user(),
            note=note,
        )
    if not done:
        raise BadgesError(f"{job_id} is not in doubt: it is {job['state']}")
    tables.out.print(f"{tables.safe(job_id)} is {'issued' if issued else 'queued again'}")


@dead_cli.command("discard")
@filtered
def dead_discard(
    which: Filter,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Take dead letters off the list for good; their records stay, so that a re-import can't issue them."""
    if which == Filter(which.org):
        raise typer.BadParameter("say which: --kind, --run, --code, --badge, --customer, --job or --since")
    with session() as here, progress_bar("discarding", None, unit="looked at") as move:
        count = deadletters.discard_all(
            here.queue,
            here.reports,
            here.settings.orgs(),
            which,
            by=audit.os_user(),
            note=note,
            on_progress=move,
        )
    if as_json:
        tables.say_json({"discarded": count})
    else:
        tables.out.print(f"{count:,} discarded")


def _changes(given: list[str]) -> dict[str, str]:
    fields = sorted({str(field.alias) for name, field in BadgeIssue.model_fields.items() if name != "job_id"})
    changes = dict(part.partition("=")[::2] for part in given)
    for name, value in changes.items():
        if name not in fields or not value:
            raise typer.BadParameter(
                f"--set wants FIELD=VALUE, not {name!r}; the fields: {', '.join(fields)}"
            )
    return changes


def _warn_of_doubt(here: Session, which: Filter, *, ask: bool) -> None:
    count = sum(group.count for group in deadlist.groups(here.reports, which))
    if not count:
        return
    tables.err.print(
        f"[yellow]{count:,} in doubt:[/] the vendor may have issued these badges; "
        "replaying them may issue them a second time."
    )
    if ask:
        typer.confirm("Replay them all the same?", abort=True, err=True)


@contextmanager
def _breaking_off(replay: str) -> Iterator[None]:
    """Say, to whoever presses Ctrl-C, what goes on and how to end that too."""
    try:
        yield
    except KeyboardInterrupt:
        tables.err.print(
            f"What was replayed stays queued. Watch it: badges dead follow {replay}; "
            f"take it back: badges dead cancel {replay}"
        )
        raise


def _say_dry_run(
    here: Session, which: Filter, changes: dict[str, str], limit: int | None, *, as_json: bool
) -> None:
    orgs = here.settings.orgs()
    with progress_bar("looking", None, unit="looked at") as move:
        done = deadletters.replay_all(
            here.queue, here.reports, orgs, which, by="", changes=changes, limit=limit, dry_run=True,
            on_progress=move,
        )  # fmt: skip
    if as_json:
        tables.say_json(done.as_json() | {"replay": None, "run": None, "dry_run": True})
        return
    tables.show_groups(deadlist.groups(here.reports, which, replayable=True))
    at_most = f", at most {limit:,} as said" if limit else ""
    tables.out.print(
        f"{done.replayed:,} would be replayed{at_most}, {done.duplicates:,} refused as duplicates"
    )
    _say_what_is_left(done, which)
    _refuse_what_stays(done)


def _say_replayed(done: Replayed, which: Filter) -> None:
    tables.out.print(f"{done.replayed:,} replayed, {done.duplicates:,} refused as duplicates")
    _say_what_is_left(done, which)
    if not done.replayed:
        return
    if done.run:
        tables.out.print(f"  as new jobs, in run {done.run}: badges run follow {done.run}")
    else:
        tables.out.print(f"  watch them: badges dead follow {done.replay}")
    tables.out.print(f"  take back what still waits: badges dead cancel {done.replay}")


def _say_what_is_left(done: Replayed, which: Filter) -> None:
    """Say which dead letters fit that a replay leaves out, and what to do about them."""
    run = f" {option('run', which.run)}" if which.run else ""
    report = f"badges results{run} --kind invalid --format csv -o report.csv"
    cures = {
        "invalid": f"invalid, never sent: mend them in a report ({report})",
        "in_doubt": "in doubt: look them up at the vendor, or say --kind in_doubt",
    }
    for kind, count in done.left_out.items():
        tables.out.print(f"  left out: {count:,} {tables.safe(cures[kind])}")
    if not (done.replayed or done.duplicates or done.skipped or done.unconfigured):
        tables.out.print("  nothing fits that can be replayed")


def _refuse_what_stays(done: Replayed) -> None:
    """Say what was asked for and can't be replayed.

    Raises:
        BadgesError: there is something.
    """
    stays = [
        f"org {org} isn't configured, so its {count:,} dead letters stay as they are: put its table back "
        "into BADGES_ORGS_FILE, or discard them"
        for org, count in done.unconfigured.items()
    ]
    if done.problem:
        stays.append(
            f"with --set {done.skipped:,} jobs would be invalid and stay as they are: {done.problem}"
        )
    if stays:
        raise BadgesError("; ".join(stays))


def _follow(here: Session, replay: str, *, as_json: bool) -> None:
    snapshots = deadletters.follow(here.reports, replay, every_s=0.3)
    with _breaking_off(replay):
        show_following(snapshots, tables.show_replay, as_json=as_json)
