"""The Celery tasks: thin, each a call into the story (``delivery.py``, ``producer.py``)."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import structlog
from celery import Task
from celery.exceptions import Ignore, Reject
from structlog.contextvars import bound_contextvars

from worker import audit, deadletters, keys
from worker.app import app, deliver_queue, services
from worker.asked import ReplayAsked
from worker.badge import short_hash
from worker.config import DEFAULT_ORG
from worker.delivery import Delivered
from worker.errors import BadgesError, ConfigError, DeliveryFailed, NoRoom, StoreError
from worker.outcome import Signal
from worker.producer import Intake, accept, sources, total
from worker.queue import Batch, Queue, Settled, Wait, new_id
from worker.runs import Reports
from worker.store import reaching
from worker.wakeup import AHEAD_MS, install

log = structlog.get_logger()

STORE_PAUSE_S = 2.0
NO_ROOM_PAUSE_S = 0.2  # shorter, since it holds up deliveries, which make room
SEAT_WAIT_MS = 200
ASKED_ONCE_S = 86_400  # longer than any broker delivers a message again


@app.task(name="badges.deliver", throws=(DeliveryFailed, StoreError))
def deliver(org: str, seen: str = "") -> dict[str, Any]:
    """Send one batch of an org, or note when to look at it next. ``seen``: see ``hint.lua``."""
    here = services()
    orgs, mine = here.settings.orgs(), here.settings.org(org)
    alone = len(orgs) == 1 or org == app.conf.get("own_org")
    with bound_contextvars(org=org), here.seats.take(mine, alone=alone) as share:
        done: Delivered | Wait = Wait("a place in the pool", int(time.time() * 1000) + SEAT_WAIT_MS)
        if share:
            mine = mine.model_copy(update={"max_in_flight": share})
            done = here.delivery.deliver(mine, go_on=lambda step: _go_on(here.queue, org, step))
    if isinstance(done, Delivered):
        return _counts(done)
    here.queue.hint(org, done.look_at_ms, seen=seen)
    if done.check:
        check.apply_async((org,), queue=_queue_here(org))
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
    """Accept badges that an upstream service sent; a bad item becomes a dead letter ``invalid``.

    A message that is wrong as a whole (no such org, no list, no name for a run) is refused: an error in the
    log, and a failed task. What is ours to mend makes the message wait: it is the only copy of these jobs.
    """
    here = services()
    # The same message delivered again is the same call, and the same run.
    call = short_hash(str(self.request.id))
    try:
        here.settings.orgs()  # if that fails, it is not the message's fault
    except ConfigError as error:
        raise _given_back("enqueue.misconfigured", error, STORE_PAUSE_S) from error
    try:
        intake = Intake(run or f"task-{call[:8]}", call, urgent=urgent)
        chunks = accept(here.queue, here.settings.org(org), sources(items, call), intake)
        done = total(intake.run, chunks)
    except ConfigError as error:
        reason = str(error)[:500]
        log.error("enqueue.refused", id=self.request.id, sender=self.request.origin, reason=reason)  # noqa: TRY400
        raise
    except NoRoom as error:
        raise _given_back("enqueue.no_room", error, NO_ROOM_PAUSE_S) from error
    except StoreError as error:
        raise _given_back("enqueue.store_unavailable", error, STORE_PAUSE_S) from error
    return {
        "run": done.run,
        "accepted": done.accepted,
        "duplicates": done.duplicates,
        "invalid": done.invalid,
        "noted": [f"{note.row}: {note.field or 'item'}: {note.reason}" for note in done.noted[:20]],
    }


def _given_back(event: str, error: BadgesError, pause_s: float) -> Reject:
    """Return what puts the message back into its queue, after a pause: not in a tight loop."""
    log.warning(event, reason=str(error))
    time.sleep(pause_s)
    return Reject(str(error), requeue=True)


# What an operator asks for, through Flower's API too. ``typing=False``: Flower answers a wrong argument with
# a bare 500 if the check is on its side; so the worker finds it, and the task's failure says what is wrong.
_asked = partial(app.task, bind=True, typing=False, throws=(BadgesError, TypeError))


@_asked(name="badges.pause")
def pause(self: Task[..., Any], org: str = DEFAULT_ORG, reason: str = "") -> dict[str, Any]:
    """Let no further batch of an org start, as ``badges pause`` does. Delivered twice, it acts once."""
    queue, mine, by = services().queue, services().settings.org(org), _sender(self)
    audit.begin(queue, org, _action("pause", self), by=by, note=reason)
    was_open = queue.pause(mine.name, why="operator", reason=reason)
    return {"org": org, "now": "paused", "was": "open" if was_open else "paused"}


@_asked(name="badges.resume")
def resume(self: Task[..., Any], org: str = DEFAULT_ORG) -> dict[str, Any]:
    """Let batches of an org start again, as ``badges resume`` does. Delivered twice, it acts once."""
    queue, mine, by = services().queue, services().settings.org(org), _sender(self)
    audit.begin(queue, org, _action("resume", self), by=by)
    was_paused = queue.resume(mine)
    return {"org": org, "now": "open", "was": "paused" if was_paused else "open"}


@_asked(name="badges.replay")
def replay(self: Task[..., Any], **arguments: Any) -> dict[str, Any]:
    """Queue dead letters again, as ``badges dead replay`` does; the arguments are those of ``ReplayAsked``.

    Returns the counts, and the id by which ``badges dead follow`` and ``cancel`` know it. Delivered twice, it
    acts once: a badge in doubt, and in doubt again, is not sent a third time. If its worker dies half-way,
    what is left stays a dead letter: ask again.
    """
    asked, by = ReplayAsked.read(arguments), _sender(self)
    here, orgs = services(), services().settings.orgs()
    done = deadletters.replay_all(
        here.queue,
        Reports(client=here.queue.client, orgs=orgs),
        orgs,
        asked.which,
        by=by,
        note=asked.note or "",
        changes=asked.changes,
        limit=asked.limit,
        dry_run=asked.dry_run,
        replay=_action("replay", self),
    )
    shown = {"dry_run": True} if asked.dry_run else {}
    return shown | {name: value for name, value in done.as_json().items() if value not in (None, {})}


def _action(name: str, task: Task[..., Any]) -> str:
    return f"{name}-{str(task.request.id)[:8]}"


def _sender(task: Task[..., Any]) -> str:
    """Return who sent a message, as far as it says; end the task if the message was delivered before."""
    queue, me = services().queue, new_id()
    with reaching("call"):
        key = keys.key(DEFAULT_ORG, "call", f"task-{task.request.id}")
        # What is there is ours if the client had to repeat this, its reply being lost.
        taken_by = queue.client.set(key, me, nx=True, get=True, ex=ASKED_ONCE_S)
    if taken_by not in (None, me):
        log.warning("task.repeated", task=task.name, id=task.request.id)
        raise Ignore
    return f"task from {task.request.origin}"


def _go_on(queue: Queue, org: str, step: Batch | Settled) -> None:
    """Start another delivery if there is more to send now; else, or if it gets lost, look again later.

    Never raises, since the batch that was claimed must go its way; the sweep finds what is lost here.
    """
    try:
        queue.hint(org, int(time.time() * 1000) + AHEAD_MS if step.more else step.look_at_ms)
        if step.more:
            deliver.apply_async((org,), queue=_queue_here(org), retry=False)
    except Exception as error:  # noqa: BLE001 - the broker's errors are many
        log.warning("delivery.not_gone_on", reason=str(error))


def _queue_here(org: str) -> str:
    """Return the queue that this worker takes deliveries of the org from."""
    return deliver_queue(org if org == app.conf.get("own_org") else None)


def _counts(done: Delivered) -> dict[str, Any]:
    """Return what Flower shows of a batch; raise if nothing was issued because the call failed."""
    settled, sent = done.settled, done.sent
    counts = {
        "jobs": len(done.batch.jobs),
        "issued": settled.issued,
        "dead": settled.dead,
        "retrying": settled.retrying,
        "queued": settled.queued,
        "status": sent.status,
        "elapsed_ms": sent.elapsed_ms,
        "batch": done.batch.id,  # last: Flower's list shows the beginning
    }
    if done.verdict.signal is not Signal.OK:
        raise DeliveryFailed(f"{done.verdict.signal.value}: {done.verdict.reason} {counts}")
    return counts


install(app, deliver)
