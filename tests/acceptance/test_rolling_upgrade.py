"""Upgrades: an older and a newer worker side by side, and an older one that comes too late."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from support import BADGE, PROGRAMS, Probe, badges, environment, process, wait_for, worker_command

from worker.badge_queue import BadgeQueue
from worker.config import Settings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store import keys
from worker.store.queue import Queue
from worker.store.record import FIELDS, SEPARATOR, VERSION, Field

NEWER = [sys.executable, PROGRAMS / "newer.py"]
ROW = f"badgeMetaId,customerId\n{BADGE},1\n".encode()


@pytest.fixture
def env(tmp_path: Path, sandbox: SandboxServer) -> dict[str, str]:
    """The environment of a fast worker with a server of its own."""
    fast = {"rate_limit": "1000/second", "batch_linger_s": 0.05}
    return environment(data_dir=tmp_path / "data", api_base_url=sandbox.url, **fast)


@pytest.fixture
def client(env: dict[str, str]) -> Iterator[redis.Redis]:
    """A client of that server."""
    with (
        Connection.open(Settings(data_dir=Path(env["BADGES_DATA_DIR"]))) as opened,
        opened.client() as client,
    ):
        yield client


def test_old_and_new_workers_side_by_side(
    env: dict[str, str], client: redis.Redis, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """The old one sends all but what only the new one can read, which the new one then sends."""
    settings = Settings(data_dir=Path(env["BADGES_DATA_DIR"]))
    with BadgeQueue(settings=settings, connection=Connection.open(settings)) as queue:
        queue.enqueue([{"badgeMetaId": BADGE, "customerId": n + 1} for n in range(10)], run="r")
    left = client.lindex(keys.key("default", "queue"), 4)
    record = keys.key("default", "job", str(left))
    Probe(client).change(str(left), version=VERSION + 1)

    ledger = sandbox.vendor.ledger
    with process(worker_command(), env=env, log=tmp_path / "old.log"):
        wait_for(lambda: len(ledger().issues) == 9, what="all but one")
        retry = keys.key("default", "retry")
        assert client.zscore(retry, str(left)), "it is left for a newer one"
        with process([*NEWER, "worker"], env=env, log=tmp_path / "new.log"):

            def is_sent() -> bool:
                if client.zscore(retry, str(left)):  # a minute has passed, each time that the old one took it
                    client.zadd(retry, {str(left): 1})
                    Queue(client).hint("default", int(time.time() * 1000))
                return len(ledger().issues) == 10

            wait_for(is_sent, what="the newer worker sends it")
    assert str(client.get(record)).split(SEPARATOR)[FIELDS.index(Field.STATE)] == "i"
    assert not ledger().issued_more_than_once


def test_an_older_program_does_not_start_on_newer_structures(
    env: dict[str, str], client: redis.Redis
) -> None:
    """Neither a worker, Celery's own command included, nor any that would write; the text says what to do."""
    client.set(keys.STRUCTURES, VERSION + 1)
    celery = [sys.executable, "-m", "celery", "-A", "worker.app", "worker"]
    words = f"newer version of this program (schema {VERSION + 1}, and this one knows {VERSION})".encode()
    assert words in badges("worker", env=env, expect=1).stderr
    assert words in badges("import", "-", env=env, stdin=ROW, expect=1).stderr
    assert words in badges("pause", env=env, expect=1).stderr
    log = Path(env["BADGES_DATA_DIR"]) / "celery.log"
    with process(celery, env=env, log=log) as running:
        assert running.wait(20) == 1
    assert words in log.read_bytes()
    assert client.keys() == [keys.STRUCTURES]
