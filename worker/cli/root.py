"""The command ``badges``: what commands there are, and how a failure becomes a sentence and an exit status.

Each command is thin: it opens what it needs, calls the story, and shows it. Exit status: see
``exits.py``. Nothing else of the project is imported here at the top: a command's module is
loaded when the command is called, so that ``--version``, ``--help`` and usage errors cost what Typer costs.
"""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
import typer.core

from worker.cli import exits, start

# How writing to a file or a terminal fails that was open; a connection fails otherwise.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

# What Typer doesn't inherit from the root.
_STYLE: dict[str, Any] = {
    "rich_markup_mode": "markdown",  # paragraphs flow, instead of breaking where the source does
    "pretty_exceptions_enable": False,
}


class _Entry(NamedTuple):
    """A command in the overview: where its Typer is, ``module.name``, and the first sentence of its help."""

    app: str
    line: str


# What is used most comes first.
OVERVIEW = {
    "import": _Entry(
        "imports.import_cli",
        "Enqueue a file of badges, each once; rows that are wrong are reported and never stop the rest.",
    ),
    "run": _Entry("jobs.run_cli", "Runs: the jobs that came in together, with their progress."),
    "results": _Entry(
        "results.results_cli",
        "Write one line a job: what became of it, why, and what can be done; with the input as it came in.",
    ),
    "find": _Entry(
        "search.search_cli",
        "Find jobs: of a customer, by an id, or by what the vendor called them; expired ones as well.",
    ),
    "forget": _Entry(
        "forgets.forgets_cli",
        "Forget a customer: all records, invalid rows as they came in, and that jobs were ever accepted.",
    ),
    "dead": _Entry("dead.dead_cli", "Dead letters: jobs that need a person."),
    "job": _Entry("jobs.job_cli", "Single jobs."),
    "profiles": _Entry(
        "profiles.profiles_cli", "Profiles: how files with certain columns are read, by name."
    ),
    "status": _Entry(
        "orgs.orgs_cli",
        "Show, per org, what waits, what is in flight, what died, and whether the gate is open.",
    ),
    "console": _Entry(
        "serve.serve_cli",
        "Serve the web console on this machine: runs, imports, dead letters, doubt and gates in a browser.",
    ),
    "doctor": _Entry(
        "orgs.orgs_cli",
        "Check Redis, broker, workers, clocks, settings, and each org's vendor; say how to cure what isn't "
        "well.",
    ),
    "pause": _Entry(
        "orgs.orgs_cli",
        "Let no further batch of an org start; what is in flight is settled, and jobs can still come in.",
    ),
    "resume": _Entry("orgs.orgs_cli", "Let batches of an org start again, with credentials read again."),
    "audit": _Entry(
        "orgs.orgs_cli",
        "Show who paused, resumed, cancelled, replayed, resolved and discarded what, newest first.",
    ),
    "schema": _Entry("schemas.schemas_cli", "Print the JSON Schema of what a command prints with --json."),
    "help": _Entry(
        "help.help_cli",
        "Read the documentation: print a page, find words in all of them, or list the topics there are.",
    ),
    "up": _Entry(
        "workers.workers_cli",
        "Run all that one machine needs, in the foreground: server (if none is configured) and worker.",
    ),
    "worker": _Entry(
        "workers.workers_cli",
        "Run a worker in the foreground; start as many as you like, on any machine with the same Redis.",
    ),
    "sandbox": _Entry(
        "serve.serve_cli",
        "Run the vendor's endpoint as a local server, for trying things out; Ctrl-C ends it.",
    ),
    "demo": _Entry(
        "workers.workers_cli",
        "Show the whole on this machine: server, vendor and worker, a file with bad rows, a replay.",
    ),
    "intake": _Entry(
        "serve.serve_cli",
        "Take badges over HTTP, at the vendor's own path: a service that calls it changes its base URL "
        "alone.",
    ),
    "metrics": _Entry(
        "serve.serve_cli",
        "Serve Prometheus metrics of all orgs, read from Redis at each scrape; /healthz says if it answers.",
    ),
}


class _Commands(Mapping[str, Any]):
    """The commands by name; looking one up loads its module."""

    def __getitem__(self, name: str) -> Any:
        return _command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(OVERVIEW)

    def __len__(self) -> int:
        return len(OVERVIEW)


@cache
def _command(name: str) -> Any:
    module, _, app_name = OVERVIEW[name].app.partition(".")
    app = typer.Typer(**_STYLE)
    app.add_typer(getattr(import_module(f"worker.cli.{module}"), app_name))
    command = typer.main.get_group(app).commands[name]
    _say_what_is_taken(command)
    return command


