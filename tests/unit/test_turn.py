"""A turn of deliveries asks for company, and notes when to look again, no more often than that is of use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from support import configured

from worker import tasks
from worker.delivery import Delivered
from worker.outcome import Signal, Verdict
from worker.queue import Batch, Sent, Settled, Wait

ORG = configured()
SEEN = "1700000002000"


class Bench:
    """A turn with a scripted delivery; what it asks of the queue."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.looks: list[int] = []
        monkeypatch.setattr(tasks, "app", SimpleNamespace(conf={}))

    def take(self, org: str, *, ahead_ms: int) -> None:
        """Be asked for another delivery."""
        assert ahead_ms == tasks.AHEAD_MS
        self.asked.append(org)

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
        return Delivered(batch, Verdict((), Signal.OK), Sent("201", 1), settled)  # type: ignore[arg-type]


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
    assert bench.turn(*[claimed(more=True), settled()] * 5) == Wait("idle", -1)
    assert bench.asked == [ORG.name]


def test_a_turn_asks_again_after_a_while(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it asked for may be over by then."""
    began = time.monotonic()
    clock = (began + n * tasks.ASK_AGAIN_S / 4 for n in range(100))
    monkeypatch.setattr(tasks, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    bench.turn(*[claimed(more=True), settled()] * 5)
    assert 1 < len(bench.asked) < 5


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
    bench.turn(claimed(more=True), settled(more=False, look_at_ms=int(SEEN) + 5))
    assert bench.looks == [int(SEEN) + 5]


@pytest.mark.parametrize("seen", ["abc", 17, None, "1e13", "-1", "²"])
def test_a_message_that_says_nonsense_ends_no_turn(bench: Bench, seen: Any) -> None:
    """Anybody may put anything into the queue."""
    bench.turn(claimed(more=False, look_at_ms=int(SEEN)), settled(), seen=seen)
    assert bench.looks in ([], [int(SEEN)])
