"""What this project costs where it must not grow: backlog, stored results, orgs; memory, latency, idling."""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import measure
import payload
from goals import Goal, at_most
from rivals import CONTENDERS
from stage import UNLIMITED, Server, environment, program, server, vendor, wait_until_ready

from worker import BadgeQueue
from worker.config import Settings
from worker.server.connection import Connection
from worker.store import keys, reading
from worker.store.queue import Queue

BADGES = CONTENDERS[0]
MILLION, SMALL = 1_000_000, 10_000
CHUNK = 10_000  # items a call
ORGS = 100
TURNS = 7
LINGER_S = 0.2
SINGLES = 100  # jobs that come alone
IDLE_S = 20.0
WITHIN_S = 600.0
SEED = 20261123

GROWTH, QUEUED_BYTES, STORED_BYTES, RSS_GROWTH = 1.1, 290, 430, 1.05
P50_MS, P99_MS, IDLE_PERCENT, IDLE_COMMANDS = 50, 150, 0.5, 20


class Floor:
    """A server, a vendor and workers, and what they have cost so far."""

    def __init__(self, running: Server, env: dict[str, str], folder: Path) -> None:
        self.server, self.env, self._folder = running, env, folder
        self.queue = Queue(running.client)
        ours = {k.removeprefix("BADGES_").lower(): v for k, v in env.items() if k.startswith("BADGES_")}
        self.settings = Settings.load(**ours)
        self.producer = BadgeQueue(settings=self.settings, connection=Connection.open(self.settings))
        self._workers: list[int] = []
        self._first = 0

    @contextmanager
    def workers(self, number: int = payload.PROCESSES) -> Iterator[None]:
        """Run workers while the block lasts."""
        logs = [self._folder / f"cost-{n}.log" for n in range(number)]
        with ExitStack() as stack:
            for n, log in enumerate(logs):
                log.unlink(missing_ok=True)
                command = [sys.executable, *BADGES.worker(n)]
                self._workers.append(stack.enter_context(program(command, self.env, log)).pid)
            wait_until_ready(logs, BADGES.ready, number)
            yield
            self._workers.clear()

    def enqueue(self, items: int, org: str = "default") -> None:
        """Bring in badges that nobody brought before."""
        numbers = range(self._first, self._first + items)
        for first in numbers[::CHUNK]:
            chunk = map(payload.item, numbers[first - self._first :][:CHUNK])
            self.producer.enqueue(chunk, org=org, run="bench")
        self._first += items

    def issued(self, *orgs: str) -> int:
        """Return how many badges these orgs have issued."""
        with self.server.client.pipeline(transaction=False) as pipe:  # a hundred questions would cost as well
            for org in orgs or ("default",):
                pipe.hget(keys.key(org, "stats"), "issued")
            return sum(int(number or 0) for number in pipe.execute())

    def cpu_s(self) -> float:
        """Return what workers and server have used so far."""
        return measure.cpu_s(*self._workers, self.server.pid)

    def rss_mb(self) -> float:
        """Return the workers' memory."""
        return measure.rss_mb(*self._workers)

    def memory(self) -> int:
        """Return what the server uses, in bytes."""
        return int(self.server.client.info("memory")["used_memory"])

    def wait_for(self, issued: int, *orgs: str) -> None:
        """Return when that many were issued."""
        end = time.monotonic() + WITHIN_S
        while self.issued(*orgs) < issued:
            if time.monotonic() > end:
                raise RuntimeError(f"{self.issued(*orgs)} of {issued} issued within {WITHIN_S} s")
            time.sleep(0.01)

    def drain(self, items: int, *orgs: str) -> float:
        """Deliver that many of what waits, and return the microseconds of processor that each took."""
        done, spent = self.issued(*orgs), self.cpu_s()
        for org in orgs or ("default",):
            self.queue.resume(self.settings.org(org))
        self.wait_for(done + items, *orgs)
        return (self.cpu_s() - spent) / (self.issued(*orgs) - done) * 1e6

    def pause(self, *orgs: str) -> None:
        """Let nothing start, so that a backlog can grow."""
        for org in orgs or ("default",):
            self.queue.pause(org, why="operator", reason="benchmark")


@contextmanager
def floor(folder: Path, *, latency_ms: float = 0, **settings: object) -> Iterator[Floor]:
    """Run a server and a vendor while the block lasts."""
    with server() as running, vendor(latency_ms) as (url, _):
        here = Floor(running, environment(running.socket, url, **settings), folder)
        with here.producer:
            yield here


def goals(folder: Path, *, scale: float, say: Callable[[str], None]) -> list[Goal]:
    """Measure all, with ``scale`` times a million jobs."""
    reached = []
    for part in (growth, orgs, latency, idle):
        say(f"cost: {part.__name__}")
        reached += part(folder, scale)
    return reached


