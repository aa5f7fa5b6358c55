"""The limit holds in every window and is used, whatever clocks, limits and the vendor do; in virtual time.

The org's own clock is Redis's and an offset: moving the offset lets hours go by in no time, with the real
scripts on a real server. How all of it holds in real time, with real workers, is in tests/bench/gate.py.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any

import pytest
import redis
from bench.learning import REFUSED, USED, Case
from hands import claimed
from support import LONG, configured, item, some
from virtual import RUN, Answer, Limiter, VirtualClock, play, settle, top_up

from worker.domain.batch import Batch, Sent, Wait
from worker.domain.org import Limit, Org
from worker.domain.outcome import Issued, Signal, Verdict
from worker.domain.settlement import PutBack
from worker.store import keys
from worker.store.clock import Clock, OrgClocks
from worker.store.protocol import GUARD, gate_config
from worker.store.queue import Queue, new_id

GATE = keys.key("default", "gate")


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
    return int(str(client.get(keys.key("default", "batch", batch.id)) or "0").partition(" ")[0]) / 1e6


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
                done = [Issued("earned")] * len(batch.jobs)
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


@pytest.mark.parametrize("rate_limit", some(sorted(LIMITS, key=len, reverse=True), 1))
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


@pytest.mark.parametrize("seed", some(range(2), 0))
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
    batch = claimed(queue, org)
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


class Steady(Clock):
    """A process' own clock, which shows what it is told to."""

    at_s = 100.0

    def steady_s(self) -> float:
        """Return what it shows."""
        return self.at_s


def test_a_step_back_is_kept_by_whoever_meets_it_first(client: redis.Redis) -> None:
    """Else it is forgotten when the clock is set right again, and a call counts as made before it was."""
    clock = Steady()
    sender, other = (Queue(client, clock=clock) for _ in range(2))

    def go_by(seconds: float, *, stepped_s: float = 0) -> None:
        clock.at_s += seconds
        client.hincrby(GATE, "offset", int((seconds + stepped_s) * 1e6))

    org = configured(rate_limit="1/second", batch_size=1)
    sender.enqueue(org, run=RUN, items=[item(n) for n in range(3)], call="fixture")
    batch = claimed(sender, org)
    assert isinstance(other.claim(org, new_id()), Wait)
    go_by(0.8, stepped_s=-5)
    assert sender.retime(org, batch.id)
    go_by(0.1, stepped_s=5)
    assert isinstance(other.claim(org, new_id()), Wait)
    go_by(0.5)
    assert isinstance(other.claim(org, new_id()), Wait), "0.6 s after the call"
    go_by(0.5)
    assert isinstance(other.claim(org, new_id()), Batch)


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


def test_who_heard_the_clock_before_it_stood_still_tells_a_leap_as_well(
    queue: Queue, client: redis.Redis, time: Time
) -> None:
    """It stands still where a claim is held up; another process must not take that time for granted."""
    org = configured(rate_limit="4/second", batch_size=1)
    queue.enqueue(org, run=RUN, items=[item(n) for n in range(9)], call="fixture")
    held_up_s = before_s = 0.0
    held_up = Queue(client, clocks=OrgClocks(lambda: held_up_s))
    other = Queue(client, clocks=OrgClocks(lambda: before_s))
    for each in (other, held_up):
        each.claim(org, new_id())
    time.step(900_000)
    before_s += 0.9
    held_up.claim(org, new_id())  # left before that time went by
    held_up_s += 0.9
    stood = int(client.hget(GATE, "clock") or 0)
    time.step(800_000)  # this is a leap: nobody's time goes by
    for each in (other, held_up, other):
        each.claim(org, new_id())
    assert int(client.hget(GATE, "clock") or 0) - stood < 500_000
    for _ in range(3):  # and then all go by the same clock again
        time.step(1_000_000)
        before_s, held_up_s = before_s + 1, held_up_s + 1
        other.claim(org, new_id())
        held_up.claim(org, new_id())
    assert int(client.hget(GATE, "clock") or 0) - stood > 2_900_000


def test_who_only_looks_after_a_leap_forgets_no_call(queue: Queue, client: redis.Redis, time: Time) -> None:
    """A process that never heard the clock takes a leap for the time; no call ends by its look."""
    org = configured(rate_limit="10/second", batch_size=1, max_in_flight=1)
    queue.enqueue(org, run=RUN, items=[item(n) for n in range(3)], call="fixture")
    assert isinstance(queue.claim(org, new_id()), Batch)
    time.step(3_600_000_000)
    Queue(client).look(org)
    Queue(client).probed(org.name)
    waits = queue.claim(org, new_id())
    assert isinstance(waits, Wait)
    assert waits.why == "in flight"


