"""The limit holds in every window and is used, whatever clocks, limits and the vendor do; in virtual time.

The org's own clock is Redis's and an offset: moving the offset lets hours go by in no time, with the real
scripts on a real server. How all of it holds in real time, with real workers, is in tests/bench/gate.py.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field
from itertools import count, pairwise

import pytest
import redis
from support import configured, item

from worker.domain.batch import Batch, Sent, Wait
from worker.domain.org import Limit, Org
from worker.domain.outcome import Issued, Signal, Verdict
from worker.domain.settlement import Complete, PutBack
from worker.store import keys
from worker.store.clock import OrgClocks, steady_s
from worker.store.protocol import GUARD
from worker.store.queue import Queue, new_id

GATE = keys.key("default", "gate")
RUN = "spring"


class Time:
    """The org's clock, seconds, and its advance without waiting."""

    def __init__(self, client: redis.Redis, queue: Queue) -> None:
        self._client, self._queue = client, queue
        self.offset_us = 0

    def now(self) -> float:
        """Return what the org's clock shows."""
        seconds, micros = self._client.time()
        return seconds + (micros + self.offset_us) / 1e6

    def advance(self, to: float) -> None:
        """Let time go by, as nobody would notice who hadn't looked at a clock before."""
        ahead_us = int((to - self.now()) * 1e6)
        if ahead_us > 0:
            self.step(ahead_us)
            self.offset_us += ahead_us
            self._queue._clocks = OrgClocks()  # noqa: SLF001

    def step(self, by_us: int) -> None:
        """Step Redis's clock, as somebody who sets it would."""
        self._client.hincrby(GATE, "offset", by_us)

    def until(self, wait: Wait) -> float:
        """Return when to look again, by the org's clock."""
        assert wait.look_at_ms >= 0, wait
        return wait.look_at_ms / 1000 + self.offset_us / 1e6 + 0.0005

    def follow(self) -> None:
        """Take over the offset that the gate has come to."""
        self.offset_us = int(self._client.hget(GATE, "offset") or 0)


@pytest.fixture
def time(client: redis.Redis, queue: Queue) -> Time:
    """The time of the org ``default``."""
    return Time(client, queue)


def top_up(queue: Queue, client: redis.Redis, org: Org, serial: count[int]) -> None:
    """See to it that there is always something to send."""
    while client.llen(keys.key("default", "queue")) < 100:
        queue.enqueue(org, run=RUN, items=[item(next(serial)) for _ in range(1000)], call=new_id())


def most_used(sends: list[tuple[float, int]], limit: Limit, *, since: float = 0) -> int:
    """Return the most of a limit that any window of it holds that ends at ``since`` or later."""
    window: deque[tuple[float, int]] = deque()
    used = most = 0
    for at, jobs in sorted(sends):
        amount = jobs if limit.of_items else 1
        window.append((at, amount))
        used += amount
        while window[0][0] <= at - limit.window_s:
            used -= window.popleft()[1]
        most = max(most, used) if at >= since else 0
    return most


def slot_s(client: redis.Redis, batch: Batch) -> float:
    """Return when a batch is sent, by the org's clock."""
    return int(client.lindex(keys.key("default", "batch", batch.id), 0) or 0) / 1e6


def send_for(
    queue: Queue, client: redis.Redis, time: Time, org: Org, seconds: float
) -> list[tuple[float, int]]:
    """Send and settle at once whatever the gate lets through; return when, and how many jobs."""
    sends, serial = [], count(int(client.hget(keys.key("default", "stats"), "accepted") or 0))
    end = time.now() + seconds
    while time.now() < end:
        top_up(queue, client, org, serial)
        match queue.claim(org, new_id()):
            case Batch() as batch:
                sends.append((slot_s(client, batch), len(batch.jobs)))
                done = [Complete(Issued("earned"))] * len(batch.jobs)
                queue.settle(org, batch, done, verdict=Verdict((), Signal.OK), sent=Sent("201", 1))
            case Wait() as wait:
                time.advance(time.until(wait))
    return sends


