"""The same request again (IN_DOUBT=same_request): as a whole, under its id, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hands import claimed, settle
from support import Probe, configured, item
from workbench import Workbench

from worker.domain.batch import Batch, Replay, Settled, Wait
from worker.domain.identity import request_id
from worker.domain.outcome import Issued
from worker.errors import ConfigError
from worker.operate.orgcheck import check_settings
from worker.operate.runs import JobReader
from worker.operate.survey import Survey
from worker.sandbox.issued import Fault, SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.store import keys
from worker.store.queue import Queue, new_id

MISSING = "000000000000000000000bad"


@dataclass
class Bench(Workbench):
    """One whose vendor knows request ids."""

    waiting = ("agains",)

    def doubt(self, *numbers: int, applied: bool) -> str:
        """Have jobs sent in one call that nobody knows the end of; return its request id."""
        self.fault(fault="status", status=500, apply="all" if applied else "none")
        self.bring(*numbers)
        done = self.deliver()
        assert done.settled.dead == len(numbers)
        return request_id(done.batch.id)

    def fault(self, **what: Any) -> None:
        """Let one call go wrong."""
        self.sandbox.vendor.add_fault(Fault(times=1, **what))

    def words(self, *numbers: int) -> list[str]:
        """Return what became of jobs: the state, and of a dead letter its kind."""
        records = [Probe(self.client).record(item(n).id) for n in numbers]
        return [record.get("kind") or record["state"] for record in records]

    def settle(self, batch: Batch, *earned: str) -> Settled:
        """Write a batch down as issued, with these earnedBadgeIds."""
        return settle(self.queue, self.org, batch, *(Issued(one) for one in earned))

    def claimed(self) -> Batch:
        """Take the next batch, whatever would be waited for."""
        self.make_due()
        return claimed(self.queue, self.org)

    @property
    def asked(self) -> list[str]:
        """The ids of all import calls that came to the vendor."""
        return [one.request_id for one in self.sandbox.vendor.ledger().exchanges]

    @property
    def issues(self) -> int:
        """How many badges the vendor issued."""
        return len(self.sandbox.vendor.ledger().issues)

    @property
    def to_repeat(self) -> int:
        """How many calls status shows as to be repeated."""
        (state,) = Survey(self.client).states({"default": self.org})
        return int(state.as_json()["to_repeat"])


@pytest.fixture(params=["honours", "refuses"])
def bench(request: pytest.FixtureRequest, queue: Queue) -> Iterator[Bench]:
    """A vendor that honours request ids, and one that refuses those it has seen."""
    settings = SandboxSettings(request_ids=request.param, unknown_badges=frozenset({MISSING}))
    with SandboxServer(settings=settings) as sandbox:
        own = {"in_doubt": "same_request", "request_ids": request.param, "batch_size": 10}
        with Bench.open(queue, sandbox, **own) as bench:
            yield bench


@pytest.mark.parametrize("applied", [True, False])
def test_doubt_ends_with_the_same_request(bench: Bench, *, applied: bool) -> None:
    """Whether the first call was applied or not: each badge is issued once, and none is in doubt."""
    its_id = bench.doubt(1, 2, 3, applied=applied)
    assert bench.words(1, 2, 3) == ["in_doubt"] * 3
    assert bench.to_repeat == 1
    done = bench.deliver()
    assert bench.words(1, 2, 3) == ["i"] * 3
    assert bench.to_repeat == 0
    assert bench.asked == [its_id, its_id]
    assert [job.id for job in done.batch.jobs] == [item(n).id for n in (1, 2, 3)]
    assert bench.issues == 3
    reader = JobReader(client=bench.client, orgs={"default": bench.org})
    job = reader.job(item(1).id)
    assert job["sent_request_id"] == its_id
    says_none = applied and bench.org.request_ids == "refuses"
    assert bool(job["earnedBadgeId"]) != says_none
    assert any("809" in warning for warning in job["warnings"]) == says_none
    run = reader.run("spring")
    assert (run.issued, run.dead, run.sending, run.total) == (3, 0, 0, 3)


def test_it_is_the_probe_however_many_jobs_it_has(bench: Bench) -> None:
    """While the org probes with one job at a time, the request goes as a whole, before what waits."""
    bench.doubt(1, 2, 3, applied=True)
    bench.bring(*range(10, 30))
    assert bench.client.hget(bench.key("gate"), "probing") == "1"
    bench.client.zadd(bench.key("agains"), dict.fromkeys(bench.client.zrange(bench.key("agains"), 0, -1), 1))
    batch = claimed(bench.queue, bench.org, "c")
    assert batch.is_again
    assert [job.id for job in batch.jobs] == [item(n).id for n in (1, 2, 3)]
    again = claimed(bench.queue, bench.org, "c")
    assert (again.id, again.jobs) == (batch.id, batch.jobs)
    assert isinstance(bench.queue.claim(bench.org, "other"), Wait)


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "status", "status": 429},
        {"fault": "status", "status": 401},
        {"fault": "status", "status": 404},
        {"fault": "status", "status": 503, "body": '[{"data":null,"errors":[{"code":4001,"message":"x"}]}]'},
        {"fault": "status", "status": 500},
        {"fault": "status", "status": 400},
        {"fault": "status", "status": 413},
    ],
    ids=lambda fault: str(fault["status"]),
)
def test_what_isnt_said_of_the_request_leaves_it_in_doubt(bench: Bench, fault: dict[str, Any]) -> None:
    """A refusal of the second call says nothing of the first: nothing is queued, and it is tried again."""
    its_id = bench.doubt(1, 2, applied=True)
    bench.fault(**fault)
    bench.deliver()
    assert bench.words(1, 2) == ["in_doubt"] * 2
    bench.queue.resume(bench.org)
    bench.deliver()
    assert bench.words(1, 2) == ["i"] * 2
    assert (bench.asked, bench.issues) == ([its_id] * 3, 2)


def test_one_that_was_not_sent_after_all_stays_in_doubt(bench: Bench) -> None:
    """Released because it had grown too late: as before, with the words of the first call."""
    bench.doubt(1, 2, applied=True)
    code = Probe(bench.client).record(item(1).id)["code"]
    batch = bench.claimed()
    bench.queue.release(bench.org, batch.id, batch.jobs)
    assert bench.words(1, 2) == ["in_doubt"] * 2
    assert Probe(bench.client).record(item(1).id)["code"] == code
    assert bench.client.hgetall(bench.key("busy")) == {}
    bench.deliver()
    assert (bench.words(1, 2), bench.issues) == (["i"] * 2, 2)


def test_a_worker_that_disappears_leaves_a_request_too(bench: Bench) -> None:
    """The first time, and the second; a late release of the second changes nothing."""
    bench.bring(1, 2)
    first = bench.claimed()
    _lose(bench, first)
    assert bench.words(1, 2) == ["in_doubt"] * 2
    second = bench.claimed()
    assert request_id(second.id) == request_id(first.id)
    assert second.id != first.id
    _lose(bench, second)
    bench.queue.release(bench.org, second.id, second.jobs)
    bench.queue.release(bench.org, first.id, first.jobs)
    assert bench.words(1, 2) == ["in_doubt"] * 2
    bench.deliver()
    assert (bench.words(1, 2), bench.issues) == (["i"] * 2, 2)


def test_a_sending_that_a_failed_server_forgot_has_its_number_for_good(bench: Bench) -> None:
    """What is told of it afterwards would be taken for what is told of the next one."""
    bench.doubt(1, 2, applied=False)
    (request,) = bench.client.zrange(bench.key("agains"), 0, -1)
    over = {
        "issued": 0,
        "dead": 0,
        "retrying": 0,
        "queued": 2,
        "late": 0,
        "more": False,
        "at": -1,
        "clock": "0",
    }
    bench.client.set(keys.key("default", "call", f"settle:{request}.2"), json.dumps(over))
    batch = bench.claimed()
    assert batch.id == f"{request}.3"
    assert request_id(batch.id) == request_id(request)
    bench.settle(batch, "e1", "e2")
    assert bench.words(1, 2) == ["i", "i"]


@pytest.mark.parametrize("act", ["resolve", "replay", "discard", "cancel", "epoch", "url", "old", "switched"])
def test_only_as_a_whole_and_as_it_was(bench: Bench, act: str) -> None:
    """Once one job of it is in doubt no more, or it would be another request: all others stay parked."""
    bench.doubt(1, 2, 3, applied=True)
    org = bench.org
    match act:
        case "resolve":
            bench.queue.resolve(org, [item(1).id], call=new_id())
        case "replay":
            bench.queue.replay(org, run="again", items=[Replay(item(1).id)], call=new_id())
            bench.deliver()
        case "discard":
            bench.queue.discard("default", [item(1).id], keep_ms=60_000, call=new_id())
        case "cancel":
            bench.queue.cancel("default", [], call=new_id(), run="spring")
        case "epoch":
            org = org.model_copy(update={"epoch_unit": "ms"})
        case "url":
            org = org.model_copy(update={"api_base_url": "http://localhost:9"})
        case "old":
            (request,) = bench.client.zrange(bench.key("agains"), 0, -1)
            bench.client.lset(keys.key("default", "again", request), 1, 1)
        case "switched":
            org = org.model_copy(update={"in_doubt": "park"})
    bench.make_due()
    assert isinstance(bench.queue.claim(org, new_id()), Wait)
    bench.make_due()
    if act != "switched":
        assert isinstance(bench.queue.claim(bench.org, new_id()), Wait)
    assert bench.words(2, 3) == ["in_doubt"] * 2


def test_a_late_answer_of_the_first_call_wins(bench: Bench) -> None:
    """While the second is on its way; what that answers then says nothing else, and no alarm is raised."""
    bench.bring(1, 2)
    first = bench.claimed()
    _lose(bench, first)
    second = bench.claimed()
    bench.settle(first, "E1", "E2")
    assert bench.words(1, 2) == ["i"] * 2
    done = bench.settle(second, *(["", ""] if bench.org.request_ids == "refuses" else ["E1", "E2"]))
    assert (done.twice, bench.words(1, 2)) == ((), ["i"] * 2)
    assert Probe(bench.client).record(item(1).id)["earned_badge_id"] == "E1"


def test_a_late_answer_that_the_first_wasnt_sent_says_nothing_of_the_second(bench: Bench) -> None:
    """The second was applied, and is in doubt: the first's release must not queue what may be issued."""
    bench.bring(1, 2)
    first = bench.claimed()
    _lose(bench, first)
    bench.fault(fault="status", status=502, apply="all")
    bench.deliver()
    bench.queue.release(bench.org, first.id, first.jobs)
    assert bench.words(1, 2) == ["in_doubt"] * 2
    bench.deliver()
    assert (bench.words(1, 2), bench.issues) == (["i"] * 2, 2)


