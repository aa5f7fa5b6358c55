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

from worker import deadletters, screen
from worker.config import DEFAULT_ORG
from worker.desk import AnyOrg, AsJson, Desk, OneOrg, desk, load_settings
from worker.errors import FileError
from worker.importing import check_file, import_file, run_name
from worker.job import State
from worker.producer import Enqueued, Intake, Noted, total
from worker.queue import new_id
from worker.runs import COUNTED, follow

jobs_cli = typer.Typer()
run_cli = typer.Typer(help="Runs: the jobs that came in together, with their progress.", no_args_is_help=True)
job_cli = typer.Typer(help="Single jobs.", no_args_is_help=True)

NOTED_SHOWN = 20

RunName = Annotated[str, typer.Argument(metavar="RUN")]


@jobs_cli.command("import")
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV, JSON Lines or a JSON array; - is stdin.")],
    run: Annotated[str | None, typer.Option(help="The run's name. [default: from the file's name]")] = None,
    org: OneOrg = DEFAULT_ORG,
    follow_it: Annotated[bool, typer.Option("--follow", help="Stay until every job has ended.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every row, accept none.")] = False,
    allow_duplicates: Annotated[
        bool, typer.Option("--allow-duplicates", help="Issue equal rows again; needs --run.")
    ] = False,
    urgent: Annotated[bool, typer.Option("--urgent", help="Overtake what waits for this org.")] = False,
    as_json: AsJson = False,
) -> None:
    """Enqueue a file of badges, each once; rows that are wrong are reported and never stop the rest.

    Columns or keys: badgeMetaId and customerId; earnEventDate and earnExpiresOn (epoch, seconds or
    milliseconds), earnEventDateISO and earnExpiresOnISO (with offset); job_id, an id of your own.
    Importing a file again, or after a crash half-way, issues nothing twice.
    """
    if allow_duplicates and not run:
        raise typer.BadParameter(
            "--allow-duplicates needs --run, so that repeating the command repeats nothing"
        )
    if run and not (run.isprintable() and " " not in run and len(run) <= 64):
        raise typer.BadParameter("a run's name is 1 to 64 printable characters without spaces")
    if dry_run:
        _check(file, org, as_json=as_json)
        return
    with desk() as here:
        target, name, notes = here.org(org), run or run_name(file), _Notes()
        with _open(file) as (stream, size), _import_bar(size) as move:
            intake = Intake(name, new_id(), allow_duplicates=allow_duplicates, urgent=urgent)
            chunks = import_file(here.queue, target, stream, name=file, intake=intake)
            done = total(name, _moving(chunks, stream if size else None, move, notes))
        _say_import(done, notes, as_json=as_json)
        if follow_it:
            _follow(here, name, org, as_json=False)


def _check(file: str, org_name: str, *, as_json: bool) -> None:
    settings = load_settings()
    with _open(file) as (stream, _):
        good, noted = check_file(settings.org(org_name), stream, name=file)
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


def _moving(
    chunks: Iterator[Enqueued], stream: BinaryIO | None, move: screen.Bar, notes: _Notes
) -> Iterator[Enqueued]:
    rows = 0
    for chunk in chunks:
        rows += chunk.accepted + chunk.duplicates + chunk.invalid
        move(stream.tell() if stream else rows)
        notes.add(chunk.noted)
        yield replace(chunk, noted=())


def _say_import(done: Enqueued, notes: _Notes, *, as_json: bool) -> None:
    if as_json:
        counts = {"accepted": done.accepted, "duplicates": done.duplicates, "invalid": done.invalid}
        screen.say_json({"run": done.run} | counts)
        _show_noted(notes, to_stderr=True)
        return
    _show_noted(notes)
    screen.out.print(
        f"run [bold]{screen.plain(done.run)}[/]: [green]{done.accepted:,} accepted[/], "
        f"{done.duplicates:,} duplicates, {done.invalid:,} invalid"
    )
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
    """List every run with its counts."""
    with desk() as here:
        runs = here.reports.runs(org)
    if as_json:
        screen.say_json([run.as_json() for run in runs])
        return
    columns = ("run", "org", "total", *COUNTED, "duplicates", "started", "finished")
    screen.table(
        "",
        columns,
        [
            (r.run, r.org, r.total, *r.states(), r.duplicates, r.started_at or "", r.finished_at or "")
            for r in runs
        ],
    )


@run_cli.command("show")
def run_show(run: RunName, org: AnyOrg = None, as_json: AsJson = False) -> None:
    """Show one run: how many jobs are in which state, and how long it will take."""
    with desk() as here:
        progress = here.reports.run(run, org)
    if as_json:
        screen.say_json(progress.as_json())
    else:
        screen.show_run(progress)


@run_cli.command("cancel")
def run_cancel(run: RunName, org: AnyOrg = None, as_json: AsJson = False) -> None:
    """Cancel what still waits of a run; what is being sent is settled, and a replay takes it back."""
    with desk() as here:
        progress = here.reports.run(run, org)
        target = here.org(progress.org)
        with screen.progress_bar("cancelling", progress.total, unit="jobs") as move:
            seen = 0

            def advance(jobs: int) -> None:
                nonlocal seen
                seen += jobs
                move(seen)

            cancelled = deadletters.cancel(
                here.queue, target, here.reports.ids(target.name, run), on_progress=advance
            )
    if as_json:
        screen.say_json({"run": run, "cancelled": cancelled})
    else:
        screen.out.print(
            f"{cancelled:,} cancelled; to take that back: badges dead replay --run {screen.plain(run)}"
        )


@run_cli.command("follow")
def run_follow(run: RunName, org: AnyOrg = None, as_json: AsJson = False) -> None:
    """Watch a run until every job of it has ended; Ctrl-C stops watching, not the run."""
    with desk() as here:
        _follow(here, run, org, as_json=as_json)


def _follow(here: Desk, run: str, org: str | None, *, as_json: bool) -> None:
    snapshots = follow(here.reports, run, org=org, every_s=0.3)
    if as_json:
        for progress in snapshots:
            screen.say_json(progress.as_json())
    elif last := screen.follow_run(snapshots):
        screen.show_run(last)


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
    org: AnyOrg = None,
) -> None:
    """Write one line a job: what became of it, and why."""
    with desk() as here:
        rows = here.reports.results(org=org, run=run, state=State[state.upper()] if state else None)
        target = output.open("w", newline="") if output else nullcontext(sys.stdout)
        with target as to:
            count = screen.write_results(rows, form=form, to=to)
    if output:
        screen.err.print(f"{count:,} rows written to {screen.plain(output)}")
