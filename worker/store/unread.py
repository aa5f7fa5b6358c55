"""That a run's file wasn't read to its end: noted beside the run's counters."""

from __future__ import annotations

from worker.domain.text import plain
from worker.server.cluster import Redis, reaching
from worker.store import keys

_BYTES = 400


def note(client: Redis, org: str, run: str, file: str, why: str) -> None:
    """Note why it wasn't; of several files the first such is kept, and a run without jobs gets no note."""
    key, name = keys.key(org, "run", run), plain(file, _BYTES)
    with reaching("a run"):
        if client.exists(key) and _is_of(client, key, name):
            client.hset(key, mapping={"incomplete": plain(why, _BYTES), "incomplete_file": name})


def take_back(client: Redis, org: str, run: str, file: str) -> None:
    """Note that a file was read to its end, which says nothing of one with another name."""
    key, name = keys.key(org, "run", run), plain(file, _BYTES)
    with reaching("a run"):
        if _is_of(client, key, name):
            client.hdel(key, "incomplete", "incomplete_file")


def _is_of(client: Redis, key: str, name: str) -> bool:
    return client.hget(key, "incomplete_file") in (None, name)
