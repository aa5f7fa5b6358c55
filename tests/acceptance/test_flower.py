"""Flower, the real one, as ``badges up --flower`` starts it: who may see it, what it shows and can do."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx
import pytest
import redis
from support import BADGE, LONG, OTHER_BADGE, PROGRAMS, Probe, badges, environment, process, wait_for

from worker import BadgeQueue
from worker.config import Settings
from worker.operate.runs import JobReader
from worker.sandbox.issued import Fault, SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store import audit, keys

UP = (sys.executable, "-m", "worker.cli", "up", "--flower")


@dataclass
class Up:
    """All that one machine needs, running, and Flower as the one who has its password sees it."""

    queue: BadgeQueue
    client: redis.Redis
    vendor: SandboxServer
    running: Popen[bytes]
    log: Path
    http: httpx.Client

    def tasks(self, **filters: str) -> list[dict[str, Any]]:
        """Return the deliveries that Flower lists."""
        asked = {"taskname": "badges.deliver"} | filters
        return list(self.http.get("/api/tasks", params=asked).raise_for_status().json().values())

    def send(self, task: str, **kwargs: Any) -> dict[str, Any]:
        """Have Flower send a task, and return what it then shows of it, once it has ended."""
        sent = self.http.post(f"/api/task/async-apply/{task}", json={"kwargs": kwargs}).raise_for_status()

        def ended() -> dict[str, Any] | None:
            answer = self.http.get(f"/api/task/info/{sent.json()['task-id']}")
            shown: dict[str, Any] = answer.json() if answer.is_success else {}
            return shown if shown.get("state") in ("SUCCESS", "FAILURE") else None

        found: dict[str, Any] = wait_for(ended, what=task)
        return found

    def enqueue(self, run: str, customers: range, *, badge: str = BADGE) -> None:
        """Hand in a badge for each of these customers."""
        done = self.queue.enqueue([{"badgeMetaId": badge, "customerId": n} for n in customers], run=run)
        assert done.accepted == len(customers)

    def run(self, run: str, counter: str) -> int:
        """Return one of a run's counters."""
        return Probe(self.client).count(run, counter)

    def gate(self) -> dict[str, Any]:
        """Return what the gate is."""
        return dict(self.client.hgetall(keys.key("default", "gate")))


def started(log: Path) -> tuple[str, str, str]:
    """Return URL, user and password, as they are told at the start."""
    pattern = r"Flower on (\S+), user (\S+), password (\S+)"
    url, user, password = wait_for(lambda: re.search(pattern, log.read_text()), what=log.read_text()).groups()
    return url, user, password