# -- sending late


@LONG
def test_a_worker_that_was_suspended_for_a_minute_holds_nobody_up(
    queue: Queue, client: redis.Redis, time: Time
) -> None:
    """Its send counts from when it leaves, and the org goes on at its pace, within the limit."""
    org = configured(rate_limit="300/minute", batch_size=1)
    queue.enqueue(org, run=RUN, items=[item(n) for n in range(2000)], call="fixture")
    suspended = claimed(queue, org)
    sends = send_for(queue, client, time, org, 60)
    assert 290 < len(sends) < 300
    assert queue.retime(org, suspended.id)
    sends.append((slot_s(client, suspended), 1))
    assert abs(sends[-1][0] - time.now()) < 0.5
    sends += send_for(queue, client, time, org, 70)
    assert max(later - one for (one, _), (later, _) in pairwise(sorted(sends))) < 1
    assert most_used(sends, org.limits[0]) <= 300


@pytest.mark.parametrize("rate_limit", some(["20/minute,items:70/minute", "20/minute"], 1))
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
            if queue.retime(org, held[batch].id):
                sent[batch] = (slot_s(client, held[batch]), len(held[batch].jobs))
                assert abs(sent[batch][0] - time.now()) < 0.5
            if rnd.random() < 0.5:  # certainly not sent: it gives its slot back
                queue.release(org, batch, held.pop(batch).jobs)
                del sent[batch]
    for limit in org.limits:
        assert most_used(list(sent.values()), limit) <= limit.count, limit


# -- a vendor that allows less than what is configured; every other case: tests/bench/learning.py


@pytest.fixture
def quick(client: redis.Redis) -> Iterator[redis.Redis]:
    """The session's server, which meanwhile doesn't wait for its disk."""
    client.config_set("appendfsync", "everysec")
    yield client
    client.config_set("appendfsync", "always")


AT_ONCE: dict[str, Any] = {"refuses_s": 0.001}
SECONDS = {
    "sliding, 16 in flight, Retry-After": Case("sliding", 5, 10, 16, 0.05, says_when=True),
    "sliding, 4 in flight": Case("sliding", 20, 3, 4, 0.15),
    "limit_req with burst": Case("leaky", 20, 3, 4, 0.05, own={"burst": 20, **AT_ONCE}),
    "limit_req without burst": Case("leaky", 20, 3, 4, 0.05, own={"burst": 0, **AT_ONCE}),
    "limit_req without burst, one at a time": Case("leaky", 20, 10, 1, 0.005, own={"burst": 0, **AT_ONCE}),
    "http_req_rate": Case("rolling", 20, 3, 4, 0.05, own=AT_ONCE),
    "http_req_rate, tarpit": Case("rolling", 20, 3, 4, 0.05, own={"refuses_s": 2.0}),
    "http_req_rate, tarpit, Retry-After": Case(
        "rolling", 5, 1.5, 4, 0.05, says_when=True, own={"refuses_s": 2.0}
    ),
    "bucket, as many in flight as are allowed": Case("bucket", 20, 1.5, 4, 0.15, own={"burst": 5}),
    "bucket of four seconds, slow answers": Case("bucket", 5, 10, 16, 0.5, says_when=True, own={"burst": 20}),
}


@pytest.mark.parametrize("name", some(SECONDS, 1))
def test_a_limit_a_second_is_learned_within_ten_and_used(quick: redis.Redis, name: str) -> None:
    """From then on under 3 % of the calls are answered 429, at 90 % of what is allowed."""
    used, refused = SECONDS[name].measure(quick)
    assert used >= USED
    assert refused < REFUSED


@pytest.mark.parametrize(
    ("kind", "says_when"),
    some([("sliding", True), ("sliding", False), ("fixed", True), ("bucket", False)], 0),
)
def test_a_limit_a_minute_is_learned_within_one_and_used(
    quick: redis.Redis, kind: str, *, says_when: bool
) -> None:
    """Over the minutes after the first, the same; one long pause without a Retry-After included."""
    org = configured(rate_limit="150/minute", batch_size=1, max_in_flight=4)
    vendor = Limiter(kind, 50, 0.2, window_s=60, burst=5, says_when=says_when)
    calls = play(quick, org, vendor, seconds=480)
    late = [call.signal is Signal.OK for call in calls if call.at >= 60]
    assert late.count(False) / len(late) < REFUSED
    assert late.count(True) / (7 * 50) >= USED


