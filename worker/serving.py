"""Serving HTTP in the foreground, for every command that does: until a signal, which is a clean end."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

MOST_CONNECTIONS = 1000  # further ones are answered 503


def serve_app(app: ASGIApp, *, host: str, port: int, drain_s: int, on_ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM, which are clean ends; port 0 takes a free one.

    Args:
        app: what to serve.
        host: the address to listen at.
        port: 0 takes a free one.
        drain_s: how long calls that are going on may still take after the signal.
        on_ready: called with the URL once the port is bound.

    Raises:
        OSError: the port is taken.
    """
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=drain_s,
        limit_concurrency=MOST_CONNECTIONS,
    )
    # The server shuts down by itself on both signals, and then raises them again: both end the block below.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with socket.create_server((host, port)) as listener, contextlib.suppress(KeyboardInterrupt):
        on_ready(f"http://{host}:{listener.getsockname()[1]}")
        uvicorn.Server(config).run([listener])
