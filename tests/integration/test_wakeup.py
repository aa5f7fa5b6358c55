"""The promises of waking up: who is due is taken by one worker, within moments, and never forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from celery import Task
from structlog.testing import capture_logs
from support import configured, item, wait_for

from worker.app import Services
from worker.config import Settings
from worker.domain.batch import Batch
from worker.process.timing import Timing
from worker.process.wakeup import WakeUp
from worker.server.connection import Connection
from worker.store import keys
from worker.store.clock import steady_s
from worker.store.letters import GroupPart, Letter
from worker.store.pool import Seats
from worker.store.queue import Queue

FAR_MS = 4_000_000_000_000
SWEEPING = Timing(sweep_s=0.4, recover_s=0.05)
IMPATIENT = Timing(sweep_s=0.4, recover_s=0.05, ahead_ms=150)
NEVER_SWEEPING = Timing(sweep_s=3600)  # longer than any test: what happens was not the sweep's doing


@pytest.fixture(autouse=True)
def _a_pool(queue: Queue) -> None:
    """Let there be places for all that is due."""
    Seats(queue=queue).offer("worker", 1000)


def now_ms(client: redis.Redis) -> int:
    """Return the server's clock."""
    seconds, micros = client.time()
    return seconds * 1000 + micros // 1000


def hint_of(client: redis.Redis, org: str) -> int | None:
    """Return when somebody is to look at an org."""
    at = client.zscore(keys.WAKE, org)
    return None if at is None else int(at)


@pytest.fixture
def seats(queue: Queue, client: redis.Redis) -> Seats:
    """A pool of four places."""
    client.delete(keys.POOL)
    four = Seats(queue=queue)
    four.offer("worker", 4)
    return four


# -- hints


def test_a_hint_only_moves_ahead(queue: Queue, client: redis.Redis) -> None:
    """An earlier time replaces a later one, a later one changes nothing, "never" takes nothing away."""
    queue.hint("a", FAR_MS)
    queue.hint("a", FAR_MS + 1)
    assert hint_of(client, "a") == FAR_MS
    queue.hint("a", FAR_MS - 5)
    queue.hint("a", -1)
    assert hint_of(client, "a") == FAR_MS - 5


def test_who_took_it_may_move_it_later_or_take_it_away(queue: Queue, client: redis.Redis) -> None:
    """As long as nobody else has changed it since."""
    queue.hint("a", 1)
    (due,), _ = queue.take_due(ahead_ms=5000)
    queue.hint("a", FAR_MS, seen=due.seen)
    assert hint_of(client, "a") == FAR_MS
    queue.hint("a", -1, seen=str(FAR_MS))
    assert hint_of(client, "a") is None


def test_who_took_it_leaves_what_others_have_hinted_since(queue: Queue, client: redis.Redis) -> None:
    """A producer that hinted while the taker looked isn't overruled: its job would wait for the sweep."""
    queue.hint("a", 1)
    (due,), _ = queue.take_due(ahead_ms=5000)
    queue.hint("a", 7)
    queue.hint("a", -1, seen=due.seen)
    queue.hint("a", FAR_MS, seen=due.seen)
    assert hint_of(client, "a") == 7


def test_what_is_due_is_taken_once(queue: Queue, client: redis.Redis) -> None:
    """Taken, it is moved a little ahead: nobody else takes it now, and it comes up again by itself."""
    queue.hint("due", 1)
    queue.hint("later", FAR_MS)
    before = now_ms(client)
    (due,), wait_s = queue.take_due(ahead_ms=300)
    assert due.org == "due"
    assert before + 300 <= int(due.seen) <= now_ms(client) + 300
    assert hint_of(client, "due") == int(due.seen)
    assert wait_s is not None
    assert 0.2 < wait_s <= 0.3
    assert queue.take_due(ahead_ms=300)[0] == []
    (again,) = wait_for(lambda: queue.take_due(ahead_ms=300)[0])
    assert again.org == "due"


