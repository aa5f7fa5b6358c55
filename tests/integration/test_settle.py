"""The promises of settling: what is known of a batch is written once, and late answers do no harm."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
import redis
import time_machine
from hands import claimed, ids
from support import BADGE, OTHER_BADGE, Probe, configured, item

from worker.domain.batch import Batch, Item, Replay, Sent, Settled, Wait
from worker.domain.job import DeadKind, Job
from worker.domain.org import Org
from worker.domain.outcome import Deferred, Issued, Rejected, Signal, Unknown, Verdict
from worker.domain.settlement import DeadLetter, Isolate, PutBack, Retry, Settlement, settlements
from worker.operate.progress import RunProgress
from worker.operate.runs import JobReader
from worker.operate.survey import Survey
from worker.store import keys
from worker.store.queue import Queue, new_id
from worker.store.record import bounded

ORG = configured(batch_size=10, http_timeout_s=30)
RUN = "spring"
OK = Verdict((), Signal.OK)

REJECTED = DeadLetter(DeadKind.REJECTED, "812", "customerId missing")
IN_DOUBT = DeadLetter(DeadKind.IN_DOUBT, "timeout", "no whole answer")
EXHAUSTED = DeadLetter(DeadKind.EXHAUSTED, "429", "too often")
LATER = Retry(3600, "521", "busy", spends_attempt=True)
BACK = PutBack("503", "away")


def issued(earned: str = "earned", **more: Any) -> Issued:
    """Return a settlement as issued."""
    return Issued(earned, **more)


def claim(queue: Queue, count: int, *, first: int = 0, org: Org = ORG) -> Batch:
    """Enqueue that many jobs and claim them as one batch."""
    queue.enqueue(org, run=RUN, items=[item(n) for n in range(first, first + count)], call=new_id())
    return claimed(queue, org)


def settle(
    queue: Queue, batch: Batch, *decided: Settlement, verdict: Verdict = OK, org: Org = ORG
) -> Settled:
    """Settle a batch: one settlement for all, or one each."""
    each = list(decided) * len(batch.jobs) if len(decided) == 1 else list(decided)
    return queue.settle(org, batch, each, verdict=verdict, sent=Sent("200", 7))


def state(client: redis.Redis, batch: Batch) -> str:
    """Return the states of a batch's jobs, a letter each."""
    return "".join(Probe(client).record(job.id)["state"] for job in batch.jobs)


def progress(client: redis.Redis) -> RunProgress:
    """Read the run."""
    return JobReader(client=client, orgs={}).run(RUN)


def stats(client: redis.Redis) -> dict[str, int]:
    """Read the counters since ever."""
    return {name: int(n) for name, n in client.hgetall(keys.key("default", "stats")).items()}


def lose(queue: Queue, client: redis.Redis, batch: Batch) -> None:
    """Let a batch's lease run out and be given up."""
    client.zadd(keys.key("default", "leases"), {batch.id: 1})
    assert isinstance(queue.claim(ORG, new_id()), Wait)
    assert state(client, batch) == "d" * len(batch.jobs)


def replay(queue: Queue, *job_ids: str) -> None:
    """Queue dead letters again."""
    done = queue.replay(ORG, run="replayed", items=[Replay(job_id) for job_id in job_ids], call=new_id())
    assert done["replayed"] == len(job_ids)


# -- the verbs


def test_an_issued_job_keeps_what_the_vendor_said(queue: Queue, client: redis.Redis) -> None:
    """All of the answer is in the record, its run counts it, and the record ends by itself after its time."""
    batch = claim(queue, 1)
    done = settle(
        queue, batch, issued("E1", issued_id="I1", request_id="q_1", expires_on=1.5e9, warnings='["w"]')
    )
    assert (done.issued, done.dead, done.retrying, done.queued, done.late) == (1, 0, 0, 0, 0)
    kept = Probe(client).record(ids(batch)[0])
    said = {"earned_badge_id": "E1", "issued_id": "I1", "request_id": "q_1", "vendor_expiry": "1500000000"}
    assert kept == kept | said | {"state": "i", "vendor_warnings": '["w"]', "attempts": "1"}
    assert "finished_at" in kept
    expires_ms = client.pttl(keys.key("default", "job", ids(batch)[0]))
    assert 29.9 * 86_400_000 < expires_ms <= 30 * 86_400_000
    assert progress(client).states() == [0, 0, 0, 1, 0, 0]
    assert progress(client).finished_at is not None


