"""Redis is away: those who wait in line are told at once, instead of each finding out by waiting."""

from __future__ import annotations

import time

KNOWN_FOR_S = 1.0


class Outage:
    """Knows for a second that Redis gave no answer.

    Calls are served by a bounded number of threads. Where each had to wait for Redis to see that it is away,
    the last of many callers would hear so only after all those before.
    """

    def __init__(self) -> None:
        self._known_until = 0.0

    def note(self) -> None:
        """Take note that Redis gave no answer just now."""
        self._known_until = time.monotonic() + KNOWN_FOR_S

    @property
    def is_known(self) -> bool:
        """Whether Redis was away a moment ago; the first to come after that tries it again."""
        return time.monotonic() < self._known_until
