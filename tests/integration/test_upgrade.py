"""Upgrades: what an older program wrote is read; what only a newer one can read is left alone."""

from __future__ import annotations

import pytest
import redis
from support import BADGE, configured, item

from worker.domain.batch import Batch, Item, Replay, Sent, Wait
from worker.domain.job import DeadKind, Job, State
from worker.domain.org import Org
from worker.domain.outcome import Issued, Signal, Verdict
from worker.domain.settlement import Complete
from worker.errors import NewerStore
from worker.operate.runs import JobReader
from worker.store import keys, record
from worker.store.queue import Queue

ORG = configured(batch_size=10)
OK = Verdict((), Signal.OK, "", "")


def key(job_id: str) -> str:
    """Return where a record is."""
    return keys.key("default", "job", job_id)


def make_newer(client: redis.Redis, job_id: str, **fields: str) -> dict[str, str]:
    """Let a newer program have written this record, in a way that we can't read; return it."""
    client.hset(key(job_id), mapping={"V": "2", "£": "?", **fields})
    return client.hgetall(key(job_id))


def claim(queue: Queue, batch: str = "b", org: Org = ORG) -> list[str]:
    """Claim, and return the ids."""
    found = queue.claim(org, batch)
    return [its.id for its in found.jobs] if isinstance(found, Batch) else []


def settle(queue: Queue, batch: str, ids: list[str]) -> None:
    """Settle a batch as issued."""
    jobs = tuple(Job(job_id, record.badge_of({})) for job_id in ids)
    its = Batch(batch, jobs, 0, more=False, look_at_ms=-1)
    queue.settle(ORG, its, [Complete(Issued(f"E{i}")) for i in ids], verdict=OK, sent=Sent("200", 1))


def bring_forward(client: redis.Redis, index: str) -> None:
    """Let a minute pass, for what waits in an index."""
    where = keys.key("default", index)
    for member, at_ms in client.zrange(where, 0, -1, withscores=True):
        client.zadd(where, {member: at_ms - 61_000})


@pytest.fixture
def newer(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """The same queue, as a newer program has it."""
    with monkeypatch.context() as patch:
        patch.setattr(record, "RECORD_VERSION", 2)
        return Queue(client)


def test_a_record_of_the_first_version_goes_all_the_way(queue: Queue, client: redis.Redis) -> None:
    """Only what a record always had is needed: no version, and nothing that was added since."""
    queue.enqueue(ORG, run="r", items=[item(0)], call="c")
    old = {"s": "q", "b": BADGE, "c": "7", "r": "r", "n": "1", "t": "1700000000000"}
    client.delete(key(item(0).id))
    client.hset(key(item(0).id), mapping=old)
    assert claim(queue) == [item(0).id]
    settle(queue, "b", [item(0).id])
    (row,) = JobReader(client=client, orgs={"default": ORG}).results(run="r")
    assert (row["state"], row["earnedBadgeId"]) == ("issued", f"E{item(0).id}")


def test_we_write_no_version_into_what_the_first_can_read(queue: Queue, client: redis.Redis) -> None:
    """So a worker that is rolled back goes on with what its successor left."""
    queue.enqueue(ORG, run="r", items=[item(0), Item("x", "1", ["w", "{}"], kind="invalid")], call="c")
    assert not client.hexists(key(item(0).id), "V")
    assert not client.hexists(key("x"), "V")


@pytest.mark.parametrize("state", ["q", "§"])
def test_a_newer_record_in_the_queue_is_left_alone(
    queue: Queue, newer: Queue, client: redis.Redis, state: str
) -> None:
    """Whatever it says: the others are sent, it stays as it is, and a newer worker sends it."""
    queue.enqueue(ORG, run="r", items=[item(n) for n in range(3)], call="c")
    left = make_newer(client, item(0).id, s=state)
    assert claim(queue) == [item(1).id, item(2).id]
    assert claim(queue, "nothing") == []
    bring_forward(client, "retry")
    assert claim(queue, "still") == []
    assert client.hgetall(key(item(0).id)) == left

    client.hset(key(item(0).id), "s", "q")
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
    left = client.hgetall(key(item(0).id))
    lease = keys.key("default", "leases")
    client.zadd(lease, {"lost": 1})
    claim(queue)
    assert client.hgetall(key(item(0).id)) == left
    client.zadd(lease, {"lost": 1})
    claim(newer, "b2")
    assert client.hget(key(item(0).id), "k") == DeadKind.IN_DOUBT


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
    assert not queue.resolve(ORG, "doubt")
    assert queue.replay(ORG, run="again", items=[Replay("doubt")], call="c6")["skipped"] == 1
    client.zadd(keys.key("default", "checks"), {"doubt": 1})
    slot = [keys.key_prefix("default")]
    assert not queue.store.call("take_check", slot, [600_000]).get("jobs")
    assert queue.store.call("conclude_check", slot, ["c4", ["doubt"], "cleared", "", 600_000]) == 0
    assert {each: client.hgetall(key(each)) for each in left} == left
    assert client.zscore(keys.key("default", "checks"), "doubt") == 1


def test_what_cannot_be_read_is_shown_as_such(queue: Queue, client: redis.Redis) -> None:
    """The results have a line for it that claims nothing."""
    queue.enqueue(ORG, run="r", items=[item(0), item(1)], call="c")
    make_newer(client, item(0).id, s="§", c="no number")
    reports = JobReader(client=client, orgs={"default": ORG})
    first, second = reports.results(run="r")
    assert (first["job_id"], first["run"], first["state"]) == (item(0).id, "r", "newer")
    assert first["customerId"] is None
    assert second["state"] == State.QUEUED
    assert reports.job(item(0).id)["state"] == "newer"


def test_structures_of_a_newer_program_are_refused(queue: Queue, client: redis.Redis) -> None:
    """Before anything is written; a program that knows them goes on."""
    client.set(keys.STRUCTURES, 2)
    with pytest.raises(NewerStore, match="schema 2, and this one knows 1"):
        queue.enqueue(ORG, run="r", items=[item(0)], call="c")
    assert client.keys() == [keys.STRUCTURES]
    client.set(keys.STRUCTURES, 1)
    assert queue.enqueue(ORG, run="r", items=[item(0)], call="c") == list("a")
