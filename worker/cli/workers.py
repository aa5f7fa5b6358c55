"""The commands that run a worker: alone, with all that one machine needs, or in the demonstration."""

from __future__ import annotations

import os
import warnings
from contextlib import ExitStack
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

import structlog
import typer

from worker import logs
from worker.cli import tables
from worker.config import PREFIX, Settings, unknown_settings
from worker.domain.org import DEFAULT_ORG
from worker.errors import ConfigError

log = structlog.get_logger()

workers_cli = typer.Typer()

Concurrency = Annotated[int, typer.Option(min=1, max=1000, help="Batches at once in this worker.")]
Pool = Annotated[Literal["prefork", "threads"], typer.Option(help="Processes or threads.")]


@workers_cli.command()
def demo(
    items: Annotated[int, typer.Option(min=100, help="Rows to import.")] = 10_000,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Leave it running, with badges that come in now and then, until Ctrl-C."),
    ] = False,
    console: Annotated[
        bool, typer.Option("--console", help="With the web console to look at it; see badges console.")
    ] = False,
) -> None:
    """Show the whole on this machine: server, vendor and worker, a file with bad rows, a replay."""
    from worker.cli.demo import run  # noqa: PLC0415 - a web server is loaded only where it is needed

    run(items, keep=keep, console=console)


@workers_cli.command()
def up(
    concurrency: Concurrency = 4,
    pool: Pool = "threads",
    flower: Annotated[bool, typer.Option("--flower", help="Flower too, on http://127.0.0.1:5555.")] = False,
    console: Annotated[
        bool, typer.Option("--console", help="The web console too; see badges console.")
    ] = False,
) -> None:
    """Run all that one machine needs, in the foreground: server (if none is configured) and worker.

    Ctrl-C drains: what is being sent is finished and settled; what waits is delivered next time. Flower takes
    its own settings, FLOWER_PORT or FLOWER_BASIC_AUTH; without the latter it has a new password each time.
    """
    settings = Settings.load()
    _check_orgs(settings)
    from celery.signals import worker_ready  # noqa: PLC0415 - Celery is loaded only where it is needed

    worker_ready.connect(lambda **_: _say_ready(settings), weak=False)
    with ExitStack() as stack:
        _beside(stack, flower=flower, console=console)
        _work(concurrency, pool)


def _beside(stack: ExitStack, *, flower: bool, console: bool) -> None:
    """Run what is asked for beside the worker; each knows where the other is."""
    from worker.process.flower import beside as flower_beside  # noqa: PLC0415
    from worker.web.console.beside import HOST, free_port  # noqa: PLC0415 - not always there
    from worker.web.console.beside import beside as console_beside  # noqa: PLC0415 - as above

    port, environment = free_port() if console else 0, dict(os.environ)
    if flower:
        its_url = f"http://{HOST}:{port}" if console else None
        url = stack.enter_context(flower_beside(on_start=tables.out.print, console_url=its_url))
        environment.setdefault(f"{PREFIX}CONSOLE_FLOWER_URL", url)
    if console:
        stack.enter_context(console_beside(environment, port=port))


def _say_ready(settings: Settings) -> None:
    """Say on standard output, beside the log, that jobs can come in now, and by which command."""
    to = "; ".join(f"{org.api_base_url}, {org.rate_limit}" for org in settings.orgs().values())
    where = "" if settings.redis_url else f"cd {quote(str(Path.cwd()))} && "
    data = "" if settings.redis_url else f"; data in {settings.data_dir.resolve()}"
    tables.out.print(f"[green]ready[/]: sends to {tables.safe(f'{to}{data}')}")
    tables.out.print(f"now import, in another terminal: {tables.safe(where)}badges import FILE --follow")
    if os.geteuid() == 0:
        tables.out.print("this runs as root, and need not: a user of its own is safer")


@workers_cli.command()
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
    from celery.exceptions import SecurityWarning  # noqa: PLC0415 - Celery only where it is needed
    from celery.signals import worker_init, worker_shutting_down  # noqa: PLC0415 - as below
    from click import Abort  # noqa: PLC0415 - Celery's

    from worker.app import app  # noqa: PLC0415 - Celery only where it is needed
    from worker.server.brokerkeys import DEFAULT_QUEUE, deliver_queue  # noqa: PLC0415 - as above

    settings = Settings.load()
    logs.configure(settings)
    for warning in unknown_settings(os.environ):
        log.warning("settings.unknown", reason=warning)
    _check_orgs(settings)
    if own_org:
        app.conf.own_org = settings.org(own_org).name
    begun: list[Any] = []
    told: list[str] = []  # signals; Celery calls an interrupt a failure
    worker_shutting_down.connect(lambda sig, **_: told.append(sig), weak=False)
    worker_init.connect(lambda sender, **_: begun.append(sender), weak=False)
    options = ["--queues", f"{DEFAULT_QUEUE},{deliver_queue(own_org)}"]
    options += ["--pool", pool, "--concurrency", str(concurrency), "--loglevel", "INFO", "--task-events"]
    options += ["--hostname", f"badges-{os.getpid()}@%h"]  # several on one machine must not share a name
    # Celery's words about running as root; ``up`` has its own.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    try:
        app.worker_main(["--quiet", "worker", *options])
    except Abort:  # Ctrl-C before Celery listens to it
        raise KeyboardInterrupt from None
    # Which worker_main drops: an end that nobody told it to must not look like an orderly one.
    if not told and (status := max((one.exitcode or 0 for one in begun), default=0)):
        raise typer.Exit(status)


def _check_orgs(settings: Settings) -> None:
    orgs = settings.orgs()
    missing = [name for name, org in orgs.items() if not org.api_base_url]
    if missing and not (missing == [DEFAULT_ORG] and len(orgs) > 1):
        raise ConfigError(
            f"BADGES_API_BASE_URL is missing (org {', '.join(missing)}): the vendor's host, such as "
            "https://eu.api.capillarytech.com; for trying things out, start: badges sandbox"
        )
