"""The Prometheus endpoint: read from Redis at each scrape; the process itself remembers nothing.

So any number of them may run, and none needs to run where the workers do. What is counted is counted in
Redis by the scripts, once, however many workers there are; how it is read is in ``operate/survey.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from worker.config import Settings
from worker.domain.job import DeadKind
from worker.domain.org import Limit, Org
from worker.errors import BadgesError, StoreError
from worker.operate.status import OrgState
from worker.operate.survey import Survey
from worker.server.cluster import Redis
from worker.server.health import memory, ping
from worker.store.pool import Fleet, fleet
from worker.store.protocol import TOOK_MS
from worker.store.queue import Queue
from worker.web.serving import serve_app

log = structlog.get_logger()

PREFIX = "badges_"
STATES = ("open", "probing", "closed", "paused")
DRAIN_S = 1

Row = tuple[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric of each org: name without the prefix, what it says, its rows, their labels beside ``org``."""

    name: str
    help: str
    rows: Callable[[OrgState], Sequence[Row]]
    labels: tuple[str, ...] = field(default=())


def _one(value: float | None) -> list[Row]:
    return [] if value is None else [((), value)]


def _counter(name: str) -> Callable[[OrgState], Sequence[Row]]:
    return lambda state: _one(state.stats.get(name, 0))


def _statuses(state: OrgState) -> Sequence[Row]:
    prefix = "status:"
    return [((name.removeprefix(prefix),), n) for name, n in state.stats.items() if name.startswith(prefix)]


def _dead_by_code(state: OrgState) -> Sequence[Row]:
    counted = ((name.split(":", 2), n) for name, n in state.stats.items() if name.startswith("dead:"))
    return [((name[1], name[2]), n) for name, n in counted if len(name) == 3]


def _calls(state: OrgState) -> int:
    """Count the calls that carried jobs."""
    return int(sum(count for _, count in _statuses(state)))


def _limits(state: OrgState) -> Sequence[Row]:
    limits = state.settings.limits if state.settings else ()
    return [(_limit_labels(limit), limit.count) for limit in limits]


def _utilization(state: OrgState) -> Sequence[Row]:
    sent = state.pace.sent if state.pace else ()
    return [(_limit_labels(limit), round(count / limit.count, 4)) for limit, count in sent]


def _limit_labels(limit: Limit) -> tuple[str, str]:
    return f"{limit.window_s}s", "items" if limit.of_items else "requests"


def _gate(state: OrgState) -> Sequence[Row]:
    now = state.gate.state
    return [((s, (state.gate.why or "") if s == now else ""), float(s == now)) for s in STATES]


def _standstill(state: OrgState) -> Sequence[Row]:
    return [((state.standstill.reason.value if state.standstill else "none",), 1.0)]


def _wanted(state: OrgState) -> float:
    most = state.settings.max_in_flight if state.settings else 0
    return min(1 if state.gate.tripped else most, state.in_flight + state.ripe_batches)


