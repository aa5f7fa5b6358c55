"""Checking rows before any is accepted: all that is wrong with each, what is known of it, what it would cost.

The command, the console and the intake ask here. What a check says is what an import into a new run then
does; the values it answers with are in ``domain/check.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from worker.domain.badge import Badge, one_case
from worker.domain.check import (
    Check,
    CheckedBadge,
    CheckWarning,
    Duplicates,
    Fault,
    Would,
)
from worker.domain.identity import PAIR_LETTERS, content_id
from worker.domain.invalid import Invalid
from worker.domain.item import Remarks, Source
from worker.domain.org import Org
from worker.domain.parsing import Taken, read_badge, warnings_of
from worker.domain.plain import Plain, plain_rows
from worker.domain.seen import Fingerprints, Met
from worker.enqueue import OF_ANOTHER, invalid_id, next_chunk
from worker.files.columns import AS_THEY_ARE, FIELDS, Names
from worker.operate.checkedcolumns import Columns
from worker.operate.checkedgroups import Groups
from worker.operate.lookingback import Counted, Firsts, LookingBack, Past
from worker.operate.mending import is_reported
from worker.operate.status import OrgState
from worker.store.lookup import Asked
from worker.store.record import Seen

_MOST_BADGES: Final = 1_000


@dataclass(slots=True)
class _Read:
    """A row that isn't plain, as it was read; ``own`` is its producer's own id, but for a report's rows."""

    source: Source
    item: Any
    taken: Taken | Invalid
    is_report: bool

    @property
    def own(self) -> str | None:
        return None if self.is_report or isinstance(self.taken, Invalid) else self.taken.job_id


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
        self._org, self._past, self._hold_repeats = org, past, hold_repeats
        self.good = self.invalid = 0
        self.incomplete: str | None = None
        self._in_file = Counted()
        self._back = LookingBack(past, hold_repeats=hold_repeats)
        self._faults, self._warnings = Groups(), Groups()
        self._badges: Counter[str | None] = Counter()
        self.customers: dict[str, int] = {}  # of each of these badges, in one case, that of its first row
        self._columns = Columns(names)
        # Of badges and customers; of ids that aren't made of them; of jobs that mend.
        self._met, self._others, self._mended = Fingerprints(), Fingerprints(), Fingerprints()

    @property
    def rows(self) -> int:
        """How many rows were checked."""
        return self.good + self.invalid

    def add(self, rows: Sequence[Source]) -> None:
        """Check up to 1,000 rows more."""
        if not self.rows:
            self._columns.look_at(rows)
        reported: list[Source] = []
        told = list(plain_rows(self._org.name, rows))
        taken: list[Badge | Plain] = [*filter(None, told)]  # of good rows
        if len(taken) == len(rows):  # as in most files
            firsts = self._meet_plain(rows, told)  # type: ignore[arg-type] # each is one
        else:
            firsts, taken = Firsts(), []
            read = [its or self._read(row) for row, its in zip(rows, told, strict=True)]
            own = self._back.of_own([*{one.own: None for one in read if isinstance(one, _Read) and one.own}])
            for row, its in zip(rows, read, strict=True):
                if isinstance(its, _Read):
                    self._check(its, own, firsts, taken)
                else:
                    taken.append(its)
                    self._meet(firsts, row.row, its.content)
            reported = [one.source for one in read if isinstance(one, _Read) and one.is_report]
        self.good += len(taken)
        self.invalid += len(rows) - len(taken)
        self._count_badges(taken)
        self._back.look(firsts)
        if self._past and reported:
            self._judge(reported, self._past)

    def _count_badges(self, taken: Sequence[Badge | Plain]) -> None:
        names = [badge.badge_meta_id for badge in taken]
        for badge, count in Counter(names).items():
            known = badge in self._badges or len(self._badges) < _MOST_BADGES
            self._badges[badge if known else None] += count
            if known and (one := one_case(badge)) not in self.customers:
                self.customers[one] = taken[names.index(badge)].customer_id

    def _meet_plain(self, rows: Sequence[Source], told: Sequence[Plain]) -> Firsts:
        contents = [its.content for its in told]
        firsts = Firsts([row.row for row in rows], contents)
        if met := self._met.add_many(contents, PAIR_LETTERS):
            firsts.near = {rows[at].row for at, how in met.items() if how is Met.SIMILAR}
            same = {at for at, how in met.items() if how is Met.SAME}
            self._in_file.add(rows[at].row for at in sorted(same))
            firsts.rows = [row for at, row in enumerate(firsts.rows) if at not in same]
            firsts.contents = [content for at, content in enumerate(contents) if at not in same]
        return firsts

    def _meet(self, firsts: Firsts, row: str, content: str) -> None:
        met = self._met.add(content[:PAIR_LETTERS], content)
        if met is Met.SAME:
            self._in_file.add([row])
        else:
            firsts.add(row, content, is_near=met is Met.SIMILAR)

    def _read(self, row: Source) -> _Read:
        """Read a row that isn't plain."""
        item, org = row.item, self._org
        if is_report := self._may_report and is_reported(row):  # which tells its job's state and org as well
            item = {name: item[name] for name in item if name in FIELDS}
        taken = row.problem or read_badge(item, org=org.name, strict_dates=org.strict_dates)
        return _Read(row, item, taken, is_report=is_report)

    def _check(self, read: _Read, own: Mapping[str, Seen], firsts: Firsts, good: list[Badge | Plain]) -> None:
        """Check one row; what is to be looked for in the past is put to the ``firsts``."""
        row, item, taken = read.source, read.item, read.taken
        if row.warning:
            self._warnings.add(Invalid(None, row.warning), row.row)
        if isinstance(taken, Invalid):
            values = item if isinstance(item, dict) else {}
            for fault in taken.faults:
                self._faults.add(fault, row.row, values.get(fault.field))
            if not read.is_report:
                self._meet_invalid(firsts, row)
            return
        for warning in warnings_of(item, taken.badge):
            self._warnings.add(Invalid(None, warning), row.row)
        good.append(taken.badge)
        if read.own:
            self._meet_own(firsts, row.row, taken, own[read.own])
        elif not read.is_report:
            self._meet(firsts, row.row, content_id(self._org.name, taken.badge))

    def _meet_own(self, firsts: Firsts, row: str, taken: Taken, seen: Seen) -> None:
        """Meet a row with an id of its producer's own; one that is known isn't taken, and makes none near."""
        own, content = str(taken.job_id), content_id(self._org.name, taken.badge)
        met = self._others.add(own, content)
        if met is not Met.NEW:
            self._in_file.add([row])
            if met is Met.SIMILAR:
                self._warnings.add(Invalid("job_id", OF_ANOTHER), row)
            return
        firsts.own[row] = seen
        if seen is not Seen.KNOWN:
            self._met.add(content[:PAIR_LETTERS], own)

    def _meet_invalid(self, firsts: Firsts, row: Source) -> None:
        job_id = invalid_id(row, self._org)
        if self._others.add(job_id, "") is not Met.SAME:
            firsts.invalid.append(Asked(job_id, is_invalid=True))

    def _judge(self, rows: Sequence[Source], past: Past) -> None:
        """Count what a report's rows would do: a mended one is accepted, all others are known.

        What keeps a row that somebody changed from being accepted is warned of.
        """
        judged, back = past.judge(rows, self._org), self._back
        back.accepted += sum(self._mended.add(one.job.id, "") is Met.NEW for one in judged.mended)
        back.accepted += sum(self._mended.add(one.id, "") is Met.NEW for one in judged.again)
        back.new_invalid += sum(noted.kind == "invalid" for noted in judged.noted)
        for noted in judged.noted:
            if noted.kind == "conflict":
                self._warnings.add(Invalid(noted.field, noted.reason), noted.row)

    def remark(self, remarks: Remarks) -> None:
        """Take in what is said of the file beside its rows, and how its columns are called there."""
        for it in remarks.warned():
            self._warnings.put(it.reason, it.count, it.rows)
        self._columns.call(remarks.columns)

    def badges(self) -> tuple[CheckedBadge, ...]:
        """Return the badges of the rows, the most frequent first; those beyond a bound have no name."""
        return tuple(CheckedBadge(badge, rows) for badge, rows in self._badges.most_common())

    def result(self, state: OrgState | None = None, badges: tuple[CheckedBadge, ...] | None = None) -> Check:
        """Return what was found; ``state`` is what the org is doing, for the calls and seconds.

        ``badges`` are those of the rows, where the vendor was asked about them.
        """
        self._back.take_in()
        back = self._back
        faults, warnings = self._faults.most_first(), self._warnings.most_first()
        groups = [it.as_first_version("invalid") for it in faults]
        groups += [it.as_first_version("warning") for it in warnings if it.rows]
        calls, seconds = self._cost(state) if self._past else (None, None)
        return Check(
            rows=self.rows,
            good=self.good,
            invalid=self.invalid,
            duplicates=Duplicates(
                self._in_file.count,
                back.before.count if self._past else None,
                tuple(self._in_file.rows),
                tuple(back.before.rows),
            ),
            near_duplicates=back.near.count,
            near_duplicate_rows=tuple(back.near.rows),
            faults=tuple(
                Fault(it.field, it.reason, it.count, tuple(it.rows), tuple(it.values)) for it in faults
            ),
            warnings=tuple(CheckWarning(it.reason, it.count, tuple(it.rows)) for it in warnings),
            badges=self.badges() if badges is None else badges,
            columns=self._columns.result(),
            would=self._would(self._past.once_more) if self._past else None,
            calls=calls,
            seconds=seconds,
            waiting=state.waiting if state else None,
            incomplete=self.incomplete,
            valid=self.good,
            groups=tuple(groups),
        )

    def _would(self, again: int) -> Would:
        accepted, invalid = self._back.accepted, self._back.new_invalid
        held = self._back.near.count if self._hold_repeats else 0
        return Would(accepted, self.rows - accepted - invalid - held, invalid, held, again)

    def _cost(self, state: OrgState | None) -> tuple[int | None, float | None]:
        """Return how many calls the rows need, and the seconds until all are sent, behind what waits."""
        if state is None or state.pace is None:
            return None, None
        accepted, state = self._back.accepted, state.once_probed()
        assert state.pace  # noqa: S101 - as above
        return -(-accepted // state.pace.width), state.seconds_for(state.waiting + accepted)


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
