"""The promises of claiming: each job in one batch, no more batches than may be, and the limit kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import pytest
import redis
from hands import claimed, ids, settle
from support import BADGE, FIRST_CUSTOMER, OTHER_BADGE, Probe, badge, configured, item, wait_for

from worker.domain.batch import Batch, Item, Replay, Sent, Settled, Slot, Wait
from worker.domain.identity import content_id
from worker.domain.org import Org
from worker.domain.outcome import Issued, Signal, Verdict
from worker.domain.settlement import PutBack
from worker.operate.progress import RunProgress
from worker.operate.runs import JobReader
from worker.server.connection import Connection
from worker.store import keys
from worker.store.clock import steady_s
from worker.store.protocol import GUARD, HORIZON_US
from worker.store.queue import Queue, new_id
from worker.store.record import badge_fields

RUN = "spring"
BUSY = 8  # threads that claim at once


def fill(queue: Queue, org: Org, count: int, *, first: int = 0, badge_id: str = BADGE) -> list[str]:
    """Enqueue that many jobs and return their ids."""
    items = [item(n, badge_id=badge_id) for n in range(first, first + count)]
    queue.enqueue(org, run=RUN, items=items, call=new_id())
    return [it.id for it in items]


def waits(queue: Queue, org: Org) -> Wait:
    """Claim; fail if there is a batch."""
    batch_or_wait = queue.claim(org, new_id())
    assert isinstance(batch_or_wait, Wait), batch_or_wait
    return batch_or_wait


def issue(queue: Queue, org: Org, batch: Batch) -> Settled:
    """Settle a batch as issued."""
    decided = [Issued(f"earned-{job.id}") for job in batch.jobs]
    return settle(queue, org, batch, *decided)


def gate(client: redis.Redis) -> dict[str, str]:
    """Read the gate, without the clock that every look at it notes."""
    return {
        k: v for k, v in client.hgetall(keys.key("default", "gate")).items() if k not in ("clock", "offset")
    }


def progress(client: redis.Redis) -> RunProgress:
    """Read the run."""
    return JobReader(client=client, orgs={}).run(RUN)


def now_ms(client: redis.Redis) -> int:
    """Return the server's clock, which is the only one that counts."""
    seconds, micros = client.time()
    return seconds * 1000 + micros // 1000


def slot_us(client: redis.Redis, batch_id: str) -> int:
    """Return the time that a batch was given, on the server's clock."""
    return int(str(client.get(keys.key("default", "batch", batch_id)) or "0").partition(" ")[0])


# -- batches


def test_jobs_are_claimed_in_the_order_they_came(queue: Queue) -> None:
    """Batch by batch, oldest first, none larger than the batch size, each job once."""
    org = configured(batch_size=4)
    came = fill(queue, org, 10)
    batches = [claimed(queue, org) for _ in range(3)]
    assert [len(batch.jobs) for batch in batches] == [4, 4, 2]
    assert [job_id for batch in batches for job_id in ids(batch)] == came
    assert waits(queue, org).why == "idle"


def test_a_claimed_job_knows_its_batch(queue: Queue, client: redis.Redis) -> None:
    """The record says who has it, the batch has a lease, and the run counts it as sending."""
    org = configured(http_timeout_s=30)
    (job_id,) = fill(queue, org, 1)
    batch = claimed(queue, org, "b1")
    assert [(job.id, job.attempts, job.badge.customer_id) for job in batch.jobs] == [(job_id, 0, 500_000_000)]
    assert (Probe(client).record(job_id)["state"], Probe(client).record(job_id)["batch"]) == ("s", "b1")
    assert progress(client).states() == [0, 1, 0, 0, 0, 0]
    call_ends = client.zscore(keys.key("default", "inflight"), "b1")
    given_up = client.zscore(keys.key("default", "leases"), "b1")
    now = now_ms(client)
    assert call_ends is not None
    assert given_up is not None
    assert now + 34_000 < call_ends <= now + 35_000
    assert given_up == call_ends + 90_000


