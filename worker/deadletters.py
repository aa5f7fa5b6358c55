"""Dead letters: what needs a person, in groups, and how it gets back into the queue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from worker.badge import Invalid, parse_item
from worker.config import Org
from worker.errors import BadgesError
from worker.job import DeadKind, badge_fields, badge_of, content_hash, result_row, text_of
from worker.queue import CHUNK, Queue, new_id
from worker.runs import Reports

# A badge that may have been issued is sent again only if somebody says so by name.
REPLAYED_UNASKED = (DeadKind.REJECTED, DeadKind.EXHAUSTED, DeadKind.CANCELLED)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant; ``None`` means any."""

    org: str | None = None
    kind: DeadKind | None = None
    run: str | None = None
    code: str | None = None
    badge: str | None = None
    customer: int | None = None
    job: str | None = None
    since_ms: int | None = None

    def fits(self, job_id: str, record: dict[str, str]) -> bool:
        """Say whether a dead letter is one of them."""
        wanted = {"r": self.run, "o": self.code, "b": self.badge, "c": self.customer and str(self.customer)}
        return (
            (self.job is None or job_id == self.job)
            and (self.since_ms is None or int(record.get("f", 0)) >= self.since_ms)
            and all(value is None or record.get(letter) == value for letter, value in wanted.items())
        )


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters with one kind, code and badge."""

    org: str
    kind: str
    code: str
    badgeMetaId: str | None  # noqa: N815 - the contract's name
    count: int
    sample: str
    message: str

    def as_json(self) -> dict[str, Any]:
        """Return it as ``badges dead groups --json`` prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did, or would do; ``run`` holds the new jobs, if the replay made any."""

    replayed: int = 0
    duplicates: int = 0
    skipped: int = 0
    run: str | None = None

    def __add__(self, other: Replayed) -> Replayed:
        return Replayed(
            self.replayed + other.replayed,
            self.duplicates + other.duplicates,
            self.skipped + other.skipped,
            other.run or self.run,
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as ``badges dead replay --json`` prints it."""
        return asdict(self)


def select(reports: Reports, which: Filter) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield org, id and record of the dead letters that fit."""
    kinds = (which.kind,) if which.kind else tuple(DeadKind)
    for org, job_id, record in reports.dead(org=which.org, kinds=kinds):
        if which.fits(job_id, record):
            yield org, job_id, record


def replayable(reports: Reports, which: Filter) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield those that fit and may be sent: never an invalid one, one in doubt only if asked by name."""
    for org, job_id, record in select(reports, which):
        if record["k"] in REPLAYED_UNASKED or record["k"] == which.kind == DeadKind.IN_DOUBT:
            yield org, job_id, record


def rows(reports: Reports, which: Filter) -> Iterator[dict[str, Any]]:
    """Yield the dead letters that fit as ``badges results`` shows jobs."""
    for org, job_id, record in select(reports, which):
        yield result_row(org, job_id, record)


def groups(reports: Reports, which: Filter) -> list[Group]:
    """Count the dead letters that fit by kind, code and badge, largest group first."""
    members: dict[tuple[str, str, str, str | None], int] = defaultdict(int)
    samples: dict[tuple[str, str, str, str | None], tuple[str, str]] = {}
    for org, job_id, record in select(reports, which):
        group = (org, record["k"], record.get("o", ""), record.get("b"))
        members[group] += 1
        samples.setdefault(group, (job_id, text_of(record, "m") or ""))
    ordered = sorted(members, key=lambda group: (-members[group], group[:3]))
    return [Group(*group, members[group], *samples[group]) for group in ordered]


def replay(  # noqa: PLR0913 - what, where to, and how to tell
    queue: Queue,
    org: Org,
    chosen: Iterator[tuple[str, dict[str, str]]],
    *,
    run: str,
    changes: dict[str, str] | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Replayed:
    """Queue dead letters again: the same ids, or with ``changes`` as new jobs in ``run``.

    A new job whose content was accepted before is a duplicate, and its dead letter stays.

    Raises:
        BadgesError: with ``changes`` an item would be invalid; nothing of its chunk was replayed.
    """
    done = {"replayed": 0, "duplicates": 0, "skipped": 0}
    while chunk := list(islice(chosen, CHUNK)):
        items = [[job_id, *_mended(org, record, changes)] for job_id, record in chunk]
        answer = queue.replay(org, run=run, items=items, call=new_id())
        done = {name: done[name] + answer[name] for name in done}
        on_progress(len(chunk))
    return Replayed(**done, run=run if changes else None)


def cancel(queue: Queue, org: Org, ids: Iterator[str], *, on_progress: Callable[[int], None]) -> int:
    """Make dead letters of the jobs that still wait; returns how many. What is being sent is settled."""
    cancelled = 0
    while chunk := list(islice(ids, CHUNK)):
        cancelled += queue.cancel(org, chunk, call=new_id())
        on_progress(len(chunk))
    return cancelled


def _mended(org: Org, record: dict[str, str], changes: dict[str, str] | None) -> list[str]:
    """Return the id and fields of the job that takes a dead letter's place; nothing if it goes as it is."""
    if not changes:
        return []
    item = badge_of(record).model_dump(by_alias=True, exclude_none=True) | changes
    badge = parse_item(item, strict_dates=org.strict_dates)
    if isinstance(badge, Invalid):
        raise BadgesError(f"with --set the job would be invalid: {badge}")
    return [content_hash(org.name, badge), *badge_fields(badge)]
