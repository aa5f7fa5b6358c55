"""The Celery tasks: thin, each a call into the story (``delivery.py``, ``producer.py``)."""

from __future__ import annotations

import time
from typing import Any

import structlog
from celery import Task
from celery.exceptions import Reject
from structlog.contextvars import bound_contextvars

from worker.app import app, services
from worker.config import DEFAULT_ORG
from worker.delivery import Delivered
from worker.errors import ConfigError, DeliveryFailed, StoreError
from worker.outcome import Signal
from worker.producer import Intake, accept, sources, total
from worker.queue import Batch, Queue, Settled, Wait
from worker.wakeup import AHEAD_MS, install

log = structlog.get_logger()

STORE_PAUSE_S = 2.0
SEAT_WAIT_MS = 200


@app.task(name="badges.deliver", throws=(DeliveryFailed, StoreError))
def deliver(org: str, seen: str = "") -> dict[str, Any]:
    """Send one batch of an org, or note when to look at it next. ``seen``: see ``hint.lua``."""
    here = services()
    orgs = here.settings.orgs()
    mine = here.settings.org(org)
    with bound_contextvars(org=org), here.seats.take(mine, alone=len(orgs) == 1) as share:
        done: Delivered | Wait = Wait("a place in the pool", int(time.time() * 1000) + SEAT_WAIT_MS)
        if share:
            mine = mine.model_copy(update={"max_in_flight": share})
            done = here.delivery.deliver(mine, go_on=lambda step: _go_on(here.queue, org, step))
    if isinstance(done, Delivered):
        return _counts(done)
    here.queue.hint(org, done.look_at_ms, seen=seen)
    if done.check:
        check.delay(org)
    return {"waits_for": done.why}


@app.task(name="badges.check", throws=(StoreError,))
def check(org: str) -> dict[str, Any]:
    """Ask the vendor about one job in doubt that is due (``IN_DOUBT=check``)."""
    here = services()
    with bound_contextvars(org=org):
        return {"finding": here.doubt.check(here.settings.org(org))}


@app.task(name="badges.enqueue", bind=True, acks_late=True, reject_on_worker_lost=True, throws=(ConfigError,))
def enqueue(
    self: Task[..., Any],
    items: list[Any],
    org: str = DEFAULT_ORG,
    run: str | None = None,
    *,
    urgent: bool = False,
) -> dict[str, Any]:
    """Accept badges that an upstream service sent; a bad item becomes a dead letter ``invalid``."""
    here = services()
    # The same message delivered again is the same call, and the same run.
    call = str(self.request.id)
    intake = Intake(run or f"task-{call[:8]}", call, urgent=urgent)
    try:
        chunks = accept(here.queue, here.settings.org(org), sources(items, intake.call), intake)
        done = total(intake.run, chunks)
    except ConfigError as error:
        log.error("enqueue.refused", org=org, run=run, reason=str(error))  # noqa: TRY400 - a sentence, no bug
        raise
    except StoreError as error:
        # Back to the broker, and not in a tight loop: the message is the only copy of these jobs.
        log.warning("enqueue.store_unavailable", reason=str(error))
        time.sleep(STORE_PAUSE_S)
        raise Reject(str(error), requeue=True) from error
    return {
        "run": done.run,
        "accepted": done.accepted,
        "duplicates": done.duplicates,
        "invalid": done.invalid,
        "noted": [f"{note.row}: {note.field or 'item'}: {note.reason}" for note in done.noted[:20]],
    }


def _go_on(queue: Queue, org: str, step: Batch | Settled) -> None:
    """Start another delivery if there is more to send now; else, or if it gets lost, look again later.

    Never raises, since the batch that was claimed must go its way; the sweep finds what is lost here.
    """
    try:
        queue.hint(org, int(time.time() * 1000) + AHEAD_MS if step.more else step.look_at_ms)
        if step.more:
            deliver.apply_async((org,), retry=False)
    except Exception as error:  # noqa: BLE001 - the broker's errors are many
        log.warning("delivery.not_gone_on", reason=str(error))


def _counts(done: Delivered) -> dict[str, Any]:
    """Return what Flower shows of a batch; raise if nothing was issued because the call failed."""
    settled, sent = done.settled, done.sent
    counts = {
        "batch": done.batch.id,
        "jobs": len(done.batch.jobs),
        "issued": settled.issued,
        "dead": settled.dead,
        "retrying": settled.retrying,
        "queued": settled.queued,
        "status": sent.status,
        "elapsed_ms": sent.elapsed_ms,
    }
    if done.verdict.signal is not Signal.OK:
        raise DeliveryFailed(f"{done.verdict.signal.value}: {done.verdict.reason} {counts}")
    return counts


install(app, deliver)
