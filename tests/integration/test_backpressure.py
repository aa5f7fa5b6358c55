"""The promise that producers wait, or are refused, before Redis falls over; nothing is lost by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread

import pytest
import redis
from hands import claimed
from support import LONG, Probe, configured, issue, item, wait_for

from worker import BadgeQueue
from worker.config import Settings
from worker.domain.batch import Item, Sent
from worker.domain.org import Org
from worker.domain.outcome import Signal, Verdict
from worker.domain.settlement import Isolate, Retry
from worker.enqueue import Enqueued, EnqueueOptions, accept, sources, total
from worker.errors import NoRoom
from worker.server.connection import Connection
from worker.store import keys
from worker.store.queue import Queue
from worker.store.record import Answer

MOST = 1000
ORG = configured(max_queued=MOST, batch_size=100)
"""An org in whose queue there is room for no more than one chunk."""


def invalid(n: int) -> Item:
    """Return a row that could not be read."""
    return Item(
        f"invalid-{n}",
        str(n),
        {"code": "customerId", "message": "is missing", "raw_item": "{}"},
        kind="invalid",
    )


def enqueue(queue: Queue, first: int, past: int, *, org: Org = ORG, urgent: bool = False) -> list[Answer]:
    """Enqueue jobs by their numbers; the call is named after them."""
    items = [item(n) for n in range(first, past)]
    return queue.enqueue(org, run=f"r{first}", items=items, call=f"{first}-{past}", urgent=urgent)


@contextmanager
def memory(client: redis.Redis, most: str) -> Iterator[None]:
    """Give the server no more memory than that."""
    client.config_set("maxmemory", most)
    try:
        yield
    finally:
        client.config_set("maxmemory", "0")


def test_a_full_queue_takes_nothing_of_a_call_and_says_why(queue: Queue, client: redis.Redis) -> None:
    """Not a record, not a run, not a count is left of what was refused, not even of a part that had room."""
    enqueue(queue, 0, MOST - 3)
    before = sorted(map(str, client.scan_iter()))
    with pytest.raises(NoRoom, match=r"queue of org default is full: 997 jobs wait .* MAX_QUEUED is 1,000"):
        enqueue(queue, MOST, MOST + 4)
    assert sorted(map(str, client.scan_iter())) == before
    assert enqueue(queue, MOST, MOST + 3) == list("aaa")
    assert len(Probe(client).queued()) == MOST


def test_the_same_call_is_accepted_once_there_is_room(queue: Queue, client: redis.Redis) -> None:
    """A refusal is not what a repeated call is answered with; once accepted, its answer stays the same."""
    enqueue(queue, 0, MOST)
    for _ in range(2):
        with pytest.raises(NoRoom):
            enqueue(queue, MOST, MOST + 100)
    claimed(queue, ORG)
    assert enqueue(queue, MOST, MOST + 100) == list("a" * 100)
    assert enqueue(queue, MOST, MOST + 100) == list("a" * 100)
    assert len(Probe(client).queued()) == MOST


def test_what_is_known_or_invalid_needs_no_room(queue: Queue) -> None:
    """A file that was imported before passes through a full queue, and so do rows that are never queued."""
    enqueue(queue, 0, MOST)
    again = [*(item(n) for n in range(MOST - 1)), invalid(1)]
    assert queue.enqueue(ORG, run="again", items=again, call="again") == list("d" * (MOST - 1) + "i")
    with pytest.raises(NoRoom):
        queue.enqueue(ORG, run="again", items=[*again[1:], item(MOST)], call="one is new")


def test_what_is_only_remembered_needs_no_room(queue: Queue, client: redis.Redis) -> None:
    """Of its content, or by an id of the producer's own: what became of it has expired."""
    own = item(1)._replace(id="own-1", fingerprint=item(1).id)
    queue.enqueue(ORG, run="first", items=[item(2), own], call="first")
    claimed(queue, ORG)
    client.delete(*(keys.key("default", "job", it.id) for it in (item(2), own)))
    enqueue(queue, 10, 10 + MOST)
    assert queue.enqueue(ORG, run="again", items=[item(2), own], call="again") == list("mm")


def test_a_bound_that_was_lowered_lets_known_jobs_pass(queue: Queue) -> None:
    """More may wait than is allowed by now; what is known is a duplicate all the same."""
    wide = configured(max_queued=2 * MOST)
    enqueue(queue, 0, MOST, org=wide)
    enqueue(queue, MOST, MOST + 500, org=wide)
    assert queue.enqueue(ORG, run="again", items=[item(0), invalid(1)], call="again") == list("di")
    with pytest.raises(NoRoom, match="1,500 jobs wait"):
        enqueue(queue, 2 * MOST, 2 * MOST + 1)


@pytest.mark.parametrize("place", ["urgent", "retry", "isolate"])
def test_every_place_where_jobs_wait_counts(queue: Queue, place: str) -> None:
    """Urgent ones, those that wait to be tried again, and what is left of a refused batch."""
    enqueue(queue, 0, 100, urgent=place == "urgent")
    if place != "urgent":
        batch = claimed(queue, ORG)
        again = (
            Retry(600, "503", "busy", spends_attempt=True) if place == "retry" else Isolate(0, 1, "400", "")
        )
        verdict = Verdict((), Signal.OK, "", "")
        queue.settle(ORG, batch, [again] * 100, verdict=verdict, sent=Sent("200", 1))
    enqueue(queue, 100, MOST)
    with pytest.raises(NoRoom, match="1,000 jobs wait"):
        enqueue(queue, MOST, MOST + 1)


