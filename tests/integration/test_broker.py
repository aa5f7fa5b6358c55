"""What a dead worker had fetched goes back into a queue, and what is no message stops nobody."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from kombu import Connection as Broker
from structlog.testing import capture_logs

from worker.process.broker import tamed
from worker.server.brokerkeys import wrong_keys
from worker.server.connection import Connection


@pytest.fixture
def channel(connection: Connection, client: redis.Redis) -> Iterator[Any]:
    """A worker's channel, beside an empty server."""
    assert client.dbsize() == 0
    with Broker(connection.broker_url) as broker:
        transport: Any = broker.transport
        transport.Channel = tamed(transport.Channel)
        yield broker.channel()


def fetched(client: redis.Redis, entries: dict[str, str]) -> None:
    """Note what a worker has fetched, long ago."""
    for tag, raw in entries.items():
        client.hset("unacked", tag, raw)
        client.zadd("unacked_index", {tag: 1})


def message(**parts: object) -> dict[str, Any]:
    """Return one, as kombu keeps it."""
    return {"body": "e30=", "headers": {}, "properties": {"delivery_info": {}, "priority": 0}} | parts


@pytest.mark.parametrize(
    ("exchange", "key"),
    [("", "celery"), ("no such", "nowhere"), (None, None), ({}, []), ("", ""), (5, "celery")],
)
def test_a_message_goes_back_whatever_it_says_of_its_way(
    channel: Any, client: redis.Redis, exchange: object, key: object
) -> None:
    """One that names no queue would be lost for good: it was fetched from ours."""
    fetched(client, {"tag": json.dumps([message(), exchange, key])})
    channel.qos.restore_visible()
    assert (client.llen("celery"), client.hlen("unacked"), client.zcard("unacked_index")) == (1, 0, 0)


@pytest.mark.parametrize("key", ["celery", "celery\x06\x163", "unacked_index"])
def test_the_cure_of_a_wrong_key_names_that_key(client: redis.Redis, key: str) -> None:
    """As redis-cli takes it: a queue's lists beside the first have signs in their names."""
    client.set(key, "x")
    (told,) = wrong_keys(client, ())
    shown = told.partition("DEL ")[2].partition(";")[0]
    client.delete(ast.literal_eval(shown) if shown.startswith('"') else shown)
    assert wrong_keys(client, ()) == []


def test_what_is_no_message_is_dropped_aloud(channel: Any, client: redis.Redis) -> None:
    """No worker could connect any more as long as it lay there; one behind it goes back."""
    wrong = ["garbage", "null", "[1]", "[{}, {}, {}]", '["x", "celery", "celery"]']
    wrong += [json.dumps([message(**parts), "", "celery"]) for parts in ({"headers": []}, {"properties": 5})]
    fetched(client, {f"{n}": raw for n, raw in enumerate(wrong)})
    fetched(client, {"z": json.dumps([message(), "", "celery"])})
    with capture_logs() as logged:
        channel.qos.restore_visible()
    assert [line["event"] for line in logged] == ["message.refused"] * len(wrong)
    assert (client.llen("celery"), client.hlen("unacked"), client.zcard("unacked_index")) == (1, 0, 0)
