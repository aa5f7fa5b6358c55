"""Which dead letters there are: found by a filter, listed, counted in groups. Nothing here changes anything.

What is done about them is in ``deadletters.py``. Only what a filter asks for is read: kind and time stand
in the index, so that a hundred thousand letters are looked through without their records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from worker.domain.job import DeadKind, State
from worker.domain.org import DEFAULT_ORG
from worker.domain.text import iso_time
from worker.operate.report import report_row
from worker.operate.runs import PAGE, JobReader
from worker.store import keys
from worker.store.record import Field, state_of, text_of

# A badge that may have been issued is sent again only if somebody says so by name.
REPLAYED_UNASKED = (DeadKind.REJECTED, DeadKind.EXHAUSTED, DeadKind.CANCELLED)
_GROUPED_BY = (Field.CODE, Field.BADGE_META_ID, Field.MESSAGE)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant; ``None`` means any.

    ``until_ms`` leaves out what died after it: what a person was told of, and no more.
    """

    org: str | None = None
    kind: DeadKind | None = None
    run: str | None = None
    code: str | None = None
    badge: str | None = None
    customer: int | None = None
    job: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    @property
    def fields(self) -> dict[Field, str]:
        """What a record must hold."""
        customer = None if self.customer is None else str(self.customer)
        wanted = {
            Field.RUN: self.run,
            Field.CODE: self.code,
            Field.BADGE_META_ID: self.badge,
            Field.CUSTOMER_ID: customer,
        }
        return {field: value for field, value in wanted.items() if value is not None}

    def kinds(self, *, replayable: bool = False) -> tuple[DeadKind, ...]:
        """Return the kinds that are meant; ``replayable`` leaves out what may not be sent as it is."""
        if not replayable:
            return (self.kind,) if self.kind else tuple(DeadKind)
        if self.kind is None:
            return REPLAYED_UNASKED
        return () if self.kind is DeadKind.INVALID else (self.kind,)

    def as_json(self) -> dict[str, Any]:
        """Return what is said, by the names of the options."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        said.pop("until_ms", None)
        if since_ms := said.pop("since_ms", None):
            said["since"] = iso_time(since_ms)
        return said


class Letter(NamedTuple):
    """A dead letter, and of its record the fields that were read."""

    org: str
    kind: DeadKind
    id: str
    at_ms: int
    record: dict[str, str]


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters with one kind, code and badge, invalid ones also with one reason.

    ``sample`` is the one that died first, and ``message`` is its.
    """

    org: str
    kind: str
    code: str
    badgeMetaId: str | None  # noqa: N815 - the contract's name
    count: int
    first_at: str | None
    last_at: str | None
    sample: str
    message: str


def size(reports: JobReader, which: Filter, *, replayable: bool = False) -> int:
    """Count what a search for these looks at: more than fits, if it asks for more than kind and time."""
    return sum(
        int(reports.client.zcount(keys.key(org, "dead", kind), which.since_ms or 0, "+inf"))
        for org in reports.org_names(which.org)
        for kind in which.kinds(replayable=replayable)
    )


def now_ms(reports: JobReader) -> int:
    """Return the time by the clock that tells when a job died, for ``Filter.until_ms``."""
    return reports.store.now_ms(keys.key_prefix(DEFAULT_ORG))


def count(reports: JobReader, which: Filter, *, replayable: bool = False) -> dict[str, int]:
    """Count by kind the dead letters that fit."""
    counts: Counter[str] = Counter()
    for _, page in pages(reports, which, replayable=replayable):
        counts.update(it.kind.value for it in page)
    return dict(counts)


def left_out(reports: JobReader, which: Filter) -> dict[str, int]:
    """Count by kind the dead letters that fit, but aren't replayed unless their kind is said, or never."""
    kinds = () if which.kind else [kind for kind in DeadKind if kind not in REPLAYED_UNASKED]
    its_pages = {kind.value: pages(reports, replace(which, kind=kind)) for kind in kinds}
    return {kind: n for kind, its in its_pages.items() if (n := sum(len(page) for _, page in its))}


