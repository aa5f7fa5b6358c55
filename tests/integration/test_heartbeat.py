"""The sign of life ends with what is stuck, and with nothing else."""

from __future__ import annotations

import math
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import redis
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError

from worker.config import Settings
from worker.process.heartbeat import Heartbeat
from worker.process.timing import USUAL
from worker.server.health import Answering

PLACES = 2
LONGEST_S = 2 * 30 + 600 + 120
LOOP_STUCK_S, TASK_STUCK_S = USUAL.loop_stuck_s, USUAL.task_stuck_s


class Redis:
    """Answers, or doesn't."""

    away = False

    def set_retry(self, _: object) -> None:
        """Take it."""

    def ping(self) -> None:
        """Answer."""
        if self.away:
            raise RedisConnectionError


class Life:
    """A heartbeat, and its clock in our hands."""

    def __init__(self) -> None:
        self.now, self.redis = 1000.0, Redis()
        self.running: list[SimpleNamespace] = []
        self.heart = Heartbeat(
            Settings(),
            Answering(lambda: cast(redis.Redis, self.redis)),
            places=PLACES,
            running=self.running,
            clock=lambda: self.now,
        )
        self.heart.start = lambda: None  # type: ignore[method-assign]

    def after(self, seconds: float = 0) -> list[str]:
        """Say what is stuck after so long, looked at about as often as it is in truth."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 20)
            self.heart.look()
        return list(self.heart.stuck())

    def runs(self, name: str, count: int = 1) -> None:
        """Let tasks begin."""
        self.running += [SimpleNamespace(id=str(len(self.running) + n), name=name) for n in range(count)]
        self.after(0.1)


@pytest.fixture
def life() -> Life:
    """A heartbeat that has looked once."""
    made = Life()
    made.after(0.1)
    return made


def test_a_loop_that_does_not_turn(life: Life) -> None:
    """Is stuck after its time, and no more once it turns."""
    turned: dict[str, float] = {"consumer": life.now, "wake-up": math.inf}
    life.heart.watch({name: lambda name=name: turned[name] for name in turned})  # type: ignore[misc]
    assert not life.after(LOOP_STUCK_S)
    assert life.after(1) == ["the consumer loop"]
    turned["consumer"] = life.now
    assert not life.after(1)


def test_a_worker_that_connects_anew(life: Life) -> None:
    """Takes whatever time it takes."""
    life.heart.watch({})
    assert not life.after(LOOP_STUCK_S * 10)


def test_a_delivery_beyond_its_deadlines(life: Life) -> None:
    """One is enough: its jobs have been given up, and nothing in the program explains it."""
    life.runs("badges.deliver")
    assert not life.after(LONGEST_S - 1)
    assert life.after(2) == ["badges.deliver 0"]
    life.running.clear()
    assert not life.after(1)


def test_a_long_task_is_not_stuck_but_a_full_pool_is(life: Life) -> None:
    """A replay of a million may take its time as long as it leaves a place to others."""
    life.runs("badges.replay")
    assert not life.after(TASK_STUCK_S * 2)
    life.runs("badges.enqueue")
    assert not life.after(TASK_STUCK_S - 1)
    assert life.after(2) == ["every place of the pool"]


@pytest.mark.parametrize("outage_s", [60, 7200])
def test_an_outage_explains_everything(life: Life, outage_s: float) -> None:
    """While Redis is away nothing is stuck; after it each has its whole time anew."""
    life.runs("badges.deliver", PLACES)
    turned_at = life.now
    life.heart.watch({"consumer": lambda: turned_at})
    life.after(LOOP_STUCK_S - 20)
    life.redis.away = True
    assert not life.after(outage_s)
    life.redis.away = False
    assert not life.after(LOOP_STUCK_S)
    assert life.after(21) == ["the consumer loop"]


def test_the_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: redis.Redis) -> None:
    """The file is touched, systemd hears of it; a predecessor's file counts for nothing."""
    file = tmp_path / "alive"
    file.write_text("a predecessor's")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        heart = Heartbeat(Settings(heartbeat_file=file), Answering(lambda: client), places=1)
        assert not file.exists()
        heart.look()
        assert not list(heart.stuck())
        heart.beat()
        assert systemd.recv(100) == b"READY=1\nWATCHDOG=1"
        assert file.exists()


def test_a_sign_that_cannot_be_given_is_said_seldom(tmp_path: Path, client: redis.Redis) -> None:
    """The disk may be full for hours; once it can be given, the next failure is told at once."""
    file = tmp_path / "gone" / "alive"
    heart = Heartbeat(Settings(heartbeat_file=file), Answering(lambda: client), places=1)
    with structlog.testing.capture_logs() as said:
        for _ in range(16):
            heart.beat()
    assert [line["times"] for line in said] == [1, 2, 4, 8, 16]
    file.parent.mkdir()
    heart.beat()
    file.unlink()
    file.parent.rmdir()
    with structlog.testing.capture_logs() as said:
        heart.beat()
    assert [line["event"] for line in said] == ["heartbeat.failed"]
