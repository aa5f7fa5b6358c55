"""What a worker depends on: where it can't serve it refuses to start, and what changes it notices."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import launcher
import pytest
import redis
from faultproxy import Behaviour, FaultProxy, Forward, answer
from kombu import Connection as Broker
from rawserver import RawServer, answering
from support import (
    BADGE,
    LONG,
    PROGRAMS,
    badges,
    badges_json,
    badges_process,
    dicts,
    environment,
    needs,
    process,
    some,
    wait_for,
    worker_command,
)
from topology import Server, free_port
from workplace import Workplace

from worker.badge_queue import BadgeQueue
from worker.config import Settings
from worker.errors import NotDurable
from worker.sandbox.server import SandboxServer
from worker.store import audit, keys
from worker.store.clock import steady_s

DOWN = {"api_base_url": "http://127.0.0.1:9"}


class Place(Workplace):
    """One whose status is asked for."""

    def status(self) -> dict[str, Any]:
        """Return the default org's status."""
        (found,) = badges_json("status", env=self.env)
        return dict(found)


@pytest.fixture
def place(tmp_path: Path, sandbox: SandboxServer) -> Iterator[Place]:
    """A server that may be tampered with."""
    with Place.open(tmp_path, sandbox, rate_limit="600/minute", batch_linger_s=0) as place:
        yield place


# -- at start


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "socks5://127.0.0.1:1"),
        ("NO_PROXY", "localhost,10.0.0.0/99"),
        ("SSL_CERT_FILE", "/nonexistent"),
        ("BADGES_STATUS_503", "slow"),
        ("BADGES_BROKER_URL", "foo://host"),
        ("BADGES_BROKER_URL", "amqp://host//?colour=red"),
        ("BADGES_REDIS_URL", "redis://127.0.0.1:9/0?colour=red"),
        ("BADGES_HEARTBEAT_FILE", "/nonexistent/alive"),
    ],
)
@pytest.mark.parametrize("how", some(["badges", "celery"], 1))
def test_an_environment_that_it_cant_serve_in(place: Place, name: str, value: str, how: str) -> None:
    """Refused at start with exit status 2; the log's last line names the variable."""
    celery = [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "-c", "1", "-P", "threads"]
    command = worker_command() if how == "badges" else celery
    done = launcher.run([str(part) for part in command], env=place.env | {name: value})
    assert done.returncode == 2, done.stderr
    assert name in done.stderr.decode().splitlines()[-1]
    assert b"Traceback" not in done.stderr


def test_a_broker_that_is_away_is_tried_for_ever(place: Place) -> None:
    """Celery's own 100 tries are some 46 minutes, and then the worker would be gone."""
    command = [sys.executable, PROGRAMS / "broker_tries.py"]
    said = subprocess.run(command, env=place.env, capture_output=True, timeout=60, check=True)
    most = None if said.stdout.strip() == b"None" else int(said.stdout)
    tries: list[float] = []

    def again(_: Exception, pause_s: float) -> None:
        tries.append(pause_s)
        if len(tries) == 150:
            raise KeyboardInterrupt

    with Broker("redis://127.0.0.1:9") as broker, pytest.raises(KeyboardInterrupt):
        broker.ensure_connection(again, most, interval_start=0, interval_step=0, interval_max=0)


def test_no_proxy_with_a_network_is_no_obstacle(place: Place) -> None:
    """Loopback goes around a proxy that isn't there, and what other programs take in NO_PROXY is taken."""
    with place.worker(NO_PROXY="localhost,::1/128", HTTP_PROXY="http://127.0.0.1:9"):
        place.bring(3)
        wait_for(lambda: place.issued().total() == 3, within_s=60)


def test_the_doctor_names_what_no_worker_starts_with(place: Place) -> None:
    """By a line of its own; it fails as a whole, and not by a traceback."""
    done = badges("doctor", "--json", env=place.env | {"ALL_PROXY": "socks5://127.0.0.1:1"}, expect=1)
    assert b'"network", "result": "fail", "detail": "ALL_PROXY: SOCKS' in done.stdout


