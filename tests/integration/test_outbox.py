"""The promise that a result expires only after its reader has it, where there is one; and what is undone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from support import configured, item

from worker.domain.batch import Batch, Item, Replay, Sent
from worker.domain.job import DeadKind
from worker.domain.outcome import Issued, Signal, Verdict
from worker.domain.provenance import Provenance
from worker.domain.settlement import DeadLetter
from worker.operate.runs import JobReader
from worker.store import keys
from worker.store.outbox import Outbox
from worker.store.queue import Queue
from worker.store.record import Field, read

ORG = configured(batch_size=5)
OK = Verdict((), Signal.OK)
REJECTED = DeadLetter(DeadKind.REJECTED, "1054", "no such badge")


@pytest.fixture
def outbox(queue: Queue) -> Outbox:
    """An outbox that somebody reads."""
    outbox = Outbox(queue, ORG)
    assert outbox.open("ledger")
    return outbox


def deliver(queue: Queue) -> Batch:
    """Send one batch: its last job is rejected, the others are issued."""
    batch = queue.claim(ORG, queue.new_id())
    assert isinstance(batch, Batch)
    outcomes = [Issued(f"E{n}") for n in range(len(batch.jobs) - 1)]
    queue.settle(ORG, batch, [*outcomes, REJECTED], verdict=OK, sent=Sent("200", 1))
    return batch


def expires(client: redis.Redis, n: int) -> bool:
    """Say whether a job's record will expire."""
    return client.pttl(keys.key("default", "job", item(n).id)) > 0


def test_without_a_reader_nothing_is_written(queue: Queue, client: redis.Redis) -> None:
    """Results expire by themselves."""
    queue.enqueue(ORG, run="r", items=[item(n) for n in range(5)], call="c")
    deliver(queue)
    assert Outbox(queue, ORG).read() == []
    assert not client.exists(keys.key("default", "outbox"))
    assert expires(client, 0)


def test_a_result_expires_once_its_reader_has_it(queue: Queue, client: redis.Redis, outbox: Outbox) -> None:
    """In the order in which they ended; a dead letter stays until somebody deals with it."""
    queue.enqueue(ORG, run="r", items=[item(n) for n in range(5)], call="c")
    deliver(queue)
    assert not any(expires(client, n) for n in range(5))
    ended = outbox.read()
    assert [(it.number, it.job, it.how) for it in ended] == [
        *((n, item(n).id, "issued") for n in range(4)),
        (4, item(4).id, "dead"),
    ]
    assert read(ended[3].stored)[Field.EARNED_BADGE_ID] == "E3"
    assert outbox.acknowledge(ended[:2])
    assert [expires(client, n) for n in range(5)] == [True, True, False, False, False]
    assert [it.number for it in outbox.read()] == [2, 3, 4]
    assert outbox.acknowledge(outbox.read())
    assert [expires(client, n) for n in range(5)] == [True] * 4 + [False]
    assert outbox.waiting() == 0


def test_what_changed_since_it_was_read_stays(queue: Queue, client: redis.Redis, outbox: Outbox) -> None:
    """Its later entry has it as it is now; and what stands first by now isn't taken for what was read."""
    queue.enqueue(ORG, run="r", items=[Item("doubt", "1", item(1).fields, kind="in_doubt")], call="c")
    ended = outbox.read()
    queue.resolve(ORG, ["doubt"], call="r")
    assert outbox.acknowledge(ended)
    assert client.pttl(keys.key("default", "job", "doubt")) == -1
    assert [(it.number, it.how) for it in outbox.read()] == [(1, "issued")]
    assert not outbox.acknowledge(ended)  # they are gone
    assert outbox.acknowledge(outbox.read())
    assert client.pttl(keys.key("default", "job", "doubt")) > 0


ENDINGS: dict[str, tuple[Callable[[Queue], object], str]] = {
    "discarded": (lambda q: q.discard("default", ["a"], keep_ms=1000, call="d"), "discarded"),
    "replaced": (
        lambda q: q.replay(ORG, run="s", items=[Replay("a", Item("b", "1", item(2).fields))], call="d"),
        "replaced",
    ),
    "cancelled": (lambda q: q.cancel("default", [item(7).id], call="d"), "dead"),
    "given up": (
        lambda q: q.enqueue(ORG, run="s", items=[Item("i", "1", {}, kind="invalid")], call="d"),
        "dead",
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_every_way_to_end_is_told(queue: Queue, client: redis.Redis, outbox: Outbox, name: str) -> None:
    """And none of them lets a record expire unread."""
    letter = Item("a", "1", {**item(1).fields, "code": "812"}, kind="rejected")
    queue.enqueue(ORG, run="r", items=[letter, item(7)], call="c")
    outbox.acknowledge(outbox.read())
    act, how = ENDINGS[name]
    act(queue)
    (ending,) = outbox.read()
    assert ending.how == how
    assert client.pttl(keys.key("default", "job", ending.job)) == -1


def test_a_reader_leaves_when_it_has_all(queue: Queue, outbox: Outbox) -> None:
    """Else something would never expire; and there is one reader."""
    assert outbox.open("ledger")
    assert not outbox.open("another")
    queue.enqueue(ORG, run="r", items=[Item("i", "1", {}, kind="invalid")], call="c")
    assert not outbox.close()
    outbox.acknowledge(outbox.read())
    assert outbox.close()
    assert outbox.open("another")


def test_what_was_undone_is_known_for_good(queue: Queue, client: redis.Redis) -> None:
    """A row whose badge was revoked is told apart from one that is only remembered, and isn't sent."""
    queue.enqueue(ORG, run="r", items=[item(1), item(2)], call="c")
    client.zadd(keys.key("default", "undone", item(1).id[:3]), {item(1).id[3:]: 0})
    for n in (1, 2):
        client.delete(keys.key("default", "job", item(n).id))
    assert queue.enqueue(ORG, run="s", items=[item(1), item(2)], call="d") == ["U", "m"]


def test_a_run_says_where_it_came_from_first(queue: Queue, client: redis.Redis) -> None:
    """Who, which file, how it was read, why; what comes later into the same run changes none of it."""
    came = Provenance("ada", "a file.csv", "0" * 64, "--map x=customerId", "why ")
    queue.enqueue(ORG, run="r", items=[item(1)], call="c", source=came)
    queue.enqueue(ORG, run="r", items=[item(2)], call="d", source=Provenance(by="bob", note="later"))
    source = JobReader(client=client, orgs={"default": ORG}).run("r").source
    assert source == came
