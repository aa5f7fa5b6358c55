"""What workers say of their settings, and what a worker makes of a server that isn't what it was."""

from __future__ import annotations

import json

import pytest
import redis
from pydantic import SecretStr
from support import configured

from worker.store import keys
from worker.store.scripts import Store
from worker.store.workers import Workers

ORG = configured(rate_limit="600/minute")


def said(client: redis.Redis, *, ago_s: float = 0, orgs: object) -> str:
    """Return what a worker has said."""
    seconds, _ = client.time()
    return json.dumps({"at_s": seconds - ago_s, "orgs": orgs})


@pytest.mark.parametrize(
    "orgs",
    [5, None, [], "x", {"default": 5}, {"default": None}, {"default": ["rate_limit"]}, {"default": {}}]
    + [{"default": {"rate_limit": limit}} for limit in (5, None, "fast", "0/minute", {})],
    ids=str,
)
def test_what_nobody_can_read_says_nothing(client: redis.Redis, orgs: object) -> None:
    """Another version's words, or nobody's: deliveries, status and doctor go on by what the others say."""
    client.hset(keys.WORKERS, "odd", said(client, orgs=orgs))
    client.hset(keys.WORKERS, "garbage", "{{{")
    client.hset(keys.WORKERS, "deep", "[" * 100_000)
    client.hset(keys.WORKERS, "other", said(client, orgs={"default": {"rate_limit": "60/minute"}}))
    workers = Workers(client)
    workers.say("this", {"default": ORG})
    assert workers.strict(ORG).rate_limit == "600/minute,60/minute"
    assert "rate_limit" in {found.setting for found in workers.differences()}


@pytest.mark.parametrize("ago_s", [21, -21, 3600, -3600, float("nan")])
def test_who_is_not_heard_of_now_says_nothing(client: redis.Redis, ago_s: float) -> None:
    """Nor one from after now: the server's clock was put back since."""
    client.hset(keys.WORKERS, "other", said(client, ago_s=ago_s, orgs={"default": {"rate_limit": "1/day"}}))
    workers = Workers(client)
    workers.say("this", {"default": ORG})
    assert workers.strict(ORG) == ORG
    assert client.hexists(keys.WORKERS, "other") == (abs(ago_s) < 300)


def test_another_secret_is_told_and_not_shown(client: redis.Redis) -> None:
    """Which workers have one, and which another; nobody who reads Redis learns which it is."""
    first = configured(auth="basic", basic_username="till", basic_password="old-password")
    other = first.model_copy(update={"basic_password": SecretStr("new-password")})
    workers = Workers(client)
    workers.say("a", {"default": first})
    workers.say("b", {"default": first})
    assert workers.differences() == []
    workers.say("c", {"default": other})
    (found,) = workers.differences()
    assert str(found) == "basic_password: one at a, b; another at c"
    said = json.dumps(client.hgetall(keys.WORKERS))
    assert "-password" not in said
    signs = [json.loads(one)["orgs"]["default"]["basic_password"] for one in client.hvals(keys.WORKERS)]
    assert {len(sign) for sign in signs} == {2}


def test_a_server_that_begins_to_keep_a_log_is_noticed(client: redis.Redis) -> None:
    """Or another in its place: from then on a claim is durable before it counts."""
    client.config_set("appendonly", "no")
    try:
        store = Store(client, look_again_s=0)
        assert not store.keeps_a_log()
        client.config_set("appendonly", "yes")
        assert store.keeps_a_log()
    finally:
        client.config_set("appendonly", "yes")
