"""Narrowing doubt: what is asked of the vendor, what its answer proves, and what a person may say instead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from support import (
    BADGE,
    FIRST_CUSTOMER,
    OPEN_FENCE,
    OTHER_BADGE,
    Probe,
    badges,
    badges_json,
    environment,
    item,
)
from workbench import Workbench

from worker.domain.badge import Badge
from worker.domain.batch import Item
from worker.domain.job import Job
from worker.operate.runs import JobReader
from worker.sandbox.issued import Exchange, Fault, SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store.protocol import CHECK_AFTER_S
from worker.store.queue import Queue, new_id
from worker.store.record import badge_of
from worker.vendor.doubt import DoubtChecker
from worker.vendor.lookups import Lookups

AWHILE_MS = CHECK_AFTER_S * 1000 + 1000


@dataclass
class Bench(Workbench):
    """One whose doubt is checked."""

    waiting = ("retry",)

    def enqueue(self, *items: Item) -> None:
        """Accept jobs."""
        self.queue.enqueue(self.org, run="spring", items=items, call=new_id())

    def doubt(self, *items: Item, applied: bool = False) -> None:
        """Have jobs sent in one call that nobody knows the end of."""
        self.sandbox.vendor.add_fault(
            Fault(fault="status", status=500, times=1, apply="all" if applied else "none")
        )
        self.enqueue(*items)
        assert self.deliver().settled.dead == len(items)

    def pass_time(self) -> None:
        """Let ten minutes go by: checks become due, and what was seen absent has been for long."""
        Probe(self.client).make_due("checks")
        for job in self.client.zrange(self.key("checks"), 0, -1):
            since, _, witness = Probe(self.client).record(str(job)).get("absent_since", "").partition(" ")
            if since:
                passed = f"{int(since) - AWHILE_MS} {witness}"
                Probe(self.client).change(str(job), absent_since=passed)

    def check(self, *, in_time: bool = True) -> str | None:
        """Let the checker look at what is due, after some time."""
        if in_time:
            self.pass_time()
        self.client.hdel(self.key("gate"), "closed_until")
        return DoubtChecker(self.queue, Lookups(self.queue, self.http, self.auth)).check(self.org)

    def reads(self) -> list[Exchange]:
        """Return the vendor's reads."""
        return [e for e in self.sandbox.vendor.ledger().exchanges if e.endpoint == "read"]

    def issues(self, n: int = 0) -> int:
        """Count what the vendor issued to the n-th customer."""
        ledger = self.sandbox.vendor.ledger()
        return sum(issue.customer_id == FIRST_CUSTOMER + n for issue in ledger.issues)

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job as ``badges job show`` does."""
        return JobReader(client=self.client, orgs={"default": self.org}).job(job_id)

    def state(self, job_id: str) -> str:
        """Say where a job is, and of which kind if it is dead."""
        job = self.job(job_id)
        return str(job["error"]["kind"] if job["state"] == "dead" else job["state"])


@pytest.fixture
def bench(queue: Queue, sandbox: SandboxServer) -> Iterator[Bench]:
    """An org whose doubt is checked."""
    with Bench.open(queue, sandbox, in_doubt="check") as bench:
        yield bench


ONE = item(1)


# check


def test_never_applied_is_sent_again(bench: Bench) -> None:
    """Zero twice, ten minutes apart, a later badge visible: queued again, attempts kept, and issued once."""
    bench.doubt(ONE)
    bench.issue(99)
    assert bench.check() == "absent"
    assert bench.state(ONE.id) == "in_doubt"
    assert bench.check() == "cleared"
    assert (bench.state(ONE.id), bench.job(ONE.id)["attempts"]) == ("queued", 1)
    assert bench.job(ONE.id)["error"] is None
    bench.deliver()
    assert (bench.state(ONE.id), bench.job(ONE.id)["attempts"]) == ("issued", 2)
    assert bench.issues(1) == 1
    assert bench.client.zcard(bench.key("checks")) == 0


def test_looks_begin_again_if_what_they_went_by_is_gone(bench: Bench) -> None:
    """Its badge was taken back, say: by a later one two looks more are needed."""
    bench.doubt(ONE)
    (witness,) = bench.issue(99)
    assert bench.check() == "absent"
    Probe(bench.client).change(witness, state="u")
    assert bench.check() == "unknown"
    bench.issue(98)
    assert bench.check() == "absent"
    assert bench.check(in_time=False) != "cleared"
    assert bench.check() == "cleared"


def test_nothing_is_asked_before_its_time(bench: Bench) -> None:
    """No look within ten minutes of the call, and no second one within ten minutes of the first."""
    bench.doubt(ONE)
    bench.issue(99)
    assert bench.check(in_time=False) is None
    due = bench.client.zscore(bench.key("checks"), ONE.id)
    died = int(Probe(bench.client).record(ONE.id)["finished_at"])
    assert due is not None
    assert due - died == CHECK_AFTER_S * 1000
    assert bench.check() == "absent"
    assert bench.check(in_time=False) is None
    bench.client.zadd(bench.key("checks"), {ONE.id: 1})  # even if it came up early
    assert bench.check(in_time=False) == "unknown"
    assert bench.state(ONE.id) == "in_doubt"


def test_applied_stays_with_a_person(bench: Bench) -> None:
    """The vendor shows such a badge: it stays in doubt, says so, and is asked for no more."""
    bench.doubt(ONE, applied=True)
    bench.issue(99)
    assert bench.check() == "seen"
    error = bench.job(ONE.id)["error"]
    assert (error["kind"], error["code"]) == ("in_doubt", "500")
    assert "the vendor shows such a badge" in error["message"]
    assert bench.check() is None
    assert bench.issues(1) == 1


def test_a_zero_proves_nothing_while_the_read_side_lags(bench: Bench) -> None:
    """A witness that isn't visible yet: not cleared, however long it takes; once it is visible: cleared."""
    bench.sandbox.vendor.configure(SandboxSettings(read_delay_s=3600))
    bench.doubt(ONE)
    bench.issue(99)
    assert bench.check() == "absent"
    assert [bench.check() for _ in range(2)] == ["unknown", "unknown"]
    bench.sandbox.vendor.configure(SandboxSettings())
    assert bench.check() == "cleared"


