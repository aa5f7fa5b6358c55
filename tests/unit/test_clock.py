"""What a process knows of an org's clock: bounds that always hold, and as narrow as its calls were fast."""

from __future__ import annotations

import pytest

from worker.store.clock import RECENT_S, SLACK_US, OrgClocks

ORG = "default"


class Steady:
    """A clock that goes as told; the org's clock shows 1,000 s more, plus what it was set by."""

    def __init__(self) -> None:
        self.now, self.ahead = 50.0, 1000.0
        self.clocks = OrgClocks(lambda: self.now)

    def call(self, *, there_s: float, back_s: float) -> None:
        """Make a call that takes so long to the org's clock, and back."""
        asked_at = self.now
        self.now += there_s
        shown = self.now + self.ahead
        self.now += back_s
        self.clocks.heard(ORG, round(shown * 1e6), asked_at=asked_at)

    def when(self, after_s: float) -> tuple[float, float]:
        """Return the bounds of an instant so far ahead, relative to when it truly is."""
        shown = round((self.now + after_s + self.ahead) * 1e6)
        low, high = self.clocks.when(ORG, shown)
        return low - self.now - after_s, high - self.now - after_s


@pytest.fixture
def steady() -> Steady:
    """Time that goes as the test says."""
    return Steady()


def test_the_truth_lies_between_the_bounds(steady: Steady) -> None:
    """However long a call took there and back; the narrowest of the recent ones counts."""
    steady.call(there_s=0.2, back_s=0.9)
    low, high = steady.when(0.05)
    assert (low, high) == pytest.approx((-0.2, 0.9), abs=1e-5)
    steady.call(there_s=0.001, back_s=0.5)
    steady.call(there_s=0.3, back_s=0.002)
    low, high = steady.when(0.05)
    assert (low, high) == pytest.approx((-0.001, 0.002), abs=1e-5)


def test_what_was_heard_long_ago_counts_no_more(steady: Steady) -> None:
    """Clocks drift apart."""
    steady.call(there_s=0, back_s=0)
    steady.now += RECENT_S
    steady.call(there_s=0.1, back_s=0.1)
    assert steady.when(0) == pytest.approx((-0.1, 0.1), abs=1e-5)


@pytest.mark.parametrize("step_s", [-3600.0, 0.5, 3600.0])
def test_a_clock_that_was_set_is_believed_anew(steady: Steady, step_s: float) -> None:
    """Bounds that contradict each other are from before and after: the last call's count."""
    steady.call(there_s=0.001, back_s=0.001)
    steady.ahead += step_s
    steady.call(there_s=0.01, back_s=0.02)
    assert steady.when(0) == pytest.approx((-0.01, 0.02), abs=1e-5)


def test_what_the_clock_must_show_by_now(steady: Steady) -> None:
    """As much later as time has gone by, with some slack for a slow network; unknown before any call."""
    assert steady.clocks.expected(ORG) == {}
    steady.call(there_s=0, back_s=0)
    steady.now += 7
    expected, slack = steady.clocks.expected(ORG)["clock"]
    assert expected == pytest.approx((steady.now + steady.ahead) * 1e6, abs=10)
    assert slack == pytest.approx(SLACK_US + 7000, abs=10)


@pytest.mark.parametrize(("there_s", "back_s"), [(0.03, 0.0), (0.0, 0.03), (0.2, 2.0)])
def test_what_the_clock_must_show_is_never_more_than_it_shows(
    steady: Steady, there_s: float, back_s: float
) -> None:
    """A gate whose clock leapt goes by it, and must not run ahead of the times of the last sends."""
    steady.call(there_s=there_s, back_s=back_s)
    steady.now += 7
    shows_us = (steady.now + steady.ahead) * 1e6
    expected, slack = steady.clocks.expected(ORG)["clock"]
    assert expected <= shows_us + 1
    assert expected + slack >= shows_us + SLACK_US - 1


def test_a_slow_call_hides_no_step(steady: Steady) -> None:
    """What a quick call told before bounds what the clock may show after a slow one."""
    steady.call(there_s=0, back_s=0)
    steady.call(there_s=0.7, back_s=0)
    steady.now += 2
    expected, slack = steady.clocks.expected(ORG)["clock"]
    assert expected == pytest.approx((steady.now + steady.ahead) * 1e6, abs=10)
    assert slack == pytest.approx(SLACK_US + 2700, abs=10)


def test_a_clock_that_stood_still_is_not_expected_to_have_gone_on(steady: Steady) -> None:
    """What was told before it was set back still bounds it from above, and no more from below."""
    steady.call(there_s=0, back_s=0)
    steady.ahead -= 0.5
    steady.call(there_s=0, back_s=0.1)
    expected, slack = steady.clocks.expected(ORG)["clock"]
    assert expected == pytest.approx((steady.now - 0.1 + steady.ahead) * 1e6, abs=10)
    assert slack == pytest.approx(SLACK_US + 100_100, abs=10)


def test_a_step_that_others_took_for_the_time_is_believed(steady: Steady) -> None:
    """Or every call of this process would hold the clock up until what it knew is forgotten."""
    steady.call(there_s=0, back_s=0)
    steady.ahead += 3600
    steady.call(there_s=0.1, back_s=0.2)
    expected, slack = steady.clocks.expected(ORG)["clock"]
    assert expected == pytest.approx((steady.now - 0.2 + steady.ahead) * 1e6, abs=10)
    assert slack == pytest.approx(SLACK_US + 300_300, abs=1000)
