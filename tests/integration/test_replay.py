"""The promises of replaying dead letters: each once, with a new count of attempts, and nothing beside."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import redis
from support import BADGE, OTHER_BADGE, badge, configured, item

from worker import keys
from worker.connection import Connection
from worker.job import badge_fields
from worker.queue import Batch, Item, Queue, Wait, new_id
from worker.runs import Reports, RunProgress

ORG = configured(batch_size=10)
RUN = "spring"


def bury(queue: Queue, count: int, *, kind: str = "rejected", first: int = 0) -> list[str]:
    """Make that many dead letters and return their ids."""
    items = [
        Item(item(n).id, str(n), [*item(n).fields, "a", "5", "o", "812", "m", "no", "m1", "good"], kind=kind)
        for n in range(first, first + count)
    ]
    queue.enqueue(ORG, run=RUN, items=items, call=new_id())
    return [it.id for it in items]


def replay(queue: Queue, *items: list[str], call: str = "call", run: str = "mended") -> dict[str, int]:
    """Replay; answers the numbers."""
    return queue.replay(ORG, run=run, items=items, call=call)


def mended(job_id: str, n: int, *, badge_id: str = OTHER_BADGE) -> list[str]:
    """Return what replays a dead letter as a new job."""
    new = item(n, badge_id=badge_id)
    return [job_id, new.id, *new.fields]


def record(client: redis.Redis, job_id: str) -> dict[str, str]:
    """Read a record."""
    return client.hgetall(keys.key("default", "job", job_id))


def progress(client: redis.Redis, run: str = RUN) -> RunProgress:
    """Read a run."""
    return Reports(client=client, orgs={}).run(run)


def dead(client: redis.Redis, kind: str = "rejected") -> list[str]:
    """Return the ids of the dead letters of a kind."""
    return [str(job_id) for job_id in client.zrange(keys.key("default", "dead", kind), 0, -1)]


def queued(client: redis.Redis) -> list[str]:
    """Return the ids in the queue."""
    return [str(job_id) for job_id in client.lrange(keys.key("default", "queue"), 0, -1)]


def test_a_replayed_job_is_as_new_and_keeps_its_id(queue: Queue, client: redis.Redis) -> None:
    """It is queued with no attempt spent and no reason of death, ready as of now; its run is open again."""
    one, two = bury(queue, 2)
    born_ms = int(record(client, one)["t"])
    assert replay(queue, [one]) == {"replayed": 1, "duplicates": 0, "skipped": 0}
    kept = record(client, one)
    assert {k: kept.get(k) for k in "sakomf"} == {
        "s": "q",
        "a": "0",
        "k": None,
        "o": None,
        "m": None,
        "f": None,
    }
    assert "m1" not in kept
    assert int(kept["g"]) >= born_ms
    assert (dead(client), queued(client)) == ([two], [one])
    run = progress(client)
    assert (run.states(), run.dead_kinds, run.finished_at) == ([1, 0, 0, 0, 1], {"rejected": 1}, None)
    assert not client.exists(keys.key("default", "run", "mended"))


def test_it_wakes_somebody(queue: Queue, client: redis.Redis) -> None:
    """What is queued again is looked at without anybody else's doing."""
    bury(queue, 1)
    assert client.zcard(keys.WAKE) == 0
    replay(queue, [item(0).id])
    assert client.zscore(keys.WAKE, "default") is not None


def test_a_call_repeated_gets_the_same_answer(queue: Queue, client: redis.Redis) -> None:
    """Also when the job has died again in the meantime: it isn't replayed twice by one wish."""
    (one,) = bury(queue, 1)
    first = replay(queue, [one])
    batch = queue.claim(ORG, "b1")
    assert isinstance(batch, Batch)
    client.zadd(keys.key("default", "leases"), {"b1": 1})
    assert isinstance(queue.claim(ORG, "b2"), Wait)
    assert replay(queue, [one]) == first
    assert (dead(client, "in_doubt"), queued(client)) == ([one], [])


def test_what_is_dead_no_more_is_skipped(queue: Queue, client: redis.Redis) -> None:
    """A job that is queued, issued or gone isn't queued by a replay that comes too late."""
    (one, two) = bury(queue, 2)
    replay(queue, [one])
    client.hset(keys.key("default", "job", two), "s", "i")
    answer = replay(queue, [one], [two], ["no such job"], call="late")
    assert answer == {"replayed": 0, "duplicates": 0, "skipped": 3}
    assert queued(client) == [one]


