"""What an org is doing right now, for status, metrics and the doctor: its queues, dead letters, gate, pace.

How it is read from Redis is in ``survey.py``, why nothing moves is judged in ``standstill.py``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from worker.domain.org import Limit, Org
from worker.operate.standstill import Gate, Reason, Standstill
from worker.store.protocol import SHARE

ENDS_IN_TIME = (Reason.THROTTLED, Reason.LIMIT)  # it is known when; of all else nobody knows


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast an org may go now, and how fast it went."""

    ripe: bool
    width: int
    allowed_per_s: float
    learned: bool  # whether the vendor taught a slower rate than what is configured
    sent: tuple[tuple[Limit, int], ...]  # in the last window of each limit
    per_minute: int | None  # None: not counted that far back
    rate_for_s: float = 0.0  # how long the limit lets nothing through


@dataclass(frozen=True, slots=True)
class OrgState:
    """All about an org; ``settings`` is ``None`` for one that is no longer configured, but has had jobs."""

    org: str
    settings: Org | None
    read_at_ms: int  # by Redis's clock, as all instants here
    queued: int
    isolated: int
    retrying: int
    in_flight: int
    missing_badges: int
    oldest_s: float | None
    dead: dict[str, int]
    stats: dict[str, int]
    gate: Gate
    pace: Pace | None  # None: not configured, or the server runs no script now
    on_hold: int = 0  # jobs of runs that aren't to be sent yet
    standstill: Standstill | None = None  # why nothing moves, where nothing does
    to_repeat: int = 0  # calls in doubt that are sent again as they were (IN_DOUBT=same_request)
    to_undo: int = 0  # badges that are to be taken back
    undo_retrying: int = 0  # of these, being called now, or to be called again
    last_retry_ms: int | None = None  # when the last of those that are retrying is due, by the org's clock

    @property
    def waiting(self) -> int:
        """Jobs that are to be sent: ready, or when their time has come."""
        return self.queued + self.isolated + self.retrying

    def once_probed(self) -> OrgState:
        """Return it as it is once the next job has gone well, where it only waits for one to come."""
        is_idle = not (self.waiting or self.in_flight or self.standstill)
        if not (self.gate.state == "probing" and is_idle and self.pace and self.settings):
            return self
        width = self.gate.batch_size or self.settings.batch_size
        gate = replace(self.gate, state="open", tripped=False)
        return replace(self, gate=gate, pace=replace(self.pace, width=width))

    @property
    def held(self) -> str | None:
        """Why nothing of it is sent, and what to do about that; ``None`` where nothing holds it up."""
        return self.standstill.sentence if self.standstill else None

    @property
    def ripe_batches(self) -> int:
        """Batches that only wait for the limit or for somebody to send them; none unless the gate is open."""
        if self.pace is None or not self.pace.ripe or self.gate.state in ("paused", "closed"):
            return 0
        ripe = max(1, self.queued // self.pace.width + (1 if self.isolated else 0))
        return 1 if self.gate.tripped else ripe

    @property
    def call_s(self) -> float | None:
        """How long calls took lately, once there were enough to tell."""
        return self.gate.call_ms / 1000 if self.gate.call_ms is not None else None

    def seconds_for(self, jobs: int, *, last_ms: int | None = None) -> int | None:
        """Say how long that many jobs take at the pace the org may go now; ``None`` while nobody knows.

        ``last_ms`` is when the last of them is due that are to be tried again.
        """
        if self.pace is None or self.settings is None or not self._goes_on:
            return None
        per_s = self.pace.allowed_per_s
        items_per_s = [limit.count / limit.window_s for limit in self.settings.limits if limit.of_items]
        if items_per_s:
            per_s = min(per_s, min(items_per_s) / min(self.pace.width, max(1, jobs)))
        if call_s := self.call_s:
            per_s = min(per_s, self.settings.max_in_flight / call_s)
        return self._at_the_soonest(self._opens_in_s + -(-jobs // self.pace.width) / per_s, last_ms)

    def seconds_for_calls(
        self, calls: int, *, last_ms: int | None = None, share: float = SHARE, at_once: int = 1
    ) -> int | None:
        """Say how long calls beside the deliveries take; ``None`` while nobody knows.

        They have this share of the limit while deliveries wait.
        """
        if self.pace is None or not self._goes_on:
            return None
        call_s = 1 / self.pace.allowed_per_s / (share if self.waiting else 1)
        return self._at_the_soonest(
            self._opens_in_s + calls * max(call_s, (self.call_s or 0.0) / at_once), last_ms
        )

    def _at_the_soonest(self, by_pace_s: float, last_ms: int | None) -> int:
        """Say how long it takes if the last call can't be made before it is due."""
        due_s = 0.0 if last_ms is None else (last_ms - self.gate.ahead_ms - self.read_at_ms) / 1000
        return round(max(by_pace_s, due_s + (self.call_s or 0.0)))

    @property
    def _goes_on(self) -> bool:
        """Whether anybody knows when the next call leaves."""
        stands_still = self.standstill and self.standstill.reason not in ENDS_IN_TIME
        return not (self.gate.state == "paused" or self.gate.tripped or stands_still)

    @property
    def _opens_in_s(self) -> float:
        if not self.gate.closed_until:
            return 0.0
        return max(0.0, datetime.fromisoformat(self.gate.closed_until).timestamp() - self.read_at_ms / 1000)

    def as_json(self) -> dict[str, Any]:
        """Return it as ``badges status --json`` prints it."""
        pace, gate = self.pace, self.gate
        return {
            "org": self.org,
            "configured": self.settings is not None,
            "queued": self.queued + self.isolated,
            "isolated": self.isolated,
            "oldest_s": self.oldest_s,
            "held": self.on_hold,
            "retrying": self.retrying,
            "in_flight": self.in_flight,
            "dead": {kind: count for kind, count in self.dead.items() if count},
            "missing_badges": self.missing_badges,
            "to_repeat": self.to_repeat,
            "to_undo": self.to_undo,
            "undo_retrying": self.undo_retrying,
            "gate": {
                "state": gate.state,
                "open": gate.state in ("open", "probing"),
                "why": gate.why,
                "reason": gate.reason,
                "since": gate.since,
                "closed_until": gate.closed_until,
                "breaker": "tripped" if gate.tripped else "ok",
                "rate_per_minute": round(pace.allowed_per_s * 60, 1) if pace and pace.learned else None,
                "batch_size": gate.batch_size,
            },
            "standstill": asdict(self.standstill) if self.standstill else None,
            "sent_last_minute": pace.per_minute if pace else None,
            "limit_per_minute": _per_minute(self.settings) if self.settings else None,
            "limits": [{"limit": str(limit), "sent": sent} for limit, sent in (pace.sent if pace else ())],
        }


def longest(told: Iterable[int | None]) -> int | None:
    """Return how long it takes until all of several have ended, s; ``None`` where nobody knows of one."""
    each = list(told)
    known = [seconds for seconds in each if seconds is not None]
    return max(known, default=0) if len(known) == len(each) else None


def idle(org: Org) -> OrgState:
    """Return the state of an org of which nothing is in Redis."""
    per_s = min(limit.count / limit.window_s for limit in org.limits if not limit.of_items)
    pace = Pace(
        ripe=False, width=org.batch_size, allowed_per_s=per_s, learned=False, sent=(), per_minute=None
    )
    return OrgState(
        org=org.name,
        settings=org,
        read_at_ms=int(time.time() * 1000),
        queued=0,
        isolated=0,
        retrying=0,
        in_flight=0,
        missing_badges=0,
        oldest_s=None,
        dead={},
        stats={},
        gate=Gate(state="open"),
        pace=pace,
    )


def _per_minute(settings: Org) -> float:
    """Return how many requests the tightest limit lets through in a minute."""
    return round(min(limit.count * 60 / limit.window_s for limit in settings.limits if not limit.of_items), 1)