GAUGES = (
    Family("org_configured", "1; 0 if the org is no longer configured: nobody sends its jobs.",
           lambda s: _one(float(s.settings is not None))),
    Family("jobs_queued", "Jobs that are ready to be sent.", lambda s: _one(s.queued)),
    Family("jobs_isolated", "Jobs of batches that were refused as a whole, being sent in smaller ones.",
           lambda s: _one(s.isolated)),
    Family("jobs_retrying", "Jobs that wait for their next attempt.", lambda s: _one(s.retrying)),
    Family("jobs_waiting", "Jobs that are to be sent: queued, isolated or retrying.",
           lambda s: _one(s.waiting)),
    Family("standstill_info", "1; reason says why nothing moves, none where something does or nothing waits.",
           _standstill, ("reason",)),
    Family("batches_in_flight", "Batches that are being sent.", lambda s: _one(s.in_flight)),
    Family("oldest_job_age_seconds", "How long the first job of the queue has been ready.",
           lambda s: _one(s.oldest_s or 0.0)),
    Family("dead_letters", "Dead letters that nobody has dealt with yet.",
           lambda s: [((kind,), count) for kind, count in s.dead.items()], ("kind",)),
    Family("missing_badges", "badgeMetaIds the vendor said it doesn't know; their jobs die without a call.",
           lambda s: _one(s.missing_badges)),
    Family("requests_to_repeat", "Calls in doubt that are sent again as they were (IN_DOUBT=same_request).",
           lambda s: _one(s.to_repeat)),
    Family("undo_waiting", "Badges that are to be taken back.", lambda s: _one(s.to_undo)),
    Family("undo_retrying", "Of these, being called now, or to be called again.",
           lambda s: _one(s.undo_retrying)),
    Family("gate_state", "1 for the state that the org's gate is in, 0 for the others.",
           _gate, ("state", "reason")),
    Family("limit", "Requests, or items, that a limit allows in its window.", _limits, ("window", "of")),
    Family("limiter_utilization_ratio", "What the last window of a limit holds, of what is allowed.",
           _utilization, ("window", "of")),
    Family("allowed_requests_per_second", "The rate allowed now: configured, or what the vendor taught.",
           lambda s: _one(s.pace.allowed_per_s if s.pace else None)),
    Family("rate_learned", "1 if the rate allowed now is one that the vendor taught by answering 429.",
           lambda s: _one(float(s.pace.learned) if s.pace else None)),
    Family("batch_size", "Jobs that a batch may hold now.", lambda s: _one(s.pace.width if s.pace else None)),
    Family("batch_size_limit", "Jobs that a batch may hold as configured.",
           lambda s: _one(s.settings.batch_size if s.settings else None)),
    Family("batches_ripe", "Batches that wait for the limit or for a worker; 0 unless the gate is open.",
           lambda s: _one(s.ripe_batches)),
    Family("batches_wanted", "Batches that could be in flight if there were workers enough: scale on this.",
           lambda s: _one(_wanted(s))),
)  # fmt: skip

COUNTERS = (
    Family("jobs_accepted", "Jobs accepted, invalid ones included.", _counter("accepted")),
    Family("jobs_issued", "Jobs issued.", _counter("issued")),
    Family("jobs_dead", "Jobs that became dead letters, by kind.",
           lambda s: [((kind,), s.stats.get(f"dead:{kind}", 0)) for kind in DeadKind], ("kind",)),
    Family("jobs_dead_by_code", "Jobs that became dead letters, by kind and code; rare codes are other.",
           _dead_by_code, ("kind", "code")),
    Family("jobs_retried", "Times that a job was deferred by the vendor, to be tried again later.",
           _counter("retried")),
    Family("jobs_put_back", "Times that a job went back into the queue, since its call came to nothing.",
           _counter("put_back")),
    Family("jobs_undone", "Badges that were taken back from their customers.", _counter("undone")),
    Family("issued_twice", "Jobs that the vendor issued twice: never by this system's own doing.",
           _counter("issued_twice")),
    Family("requests", "Calls that carried jobs, by HTTP status, or our word for none.",
           _statuses, ("status",)),
    Family("side_requests", "Calls that carried none: for tokens, to look something up, to take badges back.",
           lambda s: _one(max(0, s.stats.get("requests", 0) - _calls(s)))),
    Family("request_seconds", "Time that calls with jobs took, all together.",
           lambda s: _one(s.stats.get("elapsed_ms", 0) / 1000)),
    Family("items_sent", "Jobs that calls carried: by requests, the batch fill; by issued, the attempts.",
           _counter("items")),
)  # fmt: skip


def families() -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Yield each family there can be: name, type, what it says, labels; for the documentation."""
    nobody = Fleet(places={}, own=frozenset(), due_ms={}, now_ms=0)
    unlabelled = [_up(1.0), *_workers(nobody), *_memory(0, 0)]
    yield from ((one.name, one.type, one.documentation, ()) for one in unlabelled)
    refused = _refused({})
    yield refused.name, refused.type, refused.documentation, ("kind",)
    for group, kind in ((GAUGES, "gauge"), (COUNTERS, "counter")):
        yield from ((PREFIX + one.name, kind, one.help, ("org", *one.labels)) for one in group)
    latencies = _latencies([])
    yield latencies.name, latencies.type, latencies.documentation, ("org",)


class BadgesCollector(Collector):
    """Reads Redis and the orgs at each scrape; ``badges_up`` is all there is to say while it can't."""

    def __init__(self, client: Redis, orgs: Callable[[], Mapping[str, Org]]) -> None:
        self._client, self._queue = client, Queue(client)
        self._orgs = orgs
        self._survey = Survey(client)

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        try:
            found = list(self._read())
        except BadgesError as error:
            log.warning("metrics.unreadable", reason=str(error))
            found = []
        yield _up(float(bool(found)))
        yield from found

    def _read(self) -> Iterator[Metric]:
        orgs = self._orgs()
        states = self._survey.states({name: orgs.get(name) for name in sorted({*self._queue.orgs(), *orgs})})
        yield from _workers(fleet(self._queue))
        yield from _memory(*memory(self._client))
        yield _refused(self._queue.refused())
        for families, metric in ((GAUGES, GaugeMetricFamily), (COUNTERS, CounterMetricFamily)):
            for family in families:
                yield _family(family, metric, states)
        if any(name.startswith("took:") for state in states for name in state.stats):
            yield _latencies(states)


