"""Cancelling a run: what waits becomes a dead letter, what is being sent is settled."""

from __future__ import annotations

from itertools import count, islice

import pytest
import redis
from hands import claimed, settle
from support import Probe, configured, item

from worker.domain.batch import Batch, Item, Replay, Wait
from worker.domain.item import Source
from worker.domain.job import DeadKind
from worker.domain.outcome import Issued
from worker.domain.settlement import DeadLetter, Retry
from worker.enqueue import EnqueueOptions, accept, sources, total
from worker.errors import NoRoom
from worker.operate.cancelling import cancel, cancel_run
from worker.operate.deadlist import Filter
from worker.operate.importing import import_rows
from worker.operate.operator import Operator, this_user
from worker.operate.replaying import replay_all
from worker.operate.runs import JobReader
from worker.store import audit, keys
from worker.store.queue import Queue, new_id
from worker.store.readings import readings

ORG = configured(batch_size=2)


def operator_of(queue: Queue, client: redis.Redis) -> Operator:
    """Return one who acts on this store."""
    return Operator(queue, JobReader(client=client, orgs={"default": ORG}), {"default": ORG}, this_user())


def test_what_waits_is_cancelled_and_what_is_sent_is_settled(queue: Queue, client: redis.Redis) -> None:
    """Queued and retrying jobs die as cancelled and are never sent; a batch in flight ends as usual."""
    queue.enqueue(ORG, run="r", items=[item(n) for n in range(7)], call="c")
    first = claimed(queue, ORG)
    later = [Retry(60, "503", "later", spends_attempt=True)] * 2
    settle(queue, ORG, first, *later)
    sent = claimed(queue, ORG)
    reports = JobReader(client=client, orgs={"default": ORG})

    seen: list[int] = []
    assert cancel(queue, "default", reports.ids("default", "r"), action="", on_progress=seen.append) == 5
    assert seen == [7]
    assert isinstance(queue.claim(ORG, new_id()), Wait)
    settled = settle(queue, ORG, sent, Issued("E"))
    assert settled.issued == 2
    run = reports.run("r")
    assert (run.issued, run.dead, run.open, run.dead_kinds) == (2, 5, 0, {"cancelled": 5})
    assert len(Probe(client).listed(DeadKind.CANCELLED)) == 5
    assert client.zcard(keys.key("default", "retry")) == 0


def test_what_was_cancelled_counts_as_queued_no_more(queue: Queue, client: redis.Redis) -> None:
    """Of a paused org as well, where nobody takes anything out: its first run, and its last."""
    queue.pause("default", why="operator", reason="a wrong file")
    numbers = count()
    for run, jobs in (("first", [1000, 1000, 980]), ("kept", [20]), ("last", [1000, 1000, 980])):
        for chunk in jobs:
            items = [item(next(numbers)) for _ in range(chunk)]
            queue.enqueue(ORG, run=run, items=items, call=new_id())
    reports = JobReader(client=client, orgs={"default": ORG})
    for run, left in (("first", 3000), ("last", 20)):
        cancel(queue, "default", reports.ids("default", run), action="", on_progress=lambda _: None)
        assert client.llen(keys.key("default", "queue")) == left


def test_what_was_cancelled_between_others_is_counted_nowhere(queue: Queue, client: redis.Redis) -> None:
    """Its ids lie in the lane yet: neither does it take room, nor is it shown as waiting."""
    for run, first, number in (("a", 0, 1), ("b", 1, 1000), ("c", 1600, 2)):
        items = [item(n) for n in range(first, first + number)]
        queue.enqueue(ORG, run=run, items=items, call=new_id())
    operator = operator_of(queue, client)
    for _ in range(3):
        assert cancel_run(operator, "default", "b", action="", on_progress=lambda _: None) == 1000
        replay_all(operator, Filter(kind=DeadKind.CANCELLED))
    cancel_run(operator, "default", "b", action="", on_progress=lambda _: None)
    assert client.llen(keys.key("default", "queue")) > 1000
    now_ms = {"default": queue.store.org_now_ms("default")}
    assert readings(queue.store, {"default": ORG}, now_ms)["default"].queued == 3
    little = configured(batch_size=2, max_queued=1000)
    queue.enqueue(little, run="d", items=[item(n) for n in range(2000, 2997)], call=new_id())
    with pytest.raises(NoRoom, match="1,000 jobs wait in it"):
        queue.enqueue(little, run="d", items=[item(3000)], call=new_id())
    client.delete(keys.key("default", "queued"))  # as a store of before has none: by the lanes at first
    queue.enqueue(ORG, run="e", items=[item(4000)], call=new_id())
    assert readings(queue.store, {"default": ORG}, now_ms)["default"].queued > 1000


