"""A server that somebody changed under a running worker: said in one line, in status and by the doctor."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from support import (
    BADGE,
    LONG,
    badges,
    badges_json,
    environment,
    logged,
    needs,
    process,
    wait_for,
    worker_command,
)
from topology import APPEND_ONLY, Server, free_port

from worker.sandbox.server import SandboxServer
from worker.server.brokerkeys import wrong_keys

IMPORT_PATH = "/api_gateway/v1/badges/import/customerBadges"


@dataclass
class Place:
    """A server that can be ended and replaced, with a worker beside it."""

    server: Server
    env: dict[str, str]
    log: Path
    vendor: SandboxServer
    worker: subprocess.Popen[bytes]

    def server_says(self) -> str:
        """Return what status says of the servers."""
        (org,) = badges_json("status", env=self.env)
        return " ".join(org["server"])

    def doctor_fails(self, check: str) -> str:
        """Return what the doctor says of a check that fails."""
        found = json.loads(badges("doctor", "--json", env=self.env, expect=None).stdout)
        return " ".join(f"{one['detail']} {one['cure']}" for one in found if _fails(one, check))

    def goes_on(self, customer: int) -> None:
        """Hand a badge in, and wait until it is issued."""
        rows = f"badgeMetaId,customerId\n{BADGE},{customer}\n".encode()
        badges("import", "-", "--without-dates", env=self.env, stdin=rows)
        wait_for(lambda: customer in {one.customer_id for one in self.vendor.vendor.ledger().issues})
        assert self.worker.poll() is None


def _fails(one: dict[str, Any], check: str) -> bool:
    return bool(one["check"] == check and one["result"] == "fail")


@pytest.fixture
def place(tmp_path: Path, sandbox: SandboxServer) -> Iterator[Place]:
    """A worker that serves."""
    server = Server(tmp_path / "server", free_port(), APPEND_ONLY)
    server.start()
    try:
        env = environment(
            redis_url=f"redis://{server.address}/0",
            api_base_url=sandbox.url,
            rate_limit="6000/minute",
            batch_linger_s=0,
        )
        log = tmp_path / "worker.log"
        with process(worker_command("--concurrency", 2), env=env, log=log) as worker:
            place = Place(server, env, log, sandbox, worker)
            place.goes_on(1)
            yield place
    finally:
        server.kill()


@LONG
def test_a_key_of_celerys_that_is_something_else(place: Place) -> None:
    """The worker waits without a noise, says what to do, and goes on by itself once it is done."""
    with place.server.client() as client:
        for number, (key, kind) in enumerate((("celery", "list"), ("unacked_index", "zset")), 2):
            client.delete(key)
            client.set(key, "x")
            badges(
                "import",
                "-",
                env=place.env,
                stdin=f"badgeMetaId,customerId\n{BADGE},{100 * number}\n".encode(),
            )
            wait_for(
                lambda key=key: any(key in line["reason"] for line in logged(place.log, "broker.unusable"))
            )
            said = f"the key {key} is a string, where Celery keeps a {kind}"
            assert said in place.server_says()
            (org,) = badges_json("status", env=place.env)
            assert org["standstill"]["reason"] == "broker"
            assert f"workers can't read their messages: {said}" in org["standstill"]["sentence"]
            assert f"DEL {key}" in place.doctor_fails("broker")
            lines = len(place.log.read_text().splitlines())
            wait_for(
                lambda key=key: any(
                    line["times"] >= 4
                    for line in logged(place.log, "broker.unusable")
                    if key in line["reason"]
                )
            )
            assert len(place.log.read_text().splitlines()) - lines <= 3
            client.delete(key)
            place.goes_on(number)
            (org,) = badges_json("status", env=place.env)
            assert org["standstill"] is None
            assert place.server_says() == place.doctor_fails("broker") == ""
    said = place.log.read_text()
    assert not any(word in said for word in ("Connection to broker lost", "Frequent restarts", "Deprecation"))


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_of_its_own_is_looked_at_too(place: Place, tmp_path: Path, scheme: str) -> None:
    """Where it is a Redis that somebody uses for something else, or that is away."""
    apart = Server(tmp_path / "apart", free_port(), ())
    apart.start()
    try:
        place.env["BADGES_BROKER_URL"] = f"{scheme}://{apart.address}/0"
        assert place.server_says() == ""
        with apart.client() as client:
            client.set("badges.deliver", "x")
        assert ("badges.deliver is a string" in place.server_says()) == (scheme == "redis")
    finally:
        apart.kill()
    assert ("broker: it can't be reached" in place.server_says()) == (scheme == "redis")


@pytest.mark.parametrize(
    "key", ["celery\x06\x169", "unacked", "_kombu.binding.celery", "badges.deliver.acme"]
)
def test_every_key_of_celerys_is_known(client: redis.Redis, key: str) -> None:
    """Each of those that it reads or writes, those of a worker for one org too."""
    assert wrong_keys(client, ["acme"]) == []
    client.xadd(key, {"x": 1})
    (found,) = wrong_keys(client, ["acme"])
    assert "is a stream" in found


@contextmanager
def replaced(place: Place, folder: Path) -> Iterator[None]:
    """Let Redis 7.0 answer at the server's port while the block lasts."""
    program = needs("redis-server")
    version = subprocess.run([program, "--version"], capture_output=True, check=True).stdout
    if b"v=7.0" not in version:
        pytest.skip(f"no old one: {version!r}")
    place.server.kill()
    options = [
        "--bind",
        "127.0.0.1",
        "--port",
        str(place.server.port),
        "--dir",
        str(folder),
        "--appendonly",
        "yes",
    ]
    with process([program, *options], env=environment(), log=folder / "redis.log"):
        wait_for(place.server.answers)
        yield
    place.server.start()