@pytest.fixture
def old_redis(tmp_path: Path) -> Iterator[Server]:
    """Redis 7.0, as Debian has it."""
    program = needs("redis-server")
    version = subprocess.run([program, "--version"], capture_output=True, check=True).stdout
    if b"v=7.0" not in version:
        pytest.skip(f"no old one: {version!r}")
    port = free_port()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(tmp_path), "--appendonly", "yes"]
    with process([program, *options], env=environment(), log=tmp_path / "redis.log"):
        server = Server(tmp_path, port, ())
        with server.client() as client:
            wait_for(lambda: _answers(client))
        yield server


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.mark.parametrize(
    "command",
    [["import", "-"], ["worker"], ["metrics", "--port", "0"], ["intake", "--no-auth"]],
    ids=" ".join,
)
def test_a_server_that_is_too_old_is_refused(old_redis: Server, command: list[str]) -> None:
    """By everything that writes, or watches; before anything is written, with the version that it has."""
    env = environment(redis_url=f"redis://{old_redis.address}/0", **DOWN)
    done = badges_process(*command, env=env, stdin=b"badgeMetaId,customerId\na,1\n", expect=2)
    assert b"version 7.0" in done.stderr
    assert b"7.2" in done.stderr.splitlines()[-1]
    with old_redis.client() as client:
        assert client.keys("*") == []


def test_a_server_that_keeps_no_log_is_named_before_anything_is_handed_in(place: Place) -> None:
    """By import, intake and metrics, in the doctor's words; a server may be meant to be so."""
    place.client.config_set("appendonly", "no")
    rows = f"badgeMetaId,customerId\n{BADGE},1\n".encode()
    said = [badges("import", "-", "--without-dates", env=place.env, stdin=rows).stderr]
    for number, command in enumerate((["metrics", "--port", "0"], ["intake", "--no-auth", "--port", "0"])):
        log = place.folder / f"{number}.log"
        with process([sys.executable, "-m", "worker.cli", *command], env=place.env, log=log):
            said.append(wait_for(lambda log=log: b" on http" in (text := log.read_bytes()) and text))
    for text in said:
        assert b"no append-only file: its crash loses or repeats jobs: appendonly yes" in b" ".join(
            text.split()
        )


# -- while it runs


def test_a_server_that_stops_writing_its_log(place: Place) -> None:
    """Nothing is sent, no slot is used up, status says why, the log says so seldom; mended, all goes on."""
    with place.worker():
        producer = BadgeQueue(settings=Settings(), connection=place.connection)
        producer.enqueue(dicts(3), run="run")
        wait_for(lambda: place.issued().total() == 3)
        place.client.config_set("appendonly", "no")
        with pytest.raises(NotDurable, match="append-only file"):
            producer.enqueue(dicts(3, first=10), run="run")
        wait_for(lambda: "claim.failed" in place.log())
        wait_for(lambda: any("append-only file" in line for line in place.status()["server"]))
        slots = place.client.hget("{badges:default}/gate", "n")
        lines = len(place.log().splitlines())
        over = steady_s() + 6
        wait_for(lambda: steady_s() > over)
        assert place.client.hget("{badges:default}/gate", "n") == slots == "1"
        assert place.issued().total() == 3
        assert len(place.log().splitlines()) - lines < 10
        place.client.config_set("appendonly", "yes")
        wait_for(lambda: place.issued().total() == 6)
        assert place.status()["server"] == []


def test_why_a_vendor_cant_be_reached_is_in_status(place: Place) -> None:
    """A few words: here of a server that speaks no TLS."""
    with (
        RawServer(answering(b"220 hello\r\n")) as server,
        place.worker(BADGES_API_BASE_URL=f"https://{server.address}"),
    ):
        place.bring(3)
        gate = wait_for(lambda: _with_reason(place.status()["gate"]), within_s=60)
    assert gate["why"] == "vendor unavailable"
    assert "TLS" in gate["reason"]
    assert len(gate["reason"]) < 120


def _with_reason(gate: dict[str, Any]) -> dict[str, Any] | None:
    return gate if gate["reason"] else None


def test_what_answers_mean_is_audited_and_shown(place: Place) -> None:
    """It rests on somebody's word: the trail keeps it once, and doctor says what it may cost."""
    told = {"BADGES_STATUS_503": "throttled", "BADGES_CODE_9001": "busy"}
    with place.worker(name="first", **told), place.worker(name="second", **told):
        entries = wait_for(lambda: list(audit.entries(place.client, "default")))
        wait_for(lambda: place.client.hlen("{badges}/workers") == 2)
    assert [(entry.action, entry.note) for entry in entries] == [
        ("answers", "STATUS_503=throttled, CODE_9001=busy")
    ]
    found = json.loads(badges("doctor", "--json", env=place.env | told, expect=None).stdout)
    (line,) = [one for one in found if one["check"] == "answers"]
    assert line["result"] == "warn"
    assert "on your word alone, nothing was applied when the vendor says so: STATUS_503" in line["detail"]


