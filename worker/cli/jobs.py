"""The commands about runs and single jobs; what became of all of them is in ``results.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from worker.cli import exits, tables
from worker.cli.asking import DryRun, Yes, ask
from worker.cli.exits import FailOn, FollowedFailOn
from worker.cli.output import (
    LISTED,
    AsJson,
    AsJsonLines,
    Form,
    Limit,
    form_of,
    say_json,
    say_listing,
)
from worker.cli.progress import progress_bar, watch
from worker.cli.session import AnyOrg, ItsOrg, JobId, Note, RunName, Session, session
from worker.cli.starts import start_cli
from worker.cli.undos import job_undo_cli, run_undo_cli
from worker.domain.job import DeadKind
from worker.domain.org import DEFAULT_ORG
from worker.domain.text import counted, iso_time
from worker.errors import StoreError
from worker.operate import cancelling
from worker.operate.numbers import UNASKED, Number, numbers
from worker.operate.progress import RunProgress
from worker.operate.report import argument, of_org, option
from worker.operate.runs import follow
from worker.store import audit

run_cli = typer.Typer(
    name="run", help="Runs: the jobs that came in together, with their progress.", no_args_is_help=True
)
job_cli = typer.Typer(name="job", help="Single jobs.", no_args_is_help=True)

run_cli.add_typer(start_cli)
run_cli.add_typer(run_undo_cli)
job_cli.add_typer(job_undo_cli)


@run_cli.command("list")
def run_list(
    org: AnyOrg = None, limit: Limit = None, as_json: AsJson = False, as_lines: AsJsonLines = False
) -> None:
    """List runs with their counts, the newest last; dead are those that still need a person.

    Those that don't any more (mended, replayed as another job, discarded) are handled.
    """
    form = form_of(as_json=as_json, as_lines=as_lines)
    with session() as here:
        newest = limit or (LISTED if form == "words" else None)
        runs = here.reports.runs(org, newest=newest)
        earlier = here.reports.count_runs(org) - len(runs)
    if earlier > 0 and newest and len(runs) == newest:
        to = tables.out if form == "words" else tables.err
        to.print(f"{earlier:,} earlier ones: --limit N shows more, --json all of them")
    say_listing(runs, form=form, limit=newest, show=_show_runs, count=lambda: len(runs))


def _show_runs(runs: Sequence[RunProgress]) -> None:
    """Print a table whose columns of numbers add up to the total."""
    rare = [state for state in ("undone", "handled") if any(getattr(run, state) for run in runs)]
    columns = ("run", "org", "total", "waiting", "issued", "dead", *rare, "started, UTC", "finished")
    tables.table("", columns, [_run_line(run, rare) for run in runs])


def _run_line(run: RunProgress, rare: Sequence[str]) -> list[object]:
    times = map(tables.to_the_second, (run.started_at, run.finished_at))
    counts = (getattr(run, state) for state in rare)
    name = f"{run.run} (incomplete)" if run.incomplete else run.run
    return [name, run.org, run.total, run.open, run.issued, run.unhandled, *counts, *times]


@run_cli.command("show")
def run_show(
    run: RunName,
    org: ItsOrg = None,
    by_number: Annotated[
        bool,
        typer.Option("--numbers", help="Count by code and badge also where it has more than 10,000 jobs."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one run: its jobs by state, code and badge, and how long it will take."""
    with session() as here:
        progress = here.reports.run_meant(run, org)
        counted_: list[Number] | None = None
        if progress.total <= UNASKED:
            counted_ = numbers(here.reports, progress)
        elif by_number:
            with progress_bar("counting", progress.total, unit="job") as move:
                counted_ = numbers(here.reports, progress, on_progress=move)
    if as_json:
        say_json(progress.as_json() | {"numbers": counted_})
        return
    _show_run(progress)
    _show_numbers(counted_)


def _show_run(run: RunProgress) -> None:
    tables.show_run(run)
    if run.unhandled:
        name = tables.safe(f"{of_org(run.org)}{option('run', run.run)}")
        tables.out.print(f"  why: badges dead groups {name}")
        doubtful = run.dead_kinds.get(DeadKind.IN_DOUBT, 0)
        if doubtful:
            tables.out.print(f"  in doubt: badges dead check {name}, which asks the vendor about them")
        if run.dead > doubtful:
            tables.out.print(f"  to mend: badges results {name} --state dead --format csv -o report.csv")


def _show_numbers(found: Sequence[Number] | None) -> None:
    if found is None:
        tables.out.print("  by code and badge: --numbers")
    elif len({(number.code, number.badgeMetaId) for number in found}) > 1:
        columns = ("state", "kind", "code", "badgeMetaId", "jobs")
        lines = [[it.state, it.kind or "", it.code or "", it.badgeMetaId or "", it.count] for it in found]
        tables.table("", columns, lines[:LISTED])
        if len(lines) > LISTED:
            tables.out.print(f"  … {len(lines) - LISTED:,} more: --json has all of them")