def test_the_same_batch_is_the_same_claim(queue: Queue, client: redis.Redis) -> None:
    """A claim repeated gets the same jobs and the same slot, and takes nothing more."""
    org = configured(batch_size=3)
    fill(queue, org, 9)
    first = claimed(queue, org, "b1")
    slot, sends = slot_us(client, "b1"), gate(client)["n"]
    again = claimed(queue, org, "b1")
    assert again.jobs == first.jobs
    assert not again.more
    assert (slot_us(client, "b1"), gate(client)["n"]) == (slot, sends)
    assert client.llen(keys.key("default", "queue")) == 6


def test_a_batch_that_was_settled_claims_nothing_any_more(queue: Queue, client: redis.Redis) -> None:
    """A repetition that arrives after its batch is over takes no jobs, which nobody would send or settle."""
    org = configured(batch_size=3)
    fill(queue, org, 9)
    issue(queue, org, claimed(queue, org, "settled"))
    queue.release(org, "released", claimed(queue, org, "released").jobs)
    assert queue.claim(org, "settled") == queue.claim(org, "released") == Wait("settled", -1)
    assert progress(client).states() == [6, 0, 0, 3, 0, 0]


def test_no_job_is_ever_in_two_batches(connection: Connection, queue: Queue) -> None:
    """Many workers claim and settle at once: each job is claimed exactly once."""
    org = configured(batch_size=7, max_in_flight=5)
    came = fill(queue, org, 400)

    def work(_: int) -> list[str]:
        took: list[str] = []
        with connection.client() as own:
            mine = Queue(own)
            while True:
                match mine.claim(org, new_id()):
                    case Batch() as batch:
                        took += ids(batch)
                        assert len(batch.jobs) <= 7
                        issue(mine, org, batch)
                    case Wait(why="idle"):
                        return took

    with ThreadPoolExecutor(BUSY) as pool:
        took = Counter(job_id for some in pool.map(work, range(BUSY)) for job_id in some)
    assert took == Counter(came)


def test_no_more_are_in_flight_than_allowed(connection: Connection, queue: Queue) -> None:
    """However many claim at once, exactly as many get a batch as the cap allows; the others are told why."""
    org = configured(batch_size=1, max_in_flight=3)
    fill(queue, org, 50)
    together = Barrier(BUSY)

    def work(_: int) -> list[Batch | Wait]:
        with connection.client() as own:
            mine = Queue(own)
            together.wait()
            return [mine.claim(org, new_id()) for _ in range(5)]

    with ThreadPoolExecutor(BUSY) as pool:
        answers = [answer for some in pool.map(work, range(BUSY)) for answer in some]
    batches = [answer for answer in answers if isinstance(answer, Batch)]
    assert len(batches) == 3
    refusals = {answer.why for answer in answers if isinstance(answer, Wait)}
    assert refusals - {"rate"} == {"in flight"}
    assert issue(queue, org, batches[0]).more
    assert isinstance(queue.claim(org, new_id()), Batch)


def test_a_call_that_is_over_makes_room_before_its_lease_ends(queue: Queue, client: redis.Redis) -> None:
    """A holder that fell silent blocks its place only until its call's deadline; its jobs wait longer."""
    org = configured(batch_size=1, max_in_flight=1)
    first, second = fill(queue, org, 2)
    claimed(queue, org, "silent")
    assert waits(queue, org).why == "in flight"
    client.zadd(keys.key("default", "inflight"), {"silent": 1})
    assert ids(claimed(queue, org)) == [second]
    assert Probe(client).record(first)["state"] == "s"


def test_more_says_whether_there_is_room_for_another(queue: Queue) -> None:
    """A claim that leaves a ripe batch and a free place says so, and only then."""
    org = configured(batch_size=2, max_in_flight=2)
    fill(queue, org, 6)
    assert [claimed(queue, org).more for _ in range(2)] == [True, False]
    assert not claimed(queue, configured(batch_size=10)).more


# -- ripeness


def test_a_part_of_a_batch_waits_for_the_linger_time(queue: Queue, client: redis.Redis) -> None:
    """Until then the answer is when to ask again; a full batch doesn't wait."""
    org = configured(batch_size=3, batch_linger_s=20)
    (job_id, _) = fill(queue, org, 2)
    ready_ms = int(Probe(client).record(job_id)["enqueued_at"])
    assert waits(queue, org) == Wait("linger", ready_ms + 20_000)
    fill(queue, org, 1, first=2)
    assert len(claimed(queue, org).jobs) == 3


