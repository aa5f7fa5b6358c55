"""The promises of accepting jobs: each once, whoever asks, however often."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from threading import Barrier

import pytest
import redis
from support import Probe, badge, configured, item

from worker.domain.batch import Item, Replay
from worker.domain.identity import content_id
from worker.errors import StoreError
from worker.operate.progress import RunProgress
from worker.operate.runs import JobReader
from worker.server.connection import Connection
from worker.store import keys
from worker.store.queue import CHUNK, Queue
from worker.store.record import Answer, badge_fields

ORG = configured()
RUN = "spring"


def enqueue(queue: Queue, *items: Item, run: str = RUN, call: str = "call") -> list[Answer]:
    """Enqueue and return the answers."""
    return queue.enqueue(ORG, run=run, items=items, call=call)


def progress(client: redis.Redis, run: str = RUN) -> RunProgress:
    """Read a run."""
    return JobReader(client=client, orgs={}).run(run)


def owned(job_id: str, n: int, *, row: str = "") -> Item:
    """Return a job with its producer's own id."""
    it = badge(n)
    return Item(job_id, row or str(n), badge_fields(it), fingerprint=content_id("default", it))


def invalid(n: int) -> Item:
    """Return a row that could not be read."""
    return Item(
        f"invalid-{n}",
        str(n),
        {"code": "customerId", "message": "is missing", "raw_item": "{}"},
        kind="invalid",
    )


def test_a_new_job_is_a_record_a_place_in_the_queue_and_a_count(queue: Queue, client: redis.Redis) -> None:
    """What is accepted is there: its record says what was given, and its run counts it."""
    new = item(7)
    assert enqueue(queue, new) == list("a")
    record = Probe(client).record(new.id)
    expected = {"version": "2", "job_kind": "i", "state": "q", "run": RUN, "row": "7"}
    assert record == new.fields | expected | {"enqueued_at": record["enqueued_at"]}
    assert Probe(client).queued() == [new.id]
    assert client.lrange(keys.key("default", "jobs", RUN), 0, -1) == [new.id]
    assert client.smembers(keys.ORGS) == {"default"}
    run = progress(client)
    assert (run.total, run.states(), run.finished_at) == (1, [1, 0, 0, 0, 0, 0], None)
    assert run.started_at is not None


def test_the_order_of_the_queue_is_the_order_of_acceptance(queue: Queue, client: redis.Redis) -> None:
    """First come, first served, over calls and within them."""
    enqueue(queue, item(3), item(1), call="one")
    enqueue(queue, item(2), call="two")
    assert Probe(client).queued() == [item(n).id for n in (3, 1, 2)]


def test_what_is_known_is_a_duplicate_and_is_never_queued_again(queue: Queue, client: redis.Redis) -> None:
    """An id that is known is reported and counted in the run that brought it again, and that is all."""
    enqueue(queue, item(1))
    assert enqueue(queue, item(1), item(2), run="again", call="other") == list("da")
    assert Probe(client).queued() == [item(1).id, item(2).id]
    run = progress(client, "again")
    assert (run.total, run.duplicates, run.queued) == (1, 1, 1)
    assert progress(client).total == 1


def test_the_same_badge_twice_in_one_call_is_one_job(queue: Queue, client: redis.Redis) -> None:
    """Two rows with the same content are one badge: the second is a duplicate."""
    twice = Item(item(1).id, "2", item(1).fields)
    assert enqueue(queue, item(1), twice) == list("ad")
    assert Probe(client).queued() == [item(1).id]


def test_the_duplicate_of_a_dead_letter_says_so(queue: Queue, client: redis.Redis) -> None:
    """What died is not revived by importing it again; what helps depends on how it died and what was done."""
    kinds = ("rejected", "in_doubt", "invalid", "rejected", "rejected")
    dead = [Item(f"dead-{n}", str(n), badge_fields(badge(n)), kind=kind) for n, kind in enumerate(kinds)]
    enqueue(queue, *dead, run="before", call="before")
    queue.replay(
        ORG, run="mended", items=[Replay("dead-3", Item("new", "3", badge_fields(badge(9))))], call="mended"
    )
    queue.discard("default", ["dead-4"], keep_ms=60_000, call="discarded")
    assert enqueue(queue, *(Item(it.id, "9", it.fields) for it in dead)) == list("DQDRd")
    assert Probe(client).queued() == ["new"]


def test_one_producer_id_for_two_badges_is_a_conflict(queue: Queue, client: redis.Redis) -> None:
    """The same id with the same content is a duplicate, with other content a conflict: the first stays."""
    assert enqueue(queue, owned("mine", 1)) == list("a")
    assert enqueue(queue, owned("mine", 1, row="5"), call="same") == list("d")
    assert enqueue(queue, owned("mine", 2, row="6"), call="other") == list("c")
    assert enqueue(queue, owned("mine", 2, row="1"), call="same row") == list("c")
    assert Probe(client).record("mine").get("customer") == str(badge(1).customer_id)


