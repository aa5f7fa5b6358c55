"""What is done to many records at once leaves each as it is left when it is dealt with by itself."""

from __future__ import annotations

from random import Random

import pytest
import redis
from support import BADGE, OTHER_BADGE, Probe, configured, item

from worker.domain.actor import Actor, Via
from worker.domain.batch import Item, Replay
from worker.domain.job import DeadKind
from worker.operate import cancelling, replaying
from worker.operate.deadlist import Filter
from worker.operate.operator import Operator
from worker.operate.runs import JobReader
from worker.store import keys
from worker.store.queue import Queue, new_id
from worker.store.record import Field

ORG = configured(batch_size=10)
JOBS = 120
DIED = (Field.KIND, Field.CODE, Field.GROUP, Field.MESSAGE, Field.FINISHED_AT)
MAY_HAVE = {
    Field.ATTEMPTS: ("1", "12"),
    Field.BUSY: ("3",),
    Field.BATCH: ("kjh4", "abc.2"),
    Field.WAS_IN_DOUBT: ("1",),
    Field.READY_SINCE: ("1700000000000", "1700000000001"),
    Field.EARN_EVENT_DATE: ("1674292011",),
    Field.EARN_EXPIRES_ON_ISO: ("2027-01-01T00:00:00Z",),
    Field.HISTORY: ("1700000000000 kjh4 500 - 812", "1 b 200 q 815\x1e2 c 500 - -"),
    Field.TRACEPARENT: ("00-aa-bb-01",),
    Field.OTHERS: ('{"store":"Ulm"}',),
}
WORDS = {
    "cancelled": "it was cancelled before it was sent",
    "in_doubt": "an earlier call may have issued it; it was cancelled before it was sent again",
}
MAY_BE_DEAD_OF = {Field.CODE: ("812", "815"), Field.MESSAGE: ("no good", "no customer 7")}


def odd_ones(seed: int, *, kind: str = "") -> list[Item]:
    """Return jobs whose records have some of what one may have, in any mixture, with rows and without.

    Some are like the one before them in all but these and the customer, others aren't.
    """
    random, has = Random(seed), dict[Field, str]()
    choices = MAY_HAVE | (MAY_BE_DEAD_OF if kind else {})
    made = []
    for n in range(JOBS):
        one = item(n, badge_id=random.choice((BADGE, OTHER_BADGE)))
        if random.random() < 0.5:
            has = {name: random.choice(values) for name, values in choices.items() if random.random() < 0.4}
        row = random.choice(("", str(n), "2:17"))
        made.append(Item(one.id, row, one.fields | has, kind=kind))
    return made


def brought_in(queue: Queue, client: redis.Redis, items: list[Item]) -> dict[str, dict[str, str]]:
    """Bring jobs in, in runs and calls that alternate; return their records."""
    for at in range(0, JOBS, 7):
        queue.enqueue(ORG, run=f"r{at % 3}", items=items[at : at + 7], call=new_id(), urgent=at % 2 == 0)
    return {it.id: Probe(client).record(it.id) for it in items}


def operator(queue: Queue) -> Operator:
    """Return somebody who acts."""
    reports = JobReader(client=queue.client, orgs={"default": ORG})
    return Operator(queue, reports, {"default": ORG}, Actor(Via.USER, "tester"))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("way", ["groups", "ids"])
def test_a_letter_waits_again_as_it_was(queue: Queue, client: redis.Redis, way: str, seed: int) -> None:
    """Without what it died of, with no attempts, in the lane that was its own; all else stays."""
    items = odd_ones(seed, kind="rejected")
    before = brought_in(queue, client, items)
    if way == "groups":
        assert replaying.replay_all(operator(queue), Filter(kind=DeadKind.REJECTED)).replayed == JOBS
    else:
        letters = [Replay(it.id) for it in items]
        assert queue.replay(ORG, run="", items=letters, call="c")["replayed"] == JOBS
    for job_id, was in before.items():
        found = Probe(client).record(job_id)
        assert int(found.pop("ready_since")) > 1_700_000_000_001, found
        kept = {name: value for name, value in was.items() if name not in {*DIED, Field.BUSY, "ready_since"}}
        assert found == kept | {"state": "q", "attempts": "0"}
    urgent = {job_id for job_id, was in before.items() if "urgent" in was}
    assert {*client.lrange(keys.key("default", "urgent"), 0, -1)} == urgent
    assert {*Probe(client).queued()} == before.keys() - urgent


@pytest.mark.parametrize("seed", range(3))
def test_what_is_cancelled_is_a_letter_of_its_badge(queue: Queue, client: redis.Redis, seed: int) -> None:
    """It says since when and of what it is dead, in doubt where a call may have issued it; all else stays."""
    before = brought_in(queue, client, odd_ones(seed))
    for run in ("r0", "r1", "r2"):
        cancelling.cancel_run(operator(queue), "default", run, action="", on_progress=lambda _: None)
    groups = client.hgetall(keys.key("default", "groups"))
    for job_id, was in before.items():
        found = Probe(client).record(job_id)
        died_at, group = found.pop("finished_at"), found.pop("group")
        assert client.zscore(keys.key("default", "dead", group), job_id) == float(died_at)
        kind = "in_doubt" if "was_in_doubt" in was else "cancelled"
        assert groups[group].split("\x1f") == [kind, "cancelled", was["badge"]]
        dead = {"state": "d", "kind": kind, "code": "cancelled"}
        assert found == {"message": WORDS[kind]} | was | dead
