"""The stage: a fresh server, a fresh vendor, a contender's workers; one performance, measured.

The server is the project's own embedded one, the same for all: append-only file, ``appendfsync always``,
over its unix socket. Whatever is started here is ended here, by its pid.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import measure
import payload
import redis
from rivals import PROGRAMS, Contender

from worker.server.embedded import EmbeddedServer

WARM_UP = 400
READY_WITHIN_S = 60
POLL_S = 0.01
PATH = "/api_gateway/v1/badges/import/customerBadges"
# As good as none: more than any of this could send.
UNLIMITED = "1000000/minute"


@dataclass(frozen=True, slots=True)
class Performance:
    """What one run of a contender took."""

    contender: str
    latency_ms: float
    items: int
    seconds: float
    enqueue_s: float
    cpu_s: dict[str, float]  # producer, workers, redis; and the vendor, which is nobody's
    requests: int
    rss_mb: float
    complete: bool
    commands: dict[str, Any] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Items stored per second, from the first enqueued to the last result."""
        return self.items / self.seconds

    @property
    def per_cpu_second(self) -> float:
        """Items per second of processor, of producer, workers and server together."""
        return self.items / max(0.01, sum(s for who, s in self.cpu_s.items() if who != "vendor"))

    @property
    def enqueued_per_second(self) -> float:
        """Items handed in per second."""
        return self.items / self.enqueue_s


@dataclass(frozen=True, slots=True)
class Server:
    """A running Redis."""

    socket: Path
    pid: int
    client: redis.Redis


@contextmanager
def server() -> Iterator[Server]:
    """Run a fresh server while the block lasts."""
    with (
        TemporaryDirectory(prefix="badges-bench-") as folder,
        EmbeddedServer(data_dir=Path(folder)) as running,
    ):
        pid = int((Path(folder) / "server.pid").read_text())
        with redis.Redis.from_url(running.url, decode_responses=True, protocol=2) as client:
            yield Server(running.socket_path, pid, client)


