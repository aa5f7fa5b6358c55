"""Celery is the engine: its own worker command, messages from strangers, and Python's way in."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from celery import Celery
from support import (
    BADGE,
    PROGRAMS,
    Probe,
    badges,
    badges_json,
    csv_of,
    dicts,
    environment,
    process,
    some,
    wait_for,
    worker_command,
)

from worker.sandbox.issued import Fault
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store import audit, keys
from worker.store.queue import Queue


class Broker(NamedTuple):
    """A Redis that is empty, its URLs, a vendor, and the environment that leads to them."""

    client: redis.Redis
    url: str
    env: dict[str, str]
    vendor: SandboxServer

    @property
    def probe(self) -> Probe:
        """What looks into its Redis."""
        return Probe(self.client)

    def states(self, run: str) -> list[str]:
        """Return the states of a run's jobs, as ``results`` tells them."""
        done = badges("results", "--run", run, env=self.env)
        return [json.loads(line)["state"] for line in done.stdout.splitlines()]


@pytest.fixture
def broker(empty: Connection, client: redis.Redis, sandbox: SandboxServer) -> Broker:
    """The server, empty."""
    env = environment(
        redis_url=empty.url,
        broker_url=empty.broker_url,
        api_base_url=sandbox.url,
        rate_limit="1000/second",
        batch_linger_s=0.1,
    )
    return Broker(client, empty.broker_url, env, sandbox)


@pytest.mark.parametrize(
    "options", some([[], ["--pool", "threads", "--concurrency", "4"]], 1), ids=["prefork", "threads"]
)
def test_celerys_own_command_works_as_well(broker: Broker, tmp_path: Path, options: list[str]) -> None:
    """``celery -A worker.app worker``, with processes or threads, delivers what is imported, and drains."""
    badges("import", "-", "--run", "early", env=broker.env, stdin=csv_of(1000))
    command = [sys.executable, "-m", "celery", "-A", "worker.app", "worker", *options]
    with process(command, env=broker.env, log=tmp_path / "celery.log") as running:
        wait_for(lambda: broker.probe.count("early") == 1000)
        send(broker, dicts(500, first=5001), run="late")
        wait_for(lambda: broker.probe.count("late") == 500)
        # What workers would tell each other isn't heard at all: anybody could tell them anything.
        for what in ("heartbeat", "elect", "offline"):
            assert broker.client.publish(f"/0.celeryev/worker.{what}", "null") == 0
        # When idle, since Celery's own children may wait 30 s for a parent that reads no more results.
        wait_for(lambda: not broker.client.zcount("{badges}/wake", 0, (time.time() + 10) * 1000))
        running.terminate()
        assert running.wait(45) == 0, (tmp_path / "celery.log").read_text()
    ledger = broker.vendor.vendor.ledger()
    assert len(ledger.issues) == 1500
    assert not ledger.issued_more_than_once
    assert max(ledger.batch_sizes) == 100


def send(broker: Broker, items: Any, *, times: int = 1, task_id: str | None = None, **more: Any) -> None:
    """Send ``badges.enqueue`` with an app that knows nothing of us."""
    with Celery(broker=broker.url) as stranger:
        for _ in range(times):
            stranger.send_task("badges.enqueue", kwargs={"items": items, **more}, task_id=task_id)


def test_messages_of_strangers(broker: Broker, tmp_path: Path) -> None:
    """A message is accepted; delivered twice, or sent twice, it enqueues nothing twice; bad items die."""
    with process(worker_command(), env=broker.env, log=tmp_path / "worker.log"):
        send(broker, dicts(250), run="nightly", times=2, task_id="11111111-redelivered")
        wait_for(lambda: broker.probe.count("nightly", "total") == 250)
        send(broker, dicts(250), run="again")
        bad = [{"badgeMetaId": BADGE}, "text", {"badgeMetaId": BADGE, "customerId": 9000, "colour": "red"}]
        send(broker, [*bad, *dicts(1, first=9001)], run="mixed")
        send(broker, dicts(2, first=9101), times=2, task_id="22222222-unnamed")
        wait_for(lambda: broker.probe.count("mixed", "invalid") == 3)
        wait_for(lambda: broker.probe.count("again", "duplicates") == 250)
        wait_for(lambda: len(broker.vendor.vendor.ledger().issues) == 250 + 1 + 2)
        wait_for(lambda: broker.client.llen("celery") == 0)

        def ended() -> dict[str, Any]:
            runs = {run["run"]: run for run in badges_json("run", "list", env=broker.env)}
            return runs if all(run["issued"] + run["dead"] == run["total"] for run in runs.values()) else {}

        runs = wait_for(ended, what="the runs' ends")
    assert {name: runs["nightly"][name] for name in ("total", "issued", "duplicates")} == {
        "total": 250,
        "issued": 250,
        "duplicates": 0,
    }
    assert (runs["again"]["total"], runs["again"]["duplicates"]) == (0, 250)
    assert sorted(broker.states("mixed")) == ["dead", "dead", "dead", "issued"]
    unnamed = [run for name, run in runs.items() if name not in ("nightly", "again", "mixed")]
    assert [(run["total"], run["issued"]) for run in unnamed] == [(2, 2)]
    assert not broker.vendor.vendor.ledger().issued_more_than_once


