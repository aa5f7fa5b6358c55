"""Celery's consumer, made to survive a broker that is killed, read-only or full, and unreadable messages.

What isn't one of our messages (``messages.py``) is refused, with the reason in the log (but never its
contents, which may be a customer's), and the next one is read. Left to itself, Celery 5.7 dies of many of
them, and gives some back to the queue first, so that the next worker dies as well.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from celery.exceptions import CPendingDeprecationWarning
from celery.signals import task_revoked
from celery.worker import consumer
from celery.worker.state import maybe_shutdown
from kombu import Connection, Message
from kombu.transport.redis import Channel

from worker.app import connection, services, settings
from worker.errors import BadgesError
from worker.logs import Seldom
from worker.process.broker import tamed
from worker.process.compressed import bound_unpacking
from worker.process.messages import (
    ENQUEUE,
    fault_of,
    fault_of_arguments,
    fault_of_keys,
    fault_of_task,
    no_task,
    task_named,
)
from worker.process.refusals import REFUSED, note_refused
from worker.server.brokerkeys import client_of, is_redis, wrong_keys
from worker.store.pool import cut_off

log = structlog.get_logger()

EVENTS_EVERY_S = 0.1
LOST = "lost"
CALM_S, SOON_S, LONGEST_PAUSE_S, LOOK_AGAIN_S = 60.0, 5.0, 5.0, 1.0
SAID_HERE = (
    *("consumer: Connection to broker lost", "Connected to", "Frequent restarts"),
    "Skipping prefetch count reduction",
)
# They log a traceback for what comes from outside: a message or command that they can't read, a lost broker.
TALKATIVE = (
    *("kombu.pidbox", "kombu.transport.redis", "celery.worker.pidbox"),
    *("celery.worker.control", "celery.worker.consumer.consumer"),
)


class Consumer(consumer.Consumer):
    """Celery's own, which survives that a lost connection can't be used any more, not even to close it.

    kombu 5.7 acknowledges and restores messages over a channel whose connection is gone, and what it raises
    then is an AttributeError, of which the whole worker would die.
    """

    hub: Any  # which its types lack
    event_dispatcher: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # What workers would tell each other so, nothing here needs; and anybody could tell them the same.
        alone = {"without_gossip": True, "without_mingle": True}
        options["worker_options"] = {**(options.get("worker_options") or {}), **alone}
        bound_unpacking()
        super().__init__(*arguments, **options)
        self.connection_errors: tuple[type[Exception], ...] = (*self.connection_errors, AttributeError)
        self._events_leave_at = 0.0
        self._connected_at, self._lost, self._says_connected = 0.0, Seldom(), True
        self._cut_off = True  # perhaps: one of this name that has died
        logging.getLogger("celery.worker.consumer.connection").addFilter(_unless_said)
        logging.getLogger("celery.worker.consumer.consumer").addFilter(_unless_said)
        warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)  # at each lost connection
        for name in TALKATIVE:
            logging.getLogger(name).addFilter(_without_traceback)
        logging.getLogger("celery.app.trace").addFilter(_unless_given_back)

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Say, though seldom, that the broker lets nobody connect, say a read-only one; wait a bit."""
        self._say_lost(exc)
        _pause(min(LONGEST_PAUSE_S, 0.1 * self._lost.times[LOST]))

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Drop the connection, and say so, though seldom if it happens often; the caller connects again."""
        lasted_s = time.monotonic() - self._connected_at
        if lasted_s > CALM_S:
            self._lost.over()
        self._say_lost(exc)
        try:
            super().on_connection_error_after_connected(exc)
        except Exception as error:  # noqa: BLE001 - in any case the next connection is a new one
            log.warning("broker.not_closed", reason=f"{type(error).__name__}: {error}")
            self.connection = None
        if lasted_s < SOON_S:
            _pause(min(LONGEST_PAUSE_S, 0.1 * self._lost.times[LOST]))

    def _note_cut_off(self, reason: str) -> None:
        """Note for status why nothing is read, or that it is again."""
        if reason or self._cut_off:
            with suppress(BadgesError):
                cut_off(services().queue, self.hostname, reason)
                self._cut_off = bool(reason)

    def _noting(self, ensure: Callable[..., Any], broker: str) -> Callable[..., Any]:
        """Return kombu's own way to connect, with a note of each try that fails."""

        def connect(errback: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            def failed(exc: Exception, interval: float) -> Any:
                self._note_cut_off(f"the broker {broker} can't be reached: {exc}")
                return errback(exc, interval)

            return ensure(failed, *arguments, **options)

        return connect

    def _wait_for_keys(self, connected: Connection) -> None:
        """Wait until Celery can use its keys, if anybody wrote something else there; say so, but seldom."""
        unusable = Seldom()
        while wrong := wrong_keys(client_of(connected), settings().orgs()):
            if unusable.tells(LOST):
                log.error("broker.unusable", reason="; ".join(wrong), times=unusable.times[LOST])
            self._note_cut_off("; ".join(wrong))
            _pause(LOOK_AGAIN_S)

    def _say_lost(self, exc: Exception) -> None:
        self._says_connected = self._lost.tells(LOST)
        if self._says_connected:
            reason = f"{type(exc).__name__}: {exc}"[:300]
            log.warning("broker.lost", reason=reason, times=self._lost.times[LOST])

    def ensure_connected(self, conn: Connection) -> Connection:
        """Connect, with a channel that refuses what can't be read as a message at all."""
        transport: Any = conn.transport
        if issubclass(getattr(transport, "Channel", object), Channel):
            transport.Channel = tamed(transport.Channel)
        if not connection().is_own_broker:  # else nothing could be noted while it is away
            noting: Any = conn
            noting.ensure_connection = self._noting(conn.ensure_connection, conn.as_uri())
        connected: Connection = super().ensure_connected(conn)
        if is_redis(connected.as_uri()):
            self._wait_for_keys(connected)
        self._note_cut_off("")
        self._connected_at = time.monotonic()
        if self._says_connected:
            log.info("broker.connected", broker=connected.as_uri())
            self._says_connected = False
        return connected

    def on_send_event_buffered(self) -> Any:
        """Send the events for Flower ten times a second; one by one they cost more than their messages."""
        now = time.monotonic()
        if self.hub and now >= self._events_leave_at:
            self._events_leave_at = now + EVENTS_EVERY_S
            self.hub.call_soon(self.timer.call_after, EVENTS_EVERY_S, self._send_events)

    def _send_events(self) -> None:
        if self.event_dispatcher:
            self.event_dispatcher.flush()

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Message], None]:
        """Return Celery's handler of a message, behind a look at the message's form."""
        handle = super().create_task_handler(*arguments, **options)

        def look_and_handle(message: Message) -> None:
            if fault := fault_of(message) or fault_of_task(message) or fault_of_keys(message):
                self._refuse(message, fault)
            elif fault := fault_of_arguments(message, self.app.tasks):
                self._refuse(message, fault, _event_of(message))
            else:
                handle(message)

        return look_and_handle

    def on_unknown_task(self, body: Any, message: Message, exc: Exception) -> None:  # noqa: ARG002
        """Refuse a message for an unknown task."""
        self._refuse(message, no_task(task_named(message)))

    def on_invalid_task(self, body: Any, message: Message, exc: Exception) -> None:  # noqa: ARG002
        """Refuse a message that Celery can't take, by its time of arrival or expiry for instance."""
        self._refuse(message, str(exc))

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """Refuse a message whose body can't even be unpacked."""
        self._refuse(message, f"its body can't be read: {exc}")

    def _refuse(self, message: Message, reason: str, event: str = REFUSED) -> None:
        headers: Any = message.headers
        note_refused(
            event, reason, headers if isinstance(headers, dict) else {}, bytes=len(message.body or "")
        )
        message.reject_log_error(log, self.connection_errors)


