"""Fairness among orgs: the places of the pool are shared, and no org, however slow or large, takes them all.

An org may hold half of the pool while others have some of it, orgs in trouble half of it together, and the
last place always stays for one that has none. With one org alone, or in a worker of its own, nothing is
counted. The shares are reckoned in ``lua/take_seat.lua``; whose turn is next is in ``process/turns.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from worker.domain.org import Org
from worker.domain.text import plain
from worker.server.cluster import reaching
from worker.store import keys
from worker.store.queue import SEND_WINDOW_S, Queue

ALIVE_MS = 20_000  # a worker that hasn't been heard of for so long has no places
CUT_OFF_MS = 60_000  # longer than between two of its tries to reach the broker


@dataclass(frozen=True, slots=True)
class Fleet:
    """The workers that were heard of lately, and when orgs are due to be looked at by one."""

    places: Mapping[str, int]  # how many batches each can have at once that serves all orgs
    own: frozenset[str]  # orgs that have workers of their own
    due_ms: Mapping[str, float]
    now_ms: int  # by the server's clock
    cut_off: Mapping[str, str] = field(default_factory=dict)  # workers without a broker -> why

    def serves(self, org: str) -> bool:
        """Whether any worker takes the org's jobs."""
        return bool(self.places) or org in self.own

    def no_broker(self, org: str) -> str | None:
        """Say why no worker can read its messages; ``None`` where one can, or none is known to be cut off."""
        others = self.places.keys() - self.cut_off.keys()
        return None if others or org in self.own else next(iter(self.cut_off.values()), None)

    def overdue_s(self, org: str | None = None) -> float:
        """Say since when an org waits for a worker to look at it; without one, that which waits longest."""
        due_ms = self.due_ms.get(org, self.now_ms) if org else min(self.due_ms.values(), default=self.now_ms)
        return max(0.0, self.now_ms - due_ms) / 1000


def fleet(queue: Queue) -> Fleet:
    """Look at the workers there are.

    Raises:
        StoreError: Redis can't be reached.
    """
    now_ms = queue.store.now_ms(keys.POOL)
    pipe = queue.client.pipeline(transaction=False)
    pipe.zrange(keys.POOL, now_ms, "+inf", byscore=True)
    pipe.zrange(keys.OWN, now_ms, "+inf", byscore=True)
    pipe.zrange(keys.WAKE, 0, -1, withscores=True)
    pipe.hgetall(keys.CUT_OFF)
    with reaching("the workers"):
        pool, own, due, cut_off = pipe.execute()
    offers = (str(worker).rpartition(" ") for worker in pool)
    return Fleet(
        places={worker: int(places) for worker, _, places in offers},
        own=frozenset(map(str, own)),
        due_ms={str(org): float(at_ms) for org, at_ms in due},
        now_ms=now_ms,
        cut_off={
            str(worker): reason
            for worker, (until_ms, _, reason) in (
                (name, str(it).partition(" ")) for name, it in cut_off.items()
            )
            if int(until_ms) > now_ms
        },
    )


def cut_off(queue: Queue, worker: str, reason: str) -> None:
    """Note why a worker can't read its messages, to be repeated while it can't; no reason: it can again.

    Raises:
        StoreError: Redis can't be reached, or takes no writes.
    """
    with reaching("the workers"):
        if reason:
            until_ms = queue.store.now_ms(keys.POOL) + CUT_OFF_MS
            queue.client.hset(keys.CUT_OFF, _word(worker), f"{until_ms} {plain(reason, 300)}")
            queue.client.pexpire(keys.CUT_OFF, CUT_OFF_MS)
        else:
            queue.client.hdel(keys.CUT_OFF, _word(worker))


class Seats:
    """The pool's places, across all workers."""

    def __init__(self, *, queue: Queue) -> None:
        self._queue = queue
        self._left: list[str] = []

    def offer(self, worker: str, places: int) -> None:
        """Say that a worker is alive and how many batches it can have at once; to be repeated."""
        self._queue.store.call("offer", [keys.POOL], [f"{_word(worker)} {places}", ALIVE_MS])

    def clear(self, worker: str) -> None:
        """Give back the places of a dead worker of this name; those of others stay."""
        with reaching("seats"):
            seats = [str(seat) for seat in self._queue.client.zrange(keys.SEATS, 0, -1)]
            if its := [seat for seat in seats if seat.split()[1] == _word(worker)]:
                self._queue.client.zrem(keys.SEATS, *its)

    def offer_own(self, org: str) -> None:
        """Say that a worker is alive that serves this org alone; to be repeated."""
        self._queue.store.call("offer", [keys.OWN], [org, ALIVE_MS])

    @contextmanager
    def take(self, org: Org, worker: str, *, alone: bool) -> Iterator[int]:
        """Hold a place for as long as the block lasts.

        Yields how many batches the org may have in flight at once, 0 if there was no place for this one.
        """
        if alone:
            yield org.max_in_flight
            return
        seat = self._queue.new_id()
        self._give_back()
        with reaching("seats"):
            probing = self._queue.client.hexists(keys.key(org.name, "gate"), "probing")
        hold_ms = int((SEND_WINDOW_S + org.http_timeout_s + SEND_WINDOW_S) * 1000)
        args = [org.name, _word(worker), seat, hold_ms, int(probing)]
        share = self._queue.store.call("take_seat", [keys.SEATS, keys.POOL], args)
        try:
            yield min(int(share), org.max_in_flight)
        finally:
            self._left.append(f"{org.name} {_word(worker)} {seat}")
            self._give_back()

    def _give_back(self) -> None:
        """Give back the places that were left; while Redis is away they stay for the next time."""
        with suppress(IndexError):  # there is none, or no other any more
            while name := self._left.pop():  # so that no other thread gives it back as well
                try:
                    self._queue.client.zrem(keys.SEATS, name, f"{name} probing")
                except RedisError:
                    self._left.append(name)
                    return


def _word(worker: str) -> str:
    return worker.replace(" ", "_")
