"""Undo: what a run issued is taken back, once, by calls of its own, and nothing else ever is."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs
from support import (
    BADGE,
    FIRST_CUSTOMER,
    OPEN_FENCE,
    OTHER_BADGE,
    Probe,
    badges,
    badges_json,
    configured,
    deliver_one,
    environment,
    item,
    wait_for,
)
from workbench import Workbench

from worker.delivery import Delivered, Delivery
from worker.domain.actor import Actor, Via
from worker.errors import Ambiguous, ConfigError
from worker.operate import following, undoing
from worker.operate.operator import Operator
from worker.operate.runs import JobReader
from worker.operate.which import Which
from worker.sandbox.issued import Fault, SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store import keys, undos
from worker.store.pool import Seats
from worker.store.queue import Queue, new_id
from worker.store.undos import Word
from worker.vendor.revoking import Revoker
from worker.web.metrics import BadgesCollector


@dataclass
class Bench(Workbench):
    """One with the command line."""

    env: dict[str, str]

    def undo(self, *options: object) -> Any:
        """Ask for an undo."""
        return badges_json("run", "undo", *options, "--yes", env=self.env)

    def run(self, name: str) -> Any:
        """Return a run's progress."""
        return badges_json("run", "show", name, env=self.env)

    def results(self, run: str) -> list[dict[str, Any]]:
        """Return a run's results."""
        found: list[dict[str, Any]] = badges_json("results", "--run", run, "--json", env=self.env)
        return found

    def active(self) -> list[int]:
        """Return whose badges are active at the vendor, as numbers."""
        return sorted(issue.customer_id - FIRST_CUSTOMER for issue in self.sandbox.vendor.ledger().active)

    @property
    def reports(self) -> JobReader:
        """What reads its runs."""
        return JobReader(client=self.client, orgs={"default": self.org})

    def fault(self, times: int | None = 1, **fault: Any) -> None:
        """Let revoking fail."""
        self.sandbox.vendor.add_fault(Fault(fault="status", on="revoke", times=times, **fault))


@pytest.fixture
def bench(queue: Queue, sandbox: SandboxServer, connection: Connection) -> Iterator[Bench]:
    """An org whose calls are tried three times."""
    env = environment(redis_url=connection.url, api_base_url=sandbox.url)
    with Bench.open(queue, sandbox, env, max_attempts=3) as bench:
        yield bench


def test_a_run_is_undone_once(bench: Bench) -> None:
    """A plan, a run of its own, each badge revoked; the run it came from says so; twice is once."""
    ids = bench.issue(1, 2, 3)
    bench.issue(9, run="other")
    plan = badges_json("run", "undo", "spring", "--dry-run", env=bench.env)
    assert (plan["run"], plan["jobs"], plan["calls"]) == (None, 3, 3)
    badges("run", "undo", "spring", "--json", env=bench.env, expect=2)
    done = bench.undo("spring", "--note", "wrong campaign")
    assert (done["jobs"], bench.run(done["run"])["queued"], bench.active()) == (3, 3, [1, 2, 3, 9])
    assert bench.undo("spring")["jobs"] == 0
    assert bench.revoke() == 3
    assert bench.active() == [9]
    its, undo = bench.run("spring"), bench.run(done["run"])
    assert (its["issued"], its["undone"], its["total"]) == (0, 3, 3)
    assert (undo["undone"], undo["queued"], undo["total"]) == (3, 0, 3)
    assert undo["finished_at"]
    assert bench.undo("spring")["undone_before"] == 3
    (entry,) = [one for one in badges_json("audit", env=bench.env) if one["id"] == done["run"]]
    assert (entry["action"], entry["count"], entry["note"]) == ("undo", 3, "wrong campaign")
    bench.queue.enqueue(bench.org, run="again", items=[item(1)], call=new_id())
    assert bench.run("again")["duplicates"] == 1
    job = badges_json("job", "show", ids[0], env=bench.env)
    assert (job["state"], job["undone_by"] is not None, job["undone_note"]) == (
        "undone",
        True,
        "wrong campaign",
    )
    assert job["undone_at"]
    table = badges("results", "--run", "spring", "--format", "csv", env=bench.env).stdout.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert {(row["state"], row["undone_note"]) for row in rows} == {("undone", "wrong campaign")}
    assert {row["undone_at"] for row in rows} >= {job["undone_at"]}
    assert {row["undone_by"] for row in rows} == {job["undone_by"]}


REFUSED = '{"data": null, "errors": [{"code": 812, "message": "customerId missing"}], "warnings": []}'


