"""Which dead letters there are: found by a filter, listed, counted in groups. Nothing here changes anything.

What is done about them is in ``replaying.py`` and ``deadletters.py``. Only what a filter asks for is read:
kind, code, badge and time stand in the groups, so that a million letters are counted without their records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from worker.domain.job import DeadKind, State
from worker.domain.org import DEFAULT_ORG
from worker.domain.text import iso_time
from worker.operate import search
from worker.operate.report import report_row
from worker.operate.runs import JobReader
from worker.operate.which import Which, holds, is_badge
from worker.store import reading
from worker.store.letters import GroupPart
from worker.store.reading import Extent, StoredGroup
from worker.store.record import Field, Record, fault_of, state_of

# A badge that may have been issued is sent again only if somebody says so by name.
REPLAYED_UNASKED = (DeadKind.REJECTED, DeadKind.EXHAUSTED, DeadKind.CANCELLED)


@dataclass(frozen=True, slots=True)
class Filter(Which):
    """Which dead letters are meant; ``None`` means any, ``since_ms`` those that died since.

    ``until_ms`` leaves out what died after it: what a person was told of, and nothing else.
    """

    kind: DeadKind | None = None
    code: str | None = None
    until_ms: int | None = None

    @property
    def fields(self) -> dict[Field, str]:
        """What a record must hold."""
        wanted = {Field.RUN: self.run, Field.CODE: self.code}
        return {field: value for field, value in wanted.items() if value is not None} | self.badge_fields

    @property
    def read_fields(self) -> dict[Field, str]:
        """What of that a record must be read for: kind, code and badge are those of its group."""
        in_group = (Field.CODE, Field.BADGE_META_ID)
        return {field: value for field, value in self.fields.items() if field not in in_group}

    def fits(self, group: StoredGroup) -> bool:
        """Say whether letters of this group have the code and the badge."""
        badge = None if group.kind == DeadKind.INVALID else group.badge
        return self.code in (None, group.code) and (self.badge is None or is_badge(badge, self.badge))

    def kinds(self, *, replayable: bool = False) -> tuple[DeadKind, ...]:
        """Return the kinds that are meant; ``replayable`` leaves out what may not be sent as it is."""
        if not replayable:
            return (self.kind,) if self.kind else tuple(DeadKind)
        if self.kind is None:
            return REPLAYED_UNASKED
        return () if self.kind is DeadKind.INVALID else (self.kind,)


class Letter(NamedTuple):
    """A dead letter, and its record, if that was read."""

    org: str
    kind: DeadKind
    id: str
    at_ms: int
    record: Record


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
    """Count what a search for these looks at: more than fits, if records must be read to tell."""
    if which.customer is not None:
        return sum(looked_at for looked_at, _ in pages(reports, which, replayable=replayable))
    return sum(
        extent.size
        for org in reports.org_names(which.org)
        for extent in _extents(reports, org, which, groups_of(reports, org, which, replayable=replayable))
        if extent
    )


def now_ms(reports: JobReader) -> int:
    """Return the time by the clock that tells when a job died, for ``Filter.until_ms``."""
    return reports.store.org_now_ms(DEFAULT_ORG)


def count(reports: JobReader, which: Filter, *, replayable: bool = False) -> dict[str, int]:
    """Count by kind the dead letters that fit; records are read only where the groups can't tell."""
    counts: Counter[str] = Counter()
    if _told_by_groups(which) and not _mixed(reports, which):
        for org in reports.org_names(which.org):
            groups = groups_of(reports, org, which, replayable=replayable)
            for group, extent in zip(groups, _extents_of(reports, org, which, groups), strict=True):
                counts[group.kind] += extent.size if extent else 0
    else:
        for _, page in pages(reports, which, replayable=replayable):
            counts.update(it.kind.value for it in page)
    return {kind: number for kind, number in counts.items() if number}


def left_out(reports: JobReader, which: Filter) -> dict[str, int]:
    """Count by kind the dead letters that fit, but aren't replayed unless their kind is said, or never."""
    if which.kind:
        return {}
    return {kind: n for kind, n in count(reports, which).items() if kind not in REPLAYED_UNASKED}


