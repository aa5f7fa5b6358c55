"""Many orgs share the workers: none waits for another, and each may come, change, go and come back."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from support import (
    LONG,
    Probe,
    badges,
    badges_json,
    environment,
    item,
    process,
    some,
    wait_for,
    worker_command,
)

from worker.domain.org import Org
from worker.process.timing import USUAL
from worker.sandbox.issued import Exchange, Fault, SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.brokerkeys import deliver_queue
from worker.server.connection import Connection
from worker.store import keys
from worker.store.queue import Queue, new_id

PLACES = 4
LINGER_S, LATENCY_S = 0.2, 0.05
FAST: dict[str, Any] = {"rate_limit": "1000/second", "batch_linger_s": LINGER_S, "http_timeout_s": 3}
ONE_BY_ONE = FAST | {"batch_size": 1, "max_in_flight": 20}
CROWD = tuple(f"crowd{n}" for n in range(3 * PLACES))
HANGING = ("hang1", "hang2", *(f"stuck{n}" for n in range(PLACES + 1)))
NUMBERS = count(1)
USERNAME, PASSWORD = "till.7", "correct horse"
KEY, SECRET = "client-key", "client-secret"

# Each org has a vendor of its own.
VENDORS: dict[str, dict[str, Any]] = {
    "ten": {"latency_s": (LATENCY_S, LATENCY_S)},
    "bulk": {"latency_s": (LATENCY_S, LATENCY_S)},
    "default": {"basic": (USERNAME, PASSWORD)},
    "oauth": {"oauth": (KEY, SECRET)},
}
ORGS: dict[str, dict[str, Any]] = {
    "ten": FAST,
    "bulk": FAST | {"rate_limit": "100/second"},
    "refused": FAST,
    **dict.fromkeys((*HANGING, *CROWD, "own"), ONE_BY_ONE),
    "changing": FAST,
    "gone": FAST,
    "closed": FAST,
    "oauth": FAST | {"auth": "oauth", "oauth_key": KEY},
    "calm": FAST | {"rate_limit": "10/second", "batch_size": 50},
}


class Floor(NamedTuple):
    """A worker that runs, the vendors it delivers to, and the environment of the commands."""

    client: redis.Redis
    queue: Queue
    env: dict[str, str]
    vendors: dict[str, SandboxServer]
    folder: Path

    @property
    def log(self) -> str:
        """What the worker has said so far."""
        return (self.folder / "worker.log").read_text()

    def said(self, event: str) -> int:
        """Count a log event."""
        return self.log.count(f'"{event}"')

    def write_orgs(self, *without: str, **changes: dict[str, Any]) -> None:
        """Write the orgs' settings, some changed, added or left out."""
        tables = []
        for name, settings in (ORGS | changes).items():
            if name not in without:
                own = {"api_base_url": self.url(name), **settings}
                tables.append(f"[{name}]\n" + "".join(f"{key} = {json.dumps(own[key])}\n" for key in own))
        self.save("\n".join(tables))

    def save(self, text: str) -> None:
        """Write the orgs' file at one stroke."""
        new = self.folder / "orgs.new"
        new.write_text(text)
        new.replace(self.folder / "orgs.toml")

    def url(self, org: str) -> str:
        """Return where an org's vendor is; nobody listens at one of them."""
        return "http://127.0.0.1:9" if org == "refused" else self.vendors[org].url

    def bring(self, org: str, number: int, *, urgent: bool = False) -> str:
        """Accept that many badges that nobody brought before; return the run's name."""
        run, rows = new_id(), [item(next(NUMBERS), org=org) for _ in range(number)]
        settings = Org(**FAST, name=org)
        for first in range(0, number, 1000):
            chunk = rows[first : first + 1000]
            self.queue.enqueue(settings, run=run, items=chunk, call=new_id(), urgent=urgent)
        return run

    def seconds(self, org: str, number: int, *, within_s: float = 60) -> float:
        """Return how long that many badges take, from when they are accepted until the last is issued."""
        began = time.monotonic()
        run = self.bring(org, number)
        wait_for(lambda: Probe(self.client, org).count(run) == number, within_s=within_s, what=f"{org} {run}")
        return time.monotonic() - began

    def calls(self, org: str) -> tuple[Exchange, ...]:
        """Return the calls that an org's vendor saw."""
        return self.vendors[org].vendor.ledger().exchanges

    def waiting(self) -> int:
        """Return how many messages wait in the broker for a worker."""
        return int(self.client.llen(deliver_queue()))

    def end(self, *orgs: str) -> None:
        """Let no further call be made for these orgs: the next test is not about them."""
        for org in orgs:
            self.queue.pause(org, why="operator", reason="the test is over")

    def issued_once(self, org: str) -> bool:
        """Say whether nothing was issued twice."""
        return not self.vendors[org].vendor.ledger().issued_more_than_once


