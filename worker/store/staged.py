"""Files that were uploaded to the console, and how far the import of each is: what console and workers share.

The bytes themselves lie on disk (``operate/staging.py``). All of it is gone after a day.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis

from worker.domain.names import DEFAULT_ORG
from worker.server.cluster import reaching
from worker.store import keys

KEPT_S = 86_400
LEASE_S = 60


def put(client: redis.Redis, staged_id: str, values: Mapping[str, str | int]) -> None:
    """Write fields of a file's record."""
    key = keys.key(DEFAULT_ORG, "staged", staged_id)
    with reaching("the uploaded file"):
        pipe = client.pipeline(transaction=False)
        pipe.hset(key, mapping={name: str(value) for name, value in values.items()})
        pipe.expire(key, 2 * KEPT_S)
        pipe.execute()


def list_it(client: redis.Redis, staged_id: str, came_at: int) -> None:
    """Put a file that came at this time (s) on the list."""
    with reaching("the uploaded files"):
        client.zadd(keys.key(DEFAULT_ORG, "uploads"), {staged_id: came_at * 1000}, nx=True)


def get(client: redis.Redis, staged_id: str) -> dict[str, str]:
    """Return a file's record; nothing if there is none."""
    with reaching("the uploaded file"):
        found: dict[str, str] = client.hgetall(keys.key(DEFAULT_ORG, "staged", staged_id))  # type: ignore[assignment]
    return found


def newest(client: redis.Redis) -> list[tuple[str, int]]:
    """Return the files there are, the newest first, each with when it came, ms."""
    with reaching("the uploaded files"):
        found: Any = client.zrange(keys.key(DEFAULT_ORG, "uploads"), 0, -1, desc=True, withscores=True)
    return [(str(name), int(at_ms)) for name, at_ms in found]


def forget(client: redis.Redis, staged_id: str) -> None:
    """Take a file off the list, and its record away."""
    with reaching("the uploaded file"):
        client.zrem(keys.key(DEFAULT_ORG, "uploads"), staged_id)
        client.delete(keys.key(DEFAULT_ORG, "staged", staged_id))


def take(client: redis.Redis, staged_id: str, holder: str) -> bool:
    """Take the import of a file for a minute, or keep it for another; not if somebody else has it."""
    key = keys.key(DEFAULT_ORG, "call", f"staged-{staged_id}")
    with reaching("the uploaded file"):
        taken_by = client.set(key, holder, nx=True, get=True, ex=LEASE_S)
        if taken_by == holder:
            client.expire(key, LEASE_S)
    return taken_by in (None, holder)


def give_back(client: redis.Redis, staged_id: str, holder: str) -> None:
    """Let the next one take it at once, unless somebody else has it by now."""
    key = keys.key(DEFAULT_ORG, "call", f"staged-{staged_id}")
    with reaching("the uploaded file"):
        if client.get(key) == holder:
            client.delete(key)
