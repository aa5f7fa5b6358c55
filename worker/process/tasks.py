"""The Celery tasks: thin, each a call into the story (``delivery.py``, ``producer.py``)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog
from celery import Task
from celery.exceptions import Ignore, Reject
from structlog.contextvars import bound_contextvars

from worker.app import Services, app, deliver_queue, services
from worker.delivery import Delivered
from worker.domain.badge import short_hash
from worker.domain.batch import Batch, Due, Settled, Wait
from worker.domain.org import DEFAULT_ORG, Org
from worker.domain.outcome import Signal
from worker.domain.text import plain
from worker.enqueue import EnqueueOptions, accept, as_text, sources, total
from worker.errors import BadgesError, ConfigError, DeliveryFailed, NoRoom, StoreError
from worker.operate import deadletters
from worker.operate.runs import JobReader
from worker.process.arguments import ReplayArguments
from worker.process.wakeup import AHEAD_MS, install, send_due
from worker.server.cluster import reaching
from worker.store import audit, keys
from worker.store.queue import Queue, new_id

log = structlog.get_logger()

STORE_PAUSE_S = 2.0
NO_ROOM_PAUSE_S = 0.2  # shorter, since it holds up deliveries, which make room
SEAT_WAIT_MS = 200
# How long a delivery goes on while there is something to send, and with one org while others stand in line: a
# message costs more than a batch, but other messages wait for its place.
DELIVERY_S, TURN_S = 2.0, 0.3
# How soon a turn asks for another delivery beside it once more: the one it asked for asks for the next.
ASK_AGAIN_S = 0.5
ASKED_ONCE_S = 86_400  # longer than any broker delivers a message again


@app.task(name="badges.deliver", bind=True, throws=(DeliveryFailed, StoreError))
def deliver(self: Task[..., Any], org: str, seen: str = "") -> dict[str, Any]:
    """Send one batch of an org, or note when to look at it next. ``seen``: see ``hint.lua``.

    It goes on while the next batch may start at once, and then with the orgs that stand in line for a place,
    for two seconds: at high rates a message costs more than a batch.
    """
    here, worker, began = services(), str(self.request.hostname), time.monotonic()
    if not here.queue.begin(org, seen=seen):
        return {"waits_for": "nothing: another delivery began since this one was asked for"}
    alone = len(here.settings.orgs()) == 1 or org == app.conf.get("own_org")
    sent: list[Delivered] = []
    following: Due | None = Due(org, seen)
    while following:
        last = _serve(here, following, sent, worker, alone=alone)
        failed = isinstance(last, Delivered) and last.verdict.signal is not Signal.OK
        if alone or failed or time.monotonic() - began >= app.conf.get("turn_s", DELIVERY_S):
            break
        following = here.queue.take_next(ahead_ms=AHEAD_MS)
    if following and not alone:
        _hand_on(here.queue)
    if isinstance(last, Wait) and not sent:
        return {"waits_for": last.why}
    return _counts(sent)


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
    # The same message delivered again is the same call, and the same run; another one with its id is not.
    call = short_hash(str(self.request.id), as_text([items, org, run, urgent]))
    try:
        here = services()
        here.settings.orgs()  # if that fails, it is not the message's fault
    except ConfigError as error:
        raise _given_back("enqueue.misconfigured", error, STORE_PAUSE_S) from error
    except StoreError as error:
        raise _given_back("enqueue.store_unavailable", error, STORE_PAUSE_S) from error
    try:
        options = EnqueueOptions(run or f"task-{call[:8]}", call, urgent=urgent)
        mine = here.settings.org(str(org))  # which in a message may be anything
        chunks = accept(here.queue, mine, sources(items, call), options)
        done = total(options.run, chunks)
    except ConfigError as error:
        reason = str(error)[:500]
        log.error("enqueue.refused", id=self.request.id, sender=_origin(self), reason=reason)  # noqa: TRY400
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
    was_open = audit.pause(queue, mine, by=by, reason=reason, action=_action("pause", self))
    return {"org": org, "now": "paused", "was": "open" if was_open else "paused"}


@_asked(name="badges.resume")
def resume(self: Task[..., Any], org: str = DEFAULT_ORG) -> dict[str, Any]:
    """Let batches of an org start again, as ``badges resume`` does. Delivered twice, it acts once."""
    queue, mine, by = services().queue, services().settings.org(org), _sender(self)
    was = audit.resume(queue, mine, by=by, action=_action("resume", self))
    return {"org": org, "now": "open", "was": was or "open"}


@_asked(name="badges.replay")
def replay(self: Task[..., Any], **arguments: Any) -> dict[str, Any]:
    """Queue dead letters again, as ``badges dead replay`` does; with the arguments of ``ReplayArguments``.

    Returns the counts, and the id by which ``badges dead follow`` and ``cancel`` know it. Delivered twice, it
    acts once: a badge in doubt, and in doubt again, is not sent a third time. If its worker dies half-way,
    what is left stays a dead letter: ask again.
    """
    asked, by = ReplayArguments.read(arguments), _sender(self)
    here, orgs = services(), services().settings.orgs()
    done = deadletters.replay_all(
        here.queue,
        JobReader(client=here.queue.client, orgs=orgs),
        orgs,
        asked.which,
        by=by,
        note=asked.note or "",
        changes=asked.changes,
        limit=asked.limit,
        dry_run=asked.dry_run,
        may_issue_twice=asked.may_issue_twice,
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
    return f"task from {_origin(task)}"


def _origin(task: Task[..., Any]) -> str:
    return plain(str(task.request.origin), 100)


def _serve(here: Services, due: Due, sent: list[Delivered], worker: str, *, alone: bool) -> Delivered | Wait:
    """Give an org its turn, if there is a place for it, and note when to look at it next."""
    orgs = here.settings.orgs()
    if due.org not in orgs:
        # Its jobs are kept; the sweep looks at it once it is back.
        log.warning("delivery.not_configured", org=due.org, cure="put it back into BADGES_ORGS_FILE")
        here.queue.hint(due.org, -1, seen=due.seen)
        return Wait("a place in BADGES_ORGS_FILE", -1)
    mine = orgs[due.org]
    last: Delivered | Wait = Wait("a place in the pool", int(time.time() * 1000) + SEAT_WAIT_MS)
    with bound_contextvars(org=due.org), here.seats.take(mine, worker, alone=alone) as share:
        if share:
            mine = mine.model_copy(update={"max_in_flight": share})
            last = _turn(here, mine, sent, alone=alone, seen=due.seen)
    if isinstance(last, Wait):
        here.queue.hint(due.org, last.look_at_ms, seen=due.seen)
        if last.check:
            own = due.org if due.org == app.conf.get("own_org") else None
            check.apply_async((due.org,), queue=deliver_queue(own))
    return last


def _turn(here: Services, org: Org, sent: list[Delivered], *, alone: bool, seen: str) -> Delivered | Wait:
    """Deliver while the next batch may start at once and the turn lasts; ``sent`` has all of them."""
    began, longest_s = time.monotonic(), DELIVERY_S if alone else TURN_S
    asked_at = -ASK_AGAIN_S
    # When somebody looks at the org anyway: early enough while a batch is out, whose settlement looks again.
    looked_at_ms = int(seen) if str(seen).isdecimal() else 0

    def go_on(step: Batch | Settled) -> None:
        nonlocal asked_at
        if step.more:
            if isinstance(step, Batch) and time.monotonic() - asked_at >= ASK_AGAIN_S:
                asked_at = time.monotonic()
                _note_look(here.queue, org.name, step.look_at_ms)
        elif isinstance(step, Settled) or not looked_at_ms or step.look_at_ms < looked_at_ms:
            _note_look(here.queue, org.name, step.look_at_ms)

    while True:
        last = here.delivery.deliver(org, go_on=go_on)
        if isinstance(last, Wait):
            return last
        sent.append(last)
        if not last.settled.more:
            return last
        longest_s = app.conf.get("turn_s", longest_s)  # none any more, once the worker is to end
        if last.verdict.signal is not Signal.OK or time.monotonic() - began >= longest_s:
            _note_look(here.queue, org.name, last.settled.look_at_ms)
            return last


# Neither of these raises, since a batch that was claimed must go its way; the sweep finds what is lost here.


def _note_look(queue: Queue, org: str, at_ms: int) -> None:
    """Note when to look at the org again."""
    try:
        queue.hint(org, at_ms)
    except StoreError as error:
        log.warning("delivery.not_noted", reason=str(error))


def _hand_on(queue: Queue) -> None:
    """Leave the place to whoever stands in line."""
    try:
        send_due(queue, deliver)
    except Exception as error:  # noqa: BLE001 - the broker's errors are many
        log.warning("delivery.not_handed_on", reason=str(error))


def _counts(sent: Sequence[Delivered]) -> dict[str, Any]:
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
    if len(orgs := dict.fromkeys(done.org for done in sent)) > 1:
        counts["orgs"] = ", ".join(orgs)
    if last.verdict.signal is not Signal.OK:
        raise DeliveryFailed(f"{last.org}: {last.verdict.signal.value}: {last.verdict.reason} {counts}")
    return counts


install(app, deliver)