def test_a_wrong_number_is_set_right_once_nothing_waits(queue: Queue, client: redis.Redis) -> None:
    """As an older program leaves it that runs beside this one, and counts nothing."""
    key = keys.key("default", "queued")
    queue.enqueue(ORG, run="r", items=[item(1)], call="c")
    client.set(key, 7)
    settle(queue, ORG, claimed(queue, ORG), Issued("E"))
    assert client.get(key) == "6"
    assert isinstance(queue.claim(ORG, new_id()), Wait)
    assert client.get(key) == "0"


def test_one_letter_takes_what_is_being_sent_nowhere(queue: Queue, client: redis.Redis) -> None:
    """Of a cancelled run: were it replayed before that has ended, all of it would be tried again."""
    operator = operator_of(queue, client)
    queue.enqueue(ORG, run="r", items=[item(n) for n in range(6)], call="c")
    sent = claimed(queue, ORG)
    assert cancel_run(operator, "default", "r", action="", on_progress=lambda _: None) == 4
    of_r = Filter(run="r", kind=DeadKind.CANCELLED)
    assert replay_all(operator, of_r, limit=1).replayed == 0
    assert replay_all(operator, Filter(job=Probe(client).listed(DeadKind.CANCELLED)[0])).replayed == 0
    assert replay_all(operator, of_r, dry_run=True).replayed == 0
    settle(queue, ORG, sent, *[Retry(60, "521", "busy", spends_attempt=True)] * 2)
    assert len(Probe(client).listed(DeadKind.CANCELLED)) == 6
    assert replay_all(operator, of_r, limit=1).replayed == 1


def test_what_an_earlier_call_may_have_issued_is_in_doubt_when_it_is_cancelled(
    queue: Queue, client: redis.Redis
) -> None:
    """Nobody may say that it was certainly not sent, nor send it again unasked: replayed, or tried again."""
    operator = operator_of(queue, client)
    queue.enqueue(ORG, run="r", items=[item(n) for n in range(4)], call="c")
    for decided in (DeadLetter(DeadKind.IN_DOUBT, "500", "?"), Retry(60, "500", "?", True, in_doubt=True)):
        settle(queue, ORG, claimed(queue, ORG), *[decided] * 2)
    replay_all(operator, Filter(kind=DeadKind.IN_DOUBT), may_issue_twice=True)
    queue.enqueue(ORG, run="r", items=[item(9)], call="d")
    assert cancel_run(operator, "default", "r", action="", on_progress=lambda _: None) == 1
    assert len(Probe(client).listed(DeadKind.IN_DOUBT)) == 4
    assert replay_all(operator, Filter()).replayed == 1
    record = Probe(client).record(Probe(client).listed(DeadKind.IN_DOUBT)[0])
    assert record["message"].startswith("an earlier call may have issued it")


def test_what_was_cancelled_can_be_replayed(queue: Queue, client: redis.Redis) -> None:
    """It goes back into the queue under its own id, and is sent once."""
    queue.enqueue(ORG, run="r", items=[item(0), item(1)], call="c")
    reports = JobReader(client=client, orgs={"default": ORG})
    cancel(queue, "default", reports.ids("default", "r"), action="", on_progress=lambda _: None)
    queue.replay(ORG, run="", items=[Replay(item(0).id), Replay(item(1).id)], call="again")
    batch = claimed(queue, ORG)
    assert {job.id for job in batch.jobs} == {item(0).id, item(1).id}
    assert isinstance(queue.claim(ORG, new_id()), Wait)


