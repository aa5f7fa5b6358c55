"""The library for asyncio, ``from worker import AsyncBadgeQueue``; its work is done by ``badge_queue.py``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self, TypeVar

from worker.badge_queue import LOOK_EVERY_S, BadgeQueue, Given, deadline, pause_s
from worker.config import Settings
from worker.domain.org import DEFAULT_ORG
from worker.domain.provenance import Provenance
from worker.enqueue import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    Enqueued,
    EnqueueOptions,
    as_many,
    new_run,
    total,
)
from worker.errors import NoRoom
from worker.operate.operator import this_user
from worker.operate.progress import RunProgress
from worker.server.connection import Connection
from worker.store.queue import CHUNK, chunks, new_id

T = TypeVar("T")


class AsyncBadgeQueue:
    """The same for asyncio, and the same code: a ``BadgeQueue`` in one thread of its own.

    The event loop is never blocked. Calls may overlap, and take turns by chunks of 1,000 items. A cancelled
    caller leaves whole chunks behind: each is accepted or not, and handing in the same again is safe.
    It belongs to one event loop, and not to a child that was forked.
    """

    def __init__(self, *, settings: Settings) -> None:
        self._settings = settings
        self._opened: BadgeQueue | None = None
        # One, so that what is opened at the first use is opened once.
        self._thread = ThreadPoolExecutor(1, "badges")

    @classmethod
    def from_env(cls) -> Self:
        """Read ``BADGES_*``; the first use connects, or starts the embedded server.

        Raises:
            ConfigError: a setting is wrong; the text names it.
        """
        return cls(settings=Settings.load())

    async def enqueue(
        self,
        items: Given | Iterable[Given] | AsyncIterable[Given],
        *,
        org: str = DEFAULT_ORG,
        run: str | None = None,
        urgent: bool = False,
        wait: bool = False,
    ) -> Enqueued:
        """Accept badges as ``BadgeQueue.enqueue`` does; the items may come asynchronously.

        A plain iterable is read on the event loop, 1,000 items at a time: one that has to wait for its items
        should be asynchronous.

        Raises:
            ConfigError, NoRoom, StoreError: as in ``BadgeQueue.enqueue``.
            EmbeddedServerError: there is no embedded server to be had here; the text says what to do.
        """
        self._settings.org(org)
        source = Provenance(by=str(this_user()))
        options = EnqueueOptions(run or new_run("call"), new_id(), urgent=urgent, source=source)
        done, first = Enqueued(options.run), 0
        async for chunk in _chunks(items):
            part = replace(options, call=f"{options.call}.{first}")
            taken = await self._take(chunk, part, org=org, first=first, wait=wait, before=done)
            done = total(done.run, (done, taken))
            first += len(chunk)
        return done

    def run(self, run: str, *, org: str = DEFAULT_ORG) -> AsyncRun:
        """Return a run, to watch it; ``Enqueued.run`` is its name."""
        return AsyncRun(self, run, org)

    async def progress(self, run: str, *, org: str = DEFAULT_ORG) -> RunProgress:
        """Say where a run is; errors as in ``BadgeQueue.progress``."""
        return await self._do(lambda queue: queue.progress(run, org=org))

    async def close(self) -> None:
        """Let what is under way end, and leave Redis; an embedded server that nobody else uses ends."""
        await asyncio.to_thread(self._close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _take(  # noqa: PLR0913 - what, and how
        self,
        chunk: list[Given],
        options: EnqueueOptions,
        *,
        org: str,
        first: int,
        wait: bool,
        before: Enqueued,
    ) -> Enqueued:
        """Accept a chunk; waits for room on the event loop, so that other calls go on meanwhile."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await self._do(lambda queue: queue.take(chunk, options, org=org, first=first))
            except NoRoom as error:
                if not wait:
                    raise NoRoom(error.reason, accepted=before.accepted) from error
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _do(self, what: Callable[[BadgeQueue], T]) -> T:
        # In the caller's context: its trace goes on in the other thread.
        call = partial(copy_context().run, lambda: what(self._sync()))
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _sync(self) -> BadgeQueue:
        if self._opened is None:
            self._opened = BadgeQueue(settings=self._settings, connection=Connection.open(self._settings))
        return self._opened

    def _close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        if self._opened:
            self._opened.close()


@dataclass(frozen=True, slots=True)
class AsyncRun:
    """A run in the queue that it was handed in to."""

    queue: AsyncBadgeQueue
    name: str
    org: str = DEFAULT_ORG

    async def progress(self) -> RunProgress:
        """Say where it is; errors as in ``BadgeQueue.progress``."""
        return await self.queue.progress(self.name, org=self.org)

    async def wait(self, timeout_s: float | None = None, *, every_s: float = LOOK_EVERY_S) -> RunProgress:
        """Return once every job has ended, as ``Run.wait`` does."""
        end = deadline(timeout_s)
        while (now := await self.progress()).open:  # noqa: ASYNC110 - the run is elsewhere: no event tells
            await asyncio.sleep(pause_s(now, end, every_s))
        return now


async def _chunks(items: Given | Iterable[Given] | AsyncIterable[Given]) -> AsyncIterator[list[Any]]:
    if not isinstance(items, AsyncIterable):
        for taken in chunks(as_many(items)):
            yield taken
        return
    chunk: list[Any] = []
    async for item in items:
        chunk.append(item)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
