"""The connection: what its URLs may say, and what is durable where there are replicas."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from hands import claimed
from redis.connection import SSLConnection
from support import configured, environment, in_process, item

from worker.config import Settings
from worker.errors import ConfigError, NotDurable, StoreError
from worker.server.connection import Connection, is_cluster
from worker.store import keys
from worker.store import scripts as store
from worker.store.pool import Seats
from worker.store.queue import Queue

TLS = "ssl_ca_certs=/ca.pem&ssl_certfile=/own.pem&ssl_keyfile=/own.key"


def opened(redis_url: str, broker_url: str | None = None) -> Connection:
    """Open what these URLs say; nothing is connected to."""
    return Connection.open(Settings.load(redis_url=redis_url, broker_url=broker_url))


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("redis://:pw@host:6380/3", "redis://:pw@host:6380/3"),
        ("unix:///run/redis.sock?db=2", "redis+socket:///run/redis.sock?virtual_host=2"),
        (f"rediss://host/0?{TLS}", f"rediss://host/0?{TLS}"),
        # kombu would take any certificate if nothing were said.
        ("rediss://host/0", "rediss://host/0?ssl_cert_reqs=required"),
        ("unix:///run/s", "redis+socket:///run/s"),
        # What only redis-py takes, kombu would fail on.
        ("redis://host/0?socket_timeout=5&max_connections=9", "redis://host/0"),
        ("unix:///run/s?db=2&health_check_interval=9", "redis+socket:///run/s?virtual_host=2"),
        (
            "redis+sentinel://u:p%40@a,b:27000/main/4",
            "sentinel://u:p%40@a:26379/4;sentinel://u:p%40@b:27000/4",
        ),
        ("redis+cluster://a,b", ""),
    ],
)
def test_the_broker_follows_from_the_url_of_redis(url: str, broker: str) -> None:
    """Where no other is named; a Cluster can't be one."""
    assert opened(url).broker_url == broker
    assert opened(url, "amqp://elsewhere").broker_url == "amqp://elsewhere"
    assert not opened(url, "amqp://elsewhere").broker_options
    assert is_cluster(url) == (not broker)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_sentinels_are_asked_in_the_same_way_by_store_and_broker(scheme: str) -> None:
    """With their own password, and TLS where the servers have it."""
    tls = f"&{TLS}" if scheme == "rediss" else ""
    found = opened(f"{scheme}+sentinel://u:p@a,b/main/4?sentinel_password=own{tls}")
    pool: Any = found.client().connection_pool
    given, own = pool.connection_kwargs, pool.sentinel_manager.sentinel_kwargs
    assert [str(one.get_connection_kwargs()["host"]) for one in pool.sentinel_manager.sentinels] == ["a", "b"]
    assert (pool.service_name, given["username"], given["password"], given["db"]) == ("main", "u", "p", 4)
    assert own["password"] == "own"
    assert (own.get("ssl", False), issubclass(pool.connection_class, SSLConnection)) == (bool(tls), bool(tls))
    assert (own.get("ssl_ca_certs"), given.get("ssl_ca_certs")) == (("/ca.pem",) * 2 if tls else (None, None))

    options = found.broker_options
    assert options["master_name"] == "main"
    assert {name for name in own if own[name] != options["sentinel_kwargs"][name]} <= {"retry"}
    assert ("ssl_ca_certs" in found.broker_url) == bool(tls)
    assert "sentinel_password" not in found.broker_url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://host", "REDIS_URL must begin with one of redis, rediss, unix"),
        ("redis://:secret@host:port", "can't be read"),
        ("redis+sentinel://:secret@host:26379", "names no service"),
        ("redis+sentinel:///main", "names no hosts"),
        ("redis+cluster://", "names no hosts"),
        *(
            (f"{kind}://:secret@host/0?foo=1&bar=secret", "doesn't know: (foo|bar)")
            for kind in ("redis", "rediss")
        ),
        ("redis+sentinel://:secret@host/main/0?foo=1", "doesn't know: foo"),
        ("redis+cluster://:secret@host:x", "can't be read"),
        *((f"redis://:12{sign}secret@host", "REDIS_URL can't be read.*%2F for /") for sign in "/?#[\uff1a"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused_at_start(url: str, words: str) -> None:
    """In words that say how to write it, and quote nothing secret."""
    with pytest.raises(ConfigError, match=words) as refused:
        opened(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
@pytest.mark.parametrize("sign", "/?#[\uff1a")
def test_so_is_a_brokers(scheme: str, sign: str) -> None:
    """Before Celery or kombu read it, who would quote a part of the password."""
    with pytest.raises(ConfigError, match="BROKER_URL can't be read") as refused:
        opened("redis://host", f"{scheme}://:secret{sign}other@host")
    assert not re.search("secret|other", str(refused.value))


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:p@p:p@host:1/2",
        "amqp://u:p@a//;amqp://u:p@b//",
        "sentinel://:p@a:26379;sentinel://:p@b:26379/0",
        "redis+socket:///run/a@b.sock",
        "sqs://",
    ],
)
def test_whatever_celery_takes_is_a_broker(url: str) -> None:
    """Several among them, with semicolons between."""
    assert opened("redis://host", url).broker_url == url


