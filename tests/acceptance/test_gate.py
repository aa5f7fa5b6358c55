"""The gate seen from outside: what real workers send together, one of them killed, is within the limits."""

from __future__ import annotations

import importlib
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import redis
from support import LONG, environment, item, process, wait_for, worker_command

from worker.domain.org import Org
from worker.sandbox.issued import SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store import keys
from worker.store.queue import Queue, new_id

BENCH = Path(__file__).parents[1] / "bench"


@LONG
def test_no_window_holds_more_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four workers in two groups at 20 a second, one killed; and the limit is used."""
    monkeypatch.syspath_prepend(str(BENCH))
    gate = importlib.import_module("gate")
    (scenario,) = gate.QUICK
    (kept,) = gate.play(replace(scenario, seconds=10), tmp_path)
    print(f"\n{gate.HEADER}\n{kept.row()}")
    assert kept.calls > 50
    assert kept.most_sent <= kept.allowed
    assert kept.holds
    assert kept.used > 0.2  # on a machine that runs other tests; how much it is, tests/bench/gate.py says


def test_as_many_in_flight_as_stated_across_processes(
    empty: Connection, client: redis.Redis, tmp_path: Path
) -> None:
    """Four workers of four places: three calls at once at the vendor, and never a fourth."""
    settings = {"rate_limit": "1000/second", "batch_size": 1, "batch_linger_s": 0, "max_in_flight": 3}
    slow = SandboxSettings(latency_s=(0.1, 0.3))
    with ExitStack() as stack:
        vendor = stack.enter_context(SandboxServer(settings=slow))
        own = {"redis_url": empty.url, "broker_url": empty.broker_url, "api_base_url": vendor.url}
        env = environment(**own, **settings)
        for n in range(4):
            log = tmp_path / f"{n}.log"
            stack.enter_context(process(worker_command("--concurrency", 4), env=env, log=log))
        logs = list(tmp_path.glob("*.log"))
        wait_for(lambda: all(" ready." in log.read_text() for log in logs))
        queue, org = Queue(client), Org(**settings)
        queue.enqueue(org, run="r", items=[item(n) for n in range(40)], call=new_id())
        issued = keys.key("default", "run", "r")
        wait_for(lambda: int(client.hget(issued, "issued") or 0) == 40)
    calls = vendor.vendor.ledger().exchanges
    changes = sorted(
        [(call.arrived_s, 1) for call in calls] + [(call.answered_s or call.arrived_s, -1) for call in calls]
    )
    at_once, spent_s = 0, [0.0] * 5
    for (at, change), (until, _) in pairwise(changes):
        at_once += change
        spent_s[min(at_once, 4)] += until - at
    shares = [f"{n}: {s / sum(spent_s):.0%}" for n, s in enumerate(spent_s)]
    workers = sum("batch.settled" in log.read_text() for log in logs)
    print(f"\nat once at the vendor, share of the time: {', '.join(shares)}; by {workers} workers")
    assert spent_s[4] == 0
    assert spent_s[3] > 0
    assert len(calls) == 40
