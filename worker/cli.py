"""The command ``badges``. Each command is thin: it opens what it needs, calls the story, and shows it.

Exit status: 0 done, 1 failed, 2 usage or configuration. Commands about jobs are in ``cli_jobs.py``,
those about dead letters in ``cli_dead.py``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Literal, NoReturn

import structlog
import typer
from redis.exceptions import RedisError

from worker import audit, logs, screen
from worker import demo as demonstration
from worker.cli_dead import dead_cli
from worker.cli_jobs import job_cli, jobs_cli, run_cli
from worker.config import Settings, unknown_settings
from worker.desk import AnyOrg, AsJson, OneOrg, desk
from worker.errors import BadgesError, ConfigError
from worker.org import DEFAULT_ORG, is_loopback
from worker.status import Survey

log = structlog.get_logger()

LOOPBACK = "127.0.0.1"

cli = typer.Typer(
    name="badges",
    help="Import badges in bulk: each is issued once, at the vendor's rate, with a result for every row.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # paragraphs flow, instead of breaking where the source does
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli.add_typer(jobs_cli)
cli.add_typer(run_cli, name="run")
cli.add_typer(job_cli, name="job")
cli.add_typer(dead_cli, name="dead")

Concurrency = Annotated[int, typer.Option(min=1, max=1000, help="Batches at once in this worker.")]
Pool = Annotated[Literal["prefork", "threads"], typer.Option(help="Processes or threads.")]


def main() -> NoReturn:
    """Run the command line; every expected failure is one sentence and an exit status."""
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, signal.default_int_handler)  # a terminal that closes is as Ctrl-C
    try:
        cli()  # ends the process itself; its usage errors are Typer's own, whichever Click that brings
    except ConfigError as error:
        sys.exit(_fail(str(error), 2))
    except (BadgesError, RedisError, OSError) as error:
        sys.exit(_fail(str(error), 1))
    sys.exit(0)


def _fail(message: str, code: int) -> int:
    screen.err.print(f"[red]badges:[/] {screen.plain(message)}")
    return code


@cli.command()
def demo(items: Annotated[int, typer.Option(min=100, help="Rows to import.")] = 10_000) -> None:
    """Show the whole on this machine: server, vendor and worker, a file with bad rows, a replay."""
    demonstration.run(items)


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
    if not flower:
        _work(concurrency, pool)
        return
    from worker.flower import beside  # noqa: PLC0415 - Celery is loaded only where it is needed

    _check_orgs(Settings.load())
    with beside(on_start=screen.out.print):
        _work(concurrency, pool)


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
    app.worker_main(["--quiet", "worker", *options, "--without-gossip", "--without-mingle"])


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
    watch: Annotated[bool, typer.Option("--watch", help="Go on every second, until Ctrl-C.")] = False,
) -> None:
    """Show, per org, what waits, what is in flight, what died, and whether the gate is open."""
    with desk() as here:
        survey, orgs = Survey(here.queue.client), here.settings.orgs()
        chosen = {name: orgs.get(name) for name in here.reports.org_names(org)}
        snapshots = ([state.as_json() for state in survey.states(chosen)] for _ in _seconds(endless=watch))
        if as_json:
            with suppress(KeyboardInterrupt):
                for snapshot in snapshots:
                    screen.say_json(snapshot)
        elif watch:
            screen.watch_status(snapshots)
        else:
            screen.show_status(next(snapshots))


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
    from worker.doctor import examine  # noqa: PLC0415 - brokers are loaded only where they are needed

    settings = Settings.load()
    with screen.err.status("looking at everything"):
        findings = list(examine(settings, os.environ, org))
    if as_json:
        screen.say_json([found.as_json() for found in findings])
    else:
        screen.show_findings(findings)
    if any(found.result == "fail" for found in findings):
        raise typer.Exit(1)


@cli.command()
def metrics(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 9808,
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 is all there are.")] = LOOPBACK,
) -> None:
    """Serve Prometheus metrics of all orgs, read from Redis at each scrape; /healthz says if it answers."""
    from worker.metrics import serve  # noqa: PLC0415 - a web server is loaded only where it is needed

    with desk() as here:
        logs.configure(here.settings)
        serve(
            here.queue.client,
            here.settings,
            host=host,
            port=port,
            on_ready=lambda url: screen.out.print(f"metrics on {url}"),
        )


@cli.command()
def intake(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8081,
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 is all there are.")] = LOOPBACK,
    rate: Annotated[str, typer.Option(help="How often each caller may call.")] = "6000/minute",
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Ask for no key; on loopback alone.")] = False,
    org: Annotated[str, typer.Option("--org", help="With --no-auth: the org.")] = DEFAULT_ORG,
) -> None:
    """Take badges over HTTP, at the vendor's own path: a service that calls it changes its base URL alone.

    Each caller shows a key, which tells its org (BADGES_INTAKE_KEYS, or intake_keys in ORGS_FILE). /docs
    describes all of it. Start as many as you like; a proxy before them speaks TLS.
    """
    try:
        from worker.intake_http import serve  # noqa: PLC0415 - a web server is loaded only where it is needed
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"badges intake needs {error.name}, which is missing: pip install 'badge-import-worker[intake]'"
        ) from None
    if no_auth and not is_loopback(host):
        raise ConfigError(f"--no-auth lets everybody in who reaches {host}; it is for loopback alone")
    with desk() as here:
        logs.configure(here.settings)
        serve(
            here.queue.client,
            here.settings,
            alone=here.settings.org(org).name if no_auth else None,
            rate=rate,
            host=host,
            port=port,
            on_ready=lambda url: screen.out.print(f"intake on {url}"),
        )


@cli.command()
def pause(
    org: OneOrg = DEFAULT_ORG, reason: Annotated[str, typer.Option(help="Shown in status.")] = ""
) -> None:
    """Let no further batch of an org start; what is in flight is settled, and jobs can still come in."""
    with desk() as here:
        name = here.settings.org(org).name
        audit.begin(here.queue, name, audit.action_id("pause"), by=audit.os_user(), note=reason)
        paused = here.queue.pause(name, why="operator", reason=reason)
    screen.out.print(f"{org} is paused" if paused else f"{org} was paused already")


@cli.command()
def resume(org: OneOrg = DEFAULT_ORG) -> None:
    """Let batches of an org start again, with credentials read anew."""
    with desk() as here:
        mine = here.settings.org(org)
        audit.begin(here.queue, org, audit.action_id("resume"), by=audit.os_user())
        was = here.queue.resume(mine)
    said = {
        "paused": "goes on",
        "closed": "was not paused, but closed for a while: it goes on now",
        "probing": "was not paused, but sent one job at a time, to see how the vendor is: it goes on in full",
    }
    screen.out.print(f"{org} {said.get(was, 'was not paused')}")


@cli.command("audit")
def audit_(org: AnyOrg = None, as_json: AsJson = False) -> None:
    """Show who paused, resumed, cancelled, replayed, resolved and discarded what, newest first.

    The newest 10,000 actions of each org are kept. Each is written down before it begins; its count is what
    it has done so far. With --json one a line, all of them.
    """
    with desk() as here:
        names = here.reports.org_names(org)
        entries = sorted(
            (entry for name in names for entry in audit.entries(here.queue.client, name)),
            key=lambda entry: entry.at or "",
            reverse=True,
        )
    if as_json:
        for entry in entries:
            screen.say_json(entry)
    else:
        screen.show_audit(entries)


@cli.command()
def sandbox(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
    rate: Annotated[int, typer.Option(min=1, help="Requests a minute; more are answered 429.")] = 100,
    latency_ms: Annotated[int, typer.Option(min=0, help="How long an answer takes at most.")] = 50,
    username: Annotated[str | None, typer.Option(help="Want Basic authentication, with --password.")] = None,
    password: Annotated[str | None, typer.Option(help="The plain password that is wanted.")] = None,
    unknown: Annotated[list[str] | None, typer.Option(help="A badgeMetaId that answers 1054.")] = None,
) -> None:
    """Run the vendor's endpoint as a local server, for trying things out; Ctrl-C ends it."""
    from worker.ledger import SandboxSettings  # noqa: PLC0415
    from worker.sandbox import SandboxServer  # noqa: PLC0415 - a web server is loaded only where it is needed

    settings = SandboxSettings(
        basic=(username, password) if username and password else None,
        rate=(rate, 60.0),
        latency_s=(latency_ms / 2000, latency_ms / 1000),
        unknown_badges=frozenset(unknown or ()),
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with SandboxServer(settings=settings, port=port) as vendor, suppress(KeyboardInterrupt):
        screen.out.print(f"vendor's sandbox on {vendor.url}\n  BADGES_API_BASE_URL={vendor.url}")
        signal.pause()


if __name__ == "__main__":
    main()
