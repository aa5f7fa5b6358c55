"""What orgs are doing right now: their queues, dead letters, gate and pace; for status and metrics.

Every number is read from where it is kept, in two pipelines for all orgs together; no key is searched for.
How fast an org may go, only ``lua/gauge.lua`` can say: the one brain is asked, not copied.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis
from redis.exceptions import NoScriptError

from worker.domain.job import DeadKind
from worker.domain.org import Limit, Org
from worker.domain.text import iso_time
from worker.errors import ScriptError, StoreError
from worker.server.cluster import reaching
from worker.store import keys
from worker.store.protocol import gate_config
from worker.store.record import Field
from worker.store.scripts import Store

CALLS_THAT_TELL = 10


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether batches may start, and why not; times are ISO 8601."""

    state: str  # open, closed (opens by itself), probing (one batch of one job at a time), paused (by resume)
    why: str | None = None
    reason: str | None = None
    since: str | None = None
    closed_until: str | None = None
    tripped: bool = False  # the breaker: one batch of one job at a time, until one succeeds
    batch_size: int | None = None  # what the vendor taught, where it is less than what is configured
    last_reason: str | None = None  # of the last trouble, also when that is over


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast an org may go now, and how fast it went."""

    ripe: bool
    width: int
    allowed_per_s: float
    learned: bool  # whether the vendor taught a slower rate than what is configured
    sent: tuple[tuple[Limit, int], ...]  # in the last window of each limit
    per_minute: int


@dataclass(frozen=True, slots=True)
class OrgState:
    """All about an org; ``settings`` is ``None`` for one that is configured no more, but has had jobs."""

    org: str
    settings: Org | None
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

    @property
    def ripe_batches(self) -> int:
        """Batches that only wait for the limit or for somebody to send them; none unless the gate is open."""
        if self.pace is None or not self.pace.ripe or self.gate.state in ("paused", "closed"):
            return 0
        ripe = max(1, self.queued // self.pace.width + (1 if self.isolated else 0))
        return 1 if self.gate.tripped else ripe

    @property
    def call_s(self) -> float | None:
        """How long a call took on average, once there were enough to tell."""
        calls = sum(count for name, count in self.stats.items() if name.startswith("status:"))
        return self.stats.get("elapsed_ms", 0) / 1000 / calls if calls >= CALLS_THAT_TELL else None

    def seconds_for(self, jobs: int) -> int | None:
        """Say how long so many jobs take at the pace that the org may go now; ``None`` while it may not."""
        if self.pace is None or self.settings is None or self.gate.state == "paused":
            return None
        per_s = self.pace.allowed_per_s
        if call_s := self.call_s:
            per_s = min(per_s, self.settings.max_in_flight / call_s)
        opens_in_s = 0.0
        if self.gate.closed_until:
            opens_in_s = max(0.0, datetime.fromisoformat(self.gate.closed_until).timestamp() - time.time())
        return round(opens_in_s + -(-jobs // self.pace.width) / per_s)

    def as_json(self) -> dict[str, Any]:
        """Return it as ``badges status --json`` prints it."""
        pace, gate = self.pace, self.gate
        return {
            "org": self.org,
            "configured": self.settings is not None,
            "queued": self.queued + self.isolated,
            "isolated": self.isolated,
            "oldest_s": self.oldest_s,
            "retrying": self.retrying,
            "in_flight": self.in_flight,
            "dead": {kind: count for kind, count in self.dead.items() if count},
            "missing_badges": self.missing_badges,
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
            "sent_last_minute": pace.per_minute if pace else None,
            "limit_per_minute": _per_minute(self.settings) if self.settings else None,
            "limits": [{"limit": str(limit), "sent": sent} for limit, sent in (pace.sent if pace else ())],
        }


class Survey:
    """Reads the states of many orgs at once."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._store = Store(client)

    def states(self, orgs: Mapping[str, Org | None]) -> list[OrgState]:
        """Return each org's state; the settings are ``None`` of one that isn't configured.

        Raises:
            StoreError: Redis refused or can't be reached.
        """
        if not orgs:
            return []
        now_ms = time.time() * 1000
        replies = self._replies(orgs, now_ms)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            with reaching("status"):
                self._store.load("gauge")
            replies = self._replies(orgs, now_ms)
        width = len(replies) // len(orgs)
        found = [replies[at : at + width] for at in range(0, len(replies), width)]
        ages = self._ages_s(dict(zip(orgs, (reply[1:3] for reply in found), strict=True)), now_ms)
        return [
            _state(name, settings, reply, ages[name], now_ms)
            for (name, settings), reply in zip(orgs.items(), found, strict=True)
        ]

    def _replies(self, orgs: Mapping[str, Org | None], now_ms: float) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        for name, settings in orgs.items():
            self._ask(pipe, name, settings, now_ms)
        with reaching("status"):
            return list(pipe.execute(raise_on_error=False))

    def _ask(self, pipe: Any, name: str, settings: Org | None, now_ms: float) -> None:
        if settings is None:
            pipe.exists(keys.key_prefix(name))  # stands in its place
        else:  # first: it drops ids from the queue's head whose jobs were dealt with otherwise
            self._store.add(pipe, "gauge", [keys.key_prefix(name)], [gate_config(settings)])
        for lane in ("urgent", "queue"):
            pipe.lindex(keys.key(name, lane), 0)
        for lane in ("urgent", "queue"):
            pipe.llen(keys.key(name, lane))
        pipe.llen(keys.key(name, "isolate"))
        pipe.zcard(keys.key(name, "retry"))
        pipe.zcount(keys.key(name, "inflight"), now_ms, "+inf")
        pipe.zcount(keys.key(name, "missing"), now_ms, "+inf")
        pipe.hgetall(keys.key(name, "gate"))
        pipe.hgetall(keys.key(name, "stats"))
        for kind in DeadKind:
            pipe.zcard(keys.key(name, "dead", kind))

    def _ages_s(self, heads: Mapping[str, Sequence[Any]], now_ms: float) -> dict[str, float | None]:
        """Say how long the first job of each org has been ready: accepted, or back from a retry or replay."""
        pipe = self._client.pipeline(transaction=False)
        asked = [(name, head) for name, its in heads.items() for head in its if isinstance(head, str)]
        for name, head in asked:
            pipe.hmget(keys.key(name, "job", head), Field.READY_SINCE, Field.ENQUEUED_AT)
        with reaching("status"):
            found = pipe.execute()
        oldest: dict[str, float | None] = dict.fromkeys(heads)
        for (name, _), (ready, born) in zip(asked, found, strict=True):
            if at_ms := ready or born:
                age_s = round(max(0.0, now_ms - int(at_ms)) / 1000, 1)
                oldest[name] = max(age_s, oldest[name] or 0.0)
        return oldest