@run_cli.command("cancel")
def run_cancel(
    run: RunName,
    org: ItsOrg = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Cancel what still waits of a run; what is being sent is settled, and a replay takes it back."""
    with session() as here:
        progress = here.reports.run_meant(run, org)
        name, waiting = progress.run, progress.waiting
        since = cancelling.broken_off_at(here.reports, progress)
        since = since or iso_time(here.reports.store.org_now_ms(progress.org))
        if not dry_run:
            jobs = counted(waiting, "job")
            act = f"{jobs} of run {name} would be cancelled: not sent, but dead letters"
            ask(act, waiting, allowed=yes, as_json=as_json)
        has_ended = cancelling.has_ended(progress)
        cancelled = waiting if dry_run or has_ended else _cancel(here, progress, note)
        doubtful = cancelling.in_doubt_again(here.reports, progress)
        has_others = len(here.settings.orgs()) > 1
    if as_json:
        say_json({"run": name, "cancelled": cancelled}, dry_run=dry_run)
    elif dry_run:
        tables.out.print(f"{cancelled:,} would be cancelled")
    elif cancelled:
        its = f"{option('org', progress.org)} " if has_others else ""  # which may have a run of this name
        if progress.dead_kinds.get(DeadKind.CANCELLED):  # others were cancelled before, and stay so
            its += f"--since {since} "
        back = tables.safe(f"badges dead replay --kind cancelled {its}{option('run', name)}")
        tables.out.print(f"{cancelled:,} cancelled; to take that back: {back}")
    else:
        _say_nothing_waits(doubtful, has_ended=has_ended)
    if doubtful:
        jobs = counted(doubtful, "job")
        tables.err.print(
            f"{jobs} waited to be sent again: in doubt as before, an earlier call may have issued it"
        )


def _say_nothing_waits(doubtful: int, *, has_ended: bool) -> None:
    if not doubtful:
        tables.out.print("nothing of it waits any more")
    if not has_ended:
        tables.err.print("what comes to it, or would wait again, is cancelled too")


def _cancel(here: Session, run: RunProgress, note: str) -> int:
    action, operator = audit.action_id(here.queue, "cancel"), here.operator(note)
    end = tables.safe(f"badges run cancel {of_org(run.org)}{argument(run.run)}")
    operator.begin(run.org, action, {"run": run.run})
    try:
        with progress_bar("cancelling", run.total, unit="job") as move:
            return cancelling.cancel_run(operator, run.org, run.run, action=action, on_progress=move)
    except KeyboardInterrupt:
        tables.err.print(f"nothing of it is sent any more; what is left of it waits to be cancelled: {end}")
        raise
    except StoreError:
        tables.err.print(f"It may be cancelled in part, and is sent no more then; to end it: {end}")
        raise


@run_cli.command("follow")
def run_follow(
    run: RunName,
    org: ItsOrg = None,
    fail_on: FollowedFailOn = None,
    as_json: AsJson = False,
    as_lines: AsJsonLines = False,
) -> None:
    """Watch a run until every job of it has ended; Ctrl-C stops watching, not the run.

    With --json its last state, with --jsonl a line each time it is looked at.
    """
    form = form_of(as_json=as_json, as_lines=as_lines)
    with session() as here:
        meant = here.reports.run_meant(run, org)
        last = follow_run(here, meant.run, meant.org, form=form)
    if form == "json":
        say_json(last)
    exits.end(fail_on or FailOn.DEAD, dead=last.unhandled, invalid=open_invalid(last))


def open_invalid(run: RunProgress) -> int:
    """Return how many invalid rows of a run still need a person, at most."""
    return min(run.dead_kinds.get(DeadKind.INVALID, 0), run.unhandled)


def follow_run(here: Session, run: str, org: str | None, *, form: Form) -> RunProgress:
    """Follow a run to its end; Ctrl-C ends the program (exit 130, so that what needs its end isn't begun)."""
    snapshots = follow(here.reports, run, org=org, every_s=0.3)
    try:
        return watch(snapshots, _show_run, form=form)
    except KeyboardInterrupt:
        see = f"badges run show {of_org(org or DEFAULT_ORG)}{argument(run)}"
        tables.err.print(f"the run goes on; see: {tables.safe(see)}")
        raise


@job_cli.command("show")
def job_show(
    job_id: JobId,
    org: ItsOrg = None,
    as_json: AsJson = False,
) -> None:
    """Show the whole record of a job, with the history of its attempts."""
    with session() as here:
        job = here.reports.job(job_id, org)
    if as_json:
        say_json(job)
    else:
        tables.show_job(job)