def pages(
    reports: JobReader, which: Filter, *, with_records: bool = False, replayable: bool = False
) -> Iterator[tuple[int, list[Letter]]]:
    """Yield how many were looked at, and those of them that fit, in pages; all of a page are of one org.

    Oldest first within each group, groups by their last death. Whatever is taken off the list between two
    pages makes it skip none, and what dies after its beginning isn't found.
    """
    for org in reports.org_names(which.org):
        if which.job is not None:
            yield from _one(reports, org, which, replayable=replayable)
            continue
        if which.customer is not None:
            yield from _of_customer(reports, org, which, replayable=replayable)
            continue
        now_ms = reports.store.org_now_ms(org)
        until_ms = now_ms if which.until_ms is None else min(now_ms, which.until_ms)
        for group in groups_of(reports, org, which, replayable=replayable):
            wanted = which.fields if group.is_mixed else which.read_fields
            for found in reading.letters(
                reports.client, org, group, since_ms=which.since_ms or 0, until_ms=until_ms
            ):
                read: Sequence[Record | None] = [{}] * len(found)
                if with_records or wanted:
                    read = reading.records(reports.client, org, [job_id for job_id, _ in found])
                page = [
                    Letter(org, DeadKind(group.kind), job_id, at_ms, record)
                    for (job_id, at_ms), record in zip(found, read, strict=True)
                    if record is not None and holds(record, wanted)
                ]
                yield len(found), page


def parts(reports: JobReader, org: str, which: Filter, *, replayable: bool = False) -> list[GroupPart] | None:
    """Return which letters of which groups fit; ``None`` where that can't be told without their records."""
    if not _told_by_groups(which):
        return None
    its = groups_of(reports, org, which, replayable=replayable)
    if which.fields and any(group.is_mixed for group in its):
        return None
    now_ms = reports.store.org_now_ms(org)
    until_ms = now_ms if which.until_ms is None else min(now_ms, which.until_ms)
    return [GroupPart(group.number, which.since_ms or 0, until_ms, which.run or "") for group in its]


def rows(reports: JobReader, which: Filter) -> Iterator[dict[str, Any]]:
    """Yield the dead letters that fit as ``badges results`` shows jobs, of each org and group oldest first.

    What needs nobody any more isn't among them: what was mended or replayed as another job, or discarded.
    """
    for _, page in pages(reports, which, with_records=True):
        yield from (report_row(it.org, it.id, it.record) for it in page if state_of(it.record) is State.DEAD)


def groups(reports: JobReader, which: Filter, *, replayable: bool = False) -> list[Group]:
    """Count the dead letters that fit by kind, code and badge, largest group first."""
    found: list[Group] = []
    for org in reports.org_names(which.org):
        if not _told_by_groups(which):
            found += _counted(reports, replace(which, org=org), replayable=replayable)
            continue
        its = groups_of(reports, org, which, replayable=replayable)
        whole = [group for group in its if not group.is_mixed]
        extents = _extents_of(reports, org, which, whole)
        told = [(group, extent) for group, extent in zip(whole, extents, strict=True) if extent]
        samples = reading.records(reports.client, org, [extent.first for _, extent in told])
        found += [
            _group(org, group[1:], extent, sample or {})
            for (group, extent), sample in zip(told, samples, strict=True)
        ]
        if len(whole) < len(its):
            found += _counted(reports, replace(which, org=org), replayable=replayable, mixed=True)
    return sorted(found, key=lambda group: (-group.count, group.org, group.kind, group.code))


def _counted(reports: JobReader, which: Filter, *, replayable: bool, mixed: bool = False) -> list[Group]:
    """Count by reading the letters: all, or those that share a group of what there are too many of."""
    counts: dict[tuple[str, str, str], list[Any]] = {}
    for _, page in pages(reports, which, with_records=True, replayable=replayable):
        for it in page:
            entry = counts.setdefault(_grouped_by(it), [0, it, it.at_ms])
            entry[0] += 1
            entry[2] = max(entry[2], it.at_ms)
    known = {name[1:] for name in reading.groups(reports.client, str(which.org)) if not name.is_mixed}
    return [
        _group(first.org, name, Extent(size, first.id, first.at_ms, last_ms), first.record)
        for name, (size, first, last_ms) in counts.items()
        if not (mixed and name in known)
    ]


def _grouped_by(letter: Letter) -> tuple[str, str, str]:
    """Return kind, code and badge; of an invalid row what is wrong, without the value that is quoted."""
    fault = fault_of(letter.record) if letter.kind is DeadKind.INVALID else ""
    return letter.kind.value, letter.record.get(Field.CODE, ""), letter.record.get(Field.BADGE_META_ID, fault)


