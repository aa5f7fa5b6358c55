"""Is a Redis server what the promises rest on? For the doctor, and for what a worker logs as it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.retry import Retry

from worker.errors import StoreError, UnusableServer
from worker.server.cluster import Redis, reaching, servers

OLDEST_REDIS = (7, 2)
FULL, NEARLY_FULL = 0.99, 0.8
MEMORY, WRITES = "redis memory", "redis writes"
UNUSED_KEY = "{badges}/unused"
JOB_BYTES = 500  # from when it is accepted until its result expires, all told: measured, and rounded up


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; ``cure`` says what to do unless it is ``ok``."""

    check: str
    result: Literal["ok", "warn", "fail"]
    detail: str
    cure: str = ""
    org: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as ``badges doctor --json`` prints it."""
        return {name: value for name, value in asdict(self).items() if name != "org" or value is not None}


def check_servers(client: redis.Redis) -> Iterator[Finding]:
    """Look at every server that the client writes to.

    Raises:
        StoreError: one can't be reached.
    """

    def look(server: redis.Redis) -> Iterator[Finding]:
        info = information(server)
        yield from (_version(info), _writes(server), _persistence(server, info), _eviction(info))
        yield _memory(info)

    return of_each(client, look)


def of_each(client: redis.Redis, look: Callable[[redis.Redis], Iterable[Finding]]) -> Iterator[Finding]:
    """Look at every server that the client writes to; in a Cluster a check bears the name of its node."""
    for name, server in servers(client).items():
        for finding in look(server):
            yield replace(finding, check=f"{finding.check} {name}".strip())


def ping(client: Redis) -> None:
    """Ask the server for an answer.

    Raises:
        StoreError: there is none.
    """
    with reaching("a ping"):
        client.ping()


class Answering:
    """Says whether the server answers, by a client of its own that tries once.

    Args:
        connect: makes that client; called when it is first asked.
    """

    def __init__(self, connect: Callable[[], Redis]) -> None:
        self._connect = connect
        self._client: Redis | None = None

    def __call__(self) -> bool:
        """Ask it now."""
        try:
            if not self._client:
                self._client = self._connect()
                self._client.set_retry(Retry(NoBackoff(), 0))
            ping(self._client)
        except (StoreError, OSError):
            return False
        return True


def information(client: Redis) -> dict[str, Any]:
    """Return what the server says of itself.

    Raises:
        StoreError: Redis can't be reached.
    """
    with reaching("a look at the server"):
        return dict(client.info())


def server_time_s(client: Redis) -> float:
    """Return the server's time, seconds since 1970.

    Raises:
        StoreError: Redis can't be reached.
    """
    with reaching("the time"):
        seconds, micros = client.time()
    return int(seconds) + int(micros) / 1e6


def memory(client: Redis) -> tuple[float, float]:
    """Return how many bytes the server uses, and may use at most: the machine's where it has no limit.

    Of a Cluster, those of its fullest node: what lies there has no room, however much the others have.

    Raises:
        StoreError: Redis can't be reached.
    """
    with reaching("info"):
        found = [server.info("memory") for server in servers(client).values()]
    told = [
        (info["used_memory"], info.get("maxmemory") or info.get("total_system_memory") or 0) for info in found
    ]
    return max(told, key=lambda its: its[0] / its[1] if its[1] else 0)


def refuse_unusable(client: redis.Redis) -> None:
    """See that the servers are ones that the promises can be kept with at all.

    Raises:
        UnusableServer: one is too old, or throws keys away as it likes; in the doctor's words.
        StoreError: it can't be reached.
    """
    with reaching("a look at the server"):
        for name, server in servers(client).items():
            info = server.info()
            for found in (_version(info), _eviction(info)):
                if found.result == "fail" and (found.check == "redis" or "allkeys" in found.detail):
                    raise UnusableServer(f"{f'Redis {name}'.strip()}: {found.detail}: {found.cure}")


def faults(client: redis.Redis) -> list[str]:
    """Say what is wrong with the servers as they are now, and what to do; nothing, if they can't be asked."""
    with suppress(StoreError):
        found = [one for one in check_servers(client) if one.result == "fail"]
        return [f"{one.check}: {one.detail}: {one.cure}" for one in found]
    return []


