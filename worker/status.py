"""What an org is doing right now: its queue, its dead letters, and its gate."""

from __future__ import annotations

import time
from typing import Any

import redis

from worker import keys
from worker.job import DeadKind, iso_time


def org_status(client: redis.Redis, org: str) -> dict[str, Any]:
    """Return an org's state, as ``badges status --json`` prints it."""
    pipe = client.pipeline(transaction=False)
    pipe.llen(keys.key(org, "queue"))
    pipe.llen(keys.key(org, "isolate"))
    pipe.lindex(keys.key(org, "queue"), 0)
    pipe.zcard(keys.key(org, "retry"))
    pipe.zcard(keys.key(org, "inflight"))
    pipe.hgetall(keys.key(org, "gate"))
    for kind in DeadKind:
        pipe.zcard(keys.key(org, "dead", kind))
    queued, isolated, head, retrying, in_flight, gate, *dead = pipe.execute()
    return {
        "org": org,
        "queued": queued + isolated,
        "oldest_s": _age_s(client, org, head),
        "retrying": retrying,
        "in_flight": in_flight,
        "dead": {kind.value: count for kind, count in zip(DeadKind, dead, strict=True) if count},
        "gate": _gate(gate),
        "sent_last_minute": _sent_since(client, org, gate, time.time() - 60),
    }


def _age_s(client: redis.Redis, org: str, head: str | None) -> float | None:
    if head is None:
        return None
    enqueued_at = client.hget(keys.key(org, "job", head), "t")
    return round(max(0.0, time.time() - int(enqueued_at) / 1000), 1) if enqueued_at else None


def _gate(gate: dict[str, str]) -> dict[str, Any]:
    closed_until = int(gate.get("closed_until", 0))
    closed = closed_until > time.time() * 1000
    state = (
        "paused" if "paused" in gate else "closed" if closed else "probing" if gate.get("probing") else "open"
    )
    return {
        "state": state,
        "why": gate.get("paused") or (gate.get("why") if closed else None),
        "reason": gate.get("reason") if "paused" in gate else None,
        "since": iso_time(gate.get("since")) if state in ("paused", "closed") else None,
        "closed_until": iso_time(str(closed_until)) if closed else None,
        "batch_size": int(gate["batch_size"]) if "batch_size" in gate else None,
    }


def _sent_since(client: redis.Redis, org: str, gate: dict[str, str], since_s: float) -> int:
    """Count the sends in the ring; as many as the largest limit allows are remembered."""
    sends, size = int(gate.get("n", 0)), int(gate.get("size", 0))
    ring = str(client.get(keys.key(org, "ring")) or "") if sends else ""
    times = (ring[at : at + 16] for at in range(0, min(sends, size) * 16, 16))
    return sum(1 for at_us in times if float(at_us) > since_s * 1e6)
