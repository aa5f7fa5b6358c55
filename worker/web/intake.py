"""Taking in what a service hands in by HTTP: each item of a body becomes a job, and gets a row in the answer.

Paths, headers and the server live in ``intake_app.py``, who may call in ``callers.py``.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from worker.domain.check import Check
from worker.domain.identity import short_hash
from worker.domain.invalid import Invalid
from worker.domain.item import Source
from worker.domain.org import Org
from worker.domain.provenance import Provenance
from worker.domain.text import plain
from worker.enqueue import TAKEN, EnqueueOptions, Prepared, note, prepared
from worker.errors import NoRoom
from worker.files.json_rows import words_of
from worker.operate.checking import Checking, check_rows
from worker.operate.past import StoredPast
from worker.store.intake import bind
from worker.store.queue import Queue, chunks, new_id
from worker.store.record import Answer

MAX_ITEMS = 50_000
BOUND_S = 86_400
# An item has seven fields, so that a body with more commas holds more items, or no badges. It is known before
# the body is read, and bounds what reading it costs: no JSON has many more values than commas.
_MOST_COMMAS = 8 * MAX_ITEMS
_LONGEST_NUMBER = 40

_DEAD = "duplicate_of_dead"
_STATUSES = {
    Answer.ACCEPTED: "queued",
    Answer.SIMILAR: "queued",
    Answer.REPEATED: "queued",
    Answer.HELD: _DEAD,
    Answer.CANCELLED: _DEAD,
    Answer.INVALID: "invalid",
    Answer.CONFLICT: "conflict",
    Answer.DUPLICATE: "duplicate",
    Answer.REMEMBERED: "duplicate",
    Answer.REPLACED: "duplicate",
    Answer.UNDONE: "duplicate",
    Answer.DEAD: _DEAD,
    Answer.IN_DOUBT: _DEAD,
}


@dataclass(frozen=True, slots=True)
class HandedIn:
    """What a caller handed in, and how."""

    body: bytes
    run: str | None = None
    urgent: bool = False
    idempotency_key: str | None = None
    by: str = ""  # which key


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a body is refused as a whole; nothing of it was accepted. ``status`` is HTTP's."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What became of a body: a row for every item, in their order, numbered from 0."""

    run: str
    rows: tuple[dict[str, Any], ...]

    def counts(self) -> dict[str, int]:
        """Return how many items were accepted, were known before, and are no badges."""
        of = Counter(row["status"] for row in self.rows)
        known = of["duplicate"] + of[_DEAD] + of["conflict"]
        return {"accepted": of["queued"], "duplicates": known, "invalid": of["invalid"]}


def take_in(queue: Queue, org: Org, handed: HandedIn) -> TakenIn | Refusal:
    """Make a job of each item; what is answered is durable.

    Under the same ``idempotency_key`` the same body is accepted once, from any process and also at the same
    time; another body is refused for a day.

    Raises:
        NoRoom: the queue or Redis is full; handing in the same again later is safe.
        StoreError: Redis can't take it; handing in the same again is safe.
    """
    items = _read(handed.body)
    if isinstance(items, Refusal):
        return items
    call = new_id() if handed.idempotency_key is None else _bind(queue, org, handed)
    if isinstance(call, Refusal):
        return call
    options = EnqueueOptions(
        handed.run or f"http-{call[:12]}", call, urgent=handed.urgent, source=Provenance(by=handed.by)
    )
    taken = list(prepared(list(_sources(items, call)), org, options))
    return _taken_in(org.name, taken, _enqueue(queue, org, taken, options), options)


def check(queue: Queue, org: Org, body: bytes) -> Check | Refusal:
    """Say what taking in a body would do, as ``badges import --dry-run`` does, and accept nothing.

    Raises:
        StoreError: Redis can't be asked.
    """
    items = _read(body)
    if isinstance(items, Refusal):
        return items
    past = StoredPast(queue, org)
    checking = Checking(org, past, may_report=False)
    deque(check_rows(checking, _sources(items)), maxlen=0)
    return checking.result(past.state())


