"""The last hour of each org, as this process has seen it: how many calls were made in each minute."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from worker.errors import BadgesError
from worker.operate.status import OrgState
from worker.server.cluster import UNAVAILABLE

EVERY_S = 10.0
MINUTES = 60


@dataclass(frozen=True, slots=True)
class Hour:
    """Calls in each minute, the newest last; ``seen_s`` is how long it was looked at."""

    calls: tuple[int, ...] = ()
    seen_s: float = 0.0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.calls)


class Pulse:
    """Looks at the counters of calls every ten seconds. What was before this process began, nobody knows."""

    def __init__(self, look: Callable[[], Sequence[OrgState]], tend: Callable[[], None]) -> None:
        self._look, self._tend, self._stop = look, tend, threading.Event()
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def start(self) -> None:
        """Begin to look, in a thread of its own."""
        threading.Thread(target=self._run, name="pulse", daemon=True).start()

    def stop(self) -> None:
        """End it."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.note(self._look(), time.monotonic())
                self._tend()
            except (BadgesError, *UNAVAILABLE):
                pass  # the page says so
            self._stop.wait(EVERY_S)

    def note(self, states: Sequence[OrgState], now_s: float) -> None:
        """Take note of how many calls each org has made in all."""
        for state in states:
            seen = self._seen.setdefault(state.org, deque(maxlen=round(MINUTES * 60 / EVERY_S) + 1))
            seen.append((now_s, state.stats.get("requests", 0)))

    def hour(self, org: str) -> Hour:
        """Return what is known of an org's last hour."""
        seen = list(self._seen.get(org, ()))
        if len(seen) < 2:
            return Hour()
        newest_s = seen[-1][0]
        calls = [0] * (int((newest_s - seen[0][0]) // 60) + 1)
        for (_, before), (at_s, now) in pairwise(seen):
            calls[int((newest_s - at_s) // 60)] += max(0, now - before)
        return Hour(tuple(reversed(calls)), newest_s - seen[0][0])
