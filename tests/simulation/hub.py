"""Virtual time, and who goes on when: greenlets, one at a time, so that nothing but the seed decides.

Whoever waits (for Redis, for the vendor, for time to pass) says for how long, and the next in time goes on.
A process that is killed ends wherever it waits: nothing that it would have done afterwards is done.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from greenlet import getcurrent, greenlet

SECOND = 1_000_000
FOREVER_US = 10**15
MOST_EVENTS = 20_000  # a round has about a thousand


class Killed(BaseException):
    """The process was killed; no code of the program's catches it."""


class Stuck(AssertionError):  # noqa: N818 - reads as what is the case
    """Something that had to come about didn't."""


@dataclass(eq=False)
class Process:
    """What dies together. ``notes`` is the room for what the simulation knows of it."""

    name: str
    alive: bool = True
    notes: dict[str, Any] = field(default_factory=dict)


class Actor(greenlet):
    """One thread of a process."""

    process: Process
    turn: int  # which of its entries in the hub's list counts
    rests: bool = False  # it waits for nothing but time: what happens meanwhile needs nobody else


_Entry = tuple[int, int, Actor | Callable[[], None]]  # when, which turn, and who or what goes on then


class Hub:
    """The clock of the world, in microseconds, and all that waits for it."""

    def __init__(self) -> None:
        self.now_us = 0
        self._waiting: list[_Entry] = []
        self._serial = count()
        self._asleep: dict[Actor, None] = {}
        self._here = getcurrent()

    @property
    def process(self) -> Process:
        """The process that is going on."""
        actor = getcurrent()
        assert isinstance(actor, Actor)
        return actor.process

    @property
    def who(self) -> str:
        """The name of the process that is going on, if one is."""
        actor = getcurrent()
        return actor.process.name if type(actor) is Actor else ""

    def spawn(self, process: Process, run: Callable[[], None], *, after_us: int = 0) -> None:
        """Start a thread of a process."""

        def guarded() -> None:
            try:
                run()
            except Killed:
                process.alive = False

        actor = Actor(guarded, parent=self._here)
        actor.process = process
        self._push(after_us, actor)

    def later(self, after_us: int, call: Callable[[], None]) -> None:
        """Let something happen that waits for nothing: no process can stop it any more."""
        self._push(after_us, call)

    def pause(self, us: int) -> None:
        """Let the others go on for so long."""
        actor = getcurrent()
        assert isinstance(actor, Actor)
        if not actor.process.alive:
            raise Killed
        self._push(us, actor)
        self._here.switch()
        if not actor.process.alive:
            raise Killed

    def sleep(self, us: int) -> None:
        """Let the others go on for so long, or until somebody wakes this one."""
        actor = getcurrent()
        assert isinstance(actor, Actor)
        self._asleep[actor] = None
        try:
            self.rest(us)
        finally:
            self._asleep.pop(actor, None)

    def rest(self, us: int) -> None:
        """Let the others go on for so long, with nothing in hand: such time may be passed over."""
        actor = getcurrent()
        assert isinstance(actor, Actor)
        actor.rests = True
        try:
            self.pause(us)
        finally:
            actor.rests = False

    def idle_us(self) -> int:
        """Return how long nothing comes but the end of somebody's rest; 0 if it is less than a second."""
        if self._waiting and self._waiting[0][0] < self.now_us + SECOND:
            return 0
        to_come = (entry[0] for entry in self._waiting if not _is_stale(entry) and not _rests(entry[2]))
        return min(to_come, default=FOREVER_US) - self.now_us

    def pass_over(self, us: int) -> None:
        """Leap ahead: for those who rest no time passes."""
        self.now_us += us
        self._waiting = [(at + us * _rests(what), turn, what) for at, turn, what in self._waiting]
        heapq.heapify(self._waiting)

    def wake(self, choose: Callable[[list[Actor]], Actor]) -> None:
        """Wake one of those that sleep, if any do."""
        if asleep := [actor for actor in self._asleep if actor.process.alive]:
            chosen = choose(asleep)
            del self._asleep[chosen]
            chosen.rests = False
            self._push(0, chosen)

    def crash(self) -> None:
        """Kill the process that is going on."""
        self.process.alive = False
        raise Killed

    def run(self, *, until: Callable[[], bool], limit_us: int) -> None:
        """Go on until that is so.

        Raises:
            Stuck: it isn't within the limit of virtual time, nobody waits for anything any more, or all go
                round and round.
        """
        end_us, events = self.now_us + limit_us, 0
        while not until():
            events += 1
            if events > MOST_EVENTS:
                raise Stuck(f"not after {MOST_EVENTS} turns: somebody goes round and round")
            if not self._waiting:
                raise Stuck("nobody is left who could do anything")
            entry = heapq.heappop(self._waiting)
            if _is_stale(entry):
                continue
            at_us, _, what = entry
            if at_us > end_us:
                raise Stuck(f"not within {limit_us / SECOND:.0f} s of virtual time")
            self.now_us = max(self.now_us, at_us)
            what.switch() if isinstance(what, Actor) else what()

    def end(self) -> None:
        """Kill all that is left."""
        for entry in self._waiting:
            _, _, what = entry
            if isinstance(what, Actor) and not _is_stale(entry):
                what.process.alive = False
                what.switch()
        self._waiting.clear()

    def _push(self, after_us: int, what: Actor | Callable[[], None]) -> None:
        turn = next(self._serial)
        if isinstance(what, Actor):
            what.turn = turn
        heapq.heappush(self._waiting, (self.now_us + max(0, int(after_us)), turn, what))


def _is_stale(entry: _Entry) -> bool:
    """Say whether it is about somebody who was woken before."""
    _, turn, what = entry
    return isinstance(what, Actor) and turn != what.turn


def _rests(what: Actor | Callable[[], None]) -> bool:
    return isinstance(what, Actor) and what.rests