def test_an_undo_is_followed_to_its_end(bench: Bench) -> None:
    """With --follow it stays until all have ended, and ends as they did; nothing new isn't waited for."""
    (first, *_) = bench.issue(1, 2, 3)
    bench.fault(status=400, body=REFUSED)

    def take_back() -> None:
        wait_for(lambda: bench.client.zcard(_key("revokes")))
        wait_for(lambda: bench.revoke() == 0)

    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(take_back)
        ended = badges("run", "undo", "spring", "--follow", "--yes", "--json", env=bench.env, expect=3)
        worker.result()
    done = json.loads(ended.stdout.splitlines()[-1])  # before it stands what the worker logs
    followed = done["followed"]
    assert (done["jobs"], followed["total"], followed["undone"], followed["dead"]) == (3, 3, 2, 1)
    assert (followed["replay"], followed["dead_kinds"]) == (done["run"], {"rejected": 1})
    again = badges("run", "undo", "spring", "--follow", "--yes", env=bench.env)
    assert b"1 is in an earlier undo: badges run list; badges dead list" in again.stdout
    assert bench.undo("spring", "--follow")["run"] is None
    badges("dead", "replay", "--run", done["run"], env=bench.env)
    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(take_back)
        shown = badges("dead", "follow", done["run"], env=bench.env).stdout.decode()
        worker.result()
    assert "3 undone" in " ".join(shown.split())
    assert badges_json("job", "show", first, env=bench.env)["state"] == "undone"


def test_an_undo_whose_letter_was_discarded_is_done_again(bench: Bench) -> None:
    """Its letter is found by its customer; while it is listed an undo leaves it, then it does it anew."""
    (job_id,) = bench.issue(1)
    bench.fault(status=400, body=REFUSED)
    first = bench.undo("spring")["run"]
    bench.revoke()
    customer = ("--customer", FIRST_CUSTOMER + 1)
    (letter,) = badges_json("dead", "list", *customer, env=bench.env)
    assert (letter["run"], letter["job_id"] == job_id) == (first, False)
    assert {row["run"] for row in badges_json("results", *customer, env=bench.env)} == {"spring", first}
    assert {row["run"] for row in badges_json("find", *customer, env=bench.env)} == {"spring", first}
    plan = badges_json("run", "undo", "spring", "--dry-run", env=bench.env)
    assert (plan["jobs"], plan["begun_before"]) == (0, 1)
    badges("dead", "discard", *customer, "--yes", env=bench.env)
    for at_last in (False, True):  # more than once, too
        bench.fault(status=400, body=REFUSED)
        done = bench.undo("spring")
        assert (done["jobs"], done["begun_before"]) == (1, 0)
        assert bench.undo("spring")["begun_before"] == 1
        bench.revoke()
        assert bench.active() == [1]
        if at_last:
            badges("dead", "replay", "--run", done["run"], env=bench.env)
        else:
            badges("dead", "discard", "--run", done["run"], "--yes", env=bench.env)
    bench.revoke()
    assert bench.active() == []
    assert [row["state"] for row in bench.results("spring")] == ["undone"]
    assert len(badges_json("results", *customer, env=bench.env)) == 4


def test_an_undo_across_orgs_is_followed_as_one(bench: Bench, tmp_path: Path) -> None:
    """Each org has a run of it: how to watch each is said, and --follow waits for all of them."""
    eu = bench.org.model_copy(update={"name": "eu"})
    (tmp_path / "orgs.toml").write_text(f'[eu]\napi_base_url = "{bench.sandbox.url}"\n')
    bench.env["BADGES_ORGS_FILE"] = str(tmp_path / "orgs.toml")
    bench.issue(1)
    bench.queue.enqueue(eu, run="spring", items=[item(1, org="eu")], call=new_id())
    deliver_one(Delivery(queue=bench.queue, client=bench.http, auth=bench.auth), eu)
    revoker = Revoker(bench.queue, bench.http, bench.auth)

    def take_back() -> None:
        for org in (bench.org, eu):
            wait_for(lambda its=org: revoker.work(its))  # type: ignore[misc] # a default of a lambda

    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(take_back)
        which = ("--customer", FIRST_CUSTOMER + 1)
        shown = badges("run", "undo", *which, "--follow", "--yes", env=bench.env).stdout.decode()
        worker.result()
    assert [f"--org {org}" in shown for org in ("default", "eu")] == [True, True]
    assert "2 undone" in " ".join(shown.split())


