"""What bounds everybody: how much the stub vendor takes, and how fast anything can be put into Redis."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import payload
from stage import PATH, environment, said_by, server, vendor

BLAST_S = 1.0
AT_ONCE = 4  # requests under way on a connection
PIPELINE = 1000


def blast_vendor() -> float:
    """Return how many requests of a full batch a second the vendor answers to raw sockets."""
    with vendor(0) as (url, _):
        command = [sys.executable, __file__, url]
        running = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(payload.PROCESSES)
        ]
        return sum(float(blaster.communicate(timeout=60)[0]) for blaster in running)


def blast(url: str) -> float:
    """Send written requests over one socket, reading no more of the answers than their number of bytes."""
    body = json.dumps([payload.item(n) for n in range(payload.BATCH)], separators=(",", ":")).encode()
    request = f"PUT {PATH} HTTP/1.1\r\nHost: stub\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.settimeout(10)
        connection.sendall(request)
        # Constant but for the digits of the count in the first call: ids are of fixed width.
        length = len(_one_answer(connection))
        began = time.perf_counter()
        sent = received = 0
        while time.perf_counter() - began < BLAST_S:
            connection.sendall(request * AT_ONCE)
            sent += AT_ONCE
            while received < sent * length:
                received += len(connection.recv(1 << 20))
        return sent / (time.perf_counter() - began)


def _one_answer(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 20)
    while b"\r\n\r\n" not in data:
        data += connection.recv(1 << 20)
    head, _, _ = data.partition(b"\r\n\r\n")
    length = len(head) + 4 + int(head.rpartition(b"Content-Length: ")[2])
    while len(data) < length:
        data += connection.recv(1 << 20)
    return data


def xadd_per_second(items: int) -> float:
    """Return how many items a second a bare loop of XADD puts in, a thousand a round trip."""
    with server() as running:
        began = time.perf_counter()
        for first in range(0, items, PIPELINE):
            with running.client.pipeline(transaction=False) as pipe:
                for n in range(first, min(items, first + PIPELINE)):
                    pipe.xadd("items", {"item": json.dumps(payload.item(n), separators=(",", ":"))})
                pipe.execute()
        return items / (time.perf_counter() - began)


def enqueued_per_second(items: int) -> float:
    """Return how many items a second this project's producer puts into a server that nobody else uses."""
    with server() as running:
        env = environment(running.socket, "http://127.0.0.1:1", BENCH_ITEMS=items)
        return items / said_by([sys.executable, "badges.py"], env, 120)["elapsed_s"]


if __name__ == "__main__":
    sys.stdout.write(f"{blast(sys.argv[1])}{os.linesep}")