def test_of_a_cancelled_run_nothing_is_sent_wherever_the_cancelling_broke_off(
    queue: Queue, client: redis.Redis
) -> None:
    """The first call marks the run: from then on claim makes dead letters of what it pops of it."""
    for at in range(0, 3000, 1000):
        queue.enqueue(ORG, run="r", items=[item(n) for n in range(at, at + 1000)], call=new_id())
    queue.enqueue(ORG, run="other", items=[item(9000)], call=new_id())
    reports = JobReader(client=client, orgs={"default": ORG})
    audit.begin(queue, "default", "cancel-1", by="me")
    assert queue.cancel_run("default", "r", 2000, call=new_id(), action="cancel-1") == 1000
    while not isinstance(batch := queue.claim(ORG, new_id()), Batch):
        pass
    assert [job.id for job in batch.jobs] == [item(9000).id]
    run = reports.run("r")
    assert (run.dead, run.open, run.dead_kinds) == (3000, 0, {"cancelled": 3000})
    assert len(Probe(client).listed(DeadKind.CANCELLED)) == 3000
    assert [entry.count for entry in audit.entries(client, "default")] == [3000], "it counts those as well"


def test_what_comes_to_a_cancelled_run_is_told_to_be_cancelled(queue: Queue, client: redis.Redis) -> None:
    """It is accepted, and dead at once: whoever hands it in hears that, and how it is sent all the same."""
    queue.enqueue(ORG, run="r", items=[item(0)], call="c")
    operator = operator_of(queue, client)
    assert cancel_run(operator, "default", "r", action="", on_progress=lambda _: None) == 1
    issues = [{"badgeMetaId": "696f0fd40772ad476ecf74ac", "customerId": n} for n in (1, 2)]
    done = total("r", accept(queue, ORG, sources(issues, "more"), EnqueueOptions("r", "more")))
    assert (done.accepted, done.repeated, done.duplicates) == (2, 0, 0)
    assert [note.kind for note in done.noted] == ["dead", "dead"]
    assert "its run is cancelled" in done.noted[0].reason
    assert operator.reports.run("r").dead_kinds == {"cancelled": 3}
    again = total("r", accept(queue, ORG, sources(issues, "more"), EnqueueOptions("r", "again")))
    assert (again.accepted, again.repeated) == (2, 2)


def test_a_report_isnt_taken_into_a_cancelled_run(queue: Queue, client: redis.Redis) -> None:
    """What it mends would be cancelled at once: it is left, and says so."""
    letter = Item("j", "1", {**item(1).fields, "code": "812"}, kind="rejected")
    queue.enqueue(ORG, run="r", items=[letter, item(2)], call="c")
    cancel_run(operator_of(queue, client), "default", "r", action="", on_progress=lambda _: None)
    badge, customer = item(3).fields["badge"], item(3).fields["customer"]
    cells = {"job_id": "j", "state": "dead", "badgeMetaId": badge, "customerId": customer}
    rows = [Source("2", {"org": "default", **cells})]
    done = total("r", import_rows(queue, ORG, rows, EnqueueOptions("r", "m")))
    assert (done.accepted, [note.kind for note in done.noted]) == (0, ["conflict"])
    assert "run r is cancelled" in done.noted[0].reason
    assert total("other", import_rows(queue, ORG, rows, EnqueueOptions("other", "o"))).accepted == 1


def test_one_letter_of_a_run_that_is_half_cancelled_takes_the_rest_of_it_nowhere(
    queue: Queue, client: redis.Redis
) -> None:
    """A cancel that was broken off is ended first: whatever waits yet would go out with what is replayed."""
    for at in range(0, 3000, 1000):
        queue.enqueue(ORG, run="r", items=[item(n) for n in range(at, at + 1000)], call=new_id())
    operator = operator_of(queue, client)
    queue.cancel_run("default", "r", 2000, call=new_id())
    for which in (Filter(kind=DeadKind.CANCELLED), Filter(kind=DeadKind.CANCELLED, run="r")):
        done = replay_all(operator, which, limit=1)
        assert done.replayed == 0
        assert "run r is only half cancelled" in str(done.problem)
    (letter,) = islice(Probe(client).listed(DeadKind.CANCELLED), 1)
    answer = queue.replay(ORG, run="x", items=[Replay(letter)], call=new_id())
    assert answer == {"replayed": 0, "duplicates": 0, "skipped": 1, "undos": 0, "cancelling": "r"}
    assert isinstance(queue.claim(ORG, new_id()), Wait)
    run = operator.reports.run("r")
    assert run.queued
    assert run.held == "it was cancelled; to end what is left of it: badges run cancel r"
    cancel_run(operator, "default", "r", action="", on_progress=lambda _: None)
    assert replay_all(operator, Filter(kind=DeadKind.CANCELLED, run="r"), limit=1).replayed == 1
    assert len(claimed(queue, ORG).jobs) == 1
    assert operator.reports.run("r").dead == 2999