def test_an_undo_isnt_promised_before_its_last_call_is_due(bench: Bench) -> None:
    """What is to be called again waits for its time; what is being called now doesn't."""
    bench.issue(1, 2)
    run = bench.undo("spring")["run"]
    Seats(queue=bench.queue).offer("worker", 1)
    later, called = bench.client.zrange(_key("revokes"), 0, -1)
    now_ms = int(time.time() * 1000)
    bench.client.zadd(_key("revokes"), {later: now_ms + 600_000, called: now_ms + 900_000})
    bench.client.set(_key("revoker"), f"me {called} {now_ms + 900_000}")
    assert bench.run(run)["eta_s"] == pytest.approx(600, abs=5)
    assert next(following.follow(bench.reports, run, every_s=0)).eta_s == pytest.approx(600, abs=5)


def test_one_job_and_filters(bench: Bench) -> None:
    """One job; a customer across runs; without a run or a filter it is a usage error."""
    ids = bench.issue(1, 2)
    bench.issue(3, run="other")
    assert badges_json("job", "undo", ids[0], "--yes", env=bench.env)["jobs"] == 1
    assert bench.undo("--customer", FIRST_CUSTOMER + 3)["jobs"] == 1
    bench.revoke()
    assert bench.active() == [2]
    badges("run", "undo", env=bench.env, expect=2)
    badges("run", "undo", "nothing", "--yes", env=bench.env, expect=1)


def _file(folder: Path, *numbers: int, own: bool = False) -> Path:
    """Write rows of the same content as these items."""
    file = folder / "again.csv"
    head = "badgeMetaId,customerId,earnEventDate" + (",job_id" if own else "")
    lines = [f"{BADGE},{FIRST_CUSTOMER + n},1674292011" + (f",order-{n}" if own else "") for n in numbers]
    file.write_text("\n".join([head, *lines, ""]))
    return file


@pytest.mark.parametrize("own", [False, True])
def test_what_was_undone_is_sent_again_if_somebody_asks(bench: Bench, tmp_path: Path, *, own: bool) -> None:
    """As a new job with an id of its own, linked with the old one; once, however often that is said."""
    file = _file(tmp_path, 1, 2, own=own)
    assert badges_json("import", file, "--run", "spring", env=bench.env)["accepted"] == 2
    _deliver(bench)
    (first, _) = (one["job_id"] for one in bench.results("spring"))
    bench.undo("--job", first)
    bench.revoke()
    assert bench.active() == [2]
    assert badges_json("import", file, env=bench.env)["duplicates"] == 2
    said = badges_json(
        "import", file, "--run", "again", "--again", "--note", "right after all", env=bench.env
    )
    assert (said["accepted"], said["duplicates"]) == (1, 1)
    _deliver(bench)
    assert bench.active() == [1, 2]
    (new,) = bench.results("again")
    job, old = (badges_json("job", "show", one, env=bench.env) for one in (new["job_id"], first))
    assert (job["state"], job["replay_of"]) == ("issued", first)
    assert (old["state"], old["replayed_as"]) == ("undone", new["job_id"])
    assert old["undone_at"]
    for run in ("again", "another"):
        said = badges_json("import", file, "--run", run, "--again", env=bench.env)
        assert (said["accepted"], said["duplicates"]) == ((1, 1) if run == "again" else (0, 2))
    _deliver(bench, expect=0)
    bench.undo("again")
    bench.revoke()
    assert bench.active() == [2]
    assert badges_json("import", file, "--run", "third", "--again", env=bench.env)["accepted"] == 1
    _deliver(bench)
    assert bench.active() == [1, 2]
    its = {"run": "again", "again": True}
    assert any(entry["which"].items() >= its.items() for entry in badges_json("audit", env=bench.env))
    found = badges_json("find", "--customer", FIRST_CUSTOMER + 1, env=bench.env)
    states = {one["job_id"]: one["state"] for one in found}
    assert (states[first], states[new["job_id"]]) == ("undone", "undone")
    assert sum(state == "issued" for state in states.values()) == 1


def test_again_finds_what_has_expired_and_what_was_never_undone_stays(bench: Bench, tmp_path: Path) -> None:
    """That a job was undone is remembered for good."""
    (job_id,) = bench.issue(1)
    bench.undo("spring")
    bench.revoke()
    bench.client.delete(keys.key("default", "job", job_id))
    file = _file(tmp_path, 1)
    assert badges_json("import", file, env=bench.env)["duplicates"] == 1
    assert badges_json("import", file, "--again", env=bench.env)["accepted"] == 1
    badges("import", file, "--again", "--allow-duplicates", "--run", "r", env=bench.env, expect=2)


