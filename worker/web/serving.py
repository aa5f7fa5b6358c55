"""Serving HTTP in the foreground, until a signal: the intake, metrics and the console."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from asyncio import Transport
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from types import FrameType
from typing import Any

import structlog
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from worker.domain.text import plain

log = structlog.get_logger()

MOST_CONNECTIONS = 1000  # further ones are answered 503
HEAD_WITHIN_S = 10.0
HEAR_OUT_S = 1.0
LINES_AT_ONCE = 500


def serve_app(  # noqa: PLR0913 - what is served, where, and with how much patience
    app: ASGIApp,
    *,
    host: str,
    port: int,
    drain_s: int,
    on_ready: Callable[[str], None],
    on_end: Callable[[], None] = lambda: None,
    head_within_s: float = HEAD_WITHIN_S,
) -> None:
    """Serve until Ctrl-C or SIGTERM, which are clean ends; port 0 takes a free one.

    Args:
        app: what to serve.
        host: the address to listen at.
        port: 0 takes a free one.
        drain_s: how long calls that are going on may still take after the signal.
        on_ready: called with the URL once the port is bound.
        on_end: called upon the signal, at once; answers that would go on for ever are to end then.
        head_within_s: how long a connection may take until the whole head of its next request is there.

    Raises:
        OSError: the port is taken.
    """
    config = uvicorn.Config(
        _Unambiguous(app),
        http=_Punctual,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=drain_s,
        timeout_keep_alive=head_within_s,  # type: ignore[arg-type] # a float does as well
        limit_concurrency=MOST_CONNECTIONS,
    )
    # The server shuts down by itself on both signals, and then raises them again: both end the block below.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with socket.create_server((host, port)) as listener, contextlib.suppress(KeyboardInterrupt):
        on_ready(f"http://{host}:{listener.getsockname()[1]}")
        _Server(config, on_end).run([listener])


def in_pages(lines: Iterable[str]) -> Iterator[str]:
    """Join lines, since each piece of an answer costs a change of threads."""
    remaining = iter(lines)
    while page := "".join(islice(remaining, LINES_AT_ONCE)):
        yield page


class _Server(uvicorn.Server):
    """Says that it is to end before it waits for what is going on."""

    def __init__(self, config: uvicorn.Config, on_end: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_end = on_end

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_end()
        super().handle_exit(sig, frame)


class _Punctual(H11Protocol):
    """Closes a connection on which the whole head of the next request isn't there in time.

    uvicorn's own waits for ever for the first byte of the first one, and, after any byte, for the rest.
    """

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # as uvicorn's own
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        # Without stopping the clock: a whole head does that.
        self.conn.receive_data(data)
        self.handle_events()


class _Unambiguous:
    """Refuses a request that says twice where it ends: a proxy before us may have read the other one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or refuse it and hang up: what follows on the connection is anybody's."""
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}:
            words = "Content-Length with Transfer-Encoding: send one\n"
            hearing_out = partial(_hear_out, receive, send)
            await PlainTextResponse(words, 400, {"Connection": "close"})(scope, receive, hearing_out)
        else:
            await self._app(scope, receive, send)


async def _hear_out(receive: Receive, send: Send, message: Message) -> None:
    """Send a refusal, and end it once the body is there, or doesn't come.

    To hang up on who is still sending may take the answer away from it.
    """
    if message["type"] != "http.response.body":
        await send(message)
        return
    await send({**message, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HEAR_OUT_S):
            while (await receive()).get("more_body"):
                pass
    await send({"type": "http.response.body", "body": b""})


class AccessLog:
    """One line a request: who, which run, how many items, how long. No key, no body, no query."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, then log it."""
        if scope["type"] != "http" or scope["path"] == "/healthz":
            await self._app(scope, receive, send)
            return
        noted: dict[str, Any] = scope.setdefault("state", {})
        started, status = time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            elapsed_ms = round((time.monotonic() - started) * 1000)
            who = {name: noted[name] for name in ("org", "run") if name in noted} | noted.get("counts", {})
            asked = {"method": scope["method"], "path": plain(scope["path"], 200)}
            log.info("intake.request", **asked, status=status, elapsed_ms=elapsed_ms, **who)
