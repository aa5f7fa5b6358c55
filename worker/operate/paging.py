"""Listings a page at a time, for who looks at one page after another: each page says where the next begins.

A page begins behind a key and not at a number, so that what is added or taken away meanwhile makes it skip
and repeat nothing. Whole listings are in ``runs.py`` and ``deadlist.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from worker.domain.job import DeadKind, State
from worker.errors import ConfigError
from worker.operate import deadlist
from worker.operate.deadlist import Filter, groups_of
from worker.operate.progress import RunProgress
from worker.operate.report import report_row
from worker.operate.runs import JobReader
from worker.store import audit, reading
from worker.store.audit import Entry
from worker.store.reading import PAGE
from worker.store.record import state_of
from worker.store.runs import count_ids, page_of_ids

Row = TypeVar("Row")
SORTED = 2_000  # runs, or acts, that are read to be sorted otherwise than by their time
RUN_SORTS: Mapping[str, Callable[[RunProgress], Any]] = {
    "began": lambda run: run.started_at or "",
    "run": lambda run: run.run.casefold(),
    "rows": lambda run: run.total,
    "issued": lambda run: run.issued,
    "waiting": lambda run: run.open,
    "dead": lambda run: run.unhandled,
}
TRAIL_SORTS: Mapping[str, Callable[[Entry], Any]] = {
    "at": lambda entry: entry.at or "",
    "by": lambda entry: entry.by.casefold(),
    "action": lambda entry: entry.action,
    "count": lambda entry: -1 if entry.count is None else entry.count,
}
JOB_SORTS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "state": lambda row: row["state"],
    "badge": lambda row: str(row["badgeMetaId"]),
    "customer": lambda row: str(row["customerId"]).rjust(20),
    "since": lambda row: row["finished_at"] or row["enqueued_at"] or "",
}
NO_PLACE = "there is no such place in this listing: begin with its first page"
LOOKED_AT = 1_000  # records that are read for one page at most, where few of them fit


@dataclass(frozen=True, slots=True)
class Slice(Generic[Row]):
    """Some of a listing; ``after`` is where the next ones begin, ``None`` where there are none."""

    rows: Sequence[Row]
    after: str | None = None


def runs(
    reports: JobReader, org: str | None, after: str | None, size: int, *, sort: str = "-began"
) -> Slice[RunProgress]:
    """Return runs behind the one that is named ``org/run``, by the name of a ``RUN_SORTS``; - is downwards.

    Sorted by what changes, all of the newest ``SORTED`` are read.
    """
    names = [f"{its_org}/{run}" for its_org, run in reports.run_names(org)]
    downwards, by = sort.startswith("-"), sort.removeprefix("-")
    if by != "began":
        return _sorted_runs(reports, names[-SORTED:], after, size, sort)
    if downwards:
        names.reverse()
    begin = names.index(after) + 1 if after in names else 0
    chosen = names[begin : begin + size]
    # In the order they began: that tells when each is done.
    pairs = [name.partition("/")[::2] for name in (chosen[::-1] if downwards else chosen)]
    found = reports.progress(pairs)
    more = begin + size < len(names)
    return Slice(found[::-1] if downwards else found, chosen[-1] if more else None)


def _sorted_runs(
    reports: JobReader, names: Sequence[str], after: str | None, size: int, sort: str
) -> Slice[RunProgress]:
    found = reports.progress([name.partition("/")[::2] for name in names])
    return in_order(found, RUN_SORTS, lambda run: f"{run.org}/{run.run}", after, size, sort=sort)


def in_order(  # noqa: PLR0913 - what, by what, and which of it
    rows: Sequence[Row],
    sorts: Mapping[str, Callable[[Row], Any]],
    name_of: Callable[[Row], str],
    after: str | None,
    size: int,
    *,
    sort: str,
) -> Slice[Row]:
    """Sort rows by one of ``sorts``, downwards with - before its name, and return those behind a name."""
    key = sorts[sort.removeprefix("-")]
    found = sorted(rows, key=lambda row: (key(row), name_of(row)), reverse=sort.startswith("-"))
    return as_found(found, name_of, after, size)


def jobs(
    reports: JobReader, run: RunProgress, state: State | None, after: str | None, size: int
) -> Slice[dict[str, Any]]:
    """Return jobs of a run in the order they came, after the first N; -0 and -N begin at its end."""
    rows: list[dict[str, Any]] = []
    org, end, back = run.org, count_ids(reports.client, run.org, run.run), (after or "").startswith("-")
    at = int((after or "0").removeprefix("-"))
    stop = min(end, at + LOOKED_AT)

    def behind(n: int) -> str | None:
        return (f"-{n}" if back else str(n)) if n < end else None

    while at < stop:
        first, most = (max(0, end - at - PAGE), min(PAGE, end - at)) if back else (at, PAGE)
        ids = page_of_ids(reports.client, org, run.run, first)[:most]
        found = list(zip(ids, reading.records(reports.client, org, ids), strict=True))
        for n, (job_id, record) in enumerate(reversed(found) if back else found, at + 1):
            if record and (state is None or state_of(record) is state):
                rows.append(report_row(org, job_id, record))
                if len(rows) == size:
                    return Slice(rows, behind(n))
        at += max(1, len(ids))
    return Slice(rows, behind(at))


def letters(
    reports: JobReader, which: Filter, after: str | None, size: int, *, newest: bool = False
) -> Slice[dict[str, Any]]:
    """Return dead letters that fit, of each group the oldest first, or the ``newest``.

    ``after`` names group, time and job.
    """
    if which.job is not None:
        return _one_letter(reports, which)
    if which.customer is not None:
        return _of_customer(reports, which, after, size, newest=newest)
    return _by_groups(reports, which, after, size, newest=newest)


def as_found(rows: Sequence[Row], name_of: Callable[[Row], str], after: str | None, size: int) -> Slice[Row]:
    """Return rows as they come, behind the one of a name."""
    names = [name_of(row) for row in rows]
    begin = names.index(after) + 1 if after in names else 0
    end = begin + size
    return Slice(rows[begin:end], names[end - 1] if end < len(rows) else None)


def _by_groups(
    reports: JobReader, which: Filter, after: str | None, size: int, *, newest: bool
) -> Slice[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    at_org, at_group, at_ms, at_id = _place(after)
    looked_at = 0
    for org in reports.org_names(which.org):
        if org < at_org:
            continue
        its = sorted(groups_of(reports, org, which), key=lambda group: int(group.number))
        for group in its:
            behind = None
            if org == at_org and int(group.number) < int(at_group or 0):
                continue
            if org == at_org and group.number == at_group:
                behind = (int(at_ms or 0), at_id)
            wanted = which.fields if group.is_mixed else which.read_fields
            until_ms = which.until_ms or "+inf"
            since_ms = which.since_ms or 0
            for found in reading.letters(
                reports.client,
                org,
                group,
                since_ms=since_ms,
                until_ms=until_ms,
                behind=behind,
                newest=newest,
            ):
                records = reading.records(reports.client, org, [job_id for job_id, _ in found])
                for (job_id, died_ms), record in zip(found, records, strict=True):
                    looked_at += 1
                    fits = record is not None and all(record.get(f) == v for f, v in wanted.items())
                    if record is not None and fits and state_of(record) is State.DEAD:
                        rows.append(report_row(org, job_id, record))
                    if len(rows) == size or looked_at >= LOOKED_AT:
                        return Slice(rows, f"{org} {group.number} {died_ms} {job_id}")
    return Slice(rows)


def _place(after: str | None) -> tuple[str, str, str, str]:
    """Read ``after``: org, group, time, job.

    Raises:
        ConfigError: it is none.
    """
    if not after:
        return "", "", "", ""
    parts = after.split(" ", 3)
    numbers = parts[1:3]
    if len(parts) < 4 or not all(part.isascii() and part.isdecimal() for part in numbers):
        raise ConfigError(NO_PLACE)
    return parts[0], parts[1], parts[2], parts[3]


def _of_customer(
    reports: JobReader, which: Filter, after: str | None, size: int, *, newest: bool
) -> Slice[dict[str, Any]]:
    """Return some of a customer's letters, which are few; ``after`` names the last of those before."""
    rows = list(deadlist.rows(reports, which))
    rows = rows[::-1] if newest else rows
    return as_found(rows, lambda row: f"{row['org']} {row['job_id']}", after, size)


