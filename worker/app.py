"""The Celery application: ``celery -A worker.app worker`` or ``badges worker``.

Celery carries wake-ups, never jobs: a message lost or repeated can neither lose nor repeat a badge.
Nothing is read or connected at import; settings are read when Celery asks for its configuration.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from celery import Celery
from celery.signals import (
    celeryd_init,
    setup_logging,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutting_down,
)
from kombu import Connection as Broker
from kombu import Exchange
from kombu import Queue as MessageQueue

from worker import logs, tracing
from worker.config import Settings
from worker.delivery import Delivery
from worker.errors import BadgesError, ConfigError, EmbeddedServerError, NewerStore, StoreError
from worker.server.brokerkeys import DEFAULT_QUEUE, DELIVER_QUEUE
from worker.server.connection import NO_BROKER, Connection
from worker.server.health import refuse_unusable
from worker.store.pool import Seats
from worker.store.queue import Queue
from worker.vendor.auth import Authenticator
from worker.vendor.client import VendorClient
from worker.vendor.doubt import DoubtChecker
from worker.vendor.lookups import Lookups
from worker.vendor.revoking import Revoker

GARBAGE_AFTER = 20_000  # new objects, after which it is looked for; a batch makes a thousand


@dataclass(frozen=True, slots=True)
class Services:
    """What a worker process works with."""

    settings: Settings
    queue: Queue
    seats: Seats
    delivery: Delivery
    doubt: DoubtChecker
    revoker: Revoker


@cache
def settings() -> Settings:
    """Read the settings, once per process."""
    return Settings.load()


@cache
def connection() -> Connection:
    """Connect, once per process; forked children use what their parent opened."""
    opened = Connection.open(settings())
    atexit.register(opened.close)
    return opened


def services() -> Services:
    """Return this process's own services; a forked child makes its own at first use."""
    return _services_of(os.getpid())


@cache
def _services_of(_: int) -> Services:
    queue, client = Queue(connection().client(), replicas=settings().replicas), VendorClient()
    auth = Authenticator(queue=queue, client=client)
    return Services(
        settings(),
        queue,
        Seats(queue=queue),
        Delivery(queue=queue, client=client, auth=auth),
        DoubtChecker(queue, Lookups(queue, client, auth)),
        Revoker(queue, client, auth),
    )


def _broker(connection: Connection) -> str:
    """Return the broker's URL, of which Celery can make a client.

    Raises:
        ConfigError: it can't; in words of our own, which quote nothing of the URL: a password may be in it.
    """
    if not connection.broker_url:
        raise ConfigError(NO_BROKER)
    name = "BADGES_BROKER_URL" if settings().broker_url else "BADGES_REDIS_URL"
    try:
        with Broker(connection.broker_url) as broker:
            _ = broker.transport  # made when it is first asked for
    except KeyError as error:
        raise ConfigError(f"{name}: {error.args[0]}: redis://host/0 or amqp://user:password@host") from None
    except ImportError as error:
        raise ConfigError(f"{name} needs a package that isn't installed: {error}") from None
    except TypeError as error:
        raise ConfigError(f"{name} has an option that Celery doesn't know: {error}") from None
    return connection.broker_url


def _celery_settings() -> dict[str, Any]:
    try:
        broker_url = _broker(connection())
    except (ConfigError, EmbeddedServerError) as error:
        refuse_to_start(error)
    return {
        "broker_url": broker_url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # a worker that gave up would be gone for good
        "broker_channel_error_retry": True,  # one that refuses a command, being full, is lost for a while
        "worker_consumer": "worker.process.consumer:Consumer",
        "broker_transport_options": {
            "visibility_timeout": 3600,
            "socket_keepalive": True,
            **connection().broker_options,
        },
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_default_queue": DEFAULT_QUEUE,
        # Each with a routing key of its own: on AMQP, one message must not go to both.
        "task_queues": [
            MessageQueue(name, Exchange(name), routing_key=name) for name in (DEFAULT_QUEUE, DELIVER_QUEUE)
        ],
        "task_routes": {name: {"queue": DELIVER_QUEUE} for name in ("badges.deliver", "badges.check")},
        "worker_prefetch_multiplier": 1,
        # None at all where that can be had: what a full worker has fetched, no other one can begin.
        "worker_disable_prefetch": broker_url.startswith(("redis", "sentinel")),
        "worker_hijack_root_logger": False,
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        # A PUT in flight must be settled even while the broker is away.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
    }


app = Celery(
    "badges",
    include=[
        "worker.process.tasks",
        "worker.process.operator_tasks",
        "worker.process.commands",
        "worker.process.staged_import",
    ],
)
app.add_defaults(_celery_settings)


def refuse_to_start(error: BadgesError) -> NoReturn:
    """End the process before it serves, as every other command does whose settings are wrong.

    Raises:
        SystemExit: with status 2, and the reason as the last line of the log.
    """
    print(f"badges: {error}", file=sys.stderr)  # noqa: T201 - where a command says it
    raise SystemExit(2) from None


def _see_to_heartbeat(file: Path | None) -> None:
    """See that the sign of life can be given; it isn't given yet.

    Raises:
        ConfigError: it can't; a supervisor that waits for the sign would restart the worker for ever.
    """
    if file and not (os.access(file.parent, os.W_OK) or os.access(file, os.W_OK)):
        raise ConfigError(f"BADGES_HEARTBEAT_FILE: {file} can't be written: correct it, or unset it")


@worker_init.connect
def _begin(sender: Any, **_: Any) -> None:
    try:
        _see_to_heartbeat(settings().heartbeat_file)
        refuse_unusable(services().queue.client)
        services().queue.store.refuse_other_versions()
        services().queue.workers.say(sender.hostname, settings().orgs())
        services().seats.clear(sender.hostname)
    except ConfigError as error:
        refuse_to_start(error)
    except NewerStore as error:
        raise SystemExit(f"badges: {error}") from None
    except StoreError:
        return  # it is away: the first sweep looks again


@worker_init.connect
@worker_process_init.connect
def _switch_often(**_: Any) -> None:
    # A call needs the interpreter's lock at every step of its wire, each time from threads that read and
    # write batches: at Python's 5 ms a call of 53 ms took 80, and a tenth fewer were made. At half a
    # millisecond there were twice as many switches as at two: a twentieth of all that goes through.
    sys.setswitchinterval(0.002)


@worker_ready.connect
@worker_process_init.connect
def _keep_what_was_loaded(**_: Any) -> None:
    # What was imported stays until the end: to look through it for garbage cost a tenth of a worker's time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER)


@worker_process_init.connect  # a child isn't told when its worker is to end
@worker_shutting_down.connect
def _end_turns(**_: Any) -> None:
    app.conf.draining = True


@worker_process_shutdown.connect
def _flush_spans(**_: Any) -> None:
    tracing.flush()


@celeryd_init.connect  # the earliest, so that no warning of Celery's goes another way
@setup_logging.connect
def _configure_logs(**_: Any) -> None:
    logs.configure(settings())
