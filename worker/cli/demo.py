"""The demonstration: everything real, on this machine, in a temporary folder, gone when it ends."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random

from worker.cli import tables
from worker.cli.progress import follow_jobs, progress_bar
from worker.config import PREFIX, Settings
from worker.domain.job import DeadKind
from worker.domain.org import DEFAULT_ORG, Org
from worker.enqueue import Enqueued, EnqueueOptions, new_run
from worker.errors import BadgesError
from worker.files.reader import read_rows
from worker.operate import deadletters, deadlist
from worker.operate.deadlist import Filter
from worker.operate.importing import import_rows
from worker.operate.operator import Operator, this_user
from worker.operate.runs import JobReader, RunProgress, follow
from worker.operate.standstill import Reason
from worker.operate.survey import Survey
from worker.sandbox.issued import SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store.queue import Queue, new_id

RATE_PER_SECOND = 20
USERNAME, PASSWORD = "demo.till", "demo-password"
GOOD_BADGES = ("696f0fd40772ad476ecf74ac", "697a16140772ad476ecfe51c", "654e08f2041fd452b3ef5b2e")
MISTYPED_BADGE = "654e08f2041fd452b3ef5b2f"
DRAIN_S = 15
AGAIN_S = 0.2
WORKER_LOG = "worker.log"


KEPT_EVERY_S, KEPT_ROWS = 20.0, 400  # a file every now and then, where it is left running


def run(items: int, *, keep: bool = False, console: bool = False) -> None:
    """Import ``items`` rows with some bad ones into a sandbox vendor, and show what becomes of them.

    Args:
        items: how many.
        keep: leave all of it running until Ctrl-C, and import a small file every now and then.
        console: run the web console beside it.
    """
    started = time.monotonic()
    with interruptions() as interruptible, ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="badges-demo-"))
        vendor = stack.enter_context(_sandbox())
        settings = _settings(folder, vendor.url)
        tables.out.print("[bold]Starting[/] an embedded Valkey server, a sandbox vendor and a Celery worker")
        connection = stack.enter_context(Connection.open(settings))
        worker = stack.enter_context(_worker(_environment(folder, vendor.url), Path(folder)))
        client = stack.enter_context(connection.client())
        with interruptible():
            if console:
                from worker.web.console.beside import beside, free_port  # noqa: PLC0415 - not always there

                stack.enter_context(beside(_environment(folder, vendor.url), port=free_port()))
            _story(settings, Queue(client), worker, Path(folder), items)
            if keep:
                _keep_on(settings, Queue(client), worker, Path(folder))
        requests = vendor.vendor.ledger().statuses
    twice = vendor.vendor.ledger().issued_more_than_once
    tables.out.print(
        f"\nThe vendor saw {sum(requests.values()):,} requests, refused {requests[429]:,} for their rate, "
        f"and issued {len(twice):,} badges twice. All of it took "
        f"{tables.duration(time.monotonic() - started)}; nothing of it is left on this machine."
    )


def _story(
    settings: Settings, queue: Queue, worker: subprocess.Popen[bytes], folder: Path, items: int
) -> None:
    org = settings.org(DEFAULT_ORG)
    reports = JobReader(client=queue.client, orgs={DEFAULT_ORG: org})
    file = folder / "members.csv"
    _write_rows(file, items)
    tables.out.print(f"[bold]Importing[/] {items:,} rows; some are doubled, mistyped or invalid")
    run_name = new_run("members")
    with file.open("rb") as stream, progress_bar("importing", items, unit="rows") as move:
        done = 0
        for chunk in import_rows(
            queue, org, read_rows(stream, name=file.name), EnqueueOptions(run_name, new_id())
        ):
            done += chunk.accepted + chunk.duplicates + chunk.invalid
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


def _keep_on(settings: Settings, queue: Queue, worker: subprocess.Popen[bytes], folder: Path) -> None:
    """Import a small file every now and then, until Ctrl-C, which is how this ends well."""
    tables.out.print("\n[bold]It goes on[/]: a small file comes in every now and then; Ctrl-C ends it")
    org, first = settings.org(DEFAULT_ORG), 1_000_000
    with suppress(KeyboardInterrupt):
        while worker.poll() is None:
            file = folder / "more.csv"
            _write_rows(file, KEPT_ROWS, first=first)
            first += KEPT_ROWS
            with file.open("rb") as stream:
                options = EnqueueOptions(new_run("more"), new_id())
                for _ in import_rows(queue, org, read_rows(stream, name=file.name), options):
                    pass
            time.sleep(KEPT_EVERY_S)


def _mend(queue: Queue, reports: JobReader, settings: Settings) -> None:
    tables.out.print(
        f"\n[bold]Mending[/] the mistyped badge: badges dead replay --badge {MISTYPED_BADGE} "
        f"--set badgeMetaId={GOOD_BADGES[0]}"
    )
    which = Filter(kind=DeadKind.REJECTED, badge=MISTYPED_BADGE)
    changes = {"badgeMetaId": GOOD_BADGES[0]}
    operator = Operator(queue, reports, settings.orgs(), this_user())
    done = deadletters.replay_all(operator, which, changes=changes)
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
    tables.out.print(f"  {requests:>11,} requests made, {fill:.0f} jobs in each on average")


def _show_first_invalid(chunk: Enqueued, done: int) -> None:
    invalid = next((note for note in chunk.noted if note.kind == "invalid"), None)
    if invalid and done <= 1000:
        tables.err.print(f"  such as row {invalid.row}, {invalid.field}: {tables.safe(invalid.reason)}")


def _write_rows(file: Path, items: int, *, first: int = 0) -> None:
    random = Random(items + first)  # noqa: S311 - the same rows every time
    with file.open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["badgeMetaId", "customerId", "earnEventDate", "earnExpiresOn"])
        row: list[object] = []
        for n in range(items):
            kind = random.random()
            if kind < 0.01 and row:
                out.writerow(row)  # the same badge once more
                continue
            badge = MISTYPED_BADGE if kind < 0.03 else random.choice(GOOD_BADGES)
            customer: object = f"C-{n}" if kind > 0.995 else 500_000_000 + first + n
            row = [badge, customer, 1_674_292_011, 1_905_828_011]
            out.writerow(row)


def _settings(folder: str, url: str) -> Settings:
    """Return the demonstration's own settings: a user's Redis must not get its jobs, nor a user's vendor."""
    own = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in _environment(folder, url).items()
        if name.startswith(PREFIX)
    }
    # Every setting is said, since what isn't would be read from the user's environment.
    return Settings.load(**{name: field.default for name, field in Settings.model_fields.items()} | own)


def _environment(folder: str, url: str) -> dict[str, str]:
    """Return the worker's environment: the demonstration's own settings, and none of the user's."""
    own = {
        "DATA_DIR": f"{folder}/data",
        "API_BASE_URL": url,
        "AUTH": "basic",
        "BASIC_USERNAME": USERNAME,
        "BASIC_PASSWORD": PASSWORD,
        "RATE_LIMIT": f"{RATE_PER_SECOND}/second",
        "BATCH_LINGER_S": "0.5",
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return others | {PREFIX + name: value for name, value in own.items()}


def _sandbox() -> SandboxServer:
    return SandboxServer(
        settings=SandboxSettings(
            basic=(USERNAME, PASSWORD),
            unknown_badges=frozenset({MISTYPED_BADGE}),
            rate=(RATE_PER_SECOND, 1.0),
            latency_s=(0.02, 0.08),
        )
    )


@contextmanager
def _worker(environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a real worker in a process of its own while the block lasts."""
    command = [sys.executable, "-P", "-m", "worker.cli", "worker"]
    with (folder / WORKER_LOG).open("wb") as log:
        # In a session of its own: Ctrl-C is for the demonstration, which then stops the worker.
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(DRAIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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