@task_revoked.connect
def _note_dropped(request: Any = None, expired: bool = False, **_: Any) -> None:  # noqa: FBT001, FBT002
    """Refuse, with a log line, a message that expired before it was begun, or that another worker revoked.

    Celery drops both silently.
    """
    said = {name: getattr(request, name, None) for name in ("task", "id", "origin")}
    why = "it expired before a worker came to it" if expired else "it was revoked"
    reason = f"{why}: nothing of it was taken in"
    note_refused("enqueue.refused" if said["task"] == ENQUEUE else REFUSED, reason, said)


def _pause(for_s: float) -> None:
    """Pause, unless the worker is to end.

    Raises:
        WorkerShutdown: it is.
    """
    over = time.monotonic() + for_s
    while time.monotonic() < over:
        maybe_shutdown()
        time.sleep(0.1)
    maybe_shutdown()


def _unless_said(record: logging.LogRecord) -> bool:
    """Drop what Celery says of a connection each time: this module says it, and seldom."""
    return not record.getMessage().startswith(SAID_HERE)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Keep one line of what came from outside."""
    record.exc_info = record.exc_text = None
    return True


def _unless_given_back(record: logging.LogRecord) -> bool:
    """Drop what Celery says of a message that goes back into its queue: the task has said why, and seldom."""
    return not (isinstance(record.args, dict) and str(record.args.get("description")).startswith("reject"))


def _event_of(message: Message) -> str:
    return "enqueue.refused" if task_named(message) == ENQUEUE else REFUSED