@pytest.mark.parametrize("own", [False, True])
def test_a_report_says_as_well_what_is_sent_again(bench: Bench, tmp_path: Path, *, own: bool) -> None:
    """By its ids; a dry run says how many first, and both forms of a row come to the same job."""
    file, report = _file(tmp_path, 1, 2, 3, own=own), tmp_path / "report.csv"
    badges("import", file, "--run", "spring", env=bench.env)
    _deliver(bench)
    first, second, _ = (one["job_id"] for one in bench.results("spring"))
    for one in (first, second):
        bench.undo("--job", one)
    bench.revoke()
    badges("results", "--run", "spring", "--format", "csv", "-o", report, env=bench.env)
    for its in (file, report):
        check = badges_json("import", its, "--again", "--dry-run", env=bench.env)
        assert (check["would"]["accepted"], check["would"]["again"], check["calls"]) == (2, 2, 1)
        assert badges_json("import", its, "--dry-run", env=bench.env)["would"]["accepted"] == 0
    said = badges("import", report, "--again", "--dry-run", env=bench.env).stdout.decode()
    assert "2 rows (2 once more, since their badge was undone)" in " ".join(said.split())
    assert badges_json("import", report, env=bench.env)["accepted"] == 0
    done = badges_json("import", report, "--again", "--run", "again", env=bench.env)
    assert (done["accepted"], done["duplicates"]) == (2, 1)
    _deliver(bench)
    assert bench.active() == [1, 2, 3]
    assert {one["replay_of"] for one in _jobs(bench, "again")} == {first, second}
    for its in (file, report):
        again = badges_json("import", its, "--again", "--run", "third", env=bench.env)
        assert (again["accepted"], again["duplicates"]) == (0, 3)


@pytest.mark.parametrize("with_file", [False, True])
def test_again_sends_a_badge_once_however_often_a_report_names_it(
    bench: Bench, tmp_path: Path, *, with_file: bool
) -> None:
    """The undo's own row says the same of the same badge, and is no badge to be issued."""
    file, report = _file(tmp_path, 1), tmp_path / "report.csv"
    badges("import", file, "--run", "spring", env=bench.env)
    _deliver(bench)
    undo = bench.undo("spring")["run"]
    bench.revoke()
    of = ("--run", undo) if with_file else ("--customer", FIRST_CUSTOMER + 1)
    badges("results", *of, "--format", "csv", "-o", report, env=bench.env)
    accepted = [
        badges_json("import", its, "--again", "--run", its.stem, env=bench.env)["accepted"]
        for its in ((report, file) if with_file else (report,))
    ]
    assert accepted == ([0, 1] if with_file else [1])
    _deliver(bench)
    assert bench.active() == [1]
    assert [one.customer_id - FIRST_CUSTOMER for one in bench.sandbox.vendor.ledger().issues] == [1, 1]


def test_an_undo_that_is_cancelled_waits_for_nobody(bench: Bench) -> None:
    """Nothing of it is to be taken back any more, and forgetting a customer says what it ends."""
    bench.issue(1, 2)
    run = bench.undo("spring")["run"]
    said = badges("forget", "--customer", FIRST_CUSTOMER + 1, "--dry-run", env=bench.env).stdout.decode()
    assert "1 of these would take a badge back" in " ".join(said.split())
    badges("run", "cancel", run, "--yes", env=bench.env)
    (state,) = badges_json("status", env=bench.env)
    assert (state["to_undo"], state["dead"]) == (0, {"cancelled": 2})


def test_a_report_changes_nothing_of_an_undo(bench: Bench, tmp_path: Path) -> None:
    """Its letters stand in it like others; what a person mends of one is refused, by a dry run as well."""
    bench.issue(1)
    run, report = bench.undo("spring")["run"], tmp_path / "report.csv"
    badges("run", "cancel", run, "--yes", env=bench.env)
    badges("results", "--run", run, "--format", "csv", "-o", report, env=bench.env)
    strict = bench.env | {"BADGES_STRICT_DATES": "true"}
    for env in (bench.env, strict):
        assert b"changed" not in badges("import", report, "--dry-run", env=env, expect=None).stdout
    customer = str(FIRST_CUSTOMER + 1)
    report.write_text(report.read_text("utf-8-sig").replace(customer, f"{customer}0"), "utf-8")
    for how in (["--dry-run"], []):
        said = badges("import", report, *how, env=bench.env).stdout.decode()
        assert "nothing of it can be changed" in " ".join(said.split())
    assert len(badges_json("dead", "list", env=bench.env)) == 1


def _jobs(bench: Bench, run: str) -> list[dict[str, Any]]:
    return [badges_json("job", "show", one["job_id"], env=bench.env) for one in bench.results(run)]


def test_only_what_is_still_undone_is_sent_again(bench: Bench) -> None:
    """The script looks once more, whoever asks."""
    (job_id,) = bench.issue(1)
    new = item(1)._replace(id="a" * 20, again_of=job_id)
    bench.queue.enqueue(bench.org, run="again", items=[new], call=new_id())
    assert (bench.run("again")["duplicates"], bench.run("again")["total"]) == (1, 0)


