"""What an operator asks for by message, through Flower's API too: pause, resume, replay, undo.

What each does is in ``operate/``; how their arguments are read, in ``arguments.py``.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from celery import Task
from celery.exceptions import Ignore

from worker.app import app, services
from worker.domain.actor import Actor, Via
from worker.domain.identity import short_hash
from worker.domain.text import plain
from worker.errors import BadgesError, ConfigError, NotAllowed, NotFound, StoreError
from worker.operate import replaying, undoing
from worker.operate.deadlist import Filter
from worker.operate.operator import Operator
from worker.operate.runs import JobReader
from worker.operate.which import Which
from worker.process.arguments import PauseArguments, ReplayArguments, ResumeArguments, UndoArguments
from worker.process.tasks import origin
from worker.store.queue import new_id

log = structlog.get_logger()

NAME_BYTES = 100
_BY_CHANCE = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
)  # as Celery makes ids
TAKEN_ONCE_S = 86_400  # longer than any broker delivers a message again


class _OperatorTask(Task):  # type: ignore[type-arg]
    """One whose message is refused aloud where it asks for what can't be: nothing of it was done."""

    def on_failure(self, exc: Exception, task_id: str, *_: Any, **__: Any) -> None:
        """Log that the message was refused, and count it."""
        if not isinstance(exc, ConfigError | NotFound):
            return
        log.error("message.refused", reason=str(exc)[:300], task=self.name, id=task_id, origin=origin(self))
        with suppress(StoreError):
            services().queue.count_refused("message")


# ``typing=False``: Flower answers a wrong argument with a bare 500 if the check is on its side; so the worker
# finds it, and the task's failure says what is wrong.
_operator_task = partial(app.task, base=_OperatorTask, bind=True, typing=False, throws=(BadgesError,))


@_operator_task(name="badges.pause")
def pause(self: Task[..., Any], *given: Any, **arguments: Any) -> dict[str, Any]:
    """Let no further batch of an org start, as ``badges pause`` does. Delivered twice, it acts once."""
    its = PauseArguments.read(arguments, given)
    operator = _operator(self, its.org, note=its.reason, by=its.by)
    was_open = operator.pause(its.org, action=_action("pause", self))
    return {"org": its.org, "now": "paused", "was": "open" if was_open else "paused"}


@_operator_task(name="badges.resume")
def resume(self: Task[..., Any], *given: Any, **arguments: Any) -> dict[str, Any]:
    """Let batches of an org start again, as ``badges resume`` does. Delivered twice, it acts once."""
    its = ResumeArguments.read(arguments, given)
    was = _operator(self, its.org, note=its.note, by=its.by).resume(its.org, action=_action("resume", self))
    return {"org": its.org, "now": "open", "was": was or "open"}


@_operator_task(name="badges.replay")
def replay(self: Task[..., Any], *given: Any, **arguments: Any) -> dict[str, Any]:
    """Queue dead letters again, as ``badges dead replay`` does; with the arguments of ``ReplayArguments``.

    Returns the counts, and the id by which ``badges dead follow`` and ``cancel`` know it. Delivered twice, it
    acts once: a badge in doubt, and in doubt again, is not sent a third time. If its worker dies half-way,
    what is left stays a dead letter: ask again.
    """
    its = ReplayArguments.read(arguments, given)
    operator = _operator(self, note=its.note or "", by=its.by)
    done = replaying.replay_all(
        operator,
        operator.reports.meant(its.which(Filter)),
        changes=its.changes,
        limit=its.limit,
        dry_run=its.dry_run,
        may_issue_twice=its.may_issue_twice,
        replay=_action("replay", self),
    )
    shown = {"dry_run": True} if its.dry_run else {}
    return shown | {name: value for name, value in done.as_json().items() if value not in (None, {})}


@_operator_task(name="badges.undo")
def undo(self: Task[..., Any], *given: Any, **arguments: Any) -> dict[str, Any]:
    """Take back what was issued, as ``badges run undo`` does. Delivered twice, it acts once.

    Nobody can be asked here: without ``yes`` it is refused, with how many it would be.
    """
    its = UndoArguments.read(arguments, given)
    which = its.which(Which)
    if not which.is_said:
        raise ConfigError("say which: run, badge, customer, job or since")
    operator = _operator(self, note=its.note, by=its.by)
    which = operator.reports.of_one_run(which)
    found = undoing.plan(operator.reports, which)
    if its.dry_run:
        return {"run": None} | found.as_json() | {"dry_run": True}
    if found.jobs and not its.yes:
        raise NotAllowed(
            f"{undoing.words(found.jobs)}; nothing was done. "
            "To do it, send yes=true; to look first: dry_run=true"
        )
    name, jobs = undoing.undo(operator, found, which, run=_action("undo", self))
    return {"run": name} | found.as_json() | {"jobs": jobs}


def _action(name: str, task: Task[..., Any]) -> str:
    """Return the id of an act, of its message's: a program may have made that, and not of chance."""
    its = str(task.request.id)
    return f"{name}-{its[:8] if _BY_CHANCE.fullmatch(its) else short_hash(its)[:12]}"


def _operator(
    task: Task[..., Any], org: str | None = None, *, note: str = "", by: str | None = None
) -> Operator:
    """Return who sent a message, as far as it says, at work; end the task if it was delivered before.

    Raises:
        ConfigError: ``org`` isn't configured.
    """
    here, orgs = services(), services().settings.orgs()
    if org is not None:
        here.settings.org(org)
    _take_once(task)
    reports = JobReader(client=here.queue.client, orgs=orgs)
    return Operator(here.queue, reports, orgs, Actor(Via.TASK, sender(origin(task), by)), note)


def sender(origin: str, by: str | None = None) -> str:
    """Say who sent a message in words: Celery's origin names a process and its machine, as gen123@host does.

    ``by`` is who the message says is behind it; nothing proves that.
    """
    program, _, machine = origin.partition("@")
    told = re.fullmatch(r"gen(\d+)", program)
    words = f"{program} on {machine}" if machine else origin
    if told and machine:
        words = f"a program on {machine} (process {told[1]})"
    return f"{plain(by, NAME_BYTES)}, by {words}" if by else words


def _take_once(task: Task[..., Any]) -> None:
    queue, me = services().queue, new_id()
    if not queue.take_message(str(task.request.id), me, for_s=TAKEN_ONCE_S):
        log.warning("task.repeated", task=task.name, id=task.request.id)
        raise Ignore
