"""Rounds of kills and faults, each from a seed, and after each the promises, against the vendor's ledger.

A short version runs with the other tests. A long one: ``BADGES_CHAOS_ROUNDS=300 pytest tests/chaos -s``
(``BADGES_CHAOS_SEED=…`` repeats one). A round imports a file with workers, vendor, importer and Redis
being killed and disturbed, and then lets everything settle.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from celery import Celery
from faultproxy import FaultProxy
from support import BADGE, FIRST_CUSTOMER, OTHER_BADGE, badges, badges_json, environment, wait_for

from worker import keys
from worker.app import DELIVER_QUEUE
from worker.config import Settings
from worker.connection import Connection
from worker.ledger import SandboxSettings
from worker.queue import Queue
from worker.sandbox import SandboxServer

ROUNDS = int(os.environ.get("BADGES_CHAOS_ROUNDS", "3"))
FIRST_SEED = int(os.environ.get("BADGES_CHAOS_SEED", "1"))
ROWS = 3000
RUN = "chaos"
MISSING = "000000000000000000000bad"
AFTER_APPLYING = ("reset_after", "truncate", "bad_gateway", "empty", "html", "hang_after", "nonsense")
BEFORE_APPLYING = ("reset_before",)
ACTIONS = ("worker", "stop worker", "redis", "importer", "message", "operator", "operator", "operator")


@pytest.mark.timeout(170)
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + ROUNDS))
def test_nothing_is_lost_and_nothing_is_issued_twice(seed: int, tmp_path: Path) -> None:
    """Whatever is killed when: every job ends in one terminal state, and no badge is issued twice."""
    print(f"seed {seed}")
    with ExitStack() as stack:
        round_ = Round(Random(seed), tmp_path, stack)
        round_.disturb()
        round_.calm_down()
        round_.check()


class Round:
    """One round: its processes, what is done to them, and what must hold in the end."""

    def __init__(self, random: Random, folder: Path, stack: ExitStack) -> None:
        self.random, self.folder = random, folder
        self.calm = False
        settings = SandboxSettings(
            latency_s=(0.0, 0.05), unknown_badges=frozenset({MISSING}), seed=random.randrange(10**6)
        )
        sandbox = stack.enter_context(SandboxServer(settings=settings))
        self.vendor = sandbox.vendor
        self.proxy = stack.enter_context(FaultProxy(sandbox.url, self._fault))
        self.connection = stack.enter_context(Connection.open(Settings(data_dir=folder / "data")))
        self.queue = Queue(stack.enter_context(self.connection.client()))
        self.env = environment(
            data_dir=folder / "data",
            api_base_url=self.proxy.url,
            rate_limit="30/second",
            batch_size=25,
            batch_linger_s=0.1,
            http_timeout_s=1.5,
            retry_base_s=0.1,
            retry_max_s=1,
        )
        self.workers: list[subprocess.Popen[bytes]] = []
        stack.callback(self._kill_workers)
        self.file = folder / "rows.csv"
        self._write_rows()

    # -- what is done to it

    def disturb(self) -> None:
        """Import, with everything being killed in between."""
        importer = self._start("import", self.file, "--run", RUN, "--json")
        for _ in range(2):
            self._start_worker()
        wait_for(lambda: self.proxy.met, within_s=30, what="the first call")
        for _ in range(self.random.randint(8, 14)):
            time.sleep(self.random.uniform(0.05, 1.0))
            match self.random.choice(ACTIONS):
                case "worker":
                    self._kill_one_worker(signal.SIGKILL)
                    self._start_worker()
                case "stop worker":
                    self._kill_one_worker(signal.SIGTERM)
                    self._start_worker()
                case "redis":
                    self._kill_redis()
                case "importer":
                    importer.kill()
                case "message":
                    self._repeat_messages()
                case "operator":  # who doesn't wait for the breaker to try again by itself
                    self.queue.resume(Settings().org("default"))
        importer.kill()
        importer.wait()

    def calm_down(self) -> None:
        """Let no more faults happen, finish the import, give up the leases of the dead, and deliver all."""
        self.calm = True
        badges("import", self.file, "--run", RUN, env=self.env)
        for worker in self.workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            worker.wait(60)  # with prefork Celery itself may take half a minute
        with self.connection.client() as client:
            # Their holders are dead; this is what the passing of a minute and a half does.
            for batch in client.zrange(keys.key("default", "leases"), 0, -1):
                client.zadd(keys.key("default", "leases"), {batch: 1})
                client.zadd(keys.key("default", "inflight"), {batch: 1})
        badges("resume", env=self.env)
        self._start_worker()
        wait_for(self._all_ended, within_s=60, what="every job to end")
        badges("resume", env=self.env)

    # -- what must hold

    def check(self) -> None:
        """Compare records, counters and the vendor's ledger."""
        rows = self._results()
        run = badges_json("run", "show", RUN, env=self.env)
        states = Counter(row["state"] for row in rows)
        assert set(states) <= {"issued", "dead"}
        assert len(rows) == len({row["job_id"] for row in rows}) == run["total"] == self.distinct
        assert {s: run[s] for s in ("queued", "sending", "retrying")} == {
            "queued": 0,
            "sending": 0,
            "retrying": 0,
        }
        assert (run["issued"], run["dead"]) == (states["issued"], states["dead"])
        kinds = Counter(row["error"]["kind"] for row in rows if row["state"] == "dead")
        assert run["dead_kinds"] == dict(kinds)
        assert set(kinds) <= {"rejected", "in_doubt", "invalid"}, kinds

        ledger = self.vendor.ledger()
        assert ledger.issued_more_than_once == {}
        issued = {(i.badge_meta_id, i.customer_id): i.earned_badge_id for i in ledger.issues}
        results = {
            (r["badgeMetaId"], r["customerId"]): r["earnedBadgeId"] for r in rows if r["state"] == "issued"
        }
        doubtful = {
            (r["badgeMetaId"], r["customerId"]) for r in rows if (r["error"] or {}).get("kind") == "in_doubt"
        }
        assert results.items() <= issued.items(), "a result without a badge"
        assert issued.keys() - results.keys() <= doubtful, "a badge without a result that isn't in doubt"
        print(dict(states), dict(kinds), dict(self.proxy.met))

    # -- the parts

    def _write_rows(self) -> None:
        lines = ["badgeMetaId,customerId,earnEventDate,earnExpiresOn"]
        for n in range(ROWS):
            badge = MISSING if self.random.random() < 0.01 else self.random.choice([BADGE, OTHER_BADGE])
            customer = f"C{n}" if self.random.random() < 0.005 else FIRST_CUSTOMER + n
            lines.append(f"{badge},{customer},1674292011,1905828011")
        self.distinct = len(set(lines)) - 1
        lines += self.random.sample(lines[1:], 50)
        self.file.write_text("\n".join(lines))

    def _fault(self) -> str:
        if self.calm or self.random.random() > 0.15:
            return "pass"
        return self.random.choice(AFTER_APPLYING + BEFORE_APPLYING)

    def _start(self, *arguments: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "worker.cli", *map(str, arguments)]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _start_worker(self) -> None:
        pool = self.random.choice(["threads", "prefork"])
        self.workers.append(self._start("worker", "--concurrency", 3, "--pool", pool))

    def _kill_one_worker(self, how: signal.Signals) -> None:
        alive = [worker for worker in self.workers if worker.poll() is None]
        if alive:
            self.random.choice(alive).send_signal(how)

    def _kill_workers(self) -> None:
        for worker in self.workers:
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)  # with the children that outlived it
            worker.wait()
            wait_for(lambda group=worker.pid: _is_gone(group), what="its children to end")

    def _kill_redis(self) -> None:
        os.kill(int((self.folder / "data" / "server.pid").read_text()), signal.SIGKILL)
        time.sleep(self.random.uniform(0, 1.5))
        assert self.connection.server
        self.connection.server.start()

    def _repeat_messages(self) -> None:
        with Celery(broker=self.connection.broker_url) as app, self.connection.client() as client:
            client.delete(DELIVER_QUEUE)
            for _ in range(5):
                app.send_task("badges.deliver", args=["default"], queue=DELIVER_QUEUE)

    def _all_ended(self) -> bool:
        run = badges_json("run", "show", RUN, env=self.env)
        return run["queued"] + run["sending"] + run["retrying"] == 0

    def _results(self) -> list[dict[str, Any]]:
        out = badges("results", "--run", RUN, env=self.env).stdout
        return [json.loads(line) for line in out.splitlines()]


def _is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False
