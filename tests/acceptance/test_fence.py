"""What may not be sent isn't: too late, not durable, or told to stop. Real workers, really stopped."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from faultproxy import FaultProxy
from support import badges_json, configured, item, some, wait_for
from workplace import Workplace

from worker.domain.org import Org
from worker.errors import NotDurable
from worker.operate.runs import JobReader
from worker.sandbox.issued import SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.store import keys
from worker.store.clock import steady_s
from worker.store.queue import SEND_WINDOW_S, Queue

ROWS = 5


class Doorstep:
    """A port where a connection hangs while it is being made, until ``open`` hands over to a listener.

    Its backlog is full, so that the kernel answers no further attempt; the client's own repeats its own.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port = self._listener.getsockname()[1]
        self._fillers: list[socket.socket] = []
        while self._fill():
            pass

    def _fill(self) -> bool:
        filler = socket.socket()
        self._fillers.append(filler)
        filler.settimeout(0.2)
        try:
            filler.connect(("127.0.0.1", self.port))
        except TimeoutError:
            return False
        return True

    def wait_for_somebody(self) -> None:
        """Return once another process tries to connect: its attempt is half-open in the kernel's table."""
        mine = {filler.getsockname()[1] for filler in self._fillers}
        wait_for(lambda: _connecting_to(self.port) - mine, what="an attempt to connect")

    def open(self) -> socket.socket:
        """Let everybody in; returns the listener."""
        for filler in self._fillers:
            filler.close()
        self._listener.listen(100)
        return self._listener

    def close(self) -> None:
        """Close what is still open."""
        for its in (*self._fillers, self._listener):
            its.close()


def _connecting_to(port: int) -> set[int]:
    """Return the local ports of the attempts to connect there (SYN_SENT in the kernel's table)."""
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return {
        int(line[1].rpartition(":")[2], 16)
        for line in lines
        if line[3] == "02" and int(line[2].rpartition(":")[2], 16) == port
    }


class Place(Workplace):
    """One with an org of small batches."""

    @property
    def org(self) -> Org:
        """The org, as the worker knows it."""
        return configured(batch_size=ROWS, max_in_flight=4)

    @property
    def queue(self) -> Queue:
        """The queue, as the worker uses it."""
        return Queue(self.client)

    def rows(self) -> list[dict[str, Any]]:
        """Return the jobs as ``badges results`` tells them."""
        return list(JobReader(client=self.client, orgs={"default": self.org}).results(run="run"))


@pytest.fixture
def place(tmp_path: Path, sandbox: SandboxServer) -> Iterator[Place]:
    """A server of its own, since it is to be tampered with."""
    with Place.open(tmp_path, sandbox, rate_limit="1000/second", batch_size=ROWS, batch_linger_s=0) as place:
        yield place


def give_up_leases(place: Place) -> None:
    """Do what the passing of two minutes does, and let a claim notice it."""
    for name in ("leases", "inflight"):
        for batch in place.client.zrange(keys.key("default", name), 0, -1):
            place.client.zadd(keys.key("default", name), {batch: 1})
    place.queue.claim(place.org, "gives-up")


# Stopped between claim and send


def stop_before_sending(doorstep: Doorstep, worker: subprocess.Popen[bytes]) -> socket.socket:
    """Stop a worker after its claim and before its first byte, until its time to send is over.

    Its connection stands by then, and it doesn't know that yet. Returns what it is connected to.
    """
    doorstep.wait_for_somebody()
    worker.send_signal(signal.SIGSTOP)
    over = steady_s() + SEND_WINDOW_S + 0.1
    listener = doorstep.open()
    wait_for(lambda: not _connecting_to(doorstep.port))
    wait_for(lambda: steady_s() > over)
    return listener


@contextmanager
def doorstep() -> Iterator[Doorstep]:
    """Make one, and close it."""
    made = Doorstep()
    try:
        yield made
    finally:
        made.close()


def test_a_worker_that_was_stopped_sends_nothing_late(place: Place) -> None:
    """Stopped between claim and send until its lease is gone: it sends nothing; all is issued once."""
    with doorstep() as step, place.worker(BADGES_API_BASE_URL=f"http://127.0.0.1:{step.port}") as worker:
        place.bring(ROWS)
        listener = stop_before_sending(step, worker)
        assert place.states() == {"sending": ROWS}
        place.queue.pause("default", why="operator", reason="test")
        give_up_leases(place)
        assert place.states() == {"dead": ROWS}
        with FaultProxy(place.vendor.url, listener=listener) as proxy:
            worker.send_signal(signal.SIGCONT)
            # In doubt from this very batch; its holder knows better, and puts them back.
            wait_for(lambda: place.states() == {"queued": ROWS})
            assert "batch.too_late" in place.log()
            assert proxy.requests == []
            assert place.issued() == {}
            assert {row["attempts"] for row in place.rows()} == {0}
            assert place.queue.resume(place.org)
            wait_for(lambda: place.states() == {"issued": ROWS})
            assert proxy.sizes == [ROWS]
    assert place.issued() == dict.fromkeys(range(1, ROWS + 1), 1)