def pages(
    reports: JobReader, which: Filter, *, fields: Sequence[str] = (), replayable: bool = False
) -> Iterator[tuple[int, list[Letter]]]:
    """Yield how many were looked at, and those of them that fit, in pages; all of a page are of one org.

    Oldest first within each org and kind. Whoever takes letters off the list between two pages makes it
    skip none, and what dies after its beginning isn't found.
    """
    wanted = which.fields
    fields = tuple(dict.fromkeys([*wanted, *fields]))
    for org in reports.org_names(which.org):
        now_ms = reports.store.now_ms(keys.key_prefix(org))
        until_ms = now_ms if which.until_ms is None else min(now_ms, which.until_ms)
        for kind in which.kinds(replayable=replayable):
            for found in _ids(reports, org, kind, which, until_ms):
                ids = [job_id for job_id, _ in found]
                records = columns(reports, org, ids, fields) if fields else [[]] * len(ids)
                page = [
                    Letter(org, kind, job_id, at_ms, _given(fields, values))
                    for (job_id, at_ms), values in zip(found, records, strict=True)
                ]
                yield len(page), [it for it in page if all(it.record.get(f) == v for f, v in wanted.items())]


def rows(reports: JobReader, which: Filter) -> Iterator[dict[str, Any]]:
    """Yield the dead letters that fit as ``badges results`` shows jobs, of each org and kind oldest first.

    What needs nobody any more isn't among them: what was mended or replayed as another job, or discarded.
    """
    for _, page in pages(reports, which):
        for job_id, record in reports.records(page[0].org, [it.id for it in page]) if page else ():
            if state_of(record) is State.DEAD:
                yield report_row(page[0].org, job_id, record)


def groups(reports: JobReader, which: Filter, *, replayable: bool = False) -> list[Group]:
    """Count the dead letters that fit by kind, code and badge, largest group first."""
    found: dict[tuple[str, ...], list[Any]] = {}
    for _, page in pages(reports, which, fields=_GROUPED_BY, replayable=replayable):
        for it in page:
            # One field of a row may be wrong in several ways; the value that a reason quotes is its own.
            why = it.record.get(Field.MESSAGE, "").partition("“")[0] if it.kind is DeadKind.INVALID else ""
            key = (
                it.org,
                it.kind.value,
                it.record.get(Field.CODE, ""),
                it.record.get(Field.BADGE_META_ID, ""),
                why,
            )
            group = found.setdefault(key, [0, it, it.at_ms])
            group[0] += 1
            group[2] = it.at_ms
    ordered = sorted(found.items(), key=lambda entry: (-entry[1][0], entry[0]))
    return [
        Group(
            *(org, kind, code, badge or None, number),
            *(iso_time(first.at_ms), iso_time(last_ms), first.id, _message(reports, first)),
        )
        for (org, kind, code, badge, _), (number, first, last_ms) in ordered
    ]


def columns(
    reports: JobReader, org: str, ids: Sequence[str], fields: Sequence[str]
) -> list[list[str | None]]:
    """Return these fields of these jobs' records."""
    pipe = reports.client.pipeline(transaction=False)
    for job_id in ids:
        pipe.hmget(keys.key(org, "job", job_id), list(fields))
    found: list[list[str | None]] = pipe.execute()
    return found


def died_at_ms(reports: JobReader, org: str, kind: DeadKind, job_id: str) -> int | None:
    """Say when a job became a dead letter of a kind; ``None`` if it isn't one."""
    at_ms = reports.client.zscore(keys.key(org, "dead", kind), job_id)
    return None if at_ms is None else int(at_ms)


def _ids(
    reports: JobReader, org: str, kind: DeadKind, which: Filter, until_ms: int
) -> Iterator[list[tuple[str, int]]]:
    """Yield ids and times of death (ms), in pages, oldest first.

    Whoever takes letters off the list between two pages makes it skip none.
    """
    since_ms = which.since_ms or 0
    if which.job is not None:
        at_ms = died_at_ms(reports, org, kind, which.job)
        if at_ms is not None and since_ms <= at_ms <= until_ms:
            yield [(which.job, at_ms)]
        return
    last, limit, key = (since_ms, ""), PAGE, keys.key(org, "dead", kind)
    while True:
        # Not by rank: a rank moves when others are taken off the list.
        found: Any = reports.client.zrangebyscore(key, last[0], until_ms, start=0, num=limit, withscores=True)
        page = [(int(at_ms), str(job_id)) for job_id, at_ms in found]
        fresh = [entry for entry in page if entry > last]
        if fresh:
            yield [(job_id, at_ms) for at_ms, job_id in fresh]
            last = fresh[-1]
        if len(page) < limit:
            return
        if not fresh:
            limit *= 2  # so many died in the same millisecond


def _given(fields: Sequence[str], values: list[str | None]) -> dict[str, str]:
    return {field: value for field, value in zip(fields, values, strict=True) if value is not None}


def _message(reports: JobReader, letter: Letter) -> str:
    found = reports.records(letter.org, [letter.id])
    return next((text_of(record, Field.MESSAGE) or "" for _, record in found), "")
