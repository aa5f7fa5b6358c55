"""Virtual time: hours of sending in seconds, with the real scripts on a real server.

An org's clock goes on from what its callers know to have gone by (``worker/store/clock.py``). Here the
caller's word is all that counts, so that a slow machine changes nothing: the test sets what a script sees.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

import redis
from support import item

from worker.domain.batch import Batch, Sent, Wait
from worker.domain.job import DeadKind
from worker.domain.org import Org
from worker.domain.outcome import Issued, Signal, Verdict
from worker.domain.settlement import DeadLetter, PutBack
from worker.store import keys
from worker.store.clock import OrgClocks
from worker.store.queue import Queue, new_id

GATE = keys.key("default", "gate")
AHEAD_US = 10_000_000  # the server's clock is further on than the caller's word, so that the word counts
RUN = "spring"


class VirtualClock(OrgClocks):
    """The only clock there is: the org ``default`` shows what it says."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self._client = client
        self.us = int(client.time()[0]) * 1_000_000

    def now(self) -> float:
        """Return what it shows, seconds."""
        return self.us / 1e6

    def advance(self, to: float) -> None:
        """Let time go by."""
        ahead = max(0, math.ceil(to * 1e6) - self.us)
        self.us += ahead
        self._client.hincrby(GATE, "offset", ahead + AHEAD_US)

    def expected(self, org: str) -> dict[str, tuple[int, int]]:  # noqa: ARG002 - as its base
        """Allow no more than what it shows."""
        return {"clock": (self.us + self._stood_us(), 0)}

    def when(self, org: str, clock_us: int) -> tuple[float, float]:  # noqa: ARG002 - as its base
        """Return the same time: no other clock is asked."""
        at = (clock_us - self._stood_us()) / 1e6
        return at, at

    def _stood_us(self) -> int:
        """Return for how long it stood still, which callers are told it hadn't."""
        return int(self._client.hget(GATE, "behind") or 0)

    def until(self, wait: Wait) -> float:
        """Return when to look again."""
        assert wait.look_at_ms >= 0, wait
        return wait.look_at_ms / 1000 + int(self._client.hget(GATE, "offset") or 0) / 1e6 + 0.001


@dataclass(frozen=True, slots=True)
class Answer:
    """What the vendor says to a call, and how long it takes over it, s."""

    signal: Signal
    after_s: float
    retry_after_s: float = 0.0


class Vendor(Protocol):
    """Takes the calls in the order of their arrival."""

    def answer(self, at: float) -> Answer:
        """Answer the call that arrives at ``at``."""