def _deliver(bench: Bench, expect: int = 1) -> None:
    done = deliver_one(Delivery(queue=bench.queue, client=bench.http, auth=bench.auth), bench.org)
    assert isinstance(done, Delivered) == bool(expect), done


def test_what_somebody_else_took_back_is_gone(bench: Bench) -> None:
    """814 is no failure: it is marked, and counts as undone."""
    (job_id,) = bench.issue(1)
    issue = bench.sandbox.vendor.ledger().issues[0]
    asked = {"badgeMetaId": issue.badge_meta_id, "customerId": issue.customer_id}
    bench.http.post(
        bench.org,
        "/api_gateway/v1/badges/customer/revokeEarn",
        asked | {"earnedBadgeId": issue.earned_badge_id},
        fence=OPEN_FENCE,
    )
    bench.undo("spring")
    bench.revoke()
    assert Probe(bench.client).record(job_id)["code"] == "814"
    assert bench.run("spring")["undone"] == 1


@pytest.mark.parametrize("apply", ["none", "all"])
def test_a_call_whose_end_nobody_knows_is_made_again(bench: Bench, apply: Any) -> None:
    """Applied or not: never in doubt, and undone in the end."""
    bench.issue(1)
    done = bench.undo("spring")
    assert _waiting(bench) == (1, 0)
    bench.fault(status=502, apply=apply)
    assert bench.revoke() == 1
    assert bench.run(done["run"])["queued"] == 1
    assert _waiting(bench) == (1, 1)
    (said,) = badges_json("status", env=bench.env)
    assert said["standstill"]["reason"] == "no_worker"
    assert bench.revoke() == 1
    assert _waiting(bench) == (0, 0)
    assert (bench.run(done["run"])["undone"], bench.active()) == (1, [])


def _waiting(bench: Bench) -> tuple[int, int]:
    """Return how many badges are to be taken back, and how many of them again, as status and metrics say."""
    (said,) = badges_json("status", env=bench.env)
    registry = CollectorRegistry()
    registry.register(BadgesCollector(bench.client, lambda: {"default": bench.org}))
    names = ("to_undo", "badges_undo_waiting"), ("undo_retrying", "badges_undo_retrying")
    shown = tuple(int(said[name]) for name, _ in names)
    measured = tuple(registry.get_sample_value(name, {"org": "default"}) for _, name in names)
    assert shown == measured
    words = " ".join(badges("status", env=bench.env).stdout.decode().split())
    assert ("taken back" in words) == bool(shown[0])
    return shown[0], shown[1]


def test_what_cant_be_taken_back_becomes_a_dead_letter(bench: Bench) -> None:
    """Tried too often: exhausted, and replayed it goes on; the badge stays issued until then."""
    bench.issue(1)
    done = bench.undo("spring")
    bench.fault(times=3, status=500)
    assert [bench.revoke() for _ in range(3)] == [1, 1, 1]
    assert bench.run(done["run"])["dead_kinds"] == {"exhausted": 1}
    assert bench.run("spring")["issued"] == 1
    badges("dead", "replay", "--run", done["run"], env=bench.env)
    assert bench.revoke() == 1
    assert (bench.run(done["run"])["undone"], bench.active()) == (1, [])


def test_throttled_paused_and_refused_credentials_cost_time_alone(bench: Bench) -> None:
    """429 closes the gate, 401 pauses the org, a pause holds an undo as well; no attempt is spent."""
    bench.issue(1)
    done = bench.undo("spring")
    bench.fault(status=429, headers={"Retry-After": "30"})
    assert bench.revoke() == 1
    assert bench.queue.look(bench.org).look_at_ms > 0
    bench.fault(status=401)
    assert bench.revoke() == 1
    assert bench.revoke() == 0
    assert badges_json("status", env=bench.env)[0]["gate"]["state"] == "paused"
    bench.queue.resume(bench.org)
    assert bench.revoke() == 1
    assert bench.run(done["run"])["undone"] == 1


def test_a_badge_that_was_issued_twice_loses_both(bench: Bench) -> None:
    """Two earnedBadgeIds, two calls, one job."""
    (job_id,) = bench.issue(1)
    first = bench.sandbox.vendor.ledger().issues[0]
    exchange, _ = bench.sandbox.vendor.arrive("import")
    body = [{"badgeMetaId": first.badge_meta_id, "customerId": first.customer_id}]
    bench.sandbox.vendor.respond(exchange, {}, lambda e: bench.sandbox.vendor.import_badges(e, body))
    second = bench.sandbox.vendor.ledger().issues[1].earned_badge_id
    Probe(bench.client).change(job_id, second_earned=second)
    done = bench.undo("spring")
    assert (done["jobs"], done["calls"], done["issued_twice"]) == (1, 2, 1)
    assert bench.revoke() == 2
    assert (bench.active(), bench.run("spring")["undone"]) == ([], 1)