def test_what_was_applied_shows_late(bench: Bench) -> None:
    """Applied, but not shown at the first look: seen at the second, and not sent again."""
    bench.sandbox.vendor.configure(SandboxSettings(read_delay_s=3600))
    bench.doubt(ONE, applied=True)
    bench.issue(99)
    assert bench.check() == "absent"
    assert bench.check() == "unknown"
    bench.sandbox.vendor.configure(SandboxSettings())
    assert bench.check() == "seen"
    assert (bench.state(ONE.id), bench.issues(1)) == ("in_doubt", 1)


def test_the_read_side_catches_up_during_a_look(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zero that was read before the witness was shown proves nothing: not cleared, but seen next time."""
    bench.sandbox.vendor.configure(SandboxSettings(read_delay_s=3600))
    bench.doubt(ONE, applied=True)
    bench.issue(99)
    assert bench.check() == "absent"
    get = bench.http.get

    def get_and_catch_up(*arguments: Any, **more: Any) -> Any:
        answer = get(*arguments, **more)
        bench.sandbox.vendor.configure(SandboxSettings())
        return answer

    monkeypatch.setattr(bench.http, "get", get_and_catch_up)
    assert bench.check() == "unknown"
    assert bench.check() == "seen"
    assert (bench.state(ONE.id), bench.issues(1)) == ("in_doubt", 1)


def test_applied_by_the_vendor_between_two_looks(bench: Bench) -> None:
    """A call that the vendor carries out minutes later: the second look sees it, and it isn't sent again."""
    bench.doubt(ONE)
    bench.issue(99)
    assert bench.check() == "absent"
    record = Job(ONE.id, badge_of_item(ONE))
    bench.http.put(bench.org, [record], {}, fence=OPEN_FENCE)
    assert bench.check() == "seen"
    assert (bench.state(ONE.id), bench.issues(1)) == ("in_doubt", 1)


def badge_of_item(it: Item) -> Badge:
    """Read the badge back from an item."""
    return badge_of(it.fields)


def test_without_a_witness_nothing_is_asked(bench: Bench) -> None:
    """Nothing was issued since, so no zero could be trusted: no call is spent on it."""
    bench.issue(99)  # before: proves nothing
    bench.doubt(ONE)
    assert bench.check() == "unknown"
    assert bench.reads() == []
    bench.issue(98)
    assert bench.check() == "absent"
    assert len(bench.reads()) == 1


@pytest.mark.parametrize("applied", [False, True])
def test_two_of_one_customer_and_badge_are_judged_together(bench: Bench, *, applied: bool) -> None:
    """The vendor can't tell them apart: one of them issued keeps both in doubt, none issued clears both."""
    one, two = (Item(name, name, ONE.fields, fingerprint=name) for name in ("one", "two"))
    other = item(1, badge_id=OTHER_BADGE)
    bench.doubt(one)
    bench.doubt(two, applied=applied)
    bench.doubt(other)
    bench.issue(99)

    def look() -> set[str | None]:
        bench.pass_time()
        return {bench.check(in_time=False) for _ in range(2)}

    assert look() == {"absent", "seen" if applied else "absent"}
    assert len(bench.reads()) == 2  # one for both, and one for the other badge
    assert look() == {"cleared", None if applied else "cleared"}
    expected = "in_doubt" if applied else "queued"
    assert [bench.state(job) for job in ("one", "two", other.id)] == [expected, expected, "queued"]


def test_every_look_is_paid_from_the_limit(bench: Bench) -> None:
    """One slot for each look, one for the witness; none to be had, no look."""
    bench.doubt(ONE)
    bench.issue(99)

    def paid() -> int:
        return int(bench.client.hget(bench.key("gate"), "n") or 0)

    before = paid()
    bench.check()
    assert (paid() - before, len(bench.reads())) == (1, 1)
    bench.queue.pause("default", why="operator", reason="test")
    assert bench.check() == "unknown"
    assert (paid() - before, len(bench.reads())) == (1, 1)
    bench.queue.resume(bench.org)
    assert bench.check() == "cleared"
    assert (paid() - before, len(bench.reads())) == (3, 3)


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "status", "status": 500},
        {"fault": "status", "status": 200, "body": "<html>"},
        {"fault": "status", "status": 200, "body": '{"data":{"earnDetails":{}},"errors":null}'},
        {"fault": "status", "status": 200, "body": '{"data":{"earnDetails":{"earnCount":0}},"errors":[1]}'},
        {"fault": "status", "status": 200, "body": '{"data":{"earnDetails":{"earnCount":1e999}}}'},
        {"fault": "status", "status": 404, "body": '{"data":{"earnDetails":{"earnCount":0}}}'},
        {"fault": "delay", "seconds": 2},
    ],
    ids=["500", "html", "no-count", "errors", "endless", "404", "timeout"],
)
@pytest.mark.parametrize("look", ["first", "witness", "second"])
def test_a_look_that_fails_concludes_nothing(bench: Bench, look: str, fault: dict[str, Any]) -> None:
    """No clear answer, at the first or the second look: in doubt as before, and asked again later."""
    bench.doubt(ONE)
    bench.issue(99)
    if look != "first":
        assert bench.check() == "absent"
    since = Probe(bench.client).record(ONE.id).get("absent_since")
    bench.sandbox.vendor.add_fault(Fault(on="read", times=1, after=look == "second", **fault))
    patient = bench.org
    if fault["fault"] == "delay":
        bench.org = patient.model_copy(update={"http_timeout_s": fault["seconds"] / 2})
    assert bench.check() == "unknown"
    bench.org = patient
    assert bench.state(ONE.id) == "in_doubt"
    assert bool(Probe(bench.client).record(ONE.id).get("absent_since")) == bool(since)
    assert bench.check(in_time=False) is None
    assert bench.check() == ("absent" if look == "first" else "cleared")


