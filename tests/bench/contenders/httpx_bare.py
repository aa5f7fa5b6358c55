"""The ceiling: httpx sends the same batches, made and written beforehand; no queue, no results."""

import asyncio
import json
import multiprocessing
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import payload

JSON = {"Content-Type": "application/json"}


def with_threads(bodies: list[bytes]) -> Callable[[], None]:
    """Return what sends everything through one client that threads share."""
    http = httpx.Client(timeout=30, limits=httpx.Limits(max_connections=None))
    remaining = iter(bodies)
    lock = threading.Lock()

    def send() -> None:
        while True:
            with lock:
                body = next(remaining, None)
            if body is None:
                return
            http.put(payload.VENDOR, content=body, headers=JSON).raise_for_status()

    def run() -> None:
        threads = [threading.Thread(target=send) for _ in range(payload.CONCURRENCY)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    http.put(payload.VENDOR, content=b"[]", headers=JSON)
    return run


def with_asyncio(bodies: list[bytes]) -> Callable[[], None]:
    """Return what sends everything through one asynchronous client."""
    runner = asyncio.Runner()
    http = httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=None))
    remaining = iter(bodies)

    async def send() -> None:
        for body in remaining:
            (await http.put(payload.VENDOR, content=body, headers=JSON)).raise_for_status()

    async def run() -> None:
        await asyncio.gather(*[send() for _ in range(payload.CONCURRENCY)])

    runner.run(http.put(payload.VENDOR, content=b"[]", headers=JSON))
    return lambda: runner.run(run())


def one_process(way: Callable[..., Any], bodies: list[bytes], start: Any, told: Any) -> None:
    """Be ready, wait for the others, send, and tell how much time of a processor that took."""
    run = way(bodies)
    start.wait()
    before_s = time.process_time()
    run()
    told.put(time.process_time() - before_s)


def main(way: Callable[..., Any]) -> None:
    """Share the batches among the processes, and say what it took from start to the last answer."""
    context = multiprocessing.get_context("spawn")
    start, told = context.Barrier(payload.PROCESSES + 1), context.Queue()
    bodies = [json.dumps(batch, separators=(",", ":")).encode() for batch in payload.batches()]
    processes = [
        context.Process(target=one_process, args=(way, bodies[n :: payload.PROCESSES], start, told))
        for n in range(payload.PROCESSES)
    ]
    for process in processes:
        process.start()
    start.wait()
    began_at, began_s = time.time(), time.perf_counter()
    cpu_s = sum(told.get() for _ in processes)
    payload.say(began_at, time.perf_counter() - began_s, cpu_s)
    for process in processes:
        process.join()


if __name__ == "__main__":
    import sys

    main(with_asyncio if sys.argv[1:] == ["asyncio"] else with_threads)