def test_the_linger_time_counts_from_when_the_first_job_was_ready(queue: Queue, client: redis.Redis) -> None:
    """A job that has waited long enough takes along whatever is there."""
    org = configured(batch_size=3, batch_linger_s=20)
    came = fill(queue, org, 2)
    Probe(client).change(came[0], enqueued_at=now_ms(client) - 20_000)
    assert ids(claimed(queue, org)) == came


def test_where_nothing_is_taken_nothing_is_reserved(queue: Queue, client: redis.Redis) -> None:
    """No slot of the limit is spent on an answer that is "wait", for whatever reason."""
    org = configured(batch_size=2, batch_linger_s=20, max_in_flight=1)
    assert waits(queue, org).why == "idle"
    fill(queue, org, 1)
    assert waits(queue, org).why == "linger"
    assert client.exists(keys.key("default", "ring")) == 0
    assert "n" not in gate(client)
    fill(queue, org, 3, first=1)
    claimed(queue, org)
    before = gate(client), client.get(keys.key("default", "ring"))
    assert waits(queue, org).why == "in flight"
    queue.pause("default", why="operator", reason="tests")
    assert waits(queue, org) == Wait("paused", int(client.zrange(leases(), 0, 0, withscores=True)[0][1]))
    client.hdel(keys.key("default", "gate"), "paused", "pause_reason", "paused_since")
    assert (gate(client), client.get(keys.key("default", "ring"))) == before


def leases() -> str:
    """Return the key of the leases."""
    return keys.key("default", "leases")


def test_ids_of_jobs_that_went_another_way_are_skipped(queue: Queue, client: redis.Redis) -> None:
    """Whoever pops an id checks the record: a stale one is neither sent nor counted."""
    org = configured(batch_size=3)
    came = fill(queue, org, 6)
    for job_id, state in zip(came[:3], "ids", strict=True):
        Probe(client).change(job_id, state=state)
    client.rpush(keys.key("default", "queue"), "no such job", came[3])
    batch = claimed(queue, org)
    assert ids(batch) == came[3:]
    assert waits(queue, org).why == "idle"
    assert client.llen(keys.key("default", "queue")) == 0


def test_an_id_that_stands_in_the_queue_twice_is_sent_once(queue: Queue, client: redis.Redis) -> None:
    """Also within one batch."""
    org = configured(batch_size=5)
    came = fill(queue, org, 2)
    client.lpush(keys.key("default", "queue"), came[1], came[1])
    assert ids(claimed(queue, org)) == [came[1], came[0]]


def test_badges_known_to_be_missing_cost_no_call(queue: Queue, client: redis.Redis) -> None:
    """They become dead letters on the way; the others of the batch go, and no slot is spent on none."""
    org = configured(batch_size=4)
    missing = fill(queue, org, 10, badge_id=OTHER_BADGE)
    client.zadd(keys.key("default", "missing"), {OTHER_BADGE: now_ms(client) + 60_000})
    assert waits(queue, org).why == "idle"
    assert "n" not in gate(client)
    assert progress(client).dead_kinds == {"rejected": 10}
    died = Probe(client).record(missing[0])
    assert (died["state"], died["kind"], died["code"]) == ("d", "rejected", "1054")
    mixed = fill(queue, org, 3, first=20, badge_id=OTHER_BADGE), fill(queue, org, 4, first=30)
    assert ids(claimed(queue, org)) == mixed[1]
    assert progress(client).dead_kinds == {"rejected": 13}


def test_a_million_missing_badges_never_stop_the_server(queue: Queue, client: redis.Redis) -> None:
    """What one claim deals with is bounded; it answers when to go on: at once."""
    org = configured(batch_size=100)
    for chunk in range(3):
        fill(queue, org, 1000, first=chunk * 1000, badge_id=OTHER_BADGE)
    client.zadd(keys.key("default", "missing"), {OTHER_BADGE: now_ms(client) + 60_000})
    answer = waits(queue, org)
    assert progress(client).dead == 1000
    assert answer.look_at_ms <= now_ms(client)


def urgently(queue: Queue, org: Org, count: int, *, first: int) -> list[str]:
    """Enqueue that many urgent jobs and return their ids."""
    items = [item(n) for n in range(first, first + count)]
    queue.enqueue(org, run=RUN, items=items, call=new_id(), urgent=True)
    return [it.id for it in items]