def test_a_request_that_is_refused_as_a_whole_is_isolated(bench: Bench) -> None:
    """The vendor speaks of that request: nothing was applied, and the culprit is found as ever."""
    settings = SandboxSettings(
        request_ids=bench.org.request_ids,
        unknown_badges=frozenset({MISSING}),
        missing_badge_fails="request",
    )
    bench.sandbox.vendor.configure(settings)
    bench.fault(fault="status", status=500)
    items = [item(1), item(2, badge_id=MISSING)]
    bench.queue.enqueue(bench.org, run="spring", items=items, call=new_id())
    bench.deliver()
    for _ in range(3):
        bench.deliver()
    states = [Probe(bench.client).record(one.id) for one in items]
    assert [one["state"] for one in states] == ["i", "d"]
    assert states[1]["kind"] == "rejected"


def test_under_honours_809_ends_no_doubt(bench: Bench) -> None:
    """It says that the id was seen, and not that anything was applied; only REQUEST_IDS=refuses says so."""
    bench.doubt(1, applied=True)
    seen = [{"data": None, "errors": [{"code": 809, "message": "same requestId"}]}]
    bench.fault(fault="status", status=400, body=json.dumps(seen))
    bench.deliver()
    assert bench.words(1) == (["i"] if bench.org.request_ids == "refuses" else ["in_doubt"])


