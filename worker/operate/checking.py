"""Checking rows before any is accepted: all that is wrong with each, what is known of it, what it would cost.

The command, the console and the intake ask here. What a check says is what an import into a new run then
does; the values it answers with are in ``domain/check.py``.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field as made
from typing import Final, Literal, NamedTuple, Protocol

from worker.domain.badge import Badge, Invalid, Taken, one_case, read_badge, warnings_of
from worker.domain.check import (
    Check,
    CheckedBadge,
    CheckedColumn,
    CheckGroup,
    CheckWarning,
    Duplicates,
    Fault,
    Would,
)
from worker.domain.identity import PAIR_LETTERS, content_id
from worker.domain.item import Source, Warned
from worker.domain.numbers import BadCell
from worker.domain.org import Org
from worker.domain.plain import Plain, plain_rows
from worker.domain.seen import Fingerprints, Met
from worker.domain.text import cell, plain
from worker.enqueue import invalid_id, next_chunk
from worker.files.columns import AS_THEY_ARE, FIELDS, Names
from worker.operate.mending import Judged, is_reported
from worker.operate.status import OrgState
from worker.store.lookup import Asked
from worker.store.record import Seen

_OF_ONE_ROW: Final = re.compile(r"“.*”|\d+")  # what differs between rows with the same thing wrong
_MOST_GROUPS: Final = 100
_MOST_BADGES: Final = 1_000
_MOST_COLUMNS: Final = 200
_ROWS_NAMED: Final = 20
_VALUES_SHOWN: Final = 5
_SAMPLES: Final = 3
_LOOKS_AHEAD: Final = 2
_LONGEST_SHOWN: Final = 60


class Past(Protocol):
    """What was accepted before, for those who can look; how many are to be sent ``once_more``."""

    once_more: int

    def look_up(self, asked: Sequence[Asked]) -> list[Seen]:
        """Say of up to 1,000 rows what is known of them."""

    def judge(self, rows: Sequence[Source], org: Org) -> Judged:
        """Say what a report's rows would do."""


def _shown(value: object) -> str:
    return plain(cell(value.shown if isinstance(value, BadCell) else value), _LONGEST_SHOWN)


@dataclass(slots=True)
class _Group:
    """Rows of which the same is to be said; ``values`` are some of those that are wrong."""

    field: str | None
    reason: str
    rows: list[int] = made(default_factory=list)
    values: list[str] = made(default_factory=list)
    count: int = 0

    def add(self, row: str, value: object = None) -> None:
        self.count += 1
        if len(self.rows) < _ROWS_NAMED:
            self.rows.append(int(row))
        if len(self.values) < _VALUES_SHOWN and (text := _shown(value)):
            self.values += [] if text in self.values else [text]

    def as_first_version(self, kind: Literal["invalid", "warning"]) -> CheckGroup:
        return CheckGroup(kind, self.field, self.reason, self.rows[0], self.count)


@dataclass(slots=True)
class _Counted:
    """How many rows, and the first of them."""

    count: int = 0
    rows: list[int] = made(default_factory=list)

    def add(self, row: str) -> None:
        self.count += 1
        if len(self.rows) < _ROWS_NAMED:
            self.rows.append(int(row))


class _First(NamedTuple):
    """A row whose id is new in this file."""

    row: str
    asked: Asked
    is_near: bool = False  # there was an earlier row of its badge and customer


