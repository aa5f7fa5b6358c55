"""Celery's keys on a Redis broker: which queues there are, and whether anybody wrote something else there.

A key of another kind under one of these names stops every worker: Redis refuses to read it as a queue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import kombu

from worker.server.cluster import Redis, reaching
from worker.server.connection import Connection

DEFAULT_QUEUE = "celery"
# Apart from what producers send, so that a million of their messages can't delay a delivery.
DELIVER_QUEUE = "badges.deliver"

_PRIORITIES = ("", "\x06\x163", "\x06\x166", "\x06\x169")  # kombu keeps a list for each
_BOOKS = {
    "unacked": "hash",
    "unacked_index": "zset",
    "unacked_mutex": "string",
    "_kombu.binding_deadlines": "zset",
}
_EXCHANGES = (DEFAULT_QUEUE, DELIVER_QUEUE, "celery.pidbox", "reply.celery.pidbox", "celeryev")


def deliver_queue(own_org: str | None = None) -> str:
    """Return where deliveries are asked for: of an org with a worker of its own, or of all others."""
    return f"{DELIVER_QUEUE}.{own_org}" if own_org else DELIVER_QUEUE


def wrong_keys(client: Redis, orgs: Iterable[str]) -> list[str]:
    """Say which of Celery's keys are of a kind that it can't use, and what to do.

    Args:
        client: of the broker, whether it decodes answers or not.
        orgs: those that may have workers of their own.

    Raises:
        StoreError: it can't be reached.
    """
    wanted = dict(_wanted(orgs))
    with reaching("a look at the broker's keys"):
        pipe = client.pipeline(transaction=False)
        for name in wanted:
            pipe.type(name)
        found = dict(zip(wanted, map(_text, pipe.execute()), strict=True))
    return [
        f"the key {_shown(name)} is a {found[name]}, where Celery keeps a {kind}: if nobody needs it, "
        f"DEL {_shown(name)}; else give Celery a server or database of its own by BADGES_BROKER_URL"
        for name, kind in wanted.items()
        if found[name] not in (kind, "none")
    ]


def broker_faults(connection: Connection, client: Redis, orgs: Iterable[str]) -> list[str]:
    """Say why no worker can read its messages: keys that it can't use, or a Redis broker that is away.

    Args:
        connection: what names the broker.
        client: the store's, which is the broker's as well where no other is configured.
        orgs: those that may have workers of their own.

    Raises:
        StoreError: the store can't be reached.
    """
    if connection.is_own_broker:
        return wrong_keys(client, orgs)
    if not is_redis(connection.broker_url):
        return []
    try:
        with opened_broker(connection) as broker:
            return wrong_keys(client_of(broker), orgs)
    except Exception as error:  # noqa: BLE001 - see opened_broker
        return [f"it can't be reached: {str(error) or type(error).__name__}"]


@contextmanager
def opened_broker(connection: Connection) -> Iterator[kombu.Connection]:
    """Connect to the broker without much patience; each kind of one has errors of its own."""
    options = {"socket_connect_timeout": 3, "socket_timeout": 3, **connection.broker_options}
    with kombu.Connection(connection.broker_url, connect_timeout=3, transport_options=options) as broker:
        broker.ensure_connection(max_retries=1, interval_start=0, timeout=5)
        yield broker


def client_of(broker: kombu.Connection) -> Any:
    """Return the client of Redis that kombu uses."""
    channel: Any = broker.default_channel
    return channel.client


def is_redis(broker_url: str) -> bool:
    """Say whether a broker is a Redis."""
    return urlsplit(broker_url).scheme.startswith(("redis", "sentinel"))


def _wanted(orgs: Iterable[str]) -> Iterator[tuple[str, str]]:
    for queue in (DEFAULT_QUEUE, *map(deliver_queue, (None, *orgs))):
        yield from ((f"{queue}{priority}", "list") for priority in _PRIORITIES)
    yield from _BOOKS.items()
    for exchange in (*_EXCHANGES, *map(deliver_queue, orgs)):
        yield f"_kombu.binding.{exchange}", "set"
        yield f"_kombu.binding_permanent.{exchange}", "set"


def _shown(name: str) -> str:
    """Return a key as redis-cli takes it; a queue's lists beside the first have signs that none can type."""
    return name if name.isprintable() else f'"{name.encode("unicode_escape").decode()}"'


def _text(kind: bytes | str) -> str:
    return kind.decode() if isinstance(kind, bytes) else kind