def test_what_a_person_ended_is_not_checked(bench: Bench) -> None:
    """Discarded, replayed or resolved meanwhile: no look, and nothing is queued by one."""
    bench.doubt(ONE, item(2))
    bench.issue(99)
    assert bench.check() == "absent"
    bench.queue.discard(bench.org.name, [ONE.id], keep_ms=60_000, call="d")
    bench.queue.resolve(bench.org, [item(2).id], call="r")
    assert [bench.check() for _ in range(3)] == [None] * 3
    assert [bench.state(job) for job in (ONE.id, item(2).id)] == ["in_doubt", "issued"]


# park and resend


def test_parked_is_never_asked_for(bench: Bench) -> None:
    """The default: a dead letter until somebody says what became of it; no call is made for it."""
    bench.org = bench.org.model_copy(update={"in_doubt": "park"})
    bench.doubt(ONE)
    bench.issue(99)
    assert bench.check() is None
    assert bench.client.zcard(bench.key("checks")) == 0
    assert bench.reads() == []


def test_resend_is_at_least_once(bench: Bench) -> None:
    """Sent again after a call in doubt: issued for certain, and here twice, as that setting says."""
    bench.org = bench.org.model_copy(update={"in_doubt": "resend"})
    bench.sandbox.vendor.add_fault(Fault(fault="status", status=500, times=1, apply="all"))
    bench.enqueue(ONE)
    assert bench.deliver().settled.retrying == 1
    assert bench.deliver().settled.issued == 1
    assert (bench.job(ONE.id)["attempts"], bench.issues(1)) == (2, 2)


