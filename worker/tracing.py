"""Tracing: enqueue → batch → call, as OpenTelemetry spans (extra ``tracing``); off by default.

It is set up by OpenTelemetry's own environment (``OTEL_EXPORTER_OTLP_ENDPOINT`` and so on), or by the
program that we are a part of, whose provider is then used. Otherwise it is off, and nothing of it is
imported. A job's record keeps the context of its enqueueing (``store/record.py``), to which its batch links.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any, Literal

SERVICE = "badges"
_TRACEPARENT = re.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
Kind = Literal["producer", "consumer", "client"]


class Span:
    """A span that nobody records: what there is while tracing is off."""

    traceparent = ""

    def note(self, **attributes: str | int) -> None:
        """Add attributes; two underscores in a name stand for a dot."""

    def fail(self, reason: str) -> None:
        """Say that what it is about failed, and why."""

    def inside(self) -> AbstractContextManager[object]:
        """Make what is done in the block its children."""
        return nullcontext()

    def ending(self) -> AbstractContextManager[object]:
        """Make it end with the block; what fails this fails it."""
        return nullcontext()


class _Recorded(Span):
    def __init__(self, span: Any) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:  # type: ignore[override] # the same for readers
        context = self._span.get_span_context()
        if not context.is_valid:
            return ""
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def note(self, **attributes: str | int) -> None:
        self._span.set_attributes({name.replace("__", "."): value for name, value in attributes.items()})

    def fail(self, reason: str) -> None:
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        self._span.set_status(Status(StatusCode.ERROR, reason))

    def inside(self) -> AbstractContextManager[object]:
        from opentelemetry.trace import use_span  # noqa: PLC0415

        return use_span(self._span, record_exception=False, set_status_on_exception=False)

    def ending(self) -> AbstractContextManager[object]:
        from opentelemetry.trace import use_span  # noqa: PLC0415

        return use_span(self._span, end_on_exit=True)


_OFF = Span()


@contextmanager
def span(name: str, *, kind: Kind, links: Iterable[str] = (), **attributes: str | int) -> Iterator[Span]:
    """Record what is done in the block; a span in the block is its child. ``links`` are traceparents."""
    one = begun(name, kind=kind, links=links, **attributes)
    with one.ending():
        yield one


def begun(name: str, *, kind: Kind, links: Iterable[str] = (), **attributes: str | int) -> Span:
    """Begin a span, which has to be ended; see ``span``."""
    recorder = tracer()
    if recorder is None:
        return _OFF
    from opentelemetry.trace import Link, SpanKind  # noqa: PLC0415

    linked = [Link(_context(traceparent)) for traceparent in dict.fromkeys(links) if traceparent]
    recorded = _Recorded(recorder.start_span(name, kind=SpanKind[kind.upper()], links=linked))
    recorded.note(**attributes)
    return recorded


@contextmanager
def continued(traceparent: object) -> Iterator[None]:
    """Make the spans of the block part of a caller's trace; anything but a traceparent is ignored.

    It comes with a message or a request, in the form of W3C's Trace Context.
    """
    if not isinstance(traceparent, str) or not _TRACEPARENT.fullmatch(traceparent) or tracer() is None:
        yield
        return
    from opentelemetry import context, trace  # noqa: PLC0415

    remote = trace.NonRecordingSpan(_context(traceparent))
    if not remote.get_span_context().is_valid:  # all zeros
        yield
        return
    before = context.attach(trace.set_span_in_context(remote))
    try:
        yield
    finally:
        context.detach(before)


def _context(traceparent: str) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415

    _, trace_id, span_id, flags = traceparent.split("-", 3)
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )


@cache
def tracer() -> Any | None:
    """Return the process's tracer, or None if tracing is off."""
    configured = _is_configured()
    if not configured and "opentelemetry.sdk.trace" not in sys.modules:
        return None
    try:
        from opentelemetry import trace  # noqa: PLC0415

        if configured and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            trace.set_tracer_provider(_provider())
    except ImportError as error:
        import structlog  # noqa: PLC0415 - it would load rich into every service that enqueues

        structlog.get_logger().warning(
            "tracing.off", reason=f"OTEL_* is set, but {error}: pip install '.[tracing]'"
        )
        return None
    return trace.get_tracer("badges")


def flush() -> None:
    """Send what is recorded; Celery's children end without Python's own way of ending."""
    if tracer() is not None:
        from opentelemetry import trace  # noqa: PLC0415

        getattr(trace.get_tracer_provider(), "force_flush", bool)()


def _is_configured() -> bool:
    said = {name: value.lower() for name, value in os.environ.items() if name.startswith("OTEL_") and value}
    if said.get("OTEL_SDK_DISABLED") == "true" or said.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    switches = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return any(switch in said for switch in switches)


def _provider() -> Any:
    """Make a provider that sends to where the environment says; it flushes at the process's end."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    os.environ.setdefault("OTEL_SERVICE_NAME", SERVICE)  # which it reads; a name in the resource would win
    provider = TracerProvider(resource=Resource.create())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
