"""Every log line is ours, in the format that was asked for; and no secret is in any of them, or anywhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import launcher
import pytest
import redis
from celery import Celery
from support import BADGE, Probe, badges, environment, process, wait_for, worker_command

from worker.sandbox.issued import Fault, SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection

# Each would be found anywhere; the md5 that goes to the vendor and the tokens it gives are made from them.
USERNAME, PASSWORD = "till.marker", "pAssw0rd-7f3a-marker"
KEY, SECRET = "kEy-9c1e-marker", "sEcret-2b8d-marker"
SECRETS = (PASSWORD, KEY, SECRET)
ORGS = f"""
[tokens]
api_base_url = "{{tokens}}"
auth = "oauth"
oauth_key_file = "{{folder}}/key"
oauth_secret = "{SECRET}"
batch_linger_s = 0.1

[wrong]
api_base_url = "{{tokens}}"
auth = "oauth"
oauth_key = "{KEY}"
oauth_secret = "{SECRET}x"
batch_linger_s = 0.1
"""


@dataclass(frozen=True)
class Place:
    """What the commands of a test work with, and all that they said."""

    client: redis.Redis
    env: dict[str, str]
    folder: Path
    basic: SandboxServer
    tokens: SandboxServer

    @contextmanager
    def worker(self, **more: str) -> Iterator[launcher.Process]:
        """Run a worker whose standard error is kept by itself."""
        with (self.folder / "out.log").open("ab") as out, (self.folder / "err.log").open("ab") as err:
            command = list(map(str, worker_command()))
            running = launcher.start(command, env=self.env | more, out=out, err=err)
        try:
            yield running
        finally:
            running.terminate()
            running.wait(30)

    def lines(self) -> list[dict[str, Any]]:
        """Read the worker's log, every line of which is JSON."""
        return [json.loads(line) for line in (self.folder / "err.log").read_text().splitlines()]

    def bring(self, org: str, number: int, run: str) -> bytes:
        """Import badges; return all that was said."""
        rows = "".join(f"{BADGE},{n + 1}\n" for n in range(number))
        text = f"badgeMetaId,customerId\n{rows}{BADGE},bad\n".encode()
        done = badges("import", "-", "--org", org, "--run", run, env=self.env, stdin=text, expect=3)
        return done.stdout + done.stderr


@pytest.fixture
def place(empty: Connection, client: redis.Redis, tmp_path: Path) -> Iterator[Place]:
    """An empty server, and two vendors: one wants Basic, one OAuth."""
    with ExitStack() as stack:
        basic = stack.enter_context(SandboxServer(settings=SandboxSettings(basic=(USERNAME, PASSWORD))))
        tokens = stack.enter_context(SandboxServer(settings=SandboxSettings(oauth=(KEY, SECRET))))
        (tmp_path / "key").write_text(f"{KEY}\n")
        (tmp_path / "orgs.toml").write_text(ORGS.format(folder=tmp_path, tokens=tokens.url))
        env = environment(
            redis_url=empty.url,
            broker_url=empty.broker_url,
            api_base_url=basic.url,
            auth="basic",
            basic_username=USERNAME,
            basic_password=PASSWORD,
            orgs_file=tmp_path / "orgs.toml",
            rate_limit="1000/second",
            batch_linger_s=0.1,
            log_level="debug",
        )
        yield Place(client, env, tmp_path, basic, tokens)


def test_no_secret_is_anywhere(place: Place) -> None:
    """Not in a log at its most talkative, an output, an error, a command line, or Redis but for the token."""
    said = b""
    place.basic.vendor.add_fault(Fault(fault="status", status=502, times=1))  # an answer in doubt
    with place.worker() as running:
        for org, run in (("default", "one"), ("tokens", "two"), ("wrong", "three")):
            said += place.bring(org, 150, run)
        wait_for(lambda: Probe(place.client).count("one") + Probe(place.client).count("one", "dead") == 151)
        wait_for(lambda: Probe(place.client, "tokens").count("two") == 150)
        wait_for(lambda: place.client.hget("{badges:wrong}/gate", "paused"))
        command_line = Path(f"/proc/{running.pid}/cmdline").read_bytes()
    for command in ("results", "status", "run list", "dead list", "dead groups"):
        done = badges(*command.split(), env=place.env)
        said += done.stdout + done.stderr
    job = json.loads(badges("results", "--run", "two", env=place.env).stdout.splitlines()[0])
    for wrong in ({"BADGES_BATCH_SIZE": "x"}, {"BADGES_OAUTH_KEY": KEY, "BADGES_AUTH": "oauth"}):
        done = badges("job", "show", job["job_id"], env=place.env | wrong, expect=2)
        said += done.stdout + done.stderr
    said += badges("job", "show", job["job_id"], env=place.env).stdout
    logged = (place.folder / "err.log").read_bytes() + (place.folder / "out.log").read_bytes()
    assert b"httpcore" in logged  # it was talkative
    for what, text in {"output": said, "log": logged, "command line": command_line}.items():
        for secret in headers_and_secrets(place):
            assert secret.encode() not in text, what
    for key, value in everything_in(place.client).items():
        for secret in headers_and_secrets(place):
            assert secret not in value or key.endswith("/token"), key


def headers_and_secrets(place: Place) -> list[str]:
    """Return what must not be seen: the secrets, what is made from them, and the token."""
    from worker.domain.org import Org  # noqa: PLC0415

    org = Org(auth="basic", basic_username=USERNAME, basic_password=PASSWORD)
    given = json.loads(place.client.get("{badges:tokens}/token") or '{"token": "none given"}')
    return [*SECRETS, org.basic_header.removeprefix("Basic "), given["token"]]


