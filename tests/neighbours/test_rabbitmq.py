"""RabbitMQ as the broker: what anybody publishes there, or declares otherwise, harms no worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import amqp
import pytest
from celery import Celery
from neighbourhood import RabbitMQ
from support import BADGE, environment, logged, process, wait_for, worker_command
from topology import APPEND_ONLY, servers

from worker.sandbox.server import SandboxServer

pytestmark = [pytest.mark.neighbour("rabbitmq-server", "epmd"), pytest.mark.timeout(240)]

JSON = {"content_type": "application/json", "content_encoding": "utf-8"}
PICKLE = {"content_type": "application/x-python-serialize", "content_encoding": "binary"}
BODIES = (b"null", b"5", b"{{{", b"\xff\x00", b"", b"{}", b"[1]", b'"x"', b"[" * 100_000)
HEADERS: tuple[dict[str, Any], ...] = (
    {},
    {"task": "badges.enqueue", "id": "1"},
    {"task": 5, "id": [1]},
    {"task": "badges.deliver", "id": "2", "eta": "soon"},
)
WAYS = (*(JSON | {"application_headers": headers} for headers in HEADERS), PICKLE, {})
COMMANDS: tuple[dict[str, Any], ...] = (
    {"method": "shutdown", "arguments": {}},
    {"method": "terminate", "arguments": {"task_id": "x", "signal": "KILL"}},
    {"method": "pool_shrink", "arguments": {"n": 100}},
    {"method": "cancel_consumer", "arguments": {"queue": "badges.deliver"}},
    {"method": "no_such", "arguments": {}},
)


@dataclass
class Place:
    """A broker, and what a worker beside it needs."""

    broker: RabbitMQ
    env: dict[str, str]
    vendor: SandboxServer
    log: Path

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """Open a channel of a client that isn't Celery."""
        with amqp.Connection(f"127.0.0.1:{self.broker.port}") as connection:
            yield connection.channel()

    def goes_on(self) -> None:
        """See that a message is taken, and its badge issued."""
        with Celery(broker=self.broker.url, set_as_current=False) as app:
            kwargs = {"items": [{"badgeMetaId": BADGE, "customerId": 5}], "run": "r"}
            app.send_task("badges.enqueue", kwargs=kwargs, queue="celery")
            wait_for(lambda: self.vendor.vendor.ledger().issues, what=self.log.read_text()[-3000:])
            wait_for(lambda: app.control.ping(timeout=2), what="it hears its operator")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """RabbitMQ, a server for the jobs, and a vendor."""
    with (
        servers(tmp_path, APPEND_ONLY) as (server,),
        SandboxServer() as vendor,
        RabbitMQ(tmp_path / "rabbitmq") as broker,
    ):
        url = f"redis://{server.address}/0"
        env = environment(redis_url=url, broker_url=broker.url, api_base_url=vendor.url, batch_linger_s=0)
        yield Place(broker, env, vendor, tmp_path / "worker.log")


def test_what_anybody_publishes_harms_nobody(place: Place) -> None:
    """In either queue and to all workers at once, of processes: a line each in the log, and all goes on."""
    with process(
        worker_command("--concurrency", 2, "--pool", "prefork"), env=place.env, log=place.log
    ) as worker:
        wait_for(lambda: place.log.exists() and "ready" in place.log.read_text())
        with place.channel() as channel:
            for queue, body, how in product(("celery", "badges.deliver"), BODIES, WAYS):
                channel.basic_publish(amqp.Message(body, **how), exchange=queue, routing_key=queue)
            for body in (*map(json.dumps, COMMANDS), *BODIES):
                channel.basic_publish(amqp.Message(body, **JSON), exchange="celery.pidbox")
        place.goes_on()
        assert len(logged(place.log, "message.refused")) + len(
            logged(place.log, "enqueue.refused")
        ) >= 2 * 6 * len(BODIES)
        assert worker.poll() is None
        said = place.log.read_text()
        assert "Traceback" not in said
        assert '"task": "shutdown"' in said


def test_a_queue_that_somebody_declared_otherwise(place: Place) -> None:
    """The worker says why it gets no messages, once and then seldom, and goes on when the queue is gone."""
    with place.channel() as channel:
        channel.queue_declare("celery", durable=False, auto_delete=False)
        with process(worker_command(), env=place.env, log=place.log):
            (line, *_) = wait_for(lambda: logged(place.log, "broker.lost"))
            assert "inequivalent arg 'durable' for queue 'celery'" in line["reason"]
            wait_for(lambda: any(line["times"] >= 8 for line in logged(place.log, "broker.lost")))
            assert len(logged(place.log, "broker.lost")) < 6
            assert len(place.log.read_text().splitlines()) < 20
            channel.queue_delete("celery")
            place.goes_on()
