"""Reads what all orgs are doing right now, for status and metrics.

What lies in Redis of them is read by ``store/readings.py``; here it gets its meaning.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from worker.domain.batch import Why
from worker.domain.job import DeadKind
from worker.domain.org import Org
from worker.domain.text import iso_time
from worker.errors import StoreError
from worker.operate.standstill import Circumstances, Gate, Trouble, standstill
from worker.operate.status import OrgState, Pace
from worker.server.cluster import Redis
from worker.server.health import MEMORY, WRITES, Finding, check_servers
from worker.store.pool import Fleet, fleet
from worker.store.queue import Queue
from worker.store.readings import Readings, readings

TROUBLE_MS = 60_000
LATELY_MS = 24 * 3600 * 1000
CALLS_THAT_TELL = 10


@dataclass(frozen=True, slots=True)
class _Around:
    """What all orgs share: the workers there are, and what is wrong with the server; unless nothing waits."""

    workers: Fleet | None
    lacks: str = ""
    is_full: bool = False
    refuses: str = ""

    def of(self, state: OrgState, trouble: Trouble | None) -> Circumstances:
        """Put together what an org's standstill is judged by."""
        pace = state.pace
        used_up = [str(limit) for limit, sent in (pace.sent if pace else ()) if sent >= limit.count]
        return Circumstances(
            org=state.org,
            settings=state.settings,
            waiting=state.waiting + state.to_repeat + state.to_undo,
            in_flight=state.in_flight,
            gate=state.gate,
            has_worker=bool(self.workers and self.workers.serves(state.org)),
            no_broker=(self.workers and self.workers.no_broker(state.org)) or "",
            redis_is_full=self.is_full,
            redis_refuses=self.refuses,
            redis_weakness=self.lacks,
            trouble=trouble,
            overdue_s=self.workers.overdue_s(state.org) if self.workers else 0.0,
            limit_for_s=pace.rate_for_s if pace else 0.0,
            limit=" and ".join(used_up),
        )


class Survey:
    """Reads the states of many orgs at once."""

    def __init__(self, client: Redis) -> None:
        self._queue = Queue(client)

    def states(self, orgs: Mapping[str, Org | None]) -> list[OrgState]:
        """Return each org's state, by Redis's clock; the settings are ``None`` of one that isn't configured.

        Raises:
            StoreError: Redis refused or can't be reached.
        """
        now_ms = self._queue.store.orgs_now_ms(orgs)
        found = readings(self._queue.store, orgs, now_ms)
        read = [
            (_state(name, orgs[name], its, now_ms[name]), _trouble(its.gate, now_ms[name]))
            for name, its in found.items()
        ]
        around = self._around(
            waits=any(
                state.waiting or state.to_repeat or state.to_undo or state.in_flight for state, _ in read
            )
        )
        return [replace(state, standstill=standstill(around.of(state, trouble))) for state, trouble in read]

    def _around(self, *, waits: bool) -> _Around:
        """Look at what all orgs share, if anything waits for it."""
        if not waits:
            return _Around(workers=None)
        workers = fleet(self._queue)
        with suppress(StoreError):  # who may not ask for it, sees the rest all the same
            found = [finding for finding in check_servers(self._queue.client) if finding.result == "fail"]
            full = [finding for finding in found if finding.check.startswith(MEMORY)]
            refusing = [finding for finding in found if finding.check.startswith(WRITES)]
            lacks = _said(finding for finding in found if finding not in (*full, *refusing))
            return _Around(workers, lacks, is_full=bool(full), refuses=_said(refusing))
        return _Around(workers)


def _said(findings: Iterable[Finding]) -> str:
    return "; ".join(f"{one.detail}: {one.cure}" for one in findings)