def test_it_is_tried_for_an_hour_and_then_parked(bench: Bench) -> None:
    """At growing intervals; what is in doubt for longer waits for a person."""
    bench.doubt(1, 2, applied=True)
    sent = 1
    while bench.client.zcard(bench.key("agains")):
        ((request, at_ms),) = bench.client.zrange(bench.key("agains"), 0, -1, withscores=True)
        key = keys.key("default", "again", str(request))
        since = int(bench.client.lindex(key, 1) or 0)
        now_ms = bench.queue.store.org_now_ms("default")
        bench.client.lset(key, 1, since - max(0, int(at_ms) - now_ms))  # as if it had waited so long
        bench.fault(fault="status", status=500)
        bench.deliver()
        sent += 1
        assert sent < 30
    assert bench.words(1, 2) == ["in_doubt"] * 2
    bench.make_due()
    assert isinstance(bench.queue.claim(bench.org, new_id()), Wait)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"in_doubt": "same_request"}, "REQUEST_IDS"),
        ({"in_doubt": "same_request", "request_ids": "ignores"}, "REQUEST_IDS"),
        (
            {"in_doubt": "same_request", "request_ids": "honours", "request_id_header": ""},
            "REQUEST_ID_HEADER",
        ),
        ({"in_doubt": "same_request", "request_ids": "perhaps"}, "honours"),
    ],
)
def test_a_setting_that_would_be_a_lie_is_refused(settings: dict[str, str], says: str) -> None:
    """With a vendor that ignores request ids, or gets none, the same request issues twice."""
    with pytest.raises((ValueError, ConfigError), match=says):
        configured(**settings)


def _lose(bench: Bench, batch: Batch) -> None:
    """Let a batch's lease run out, and be given up by the next claim."""
    bench.client.zadd(bench.key("leases"), {batch.id: 1})
    assert isinstance(bench.queue.claim(bench.org, new_id()), Wait)


def test_with_a_vendor_that_ignores_them_the_setting_is_a_lie(bench: Bench) -> None:
    """What the documentation warns of, and doctor as long as it is set."""
    bench.sandbox.vendor.configure(SandboxSettings(request_ids="ignores"))
    bench.doubt(1, applied=True)
    bench.deliver()
    assert bench.issues == 2
    (finding,) = (
        one for one in check_settings(bench.org, alone=True) if one.result == "warn" and "twice" in one.detail
    )
    assert f"REQUEST_IDS={bench.org.request_ids}" in finding.detail
