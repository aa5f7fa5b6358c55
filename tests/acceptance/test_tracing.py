"""Tracing: enqueue → batch → call are spans that belong together; without it nothing of it is there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support import (
    BADGE,
    OTHER_BADGE,
    PROGRAMS,
    badges_process,
    configured,
    deliver_one,
    environment,
    process,
    some,
    wait_for,
    worker_command,
)

from worker import tracing
from worker.delivery import Delivered, Delivery
from worker.domain.identity import request_id
from worker.domain.org import Org
from worker.enqueue import EnqueueOptions, accept, sources
from worker.sandbox.issued import Fault
from worker.sandbox.server import SandboxServer
from worker.store import keys
from worker.store.queue import Queue
from worker.store.record import read
from worker.vendor.auth import Authenticator
from worker.vendor.client import VendorClient


class Provider(TracerProvider):
    """One that records only during these tests: a process can't take back the one that it has set."""

    is_on = False

    def get_tracer(self, *args: Any, **options: Any) -> trace.Tracer:
        """Return a tracer, or one that does nothing."""
        source = super() if self.is_on else trace.NoOpTracerProvider()
        return source.get_tracer(*args, **options)


@pytest.fixture(scope="module")
def provider() -> Provider:
    """Return a provider as a program that we are a part of would have set it up."""
    made = Provider()
    trace.set_tracer_provider(made)
    return made


@pytest.fixture
def spans(provider: Provider) -> Iterator[InMemorySpanExporter]:
    """All spans of a test, in the order of their ends."""
    exporter = InMemorySpanExporter()
    processor = SimpleSpanProcessor(exporter)
    provider.add_span_processor(processor)
    provider.is_on = True
    tracing.tracer.cache_clear()
    yield exporter
    processor.shutdown()
    provider.is_on = False
    tracing.tracer.cache_clear()


def enqueue(queue: Queue, org: Org, customers: range, badge: str = BADGE) -> None:
    """Hand in a badge for each of these customers, in one call."""
    items = [{"badgeMetaId": badge, "customerId": n} for n in customers]
    list(accept(queue, org, sources(items, str(customers)), EnqueueOptions("r", f"call-{customers.start}")))


def deliver(queue: Queue, org: Org) -> Delivered:
    """Send one batch."""
    client = VendorClient()
    try:
        delivery = Delivery(queue=queue, client=client, auth=Authenticator(queue=queue, client=client))
        done = deliver_one(delivery, org)
    finally:
        client.close()
    assert isinstance(done, Delivered)
    return done


def test_a_batch_links_to_what_enqueued_its_jobs(
    spans: InMemorySpanExporter, provider: TracerProvider, queue: Queue, sandbox: SandboxServer
) -> None:
    """The enqueueing continues the caller's trace; the batch links to each call; its PUT is its child."""
    org = configured(api_base_url=sandbox.url)
    with provider.get_tracer("service").start_as_current_span("upstream") as upstream:
        enqueue(queue, org, range(1, 4))
    enqueue(queue, org, range(11, 13))
    done = deliver(queue, org)
    first, _, second, put, batch = spans.get_finished_spans()
    assert [it.name for it in (first, second, put, batch)] == ["badges.enqueue"] * 2 + ["PUT", "badges.batch"]
    assert first.parent == upstream.get_span_context()
    assert dict(first.attributes or {}) == {"badges.org": "default", "badges.run": "r", "badges.jobs": 3}
    assert [link.context.span_id for link in batch.links] == [context(first), context(second)]
    assert dict(batch.attributes or {}) == {
        "badges.org": "default",
        "badges.batch": done.batch.id,
        "badges.request": request_id(done.batch.id),
        "badges.jobs": 5,
        "badges.status": "200",
        "badges.issued": 5,
        "badges.dead": 0,
        "badges.answered": done.sent.request,
    }
    assert put.parent is not None
    assert put.parent.span_id == context(batch)
    assert (put.attributes or {})["http.response.status_code"] == 200
    assert batch.status.is_ok
    assert batch.status.status_code is not trace.StatusCode.ERROR