@pytest.fixture(scope="module")
def floor(connection: Connection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    """One worker process with four places for all orgs."""
    folder = tmp_path_factory.mktemp("orgs")
    with ExitStack() as stack:
        vendors = {
            name: stack.enter_context(SandboxServer(settings=SandboxSettings(**VENDORS.get(name, {}))))
            for name in ("default", "added", *ORGS)
        }
        for name, vendor in vendors.items():
            if name in HANGING:
                vendor.vendor.add_fault(Fault(fault="delay", seconds=5))  # beyond the time-out
            if name == "own":
                vendor.vendor.add_fault(Fault(fault="delay", seconds=0.4))
        client = stack.enter_context(connection.client())
        client.flushall()
        for name in ("basic", "oauth"):
            (folder / name).write_text("wrong")
        ORGS["oauth"] |= {"oauth_secret_file": str(folder / "oauth")}
        env = environment(
            redis_url=connection.url,
            broker_url=connection.broker_url,
            orgs_file=folder / "orgs.toml",
            api_base_url=vendors["default"].url,
            auth="basic",
            basic_username=USERNAME,
            basic_password_file=folder / "basic",
            **FAST,
        )
        floor = Floor(client, Queue(client), env, vendors, folder)
        floor.write_orgs()
        stack.enter_context(another_worker(floor, "worker.log"))
        yield floor


def another_worker(floor: Floor, log: str, *options: object) -> Any:
    """Start a worker that is ready."""
    return ready(floor, log, worker_command("--concurrency", PLACES, *options))


def ready(floor: Floor, log: str, command: Sequence[object]) -> Any:
    """Start a program that says so when it is ready."""
    file = floor.folder / log

    class Ready(ExitStack):
        def __enter__(self) -> Any:
            running = self.enter_context(process(command, env=floor.env, log=file))
            wait_for(lambda: file.exists() and " ready." in file.read_text())
            return running

    return Ready()


@contextmanager
def elsewhere(floor: Floor) -> Iterator[tuple[Floor, ExitStack]]:
    """Give a database without the floor's worker, and a stack for workers of its own."""
    env = {
        name: value.replace("db=0", "db=15").replace("virtual_host=0", "virtual_host=15")
        for name, value in floor.env.items()
    }
    client = redis.Redis.from_url(env["BADGES_REDIS_URL"], decode_responses=True)
    with client, ExitStack() as stack:
        client.flushdb()
        stack.callback(client.flushdb)
        yield floor._replace(client=client, queue=Queue(client), env=env), stack


def watched(floor: Floor, until: Callable[[], Any], *, within_s: float = 60) -> int:
    """Return the most messages that waited in the broker until a condition held."""
    most = 0

    def look() -> Any:
        nonlocal most
        most = max(most, floor.waiting())
        return until()

    wait_for(look, within_s=within_s)
    return most


# -- fairness


@pytest.mark.parametrize("workers", some([2, 1], 1))
def test_ten_jobs_wait_for_no_other_org(floor: Floor, workers: int) -> None:
    """Beside a vendor that never answers, one that refuses connections, and 20,000 jobs of another org."""
    hanging = f"hang{workers}"
    with ExitStack() as stack:
        if workers == 2:
            stack.enter_context(another_worker(floor, "second.log"))
        alone_s = floor.seconds("ten", 10)
        floor.bring(hanging, 30)
        wait_for(lambda: len(floor.calls(hanging)) >= PLACES * workers - 1)
        with_hanging_s = floor.seconds("ten", 10)
        floor.bring("refused", 50)
        run = floor.bring("bulk", 20_000 // workers)
        crowded_s = [floor.seconds("ten", 10) for _ in range(5)]
        assert Probe(floor.client, "bulk").count(run) < 20_000 // workers, "the others were done too early"
        wait_for(lambda: Probe(floor.client, "bulk").count(run) == 20_000 // workers)
        floor.end(hanging, "refused")
    print(
        f"\n{workers} workers of {PLACES}: ten jobs alone {alone_s:.2f} s, beside a hanging vendor "
        f"{with_hanging_s:.2f} s, beside all {', '.join(f'{s:.2f}' for s in crowded_s)} s"
    )
    assert max(with_hanging_s, *crowded_s) < LINGER_S + LATENCY_S + 20
    assert floor.issued_once("ten")
    assert floor.issued_once("bulk")


@LONG
def test_messages_do_not_pile_up_while_every_place_hangs(floor: Floor) -> None:
    """However often producers call meanwhile; and then all that came in is sent."""
    stuck = HANGING[2:]
    for org in stuck:
        floor.bring(org, 5)
    wait_for(lambda: sum(len(floor.calls(org)) for org in stuck) >= PLACES)
    runs = [floor.bring("ten", 1) for _ in range(500)]
    most = watched(floor, lambda: all(Probe(floor.client, "ten").count(run) for run in runs))
    floor.end(*stuck)
    print(f"\n500 calls of a producer while every place hung: {most} messages waited at most")
    assert most < 50


@LONG
def test_deliveries_go_on_with_the_orgs_that_stand_in_line(floor: Floor) -> None:
    """A message costs more than a batch: where orgs wait few are sent; and all have their turns."""
    each = 80
    floor.client.delete(*floor.client.scan_iter(keys.BEGUN + "*"), keys.BEGUN)
    runs = {org: floor.bring(org, each) for org in CROWD}
    wait_for(lambda: any(Probe(floor.client, org).count(run) == each for org, run in runs.items()))
    least = min(Probe(floor.client, org).count(run) for org, run in runs.items())
    wait_for(lambda: all(Probe(floor.client, org).count(run) == each for org, run in runs.items()))
    messages, batches = len(list(floor.client.scan_iter(keys.BEGUN + "*"))), each * len(CROWD)
    print(
        f"\n{batches} batches of {len(CROWD)} orgs took {messages} messages; the last had {least} of {each}"
    )
    assert messages < batches / 5
    assert least > 0
    assert all(floor.issued_once(org) for org in CROWD)


@pytest.mark.parametrize("comes_back", some([True, False], 1), ids=["restarted", "replaced"])
def test_places_of_a_killed_worker_keep_nobody_waiting(floor: Floor, *, comes_back: bool) -> None:
    """All were taken by vendors that hang; the next worker has all of its own, by its name or another."""
    celery = f"{sys.executable} -m celery -A worker.app worker -P threads -c {PLACES} -n".split()
    with elsewhere(floor) as (there, stack):
        name = "one@host" if comes_back else "other@host"
        killed = stack.enter_context(ready(there, f"before-{name}.log", [*celery, "one@host"]))
        for org in CROWD[:PLACES]:
            there.vendors[org].vendor.add_fault(Fault(fault="delay", seconds=5))
            there.bring(org, 5)
        wait_for(lambda: there.client.zcard(keys.SEATS) == PLACES)
        killed.kill()
        killed.wait()
        held = set(there.client.zrange(keys.SEATS, 0, -1))
        there.end(*CROWD[:PLACES])
        stack.enter_context(ready(there, f"after-{name}.log", [*celery, name]))
        if not comes_back:
            there.client.zadd(keys.POOL, {f"one@host {PLACES}": 1})  # it hasn't been heard of for long
        left = held & set(there.client.zrange(keys.SEATS, 0, -1))
        assert left == (set() if comes_back else held)
        # What had a message that the killed one took with it counts for two seconds, too.
        assert there.seconds("ten", 10) < LINGER_S + LATENCY_S + 15 + USUAL.ahead_ms / 1000
        for org in CROWD[:PLACES]:
            there.vendors[org].vendor.clear_faults()


# -- the file of orgs


def test_an_org_is_added_while_the_worker_runs(floor: Floor) -> None:
    """Served at once, without a restart."""
    floor.write_orgs(added=FAST)
    run = badges_json(
        *("import", "-", "--org", "added"),
        env=floor.env,
        stdin=b"badgeMetaId,customerId\n696f0fd40772ad476ecf74ac,7\n",
    )["run"]
    wait_for(lambda: Probe(floor.client, "added").count(run) == 1)
    floor.write_orgs()


def test_a_changed_batch_size_holds_from_the_next_batch_on(floor: Floor) -> None:
    """And so does a changed limit."""
    floor.seconds("changing", 100)
    floor.write_orgs(changing=FAST | {"batch_size": 7, "rate_limit": "20/second"})
    before = len(floor.calls("changing"))
    took_s = floor.seconds("changing", 280)
    assert {call.items for call in floor.calls("changing")[before:]} == {7}
    assert took_s > 39 / 20 / 2, "40 calls at 20 a second; half of it, since the first may arrive late"
    floor.write_orgs()


def test_an_org_that_vanishes_keeps_its_jobs(floor: Floor) -> None:
    """They are shown, nothing is retried in a loop, and once the org is back each is delivered once."""
    floor.write_orgs("gone")
    before = floor.said("delivery.not_configured")
    run = floor.bring("gone", 30)
    wait_for(lambda: floor.said("delivery.not_configured") > before)
    assert floor.seconds("ten", 10) < 20
    time.sleep(2.5)  # longer than an org that was taken takes to come up again
    assert floor.said("delivery.not_configured") - before <= 2
    (status,) = badges_json("status", "--org", "gone", env=floor.env)
    assert (status["configured"], status["queued"]) == (False, 30)
    few = floor.folder / "few.toml"
    few.write_text(f'[ten]\napi_base_url = "{floor.url("ten")}"\n')
    report = badges("doctor", "--json", env=floor.env | {"BADGES_ORGS_FILE": str(few)}, expect=None)
    found = [line for line in json.loads(report.stdout) if line.get("org") == "gone"]
    assert "30 jobs wait" in found[0]["detail"]
    floor.write_orgs()
    wait_for(lambda: Probe(floor.client, "gone").count(run) == 30)
    assert floor.issued_once("gone")


def test_a_broken_file_changes_nothing(floor: Floor) -> None:
    """Workers go on with what they read last, and say so now and then; who starts anew is refused."""
    before = floor.said("settings.unreadable")
    floor.save("[ten\n")
    assert floor.seconds("ten", 10) < 20
    assert floor.seconds("bulk", 10) < 20
    assert floor.said("settings.unreadable") - before == 1
    refused = badges("worker", env=floor.env, expect=2)
    assert b"BADGES_ORGS_FILE" in refused.stderr
    floor.write_orgs(added=FAST)
    run = floor.bring("added", 3)
    wait_for(lambda: Probe(floor.client, "added").count(run) == 3)
    floor.write_orgs()


# -- credentials


@pytest.mark.parametrize(("org", "secret"), some([("oauth", "oauth"), ("default", "basic")], 1))
def test_wrong_credentials_cost_no_job(floor: Floor, org: str, secret: str) -> None:
    """The vendor sees a handful of calls; the file mended and the org resumed, all is delivered."""
    run = floor.bring(org, 5000)
    wait_for(lambda: floor.client.hexists(keys.key(org, "gate"), "paused"))
    (status,) = badges_json("status", "--org", org, env=floor.env)
    calls = len(floor.calls(org))
    print(f"\n{org}: {calls} calls with wrong credentials; {status['gate']['reason']}")
    assert calls <= 6
    assert (status["queued"], status["dead"]) == (5000, {})
    assert (status["gate"]["state"], status["gate"]["why"]) == ("paused", "auth")
    assert status["gate"]["since"]
    (floor.folder / secret).write_text({"basic": PASSWORD, "oauth": SECRET}[secret])
    assert "goes on" in badges("resume", "--org", org, env=floor.env).stdout.decode()
    wait_for(lambda: Probe(floor.client, org).count(run) == 5000)
    assert floor.issued_once(org)


def test_resume_says_what_it_did(floor: Floor) -> None:
    """An org that a Retry-After closed is tried as well, though nobody had paused it."""
    throttled = Fault(fault="status", status=429, headers={"Retry-After": "60"}, times=1)
    floor.vendors["closed"].vendor.add_fault(throttled)
    run = floor.bring("closed", 3)
    wait_for(lambda: floor.client.hget(keys.key("closed", "gate"), "closed_until"))
    said = badges("resume", "--org", "closed", env=floor.env).stdout.decode()
    assert "closed was not paused; one job is tried now" in " ".join(said.split())
    wait_for(lambda: Probe(floor.client, "closed").count(run) == 3)
    wait_for(lambda: not floor.client.hexists(keys.key("closed", "gate"), "probing"))
    assert "closed was not paused\n" in badges("resume", "--org", "closed", env=floor.env).stdout.decode()


# -- a worker of one org alone


def test_an_org_has_a_worker_of_its_own(floor: Floor) -> None:
    """The other one leaves the org to it as long as it lives, and takes over when it is killed."""
    before = floor.log.count('"org":"own"') + floor.log.count('"org": "own"')
    with another_worker(floor, "own.log", "--org", "own") as mine:
        wait_for(lambda: floor.client.zscore(keys.OWN, "own"))
        run, most = floor.bring("own", 40), 0
        while Probe(floor.client, "own").count(run) < 40:
            most = max(most, int(floor.client.llen(deliver_queue("own"))))
            time.sleep(0.02)
        assert floor.seconds("ten", 10) < 20
        assert floor.log.count('"org":"own"') + floor.log.count('"org": "own"') == before
        log = (floor.folder / "own.log").read_text()
        assert log.count("batch.settled") == 40
        assert '"ten"' not in log
        mine.kill()
        mine.wait()
    print(f"\nmore in flight than places: {most} messages waited at most")
    assert most < 5
    run = floor.bring("own", 3)
    floor.client.zincrby(keys.OWN, -20_000, "own")  # twenty seconds later
    wait_for(lambda: Probe(floor.client, "own").count(run) == 3)
    assert floor.issued_once("own")


def test_a_worker_of_one_org_is_all_there_is(floor: Floor) -> None:
    """It serves that org; the others' jobs stay, and no messages for them pile up."""
    with elsewhere(floor) as (there, stack):
        stack.enter_context(another_worker(there, "alone.log", "--org", "calm", "--pool", "prefork"))
        others = there.bring("ten", 10)
        assert there.seconds("calm", 100) < 40
        time.sleep(2.5)  # longer than an org that was taken takes to come up again
        assert Probe(there.client, "ten").count(others, "queued") == 10
        assert there.waiting() == 0


def test_a_worker_of_an_unknown_org_is_refused(floor: Floor) -> None:
    """With a sentence."""
    refused = badges("worker", "--org", "nobody", env=floor.env, expect=2)
    assert b"there is no org 'nobody'" in b" ".join(refused.stderr.split())


# -- what is urgent


def test_urgent_jobs_overtake_the_bulk_of_their_org(floor: Floor) -> None:
    """Within a few calls, and without starving it."""
    bulk = floor.bring("calm", 2000)
    wait_for(lambda: Probe(floor.client, "calm").count(bulk) >= 50)
    before = len(floor.calls("calm"))
    urgent = floor.bring("calm", 5, urgent=True)
    wait_for(lambda: Probe(floor.client, "calm").count(urgent) == 5)
    calls, done = len(floor.calls("calm")) - before, Probe(floor.client, "calm").count(bulk)
    print(f"\nurgent jobs were issued within {calls} calls, with {2000 - done} before them")
    assert calls < 20  # of forty; a busy machine makes some before it looks
    assert done < 1000
    wait_for(lambda: Probe(floor.client, "calm").count(bulk) == 2000)