def growth(folder: Path, scale: float) -> Iterator[Goal]:
    """A large backlog, and many stored results, cost time per job as little as small ones; and bytes."""
    many = int(MILLION * scale)
    few = min(SMALL, many // 100)
    with floor(folder) as here, floor(folder) as fresh:
        for one in (here, fresh):
            one.enqueue(1000)  # scripts and buffers are there
        with here.workers(), fresh.workers():
            for one in (here, fresh):
                one.wait_for(1000)
            here.pause()
            before = here.memory()
            here.enqueue(many)
            queued = (here.memory() - before) / many
            backlog = _in_turns(lambda: _some_of(here, 2 * few), lambda: _drained(fresh, few))
            here.drain(many // 5)  # until each thread has had its share
            early = here.rss_mb()
            here.wait_for(many + 1000)
            late = here.rss_mb()
            stored = (here.memory() - before) / many
            results = _in_turns(lambda: _drained(here, few), lambda: _drained(fresh, few))
    for what, (large, small) in (("jobs of backlog", backlog), ("stored results", results)):
        words = f"CPU per item, {many:,} {what} against {few:,} ({large:.0f} / {small:.0f} µs)"
        yield at_most(words, large / small, GROWTH, " times")
    yield at_most("Redis per queued job", queued, QUEUED_BYTES, " bytes")
    yield at_most("Redis per stored result", stored, STORED_BYTES, " bytes")
    words = f"workers' memory over {many:,} jobs ({early:.0f} to {late:.0f} MB)"
    yield at_most(words, late / early, RSS_GROWTH, " times")


def _in_turns(*measured: Callable[[], float]) -> list[float]:
    """Measure in turns, so that the machine's mood meets all alike; return the medians."""
    rounds = [[measure() for measure in measured] for _ in range(TURNS)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def _some_of(here: Floor, items: int) -> float:
    """Deliver that many or a few more of what waits, to the end of what was begun."""
    done, spent = here.issued(), here.cpu_s()
    here.drain(items)
    here.pause()
    while here.server.client.zcard(keys.key("default", "inflight")):
        time.sleep(0.01)
    return (here.cpu_s() - spent) / (here.issued() - done) * 1e6


def _drained(here: Floor, items: int, *orgs: str) -> float:
    here.pause(*orgs)
    for org in orgs or ("default",):
        here.enqueue(items // max(1, len(orgs)), org)
    return here.drain(items, *orgs)


def orgs(folder: Path, scale: float) -> Iterator[Goal]:
    """A hundred orgs cost as little per job as one."""
    names = [f"org{n:02}" for n in range(ORGS)]
    orgs_file = folder / "orgs.toml"
    each = max(1, int(MILLION * scale) // (TURNS * ORGS * payload.BATCH)) * payload.BATCH
    with floor(folder) as alone, floor(folder, BADGES_ORGS_FILE=orgs_file) as shared:
        url = shared.env["BADGES_API_BASE_URL"]
        table = f'api_base_url = "{url}"\nrate_limit = "{UNLIMITED}"\nmax_in_flight = 16\n'
        orgs_file.write_text("".join(f"[{name}]\n{table}" for name in names))
        with alone.workers(), shared.workers():
            one, hundred = _in_turns(
                lambda: _drained(alone, ORGS * each), lambda: _drained(shared, ORGS * each, *names)
            )
    yield at_most(
        f"CPU per item, {each:,} jobs in each of {ORGS} orgs, {TURNS} times, against 1 org "
        f"({hundred:.0f} / {one:.0f} µs)",
        hundred / one,
        GROWTH,
        " times",
    )


def latency(folder: Path, scale: float) -> Iterator[Goal]:
    """A lone job waits for the linger and the vendor, and for hardly anything else."""
    singles = max(10, int(SINGLES * min(1, scale)))
    randomness = random.Random(SEED)
    for vendor_ms in (0, 50):
        with (
            floor(folder, latency_ms=vendor_ms, BADGES_BATCH_LINGER_S=LINGER_S) as here,
            here.workers(),
        ):
            waits = sorted(_alone(here, n, randomness) for n in range(singles))
        base = LINGER_S * 1000 + vendor_ms
        words = f"a lone job beyond linger and a vendor of {vendor_ms} ms"
        yield at_most(f"{words}, p50", statistics.median(waits) - base, P50_MS, " ms")
        yield at_most(f"{words}, p99", waits[max(0, round(len(waits) * 0.99) - 1)] - base, P99_MS, " ms")


def _alone(here: Floor, n: int, randomness: random.Random) -> float:
    """Enqueue one job; return the milliseconds until its result was stored, by the server's clock."""
    time.sleep(randomness.uniform(0.02, 0.2))
    began_ms = time.time() * 1000
    here.producer.enqueue([payload.item(n)], run=f"single-{n}")
    here.wait_for(n + 1)
    client = here.server.client
    (job_id,) = client.lrange(keys.key("default", "jobs", f"single-{n}"), 0, -1)
    (record,) = reading.records(client, "default", [job_id])
    return float((record or {})["finished_at"]) - began_ms


def idle(folder: Path, scale: float) -> Iterator[Goal]:
    """A worker with nothing to do costs next to nothing."""
    watched_s = max(5.0, IDLE_S * min(1, scale))
    with floor(folder) as here:
        here.enqueue(100)
        with here.workers(1):
            here.wait_for(100)
            time.sleep(3)
            spent, asked, began = here.cpu_s(), _commands(here), time.monotonic()
            time.sleep(watched_s)
            seconds = time.monotonic() - began
            busy = (here.cpu_s() - spent) / seconds * 100
            commands = (_commands(here) - asked) / seconds
    yield at_most("an idle worker, with its server", busy, IDLE_PERCENT, " % of a core")
    yield at_most("commands of an idle worker, those inside scripts included", commands, IDLE_COMMANDS, "/s")


def _commands(here: Floor) -> int:
    return int(here.server.client.info("stats")["total_commands_processed"])
