"""A turn asks for company and notes when to look, no more often than is of use; and who has the next one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from support import configured

from worker.delivery import Delivered
from worker.domain.batch import Batch, Due, Sent, Settled, Wait
from worker.domain.outcome import Signal, Verdict
from worker.errors import DeliveryFailed
from worker.process import tasks

ORG = configured()
SEEN = "1700000002000"


class Bench:
    """A turn with a scripted delivery; what it asks of the queue."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks: list[int] = []
        monkeypatch.setattr(tasks, "app", SimpleNamespace(conf={}))

    def hint(self, org: str, at_ms: int) -> None:
        """Be told when to look again."""
        assert org == ORG.name
        self.looks.append(at_ms)

    def turn(self, *steps: Batch | Settled, seen: str = SEEN) -> Delivered | Wait:
        """Claim and settle a batch for each two steps, then find nothing more."""
        remaining = iter(steps)

        def deliver(_: Any, *, go_on: Callable[[Batch | Settled], None]) -> Delivered | Wait:
            return self._deliver(remaining, go_on)

        here: Any = SimpleNamespace(queue=self, delivery=SimpleNamespace(deliver=deliver))
        return tasks._turn(here, ORG, [], alone=True, seen=seen)  # noqa: SLF001 - what is tested

    @staticmethod
    def _deliver(steps: Iterator[Batch | Settled], go_on: Callable[[Batch | Settled], None]) -> Any:
        batch = next(steps, None)
        if batch is None:
            return Wait("idle", -1)
        go_on(batch)
        settled = next(steps)
        go_on(settled)
        return Delivered(ORG.name, batch, Verdict((), Signal.OK), Sent("201", 1), settled)  # type: ignore[arg-type]


def claimed(*, more: bool, look_at_ms: int = -1) -> Batch:
    """Return a batch, and whether another may start beside it, or else when."""
    return Batch("b", (), 0.0, more=more, look_at_ms=look_at_ms)