def test_a_message_that_makes_no_sense_harms_nobody(broker: Broker, tmp_path: Path) -> None:
    """An unknown org or items that are no list fail as a task, with the reason in the log."""
    log = tmp_path / "worker.log"
    with process(worker_command(), env=broker.env, log=log):
        send(broker, dicts(1), org="nobody")
        send(broker, 5)
        send(broker, dicts(3), run="good")
        wait_for(lambda: broker.probe.count("good") == 3)
        wait_for(lambda: "no org 'nobody'" in log.read_text())
        with Celery(broker=broker.url) as stranger:  # what an operator asks for is refused as loudly
            stranger.send_task("badges.pause", kwargs={"raeson": "lunch"})
        wait_for(lambda: "raeson: is no argument" in log.read_text())
        wait_for(lambda: Queue(broker.client).refused() == {"enqueue": 2, "message": 1})
    (refused,) = [json.loads(line) for line in log.read_text().splitlines() if "raeson: is no" in line]
    assert refused["event"] == "message.refused"
    assert refused["origin"].startswith("gen")
    assert len(broker.vendor.vendor.ledger().issues) == 3


def test_what_an_operator_asks_for_is_done_once(broker: Broker, tmp_path: Path) -> None:
    """A message of ``badges.pause`` or ``badges.replay`` delivered twice acts once, whatever came between."""
    gate, probe = keys.key("default", "gate"), Probe(broker.client)
    log = tmp_path / "worker.log"
    with process(worker_command(), env=broker.env, log=log), Celery(broker=broker.url) as stranger:
        stranger.send_task("badges.pause", task_id="11111111-pause")
        wait_for(lambda: broker.client.hexists(gate, "paused"))
        stranger.send_task("badges.resume", task_id="22222222-resume")
        wait_for(lambda: not broker.client.hexists(gate, "paused"))
        stranger.send_task("badges.pause", task_id="11111111-pause")
        wait_for(lambda: log.read_text().count("task.repeated") == 1)
        assert not broker.client.hexists(gate, "paused"), "it was resumed since"

        broker.vendor.vendor.add_fault(Fault(fault="status", status=500))
        send(broker, dicts(1), run="doubt")
        wait_for(lambda: len(probe.listed("in_doubt")) == 1)
        asked = {"kind": "in_doubt", "may_issue_twice": True, "note": "the vendor has none of it"}
        stranger.send_task("badges.replay", kwargs=asked, task_id="33333333-replay")
        wait_for(lambda: len(broker.vendor.vendor.ledger().batch_sizes) == 2)
        wait_for(lambda: len(probe.listed("in_doubt")) == 1)
        stranger.send_task("badges.replay", kwargs=asked, task_id="33333333-replay")
        wait_for(lambda: log.read_text().count("task.repeated") == 2)
        assert len(probe.listed("in_doubt")) == 1, "in doubt again, it isn't sent a third time"
        assert len(broker.vendor.vendor.ledger().batch_sizes) == 2


