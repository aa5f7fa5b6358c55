"""The command ``badges``. Each command is thin: it opens what it needs, calls the story, and shows it.

Exit status: 0 done, 1 failed, 2 usage or configuration. ``import`` is in ``cli_import.py``, what is
about jobs in ``cli_jobs.py``, about dead letters in ``cli_dead.py``; what serves HTTP in ``cli_serve.py``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from typing import Annotated, Any, Literal, NoReturn

import redis
import structlog
import typer
import typer.core

from worker import logs
from worker.cli import start, tables
from worker.cli.dead import dead_cli
from worker.cli.imports import import_cli
from worker.cli.jobs import job_cli, jobs_cli, run_cli
from worker.cli.output import AsJson, say_json
from worker.cli.serve import serve_cli
from worker.cli.session import AnyOrg, Note, OneOrg, session
from worker.config import Settings, unknown_settings
from worker.domain.org import DEFAULT_ORG
from worker.errors import BadgesError, ConfigError
from worker.operate.status import Survey
from worker.server.health import is_full
from worker.store import audit

log = structlog.get_logger()

ORDER = "import run results dead job status doctor pause resume audit up worker sandbox demo intake metrics"


class _InOrder(typer.core.TyperGroup):
    """Lists what is used most first."""

    def list_commands(self, _ctx: Any) -> list[str]:
        return ORDER.split()


cli = typer.Typer(
    name="badges",
    cls=_InOrder,
    help="Import badges in bulk: each is issued once, at the vendor's rate, with a result for every row.\n\n"
    "To begin, run this in one terminal: badges up; and in another: badges import members.csv --follow",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # paragraphs flow, instead of breaking where the source does
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli.add_typer(import_cli)
cli.add_typer(jobs_cli)
cli.add_typer(serve_cli)
cli.add_typer(run_cli, name="run")
cli.add_typer(job_cli, name="job")
cli.add_typer(dead_cli, name="dead")

Concurrency = Annotated[int, typer.Option(min=1, max=1000, help="Batches at once in this worker.")]
Pool = Annotated[Literal["prefork", "threads"], typer.Option(help="Processes or threads.")]


def _say_version(asked: bool) -> None:  # noqa: FBT001 - Typer's way
    if asked:
        tables.out.print(version("badge-import-worker"))
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
        sys.exit(_fail(f"this argument is no text in UTF-8: {odd[0]!a}", 2))
    start.take_over_interrupts()
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, signal.default_int_handler)  # a terminal that closes is as Ctrl-C
    try:
        cli()  # ends the process itself; its usage errors are Typer's own, whichever Click that brings
    except ConfigError as error:
        sys.exit(_fail(str(error), 2))
    except (BadgesError, redis.RedisError, OSError) as error:
        away = isinstance(error.__cause__ or error, redis.ConnectionError | redis.TimeoutError)
        sys.exit(_fail(f"{error}; is Redis running? see: badges doctor" if away else str(error), 1))
    sys.exit(0)


def _fail(message: str, code: int) -> int:
    tables.err.print(f"[red]badges:[/] {tables.safe(message)}")
    return code


@cli.command()
def demo(items: Annotated[int, typer.Option(min=100, help="Rows to import.")] = 10_000) -> None:
    """Show the whole on this machine: server, vendor and worker, a file with bad rows, a replay."""
    from worker.cli.demo import run  # noqa: PLC0415 - a web server is loaded only where it is needed

    run(items)


@cli.command()
def up(
    concurrency: Concurrency = 4,
    pool: Pool = "threads",
    flower: Annotated[bool, typer.Option("--flower", help="Flower too, on http://127.0.0.1:5555.")] = False,
) -> None:
    """Run all that one machine needs, in the foreground: server (if none is configured) and worker.

    Ctrl-C drains: what is being sent is finished and settled; what waits is delivered next time. Flower takes
    its own settings, FLOWER_PORT or FLOWER_BASIC_AUTH; without the latter it has a new password each time.
    """
    settings = Settings.load()
    _check_orgs(settings)
    if sys.stderr.isatty():
        from celery.signals import worker_ready  # noqa: PLC0415 - Celery is loaded only where it is needed

        worker_ready.connect(lambda **_: _say_ready(settings), weak=False)
    if not flower:
        _work(concurrency, pool)
        return
    from worker.process.flower import beside  # noqa: PLC0415

    with beside(on_start=tables.out.print):
        _work(concurrency, pool)


def _say_ready(settings: Settings) -> None:
    to = "; ".join(f"{org.api_base_url}, {org.rate_limit}" for org in settings.orgs().values())
    data = "" if settings.redis_url else f"; data in {settings.data_dir.resolve()}"
    tables.err.print(
        f"[green]ready:[/] {tables.safe(f'sends to {to}{data}')}; import with: badges import FILE"
    )


@cli.command()
def worker(
    concurrency: Concurrency = 4,
    pool: Pool = "threads",
    org: Annotated[
        str | None, typer.Option("--org", help="Serve this org alone; the other workers then leave it.")
    ] = None,
) -> None:
    """Run a worker in the foreground; start as many as you like, on any machine with the same Redis.

    Ctrl-C or SIGTERM drains: what is being sent is finished and settled, within the HTTP time-out.
    """
    _work(concurrency, pool, own_org=org)


def _work(concurrency: int, pool: str, *, own_org: str | None = None) -> None:
    from click import Abort  # noqa: PLC0415 - Celery's

    from worker.app import DEFAULT_QUEUE, app, deliver_queue  # noqa: PLC0415 - Celery only where it is needed

    settings = Settings.load()
    logs.configure(settings)
    for warning in unknown_settings(os.environ):
        log.warning("settings.unknown", reason=warning)
    _check_orgs(settings)
    if own_org:
        app.conf.own_org = settings.org(own_org).name
    options = ["--queues", f"{DEFAULT_QUEUE},{deliver_queue(own_org)}"]
    options += ["--pool", pool, "--concurrency", str(concurrency), "--loglevel", "INFO", "--task-events"]
    options += ["--hostname", f"badges-{os.getpid()}@%h"]  # several on one machine must not share a name
    try:
        app.worker_main(["--quiet", "worker", *options, "--without-gossip", "--without-mingle"])
    except Abort:  # Ctrl-C before Celery listens to it
        raise KeyboardInterrupt from None


def _check_orgs(settings: Settings) -> None:
    orgs = settings.orgs()
    missing = [name for name, org in orgs.items() if not org.api_base_url]
    if missing and not (missing == [DEFAULT_ORG] and len(orgs) > 1):
        raise ConfigError(
            f"BADGES_API_BASE_URL is missing (org {', '.join(missing)}): the vendor's host, such as "
            "https://eu.api.capillarytech.com; for trying things out, start: badges sandbox"
        )


@cli.command()
def status(
    org: AnyOrg = None,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every second, until Ctrl-C.")] = False,
) -> None:
    """Show, per org, what waits, what is in flight, what died, and whether the gate is open."""
    with session() as here:
        survey, orgs = Survey(here.queue.client), here.settings.orgs()
        chosen = {name: orgs.get(name) for name in here.reports.org_names(org)}
        snapshots = ([state.as_json() for state in survey.states(chosen)] for _ in _seconds(endless=watch))
        if as_json:
            with suppress(KeyboardInterrupt):
                for snapshot in snapshots:
                    say_json(snapshot)
        elif watch:
            tables.watch_status(snapshots)
        else:
            tables.out.print(tables.status_table(next(snapshots)))
            if is_full(here.queue.client):
                words = "Redis is full: nothing is accepted or sent; give it more memory (badges doctor)"
                tables.out.print(f"[bold red]{words}[/]")


def _seconds(*, endless: bool) -> Iterator[None]:
    yield
    while endless:
        time.sleep(1)
        yield


@cli.command()
def doctor(org: AnyOrg = None, as_json: AsJson = False) -> None:
    """Check Redis, broker, workers, clocks, settings, and each org's vendor; say how to cure what isn't well.

    A call to each vendor tells whether the credentials are good; it is paid from the org's limit. Exit
    status: 1 if any check failed, 0 if all are well or there are only warnings.
    """
    from worker.operate.doctor import examine  # noqa: PLC0415 - brokers are loaded only where they are needed

    settings = Settings.load()
    with tables.err.status("looking at everything"):
        findings = list(examine(settings, os.environ, org))
    if as_json:
        say_json([found.as_json() for found in findings])
    else:
        tables.show_findings(findings)
    if any(found.result == "fail" for found in findings):
        raise typer.Exit(1)


@cli.command()
def pause(
    org: OneOrg = DEFAULT_ORG,
    reason: Annotated[
        str, typer.Option("--reason", "--note", help="Why, for status and the audit trail.")
    ] = "",
) -> None:
    """Let no further batch of an org start; what is in flight is settled, and jobs can still come in."""
    with session() as here:
        paused = audit.pause(here.queue, here.settings.org(org), by=audit.os_user(), reason=reason)
    tables.out.print(f"{org} is paused" if paused else f"{org} was paused already")


@cli.command()
def resume(org: OneOrg = DEFAULT_ORG, note: Note = "") -> None:
    """Let batches of an org start again, with credentials read anew."""
    with session() as here:
        was = audit.resume(here.queue, here.settings.org(org), by=audit.os_user(), note=note)
    one = "; one job is tried now" if was else ""
    tables.out.print(f"{org} goes on" if was == "paused" else f"{org} was not paused{one}")


@cli.command("audit")
def audit_(org: AnyOrg = None, as_json: AsJson = False) -> None:
    """Show who paused, resumed, cancelled, replayed, resolved and discarded what, newest first.

    The newest 10,000 actions of each org are kept. Each is written down before it begins; its count is what
    it has done so far. With --json one a line, all of them.
    """
    with session() as here:
        names = here.reports.org_names(org)
        entries = sorted(
            (entry for name in names for entry in audit.entries(here.queue.client, name)),
            key=lambda entry: entry.at or "",
            reverse=True,
        )
    if as_json:
        for entry in entries:
            say_json(entry)
    else:
        tables.show_audit(entries)


if __name__ == "__main__":
    main()
