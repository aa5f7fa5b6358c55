"""Pages that are kept fresh: the live part of one is streamed whenever it has changed (server-sent)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import structlog
from fastapi import HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from worker.errors import BadgesError
from worker.server.cluster import UNAVAILABLE
from worker.web.console.service import Console

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
ALIVE_EVERY_S = 4.0
MOST_PAUSE_S = 15.0
ALIVE = "event: alive\ndata: \n\n"
MOST = 60  # at the same time


class Live:
    """The streams of one console; ``part_of`` writes what a page shows now, and may take a while."""

    def __init__(self, here: Console, part_of: Callable[[Request], str]) -> None:
        self._here, self._part_of, self._going_on = here, part_of, 0

    def answer(self, request: Request) -> Response:
        """Keep a page fresh for as long as somebody looks at it."""
        if self._going_on >= MOST:
            raise HTTPException(503, "too many pages are open")
        headers = {"X-Accel-Buffering": "no"}  # a proxy is to hand on each event at once
        return StreamingResponse(self._events(request), media_type="text/event-stream", headers=headers)

    async def _events(self, request: Request) -> AsyncIterator[str]:
        """Give the live part whenever it has changed, and signs of life in between."""
        last = ""
        self._going_on += 1
        try:
            while not self._here.ending.is_set():
                began_s = self._here.clock()
                try:
                    part = await run_in_threadpool(self._part_of, request)
                except Exception as error:
                    if not isinstance(error, (BadgesError, *UNAVAILABLE)):
                        log.exception("console.failed", page=request.url.query)
                    yield "event: away\ndata: \n\n"
                    await self._rest(ALIVE_EVERY_S)
                    continue
                yield ALIVE if part == last else _message(part)
                last = part
                # What takes long to look at is looked at less often.
                left_s = min(MOST_PAUSE_S, max(LOOK_EVERY_S, 4 * (self._here.clock() - began_s)))
                while await self._rest(min(left_s, ALIVE_EVERY_S)) and (left_s := left_s - ALIVE_EVERY_S) > 0:
                    yield ALIVE
        finally:
            self._going_on -= 1

    async def _rest(self, pause_s: float) -> bool:
        """Wait; say whether it goes on after that."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._here.ending.wait(), pause_s)
        return not self._here.ending.is_set()


def _message(part: str) -> str:
    return "".join(f"data: {line}\n" for line in part.splitlines()) + "\n"
