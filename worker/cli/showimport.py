"""What becomes of a file's rows while they go in, and is said of them in the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from rich.console import Console

from worker.cli import tables
from worker.domain.text import counted
from worker.enqueue import Enqueued, EnqueueOptions, Noted, total
from worker.errors import BadgesError
from worker.operate.progress import RunProgress
from worker.operate.report import argument, of_org, option

NOTED_SHOWN = 20


@dataclass(slots=True)
class Notes:
    """What is wrong with a file's rows: the first of it, and how much there is. Bounded, as a file isn't."""

    first: list[Noted] = field(default_factory=list)
    count: int = 0

    def add(self, noted: Sequence[Noted]) -> None:
        """Take more of it."""
        self.count += len(noted)
        self.first += noted[: NOTED_SHOWN - len(self.first)]


def take_in(
    org: str,
    options: EnqueueOptions,
    begin: Callable[[EnqueueOptions], Iterator[Enqueued]],
    move: Callable[..., None],
    notes: Notes,
) -> Enqueued:
    """Take every chunk in and show how far that is; if something ends it, say what was accepted so far."""
    done, has_waited = Enqueued(options.run), False

    def wait(why: str) -> None:
        nonlocal has_waited
        if not has_waited:
            tables.err.print(f"[yellow]waiting for room:[/] {tables.safe(why)}")
        has_waited = True
        move(done.rows, "waiting for room")

    try:
        for chunk in begin(replace(options, on_wait=wait)):
            notes.add(chunk.noted)
            done = total(options.run, (done, replace(chunk, noted=())))
            move(done.rows, "importing")
    except (BadgesError, KeyboardInterrupt) as error:
        # After Ctrl-C, what is on its way may come to be accepted.
        if done.rows or isinstance(error, KeyboardInterrupt):
            tables.err.print(f"until then: at least {_counted(done)}; {_what_comes_of_it(options)}")
            stop = tables.safe(f"{of_org(org)}{argument(options.run)}")
            tables.err.print(
                f"to go on: the same command with {tables.safe(option('run', options.run))}; "
                f"to stop what waits: badges run cancel {stop}"
            )
        raise
    return done


def _what_comes_of_it(options: EnqueueOptions) -> str:
    return "what is accepted is delivered" if options.starts_ms is None else "what is accepted waits"


def _counted(done: Enqueued) -> str:
    accepted = f"[green]{done.accepted:,} accepted[/]"
    if done.repeated:
        new, before = done.accepted - done.repeated, done.repeated
        accepted = f"[green]{new:,} newly accepted[/], {before:,} in this run already (not sent again)"
    held = f", {done.held:,} held back as repeats" if done.held else ""
    return f"{accepted}, {counted(done.duplicates, 'duplicate')}, {done.invalid:,} invalid{held}"


def say_import(org: str, done: Enqueued, notes: Notes, run: RunProgress | None, *, as_json: bool) -> None:
    """Say what became of a file, and what can be done about it."""
    console = tables.err if as_json else tables.out
    _show_noted(notes, run, console)
    for odd in done.warnings:
        where = f": {odd.count:,} of the rows, such as row {odd.rows[0]}" if odd.rows else ""
        console.print(f"  [yellow]warning[/] {tables.safe(odd.reason + where)}")
    if not as_json:
        name = tables.safe(done.run)
        console.print(f"run [bold]{name}[/]: {_counted(done)}: {counted(done.rows, 'row')} read")
        if done.accepted > done.repeated:
            console.print(f"  watch it: badges run follow {tables.safe(of_org(org) + argument(done.run))}")
        elif not done.rows:
            console.print("  nothing new: the file has no rows")
        else:
            console.print("  nothing new to deliver" if notes.count else "  nothing new: every row was known")
    if run and run.held and done.accepted > done.repeated:
        tables.err.print(f"  [yellow]what is accepted waits:[/] {tables.safe(run.held)}")


def _show_noted(notes: Notes, run: RunProgress | None, console: Console) -> None:
    for note in notes.first:
        where = f"row {note.row}" + (f", {note.field}" if note.field else "")
        console.print(f"  [yellow]{note.kind}[/] {tables.safe(f'{where}: {note.reason}')}")
    if notes.count > len(notes.first):
        more = f"  … and {notes.count - len(notes.first):,} more"
        # What was met again, or is still wrong in a report, stays a dead letter of the run it came with.
        its = f" {of_org(run.org)}{option('run', run.run)}" if run and run.unhandled else ""
        if its or any(note.kind != "conflict" for note in notes.first):
            more += tables.safe(f"; all of them: badges results{its} --state dead --format csv -o report.csv")
        console.print(more)