def test_what_still_sends_and_what_has_no_id(bench: Bench) -> None:
    """A run that still sends is refused; what a person said was issued has no earnedBadgeId: counted."""
    (job_id,) = bench.issue(1)
    Probe(bench.client).change(job_id, earned_badge_id="")
    plan = badges_json("run", "undo", "spring", "--dry-run", env=bench.env)
    assert (plan["jobs"], plan["without_id"]) == (0, 1)
    bench.queue.enqueue(bench.org, run="$(id)", items=[item(2)], call=new_id())
    refused = badges("run", "undo", "$(id)", "--yes", env=bench.env, expect=2)
    assert b"1 job of run $(id) still to be sent: badges run cancel '$(id)';" in refused.stderr


def test_an_undo_is_cancelled(bench: Bench) -> None:
    """What still waits of it isn't taken back."""
    bench.issue(1, 2)
    done = bench.undo("spring")
    badges("run", "cancel", done["run"], "--yes", env=bench.env)
    assert bench.revoke() == 0
    assert (bench.active(), bench.run(done["run"])["dead_kinds"]) == ([1, 2], {"cancelled": 2})


def test_a_replay_takes_no_badge_back_unasked(bench: Bench) -> None:
    """Letters of an undo look like others: only who names their run, or one of them, means them."""
    bench.issue(1, 2)
    done = bench.undo("spring")
    badges("run", "cancel", done["run"], "--yes", env=bench.env)
    for how in (["--dry-run"], []):
        replay = ("dead", "replay", "--kind", "cancelled", *how)
        told = badges_json(*replay, env=bench.env)
        assert (told["replayed"], told["skipped"], told["left_out"]) == (0, 0, {"undo": 2})
        assert b"left out: 2 of an undo" in badges(*replay, env=bench.env).stdout
        changed = (*replay, "--set", f"badgeMetaId={OTHER_BADGE}")
        assert b"it takes a badge back" in badges(*changed, env=bench.env, expect=1).stderr
    assert (bench.revoke(), bench.active()) == (0, [1, 2])
    (first, second) = (job["job_id"] for job in badges_json("dead", "list", env=bench.env))
    report = badges_json("results", "--run", done["run"], env=bench.env)
    assert f"to take it back: badges dead replay --job {first}" in str(report)
    assert badges_json("dead", "replay", "--job", second, env=bench.env)["replayed"] == 1
    assert badges_json("dead", "replay", "--run", done["run"], env=bench.env)["replayed"] == 1
    assert (bench.revoke(), bench.active()) == (2, [])


def test_a_worker_is_woken_for_it(bench: Bench) -> None:
    """A claim says that there is something to do beside batches, and when; not while somebody is at it."""
    bench.issue(1)
    bench.undo("spring")
    waits: Any = bench.queue.claim(bench.org, new_id())
    assert (waits.check, waits.look_at_ms > 0) == (True, True)
    another = f"another job {int(time.time() * 1000) + 30_000}"
    bench.client.set(keys.key("default", "revoker"), another)
    waits = bench.queue.claim(bench.org, new_id())
    assert not waits.check
    assert Revoker(bench.queue, bench.http, bench.auth).work(bench.org) == 0


def test_an_unknown_badge_is_a_refusal(bench: Bench) -> None:
    """Another error of the vendor's own: a dead letter with its words, and the next one goes on."""
    bench.issue(1, 2)
    done = bench.undo("spring")
    bench.fault(status=400, body=REFUSED)
    assert bench.revoke() == 2
    assert bench.run(done["run"])["dead_kinds"] == {"rejected": 1}
    assert isinstance(bench.sandbox.vendor.settings, SandboxSettings)


@pytest.mark.parametrize(("code", "attempts"), [(521, 0), (503, 1), (9001, 1)])
def test_what_passes_is_tried_again(bench: Bench, code: int, attempts: int) -> None:
    """By the one table of codes, and what settings add to it: a busy customer costs no attempt."""
    bench.issue(1)
    bench.org = bench.org.model_copy(update={"codes": (("9001", "deferred"),)})
    done = bench.undo("spring")
    bench.fault(status=200, body=f'{{"data": null, "errors": [{{"code": {code}, "message": "busy"}}]}}')
    assert bench.revoke() == 1
    (job_id,) = bench.client.lrange(keys.key("default", "jobs", done["run"]), 0, -1)
    record = Probe(bench.client).record(job_id)
    assert (bench.run(done["run"])["dead"], int(record.get("attempts") or 0)) == (0, attempts)
    assert (bench.revoke(), bench.active()) == (1, [])