def test_resend_ends(bench: Bench) -> None:
    """Each call in doubt spends an attempt; after the last the job is dead, in doubt."""
    bench.org = bench.org.model_copy(update={"in_doubt": "resend", "max_attempts": 3})
    bench.sandbox.vendor.add_fault(Fault(fault="status", status=500))
    bench.enqueue(ONE)
    ended = [bench.deliver().settled for _ in range(3)]
    assert [(its.retrying, its.dead) for its in ended] == [(1, 0), (1, 0), (0, 1)]
    job = bench.job(ONE.id)
    assert (job["attempts"], job["error"]["kind"], job["error"]["code"]) == (3, "in_doubt", "500")


# A person's word


@pytest.fixture
def env(bench: Bench, connection: Connection) -> dict[str, str]:
    """The environment of the commands."""
    return environment(
        redis_url=connection.url, broker_url=connection.broker_url, api_base_url=bench.sandbox.url
    )


def test_resolved_as_issued(bench: Bench, env: dict[str, str]) -> None:
    """``--issued``: it is issued, and importing it again issues nothing."""
    bench.doubt(ONE, applied=True)
    badges("dead", "resolve", ONE.id, "--issued", env=env)
    assert bench.state(ONE.id) == "issued"
    run = badges_json("run", "show", "spring", env=env)
    assert (run["issued"], run["dead"], run["dead_kinds"]) == (1, 0, {})
    bench.queue.enqueue(bench.org, run="again", items=[ONE], call=new_id())
    assert badges_json("run", "show", "again", env=env)["duplicates"] == 1
    done = badges("dead", "resolve", ONE.id, "--issued", env=env, expect=1)
    assert b"not in doubt" in done.stderr


def test_resolved_as_not_issued(bench: Bench, env: dict[str, str]) -> None:
    """``--not-issued``: it is sent again now, with a new count of attempts; said twice, it is sent once."""
    bench.doubt(ONE)
    badges("dead", "resolve", ONE.id, "--not-issued", env=env)
    badges("dead", "resolve", ONE.id, "--not-issued", env=env, expect=1)
    assert (bench.state(ONE.id), bench.job(ONE.id)["attempts"]) == ("queued", 0)
    assert bench.deliver().settled.issued == 1
    assert bench.issues(1) == 1


def test_resolve_wants_a_word_and_a_job_in_doubt(bench: Bench, env: dict[str, str]) -> None:
    """Without saying which it is a usage error; a job that isn't in doubt stays what it is."""
    bench.issue(1)
    badges("dead", "resolve", ONE.id, env=env, expect=2)
    for word in ("--issued", "--not-issued"):
        badges("dead", "resolve", ONE.id, word, env=env, expect=1)
    assert bench.state(ONE.id) == "issued"
    badges("dead", "resolve", "nobody", "--issued", env=env, expect=1)


def test_discarded(bench: Bench, env: dict[str, str]) -> None:
    """Off the list, and its record stays: neither a replay nor an import of it can issue it."""
    bench.doubt(ONE, item(2))
    said = badges_json("dead", "discard", "--kind", "in_doubt", "--job", ONE.id, "--yes", env=env)
    assert said == {"discarded": 1}
    told = badges("dead", "resolve", ONE.id, "--issued", env=env, expect=1).stderr.decode()
    assert "is not in doubt: it is dead (discarded since: " in " ".join(told.split())
    assert "look it up at the vendor" not in told, "which would be refused"
    listed = badges_json("dead", "list", env=env)
    assert [row["job_id"] for row in listed] == [item(2).id]
    assert badges_json("dead", "replay", "--kind", "in_doubt", "--job", ONE.id, env=env)["replayed"] == 0
    bench.queue.enqueue(bench.org, run="again", items=[ONE], call=new_id())
    assert bench.state(ONE.id) == "in_doubt"
    badges("dead", "discard", env=env, expect=2)  # all of them, by mistake


def test_in_doubt_is_replayed_only_if_it_is_said(bench: Bench, env: dict[str, str]) -> None:
    """No filter but ``--kind in_doubt`` itself replays what may have been issued."""
    bench.doubt(ONE)
    for which in ([], ["--job", ONE.id], ["--code", "500"], ["--badge", BADGE], ["--run", "spring"]):
        assert badges_json("dead", "replay", *which, env=env)["replayed"] == 0
    assert bench.state(ONE.id) == "in_doubt"
    planned = badges_json("dead", "replay", "--kind", "in_doubt", "--dry-run", env=env)
    assert (planned["replayed"], bench.state(ONE.id)) == (1, "in_doubt")
    badges("dead", "replay", "--kind", "in_doubt", env=env, expect=2)
    said = badges_json("dead", "replay", "--kind", "in_doubt", "--may-issue-twice", env=env)
    assert said["replayed"] == 1
    assert bench.deliver().settled.issued == 1