def test_the_same_job_twice_in_one_call_is_replayed_once(queue: Queue, client: redis.Redis) -> None:
    """The second is no dead letter any more."""
    (one,) = bury(queue, 1)
    assert replay(queue, [one], [one]) == {"replayed": 1, "duplicates": 0, "skipped": 1}
    assert queued(client) == [one]


def test_an_invalid_row_is_never_queued_as_it_is(queue: Queue, client: redis.Redis) -> None:
    """It holds no badge: whoever asks for it, it is skipped, and claiming goes on undisturbed."""
    queue.enqueue(ORG, run=RUN, items=[Item("bad", "1", ["o", "row", "w", "{"], kind="invalid")], call="c")
    assert replay(queue, ["bad"])["skipped"] == 1
    assert dead(client, "invalid") == ["bad"]
    assert queue.claim(ORG, new_id()) == Wait("idle", -1)


def test_a_replay_with_a_correction_is_a_new_job(queue: Queue, client: redis.Redis) -> None:
    """The new one is in its own run and says whose place it took; the old one needs nobody any more."""
    (one,) = bury(queue, 1)
    assert replay(queue, mended(one, 0))["replayed"] == 1
    new = item(0, badge_id=OTHER_BADGE).id
    assert (record(client, one)["s"], record(client, one)["R"]) == ("d", new)
    assert (record(client, new)["s"], record(client, new)["O"]) == ("q", one)
    assert record(client, new)["b"] == OTHER_BADGE
    assert (dead(client), queued(client)) == ([], [new])
    assert progress(client, "mended").states() == [1, 0, 0, 0, 0]
    assert progress(client, "mended").started_at is not None
    assert client.lrange(keys.key("default", "jobs", "mended"), 0, -1) == [new]
    assert queue.enqueue(ORG, run="again", items=[item(0)], call="again") == "D"


def test_a_correction_to_what_is_known_is_a_duplicate(queue: Queue, client: redis.Redis) -> None:
    """The dead letter stays where it is: that badge was accepted before, and isn't issued again."""
    (one,) = bury(queue, 1)
    known = item(0, badge_id=OTHER_BADGE)
    queue.enqueue(ORG, run="other", items=[known], call="other")
    assert replay(queue, mended(one, 0)) == {"replayed": 0, "duplicates": 1, "skipped": 0}
    assert (dead(client), queued(client)) == ([one], [known.id])


def test_what_another_job_took_the_place_of_is_not_replayed(queue: Queue, client: redis.Redis) -> None:
    """Neither as it is nor corrected once more."""
    (one,) = bury(queue, 1)
    replay(queue, mended(one, 0))
    answer = replay(queue, [one], mended(one, 5), call="again")
    assert answer == {"replayed": 0, "duplicates": 0, "skipped": 2}
    assert len(queued(client)) == 1


def test_a_replay_asks_the_vendor_about_the_badge_again(queue: Queue, client: redis.Redis) -> None:
    """Whoever replays believes the badge to exist now: it is no longer known to be missing."""
    (one,) = bury(queue, 1)
    client.zadd(keys.key("default", "missing"), {BADGE: 4e12})
    replay(queue, [one])
    batch = queue.claim(ORG, new_id())
    assert isinstance(batch, Batch)
    assert [job.badge for job in batch.jobs] == [badge(0)]


def test_two_operators_replay_each_letter_once(connection: Connection, client: redis.Redis) -> None:
    """Whoever comes second finds no dead letters."""
    with connection.client() as own:
        ids = bury(Queue(own), 300)
    together = Barrier(2)

    def operate(call: str) -> int:
        with connection.client() as mine:
            together.wait()
            return sum(
                replay(Queue(mine), *([i] for i in ids[at : at + 30]), call=f"{call}{at}")["replayed"]
                for at in range(0, 300, 30)
            )

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(operate, "ab")) == 300
    assert sorted(queued(client)) == sorted(ids)
    assert progress(client).states() == [300, 0, 0, 0, 0]


def test_a_thousand_are_one_call(queue: Queue, client: redis.Redis) -> None:
    """As many as were accepted in one."""
    ids = bury(queue, 1000, kind="exhausted")
    assert replay(queue, *([job_id] for job_id in ids))["replayed"] == 1000
    assert queued(client) == ids
    assert badge_fields(badge(0)) == list(item(0).fields)
