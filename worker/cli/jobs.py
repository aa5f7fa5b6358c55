"""The commands about jobs that came in: runs, single jobs, results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Any, Literal, TextIO, cast

import typer

from worker.cli import tables
from worker.cli.progress import progress_bar, show_following
from worker.cli.session import AnyOrg, AsJson, ItsOrg, Note, Session, session
from worker.domain.job import DeadKind, State
from worker.errors import FileError
from worker.operate import deadletters, deadlist
from worker.operate.report import ResultForm, argument, option, result_lines
from worker.operate.runs import RunProgress, follow
from worker.store import audit

jobs_cli = typer.Typer()
run_cli = typer.Typer(help="Runs: the jobs that came in together, with their progress.", no_args_is_help=True)
job_cli = typer.Typer(help="Single jobs.", no_args_is_help=True)

LISTED = 50
MOVED_EVERY = 500  # rows

RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="Its name, as import said it; see: badges run list.")
]


@run_cli.command("list")
def run_list(org: AnyOrg = None, as_json: AsJson = False) -> None:
    """List runs with their counts, the newest last; with --json all of them."""
    with session() as here:
        runs = here.reports.runs(org, newest=None if as_json else LISTED)
        earlier = here.reports.count_runs(org) - len(runs)
    if as_json:
        tables.say_json(runs)
        return
    if len(runs) == LISTED and earlier > 0:
        tables.out.print(f"{earlier:,} earlier ones: --json")
    columns = ("run", "org", "total", "waiting", "issued", "dead", "started, UTC", "finished")
    tables.table("", columns, [_run_line(run) for run in runs])


def _run_line(run: RunProgress) -> list[object]:
    times = map(tables.to_the_second, (run.started_at, run.finished_at))
    return [run.run, run.org, run.total, run.open, run.issued, run.dead, *times]


@run_cli.command("show")
def run_show(run: RunName, org: ItsOrg = None, as_json: AsJson = False) -> None:
    """Show one run: how many jobs are in which state, and how long it will take."""
    with session() as here:
        progress = here.reports.run(run, org)
    if as_json:
        tables.say_json(progress)
    else:
        _show_run(progress)


def _show_run(run: RunProgress) -> None:
    tables.show_run(run)
    if run.dead > run.handled:
        name = tables.safe(option("run", run.run))
        tables.out.print(f"  why: badges dead groups {name}")
        tables.out.print(f"  to mend: badges results {name} --state dead --format csv -o report.csv")


@run_cli.command("cancel")
def run_cancel(run: RunName, org: ItsOrg = None, note: Note = "", as_json: AsJson = False) -> None:
    """Cancel what still waits of a run; what is being sent is settled, and a replay takes it back."""
    with session() as here:
        progress = here.reports.run(run, org)
        action, ids = audit.action_id(here.queue, "cancel"), here.reports.ids(progress.org, run)
        audit.begin(here.queue, progress.org, action, by=audit.os_user(), note=note, which={"run": run})
        with progress_bar("cancelling", progress.total, unit="jobs") as move:
            cancelled = deadletters.cancel(here.queue, progress.org, ids, action=action, on_progress=move)
    if as_json:
        tables.say_json({"run": run, "cancelled": cancelled})
    elif cancelled:
        back = tables.safe(f"badges dead replay --kind cancelled {option('run', run)}")
        tables.out.print(f"{cancelled:,} cancelled; to take that back: {back}")
    else:
        tables.out.print("nothing of it waits any more")


@run_cli.command("follow")
def run_follow(run: RunName, org: ItsOrg = None, as_json: AsJson = False) -> None:
    """Watch a run until every job of it has ended; Ctrl-C stops watching, not the run."""
    with session() as here:
        follow_run(here, run, org, as_json=as_json)


def follow_run(here: Session, run: str, org: str | None, *, as_json: bool) -> None:
    """Follow a run to its end; Ctrl-C ends the program (exit 130, so that what needs its end isn't begun)."""
    snapshots = follow(here.reports, run, org=org, every_s=0.3)
    try:
        show_following(snapshots, _show_run, as_json=as_json)
    except KeyboardInterrupt:
        tables.err.print(f"the run goes on; see: badges run show {tables.safe(argument(run))}")
        raise


@job_cli.command("show")
def job_show(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job's, as results and dead list have it.")],
    org: ItsOrg = None,
    as_json: AsJson = False,
) -> None:
    """Show the whole record of a job, with the history of its attempts."""
    with session() as here:
        job = here.reports.job(job_id, org)
    if as_json:
        tables.say_json(job)
    else:
        tables.show_job(job)


@jobs_cli.command()
def results(
    run: Annotated[str | None, typer.Option(help="Only this run.")] = None,
    state: Annotated[
        Literal["queued", "sending", "retrying", "issued", "dead"] | None,
        typer.Option(help="Only this state."),
    ] = None,
    form: Annotated[
        Literal["jsonl", "csv"], typer.Option("--format", help="jsonl for programs, csv for a spreadsheet.")
    ] = "jsonl",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write to this file. [default: standard output]")
    ] = None,
    kind: Annotated[DeadKind | None, typer.Option(help="Only dead letters of this kind.")] = None,
    code: Annotated[str | None, typer.Option(help="Only with this error code.")] = None,
    org: AnyOrg = None,
) -> None:
    """Write one line a job: what became of it, why, and what can be done; with the input as it came in.

    As CSV a person can mend it in a spreadsheet and import it again: what was mended is sent, the rest isn't.
    Cells that a spreadsheet would change (formulas, dates, long numbers) begin with an apostrophe.

    With --state dead or --kind it has the dead letters that need a person, by time of death; not those
    that were mended or replayed as another job, or discarded.
    """
    if kind and state not in (None, "dead"):
        raise typer.BadParameter(f"a job that is {state} is no dead letter", param_hint="--kind")
    with session() as here:
        found = here.reports.run(run, org) if run else None
        org = found.org if found else org
        if kind or state == "dead":
            which = deadlist.Filter(org=org, kind=kind, run=run, code=code)
            rows, whole = deadlist.rows(here.reports, which), None
        else:
            its_state = State[state.upper()] if state else None
            rows = here.reports.results(org=org, run=run, state=its_state, code=code)
            whole = getattr(found, state or "total") if found else None
        if output is None:
            sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr] # whatever the locale says
            _write(rows, form=form, to=sys.stdout, move=lambda _: None)
            return
        with _report_file(output, form) as to, progress_bar("writing", whole, unit="rows") as move:
            count = _write(rows, form=form, to=to, move=move)
    tables.err.print(f"{count:,} rows written to {tables.safe(output)}")


