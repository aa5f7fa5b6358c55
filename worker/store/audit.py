"""The audit trail: who did what to an org's jobs, when, why, and to how many.

An entry is written, durably, before anything is done; what is done counts itself in the entry, in the same
script. So when an act breaks off half-way, it has an entry, and the count says what was done.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

import redis

from worker.domain.text import iso_time
from worker.store import keys
from worker.store.queue import Queue, chunks

KEPT = 10_000  # entries of an org, the newest
NOTE_LENGTH = 500
PAGE = 500
FORGOTTEN = "forgotten"  # stands for whom an entry was about

Action = Literal[
    "replay",
    "discard",
    "resolve",
    "cancel",
    "pause",
    "resume",
    "import",
    "profile",
    "undo",
    "forget",
    "check",
    "start",
]


@dataclass(frozen=True, slots=True)
class Entry:
    """One action; ``which`` says what it was asked for, ``count`` what it did, if it is about jobs."""

    id: str
    org: str
    at: str | None
    by: str
    action: str
    which: dict[str, Any]
    count: int | None
    note: str


def action_id(queue: Queue, action: Action) -> str:
    """Return an id for what is about to be done, such as ``replay-1f2e3d4c``."""
    return f"{action}-{queue.new_id()[:8]}"


def begin(  # noqa: PLR0913 - all that the trail keeps
    queue: Queue,
    org: str,
    action: str,
    *,
    by: str,
    note: str = "",
    which: Mapping[str, Any] | None = None,
    counts: bool = True,
    kept: int = KEPT,
) -> None:
    """Write, durably, what is about to be done under this id; the same id again changes nothing.

    ``which`` says what it is done to; without it, the action isn't about jobs, and counts nothing. Nor does
    one where ``counts`` is false, since what it does isn't counted here.
    ``kept``: how many of the org's newest entries stay.
    """
    fields = ["by", by, "action", action.partition("-")[0], "note", note[:NOTE_LENGTH]]
    if which is not None:
        fields += ["which", json.dumps(which), *(("count", "0") if counts else ())]
    queue.store.refuse_other_versions()
    queue.store.durably("audit", [keys.key_prefix(org)], [action, fields, kept])


class Act(NamedTuple):
    """By whom something was done, and why; ``None`` where the trail doesn't reach so far back."""

    by: str | None
    note: str | None


def act(client: redis.Redis, org: str, action: str) -> Act:
    """Return who did one thing, and why."""
    found: Any = client.hmget(keys.key(org, "audit", action), "by", "note")
    return Act(*found)


def entries(client: redis.Redis, org: str) -> Iterator[Entry]:
    """Yield what was done to an org, newest first."""
    ids = [str(action) for action in client.zrange(keys.key(org, "audits"), 0, -1, desc=True)]
    for page in chunks(ids, PAGE):
        yield from _read(client, org, page)


def before(client: redis.Redis, org: str, at: str | None, most: int) -> list[Entry]:
    """Return what was done last to an org, up to that instant (ISO 8601, the instant included)."""
    until = "+inf" if at is None else str(round(datetime.fromisoformat(at).timestamp() * 1000))
    key = keys.key(org, "audits")
    ids = client.zrange(key, until, "-inf", desc=True, byscore=True, offset=0, num=most)
    return list(_read(client, org, [str(action) for action in ids]))


def forget(client: redis.Redis, org: str, customer: int, jobs: Collection[str]) -> None:
    """Take a customer, and these jobs, out of what entries say they were asked for."""
    pipe = client.pipeline(transaction=False)
    for one in entries(client, org):
        said = {name for name, value in one.which.items() if _is_of(name, value, customer, jobs)}
        if said:
            which = one.which | dict.fromkeys(said, FORGOTTEN)
            pipe.hset(keys.key(org, "audit", one.id), "which", json.dumps(which))
    pipe.execute()


def _is_of(name: str, value: object, customer: int, jobs: Collection[str]) -> bool:
    return value == customer if name == "customer" else name == "job" and value in jobs


def entry(client: redis.Redis, org: str, action: str) -> Entry | None:
    """Return one action, if it was begun."""
    return next(_read(client, org, [action]), None)


def _read(client: redis.Redis, org: str, ids: Sequence[str]) -> Iterator[Entry]:
    pipe = client.pipeline(transaction=False)
    for action in ids:
        pipe.hgetall(keys.key(org, "audit", action))
    for action, record in zip(ids, pipe.execute(), strict=True):
        if record:
            yield _entry(org, action, record)


def _entry(org: str, action: str, record: Mapping[str, str]) -> Entry:
    return Entry(
        id=action,
        org=org,
        at=iso_time(record["at"]),
        by=record["by"],
        action=record["action"],
        which=json.loads(record.get("which", "{}")),
        count=int(record["count"]) if "count" in record else None,
        note=record["note"],
    )
