"""The gate in real time: is the limit kept by many processes, in every window, and used?

    python tests/bench/gate.py [--quick] [--only WORD]

Every scenario is a number of real workers, in one or two groups, one of them killed (-9) in the middle if
asked; a vendor whose answers take 20 to 400 ms; one job a call, so that calls are what counts. When calls
leave is noted in the workers, right before the first byte; when they arrive, at the vendor. No sliding window
may hold more than stated at the sending side; nor at the vendor's, as long as the transit jitters less
than half of the guard, since the other half is for a worker that sends a little late. This machine's jitter
is in the table.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from payload import item
from stage import books, environment, program, server, vendor, wait_until_ready

from worker.domain.badge import BadgeIssue
from worker.domain.batch import Item
from worker.domain.identity import content_id
from worker.domain.org import Org, parse_limits
from worker.store.protocol import GUARD
from worker.store.queue import Queue, new_id
from worker.store.record import badge_fields

ANSWERS_MS = (20.0, 400.0)
PROBED = Path(__file__).parent / "contenders" / "probed_worker.py"
BARE = PROBED.with_name("bare_sender.py")


@dataclass(frozen=True, slots=True)
class Scenario:
    """Workers under a limit."""

    rate_limit: str
    seconds: float
    workers: int = 8
    groups: int = 1
    kills: bool = False
    batch_size: int = 1
    bare: bool = False  # the gate alone, without Celery and HTTP

    @property
    def words(self) -> str:
        """What it is, in the table."""
        words = [self.rate_limit, f"{self.workers} workers"]
        if self.groups > 1:
            words[-1] += f" in {self.groups} groups"
        words += ["one killed"] * self.kills + ["the gate alone"] * self.bare
        return ", ".join(words)


SCENARIOS = (
    Scenario("100/minute", 130),
    Scenario("20/second", 40),
    Scenario("20/second", 40, workers=6, groups=2, kills=True),
    Scenario("500/second", 20),
    Scenario("500/second", 20, bare=True),
    Scenario("100/minute,5/second", 130),
    Scenario("20/second,items:100/second", 30, batch_size=10),
)
QUICK = (Scenario("20/second", 8, workers=4, groups=2, kills=True),)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a scenario showed of one limit."""

    scenario: Scenario
    limit: str
    calls: int
    allowed: int
    most_sent: int
    most_arrived: int
    used: float
    jitter_ms: float
    guard_ms: float

    @property
    def holds(self) -> bool:
        """Whether the limit was kept: at the vendor's as far as the transit allows."""
        at_vendor = self.most_arrived <= self.allowed or self.jitter_ms > self.guard_ms / 2
        return self.most_sent <= self.allowed and at_vendor

    def row(self) -> str:
        """Return its row of the table."""
        cells = (
            self.scenario.words,
            self.limit,
            f"{self.calls:,}",
            f"{self.allowed:,}",
            f"{self.most_sent:,}",
            f"{self.most_arrived:,}",
            f"{self.used:.1%}",
            f"{self.jitter_ms:.1f} of {self.guard_ms:.0f}",
            "yes" if self.holds else "NO",
        )
        return "| " + " | ".join(cells) + " |"


HEADER = (
    "| limit, workers | counted | calls | allowed in a window | most sent | most arrived | used |"
    " transit jitter, ms, of guard | kept |\n|---|---|" + "--:|" * 6 + "---|"
)


def most_in_a_window(sends: Sequence[tuple[float, int]], window_s: float) -> int:
    """Return the most that any window of that length holds."""
    times = [at for at, _ in sends]
    sums = [0, *accumulate(amount for _, amount in sends)]
    return max(sums[n + 1] - sums[bisect_right(times, at - window_s)] for n, at in enumerate(times))


