"""Any language's way in: the documented message, byte for byte, and what becomes of any other."""

from __future__ import annotations

import base64
import bz2
import json
import lzma
import re
import socket
import subprocess
import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from celery import Celery
from support import BADGE, LONG, Probe, badges, dicts, environment, logged, process, wait_for, worker_command

from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection

EXAMPLES = Path(__file__).parents[2] / "deploy" / "enqueue"
CUSTOMER = 90_417_203_568  # whose digits are nothing else's in a log: no time's, no pid's


class Place(NamedTuple):
    """A Redis with a worker beside it, and a vendor."""

    client: redis.Redis
    broker_url: str
    socket_path: str
    env: dict[str, str]
    log: Path
    vendor: SandboxServer
    worker: subprocess.Popen[bytes]

    @property
    def probe(self) -> Probe:
        """What looks into its Redis."""
        return Probe(self.client)

    def push(self, raw: bytes) -> None:
        """Send the documented command over a plain socket, and read Redis's answer."""
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(10)
            plain.connect(self.socket_path)
            plain.sendall(command(b"LPUSH", b"celery", raw))
            answer = b""
            while not answer.endswith(b"\r\n"):
                answer += plain.recv(4096)
            assert re.fullmatch(rb":\d+\r\n", answer), answer

    def refused(self, kind: str) -> int:
        """Return how many messages of a kind were counted as refused."""
        return int(self.client.hget("{badges}/refused", kind) or 0)

    def send(self, items: Any, *, task_id: str | None = None, **more: Any) -> None:
        """Send ``badges.enqueue`` with an app that knows nothing of us."""
        with Celery(broker=self.broker_url) as stranger:
            stranger.send_task("badges.enqueue", kwargs={"items": items, **more}, task_id=task_id)