def test_an_invalid_row_is_a_dead_letter_at_once(queue: Queue, client: redis.Redis) -> None:
    """It is counted in total, in invalid and in dead, stands in the index, and stops nobody else."""
    assert enqueue(queue, invalid(1), item(2)) == list("ia")
    assert Probe(client).queued() == [item(2).id]
    assert Probe(client).listed("invalid") == ["invalid-1"]
    run = progress(client)
    assert (run.total, run.invalid, run.dead, run.queued) == (2, 1, 1, 1)
    assert run.dead_kinds == {"invalid": 1}
    assert Probe(client).record("invalid-1").get("finished_at") is not None


def test_a_run_of_invalid_rows_alone_is_finished(queue: Queue, client: redis.Redis) -> None:
    """A run in which nothing waits is over; one more job opens it again."""
    enqueue(queue, invalid(1))
    assert progress(client).finished_at is not None
    enqueue(queue, item(2), call="other")
    assert progress(client).finished_at is None


def test_the_same_call_gets_the_same_answer(queue: Queue, client: redis.Redis) -> None:
    """A call whose reply was lost is answered as it was, whatever happened since, and counts nothing."""
    items = (item(1), Item(item(1).id, "9", item(1).fields), invalid(2))
    first = enqueue(queue, *items)
    Probe(client).change(item(1).id, state="i")
    before = progress(client)
    assert enqueue(queue, *items) == first == list("adi")
    assert progress(client) == before


def test_the_same_row_of_the_same_run_is_the_same_acceptance(queue: Queue, client: redis.Redis) -> None:
    """A file imported again after a crash half-way is accepted as a whole, and counted once."""
    enqueue(queue, item(1), invalid(2), owned("mine", 3), call="crashed")
    answers = enqueue(queue, item(1), invalid(2), owned("mine", 3), item(4), call="again")
    assert answers == list("AiAa")
    assert Probe(client).queued() == [item(1).id, "mine", item(4).id]
    run = progress(client)
    assert (run.total, run.invalid, run.duplicates, run.queued) == (4, 1, 0, 3)


def test_producers_that_race_make_each_job_once(connection: Connection, client: redis.Redis) -> None:
    """Six producers with the same items at once: each job is accepted by exactly one of them."""
    items = [item(n) for n in range(200)]
    together = Barrier(6)

    def produce(n: int) -> list[list[Answer]]:
        with connection.client() as own:
            queue = Queue(own)
            together.wait()
            return [
                enqueue(queue, *items[at : at + 20], run=f"run-{n}", call=f"{n}.{at}")
                for at in range(0, 200, 20)
            ]

    with ThreadPoolExecutor(6) as pool:
        answers = [list(chain(*chunks)) for chunks in pool.map(produce, range(6))]
    by_item = [Counter(letters) for letters in zip(*answers, strict=True)]
    assert by_item == [Counter(a=1, d=5)] * 200
    assert sorted(Probe(client).queued()) == sorted(it.id for it in items)
    runs = [progress(client, f"run-{n}") for n in range(6)]
    assert sum(run.total for run in runs) == sum(run.queued for run in runs) == 200
    assert sum(run.duplicates for run in runs) == 1000


def test_a_whole_chunk_is_one_call(queue: Queue, client: redis.Redis) -> None:
    """A thousand jobs are accepted in one script."""
    assert enqueue(queue, *(item(n) for n in range(CHUNK))) == list("a" * CHUNK)
    assert client.llen(keys.key("default", "queue")) == CHUNK
    assert progress(client).states() == [CHUNK, 0, 0, 0, 0, 0]


def test_a_record_stays_compact(queue: Queue, client: redis.Redis) -> None:
    """A queued job's record takes less than 200 bytes of Redis, so that a million of them fit anywhere."""
    enqueue(queue, item(1))
    assert (client.memory_usage(keys.key("default", "job", item(1).id)) or 0) < 200


@pytest.mark.parametrize(("waiting", "linger_s", "expected_ms"), [(1, 30, 30_000), (5, 30, 0), (9, 30, 0)])
def test_the_org_is_looked_at_when_its_batch_is_ripe(
    queue: Queue, client: redis.Redis, waiting: int, linger_s: int, expected_ms: int
) -> None:
    """A full batch is due at once, a part of one after the linger time; the hint says so."""
    org = configured(batch_size=5, batch_linger_s=linger_s)
    queue.enqueue(org, run=RUN, items=[item(n) for n in range(waiting)], call="call")
    seconds, micros = client.time()
    hint_ms = client.zscore(keys.WAKE, "default")
    assert hint_ms is not None
    assert -2000 < hint_ms - (seconds * 1000 + micros // 1000) - expected_ms <= 0


def test_duplicates_alone_wake_nobody(queue: Queue, client: redis.Redis) -> None:
    """Where nothing was queued there is nothing to look at."""
    enqueue(queue, item(1))
    client.delete(keys.WAKE, keys.BELL)
    assert enqueue(queue, item(1), invalid(2), run="again", call="again") == list("di")
    assert client.zcard(keys.WAKE) == client.llen(keys.BELL) == 0


def test_a_full_server_refuses_as_a_whole(queue: Queue, client: redis.Redis) -> None:
    """Where there is no memory left nothing is half accepted, and the error says what to do."""
    enqueue(queue, item(0))
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreError, match="maxmemory"):
            enqueue(queue, item(1), item(2), call="full")
    finally:
        client.config_set("maxmemory", "0")
    assert Probe(client).queued() == [item(0).id]
    assert enqueue(queue, item(1), item(2), call="full") == list("aa")
