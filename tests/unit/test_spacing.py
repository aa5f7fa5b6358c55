"""Calls that keep their distance: who is late holds up those behind, and nobody else."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from itertools import pairwise

import pytest

from worker.store.clock import Clock
from worker.vendor.client import MOST_MOVES, Fence, Passage, TooLateError
from worker.vendor.spacing import CLOSEST, HELD_UP_S, Spacing

GAP_S, SLACK_S = 0.05, 0.0075


class Slow(Clock):
    """A clock of its own, whose every sleep lasts ``late_s`` longer, once."""

    def __init__(self) -> None:
        self.now_s, self.late_s = 100.0, 0.0

    def steady_s(self) -> float:
        """Return what it shows."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let so much time go by, and what it oversleeps."""
        self.now_s += max(0.0, seconds) + self.late_s
        self.late_s = 0.0


class Calls:
    """Calls of one org whose slots are given out a distance apart, made one after the other."""

    def __init__(self, *, may: bool = True) -> None:
        self.clock, self.spacing, self.may = Slow(), Spacing(), may
        self.moved: list[tuple[float, float]] = []  # when, and to when
        self.slots = 0

    def make(self, *, late_s: float = 0.0, org: str = "default") -> float:
        """Make the next one; return when it left, after its slot."""
        slot = 100.0 + GAP_S * self.slots
        self.slots += 1
        fence = Fence(
            slot=slot,
            slack_s=SLACK_S,
            send_by=slot + 60,
            retime=self._retime,
            send_at=slot,
            line_up=partial(self.spacing.line_up, org, GAP_S),
        )
        passage = Passage(fence, self.clock)
        self.clock.now_s = max(self.clock.now_s, slot)
        self.clock.late_s = late_s
        passage.wait()
        passage.enter()
        passage.has_left()
        return self.clock.now_s - slot

    def _retime(self, in_s: float) -> bool:
        self.moved.append((self.clock.now_s, self.clock.now_s + in_s))
        return self.may


def test_calls_that_are_on_time_are_held_up_by_nobody() -> None:
    """They leave at their slots, and nothing is asked of Redis."""
    calls = Calls()
    assert [calls.make() for _ in range(5)] == pytest.approx([0] * 5)
    assert calls.moved == []


def test_who_follows_a_late_one_keeps_its_distance() -> None:
    """Its slot is moved before it waits, so that nothing comes between the wait and the socket."""
    calls = Calls()
    late = [calls.make(late_s=0.02), *(calls.make() for _ in range(20))]
    apart = [GAP_S + after - before for before, after in pairwise(late)]
    assert min(apart) >= CLOSEST * GAP_S - 1e-9
    assert late == sorted(late, reverse=True)
    assert late[-1] == pytest.approx(0)
    assert [moved_at < to for moved_at, to in calls.moved[1:]] == [True] * (len(calls.moved) - 1)


def test_other_orgs_are_not_held_up() -> None:
    """Each has a line of its own."""
    calls = Calls()
    calls.make(late_s=0.04)
    assert calls.make(org="other") == pytest.approx(0)


def test_who_may_not_move_its_slot_doesnt_wait_for_its_time() -> None:
    """It is too late for it: a send that relied on its time has its slot already."""
    calls = Calls()
    calls.make(late_s=0.02)
    calls.may = False
    with pytest.raises(TooLateError):
        calls.make()
    assert calls.clock.now_s == pytest.approx(100 + GAP_S), "without a wait"


@pytest.mark.parametrize(("held_up", "moves"), [(1, 2), (2, 3), (9, MOST_MOVES)])
def test_who_is_held_up_while_its_slot_is_moved_moves_it_again(held_up: int, moves: int) -> None:
    """Else it leaves long after what its slot says; a server that is slow each time isn't asked for ever."""
    clock, moved = Slow(), list[float]()

    def retime(_: float) -> bool:
        moved.append(clock.now_s)
        clock.now_s += 1.0 if len(moved) <= held_up else 0.001
        return True

    passage = Passage(Fence(slot=99.0, slack_s=SLACK_S, send_by=160.0, retime=retime), clock)
    passage.enter()
    assert len(moved) == moves
    assert clock.now_s - moved[-1] < SLACK_S or held_up > MOST_MOVES


def test_one_that_is_held_up_while_another_waits_behind_it_is_waited_for() -> None:
    """What counts is when it left, not when it was to."""
    spacing = Spacing()
    first, second = (spacing.line_up("default", GAP_S, now) for now in (1.0, 1.01))
    assert first.may_leave_at(1.0) == 1.0
    assert second.may_leave_at(1.01) == pytest.approx(1.0 + CLOSEST * GAP_S)
    first.left(1.03)
    assert second.may_leave_at(1.0485) == pytest.approx(1.03 + CLOSEST * GAP_S)


def test_nobody_waits_long_for_a_call_that_never_left() -> None:
    """Where calls are seconds apart, each that follows would be too late itself, and so on for ever."""
    spacing, gap_s = Spacing(), 6.0
    spacing.line_up("default", gap_s, 1.0).may_leave_at(1.0)
    for now in (2.0, 2.1):
        assert spacing.line_up("default", gap_s, now).may_leave_at(now) == pytest.approx(now + HELD_UP_S)


def test_calls_that_are_over_are_forgotten() -> None:
    """A line is as long as what is about to leave."""
    spacing = Spacing()
    first = spacing.line_up("default", GAP_S, 1.0)
    known = weakref.ref(first)
    first.left(1.0)
    second = spacing.line_up("default", GAP_S, 1.0)
    second.may_leave_at(2.0)
    second.left(2.0)
    del first
    gc.collect()
    assert known() is None