def _state(
    name: str, settings: Org | None, reply: Sequence[Any], oldest_s: float | None, now_ms: float
) -> OrgState:
    gauged, _, _, *counts = reply
    if failed := [answer for answer in counts if isinstance(answer, Exception)]:
        raise StoreError(f"Redis refused to show org {name}: {failed[0]}") from failed[0]
    urgent, queued, isolated, retrying, in_flight, missing, gate, stats, *dead = counts
    return OrgState(
        org=name,
        settings=settings,
        queued=urgent + queued,
        isolated=isolated,
        retrying=retrying,
        in_flight=in_flight,
        missing_badges=missing,
        oldest_s=oldest_s,
        dead={kind.value: count for kind, count in zip(DeadKind, dead, strict=True)},
        stats={counter: int(n) for counter, n in stats.items()},
        gate=_gate(gate, now_ms),
        pace=_pace(settings, gauged),
    )


def _pace(settings: Org | None, gauged: Any) -> Pace | None:
    """Read what ``gauge.lua`` answered; a server that can't write now refuses scripts, and only those."""
    if isinstance(gauged, Exception) and "script:" in str(gauged):
        raise ScriptError(str(gauged)) from gauged
    if settings is None or not isinstance(gauged, str):
        return None
    found = json.loads(gauged)
    longest_s = max(limit.window_s / limit.count for limit in settings.limits if not limit.of_items)
    return Pace(
        ripe=found["ripe"],
        width=int(found["width"]),
        allowed_per_s=min(1e6 / found["spacing_us"], 1 / longest_s),
        learned=found["spacing_us"] > found["configured_us"] * 1.001,
        sent=tuple(zip(settings.limits, map(int, found["sent"]), strict=True)),
        per_minute=int(found["per_minute"]),
    )


def _gate(gate: Mapping[str, str], now_ms: float) -> Gate:
    # The gate goes by a clock of its own, see ``lua/_gate.lua``.
    closed_until = int(gate.get("closed_until", 0)) - int(gate.get("offset", 0)) // 1000
    tripped = int(gate.get("probing", 0)) > 0
    closed, paused = closed_until > now_ms, "paused" in gate
    taught = (
        "batch_size" in gate
        and float(gate.get("batch_size_until", 0)) - int(gate.get("offset", 0)) / 1000 > now_ms
    )
    return Gate(
        state="paused" if paused else "closed" if closed else "probing" if tripped else "open",
        why=gate.get("paused") or (gate.get("why") if closed or tripped else None),
        reason=gate.get("reason") if paused or closed or tripped else None,
        since=iso_time(gate.get("since")) if paused or closed or tripped else None,
        closed_until=iso_time(closed_until) if closed else None,
        tripped=tripped,
        batch_size=int(gate["batch_size"]) if taught else None,
        last_reason=gate.get("reason"),
    )


def _per_minute(settings: Org) -> float:
    """Return how many requests the tightest limit lets through in a minute."""
    return round(min(limit.count * 60 / limit.window_s for limit in settings.limits if not limit.of_items), 1)
