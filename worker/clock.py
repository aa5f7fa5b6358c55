"""Clocks: one that a suspended machine doesn't stop, and what a process knows of each org's own.

The gate goes by Redis's clock, which somebody may set. A process that has heard from an org's clock before
knows what it must show by now, and says so with its next call: ``read_gate`` in ``scripts/_gate.lua``
believes that rather than a clock that leapt ahead.
"""

from __future__ import annotations

import time

# Keeps counting while the machine is suspended, where the system has such a clock.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
# How much more an org's clock may show than expected: less than that is a slow network, not a step.
SLACK_US = 250_000
DRIFT = 0.001  # of the time since it was heard of last


def steady_s() -> float:
    """Return seconds on a clock that nobody sets, and that a suspended process or machine doesn't stop."""
    return time.clock_gettime(_STEADY)


class OrgClocks:
    """What the org's clocks showed last, by the time the calls were made that told so."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, float]] = {}

    def heard(self, org: str, clock_us: float, *, asked_at: float) -> None:
        """Note what an org's clock showed to a call made at ``asked_at``, by ``steady_s()``."""
        self._heard[org] = clock_us, asked_at

    def expected(self, org: str) -> dict[str, tuple[int, int]]:
        """Return ``cfg.clock`` for the gate: what the clock shows by now, by how much it may show more."""
        if org not in self._heard:
            return {}
        clock_us, asked_at = self._heard[org]
        since_us = (steady_s() - asked_at) * 1e6
        return {"clock": (round(clock_us + since_us), round(SLACK_US + since_us * DRIFT))}