def test_who_was_slow_says_nothing_of_a_badges_second(bench: Bench) -> None:
    """Held up, and taken by another meanwhile: the answer about the first badge doesn't end the second."""
    (job_id,) = bench.issue(1)
    Probe(bench.client).change(job_id, second_earned="second")
    done = bench.undo("spring")
    slow = undos.take(bench.queue, bench.org, "slow")
    assert slow
    assert undos.take(bench.queue, bench.org, "other") is None
    late = [keys.key("default", name) for name in ("revoker", "revokes")]
    bench.client.delete(late[0])
    bench.client.zadd(late[1], {slow.id: 1})
    other = undos.take(bench.queue, bench.org, "other")
    assert other == slow
    assert undos.take(bench.queue, bench.org, "slow", again=slow.id) is None
    settle = partial(undos.settle, bench.queue, bench.org)
    assert settle(other, Word("undone"), "200") == "queued"
    assert settle(slow, Word("undone", code="814"), "400") == ""
    assert (bench.run(done["run"])["undone"], bench.run("spring")["undone"]) == (0, 0)


def test_nobody_sleeps_on_a_slot_that_is_far_ahead(bench: Bench) -> None:
    """The limit is used up: no slot is taken, no attempt spent, and somebody looks again by itself."""
    bench.issue(1)
    done = bench.undo("spring")
    slow = bench.org.model_copy(update={"rate_limit": "1/hour"})
    paid = bench.queue.counters("default")["requests"]
    began = time.monotonic()
    assert Revoker(bench.queue, bench.http, bench.auth).work(slow, for_s=0.1) == 0
    assert time.monotonic() - began < 2
    assert bench.queue.counters("default")["requests"] == paid
    waits: Any = bench.queue.claim(slow, new_id())
    assert not waits.check
    assert 0 < waits.look_at_ms - time.time() * 1000 < 31_000
    (row,) = bench.results(done["run"])
    assert (row["state"], row["attempts"], row["reason"]) == ("queued", 0, None)


def test_a_clock_that_steps_back_doesnt_hold_an_undo_up(bench: Bench) -> None:
    """What is due by the org's own clock is due however the server's steps; also what was being called."""
    bench.issue(1, 2)
    bench.undo("spring")
    gone = undos.take(bench.queue, bench.org, "gone")  # its worker disappears, and then the clock steps
    assert gone
    hour_ms, (gate, revokes, revoker) = 3_600_000, (_key(name) for name in ("gate", "revokes", "revoker"))
    bench.client.hincrby(gate, "clock", hour_ms * 1000)  # as if what is noted had been noted by a later clock
    bench.client.zincrby(revokes, hour_ms, gone.id)
    by, its, till = str(bench.client.get(revoker)).split()
    bench.client.set(revoker, f"{by} {its} {int(till) + hour_ms}")
    waits: Any = bench.queue.claim(bench.org, new_id())
    assert not waits.check
    assert 0 < waits.look_at_ms - time.time() * 1000 <= (bench.org.http_timeout_s + 6) * 1000
    undos.leave(bench.queue, bench.org, "gone")
    assert Revoker(bench.queue, bench.http, bench.auth).work(bench.org) == 1
    assert len(bench.active()) == 1


def test_how_long_an_undo_takes_is_told_by_the_pace_of_now(bench: Bench) -> None:
    """A call for each badge, at the rate that the vendor taught; nobody knows where no worker is alive."""
    bench.issue(1, 2, 3)
    at_us, ten_s = int(time.time() * 1e6), 10_000_000
    taught = {"learned": ten_s, "learned_from": at_us, "swing": "0.0001", "span": 3600 * 1_000_000}
    bench.client.hset(_key("gate"), mapping=taught)
    said = badges("run", "undo", "spring", "--dry-run", env=bench.env).stdout.decode()
    assert "3 calls, about 30 s" in said
    run = bench.undo("spring")["run"]
    assert (bench.run(run)["eta_s"], "no worker" in bench.run(run)["held"]) == (None, True)
    Seats(queue=bench.queue).offer("worker", 1)
    assert (bench.run(run)["eta_s"], bench.run(run)["held"]) == (30, None)


def _key(name: str) -> str:
    return keys.key("default", name)