def _write(
    rows: Iterable[Mapping[str, Any]], *, form: ResultForm, to: TextIO, move: Callable[[int], None]
) -> int:
    """Write results as ``jsonl`` or ``csv``, row by row; ``move`` is told how many, the last time all."""
    count = -1 if form == "csv" else 0  # its first line names the columns
    for text in result_lines(rows, form=form):
        to.write(text)
        count += 1
        if not count % MOVED_EVERY:
            move(count)
    move(count)
    return count


@contextmanager
def _report_file(output: Path, form: ResultForm) -> Iterator[TextIO]:
    """Open a file for its owner alone; under its name there is the old one until the new one is whole."""
    how: dict[str, Any] = {"newline": "", "encoding": "utf-8-sig" if form == "csv" else "utf-8"}  # for Excel
    target = output.resolve()
    if target.exists() and not target.is_file():  # a device or a pipe, which must stay one
        with target.open("w", **how) as to:
            yield to
        return
    if not target.parent.is_dir():
        raise FileError(f"{output} can't be written: there is no directory {target.parent}")
    with NamedTemporaryFile("w", dir=target.parent, prefix=f".{target.name}.", delete=False, **how) as to:
        try:
            yield cast(TextIO, to)
            to.close()
            Path(to.name).replace(target)
        except BaseException:
            Path(to.name).unlink()
            raise
