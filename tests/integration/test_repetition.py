"""The promise that a call repeated is harmless: clients repeat what they had no answer to."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from importlib import resources
from math import inf
from pathlib import Path
from typing import Any, Self

import pytest
import redis
from hands import claimed
from redis.backoff import NoBackoff
from redis.retry import Retry
from support import OTHER_BADGE, configured, item, wait_for

from worker.domain.batch import Batch, Item, Replay, Sent, Slot
from worker.domain.job import DeadKind
from worker.domain.outcome import Issued, Signal, Verdict
from worker.domain.settlement import DeadLetter, Isolate, PutBack
from worker.domain.settlement import Retry as RetryLater
from worker.server.connection import Connection
from worker.store import forgets, keys
from worker.store.letters import GroupPart, Letter
from worker.store.outbox import Ending, Outbox
from worker.store.pool import Seats
from worker.store.protocol import gate_config
from worker.store.queue import Queue

ORG = configured(batch_size=5)
SETTLEMENTS = (
    Issued("E1"),
    DeadLetter(DeadKind.REJECTED, "1054", "no such badge"),
    RetryLater(60, "521", "busy", spends_attempt=True),
    PutBack("503", "away"),
    Isolate(0, 2, "400", "bad"),
)
THROTTLED = Verdict((), Signal.THROTTLED, "429", "too many", 30)


def contents(client: redis.Redis) -> dict[str, Any]:
    """Read everything that the server holds, but for the clock that every look at the gate notes."""
    found: dict[str, Any] = {}
    for key in sorted(str(key) for key in client.scan_iter(count=1000)):
        match client.type(key):
            case "hash":
                found[key] = {k: v for k, v in client.hgetall(key).items() if k not in ("clock", "offset")}
            case "list":
                found[key] = client.lrange(key, 0, -1)
            case "zset":
                found[key] = client.zrange(key, 0, -1, withscores=True)
            case "set":
                found[key] = client.smembers(key)
            case _:
                found[key] = client.get(key)
        found[key, "expires"] = client.pexpiretime(key)
    return found


def dead(name: str, n: int, kind: str = "rejected") -> Item:
    """Return a dead letter."""
    return Item(name, str(n), {**item(n).fields, "code": "812"}, kind=kind)


@pytest.fixture
def scene(queue: Queue) -> Batch:
    """Jobs in every state: queued, a batch that is sent, dead letters of two kinds."""
    queue.enqueue(ORG, run="r", items=[item(n) for n in range(12)], call="scene")
    letters = [
        dead("dead", 50),
        dead("dead2", 51),
        dead("doubt", 52, "in_doubt"),
        dead("doubt2", 53, "in_doubt"),
    ]
    queue.enqueue(ORG, run="r", items=letters, call="scene2")
    noted = ["noted", ["by", "me", "count", "0"], 9]  # and whoever acts counts here
    queue.store.call("audit", [keys.key_prefix("default")], noted)
    Seats(queue=queue).offer("worker", 4)
    wait_for(lambda: queue.take_due(ahead_ms=0)[0])
    return claimed(queue, ORG, "sent")


def settle(queue: Queue, batch: Batch) -> Any:
    """Settle the batch, a different settlement for each job."""
    return queue.settle(ORG, batch, SETTLEMENTS, verdict=THROTTLED, sent=Sent("429", 3))


MENDED = Replay("dead2", Item("mended", "51", item(60, badge_id=OTHER_BADGE).fields))
REJECTED = GroupPart("1", 0, 9_000_000_000_000)  # the group of what was rejected, which came first
CALLS: dict[str, Callable[[Queue, Batch], Any]] = {
    "enqueue": lambda q, _: q.enqueue(
        ORG, run="r", items=[item(1), item(20), dead("new", 1, "invalid")], call="c"
    ),
    "claim": lambda q, _: _without_time(q.claim(ORG, "again")),
    "claim: nothing": lambda q, _: q.claim(configured(max_in_flight=1), "nothing"),
    "claim: settled": lambda q, b: (q.release(ORG, b.id, b.jobs), q.claim(ORG, b.id)),
    "start": lambda q, _: (
        q.enqueue(ORG, run="held", items=[item(30)], call="h", starts_ms=inf),
        q.start(ORG, "held", call="c", action="noted"),
    )[1],
    "settle": settle,
    "settle: release": lambda q, b: q.release(ORG, b.id, b.jobs),
    "replay": lambda q, _: q.replay(
        ORG, run="noted", items=[Replay("dead"), MENDED, Replay("none")], call="c"
    ),
    "resolve": lambda q, _: q.resolve(ORG, ["doubt"], call="c", action="noted"),
    "discard": lambda q, _: q.discard(
        "default", ["doubt2", "none"], keep_ms=60_000, call="c", action="noted"
    ),
    "replay_group": lambda q, _: q.replay_group(
        ORG, run="noted", of=REJECTED, behind=Letter(), most=9, call="c"
    ),
    "discard_group": lambda q, _: q.discard_group(
        "default", REJECTED, behind=Letter(), keep_ms=60_000, call="c", action="noted"
    ),
    "count_group": lambda q, _: q.store.call(
        "count_group", [keys.key_prefix("default")], [*REJECTED[:3], "r", 0]
    ),
    "forget": lambda q, _: forgets.forget(
        q, "default", [3, "dead", "", "doubt", "", "none", "", item(8).id[:10]], action="noted", call="c"
    ),
    "audit": lambda q, _: q.store.call(
        "audit", [keys.key_prefix("default")], ["new", ["by", "me", "count", "0"], 1]
    ),
    "conclude_check": lambda q, _: q.store.call(
        "conclude_check",
        [keys.key_prefix("default")],
        ["c", "cleared", "", 600_000, "", "noted", "doubt", "none"],
    ),
    "gauge": lambda q, _: q.store.call("gauge", [keys.key_prefix("default")], [gate_config(ORG)])["width"],
    "undo": lambda q, b: (
        settle(q, b),
        q.store.call("undo", [keys.key_prefix("default")], ["c", "noted", 60_000, b.jobs[0].id, "u"]),
    )[1],
    "settle_revoke": lambda q, b: (
        settle(q, b),
        q.store.call("undo", [keys.key_prefix("default")], ["c", "noted", 60_000, b.jobs[0].id, "u"]),
        q.store.call(
            "settle_revoke",
            [keys.key_prefix("default")],
            ["c2", "u", "undone", "", "", "", 1, 60_000, "200", "E1", {}],
        ),
    )[2],
    "reserve_call": lambda q, _: isinstance(q.reserve_call(ORG, "c"), Slot),
    "cancel": lambda q, _: q.cancel("default", [item(8).id, item(9).id, "none"], call="c", action="noted"),
    "take_seat": lambda q, _: q.store.call(
        "take_seat", [keys.SEATS, keys.POOL], ["o", "worker", "c", 60_000, 0]
    ),
    "begin": lambda q, _: q.store.call("begin", [keys.ASKED, keys.BEGUN], ["default", "9000000000000"]),
    "search": lambda q, _: q.store.call("search", [keys.key_prefix("default")], ["r", 0, 9, "812"]),
    "tally": lambda q, _: q.store.call("tally", [keys.key_prefix("default")], ["r", 0, 9]),
    "remembered": lambda q, _: q.store.call("remembered", [keys.key_prefix("default")], [item(1).id[:10]]),
    "look_up": lambda q, _: q.store.call("look_up", [keys.key_prefix("default")], [item(1).id]),
    "outbox": lambda q, _: Outbox(q, ORG).open("ledger"),
    "acknowledge": lambda q, _: _unsaid(Outbox(q, ORG).acknowledge(_ended(q))),
    "pause": lambda q, _: _unsaid(q.pause("default", why="operator", reason="tests")),
    "resume": lambda q, _: _unsaid(q.resume(ORG)),
    "probed": lambda q, _: q.probed("default"),
    "hint": lambda q, _: q.hint("default", 17),
    "hint: seen": lambda q, _: q.hint("default", 4_000_000_000_000, seen=_hint(q)),
}
CHANGE_NOTHING = {
    "gauge",
    "search",
    "tally",
    "look_up",
    "remembered",
    "count_group",
    "claim: nothing",
    "resume",
    "probed",
}
# These say otherwise in their headers: what was taken comes up again, or is over; the later send counts.
TIMED = {"expire_discarded", "take_due", "take_next", "take_check", "take_revoke", "retime", "offer"}


def _without_time(batch: Any) -> Any:
    return batch.jobs


def _ended(queue: Queue) -> list[Ending]:
    """Return what has ended, as it was when it was read first."""
    Outbox(queue, ORG).open("ledger")
    if not (before := Outbox(queue, ORG).read()):
        queue.discard("default", ["doubt2"], keep_ms=60_000, call="ended")
        before = Outbox(queue, ORG).read()
    return [before[0]._replace(number=0)] if before else [Ending(0, "doubt2", "discarded", 0, "")]


def _unsaid(_: object) -> None:
    """Answers whether it changed anything: by design another answer the second time."""


def _hint(queue: Queue) -> str:
    return str(int(queue.client.zscore(keys.WAKE, "default") or 0))


@pytest.mark.parametrize("name", CALLS)
def test_the_second_call_changes_nothing_and_answers_the_same(
    queue: Queue, client: redis.Redis, scene: Batch, name: str
) -> None:
    """Everything that the server holds is the same after the second call as after the first."""
    before = contents(client)
    first = CALLS[name](queue, scene)
    after = contents(client)
    assert (after != before) == (name not in CHANGE_NOTHING)
    assert CALLS[name](queue, scene) == first
    assert contents(client) == after


def test_every_script_is_among_them() -> None:
    """A script that is new has to say, and to prove, what its repetition does."""
    folder = resources.files("worker.store").joinpath("lua")
    scripts = {f.name.removesuffix(".lua") for f in folder.iterdir() if not f.name.startswith("_")}
    assert scripts == {name.partition(":")[0] for name in CALLS} | TIMED


def test_a_script_that_the_server_forgot_is_loaded_again(queue: Queue, client: redis.Redis) -> None:
    """After a restart or a failover the next call works as ever, and is made once."""
    client.script_flush()
    assert queue.enqueue(ORG, run="r", items=[item(1)], call="c") == list("a")
    client.script_flush()
    assert isinstance(queue.claim(ORG, "b1"), Batch)
    assert client.hget(keys.key("default", "gate"), "n") == "1"


# -- a real connection that breaks at the worst moment


class Cutter:
    """A proxy before the server that swallows replies: the script has run, and nobody hears of it."""

    def __init__(self, server_path: str, own_path: Path) -> None:
        self.path = str(own_path)
        self._server_path = server_path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._threads: list[threading.Thread] = []
        self.cuts = 0
        self.swallowed = 0

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        """Pass on what comes from either side; a request to be cut is, once the server has answered it."""
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(self._server_path)
            doomed = False
            while True:
                readable, _, _ = select.select([client, server], [], [])
                if client in readable:
                    request = client.recv(1 << 20)
                    if not request:
                        return
                    doomed = self.cuts > 0 and b"EVALSHA" in request
                    server.sendall(request)
                if server in readable:
                    reply = server.recv(1 << 20)
                    if doomed and b"NOSCRIPT" not in reply:
                        self.cuts -= 1
                        self.swallowed += 1
                        return
                    client.sendall(reply)


@pytest.fixture
def cutter(connection: Connection, tmp_path: Path, client: redis.Redis) -> Iterator[Cutter]:
    """The proxy before the session's server, which is empty."""
    assert client.dbsize() == 0
    server_path = connection.url.removeprefix("unix://").partition("?")[0]
    with Cutter(server_path, tmp_path / "s") as proxy:
        yield proxy