def test_a_dead_letter_keeps_its_reason_and_stays(queue: Queue, client: redis.Redis) -> None:
    """It stands in the index of its kind, has no end, and a long message comes back whole."""
    batch, message = claim(queue, 2), "customerId missing — " * 10
    settle(queue, batch, DeadLetter(DeadKind.REJECTED, "812", message), IN_DOUBT)
    one, two = ids(batch)
    kept = Probe(client).record(one)
    assert (kept["state"], kept["kind"], kept["code"], kept["attempts"]) == ("d", "rejected", "812", "1")
    assert kept["message"] == bounded(message)
    assert client.ttl(keys.key("default", "job", one)) == -1
    assert (Probe(client).listed("rejected"), Probe(client).listed("in_doubt")) == ([one], [two])
    assert progress(client).dead_kinds == {"rejected": 1, "in_doubt": 1}


def test_a_retry_waits_for_its_time(queue: Queue, client: redis.Redis) -> None:
    """It spends an attempt only if it says so, and comes back no earlier than its delay."""
    batch = claim(queue, 2)
    done = settle(queue, batch, LATER, Retry(60, "521", "busy", spends_attempt=False))
    seconds, _ = client.time()
    due = dict(client.zrange(keys.key("default", "retry"), 0, -1, withscores=True))
    assert [round(due[job_id] / 1000 - seconds) // 10 for job_id in ids(batch)] == [360, 6]
    assert [Probe(client).record(job_id).get("attempts") for job_id in ids(batch)] == ["1", None]
    assert done.look_at_ms == min(due.values())
    assert progress(client).states() == [0, 0, 2, 0, 0, 0]
    assert queue.claim(ORG, new_id()) == Wait("idle", int(min(due.values())))


def test_what_is_put_back_is_next_in_its_old_order(queue: Queue, client: redis.Redis) -> None:
    """It goes to the head, in order, before what came since; no attempt is spent."""
    batch = claim(queue, 4)
    queue.enqueue(ORG, run=RUN, items=[item(9)], call="since")
    done = settle(queue, batch, BACK, issued(), BACK, BACK)
    left = [job_id for n, job_id in enumerate(ids(batch)) if n != 1]
    assert Probe(client).queued() == [*left, item(9).id]
    assert [Probe(client).record(job_id).get("attempts") for job_id in left] == [None] * 3
    assert (done.queued, done.issued) == (3, 1)
    assert progress(client).states() == [4, 0, 0, 1, 0, 0]


def test_each_job_is_settled_by_itself(queue: Queue, client: redis.Redis) -> None:
    """One item's fate never moves another's: five outcomes in one answer."""
    batch = claim(queue, 5)
    done = settle(queue, batch, issued(), REJECTED, LATER, BACK, IN_DOUBT)
    assert state(client, batch) == "idrqd"
    assert (done.issued, done.dead, done.retrying, done.queued) == (1, 2, 1, 1)
    assert progress(client).states() == [1, 0, 1, 1, 2, 0]


def test_the_batch_is_gone_when_it_is_settled(queue: Queue, client: redis.Redis) -> None:
    """Neither its record nor its lease nor its place in flight is left; the stats count one request."""
    batch = claim(queue, 3)
    settle(queue, batch, issued(), issued(), REJECTED)
    left = [keys.key("default", "batch", batch.id), keys.key("default", "leases")]
    assert not client.exists(*left, keys.key("default", "inflight"))
    counted = {"accepted": 3, "requests": 1, "items": 3, "issued": 2, "status:200": 1, "elapsed_ms": 7}
    died = {"dead:rejected": 1, "dead:rejected:812": 1, "codes": 1, "listed:rejected": 1}
    assert stats(client) == counted | died | {"took:50": 1}


def test_how_long_calls_take_is_told_of_the_last_ones(queue: Queue, client: redis.Redis) -> None:
    """What was slow a while ago tells nothing of now, nor does a call that nobody answered."""

    def call(status: str, elapsed_ms: int) -> float | None:
        batch = claim(queue, 1, first=next(numbers), org=fast)
        queue.settle(fast, batch, [issued()], verdict=OK, sent=Sent(status, elapsed_ms))
        (state,) = Survey(client).states({"default": fast})
        return state.call_s

    numbers, fast = count(), configured(batch_size=1, rate_limit="1000/second")
    assert [call("200", 4000) for _ in range(10)][-2:] == [None, 4.0]
    assert call("timeout", 30_000) == 4.0
    assert [call("200", 20) or 0 for _ in range(20)][-1] < 1.5
    assert [call("503", 20) or 0 for _ in range(80)][-1] < 0.1


def test_a_batch_is_settled_once(queue: Queue, client: redis.Redis) -> None:
    """A call whose reply was lost is answered as it was, and changes nothing."""
    batch = claim(queue, 3)
    first = settle(queue, batch, issued(), REJECTED, BACK)
    before = stats(client), progress(client), Probe(client).queued()
    assert settle(queue, batch, issued(), REJECTED, BACK) == first
    assert settle(queue, batch, IN_DOUBT) == first
    assert (stats(client), progress(client), Probe(client).queued()) == before


def test_the_history_holds_the_last_attempts_that_issued_nothing(queue: Queue, client: redis.Redis) -> None:
    """Ten of them, newest last, each with batch, status and code."""
    batch = claim(queue, 1)
    (job_id,) = ids(batch)
    batches = []
    for _ in range(12):
        batches.append(batch.id)
        settle(queue, batch, BACK)
        batch = claimed(queue, ORG)
    history = JobReader(client=client, orgs={}).job(job_id)["history"]
    assert sorted(attempt["batch"] for attempt in history) == sorted(batches[2:])
    assert {(attempt["status"], attempt["code"]) for attempt in history} == {("200", "503")}


def test_outcomes_are_written_to_a_full_server_too(queue: Queue, client: redis.Redis) -> None:
    """What the vendor did must never be lost for want of memory."""
    batch = claim(queue, 3)
    client.config_set("maxmemory", "1")
    try:
        assert settle(queue, batch, issued(), REJECTED, BACK).issued == 1
    finally:
        client.config_set("maxmemory", "0")
    assert state(client, batch) == "idq"


def test_a_record_that_was_evicted_is_written_again(queue: Queue, client: redis.Redis) -> None:
    """What a batch in flight carries is known to its holder: what became of it isn't lost."""
    batch = claim(queue, 2)
    client.delete(keys.key("default", "job", ids(batch)[0]))
    assert settle(queue, batch, issued()).issued == 2
    assert Probe(client).record(ids(batch)[0])["state"] == "i"


def test_a_result_that_expired_is_passed_over(queue: Queue, client: redis.Redis) -> None:
    """A record that is no more isn't made again by an answer that comes late."""
    batch = claim(queue, 2)
    lose(queue, client, batch)
    client.delete(keys.key("default", "job", ids(batch)[0]))
    assert settle(queue, batch, issued()).issued == 1
    assert not client.exists(keys.key("default", "job", ids(batch)[0]))


# -- more, and when to look again


def test_who_has_settled_hears_whether_another_batch_may_start(queue: Queue) -> None:
    """Whether it freed the last place or not; not where nothing waits."""
    tight = configured(batch_size=1, max_in_flight=1)
    first = claim(queue, 2, org=tight)
    assert settle(queue, first, issued(), org=tight).more
    wide = configured(batch_size=1, max_in_flight=2)
    batch = claimed(queue, wide)
    assert not settle(queue, batch, issued(), org=wide).more
    queue.enqueue(wide, run=RUN, items=[item(8), item(9)], call="more")
    assert settle(queue, claimed(queue, wide), issued(), org=wide).more


def test_a_settlement_says_when_to_look_again(queue: Queue, client: redis.Redis) -> None:
    """At once if something is ripe, never if nothing is left, else when the next retry is due."""
    batch = claim(queue, 1)
    assert settle(queue, batch, issued()).look_at_ms == -1
    before, _ = client.time()
    again = settle(queue, claim(queue, 1, first=1), BACK).look_at_ms
    later = settle(queue, claimed(queue, ORG), LATER).look_at_ms
    after, _ = client.time()
    assert again <= (after + 1) * 1000
    assert later >= (before + 3599) * 1000


# -- release


def test_a_release_leaves_everything_as_it_was(queue: Queue, client: redis.Redis) -> None:
    """Order, states, attempts and counters are as if it hadn't been claimed; no request is counted."""
    queue.enqueue(ORG, run=RUN, items=[item(n) for n in range(15)], call="call")
    before = (
        Probe(client).queued(),
        progress(client),
        [Probe(client).record(i) for i in Probe(client).queued()],
    )
    batch = claimed(queue, ORG)
    assert queue.release(ORG, batch.id, batch.jobs).queued == 10
    after = [{k: v for k, v in Probe(client).record(i).items() if k != "B"} for i in Probe(client).queued()]
    assert (Probe(client).queued(), progress(client), after) == before
    assert stats(client) == {"accepted": 15}
    assert queue.release(ORG, batch.id, batch.jobs).queued == 10
    assert Probe(client).queued() == before[0]


def test_what_was_released_late_stays_as_it_is(queue: Queue, client: redis.Redis) -> None:
    """It was certainly not sent: given up as in doubt in the meantime, it is queued again."""
    batch = claim(queue, 2)
    lose(queue, client, batch)
    assert queue.release(ORG, batch.id, batch.jobs).queued == 2
    assert Probe(client).queued() == ids(batch)
    assert Probe(client).listed("in_doubt") == []
    assert progress(client).states() == [2, 0, 0, 0, 0, 0]


# -- the answer that comes late


def test_late_same_batch_certain_knowledge_wins(queue: Queue, client: redis.Redis) -> None:
    """Given up as in doubt from this batch: what the answer says for certain is applied, each to its own."""
    batch = claim(queue, 6)
    lose(queue, client, batch)
    done = settle(queue, batch, issued("E1"), REJECTED, LATER, BACK, EXHAUSTED, IN_DOUBT)
    assert state(client, batch) == "idrqdd"
    assert (done.issued, done.dead, done.retrying, done.queued, done.late) == (1, 2, 1, 1, 1)
    one, two, _, four, five, six = ids(batch)
    assert (
        Probe(client).listed("rejected"),
        Probe(client).listed("exhausted"),
        Probe(client).listed("in_doubt"),
    ) == (
        [two],
        [five],
        [six],
    )
    assert Probe(client).record(one)["earned_badge_id"] == "E1"
    assert "k" not in Probe(client).record(one)
    assert Probe(client).record(six)["code"] == "lease_expired"
    assert Probe(client).queued() == [four]
    assert progress(client).states() == [1, 0, 1, 1, 3, 0]
    assert progress(client).dead_kinds == {"rejected": 1, "exhausted": 1, "in_doubt": 1}


def test_late_in_doubt_adds_nothing(queue: Queue, client: redis.Redis) -> None:
    """Doubt about what is in doubt already changes no record and no count."""
    batch = claim(queue, 2)
    lose(queue, client, batch)
    before = [Probe(client).record(job_id) for job_id in ids(batch)]
    assert settle(queue, batch, IN_DOUBT).late == 2
    assert [Probe(client).record(job_id) for job_id in ids(batch)] == before
    assert progress(client).states() == [0, 0, 0, 0, 2, 0]


def test_late_after_a_replay_issued_wins(queue: Queue, client: redis.Redis) -> None:
    """Queued again since: "issued" wins and the id left in the queue is skipped; nothing else counts."""
    batch = claim(queue, 3)
    lose(queue, client, batch)
    replay(queue, *ids(batch))
    done = settle(queue, batch, issued("E1"), REJECTED, BACK)
    assert (done.issued, done.late) == (1, 2)
    assert state(client, batch) == "iqq"
    assert progress(client).states() == [2, 0, 0, 1, 0, 0]
    assert ids(claimed(queue, ORG)) == ids(batch)[1:]


def test_late_while_it_waits_for_a_retry_issued_wins(queue: Queue, client: redis.Redis) -> None:
    """Replayed, sent and deferred since: it is issued, and its retry comes to nothing."""
    batch = claim(queue, 1)
    lose(queue, client, batch)
    replay(queue, *ids(batch))
    settle(queue, claimed(queue, ORG), LATER)
    assert settle(queue, batch, issued("E1")).issued == 1
    client.zadd(keys.key("default", "retry"), {ids(batch)[0]: 1})
    assert queue.claim(ORG, new_id()) == Wait("idle", -1)
    assert progress(client).states() == [0, 0, 0, 1, 0, 0]


def test_late_after_it_died_of_another_batch_issued_wins(queue: Queue, client: redis.Redis) -> None:
    """A dead letter whose first call turns out to have issued it is one no longer; anything else stays."""
    batch = claim(queue, 2)
    lose(queue, client, batch)
    replay(queue, *ids(batch))
    settle(queue, claimed(queue, ORG), REJECTED)
    done = settle(queue, batch, issued("E1"), BACK)
    assert (done.issued, done.late) == (1, 1)
    assert state(client, batch) == "id"
    assert Probe(client).listed("rejected") == ids(batch)[1:]
    assert progress(client).dead_kinds == {"rejected": 1}


def test_late_after_it_was_issued_again_both_are_kept(queue: Queue, client: redis.Redis) -> None:
    """Sent again and issued since: the second earnedBadgeId is kept, and the alarm names the job, once."""
    batch = claim(queue, 1)
    lose(queue, client, batch)
    replay(queue, *ids(batch))
    settle(queue, claimed(queue, ORG), issued("E2"))
    done = settle(queue, batch, issued("E1"))
    assert done.twice == tuple(ids(batch))
    assert (
        Probe(client).record(ids(batch)[0])["earned_badge_id"],
        Probe(client).record(ids(batch)[0])["second_earned"],
    ) == ("E2", "E1")
    assert settle(queue, batch, issued("E1")) == done
    assert stats(client)["issued_twice"] == 1
    assert progress(client).states() == [0, 0, 0, 1, 0, 0]


def test_late_while_it_is_sent_again_it_is_issued_whatever_comes(queue: Queue, client: redis.Redis) -> None:
    """Known as issued by the first call, it isn't sent a third time when the second call fails."""
    batch = claim(queue, 4)
    lose(queue, client, batch)
    replay(queue, *ids(batch))
    second = claimed(queue, ORG)
    assert settle(queue, batch, issued("E1")).issued == 4
    done = settle(queue, second, issued("E2"), REJECTED, BACK, LATER)
    assert done.twice == (ids(batch)[0],)
    assert (done.issued, done.late) == (0, 3)
    assert state(client, batch) == "iiii"
    assert (
        Probe(client).record(ids(batch)[0])["earned_badge_id"],
        Probe(client).record(ids(batch)[0])["second_earned"],
    ) == ("E1", "E2")
    assert progress(client).states() == [0, 0, 0, 4, 0, 0]
    assert queue.claim(ORG, new_id()) == Wait("idle", -1)
    assert stats(client)["issued_twice"] == 1


def test_late_while_the_second_call_disappears_it_is_issued(queue: Queue, client: redis.Redis) -> None:
    """A second lease that runs out doesn't put in doubt what the first call is known to have issued."""
    batch = claim(queue, 1)
    lose(queue, client, batch)
    replay(queue, *ids(batch))
    second = claimed(queue, ORG)
    settle(queue, batch, issued("E1"))
    client.zadd(keys.key("default", "leases"), {second.id: 1})
    queue.claim(ORG, new_id())
    assert state(client, batch) == "i"
    assert progress(client).states() == [0, 0, 0, 1, 0, 0]


def test_late_after_another_job_took_its_place_it_is_not_queued(queue: Queue, client: redis.Redis) -> None:
    """Replayed with a correction: the old one isn't sent beside the new one, whatever its answer says."""
    batch = claim(queue, 3)
    lose(queue, client, batch)
    new = [item(n, badge_id=OTHER_BADGE) for n in range(3)]
    replayed = list(map(Replay, ids(batch), new))
    queue.replay(ORG, run="mended", items=replayed, call="call")
    done = settle(queue, batch, BACK, LATER, issued("E1"))
    assert (done.issued, done.late) == (1, 2)
    assert state(client, batch) == "ddi"
    assert Probe(client).queued() == [it.id for it in new]


def test_late_after_a_person_discarded_it_it_is_not_queued(queue: Queue, client: redis.Redis) -> None:
    """Discarded in the meantime: it is sent no more; that it was issued is noted all the same."""
    batch = claim(queue, 3)
    lose(queue, client, batch)
    assert queue.discard(ORG.name, ids(batch), keep_ms=60_000, call="d") == len(ids(batch))
    done = settle(queue, batch, BACK, LATER, issued("E1"))
    assert (done.issued, done.late) == (1, 2)
    assert state(client, batch) == "ddi"
    assert queue.claim(ORG, new_id()) == Wait("idle", -1)


def test_late_after_a_person_called_it_issued_it_gets_its_id(queue: Queue, client: redis.Redis) -> None:
    """The answer that confirms what a person knew before is no alarm."""
    batch = claim(queue, 1)
    lose(queue, client, batch)
    assert queue.resolve(ORG, ids(batch)[:1], call=new_id())
    assert settle(queue, batch, issued("E1", request_id="q_1")).twice == ()
    kept = Probe(client).record(ids(batch)[0])
    assert (kept["state"], kept["earned_badge_id"], kept["request_id"], kept.get("second_earned")) == (
        "i",
        "E1",
        "q_1",
        None,
    )
    assert progress(client).states() == [0, 0, 0, 1, 0, 0]


# -- isolation


def refused(queue: Queue, batch: Batch) -> Settled:
    """Settle a batch as refused as a whole, as the policy decides."""
    verdict = Verdict((Deferred("400", "bad request"),) * len(batch.jobs), Signal.REFUSED, "400", "bad")
    if len(batch.jobs) == 1:
        verdict = Verdict((Rejected("400", "bad request"),), Signal.REFUSED, "400", "bad")
    decided = settlements(batch.jobs, verdict, org=ORG, random=lambda: 0.5)
    return settle(queue, batch, *decided, verdict=verdict)


def test_what_is_refused_as_a_whole_is_split_badge_by_badge(queue: Queue) -> None:
    """However the batch mixed them: one call for each badge, not one for each row."""
    mixed = [item(n, badge_id=BADGE if n % 2 else OTHER_BADGE) for n in range(8)]
    queue.enqueue(ORG, run=RUN, items=mixed, call="call")
    assert refused(queue, claimed(queue, ORG)).queued == 8
    calls = [claimed(queue, ORG), claimed(queue, ORG)]
    badges = [{job.badge.badge_meta_id for job in call.jobs} for call in calls]
    assert sorted(map(len, badges)) == [1, 1]
    assert {ids(call)[0] for call in calls} == {mixed[0].id, mixed[1].id}
    assert [len(call.jobs) for call in calls] == [4, 4]


def test_the_culprit_stands_alone_after_halving(queue: Queue, client: redis.Redis) -> None:
    """Two calls for each halving: the others are issued, the culprit dies of the vendor's own error."""
    org = configured(batch_size=64)
    queue.enqueue(org, run=RUN, items=[item(n) for n in range(64)], call="call")
    culprit, calls = item(37).id, 0
    while isinstance(batch := queue.claim(org, new_id()), Batch):
        calls += 1
        if culprit in ids(batch):
            refused(queue, batch)
        else:
            settle(queue, batch, issued())
    assert progress(client).states() == [0, 0, 0, 63, 1, 0]
    assert (Probe(client).record(culprit)["kind"], Probe(client).record(culprit)["code"]) == (
        "rejected",
        "400",
    )
    assert calls == 1 + 2 * 6


def test_isolation_doesnt_mix_what_was_refused_apart(queue: Queue) -> None:
    """The parts of two batches keep their own tags and widths."""
    queue.enqueue(ORG, run=RUN, items=[item(n) for n in range(20)], call="call")
    first, second = claimed(queue, ORG), claimed(queue, ORG)
    refused(queue, first)
    refused(queue, second)
    parts = [ids(claimed(queue, ORG)) for _ in range(4)]
    assert parts == [ids(first)[:5], ids(first)[5:], ids(second)[:5], ids(second)[5:]]


def test_an_isolated_job_with_a_strange_id_comes_back(queue: Queue) -> None:
    """Any id that a producer may choose survives the way through the list."""
    strange = [Item(f"%s-[a]{n}-%d+", str(n), item(n).fields) for n in range(2)]
    queue.enqueue(ORG, run=RUN, items=strange, call="call")
    batch = claimed(queue, ORG)
    settle(queue, batch, Isolate(0, 1, "400", "bad"))
    assert [ids(claimed(queue, ORG)), ids(claimed(queue, ORG))] == [[strange[0].id], [strange[1].id]]


# -- badges that the vendor doesn't know


def test_a_missing_badge_is_remembered_for_some_minutes(queue: Queue, client: redis.Redis) -> None:
    """After 1054 the badge is known to be missing; a rejection for another reason says nothing of it."""
    missing = keys.key("default", "missing")
    settle(queue, claim(queue, 1), REJECTED)
    assert client.zcard(missing) == 0
    batch = claim(queue, 1, first=1)
    settle(queue, batch, DeadLetter(DeadKind.REJECTED, "1054", "GLOBAL.BADGE_NOT_FOUND"))
    seconds, _ = client.time()
    assert 590_000 < (client.zscore(missing, BADGE) or 0) - seconds * 1000 <= 601_000
    queue.enqueue(ORG, run=RUN, items=[item(2)], call="two")
    assert queue.claim(ORG, new_id()) == Wait("idle", -1)
    assert progress(client).dead == 3
    client.zadd(missing, {BADGE: 1})
    settle(queue, claim(queue, 1, first=3), issued())
    assert client.zcard(missing) == 0


@pytest.mark.parametrize("in_doubt", ["park", "resend"])
def test_doubt_is_settled_as_configured(queue: Queue, client: redis.Redis, in_doubt: str) -> None:
    """Parked it waits for a person; with ``resend`` it is tried again, and that spends an attempt."""
    org = configured(batch_size=10, in_doubt=in_doubt)
    batch = claim(queue, 1, org=org)
    verdict = Verdict((Unknown("timeout", "no whole answer"),), Signal.OK)
    settle(queue, batch, *settlements(batch.jobs, verdict, org=org, random=lambda: 0.5), verdict=verdict)
    assert state(client, batch) == ("d" if in_doubt == "park" else "r")


def test_attempts_are_carried_from_batch_to_batch(queue: Queue) -> None:
    """What the policy decides by is what the record says."""
    batch = claim(queue, 1)
    attempts = []
    for _ in range(3):
        settle(queue, batch, Retry(0, "429", "busy", spends_attempt=True))
        batch = claimed(queue, ORG)
        attempts += [job.attempts for job in batch.jobs]
    assert attempts == [1, 2, 3]
    assert all(isinstance(job, Job) for job in batch.jobs)


@pytest.mark.parametrize("ahead_s", [3600, -3600])
def test_status_goes_by_the_clock_of_redis(queue: Queue, client: redis.Redis, ahead_s: int) -> None:
    """Whatever the clock shows of the machine that somebody looks from."""
    org = configured(batch_size=1, max_in_flight=5, http_timeout_s=30)
    first = claim(queue, 3, org=org)
    claimed(queue, org)
    settle(
        queue, first, LATER, verdict=Verdict((), Signal.THROTTLED, "too often", retry_after_s=50.0), org=org
    )
    with time_machine.travel(timedelta(seconds=ahead_s)):
        (found,) = Survey(client).states({"default": org})
    assert (found.in_flight, found.gate.state) == (1, "closed")
    assert found.oldest_s is not None
    assert found.oldest_s < 30
    with time_machine.travel(timedelta(seconds=ahead_s)):
        queue.note_trouble("default", "claims", "the log")
    noted_ms = int(str(client.hget(keys.key("default", "gate"), "trouble")).partition(" ")[0])
    assert abs(noted_ms - queue.store.org_now_ms("default")) < 60_000
    with_worker = replace(found, standstill=None)
    assert 40 <= (with_worker.seconds_for(1) or 0) <= 60
    assert 3000 <= (with_worker.seconds_for(1, last_ms=found.last_retry_ms) or 0) <= 4000