@pytest.fixture(scope="module")
def place(connection: Connection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One worker for all of these tests: none of them may harm it."""
    assert connection.server
    log = tmp_path_factory.mktemp("messages") / "worker.log"
    with SandboxServer() as vendor, connection.client() as client:
        client.flushall()
        fast = {"rate_limit": "1000/second", "batch_linger_s": 0}
        env = environment(redis_url=connection.url, api_base_url=vendor.url, **fast)
        with process(worker_command("--concurrency", 2), env=env, log=log) as worker:
            path = str(connection.server.socket_path)
            yield Place(client, connection.broker_url, path, env, log, vendor, worker)


def command(*parts: bytes) -> bytes:
    """Write a command as Redis reads it."""
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)


def documented() -> tuple[str, list[Any]]:
    """Return the message and its body as the page shows them."""
    envelope, body = re.findall(r"```json\n(.*?)```", (EXAMPLES / "README.md").read_text(), re.DOTALL)
    return envelope, json.loads(body)


def message(**kwargs: Any) -> dict[str, Any]:
    """Return a message as the page shows it, with these keyword arguments."""
    envelope, _ = documented()
    body = base64.b64encode(json.dumps([[], kwargs, {}]).encode()).decode()
    made: dict[str, Any] = json.loads(envelope.replace("ID", str(uuid.uuid4())).replace("BODY", body))
    return made


def refusals(place: Place, raw: dict[str, Any]) -> list[dict[str, Any]]:
    """Wait until the worker has refused a message, and return what it logged of it."""
    its_id = raw["headers"]["id"]
    lines: list[dict[str, Any]] = wait_for(
        lambda: [line for line in logged(place.log, "enqueue.refused") if line["id"] == its_id]
    )
    return lines


def test_the_documented_message_does_what_the_page_says(place: Place) -> None:
    """The page's own bytes, pushed as the page says, by a plain socket: its two badges are issued."""
    envelope, body = documented()
    encoded = base64.b64encode(json.dumps(body).encode()).decode()
    raw = envelope.replace("ID", str(uuid.uuid4())).replace("BODY", encoded).encode()
    place.push(raw)
    wait_for(lambda: place.probe.count("nightly") == 2)
    place.push(raw)  # again, with the same id
    place.push(raw.replace(encoded.encode(), base64.b64encode(json.dumps(body, indent=1).encode())))
    place.push(json.dumps(message(**body[1] | {"run": "later"})).encode())
    wait_for(lambda: place.probe.count("later", "duplicates") == 2)
    assert (place.probe.count("nightly", "total"), place.probe.count("later", "total")) == (
        2,
        0,
    )
    theirs = {it["customerId"] for it in body[1]["items"]}
    assert theirs == {555567088}
    assert sum(it.customer_id in theirs for it in place.vendor.vendor.ledger().issues) == 2


@pytest.mark.neighbour("node")
def test_the_example_for_node(place: Place) -> None:
    """It runs as it stands."""
    subprocess.run(
        ["node", EXAMPLES / "enqueue.mjs", place.socket_path],
        input=json.dumps(dicts(300, first=1000)).encode(),
        env=place.env | {"RUN": "node"},
        timeout=30,
        check=True,
    )
    wait_for(lambda: place.probe.count("node") == 300)


def test_the_example_for_the_shell(place: Place, tmp_path: Path) -> None:
    """It hands ``redis-cli`` a message that works."""
    stub = tmp_path / "redis-cli"
    stub.write_text('#!/bin/sh\necho "$@" > "$OUT.args"\ncat > "$OUT"\n')
    stub.chmod(0o755)
    subprocess.run(
        [EXAMPLES / "enqueue.sh", "-p", "6400"],
        input=json.dumps(dicts(300, first=2000)).encode(),
        env=place.env | {"RUN": "shell", "REDIS_CLI": str(stub), "OUT": str(tmp_path / "out")},
        timeout=30,
        check=True,
    )
    assert (tmp_path / "out.args").read_text() == "-p 6400 -x LPUSH celery\n"
    place.push((tmp_path / "out").read_bytes())
    wait_for(lambda: place.probe.count("shell") == 300)


def changed(**parts: Any) -> bytes:
    """Return a good message with some parts replaced, or left out where they are ``None``."""
    made = message(items=dicts(1, first=CUSTOMER)) | parts
    return json.dumps({name: part for name, part in made.items() if part is not None}).encode()


def body_of(text: str) -> str:
    """Return a body in base64."""
    return base64.b64encode(text.encode()).decode()


GOOD = message(items=[])
POISON = {
    "garbage": b"\x00\xffgarbage",
    "nothing": b"",
    "a number": b"5",
    "a list": b"[1]",
    "no properties": b"{}",
    "nested without end": b"[" * 100_000,
    "properties are a list": changed(properties=[]),
    "no delivery_tag": changed(properties={"body_encoding": "base64"}),
    "a delivery_tag that can't be one": changed(properties=GOOD["properties"] | {"delivery_tag": {}}),
    "no delivery_info": changed(properties={"body_encoding": "base64", "delivery_tag": "x"}),
    "an unknown encoding": changed(properties=GOOD["properties"] | {"body_encoding": "rot13"}),
    "no headers": changed(headers=None),
    "headers are a list": changed(headers=[1]),
    "no task": changed(headers={"id": "1"}),
    "an unknown task": changed(headers={"task": "somebody.elses", "id": "1"}),
    "a task that is a list": changed(headers={"task": ["badges.enqueue"], "id": "1"}),
    "no id": changed(headers={"task": "badges.enqueue"}),
    "an id that is a list": changed(headers={"task": "badges.enqueue", "id": [1]}),
    "a bad eta": changed(headers=GOOD["headers"] | {"eta": "soon"}),
    "a bad expiry": changed(headers=GOOD["headers"] | {"expires": "soon"}),
    "a bad time limit": changed(headers=GOOD["headers"] | {"timelimit": "long"}),
    "an eta that never comes": changed(headers=GOOD["headers"] | {"eta": "9999-12-31T23:59:59+00:00"}),
    "an alias that is a list": changed(headers=GOOD["headers"] | {"shadow": ["x"]}),
    "stamps that are a number": changed(headers=GOOD["headers"] | {"stamped_headers": 5}),
    "stamps of lists": changed(headers=GOOD["headers"] | {"stamped_headers": [["x"]]}),
    "an unknown compression": changed(headers=GOOD["headers"] | {"compression": "zzz"}),
    "pickle": changed(**{"content-type": "application/x-python-serialize"}),
    "no body": changed(body=None),
    "a body that is a number": changed(body=5),
    "a body that isn't base64": changed(body="%%%"),
    "a body that isn't JSON": changed(body=body_of("{{{")),
    "a body that is an object": changed(body=body_of('{"items": []}')),
    "a body of two parts": changed(body=body_of('[[], {"items": []}]')),
    "a key given twice": changed(body=body_of('[[], {"items": {"customerId": 7, "customerId": 8}}, {}]')),
    "arguments that are a list": changed(body=body_of("[[], [], {}]")),
    **{
        f"{name}: {links}": changed(
            body=body_of(json.dumps([[], {"items": dicts(1, first=CUSTOMER)}, {name: links}]))
        )
        for name in ("callbacks", "errbacks", "chain", "chord")
        for links in ("x", 5, [5], [{"task": "no.such"}], {"task": "no.such", "options": 5})
    },
    **{
        f"Celery's own {task}": changed(headers=GOOD["headers"] | {"task": task}, body=body_of(arguments))
        for task, arguments in (
            ("celery.map", '[[{"task": "badges.pause"}, [["default"]]], {}, {}]'),
            ("celery.chain", '[["x", "y"], {}, {}]'),
            ("celery.accumulate", "[[1, 2], {}, {}]"),
            ("celery.chord_unlock", '[["x", "y"], {}, {}]'),
            ("celery.backend_cleanup", "[[], {}, {}]"),
        )
    },
    "protocol 1 with a bad time limit": changed(
        headers={},
        body=body_of('{"task": "badges.enqueue", "id": "1", "kwargs": {"items": []}, "timelimit": "long"}'),
    ),
}


def test_poison_is_refused_and_harms_nobody(place: Place) -> None:
    """Each is refused with a line in the log, none crashes the worker or comes again, and the next is read.

    Three of each: a place in the pool, of two, that was lost each time would be missed.
    """
    before = len(logged(place.log, "message.refused"))
    for raw in POISON.values():
        for _ in range(3):
            place.push(raw)
    place.push(json.dumps(message(items=dicts(10, first=3000), run="after-poison")).encode())
    wait_for(lambda: place.probe.count("after-poison") == 10)
    wait_for(lambda: len(logged(place.log, "message.refused")) == before + 3 * len(POISON))
    lines = logged(place.log, "message.refused")[before:]
    assert all(line["level"] == "error" and line["reason"] for line in lines)
    assert place.worker.poll() is None
    assert place.client.llen("celery") == place.client.hlen("unacked") == 0
    text = place.log.read_text()
    assert "Connection to broker lost" not in text
    assert str(CUSTOMER) not in text, "a customer's number is in the log"


PACKED = {"zlib": zlib.compress, "bzip2": bz2.compress, "xz": lzma.compress}


def packed(body: bytes, compression: str) -> bytes:
    """Return a message whose body is packed, as ``task_compression`` packs it."""
    headers = GOOD["headers"] | {"compression": compression}
    return changed(headers=headers, body=base64.b64encode(PACKED[compression](body)).decode())


@LONG
def test_a_packed_message_is_read_and_one_that_fills_the_memory_isnt(place: Place) -> None:
    """Kilobytes that unpack to gigabytes would end each worker that comes to them, one after the other."""
    for n, compression in enumerate(PACKED):
        before = len(logged(place.log, "message.refused"))
        place.push(packed(b" " * (64 << 20) + b"x", compression))
        wait_for(lambda before=before: len(logged(place.log, "message.refused")) == before + 1)
        (line,) = logged(place.log, "message.refused")[before:]
        assert line["reason"] == "its body can't be read: it unpacks to more than 64 MiB"
        body = json.dumps([[], {"items": dicts(1, first=7000 + n), "run": "packed"}, {}])
        place.push(packed(body.encode(), compression))
    wait_for(lambda: place.probe.count("packed") == len(PACKED))


def broadcast(said: object, **parts: Any) -> bytes:
    """Return a message to all workers, as Celery's remote control writes it, with some parts replaced."""
    made = {
        "body": base64.b64encode(json.dumps(said).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"clock": 1, "expires": None},
        "properties": {
            "delivery_mode": 2,
            "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }
    return json.dumps(made | parts).encode()


FOREIGN = {
    "null": b"null",
    "a number": b"5",
    "no JSON": b"{{{",
    "binary": b"\xff\x00",
    "nothing": b"",
    "an empty object": b"{}",
    "no properties": broadcast({"method": "ping"}, properties=None),
    "headers are a list": broadcast({"method": "ping"}, headers=[1]),
    "no headers": broadcast({"method": "ping"}, headers=None),
    "a clock that is none": broadcast({"method": "ping"}, headers={"clock": "x"}),
    "no body": broadcast({}, body=None),
    "a body of another kind": broadcast({}, **{"content-type": "application/x-python-serialize"}),
    "a list": broadcast([1]),
    "a word": broadcast("ping"),
    "no command": broadcast({}),
    "an unknown command": broadcast({"method": "no_such", "arguments": {}}),
    "wrong arguments": broadcast({"method": "ping", "arguments": {"x": 1}}),
    "arguments that are a list": broadcast({"method": "ping", "arguments": [1]}),
    "a destination that is a number": broadcast({"method": "ping", "destination": 5}),
    "nowhere to reply": broadcast({"method": "ping", "reply_to": {"x": 1}}),
    **{
        f"{method} {arguments}": broadcast({"method": method, "arguments": arguments})
        for method, arguments in (
            ("add_consumer", {"queue": 5}),
            ("add_consumer", {"queue": "x", "exchange_type": "no such"}),
            ("cancel_consumer", {"queue": "celery"}),
            ("cancel_consumer", {"queue": "badges.deliver"}),
            ("rate_limit", {"task_name": "badges.deliver", "rate_limit": "1/h"}),
            ("rate_limit", {"task_name": "badges.enqueue", "rate_limit": "x"}),
            ("time_limit", {"task_name": "badges.deliver", "hard": 0.001}),
            ("pool_shrink", {"n": 100}),
            ("pool_shrink", {"n": "x"}),
            ("pool_shrink", {"n": -3}),
            ("pool_grow", {"n": "x"}),
            ("pool_grow", {"n": 100_000}),
            ("pool_restart", {}),
            ("shutdown", {}),
            ("terminate", {"task_id": "x", "signal": "KILL"}),
            ("revoke_by_stamped_headers", {"headers": {"x": 5}, "terminate": True}),
            ("election", {"id": 1, "topic": [], "action": 5}),
            ("memdump", {"samples": "x"}),
            ("objgraph", {"num": "x"}),
            ("autoscale", {"max": {}, "min": []}),
            ("revoke", {"task_id": {"x": 1}}),
            ("hello", {"from_node": "x", "revoked": 5}),
        )
    },
}


REFUSED_COMMANDS = (
    *("add_consumer", "cancel_consumer", "rate_limit", "time_limit", "pool_shrink", "pool_grow"),
    *("shutdown", "terminate", "revoke", "revoke_by_stamped_headers"),
)


def test_who_asks_a_worker_how_it_is_hears_no_secret(place: Place) -> None:
    """Anybody may ask, and Flower shows it: the broker's URL without passwords, and none of its options."""
    with Celery(broker=place.broker_url) as operator:
        told = wait_for(lambda: operator.control.inspect(timeout=2).stats(), what="an answer")
    (worker,) = told.values()
    assert worker["pool"]
    assert worker["broker"].keys() == {"url"}
    assert worker["broker"]["url"].startswith("redis+socket://")


def test_foreign_wake_ups_are_refused(place: Place) -> None:
    """Anybody may put messages for a delivery into the queue, too: a line each, and no traceback."""
    wrong = [{}, {"org": 5}, {"org": ["default"]}, {"org": "default", "seen": {}}, {"org": None}, {"x": 1}]
    before = len(logged(place.log, "message.refused"))
    tasks = [("badges.deliver", kwargs) for kwargs in wrong]
    tasks += [("badges.import_staged", {"staged_id": wrong}) for wrong in (5, {}, [1])]
    tasks += [
        ("badges.undo", {"run": "x", "colour": 1}),
        ("badges.undo", {}),
        ("badges.undo", {"customer": []}),
        *(
            ("badges.replay", {"kind": "rejected", "since": since})
            for since in ("0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00", "999999d")
        ),
    ]
    stranger = message(org="stranger")
    stranger["headers"]["task"] = "badges.check"
    place.push(json.dumps(stranger).encode())
    for task, kwargs in tasks:
        raw = message(**kwargs)
        raw["headers"]["task"] = task
        place.push(json.dumps(raw).encode())
    wait_for(lambda: len(logged(place.log, "message.refused")) == before + len(tasks))
    place.send(dicts(1, first=3400), run="after-wake-ups")
    wait_for(lambda: place.probe.count("after-wake-ups") == 1)
    assert "Traceback" not in place.log.read_text()


def test_what_anybody_publishes_harms_nobody(place: Place, tmp_path: Path) -> None:
    """On the channel that every worker hears, of threads or processes: a line, and everything goes on."""
    channel, log = "/0.celery.pidbox", tmp_path / "processes.log"
    command = worker_command("--concurrency", 2, "--pool", "prefork")
    with process(command, env=place.env, log=log) as other, Celery(broker=place.broker_url) as operator:

        def both_hear() -> None:
            wait_for(lambda: len(operator.control.ping(timeout=0.3, limit=2)) == 2, what="two workers")

        both_hear()
        for raw in FOREIGN.values():  # some make Celery listen anew, and nobody hears meanwhile
            place.client.publish(channel, raw)
            both_hear()
        place.send(dicts(3, first=3200), run="after-foreign")
        wait_for(lambda: place.probe.count("after-foreign") == 3)
        assert other.poll() is place.worker.poll() is None
        for said in (place.log.read_text(), log.read_text()):
            assert "Traceback" not in said
            assert "Unrecoverable" not in said
            assert said.count("it is no Celery message") >= 2
            for refused in REFUSED_COMMANDS:
                assert f'"task": "{refused}"' in said


def test_a_message_that_a_worker_holds_for_revoked_is_refused_aloud(place: Place) -> None:
    """Anybody may say so, as Celery's workers do among themselves; its sender is named, and it is counted."""
    raw = message(items=dicts(1, first=3500), run="revoked")
    revoked = {raw["headers"]["id"]: 1.0}
    hello = broadcast({"method": "hello", "arguments": {"from_node": "x", "revoked": revoked}})
    wait_for(lambda: place.client.publish("/0.celery.pidbox", hello))
    with Celery(broker=place.broker_url) as operator:
        wait_for(lambda: operator.control.ping(timeout=2))  # it has heard what came before
    place.push(json.dumps(raw).encode())
    (line,) = refusals(place, raw)
    assert (line["origin"], "revoked" in line["reason"]) == ("points-service", True)


def test_a_chain_goes_on(place: Place) -> None:
    """What Celery's own clients put beside the arguments is taken: here the task that comes after."""
    with Celery(broker=place.broker_url) as stranger:
        first, second = ({"items": dicts(1, first=n), "run": f"chained-{n}"} for n in (3100, 3101))
        enqueue = stranger.signature("badges.enqueue", kwargs=first)
        (enqueue | stranger.signature("badges.enqueue", kwargs=second, immutable=True)).apply_async()
    wait_for(lambda: place.probe.count("chained-3100") == place.probe.count("chained-3101") == 1)


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({"items": [], "org": "nobody"}, "no org 'nobody'; configured: default"),
        ({"items": 5}, "items must be a list of badges, not int"),
        ({"items": "text"}, "items must be a list of badges, not str"),
        ({"items": None}, "items must be a list of badges, not NoneType"),
        ({"items": [], "run": "two words"}, "'two words' is no name for a run"),
        ({"items": [], "run": 5}, "5 is no name for a run"),
        ({"items": [], "run": "last"}, "'last' is no name for a run"),
        ({"items": [], "org": []}, "no org '[]'"),
        ({"items": [], "urgent": "yes"}, "urgent must be true or false, not 'yes'"),
        ({"items": [], "urgent": [1]}, "urgent must be true or false, not [1]"),
    ],
)
def test_what_is_wrong_as_a_whole_is_refused(place: Place, kwargs: dict[str, Any], reason: str) -> None:
    """The log says why, whose it was and which; it isn't tried again."""
    raw = message(**kwargs)
    place.push(json.dumps(raw).encode())
    mine = refusals(place, raw)
    assert [(line["level"], line["origin"], reason in line["reason"]) for line in mine] == [
        ("error", "points-service", True)
    ]
    wait_for(lambda: not place.client.hlen("unacked"))
    assert place.client.llen("celery") == 0


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({"itmes": []}, "unexpected keyword argument 'itmes'"),
        ({"item": {}}, "unexpected keyword argument 'item'"),
        ({"items": [], "urgnt": True}, "unexpected keyword argument 'urgnt'"),
        ({}, "missing a required argument: 'items'"),
    ],
)
def test_wrong_arguments_are_refused_by_their_name(place: Place, kwargs: dict[str, Any], reason: str) -> None:
    """One too many, or none that there must be: said like everything else that is wrong as a whole."""
    raw = message(**kwargs)
    counted = place.refused("enqueue")
    place.push(json.dumps(raw).encode())
    (line,) = refusals(place, raw)
    assert (line["level"], line["origin"], reason in line["reason"]) == ("error", "points-service", True)
    wait_for(lambda: not place.client.hlen("unacked"))
    wait_for(lambda: place.refused("enqueue") > counted)