def _up(value: float) -> Metric:
    return GaugeMetricFamily(
        PREFIX + "up", "1 if Redis and ORGS_FILE could be read at this scrape.", value=value
    )


def _workers(of: Fleet) -> Iterator[Metric]:
    words = "Workers that were heard of lately; those of one org alone count as one."
    yield GaugeMetricFamily(PREFIX + "workers", words, value=len(of.places) + len(of.own))
    yield GaugeMetricFamily(
        PREFIX + "worker_places",
        "Batches that those for all orgs can send at once.",
        value=sum(of.places.values()),
    )
    yield GaugeMetricFamily(
        PREFIX + "wakeup_overdue_seconds",
        "Since when an org waits for any worker to look at it; workers take what is due within milliseconds.",
        value=of.overdue_s(),
    )


def _memory(used: float, most: float) -> Iterator[Metric]:
    words = "Memory that Redis uses; of a Cluster, its fullest node."
    yield GaugeMetricFamily(PREFIX + "redis_memory_used_bytes", words, value=used)
    words = "Memory that Redis may use; where no maxmemory is set, the machine's."
    yield GaugeMetricFamily(PREFIX + "redis_memory_max_bytes", words, value=most)


def _refused(counts: Mapping[str, int]) -> Metric:
    words = "Messages that were refused, by kind; see enqueue.refused and message.refused in the logs."
    made = CounterMetricFamily(PREFIX + "messages_refused", words, labels=("kind",))
    for kind in ("enqueue", "message"):
        made.add_metric((kind,), float(counts.get(kind, 0)))
    return made


def _family(family: Family, metric: type[Metric], states: Sequence[OrgState]) -> Metric:
    made: Any = metric(PREFIX + family.name, family.help, labels=("org", *family.labels))  # type: ignore[call-arg]
    for state in states:
        for labels, value in family.rows(state):
            made.add_metric((state.org, *labels), value)
    return made  # type: ignore[no-any-return]


def _latencies(states: Sequence[OrgState]) -> Metric:
    made = HistogramMetricFamily(
        PREFIX + "request_duration_seconds", "How long calls with jobs took.", labels=("org",)
    )
    for state in states:
        so_far, buckets = 0, []
        for bound in TOOK_MS:
            so_far += state.stats.get(f"took:{bound}", 0)
            buckets.append((f"{bound / 1000:g}", float(so_far)))
        buckets.append(("+Inf", float(_calls(state))))
        made.add_metric((state.org,), buckets, sum_value=state.stats.get("elapsed_ms", 0) / 1000)
    return made


def create_app(client: Redis, settings: Settings) -> Starlette:
    """Serve ``/metrics``, and ``/healthz``, which says whether Redis answers."""
    registry = CollectorRegistry()
    registry.register(BadgesCollector(client, settings.orgs))

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type})

    def healthz(_: Request) -> Response:
        try:
            ping(client)
        except StoreError as error:
            return PlainTextResponse(f"Redis doesn't answer: {error}\n", 503)
        return PlainTextResponse("ok\n")

    return Starlette(routes=[Route("/metrics", metrics), Route("/healthz", healthz)])


def serve(
    client: Redis, settings: Settings, *, host: str, port: int, on_ready: Callable[[str], None]
) -> None:
    """Serve in the foreground until Ctrl-C or SIGTERM, which are clean ends; port 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """
    app = create_app(client, settings)
    serve_app(app, host=host, port=port, drain_s=DRAIN_S, on_ready=lambda url: on_ready(f"{url}/metrics"))