def test_filters_and_what_has_expired(bench: Bench) -> None:
    """By badge and by time, across runs or within one; what has expired is said, and undone as well."""
    ids = bench.issue(1, 2)
    bench.issue(3, run="other")
    Probe(bench.client).change(ids[0], vendor_expiry="1700000000")

    def planned(*options: object) -> tuple[int, int]:
        plan = badges_json("run", "undo", *options, "--dry-run", env=bench.env)
        return plan["jobs"], plan["expired"]

    assert planned("--badge", BADGE) == (3, 1)
    assert planned("--badge", OTHER_BADGE) == (0, 0)
    assert planned("spring", "--customer", FIRST_CUSTOMER + 3) == (0, 0)
    assert planned("last", "--since", "1h") == (1, 0)
    assert planned("--since", "2199-01-01T00:00:00Z") == (0, 0)
    assert planned("spring", "--job", ids[0]) == (1, 1)
    said = badges("run", "undo", "spring", "--dry-run", env=bench.env).stdout.decode()
    assert "1 of them has expired already" in " ".join(said.split())
    done = badges_json("job", "undo", ids[0], "--yes", "--note", "late", env=bench.env)
    bench.revoke()
    assert (bench.active(), bench.run(done["run"])["undone"]) == ([2, 3], 1)
    report = badges("results", "--run", "spring", "--format", "csv", env=bench.env).stdout.decode("utf-8-sig")
    notes = {row["job_id"]: (row["state"], row["undone_note"]) for row in csv.DictReader(io.StringIO(report))}
    assert notes == {ids[0]: ("undone", "late"), ids[1]: ("issued", "")}


def test_nothing_of_an_org_that_nobody_configures_is_undone(bench: Bench) -> None:
    """It is said, and nothing is done."""
    bench.issue(1)
    (found,) = [undoing.plan(bench.reports, Which(run="spring"))]
    nobody = Operator(bench.queue, bench.reports, {}, Actor(Via.USER, "tester"))
    with pytest.raises(ConfigError, match="org default isn't configured any more"):
        undoing.undo(nobody, found, Which(run="spring"))
    assert not bench.queue.store.client.exists(_key("revokes"))


def test_a_plan_for_a_run_that_two_orgs_have_is_refused(bench: Bench) -> None:
    """Whoever asks for it, by whichever way in: the first of them isn't meant."""
    bench.issue(1)
    bench.queue.enqueue(configured(name="eu"), run="spring", items=[item(1, org="eu")], call=new_id())
    reports = JobReader(
        client=bench.queue.client, orgs={"default": configured(), "eu": configured(name="eu")}
    )
    with pytest.raises(Ambiguous, match="'spring' can mean 2 runs"):
        undoing.plan(reports, Which(run="spring"))
    assert undoing.plan(reports, Which(org="default", run="spring")).jobs == 1


def test_a_plan_refuses_what_the_act_would(bench: Bench, tmp_path: Path) -> None:
    """Of an org that nobody configures any more, by a dry run as well; and looking shows how far it is."""
    bench.issue(1)
    (orgs := tmp_path / "orgs.toml").write_text('[eu]\napi_base_url = "http://127.0.0.1:9"\n')
    eu = configured(name="eu")
    bench.queue.enqueue(eu, run="summer", items=[item(1, org="eu")], call=new_id())
    Probe(bench.queue.client, org="eu").change(item(1, org="eu").id, state="i", earned_badge_id="E-1")
    env = bench.env | {"BADGES_ORGS_FILE": str(orgs)}
    assert badges_json("run", "undo", "--customer", FIRST_CUSTOMER + 1, "--dry-run", env=env)["jobs"] == 2
    refused = badges("run", "undo", "--customer", FIRST_CUSTOMER + 1, "--dry-run", env=bench.env, expect=2)
    assert b"org eu isn't configured any more" in refused.stderr
    assert b"looking" in refused.stderr


def test_a_pause_is_told_in_the_log(bench: Bench) -> None:
    """As where badges are issued: an operator is to look at it."""
    bench.issue(1)
    bench.undo("spring")
    bench.fault(status=401)
    with capture_logs() as logs:
        bench.revoke()
    (said,) = [line for line in logs if line["event"] == "org.paused"]
    assert (said["org"], said["why"]) == ("default", "auth")


def test_a_run_that_was_forgotten_stays_so(bench: Bench) -> None:
    """What is kept longer than its run can be undone, and counts nowhere."""
    (one,) = bench.issue(1)
    undos.accept(bench.queue, bench.org, run="undo", ids=[(one, "revoking")])
    bench.client.delete(keys.key("default", "run", "spring"))
    assert bench.revoke() == 1
    assert (bench.run("undo")["undone"], bench.client.exists(keys.key("default", "run", "spring"))) == (1, 0)