def test_a_message_that_expired_is_refused_aloud(place: Place) -> None:
    """Celery drops it without a word; its sender is named, and it is counted."""
    raw = message(items=dicts(1, first=3300), run="expired")
    raw["headers"]["expires"] = "2026-01-01T00:00:00+00:00"
    place.push(json.dumps(raw).encode())
    (line,) = refusals(place, raw)
    assert (line["origin"], "expired" in line["reason"]) == ("points-service", True)
    assert place.probe.count("expired", "total") == 0
    assert "Traceback" not in place.log.read_text()


def test_one_item_alone_and_bad_ones_among_many(place: Place) -> None:
    """One object instead of a list is one item; a bad one becomes a dead letter, with the reason."""
    place.send(dicts(1, first=4000)[0], run="alone")
    place.send(
        [*dicts(3, first=4001), {"badgeMetaId": BADGE}, "text", {"customerId": 1, "job_id": "a b"}],
        run="mixed",
    )
    wait_for(lambda: place.probe.count("alone") == 1 and place.probe.count("mixed") == 3)
    listed = badges("dead", "list", "--run", "mixed", "--jsonl", env=place.env).stdout.splitlines()
    errors = [json.loads(line)["error"] for line in listed]
    assert [error["kind"] for error in errors] == ["invalid"] * 3
    assert {"code": "customerId", "kind": "invalid", "message": "is missing"} in errors


