"""The demonstration: everything real, on this machine, in a temporary folder, gone when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from worker.beside import running
from worker.cli import tables
from worker.cli.demo_life import GOOD_BADGES, MISTYPED_BADGE, Life, shops, write_rows
from worker.cli.progress import follow_jobs, progress_bar
from worker.config import PREFIX, Settings
from worker.domain.job import DeadKind
from worker.domain.org import DEFAULT_ORG, Org
from worker.domain.provenance import Provenance
from worker.domain.text import counted, in_words
from worker.enqueue import Enqueued, EnqueueOptions, new_run
from worker.errors import BadgesError
from worker.files.reader import read_rows
from worker.operate import deadlist, replaying
from worker.operate.deadlist import Filter
from worker.operate.importing import import_rows
from worker.operate.operator import Operator, this_user
from worker.operate.progress import RunProgress
from worker.operate.runs import JobReader, follow
from worker.operate.standstill import Reason
from worker.operate.survey import Survey
from worker.sandbox.issued import SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store.queue import Queue, new_id

RATE_PER_SECOND = 20
USERNAME, PASSWORD = "demo.till", "demo-password"
DRAIN_S = 15
AGAIN_S = 0.2
WORKER_LOG = "worker.log"


def run(items: int, *, keep: bool = False, console: bool = False) -> None:
    """Import ``items`` rows with some bad ones into a sandbox vendor, and show what becomes of them.

    Args:
        items: how many.
        keep: leave all of it running until Ctrl-C, with a second org, and badges that come in now and then.
        console: run the web console beside it.
    """
    started = time.monotonic()
    with interruptions() as interruptible, ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="badges-demo-"))
        vendor = stack.enter_context(_sandbox(more_calls=1 if keep else 0))
        own = _own(folder, vendor.url, keep=keep)
        settings = _settings(own)
        tables.out.print("[bold]Starting[/] an embedded Valkey server, a sandbox vendor and a Celery worker")
        connection = stack.enter_context(Connection.open(settings))
        worker = stack.enter_context(_worker(_environment(own), Path(folder)))
        client = stack.enter_context(connection.client())
        with interruptible():
            if console:
                from worker.web.console.beside import beside, free_port  # noqa: PLC0415 - not always there

                stack.enter_context(beside(_environment(own), port=free_port()))
            _story(settings, Queue(client), worker, Path(folder), items)
            if keep:
                _keep_on(Life(settings, Queue(client), vendor, Path(folder)), worker)
        requests = vendor.vendor.ledger().statuses
    twice = vendor.vendor.ledger().issued_more_than_once
    took = in_words(time.monotonic() - started)
    tables.out.print(
        f"\nThe vendor saw {counted(sum(requests.values()), 'request')}, "
        f"refused {requests[429]:,} for their rate, and issued {counted(len(twice), 'badge')} twice. "
        f"All of it took {took}; nothing of it is left on this machine."
    )


def _story(
    settings: Settings, queue: Queue, worker: subprocess.Popen[bytes], folder: Path, items: int
) -> None:
    org = settings.org(DEFAULT_ORG)
    reports = JobReader(client=queue.client, orgs={DEFAULT_ORG: org})
    file = folder / "members.csv"
    write_rows(file, items)
    tables.out.print(f"[bold]Importing[/] {counted(items, 'row')}; some are doubled, mistyped or invalid")
    run_name = new_run("members")
    with file.open("rb") as stream, progress_bar("importing", items, unit="row") as move:
        done = 0
        for chunk in import_rows(
            queue,
            org,
            read_rows(stream, name=file.name),
            EnqueueOptions(run_name, new_id(), source=Provenance(str(this_user()), file.name)),
        ):
            done += chunk.rows
            move(done)
            _show_first_invalid(chunk, done)
    _await(worker, Survey(queue.client), org)
    progress = follow_jobs(_while_running(worker, folder, follow(reports, run_name, every_s=0.1)))
    _summary(queue, progress)
    tables.out.print("\n[bold]Dead letters[/] by group (badges dead groups)")
    tables.show_groups(deadlist.groups(reports, Filter()))
    _mend(queue, reports, settings)


def _await(worker: subprocess.Popen[bytes], survey: Survey, org: Org) -> None:
    """Wait until the worker has said that it is there, or has ended: it takes longer to start than a file."""
    while worker.poll() is None:
        (state,) = survey.states({org.name: org})
        if state.standstill is None or state.standstill.reason is not Reason.NO_WORKER:
            return
        time.sleep(0.05)


def _keep_on(life: Life, worker: subprocess.Popen[bytes]) -> None:
    """Let something happen now and then, until Ctrl-C, which is how this ends well."""
    tables.out.print(
        "\n[bold]It goes on[/]: badges come in, and the vendor stumbles now and then; Ctrl-C ends it"
    )
    with suppress(KeyboardInterrupt):
        life.go_on(lambda: worker.poll() is None)


def _mend(queue: Queue, reports: JobReader, settings: Settings) -> None:
    tables.out.print(
        f"\n[bold]Mending[/] the mistyped badge: badges dead replay --badge {MISTYPED_BADGE} "
        f"--set badgeMetaId={GOOD_BADGES[0]}"
    )
    which = Filter(kind=DeadKind.REJECTED, badge=MISTYPED_BADGE)
    changes = {"badgeMetaId": GOOD_BADGES[0]}
    operator = Operator(queue, reports, settings.orgs(), this_user(), "the badge was mistyped")
    done = replaying.replay_all(operator, which, changes=changes)
    if done.run:
        last = follow_jobs(follow(reports, done.run, every_s=0.1))
        tables.out.print(f"  [green]{last.issued:,} issued[/], {last.dead:,} dead")


def _while_running(
    worker: subprocess.Popen[bytes], folder: Path, snapshots: Iterator[RunProgress]
) -> Iterator[RunProgress]:
    for snapshot in snapshots:
        if worker.poll() is not None:
            said = (folder / WORKER_LOG).read_text(errors="replace").strip().splitlines()[-5:]
            raise BadgesError(
                "\n  ".join([f"the worker ended by itself ({worker.returncode}); it said:", *said])
            )
        yield snapshot


def _summary(queue: Queue, progress: RunProgress) -> None:
    tables.out.print()
    tables.show_run(progress)
    stats = queue.counters(DEFAULT_ORG)
    requests, sent = stats.get("requests", 0), stats.get("items", 0)
    fill = sent / requests if requests else 0
    made = "request" if requests == 1 else "requests"
    tables.out.print(f"  {requests:>11,} {made} made, {counted(round(fill), 'job')} in each on average")


def _show_first_invalid(chunk: Enqueued, done: int) -> None:
    invalid = next((note for note in chunk.noted if note.kind == "invalid"), None)
    if invalid and done <= 1000:
        tables.err.print(f"  such as row {invalid.row}, {invalid.field}: {tables.safe(invalid.reason)}")


def _settings(own: Mapping[str, str]) -> Settings:
    """Return the demonstration's own settings: a user's Redis must not get its jobs, nor a user's vendor."""
    # Every setting is said, since what isn't would be read from the user's environment.
    return Settings.load(**{name: field.default for name, field in Settings.model_fields.items()} | dict(own))