def everything_in(client: redis.Redis) -> dict[str, str]:
    """Read every key of the database."""
    readers = {
        "string": client.get,
        "hash": client.hgetall,
        "list": lambda key: client.lrange(key, 0, -1),
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "set": client.smembers,
    }
    return {key: f"{key} {readers[client.type(key)](key)}" for key in client.scan_iter()}


def test_every_line_of_the_log_is_json(place: Place) -> None:
    """Ours, Celery's and httpcore's alike, with event, level and timestamp; a batch's with org and batch."""
    with place.worker():
        place.bring("default", 150, "one")
        place.bring("tokens", 50, "two")
        wait_for(lambda: Probe(place.client).count("one") == 150)
        wait_for(lambda: Probe(place.client, "tokens").count("two") == 50)
    lines = place.lines()
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    assert all(line["timestamp"].endswith("Z") for line in lines)
    settled = [line for line in lines if line["event"] == "batch.settled"]
    assert sum(line["issued"] for line in settled) == 200
    assert {line["org"] for line in settled} == {"default", "tokens"}
    assert len({line["batch"] for line in settled}) == len(settled) >= 3
    loggers = {line["logger"].partition(".")[0] for line in lines}
    assert {"celery", "httpcore", "worker"} <= loggers
    assert "Traceback" not in (place.folder / "err.log").read_text()


def test_one_line_a_batch(place: Place) -> None:
    """At the usual level httpx keeps silent, and Celery adds no second line to each batch's own."""
    with place.worker(BADGES_LOG_LEVEL="info"):
        place.bring("default", 1000, "one")
        wait_for(lambda: Probe(place.client).count("one") == 1000)
    lines = place.lines()
    batches = [line for line in lines if line["event"] == "batch.settled"]
    assert len(batches) == 10
    assert not [line for line in lines if line["logger"].startswith(("httpx", "httpcore"))]
    about_tasks = [line for line in lines if line["event"].startswith("Task badges.deliver")]
    assert len(about_tasks) < len(batches), about_tasks[0]


def test_a_log_for_people(place: Place) -> None:
    """``LOG_FORMAT=console``: a line a person can read, none of it JSON."""
    with place.worker(BADGES_LOG_FORMAT="console", BADGES_LOG_LEVEL="INFO"):
        place.bring("default", 3, "one")
        wait_for(lambda: Probe(place.client).count("one") == 3)
    log = (place.folder / "err.log").read_text()
    assert "batch.settled" in log
    assert "ready" in log
    assert not [line for line in log.splitlines() if line.startswith("{")]


def test_a_log_for_people_doesnt_steer_their_terminal(place: Place) -> None:
    """What a stranger sends is in the log, as reason or in a traceback, but no escape sequence of theirs."""
    odd = "\x1b]0;pwned\x07\nforged"
    with (
        place.worker(BADGES_LOG_FORMAT="console"),
        Celery(broker=place.env["BADGES_BROKER_URL"]) as stranger,
    ):
        stranger.send_task("badges.enqueue", kwargs={"items": [], "org": odd})
        stranger.send_task("badges.enqueue", kwargs={"items": [], odd: 1})
        stranger.send_task(odd)
        log = wait_for(
            lambda: text if (text := (place.folder / "err.log").read_text()).count("pwned") >= 4 else ""
        )
    assert "enqueue.refused" in log
    assert "\x1b]" not in log
    assert "\x07" not in log
    assert "\nforged" not in log


def test_an_operators_view_of_a_failed_call(place: Place) -> None:
    """A call that failed says so in its line: the signal, the reason, and what became of the jobs."""
    place.basic.vendor.add_fault(Fault(fault="status", status=502, times=1))
    with place.worker():
        place.bring("default", 20, "one")
        wait_for(lambda: Probe(place.client).count("one", "dead") == 21)
    (line,) = [line for line in place.lines() if line["event"] == "batch.settled"]
    assert (line["org"], line["status"], line["jobs"], line["dead"]) == ("default", "502", 20, 20)
    assert line["signal"] == "in_doubt"
    assert line["reason"]


def test_celerys_own_command_logs_alike(place: Place) -> None:
    """``celery -A worker.app worker`` writes JSON lines too, from its child processes as well."""
    command = [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "--pool", "threads"]
    with process(
        ["/bin/sh", "-c", 'exec "$@" > "$0"', place.folder / "out.log", *command],
        env=place.env,
        log=place.folder / "err.log",
    ):
        place.bring("default", 3, "one")
        wait_for(lambda: Probe(place.client).count("one") == 3)
    assert all({"event", "level", "timestamp"} <= line.keys() for line in place.lines())


def test_one_line_a_dead_job(place: Place) -> None:
    """Whether its call said so, or the vendor was known not to know its badge; with run, kind and code."""
    missing = "000000000000000000000bad"
    settings = SandboxSettings(basic=(USERNAME, PASSWORD), unknown_badges=frozenset({missing}))
    place.basic.vendor.configure(settings)
    rows = "".join(f"{missing},{n}\n" for n in range(1, 251))
    with place.worker(BADGES_MAX_IN_FLIGHT="1"):
        badges("import", "-", "--run", "bad", env=place.env, stdin=f"badgeMetaId,customerId\n{rows}".encode())
        wait_for(lambda: Probe(place.client).count("bad", "dead") == 250)
    dead = [line for line in place.lines() if line["event"] == "job.dead"]
    assert len({line["job"] for line in dead}) == len(dead) == 250
    assert {(line["run"], line["kind"], line["code"], line["org"]) for line in dead} == {
        ("bad", "rejected", "1054", "default")
    }
    assert len([line for line in place.lines() if line["event"] == "batch.settled"]) < 3
