"""Discarding many at once: what it leaves to be done for each is done by and by, and nobody can tell."""

from __future__ import annotations

import redis
from hands import claimed, expire_discarded, settle
from support import Probe, badge, configured, item

from worker.domain.actor import Actor, Via
from worker.domain.batch import Item
from worker.domain.identity import content_id
from worker.domain.job import DeadKind
from worker.domain.outcome import Issued
from worker.domain.settlement import DeadLetter
from worker.operate import deadletters
from worker.operate.deadlist import Filter
from worker.operate.operator import Operator
from worker.operate.runs import JobReader
from worker.store import forgets, keys
from worker.store.lookup import look_up
from worker.store.outbox import Outbox
from worker.store.queue import Queue, new_id
from worker.store.record import Seen, badge_fields

ORG = configured(batch_size=1000)


def later(n: int, seconds: int = 0) -> Item:
    """Return the n-th job as another content of the same badge and customer."""
    its = badge(n)._replace(earn_event_date=1_674_299_999 + seconds)
    return Item(content_id("default", its), str(n), badge_fields(its))


def cancel(queue: Queue, *items: Item) -> None:
    """Bring jobs in, and cancel them."""
    assert queue.enqueue(ORG, run="r", items=items, call=new_id()) == ["a"] * len(items)
    assert queue.cancel("default", [it.id for it in items], call=new_id()) == len(items)


def discard(queue: Queue) -> int:
    """Discard whole groups."""
    reports = JobReader(client=queue.client, orgs={"default": ORG})
    somebody = Operator(queue, reports, {"default": ORG}, Actor(Via.USER, "me"), "")
    kinds = (DeadKind.CANCELLED, DeadKind.REJECTED, DeadKind.EXHAUSTED)
    return sum(deadletters.discard_all(somebody, Filter(kind=kind)) for kind in kinds)


def expires(client: redis.Redis, it: Item) -> bool:
    """Say whether a job's record, which is there, is to expire."""
    left = client.pttl(keys.key("default", "job", it.id))
    assert left != -2
    return left > 0


def remembered(client: redis.Redis) -> int:
    """Return how many jobs are remembered."""
    return int(client.get(keys.key("default", "remembered")) or 0)


def test_what_was_discarded_can_come_again_with_other_dates_at_once(queue: Queue) -> None:
    """As new, not as a repeat of what was withdrawn: once a wrong file is discarded the right one comes."""
    cancel(queue, item(1), item(2), item(3))
    assert queue.enqueue(ORG, run="s", items=[later(1)], call=new_id(), repeats="hold") == ["h"]
    queue.discard("default", [later(1).id], keep_ms=9999, call=new_id())
    assert discard(queue) == 3
    seen, _ = look_up(queue.store, "default", [later(2).id, item(2).id])
    assert seen == [Seen.NEW, Seen.KNOWN]
    assert queue.enqueue(ORG, run="t", items=[later(2)], call=new_id(), repeats="hold") == ["a"]
    expire_discarded(queue)
    assert queue.enqueue(ORG, run="t", items=[later(3)], call=new_id(), repeats="hold") == ["a"]
    assert queue.enqueue(ORG, run="t", items=[item(3)], call=new_id()) == ["d"]
    queue.client.delete(keys.key("default", "job", item(3).id))
    assert queue.enqueue(ORG, run="t", items=[item(3)], call=new_id()) == ["a"]


