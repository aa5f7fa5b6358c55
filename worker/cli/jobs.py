"""The commands about jobs that came in: runs, single jobs, results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Any, Literal, TextIO, cast

import typer

from worker.cli import exits, tables
from worker.cli.asking import DryRun, Yes, ask
from worker.cli.exits import FailOn, FailOnOption
from worker.cli.output import (
    LISTED,
    AsJson,
    AsJsonLines,
    Form,
    Limit,
    as_array,
    form_of,
    say_json,
    say_listing,
)
from worker.cli.progress import progress_bar, watch
from worker.cli.session import AnyOrg, ItsOrg, Note, RunOption, Session, session
from worker.domain.job import DeadKind, State
from worker.domain.text import counted
from worker.errors import FileError
from worker.operate import deadletters, deadlist, othercolumns
from worker.operate.report import ResultForm, argument, option, result_lines
from worker.operate.runs import RunProgress, follow
from worker.store import audit

jobs_cli = typer.Typer()
run_cli = typer.Typer(
    name="run", help="Runs: the jobs that came in together, with their progress.", no_args_is_help=True
)
job_cli = typer.Typer(name="job", help="Single jobs.", no_args_is_help=True)

MOVED_EVERY = 500  # rows

Rows = Iterator[Mapping[str, Any]]
Lines = Callable[[Rows], Iterator[str]]  # writes rows down
Written = Literal["json", "jsonl", "csv"]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="Its name, a beginning of it, or last; see: badges run list.")
]


@run_cli.command("list")
def run_list(
    org: AnyOrg = None, limit: Limit = None, as_json: AsJson = False, as_lines: AsJsonLines = False
) -> None:
    """List runs with their counts, the newest last; dead are those that still need a person."""
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
    columns = ("run", "org", "total", "waiting", "issued", "dead", "started, UTC", "finished")
    tables.table("", columns, [_run_line(run) for run in runs])


def _run_line(run: RunProgress) -> list[object]:
    times = map(tables.to_the_second, (run.started_at, run.finished_at))
    return [run.run, run.org, run.total, run.open, run.issued, run.unhandled, *times]


@run_cli.command("show")
def run_show(run: RunName, org: ItsOrg = None, as_json: AsJson = False) -> None:
    """Show one run: how many jobs are in which state, and how long it will take."""
    with session() as here:
        progress = here.reports.run_meant(run, org)
    if as_json:
        say_json(progress)
    else:
        _show_run(progress)


def _show_run(run: RunProgress) -> None:
    tables.show_run(run)
    if run.unhandled:
        name = tables.safe(option("run", run.run))
        tables.out.print(f"  why: badges dead groups {name}")
        tables.out.print(f"  to mend: badges results {name} --state dead --format csv -o report.csv")


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
        if not dry_run:
            jobs = counted(waiting, "job")
            act = f"{jobs} of run {name} would be cancelled: not sent, but dead letters"
            ask(act, waiting, flag="--yes", allowed=yes, as_json=as_json)
        cancelled = waiting if dry_run else _cancel(here, progress, note)
    if as_json:
        say_json({"run": name, "cancelled": cancelled} | ({"dry_run": True} if dry_run else {}))
    elif dry_run:
        tables.out.print(f"{cancelled:,} would be cancelled")
    elif cancelled:
        back = tables.safe(f"badges dead replay --kind cancelled {option('run', name)}")
        tables.out.print(f"{cancelled:,} cancelled; to take that back: {back}")
    else:
        tables.out.print("nothing of it waits any more")


def _cancel(here: Session, run: RunProgress, note: str) -> int:
    action, ids = audit.action_id("cancel"), here.reports.ids(run.org, run.run)
    here.operator(note).begin(run.org, action, {"run": run.run})
    with progress_bar("cancelling", run.total, unit="jobs") as move:
        return deadletters.cancel(here.queue, run.org, ids, action=action, on_progress=move)


@run_cli.command("follow")
def run_follow(
    run: RunName,
    org: ItsOrg = None,
    fail_on: FailOnOption = None,
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
        say_json(job)
    else:
        tables.show_job(job)


@jobs_cli.command()
def results(
    run: RunOption = None,
    state: Annotated[
        Literal["queued", "sending", "retrying", "issued", "dead"] | None,
        typer.Option(help="Only this state."),
    ] = None,
    form: Annotated[
        Literal["jsonl", "csv"] | None,
        typer.Option("--format", help="jsonl for programs, csv for a spreadsheet. [default: jsonl]"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write to this file. [default: standard output]")
    ] = None,
    kind: Annotated[DeadKind | None, typer.Option(help="Only dead letters of this kind.")] = None,
    code: Annotated[str | None, typer.Option(help="Only with this error code.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most that many. [default: all]")] = None,
    as_json: AsJson = False,
    as_lines: AsJsonLines = False,
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
    written = _form(form, as_json=as_json, as_lines=as_lines)
    with session() as here:
        found = here.reports.run_meant(run, org) if run else None
        org, run = (found.org, found.run) if found else (org, None)
        columns: Sequence[str] = ()
        if kind or state == "dead":
            which = deadlist.Filter(org=org, kind=kind, run=run, code=code)
            rows, whole = deadlist.rows(here.reports, which), None
            if written == "csv":
                columns = othercolumns.of_dead_letters(here.reports, which)
        else:
            its_state = State[state.upper()] if state else None
            rows = here.reports.results(org=org, run=run, state=its_state, code=code)
            whole = getattr(found, state or "total") if found else None
            if written == "csv":
                columns = othercolumns.of_jobs(here.reports, org, run)
        lines = partial(result_lines, form="csv" if written == "csv" else "jsonl", columns=columns)
        count = _write_out(islice(rows, limit), lines, written, output, whole)
        more = sum(1 for _ in rows) if limit and count == limit else 0
    if output:
        tables.err.print(f"{counted(count, 'row')} written to {tables.safe(output)}")
    if more:
        tables.err.print(f"… {more:,} more: --limit N writes more, no --limit all of them")


def _form(form: ResultForm | None, *, as_json: bool, as_lines: bool) -> Written:
    """Return the form that the options say; by default lines.

    Raises:
        typer.BadParameter: they say two.
    """
    said = form_of(as_json=as_json, as_lines=as_lines)
    if said == "words":
        return form or "jsonl"
    if form not in (None, said):
        raise typer.BadParameter(f"say --format {form} or --{said}, not both")
    return said


def _write_out(rows: Rows, lines: Lines, form: Written, output: Path | None, whole: int | None) -> int:
    """Write results to a file, or to standard output in UTF-8 whatever the locale says; return how many."""
    if output is None:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        return _write(rows, lines, form=form, to=sys.stdout, move=lambda _: None)
    with _report_file(output, form) as to, progress_bar("writing", whole, unit="rows") as move:
        return _write(rows, lines, form=form, to=to, move=move)


def _write(
    rows: Rows,
    lines: Lines,
    *,
    form: Written,
    to: TextIO,
    move: Callable[[int], None],
) -> int:
    """Write results row by row and return how many; ``move`` is told of it, the last time of all."""
    count = 0

    def told() -> Iterator[Mapping[str, Any]]:
        nonlocal count
        for count, row in enumerate(rows, 1):
            yield row
            if not count % MOVED_EVERY:
                move(count)

    to.writelines(as_array(lines(told())) if form == "json" else lines(told()))
    to.flush()
    move(count)
    return count


@contextmanager
def _report_file(output: Path, form: Written) -> Iterator[TextIO]:
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
