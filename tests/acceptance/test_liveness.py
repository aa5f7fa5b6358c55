"""The image's health check finds a worker in which something is stuck, and no worker that only waits."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import BADGE, LONG, PROGRAMS, badges, badges_json, environment, process, some, wait_for

from worker.badge_queue import BadgeQueue
from worker.config import Settings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection

DOCKERFILE = Path(__file__).parents[2] / "deploy/Dockerfile"
OLD_S = 70
SHORT_WORKER = PROGRAMS / "short_worker.py"


@dataclass
class Place:
    """A server of its own, a vendor, and the sign of life of one worker."""

    connection: Connection
    env: dict[str, str]
    file: Path
    log: Path

    @contextmanager
    def worker(self, fault: str = "none") -> Iterator[subprocess.Popen[bytes]]:
        """Run a worker of short patience until it gives its sign of life; with a fault in it, maybe."""
        command = [sys.executable, SHORT_WORKER, fault, "worker", "--concurrency", 2]
        with process(command, env=self.env, log=self.log) as running:
            wait_for(self.healthy, within_s=60, what="the first sign of life")
            yield running
            running.send_signal(signal.SIGCONT)
            if fault != "none":  # a thread that hangs can't be drained
                running.kill()

    def healthy(self) -> bool:
        """Run the health check of the image."""
        check = re.findall(r"HEALTHCHECK .*\\\n +CMD (\[.*\])", DOCKERFILE.read_text())[0]
        done = subprocess.run(json.loads(check), env=self.env, timeout=5, check=False, capture_output=True)
        return done.returncode == 0

    def age(self) -> bool:
        """Make the last sign so old that the health check fails; False if another came meanwhile."""
        then = time.time() - OLD_S
        os.utime(self.file, (then, then))
        return not self.healthy()

    def bring(self) -> None:
        """Enqueue some badges."""
        queue = BadgeQueue(settings=Settings(), connection=self.connection)
        assert queue.enqueue([{"badgeMetaId": BADGE, "customerId": n} for n in range(1, 5)]).accepted == 4


@pytest.fixture
def place(tmp_path: Path, sandbox: SandboxServer) -> Iterator[Place]:
    """An empty server that may be stopped."""
    file = tmp_path / "alive"
    with Connection.open(Settings(data_dir=tmp_path / "data")) as connection:
        env = environment(
            redis_url=connection.url,
            api_base_url=sandbox.url,
            heartbeat_file=file,
            batch_linger_s=0,
            http_timeout_s=1,
        )
        yield Place(connection, env, file, tmp_path / "worker.log")


def test_a_suspended_worker_is_found(place: Place) -> None:
    """It refreshes nothing, and the sign of life grows old; let go, it is well again."""
    with place.worker() as running:
        running.send_signal(signal.SIGSTOP)
        wait_for(place.age)
        time.sleep(2)  # several beats
        assert not place.healthy()
        running.send_signal(signal.SIGCONT)
        wait_for(place.healthy)


@pytest.mark.parametrize(
    ("fault", "said"),
    some(
        [("pool", "badges.deliver "), ("wake-up", "the wake-up loop"), ("consumer", "the consumer loop")], 1
    ),
)
def test_a_stuck_worker_is_found(place: Place, fault: str, said: str) -> None:
    """A pool whose calls never end, a wake-up thread that hangs, a consumer that does."""
    with place.worker(fault):
        place.bring()
        wait_for(lambda: "worker.stuck" in place.log.read_text(), within_s=60)
        wait_for(place.age)
        time.sleep(1)  # two beats
        assert not place.healthy()
    assert said in place.log.read_text()


@pytest.mark.parametrize(("fault", "thread"), [("dies", "wake-up"), ("heartbeat-dies", "heartbeat")])
def test_no_thread_dies_alone(place: Place, fault: str, thread: str) -> None:
    """One without which nothing is delivered, or watched, takes the worker with it: exit status 1."""
    command = [sys.executable, SHORT_WORKER, fault, "worker", "--concurrency", 2]
    with process(command, env=place.env, log=place.log) as running:
        assert running.wait(60) == 1
    (line,) = [line for line in place.log.read_text().splitlines() if "worker.thread_failed" in line]
    assert json.loads(line)["thread"] == thread
    assert "Traceback" not in place.log.read_text()


def test_an_unrecoverable_end_is_a_failure(place: Place) -> None:
    """Celery's own says so in its log alone."""
    command = [sys.executable, SHORT_WORKER, "unrecoverable", "worker", "--concurrency", 2]
    with process(command, env=place.env, log=place.log) as running:
        assert running.wait(60) == 1
    assert "Unrecoverable error" in place.log.read_text()


@LONG
def test_a_worker_that_waits_is_well(place: Place) -> None:
    """Whether the org is paused, Redis hangs, or Redis is away: it gives its sign all along, and goes on."""
    with place.connection.client() as client:
        server = client.info("server")["process_id"]
    with place.worker():
        badges("pause", env=place.env)
        place.bring()
        time.sleep(5)  # longer than anything may be stuck here
        wait_for(place.age)
        wait_for(place.healthy)
        os.kill(server, signal.SIGSTOP)
        try:
            wait_for(place.age)
            wait_for(place.healthy, within_s=60)
        finally:
            os.kill(server, signal.SIGCONT)
        badges("resume", env=place.env)
        wait_for(lambda: badges_json("status", env=place.env)[0]["queued"] == 0)
        wait_for(place.age)
        wait_for(place.healthy)
    assert "worker.stuck" not in place.log.read_text()
