"""Which dead letters there are: found by a filter, listed, counted in groups. Nothing here changes anything.

What is done about them is in ``deadletters.py``. Only what a filter asks for is read: kind and time stand
in the index, so that a hundred thousand letters are looked through without their records.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from worker.job import DeadKind, State, iso_time, result_row, text_of
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

    @property
    def fields(self) -> dict[str, str]:
        """What a record must hold, by letter."""
        customer = None if self.customer is None else str(self.customer)
        wanted = {"r": self.run, "o": self.code, "b": self.badge, "c": customer}
        return {letter: value for letter, value in wanted.items() if value is not None}

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
        if since_ms := said.pop("since_ms", None):
            said["since"] = iso_time(since_ms)
        return said


class Letter(NamedTuple):
    """A dead letter, and of its record the letters that were asked for."""

    org: str
    kind: DeadKind
    id: str
    at_ms: int
    record: dict[str, str]


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters with one kind, code and badge; ``sample`` is the one that died first."""

    org: str
    kind: str
    code: str
    badgeMetaId: str | None  # noqa: N815 - the contract's name
    count: int
    first_at: str | None
    last_at: str | None
    sample: str
    message: str


def size(reports: Reports, which: Filter, *, replayable: bool = False) -> int:
    """Count what a search for these looks at: more than fits, if it asks for more than kind and time."""
    return sum(
        reports.count_dead(org, kind, since_ms=which.since_ms or 0)
        for org in reports.org_names(which.org)
        for kind in which.kinds(replayable=replayable)
    )


def pages(
    reports: Reports, which: Filter, *, letters: str = "", replayable: bool = False
) -> Iterator[tuple[int, list[Letter]]]:
    """Yield how many were looked at, and those of them that fit, in pages; all of a page are of one org.

    Oldest first within each org and kind. Whoever takes letters off the list between two pages makes it
    skip none, and what dies after its beginning isn't found.
    """
    wanted = which.fields
    letters = "".join(dict.fromkeys([*wanted, *letters]))
    until_ms = reports.now_ms()
    for org in reports.org_names(which.org):
        for kind in which.kinds(replayable=replayable):
            for found in _ids(reports, org, kind, which, until_ms):
                ids = [job_id for job_id, _ in found]
                records = reports.columns(org, ids, letters) if letters else [[]] * len(ids)
                page = [
                    Letter(org, kind, job_id, at_ms, _given(letters, values))
                    for (job_id, at_ms), values in zip(found, records, strict=True)
                ]
                yield len(page), [it for it in page if all(it.record.get(f) == v for f, v in wanted.items())]


def rows(reports: Reports, which: Filter) -> Iterator[dict[str, Any]]:
    """Yield the dead letters that fit as ``badges results`` shows jobs."""
    for _, page in pages(reports, which):
        for job_id, record in reports.records(page[0].org, [it.id for it in page]) if page else ():
            if record.get("s") == State.DEAD:
                yield result_row(page[0].org, job_id, record)


def groups(reports: Reports, which: Filter, *, replayable: bool = False) -> list[Group]:
    """Count the dead letters that fit by kind, code and badge, largest group first."""
    found: dict[tuple[str, str, str, str | None], list[Any]] = {}
    for _, page in pages(reports, which, letters="ob", replayable=replayable):
        for it in page:
            key = (it.org, it.kind.value, it.record.get("o", ""), it.record.get("b"))
            group = found.setdefault(key, [0, it, it.at_ms])
            group[0] += 1
            group[2] = it.at_ms
    ordered = sorted(found.items(), key=lambda entry: (-entry[1][0], entry[0][:3]))
    return [
        Group(*key, count, iso_time(first.at_ms), iso_time(last_ms), first.id, _message(reports, first))
        for key, (count, first, last_ms) in ordered
    ]


def _ids(
    reports: Reports, org: str, kind: DeadKind, which: Filter, until_ms: int
) -> Iterator[list[tuple[str, int]]]:
    if which.job is None:
        yield from reports.dead_ids(org, kind, since_ms=which.since_ms or 0, until_ms=until_ms)
        return
    at_ms = reports.died_at_ms(org, kind, which.job)
    if at_ms is not None and (which.since_ms or 0) <= at_ms <= until_ms:
        yield [(which.job, at_ms)]


def _given(letters: str, values: list[str | None]) -> dict[str, str]:
    return {letter: value for letter, value in zip(letters, values, strict=True) if value is not None}


def _message(reports: Reports, letter: Letter) -> str:
    return next((text_of(record, "m") or "" for _, record in reports.records(letter.org, [letter.id])), "")