def _group(org: str, name: tuple[str, str, str], extent: Extent, sample: Record) -> Group:
    kind, code, badge = name
    its_badge = None if kind == DeadKind.INVALID else badge or None
    times = iso_time(extent.first_at_ms), iso_time(extent.last_at_ms)
    message = sample.get(Field.MESSAGE, "")
    return Group(org, kind, code, its_badge, extent.size, *times, extent.first, message)


def died_at_ms(reports: JobReader, org: str, kind: DeadKind, job_id: str) -> int | None:
    """Say when a job became a dead letter of a kind; ``None`` if it isn't one."""
    found = reading.listed_at_ms(reports.client, org, job_id)
    return found[1] if found and found[0].get(Field.KIND) == kind else None


def groups_of(reports: JobReader, org: str, which: Filter, *, replayable: bool = False) -> list[StoredGroup]:
    """Return the groups in which letters may fit, by their last death."""
    kinds = which.kinds(replayable=replayable)
    its = reading.groups(reports.client, org)
    fitting = [group for group in its if group.kind in kinds and (group.is_mixed or which.fits(group))]
    extents = zip(fitting, reading.extents(reports.client, org, fitting), strict=True)
    told = [(extent.last_at_ms, group) for group, extent in extents if extent]
    return [group for _, group in sorted(told)]


def _extents(
    reports: JobReader, org: str, which: Filter, groups: Sequence[StoredGroup]
) -> list[Extent | None]:
    until = "+inf" if which.until_ms is None else which.until_ms
    return reading.extents(reports.client, org, groups, since_ms=which.since_ms or 0, until_ms=until)


def _extents_of(
    reports: JobReader, org: str, which: Filter, groups: Sequence[StoredGroup]
) -> list[Extent | None]:
    """Return the same, of one run if that is asked for: then the server reads the records."""
    if which.run is None:
        return _extents(reports, org, which, groups)
    until_ms = which.until_ms or reports.store.org_now_ms(org)
    its = [GroupPart(group.number, which.since_ms or 0, until_ms, which.run) for group in groups]
    return [reading.extent_of_run(reports.store, org, part) for part in its]


def _told_by_groups(which: Filter) -> bool:
    """Say whether all that is asked for stands in the groups; a run the server looks up."""
    return which.job is None and which.customer is None


def _mixed(reports: JobReader, which: Filter) -> bool:
    """Say whether code or badge are asked for where only records can tell them."""
    if which.code is None and which.badge is None:
        return False
    found = (reading.groups(reports.client, org) for org in reports.org_names(which.org))
    return any(group.is_mixed for its in found for group in its)


def _of_customer(
    reports: JobReader, org: str, which: Filter, *, replayable: bool
) -> Iterator[tuple[int, list[Letter]]]:
    """Yield a customer's letters in one page, oldest first: they are found by their ids."""
    jobs = search.of_customer(reports, org, int(str(which.customer)), which.badge)
    dead = {job_id: record for job_id, record in jobs if record and state_of(record) is State.DEAD}
    groups = [(job_id, record[Field.GROUP]) for job_id, record in dead.items()]
    listed = reading.listed(reports.client, org, groups)
    until_ms = reports.store.org_now_ms(org) if which.until_ms is None else which.until_ms
    kinds = which.kinds(replayable=replayable)
    letters = [
        Letter(org, DeadKind(record[Field.KIND]), job_id, listed[job_id], record)
        for job_id, record in dead.items()
        if job_id in listed and holds(record, which.fields)
    ]
    fitting = [it for it in letters if it.kind in kinds and (which.since_ms or 0) <= it.at_ms <= until_ms]
    if dead:
        yield len(dead), sorted(fitting, key=lambda it: (it.at_ms, it.id))


def _one(
    reports: JobReader, org: str, which: Filter, *, replayable: bool
) -> Iterator[tuple[int, list[Letter]]]:
    found = reading.listed_at_ms(reports.client, org, str(which.job))
    if found is None:
        return
    record, at_ms = found
    kind = DeadKind(record[Field.KIND])
    fits = kind in which.kinds(replayable=replayable) and at_ms >= (which.since_ms or 0)
    if fits and holds(record, which.fields):
        yield 1, [Letter(org, kind, str(which.job), at_ms, record)]