class Checking:
    """A check that goes on, and what its rows have told. Groups stay few; of each row 40 bytes are kept."""

    def __init__(
        self,
        org: Org,
        past: Past | None = None,
        *,
        names: Names = AS_THEY_ARE,
        hold_repeats: bool = False,
        may_report: bool = True,
    ) -> None:
        """Begin; without a ``past``, nobody looks at what was accepted before.

        ``may_report``: rows that tell a job's state are a report's, as in files, and mend its dead letters.
        """
        self._may_report = may_report
        self._org, self._past, self._names, self._hold_repeats = org, past, names, hold_repeats
        self.good = self.invalid = 0
        self.incomplete: str | None = None
        self._in_file, self._before, self._near = _Counted(), _Counted(), _Counted()
        self._accepted = self._new_invalid = 0
        self._faults: dict[object, _Group] = {}
        self._warnings: dict[object, _Group] = {}
        self._badges: Counter[str | None] = Counter()
        self.customers: dict[str, int] = {}  # of each of these badges, in one case, that of its first row
        self._columns: dict[str, tuple[str | None, list[str]]] = {}
        # Of badges and customers; of ids that aren't made of them; of jobs that mend.
        self._met, self._others, self._mended = Fingerprints(), Fingerprints(), Fingerprints()
        self._looking = ThreadPoolExecutor(1, "past")  # the server looks while the next rows are read
        self._looks: deque[tuple[Sequence[_First], Future[list[Seen]]]] = deque()

    @property
    def rows(self) -> int:
        """How many rows were checked."""
        return self.good + self.invalid

    def add(self, rows: Sequence[Source]) -> None:
        """Check up to 1,000 rows more."""
        if not self.rows:
            self._look_at_columns(rows)
        reported: list[Source] = []
        taken: list[Badge | Plain] = []  # of good rows
        told = list(plain_rows(self._org.name, rows))
        plain = [its for its in told if its]
        if len(plain) == len(rows):  # as in most files
            taken += plain
            contents = [its.content for its in plain]
            met = self._met.add_many(contents, PAIR_LETTERS)
            its_first: Iterable[_First | None] = map(self._first, [row.row for row in rows], contents, met)
        else:
            its_first = (
                self._met_plain(row, its, taken) if its else self._check(row, reported, taken)
                for row, its in zip(rows, told, strict=True)
            )
        firsts = [first for first in its_first if first]
        self.good += len(taken)
        self.invalid += len(rows) - len(taken)
        self._count_badges(taken)
        if self._past:
            self._looks.append(
                (firsts, self._looking.submit(self._past.look_up, [it.asked for it in firsts]))
            )
            self._take_in(left=_LOOKS_AHEAD)
            if reported:
                self._judge(reported, self._past)
        else:
            self._tell_near(first for first in firsts if not first.asked.is_invalid)

    def _count_badges(self, taken: Sequence[Badge | Plain]) -> None:
        customers = {badge.badge_meta_id: badge.customer_id for badge in reversed(taken)}
        for badge, count in Counter(badge.badge_meta_id for badge in taken).items():
            known = badge in self._badges or len(self._badges) < _MOST_BADGES
            self._badges[badge if known else None] += count
            if known:
                self.customers.setdefault(one_case(badge), customers[badge])

    def _check(self, row: Source, reported: list[Source], good: list[Badge | Plain]) -> _First | None:
        """Check one row; return it if it is to be looked for in the past."""
        item, org = row.item, self._org
        if report := self._may_report and is_reported(row):  # which tells its job's state and org as well
            reported.append(row)
            item = {name: value for name, value in item.items() if name in FIELDS}
        taken = row.problem or read_badge(item, org=org.name, strict_dates=org.strict_dates)
        if row.warning:
            self._note(self._warnings, Invalid(None, row.warning), row.row)
        if isinstance(taken, Invalid):
            values = item if isinstance(item, dict) else {}
            for fault in taken.faults:
                self._note(self._faults, fault, row.row, values.get(fault.field))
            return None if report else self._first_of_invalid(row)
        for warning in warnings_of(item, taken.badge):
            self._note(self._warnings, Invalid(None, warning), row.row)
        good.append(taken.badge)
        return None if report else self._first_of(taken, row.row)

    def _met_plain(self, row: Source, its: Plain, good: list[Badge | Plain]) -> _First | None:
        content = its.content
        good.append(its)
        return self._first(row.row, content, self._met.add(content[:PAIR_LETTERS], content))

    def _first(self, row: str, content: str, met: Met) -> _First | None:
        if met is Met.SAME:
            self._in_file.add(row)
            return None
        return _First(row, Asked(content), met is Met.SIMILAR)

    def _first_of(self, taken: Taken, row: str) -> _First | None:
        content = content_id(self._org.name, taken.badge)
        pair, own = content[:PAIR_LETTERS], taken.job_id
        if own is None:
            return self._first(row, content, self._met.add(pair, content))
        self._met.add(pair, own)
        if self._others.add(own, "") is Met.SAME:
            self._in_file.add(row)
            return None
        return _First(row, Asked(own, is_own=True))

    def _first_of_invalid(self, row: Source) -> _First | None:
        job_id = invalid_id(row, self._org)
        if self._others.add(job_id, "") is Met.SAME:
            return None
        return _First(row.row, Asked(job_id, is_invalid=True))

    def _take_in(self, *, left: int = 0) -> None:
        """Take in what was found in the past, while rows further down are being read."""
        while len(self._looks) > left:
            firsts, looked = self._looks.popleft()
            self._know(firsts, looked.result())

    def _know(self, firsts: Sequence[_First], seen: Sequence[Seen]) -> None:
        good = []
        for first, known in zip(firsts, seen, strict=True):
            if first.asked.is_invalid:
                self._new_invalid += known is not Seen.KNOWN
            elif known is Seen.KNOWN:
                self._before.add(first.row)
            else:
                good.append(first._replace(is_near=True) if known is Seen.SIMILAR else first)
        self._tell_near(good)

    def _tell_near(self, firsts: Iterable[_First]) -> None:
        for first in firsts:
            self._accepted += not (first.is_near and self._hold_repeats)
            if first.is_near:
                self._near.add(first.row)

    def _judge(self, rows: Sequence[Source], past: Past) -> None:
        """Count what a report's rows would do: a mended one is accepted, all others are known."""
        judged = past.judge(rows, self._org)
        self._accepted += sum(self._mended.add(one.job.id, "") is Met.NEW for one in judged.mended)
        self._accepted += sum(self._mended.add(one.id, "") is Met.NEW for one in judged.again)
        self._new_invalid += sum(noted.kind == "invalid" for noted in judged.noted)

    def _look_at_columns(self, rows: Sequence[Source]) -> None:
        column_of = {its: column for column, its in self._names.said.items() if its}
        for row in rows:
            for name, value in row.item.items() if isinstance(row.item, dict) else ():
                self._look_at(column_of.get(name) or name, name, value)
            for other, value in row.others.items():
                self._look_at(other, None, value)

    def _look_at(self, column: str, its: str | None, value: object) -> None:
        if column not in self._columns and len(self._columns) >= _MOST_COLUMNS:
            return
        _, samples = self._columns.setdefault(plain(column, _LONGEST_SHOWN), (its, []))
        if len(samples) < _SAMPLES and (text := _shown(value)) and text not in samples:
            samples.append(text)

    def remark(self, warnings: Iterable[Warned]) -> None:
        """Take in what is said of the file beside its rows."""
        for it in warnings:
            self._warnings["file", it.reason] = _Group(
                None, it.reason, [int(row) for row in it.rows], count=it.count
            )

    def badges(self) -> tuple[CheckedBadge, ...]:
        """Return the badges of the rows, the most frequent first; those beyond a bound have no name."""
        return tuple(CheckedBadge(badge, rows) for badge, rows in self._badges.most_common())

    def result(self, state: OrgState | None = None, badges: tuple[CheckedBadge, ...] | None = None) -> Check:
        """Return what was found; ``state`` is what the org is doing, for the calls and seconds.

        ``badges`` are those of the rows, where the vendor was asked about them.
        """
        self._take_in()
        faults, warnings = (
            sorted(its.values(), key=lambda one: -one.count) for its in (self._faults, self._warnings)
        )
        groups = [it.as_first_version("invalid") for it in faults]
        groups += [it.as_first_version("warning") for it in warnings if it.rows]
        calls, seconds = self._cost(state) if self._past else (None, None)
        return Check(
            rows=self.rows,
            good=self.good,
            invalid=self.invalid,
            duplicates=Duplicates(
                self._in_file.count,
                self._before.count if self._past else None,
                tuple(self._in_file.rows),
                tuple(self._before.rows),
            ),
            near_duplicates=self._near.count,
            near_duplicate_rows=tuple(self._near.rows),
            faults=tuple(
                Fault(it.field, it.reason, it.count, tuple(it.rows), tuple(it.values)) for it in faults
            ),
            warnings=tuple(CheckWarning(it.reason, it.count, tuple(it.rows)) for it in warnings),
            badges=self.badges() if badges is None else badges,
            columns=tuple(
                CheckedColumn(column, its, tuple(samples)) for column, (its, samples) in self._columns.items()
            ),
            would=self._would(self._past.once_more) if self._past else None,
            calls=calls,
            seconds=seconds,
            waiting=state.waiting if state else None,
            incomplete=self.incomplete,
            valid=self.good,
            groups=tuple(groups),
        )

    def _would(self, again: int) -> Would:
        accepted, invalid = self._accepted, self._new_invalid
        held = self._near.count if self._hold_repeats else 0
        return Would(accepted, self.rows - accepted - invalid - held, invalid, held, again)

    def _cost(self, state: OrgState | None) -> tuple[int | None, float | None]:
        """Return how many calls the rows need, and the seconds until all are sent, behind what waits."""
        if state is None or state.pace is None:
            return None, None
        return -(-self._accepted // state.pace.width), state.seconds_for(state.waiting + self._accepted)

    @staticmethod
    def _note(groups: dict[object, _Group], problem: Invalid, row: str, value: object = None) -> None:
        key: object = (problem.field, _OF_ONE_ROW.sub("", problem.reason))
        if key not in groups and len(groups) >= _MOST_GROUPS:
            key, problem = None, Invalid(None, f"something else, at first: {problem}")
        groups.setdefault(key, _Group(problem.field, problem.reason)).add(row, value)


def check_rows(checking: Checking, rows: Iterable[Source]) -> Iterator[Checking]:
    """Check every row and accept none; yields the same check, ever fuller, every 1,000 rows.

    Raises:
        FileError: the file turns out to be damaged half-way; the check has what came before.
    """
    remaining = iter(rows)
    while True:
        chunk, cut_off = next_chunk(remaining)
        checking.add(chunk)
        yield checking
        if cut_off:
            raise cut_off
        if not chunk:
            return