def test_urgent_jobs_overtake_the_bulk_but_dont_starve_it(queue: Queue) -> None:
    """They go first, oldest first; a tenth of each batch, or every tenth batch, is for the bulk."""
    org = configured(batch_size=10)
    bulk, urgent = fill(queue, org, 20), urgently(queue, org, 20, first=50)
    assert ids(claimed(queue, org)) == [*urgent[:9], bulk[0]]
    assert ids(claimed(queue, org)) == [*urgent[9:18], bulk[1]]
    assert ids(claimed(queue, org)) == [*urgent[18:], *bulk[2:10]]
    one = configured(batch_size=1)
    urgently(queue, one, 30, first=100)
    taken = [claimed(queue, one).jobs[0].id for _ in range(20)]
    assert [n for n, job_id in enumerate(taken) if job_id in bulk] == [6, 16]


def test_an_urgent_job_stays_urgent(queue: Queue, client: redis.Redis) -> None:
    """Put back, retried or replayed it goes before the bulk again; and alone it fills a batch."""
    org = configured(batch_size=1)
    bulk, (urgent, *_) = fill(queue, org, 3), urgently(queue, org, 1, first=50)
    for _ in range(2):
        batch = claimed(queue, org)
        assert ids(batch) == [urgent]
        queue.release(org, batch.id, batch.jobs)
    batch = claimed(queue, org)
    client.zadd(leases(), {batch.id: 1})
    assert ids(claimed(queue, org)) == bulk[:1]
    queue.replay(org, run="again", items=[Replay(urgent)], call="again")
    assert ids(claimed(queue, org)) == [urgent]


# -- leases and retries


def test_a_holder_that_disappeared_leaves_its_jobs_in_doubt(queue: Queue, client: redis.Redis) -> None:
    """Nobody can know whether it sent them: they are dead letters of that kind, and no lease is left."""
    org = configured(batch_size=2)
    lost = fill(queue, org, 2)
    claimed(queue, org, "lost")
    client.zadd(leases(), {"lost": now_ms(client)})
    assert waits(queue, org).why == "idle"
    died = Probe(client).record(lost[0])
    assert (died["state"], died["kind"], died["code"]) == ("d", "in_doubt", "lease_expired")
    assert sorted(Probe(client).listed("in_doubt")) == sorted(lost)
    assert progress(client).states() == [0, 0, 0, 0, 2, 0]
    assert progress(client).finished_at is not None
    assert not client.exists(keys.key("default", "batch", "lost"), leases(), keys.key("default", "inflight"))


def test_the_end_of_a_lease_is_a_time_to_look_at(queue: Queue, client: redis.Redis) -> None:
    """Also where nothing else is to be done, the answer says when the lease will be over."""
    org = configured(batch_size=1)
    fill(queue, org, 1)
    batch = claimed(queue, org)
    ends = client.zscore(leases(), batch.id)
    assert batch.look_at_ms == waits(queue, org).look_at_ms == queue.look(org).look_at_ms == ends


def test_a_lease_touches_only_jobs_that_are_still_its_own(queue: Queue, client: redis.Redis) -> None:
    """A job that is in another batch by now isn't given up with the first."""
    org = configured(batch_size=2)
    moved, lost = fill(queue, org, 2)
    claimed(queue, org, "lost")
    Probe(client).carry(moved, "another")
    client.zadd(leases(), {"lost": 1})
    waits(queue, org)
    assert (Probe(client).record(moved)["state"], Probe(client).record(lost)["state"]) == ("s", "d")


def test_due_retries_are_put_back_behind_what_waits(queue: Queue, client: redis.Redis) -> None:
    """In the order they are due, ready as of now, and only those that are due."""
    org = configured(batch_size=10)
    came = fill(queue, org, 5)
    claimed(queue, org, "first")
    queue.release(org, "first", ())
    due = {came[3]: 1, came[1]: 2, came[2]: now_ms(client) + 60_000}
    for job_id in due:
        Probe(client).change(job_id, state="r")
    client.zadd(keys.key("default", "retry"), due)
    (waiting,) = fill(queue, org, 1, first=9)
    batch = claimed(queue, org)
    assert ids(batch) == [waiting, came[3], came[1]]
    assert batch.look_at_ms == due[came[2]]
    assert int(Probe(client).record(came[3])["ready_since"]) <= now_ms(client)
    assert client.zrange(keys.key("default", "retry"), 0, -1) == [came[2]]