def _one_letter(reports: JobReader, which: Filter) -> Slice[dict[str, Any]]:
    """Return the dead letter that a filter names by its job."""
    for org in reports.org_names(which.org):
        if found := reading.listed_at_ms(reports.client, org, str(which.job)):
            record = found[0]
            kind = DeadKind(record["kind"])
            if which.kind in (None, kind) and all(record.get(f) == v for f, v in which.fields.items()):
                return Slice([report_row(org, str(which.job), record)])
    return Slice([])


def trail(
    reports: JobReader, org: str | None, after: str | None, size: int, *, sort: str = "-at"
) -> Slice[Entry]:
    """Return what was done, behind the act that is named ``at org/act``, by the name of a ``TRAIL_SORTS``.

    Sorted otherwise than the newest first, the newest ``SORTED`` of each org are read.
    """
    if sort != "-at":
        newest = [
            entry
            for name in reports.org_names(org)
            for entry in audit.before(reports.client, name, None, SORTED)
        ]
        return in_order(newest, TRAIL_SORTS, lambda it: f"{it.at} {_name(it)}", after, size, sort=sort)
    at, _, name = (after or "").partition(" ")
    try:
        _ = at and datetime.fromisoformat(at).timestamp()
    except (ValueError, OverflowError):
        raise ConfigError(NO_PLACE) from None
    found: list[Entry] = []
    for its_org in reports.org_names(org):
        found += audit.before(reports.client, its_org, at or None, size + 1)
    order = sorted(found, key=lambda entry: (entry.at or "", _name(entry)), reverse=True)
    rest = [entry for entry in order if not after or (entry.at or "", _name(entry)) < (at, name)]
    rows = rest[:size]
    more = len(rest) > size
    return Slice(rows, f"{rows[-1].at} {_name(rows[-1])}" if more else None)


def _name(entry: Entry) -> str:
    return f"{entry.org}/{entry.id}"
