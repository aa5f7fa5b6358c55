"""A turn asks for company and notes when to look, no more often than is of use; and who has the next one."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from support import configured

from worker.delivery import Claimed, Delivered
from worker.domain.batch import Batch, Due, Sent, Settled, Wait
from worker.domain.org import Org
from worker.domain.outcome import Signal, Verdict
from worker.errors import DeliveryFailed
from worker.process.tasks import counts_of
from worker.process.timing import USUAL
from worker.process.turns import ASK_AGAIN_S, DRAINING, Lasting, Turns
from worker.vendor.auth import Credentials

ORG = configured()
SEEN = "1700000002000"


class Clock:
    """A clock that goes on by ``step_s`` whenever somebody looks."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.now_s, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        """Return the time, and let some go by."""
        self.now_s += self.step_s
        return self.now_s


class Bench:
    """A turn with a scripted delivery; what it asks of the queue."""

    def __init__(self) -> None:
        self.looks: list[int] = []

    def hint(self, org: str, at_ms: int, *, seen: str = "") -> None:
        """Be told when to look again; at the end of a turn, too."""
        assert org == ORG.name
        if not seen and at_ms >= 0:
            self.looks.append(at_ms)

    def turn(
        self, *steps: Batch | Settled, seen: Any = SEEN, step_s: float = 0.0, most_s: float = 1e9
    ) -> Delivered | Wait:
        """Claim and settle a batch for each two steps, then find nothing more."""
        remaining = iter(steps)

        def claim(org: Org, *, share: int) -> Claimed | Wait:
            assert (org, share) == (ORG, 3)
            batch: Any = next(remaining, None)
            return Claimed(batch, Credentials({}), 0.0) if batch else Wait("idle", -1)

        def send(_: Org, claimed: Claimed) -> Delivered:
            step: Any = next(remaining)
            return Delivered(ORG.name, claimed.batch, Verdict((), Signal.OK), Sent("201", 1), step)

        here: Any = SimpleNamespace(
            queue=self,
            delivery=SimpleNamespace(claim=claim, send=send),
            settings=SimpleNamespace(orgs=lambda: {ORG.name: ORG}),
            seats=SimpleNamespace(take=lambda *_, **__: nullcontext(3)),
        )
        lasting = Lasting(most_s, most_s)
        turns = Turns(here, worker="w", alone=True, lasting=lambda: lasting, clock=Clock(step_s))
        return turns.turn(Due(ORG.name, seen))


def claimed(*, more: bool, look_at_ms: int = -1) -> Batch:
    """Return a batch, and whether another may start beside it, or else when."""
    return Batch("b", (), 0.0, more=more, look_at_ms=look_at_ms)


def settled(*, more: bool = True, look_at_ms: int = -1) -> Settled:
    """Return a settlement, and whether the next batch may start, or else when."""
    return Settled(1, 0, 0, 0, 0, more=more, look_at_ms=look_at_ms)


@pytest.fixture
def bench() -> Bench:
    """A turn whose queue only listens."""
    return Bench()


def test_a_turn_asks_for_another_delivery_beside_it_once(bench: Bench) -> None:
    """Which asks for the next: a question for each batch would be a round trip between claim and PUT."""
    assert bench.turn(*[claimed(more=True, look_at_ms=17), settled()] * 5) == Wait("idle", -1)
    assert bench.looks == [17]


def test_a_turn_asks_again_after_a_while(bench: Bench) -> None:
    """What it asked for may be over by then."""
    bench.turn(*[claimed(more=True, look_at_ms=17), settled()] * 5, step_s=ASK_AGAIN_S / 4)
    assert 1 < len(bench.looks) < 5


def test_a_turn_that_is_over_has_the_org_looked_at(bench: Bench) -> None:
    """Another delivery goes on where this one stopped."""
    bench.turn(*[claimed(more=False, look_at_ms=int(SEEN)), settled(look_at_ms=9)] * 5, step_s=1, most_s=3)
    assert bench.looks == [9]


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


class Line(Turns):
    """Orgs that stand in line, each with what its turn ends in; what a delivery asks of the queue."""

    def __init__(
        self,
        *ends: tuple[str, Delivered | Wait],
        lasting: Lasting = Lasting(1e9, 1e9),  # noqa: B008 - frozen
        step_s: float = 0.0,
        alone: bool = False,
    ) -> None:
        here: Any = SimpleNamespace(queue=self)
        super().__init__(here, worker="w", alone=alone, lasting=lambda: lasting, clock=Clock(step_s))
        self.ends = dict(ends)
        self.waiting = [org for org, _ in ends][1:]

    def take_next(self, *, ahead_ms: int) -> Due | None:
        """Give the org that stands first."""
        assert ahead_ms == USUAL.ahead_ms
        return Due(self.waiting.pop(0), SEEN) if self.waiting else None

    def begin(self) -> tuple[Delivered | Wait, Due | None]:
        """Begin with the first."""
        return self.go(Due(next(iter(self.ends)), SEEN))

    def turn(self, due: Due) -> Delivered | Wait:
        """End as the script says."""
        last = self.ends[due.org]
        if isinstance(last, Delivered):
            self.sent.append(last)
        return last


def delivered(org: str, signal: Signal = Signal.OK) -> tuple[str, Delivered]:
    """Return an org whose turn ends with a batch of its own."""
    batch = Batch("b", (), 0.0, more=True, look_at_ms=1)
    return org, Delivered(org, batch, Verdict((), signal, reason="no answer"), Sent("201", 1), settled())


def test_a_delivery_goes_on_with_those_in_line() -> None:
    """Whether it could send for the one before or not; its counts are all together."""
    line = Line(delivered("a"), ("b", Wait("rate", 1)), delivered("c"))
    _, following = line.begin()
    counts = counts_of(line.sent)
    assert (counts["issued"], counts["batches"], counts["orgs"]) == (2, 2, "a, c")
    assert following is None, "nobody stands in line"


def test_a_delivery_ends_with_a_call_that_failed() -> None:
    """As a failed task that says of which org; its place is for the next in line."""
    line = Line(delivered("a"), delivered("b", Signal.IN_DOUBT), delivered("c"))
    _, following = line.begin()
    with pytest.raises(DeliveryFailed, match=r"^b: in_doubt: no answer .*'orgs': 'a, b'"):
        counts_of(line.sent)
    assert line.waiting == ["c"]
    assert following is not None


def test_a_delivery_ends_after_its_time() -> None:
    """Other messages wait for its place, and the org that stands first in line is sent one."""
    line = Line(*(delivered(org) for org in "abcd"), lasting=Lasting(2, 1), step_s=1)
    _, following = line.begin()
    assert counts_of(line.sent)["orgs"] == "a, b"
    assert (line.waiting, bool(following)) == (["c", "d"], True)


def test_a_delivery_of_a_worker_that_is_to_end_takes_nobody() -> None:
    """It drains."""
    line = Line(delivered("a"), delivered("b"), lasting=DRAINING)
    _, following = line.begin()
    assert (line.waiting, bool(following)) == (["b"], True)


def test_an_org_alone_has_no_line() -> None:
    """Neither where there is no other, nor in a worker of its own."""
    line = Line(delivered("a"), alone=True)
    line.waiting = ["b"]
    line.begin()
    assert (len(line.sent), line.waiting) == (1, ["b"])