def test_an_id_of_ones_own_in_a_message(place: Place) -> None:
    """The same badge twice on purpose; the same id for another badge is a conflict, and not issued."""
    place.send(
        [item | {"job_id": f"order-{n}"} for n, item in enumerate(dicts(1, first=5000) * 2)], run="ids"
    )
    wait_for(lambda: place.probe.count("ids") == 2)
    place.send([dicts(1, first=5001)[0] | {"job_id": "order-0"}], run="conflict")
    wait_for(lambda: place.probe.count("conflict", "duplicates") == 1)
    assert place.probe.count("conflict", "total") == 0


def test_a_message_delivered_many_times_at_once_is_one(place: Place) -> None:
    """The same message eight times at once, of 3,000 items: accepted once, and no duplicates are told."""
    raw = json.dumps(message(items=dicts(3000, first=10_000), run="at-once")).encode()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(place.push, [raw] * 8))
    wait_for(lambda: place.probe.count("at-once") == 3000)
    wait_for(lambda: not place.client.llen("celery") and not place.client.hlen("unacked"))
    assert (
        place.probe.count("at-once", "total"),
        place.probe.count("at-once", "duplicates"),
    ) == (3000, 0)
    issued = [i for i in place.vendor.vendor.ledger().issues if 10_000 <= i.customer_id < 13_000]
    assert len(issued) == 3000


