"""The OAuth tokens that all processes share: one of each org, fetched by one process at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from worker.server.cluster import Redis, reaching
from worker.store import keys


@dataclass(frozen=True, slots=True)
class KeptToken:
    """A token, how long it was said to be good, and when it was fetched and ends, seconds since 1970."""

    token: str
    ttl: float
    fetched_at: float
    expires_at: float


def kept(client: Redis, org: str) -> KeptToken | None:
    """Return the token that an org has, if any."""
    with reaching("token"):
        record = client.get(keys.key(org, "token"))
    try:
        return KeptToken(**json.loads(record)) if isinstance(record, str) else None
    except (ValueError, TypeError):  # another version's
        return None


def keep(client: Redis, org: str, token: KeptToken) -> None:
    """Keep a token for as long as it is good."""
    with reaching("token"):
        client.set(keys.key(org, "token"), json.dumps(asdict(token)), px=int(token.ttl * 1000))


def drop(client: Redis, org: str) -> None:
    """Keep the token no longer: the vendor refused it."""
    with reaching("token"):
        client.delete(keys.key(org, "token"))


@contextmanager
def alone(client: Redis, org: str, *, within_s: float) -> Iterator[bool]:
    """Let one process fetch a token at a time; yields whether it is this one.

    A process that died lets the next one fetch after ``within_s``.
    """
    lock = client.lock(keys.key(org, "token") + ":lock", timeout=within_s, blocking=False, thread_local=False)
    with reaching("token"):
        ours = lock.acquire()
    try:
        yield ours
    finally:
        with reaching("token"):
            if ours and lock.owned():
                lock.release()
