"""Rounds of kills and faults, each from a seed, and after each the promises, against the vendor's ledger.

A short version runs in ``.ci/run``; a long one is
``BADGES_LONG_TESTS=1 BADGES_CHAOS_ROUNDS=300 pytest tests/chaos -s`` (``BADGES_CHAOS_SEED=…`` repeats one
round). A round imports a file with workers, vendor, importer and Redis being killed and disturbed, and then
lets everything settle.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
from celery import Celery
from faultproxy import FaultProxy
from support import (
    BADGE,
    FIRST_CUSTOMER,
    LONG,
    OTHER_BADGE,
    badges,
    badges_json,
    configured,
    environment,
    wait_for,
)

from worker.config import Settings
from worker.sandbox.issued import SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.brokerkeys import DELIVER_QUEUE
from worker.server.connection import Connection
from worker.store import keys
from worker.store.queue import Queue

ROUNDS = int(os.environ.get("BADGES_CHAOS_ROUNDS", "1"))
FIRST_SEED = int(os.environ.get("BADGES_CHAOS_SEED", "1"))
ROWS = 3000
RUN = "chaos"
ONE, MANY = ("default",), ("default", "eu", "us", "asia")  # orgs, more than a worker has places
MISSING = "000000000000000000000bad"
AFTER_APPLYING = ("reset_after", "truncate", "bad_gateway", "empty", "html", "hang_after", "nonsense")
BEFORE_APPLYING = ("reset_before",)
RequestIds = Literal["ignores", "honours", "refuses"]
ACTIONS = ("worker", "stop worker", "redis", "importer", "message", "operator", "operator", "operator")


@LONG
@pytest.mark.timeout(170)
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + ROUNDS))
def test_nothing_is_lost_and_nothing_is_issued_twice(seed: int, tmp_path: Path) -> None:
    """Whatever is killed when: every job ends in one terminal state, and no badge is issued twice."""
    print(f"seed {seed}")
    with ExitStack() as stack:
        Round(Random(seed), [ONE, MANY][seed % 2], tmp_path, stack).play()


@LONG
@pytest.mark.timeout(170)
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + ROUNDS))
def test_nothing_stays_in_doubt_where_the_vendor_knows_request_ids(seed: int, tmp_path: Path) -> None:
    """Whatever is killed when: what is in doubt is sent again as it was, and then it isn't in doubt."""
    request_ids: Any = ["honours", "refuses"][seed % 2]
    print(f"seed {seed}, {request_ids}")
    with ExitStack() as stack:
        Round(Random(seed), [ONE, MANY][seed // 2 % 2], tmp_path, stack, request_ids).play()


class Round:
    """One round: its processes, what is done to them, and what must hold in the end."""

    def __init__(
        self,
        random: Random,
        orgs: Sequence[str],
        folder: Path,
        stack: ExitStack,
        request_ids: RequestIds = "ignores",
    ) -> None:
        self.random, self.orgs, self.folder, self.request_ids = random, orgs, folder, request_ids
        self.calm = False
        settings = SandboxSettings(
            latency_s=(0.0, 0.05),
            unknown_badges=frozenset({MISSING}),
            seed=random.randrange(10**6),
            request_ids=request_ids,
        )
        sandbox = stack.enter_context(SandboxServer(settings=settings))
        self.vendor = sandbox.vendor
        self.proxy = stack.enter_context(FaultProxy(sandbox.url, self._fault))
        self.connection = stack.enter_context(Connection.open(Settings(data_dir=folder / "data")))
        self.queue = Queue(stack.enter_context(self.connection.client()))
        its = {
            "api_base_url": self.proxy.url,
            "rate_limit": f"{30 // len(self.orgs)}/second",
            "batch_size": 25,
            "batch_linger_s": 0.1,
            "http_timeout_s": 1.5,
            "retry_base_s": 0.1,
            "retry_max_s": 1,
            "request_ids": request_ids,
            "in_doubt": "park" if request_ids == "ignores" else "same_request",
        }
        self.env = environment(data_dir=folder / "data", orgs_file=folder / "orgs.toml", **its)
        table = "".join(f"{name} = {json.dumps(value)}\n" for name, value in its.items())
        (folder / "orgs.toml").write_text("".join(f"[{org}]\n{table}" for org in self.orgs[1:]))
        self.workers: list[subprocess.Popen[bytes]] = []
        stack.callback(self._kill_workers)
        self.distinct = sum(self._write_rows(n, org) for n, org in enumerate(self.orgs))

    def play(self) -> None:
        """Disturb it, let it settle, and see what has become of it."""
        self.disturb()
        self.calm_down()
        self.check()

    # -- what is done to it

    def disturb(self) -> None:
        """Import, with everything being killed in between."""
        importers = [self._start("import", *self._import(org), "--json") for org in self.orgs]
        for _ in range(2):
            self._start_worker()
        wait_for(lambda: self.proxy.met, what="the first call")
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
                    self.random.choice(importers).kill()
                case "message":
                    self._repeat_messages()
                case "operator":  # who doesn't wait for the breaker to try again by itself
                    self.queue.resume(configured(name=self.random.choice(self.orgs)))
        for importer in importers:
            importer.kill()
            importer.wait()

    def calm_down(self) -> None:
        """Let no more faults happen, finish the import, give up the leases of the dead, and deliver all."""
        self.calm = True
        for org in self.orgs:
            done = badges("import", *self._import(org), env=self.env, expect=None)
            assert done.returncode in (0, 3), done  # 3: some rows are invalid
        for worker in self.workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            worker.wait(60)  # with prefork Celery itself may take half a minute
        with self.connection.client() as client:
            # Their holders are dead; this is what the passing of a minute and a half does.
            for org in self.orgs:
                for batch in client.zrange(keys.key(org, "leases"), 0, -1):
                    client.zadd(keys.key(org, "leases"), {batch: 1})
                    client.zadd(keys.key(org, "inflight"), {batch: 1})
        self._resume()
        self._start_worker()
        wait_for(self._nothing_is_sent_again, within_s=60, what="what is in doubt to be sent again")
        wait_for(self._all_ended, within_s=60, what="every job to end")
        self._resume()

    # -- what must hold

    def check(self) -> None:
        """Compare records, counters and the vendor's ledger."""
        rows = [row for org in self.orgs for row in self._results(org)]
        assert len(rows) == len({row["job_id"] for row in rows}) == self.distinct
        states, kinds = _endings(rows)
        assert set(states) <= {"issued", "dead"}
        may_be = {"rejected", "invalid"} | ({"in_doubt"} if self.request_ids == "ignores" else set())
        assert set(kinds) <= may_be, kinds
        for org in self.orgs:
            its = [row for row in rows if row["org"] == org]
            states_, kinds_ = _endings(its)
            run = self._run(org)
            assert (run["total"], run["issued"], run["dead"]) == (
                len(its),
                states_["issued"],
                states_["dead"],
            )
            assert (run["queued"], run["sending"], run["retrying"]) == (0, 0, 0)
            assert run["dead_kinds"] == dict(kinds_)

        ledger = self.vendor.ledger()
        assert ledger.issued_more_than_once == {}
        issued = {(i.badge_meta_id, i.customer_id): i.earned_badge_id for i in ledger.issues}
        results = {
            (r["badgeMetaId"], r["customerId"]): r["earnedBadgeId"] for r in rows if r["state"] == "issued"
        }
        if self.request_ids == "refuses":  # 809 says no earnedBadgeId, and not that an item was refused
            unsaid = [pair for pair, earned in results.items() if earned is None and pair[0] != MISSING]
            results = {pair: earned for pair, earned in results.items() if earned}
            results |= {pair: issued[pair] for pair in unsaid}
        doubtful = {
            (r["badgeMetaId"], r["customerId"]) for r in rows if (r["error"] or {}).get("kind") == "in_doubt"
        }
        assert results.items() <= issued.items(), "a result without a badge"
        assert issued.keys() - results.keys() <= doubtful, "a badge without a result that isn't in doubt"
        print(len(self.orgs), "orgs", dict(states), dict(kinds), dict(self.proxy.met))

    # -- the parts

    def _write_rows(self, first: int, org: str) -> int:
        """Write an org's rows, no customer of which any other org has; return how many are different."""
        lines = ["badgeMetaId,customerId,earnEventDate,earnExpiresOn"]
        for n in range(first, ROWS, len(self.orgs)):
            badge = MISSING if self.random.random() < 0.01 else self.random.choice([BADGE, OTHER_BADGE])
            customer = f"C{n}" if self.random.random() < 0.005 else FIRST_CUSTOMER + n
            lines.append(f"{badge},{customer},1674292011,1905828011")
        twice = self.random.sample(lines[1:], 50)
        (self.folder / f"{org}.csv").write_text("\n".join(lines + twice))
        return len(set(lines)) - 1

    def _import(self, org: str) -> tuple[object, ...]:
        return self.folder / f"{org}.csv", "--run", RUN, "--org", org

    def _resume(self) -> None:
        for org in self.orgs:
            badges("resume", "--org", org, env=self.env)

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
        time.sleep(self.random.uniform(0, 1.5))  # how long it is away is part of the seed
        assert self.connection.server
        self.connection.server.start()

    def _repeat_messages(self) -> None:
        with Celery(broker=self.connection.broker_url) as app, self.connection.client() as client:
            client.delete(DELIVER_QUEUE)
            for _ in range(5):
                app.send_task("badges.deliver", args=[self.random.choice(self.orgs)], queue=DELIVER_QUEUE)

    def _run(self, org: str) -> dict[str, Any]:
        shown: dict[str, Any] = badges_json("run", "show", RUN, "--org", org, env=self.env)
        return shown

    def _all_ended(self) -> bool:
        runs = map(self._run, self.orgs)
        return not any(run["queued"] + run["sending"] + run["retrying"] for run in runs)

    def _nothing_is_sent_again(self) -> bool:
        """Say whether all that is sent again as it was, at once instead of in a while, has been."""
        with self.connection.client() as client:
            names = [keys.key(org, name) for org in self.orgs for name in ("agains", "leases")]
            for name in names[::2]:
                if requests := client.zrange(name, 0, -1):
                    client.zadd(name, dict.fromkeys(requests, 1), xx=True)
            if not any(map(client.zcard, names)):
                return True
        self._resume()
        return False

    def _results(self, org: str) -> list[dict[str, Any]]:
        out = badges("results", "--run", RUN, "--org", org, env=self.env).stdout
        return [json.loads(line) for line in out.splitlines()]


def _endings(rows: list[dict[str, Any]]) -> tuple[Counter[str], Counter[str]]:
    """Count rows by state, and dead ones by kind."""
    return (
        Counter(row["state"] for row in rows),
        Counter(row["error"]["kind"] for row in rows if row["state"] == "dead"),
    )


def _is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False
