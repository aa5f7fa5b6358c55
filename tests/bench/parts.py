"""What each part costs an item.

python tests/bench/parts.py [--items N] [--rounds 5] [--against TREE] [--quick]

One process takes items the whole way (checked, written, enqueued, claimed, put into a body, answered,
settled) against a server of its own, and measures each part by processor time, which what else a machine does
changes least. With ``--against`` another tree of this project takes turns with this one: both meet the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import payload
from stage import server

from worker.domain.batch import Batch, Sent
from worker.domain.org import Org
from worker.domain.outcome import Reply, Verdict
from worker.domain.settlement import Settlement, settlements
from worker.enqueue import EnqueueOptions, prepared, sources
from worker.store.protocol import job_arguments
from worker.store.queue import CHUNK, Queue
from worker.vendor import client as vendor
from worker.vendor.verdict import read_answer

TREE = Path(__file__).parents[2]
ORG = Org(rate_limit="1000000/minute", max_in_flight=1000, batch_linger_s=0)
PARTS = {
    "check": "producer: check, and make ids",
    "write": "producer: write records",
    "enqueue": "producer: the call (records included)",
    "claim": "worker: claim, and read records",
    "body": "worker: the request's body",
    "answer": "worker: read the answer",
    "decide": "worker: decide",
    "settle": "worker: settle",
    "redis enqueue": "Redis: enqueue",
    "redis claim": "Redis: claim",
    "redis settle": "Redis: settle",
}


class Meter:
    """Adds up what each part takes of this process and of the server."""

    def __init__(self, queue: Queue) -> None:
        self.us: dict[str, float] = defaultdict(float)
        self._queue = queue

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what the block takes for this part."""
        began_s = time.process_time()
        yield
        self.us[name] += (time.process_time() - began_s) * 1e6

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what the block takes of the server's main thread, its log included."""
        began_s = self._server_s()
        yield
        self.us[name] += (self._server_s() - began_s) * 1e6

    def _server_s(self) -> float:
        its = self._queue.client.info("cpu")
        return float(its["used_cpu_user_main_thread"]) + float(its["used_cpu_sys_main_thread"])


def one_round(items: int) -> dict[str, float]:
    """Take so many items the whole way; return what each part took, us an item."""
    payload.FIRST, payload.ITEMS = 0, items
    with server() as running:
        queue = Queue(running.client)
        meter = Meter(queue)
        with meter.phase("redis enqueue"):
            _enqueue(queue, meter, list(payload.items()))
        with meter.phase("redis claim"):
            batches = [_claim(queue, meter, number) for number in range(items // ORG.batch_size)]
        decided = [_decide(meter, batch, number) for number, batch in enumerate(batches)]
        with meter.phase("redis settle"):
            for batch, (verdict, its) in zip(batches, decided, strict=True):
                with meter.part("settle"):
                    settled = queue.settle(ORG, batch, its, verdict=verdict, sent=Sent("200", 50))
                assert settled.issued == ORG.batch_size
    return {name: us / items for name, us in meter.us.items()}


def _enqueue(queue: Queue, meter: Meter, items: list[object]) -> None:
    options = EnqueueOptions(run="bench", call="bench")
    for first in range(0, len(items), CHUNK):
        with meter.part("check"):
            rows = list(sources(items[first : first + CHUNK], options.call, first=first))
            its = [one.item for one in prepared(rows, ORG, options)]
        with meter.part("write"):
            list(job_arguments(its, run=options.run, urgent=False, traceparent=""))
        with meter.part("enqueue"):
            queue.enqueue(ORG, run=options.run, items=its, call=f"bench.{first}")


def _claim(queue: Queue, meter: Meter, number: int) -> Batch:
    with meter.part("claim"):
        batch = queue.claim(ORG, f"batch-{number}", durably=False)
    assert isinstance(batch, Batch)
    assert len(batch.jobs) == ORG.batch_size
    return batch


def _decide(meter: Meter, batch: Batch, number: int) -> tuple[Verdict, list[Settlement]]:
    with meter.part("body"):
        body = _body(batch)
    answer = Reply(200, _answer(json.loads(body), number))
    with meter.part("answer"):
        verdict = read_answer(batch.jobs, answer)
    with meter.part("decide"):
        return verdict, settlements(batch.jobs, verdict, org=ORG, random=lambda: 0.5)


def _body(batch: Batch) -> bytes:
    whole = getattr(vendor, "body_of", None)
    if whole:
        return str(whole(batch.jobs, ORG.epoch_unit)).encode()
    its = [job.badge.body(ORG.epoch_unit) for job in batch.jobs]  # of an older tree
    return json.dumps(its, separators=(",", ":")).encode()


def _answer(asked: list[dict[str, object]], number: int) -> bytes:
    """Answer as the vendor does, and as the stub of ``run.py`` does."""
    rows = []
    for place, item in enumerate(asked):
        data = {
            **item,
            "requestId": f"9f86d081-{number}_{place + 1}",
            "issuedId": f"70{number:06x}{place:04x}aabbccdd",
            "earnedBadgeId": f"69{number:06x}{place:04x}0772ad47",
            "expiresOn": 1737450411,
            "expiresOnISO": "2025-01-21T09:06:51.000Z",
        }
        rows.append({"data": data, "errors": None, "warnings": None})
    return json.dumps(rows, separators=(",", ":")).encode()


def compare(trees: dict[str, Path], items: int, rounds: int) -> dict[str, dict[str, float]]:
    """Let the trees take turns; return the median of each part."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    for _ in range(rounds):
        for name, tree in trees.items():
            command = [sys.executable, "-P", __file__, "--one", "--items", str(items)]
            its = os.environ | {"PYTHONPATH": f"{tree}:{Path(__file__).parent}"}
            done = subprocess.run(command, env=its, stdout=subprocess.PIPE, check=True, timeout=300)
            found[name].append(json.loads(done.stdout))
    return {name: {part: median(run[part] for run in runs) for part in PARTS} for name, runs in found.items()}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path, help="another tree of this project")
    parser.add_argument("--quick", action="store_true", help="a try: few items, one round")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.quick:
        asked.items, asked.rounds = 1000, 1
    if asked.one:
        print(json.dumps(one_round(asked.items)))
        return
    trees = ({"before": asked.against.resolve()} if asked.against else {}) | {"now": TREE}
    medians = compare(trees, asked.items, asked.rounds)
    print(f"| µs an item, median of {asked.rounds} | {' | '.join(medians)} |")
    print(f"|---|{'--:|' * len(medians)}")
    for part, words in PARTS.items():
        print(f"| {words} | {' | '.join(f'{its[part]:.2f}' for its in medians.values())} |")


if __name__ == "__main__":
    main()