def flowers(parent: int) -> list[int]:
    """Return the Flower processes of a program."""
    command = f"worker.process.flower\0{parent}\0".encode()
    return [int(p.parent.name) for p in Path("/proc").glob("[0-9]*/cmdline") if command in _read(p)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One machine for all tests here that leave it as it was."""
    with brought_up(tmp_path_factory.mktemp("flower")) as up:
        yield up


@contextmanager
def brought_up(folder: Path) -> Iterator[Up]:
    """Run one with an embedded server, whose vendor knows one badge."""
    with SandboxServer(settings=SandboxSettings(unknown_badges=frozenset({OTHER_BADGE}))) as vendor:
        env = environment(
            data_dir=folder / "data", api_base_url=vendor.url, rate_limit="1000/second", batch_linger_s=0.1
        ) | {"FLOWER_PORT": "0", "FLOWER_BASIC_AUTH": "", "BADGES_CONSOLE_PUBLIC_URL": "http://ops.example/c"}
        log = folder / "up.log"
        settings = Settings(data_dir=folder / "data")
        with (
            process(UP, env=env, log=log) as running,
            Connection.open(settings) as connection,
            connection.client() as client,
        ):
            url, user, password = started(log)
            with httpx.Client(base_url=url, auth=(user, password), timeout=20) as http:
                queue = BadgeQueue(settings=settings, connection=connection)
                here = Up(queue, client, vendor, running, log, http)
                wait_for(lambda: _sees_a_worker(here), what="Flower, with a worker")
                yield here


def _sees_a_worker(up: Up) -> bool:
    try:
        return "badges-" in up.http.get("/api/workers", params={"refresh": "1"}).raise_for_status().text
    except httpx.HTTPError:
        return False


def test_it_is_seen_by_nobody_without_the_password(up: Up) -> None:
    """Every page and the API want it; it is on loopback alone, and the password on no command line."""
    url, user, password = started(up.log)
    assert url.startswith("http://127.0.0.1:")
    for path in ("/", "/workers", "/tasks", "/broker", "/api/tasks", "/api/workers", "/api/queues/length"):
        assert httpx.get(url + path).status_code == 401
        assert httpx.get(url + path, auth=(user, "guessed")).status_code == 401
        assert up.http.get(path).status_code == 200
    assert httpx.post(f"{url}/api/task/async-apply/badges.pause").status_code == 401
    assert len(flowers(up.running.pid)) == 1
    commands = b"".join(_read(path) for path in Path("/proc").glob("[0-9]*/cmdline"))
    assert password.encode() not in commands


def test_a_batch_is_a_task_with_its_counts(up: Up) -> None:
    """The list shows org, batch, counts, HTTP status and milliseconds; queues are counted on a socket too."""
    others = {task["uuid"] for task in up.tasks()}
    up.enqueue("counts", range(1, 251))
    wait_for(lambda: up.run("counts", "issued") == 250)
    pattern = re.compile(
        r"\{'jobs': (\d+), 'issued': (\d+), 'dead': 0, 'retrying': 0, 'queued': 0, "
        r"'status': '200', 'elapsed_ms': \d+, 'batch': '\w{26}'(?:, 'batches': (\d+), 'earlier': '[\w ]+')?\}"
    )

    def batches() -> list[re.Match[str]]:
        shown = [task for task in up.tasks(state="SUCCESS") if task["uuid"] not in others]
        assert all(task["args"] == "('default',)" for task in shown)
        return [found for task in shown if (found := pattern.fullmatch(task["result"]))]

    found = wait_for(lambda: sum(int(batch[2]) for batch in batches()) == 250 and batches())
    assert sum(int(batch[1]) for batch in found) == 250
    assert sum(int(batch[3] or 1) for batch in found) == 3  # a delivery may send several, one after the other
    queues = up.http.get("/api/queues/length").raise_for_status().json()["active_queues"]
    assert {queue["name"] for queue in queues} == {"badges.deliver", "celery"}
    columns = re.findall(r'<th data-column="(\w+)"', up.http.get("/tasks").text)
    assert columns[:5] == ["name", "state", "args", "result", "received"]


def test_a_batch_that_failed_is_a_failed_task(up: Up) -> None:
    """It is a failure, with the reason; what the vendor refused row by row is none."""
    others = {task["uuid"] for task in up.tasks()}
    up.vendor.vendor.add_fault(Fault(fault="status", status=500, times=1))
    up.enqueue("failed", range(1001, 1003))
    wait_for(lambda: up.run("failed", "dead:in_doubt") == 2)
    (shown,) = wait_for(lambda: [it for it in up.tasks(state="FAILURE") if it["uuid"] not in others])
    assert shown["args"] == "('default',)"
    for words in ("DeliveryFailed", "the vendor answered 500", "'jobs': 2", "'dead': 2"):
        assert words in shown["exception"]
    assert "Traceback" not in up.log.read_text()
    refused = up.send("badges.replay", run="failed", kind="in_doubt")
    assert refused["state"] == "FAILURE"
    assert "2 jobs in doubt would be sent again" in refused["exception"]
    assert "may_issue_twice" in refused["exception"]
    assert "'replayed': 2" in up.send("badges.replay", run="failed", kind="in_doubt", dry_run=True)["result"]
    assert up.run("failed", "dead:in_doubt") == 2
    up.enqueue("after", range(1003, 1004))
    wait_for(lambda: up.run("after", "issued") == 1)  # the probe: the org is open again


def test_pause_and_resume_by_the_api(up: Up) -> None:
    """They act, say what they did, also the second time, and stand in the audit trail."""
    for was in ("open", "paused"):
        shown = up.send("badges.pause", reason="stocktaking")
        assert shown["result"] == f"{{'org': 'default', 'now': 'paused', 'was': '{was}'}}"
    assert (up.gate()["paused"], up.gate()["pause_reason"]) == ("operator", "stocktaking")
    up.enqueue("paused", range(2001, 2004))
    assert up.run("paused", "queued") == 3
    for was in ("paused", "open"):
        shown = up.send("badges.resume", org="default", by="ann")
        assert shown["result"] == f"{{'org': 'default', 'now': 'open', 'was': '{was}'}}"
    wait_for(lambda: up.run("paused", "issued") == 3)
    trail = [*islice(audit.entries(up.client, "default"), 4)]
    assert [entry.action for entry in trail] == ["resume", "resume", "pause", "pause"]
    host = socket.gethostname()
    assert {entry.by for entry in trail} == {
        f"task from Flower on {host}",
        f"task from ann, by Flower on {host}",
    }


def test_replay_by_the_api(up: Up) -> None:
    """It replays what the arguments say, under an id that can be followed; repeated, it finds nothing."""
    up.enqueue("refused", range(3001, 3121), badge=OTHER_BADGE)
    wait_for(lambda: up.run("refused", "dead:rejected") == 120)
    shown = up.send("badges.replay", run="refused", code=1054, dry_run=True)
    assert "'dry_run': True" in shown["result"]
    assert "'replayed': 120" in shown["result"]
    assert up.run("refused", "dead") == 120, "nothing was done"

    up.vendor.vendor.configure(SandboxSettings())
    shown = up.send("badges.replay", run="refused", code=1054, limit=100, note="the badge exists now")
    assert "'replayed': 100" in shown["result"]
    assert up.send("badges.replay", run="refused")["result"].endswith(
        "'replayed': 20, 'duplicates': 0, 'skipped': 0}"
    )
    wait_for(lambda: up.run("refused", "issued") == 120)
    assert "'replayed': 0" in up.send("badges.replay", run="refused")["result"]
    (named,) = re.findall(r"'replay': '(\S+)'", shown["result"])
    assert up.client.llen(keys.key("default", "jobs", named)) == 100
    (entry,) = [entry for entry in audit.entries(up.client, "default") if entry.id == named]
    assert (entry.count, entry.note) == (100, "the badge exists now")
    assert not up.vendor.vendor.ledger().issued_more_than_once


def test_an_undo_by_the_api_wants_a_yes(up: Up) -> None:
    """Without it the task fails and says how many it would be; looking first needs none; then it is done."""
    up.enqueue("won", range(5001, 5004))
    wait_for(lambda: up.run("won", "issued") == 3)
    refused = up.send("badges.undo", run="won")
    assert refused["state"] == "FAILURE"
    assert "3 badges would be taken back from their customers for good" in refused["exception"]
    assert "'dry_run': True" in up.send("badges.undo", run="won", dry_run=True)["result"]
    assert up.run("won", "undone") == 0
    assert "'jobs': 3" in up.send("badges.undo", run="won", yes=True, note="wrong campaign")["result"]
    wait_for(lambda: up.run("won", "undone") == 3)
    (entry,) = [one for one in audit.entries(up.client, "default") if one.action == "undo"]
    assert (entry.count, entry.note) == (3, "wrong campaign")


@pytest.mark.parametrize(
    ("task", "arguments", "words"),
    [
        ("badges.replay", {"kind": "refused"}, "kind: must be rejected, exhausted, invalid"),
        ("badges.replay", {"kind": "invalid"}, "kind: an invalid row can't be replayed: mend the file"),
        ("badges.replay", {"since": "yesterday"}, "since: takes 90m, 12h, 7d or 2026-11-01T00:00Z"),
        (
            "badges.replay",
            {"limit": 0, "colour": "red"},
            "limit: must be above 0; colour: is no argument; there are org, kind, run",
        ),
        ("badges.replay", {"org": "nobody"}, "there is no org 'nobody'"),
        ("badges.pause", {"org": "nobody"}, "there is no org 'nobody'"),
        ("badges.resume", {"colour": "red"}, "colour: is no argument; there are org, note, by"),
        ("badges.undo", {"customer": "x"}, "customer: must be a whole number"),
        ("badges.undo", {"yes": True}, "say which: run, badge, customer, job or since"),
        ("badges.pause", {"raeson": "x"}, "raeson: is no argument; did you mean reason?"),
    ],
)
def test_a_wrong_argument_is_named(up: Up, task: str, arguments: dict[str, Any], words: str) -> None:
    """The task fails with a sentence, and nothing is done."""
    shown = up.send(task, **arguments)
    assert shown["state"] == "FAILURE"
    assert words in shown["exception"]
    assert "paused" not in up.gate()


def test_a_failed_delivery_is_found_by_its_batch_and_names_its_place_in_the_console(up: Up) -> None:
    """As the console links to it: by a word that Flower's search looks for."""
    up.vendor.vendor.add_fault(Fault(fault="status", status=500, times=1))
    up.enqueue("by-batch", range(640_000_000, 640_000_003))
    job = wait_for(lambda: next(iter(up.client.lrange(keys.key("default", "jobs", "by-batch"), 0, 0)), None))
    reports = JobReader(client=up.client, orgs={})
    batch = wait_for(lambda: (calls := reports.job(str(job))["history"]) and calls[0]["batch"])
    asked = {"draw": 1, "start": 0, "length": 5, "search[value]": f"name:badges.deliver {batch}"}
    order = {"order[0][column]": 0, "order[0][dir]": "desc", "columns[0][data]": "received"}

    def found() -> Any:
        return up.http.get("/tasks/datatable", params=asked | order).raise_for_status().json()["data"]

    (task,) = wait_for(found, what="the task")
    page = up.http.get(f"/task/{task['uuid']}").raise_for_status().text
    assert f"http://ops.example/c/search?by=request&amp;what={batch}" in page
    up.enqueue("probe", range(640_000_003, 640_000_004))
    wait_for(lambda: up.run("probe", "issued") == 1)  # the org is open again


def test_if_flower_dies_badges_are_delivered(tmp_path: Path) -> None:
    """The log says that it ended, and no more happens; SIGTERM then drains the worker and all is gone."""
    with brought_up(tmp_path) as up:
        (flower,) = flowers(up.running.pid)
        os.kill(flower, signal.SIGKILL)
        wait_for(lambda: "flower.ended" in up.log.read_text())
        up.enqueue("alone", range(4001, 4101))
        wait_for(lambda: up.run("alone", "issued") == 100)
        up.running.terminate()
        assert up.running.wait(20) == 0
        assert "Traceback" not in up.log.read_text()


@LONG
def test_all_of_it_ends_together(tmp_path: Path, sandbox: SandboxServer) -> None:
    """SIGTERM, and even SIGKILL of the one process that was started, leave no Flower and no server behind."""
    env = environment(data_dir=tmp_path / "data", api_base_url=sandbox.url) | {"FLOWER_PORT": "0"}
    for how, status in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)):
        log = tmp_path / how.name
        with process(UP, env=env | {"FLOWER_BASIC_AUTH": "operator:theirs"}, log=log) as running:
            (where,) = wait_for(lambda log=log: re.findall(r"Flower on (\S+)\n", log.read_text()))
            wait_for(lambda log=log: "ready." in log.read_text())
            assert "theirs" not in log.read_text(), "a password that was given isn't shown"
            if how is signal.SIGTERM:  # the other one meets Flower where it has hardly begun
                wait_for(lambda where=where: _answers(where, auth=("operator", "theirs")))
            running.send_signal(how)
            assert running.wait(20) == status
            wait_for(lambda: not flowers(running.pid))
        ended = f"the embedded server's end after {how.name}"
        wait_for(lambda: not _is_locked(tmp_path / "data/server.lock"), what=ended)


def _is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _answers(url: str, *, auth: tuple[str, str]) -> bool:
    try:
        return httpx.get(f"{url}/api/tasks", auth=auth).status_code == 200
    except httpx.HTTPError:
        return False


def test_what_is_in_the_way_is_said(tmp_path: Path) -> None:
    """A taken port, and Flower not being installed: one sentence, exit status 2, and nothing is started."""
    env = environment(data_dir=tmp_path / "data", api_base_url="http://127.0.0.1:9")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = badges("up", "--flower", env=env | {"FLOWER_PORT": port}, expect=2).stderr.decode()
    assert f"Flower can't listen on 127.0.0.1, port {port}: Address already in use; set FLOWER_PORT" in said
    command = [sys.executable, PROGRAMS / "without.py", "flower", "up", "--flower"]
    done = subprocess.run(command, env=env, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().strip() == (
        "badges: --flower needs Flower, which isn't installed: pip install '.[flower]'"
    )
    assert not (tmp_path / "data").exists()
