"""What a million dead letters, or a million that wait, cost: ``python tests/bench/million.py [--jobs N]``.

Every listing, page and bulk act, each with the seconds that it took and those of processor, ours and the
server's. The machine may be shared: it is the processor that is held against the goals.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import redis
from stage import Server, server

from worker.domain.actor import Actor, Via
from worker.domain.badge import Badge
from worker.domain.batch import Item
from worker.domain.identity import content_id
from worker.domain.job import DeadKind
from worker.domain.org import Org
from worker.operate import cancelling, deadletters, deadlist, replaying
from worker.operate.deadlist import Filter
from worker.operate.operator import Operator
from worker.operate.runs import JobReader
from worker.store import keys
from worker.store.queue import Queue
from worker.store.record import BUCKET_LETTERS, Field, badge_fields

MILLION, CHUNK = 1_000_000, 1000
BADGES = tuple(f"696f0fd40772ad476ecf{n:04x}" for n in range(20))
CODES = ("812", "815", "750", "1054")
ORG = Org(name="default", max_queued=10**9)
REMEMBER = """
local n = tonumber(ARGV[1])
for at = 2, #ARGV do redis.call('ZADD', KEYS[1] .. ARGV[at]:sub(1, n), 0, ARGV[at]:sub(n + 1)) end
"""


def job(n: int, kind: str = "") -> Item:
    """Return the n-th of many different jobs; with a kind it is a dead letter."""
    badge = Badge(BADGES[n % len(BADGES)], 500_000_000 + n, earn_event_date=1_674_292_011)
    fields = badge_fields(badge)
    if kind:
        fields |= {Field.CODE: CODES[n % len(CODES)], Field.MESSAGE: "the vendor refused it, for the tests"}
    return Item(content_id("default", badge), str(n), fields, kind=kind)


def seed(queue: Queue, jobs: int, kind: str = "", *, run: str = "r", first: int = 0) -> None:
    """Bring jobs in."""
    numbers = iter(range(first, first + jobs))
    while chunk := list(islice(numbers, CHUNK)):
        items = [job(n, kind) for n in chunk]
        queue.enqueue(ORG, run=run, items=items, call=queue.new_id())
        if kind:  # as if it had been accepted before it died
            ids = [item.id for item in items]
            queue.client.eval(REMEMBER, 1, keys.key(ORG.name, "memory"), BUCKET_LETTERS[0], *ids)


def server_cpu_s(client: redis.Redis) -> float:
    """Return the processor that the server has used."""
    used = client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


@contextmanager
def measured(what: str, client: redis.Redis) -> Iterator[None]:
    """Print what the block cost."""
    wall_s, own_s, its_s = time.perf_counter(), time.process_time(), server_cpu_s(client)
    yield
    wall_s, own_s = time.perf_counter() - wall_s, time.process_time() - own_s
    its_s = server_cpu_s(client) - its_s
    print(f"{what:<44}{wall_s:>9.3f} s{own_s:>9.3f} own{its_s:>9.3f} server", flush=True)


class Stage:
    """A server, and who reads and acts."""

    def __init__(self, running: Server) -> None:
        self.client = running.client
        self.queue = Queue(running.client)
        self.reports = JobReader(client=running.client, orgs={"default": ORG})
        self.operator = Operator(self.queue, self.reports, {"default": ORG}, Actor(Via.USER, "bench"))

    def page(self, which: Filter) -> Sequence[object]:
        """Return a first page of dead letters."""
        return list(islice(deadlist.rows(self.reports, which), 20))


def listings(stage: Stage, jobs: int) -> None:
    """Ask every question about dead letters."""
    badge, customer = BADGES[7], 500_000_000 + jobs // 2
    asked: dict[str, Callable[[], Sequence[object]]] = {
        "groups": lambda: deadlist.groups(stage.reports, Filter()),
        "count of all": lambda: [*deadlist.count(stage.reports, Filter())],
        "page of all": lambda: stage.page(Filter()),
        "page by kind": lambda: stage.page(Filter(kind=DeadKind.REJECTED)),
        "page by code": lambda: stage.page(Filter(code="815")),
        "page by badge": lambda: stage.page(Filter(badge=badge)),
        "page by kind, code, badge": lambda: stage.page(
            Filter(kind=DeadKind.REJECTED, code=CODES[7 % len(CODES)], badge=badge)
        ),
        "page by customer": lambda: stage.page(Filter(customer=customer)),
        "groups by customer": lambda: deadlist.groups(stage.reports, Filter(customer=customer)),
        "page by run": lambda: stage.page(Filter(run="r")),
        "groups by run (the server reads)": lambda: deadlist.groups(stage.reports, Filter(run="r")),
    }
    for what, ask in asked.items():
        with measured(what, stage.client):
            found = ask()
        its = 1 if "customer" in what else min(20, jobs // 100)
        assert "page" not in what or len(found) == its, (what, found)


def acts(stage: Stage, jobs: int, only: Sequence[str]) -> None:
    """Do what a person does about as many as there are: all that wait, all that are dead."""
    client, operator = stage.client, stage.operator

    def cancel(run: str) -> int:
        return cancelling.cancel_run(operator, "default", run, action="", on_progress=lambda _: None)

    def done(what: str, act: Callable[[], int]) -> None:
        with measured(what, client):
            found = act()
        assert found == jobs, (what, found)

    if "replay" in only:
        rejected = Filter(kind=DeadKind.REJECTED)
        done("replay of all", lambda: replaying.replay_all(operator, rejected).replayed)
        done("run cancel of what was replayed", lambda: cancel("r"))
        of_run = Filter(kind=DeadKind.CANCELLED, run="r")
        done("discard of all of a run", lambda: deadletters.discard_all(operator, of_run))
    if "cancel" in only:
        seed(stage.queue, jobs, run="w", first=jobs)
        done("run cancel of all that wait", lambda: cancel("w"))
        done("discard of all", lambda: deadletters.discard_all(operator, Filter(kind=DeadKind.CANCELLED)))


def main() -> None:
    """Measure it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=MILLION)
    parser.add_argument("--only", nargs="*", default=["listings", "replay", "cancel"])
    given = parser.parse_args()
    with server() as running:
        stage = Stage(running)
        if {"listings", "replay"} & {*given.only}:
            with measured(f"{given.jobs:,} dead letters are brought in", running.client):
                seed(stage.queue, given.jobs, DeadKind.REJECTED)
        if "listings" in given.only:
            listings(stage, given.jobs)
        acts(stage, given.jobs, given.only)


if __name__ == "__main__":
    main()