# -- answers that fail


@dataclass
class Failing:
    """A vendor that fails at one call in so many, chance decides, and at all of them during an outage."""

    one_in: float
    outage: tuple[float, float] = (0, 0)
    random: random.Random = field(default_factory=lambda: random.Random(5))

    def answer(self, at: float) -> Answer:
        """Answer after 150 ms."""
        failed = self.random.random() < 1 / self.one_in or self.outage[0] <= at < self.outage[1]
        return Answer(Signal.IN_DOUBT if failed else Signal.OK, self.random.uniform(0.1, 0.2))


@LONG
def test_an_answer_now_and_then_that_fails_costs_little(quick: redis.Redis) -> None:
    """One in 20, of 20 calls a second, 4 in flight: the limit is used all the same."""
    org = configured(rate_limit="20/second", batch_size=1, max_in_flight=4)
    calls = play(quick, org, Failing(20), seconds=60)
    assert 0.5 < sum(call.signal is Signal.IN_DOUBT for call in calls) * 20 / len(calls) < 2
    assert len(calls) >= 0.85 * 20 * 60


@LONG
def test_an_outage_puts_what_is_in_flight_and_the_probes_in_doubt(quick: redis.Redis) -> None:
    """A minute of outage at 40 calls a second, 16 in flight: those, and a handful of probes."""
    org = configured(rate_limit="40/second", batch_size=1, max_in_flight=16)
    began = VirtualClock(quick).now()
    calls = play(quick, org, Failing(math.inf, (began + 3, began + 63)), seconds=75)
    in_doubt = [call.at for call in calls if call.signal is Signal.IN_DOUBT]
    probes = [at for at in in_doubt if at >= in_doubt[0] + 0.5]
    assert len(in_doubt) - len(probes) <= 16 + 2
    assert len(probes) <= 7
    assert min(later - one for one, later in pairwise(probes)) > 0.9
    assert max(call.at for call in calls) > 74


# -- a vendor that has recovered


def test_a_vendor_that_has_recovered_is_used_in_full_again(
    queue: Queue, client: redis.Redis, time: Time
) -> None:
    """The learned rate narrows by itself: after ten minutes it is as configured."""
    org = configured(rate_limit="150/minute", batch_size=1)
    queue.enqueue(org, run=RUN, items=[item(n) for n in range(500)], call="fixture")
    batch = claimed(queue, org)
    settle(queue, org, batch, Answer(Signal.THROTTLED, 0, 1.0))
    time.advance(time.now() + 2)
    assert len(send_for(queue, client, time, org, 5)) < 0.9 * 12.5
    time.advance(time.now() + 600)
    sends = send_for(queue, client, time, org, 60)
    assert len(sends) >= 0.95 * 150


def test_ten_times_what_was_learned_is_used_within_minutes(
    queue: Queue, client: redis.Redis, time: Time
) -> None:
    """The longer nothing is refused, the faster the rate rises."""
    org = configured(rate_limit="50/second", batch_size=1)
    send_for(queue, client, time, org, 1)
    lesson = {"learned": 200_000, "swing": 0.03, "span": 15_000_000, "learned_from": int(time.now() * 1e6)}
    client.hset(GATE, mapping=lesson)

    def rate() -> float:
        shown = queue.store.call("gauge", [keys.key_prefix("default")], [gate_config(org)])
        return 1e6 / shown["spacing_us"]

    assert 4.8 < rate() < 5
    time.advance(time.now() + 30)
    assert 5 < rate() < 5.5
    time.advance(time.now() + 270)
    assert rate() > 0.95 * 50


# -- what is shown


def test_the_last_minute_is_what_was_counted(queue: Queue, client: redis.Redis, time: Time) -> None:
    """Neither guessed from less than a minute, nor more than the limit: what left within it, exactly."""
    org = configured(rate_limit="4/second", batch_size=1)
    sends = send_for(queue, client, time, org, 20)
    for pause_s in (0, 10, 30):
        time.advance(time.now() + pause_s)
        sends += send_for(queue, client, time, org, 3)
        shown = queue.store.call("gauge", [keys.key_prefix("default")], [gate_config(org)])
        now = time.now()
        assert abs(shown["per_minute"] - sum(now - 60 < at <= now for at, _ in sends)) <= 1
        assert shown["per_minute"] <= 240
