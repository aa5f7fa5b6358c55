"""The command ``badges import``: a file goes in, or is only checked, and its owner sees what became of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console

from worker.cli import tables
from worker.cli.jobs import follow_run
from worker.cli.progress import progress_bar
from worker.cli.session import AsJson, OneOrg, load_settings, session
from worker.domain.item import Source
from worker.domain.org import DEFAULT_ORG, Org
from worker.enqueue import Enqueued, EnqueueOptions, Noted, Waiting, total
from worker.errors import BadgesError, FileError
from worker.files.columns import Names
from worker.files.reader import read_rows
from worker.operate.importing import Checked, check_rows, import_rows, run_name
from worker.operate.report import argument, option
from worker.server.health import refuse_unusable
from worker.store.queue import new_id

import_cli = typer.Typer()

NOTED_SHOWN = 20


@import_cli.command("import")
def import_(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="CSV, JSON Lines or a JSON array, also .gz; - is stdin.")
    ],
    run: Annotated[str | None, typer.Option(help="The run's name. [default: from the file's name]")] = None,
    org: OneOrg = DEFAULT_ORG,
    follow_it: Annotated[bool, typer.Option("--follow", help="Stay until every job has ended.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every row, accept none.")] = False,
    allow_duplicates: Annotated[
        bool, typer.Option("--allow-duplicates", help="Issue equal rows again; needs --run.")
    ] = False,
    urgent: Annotated[bool, typer.Option("--urgent", help="Overtake what waits for this org.")] = False,
    mappings: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="COLUMN=FIELD",
            help="Read a column or key as that field; COLUMN= ignores it. May be repeated.",
        ),
    ] = None,
    without_dates: Annotated[
        bool, typer.Option("--without-dates", help="Leave a column of dates out, though a date is missing.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="End (exit 1) where the queue is full, instead of waiting.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Enqueue a file of badges, each once; rows that are wrong are reported and never stop the rest.

    Columns or keys: badgeMetaId and customerId; earnEventDate and earnExpiresOn (epoch, seconds or
    milliseconds), earnEventDateISO and earnExpiresOnISO (with offset); job_id, an id of your own.
    Others are mapped: --map customer=customerId --map "Badge Name="

    Importing a file again, or after a crash half-way, issues nothing twice.
    """
    try:
        names = Names.parse(mappings or ())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--map") from None
    if not file.strip():
        raise typer.BadParameter("no file is named", param_hint="FILE")
    if allow_duplicates and not run:
        raise typer.BadParameter(
            "--allow-duplicates needs --run, so that repeating the command repeats nothing"
        )
    read = partial(read_rows, name=file, names=names, without_dates=without_dates)
    if dry_run:
        _check(load_settings().org(org), file, read, as_json=as_json)
        return
    with session() as here:
        refuse_unusable(here.queue.client)
        target, name, notes = here.settings.org(org), run or run_name(file), _Notes()
        options = EnqueueOptions(
            name, new_id(), allow_duplicates=allow_duplicates, urgent=urgent, wait=not no_wait
        )
        with _reading(file, read, "importing") as (rows, move):
            done = _take_in(name, import_rows(here.queue, target, rows, options), move, notes)
        _say_import(done, notes, as_json=as_json)
        if follow_it and _rows(done):
            follow_run(here, name, org, as_json=False)


_Read = Callable[[BinaryIO], Iterator[Source]]


@contextmanager
def _reading(file: str, read: _Read, what: str) -> Iterator[tuple[Iterator[Source], Callable[..., None]]]:
    """Open the file; while the block lasts, show how much of it is read, and how many rows that were."""
    with _open(file) as stream:
        size = os.fstat(stream.fileno()).st_size or None
        rows = read(stream)  # first, so that a refused file leaves no bar behind
        with progress_bar(what, size, unit=None) as bar:

            def move(count: int, doing: str = what) -> None:
                bar(stream.tell() if size else 0, what=f"{doing}, {count:,} rows")

            yield rows, move


def _open(file: str) -> AbstractContextManager[BinaryIO]:
    path = Path(file)
    if file == "-":
        return nullcontext(sys.stdin.buffer)
    if not path.exists():
        raise FileError(f"there is no file {file}" + ("" if path.is_absolute() else f" here ({Path.cwd()})"))
    if path.is_dir():
        raise FileError(f"{file} is a directory, not a file")
    return path.open("rb")


# -- a dry run


