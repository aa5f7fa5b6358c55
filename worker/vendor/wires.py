"""What carries a call's bytes: a socket, or TLS inside the TLS of a proxy that speaks it.

How a call goes over them is in ``network.py``.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

TLS_RECORD_BYTES = 16_384


class Wire(Protocol):
    """What is used of a socket."""

    def send(self, data: memoryview, /) -> int:
        """Send some, and return how much."""

    def recv(self, size: int, /) -> bytes:
        """Receive some."""

    def settimeout(self, value: float | None, /) -> None:
        """Bound each of these."""

    def close(self) -> None:
        """Close it."""


class NestedTls:
    """TLS inside TLS: to the vendor, through a proxy that speaks TLS itself."""

    def __init__(
        self, below: Wire, context: ssl.SSLContext, host: str | None, remaining_s: Callable[[], float]
    ) -> None:
        self._below, self._remaining_s = below, remaining_s
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._turn(self._tls.do_handshake)

    def send(self, data: memoryview, /) -> int:
        """Send all of it."""
        return int(self._turn(lambda: self._tls.write(data)))

    def recv(self, size: int, /) -> bytes:
        """Receive some."""
        try:
            return bytes(self._turn(lambda: self._tls.read(size)))
        except ssl.SSLEOFError:
            return b""

    def poll(self) -> bytes:
        """Return the first byte of what has come without being waited for; none at its end.

        Raises:
            OSError: nothing has come.
        """
        self._below.settimeout(0)
        while True:
            with suppress(ssl.SSLWantReadError):
                return self._tls.read(1)
            if data := self._below.recv(TLS_RECORD_BYTES):
                self._incoming.write(data)
            else:
                return b""

    def settimeout(self, value: float | None, /) -> None:
        """Do nothing: each step below takes the time that is left."""

    def close(self) -> None:
        """Close the connection below."""
        self._below.close()

    def _turn(self, act: Callable[[], Any]) -> Any:
        """Act, and carry bytes up and down until it is done."""
        while True:
            try:
                done, wants = act(), False
            except ssl.SSLWantReadError:
                done, wants = None, True
            finally:
                self._flush()
            if not wants:
                return done
            self._below.settimeout(self._remaining_s())
            data = self._below.recv(TLS_RECORD_BYTES)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def _flush(self) -> None:
        rest = memoryview(self._outgoing.read())
        while rest:
            self._below.settimeout(self._remaining_s())
            rest = rest[self._below.send(rest) :]