@contextmanager
def program(
    command: Sequence[str], env: dict[str, str], log: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a program while the block lasts; without a log, its output can be read."""
    with ExitStack() as stack:
        out: Any = stack.enter_context(log.open("a")) if log else subprocess.PIPE
        running = subprocess.Popen(
            command, env=env, cwd=PROGRAMS, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT if log else None, text=True,
        )  # fmt: skip
        try:
            yield running
        finally:
            _end(running)
            if running.stdout:
                running.stdout.close()


def _end(running: subprocess.Popen[str]) -> None:
    family = measure.tree(running.pid)
    running.terminate()
    try:
        running.wait(15)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
    for pid in family[1:]:
        if measure.tree(pid) and Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)


@contextmanager
def vendor(*latency_ms: float) -> Iterator[tuple[str, int]]:
    """Run a fresh vendor; yields its base URL and its pid."""
    command = [sys.executable, str(PROGRAMS.parent / "stub.py"), "--latency-ms", *map(str, latency_ms)]
    with program(command, dict(os.environ)) as running:
        assert running.stdout
        yield f"http://127.0.0.1:{running.stdout.readline().strip()}", running.pid


def books(url: str) -> dict[str, Any]:
    """Ask the vendor what it was asked for."""
    with urllib.request.urlopen(url + "/", timeout=10) as answer:  # noqa: S310 - loopback
        totals: dict[str, Any] = json.load(answer)
    return totals


def environment(redis_socket: Path, vendor_url: str, **more: object) -> dict[str, str]:
    """Return what contenders are told; ``BADGES_*`` is what a user of this project would set."""
    others = {k: v for k, v in os.environ.items() if not k.startswith(("BADGES_", "BENCH_"))}
    ours = {
        "BENCH_SOCKET": redis_socket,
        "BENCH_FIRST": 0,
        "BENCH_VENDOR": vendor_url + PATH,
        "BENCH_BATCH": payload.BATCH,
        "BENCH_PROCESSES": payload.PROCESSES,
        "BENCH_CONCURRENCY": payload.CONCURRENCY,
        "BADGES_REDIS_URL": f"unix://{redis_socket}?db=0",
        "BADGES_API_BASE_URL": vendor_url,
        "BADGES_RATE_LIMIT": UNLIMITED,
        "BADGES_BATCH_SIZE": payload.BATCH,
        "BADGES_MAX_IN_FLIGHT": payload.PROCESSES * payload.CONCURRENCY,
        "PYTHONPATH": os.pathsep.join([str(PROGRAMS), str(PROGRAMS.parent), others.get("PYTHONPATH", "")]),
    }
    return others | {name: str(value) for name, value in (ours | more).items()}


def wait_until_ready(logs: Sequence[Path], words: str, times: int) -> None:
    """Return once the logs say so that often.

    Raises:
        RuntimeError: they don't within a minute.
    """
    end = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < end:
        if sum(log.read_text(errors="replace").count(words) for log in logs if log.exists()) >= times:
            return
        time.sleep(0.05)
    last = "\n".join(log.read_text(errors="replace")[-2000:] for log in logs if log.exists())
    raise RuntimeError(f"the workers aren't ready within {READY_WITHIN_S} s:\n{last}")


def perform(
    contender: Contender,
    interpreter: list[str],
    *,
    items: int,
    latency_ms: float,
    limit_s: float,
    folder: Path,
    calls: int = payload.CONCURRENCY,
) -> Performance:
    """Run one contender once, from an empty server to its last result, or to the end of its time.

    Each of its processes may have ``calls`` under way at once.
    """
    logs = [folder / f"{contender.name}-{n}.log" for n in range(contender.workers)]
    with ExitStack() as stack:
        redis_server = stack.enter_context(server())
        url, vendor_pid = stack.enter_context(vendor(latency_ms))
        env = environment(
            redis_server.socket,
            url,
            BENCH_NODE_MODULES=folder / "node" / "node_modules",
            BENCH_CONCURRENCY=calls,
            BADGES_MAX_IN_FLIGHT=payload.PROCESSES * calls,
        )
        workers, produce = [], [*interpreter, *contender.produce]
        for n, log in enumerate(logs):
            log.unlink(missing_ok=True)
            if contender.work:
                command = interpreter + contender.worker(n, calls)
                workers.append(stack.enter_context(program(command, env, log)).pid)
        if workers:
            wait_until_ready(logs, contender.ready, contender.readies)
            said_by(produce, env | {"BENCH_ITEMS": str(WARM_UP)}, READY_WITHIN_S)
            _wait(contender, redis_server.client, WARM_UP, time.time() + READY_WITHIN_S)
        who = {"workers": workers, "redis": [redis_server.pid], "vendor": [vendor_pid]}
        before = {name: measure.cpu_s(*pids) for name, pids in who.items()}
        redis_server.client.config_resetstat()
        asked_before = books(url)["requests"]
        env |= {"BENCH_FIRST": str(WARM_UP), "BENCH_ITEMS": str(items)}
        made = said_by(produce, env, limit_s + READY_WITHIN_S)
        end_at, done = made["began_at"] + made["elapsed_s"], items
        if workers:
            done = (
                _wait(contender, redis_server.client, WARM_UP + items, made["began_at"] + limit_s) - WARM_UP
            )
            end_at = time.time()
        after = {name: measure.cpu_s(*pids) for name, pids in who.items()}
        totals = books(url)
        if done >= items and not totals["different"] == totals["items"] == items + (
            WARM_UP if workers else 0
        ):
            raise RuntimeError(f"{contender.name} didn't deliver each item once: {totals}")
        return Performance(
            contender.name,
            latency_ms,
            done,
            end_at - made["began_at"],
            made["elapsed_s"],
            {"producer": made["cpu_s"]} | {name: after[name] - before[name] for name in who},
            totals["requests"] - asked_before,
            measure.rss_mb(*workers),
            done >= items,
            redis_server.client.info("commandstats"),
        )


def said_by(command: Sequence[str], env: dict[str, str], limit_s: float) -> dict[str, float]:
    """Run a producer to its end, and return what it says of itself."""
    done = subprocess.run(
        command, env=env, cwd=PROGRAMS, capture_output=True, text=True, timeout=limit_s, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


def _wait(contender: Contender, client: redis.Redis, target: int, until: float) -> int:
    """Wait for that many results, or until that time; return how many there are."""
    while (done := contender.done(client)) < target and time.time() < until:
        time.sleep(POLL_S)
    return done
