"""What every org is doing right now, as it lies in Redis: in two pipelines for all orgs together.

Every number is read from where it is kept; no key is searched for. How fast an org may go, only
``lua/gauge.lua`` can say: the one brain is asked, not copied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import NoScriptError

from worker.domain.org import Org
from worker.errors import ScriptError, StoreError
from worker.server.cluster import reaching
from worker.store import keys
from worker.store.protocol import gate_config
from worker.store.record import Field, read
from worker.store.scripts import Store


@dataclass(frozen=True, slots=True)
class Readings:
    """What one org's keys hold; ``gauged`` is the answer of ``gauge.lua``, ``None`` where it gave none."""

    gauged: str | None
    queued: int
    isolated: int
    retrying: int
    in_flight: int
    missing_badges: int
    to_repeat: int
    to_undo: int
    undo_retrying: int
    gate: Mapping[str, str]
    stats: Mapping[str, str]
    last_retry_ms: int | None = None  # when the last of those that are retrying is due, by the org's clock
    ready_since_ms: int | None = None  # of the job that has been ready for longest: accepted, or back again


def readings(store: Store, orgs: Mapping[str, Org | None], now_ms: Mapping[str, int]) -> dict[str, Readings]:
    """Read every org at its server's time; its settings are ``None`` of one that isn't configured.

    Raises:
        StoreError: Redis refused or can't be reached.
        ScriptError: the script failed, which is a bug.
    """
    if not orgs:
        return {}
    replies = _replies(store, orgs, now_ms)
    if any(isinstance(reply, NoScriptError) for reply in replies):
        store.load("gauge")
        replies = _replies(store, orgs, now_ms)
    width = len(replies) // len(orgs)
    found = [replies[at : at + width] for at in range(0, len(replies), width)]
    since = _ready_since_ms(store, dict(zip(orgs, (reply[1:3] for reply in found), strict=True)))
    return {name: _of(name, reply, since[name]) for name, reply in zip(orgs, found, strict=True)}


def _replies(store: Store, orgs: Mapping[str, Org | None], now_ms: Mapping[str, int]) -> list[Any]:
    pipe = store.client.pipeline(transaction=False)
    for name, settings in orgs.items():
        _ask(store, pipe, name, settings, now_ms[name])
    with reaching("status"):
        return list(pipe.execute(raise_on_error=False))


def _ask(store: Store, pipe: Any, name: str, settings: Org | None, now_ms: int) -> None:
    # First: it drops ids from the queue's head whose jobs were dealt with otherwise. Of one that isn't
    # configured only what it counts has a meaning.
    store.add(pipe, "gauge", [keys.key_prefix(name)], [gate_config(settings or Org(name=name))])
    for lane in ("urgent", "queue"):
        pipe.lindex(keys.key(name, lane), 0)
    for lane in ("urgent", "queue"):
        pipe.llen(keys.key(name, lane))
    pipe.llen(keys.key(name, "isolate"))
    pipe.zcard(keys.key(name, "retry"))
    pipe.zcount(keys.key(name, "inflight"), now_ms, "+inf")
    pipe.zcount(keys.key(name, "missing"), now_ms, "+inf")
    pipe.zcard(keys.key(name, "agains"))
    pipe.zcard(keys.key(name, "revokes"))
    pipe.zcount(keys.key(name, "revokes"), "(0", "+inf")
    pipe.hgetall(keys.key(name, "gate"))
    pipe.hgetall(keys.key(name, "stats"))
    pipe.zrange(keys.key(name, "retry"), 0, 0, desc=True, withscores=True)


def _ready_since_ms(store: Store, heads: Mapping[str, Sequence[Any]]) -> dict[str, int | None]:
    """Say since when the first job of each org's lanes has been ready."""
    pipe = store.client.pipeline(transaction=False)
    asked = [(name, head) for name, its in heads.items() for head in its if isinstance(head, str)]
    for name, head in asked:
        pipe.get(keys.key(name, "job", head))
    with reaching("status"):
        found = pipe.execute()
    oldest: dict[str, int | None] = dict.fromkeys(heads)
    for (name, _), stored in zip(asked, found, strict=True):
        record = read(stored) if stored else {}
        if at_ms := int(record.get(Field.READY_SINCE) or record.get(Field.ENQUEUED_AT) or 0):
            oldest[name] = min(at_ms, oldest[name] or at_ms)
    return oldest


def _queued(gauged: Any, in_lanes: int) -> int:
    """Return how many jobs are ready; if need be by the lanes, in which ids of others may lie."""
    return int(json.loads(gauged)["queued"]) if isinstance(gauged, str) else in_lanes


def _of(name: str, reply: Sequence[Any], ready_since_ms: int | None) -> Readings:
    gauged, _, _, *counts = reply
    if failed := [answer for answer in counts if isinstance(answer, Exception)]:
        raise StoreError(f"Redis refused to show org {name}: {failed[0]}") from failed[0]
    # A server that can't write now refuses scripts, and only those.
    if isinstance(gauged, Exception) and "script:" in str(gauged):
        raise ScriptError(str(gauged)) from gauged
    urgent, queued, isolated, retrying, in_flight, missing, repeat, undo, again, gate, stats, last = counts
    return Readings(
        gauged=gauged if isinstance(gauged, str) else None,
        queued=_queued(gauged, urgent + queued),
        isolated=isolated,
        retrying=retrying,
        in_flight=in_flight,
        missing_badges=missing,
        to_repeat=repeat,
        to_undo=undo,
        undo_retrying=again,
        gate=gate,
        stats=stats,
        last_retry_ms=int(last[0][1]) if last else None,
        ready_since_ms=ready_since_ms,
    )