def context(span: ReadableSpan) -> int:
    """Return a span's id."""
    found = span.get_span_context()
    assert found is not None
    return int(found.span_id)


def test_a_batch_that_failed_is_an_error(
    spans: InMemorySpanExporter, queue: Queue, sandbox: SandboxServer
) -> None:
    """Its status says why, and which HTTP status it was; the record stays compact."""
    sandbox.vendor.add_fault(Fault(fault="status", status=500, times=1))
    org = configured(api_base_url=sandbox.url)
    enqueue(queue, org, range(1, 3))
    (record,) = queue.client.keys(keys.key("default", "job", "*"))[:1]
    written = str(queue.client.get(record))
    assert len(read(written)["traceparent"]) == 55
    assert len(written) < 55 + 150
    deliver(queue, org)
    _, put, batch = spans.get_finished_spans()
    assert batch.status.status_code is trace.StatusCode.ERROR
    assert "the vendor answered 500" in (batch.status.description or "")
    assert (batch.attributes or {})["badges.status"] == "500"
    assert (put.attributes or {})["http.response.status_code"] == 500


def test_a_call_without_an_answer_is_an_error(spans: InMemorySpanExporter, queue: Queue) -> None:
    """Nobody answers there: the call's span says what happened."""
    org = configured(api_base_url="http://127.0.0.1:9")
    enqueue(queue, org, range(1, 3))
    done = deliver(queue, org)
    put = spans.get_finished_spans()[1]
    assert put.status.status_code is trace.StatusCode.ERROR
    assert (put.attributes or {})["error.type"] == done.sent.status


@pytest.mark.parametrize("installed", some([[], ["without"]], 1), ids=["installed", "not installed"])
def test_off_it_costs_nothing(tmp_path: Path, installed: list[str]) -> None:
    """Without its environment nothing of it is imported, by no worker and no producer."""
    env = {n: v for n, v in environment(data_dir=tmp_path / "data").items() if not n.startswith("OTEL_")}
    assert enqueued(*installed, env=env).splitlines() == ["1", "[]"]


def test_what_is_not_installed_is_missed_in_a_sentence(tmp_path: Path) -> None:
    """Asked for and not there: the program says so, and works."""
    env = environment(data_dir=tmp_path / "data") | {"OTEL_TRACES_EXPORTER": "otlp"}
    said = enqueued("without", env=env)
    assert "pip install '.[tracing]'" in said
    assert "\n1\n[]\n" in said


def enqueued(*how: str, env: dict[str, str]) -> str:
    """Hand in a badge from a process of its own; return what that prints."""
    done = subprocess.run(
        [sys.executable, PROGRAMS / "traced_producer.py", *how],
        env=env,
        capture_output=True,
        timeout=60,
        check=True,
    )
    return done.stdout.decode()


def test_a_worker_sends_its_spans_where_the_environment_says(tmp_path: Path, sandbox: SandboxServer) -> None:
    """``OTEL_EXPORTER_OTLP_ENDPOINT`` is all that a command and a worker need; the service is ``badges``."""
    received: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        env = environment(data_dir=tmp_path / "data", api_base_url=sandbox.url, batch_linger_s=0) | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        with process(worker_command(), env=env, log=tmp_path / "worker.log"):
            row = json.dumps({"badgeMetaId": OTHER_BADGE, "customerId": 1})
            badges_process("import", "-", "--run", "r", env=env, stdin=row.encode())  # it sends at its end
            wait_for(lambda: b"badges.enqueue" in b"".join(received))
            wait_for(
                lambda: b"badges.batch" in b"".join(received), what=(tmp_path / "worker.log").read_text()
            )
        server.shutdown()
    assert all(b"service.name\x12\x08\n\x06badges" in sent for sent in received)