def test_messages_whose_ids_begin_alike_are_two(place: Place) -> None:
    """Ids of a producer's own making are told apart by the whole of them."""
    for part in (1, 2):
        place.send(dicts(2, first=14_000), task_id=f"nightly-2026-11-23-part-{part}")
    wait_for(lambda: len(place.client.keys("*/run/task-*")) == 2)
    runs = [place.client.hgetall(key) for key in place.client.keys("*/run/task-*")]
    assert sorted((run.get("total", "0"), run.get("duplicates", "0")) for run in runs) == [
        ("0", "2"),
        ("2", "0"),
    ]


def test_messages_with_one_id_are_as_many_as_their_contents(place: Place) -> None:
    """A producer that gives every part of its file the file's name loses none of them."""
    for first in (15_000, 15_002, 15_000):
        place.send(dicts(2, first=first), task_id="nightly-2026-11-23", run="parts")
    wait_for(lambda: place.probe.count("parts") == 4)
    assert place.probe.count("parts", "total") == 4


def test_a_senders_name_is_bounded_and_fit_for_a_terminal(place: Place) -> None:
    """The header ``origin`` is anybody's."""
    raw = message(items=[], org="nobody")
    raw["headers"]["origin"] = "\x1b[2J" + "x" * 3000
    place.push(json.dumps(raw).encode())
    mine = refusals(place, raw)
    assert mine[0]["sender"] == " [2J" + "x" * 96


def test_a_message_of_many_megabytes(place: Place) -> None:
    """20,000 items with ids of their own, three megabytes in one message, all of them accepted."""
    many = [item | {"job_id": f"big-{n:055d}"} for n, item in enumerate(dicts(20_000, first=100_000))]
    place.send(many, run="big")
    wait_for(lambda: place.probe.count("big", "total") == 20_000, within_s=60)
    assert place.worker.poll() is None
