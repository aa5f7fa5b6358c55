"""The command ``badges results``: what became of jobs, for a person's spreadsheet or for a program."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Annotated, Any, Literal, cast

import typer

from worker.cli import tables
from worker.cli.output import AsJson, AsJsonLines, as_array, form_of
from worker.cli.progress import progress_bar
from worker.cli.session import AnyOrg, CodeOption, CustomerOption, RunOption, Session, session
from worker.domain.job import DeadKind, State
from worker.domain.text import counted
from worker.errors import FileError
from worker.operate import deadlist, othercolumns, search
from worker.operate.report import result_lines, result_workbook

results_cli = typer.Typer()

MOVED_EVERY = 500  # rows

Rows = Iterator[Mapping[str, Any]]
Lines = Callable[[Rows], Iterator[Any]]  # writes rows down: as texts, or a workbook as bytes
Form = Literal["jsonl", "csv", "xlsx"]
Written = Form | Literal["json"]
Columns = Sequence[str]


@results_cli.command()
def results(
    run: RunOption = None,
    state: Annotated[
        Literal["queued", "sending", "retrying", "issued", "dead", "undone"] | None,
        typer.Option(help="Only this state."),
    ] = None,
    form: Annotated[
        Form | None,
        typer.Option("--format", help="jsonl for programs, csv or xlsx for a spreadsheet. [default: jsonl]"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write to this file. [default: standard output]"),
    ] = None,
    kind: Annotated[DeadKind | None, typer.Option(help="Only dead letters of this kind.")] = None,
    code: CodeOption = None,
    customer: CustomerOption = None,
    badge: Annotated[str | None, typer.Option(help="With --customer: only of this badgeMetaId.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most that many. [default: all]")] = None,
    as_json: AsJson = False,
    as_lines: AsJsonLines = False,
    org: AnyOrg = None,
) -> None:
    """Write one line a job: what became of it, why, and what can be done; with the input as it came in.

    As CSV or XLSX a person can mend it in a spreadsheet and import it again: what was mended is sent, the
    rest isn't. In CSV, cells that a spreadsheet would change (formulas, dates, long numbers) begin with an
    apostrophe; in XLSX they are text. Where spreadsheets split at semicolons, as in much of Europe, a CSV of
    commas opens as one column: take XLSX there.

    With --state dead or --kind it has the dead letters that need a person, by time of death; not those
    that were mended or replayed as another job, or discarded.
    """
    if kind and state not in (None, "dead"):
        raise typer.BadParameter(f"a job that is {state} is no dead letter", param_hint="--kind")
    if badge is not None and customer is None:
        raise typer.BadParameter("--badge goes with --customer", param_hint="--badge")
    written = _form(form, as_json=as_json, as_lines=as_lines)
    with session() as here:
        found = here.reports.run_meant(run, org) if run is not None else None
        org, run = (found.org, found.run) if found else (org, None)
        which = deadlist.Filter(org=org, kind=kind, run=run, code=code, customer=customer, badge=badge)
        rows, columns_of = _found(here, which, state)
        columns = columns_of() if written in ("csv", "xlsx") else ()
        whole = getattr(found, state or "total", None) if found and not (kind or customer) else None
        lines: Lines = partial(result_lines, form="csv" if written == "csv" else "jsonl", columns=columns)
        if written == "xlsx":
            lines = partial(result_workbook, columns=columns)
        count = _write_out(islice(rows, limit), lines, written, output, whole)
        more = sum(1 for _ in rows) if limit and count == limit else 0
    if output:
        tables.err.print(f"{counted(count, 'row')} written to {tables.safe(output)}")
    if more:
        tables.err.print(f"… {more:,} more: --limit N writes more, no --limit all of them")


def _found(here: Session, which: deadlist.Filter, state: str | None) -> tuple[Rows, Callable[[], Columns]]:
    """Return the rows that are asked for, and what says which columns their files had beside the fields."""
    reports = here.reports
    if which.kind or state == "dead":
        return deadlist.rows(reports, which), partial(othercolumns.of_dead_letters, reports, which)
    its_state = State[state.upper()] if state else None
    said: dict[str, Any] = {"org": which.org, "run": which.run, "state": its_state, "code": which.code}
    if which.customer is None:
        return reports.results(**said), partial(othercolumns.of_jobs, reports, which.org, which.run)
    of_customer = list(search.results(reports, which.customer, badge=which.badge, **said))
    return iter(of_customer), partial(othercolumns.of_rows, of_customer)


def _form(form: Form | None, *, as_json: bool, as_lines: bool) -> Written:
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
    """Write results to a file, or to standard output, in UTF-8 in any locale; return how many."""
    if output is None:
        return _write(rows, lines, form=form, to=_standard_output(form), move=lambda _: None)
    with _report_file(output, form) as to, progress_bar("writing", whole, unit="row") as move:
        return _write(rows, lines, form=form, to=to, move=move)


def _standard_output(form: Written) -> IO[Any]:
    if form == "xlsx":
        if sys.stdout.isatty():
            raise typer.BadParameter("a workbook is no text to show: add -o FILE", param_hint="--format")
        return sys.stdout.buffer
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    return sys.stdout


def _write(
    rows: Rows,
    lines: Lines,
    *,
    form: Written,
    to: IO[Any],
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
def _report_file(output: Path, form: Written) -> Iterator[IO[Any]]:
    """Open a file for its owner alone; under its name there is the old one until the new one is whole."""
    how: dict[str, Any] = {"mode": "wb"}
    if form != "xlsx":
        how = {"mode": "w", "newline": "", "encoding": "utf-8-sig" if form == "csv" else "utf-8"}  # for Excel
    target = output.resolve()
    if target.is_dir():
        raise FileError(f"{output} is a directory, not a file")
    if target.exists() and not target.is_file():  # a device or a pipe, which must stay one
        with target.open(**how) as to:
            yield to
        return
    if not target.parent.is_dir():
        raise FileError(f"{output} can't be written: there is no directory {target.parent}")
    with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False, **how) as to:
        try:
            yield cast(IO[Any], to)
            to.close()
            Path(to.name).replace(target)
        except BaseException:
            Path(to.name).unlink()
            raise
