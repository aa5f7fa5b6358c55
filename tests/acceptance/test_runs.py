"""Runs as a person meets them: listed, followed with pace and time to go, and going on when nobody looks."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
import redis
from hands import bury, issue_next, settle
from support import (
    BADGE,
    LONG,
    OTHER_BADGE,
    badges,
    badges_json,
    configured,
    environment,
    item,
    some,
    wait_for,
)
from terminal import terminal

from worker.cli import progress
from worker.domain.batch import Batch
from worker.domain.org import Org
from worker.domain.settlement import Retry
from worker.operate import following
from worker.operate.progress import RunProgress
from worker.operate.runs import JobReader
from worker.server.connection import Connection
from worker.store import audit, keys
from worker.store.pool import Seats
from worker.store.queue import Queue, new_id
from worker.store.runs import LATEST

FOLLOW = [sys.executable, "-m", "worker.cli", "run", "follow", "spring"]
ORG = configured(batch_size=10, rate_limit="5/second")


@pytest.fixture
def env(empty: Connection) -> dict[str, str]:
    """What leads to it."""
    return environment(redis_url=empty.url, batch_size=10, rate_limit="5/second", batch_linger_s=0)


def bring(client: redis.Redis, run: str, first: int, number: int) -> None:
    """Queue that many jobs."""
    items = [item(n) for n in range(first, first + number)]
    Queue(client).enqueue(ORG, run=run, items=items, call=new_id())


def deliver(client: redis.Redis, org: Org = ORG) -> None:
    """Send a batch; all of it is issued."""
    wait_for(lambda: issue_next(Queue(client), org))


def etas(client: redis.Redis, org: Org = ORG) -> dict[str, int | None]:
    """Return when each run is done."""
    return {run.run: run.eta_s for run in JobReader(client=client, orgs={"default": org}).runs()}


def test_when_a_run_is_done(client: redis.Redis) -> None:
    """At the pace that the org may go now, behind what waits before it; unknown while it stands still."""
    bring(client, "one", 0, 500)
    assert etas(client)["one"] is None  # no worker is alive
    Seats(queue=Queue(client)).offer("worker", 1)
    bring(client, "two", 500, 1000)
    bring(client, "none", 0, 1)
    assert etas(client) == pytest.approx({"one": 10, "two": 30, "none": 0}, rel=0.03)
    (one, two) = (JobReader(client=client, orgs={"default": ORG}).run(run) for run in ("one", "two"))
    assert (one.eta_s, two.eta_s) == pytest.approx((10, 30), rel=0.03)
    now_ms = int(time.time() * 1000)
    gate = keys.key("default", "gate")
    client.hset(gate, mapping={"batch_size": 5, "batch_size_until": now_ms + 60_000})
    assert etas(client) == pytest.approx({"one": 20, "two": 60, "none": 0}, rel=0.03)
    client.hset(gate, mapping={"closed_until": now_ms + 100_000, "why": "throttled"})
    assert etas(client)["one"] == pytest.approx(120, abs=5)
    client.hset(gate, "paused", "operator")
    assert etas(client) == {"one": None, "two": None, "none": 0}
    client.delete(gate)
    client.hset(gate, mapping={"probing": 1, "why": "answer in doubt"})
    assert etas(client) == {"one": None, "two": None, "none": 0}
    client.delete(gate)
    client.hset(gate, mapping={"closed_until": now_ms + 100_000, "why": "vendor unavailable"})
    assert etas(client)["one"] is None
    client.delete(gate)
    client.hset(gate, "took", "20 2000.0")
    slow = configured(batch_size=10, rate_limit="5/second", max_in_flight=2)
    assert etas(client, slow)["one"] == 50  # two at once, two seconds each


def defer(client: redis.Redis, run: str, n: int, due_in_s: float) -> None:
    """Let a job of a run wait for its next attempt."""
    queue = Queue(client)
    queue.enqueue(ORG, run=run, items=[item(n)], call=new_id())
    batch = wait_for(lambda: isinstance(one := queue.claim(ORG, new_id()), Batch) and one)
    settle(queue, ORG, batch, Retry(due_in_s, "521", "busy", spends_attempt=False))


def test_nothing_is_promised_before_what_waits_for_its_time_can_end(
    client: redis.Redis, env: dict[str, str]
) -> None:
    """The last retry of a run tells, not that of another, nor the pace; on every page and in a replay."""
    Seats(queue=Queue(client)).offer("worker", 1)
    defer(client, "soon", 1, 60)
    defer(client, "late", 2, 600)
    bring(client, "now", 10, 10)
    assert etas(client) == pytest.approx({"soon": 60, "late": 600, "now": 0}, abs=3)
    for n in range(3, 3 + LATEST):  # so many that the one of the first run isn't found
        client.zadd(keys.key("default", "retry"), {f"another {n}": time.time() * 1000 + 300_000})
    soon = etas(client)["soon"]
    assert soon == pytest.approx(300, abs=5)
    reports = JobReader(client=client, orgs={"default": ORG})
    assert next(following.follow(reports, "late", every_s=0)).eta_s == pytest.approx(600, abs=5)
    (state,) = reports.states("default")
    assert state.seconds_for(state.waiting, last_ms=state.last_retry_ms) == pytest.approx(600, abs=5)
    said = badges("run", "show", "late", env=env).stdout.decode()
    assert re.search(r"about (9 min 5\d|10 min \d) s to go", " ".join(said.split())), said


def test_the_columns_of_a_list_add_up(client: redis.Redis, env: dict[str, str]) -> None:
    """What was undone, or needs nobody any more, has a column where there is any."""
    env = env | {"COLUMNS": "160"}
    bring(client, "spring", 0, 10)
    deliver(client)
    first = badges("run", "list", env=env).stdout.decode().splitlines()
    assert first[0].split()[:6] == ["run", "org", "total", "waiting", "issued", "dead"]
    bury(Queue(client), ORG, (20, 21, 22), run="spring")
    badges("dead", "discard", "--job", item(20).id, "--yes", env=env)
    run = keys.key("default", "run", "spring")
    client.hincrby(run, "issued", -4)
    client.hincrby(run, "undone", 4)
    head, line = badges("run", "list", env=env).stdout.decode().splitlines()
    columns = dict(zip(head.replace("started, UTC", "started").split(), line.split(), strict=False))
    assert [columns[name] for name in ("total", "waiting", "issued", "undone", "handled", "dead")] == [
        "13", "0", "6", "4", "1", "2",
    ]  # fmt: skip
    assert "4 undone" in " ".join(badges("run", "show", "spring", env=env).stdout.decode().split())


def test_cancelling(client: redis.Redis, env: dict[str, str]) -> None:
    """It says how to take it back, safe to copy; and of a run that is over, that nothing waits."""
    bring(client, "$(id)", 0, 3)
    said = badges("run", "cancel", "$(id)", "--yes", env=env).stdout.decode()
    assert said == "3 cancelled; to take that back: badges dead replay --kind cancelled --run '$(id)'\n"
    again = badges("run", "cancel", "$(id)", env=env)
    assert (again.stdout, again.stderr) == (b"nothing of it waits any more\n", b"")


def test_a_run_that_has_ended_is_not_cancelled(client: redis.Redis, env: dict[str, str]) -> None:
    """Nothing of it waits; what comes to it some day is sent, since nobody was asked about that."""
    bring(client, "spring", 0, 2)
    deliver(client)
    assert badges("run", "cancel", "spring", env=env).stdout == b"nothing of it waits any more\n"
    bring(client, "spring", 2, 1)
    (run,) = badges_json("run", "list", env=env)
    assert (run["issued"], run["queued"], run["dead"]) == (2, 1, 0)


def test_what_takes_a_cancel_back_leaves_what_was_cancelled_before(
    client: redis.Redis, env: dict[str, str]
) -> None:
    """Somebody decided about those; the printed command says from when on."""
    bring(client, "s", 0, 3)
    badges("run", "cancel", "s", "--yes", env=env)
    badges("dead", "replay", "--run", "s", "--limit", "1", env=env)
    said = badges("run", "cancel", "s", "--yes", env=env).stdout.decode()
    back = said.strip().removeprefix("1 cancelled; to take that back: ")
    assert back.startswith("badges dead replay --kind cancelled --since 20")
    assert b"1 replayed" in badges(*back.split()[1:], env=env).stdout


def test_what_takes_a_cancel_back_means_all_of_it(client: redis.Redis, env: dict[str, str]) -> None:
    """What was cancelled before it was broken off, too, and begun again by somebody else."""
    queue = Queue(client)
    bring(client, "s", 0, 1)
    badges("run", "cancel", "s", "--yes", env=env)
    bring(client, "t", 1, 3)
    audit.begin(queue, "default", "cancel-1", by="who broke it off", which={"run": "t"})
    ids = [str(one) for one in client.lrange(keys.key("default", "jobs", "t"), 0, 1)]
    for action, one in zip(("cancel-1", "cancel-2"), ids, strict=True):
        assert queue.cancel("default", [one], call=new_id(), action=action, run="t") == 1
    said = badges("run", "cancel", "t", "--yes", env=env).stdout.decode()
    back = said.strip().removeprefix("1 cancelled; to take that back: ")
    assert b"3 replayed" in badges(*back.split()[1:], env=env).stdout


def test_a_command_that_is_printed_means_its_org(
    client: redis.Redis, env: dict[str, str], tmp_path: Path
) -> None:
    """Another org may have a run of the same name, which a copied command would act on as well."""
    env["BADGES_ORGS_FILE"] = str(tmp_path / "orgs.toml")
    (tmp_path / "orgs.toml").write_text('[spring]\napi_base_url = "https://spring.invalid"\n')
    bring(client, "s", 0, 3)
    items = [item(n, org="spring") for n in range(3)]
    Queue(client).enqueue(configured(name="spring"), run="s", items=items, call=new_id())
    for org in ("default", "spring"):
        said = badges("run", "cancel", "s", "--org", org, "--yes", env=env).stdout.decode()
        back = f"badges dead replay --kind cancelled --org {org} --run s"
        assert said == f"3 cancelled; to take that back: {back}\n"
    badges(*back.split()[1:], env=env)
    waiting = [run["queued"] for run in badges_json("run", "list", env=env) if run["org"] == "default"]
    assert waiting == [0]
    shown = badges("run", "show", "s", "--org", "spring", env=env).stdout.decode()
    assert "3 queued" in " ".join(shown.split())
    client.hset(keys.key("spring", "run", "s"), mapping={"incomplete": "cut off", "incomplete_file": "a.csv"})
    shown = badges("run", "show", "s", "--org", "spring", env=env).stdout.decode()
    assert "to go on: badges import FILE --org spring --run s" in " ".join(shown.split())
    listed = badges("run", "list", env=env | {"COLUMNS": "200"}).stdout.decode()
    assert "s (incomplete)" in " ".join(listed.split())
    badges("run", "cancel", "s", "--org", "spring", "--yes", env=env)
    groups = " ".join(badges("dead", "groups", "--org", "spring", env=env).stdout.decode().split())
    for command in ("job show --org spring", "dead replay --org spring", "results --org spring"):
        assert f"badges {command} " in groups, command


def test_what_holds_a_run_is_said(client: redis.Redis) -> None:
    """With what to do about it, instead of a time to go that nobody would keep."""
    bring(client, "spring", 0, 10)
    seats, eu = Seats(queue=Queue(client)), configured(name="eu")
    reports = JobReader(client=client, orgs={"default": ORG, "eu": eu})
    assert "no worker is alive; start one: badges worker" in str(reports.run("spring").held)
    seats.offer_own("eu")
    assert "no worker is alive; start one: badges worker" in str(reports.run("spring").held)
    seats.offer("worker", 1)
    assert reports.run("spring").held is None
    Queue(client).pause("default", why="operator", reason="")
    Queue(client).pause("eu", why="auth", reason="")
    assert reports.run("spring").held == "paused (operator); go on: badges resume"
    said = "paused (auth); badges doctor --org eu says what to mend; go on: badges resume --org eu"
    assert [state.held for state in reports.states("eu")] == [said]
    assert "isn't configured" in str(JobReader(client=client, orgs={}).run("spring").held)


def test_the_time_to_go_is_that_of_the_pace(capsys: pytest.CaptureFixture[str]) -> None:
    """The org may go at a thousand a second, and goes at three: that tells, without decimals."""
    run = RunProgress("spring", "default", 1000, 1000, 0, 0, 0, 0, 0, 0, eta_s=1)

    def snapshots() -> Iterator[RunProgress]:
        for _ in range(3):
            yield replace(run, queued=run.queued - 10, issued=run.issued + 10)
        yield replace(run, queued=990, issued=10)
        yield replace(run, queued=985, issued=15)

    progress.follow_jobs(snapshots(), clock=iter([0, 0.6, 1.2, 1.8, 1.8]).__next__)
    said = capsys.readouterr().err
    assert "3 a second, 5 min 55 s to go" in said, said
    progress.follow_jobs([replace(run, held="paused (operator); go on: badges resume")])
    assert "badges resume" in capsys.readouterr().err


@LONG
def test_ten_thousand_runs(client: redis.Redis, env: dict[str, str]) -> None:
    """The newest come last; a terminal is shown the last few, and how many are left out; programs get all."""
    pipe = client.pipeline(transaction=False)
    names = [f"run-{n:05}" for n in range(10_000)]
    for n, run in enumerate(names):
        pipe.hset(keys.key("default", "run", run), mapping={"total": 1, "issued": 1, "started_at": 1000 + n})
    pipe.zadd(keys.key("default", "runs"), {run: 1000 + n for n, run in enumerate(names)})
    pipe.execute()
    began = time.process_time()
    assert [run.run for run in JobReader(client=client, orgs={"default": ORG}).runs()] == names
    assert time.process_time() - began < 5  # of the processor; a second on a quiet machine
    shown = badges("run", "list", env=env).stdout.decode().splitlines()
    assert shown[0] == "9,950 earlier ones: --limit N shows more, --json all of them"
    assert [line.split()[0] for line in shown[-50:]] == names[-50:]
    assert len(badges_json("run", "list", env=env)) == 10_000


@contextmanager
def alive(client: redis.Redis) -> Iterator[None]:
    """Say again and again, while the block lasts, that a worker is alive."""
    over, seats = Event(), Seats(queue=Queue(client))

    def say() -> None:
        while not over.is_set():
            seats.offer("worker", 1)
            over.wait(1)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(say)
        try:
            yield
        finally:
            over.set()


@pytest.mark.parametrize("end", some([signal.SIGHUP, signal.SIGINT], 1))
def test_the_run_goes_on_when_nobody_looks(
    client: redis.Redis, env: dict[str, str], end: signal.Signals
) -> None:
    """Following only reads: Ctrl-C, or a terminal that is closed, ends it, and nothing else."""
    bring(client, "spring", 0, 100)
    with alive(client), terminal("run", "follow", "spring", env=env, columns=150, draws=True) as screen:
        deliver(client)
        screen.until("10/100", "a second", "to go")
        if end == signal.SIGHUP:
            screen.close()
        screen.running.send_signal(end)
        assert screen.end() == (130 if end == signal.SIGINT else 1)
    assert ("the run goes on" in screen.shown) == (end == signal.SIGINT)
    assert "Traceback" not in screen.shown
    deliver(client)
    assert JobReader(client=client, orgs={"default": ORG}).run("spring").states() == [80, 0, 0, 20, 0, 0]


def test_following_for_a_program_that_goes_away(client: redis.Redis, env: dict[str, str]) -> None:
    """``badges run follow --jsonl | head`` ends without a word; every line holds the whole progress."""
    bring(client, "spring", 0, 100)
    Seats(queue=Queue(client)).offer("worker", 1)
    done = subprocess.run(
        ["bash", "-c", f"{' '.join(FOLLOW)} --jsonl | head -2"],
        env=env,
        capture_output=True,
        timeout=60,
        check=True,
    )
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["queued"], first["eta_s"]) == (second["queued"], second["eta_s"]) == (100, 2)
    assert done.stderr == b""


def test_a_run_in_numbers(client: redis.Redis, env: dict[str, str]) -> None:
    """By state, kind, code and badge; a large run only if that is asked for."""
    queue, other = Queue(client), [item(n, badge_id=OTHER_BADGE) for n in range(3)]
    queue.enqueue(ORG, run="spring", items=[item(n) for n in range(12)], call="c")
    deliver(client)
    queue.enqueue(ORG, run="spring", items=other, call="d")
    queue.cancel("default", [it.id for it in other], call="e")
    said = badges_json("run", "show", "spring", env=env)
    assert [tuple(number.values()) for number in said["numbers"]] == [
        ("issued", None, None, BADGE, 10),
        ("dead", "cancelled", "cancelled", OTHER_BADGE, 3),
        ("queued", None, None, BADGE, 2),
    ]
    assert sum(number["count"] for number in said["numbers"]) == said["total"]
    shown = badges("run", "show", "spring", env=env).stdout.decode()
    assert re.search(rf"dead +cancelled +cancelled +{OTHER_BADGE} +3", shown)
    client.hset(keys.key("default", "run", "spring"), "total", 10_001)
    assert badges_json("run", "show", "spring", env=env)["numbers"] is None
    assert b"--numbers" in badges("run", "show", "spring", env=env).stdout
    assert len(badges_json("run", "show", "spring", "--numbers", env=env)["numbers"]) == 3
