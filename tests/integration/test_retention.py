"""How long things are kept: results as configured, a run with its last one, a dead letter till acted on."""

from __future__ import annotations

import time

import pytest
import redis
from hands import claimed, settle
from support import OTHER_BADGE, configured, item, wait_for

from worker.domain.batch import Item, Replay
from worker.domain.job import DeadKind
from worker.domain.org import Org
from worker.domain.outcome import Issued
from worker.domain.settlement import DeadLetter, Settlement
from worker.errors import NotFound
from worker.operate.runs import JobReader
from worker.store import keys
from worker.store.queue import Queue, new_id
from worker.store.record import Answer

TTL_S = 1.0
ORG = configured(batch_size=10, result_ttl_days=TTL_S / 86_400)
REJECTED = DeadLetter(DeadKind.REJECTED, "1054", "no such badge")


def bring(queue: Queue, *numbers: int, run: str = "spring", org: Org = ORG) -> list[Answer]:
    """Enqueue; answers the letters."""
    return queue.enqueue(org, run=run, items=[item(n) for n in numbers], call=new_id())


def deliver(queue: Queue, *outcomes: Settlement) -> None:
    """Send one batch, which ends like this."""
    batch = claimed(queue, ORG)
    settle(queue, ORG, batch, *outcomes)


def issued(number: int) -> list[Settlement]:
    """Return that many successes."""
    return [Issued(f"E{n}") for n in range(number)]


def reports(client: redis.Redis) -> JobReader:
    """Read back."""
    return JobReader(client=client, orgs={"default": ORG})


def left(client: redis.Redis) -> set[str]:
    """Return the keys of runs and jobs that there still are."""
    own = tuple(keys.key("default", name) for name in ("job", "run", "jobs"))
    return {str(key) for key in client.scan_iter(count=1000) if str(key).startswith(own)}


def test_a_run_goes_with_its_last_result(queue: Queue, client: redis.Redis) -> None:
    """Until then its jobs are duplicates and in its report; afterwards nothing of it is left."""
    bring(queue, 0, 1)
    deliver(queue, *issued(2))
    began = time.monotonic()
    while bring(queue, 0, run="again") == ["d"] and time.monotonic() - began < TTL_S / 4:
        assert [row["state"] for row in reports(client).results(run="spring")] == ["issued"] * 2
        assert [run.run for run in reports(client).runs()] == ["spring", "again"]
    assert time.monotonic() - began >= TTL_S / 4  # no result was forgotten before its time
    wait_for(lambda: not left(client))
    assert reports(client).runs() == []
    assert list(reports(client).results()) == []
    with pytest.raises(NotFound):
        reports(client).run("spring")
    assert bring(queue, 0, run="anew") == ["m"]  # remembered for good
    assert client.zrange(keys.key("default", "runs"), 0, -1) == ["anew"]
    assert client.zrange(keys.key("default", "ended"), 0, -1) == ["anew"]  # over, since nothing of it waits


def test_a_run_that_works_is_kept(queue: Queue, client: redis.Redis) -> None:
    """One that was over and is added to is kept until that is over as well."""
    bring(queue, 0)
    deliver(queue, *issued(1))
    bring(queue, 1)
    wait_for(lambda: not client.exists(keys.key("default", "job", item(0).id)))
    assert [row["state"] for row in reports(client).results(run="spring")] == ["queued"]
    assert reports(client).run("spring").total == 2
    deliver(queue, *issued(1))
    wait_for(lambda: not left(client))


@pytest.mark.parametrize("acts", ["replay", "as new", "discard", "resolve", "settle late"])
def test_a_dead_letter_keeps_its_run_until_it_is_acted_on(
    queue: Queue, client: redis.Redis, acts: str
) -> None:
    """It is in its run's report for as long as it waits for a person; once done with, it expires like all."""
    kind = "in_doubt" if acts in ("resolve", "settle late") else "rejected"
    bring(queue, 0)
    deliver(queue, *issued(1))
    batch = None
    if acts == "settle late":
        bring(queue, 1)
        batch = claimed(queue, ORG, "slow")
        client.zadd(keys.key("default", "leases"), {"slow": 1})
        queue.claim(ORG, new_id())
    else:
        letter = Item(item(1).id, "1", {**item(1).fields, "code": "812"}, kind=kind)
        queue.enqueue(ORG, run="spring", items=[letter], call=new_id())
    wait_for(lambda: not client.exists(keys.key("default", "job", item(0).id)))
    time.sleep(TTL_S)  # what is kept for ever is kept for longer than that
    (row,) = reports(client).results(run="spring")
    assert (row["state"], row["error"]["kind"]) == ("dead", kind)
    assert reports(client).run("spring").dead_kinds == {kind: 1}
    assert bring(queue, 1, run="again") == ["Q" if kind == "in_doubt" else "D"]

    match acts:
        case "replay":
            queue.replay(ORG, run="", items=[Replay(item(1).id)], call=new_id())
            deliver(queue, *issued(1))
        case "as new":
            new = item(2, badge_id=OTHER_BADGE)
            queue.replay(ORG, run="mended", items=[Replay(item(1).id, new)], call=new_id())
            deliver(queue, *issued(1))
        case "discard":
            queue.discard("default", [item(1).id], keep_ms=int(TTL_S * 1000), call=new_id())
        case "resolve":
            assert queue.resolve(ORG, [item(1).id], call=new_id())
        case "settle late":
            assert batch
            settle(queue, ORG, batch, *issued(1))
    wait_for(lambda: not left(client))


def test_many_that_are_over_are_forgotten_a_few_at_a_time(queue: Queue, client: redis.Redis) -> None:
    """What no index needs any more leaves it when something comes in; a hundred at a call."""
    runs = [f"run-{n}" for n in range(250)]
    for run in runs:
        bring(queue, 0, run=run, org=configured())
    client.delete(*(keys.key("default", "run", run) for run in runs))  # as the server will, when it is time
    client.zadd(keys.key("default", "ended"), dict.fromkeys(runs, 1))
    sizes = []
    for n in range(3):
        bring(queue, n)
        sizes.append(client.zcard(keys.key("default", "runs")))
    assert sizes == [151, 51, 1]