@dataclass
class Limiter:
    """A vendor that allows ``count`` requests in ``window_s``, counted in one of the usual ways.

    ``sliding`` and ``fixed`` windows, a ``bucket`` of ``burst`` tokens, ``leaky`` as nginx's limit_req,
    ``rolling`` as HAProxy's http_req_rate: the last window in parts, refused calls included.
    """

    kind: str
    count: int
    answers_s: float
    window_s: float = 1.0
    burst: int = 1
    says_when: bool = False
    refuses_s: float = 0.0  # 0: as soon as it answers others; a tarpit takes longer
    seen: deque[float] = field(default_factory=deque)
    tokens: float = math.inf
    excess: float = 0.0
    last: float | None = None
    counted: tuple[int, int, int] = (0, 0, 0)
    random: random.Random = field(default_factory=lambda: random.Random(7))

    def answer(self, at: float) -> Answer:
        """Take a call, or refuse it."""
        wait_s = getattr(self, f"_{self.kind}")(at)
        after_s = self.answers_s * self.random.uniform(0.7, 1.3)
        if not wait_s:
            return Answer(Signal.OK, after_s)
        return Answer(
            Signal.THROTTLED, self.refuses_s or after_s, math.ceil(wait_s) if self.says_when else 0.0
        )

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.count / self.window_s

    def _sliding(self, at: float) -> float:
        return self._window(at, at - self.window_s)

    def _fixed(self, at: float) -> float:
        return self._window(at, at // self.window_s * self.window_s)

    def _window(self, at: float, begin: float) -> float:
        while self.seen and self.seen[0] <= begin:
            self.seen.popleft()
        if len(self.seen) < self.count:
            self.seen.append(at)
            return 0.0
        return (self.seen[0] if self.kind == "sliding" else begin) + self.window_s - at

    def _bucket(self, at: float) -> float:
        since = at - self.last if self.last is not None else 0.0
        self.tokens, self.last = min(self.burst, self.tokens + since * self.rate), at
        if self.tokens < 1:
            return (1 - self.tokens) / self.rate
        self.tokens -= 1
        return 0.0

    def _leaky(self, at: float) -> float:
        # In whole milliseconds and thousandths of a call, as nginx reckons.
        at_ms = math.floor(at * 1000)
        excess = (
            max(0, self.excess - (at_ms - self.last) * self.count // self.window_s + 1000) if self.last else 0
        )
        if excess > self.burst * 1000:
            return (excess / 1000 - self.burst) / self.rate
        self.excess, self.last = excess, at_ms
        return 0.0

    def _rolling(self, at: float) -> float:
        # What is left of the window before counts by its share of the last second, cut to whole calls.
        window = math.floor(at / self.window_s)
        known, before, now = self.counted
        if window != known:
            before, now = (now if window == known + 1 else 0), 0
        self.counted = window, before, now + 1
        return float(math.floor(now + 1 + before * (1 - (at / self.window_s - window))) > self.count)


@dataclass(frozen=True, slots=True)
class Call:
    """A call that the vendor answered: when it arrived, after the beginning, and what it said."""

    at: float
    signal: Signal


def play(
    client: redis.Redis, org: Org, vendor: Vendor, *, seconds: float, transit_s: float = 0.001
) -> list[Call]:
    """Send for so long whatever the gate lets through; there is always work."""
    clock = VirtualClock(client)
    queue = Queue(client, clocks=clock)
    rnd, serial, order = random.Random(7), count(), count()
    began, calls = clock.now(), []
    events: list[tuple[float, int, Callable[[float], None]]] = []

    def arrive(batch: Batch) -> Callable[[float], None]:
        def at_vendor(at: float) -> None:
            answer = vendor.answer(at)
            calls.append(Call(at - began, answer.signal))
            back = at + answer.after_s
            heapq.heappush(events, (back, next(order), lambda _: settle(queue, org, batch, answer)))

        return at_vendor

    while clock.now() - began < seconds:
        top_up(queue, client, org, serial)
        claim = queue.claim(org, new_id(), durably=False)
        if isinstance(claim, Batch):
            text = str(client.get(keys.key("default", "batch", claim.id)) or "0")
            sent = int(text.partition(" ")[0]) / 1e6
            heapq.heappush(events, (sent + rnd.uniform(0.5, 1) * transit_s, next(order), arrive(claim)))
            continue
        look = clock.until(claim) if claim.look_at_ms >= 0 else math.inf
        while events and events[0][0] <= look:
            at, _, act = heapq.heappop(events)
            clock.advance(at)
            act(at)
            look = min(look, at)  # and see what it changed
        clock.advance(look)
    return calls


def settle(queue: Queue, org: Org, batch: Batch, answer: Answer) -> None:
    """Settle a batch as its answer says."""
    match answer.signal:
        case Signal.OK:
            each: Issued | DeadLetter | PutBack = Issued("earned")
        case Signal.IN_DOUBT:
            each = DeadLetter(DeadKind.IN_DOUBT, "500", "-")
        case _:
            each = PutBack("429", "-")
    verdict = Verdict((), answer.signal, "-", "-", answer.retry_after_s or None)
    queue.settle(org, batch, [each] * len(batch.jobs), verdict=verdict, sent=Sent("-", 1))


def top_up(queue: Queue, client: redis.Redis, org: Org, serial: count[int]) -> None:
    """See to it that there is always something to send."""
    if client.llen(keys.key("default", "queue")) < 100:
        queue.enqueue(org, run=RUN, items=[item(next(serial)) for _ in range(1000)], call=new_id())