def test_each_org_has_a_bound_of_its_own(queue: Queue) -> None:
    """One org's full queue holds no other org up."""
    enqueue(queue, 0, MOST)
    assert enqueue(queue, 0, MOST, org=configured(name="other", max_queued=MOST)) == list("a" * MOST)


# -- those who hand in more than one call takes


def take(queue: Queue, count: int, on_wait: Callable[[str], None] | None = None) -> Iterator[Enqueued]:
    """Hand in badges, all in one; where there is no room, wait for it if anybody hears why."""
    options = EnqueueOptions("r", "c", wait=True, on_wait=on_wait) if on_wait else EnqueueOptions("r", "c")
    return accept(queue, ORG, sources(map(issue, range(count)), "c"), options)


def test_who_waits_goes_on_where_there_is_room(queue: Queue, client: redis.Redis) -> None:
    """Before each pause it is said what is waited for, and in the end everything was accepted once."""
    said: list[str] = []

    def wait(why: str) -> None:
        said.append(why)
        if len(said) == 2:
            claimed(queue, ORG, "one"), claimed(queue, ORG, "two")

    assert [done.accepted for done in take(queue, MOST + 150, on_wait=wait)] == [MOST, 150]
    assert len(said) == 2
    assert "1,000 jobs wait" in said[1]
    assert len(Probe(client).queued()) == MOST - 200 + 150


def test_who_does_not_wait_is_told_what_was_accepted(queue: Queue, client: redis.Redis) -> None:
    """The error counts it; handing in the same again, once there is room, accepts the rest."""
    with pytest.raises(NoRoom, match=r"1,000 were accepted before that; .* again later is safe") as caught:
        list(take(queue, MOST + 50))
    assert caught.value.accepted == MOST
    claimed(queue, ORG)
    assert total("r", take(queue, MOST + 50)).accepted == MOST + 50
    assert len(Probe(client).queued()) == MOST - 100 + 50


def test_a_python_producer_chooses(client: redis.Redis, queue: Queue, connection: Connection) -> None:
    """``BadgeQueue.enqueue`` refuses by default, and waits where that is wanted."""
    settings = Settings(max_queued=MOST, data_dir=Path("/nowhere"))
    producer = BadgeQueue(settings=settings, connection=connection)
    producer.enqueue(map(issue, range(MOST)))
    with pytest.raises(NoRoom):
        producer.enqueue([issue(MOST)])
    done: list[Enqueued] = []
    thread = Thread(target=lambda: done.append(producer.enqueue([issue(MOST)], wait=True)))
    thread.start()
    claimed(queue, ORG)
    wait_for(lambda: done, what="accepted once there is room")
    thread.join()
    assert done[0].accepted == 1
    assert len(Probe(client).queued()) == MOST - 100 + 1


# -- a Redis that is full itself


def test_a_full_redis_is_waited_for_alike(queue: Queue, client: redis.Redis) -> None:
    """Producers wait, or are refused, with what to do about it; nothing is half accepted."""
    said: list[str] = []
    with ExitStack() as full:
        full.enter_context(memory(client, "1"))

        def wait(why: str) -> None:
            said.append(why)
            with pytest.raises(NoRoom, match="maxmemory") as caught:
                list(take(queue, 1))
            assert caught.value.accepted == 0
            assert not client.keys("{badges:default}*")
            full.close()

        assert [done.accepted for done in take(queue, MOST, on_wait=wait)] == [MOST]
    assert "Redis is full (maxmemory): give it more" in said[0]
    assert len(Probe(client).queued()) == MOST


@LONG
def test_a_redis_that_fills_up_half_way(queue: Queue, client: redis.Redis) -> None:
    """What was accepted before it was full is in the queue, whole; handing in all again adds the rest."""
    wait_for(lambda: client.info("memory")["lazyfree_pending_objects"] == 0)  # of the test before
    used = int(client.info("memory")["used_memory"])
    with memory(client, str(used + 2_000_000)), pytest.raises(NoRoom, match="maxmemory") as caught:
        total(
            "r",
            accept(queue, configured(), sources(map(issue, range(50_000)), "c"), EnqueueOptions("r", "c")),
        )
    accepted = caught.value.accepted
    assert 0 < accepted < 50_000
    assert accepted == len(Probe(client).queued()) == len(client.keys(keys.key("default", "job") + "*"))
    done = total(
        "r", accept(queue, configured(), sources(map(issue, range(50_000)), "c"), EnqueueOptions("r", "d"))
    )
    assert done.accepted + done.duplicates == 50_000
    assert len(set(Probe(client).queued())) == len(Probe(client).queued()) == 50_000


def test_items_that_repeat_themselves_never_wait_for_ever(queue: Queue) -> None:
    """A chunk of one badge a thousand times fits into an empty queue, whatever it is counted as."""
    same = [Item(item(1).id, str(n), item(1).fields) for n in range(MOST)]
    assert queue.enqueue(ORG, run="r", items=same, call="c") == list("a" + "d" * (MOST - 1))
