"""Upgrades: what an older program wrote is read; what only a newer one can read is left alone."""

from __future__ import annotations

import pytest
import redis
from support import Probe, configured, item

from worker.domain.batch import Batch, Item, Replay, Sent, Wait
from worker.domain.job import DeadKind, Job, State
from worker.domain.org import Org
from worker.domain.outcome import Issued, Signal, Verdict
from worker.errors import NewerStore
from worker.operate.runs import JobReader
from worker.store import keys, record
from worker.store.composing import Texts
from worker.store.queue import Queue
from worker.store.scripts import Scripts

ORG = configured(batch_size=10)
OK = Verdict((), Signal.OK, "", "")


def key(job_id: str) -> str:
    """Return where a record is."""
    return keys.key("default", "job", job_id)


def make_newer(client: redis.Redis, job_id: str, **fields: str) -> str | None:
    """Let a newer program have written this record, in a way that we can't read; return it."""
    Probe(client).change(job_id, version=str(record.VERSION + 1), **fields)
    client.hdel(keys.key("default", "sending"), job_id)  # as every script does that changes a record
    return client.get(key(job_id))


def claim(queue: Queue, batch: str = "b", org: Org = ORG) -> list[str]:
    """Claim, and return the ids."""
    found = queue.claim(org, batch)
    return [its.id for its in found.jobs] if isinstance(found, Batch) else []


def settle(queue: Queue, batch: str, ids: list[str]) -> None:
    """Settle a batch as issued."""
    jobs = tuple(Job(job_id, record.badge_of({}), stored=record.split("")) for job_id in ids)
    its = Batch(batch, jobs, 0, more=False, look_at_ms=-1)
    queue.settle(ORG, its, [Issued(f"E{i}") for i in ids], verdict=OK, sent=Sent("200", 1))


def bring_forward(client: redis.Redis, index: str) -> None:
    """Let a minute pass, for what waits in an index."""
    where = keys.key("default", index)
    for member, at_ms in client.zrange(where, 0, -1, withscores=True):
        client.zadd(where, {member: at_ms - 61_000})


@pytest.fixture
def newer(client: redis.Redis) -> Queue:
    """The same queue, as a newer program has it."""
    theirs = str(record.VERSION + 1)
    texts = {name: text.replace("RECORD_VERSION", theirs) for name, text in Texts().items()}
    return Queue(client, scripts=Scripts(texts))


@pytest.mark.parametrize("state", ["q", "§"])
def test_a_newer_record_in_the_queue_is_left_alone(
    queue: Queue, newer: Queue, client: redis.Redis, state: str
) -> None:
    """Whatever it says: the others are sent, it stays as it is, and a newer worker sends it."""
    queue.enqueue(ORG, run="r", items=[item(n) for n in range(3)], call="c")
    left = make_newer(client, item(0).id, state=state)
    assert claim(queue) == [item(1).id, item(2).id]
    assert claim(queue, "nothing") == []
    bring_forward(client, "retry")
    assert claim(queue, "still") == []
    assert client.get(key(item(0).id)) == left

    Probe(client).change(item(0).id, state="q")
    bring_forward(client, "retry")
    assert claim(newer, "new") == [item(0).id]


def test_a_newer_record_alone_is_looked_at_once_a_minute(queue: Queue, client: redis.Redis) -> None:
    """Not at once again, which would keep the workers busy with it; and not never."""
    queue.enqueue(ORG, run="r", items=[item(0)], call="c")
    make_newer(client, item(0).id)
    found = queue.claim(ORG, "b")
    seconds, _ = client.time()
    assert isinstance(found, Wait)
    assert 55_000 < found.look_at_ms - seconds * 1000 < 65_000


def test_a_newer_workers_batch_is_not_given_up(queue: Queue, newer: Queue, client: redis.Redis) -> None:
    """Its lease is left to a newer worker, which makes dead letters of its jobs."""
    queue.enqueue(ORG, run="r", items=[item(0)], call="c")
    make_newer(client, item(0).id)
    assert claim(newer, "lost") == [item(0).id]
    left = client.get(key(item(0).id))
    lease = keys.key("default", "leases")
    client.zadd(lease, {"lost": 1})
    claim(queue)
    assert client.get(key(item(0).id)) == left
    client.zadd(lease, {"lost": 1})
    claim(newer, "b2")
    assert DeadKind.IN_DOUBT in str(client.get(key(item(0).id)))