def test_a_paused_org_still_gives_up_leases_and_puts_retries_back(queue: Queue, client: redis.Redis) -> None:
    """A pause stops batches, and nothing else: otherwise what is overdue would come up for ever."""
    org = configured(batch_size=1)
    lost, retried = fill(queue, org, 2)
    claimed(queue, org, "lost")
    client.zadd(leases(), {"lost": 1})
    Probe(client).change(retried, state="r")
    client.lpop(keys.key("default", "queue"))
    client.zadd(keys.key("default", "retry"), {retried: 1})
    queue.pause("default", why="operator", reason="tests")
    assert waits(queue, org) == Wait("paused", -1)
    assert (Probe(client).record(lost)["state"], Probe(client).record(retried)["state"]) == ("d", "q")


# -- isolation


def isolate(client: redis.Redis, *entries: str) -> None:
    """Put entries into the list of what was refused as a whole."""
    client.rpush(keys.key("default", "isolate"), *entries)


def test_what_is_isolated_goes_first_and_tag_by_tag(queue: Queue, client: redis.Redis) -> None:
    """Each batch is the head run of one tag, up to its width; then the queue goes on."""
    org = configured(batch_size=10)
    came = fill(queue, org, 7)
    client.ltrim(keys.key("default", "queue"), 5, -1)
    isolate(client, *(f"b.0 2 {i}" for i in came[:3]), *(f"b.1 5 {i}" for i in came[3:5]))
    assert [ids(claimed(queue, org)) for _ in range(4)] == [came[:2], came[2:3], came[3:5], came[5:]]


def test_stale_ids_in_isolation_cost_no_call(queue: Queue, client: redis.Redis) -> None:
    """A job that ended in the meantime is skipped, and the next look is at once."""
    org = configured(batch_size=10)
    came = fill(queue, org, 2)
    Probe(client).change(came[0], state="i")
    isolate(client, f"b.0 1 {came[0]}")
    answer = waits(queue, org)
    assert answer.look_at_ms <= now_ms(client)
    assert "n" not in gate(client)
    assert ids(claimed(queue, org)) == came[1:]


# -- the limit


def most_in_a_window(slots_us: list[int], window_us: int) -> int:
    """Return the largest number of slots in any window of that length."""
    slots, first, most = sorted(slots_us), 0, 0
    for n, slot in enumerate(slots):
        while slots[first] <= slot - window_us:
            first += 1
        most = max(most, n - first + 1)
    return most


def claim_for(connection: Connection, org: Org, *, until_slots: int, threads: int = 4) -> list[int]:
    """Let threads claim and settle until so many slots are given out; return the slots."""
    slots: list[int] = []

    def work(_: int) -> None:
        with connection.client() as own:
            mine = Queue(own)
            while len(slots) < until_slots:
                answer = mine.claim(org, new_id())
                if isinstance(answer, Batch):
                    slots.append(slot_us(own, answer.id))
                    issue(mine, org, answer)
                else:
                    wait_until(own, answer.look_at_ms)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    return slots


def wait_until(client: redis.Redis, at_ms: int) -> None:
    """Wait until the server's clock says so, as a worker would that was told when to look again."""
    wait_for(lambda: now_ms(client) >= at_ms)


@pytest.mark.parametrize(("limit", "slots"), [("40/second", 90), ("10/second", 22), ("1/second", 3)])
def test_no_window_holds_more_than_the_limit(
    connection: Connection, queue: Queue, limit: str, slots: int
) -> None:
    """However many claim at once. How much of it is used, test_pace.py says, in virtual time."""
    org = configured(rate_limit=limit, batch_size=1)
    fill(queue, org, slots + 20)
    given = sorted(claim_for(connection, org, until_slots=slots))
    (stated,) = org.limits
    assert most_in_a_window(given, 1_000_000) <= stated.count


