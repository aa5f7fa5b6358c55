"""``badges status``: what a person on call sees at a glance, and what programs read."""

from __future__ import annotations

import json
import math
import signal
import socket
import sys
import time
from pathlib import Path
from unittest.mock import ANY

import pytest
import redis
from hands import claimed
from support import badges, badges_json, environment, item, process, wait_for
from terminal import terminal

from worker.domain.batch import Sent
from worker.domain.job import DeadKind
from worker.domain.org import Org
from worker.domain.outcome import Issued, Signal, Verdict
from worker.domain.settlement import DeadLetter, Settlement
from worker.server.connection import Connection
from worker.store import keys
from worker.store.queue import Queue, new_id

ORGS = """
[eu]
api_base_url = "https://eu.example.com"
rate_limit = "5/second"

[slow]
api_base_url = "https://slow.example.com"
rate_limit = "1000/day,90/minute"
"""
NO_WORKER = "no worker is alive; start one: badges worker, or badges up"
COMMAND = [sys.executable, "-m", "worker.cli", "status", "--watch"]
FAST = Org(rate_limit="1000/minute,1000/second", batch_linger_s=0, max_in_flight=100)


@pytest.fixture
def env(empty: Connection, tmp_path: Path) -> dict[str, str]:
    """Three orgs."""
    (tmp_path / "orgs.toml").write_text(ORGS)
    return environment(redis_url=empty.url, orgs_file=tmp_path / "orgs.toml", rate_limit=FAST.rate_limit)


@pytest.fixture
def queue(client: redis.Redis) -> Queue:
    """A queue with 250 jobs, one of which the vendor rejected, 99 of which it issued."""
    queue = Queue(client)
    queue.enqueue(FAST, run="r", items=[item(n) for n in range(250)], call=new_id())
    batch = claimed(queue, FAST)
    issued: list[Settlement] = [Issued(f"e{job.id}") for job in batch.jobs]
    issued[0] = DeadLetter(DeadKind.REJECTED, "1054", "no such badge")
    queue.settle(FAST, batch, issued, verdict=Verdict((), Signal.OK), sent=Sent("200", 9))
    return queue


@pytest.mark.usefixtures("queue")
def test_the_contract(env: dict[str, str], client: redis.Redis) -> None:
    """Depth, age, what retries, flies and died, the gate, what was learned, the rate against the limit."""
    now_ms = int(time.time() * 1000)
    learned = {"learned": 120_000, "learned_at": now_ms * 1000, "learned_from": (now_ms - 12_000) * 1000}
    smaller = {"batch_size": 50, "batch_size_until": now_ms + 60_000}
    client.hset(keys.key("default", "gate"), mapping=learned | smaller)
    client.zadd(keys.key("default", "retry"), {"x": now_ms + 60_000})
    (said,) = badges_json("status", "--org", "default", env=env)
    assert said.pop("oldest_s") >= 0
    assert said == {
        "org": "default",
        "configured": True,
        "queued": 150,
        "isolated": 0,
        "retrying": 1,
        "in_flight": 0,
        "dead": {"rejected": 1},
        "missing_badges": 1,
        "held": 0,
        "to_repeat": 0,
        "to_undo": 0,
        "undo_retrying": 0,
        "gate": {
            "state": "open",
            "open": True,
            "why": None,
            "reason": None,
            "since": None,
            "closed_until": None,
            "breaker": "ok",
            "rate_per_minute": pytest.approx(500, rel=0.02),
            "batch_size": 50,
        },
        "standstill": {"reason": "no_worker", "sentence": NO_WORKER},
        "differs": [],
        "server": [],
        "sent_last_minute": 1,
        "limit_per_minute": 1000,
        "limits": [{"limit": "1000/second", "sent": ANY}, {"limit": "1000/minute", "sent": 1}],
    }
    table = badges("status", env=env | {"COLUMNS": "250"}).stdout.decode()
    (line,) = [line for line in table.splitlines() if line.split()[0] == "default"]
    taught = "batches of 50 at most; 1 badge unknown"
    for words in ("150", "1/1,000", "1 rejected", "open; slowed to ", taught):
        assert words in line
    assert len(table.splitlines()) == 5
    assert table.splitlines()[4] == f"default: {NO_WORKER}"