def test_what_redis_refuses_is_not_called_out_of_reach(client: redis.Redis) -> None:
    """So that nobody looks for a fault of the network."""
    client.set("a", 1)
    with pytest.raises(StoreError, match="Redis refused a push: WRONGTYPE"), store.reaching("a push"):
        client.lpush("a", 1)


def test_a_password_that_is_refused_is_not_called_out_of_reach(tmp_path: Path) -> None:
    """The setting is named, and nobody is asked whether Redis runs."""
    with Connection.open(Settings(data_dir=tmp_path / "data")) as embedded, embedded.client() as its:
        assert embedded.server
        its.config_set("requirepass", "sesame")
        done = in_process("status", env=environment(redis_url=f"unix://:wrong@{embedded.server.socket_path}"))
        its.config_set("requirepass", "")
    assert done.status == 1
    assert "Redis refuses the user or password in BADGES_REDIS_URL: correct it" in done.err
    assert "running?" not in done.err


def test_a_cluster_is_no_broker() -> None:
    """Said as a broker, it is refused at once."""
    with pytest.raises(ConfigError, match="can't be Celery's broker"):
        opened("redis://host", "redis+cluster://host")


def test_a_cluster_that_is_away_is_a_store_that_is_away() -> None:
    """Its own errors are of another family in redis-py; ours are not."""
    with pytest.raises(StoreError, match="the Cluster's nodes"):
        opened("redis+cluster://127.0.0.1:1,127.0.0.1:2").client()


def test_nothing_is_durable_without_its_replicas(client: redis.Redis) -> None:
    """Neither what is handed in nor what is claimed; so nothing is sent that a fail-over could forget."""
    org = configured(batch_size=1)
    queue, alone = Queue(client, replicas=1), Queue(client)
    with pytest.raises(NotDurable, match="1 of BADGES_REPLICAS"):
        queue.enqueue(org, run="r", items=[item(0)], call="c")
    assert alone.enqueue(org, run="r", items=[item(0)], call="c") == list("a")
    with pytest.raises(NotDurable):
        queue.claim(org, "b")
    assert alone.release(org, "b", claimed(alone, org, "b").jobs).queued == 1


def test_a_place_left_during_an_outage_is_given_back_after_it(
    queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the org, and others, would be short of places for as long as a call may take."""
    seats, org = Seats(queue=queue), configured()
    seats.offer("worker", 4)
    with monkeypatch.context() as away, seats.take(org, "worker", alone=False) as share:
        assert share
        away.setattr(client, "zrem", partial(_refuse, redis.ConnectionError("away")))
    assert client.zcard(keys.SEATS) == 1
    with seats.take(org, "worker", alone=False):
        assert client.zcard(keys.SEATS) == 1
    assert client.zcard(keys.SEATS) == 0


def _refuse(error: Exception, *_: object) -> None:
    raise error


def test_what_a_url_says_of_time_outs_goes_before_our_own() -> None:
    """Also where it names Sentinels."""
    for url in ("redis://a/0?socket_timeout=3", "redis+sentinel://a/main?socket_timeout=3"):
        pool: Any = opened(url).client().connection_pool
        assert pool.connection_kwargs["socket_timeout"] == 3
