"""The doctor: looks at everything the work depends on, and says of what isn't well how to cure it.

It changes nothing but this: a call to the vendor takes a slot of the org's limit, like every other one,
and a token that was fetched is kept for all. No check ends another; what can't be told is a warning.
How an org and its vendor are looked at is in ``orgcheck.py``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal

import kombu
import redis
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from worker import keys
from worker.client import VendorClient
from worker.config import Settings, unknown_settings
from worker.connection import NO_BROKER, OLDEST_REDIS, Connection, is_cluster
from worker.errors import BadgesError
from worker.org import Org
from worker.orgcheck import Finding, check_org, check_settings, is_local, skew
from worker.queue import Queue
from worker.status import Survey
from worker.store import servers

PLAIN_TEXT = ("redis", "redis+sentinel", "redis+cluster", "sentinel", "amqp", "pyamqp")
SKEW_S = 1.0
OVERDUE_S = 10.0
FULL, NEARLY_FULL = 0.95, 0.8
JOB_BYTES = 500  # from when it is accepted until its result expires, all told: measured, and rounded up


def examine(settings: Settings, environ: Mapping[str, str], org: str | None = None) -> Iterator[Finding]:
    """Check everything, or of the orgs only one; yields the findings as they come.

    Raises:
        ConfigError: there is no such org.
    """
    orgs = {org: settings.org(org)} if org else settings.orgs()
    for warning in unknown_settings(environ):
        yield Finding("settings", "warn", warning, "nobody reads it: rename or remove it")
    for one in orgs.values():
        yield from check_settings(one, alone=len(orgs) == 1)
    try:
        connection = Connection.open(settings)
    except BadgesError as error:
        yield Finding("redis", "fail", str(error), "or give BADGES_REDIS_URL")
        return
    with connection:
        yield from _transport("redis", connection.url)
        try:
            client = connection.client()
            client.set_retry(Retry(ConstantBackoff(0.1), 1))
            info = client.info()
        except (RedisError, BadgesError) as error:
            cure = "start it, or correct BADGES_REDIS_URL; without it nothing else can be told"
            yield Finding("redis", "fail", str(error), cure)
            yield from _broker(connection)
            return
        with client:
            yield from _redis(client, info, connection)
            if settings.replicas:
                yield _replicas(info, settings.replicas)
            yield from _broker(connection)
            yield _workers(client)
            yield from _orgs(client, orgs, everything=org is None)


# -- Redis


def _transport(check: str, url: str) -> Iterator[Finding]:
    if not is_local(url) and url.partition("://")[0] in PLAIN_TEXT:
        detail = f"{check} on another machine without TLS: jobs and tokens can be read on the way"
        yield Finding(f"{check} TLS", "warn", detail, "use rediss:// or amqps://")


def _redis(client: redis.Redis, info: Mapping[str, Any], connection: Connection) -> Iterator[Finding]:
    version = str(info.get("valkey_version", info["redis_version"]))
    new = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2]) >= OLDEST_REDIS
    where = "embedded server" if connection.server else "server"
    yield Finding(
        "redis",
        "ok" if new else "fail",
        f"{where} answers, version {version}" + ("" if new else ": too old for WAITAOF"),
        "" if new else "use Redis 7.2 or later, or Valkey",
    )
    for name, server in servers(client).items():
        its = server.info()
        for finding in (_persistence(server, its), _eviction(its), _memory(its)):
            yield replace(finding, check=f"{finding.check} {name}".strip())
    if int(info.get("cluster_enabled", 0)) and not is_cluster(connection.url):
        cure = "write redis+cluster:// in BADGES_REDIS_URL, and another BADGES_BROKER_URL"
        yield Finding("redis cluster", "fail", "it is a node of a Cluster, of which it has a part", cure)
    yield _scripts(client)
    yield _clock(client)


def _persistence(client: redis.Redis, info: Mapping[str, Any]) -> Finding:
    check = "redis persistence"
    if not info.get("aof_enabled"):
        return Finding(
            check, "fail", "no append-only file: its crash loses or repeats jobs", "appendonly yes"
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        return Finding(check, "fail", "the append-only file can't be written", "look at the server's disk")
    try:
        policy = client.config_get("appendfsync").get("appendfsync", "unknown")
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
    most = float(info.get("maxmemory") or info.get("total_system_memory") or 0)
    share = used / most if most else 0.0
    detail = f"{used / 2**20:,.1f} MiB used"
    if most:
        fit = round(max(0.0, most - used) / JOB_BYTES, -3)
        detail += f" of {most / 2**20:,.0f}; about {fit:,.0f} more jobs fit"
    cure = "" if share < NEARLY_FULL else "give it more, or a shorter BADGES_RESULT_TTL_DAYS"
    result: Literal["ok", "warn", "fail"] = "ok" if not cure else "warn" if share < FULL else "fail"
    return Finding("redis memory", result, detail, cure)


def _scripts(client: redis.Redis) -> Finding:
    try:
        return Finding("redis scripts", "ok", f"{Queue(client).store.load()} scripts load")
    except RedisError as error:
        return Finding("redis scripts", "fail", str(error), "allow the user EVALSHA and SCRIPT LOAD")


def _clock(client: redis.Redis) -> Finding:
    before = time.time()
    seconds, micros = client.time()
    skew_s = seconds + micros / 1e6 - (before + time.time()) / 2
    return skew("clock", "Redis", skew_s, SKEW_S)


# -- broker and workers


def _replicas(info: Mapping[str, Any], wanted: int) -> Finding:
    there = int(info.get("connected_slaves", 0))
    detail = f"{there} of the {wanted} that BADGES_REPLICAS asks for"
    cure = "" if there >= wanted else "start more: without them nothing is accepted, and nothing sent"
    return Finding("redis replicas", "fail" if cure else "ok", detail, cure)


def _broker(connection: Connection) -> Iterator[Finding]:
    if not connection.broker_url:
        cure = "without one, no worker starts; whoever only hands in needs none"
        yield Finding("broker", "fail", NO_BROKER, cure)
        return
    if connection.broker_url != connection.url:
        yield from _transport("broker", connection.broker_url)
    quick = {"socket_connect_timeout": 3, "socket_timeout": 3, **connection.broker_options}
    try:
        with kombu.Connection(connection.broker_url, connect_timeout=3, transport_options=quick) as broker:
            broker.ensure_connection(max_retries=1, interval_start=0, timeout=5)
            yield Finding("broker", "ok", f"answers, {broker.as_uri()}")
    except Exception as error:  # noqa: BLE001 - each kind of broker has errors of its own
        words = str(error) or type(error).__name__
        yield Finding("broker", "fail", words, "start it, or correct BADGES_BROKER_URL")


def _workers(client: redis.Redis) -> Finding:
    """Count those that were heard of lately, and see whether what is due is taken."""
    now_ms = int(time.time() * 1000)
    pool = client.zrange(keys.POOL, now_ms, "+inf", byscore=True)
    own = client.zrange(keys.OWN, now_ms, "+inf", byscore=True)
    due = client.zrange(keys.WAKE, 0, 0, withscores=True)
    overdue_s = time.time() - float(due[0][1]) / 1000 if due else 0.0
    if not (pool or own):
        return Finding("workers", "warn", "no worker is alive: nothing is sent", "start one: badges worker")
    names = sorted(str(worker).rpartition(" ")[0] for worker in pool)
    names += [f"one for org {org!s} alone" for org in own]
    alive = f"{len(names)} alive: {', '.join(names)}"
    if overdue_s > OVERDUE_S:
        detail = f"{alive}; yet an org has waited {overdue_s:.0f} s to be looked at"
        return Finding("workers", "warn", detail, "see the workers' logs")
    return Finding("workers", "ok", alive)


# -- orgs and their vendors


def _orgs(client: redis.Redis, orgs: Mapping[str, Org], *, everything: bool) -> Iterator[Finding]:
    known = {str(name) for name in client.smembers(keys.ORGS)} if everything else set()
    try:
        states = Survey(client).states({name: orgs.get(name) for name in sorted(known | set(orgs))})
    except BadgesError as error:
        yield Finding("orgs", "fail", str(error), "look at the server")
        return
    vendor = VendorClient()
    try:
        with ThreadPoolExecutor(max_workers=8) as pool:
            asked = pool.map(lambda state: list(check_org(state, client, vendor)), states)
            for found in asked:
                yield from found
    finally:
        vendor.close()
