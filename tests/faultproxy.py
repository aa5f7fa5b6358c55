"""A proxy between worker and vendor that does to single requests what networks do, and keeps count.

It works on bytes: it reads one whole request, may forward it and read the whole answer, and then passes
it on, or resets, truncates, drips, hangs, or answers nonsense. What the vendor applied stays applied.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

HEAD_END = b"\r\n\r\n"

# What a test does itself with a request: it gets the request's bytes and a way to forward them, and
# returns the bytes to answer.
Forward = Callable[[bytes], Awaitable[bytes]]
Behaviour = Callable[[bytes, Forward], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Request:
    """A request that arrived whole: when, by the monotonic clock, and its JSON body, if it has any."""

    arrived_s: float
    method: str
    path: str
    items: Any


class FaultProxy:
    """Listens on loopback; ``choose`` names the fault of each request, or is a behaviour of its own.

    ``pass`` is no fault.

    Faults before the vendor sees anything: ``reset_before``, ``hang_before``. After it applied the call:
    ``reset_after``, ``hang_after``, ``truncate``, ``drip``, ``nonsense``, ``bad_gateway``, ``empty``,
    ``html``, ``huge``.

    The port is bound when the object is made, unless there is a listener already. ``listening=False``
    refuses connections until ``listen``.
    """

    def __init__(
        self,
        target: str,
        choose: Callable[[], str | Behaviour] = lambda: "pass",
        *,
        listening: bool = True,
        listener: socket.socket | None = None,
    ) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self._choose = choose
        self.met: Counter[str] = Counter()
        self.requests: list[Request] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = listener or _bound()
        self._server: asyncio.Server | None = None
        self._listening = listening
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        if self._listening:
            self.listen()
        return self

    def listen(self) -> None:
        """Take connections, also those that have waited in the socket's backlog."""
        starting = asyncio.start_server(self._serve, sock=self._socket)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()

    @property
    def sizes(self) -> list[int]:
        """The number of items in each request, in the order they came."""
        return [len(request.items) for request in self.requests]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        if self._server:
            self._server.close()
        self._socket.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            while request := await _message(reader):
                self.requests.append(_read(request))
                fault = self._choose()
                if not isinstance(fault, str):
                    self.met["behaviour"] += 1
                    writer.write(await fault(request, self._forward))
                    await writer.drain()
                    continue
                self.met[fault] += 1
                if not await self._meet(fault, request, writer):
                    return
        except (OSError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            writer.close()

    async def _meet(  # noqa: C901 - one case a fault
        self, fault: str, request: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        """Do what the fault says; answers whether the connection may go on."""
        if fault == "reset_before":
            _reset(writer)
            return False
        if fault == "hang_before":
            await asyncio.sleep(3600)
        answer = await self._forward(request)
        match fault:
            case "pass":
                writer.write(answer)
                await writer.drain()
                return True
            case "reset_after":
                _reset(writer)
            case "hang_after":
                await asyncio.sleep(3600)
            case "truncate":
                writer.write(answer[: len(answer) * 2 // 3])
                await writer.drain()
            case "drip":
                for n in range(len(answer)):
                    writer.write(answer[n : n + 1])
                    await writer.drain()
                    await asyncio.sleep(0.3)
            case "huge":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n")
                for _ in range(200):
                    writer.write(b"x" * 1_000_000)
                    await writer.drain()
            case _:
                writer.write(_CANNED[fault])
                await writer.drain()
        return False

    async def _forward(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self._target)
        writer.write(request)
        await writer.drain()
        answer = await _message(reader)
        writer.close()
        return answer


_CANNED = {
    "nonsense": b"\x00\x01\x02 this is no HTTP\r\n\r\n",
    "bad_gateway": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbad",
    "empty": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "html": b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n<html>hi</html>",
}


def _bound() -> socket.socket:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    return made


def _read(request: bytes) -> Request:
    head, _, body = request.partition(HEAD_END)
    method, path, _ = head.split(b"\r\n")[0].decode().split(" ", 2)
    try:
        items = json.loads(body)
    except ValueError:
        items = None
    return Request(time.monotonic(), method, path, items)


def answer(status: int, body: object = b"", **headers: str) -> bytes:
    """Write an HTTP answer; a body that isn't bytes goes as JSON, ``Retry_After`` as ``Retry-After``."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} -", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + HEAD_END + content


async def _message(reader: asyncio.StreamReader) -> bytes:
    """Read one HTTP message with a Content-Length; nothing if the connection ends before it."""
    try:
        head = await reader.readuntil(HEAD_END)
    except asyncio.IncompleteReadError:
        return b""
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return head + (await reader.readexactly(length) if length else b"")


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a TCP reset instead of an orderly end."""
    its = writer.get_extra_info("socket")
    its.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