def test_a_repeat_is_held_however_many_were_discarded(queue: Queue) -> None:
    """What was issued of a badge and customer is found among hundreds that are to be forgotten."""
    its = [later(1, n) for n in range(230)]
    for issued in (its[0], its[117], its[229]):  # wherever it lies
        queue.enqueue(ORG, run="i", items=[issued], call=new_id())
        settle(queue, ORG, claimed(queue, ORG), Issued("E1"))
        cancel(queue, *[it for it in its if it != issued])
        assert discard(queue) == 229
        seen, _ = look_up(queue.store, "default", [later(1, 900).id, issued.id, its[5].id])
        assert seen == [Seen.SIMILAR, Seen.KNOWN, Seen.KNOWN]
        again = [later(1, n) for n in (900, 901)]
        assert queue.enqueue(ORG, run="s", items=again, call=new_id(), repeats="hold") == ["h", "h"]
        forgets.forget_jobs(queue, "default", [it.id for it in [*its, *again]], action="")
    cancel(queue, *its)
    assert discard(queue) == 230
    assert queue.enqueue(ORG, run="s", items=again, call=new_id(), repeats="hold") == ["a", "h"]
    own = later(2, 900)._replace(id="mine", fingerprint=later(2, 900).id)
    cancel(queue, item(2))
    assert discard(queue) == 1
    both = [later(2, 1), own, later(2, 2)]
    assert queue.enqueue(ORG, run="s", items=both, call=new_id(), repeats="hold") == ["a", "a", "h"]


def test_what_may_have_been_issued_stays_remembered(queue: Queue, client: redis.Redis) -> None:
    """However it became a letter that can be discarded by groups; its record expires as the others do."""
    queue.enqueue(ORG, run="r", items=[item(1), item(2)], call=new_id())
    doubt = DeadLetter(DeadKind.IN_DOUBT, "timeout", "no answer")
    settle(queue, ORG, claimed(queue, ORG), doubt, DeadLetter(DeadKind.REJECTED, "812", "no good"))
    Probe(client).change(item(2).id, was_in_doubt="1")
    assert discard(queue) == 1
    expire_discarded(queue)
    assert (expires(client, item(1)), expires(client, item(2))) == (False, True)
    assert remembered(client) == 2
    client.delete(keys.key("default", "job", item(2).id))
    assert queue.enqueue(ORG, run="s", items=[item(2)], call=new_id()) == ["m"]


def test_what_came_again_since_is_left_alone(queue: Queue, client: redis.Redis) -> None:
    """Forgotten and brought in again, before it was seen to: it is listed, or issued."""
    its = [item(n) for n in range(4)]
    cancel(queue, *its)
    assert discard(queue) == 4
    forgets.forget_jobs(queue, "default", [it.id for it in its], action="")
    assert remembered(client) == 0
    assert queue.enqueue(ORG, run="s", items=its, call=new_id()) == ["a"] * 4
    assert queue.cancel("default", [its[1].id], call=new_id()) == 1
    batch = claimed(queue, ORG)
    settle(queue, ORG, batch, *[Issued(f"E{n}") for n in range(3)])
    queue.enqueue(ORG, run="s", items=[item(9)], call=new_id())
    before = {it.id: Probe(client).record(it.id) for it in its}
    assert expire_discarded(queue) == 4
    assert {it.id: Probe(client).record(it.id) for it in its} == before
    assert not expires(client, its[1])
    assert remembered(client) == 5


def test_its_reader_decides_when_a_record_expires(queue: Queue, client: redis.Redis) -> None:
    """Where somebody reads what has ended, it is his word; what was discarded is forgotten all the same."""
    outbox = Outbox(queue, ORG)
    outbox.open("ledger")
    cancel(queue, item(1))
    assert discard(queue) == 1
    assert queue.discarded() == {}
    assert not expires(client, item(1))
    assert remembered(client) == 0
    ended = outbox.read()
    assert [it.how for it in ended] == ["dead", "discarded"]
    assert outbox.acknowledge(ended)
    assert expires(client, item(1))


def test_there_is_a_little_to_do_in_each_step(queue: Queue, client: redis.Redis) -> None:
    """Of thousands some are seen to at a time, so that nothing has to wait for them."""
    its = [item(n) for n in range(2600)]
    for first in range(0, len(its), 1000):
        cancel(queue, *its[first : first + 1000])
    assert discard(queue) == 2600
    assert (remembered(client), queue.discarded()) == (2600, {"default": 11})
    assert queue.expire_discarded("default") == 250
    assert remembered(client) == 2350
    assert expire_discarded(queue) == 2350
    assert remembered(client) == 0
    assert all(expires(client, it) for it in its)
    assert not client.exists(keys.key("default", "discarded"))