def _check(org: Org, file: str, read: _Read, *, as_json: bool) -> None:
    checked = Checked()
    with _reading(file, read, "checking") as (rows, move):
        for checked in check_rows(org, rows):
            move(checked.valid + checked.invalid)
    groups = sorted(checked.groups.values(), key=lambda group: (group.kind, -group.count))
    if as_json:
        tables.say_json({"valid": checked.valid, "invalid": checked.invalid, "groups": groups})
        return
    for group in groups:
        what = f"{group.field}: {group.reason}" if group.field else group.reason
        warning = " (a warning)" if group.kind == "warning" else ""
        tables.out.print(f"{group.count:>11,} {tables.safe(what)}, such as row {group.row}{warning}")
    good = "1 row is good" if checked.valid == 1 else f"{checked.valid:,} rows are good"
    others = "1 is not" if checked.invalid == 1 else f"{checked.invalid:,} are not"
    tables.out.print(f"{good}, {others}; nothing was enqueued.")
    tables.out.print("A dry run doesn't look at what was imported before.")


# -- what became of the rows


@dataclass(slots=True)
class _Notes:
    """What is wrong with a file's rows: the first of it, and how much there is. Bounded, as a file isn't."""

    first: list[Noted] = field(default_factory=list)
    count: int = 0

    def add(self, noted: Sequence[Noted]) -> None:
        self.count += len(noted)
        self.first += noted[: NOTED_SHOWN - len(self.first)]


def _take_in(run: str, chunks: Iterator[Enqueued], move: Callable[..., None], notes: _Notes) -> Enqueued:
    """Take every chunk in and show how far that is; if something ends it, say what was accepted till then."""
    done, warned = Enqueued(run), False
    try:
        for chunk in chunks:
            waits = isinstance(chunk, Waiting)
            if isinstance(chunk, Waiting) and not warned:
                tables.err.print(f"[yellow]waiting for room:[/] {tables.safe(chunk.why)}")
                warned = True
            notes.add(chunk.noted)
            done = total(run, (done, replace(chunk, noted=())))
            move(_rows(done), "waiting for room" if waits else "importing")
    except (BadgesError, KeyboardInterrupt) as error:
        if _rows(done) or isinstance(error, KeyboardInterrupt):  # what is on its way may come to be accepted
            tables.err.print(f"until then: at least {_counted(done)}; what is accepted is delivered")
            stop = tables.safe(argument(run))
            tables.err.print(
                f"to go on: the same command with {tables.safe(option('run', run))}; "
                f"to stop what waits: badges run cancel {stop}"
            )
        raise
    return done


def _rows(done: Enqueued) -> int:
    return done.accepted + done.duplicates + done.invalid


def _counted(done: Enqueued) -> str:
    accepted = f"[green]{done.accepted:,} accepted[/]"
    if done.repeated:
        new, before = done.accepted - done.repeated, done.repeated
        accepted = f"[green]{new:,} newly accepted[/], {before:,} in this run already (not sent again)"
    return f"{accepted}, {done.duplicates:,} duplicates, {done.invalid:,} invalid"


def _say_import(done: Enqueued, notes: _Notes, *, as_json: bool) -> None:
    _show_noted(notes, done.run, tables.err if as_json else tables.out)
    for odd in done.warnings:
        where = f"such as row {odd.rows[0]}"
        (tables.err if as_json else tables.out).print(
            f"  [yellow]warning[/] {tables.safe(odd.reason)}: {odd.count:,} of the rows, {where}"
        )
    if as_json:
        counts = {"accepted": done.accepted, "duplicates": done.duplicates, "invalid": done.invalid}
        tables.say_json({"run": done.run} | counts | {"warnings": done.warnings})
        return
    tables.out.print(f"run [bold]{tables.safe(done.run)}[/]: {_counted(done)}: {_rows(done):,} rows read")
    if done.accepted > done.repeated:
        tables.out.print(f"  watch it: badges run follow {tables.safe(argument(done.run))}")
    elif not _rows(done):
        tables.out.print("  nothing new: the file has no rows")
    else:
        tables.out.print("  nothing new to deliver" if notes.count else "  nothing new: every row was known")


def _show_noted(notes: _Notes, run: str, console: Console) -> None:
    for note in notes.first:
        where = f"row {note.row}" + (f", {note.field}" if note.field else "")
        console.print(f"  [yellow]{note.kind}[/] {tables.safe(f'{where}: {note.reason}')}")
    if notes.count > len(notes.first):
        report = f"badges results {option('run', run)} --state dead --format csv -o report.csv"
        console.print(f"  … and {notes.count - len(notes.first):,} more; all of them: {tables.safe(report)}")
