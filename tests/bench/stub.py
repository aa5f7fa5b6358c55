"""The vendor of the benchmark: answers an import call as the real one does, at next to no cost.

One process, one event loop, no framework: what it costs is measured beside the contenders, and ``blast``
shows what it could take. Bodies are not parsed but searched, rows not built but filled in.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import time
from typing import Any

_ITEM = re.compile(rb'"badgeMetaId":\s*"([^"]+)",\s*"customerId":\s*(\d+)')
_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
_ROW = (
    b'{"data":{"badgeMetaId":"%s","customerId":%s,"earnedBadgeId":"%024x","expiresOn":1737450411.0,'
    b'"expiresOnISO":"2025-01-21T09:06:51Z","requestId":"5d1f2f7c-2c0e-4c53-8f0a-1b6e2f3a4c5d_%d",'
    b'"issuedId":null},"errors":null,"warnings":null}'
)
_HEAD = b"HTTP/1.1 %d Created\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class Books:
    """What the vendor was asked for."""

    def __init__(self) -> None:
        self.requests = self.items = 0
        self.arrived: list[tuple[float, int]] = []  # monotonic seconds, items
        self.customers: set[bytes] = set()

    def answer(self, body: bytes, arrived_s: float) -> bytes:
        """Issue what a call asks for, and return the rows."""
        found = _ITEM.findall(body)
        self.requests += 1
        self.arrived.append((arrived_s, len(found)))
        self.customers.update([customer for _, customer in found])
        rows = [
            _ROW % (badge, customer, self.items + n, n) for n, (badge, customer) in enumerate(found, start=1)
        ]
        self.items += len(rows)
        return b"[" + b",".join(rows) + b"]"

    def count(self) -> bytes:
        """Return the totals: more items than different customers were issued twice; and what came when."""
        totals = {"requests": self.requests, "items": self.items, "different": len(self.customers)}
        return json.dumps(totals | {"arrived": self.arrived}).encode()


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, books: Books, latency_s: tuple[float, float]) -> None:
        self._books, self._latency_s = books, latency_s
        self._loop = asyncio.get_running_loop()
        self._waiting = bytearray()
        self._arrived_s = 0.0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what to answer on."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole, pipelined ones too."""
        if not self._waiting:
            self._arrived_s = time.monotonic()
        self._waiting += data
        while (head := self._waiting.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._waiting, 0, head)
            end = head + 4 + (int(length[1]) if length else 0)
            if len(self._waiting) < end:
                return
            body = bytes(self._waiting[head + 4 : end])
            is_count = self._waiting.startswith(b"GET")
            del self._waiting[:end]
            self._reply(body, is_count=is_count)

    def _reply(self, body: bytes, *, is_count: bool) -> None:
        answer = self._books.count() if is_count else self._books.answer(body, self._arrived_s)
        whole = _HEAD % (200 if is_count else 201, len(answer)) + answer
        if is_count or not self._latency_s[1]:
            self._transport.write(whole)
        else:
            self._loop.call_later(random.uniform(*self._latency_s), self._transport.write, whole)


async def serve(latency_s: tuple[float, float]) -> None:
    """Serve on a free port of loopback, which is printed, until the process is ended."""
    books = Books()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(books, latency_s), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument(
        "--latency-ms", type=float, nargs="+", default=[0], help="of all answers, or FROM TO"
    )
    latencies = [ms / 1000 for ms in arguments.parse_args().latency_ms]
    asyncio.run(serve((latencies[0], latencies[-1])))