def _say_what_is_taken(command: Any) -> None:
    """Have the help name what an option takes, where Typer's would say its type; a flag takes nothing."""
    for param in command.get_params(typer.Context(command, help_option_names=["-h", "--help"])):
        if isinstance(param, typer.core.TyperOption) and param.metavar is None:
            is_choice = param.type_descriptor.is_choice
            param.metavar = "" if param.is_flag else None if is_choice else str(param.name).upper()
    for part in getattr(command, "commands", {}).values():
        _say_what_is_taken(part)


class _Root(typer.core.TyperGroup):
    """Loads a command when it is called; its own help is written without any."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _Commands()  # type: ignore[assignment] # nothing is ever added to it

    def list_commands(self, _ctx: Any) -> list[str]:
        return list(OVERVIEW)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if hasattr(error.__cause__, "errors"):
                error.message = _in_plain_words(error.__cause__)
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        lines = {name: typer.core.TyperCommand(name, help=entry.line) for name, entry in OVERVIEW.items()}
        page = typer.core.TyperGroup(
            name=self.name,
            commands=lines,  # type: ignore[arg-type] # a dict of a subclass
            help=self.help,
            params=self.params,
            rich_markup_mode=self.rich_markup_mode,
        )
        page.format_help(ctx, formatter)


def _in_plain_words(refused: Any) -> str:
    """Say what an option's value must be; pydantic, by which Typer reads them, has words of its own."""
    from worker.domain.faults import words_of  # noqa: PLC0415 - nothing is wrong, mostly

    return "; ".join(words_of(problem) for problem in refused.errors())


cli = typer.Typer(
    name="badges",
    cls=_Root,
    help="Import badges in bulk: each is issued once, at the vendor's rate, with a result for every row.\n\n"
    "To begin, run this in one terminal: badges up; and in another: badges import members.csv --follow",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    **_STYLE,
)


def _say_version(asked: bool) -> None:  # noqa: FBT001 - Typer's way
    if asked:
        from importlib.metadata import version  # noqa: PLC0415 - it is wanted only here

        typer.echo(version("badge-import-worker"))
        raise typer.Exit


@cli.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Every command begins here."""


def main() -> NoReturn:
    """Run the command line; every expected failure is one sentence and an exit status."""
    odd = [given for given in sys.argv if any("\ud800" <= sign <= "\udfff" for sign in given)]
    if odd:
        sys.exit(_fail(f"this argument is no text in UTF-8: {odd[0]!a}", exits.USAGE))
    start.take_over_interrupts()
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, signal.default_int_handler)  # a terminal that closes is as Ctrl-C
    try:
        cli()  # ends the process itself; its usage errors are Typer's own, whichever Click that brings
    except SystemExit as end:
        _tell_unwritten(end)
        raise
    except Exception as error:
        status = _explain(error)
        if status is None:
            raise
        sys.exit(status)
    sys.exit(0)


def _tell_unwritten(end: SystemExit) -> None:
    """End with 1 where standard output could not be written; what it should say went to standard error."""
    output = sys.modules.get("worker.cli.output")  # a command that writes has loaded it
    if output and output.stdout.failure:
        why = output.stdout.failure.strerror
        end.code = _fail(
            f"standard output can't be written ({why}); what it should say is above", exits.FAILED
        )


def _explain(error: Exception) -> int | None:
    """Say what went wrong and return the exit status; ``None`` is for what nobody expects."""
    from worker.errors import BadgesError, ConfigError  # noqa: PLC0415 - the command that failed has loaded them
    from worker.server.cluster import REDIS_ERRORS, is_away  # noqa: PLC0415

    if isinstance(error, ConfigError):
        return _fail(str(error), exits.USAGE)
    if isinstance(error, OSError) and error.errno in _UNWRITABLE and error.filename is None:
        return _fail(f"standard output can't be written ({error.strerror})", exits.FAILED)
    if not isinstance(error, (BadgesError, *REDIS_ERRORS)):
        return None
    away = is_away(error)
    if away and (said := _embedded_servers_words()):
        return _fail(f"{error}. The embedded server said: {said}", exits.FAILED)
    asked = f"{str(error).rstrip('.')}; is Redis running? see: badges doctor"
    return _fail(asked if away else str(error), exits.FAILED)


def _embedded_servers_words() -> str | None:
    """Return what the embedded server complained of, where that is used."""
    from worker.config import Settings  # noqa: PLC0415 - the command that failed has loaded them
    from worker.server import valkey  # noqa: PLC0415

    settings = Settings.load()
    return None if settings.redis_url else valkey.last_words(settings.data_dir)


def _fail(message: str, code: int) -> int:
    from worker.cli import tables  # noqa: PLC0415 - Rich is loaded only where it is needed

    tables.err.print(f"[red]badges:[/] {tables.safe(message)}")
    return code
