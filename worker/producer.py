"""Getting jobs in: every way in ends here, in chunks, validated alike, each badge once.

The job id is the idempotency key: the producer's own ``job_id``, or else a hash of org and content.
Finding rows in files is the work of ``rows.py``.
"""

from __future__ import annotations

import json
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Self

from worker.badge import BadgeIssue, Invalid, parse_item, short_hash
from worker.config import DEFAULT_ORG, Org, Settings
from worker.connection import Connection
from worker.job import RAW_BYTES, badge_fields, content_hash, text_fields
from worker.queue import CHUNK, Item, Queue, new_id


@dataclass(frozen=True, slots=True)
class Source:
    """One item as it came in: where from, and what it is; ``problem`` if it could not even be read."""

    row: str
    item: object
    raw: str = ""
    problem: Invalid | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """An item that was not simply accepted: invalid, a conflict, or the duplicate of a dead job."""

    row: str
    field: str | None
    reason: str
    kind: str


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of what was handed in; ``noted`` says why, for each item that has something to say."""

    run: str
    accepted: int = 0
    duplicates: int = 0
    invalid: int = 0
    noted: tuple[Noted, ...] = ()


@dataclass(frozen=True, slots=True)
class Intake:
    """How items are taken in: as which run, and by which call, so that repeating it repeats nothing."""

    run: str
    call: str
    allow_duplicates: bool = False
    urgent: bool = False


def new_run(prefix: str) -> str:
    """Return a name for a run that nobody has named."""
    return f"{prefix}-{new_id()[:8]}"


def accept(queue: Queue, org: Org, sources: Iterable[Source], intake: Intake) -> Iterator[Enqueued]:
    """Enqueue what comes in, chunk by chunk; what is yielded is durable, and memory stays flat.

    The same call with the same sources again is the same acceptance.

    Raises:
        StoreError: Redis can't take it; what was yielded before is accepted, and trying again is safe.
    """
    remaining = iter(sources)
    for number in range(2**62):
        chunk = list(islice(remaining, CHUNK))
        if not chunk:
            return
        items = [_item(source, org, intake) for source in chunk]
        answers = queue.enqueue(
            org,
            run=intake.run,
            items=[item for item, _ in items],
            call=f"{intake.call}.{number}",
            urgent=intake.urgent,
        )
        counts = Counter(answers)
        yield Enqueued(
            intake.run,
            accepted=counts["a"],
            duplicates=counts["d"] + counts["D"] + counts["c"],
            invalid=counts["i"],
            noted=tuple(_noted(chunk, [problem for _, problem in items], answers)),
        )


class BadgeQueue:
    """Enqueue badges from Python: ``BadgeQueue.from_env().enqueue([...])``."""

    def __init__(self, *, settings: Settings, connection: Connection) -> None:
        self._settings = settings
        self._connection = connection
        self._queue = Queue(connection.client())

    @classmethod
    def from_env(cls) -> Self:
        """Read ``BADGES_*`` and connect; starts the embedded server if no Redis is configured."""
        settings = Settings.load()
        return cls(settings=settings, connection=Connection.open(settings))

    def enqueue(
        self,
        items: Iterable[BadgeIssue | Mapping[str, Any]],
        *,
        org: str = DEFAULT_ORG,
        run: str | None = None,
        urgent: bool = False,
    ) -> Enqueued:
        """Accept badges; returns when they are durable. A bad item is reported, and never stops the rest.

        Urgent ones overtake the others of their org.

        Raises:
            ConfigError: there is no such org.
            StoreError: Redis can't take it; calling again with the same items is safe.
        """
        target = self._settings.org(org)
        intake = Intake(run or new_run("call"), new_id(), urgent=urgent)
        return total(intake.run, accept(self._queue, target, sources(items, intake.call), intake))

    def close(self) -> None:
        """Leave Redis; an embedded server that nobody else uses ends."""
        self._queue.client.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sources(items: Iterable[object], call: str) -> Iterator[Source]:
    """Number items that have no rows of their own: the place in the call is where they came from."""
    for n, item in enumerate(items):
        yield Source(f"{call[:12]}.{n}", item)


def total(run: str, chunks: Iterable[Enqueued]) -> Enqueued:
    """Add up what became of each chunk."""
    accepted = duplicates = invalid = 0
    noted: list[Noted] = []
    for chunk in chunks:
        accepted += chunk.accepted
        duplicates += chunk.duplicates
        invalid += chunk.invalid
        noted += chunk.noted
    return Enqueued(run, accepted, duplicates, invalid, tuple(noted))


def _item(source: Source, org: Org, intake: Intake) -> tuple[Item, Invalid | None]:
    badge = source.problem or parse_item(source.item, strict_dates=org.strict_dates)
    if isinstance(badge, Invalid):
        return _invalid(source, badge, org), badge
    content = content_hash(org.name, badge)
    if badge.job_id:
        return Item(badge.job_id, source.row, badge_fields(badge), fingerprint=content), None
    job_id = short_hash(content, intake.run, source.row) if intake.allow_duplicates else content
    return Item(job_id, source.row, badge_fields(badge)), None


def _invalid(source: Source, problem: Invalid, org: Org) -> Item:
    raw = source.raw or _raw(source.item)
    fields = ["o", problem.field or "row", *text_fields("m", problem.reason), "w", raw[:RAW_BYTES]]
    return Item(short_hash(org.name, "invalid", raw), source.row, fields, kind="invalid")


def _raw(item: object) -> str:
    """Write an item down that is no badge, whatever it is; bounded."""
    try:
        text = json.dumps(item, default=str)
    except (TypeError, ValueError, RecursionError):
        text = reprlib.repr(item)
    return text.encode("utf-8", "replace").decode()


def _noted(chunk: list[Source], problems: list[Invalid | None], answers: str) -> Iterator[Noted]:
    for source, problem, answer in zip(chunk, problems, answers, strict=True):
        match answer:
            case "i" if problem:
                yield Noted(source.row, problem.field, problem.reason, "invalid")
            case "c":
                reason = "this id was used before for another badge"
                yield Noted(source.row, "job_id", reason, "conflict")
            case "D":
                reason = "already a dead letter; replay it with: badges dead replay"
                yield Noted(source.row, None, reason, "dead")
