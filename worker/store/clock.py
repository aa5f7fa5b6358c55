"""Clocks: one that a suspended machine doesn't stop, and what a process knows of each org's own.

The gate goes by Redis's clock, which somebody may set. A process that has heard from an org's clock before
knows what it must show by now, and says so with its next call: ``read_gate`` in ``lua/_gate.lua``
believes that rather than a clock that leapt ahead.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

# Keeps counting while the machine is suspended, where the system has such a clock.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
# How much more an org's clock may show than expected: less than that is a slow network, not a step.
SLACK_US = 250_000
DRIFT = 0.001  # of the time since it was heard of
KEPT, RECENT_S = 32, 5.0  # calls, and how long what one told is not yet worn by drift


def steady_s() -> float:
    """Return seconds on a clock that nobody sets, and that a suspended process or machine doesn't stop."""
    return time.clock_gettime(_STEADY)


class Clock:
    """The time as a process sees it, and its sleep; the simulation hands in one of its own."""

    def steady_s(self) -> float:
        """Return seconds as ``steady_s()`` does."""
        return steady_s()

    def monotonic_s(self) -> float:
        """Return seconds on a clock that nobody sets, but that a suspended machine stops."""
        return time.monotonic()

    def wall_s(self) -> float:
        """Return the seconds since the epoch, by a clock that somebody may set."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait; not at all if there is nothing left to wait for."""
        time.sleep(max(0.0, seconds))


@dataclass(frozen=True, slots=True)
class _Heard:
    """What a call told of an org's clock; it was read between ``asked_at`` and ``replied_at``."""

    clock_s: float
    asked_at: float
    replied_at: float


def _at_most(heard: Sequence[_Heard], now: float) -> float:
    """Return what the clock shows at most by then: the quickest call knows it best."""
    return min(one.clock_s + (now - one.asked_at) * (1 + DRIFT) for one in heard)


class OrgClocks:
    """What the orgs' clocks showed to the last calls; ``steady`` is the clock that those are timed by."""

    def __init__(self, steady: Callable[[], float] = steady_s) -> None:
        self._steady = steady
        self._heard: dict[str, deque[_Heard]] = defaultdict(partial(deque, maxlen=KEPT))

    def heard(self, org: str, clock_us: int, *, asked_at: float) -> None:
        """Note what an org's clock showed to a call made at ``asked_at``, by ``steady_s()``.

        One that ran ahead of all that was known is believed, since the gate did: what was known ends.
        """
        heard, one = self._heard[org], _Heard(clock_us / 1e6, asked_at, self._steady())
        if heard and one.clock_s > _at_most(list(heard), one.replied_at):
            self._heard[org] = heard = deque(maxlen=KEPT)
        heard.append(one)

    def expected(self, org: str) -> dict[str, tuple[int, int]]:
        """Return ``cfg.clock`` for the gate: what the clock shows at least, by how much it may show more.

        At least: a gate whose clock leapt ahead goes on from there, and must not run ahead of the truth.
        At most: one that was set back has stood still, so what any call told holds as well as the last.
        """
        heard, now = list(self._heard[org]), self._steady()  # a copy: other threads append
        if not heard:
            return {}
        last = heard[-1]
        least_s = last.clock_s + now - last.replied_at
        most_s = _at_most(heard, now)
        return {"clock": (round(least_s * 1e6), SLACK_US + round((most_s - least_s) * 1e6))}

    def when(self, org: str, clock_us: int) -> tuple[float, float]:
        """Return between which two times, by ``steady_s()``, the org's clock will show that.

        Each call tells it as well as it was fast; of the last seconds' calls the narrowest bounds count.
        """
        heard, clock_s = list(self._heard[org]), clock_us / 1e6
        last = heard[-1]
        recent = [one for one in heard if last.replied_at - one.replied_at < RECENT_S]
        earliest = max(one.asked_at - one.clock_s for one in recent)
        latest = min(one.replied_at - one.clock_s for one in recent)
        if earliest > latest:  # it was set in the meantime
            earliest, latest = last.asked_at - last.clock_s, last.replied_at - last.clock_s
        return clock_s + earliest, clock_s + latest
