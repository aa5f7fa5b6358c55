"""One call on the network: its connections go by its one deadline and note whether its request has left.

httpcore speaks HTTP over these through its public network-backend interface; they see every connect,
handshake, send and receive of the call, those to a proxy included. What a call is made of is in
``transport.py``, how names become addresses in ``addresses.py``, TLS inside TLS in ``wires.py``.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import StrEnum
from typing import Any, Protocol

import httpcore

from worker.vendor.addresses import Resolver, connect_first
from worker.vendor.wires import NestedTls, Wire


class Stage(StrEnum):
    """How far a call has come; the words stand in the reason when it ends there."""

    NAME = "looking up the vendor's address"
    CONNECT = "connecting"
    PROXY = "asking the proxy"
    TLS = "in the TLS handshake"
    WAIT = "waiting for its time to send"
    REQUEST = "sending the request"
    ANSWER = "waiting for the answer"
    READING = "reading the answer"


class DeadlineError(Exception):
    """The time of the whole call is over."""


class NotSentError(Exception):
    """The request can't leave any more, and no byte of it did; of no kind that httpcore would swallow."""


class Passage(Protocol):
    """What the request's owner has to say about its leaving."""

    def wait(self) -> None:
        """Wait until it may leave; the connection stands by then."""

    def enter(self) -> None:
        """Let the first byte leave, or raise: nothing is done between this and the socket."""

    def has_left(self) -> None:
        """Note that the first byte has left."""

    def is_over(self) -> None:
        """Do what is to be done once all of it has left."""


class Call:
    """One call: its deadline (monotonic), and whether any byte of its request may have ``left``."""

    def __init__(self, deadline: float, passage: Passage) -> None:
        self.left = False
        self.stage = Stage.NAME
        self._deadline, self._passage = deadline, passage
        self._wires: list[Wire] = []

    def remaining_s(self) -> float:
        """Return the time that is left, always more than none.

        Raises:
            DeadlineError: no time is left.
        """
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise DeadlineError
        return left_s

    def opened(self, wire: Wire) -> None:
        """Note a socket, to be closed with the call."""
        self._wires.append(wire)

    def before_first_byte(self, look: Callable[[], str | None]) -> None:
        """Wait until the request may leave; the fence is the last thing before the socket."""
        self.stage = Stage.WAIT
        self._passage.wait()
        if fault := look():
            raise NotSentError(fault)
        self._passage.enter()
        self.stage = Stage.REQUEST

    def after_first_byte(self) -> None:
        """Note that the request has begun to leave."""
        self._passage.has_left()

    def before_read(self) -> None:
        """Note that the request is on its way."""
        if self.left and self.stage is Stage.REQUEST:
            self.stage = Stage.ANSWER
            self._passage.is_over()

    def close(self) -> None:
        """Close every socket of the call."""
        while self._wires:
            with suppress(OSError):
                self._wires.pop().close()


class Stream(httpcore.NetworkStream):
    """A connection of a call: ``reaching`` the vendor through a proxy still, or to the vendor itself."""

    def __init__(self, wire: Wire, call: Call, *, reaching: bool) -> None:
        self._wire, self._call = wire, call
        self._reaching = reaching
        self._asked_proxy = False
        call.opened(wire)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the call's counts
        """Receive what there is, within the call's time."""
        self._call.before_read()
        try:
            self._wire.settimeout(self._call.remaining_s())
            data = self._wire.recv(max_bytes)
        except TimeoutError:
            raise DeadlineError from None
        except OSError as error:
            raise httpcore.ReadError(in_words(error)) from error
        if data and self._call.stage is Stage.ANSWER:
            self._call.stage = Stage.READING
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - as above
        """Send all of it, within the call's time; before the request's first byte the fence is asked."""
        if not buffer:
            return
        if self._reaching:
            self._asked_proxy, self._call.stage = True, Stage.PROXY
        elif not self._call.left:
            self._call.before_first_byte(self._spoke_first)
        rest = memoryview(buffer)
        while rest:
            rest = rest[self._send(rest) :]

    def _send(self, data: memoryview) -> int:
        """Send some. A plain send that fails took nothing; under TLS a part of it may have left."""
        is_first = not (self._reaching or self._call.left)
        remaining_s = self._call.remaining_s()
        if is_first:
            self._call.left = True
        try:
            self._wire.settimeout(remaining_s)
            sent = self._wire.send(data)
        except OSError as error:
            if is_first and not _is_tls(self._wire):
                self._call.left = False
            if isinstance(error, TimeoutError):
                raise DeadlineError from None
            if not self._call.left:
                raise NotSentError(in_words(error)) from error
            # httpcore reads on after this one: a vendor may answer before it has read everything.
            raise httpcore.WriteError(in_words(error)) from error
        if is_first:
            self._call.after_first_byte()
        return sent

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - as above
    ) -> Stream:
        """Shake hands, with the proxy at first if there is one that speaks TLS, and with the vendor last."""
        self._call.stage = Stage.TLS
        try:
            self._wire.settimeout(self._call.remaining_s())
            wire: Wire
            if isinstance(self._wire, socket.socket) and not isinstance(self._wire, ssl.SSLSocket):
                self._wire.getpeername()  # of one that was reset, Python would leave the socket open
                wire = ssl_context.wrap_socket(self._wire, server_hostname=server_hostname)
            else:
                wire = NestedTls(self._wire, ssl_context, server_hostname, self._call.remaining_s)
        except TimeoutError:
            raise DeadlineError from None
        except (OSError, ValueError) as error:
            raise httpcore.ConnectError(f"TLS: {in_words(error)}") from error
        return Stream(wire, self._call, reaching=self._reaching and not self._asked_proxy)

    def close(self) -> None:
        """Close the socket."""
        with suppress(OSError):
            self._wire.close()

    def get_extra_info(self, info: str) -> Any:
        """Tell httpcore that HTTP/1.1 is spoken, by having no TLS object to show; nothing else is asked."""
        del info

    def _spoke_first(self) -> str | None:
        """Say what a vendor did that closed, or answered, before it was asked anything."""
        try:
            said = self._poll()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except OSError as error:
            return in_words(error)
        return "it answered before it was asked" if said else "it closed the connection before it was asked"

    def _poll(self) -> bytes:
        if isinstance(self._wire, NestedTls):
            return self._wire.poll()
        self._wire.settimeout(0)
        if isinstance(self._wire, socket.socket) and not _is_tls(self._wire):
            return self._wire.recv(1, socket.MSG_PEEK)
        return self._wire.recv(1)


class Backend(httpcore.NetworkBackend):
    """Makes the connections of one call."""

    def __init__(self, call: Call, resolver: Resolver, *, tunnels: bool) -> None:
        self._call, self._resolver, self._tunnels = call, resolver, tunnels

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the call's counts
        local_address: str | None = None,  # noqa: ARG002 - httpcore's
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - httpcore's
    ) -> Stream:
        """Connect to the first of a host's addresses that takes it."""
        call = self._call
        try:
            call.stage = Stage.NAME
            addresses = self._resolver.look_up(host, port, within_s=call.remaining_s())
            call.stage = Stage.CONNECT
            connected = connect_first(addresses, remaining_s=call.remaining_s)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except TimeoutError:
            raise DeadlineError from None
        except OSError as error:
            raise httpcore.ConnectError(in_words(error)) from error
        return Stream(connected, call, reaching=self._tunnels)


def _is_tls(wire: Wire) -> bool:
    return isinstance(wire, ssl.SSLSocket | NestedTls)


def in_words(error: Exception) -> str:
    """Say in a few words what failed; OpenSSL's own name the line of its source, and not the reason."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
