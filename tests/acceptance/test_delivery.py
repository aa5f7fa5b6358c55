"""What was imported is delivered: in full batches, at the vendor's rate, with its credentials."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from support import BADGE, Probe, badges, badges_json, environment, process, wait_for, worker_command

from worker.sandbox.issued import Exchange, SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection

USERNAME, PASSWORD = "till.7", "correct horse"
KEY, SECRET = "client-key", "client-secret"
CUSTOMERS = count(1001)
MISSING, MISTYPED = "000000000000000000000bad", "00000000000000000000bad2"

# fmt: off
ROW = [
    "job_id", "run", "org", "badgeMetaId", "customerId", "state", "attempts", "earnedBadgeId", "issuedId",
    "requestId", "expiresOn", "expiresOnISO", "warnings", "error", "enqueued_at", "finished_at",
]
RUN = [
    "run", "org", "total", "queued", "sending", "retrying", "issued", "dead", "duplicates", "invalid",
    "dead_kinds", "started_at", "finished_at", "eta_s",
]
# fmt: on

BASIC = {"auth": "basic", "basic_username": USERNAME, "basic_password": PASSWORD}
TOKEN = base64.b64encode(f"{USERNAME}:{hashlib.md5(PASSWORD.encode()).hexdigest()}".encode()).decode()  # noqa: S324
OAUTH = {"auth": "oauth", "oauth_key": KEY, "oauth_secret": SECRET}
FAST = {"rate_limit": "1000/second", "batch_linger_s": 0.2}

# Each org has a vendor of its own, and all of them one worker.
VENDORS: dict[str, dict[str, Any]] = {
    "default": {"unknown_badges": frozenset({MISSING, MISTYPED})},
    "twenty": {"latency_s": (0.02, 0.15)},
    "slow": {"latency_s": (0.9, 1.0)},
    "basic": {"basic": (USERNAME, PASSWORD)},
    "token": {"basic": (USERNAME, PASSWORD)},
    "oauth": {"oauth": (KEY, SECRET)},
    "brief": {"oauth": (KEY, SECRET), "token_ttl_s": 5},
    "wrong": {"basic": (USERNAME, PASSWORD)},
    "lost": {"oauth": (KEY, SECRET)},
}
ORGS: dict[str, dict[str, Any]] = {
    "twenty": {"rate_limit": "20/second", "batch_size": 10, "batch_linger_s": 1.0, "max_in_flight": 10},
    "slow": {"rate_limit": "20/second", "batch_size": 10, "batch_linger_s": 1.0, "max_in_flight": 10},
    "basic": FAST | BASIC,
    "token": FAST | {"auth": "basic", "basic_token": TOKEN},
    "oauth": FAST | OAUTH,
    "brief": OAUTH | {"rate_limit": "5/second", "batch_size": 1, "http_timeout_s": 1},
    "wrong": FAST | BASIC | {"basic_password": "wrong"},
    "lost": FAST | OAUTH | {"oauth_secret": "wrong"},
}


class Floor(NamedTuple):
    """A worker that runs, the vendors it delivers to, and the environment of the commands."""

    pid: int
    client: redis.Redis
    env: dict[str, str]
    vendors: dict[str, SandboxServer]
    orgs_file: Path

    def bring(self, org: str, number: int, badge: str = BADGE) -> str:
        """Import that many badges that nobody imported before; return the run's name."""
        rows = "".join(f"{badge},{next(CUSTOMERS)}\n" for _ in range(number))
        text = f"badgeMetaId,customerId\n{rows}"
        said = badges_json("import", "-", "--org", org, env=self.env, stdin=text.encode())
        assert said["accepted"] == number
        return str(said["run"])

    def calls(self, org: str, endpoint: str = "import") -> list[Exchange]:
        """Return the calls that an org's vendor saw, oldest first."""
        return [e for e in self.vendors[org].vendor.ledger().exchanges if e.endpoint == endpoint]

    def deliver(self, org: str, number: int, *, within_s: float = 60) -> str:
        """Import badges and wait until the vendor has issued them all, each once."""
        run = self.bring(org, number)
        wait_for(
            lambda: Probe(self.client, org).count(run) == number,
            within_s=within_s,
            what=f"{org} {run}",
        )
        ledger = self.vendors[org].vendor.ledger()
        assert not ledger.issued_more_than_once
        return run