def _bind(queue: Queue, org: Org, handed: HandedIn) -> str | Refusal:
    """Bind an Idempotency-Key to this body, and return the call's id, which comes from both.

    So callers that come with both, again or at the same time, make the same call, which enqueues each item
    once: nobody needs to wait for anybody, and a process that dies half-way leaves nothing to tidy up.
    """
    bound = short_hash(handed.run or "", str(handed.urgent), handed.body.decode())
    if not bind(queue.client, org.name, str(handed.idempotency_key), bound, for_s=BOUND_S):
        return Refusal(422, "this Idempotency-Key was used for another body or other parameters")
    return short_hash(org.name, str(handed.idempotency_key), bound)


def _sources(items: list[Any], call: str = "") -> Iterator[Source]:
    """Give the items with their places, behind the name of the call if it has one."""
    before = f"{call[:12]}." if call else ""
    for n, item in enumerate(items):
        problem = Invalid(plain(item.twice, 64), "is given twice") if isinstance(item, _Ambiguous) else None
        yield Source(f"{before}{n}", item, problem=problem)


def _enqueue(queue: Queue, org: Org, taken: list[Prepared], options: EnqueueOptions) -> list[Answer]:
    """Enqueue in chunks, and answer for each item."""
    answers: list[Answer] = []
    for number, chunk in enumerate(chunks(it.item for it in taken)):
        call = f"{options.call}.{number}"
        try:
            answers += queue.enqueue(
                org, run=options.run, items=chunk, call=call, urgent=options.urgent, source=options.source
            )
        except NoRoom as error:
            accepted = sum(answer in TAKEN for answer in answers)
            raise NoRoom(error.reason, accepted=accepted) from error
    return answers


def _taken_in(org: str, taken: list[Prepared], answers: list[Answer], options: EnqueueOptions) -> TakenIn:
    rows = (_row(org, n, each, answer) for n, (each, answer) in enumerate(zip(taken, answers, strict=True)))
    return TakenIn(options.run, tuple(rows))


def _row(org: str, n: int, taken: Prepared, answer: Answer) -> dict[str, Any]:
    item, problem, warnings = taken
    if problem:  # an item that is no badge is that, however often it comes
        answer = Answer.INVALID
    row: dict[str, Any] = {"row": n, "status": _STATUSES[answer], "job_id": item.id}
    noted = note(org, item, problem, answer)
    row |= {"field": noted.field, "reason": noted.reason} if noted else {}
    return row | ({"warnings": list(warnings)} if warnings else {})


class _Ambiguous(dict[str, Any]):
    """A JSON object that has a field twice."""

    twice = ""


def _read(body: bytes) -> list[Any] | Refusal:
    """Return the items of a body, valid or not."""
    if body.count(b",") > _MOST_COMMAS:
        return _too_many()
    try:
        items = json.loads(
            body.decode("utf-8-sig"), parse_constant=_refuse, parse_int=_number, object_pairs_hook=_object
        )
    except UnicodeDecodeError as error:
        return Refusal(400, f"the body is not UTF-8, from its byte {error.start} on")
    except (ValueError, RecursionError) as error:
        return Refusal(400, f"the body is not JSON: {_not_json(error)}")
    if not isinstance(items, list):
        return Refusal(400, "the body must be a JSON array of badges")
    if not items:
        return Refusal(400, "the array is empty")
    return items if len(items) <= MAX_ITEMS else _too_many()


def _not_json(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{words_of(error)} (line {error.lineno}, column {error.colno})"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _too_many() -> Refusal:
    return Refusal(413, f"more than {MAX_ITEMS:,} items in one body; hand them in in several")


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no value of JSON")


def _number(digits: str) -> int | str:
    """Read a whole number; one of absurd length, which would refuse the whole body, stays text."""
    return int(digits) if len(digits) <= _LONGEST_NUMBER else digits


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    item = dict(pairs)
    if len(item) == len(pairs):
        return item
    ambiguous = _Ambiguous(item)
    ambiguous.twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
    return ambiguous