def test_a_server_that_is_replaced_by_an_old_one(place: Place, tmp_path: Path) -> None:
    """Nothing is sent there, and all that writes says why; once it is the right one again, all goes on."""
    log, intake = tmp_path / "intake.log", [sys.executable, "-m", "worker.cli", "intake", "--no-auth"]
    with (
        process([*intake, "--port", "0"], env=place.env, log=log),
        httpx.Client(base_url=wait_for(lambda: "".join(re.findall(r"http://\S+", log.read_text())))) as http,
        replaced(place, tmp_path),
    ):
        answer = http.put(IMPORT_PATH, json=[{"badgeMetaId": BADGE, "customerId": 8}])
        assert answer.status_code == 503
        assert "version 7.0" in log.read_text()
        (line, *_) = wait_for(lambda: logged(place.log, "redis.unusable"))
        assert "version 7.0" in line["reason"]
        assert "version 7.0" in place.server_says()
        assert "7.2" in place.doctor_fails("redis")
        badges("import", "-", env=place.env, stdin=f"badgeMetaId,customerId\n{BADGE},9\n".encode(), expect=2)
        wait_for(lambda: len(logged(place.log, "redis.unusable")) >= 3)
        assert len(logged(place.log, "redis.unusable")) < 6
        assert place.worker.poll() is None
    place.goes_on(2)
    assert place.server_says() == ""


@pytest.mark.parametrize(
    ("change", "back"),
    [
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
    ],
)
def test_a_server_that_takes_no_writes_for_a_while(place: Place, change: str, back: str) -> None:
    """The worker neither gives up nor floods its log, and goes on by itself when it takes them again."""
    with place.server.client() as client:
        client.execute_command(*change.split())
        wait_for(lambda: any(line["times"] >= 8 for line in logged(place.log, "broker.lost")), what="tries")
        assert len(place.log.read_text().splitlines()) < 40
        assert "Trying to reconnect" not in place.log.read_text()
        client.execute_command(*back.split())
    place.goes_on(2)


def test_a_broker_of_its_own_that_is_away_is_the_reason(tmp_path: Path, sandbox: SandboxServer) -> None:
    """As the worker says it: for as long as it lasts, and no longer."""
    server = Server(tmp_path / "server", free_port(), APPEND_ONLY)
    broker = Server(tmp_path / "broker", free_port(), ())
    server.start()
    broker.start()
    env = environment(
        redis_url=f"redis://{server.address}/0",
        broker_url=f"redis://{broker.address}/0",
        api_base_url=sandbox.url,
        rate_limit="6000/minute",
    )
    try:
        log = tmp_path / "worker.log"
        with process(worker_command("--concurrency", 2), env=env, log=log) as worker:
            place = Place(server, env, log, sandbox, worker)
            place.goes_on(1)
            broker.kill()
            rows = f"badgeMetaId,customerId\n{BADGE},2\n".encode()
            badges("import", "-", "--run", "r", "--without-dates", env=env, stdin=rows)
            held = wait_for(lambda: badges_json("run", "show", "r", env=env)["held"], what="a reason")
            assert held.startswith("workers can't read their messages: the broker redis://:**@")
            assert f"{broker.address}/0 can't be reached: " in held
            (org,) = badges_json("status", env=env)
            assert (org["standstill"]["reason"], org["standstill"]["sentence"]) == ("broker", held)
            broker.start()
            place.goes_on(3)
            (org,) = badges_json("status", env=env)
            assert org["standstill"] is None
    finally:
        broker.kill()
        server.kill()