def _own(folder: str, url: str, *, keep: bool) -> dict[str, str]:
    """Return the demonstration's own settings, with a second org where it is left running."""
    vendor = {
        "api_base_url": url,
        "auth": "basic",
        "basic_username": USERNAME,
        "basic_password": PASSWORD,
    }
    limits = {"rate_limit": f"{RATE_PER_SECOND}/second", "batch_linger_s": "0.5"}
    own = {"data_dir": f"{folder}/data"} | vendor | limits
    if keep:
        (orgs := Path(folder) / "orgs.toml").write_text(shops(vendor))
        own["orgs_file"] = str(orgs)
    return own


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the worker's environment: the demonstration's own settings, and none of the user's."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return others | {PREFIX + name.upper(): value for name, value in own.items()}


def _sandbox(*, more_calls: int) -> SandboxServer:
    return SandboxServer(
        settings=SandboxSettings(
            basic=(USERNAME, PASSWORD),
            unknown_badges=frozenset({MISTYPED_BADGE}),
            rate=(RATE_PER_SECOND + more_calls, 1.0),
            latency_s=(0.02, 0.08),
        )
    )


@contextmanager
def _worker(environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a real worker in a process of its own while the block lasts."""
    with (
        (folder / WORKER_LOG).open("wb") as log,
        running("worker.cli", "worker", environment=environment, output=log, end_s=DRAIN_S) as process,
    ):
        yield process


@contextmanager
def interruptions() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Hold Ctrl-C and SIGTERM back, but for a block that is ``interruptible``.

    Starting and stopping are then never interrupted, however often Ctrl-C is pressed. Where the interruption
    falls into a callback of a library, that may swallow it: it comes again until it is heeded.
    """
    seen, listening = False, False

    def on_signal(*_: object) -> None:
        nonlocal seen
        seen = True
        if listening:
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
            raise KeyboardInterrupt

    @contextmanager
    def interruptible() -> Iterator[None]:
        nonlocal listening
        listening = True
        try:
            if seen:
                raise KeyboardInterrupt
            yield
        finally:
            listening = False

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield interruptible
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
