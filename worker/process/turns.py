"""An org's turn in a delivery: how long it lasts, which org is next, and when each is looked at again.

What becomes of one batch is in ``worker/delivery.py``; which places the pool has, in ``store/pool.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from structlog.contextvars import bound_contextvars

from worker.app import Services
from worker.delivery import Delivered
from worker.domain.batch import Batch, Due, Settled, Wait, Why
from worker.domain.org import Org
from worker.domain.outcome import Signal
from worker.errors import StoreError
from worker.process.timing import USUAL, Timing

log = structlog.get_logger()

SEAT_WAIT_MS = 200
# How soon a turn asks for a further delivery again: the one it asked for asks for the next.
ASK_AGAIN_S = 0.5

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Lasting:
    """How long deliveries and turns last while there is something to send.

    A message costs more than a batch, but other messages wait for a delivery's place, and other orgs for the
    end of a turn.
    """

    delivery_s: float = 2.0
    turn_s: float = 0.3

    def turn(self, *, alone: bool) -> float:
        """Return how long one org's turn lasts."""
        return self.delivery_s if alone else min(self.turn_s, self.delivery_s)


DRAINING = Lasting(0.0, 0.0)


@dataclass(slots=True)
class Turns:
    """One delivery: the turns of the org that it began with, and of those that queue up for a place.

    ``lasting`` is asked each time: a worker that is to end drains. ``sent`` has every batch that was sent.
    """

    here: Services
    worker: str
    alone: bool
    lasting: Callable[[], Lasting]
    clock: Clock = time.monotonic
    timing: Timing = USUAL
    check: Callable[[str], object] = lambda _org: None
    sent: list[Delivered] = field(default_factory=list)

    def go(self, first: Due) -> tuple[Delivered | Wait, Due | None]:
        """Give turns until the time is up; return how the last ended, and its org if others may wait."""
        began, due = self.clock(), first
        while True:
            last = self.turn(due)
            failed = isinstance(last, Delivered) and last.verdict.signal is not Signal.OK
            if self.alone or failed or self.clock() - began >= self.lasting().delivery_s:
                return last, due
            following = self.here.queue.take_next(ahead_ms=self.timing.ahead_ms)
            if following is None:
                return last, None
            due = following

    def turn(self, due: Due) -> Delivered | Wait:
        """Give an org its turn, if there is a place for it, and note when to look at it next."""
        orgs = self.here.settings.orgs()
        if due.org not in orgs:
            # Its jobs are kept; the sweep looks at it once it is back.
            log.warning("delivery.not_configured", org=due.org, cure="put it back into BADGES_ORGS_FILE")
            self.here.queue.hint(due.org, -1, seen=due.seen)
            return Wait(Why.CONFIGURED, -1)
        mine = orgs[due.org]
        seat = self.here.seats.take(mine, self.worker, alone=self.alone)
        with bound_contextvars(org=due.org), seat as share:
            if share:
                last = self._deliver_while_more(mine, share, _Looks(self, mine.name, due.seen))
            else:
                last = Wait(Why.PLACE, int(self.here.queue.now_s(mine.name) * 1000) + SEAT_WAIT_MS)
        if isinstance(last, Wait):
            self.here.queue.hint(due.org, last.look_at_ms, seen=due.seen)
            if last.check:
                self.check(due.org)
        return last

    def _deliver_while_more(self, org: Org, share: int, looks: _Looks) -> Delivered | Wait:
        """Deliver while the next batch may start at once and the turn lasts."""
        began, delivery = self.clock(), self.here.delivery
        while True:
            claimed = delivery.claim(org, share=share)
            if isinstance(claimed, Wait):
                return claimed
            looks.after_claim(claimed.batch)
            last = delivery.send(org, claimed)
            if isinstance(last, Wait):
                return last
            self.sent.append(last)
            looks.after_settlement(last.settled)
            if not last.settled.more:
                return last
            over = self.clock() - began >= self.lasting().turn(alone=self.alone)
            if over or last.verdict.signal is not Signal.OK:
                looks.note(last.settled.look_at_ms)
                return last


class _Looks:
    """When to look at an org outside its turn; neither raises: a claimed batch must be sent.

    The sweep finds what is lost here.
    """

    def __init__(self, turns: Turns, org: str, seen: str) -> None:
        self._turns, self._org = turns, org
        self._asked_at = -ASK_AGAIN_S
        # When somebody looks at the org anyway: early enough while a batch is out, whose settlement looks
        # again. Anything may stand in a message.
        self._looked_at_ms = int(seen) if str(seen).isdecimal() else 0

    def after_claim(self, batch: Batch) -> None:
        """Ask for another delivery if the next batch may start beside this one, or note when it may."""
        if batch.more:
            if (now := self._turns.clock()) - self._asked_at >= ASK_AGAIN_S:
                self._asked_at = now
                self.note(batch.look_at_ms)
        elif not self._looked_at_ms or batch.look_at_ms < self._looked_at_ms:
            self.note(batch.look_at_ms)

    def after_settlement(self, settled: Settled) -> None:
        """Note when to look again, which may be earlier than was known: there may be retries."""
        if not settled.more:
            self.note(settled.look_at_ms)

    def note(self, at_ms: int) -> None:
        """Note when to look at the org again."""
        try:
            self._turns.here.queue.hint(self._org, at_ms)
            if at_ms >= 0:
                self._looked_at_ms = at_ms
        except StoreError as error:
            log.warning("delivery.not_noted", reason=str(error))