def test_an_older_program_changes_no_newer_record(queue: Queue, client: redis.Redis) -> None:
    """Nothing that an operator or a late answer can do touches it."""
    doubt = Item("doubt", "1", item(1).fields, kind="in_doubt")
    queue.enqueue(ORG, run="r", items=[item(0), doubt], call="c")
    assert claim(queue) == [item(0).id]
    queue.enqueue(ORG, run="r", items=[item(2)], call="c2")
    left = {each: make_newer(client, each) for each in (item(0).id, "doubt", item(2).id)}

    settle(queue, "b", [item(0).id])
    assert queue.cancel("default", [item(2).id], call="c3") == 0
    assert queue.discard("default", ["doubt"], keep_ms=1000, call="c5") == 0
    assert not queue.resolve(ORG, ["doubt"], call="r")
    assert queue.replay(ORG, run="again", items=[Replay("doubt")], call="c6")["skipped"] == 1
    client.zadd(keys.key("default", "checks"), {"doubt": 1})
    slot = [keys.key_prefix("default")]
    assert not queue.store.call("take_check", slot, [600_000]).get("jobs")
    assert queue.store.call("conclude_check", slot, ["c4", "cleared", "", 600_000, "", "", "doubt"]) == 0
    assert {each: client.get(key(each)) for each in left} == left
    assert client.zscore(keys.key("default", "checks"), "doubt") == 1


def test_what_cannot_be_read_is_shown_as_such(queue: Queue, client: redis.Redis) -> None:
    """The results have a line for it that claims nothing."""
    queue.enqueue(ORG, run="r", items=[item(0), item(1)], call="c")
    make_newer(client, item(0).id, state="§", customer="no number")
    reports = JobReader(client=client, orgs={"default": ORG})
    first, second = reports.results(run="r")
    assert (first["job_id"], first["run"], first["state"]) == (item(0).id, "r", "newer")
    assert first["customerId"] is None
    assert second["state"] == State.QUEUED
    assert reports.job(item(0).id)["state"] == "newer"


def test_what_is_no_record_spoils_nothing_for_the_others(queue: Queue, client: redis.Redis) -> None:
    """Whatever lies in a job's place: it is left alone and shown as unreadable, and all others are sent."""
    queue.enqueue(ORG, run="r", items=[item(n) for n in range(3)], call="c")
    client.set(key(item(0).id), "no record")
    assert claim(queue) == [item(1).id, item(2).id]
    assert client.get(key(item(0).id)) == "no record"
    first, *_ = JobReader(client=client, orgs={"default": ORG}).results(run="r")
    assert (first["job_id"], first["state"]) == (item(0).id, "newer")


def test_structures_of_a_newer_program_are_refused(queue: Queue, client: redis.Redis) -> None:
    """Before anything is written; a program that knows them goes on."""
    client.set(keys.STRUCTURES, record.VERSION + 1)
    with pytest.raises(NewerStore, match="schema 3, and this one knows 2"):
        queue.enqueue(ORG, run="r", items=[item(0)], call="c")
    assert client.keys() == [keys.STRUCTURES]
    client.set(keys.STRUCTURES, record.VERSION)
    assert queue.enqueue(ORG, run="r", items=[item(0)], call="c") == list("a")


def test_what_version_1_left_is_refused_in_one_sentence(queue: Queue, client: redis.Redis) -> None:
    """Its keys have other names: nothing of it is read or changed, and nothing is written beside it."""
    client.sadd(keys.VERSION_1, "default")
    with pytest.raises(NewerStore, match=r"data of version 1 .* give this one another database"):
        queue.enqueue(ORG, run="r", items=[item(0)], call="c")
    assert client.keys() == [keys.VERSION_1]