def test_no_second_message_is_sent_while_one_waits(queue: Queue, client: redis.Redis) -> None:
    """However often an org is hinted at, whoever would send one; one that waits long is replaced seldom."""
    queue.hint("a", 1)
    (due,), _ = queue.take_due(ahead_ms=400)
    for _ in range(3):
        queue.hint("a", 1)
        assert queue.take_due(ahead_ms=400)[0] == []
        assert queue.take_next(ahead_ms=400) is None
        assert hint_of(client, "a") == int(due.seen)
        queue.hint("a", 1)
        assert queue.take_next(ahead_ms=400) is None
    queue.take_due(ahead_ms=400)
    replaced = [int(due.seen)]
    for _ in range(2):
        (again,) = wait_for(lambda: queue.take_due(ahead_ms=400)[0])
        replaced.append(int(again.seen))
    steps = [later - earlier for earlier, later in pairwise(replaced)]
    assert 400 <= steps[0] < 1.5 * steps[0] < steps[1]


def test_a_message_from_before_the_clock_stepped_back_keeps_nobody_waiting(
    queue: Queue, client: redis.Redis
) -> None:
    """Its times lie too far ahead to be believed."""
    client.hset(keys.ASKED, "a", f"{FAR_MS} {FAR_MS}")
    queue.hint("a", 1)
    assert [due.org for due in queue.take_due(ahead_ms=400)[0]] == ["a"]


def test_of_the_messages_for_an_org_one_begins(queue: Queue) -> None:
    """The first to be dealt with; the others of before are void, and a new one may be sent at once."""
    queue.hint("a", 1)
    (first,) = queue.take_due(ahead_ms=20)[0]
    (again,) = wait_for(lambda: queue.take_due(ahead_ms=20)[0])
    assert queue.begin("a", seen=first.seen)
    assert not queue.begin("a", seen=again.seen)
    wait_for(lambda: now_ms(queue.client) > int(again.seen))  # a time that no message of before has
    (new,) = wait_for(lambda: queue.take_due(ahead_ms=20)[0])
    assert not queue.begin("a", seen=again.seen)
    assert queue.begin("a", seen=new.seen)


# -- the line


def test_no_more_messages_are_sent_than_there_are_places(
    queue: Queue, client: redis.Redis, seats: Seats
) -> None:
    """Those that wait to be begun have theirs, and so have deliveries; the others stay due, in order."""
    for n, org in enumerate("abcdef", 1):
        queue.hint(org, n)
    with seats.take(configured(name="elsewhere"), "worker", alone=False):
        due, wait_s = queue.take_due(ahead_ms=60_000)
        assert [one.org for one in due] == ["a", "b", "c"]
        assert wait_s
        assert 0 < wait_s < 1
        assert queue.take_due(ahead_ms=60_000)[0] == []
        assert queue.begin("a", seen=due[0].seen)
        with seats.take(configured(name="a"), "worker", alone=False):
            assert queue.take_due(ahead_ms=60_000)[0] == []
    assert [one.org for one in queue.take_due(ahead_ms=60_000)[0]] == ["d", "e"]
    assert hint_of(client, "f") == 6


def test_messages_that_were_lost_take_no_places(queue: Queue, seats: Seats) -> None:
    """However many: who stands in line comes, and so do those that are due again."""
    assert seats
    for n, org in enumerate("abcdef", 1):
        queue.hint(org, n)
    assert len(queue.take_due(ahead_ms=50)[0]) == 4
    again = wait_for(lambda: queue.take_due(ahead_ms=50)[0])
    assert [one.org for one in again][:2] == ["e", "f"]


def test_seats_of_a_worker_that_is_gone_take_no_places(
    queue: Queue, client: redis.Redis, seats: Seats
) -> None:
    """Those of one that was killed and hasn't been heard of since; or whose name another has taken over."""
    free = lambda: len(queue.take_due(ahead_ms=60_000)[0])  # noqa: E731
    for n in range(20):
        queue.hint(f"org{n}", n + 1)
    with ExitStack() as stack:
        for org, worker in (("x", "worker"), ("y", "worker"), ("z", "of another")):
            stack.enter_context(seats.take(configured(name=org), worker, alone=False))
        seats.offer("of another", 1)
        assert free() == 5 - 3
        seats.clear("worker")
        assert free() == 2
        client.zadd(keys.POOL, {"of another 1": 1})
        client.delete(keys.ASKED)
        assert free() == 4


