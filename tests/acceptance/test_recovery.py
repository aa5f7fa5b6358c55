"""Whatever dies, comes back or is lost: workers go on by themselves, and no badge is lost or doubled."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from faultproxy import FaultProxy
from support import LONG, badges, badges_json, csv_of, process, wait_for
from workplace import Workplace

from worker.config import Settings
from worker.sandbox.issued import Exchange, SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.brokerkeys import DELIVER_QUEUE
from worker.server.connection import Connection
from worker.store import keys
from worker.store.queue import SEND_WINDOW_S

BATCH = 5
TIMEOUT_S = 0.8


class Place(Workplace):
    """One that is looked at closely."""

    places = 4

    def wait_for(self, run: str = "run", *, within_s: float = 60, **states: int) -> None:
        """Wait until a run's jobs are in these states; say in which they are instead."""
        try:
            wait_for(lambda: self.states(run) == Counter(states), within_s=within_s)
        except AssertionError:
            raise AssertionError((self.states(run), self.log()[-3000:])) from None

    def exchanges(self) -> Sequence[Exchange]:
        """Return the calls that the vendor saw."""
        return self.vendor.vendor.ledger().exchanges

    def in_flight(self) -> int:
        """Count the calls that the vendor hasn't answered yet."""
        return sum(exchange.answered_s is None for exchange in self.exchanges())

    def each_once(self, number: int) -> bool:
        """Say whether the vendor issued that many badges, each once."""
        ledger = self.vendor.vendor.ledger()
        return len(ledger.issues) == number and not ledger.issued_more_than_once

    def server_pid(self) -> int:
        """Return the process of the embedded server."""
        return int((self.folder / "data" / "server.pid").read_text())


@pytest.fixture
def place(tmp_path: Path, sandbox: SandboxServer) -> Iterator[Place]:
    """A server of its own, since it is to be tampered with."""
    fast = {"rate_limit": "1000/second", "batch_size": BATCH, "batch_linger_s": 0.1}
    with Place.open(tmp_path, sandbox, **fast) as place:
        yield place


def test_a_worker_killed_in_the_middle_of_a_call(place: Place) -> None:
    """Its place in flight frees at its call's deadline, and its jobs end in doubt when its lease does."""
    faults = ["hang_after"]
    with FaultProxy(place.vendor.url, lambda: faults.pop() if faults else "pass") as proxy:
        env = {
            "BADGES_API_BASE_URL": proxy.url,
            "BADGES_MAX_IN_FLIGHT": "1",
            "BADGES_HTTP_TIMEOUT_S": str(TIMEOUT_S),
        }
        place.bring(2 * BATCH)
        with place.worker(**env) as first:
            wait_for(lambda: place.each_once(BATCH))
            first.kill()
            first.wait()
        with place.worker(**env):
            place.wait_for(sending=BATCH, issued=BATCH)
            one, two = proxy.requests
            assert two.arrived_s - one.arrived_s < SEND_WINDOW_S + TIMEOUT_S + 3
            (batch,) = place.client.zrange(keys.key("default", "leases"), 0, -1)
            place.client.zadd(keys.key("default", "leases"), {batch: 1})  # a minute and a half later
            place.wait_for(issued=BATCH, dead=BATCH)
        assert len(proxy.requests) == 2
    done = badges("results", "--state", "dead", env=place.env).stdout.splitlines()
    errors = [json.loads(line)["error"] for line in done]
    assert {(error["kind"], error["code"]) for error in errors} == {("in_doubt", "lease_expired")}
    assert place.each_once(2 * BATCH)


def test_redis_killed_and_started_again(place: Place) -> None:
    """What was answered is settled, what was queued is there, and workers go on: nothing is even in doubt."""
    place.vendor.vendor.configure(SandboxSettings(latency_s=(0.1, 0.3)))
    place.bring(60 * BATCH)
    with place.worker():
        for killed in (1, 2):
            wait_for(lambda: len(place.exchanges()) >= 15 * killed and place.in_flight())  # noqa: B023
            os.kill(place.server_pid(), signal.SIGKILL)
            wait_for(lambda: not place.in_flight())  # answered while there was nowhere to write it
            assert place.connection.server
            place.connection.server.start()
        place.wait_for(issued=60 * BATCH)
    assert place.each_once(60 * BATCH)