def test_what_a_message_asks_for_is_of_the_run_that_is_meant(broker: Broker, tmp_path: Path) -> None:
    """One that nobody has is an error, one of several orgs is refused; and two messages are two acts."""
    probe, log = Probe(broker.client), tmp_path / "worker.log"
    orgs = tmp_path / "orgs.toml"
    orgs.write_text(f'[eu]\napi_base_url = "{broker.vendor.url}"\n')
    env = broker.env | {"BADGES_ORGS_FILE": str(orgs)}
    with process(worker_command(), env=env, log=log), Celery(broker=broker.url) as stranger:
        for org, run, first in (("default", "one", 1), ("eu", "one", 11), ("default", "two", 21)):
            badges("import", "-", "--run", run, "--org", org, env=env, stdin=csv_of(2, first=first))
        wait_for(lambda: (probe.count("one"), probe.count("two")) == (2, 2))
        stranger.send_task("badges.replay", kwargs={"run": "onee"})
        wait_for(lambda: "there is no run 'onee'" in log.read_text())
        stranger.send_task("badges.undo", kwargs={"run": "one", "yes": True})
        wait_for(lambda: "can mean 2 runs" in log.read_text())
        for run in ("one", "two"):
            asked = {"run": run, "org": "default", "yes": True, "by": f"undoes {run}"}
            stranger.send_task("badges.undo", kwargs=asked, task_id=f"nightly-undo-of-{run}")
        wait_for(lambda: (probe.count("one", "undone"), probe.count("two", "undone")) == (2, 2))
    acts = [it for it in audit.entries(broker.client, "default") if it.action == "undo"]
    assert {(it.which["run"], it.by.partition(",")[0], it.count) for it in acts} == {
        ("one", "task from undoes one", 2),
        ("two", "task from undoes two", 2),
    }


def test_a_unix_socket_needs_no_second_url(broker: Broker, tmp_path: Path) -> None:
    """``BADGES_REDIS_URL=unix://…`` alone is enough: the broker's URL follows from it."""
    env = {name: value for name, value in broker.env.items() if name != "BADGES_BROKER_URL"}
    badges("import", "-", "--run", "early", env=env, stdin=csv_of(3))
    with process(worker_command(), env=env, log=tmp_path / "worker.log"):
        wait_for(lambda: broker.probe.count("early") == 3)


def test_a_record_that_was_spoilt_is_nobody_elses_problem(broker: Broker, tmp_path: Path) -> None:
    """A customer that is no number, as an older producer let in: that job dies, and all others are issued."""
    badges("import", "-", "--run", "early", env=broker.env, stdin=csv_of(10))
    probe, ids = Probe(broker.client), broker.client.lrange(keys.key("default", "queue"), 0, -1)
    (spoilt,) = (str(job_id) for job_id in ids if probe.record(str(job_id))["customer"] == "7")
    probe.change(spoilt, customer="abc")
    with process(worker_command(), env=broker.env, log=tmp_path / "worker.log"):
        wait_for(lambda: (broker.probe.count("early"), broker.probe.count("early", "dead")) == (9, 1))
    (dead,) = badges("dead", "list", "--jsonl", env=broker.env).stdout.splitlines()
    assert (json.loads(dead)["customerId"], json.loads(dead)["error"]["code"]) == ("abc", "812")


def test_a_delivery_is_no_duplicate_of_itself_on_any_broker(broker: Broker) -> None:
    """Each of our two message queues has a routing key of its own: on AMQP one message goes to one queue."""
    done = subprocess.run(
        [sys.executable, PROGRAMS / "message_queues.py"],
        env=broker.env,
        capture_output=True,
        timeout=60,
        check=True,
    )
    keys, queues = done.stdout.split()
    assert keys == queues


PRODUCER = PROGRAMS / "producer.py"


def test_pythons_way_in(broker: Broker, tmp_path: Path) -> None:
    """``BadgeQueue.from_env()`` in a program of its own: accepted, duplicate, invalid; and delivered."""
    done = subprocess.run(
        [sys.executable, "-W", "error", PRODUCER],
        env=broker.env,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.decode().splitlines() == [
        "python 1500 1 1",
        "badgeMetaId is missing",
        "1 1 0",
        "1 0 2",
    ], done.stderr
    with process(worker_command(), env=broker.env, log=tmp_path / "worker.log"):
        wait_for(lambda: broker.probe.count("python") == 1500)


def test_pythons_way_in_with_the_embedded_server(tmp_path: Path) -> None:
    """It starts the embedded server and ends it; what it accepted is there for the next who comes."""
    env = environment(data_dir=tmp_path / "data")
    subprocess.run([sys.executable, PRODUCER], env=env, capture_output=True, timeout=60, check=True)
    assert badges_json("run", "show", "python", env=env)["queued"] == 1500