def test_a_delivery_goes_on_with_who_stands_first_in_line(
    queue: Queue, client: redis.Redis, seats: Seats
) -> None:
    """Each is taken once, and comes up again should it be forgotten; who isn't due doesn't stand there."""
    for n, org in enumerate(("first", "own", "second"), 1):
        queue.hint(org, n)
    queue.hint("later", FAR_MS)
    seats.offer_own("own")
    before = now_ms(client)
    taken = [queue.take_next(ahead_ms=300) for _ in range(3)]
    assert [due and due.org for due in taken] == ["first", "second", None]
    assert taken[0]
    assert before + 300 <= int(taken[0].seen) == hint_of(client, "first")
    assert hint_of(client, "own") == 2
    again = wait_for(lambda: queue.take_next(ahead_ms=300))
    assert again.org == "first"


def test_a_message_is_void_for_who_was_taken_from_the_line(queue: Queue) -> None:
    """It was thought to be lost, and comes after all."""
    queue.hint("a", 1)
    (late,) = queue.take_due(ahead_ms=50)[0]
    wait_for(lambda: queue.take_next(ahead_ms=50))
    assert not queue.begin("a", seen=late.seen)


@pytest.mark.parametrize("line", [1, 250])
def test_a_worker_of_an_orgs_own_waits_behind_no_line(
    queue: Queue, client: redis.Redis, seats: Seats, line: int
) -> None:
    """However many stand in it for the places that all others share."""
    for n in range(line):
        queue.hint(f"org{n}", n + 1)
    queue.take_due(ahead_ms=60_000)
    client.delete(keys.BELL)
    seats.offer_own("own")
    queue.hint("own", now_ms(client))
    assert client.llen(keys.BELL) == 1
    (due,), _ = queue.take_due(ahead_ms=60_000)
    assert due[::2] == ("own", True)


def test_nothing_to_wait_for_is_said(queue: Queue) -> None:
    """Without any hint there is no next time."""
    assert queue.take_due(ahead_ms=2000) == ([], None)


def test_orgs_are_taken_by_one_worker_each(connection: Connection, queue: Queue) -> None:
    """Many workers ask at once, for more orgs than one call takes: each org is taken once."""
    orgs = [f"org{n}" for n in range(250)]
    for org in orgs:
        queue.hint(org, 1)

    def take(_: int) -> list[str]:
        took: list[str] = []
        with connection.client() as own:
            mine = Queue(own)
            while due := mine.take_due(ahead_ms=60_000)[0]:
                took += [one.org for one in due]
        return took

    with ThreadPoolExecutor(6) as pool:
        assert sorted(org for took in pool.map(take, range(6)) for org in took) == sorted(orgs)


# -- the bell


def test_the_bell_rings_when_the_head_moves_ahead(queue: Queue, client: redis.Redis) -> None:
    """Only then: whoever sleeps until the first hint need not be woken for a later one."""
    rung = []
    for org, at in [("a", FAR_MS), ("b", FAR_MS + 9), ("b", FAR_MS - 1), ("a", FAR_MS - 1), ("a", 1)]:
        queue.hint(org, at)
        rung.append(client.lpop(keys.BELL) is not None)
    assert rung == [True, False, True, False, True]


def test_the_bell_never_piles_up(queue: Queue, client: redis.Redis) -> None:
    """With nobody listening for days it stays one element."""
    for n in range(50):
        queue.hint("a", FAR_MS - n)
    assert client.llen(keys.BELL) == 1


def test_a_sleeper_wakes_at_the_hint(connection: Connection, queue: Queue) -> None:
    """And not when its sleep would have ended, an hour later."""
    with connection.client() as own, ThreadPoolExecutor(1) as pool:
        sleeper = pool.submit(own.blpop, [keys.BELL], timeout=3600)
        wait_for(lambda: queue.client.info("clients")["blocked_clients"] == 1)
        queue.hint("a", FAR_MS)
        assert sleeper.result(60)


# -- the thread


