"""The commands that serve HTTP: metrics, the intake, the console, and the sandbox vendor."""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer

from worker import logs
from worker.cli import tables
from worker.cli.session import Host, Port, Session, load_settings, see_to_server, session
from worker.domain.org import DEFAULT_ORG, is_loopback
from worker.domain.text import counted
from worker.errors import BadgesError, ConfigError, StoreError
from worker.server.connection import Connection

LOOPBACK = "127.0.0.1"
_NO_ADDRESS = {errno.EADDRNOTAVAIL, errno.EACCES, socket.EAI_NONAME, socket.EAI_AGAIN}

serve_cli = typer.Typer()


@contextmanager
def _serving() -> Iterator[Session]:
    """Open what is served from; a Redis that is away is waited for."""
    with session(hurried=True) as here:
        with suppress(StoreError):
            see_to_server(here)
        logs.configure(here.settings)
        yield here


@contextmanager
def _listening(host: str, port: int) -> Iterator[None]:
    """Say it in our words where an address or a port can't be had."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            cure = "say another with --port, or 0 for a free one"
            raise BadgesError(f"port {port} of {host} is in use: {cure}") from None
        if error.errno in _NO_ADDRESS:
            why = str(error.strerror).partition(" (")[0]
            raise BadgesError(f"port {port} of {host} can't be had: {why}") from None
        raise


def _lacks(extra: str, error: ModuleNotFoundError) -> ConfigError:
    """Say what is missing for a command, which has an extra of its own name."""
    install = f"pip install 'badge-import-worker[{extra}]'"
    return ConfigError(f"badges {extra} needs {error.name}, which is missing: {install}")


@serve_cli.command()
def metrics(port: Port = 9808, host: Host = LOOPBACK) -> None:
    """Serve Prometheus metrics of all orgs, read from Redis at each scrape; /healthz says if it answers."""
    from worker.web.metrics import serve  # noqa: PLC0415 - a web server is loaded only where it is needed

    with _serving() as here, _listening(host, port):
        serve(
            here.queue.client,
            here.settings,
            host=host,
            port=port,
            on_ready=lambda url: tables.out.print(f"metrics on {url}"),
        )


@serve_cli.command()
def intake(
    port: Port = 8081,
    host: Host = LOOPBACK,
    rate: Annotated[str, typer.Option(help="How often each caller may call.")] = "6000/minute",
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Ask for no key; on loopback alone.")] = False,
    org: Annotated[str, typer.Option("--org", help="With --no-auth: the org.")] = DEFAULT_ORG,
) -> None:
    """Take badges over HTTP, at the vendor's own path: a service that calls it changes its base URL alone.

    Each caller shows a key, which tells its org (BADGES_INTAKE_KEYS, or intake_keys in ORGS_FILE). /docs
    describes all of it. Start as many as you like; a proxy before them speaks TLS.
    """
    try:
        from worker.web.intake_app import serve  # noqa: PLC0415 - a web server is loaded only where it is needed
    except ModuleNotFoundError as error:
        raise _lacks("intake", error) from None
    if no_auth and not is_loopback(host):
        raise ConfigError(f"--no-auth lets everybody in who reaches {host}; it is for loopback alone")
    with _serving() as here, _listening(host, port):
        serve(
            here.queue.client,
            here.settings,
            alone=here.settings.org(org).name if no_auth else None,
            rate=rate,
            host=host,
            port=port,
            on_ready=lambda url: tables.out.print(f"intake on {url}"),
        )


@serve_cli.command()
def console(
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="An address of this machine alone; to others, forward its port."
        ),
    ] = LOOPBACK,
    port: Port = 8090,
) -> None:
    """Serve the web console on this machine: runs, imports, dead letters, doubt and gates in a browser.

    It prints the link that opens it, which works once; then it prints the next one. A person with the link
    acts as you do here, and the audit trail says so. No credentials of the vendor are needed. Ctrl-C ends it.
    """
    try:
        from worker.web.console.serve import serve  # noqa: PLC0415 - a web server is loaded only where it is needed
    except ModuleNotFoundError as error:
        raise _lacks("console", error) from None
    settings = load_settings()
    logs.configure(settings)
    with Connection.open(settings) as connection, _listening(host, port):
        serve(settings, connection, host=host, port=port, say=lambda line: print(line, flush=True))  # noqa: T201


@serve_cli.command()
def sandbox(
    port: Port = 8080,
    rate: Annotated[int, typer.Option(min=1, help="Requests a minute; more are answered 429.")] = 100,
    latency_ms: Annotated[
        int, typer.Option(metavar="MS", min=0, help="How long an answer takes at most.")
    ] = 50,
    username: Annotated[str | None, typer.Option(help="Want Basic authentication, with --password.")] = None,
    password: Annotated[str | None, typer.Option(help="The plain password that is wanted.")] = None,
    unknown: Annotated[
        list[str] | None, typer.Option(help="A badgeMetaId that answers 1054. May be repeated.")
    ] = None,
) -> None:
    """Run the vendor's endpoint as a local server, for trying things out; Ctrl-C ends it.

    Make it fail by POST /_sandbox/faults, such as {"fault": "status", "status": 503, "times": 2}; DELETE
    ends that. GET /_sandbox/ledger has what arrived, what was answered and what was issued.
    """
    if bool(username) != bool(password):
        raise typer.BadParameter("--username goes with --password: else the sandbox asks for neither")
    from worker.sandbox.issued import SandboxSettings  # noqa: PLC0415
    from worker.sandbox.server import SandboxServer  # noqa: PLC0415 - a web server is loaded only where it is needed

    settings = SandboxSettings(
        basic=(username, password) if username and password else None,
        rate=(rate, 60.0),
        latency_s=(latency_ms / 2000, latency_ms / 1000),
        unknown_badges=frozenset(unknown or ()),
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _listening(LOOPBACK, port), SandboxServer(settings=settings, port=port) as server:
        own = f"{server.url}/_sandbox"
        tables.out.print(f"vendor's sandbox on {server.url}\n  BADGES_API_BASE_URL={server.url}")
        tables.out.print(f"  what it saw: curl {own}/ledger")
        tables.out.print(
            f"""  a fault: curl {own}/faults -d '{{"fault": "status", "status": 503, "times": 2}}'"""
        )
        with suppress(KeyboardInterrupt):
            signal.pause()
        seen = server.vendor.ledger()
    twice = len(seen.issued_more_than_once)
    tables.out.print(
        f"{counted(len(seen.exchanges), 'request')}, {counted(len(seen.issues), 'badge')} issued, "
        f"{twice:,} of them twice"
    )