LIMITS = {
    "100/minute": 150,
    "100/minute,5/second": 150,
    "100/minute,items:600/minute": 150,
    "30/second,items:95/second,items:900/minute": 100,
    "3/second,300/hour": 3700,
}


@pytest.mark.parametrize("rate_limit", LIMITS)
def test_every_window_holds_what_is_stated_and_is_used(
    queue: Queue, client: redis.Redis, time: Time, rate_limit: str
) -> None:
    """Requests and items, one limit or several: never more in any window; of the tightest, 98 %."""
    org = configured(rate_limit=rate_limit, batch_size=10)
    sends = send_for(queue, client, time, org, LIMITS[rate_limit])
    took = sends[-1][0] - sends[0][0]
    used = []
    for limit in org.limits:
        assert most_used(sends, limit) <= limit.count, limit
        amount = sum(jobs if limit.of_items else 1 for _, jobs in sends[:-1])
        used.append(amount / (limit.count * took / limit.window_s))
    assert max(used) >= 0.98


@pytest.mark.parametrize("seed", range(2))
def test_limits_that_change_hold_each_while_it_is_in_force(
    queue: Queue, client: redis.Redis, time: Time, seed: int
) -> None:
    """Also while two settings are in force at once: never more than either says, and no standstill."""
    print(f"seed {seed}")
    rnd = random.Random(seed)
    sends: list[tuple[float, int]] = []
    for _ in range(6):
        rate_limit = rnd.choice(
            ["40/minute", "10/second,90/minute", "90/minute,items:300/minute", "5/second"]
        )
        org = configured(rate_limit=rate_limit, batch_size=rnd.choice([1, 7]))
        before = len(sends)
        began = time.now()
        sends += send_for(queue, client, time, org, 70)
        assert sends[before][0] - began <= 60 * (1 + GUARD) + 1
        for limit in org.limits:
            assert most_used(sends, limit, since=sends[before][0]) <= limit.count, (limit, rate_limit)


@pytest.mark.parametrize("step_s", [-86_400, -5, 3_600, 86_400])
def test_a_clock_that_steps_changes_nothing(
    queue: Queue, client: redis.Redis, time: Time, step_s: int
) -> None:
    """Back or forth, by seconds or a day: no window holds more, and nothing waits for longer."""
    org = configured(rate_limit="5/minute,10/second", batch_size=1)
    queue.enqueue(org, run=RUN, items=[item(n) for n in range(20)], call="fixture")
    began = time.now()
    sends = []
    while isinstance(batch := queue.claim(org, new_id()), Batch) or len(sends) < 5:
        if isinstance(batch, Batch):
            sends.append(batch)
    time.step(step_s * 1_000_000)
    waits = queue.claim(org, new_id())
    assert isinstance(waits, Wait)
    assert waits.why == "rate"
    time.follow()
    assert 55 < time.until(waits) - began <= 60 * (1 + GUARD) + 0.2
    assert 55 < waits.look_at_ms / 1000 - client.time()[0] <= 62
    time.advance(time.until(waits))
    assert isinstance(queue.claim(org, new_id()), Batch)


@pytest.mark.parametrize("step_s", [-3_600, 3_600])
def test_what_waits_doesnt_wait_longer_for_a_clock_that_steps(
    queue: Queue, client: redis.Redis, time: Time, step_s: int
) -> None:
    """Retry-After, a call in flight and a lease end when they would have."""
    org = configured(rate_limit="10/second", batch_size=1, max_in_flight=1, http_timeout_s=10)
    queue.enqueue(org, run=RUN, items=[item(n) for n in range(3)], call="fixture")
    batch = queue.claim(org, new_id())
    assert isinstance(batch, Batch)
    time.step(step_s * 1_000_000)
    waits = queue.claim(org, new_id())
    assert isinstance(waits, Wait)
    assert waits.why == "in flight"
    assert 10 < waits.look_at_ms / 1000 - client.time()[0] <= 16
    verdict = Verdict((), Signal.THROTTLED, "429", "slow down", 40)
    queue.settle(org, batch, [PutBack("429", "-")], verdict=verdict, sent=Sent("429", 1))
    time.step(-step_s * 1_000_000)
    waits = queue.claim(org, new_id())
    assert isinstance(waits, Wait)
    assert waits.why == "throttled"
    assert 38 < waits.look_at_ms / 1000 - client.time()[0] <= 42