class Deliveries:
    """Records what the thread sends, in the place of the Celery task."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.queues: list[str] = []
        self.fails = 0

    def apply_async(self, args: tuple[str], kwargs: dict[str, str], *, queue: str) -> None:
        """Note a delivery; fail as a broker would, if told so."""
        if self.fails:
            self.fails -= 1
            raise ConnectionError("the broker is away")
        self.sent.append((args[0], kwargs["seen"]))
        self.queues.append(queue)


@contextmanager
def waking(connection: Connection, timing: Timing, *, own_org: str | None = None) -> Iterator[Deliveries]:
    """Run the real thread against the real server; only the Celery task is replaced."""
    with connection.client() as own:
        queue = Queue(own)
        here = SimpleNamespace(settings=Settings(), queue=queue, seats=Seats(queue=queue))
        recorded = Deliveries()
        task = cast("Task[..., Any]", recorded)
        thread = WakeUp(task, here=lambda: cast(Services, here), own_org=own_org, timing=timing)
        thread.start()
        yield recorded
        thread.stop()
        queue.client.lpush(keys.BELL, "1")
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def deliveries(queue: Queue, connection: Connection) -> Iterator[Deliveries]:  # noqa: ARG001 - it is empty
    """What a thread sends that sweeps often."""
    with waking(connection, SWEEPING) as recorded:
        yield recorded


@pytest.fixture
def unswept(queue: Queue, connection: Connection) -> Iterator[Deliveries]:
    """What a thread sends that never sweeps, but once at the beginning."""
    with waking(connection, NEVER_SWEEPING) as recorded:
        wait_for(lambda: queue.client.info("clients")["blocked_clients"] == 1)
        yield recorded


@pytest.fixture
def impatient(queue: Queue, connection: Connection) -> Iterator[Deliveries]:  # noqa: ARG001 - it is empty
    """What a thread sends that holds a message for lost after a moment."""
    with waking(connection, IMPATIENT) as recorded:
        yield recorded


def test_a_job_that_comes_in_is_delivered_at_once(
    queue: Queue, client: redis.Redis, unswept: Deliveries
) -> None:
    """From acceptance to delivery without polling: the bell ends the sleep."""
    queue.enqueue(configured(), run="r", items=[item(1)], call="c")
    wait_for(lambda: unswept.sent)
    org, seen = unswept.sent[0]
    assert (org, hint_of(client, "default")) == ("default", int(seen))


def test_a_time_ahead_is_kept(queue: Queue, client: redis.Redis, unswept: Deliveries) -> None:
    """Nothing is sent before the time, and then without any further hint."""
    at = now_ms(client) + 300
    queue.hint("default", at)
    wait_for(lambda: unswept.sent)
    assert now_ms(client) >= at


def test_an_org_whose_taker_crashed_comes_up_again(queue: Queue, impatient: Deliveries) -> None:
    """Nobody answers what was sent: it is sent again after a moment, and again."""
    queue.hint("default", 1)
    wait_for(lambda: len(impatient.sent) >= 3)


def test_a_lost_hint_is_healed(queue: Queue, client: redis.Redis, deliveries: Deliveries) -> None:
    """With hint and bell gone a queued job is found by the sweep."""
    queue.enqueue(configured(), run="r", items=[item(1)], call="c")
    wait_for(lambda: deliveries.sent)
    client.delete(keys.WAKE, keys.BELL)
    deliveries.sent.clear()
    wait_for(lambda: deliveries.sent)
    assert deliveries.sent[0][0] == "default"


@pytest.mark.parametrize("org", ["default", "left-the-settings"])
@pytest.mark.usefixtures("deliveries")
def test_what_was_discarded_by_groups_expires(queue: Queue, client: redis.Redis, org: str) -> None:
    """The sweep sees to it, a part at a time; that of an org that has no settings any more, too."""
    its = [item(n, org=org) for n in range(600)]
    queue.enqueue(configured(name=org), run="r", items=its, call="c")
    queue.cancel(org, [it.id for it in its], call="d")
    group = GroupPart("1", 0, FAR_MS)
    assert queue.discard_group(org, group, behind=Letter(), keep_ms=60_000, call="e", action="").done == 600
    wait_for(lambda: all(client.pttl(keys.key(org, "job", it.id)) > 0 for it in its))
    wait_for(lambda: client.get(keys.key(org, "remembered")) == "0")


def test_it_expires_on_a_full_server_too(queue: Queue, client: redis.Redis, connection: Connection) -> None:
    """It is one of the ways to have it less full."""
    its = [item(n) for n in range(600)]
    queue.enqueue(configured(), run="r", items=its, call="c")
    queue.cancel("default", [it.id for it in its], call="d")
    group = GroupPart("1", 0, FAR_MS)
    with waking(connection, SWEEPING), ExitStack() as full:
        full.callback(client.config_set, "maxmemory", "0")
        client.config_set("maxmemory", "1")
        queue.discard_group("default", group, behind=Letter(), keep_ms=200, call="e", action="")
        wait_for(lambda: not client.exists(*(keys.key("default", "job", it.id) for it in its)))


def test_a_silent_lease_is_found_by_the_sweep(
    queue: Queue, client: redis.Redis, deliveries: Deliveries
) -> None:
    """Also where no job is queued and no hint is left: somebody looks when a lease is over."""
    queue.enqueue(configured(), run="r", items=[item(1)], call="c")
    wait_for(lambda: deliveries.sent)
    assert isinstance(queue.claim(configured(), "lost"), Batch)
    client.delete(keys.WAKE)
    deliveries.sent.clear()
    client.zadd(keys.key("default", "leases"), {"lost": 1})
    wait_for(lambda: deliveries.sent)


def test_an_idle_org_is_left_alone(queue: Queue, client: redis.Redis, deliveries: Deliveries) -> None:
    """The sweep of an org with nothing to do wakes nobody."""
    client.sadd(keys.ORGS, "default", "no longer configured")
    wait_for(lambda: client.exists(keys.SWEEP))
    wait_for(lambda: not client.exists(keys.SWEEP))
    wait_for(lambda: client.exists(keys.SWEEP))
    assert deliveries.sent == []
    assert hint_of(client, "default") is None
    assert queue.take_due(ahead_ms=1) == ([], None)


def test_the_thread_outlives_failures(queue: Queue, impatient: Deliveries) -> None:
    """A broker that fails for a while ends nothing: what was taken comes up again."""
    impatient.fails = 2
    queue.hint("default", 1)
    wait_for(lambda: impatient.sent)
    assert impatient.fails == 0


def test_the_thread_outlives_redis(queue: Queue, client: redis.Redis, deliveries: Deliveries) -> None:
    """A script that the server refuses for a while, too."""
    wait_for(lambda: client.info("clients")["blocked_clients"] == 1)
    client.set(keys.WAKE, "no sorted set")
    client.lpush(keys.BELL, "1")
    wait_for(lambda: not client.exists(keys.BELL))
    client.delete(keys.WAKE)
    queue.hint("default", 1)
    wait_for(lambda: deliveries.sent)


def test_a_server_is_looked_at_again_after_a_failure(
    queue: Queue, client: redis.Redis, deliveries: Deliveries
) -> None:
    """It may be another one by now, and one that can't be relied on: nothing is sent until it is mended."""
    queue.hint("default", 1)
    wait_for(lambda: deliveries.sent)
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with capture_logs() as logged:
            client.set(keys.WAKE, "no sorted set")
            client.lpush(keys.BELL, "1")
            wait_for(lambda: [line for line in logged if line["event"] == "redis.unusable"])
            client.delete(keys.WAKE)
        sent = len(deliveries.sent)
        queue.hint("default", 1)
        over = steady_s() + 1.5
        wait_for(lambda: steady_s() > over)
        assert len(deliveries.sent) == sent
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    wait_for(lambda: len(deliveries.sent) > sent)


# -- a worker of one org alone


def test_an_org_with_a_worker_of_its_own_is_left_to_it(
    queue: Queue, client: redis.Redis, deliveries: Deliveries
) -> None:
    """For as long as that is alive; then the others serve the org again."""
    Seats(queue=queue).offer_own("mine")
    queue.hint("mine", 1)
    wait_for(lambda: deliveries.sent)
    assert deliveries.queues == ["badges.deliver.mine"]
    client.zadd(keys.OWN, {"mine": 1})  # it hasn't been heard of since
    queue.hint("mine", 1)
    wait_for(lambda: deliveries.queues == ["badges.deliver.mine", "badges.deliver"])


def test_nothing_is_sent_for_an_org_that_nobody_serves(
    queue: Queue, client: redis.Redis, connection: Connection
) -> None:
    """Where all workers serve other orgs, its messages would only pile up."""
    client.delete(keys.POOL)
    with waking(connection, SWEEPING, own_org="mine") as recorded:
        wait_for(lambda: client.zscore(keys.OWN, "mine"))
        for org in ("other", "mine"):
            queue.hint(org, 1)
        wait_for(lambda: recorded.sent)
    assert recorded.queues == ["badges.deliver.mine"]