def test_the_doctor_knows_nginxs_limiter(place: Place) -> None:
    """Bare 503s by nginx between calls that were taken: it says what that is, and what to set."""
    busy = answer(503, b"<html><center>nginx</center></html>", Server="nginx/1.22.1")

    async def refuse(_: bytes, __: Forward) -> bytes:
        return busy

    met: list[int] = []

    def choose() -> str | Behaviour:
        met.append(1)
        return refuse if len(met) == 2 else "pass"

    with FaultProxy(place.vendor.url, choose) as proxy:
        env = place.env | {"BADGES_API_BASE_URL": proxy.url}
        with place.worker(BADGES_API_BASE_URL=proxy.url):
            place.bring(3)
            wait_for(lambda: place.issued().total() == 3, within_s=60)
            place.bring(3, first=10)
            wait_for(lambda: len(met) == 2)
            wait_for(lambda: place.status()["dead"])
        found = json.loads(badges("doctor", "--json", env=env, expect=None).stdout)
        (line,) = [one for one in found if one["check"] == "limiter"]
        assert "limit_req" in line["detail"]
        assert "BADGES_STATUS_503=throttled" in line["cure"]
        told = env | {"BADGES_STATUS_503": "throttled"}
        found = json.loads(badges("doctor", "--json", env=told, expect=None).stdout)
        assert not [one for one in found if one["check"] == "limiter"]
        gate = keys.key("default", "gate")
        at_ms, _, reason = str(place.client.hget(gate, "limiter")).partition(" ")
        place.client.hset(gate, "limiter", f"{int(at_ms) - 25 * 3600 * 1000} {reason}")
        found = json.loads(badges("doctor", "--json", env=env, expect=None).stdout)
        assert not [one for one in found if one["check"] == "limiter"]


def test_workers_of_different_minds(place: Place) -> None:
    """The stricter limit holds for both as long as both are heard of; status and doctor say what differs."""
    place.client.hset("{badges:default}/gate", mapping={"paused": "operator", "reason": "test"})
    with place.worker(name="loose"), place.worker(name="strict", BADGES_RATE_LIMIT="60/minute"):
        wait_for(lambda: place.client.hlen("{badges}/workers") == 2)
        for n in range(4):
            place.bring(100, first=1000 * (n + 1))
        place.client.hdel("{badges:default}/gate", "paused", "reason")
        wait_for(lambda: place.issued().total() >= 200)
        arrived = [e.arrived_s for e in place.vendor.vendor.ledger().exchanges]
        assert arrived[-1] - arrived[0] > len(arrived) - 2  # at 600/minute they would take a tenth
        (line,) = place.status()["differs"]
        assert "rate_limit: " in line
        assert "600/minute at badges-" in line
        assert "60/minute at badges-" in line
        said = badges("doctor", "--json", env=place.env, expect=None).stdout.decode()
        assert "they differ in rate_limit" in said


@LONG
def test_a_stricter_worker_that_is_gone_holds_nobody_up(place: Place) -> None:
    """Killed without a word: its limit holds until it isn't heard of any more, and not after."""
    with place.worker(name="loose"):
        with place.worker(name="strict", BADGES_RATE_LIMIT="6/minute") as strict:
            wait_for(lambda: place.status()["differs"])
            strict.kill()
            strict.wait(10)
        place.bring(300, first=1000)
        wait_for(lambda: place.issued().total() >= 100)
        assert place.issued().total() < 300  # three calls at ten seconds each
        wait_for(lambda: not place.status()["differs"])
        before = len(place.vendor.vendor.ledger().exchanges)
        place.bring(500, first=5000)
        wait_for(lambda: place.issued().total() >= 800)
        arrived = [e.arrived_s for e in place.vendor.vendor.ledger().exchanges[before + 1 :]]
        assert arrived[-1] - arrived[0] < 5 * len(arrived)
        found = json.loads(badges("doctor", "--json", env=place.env, expect=None).stdout)
        assert not [one for one in found if "differ" in one["detail"]]


def test_the_doctor_counts_badges_by_every_limit(place: Place) -> None:
    """Also by one that counts items: a batch of 100 may go six times a minute, whatever the requests'."""
    env = place.env | {"BADGES_RATE_LIMIT": "100/minute,items:600/minute", "BADGES_BATCH_SIZE": "100"}
    findings = badges_json("doctor", env=env)
    assert "10.0 badges a second" in next(it["detail"] for it in findings if it["check"] == "rate")
