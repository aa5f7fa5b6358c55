"""The commands about jobs: import, runs, results."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import typer

from worker import audit, deadletters, screen
from worker.desk import AnyOrg, AsJson, Desk, Note, OneOrg, desk, load_settings
from worker.errors import BadgesError, FileError
from worker.importing import check_rows, import_rows, run_name
from worker.job import DeadKind, State
from worker.org import DEFAULT_ORG
from worker.producer import Enqueued, Intake, Noted, Waiting, total
from worker.queue import new_id
from worker.row import Names
from worker.rows import read_rows
from worker.runs import RunProgress, follow

jobs_cli = typer.Typer()
run_cli = typer.Typer(help="Runs: the jobs that came in together, with their progress.", no_args_is_help=True)
job_cli = typer.Typer(help="Single jobs.", no_args_is_help=True)

NOTED_SHOWN = 20
LISTED = 50

RunName = Annotated[str, typer.Argument(metavar="RUN")]


@jobs_cli.command("import")
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
    if allow_duplicates and not run:
        raise typer.BadParameter(
            "--allow-duplicates needs --run, so that repeating the command repeats nothing"
        )
    if dry_run:
        _check(file, org, names, as_json=as_json)
        return
    with desk() as here:
        target, name, notes = here.settings.org(org), run or run_name(file), _Notes()
        with _open(file) as (stream, size), _import_bar(size) as move:
            intake = Intake(
                name, new_id(), allow_duplicates=allow_duplicates, urgent=urgent, wait=not no_wait
            )
            chunks = import_rows(here.queue, target, read_rows(stream, name=file, names=names), intake)
            done = _take_in(name, chunks, stream if size else None, move, notes)
        _say_import(done, notes, as_json=as_json)
        if follow_it:
            _follow(here, name, org, as_json=False)


def _check(file: str, org_name: str, names: Names, *, as_json: bool) -> None:
    settings = load_settings()
    with _open(file) as (stream, _):
        good, noted = check_rows(settings.org(org_name), read_rows(stream, name=file, names=names))
    if as_json:
        screen.say_json({"valid": good, "invalid": len(noted)})
    else:
        notes = _Notes()
        notes.add(noted)
        _show_noted(notes)
        screen.out.print(f"{good:,} rows are good, {len(noted):,} are not; nothing was enqueued.")


@contextmanager
def _open(file: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """Open the file, and say its size if it has one."""
    if file == "-":
        yield sys.stdin.buffer, None
        return
    if not Path(file).exists() or Path(file).is_dir():
        raise FileError(f"{file} is no file that can be read; - reads standard input")
    with Path(file).open("rb") as stream:
        yield stream, os.fstat(stream.fileno()).st_size or None


@dataclass(slots=True)
class _Notes:
    """What is wrong with a file's rows: the first of it, and how much there is. Bounded, as a file isn't."""

    first: list[Noted] = field(default_factory=list)
    count: int = 0

    def add(self, noted: Sequence[Noted]) -> None:
        self.count += len(noted)
        self.first += noted[: NOTED_SHOWN - len(self.first)]


def _import_bar(size: int | None) -> AbstractContextManager[screen.Bar]:
    return screen.progress_bar("importing", size, unit="bytes" if size else "rows")


def _take_in(
    run: str, chunks: Iterator[Enqueued], stream: BinaryIO | None, move: screen.Bar, notes: _Notes
) -> Enqueued:
    """Take every chunk in and show how far that is; if something ends it, say what was accepted till then."""
    done, rows, warned = Enqueued(run), 0, False
    try:
        for chunk in chunks:
            waits = isinstance(chunk, Waiting)
            if isinstance(chunk, Waiting) and not warned:
                screen.err.print(f"[yellow]waiting for room:[/] {screen.plain(chunk.why)}")
                warned = True
            rows += chunk.accepted + chunk.duplicates + chunk.invalid
            move(stream.tell() if stream else rows, what="waiting for room" if waits else "importing")
            notes.add(chunk.noted)
            done = total(run, (done, replace(chunk, noted=())))
    except (BadgesError, KeyboardInterrupt):
        if rows:
            screen.err.print(
                f"until then: {_counted(done)}; to go on, import it again with --run {screen.plain(run)}"
            )
        raise
    return done


def _counted(done: Enqueued) -> str:
    return f"[green]{done.accepted:,} accepted[/], {done.duplicates:,} duplicates, {done.invalid:,} invalid"


def _say_import(done: Enqueued, notes: _Notes, *, as_json: bool) -> None:
    if as_json:
        counts = {"accepted": done.accepted, "duplicates": done.duplicates, "invalid": done.invalid}
        screen.say_json({"run": done.run} | counts)
        _show_noted(notes, to_stderr=True)
        return
    _show_noted(notes)
    screen.out.print(f"run [bold]{screen.plain(done.run)}[/]: {_counted(done)}")
    screen.out.print(f"  watch it: badges run follow {screen.plain(done.run)}")


def _show_noted(notes: _Notes, *, to_stderr: bool = False) -> None:
    console = screen.err if to_stderr else screen.out
    for note in notes.first:
        where = f"row {note.row}" + (f", {note.field}" if note.field else "")
        console.print(f"  [yellow]{note.kind}[/] {screen.plain(f'{where}: {note.reason}')}")
    if notes.count > len(notes.first):
        console.print(
            f"  … and {notes.count - len(notes.first):,} more; all of them: badges dead list --kind invalid"
        )


# -- runs, jobs, results


@run_cli.command("list")
def run_list(org: AnyOrg = None, as_json: AsJson = False) -> None:
    """List runs with their counts, the newest last; with --json all of them."""
    with desk() as here:
        runs = here.reports.runs(org, newest=None if as_json else LISTED)
        earlier = here.reports.count_runs(org) - len(runs)
    if as_json:
        screen.say_json(runs)
        return
    if len(runs) == LISTED and earlier > 0:
        screen.out.print(f"{earlier:,} earlier ones: --json")
    columns = ("run", "org", "total", "waiting", "issued", "dead", "started, UTC", "finished")
    screen.table("", columns, [_run_line(run) for run in runs])


def _run_line(run: RunProgress) -> list[object]:
    times = map(screen.to_the_second, (run.started_at, run.finished_at))
    return [run.run, run.org, run.total, run.open, run.issued, run.dead, *times]


@run_cli.command("show")
def run_show(run: RunName, org: AnyOrg = None, as_json: AsJson = False) -> None:
    """Show one run: how many jobs are in which state, and how long it will take."""
    with desk() as here:
        progress = here.reports.run(run, org)
    if as_json:
        screen.say_json(progress)
    else:
        screen.show_run(progress)


@run_cli.command("cancel")
def run_cancel(run: RunName, org: AnyOrg = None, note: Note = "", as_json: AsJson = False) -> None:
    """Cancel what still waits of a run; what is being sent is settled, and a replay takes it back."""
    with desk() as here:
        progress = here.reports.run(run, org)
        action, ids = audit.action_id("cancel"), here.reports.ids(progress.org, run)
        audit.begin(here.queue, progress.org, action, by=audit.os_user(), note=note, which={"run": run})
        with screen.progress_bar("cancelling", progress.total, unit="jobs") as move:
            cancelled = deadletters.cancel(here.queue, progress.org, ids, action=action, on_progress=move)
    if as_json:
        screen.say_json({"run": run, "cancelled": cancelled})
    else:
        screen.out.print(
            f"{cancelled:,} cancelled; to take that back: "
            f"badges dead replay --kind cancelled --run {screen.plain(run)}"
        )


@run_cli.command("follow")
def run_follow(run: RunName, org: AnyOrg = None, as_json: AsJson = False) -> None:
    """Watch a run until every job of it has ended; Ctrl-C stops watching, not the run."""
    with desk() as here:
        _follow(here, run, org, as_json=as_json)


def _follow(here: Desk, run: str, org: str | None, *, as_json: bool) -> None:
    snapshots = follow(here.reports, run, org=org, every_s=0.3)
    try:
        screen.follow(snapshots, screen.show_run, as_json=as_json)
    except KeyboardInterrupt:
        screen.err.print(f"the run goes on; see: badges run show {screen.plain(run)}")


@job_cli.command("show")
def job_show(
    job_id: Annotated[str, typer.Argument(metavar="ID")], org: AnyOrg = None, as_json: AsJson = False
) -> None:
    """Show the whole record of a job, with the history of its attempts."""
    with desk() as here:
        job = here.reports.job(job_id, org)
    if as_json:
        screen.say_json(job)
    else:
        screen.table("", ("field", "value"), [(k, str(v)) for k, v in job.items() if v not in (None, [])])


@jobs_cli.command()
def results(
    run: Annotated[str | None, typer.Option(help="Only this run.")] = None,
    state: Annotated[
        Literal["queued", "sending", "retrying", "issued", "dead"] | None,
        typer.Option(help="Only this state."),
    ] = None,
    form: Annotated[Literal["jsonl", "csv"], typer.Option("--format", help="One line a job.")] = "jsonl",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write to this file. [default: standard output]")
    ] = None,
    kind: Annotated[DeadKind | None, typer.Option(help="Only dead letters of this kind.")] = None,
    code: Annotated[str | None, typer.Option(help="Only with this error code.")] = None,
    org: AnyOrg = None,
) -> None:
    """Write one line a job: what became of it, why, and what can be done; with the input as it came in.

    As CSV a person can mend it in a spreadsheet and import it again: what was mended is sent, the rest isn't.
    Cells that a spreadsheet would change (formulas, numbers of more than 15 digits) begin with an apostrophe.
    """
    its_state = State[state.upper()] if state else None
    with desk() as here:
        rows = here.reports.results(org=org, run=run, state=its_state, kind=kind, code=code)
        target = output.open("w", newline="") if output else nullcontext(sys.stdout)
        with target as to:
            count = screen.write_results(rows, form=form, to=to)
    if output:
        screen.err.print(f"{count:,} rows written to {screen.plain(output)}")