def write_orgs(file: Path, vendors: dict[str, SandboxServer], **changes: dict[str, Any]) -> None:
    """Write the orgs' settings, with some of them changed."""
    tables = []
    for name, settings in ORGS.items():
        own = {"api_base_url": vendors[name].url, **settings, **changes.get(name, {})}
        tables.append(f"[{name}]\n" + "".join(f"{key} = {json.dumps(own[key])}\n" for key in own))
    file.write_text("\n".join(tables))


@pytest.fixture(scope="module")
def floor(connection: Connection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    """One worker process for all orgs."""
    folder = tmp_path_factory.mktemp("floor")
    with ExitStack() as stack:
        vendors = {
            name: stack.enter_context(SandboxServer(settings=SandboxSettings(**settings)))
            for name, settings in VENDORS.items()
        }
        client = stack.enter_context(connection.client())
        client.flushall()
        orgs_file = folder / "orgs.toml"
        write_orgs(orgs_file, vendors)
        env = environment(
            redis_url=connection.url,
            broker_url=connection.broker_url,
            orgs_file=orgs_file,
            api_base_url=vendors["default"].url,
            **FAST,
        )
        running = stack.enter_context(
            process(worker_command("--concurrency", 10), env=env, log=folder / "worker.log")
        )
        yield Floor(running.pid, client, env, vendors, orgs_file)


# What is reported


@pytest.fixture(scope="module")
def reported(floor: Floor) -> str:
    """Deliver a run with everything in it: 3 issued, 2 rejected, 1 invalid, 1 duplicate."""
    rows = (
        [f"{BADGE},{n}" for n in (901, 902, 903, 901)] + [f"{MISSING},{n}" for n in (904, 905)] + ["x y,906"]
    )
    text = "badgeMetaId,customerId,earnEventDate,earnExpiresOn\n" + "".join(
        f"{row},1674292011,1905828011\n" for row in rows
    )
    badges("import", "-", "--run", "reported", env=floor.env, stdin=text.encode(), expect=3)
    wait_for(lambda: Probe(floor.client).count("reported") == 3)
    wait_for(lambda: Probe(floor.client).count("reported", "dead") == 3)
    return "reported"


def test_a_run_in_the_contracts_words(floor: Floor, reported: str) -> None:
    """``run show --json`` has the contract's keys in their order, and the counts are right."""
    run = badges_json("run", "show", reported, env=floor.env)
    assert list(run)[: len(RUN)] == RUN
    # total = accepted + invalid; an invalid row is counted in dead; duplicates stand outside
    expected = {"run": "reported", "org": "default", "total": 6, "issued": 3, "dead": 3, "duplicates": 1}
    expected |= {"invalid": 1, "queued": 0, "sending": 0, "retrying": 0, "eta_s": 0}
    assert {name: run[name] for name in expected} == expected
    assert run["dead_kinds"] == {"rejected": 2, "invalid": 1}
    assert when(run["started_at"]) <= when(run["finished_at"])


def when(text: str) -> float:
    """Read an instant."""
    moment = datetime.fromisoformat(text)
    assert moment.tzinfo
    return moment.timestamp()


def test_results_line_by_line(floor: Floor, reported: str, tmp_path: Path) -> None:
    """One line a job, the contract's fields in their order, as JSON Lines, to a file as well."""
    done = badges("results", "--run", reported, env=floor.env)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(list(row)[: len(ROW)] == ROW for row in rows)
    assert Counter(row["state"] for row in rows) == {"issued": 3, "dead": 3}
    ledger = {i.customer_id: i.earned_badge_id for i in floor.vendors["default"].vendor.ledger().issues}
    for row in rows:
        assert when(row["enqueued_at"]) <= when(row["finished_at"])
        assert (row["run"], row["org"], row["warnings"]) == ("reported", "default", [])
        if row["state"] == "issued":
            assert row["earnedBadgeId"] == ledger[row["customerId"]]
            assert (row["error"], row["attempts"], row["issuedId"]) == (None, 1, None)
            assert (row["expiresOn"], row["expiresOnISO"]) == (1905828011.0, "2030-05-24T04:40:11Z")
            assert row["requestId"]
        else:
            assert list(row["error"]) == ["kind", "code", "message"]
            assert row["earnedBadgeId"] is None
    rejected = [row["error"] for row in rows if row["badgeMetaId"] == MISSING]
    assert [(error["kind"], error["code"]) for error in rejected] == [("rejected", "1054")] * 2
    assert all("BADGE_NOT_FOUND" in error["message"] for error in rejected)
    file = tmp_path / "out.jsonl"
    badges("results", "--run", reported, "-o", file, env=floor.env)
    assert file.read_bytes() == done.stdout


def test_results_as_a_table(floor: Floor, reported: str, tmp_path: Path) -> None:
    """``--format csv`` has the same fields, the error spread over three; ``--state`` chooses."""
    file = tmp_path / "out.csv"
    badges("results", "--run", reported, "--format", "csv", "-o", file, env=floor.env)
    with file.open(newline="", encoding="utf-8-sig") as opened:
        rows = list(csv.DictReader(opened))
    spread = [name for name in ROW if name != "error"] + ["error_kind", "error_code", "error_message"]
    assert list(rows[0])[: len(spread)] == spread
    assert Counter(row["state"] for row in rows) == {"issued": 3, "dead": 3}
    dead = badges(
        "results", "--run", reported, "--state", "dead", "--format", "csv", env=floor.env
    ).stdout.decode()
    kinds = Counter(row["error_kind"] for row in csv.DictReader(io.StringIO(dead)))
    assert kinds == {"rejected": 2, "invalid": 1}
    again = badges_json("import", file, env=floor.env)  # a report can be mended and imported again
    assert (again["accepted"], again["duplicates"] + again["invalid"]) == (0, 6)


def test_results_of_nothing(floor: Floor, reported: str) -> None:
    """A state that no job is in gives no line; an unknown run is an error, not an empty report."""
    none = badges("results", "--run", reported, "--state", "retrying", env=floor.env)
    assert none.stdout == b""
    assert b"no run 'nowhere'" in badges("results", "--run", "nowhere", env=floor.env, expect=1).stderr


def test_one_job_with_its_history(floor: Floor, reported: str) -> None:
    """``job show`` has all that ``results`` has, and the attempts that issued nothing."""
    done = badges("results", "--run", reported, env=floor.env).stdout
    rejected = next(row for row in map(json.loads, done.splitlines()) if row["badgeMetaId"] == MISSING)
    job = badges_json("job", "show", rejected["job_id"], env=floor.env)
    assert {name: job[name] for name in ROW} == {name: rejected[name] for name in ROW}
    assert [(a["status"], a["code"]) for a in job["history"]] == [("200", "1054")]
    assert job["history"][0]["batch"] == job["batch"]
    shown = badges("job", "show", rejected["job_id"], env=floor.env).stdout.decode()
    assert f"{rejected['customerId']}" in shown  # an id, not a number with commas
    assert "rejected" in shown
    assert b"no job 'x'" in badges("job", "show", "x", env=floor.env, expect=1).stderr


def test_runs_and_groups_are_listed(floor: Floor, reported: str) -> None:
    """``run list``, ``dead groups`` and ``status`` tell the same as the run itself."""
    runs = badges_json("run", "list", env=floor.env)
    shown = badges_json("run", "show", reported, env=floor.env)
    assert {name: shown[name] for name in runs[0]} in runs  # which counts by badge and code beside that
    groups = badges_json("dead", "groups", "--run", reported, env=floor.env)
    assert [(g["count"], g["kind"], g["code"], g["badgeMetaId"]) for g in groups] == [
        (2, "rejected", "1054", MISSING),
        (1, "invalid", "badgeMetaId", None),
    ]
    (status,) = badges_json("status", "--org", "default", env=floor.env)
    assert status["gate"]["state"] == "open"
    assert status["dead"]["rejected"] == 2
    followed = badges(
        "run", "follow", reported, "--jsonl", "--fail-on", "never", env=floor.env
    ).stdout.splitlines()
    assert json.loads(followed[-1])["issued"] == 3


# Batches and the limit


def test_under_load_batches_are_full_and_the_limit_holds(floor: Floor) -> None:
    """Every batch but the last is full, none is larger, and they leave at the limit's pace, not in a burst.

    To the letter the limit is held to in ``test_gate.py``, where they leave; how much of it is used, in
    virtual time, in ``test_pace.py``: on its way here a busy machine may hold up one call or the other.
    """
    floor.deliver("twenty", 705)
    calls = floor.calls("twenty")
    sizes = [call.items or 0 for call in calls]
    assert max(sizes) == 10
    assert sum(sizes) / (10 * len(sizes)) >= 0.95
    assert Counter(call.status for call in calls) == {200: len(calls)}
    arrived = sorted(call.arrived_s for call in calls)
    lasted_s = arrived[-1] - arrived[0]
    assert lasted_s > 0.8 * (len(arrived) - 1) / 20, f"{len(arrived)} calls arrived within {lasted_s:.2f} s"


def test_a_slow_vendor_is_asked_by_many_calls_at_once(floor: Floor) -> None:
    """The next call starts when the limit lets it, not when the one before it has been answered."""
    floor.deliver("slow", 200)
    calls = floor.calls("slow")
    assert sum(call.items or 0 for call in calls) == 200
    lasted_s = calls[-1].arrived_s - calls[0].arrived_s
    assert lasted_s < 12, f"20 calls of a second, up to 10 at once, took {lasted_s:.1f} s to start"


def test_few_jobs_go_out_after_the_linger_time(floor: Floor) -> None:
    """Three jobs wait one second for more, and no longer, and go in one call."""
    before = len(floor.calls("twenty"))
    run = floor.bring("twenty", 3)
    wait_for(lambda: Probe(floor.client, "twenty").count(run) == 3)
    (call,) = floor.calls("twenty")[before:]
    assert call.items == 3
    rows = badges("results", "--run", run, env=floor.env).stdout.splitlines()
    enqueued_at = min(when(json.loads(row)["enqueued_at"]) for row in rows)
    assert 0.999 <= call.arrived_at - enqueued_at <= 10  # the record's clock counts milliseconds


# Credentials


@pytest.mark.parametrize("org", ["basic", "token", "oauth"])
def test_credentials_are_what_the_vendor_wants(floor: Floor, org: str) -> None:
    """A plain password (sent as the vendor's md5 form), a ready token, and OAuth: all is delivered."""
    floor.deliver(org, 250)
    assert Counter(call.status for call in floor.calls(org)) == {200: len(floor.calls(org))}
    assert len(floor.calls(org, "token")) == (1 if org == "oauth" else 0)


def test_a_token_is_renewed_before_its_end_and_shared(floor: Floor) -> None:
    """Through several lifetimes of a token no call is refused, and not every call fetches one."""
    run = floor.deliver("brief", 28)
    assert Probe(floor.client, "brief").count(run, "dead") == 0
    assert {call.status for call in floor.calls("brief")} == {200}
    assert 2 <= len(floor.calls("brief", "token")) <= 8


@pytest.mark.parametrize(("org", "mended"), [("wrong", BASIC), ("lost", OAUTH)])
def test_wrong_credentials_pause_the_org(floor: Floor, org: str, mended: dict[str, str]) -> None:
    """The jobs stay queued, the vendor is left in peace, and once mended and resumed all is delivered."""
    run = floor.bring(org, 500)
    wait_for(lambda: floor.client.hexists(f"{{badges:{org}}}/gate", "paused"))
    wait_for(lambda: not floor.client.exists(f"{{badges:{org}}}/leases"))  # what was under way is put back
    (status,) = badges_json("status", "--org", org, env=floor.env)
    assert status["gate"]["why"] == "auth"
    assert status["gate"]["reason"]
    assert status["queued"] == 500
    assert len(floor.vendors[org].vendor.ledger().exchanges) <= 6
    assert PASSWORD not in json.dumps(status)
    lines = (floor.orgs_file.parent / "worker.log").read_text().splitlines()
    said_once = [
        line for line in map(json.loads, lines) if line["event"] == "org.paused" and line["org"] == org
    ]
    assert [(line["level"], line["why"], bool(line["reason"])) for line in said_once] == [
        ("error", "auth", True)
    ]
    assert f"badges resume --org {org}" in said_once[0]["cure"]
    said = badges("status", "--org", org, env=floor.env).stdout.decode()
    assert "paused" in said
    assert "auth" in said
    write_orgs(floor.orgs_file, floor.vendors, **{org: mended})
    badges("resume", "--org", org, env=floor.env)
    wait_for(lambda: Probe(floor.client, org).count(run) == 500)
    write_orgs(floor.orgs_file, floor.vendors)


# By hand


def test_pause_and_resume(floor: Floor) -> None:
    """A paused org takes jobs and sends none, with the reason shown; resumed, it goes on at once."""
    badges("pause", "--org", "basic", "--reason", "lunch", env=floor.env)
    before = len(floor.calls("basic"))
    run = floor.bring("basic", 100)
    run_elsewhere = floor.deliver("token", 100)  # the worker lives, and has looked at all orgs
    assert Probe(floor.client, "token").count(run_elsewhere) == 100
    assert len(floor.calls("basic")) == before
    (status,) = badges_json("status", "--org", "basic", env=floor.env)
    assert (status["gate"]["state"], status["gate"]["why"]) == ("paused", "operator")
    assert (status["gate"]["reason"], status["queued"]) == ("lunch", 100)
    badges("resume", "--org", "basic", env=floor.env)
    wait_for(lambda: Probe(floor.client, "basic").count(run) == 100)


def test_dead_letters_are_mended_and_replayed(floor: Floor) -> None:
    """The group of a mistyped badge is replayed under the right one: new jobs, in a run of their own."""
    run = floor.bring("default", 2, MISTYPED)
    wait_for(lambda: Probe(floor.client).count(run, "dead") == 2)
    which = ("--run", run, "--code", "1054")
    planned = badges_json(
        "dead", "replay", *which, "--dry-run", "--set", f"badgeMetaId={BADGE}", env=floor.env
    )
    assert planned["replayed"] == 2
    done = badges_json("dead", "replay", *which, "--set", f"badgeMetaId={BADGE}", env=floor.env)
    assert (done["replayed"], done["duplicates"]) == (2, 0)
    wait_for(lambda: Probe(floor.client).count(done["run"], "issued") == 2)
    assert badges_json("dead", "groups", *which, env=floor.env) == []


# Costing nothing


def test_an_idle_worker_costs_next_to_nothing(floor: Floor) -> None:
    """With one org paused and full and all others empty: few commands, no message, hardly any CPU."""
    badges("pause", "--org", "oauth", env=floor.env)
    floor.bring("oauth", 100)
    open_orgs = [org for org in VENDORS if org != "oauth"]
    wait_for(lambda: not any(floor.client.llen(f"{{badges:{org}}}/queue") for org in open_orgs))
    wait_for(lambda: not floor.client.zcount("{badges}/wake", 0, (time.time() + 10) * 1000))
    with redis.Redis(connection_pool=floor.client.connection_pool) as client, client.monitor() as monitor:
        cpu_s, until = cpu_seconds(floor.pid), time.monotonic() + 5
        commands = []
        while time.monotonic() < until:
            command = monitor.next_command()
            if command["client_type"] != "lua":  # what a script does inside comes with its own call
                commands.append(command)
        cpu_s = cpu_seconds(floor.pid) - cpu_s
    sent = [c["command"] for c in commands if "badges.deliver" in c["command"] and "LPUSH" in c["command"]]
    assert sent == []
    assert len(commands) / 5 < 20, Counter(c["command"].split()[0] for c in commands)
    assert cpu_s / 5 < 0.05
    badges("resume", "--org", "oauth", env=floor.env)


def cpu_seconds(pid: int) -> float:
    """Return how long a process and its children that ended have computed so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / 100


# Stopping and going on


def test_up_delivers_what_came_before_it_and_what_it_left(tmp_path: Path) -> None:
    """Imported before, while it runs and left over when it was stopped: all is delivered, each once.

    Stopped in the middle of a call, it finishes and settles that, and leaves no server behind.
    """
    slow = SandboxSettings(latency_s=(1.0, 1.5))
    with SandboxServer(settings=slow) as vendor:
        env = environment(
            data_dir=tmp_path / "data",
            api_base_url=vendor.url,
            rate_limit="100/second",
            batch_size=10,
            max_in_flight=2,
            batch_linger_s=0.2,
        )

        def bring(first: int, number: int) -> None:
            rows = "".join(f"{BADGE},{first + n}\n" for n in range(number))
            badges("import", "-", env=env, stdin=f"badgeMetaId,customerId\n{rows}".encode())

        def in_flight() -> list[Exchange]:
            return [e for e in vendor.vendor.ledger().exchanges if e.answered_s is None]

        command = [sys.executable, "-m", "worker.cli", "up"]
        bring(1, 60)
        with process(command, env=env, log=tmp_path / "up.log") as up:
            bring(101, 30)
            wait_for(lambda: len(vendor.vendor.ledger().exchanges) >= 3 and in_flight())
            up.send_signal(signal.SIGTERM)
            assert up.wait(15) == 0, (tmp_path / "up.log").read_text()
        assert not in_flight()
        rows = [json.loads(line) for line in badges("results", env=env).stdout.splitlines()]
        states = Counter(row["state"] for row in rows)
        assert set(states) == {"issued", "queued"}
        assert states["issued"] == len(vendor.vendor.ledger().issues) < 90
        vendor.vendor.configure(SandboxSettings())
        with process(command, env=env, log=tmp_path / "up.log"):
            wait_for(lambda: len(vendor.vendor.ledger().issues) == 90)
            wait_for(lambda: states_of(env) == {"issued": 90})
        assert not vendor.vendor.ledger().issued_more_than_once


def states_of(env: dict[str, str]) -> Counter[str]:
    """Count the jobs by state, as ``results`` tells it."""
    return Counter(json.loads(line)["state"] for line in badges("results", env=env).stdout.splitlines())
