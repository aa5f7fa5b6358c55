"""What every contender delivers, and how each one says what that took; imports nothing but the library.

Contenders are programs of their own, some in virtual environments of their own. They are told everything by
the environment: ``BENCH_SOCKET`` ``BENCH_VENDOR`` ``BENCH_ITEMS`` ``BENCH_FIRST`` ``BENCH_BATCH``
``BENCH_PROCESSES`` ``BENCH_CONCURRENCY``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

SOCKET = os.environ.get("BENCH_SOCKET", "")
VENDOR = os.environ.get("BENCH_VENDOR", "")
ITEMS = int(os.environ.get("BENCH_ITEMS", "0"))
FIRST = int(os.environ.get("BENCH_FIRST", "0"))
BATCH = int(os.environ.get("BENCH_BATCH", "100"))
PROCESSES = int(os.environ.get("BENCH_PROCESSES", "2"))
CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "8"))

STORE, RESULTS = 0, 1  # databases of the server: results lie apart, so that DBSIZE counts them
FIRST_CUSTOMER = 500_000_000
BADGES = tuple(f"696f0fd40772ad476ecf74{n:02x}" for n in range(5))


def item(n: int) -> dict[str, Any]:
    """Return the n-th badge: no two are alike."""
    return {
        "badgeMetaId": BADGES[n % len(BADGES)],
        "customerId": FIRST_CUSTOMER + n,
        "earnEventDate": 1674292011,
        "earnExpiresOn": 1737450411,
    }


def items() -> Iterator[dict[str, Any]]:
    """Return this run's badges."""
    return map(item, range(FIRST, FIRST + ITEMS))


def batches() -> Iterator[list[dict[str, Any]]]:
    """Return the same in batches, made beforehand."""
    remaining = items()
    return iter(lambda: list(islice(remaining, BATCH)), [])


def redis_url(database: int) -> str:
    """Return the server's address as redis-py takes it."""
    return f"unix://{SOCKET}?db={database}"


def celery_url(database: int) -> str:
    """Return the server's address as Celery takes it."""
    return f"redis+socket://{SOCKET}?virtual_host={database}"


def report(produce: Callable[[], object]) -> None:
    """Run what hands the items in, and print when it began and what it took, as JSON."""
    began_at, began_s, cpu_s = time.time(), time.perf_counter(), time.process_time()
    produce()
    say(began_at, time.perf_counter() - began_s, time.process_time() - cpu_s)


def say(began_at: float, elapsed_s: float, cpu_s: float) -> None:
    """Print what handing in took."""
    print(json.dumps({"began_at": began_at, "elapsed_s": elapsed_s, "cpu_s": cpu_s}), flush=True)
