"""Reads what all orgs are doing right now, for status and metrics.

Every number is read from where it is kept, in two pipelines for all orgs together; no key is searched for.
How fast an org may go, only ``lua/gauge.lua`` can say: the one brain is asked, not copied.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import redis
from redis.exceptions import NoScriptError, RedisError

from worker.domain.job import DeadKind
from worker.domain.org import Org
from worker.domain.text import iso_time
from worker.errors import ScriptError, StoreError
from worker.operate.standstill import Circumstances, Gate, Trouble, standstill
from worker.operate.status import OrgState, Pace
from worker.server.cluster import reaching
from worker.server.health import check_servers
from worker.store import keys
from worker.store.pool import Seats
from worker.store.protocol import gate_config
from worker.store.queue import Queue
from worker.store.record import Field, read

GATE = 9  # its place among an org's replies
TROUBLE_MS = 60_000


@dataclass(frozen=True, slots=True)
class _Around:
    """What all orgs share: the workers there are, when an org is due, and what is wrong with the server."""

    own: frozenset[str]  # orgs with workers of their own
    any_other: bool  # whether a worker serves the others
    due_ms: Mapping[str, float]  # when a worker is to look at an org
    lacks: str = ""
    is_full: bool = False

    def of(self, state: OrgState, trouble: Trouble | None, now_ms: float) -> Circumstances:
        """Put together what an org's standstill is judged by."""
        pace = state.pace
        used_up = [str(limit) for limit, sent in (pace.sent if pace else ()) if sent >= limit.count]
        return Circumstances(
            org=state.org,
            settings=state.settings,
            waiting=state.waiting,
            in_flight=state.in_flight,
            gate=state.gate,
            has_worker=self.any_other or state.org in self.own,
            redis_is_full=self.is_full,
            redis_weakness=self.lacks,
            trouble=trouble,
            overdue_s=max(0.0, now_ms - self.due_ms.get(state.org, now_ms)) / 1000,
            limit_for_s=pace.rate_for_s if pace else 0.0,
            limit=" and ".join(used_up),
        )


class Survey:
    """Reads the states of many orgs at once."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        queue = Queue(client)
        self._store, self._seats = queue.store, Seats(queue=queue)

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
        read = [
            (_state(name, settings, reply, ages[name], now_ms), _trouble(reply[GATE], now_ms))
            for (name, settings), reply in zip(orgs.items(), found, strict=True)
        ]
        around = self._around(waits=any(state.waiting for state, _ in read))
        return [
            replace(state, standstill=standstill(around.of(state, trouble, now_ms)))
            for state, trouble in read
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

    def _around(self, *, waits: bool) -> _Around:
        """Look at what all orgs share, if anything waits for it."""
        if not waits:
            return _Around(frozenset(), any_other=False, due_ms={})
        own, any_other = self._seats.served()
        with reaching("status"):
            due: Any = self._client.zrange(keys.WAKE, 0, -1, withscores=True)
        due_ms = {str(org): float(at_ms) for org, at_ms in due}
        with suppress(RedisError):  # who may not ask for it, sees the rest all the same
            found = [finding for finding in check_servers(self._client) if finding.result == "fail"]
            full = [finding for finding in found if finding.check.startswith("redis memory")]
            lacks = "; ".join(f"{f.detail}: {f.cure}" for f in found if f not in full)
            return _Around(frozenset(own), any_other, due_ms, lacks, is_full=bool(full))
        return _Around(frozenset(own), any_other, due_ms)

    def _ages_s(self, heads: Mapping[str, Sequence[Any]], now_ms: float) -> dict[str, float | None]:
        """Say how long the first job of each org has been ready: accepted, or back from a retry or replay."""
        pipe = self._client.pipeline(transaction=False)
        asked = [(name, head) for name, its in heads.items() for head in its if isinstance(head, str)]
        for name, head in asked:
            pipe.get(keys.key(name, "job", head))
        with reaching("status"):
            found = pipe.execute()
        oldest: dict[str, float | None] = dict.fromkeys(heads)
        for (name, _), stored in zip(asked, found, strict=True):
            record = read(stored) if stored else {}
            if at_ms := record.get(Field.READY_SINCE) or record.get(Field.ENQUEUED_AT):
                age_s = round(max(0.0, now_ms - int(at_ms)) / 1000, 1)
                oldest[name] = max(age_s, oldest[name] or 0.0)
        return oldest


def _state(
    name: str, settings: Org | None, reply: Sequence[Any], oldest_s: float | None, now_ms: float
) -> OrgState:
    gauged, _, _, *counts = reply
    if failed := [answer for answer in counts if isinstance(answer, Exception)]:
        raise StoreError(f"Redis refused to show org {name}: {failed[0]}") from failed[0]
    urgent, queued, isolated, retrying, in_flight, missing, gate, stats = counts
    return OrgState(
        org=name,
        settings=settings,
        queued=urgent + queued,
        isolated=isolated,
        retrying=retrying,
        in_flight=in_flight,
        missing_badges=missing,
        oldest_s=oldest_s,
        dead={kind.value: int(stats.pop(f"listed:{kind}", 0)) for kind in DeadKind},
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
        per_minute=found.get("per_minute"),
        rate_for_s=max(0.0, found["at"] / 1000 - time.time()) if found["why"] == "rate" else 0.0,
    )


def _trouble(gate: Any, now_ms: float) -> Trouble | None:
    """Read what a worker noted that couldn't begin to send; one that is long gone tells nothing of now."""
    noted = gate.get("trouble") if isinstance(gate, dict) else None
    if noted is None:
        return None
    at_ms, why, reason = noted.split(" ", 2)
    return Trouble(why, reason) if now_ms - int(at_ms) < TROUBLE_MS else None


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
        reason=(gate.get("reason") or None) if paused or closed or tripped else None,
        since=iso_time(gate.get("since")) if paused or closed or tripped else None,
        closed_until=iso_time(closed_until) if closed else None,
        tripped=tripped,
        batch_size=int(gate["batch_size"]) if taught else None,
        last_reason=gate.get("limiter"),
    )