@LONG
def test_redis_out_of_reach_for_ten_seconds(place: Place) -> None:
    """Calls that end meanwhile are settled afterwards, none starts, and within seconds it all goes on."""
    place.vendor.vendor.configure(SandboxSettings(latency_s=(0.5, 0.8)))
    place.bring(20 * BATCH)
    with place.worker():
        wait_for(lambda: place.in_flight() >= 3 and len(place.exchanges()) >= 6)
        pid = place.server_pid()
        os.kill(pid, signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            wait_for(lambda: time.monotonic() > stopped + 10)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert not place.in_flight()
        before = len(place.exchanges())
        # What had its claim when the server was stopped may be sent; after that there is none.
        assert all(exchange.arrived_s < stopped + SEND_WINDOW_S for exchange in place.exchanges())
        wait_for(lambda: len(place.exchanges()) > before)
        place.wait_for(issued=20 * BATCH)
    assert place.each_once(20 * BATCH)


@LONG
def test_redis_full(place: Place) -> None:
    """An import says so, what it accepted stays, calls in flight are settled; given room, all goes on."""
    place.vendor.vendor.configure(SandboxSettings(latency_s=(0.5, 0.6)))
    place.bring(12 * BATCH)
    with place.worker(BADGES_RATE_LIMIT="20/second") as worker:
        wait_for(lambda: place.in_flight() >= 2)
        used = int(place.client.info("memory")["used_memory"])
        place.client.config_set("maxmemory", used + 2_000_000)
        large = csv_of(20_000, first=10_001)
        done = badges("import", "-", "--run", "large", "--no-wait", env=place.env, stdin=large, expect=1)
        assert b"Redis is full" in done.stderr
        assert b"Traceback" not in done.stderr
        place.client.config_set("maxmemory", 1)  # not a byte left, whatever expires
        wait_for(lambda: not place.in_flight())
        answered = BATCH * len(place.exchanges())
        wait_for(lambda: sum(place.states(run)["issued"] for run in ("run", "large")) == answered)
        accepted = sum(place.states("large").values())
        assert 1000 <= accepted < 20_000
        place.client.config_set("maxmemory", 0)
        before = len(place.exchanges())
        wait_for(lambda: len(place.exchanges()) > before)
        place.client.hset(keys.key("default", "gate"), "looked", "at")  # it can be written to again
        place.wait_for(issued=12 * BATCH)
        assert worker.poll() is None
    again = badges_json("import", "-", "--run", "large", env=place.env, stdin=large)
    assert (again["accepted"], again["duplicates"]) == (20_000, 0)
    assert sum(place.states("large").values()) == 20_000
    assert place.states("large")["dead"] == place.states()["dead"] == 0
    assert not place.vendor.vendor.ledger().issued_more_than_once


def test_a_broker_that_loses_its_messages(place: Place) -> None:
    """Every message lost, again and again, and every hint as well: the sweep finds what there is to do."""
    place.vendor.vendor.configure(SandboxSettings(latency_s=(0.05, 0.1)))
    with place.worker():
        place.bring(40 * BATCH)
        for issued in (5, 50, 100):
            wait_for(lambda: place.states()["issued"] >= issued)  # noqa: B023
            place.client.delete(DELIVER_QUEUE, "celery", "unacked", "unacked_index", "unacked_mutex")
            place.client.delete(keys.WAKE, keys.BELL)
        place.wait_for(issued=40 * BATCH)
    assert place.each_once(40 * BATCH)


def test_messages_that_come_twice_or_late(place: Place) -> None:
    """A hundred deliveries too many, some hours old: no badge twice, and no call above the limit."""
    with Celery(broker=place.connection.broker_url) as stranger, place.worker(BADGES_RATE_LIMIT="20/second"):

        def send(times: int) -> None:
            for n in range(times):
                seen = str(int(time.time() * 1000) - 3_600_000) if n % 2 else ""
                stranger.send_task("badges.deliver", args=["default", seen], queue=DELIVER_QUEUE)

        send(50)
        place.bring(40 * BATCH)
        send(50)
        place.wait_for(issued=40 * BATCH)
        send(10)
        wait_for(lambda: place.client.llen(DELIVER_QUEUE) == 0)
        place.bring(1, run="late", first=9001)
        place.wait_for("late", issued=1)
    assert place.each_once(40 * BATCH + 1)
    arrived = sorted(exchange.arrived_s for exchange in place.exchanges())
    # How exactly is test_pace.py's: calls of messages too many would halve these.
    assert all(last - first >= 0.8 for first, last in zip(arrived, arrived[20:], strict=False))
    assert len(arrived) == 41


def test_a_broker_that_is_away(place: Place, tmp_path: Path) -> None:
    """Calls in flight are finished and settled, and none is claimed and forgotten; it goes on afterwards."""
    place.vendor.vendor.configure(SandboxSettings(latency_s=(0.2, 0.4)))
    place.bring(60 * BATCH)
    with (
        Connection.open(Settings(data_dir=tmp_path / "broker")) as broker,
        place.worker(BADGES_BROKER_URL=broker.broker_url),
    ):
        wait_for(lambda: len(place.exchanges()) >= 8 and place.in_flight())
        os.kill(int((tmp_path / "broker" / "server.pid").read_text()), signal.SIGKILL)
        wait_for(lambda: not place.in_flight() and not place.states()["sending"])
        assert broker.server
        broker.server.start()
        place.wait_for(issued=60 * BATCH)
    assert place.each_once(60 * BATCH)


def test_the_same_file_from_two_processes_and_after_a_crash(place: Place) -> None:
    """Imported twice at once, once more by one that is killed half-way, and again: each badge once."""
    number = 4000
    file = place.folder / "rows.csv"
    file.write_bytes(csv_of(number))

    def importer(run: str) -> Any:
        command = [sys.executable, "-m", "worker.cli", "import", file, "--run", run, "--json"]
        return process(command, env=place.env, log=place.folder / run)

    with importer("killed") as killed:
        wait_for(lambda: place.states("killed")["queued"] >= 1000)
        killed.kill()
    with importer("one") as one, importer("two") as two:
        assert [one.wait(60), two.wait(60)] == [0, 0]
    said = [json.loads((place.folder / run).read_text().splitlines()[-1]) for run in ("one", "two")]
    accepted = [sum(place.states(run).values()) for run in ("killed", "one", "two")]
    assert sum(accepted) == number
    assert [run["accepted"] for run in said] == accepted[1:]
    assert all(run["accepted"] + run["duplicates"] == number for run in said)
    again = badges_json("import", file, "--run", "killed", env=place.env)
    assert (again["accepted"], again["duplicates"]) == (accepted[0], number - accepted[0])
    with place.worker(BADGES_BATCH_SIZE="500"):
        wait_for(lambda: sum(place.states(run)["issued"] for run in ("killed", "one", "two")) == number)
    assert place.each_once(number)