def judge(scenario: Scenario, sent: Sequence[float], arrived: Sequence[tuple[float, int]]) -> list[Kept]:
    """Compare when calls left and arrived with what each limit allows, once all workers were there."""
    found = []
    arrived = sorted(arrived)
    amounts = [items for _, items in arrived]
    # The n-th to leave is not always the n-th to arrive; of times in order, only the spread matters.
    transit = [there - left for (there, _), left in zip(arrived, sorted(sent), strict=False)]
    for limit in parse_limits(scenario.rate_limit):
        counted = amounts if limit.of_items else [1] * len(amounts)
        leaving = list(zip(sorted(sent), counted, strict=False))
        coming = [(at, amount) for (at, _), amount in zip(arrived, counted, strict=True)]
        first, last = coming[0][0], coming[-1][0]
        # Over whole windows, guard and all: two limits at once are used in bursts.
        cycle_s = limit.window_s * (1 + GUARD)
        over_s = (last - first) // cycle_s * cycle_s or last - first
        used = sum(amount for at, amount in coming if at < first + over_s)
        found.append(
            Kept(
                scenario,
                str(limit),
                len(arrived),
                limit.count,
                most_in_a_window(leaving, limit.window_s),
                most_in_a_window(coming, limit.window_s),
                used / (limit.count * over_s / limit.window_s),
                (max(transit) - min(transit)) * 1000,
                limit.window_s * GUARD * 1000,
            )
        )
    return found


def play(scenario: Scenario, folder: Path) -> list[Kept]:
    """Let the workers send for as long as the scenario says, and judge what they did."""
    times = folder / "times"
    with ExitStack() as stack:
        redis_server = stack.enter_context(server())
        url, _ = stack.enter_context(vendor(*ANSWERS_MS))
        settings: dict[str, Any] = {"rate_limit": scenario.rate_limit, "max_in_flight": 500}
        settings |= {"batch_size": scenario.batch_size, "batch_linger_s": 0}
        own = {f"BADGES_{name.upper()}": str(value) for name, value in settings.items()}
        env = environment(redis_server.socket, url, BENCH_TIMES=times, **own)
        logs, workers = [folder / f"worker-{n}.log" for n in range(scenario.workers)], []
        queue, org = Queue(redis_server.client), Org(**settings, api_base_url=url)
        queue.pause("default", why="operator", reason="until all are there")
        _fill(queue, org, scenario)
        for log in logs:
            log.unlink(missing_ok=True)
            command = [sys.executable, str(PROBED), "worker", "--pool", "threads", "--concurrency", "16"]
            command = [sys.executable, str(BARE)] if scenario.bare else command
            workers.append(stack.enter_context(program(command, env, log)))
        wait_until_ready(logs, "ready.", scenario.workers)
        queue.resume(org)
        for _ in range(10 if scenario.kills else 1):
            time.sleep(scenario.seconds / (10 if scenario.kills else 1))
            if scenario.kills and workers[0].poll() is None:
                workers[0].send_signal(signal.SIGKILL)
        queue.pause("default", why="operator", reason="time is over")
        time.sleep(1 + ANSWERS_MS[1] / 1000)
        arrived = [(at, items) for at, items in books(url)["arrived"]]
    sent = [float(at) for file in folder.glob("times.*") for at in file.read_text().split()]
    return judge(scenario, sent, [(at, 1) for at in sent] if scenario.bare else arrived)


def _fill(queue: Queue, org: Org, scenario: Scenario) -> None:
    per_s = min(limit.count / limit.window_s for limit in org.limits if not limit.of_items)
    longest = max(limit.count for limit in org.limits)
    jobs = int((per_s * scenario.seconds * 1.1 + longest) * scenario.batch_size)
    rows = [BadgeIssue.model_validate(item(n)).badge for n in range(jobs)]
    for first in range(0, jobs, 1000):
        items = [Item(content_id("default", it), str(first), badge_fields(it)) for it in rows[first:][:1000]]
        queue.enqueue(org, run="gate", items=items, call=new_id())


def main() -> int:
    """Play the scenarios and print the table; 1 if a limit was exceeded."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="ten seconds, to try it")
    arguments.add_argument("--only", default="", help="scenarios with this in their words")
    options = arguments.parse_args()
    print(HEADER)
    kept = True
    for scenario in QUICK if options.quick else SCENARIOS:
        if options.only not in scenario.words:
            continue
        with TemporaryDirectory(prefix="badges-gate-") as folder:
            for limit in play(scenario, Path(folder)):
                print(limit.row(), flush=True)
                kept = kept and limit.holds
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
