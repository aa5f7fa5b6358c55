"""Calls that keep their distance: one that is late holds up those behind it.

The gate spaces slots, and gives them out ahead of their time. A call that leaves 20 ms late would be followed
by the next one 20 ms too soon, which a vendor that goes by the distance between calls refuses.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

CLOSEST = 0.97  # of the distance: lateness that is handed on gets less from call to call
HELD_UP_S = 0.25  # at most: a process is held up for moments, and nobody waits for a call that never left


@dataclass(slots=True, eq=False, weakref_slot=True)
class Place:
    """A call's place in the line: when it is to leave, or did, by ``steady_s()``."""

    gap_s: float
    before: Place | None
    latest: float
    at: float = -math.inf

    def may_leave_at(self, now: float) -> float:
        """Return when it is far enough behind the one before it, as things are."""
        behind = self.before.at + CLOSEST * self.gap_s if self.before else now
        self.at = max(now, min(behind, self.latest))
        return self.at

    def left(self, at: float) -> None:
        """Note that it did."""
        self.at, self.before = at, None


class Spacing:
    """The line of each org's calls; one per process, safe to share between threads."""

    def __init__(self) -> None:
        self._last: dict[str, Place] = {}
        self._lock = threading.Lock()

    def line_up(self, org: str, gap_s: float, now: float) -> Place:
        """Return the place behind the org's last call, for one that could leave now."""
        with self._lock:
            place = self._last[org] = Place(gap_s, self._last.get(org), now + HELD_UP_S)
        return place