def is_full(client: redis.Redis) -> bool:
    """Say whether a server has come to its maxmemory, and refuses what takes more."""
    return any(_share(server.info("memory"), "maxmemory") >= FULL for server in servers(client).values())


def _version(info: Mapping[str, Any]) -> Finding:
    version = str(info.get("valkey_version", info["redis_version"]))
    if tuple(int(part) for part in str(info["redis_version"]).split(".")[:2]) >= OLDEST_REDIS:
        return Finding("redis", "ok", f"answers, version {version}")
    detail = f"version {version} is too old for WAITAOF"
    return Finding("redis", "fail", detail, "use Redis 7.2 or later, or Valkey")


def _writes(server: redis.Redis) -> Finding:
    """See whether the server takes writes, by one that changes nothing; in its own words, if it doesn't."""
    try:
        server.persist(UNUSED_KEY)
    except ReadOnlyError:
        detail = "it is a read-only replica: nothing is accepted or sent"
        return Finding(WRITES, "fail", detail, "make it the primary, or let BADGES_REDIS_URL lead to that")
    except ResponseError as error:
        said = str(error)
        if said.startswith("NOREPLICAS"):
            detail = "it takes no writes, as too few replicas are in step: nothing is accepted or sent"
            return Finding(WRITES, "fail", detail, "bring the replicas back, or lower min-replicas-to-write")
        if said.startswith("MISCONF"):
            detail = f"it takes no writes: {said.removeprefix('MISCONF ')}"
            return Finding(WRITES, "fail", detail, "look at the server's disk and log")
    except RedisError:
        pass  # away since a moment ago; or a Cluster's node, which may not be asked for this key
    return Finding(WRITES, "ok", "takes writes")


def _persistence(server: redis.Redis, info: Mapping[str, Any]) -> Finding:
    check = "redis persistence"
    if not info.get("aof_enabled"):
        return Finding(
            check, "fail", "no append-only file: its crash loses or repeats jobs", "appendonly yes"
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        return Finding(check, "fail", "the append-only file can't be written", "look at the server's disk")
    try:
        policy = server.config_get("appendfsync").get("appendfsync", "unknown")
    except RedisError:
        policy = "unknown"
    if policy == "always":
        return Finding(check, "ok", "append-only file, every write at once")
    if policy == "everysec":
        detail = "append-only file, written every second: each batch waits up to a second for it"
        return Finding(check, "warn", detail, "appendfsync always")
    if policy == "no":
        detail = "append-only file, written when the system likes: batches can't wait for that"
        return Finding(check, "fail", detail, "appendfsync always, or everysec")
    return Finding(check, "warn", "append-only file; CONFIG GET is not allowed", "see to appendfsync always")


def _eviction(info: Mapping[str, Any]) -> Finding:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        return Finding("redis eviction", "ok", "when full, it refuses writes and throws nothing away")
    detail = f"when full, it throws keys away ({policy}), jobs among them"
    return Finding("redis eviction", "fail", detail, "maxmemory-policy noeviction")


def _memory(info: Mapping[str, Any]) -> Finding:
    used = float(info["used_memory"])
    most = "maxmemory" if info.get("maxmemory") else "total_system_memory"
    detail, share = f"{used / 2**20:,.1f} MiB used", _share(info, most)
    if share:
        fit = round(max(0.0, float(info[most]) - used) / JOB_BYTES, -3)
        detail += f" of {info[most] / 2**20:,.0f}; about {fit:,.0f} more jobs fit"
    cure = "" if share < NEARLY_FULL else "give it more, or a shorter BADGES_RESULT_TTL_DAYS"
    if share < FULL:
        return Finding(MEMORY, "warn" if cure else "ok", detail, cure)
    return Finding(MEMORY, "fail", f"{detail}: nothing is accepted or sent", cure)


def _share(info: Mapping[str, Any], of: str) -> float:
    most = info.get(of)
    return float(info["used_memory"]) / float(most) if most else 0.0
