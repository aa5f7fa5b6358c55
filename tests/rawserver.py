"""Servers on loopback whose every byte a test chooses: a vendor, with TLS or without, and a proxy."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

Serve = Callable[["Connected"], None]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"


class Connected:
    """One connection at the server's side."""

    def __init__(self, its: socket.socket, server: RawServer) -> None:
        self.socket = its
        self._server = server

    def read(self) -> bytes:
        """Read one whole request; nothing if the client has gone."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += (more := self.socket.recv(65536))
            if not more:
                return b""
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(h[15:]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:")), 0
        )
        while len(body) < length:
            body += self.socket.recv(65536)
        self._server.requests.append(head + b"\r\n\r\n" + body)
        return self._server.requests[-1]

    def read_head(self) -> bytes:
        """Read the head of a request, to the letter, and note it."""
        head = b""
        while not head.endswith(b"\r\n\r\n") and (more := self.socket.recv(1)):
            head += more
        self._server.requests.append(head)
        return head

    def send(self, data: bytes) -> None:
        """Send."""
        self.socket.sendall(data)

    def send_together(self, *pieces: bytes) -> None:
        """Send several writes, each a TLS record if it is one, in the same packet."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        for piece in pieces:
            self.send(piece)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    def drip(self, data: bytes) -> None:
        """Send a byte every 0.3 s, as long as the client takes them and the test lasts."""
        for n in range(len(data)):
            self.send(data[n : n + 1])
            if self._server.over.wait(0.3):
                return

    def said(self) -> bytes:
        """Return what was read last."""
        return self._server.requests[-1]

    def drain(self) -> None:
        """Read what still comes, until the client closes."""
        while self.socket.recv(65536):
            pass

    def wait(self) -> None:
        """Do nothing until the test is over."""
        self._server.over.wait(8)

    def over_within(self, seconds: float) -> bool:
        """Say whether the test is over, waiting for it that long."""
        return self._server.over.wait(seconds)

    def reset(self) -> None:
        """End with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class RawServer:
    """A server on loopback whose every byte the test chooses; ``serve`` handles one connection."""

    def __init__(self, serve: Serve, *, tls: ssl.SSLContext | None = None) -> None:
        self._serve = serve
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Else the system lets it grow with what comes, to more than any test sends.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 262_144)
        self._threads: list[threading.Thread] = []
        self.requests: list[bytes] = []
        self.connections = 0
        self.over = threading.Event()

    @property
    def address(self) -> str:
        """Host and port."""
        return "{}:{}".format(*self._listener.getsockname())

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                its, _ = self._listener.accept()
                self.connections += 1
                self._start(self._one, its)

    def _one(self, its: socket.socket) -> None:
        its.settimeout(8)
        its.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is sent has arrived
        with its, contextlib.suppress(OSError):
            if self._tls is None:
                self._serve(Connected(its, self))
            else:
                with self._tls.wrap_socket(its, server_side=True) as wrapped:
                    self._serve(Connected(wrapped, self))


def answering(*pieces: bytes) -> Serve:
    """Read a request, send the pieces, and close."""

    def serve(connected: Connected) -> None:
        if connected.read():
            for piece in pieces:
                connected.send(piece)

    return serve


def keeping(answer: bytes = OK) -> Serve:
    """Answer request after request on one connection."""

    def serve(connected: Connected) -> None:
        while connected.read():
            connected.send(answer)

    return serve


def certify(
    folder: Path, *, names: str = "IP:127.0.0.1,DNS:vendor.test", expired: bool = False
) -> ssl.SSLContext:
    """Make ``cert.pem`` and ``key.pem`` there, for these names; return a server's side of it."""
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x"
    files = ["-keyout", "key.pem", "-out", "cert.pem", "-addext", f"subjectAltName={names}"]
    subprocess.run([*make.split(), *files], cwd=folder, check=True, capture_output=True)
    if expired:
        again = "openssl x509 -in cert.pem -signkey key.pem -days -1 -out cert.pem"
        subprocess.run(again.split(), cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def tunnelling(port: int, *, first: Serve = lambda _: None) -> Serve:
    """Be a proxy that leads to a port of this machine, whatever the host; ``first`` may spoil it."""

    def serve(connected: Connected) -> None:
        head = connected.read_head()
        first(connected)
        with socket.create_connection(("127.0.0.1", port), timeout=3) as beyond:
            if head.startswith(b"CONNECT "):
                connected.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                beyond.sendall(head)
            _carry(connected.socket, beyond)

    return serve


def _carry(here: socket.socket, there: socket.socket) -> None:
    """Carry bytes both ways until one side has ended."""
    other = {here: there, there: here}
    while True:
        for ready in select.select([here, there], [], [], 8)[0]:
            while True:
                data = ready.recv(65536)
                if not data:
                    return
                other[ready].sendall(data)
                if not (isinstance(ready, ssl.SSLSocket) and ready.pending()):
                    break
