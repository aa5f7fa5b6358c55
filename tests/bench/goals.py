"""The goals of the benchmark, and whether a run met them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import payload
from stage import Performance

CEILINGS = ("httpx", "httpx-async")
# Over whom, by how much: items a second, and items per CPU-second.
TIMES_FASTER = {"celery-batch": (1.25, 1.5), "celery-batches": (10, 10), "celery-item": (20, 20)}
SHARES_OF_CEILING = {1: 0.75, 2: 0.75, 4: 0.7, 8: 0.6}  # by how many calls a process has under way, at 50 ms
SHARE_OF_XADD = 0.9
REDIS_US = 26


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal: in words, what is wanted, what was measured."""

    words: str
    wanted: str
    measured: str
    met: bool


def at_most(words: str, measured: float, limit: float, unit: str = "") -> Goal:
    """Return a goal that is met by not exceeding the limit."""
    return Goal(words, f"≤ {limit:,.4g}{unit}", f"{measured:,.3g}{unit}", measured <= limit)


def at_least(words: str, measured: float, limit: float, unit: str = "") -> Goal:
    """Return a goal that is met by reaching the limit."""
    return Goal(words, f"≥ {limit:,.4g}{unit}", f"{measured:,.3g}{unit}", measured >= limit)


def of_throughput(typical_runs: Sequence[Performance]) -> Iterator[Goal]:
    """Compare this project with the others and with the ceiling, within one run of the benchmark."""
    for latency in sorted({run.latency_ms for run in typical_runs}):
        runs = {run.contender: run for run in typical_runs if run.latency_ms == latency}
        if not (ours := runs.get("badges")):
            continue
        at = f"vendor {latency:g} ms"
        for name, wanted in TIMES_FASTER.items():
            if other := runs.get(name):
                for (words, speed), times in zip(_SPEEDS.items(), wanted, strict=True):
                    yield at_least(f"{words} over {name}, {at}", speed(ours) / speed(other), times, " times")
        redis_us = ours.cpu_s["redis"] / ours.items * 1e6
        yield at_most(f"Redis's processor an item, {at}", redis_us, REDIS_US, " µs")
        yield from of_ceiling(typical_runs, latency, payload.CONCURRENCY)


def of_ceiling(typical_runs: Sequence[Performance], latency_ms: float, calls: int) -> Iterator[Goal]:
    """Compare this project with the bare HTTP client, each process having so many calls under way at once."""
    speeds = {run.contender: run.per_second for run in typical_runs if run.latency_ms == latency_ms}
    ceiling = max((speeds[name] for name in CEILINGS if name in speeds), default=0.0)
    if ceiling and "badges" in speeds and latency_ms:  # without any it is Redis that bounds, not the calls
        share = 100 * speeds["badges"] / ceiling
        words = f"share of bare httpx ({ceiling:,.0f}/s), vendor {latency_ms:g} ms, {calls} calls a process"
        yield at_least(words, share, 100 * SHARES_OF_CEILING[calls], " %")


def of_enqueueing(enqueued_per_second: float, xadd_per_second: float) -> Goal:
    """Compare enqueueing with a bare pipelined XADD loop of the same payload."""
    words = f"enqueueing ({enqueued_per_second:,.0f}/s) against pipelined XADD ({xadd_per_second:,.0f}/s)"
    return at_least(words, 100 * enqueued_per_second / xadd_per_second, 100 * SHARE_OF_XADD, " %")


_SPEEDS: dict[str, Callable[[Performance], float]] = {
    "items/s": lambda run: run.per_second,
    "items per CPU-second": lambda run: run.per_cpu_second,
}