def settled(*, more: bool = True, look_at_ms: int = -1) -> Settled:
    """Return a settlement, and whether the next batch may start, or else when."""
    return Settled(1, 0, 0, 0, 0, more=more, look_at_ms=look_at_ms)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A turn whose queue only listens."""
    return Bench(monkeypatch)


def test_a_turn_asks_for_another_delivery_beside_it_once(bench: Bench) -> None:
    """Which asks for the next: a question for each batch would be a round trip between claim and PUT."""
    assert bench.turn(*[claimed(more=True, look_at_ms=17), settled()] * 5) == Wait("idle", -1)
    assert bench.looks == [17]


def test_a_turn_asks_again_after_a_while(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it asked for may be over by then."""
    began = time.monotonic()
    clock = (began + n * tasks.ASK_AGAIN_S / 4 for n in range(100))
    monkeypatch.setattr(tasks, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    bench.turn(*[claimed(more=True), settled()] * 5)
    assert 1 < len(bench.looks) < 5


def test_a_claimed_batch_notes_a_look_only_if_nobody_looks_by_then(bench: Bench) -> None:
    """The next slot of the limit may come long before this call's end; the lease's end, long after."""
    earlier, later = int(SEEN) - 1, int(SEEN)
    bench.turn(
        claimed(more=False, look_at_ms=earlier), settled(), claimed(more=False, look_at_ms=later), settled()
    )
    assert bench.looks == [earlier]
    bench.turn(claimed(more=False, look_at_ms=later), settled(), seen="")
    assert bench.looks == [earlier, later]


def test_a_settlement_always_notes_its_look(bench: Bench) -> None:
    """It knows of retries that nobody who looked before could see."""
    bench.turn(claimed(more=True, look_at_ms=17), settled(more=False, look_at_ms=int(SEEN) + 5))
    assert bench.looks == [17, int(SEEN) + 5]


@pytest.mark.parametrize("seen", ["abc", 17, None, "1e13", "-1", "²"])
def test_a_message_that_says_nonsense_ends_no_turn(bench: Bench, seen: Any) -> None:
    """Anybody may put anything into the queue."""
    bench.turn(claimed(more=False, look_at_ms=int(SEEN)), settled(), seen=seen)
    assert bench.looks in ([], [int(SEEN)])


# -- the line


class Line:
    """Orgs that stand in line, each with what its turn ends in; what a delivery asks of the queue."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *turns: tuple[str, Delivered | Wait], orgs: int = 2
    ) -> None:
        self.turns = dict(turns)
        self.waiting = [org for org, _ in turns][1:]
        self.handed_on = 0
        settings = SimpleNamespace(orgs=lambda: dict.fromkeys(range(orgs)))
        here = SimpleNamespace(queue=self, settings=settings)
        self.conf: dict[str, Any] = {}
        monkeypatch.setattr(tasks, "app", SimpleNamespace(conf=self.conf))
        monkeypatch.setattr(tasks, "services", lambda: here)
        monkeypatch.setattr(tasks, "_serve", self._serve)
        monkeypatch.setattr(tasks, "send_due", self._send_due)

    def begin(self, org: str, *, seen: str) -> bool:
        """Say that no other delivery began."""
        return bool(org and seen)

    def take_next(self, *, ahead_ms: int) -> Due | None:
        """Give whoever stands first."""
        assert ahead_ms == tasks.AHEAD_MS
        return Due(self.waiting.pop(0), SEEN) if self.waiting else None

    def deliver(self) -> dict[str, Any]:
        """Begin with the first."""
        counts: dict[str, Any] = tasks.deliver(next(iter(self.turns)), seen=SEEN)
        return counts

    def _serve(
        self, _: Any, due: Due, sent: list[Delivered], worker: str, *, alone: bool
    ) -> Delivered | Wait:
        assert worker
        assert not alone or len(self.turns) == 1
        last = self.turns[due.org]
        if isinstance(last, Delivered):
            sent.append(last)
        return last

    def _send_due(self, queue: Any, task: Any) -> None:
        assert queue is self
        assert task is tasks.deliver
        self.handed_on += 1


def delivered(org: str, signal: Signal = Signal.OK) -> tuple[str, Delivered]:
    """Return an org whose turn ends with a batch of its own."""
    batch = Batch("b", (), 0.0, more=True, look_at_ms=1)
    return org, Delivered(org, batch, Verdict((), signal, reason="no answer"), Sent("201", 1), settled())


def test_a_delivery_goes_on_with_those_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it could send for the one before or not; its counts are all together."""
    line = Line(monkeypatch, delivered("a"), ("b", Wait("rate", 1)), delivered("c"))
    counts = line.deliver()
    assert (counts["issued"], counts["batches"], counts["orgs"]) == (2, 2, "a, c")
    assert line.handed_on == 0, "nobody stood in line"


def test_a_delivery_ends_with_a_call_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a failed task that says of which org; its place is for the next in line."""
    line = Line(monkeypatch, delivered("a"), delivered("b", Signal.IN_DOUBT), delivered("c"))
    with pytest.raises(DeliveryFailed, match=r"^b: in_doubt: no answer .*'orgs': 'a, b'"):
        line.deliver()
    assert (line.waiting, line.handed_on) == (["c"], 1)


def test_a_delivery_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other messages wait for its place, and whoever stands in line is sent one."""
    clock = (n * tasks.DELIVERY_S / 2 for n in range(10))
    monkeypatch.setattr(tasks, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    line = Line(monkeypatch, *(delivered(org) for org in "abcd"))
    assert line.deliver()["orgs"] == "a, b"
    assert (line.waiting, line.handed_on) == (["c", "d"], 1)


def test_a_delivery_of_a_worker_that_is_to_end_takes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """It drains."""
    line = Line(monkeypatch, delivered("a"), delivered("b"))
    line.conf["turn_s"] = 0.0
    line.deliver()
    assert (line.waiting, line.handed_on) == (["b"], 1)


@pytest.mark.parametrize(("orgs", "own"), [(1, None), (2, "a")])
def test_an_org_alone_has_no_line(monkeypatch: pytest.MonkeyPatch, orgs: int, own: str | None) -> None:
    """Neither where there is no other, nor in a worker of its own."""
    line = Line(monkeypatch, delivered("a"), orgs=orgs)
    line.waiting, line.conf["own_org"] = ["b"], own
    assert line.deliver()["jobs"] == 0
    assert (line.waiting, line.handed_on) == (["b"], 0)