def test_several_limits_hold_at_once(connection: Connection, queue: Queue, client: redis.Redis) -> None:
    """The shorter spaces, the longer caps: after its count the next waits for the window's end."""
    org = configured(rate_limit="12/minute,20/second", batch_size=1)
    fill(queue, org, 30)
    given = sorted(claim_for(connection, org, until_slots=12, threads=1))
    assert given[-1] - given[0] < 2_000_000
    assert most_in_a_window(given, 1_000_000) <= 20
    answer = waits(queue, org)
    assert answer.why == "rate"
    first_leaves_us = given[0] + int(60_000_000 * (1 + GUARD))
    expected_ms = -(-(first_leaves_us - HORIZON_US) // 1000)
    assert (
        expected_ms <= answer.look_at_ms <= expected_ms + 1
    )  # its clock may differ from Redis's by a part of one
    assert gate(client)["n"] == "12"


def test_a_slot_is_given_out_only_a_little_ahead(queue: Queue) -> None:
    """A batch may have to wait for its time, but never beyond the horizon: no pool slot is slept away."""
    org = configured(rate_limit="2/second", batch_size=1)
    fill(queue, org, 40)
    while isinstance(answer := queue.claim(org, new_id()), Batch):
        assert answer.send_at - steady_s() <= HORIZON_US / 1e6
    assert answer.why == "rate"


def test_a_call_without_jobs_is_paid_from_the_same_limit(queue: Queue, client: redis.Redis) -> None:
    """It gets the next slot, once: the same call again gets the same one."""
    org = configured(rate_limit="10/minute", batch_size=1)
    fill(queue, org, 2)
    batch = claimed(queue, org)
    assert isinstance(queue.reserve_call(org, "token"), Slot)
    paid = int(gate(client)["last"])
    assert paid - slot_us(client, batch.id) >= 6_000_000 * (1 + GUARD) - 1
    assert isinstance(queue.reserve_call(org, "token"), Slot)
    assert (int(gate(client)["last"]), gate(client)["n"]) == (paid, "2")
    assert waits(queue, org).look_at_ms >= paid // 1000


@contextmanager
def closed_gate(client: redis.Redis, **fields: object) -> Iterator[None]:
    """Close the gate as an answer of the vendor would."""
    client.hset(keys.key("default", "gate"), mapping={"closed_until": now_ms(client) + 60_000} | fields)
    yield
    client.hdel(keys.key("default", "gate"), "closed_until", *fields)


def test_a_closed_gate_is_closed_for_calls_without_jobs_too(queue: Queue, client: redis.Redis) -> None:
    """Neither a batch nor a token call starts before Retry-After; nor while the org is paused."""
    org = configured(batch_size=1)
    fill(queue, org, 1)
    with closed_gate(client, why="throttled"):
        at = int(gate(client)["closed_until"])
        assert queue.reserve_call(org, "token") == Wait("throttled", at)
        assert waits(queue, org) == Wait("throttled", at)
    queue.pause("default", why="operator", reason="tests")
    assert queue.reserve_call(org, "token") == Wait("paused", -1)


def test_other_limits_dont_shorten_what_the_vendor_asked_for(queue: Queue, client: redis.Redis) -> None:
    """A gate that Retry-After closed for a minute stays closed for it, and for that reason."""
    org = configured(rate_limit="10/second", batch_size=1)
    fill(queue, org, 2)
    claimed(queue, org)
    with closed_gate(client, why="throttled"):
        at = int(gate(client)["closed_until"])
        assert waits(queue, configured(rate_limit="5/second", batch_size=1)) == Wait("throttled", at)


def test_a_part_of_a_batch_goes_though_its_time_lies_in_the_future(queue: Queue, client: redis.Redis) -> None:
    """A clock that stepped back by an hour doesn't make the last jobs linger for an hour."""
    org = configured(batch_size=10, batch_linger_s=20)
    (job_id,) = fill(queue, org, 1)
    Probe(client).change(job_id, enqueued_at=now_ms(client) + 3_600_000)
    assert ids(claimed(queue, org)) == [job_id]


def test_runs_that_share_a_batch_are_counted_each_for_itself(queue: Queue, client: redis.Redis) -> None:
    """A batch takes what is next, whosever it is; each run's counters follow its own jobs."""
    org = configured(batch_size=10)
    queue.enqueue(org, run="one", items=[item(1)], call="1")
    queue.enqueue(org, run="two", items=[item(2), item(3)], call="2")
    batch = claimed(queue, org)
    reports = JobReader(client=client, orgs={})
    assert [reports.run(run).sending for run in ("one", "two")] == [1, 2]
    issue(queue, org, batch)
    assert [reports.run(run).issued for run in ("one", "two")] == [1, 2]


def test_put_back_jobs_are_ready_since_they_came(queue: Queue) -> None:
    """What was put back doesn't linger again: it has waited already."""
    org = configured(batch_size=5, batch_linger_s=0.3)
    came = fill(queue, org, 2)
    batch = wait_for(lambda: _batch(queue.claim(org, "first")))
    queue.settle(
        org,
        batch,
        [PutBack("503", "away")] * 2,
        verdict=Verdict((), Signal.OK),
        sent=Sent("503", 1),
    )
    assert ids(claimed(queue, org)) == came


def _batch(answer: Batch | Wait) -> Batch | None:
    return answer if isinstance(answer, Batch) else None


# -- the vendor is busy with a customer


def of_customer(customer: int, n: int) -> Item:
    """Return the n-th of many jobs of one customer."""
    it = badge(customer, badge_id=f"badge{n}")
    return Item(content_id("default", it), f"{customer}.{n}", badge_fields(it))


def customers(batch: Batch) -> list[int]:
    """Return whose jobs a batch carries."""
    return [job.badge.customer_id - FIRST_CUSTOMER for job in batch.jobs]


def test_jobs_of_a_customer_in_flight_stay_behind(queue: Queue, client: redis.Redis) -> None:
    """As long as others fill the batch; they keep their place, and go once the customer is free."""
    org = configured(batch_size=4)
    rows = [(1, 1), (2, 1), (3, 1), (4, 1), (4, 2), (5, 1), (1, 2), (6, 1), (7, 1), (8, 1), (9, 1)]
    queue.enqueue(org, run=RUN, items=[of_customer(*row) for row in rows], call="1")
    first = claimed(queue, org)
    second = claimed(queue, org)
    assert (customers(first), customers(second)) == ([1, 2, 3, 4], [5, 6, 7, 8])
    issue(queue, org, first)
    third = claimed(queue, org)
    assert customers(third) == [4, 1, 9]
    issue(queue, org, second)
    issue(queue, org, third)
    assert not client.exists(keys.key("default", "busy"))


def test_customers_of_batches_that_have_ended_are_dropped(queue: Queue, client: redis.Redis) -> None:
    """While a batch is in flight, whom others were sent for is kept for a while, and never more of them."""
    org, busy = configured(batch_size=200), keys.key("default", "busy")
    for call in range(12):
        rows = [of_customer(200 * call + n, 1) for n in range(200)]
        queue.enqueue(org, run=RUN, items=rows, call=str(call))
    first = claimed(queue, org)
    for _ in range(11):
        issue(queue, org, claimed(queue, org))
        assert client.hlen(busy) <= 1000 + 2 * 400
    assert {job.badge.customer_id for job in first.jobs} <= {int(it) for it in client.hkeys(busy)}


def test_a_batch_that_others_cant_fill_takes_them(queue: Queue, client: redis.Redis) -> None:
    """A thousand jobs of one customer don't wait for each other: that would cost the rate."""
    org = configured(batch_size=4)
    queue.enqueue(org, run=RUN, items=[of_customer(1, n) for n in range(12)], call="1")
    batches = [claimed(queue, org) for _ in range(3)]
    assert [len(batch.jobs) for batch in batches] == [4, 4, 4]
    assert [job.id for batch in batches for job in batch.jobs] == [of_customer(1, n).id for n in range(12)]
    for batch in batches:
        issue(queue, org, batch)
    assert not client.exists(keys.key("default", "busy"))


def test_a_customer_whose_batch_was_given_up_is_free(queue: Queue, client: redis.Redis) -> None:
    """Nobody will settle that batch; the customer's next jobs don't stay behind for it."""
    org = configured(batch_size=1)
    queue.enqueue(org, run=RUN, items=[of_customer(1, 1), of_customer(1, 2), of_customer(2, 1)], call="1")
    lost = claimed(queue, org)
    client.zadd(keys.key("default", "leases"), {lost.id: 1})
    assert customers(claimed(queue, org)) == [1]
