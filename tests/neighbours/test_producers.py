"""Producers that know nothing of us: a foreign Celery app, celery-node, and both through brokers that die."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from neighbourhood import RabbitMQ
from support import NEIGHBOURS, Probe, dicts, environment, needs, process, wait_for, worker_command
from topology import APPEND_ONLY, Server, servers

from worker.sandbox.server import SandboxServer

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


@dataclass(frozen=True)
class Place:
    """A worker whose broker is the same Redis, and what its spans were sent as."""

    server: Server
    env: dict[str, str]
    vendor: SandboxServer
    spans: list[bytes]

    @property
    def url(self) -> str:
        """What a foreign app has as its broker."""
        return self.env["BADGES_REDIS_URL"]

    def issued(self, run: str) -> int:
        """Return how many badges of a run are."""
        return issued(self.server, run)


def issued(server: Server, run: str) -> int:
    """Return how many badges of a run are issued."""
    with server.client() as client:
        return Probe(client).count(run)


class _Collector(BaseHTTPRequestHandler):
    """Takes spans, as OpenTelemetry sends them."""

    received: list[bytes]

    def do_POST(self) -> None:
        self.received.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One worker for all producers."""
    folder = tmp_path_factory.mktemp("producers")
    received: list[bytes] = []
    collector = type("Collector", (_Collector,), {"received": received})
    with (
        servers(folder, APPEND_ONLY) as (server,),
        SandboxServer() as vendor,
        HTTPServer(("127.0.0.1", 0), collector) as sink,
    ):
        Thread(target=sink.serve_forever, daemon=True).start()
        env = environment(
            redis_url=f"redis://{server.address}/0", api_base_url=vendor.url, rate_limit="1000/second"
        )
        env |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        with process(worker_command(), env=env, log=folder / "worker.log"):
            yield Place(server, env, vendor, received)
        sink.shutdown()


def test_an_app_with_a_queue_of_its_own_names_ours(place: Place) -> None:
    """As the page says: without our queue's name a message lies where nobody looks; with it, it is taken."""
    with Celery(broker=place.url, set_as_current=False) as app, place.server.client() as client:
        app.conf.task_default_queue = "points"
        app.send_task("badges.enqueue", kwargs={"items": dicts(3), "run": "lost"})
        asked = app.send_task(
            "badges.enqueue",
            kwargs={"items": dicts(3), "run": "named"},
            queue="celery",
            ignore_result=True,
        )
        wait_for(lambda: place.issued("named") == 3, what="what was sent to our queue")
        assert client.llen("points") == 1
        assert not client.exists(f"celery-task-meta-{asked.id}"), "there are no results, as the page says"


def test_a_trace_is_continued(place: Place) -> None:
    """The header on the message makes our spans part of the sender's trace; a wrong one harms nothing."""
    with Celery(broker=place.url, set_as_current=False) as app:
        for n, header in enumerate((TRACEPARENT, "00-nonsense", 7, f"00-{'0' * 32}-{'0' * 16}-01")):
            kwargs = {"items": dicts(1, first=100 + n), "run": f"traced-{n}"}
            app.send_task("badges.enqueue", kwargs=kwargs, headers={"traceparent": header})
            wait_for(lambda: place.issued(f"traced-{n}") == 1, what=f"{header}")  # noqa: B023 - called at once
    wait_for(lambda: bytes.fromhex(TRACE_ID) in b"".join(place.spans), what="a span of the sender's trace")


@pytest.mark.neighbour("node", "celery-node")
def test_celery_node_hands_in(place: Place) -> None:
    """A client of another language, with its own defaults."""
    program = NEIGHBOURS / "programs/celery_node_producer.js"
    run = f"node-{uuid.uuid4().hex[:6]}"
    command = [needs("node"), program, place.url, needs("celery-node").parent, run]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    wait_for(lambda: place.issued(run) == 1, what="its badge")


@pytest.mark.neighbour("rabbitmq-server", "epmd")
@pytest.mark.timeout(240)
def test_a_rabbitmq_that_is_killed_loses_no_message_and_doubles_no_badge(tmp_path: Path) -> None:
    """With publisher confirms, what raised is sent again; worker and broker go on by themselves."""
    messages, each, before = 12, 20, 5
    with (
        servers(tmp_path, APPEND_ONLY) as (server,),
        SandboxServer() as vendor,
        RabbitMQ(tmp_path / "rabbitmq") as broker,
    ):
        env = environment(
            redis_url=f"redis://{server.address}/0", broker_url=broker.url, api_base_url=vendor.url,
            rate_limit="1000/second",
        )  # fmt: skip
        with (
            process(worker_command(), env=env, log=tmp_path / "worker.log"),
            Celery(broker=broker.url, set_as_current=False) as app,
        ):
            app.conf.broker_transport_options = {"confirm_publish": True}
            raised = 0
            for n in range(messages):
                if n == before:
                    broker.kill()
                    with pytest.raises((OperationalError, OSError)):
                        send(app, n, each)
                    raised += 1
                    broker.start()
                send(app, n, each)
            wait_for(
                lambda: issued(server, "r") == messages * each,
                within_s=90,
                what=f"all badges; {(tmp_path / 'worker.log').read_text()[-3000:]}",
            )
    ledger = vendor.vendor.ledger()
    assert raised == 1
    assert not ledger.issued_more_than_once
    assert len(ledger.issues) == messages * each


def send(app: Celery, n: int, each: int) -> None:
    """Send a message of that many badges, and don't try for long."""
    policy = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1}
    kwargs = {"items": dicts(each, first=1000 + n * each), "run": "r"}
    app.send_task("badges.enqueue", kwargs=kwargs, queue="celery", retry_policy=policy)