def test_a_worker_that_was_stopped_disturbs_no_other(place: Place) -> None:
    """Given up, replayed and issued by another meanwhile: the one that wakes up sends and changes nothing."""
    with doorstep() as step, place.worker(BADGES_API_BASE_URL=f"http://127.0.0.1:{step.port}") as worker:
        place.bring(ROWS)
        listener = stop_before_sending(step, worker)
        give_up_leases(place)
        with place.worker():
            assert badges_json("dead", "replay", env=place.env)["replayed"] == 0  # not unless it is said
            said = badges_json("dead", "replay", "--kind", "in_doubt", "--may-issue-twice", env=place.env)
            assert said["replayed"] == ROWS
            wait_for(lambda: place.states() == {"issued": ROWS})
        before = place.rows()
        with FaultProxy(place.vendor.url, listener=listener) as proxy:
            worker.send_signal(signal.SIGCONT)
            wait_for(lambda: "batch.too_late" in place.log())
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(20) == 0
            assert proxy.requests == []
    assert place.rows() == before
    assert place.states() == {"issued": ROWS}
    assert place.issued() == dict.fromkeys(range(1, ROWS + 1), 1)


def test_a_late_connection_sends_within_its_window(place: Place) -> None:
    """A connection that takes a moment, but less than the window, is no reason not to send."""
    with doorstep() as step, place.worker(BADGES_API_BASE_URL=f"http://127.0.0.1:{step.port}"):
        place.bring(ROWS)
        step.wait_for_somebody()
        with FaultProxy(place.vendor.url, listener=step.open()) as proxy:
            wait_for(lambda: place.states() == {"issued": ROWS})
            assert proxy.sizes == [ROWS]
    assert place.issued() == dict.fromkeys(range(1, ROWS + 1), 1)


# A claim that can't be made durable


def test_what_is_not_durable_is_not_sent(place: Place) -> None:
    """A server that doesn't bring the claim to disk in time: nothing is sent, all goes back, for later."""
    place.queue.pause("default", why="operator", reason="test")
    place.bring(ROWS)
    place.client.config_set("appendfsync", "no")  # what was written is on disk some day
    with place.worker():
        place.queue.resume(place.org)
        wait_for(lambda: place.log().count("claim.failed") >= 2)  # claimed, given back, claimed again
        assert "claim is on disk" in place.log()
        assert place.vendor.vendor.ledger().exchanges == ()
        assert place.states() <= Counter(queued=ROWS, sending=ROWS)
        place.client.config_set("appendfsync", "always")
        wait_for(lambda: place.states() == {"issued": ROWS})
    assert place.issued() == dict.fromkeys(range(1, ROWS + 1), 1)
    assert {row["attempts"] for row in place.rows()} == {1}


def test_what_is_not_durable_is_not_accepted(place: Place) -> None:
    """What can't be made durable isn't called accepted; asked again, it is the same acceptance."""
    ask = {"run": "run", "items": [item()], "call": "a-call"}
    place.client.config_set("appendfsync", "no")
    with pytest.raises(NotDurable, match="on disk"):
        place.queue.enqueue(place.org, **ask)
    place.client.config_set("appendfsync", "always")
    assert place.queue.enqueue(place.org, **ask) == list("a")
    assert place.states() == {"queued": 1}


# Told to stop


@pytest.mark.parametrize("pool", some(["threads", "prefork"], 1))
def test_sigterm_drains(place: Place, pool: str) -> None:
    """A normal deploy: no further call starts, what is in flight is finished and settled."""
    place.vendor.vendor.configure(SandboxSettings(latency_s=(1.0, 1.2)))
    place.bring(20 * ROWS)
    with place.worker("--pool", pool) as worker:

        def in_flight() -> int:
            return sum(e.answered_s is None for e in place.vendor.vendor.ledger().exchanges)

        wait_for(lambda: in_flight() == 2)
        told = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0, place.log()
    exchanges = place.vendor.vendor.ledger().exchanges
    assert all(exchange.answered_s for exchange in exchanges)
    assert max(exchange.arrived_s for exchange in exchanges) < told + 3
    assert len(exchanges) < 20, "it drains what is in flight, not the queue"
    issued = ROWS * len(exchanges)
    assert place.states() == {"issued": issued, "queued": 20 * ROWS - issued}
    assert place.client.zcard(keys.key("default", "leases")) == 0
    assert set(place.issued().values()) == {1}