@pytest.fixture
def far_queue(cutter: Cutter) -> Iterator[Queue]:
    """A queue whose client repeats calls, as ours does, over the proxy."""
    client = redis.Redis(
        connection_pool=redis.ConnectionPool(
            connection_class=redis.UnixDomainSocketConnection,
            path=cutter.path,
            decode_responses=True,
            protocol=2,
            retry=Retry(NoBackoff(), 5),
        )
    )
    with client:
        yield Queue(client)
        client.connection_pool.disconnect()


def test_lost_replies_neither_lose_nor_repeat_anything(
    far_queue: Queue, cutter: Cutter, client: redis.Redis
) -> None:
    """Each call's reply is lost twice; jobs, batches, counts and sends are those of calls made once."""

    def cut(call: Callable[[], Any]) -> Any:
        cutter.cuts = 2
        answer = call()
        assert cutter.cuts == 0
        return answer

    items = [item(n) for n in range(7)]
    assert cut(lambda: far_queue.enqueue(ORG, run="r", items=items, call="c")) == list("a" * 7)
    batch = cut(lambda: far_queue.claim(ORG, "b1"))
    assert [job.id for job in batch.jobs] == [it.id for it in items[:5]]
    assert client.hget(keys.key("default", "gate"), "n") == "1"
    done = cut(lambda: settle(far_queue, batch))
    assert (done.issued, done.dead, done.retrying, done.queued) == (1, 1, 1, 2)
    assert client.lrange(keys.key("default", "queue"), 0, -1) == [items[3].id, items[5].id, items[6].id]
    assert client.llen(keys.key("default", "isolate")) == 1
    replayed = cut(lambda: far_queue.replay(ORG, run="m", items=[Replay(items[1].id)], call="c2"))
    assert replayed == {"replayed": 1, "duplicates": 0, "skipped": 0, "undos": 0}
    counted = client.hgetall(keys.key("default", "run", "r"))
    kept = {"total": "7", "queued": "5", "sending": "0", "retrying": "1", "issued": "1", "dead": "0"}
    assert {name: counted[name] for name in kept} == kept
    assert client.zcard(keys.key("default", "missing")) == 0
    assert cutter.swallowed >= 8


def test_a_lost_reply_of_a_release_releases_once(
    far_queue: Queue, cutter: Cutter, client: redis.Redis
) -> None:
    """Nor does the claim before it take other jobs when it is repeated after the release."""
    far_queue.enqueue(ORG, run="r", items=[item(n) for n in range(7)], call="c")
    batch = claimed(far_queue, ORG, "b1")
    cutter.cuts = 2
    far_queue.release(ORG, "b1", batch.jobs)
    assert not isinstance(far_queue.claim(ORG, "b1", durably=False), Batch)
    assert client.lrange(keys.key("default", "queue"), 0, -1) == [item(n).id for n in range(7)]
