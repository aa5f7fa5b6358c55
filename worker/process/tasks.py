"""The Celery tasks: thin, each a call into the story (``turns.py``, ``enqueue.py``).

What an operator sends is in ``operator_tasks.py``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import structlog
from celery import Task
from celery.exceptions import Reject
from structlog.contextvars import bound_contextvars

from worker import logs, tracing
from worker.app import app, services
from worker.delivery import Delivered
from worker.domain.actor import Actor, Via
from worker.domain.batch import Due, Wait
from worker.domain.identity import short_hash
from worker.domain.org import DEFAULT_ORG
from worker.domain.outcome import Signal
from worker.domain.provenance import Provenance
from worker.domain.text import plain
from worker.enqueue import EnqueueOptions, accept, as_text, sources, total
from worker.errors import BadgesError, ConfigError, DeliveryFailed, NoRoom, StoreError
from worker.process.timing import timing_of
from worker.process.turns import DRAINING, Lasting, Turns
from worker.process.wakeup import install, send_due
from worker.server.brokerkeys import deliver_queue
from worker.store.queue import Queue

log = structlog.get_logger()
given_back = logs.Seldom()

STORE_PAUSE_S = 2.0
EARLIER_SHOWN = 15  # batches of a task, by which Flower finds it
NO_ROOM_PAUSE_S = 0.2  # shorter, since it holds up deliveries, which make room


@app.task(name="badges.deliver", bind=True, throws=(DeliveryFailed, StoreError))
def deliver(self: Task[..., Any], org: str, seen: str = "") -> dict[str, Any]:
    """Send one batch of an org, or note when to look at it next. ``seen``: see ``hint.lua``.

    It goes on while the next batch may start at once, and then with the orgs that queue up for a place,
    for two seconds: at high rates a message costs more than a batch.
    """
    here, own_org = services(), app.conf.get("own_org")
    if not here.queue.begin(org, seen=seen):
        return {"waits_for": "nothing: another delivery began since this one was sent"}
    alone = len(here.settings.orgs()) == 1 or org == own_org
    queue = deliver_queue(own_org if org == own_org else None)
    turns = Turns(
        here,
        worker=str(self.request.hostname),
        alone=alone,
        timing=timing_of(app),
        lasting=lambda: DRAINING if app.conf.get("draining") else Lasting(),
        check=lambda due: check.apply_async((due,), queue=queue),
    )
    last, following = turns.go(Due(org, seen))
    if following and not alone:
        _hand_on(here.queue)
    if isinstance(last, Wait) and not turns.sent:
        return {"waits_for": last.why}
    try:
        return counts_of(turns.sent)
    except DeliveryFailed as failed:
        with suppress(Exception):  # Flower finds tasks by their result, and a failed one has none
            self.send_event("task-failing", result=str(failed))
        raise


@app.task(name="badges.check", throws=(StoreError, ConfigError))
def check(org: str) -> dict[str, Any]:
    """Make calls that carry no batch: take badges back, look up a job in doubt (``IN_DOUBT=check``)."""
    here = services()
    with bound_contextvars(org=org):
        mine = here.settings.org(org)
        revoked = here.revoker.work(mine)
        return {"finding": here.doubt.check(mine)} | ({"revoked": revoked} if revoked else {})


@app.task(name="badges.enqueue", bind=True, acks_late=True, reject_on_worker_lost=True, throws=(ConfigError,))
def enqueue(
    self: Task[..., Any],
    items: list[Any],
    org: str = DEFAULT_ORG,
    run: str | None = None,
    *,
    urgent: bool = False,
) -> dict[str, Any]:
    """Accept badges that an upstream service sent; a bad item becomes a dead letter ``invalid``.

    A message that is wrong as a whole (no such org, no list, no name for a run) is refused: an error in the
    log, and a failed task. On our own errors the message is requeued: it is the only copy of these jobs.
    """
    # The same message delivered again is the same call, and the same run; another one with its id is not.
    call = short_hash(str(self.request.id), as_text([items, org, run, urgent]))
    try:
        here = services()
        here.settings.orgs()  # if that fails, it is not the message's fault
    except ConfigError as error:
        raise _given_back("enqueue.misconfigured", error, STORE_PAUSE_S) from error
    except StoreError as error:
        raise _given_back("enqueue.store_unavailable", error, STORE_PAUSE_S) from error
    sender = Actor(Via.TASK, origin(self))
    try:
        options = EnqueueOptions(
            run or f"task-{call[:8]}", call, urgent=urgent, source=Provenance(by=str(sender))
        )
        mine = here.settings.org(str(org))  # in a message it may be anything
        chunks = accept(here.queue, mine, sources(items, call), options)
        with tracing.continued(self.request.get("traceparent")):
            done = total(options.run, chunks)
    except ConfigError as error:
        reason = str(error)[:500]
        log.error(  # noqa: TRY400
            "enqueue.refused", id=self.request.id, reason=reason, origin=sender.name, sender=sender.name
        )
        with suppress(StoreError):
            here.queue.count_refused("enqueue")
        raise
    except NoRoom as error:
        raise _given_back("enqueue.no_room", error, NO_ROOM_PAUSE_S) from error
    except StoreError as error:
        raise _given_back("enqueue.store_unavailable", error, STORE_PAUSE_S) from error
    given_back.over()
    return {
        "run": done.run,
        "accepted": done.accepted,
        "duplicates": done.duplicates,
        "invalid": done.invalid,
        "noted": [f"{note.row}: {note.field or 'item'}: {note.reason}" for note in done.noted[:20]],
        "warnings": [f"{odd.count}: {odd.reason}; {', '.join(odd.rows)}" for odd in done.warnings],
    }


def _given_back(event: str, error: BadgesError, pause_s: float) -> Reject:
    """Return what puts the message back into its queue, after a pause: not in a tight loop."""
    if given_back.tells(event):
        log.warning(event, reason=str(error), messages=given_back.times[event])
    time.sleep(pause_s)
    return Reject(str(error), requeue=True)


def origin(task: Task[..., Any]) -> str:
    """Return who sent a message, as far as it says: Celery's origin."""
    return plain(str(task.request.origin), 100)


def _hand_on(queue: Queue) -> None:
    """Leave the place to the org that is first in the queue for one."""
    try:
        send_due(queue, deliver, ahead_ms=timing_of(app).ahead_ms)
    except Exception as error:  # noqa: BLE001 - the broker's errors are many
        log.warning("delivery.not_handed_on", reason=str(error))


def counts_of(sent: Sequence[Delivered]) -> dict[str, Any]:
    """Return what Flower shows of what was sent; raise if nothing was issued because the call failed."""
    last = sent[-1]
    counts = {
        "jobs": sum(len(done.batch.jobs) for done in sent),
        "issued": sum(done.settled.issued for done in sent),
        "dead": sum(done.settled.dead for done in sent),
        "retrying": sum(done.settled.retrying for done in sent),
        "queued": sum(done.settled.queued for done in sent),
        "status": last.sent.status,
        "elapsed_ms": last.sent.elapsed_ms,
        "batch": last.batch.id,  # late: Flower's list shows the beginning
    }
    if len(sent) > 1:
        counts["batches"] = len(sent)
        counts["earlier"] = " ".join(done.batch.id for done in sent[-1 - EARLIER_SHOWN : -1])
    if len(orgs := dict.fromkeys(done.org for done in sent)) > 1:
        counts["orgs"] = ", ".join(orgs)
    if last.verdict.signal is not Signal.OK:
        raise DeliveryFailed(f"{last.org}: {last.verdict.signal.value}: {last.verdict.reason} {counts}")
    return counts


install(app, deliver)