def test_a_step_is_noticed_once_for_all_processes(queue: Queue, client: redis.Redis, time: Time) -> None:
    """Who comes second finds the clock mended, and doesn't take the step back again."""
    org = configured(rate_limit="5/minute,10/second", batch_size=1)
    queue.enqueue(org, run=RUN, items=[item(n) for n in range(20)], call="fixture")
    others = [Queue(client) for _ in range(3)]
    for other in [queue, *others]:
        other.claim(org, new_id())
    time.step(3_600_000_000)
    for other in [queue, *others]:
        other.claim(org, new_id())
    assert abs(int(client.hget(GATE, "offset") or 0)) < 2_000_000


# -- sending late


def test_a_worker_that_was_suspended_for_a_minute_holds_nobody_up(
    queue: Queue, client: redis.Redis, time: Time
) -> None:
    """Its send counts from when it leaves, and the org goes on at its pace, within the limit."""
    org = configured(rate_limit="300/minute", batch_size=1)
    queue.enqueue(org, run=RUN, items=[item(n) for n in range(2000)], call="fixture")
    suspended = queue.claim(org, new_id())
    assert isinstance(suspended, Batch)
    sends = send_for(queue, client, time, org, 60)
    assert 290 < len(sends) < 300
    assert queue.retime(org, suspended)
    sends.append((slot_s(client, suspended), 1))
    assert abs(sends[-1][0] - time.now()) < 0.5
    sends += send_for(queue, client, time, org, 70)
    assert max(later - one for (one, _), (later, _) in pairwise(sorted(sends))) < 1
    assert most_used(sends, org.limits[0]) <= 300


@pytest.mark.parametrize("rate_limit", ["20/minute", "20/minute,items:70/minute"])
def test_whoever_sends_late_no_window_holds_more(
    queue: Queue, client: redis.Redis, time: Time, rate_limit: str
) -> None:
    """Many batches, each as late as may be, once or more: what counts is when each has left."""
    rnd = random.Random(rate_limit)
    org = configured(rate_limit=rate_limit, batch_size=5)
    held: dict[str, Batch] = {}
    sent: dict[str, tuple[float, int]] = {}
    end, serial = time.now() + 400, count()
    while time.now() < end:
        top_up(queue, client, org, serial)
        claim = queue.claim(org, new_id())
        if isinstance(claim, Batch):
            held[claim.id] = claim
            sent[claim.id] = (slot_s(client, claim), len(claim.jobs))
        else:
            time.advance(min(time.until(claim), time.now() + rnd.uniform(0, 4)))
        for batch in rnd.sample(sorted(held), rnd.randint(0, len(held)) if rnd.random() < 0.2 else 0):
            if queue.retime(org, held[batch]):
                sent[batch] = (slot_s(client, held[batch]), len(held[batch].jobs))
                assert abs(sent[batch][0] - time.now()) < 0.5
            if rnd.random() < 0.5:
                queue.release(org, batch, held.pop(batch).jobs)
    for limit in org.limits:
        assert most_used(list(sent.values()), limit) <= limit.count, limit


# -- a vendor that allows less than what is configured