def _state(name: str, settings: Org | None, its: Readings, now_ms: int) -> OrgState:
    stats = {counter: int(n) for counter, n in its.stats.items()}
    since_ms, gauged = its.ready_since_ms, json.loads(its.gauged or "{}")
    return OrgState(
        org=name,
        settings=settings,
        read_at_ms=now_ms,
        queued=its.queued,
        isolated=its.isolated,
        on_hold=int(gauged.get("held", 0)),
        retrying=its.retrying,
        in_flight=its.in_flight,
        missing_badges=its.missing_badges,
        to_repeat=its.to_repeat,
        to_undo=its.to_undo,
        undo_retrying=its.undo_retrying,
        last_retry_ms=its.last_retry_ms,
        oldest_s=round(max(0.0, now_ms - since_ms) / 1000, 1) if since_ms else None,
        dead={kind.value: stats.pop(f"listed:{kind}", 0) for kind in DeadKind},
        stats=stats,
        gate=_gate(its.gate, now_ms),
        pace=_pace(settings, gauged, now_ms),
    )


def _pace(settings: Org | None, found: Mapping[str, Any], now_ms: int) -> Pace | None:
    """Read what ``gauge.lua`` answered, if it did."""
    if settings is None or not found:
        return None
    longest_s = max(limit.window_s / limit.count for limit in settings.limits if not limit.of_items)
    return Pace(
        ripe=found["ripe"],
        width=int(found["width"]),
        allowed_per_s=min(1e6 / found["spacing_us"], 1 / longest_s),
        learned=found["spacing_us"] > found["configured_us"] * 1.001,
        sent=tuple(zip(settings.limits, map(int, found["sent"]), strict=True)),
        per_minute=found.get("per_minute"),
        rate_for_s=max(0, found["at"] - now_ms) / 1000 if found["why"] == Why.RATE else 0.0,
    )


def _trouble(gate: Mapping[str, str], now_ms: int) -> Trouble | None:
    """Read what a worker noted that couldn't begin to send; one that is long gone tells nothing of now."""
    noted = gate.get("trouble")
    if noted is None:
        return None
    at_ms, why, reason = noted.split(" ", 2)
    return Trouble(why, reason) if now_ms - int(at_ms) < TROUBLE_MS else None


def _gate(gate: Mapping[str, str], now_ms: int) -> Gate:
    # The gate goes by a clock of its own, see ``lua/_gate.lua``.
    ahead_ms = int(gate.get("offset", 0)) // 1000
    closed_until = int(gate.get("closed_until", 0)) - ahead_ms
    tripped = int(gate.get("probing", 0)) > 0
    closed, paused = closed_until > now_ms, "paused" in gate
    taught = "batch_size" in gate and float(gate.get("batch_size_until", 0)) - ahead_ms > now_ms
    since, reason = ("paused_since", "pause_reason") if paused else ("since", "reason")
    return Gate(
        state="paused" if paused else "closed" if closed else "probing" if tripped else "open",
        why=gate.get("paused") or (gate.get("why") if closed or tripped else None),
        reason=(gate.get(reason) or None) if paused or closed or tripped else None,
        since=iso_time(gate.get(since)) if paused or closed or tripped else None,
        closed_until=iso_time(closed_until) if closed else None,
        tripped=tripped,
        batch_size=int(gate["batch_size"]) if taught else None,
        limiter=_of_late(gate.get("limiter"), now_ms),
        call_ms=_usual_ms(gate.get("took")),
        ahead_ms=ahead_ms,
    )


def _of_late(noted: str | None, now_ms: int) -> str | None:
    """Read a reason that begins with when it was noted; what was a day ago tells nothing of now."""
    at_ms, _, reason = (noted or "").partition(" ")
    return reason if at_ms.isdigit() and now_ms - int(at_ms) < LATELY_MS else None


def _usual_ms(took: str | None) -> float | None:
    """Read the mean of the last calls, which ``settle.lua`` keeps."""
    calls, mean_ms = (took or "0 0").split()
    return float(mean_ms) if int(calls) >= CALLS_THAT_TELL else None
