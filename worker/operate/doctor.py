"""The doctor: looks at everything the work depends on, and says of what isn't well how to cure it.

It changes nothing but this: a call to the vendor takes a slot of the org's limit, like every other one,
and a token that was fetched is kept for all. No check ends another; what can't be told is a warning.
How Redis is looked at is in ``server/health.py``, how an org and its vendor in ``orgcheck.py``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from worker.config import Settings, unknown_settings
from worker.domain.org import Org
from worker.errors import BadgesError, ConfigError, StoreError
from worker.operate.orgcheck import check_org, check_settings, is_local, skew
from worker.operate.survey import Survey
from worker.server.brokerkeys import client_of, is_redis, opened_broker, wrong_keys
from worker.server.cluster import Redis
from worker.server.connection import NO_BROKER, Connection, is_cluster
from worker.server.health import Finding, check_servers, information, of_each, server_time_s
from worker.store.pool import fleet
from worker.store.queue import Queue
from worker.vendor.client import VendorClient
from worker.vendor.proxies import Routes

PLAIN_TEXT = ("redis", "redis+sentinel", "redis+cluster", "sentinel", "amqp", "pyamqp")
SKEW_S = 1.0
OVERDUE_S = 10.0


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
    yield _way_out()
    try:
        connection = Connection.open(settings)
    except BadgesError as error:
        yield Finding("redis", "fail", str(error), "or give BADGES_REDIS_URL")
        return
    with connection:
        yield from _transport("redis", connection.url)
        try:
            client = connection.client(hurried=True)
            info = information(client)
        except BadgesError as error:
            cure = "start it, or correct BADGES_REDIS_URL; without it nothing else can be told"
            yield Finding("redis", "fail", str(error), cure)
            yield from _broker(connection, orgs)
            return
        with client:
            yield from _redis(client, info, connection)
            yield from of_each(client, partial(_clock_and_replicas, wanted=settings.replicas))
            yield from _broker(connection, orgs)
            queue = Queue(client)
            yield _workers(queue)
            yield from _minds(queue)
            yield from _orgs(queue, orgs, everything=org is None)


def _way_out() -> Finding:
    """Look at what the environment says about proxies and certificates, as a worker does at start."""
    try:
        VendorClient().close()
        proxies = Routes.from_environment().proxies
    except ConfigError as error:
        variable, _, what = str(error).partition(": ")
        return Finding(
            "network", "fail", f"{variable}: {what}", f"correct {variable}: no worker starts with it"
        )
    ways = [f"{scheme} by {proxy.url}" for scheme, proxy in proxies.items()]
    return Finding("network", "ok", f"proxies: {', '.join(ways)}" if ways else "no proxy is set")


# -- Redis


def _transport(check: str, url: str) -> Iterator[Finding]:
    if not is_local(url) and url.partition("://")[0] in PLAIN_TEXT:
        detail = f"{check} on another machine without TLS: jobs and tokens can be read on the way"
        yield Finding(f"{check} TLS", "warn", detail, "use rediss:// or amqps://")


def _redis(client: Redis, info: Mapping[str, Any], connection: Connection) -> Iterator[Finding]:
    yield from check_servers(client)
    if int(info.get("cluster_enabled", 0)) and not is_cluster(connection.url):
        cure = "write redis+cluster:// in BADGES_REDIS_URL, and another BADGES_BROKER_URL"
        yield Finding("redis cluster", "fail", "it is a node of a Cluster, of which it has a part", cure)
    yield _scripts(client)


def _scripts(client: Redis) -> Finding:
    try:
        return Finding("redis scripts", "ok", f"{Queue(client).store.load()} scripts load")
    except StoreError as error:
        return Finding("redis scripts", "fail", str(error), "allow the user EVALSHA and SCRIPT LOAD")


def _clock_and_replicas(server: Redis, wanted: int) -> Iterator[Finding]:
    before = time.time()
    skew_s = server_time_s(server) - (before + time.time()) / 2
    yield skew("clock", "Redis", skew_s, SKEW_S)
    if wanted:
        there = int(information(server).get("connected_slaves", 0))
        detail = f"{there} of the {wanted} that BADGES_REPLICAS asks for"
        cure = "" if there >= wanted else "start more: without them nothing is accepted, and nothing sent"
        yield Finding("redis replicas", "fail" if cure else "ok", detail, cure)


# -- broker and workers


def _broker(connection: Connection, orgs: Iterable[str]) -> Iterator[Finding]:
    if not connection.broker_url:
        cure = "without one, no worker starts; a producer needs none"
        yield Finding("broker", "fail", NO_BROKER, cure)
        return
    if connection.broker_url != connection.url:
        yield from _transport("broker", connection.broker_url)
    try:
        with opened_broker(connection) as broker:
            wrong = wrong_keys(client_of(broker), orgs) if is_redis(connection.broker_url) else []
            for one in wrong:
                what, _, cure = one.partition(": ")
                yield Finding("broker", "fail", f"{what}: no worker can read its messages", cure)
            if not wrong:
                yield Finding("broker", "ok", f"answers, {broker.as_uri()}")
    except Exception as error:  # noqa: BLE001 - each kind of broker has errors of its own
        words = str(error) or type(error).__name__
        yield Finding("broker", "fail", words, "start it, or correct BADGES_BROKER_URL")


def _workers(queue: Queue) -> Finding:
    """Count those that were heard of lately, and see whether what is due is taken."""
    alive_now = fleet(queue)
    if not (alive_now.places or alive_now.own):
        return Finding("workers", "warn", "no worker is alive: nothing is sent", "start one: badges worker")
    names = sorted(alive_now.places)
    names += [f"one for org {org} alone" for org in sorted(alive_now.own)]
    alive = f"{len(names)} alive: {', '.join(names)}"
    if (overdue_s := alive_now.overdue_s()) > OVERDUE_S:
        detail = f"{alive}; yet an org has waited {overdue_s:.0f} s to be looked at"
        return Finding("workers", "warn", detail, "see the workers' logs")
    return Finding("workers", "ok", alive)


def _minds(queue: Queue) -> Iterator[Finding]:
    """Say in what the workers differ, and which."""
    for found in queue.workers.differences():
        cure = "give all workers the same settings; until then the strictest limit of all holds"
        yield Finding("workers", "warn", f"they differ in {found}", cure, found.org)


# -- orgs and their vendors


def _orgs(queue: Queue, orgs: Mapping[str, Org], *, everything: bool) -> Iterator[Finding]:
    try:
        known = queue.orgs() if everything else set()
        states = Survey(queue.client).states({name: orgs.get(name) for name in sorted(known | set(orgs))})
    except BadgesError as error:
        yield Finding("orgs", "fail", str(error), "look at the server")
        return
    try:
        vendor = VendorClient()
    except ConfigError:  # said above
        return
    try:
        with ThreadPoolExecutor(max_workers=8) as pool:
            asked = pool.map(lambda state: list(check_org(state, queue, vendor)), states)
            for found in asked:
                yield from found
    finally:
        vendor.close()