def test_the_rate_of_limits_longer_and_shorter_than_a_minute(
    env: dict[str, str], client: redis.Redis
) -> None:
    """What was counted in the last minute: the ring reaches back over that, however short the limits are."""
    client.sadd(keys.ORGS, "eu", "slow")
    now_us = time.time() * 1e6
    ago = {"eu": [60, 5, 0.8, 0.6, 0.4, 0.2, 0], "slow": [7000, 3600, 59, 58, 30, 10]}
    sizes = {"eu": 300, "slow": 1000}
    for org, seconds in ago.items():
        for n, second in enumerate(seconds):
            place = n % sizes[org] * 32
            client.setrange(keys.key(org, "ring"), place, f"{now_us - second * 1e6:016.0f}{n:016d}")
        client.hset(keys.key(org, "gate"), mapping={"n": len(seconds), "size": sizes[org]})
    said = {org["org"]: org for org in badges_json("status", env=env)}
    assert (said["eu"]["sent_last_minute"], said["eu"]["limit_per_minute"]) == (6, 300)
    assert (said["slow"]["sent_last_minute"], said["slow"]["limit_per_minute"]) == (
        pytest.approx(3, abs=1),
        0.7,
    )
    assert said["slow"]["limits"][1] == {"limit": "1000/day", "sent": 6}
    table = badges("status", env=env | {"COLUMNS": "250"}).stdout.decode()
    assert "6/300" in table
    assert ", 6 of 1000/day" in table


def test_a_gate_that_is_not_open(env: dict[str, str], queue: Queue, client: redis.Redis) -> None:
    """Paused and why, the breaker, and an org that nobody has configured."""
    queue.pause("default", why="operator", reason="lunch")
    client.hset(keys.key("eu", "gate"), mapping={"probing": 2, "why": "answer in doubt", "since": 1})
    queue.enqueue(Org(name="gone"), run="r", items=[item(1, org="gone")], call=new_id())
    said = {org["org"]: org for org in badges_json("status", env=env)}
    default, eu, gone = said["default"]["gate"], said["eu"]["gate"], said["gone"]
    assert (default["state"], default["why"], default["reason"]) == ("paused", "operator", "lunch")
    assert default["since"]
    assert not default["open"]
    assert (eu["state"], eu["breaker"], eu["open"]) == ("probing", "tripped", True)
    assert (eu["why"], eu["since"][:4]) == ("answer in doubt", "1970")
    assert (gone["configured"], gone["queued"], gone["limit_per_minute"]) == (False, 1, None)
    table = badges("status", env=env | {"COLUMNS": "250"}).stdout.decode()
    assert "paused: operator, lunch; since" in table
    assert "probing: answer in doubt; since" in table
    assert "not configured" in table
    # Beside each other: a pause that an outage has no end of, and what an org has that nobody sends for.
    client.hset(keys.key("default", "gate"), mapping={"closed_until": int(4e12), "why": "throttled"})
    queue.enqueue(Org(name="gone"), run="h", items=[item(2, org="gone")], call=new_id(), starts_ms=math.inf)
    queue.pause("gone", why="operator", reason="moved")
    table = badges("status", env=env | {"COLUMNS": "250"}).stdout.decode()
    assert "until" not in table
    gone = "not configured: nobody sends its jobs; paused: operator, moved; since"
    assert gone in table
    assert "1 job on hold" in table


def test_a_redis_that_is_full(env: dict[str, str], client: redis.Redis) -> None:
    """The gate says nothing of it, so this does."""
    assert b"full" not in badges("status", env=env).stdout
    client.config_set("maxmemory", "1")
    try:
        assert b"Redis is full: nothing is accepted or sent" in badges("status", env=env).stdout
    finally:
        client.config_set("maxmemory", "0")


def test_a_redis_that_hangs(env: dict[str, str]) -> None:
    """Who looks is told within seconds, with what to do, and not after all tries of a patient client."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        began = time.monotonic()
        said = badges("status", env=env | {"BADGES_REDIS_URL": url}, expect=1).stderr.decode()
    assert time.monotonic() - began < 9
    assert "Timeout" in said
    assert "see: badges doctor" in said


def test_watching_as_json(env: dict[str, str], queue: Queue, tmp_path: Path) -> None:
    """A line a second, of what is so then; Ctrl-C ends it as a success."""
    log = tmp_path / "watch.log"
    with process([*COMMAND, "--jsonl"], env=env, log=log) as running:
        wait_for(lambda: log.exists() and log.read_text().count("\n") >= 1)
        queue.pause("default", why="operator", reason="")
        wait_for(lambda: json.loads(log.read_text().splitlines()[-1])[0]["gate"]["state"] == "paused")
        running.send_signal(signal.SIGINT)
        assert running.wait(5) == 0
    assert "Traceback" not in log.read_text()


def test_watching_on_a_terminal(env: dict[str, str], queue: Queue) -> None:
    """The table is drawn again in its place; after Ctrl-C it stays, and the cursor is back."""
    with terminal("status", "--watch", env=env, columns=150, draws=True) as screen:
        screen.until("open")
        queue.pause("default", why="operator", reason="lunch")
        screen.until("lunch")
        screen.running.send_signal(signal.SIGINT)
        assert screen.end() == 0
    assert "\x1b[?25h" in screen.shown
    assert "\x1b[1A" in screen.shown  # drawn in its place
    assert "Traceback" not in screen.shown