@dataclass
class Throttling:
    """A vendor that allows ``count`` requests in ``window_s``, counted in one of the usual ways."""

    kind: str
    count: int
    window_s: float
    says_when: bool
    seen: deque[float] = field(default_factory=deque)
    tokens: float = 1.0
    topped_up_at: float = 0.0

    def wait_s(self, at: float) -> float | None:
        """Take a request: ``None``, or for how long the vendor won't take another (0: it doesn't say)."""
        return (math.ceil(wait) if self.says_when else 0.0) if (wait := self._take(at)) else None

    def _take(self, at: float) -> float:
        if self.kind == "bucket":
            rate, most = self.count / self.window_s, max(1, self.count // 10)
            self.tokens = min(most, self.tokens + (at - self.topped_up_at) * rate)
            self.topped_up_at = at
            self.tokens -= (taken := self.tokens >= 1)
            return 0.0 if taken else (1 - self.tokens) / rate
        begin = at - self.window_s if self.kind == "sliding" else at // self.window_s * self.window_s
        while self.seen and self.seen[0] <= begin:
            self.seen.popleft()
        if len(self.seen) < self.count:
            self.seen.append(at)
            return 0.0
        return (self.seen[0] if self.kind == "sliding" else begin) + self.window_s - at


@pytest.mark.parametrize(
    ("kind", "says_when"), [("sliding", True), ("sliding", False), ("fixed", True), ("bucket", False)]
)
def test_a_third_of_the_limit_is_learned_and_used(
    queue: Queue, client: redis.Redis, time: Time, kind: str, *, says_when: bool
) -> None:
    """After a minute under 3 % of the calls are answered 429, at over 90 % of what is allowed."""
    org = configured(rate_limit="150/minute", batch_size=1, max_in_flight=4)
    vendor, rnd, serial, seconds = Throttling(kind, 50, 60, says_when), random.Random(7), count(), 480
    answered: list[tuple[float, bool]] = []
    events: list[tuple[float, int, Batch, float | None]] = []  # when, order, batch, the answer's wait
    began, order = time.now(), count()
    while time.now() - began < seconds:
        top_up(queue, client, org, serial)
        claim = queue.claim(org, new_id())
        if isinstance(claim, Batch):
            arrives = time.now() + max(0.0, claim.send_at - steady_s()) + rnd.uniform(0.001, 0.01)
            wait = vendor.wait_s(arrives)
            answered.append((arrives - began, wait is None))
            heapq.heappush(events, (arrives + rnd.uniform(0.02, 0.4), next(order), claim, wait))
        elif events and (claim.look_at_ms < 0 or events[0][0] <= time.until(claim)):
            at, _, batch, wait = heapq.heappop(events)
            time.advance(at)
            settle(queue, org, batch, wait)
        else:
            time.advance(time.until(claim))
    late = [issued for at, issued in answered if at >= 60]
    assert late.count(False) / len(late) < 0.03
    assert late.count(True) / ((seconds - 60) * vendor.count / vendor.window_s) > 0.9


def settle(queue: Queue, org: Org, batch: Batch, wait_s: float | None) -> None:
    """Settle a batch that was issued, or answered 429."""
    ok = wait_s is None
    verdict = Verdict((), Signal.OK) if ok else Verdict((), Signal.THROTTLED, "429", "-", wait_s or None)
    each = Complete(Issued("earned")) if ok else PutBack("429", "-")
    queue.settle(org, batch, [each] * len(batch.jobs), verdict=verdict, sent=Sent("-", 1))


def test_a_vendor_that_has_recovered_is_used_in_full_again(
    queue: Queue, client: redis.Redis, time: Time
) -> None:
    """The learned rate narrows by itself, slowly first: after some 500 calls it is as configured."""
    org = configured(rate_limit="150/minute", batch_size=1)
    queue.enqueue(org, run=RUN, items=[item(n) for n in range(500)], call="fixture")
    batch = queue.claim(org, new_id())
    assert isinstance(batch, Batch)
    settle(queue, org, batch, 1.0)
    learned = float(client.hget(GATE, "learned") or 0)
    assert learned > 1.3 * 60e6 / 150
    time.advance(time.now() + learned * 350 / 1e6)
    sends = send_for(queue, client, time, org, 60)
    assert len(sends) >= 0.95 * 150
