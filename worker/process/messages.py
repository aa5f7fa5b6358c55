"""What is wrong with a Celery message, if anything is: its form, its keys, its arguments.

Anybody may put anything into the queue. What becomes of a message that is refused is in ``consumer.py``.
"""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from celery.utils.time import maybe_iso8601
from kombu import Message

from worker.domain.text import plain

OURS = "badges."
ENQUEUE = "badges.enqueue"
WAKE_UPS = (
    "badges.deliver",
    "badges.check",
    "badges.import_staged",
)  # sent by workers alone, but anybody may


def fault_of(message: Message) -> str | None:
    """Say what is wrong with a message's form, if Celery would fail on it, independent of its content."""
    headers: Any = message.headers
    if not isinstance(headers, dict):
        return "its headers are no object"
    try:
        body: Any = message.payload
    except Exception as error:  # noqa: BLE001 - decoders raise what they like
        return f"its body can't be read: {error}"
    if "task" not in headers:
        return _fault_of_old(headers, body)
    if not (isinstance(headers["task"], str) and isinstance(headers.get("id"), str)):
        return "headers.task and headers.id must be texts"
    parts = body if isinstance(body, list) and len(body) == 3 else [None] * 3
    args, kwargs, embedded = parts
    if not (isinstance(args, list) and isinstance(kwargs, dict) and isinstance(embedded, dict | None)):
        return "its body must be [[], {keyword arguments}, {}]"
    return _fault_of_parts(headers, embedded or {})


def fault_of_task(message: Message) -> str | None:
    """Say that a message is for none of our tasks; Celery has some of its own, which anybody may name."""
    name = task_named(message)
    return None if name.startswith(OURS) else no_task(name)


def no_task(name: str) -> str:
    """Say that there is no task of this name."""
    return f"there is no task {plain(name, 100)!r}; badges come in by {ENQUEUE}"


def fault_of_keys(message: Message) -> str | None:
    """Say which key an object of the body has twice: its reader would silently take the last."""
    twice: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        if len(dict(pairs)) < len(pairs):
            twice.extend(name for name, number in Counter(name for name, _ in pairs).items() if number > 1)

    if message.body and "json" in str(message.content_type):
        with suppress(ValueError):  # of another encoding than JSON's own
            json.loads(message.body, object_pairs_hook=look)
    if not twice:
        return None
    return f"its JSON gives {plain(twice[0], 100)} twice in one object: which is meant can't be told"


def fault_of_arguments(message: Message, tasks: Mapping[str, Any]) -> str | None:
    """Say which arguments are unknown or missing, for a task that doesn't check them itself."""
    task = tasks.get(task_named(message))
    if task is None or not task.typing:
        return None
    args, kwargs = _arguments(message)
    takes = inspect.signature(task.run)
    unknown = [repr(name) for name in kwargs if name not in takes.parameters]
    if unknown:
        names = ", ".join(takes.parameters)
        return f"got an unexpected keyword argument {plain(', '.join(unknown), 100)}; it takes {names}"
    try:
        given = takes.bind(*args, **kwargs).arguments
    except TypeError as error:
        return f"{error}; it takes {', '.join(takes.parameters)}"
    if task.name in WAKE_UPS and not all(isinstance(value, str) for value in given.values()):
        return f"{', '.join(takes.parameters)} must be texts"
    return None


def task_named(message: Message) -> str:
    """Return the task that a message of a right form names."""
    headers: Any = message.headers
    named = headers["task"] if "task" in headers else message.payload["task"]
    return str(named)


def _arguments(message: Message) -> tuple[list[Any], dict[str, Any]]:
    body: Any = message.payload
    if "task" in message.headers:
        return body[0], body[1]
    return body.get("args") or [], body.get("kwargs") or {}


def _fault_of_old(headers: dict[str, Any], body: Any) -> str | None:
    """Say what is wrong with a message of Celery's protocol 1, which has everything in its body."""
    if not isinstance(body, dict) or not all(isinstance(body.get(name), str) for name in ("task", "id")):
        return "headers.task is missing"
    return _fault_of_parts(headers, body)


def _fault_of_parts(*parts: dict[str, Any]) -> str | None:
    """Say which optional part has a form that would occupy a place in the pool for good."""
    for part in parts:
        for name, (fits, form) in _FORMS.items():
            if part.get(name) and not fits(part[name]):
                return f"{name} must be {form}"
    return None


def _are_limits(limits: Any) -> bool:
    of_numbers = isinstance(limits, list) and all(isinstance(n, int | float | None) for n in limits)
    return of_numbers and len(limits) == 2


def _is_within_a_day(eta: Any) -> bool:
    try:
        at = maybe_iso8601(eta)
    except Exception:  # noqa: BLE001 - Celery refuses it, and says what is wrong
        return True
    return at is None or at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC) < timedelta(days=1)


def _are_texts(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _is_signature(link: Any) -> bool:
    types = {"task": str, "args": list, "kwargs": dict, "options": dict}
    return isinstance(link, dict) and all(isinstance(link.get(name), types[name]) for name in types)


def _are_signatures(links: Any) -> bool:
    return isinstance(links, list) and all(map(_is_signature, links))


_FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "timelimit": (_are_limits, "two numbers or nulls"),
    "eta": (_is_within_a_day, "within a day: a worker would hold the message until then"),
    "shadow": (lambda name: isinstance(name, str), "a text"),
    "stamped_headers": (_are_texts, "a list of texts"),
    "chord": (_is_signature, "a task's signature"),
    **dict.fromkeys(("callbacks", "errbacks", "chain"), (_are_signatures, "a list of tasks' signatures")),
}
