"""A dry run: every row of a file is checked, what is wrong is counted by reason, and nothing is accepted."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from worker.domain.badge import BadgeIssue, Invalid, parse_item, warnings_of
from worker.domain.identity import content_id
from worker.domain.item import Source, Warned
from worker.domain.org import Org
from worker.files.columns import FIELDS
from worker.operate.mending import is_reported
from worker.store.queue import CHUNK

Known = Callable[[Sequence[str]], Sequence[bool]]  # says of each job id whether there is such a job

_OF_ONE_ROW = re.compile(r"“.*”|\d+")  # what differs between rows with the same thing wrong
_MOST_GROUPS = 100
_MOST_BADGES = 1_000
_ROWS_NAMED = 20


@dataclass(slots=True)
class Group:
    """Rows of which the same is to be said: how many, which the first are, the field and the words.

    ``kind`` is ``invalid``, or ``warning`` for what is sent all the same.
    """

    kind: str
    field: str | None
    reason: str
    rows: list[int] = dataclasses.field(default_factory=list)
    count: int = 0

    def add(self, row: int) -> None:
        """Count a row."""
        self.count += 1
        if len(self.rows) < _ROWS_NAMED:
            self.rows.append(row)


@dataclass(slots=True)
class Checked:
    """What rows would become.

    ``good`` rows are valid; of them ``in_file`` equal an earlier row of the file, ``before`` were accepted
    earlier (``None`` where nobody could look), and ``near_duplicates`` have the badge and customer of an
    earlier row, but other dates. Groups and badges stay few; for each row some 100 bytes are kept.
    """

    good: int = 0
    invalid: int = 0
    in_file: int = 0
    before: int | None = None
    near_duplicates: int = 0
    groups: dict[object, Group] = dataclasses.field(default_factory=dict)
    badges: Counter[str | None] = dataclasses.field(default_factory=Counter)
    _jobs: set[int] = dataclasses.field(default_factory=set)
    _pairs: set[int] = dataclasses.field(default_factory=set)

    @property
    def rows(self) -> int:
        """How many rows were checked."""
        return self.good + self.invalid

    def of_kind(self, kind: str) -> list[Group]:
        """Return the groups of a kind, the largest first."""
        return sorted((it for it in self.groups.values() if it.kind == kind), key=lambda it: -it.count)

    def as_json(self) -> dict[str, Any]:
        """Return it as ``badges import --dry-run --json`` prints it; what nobody looks at yet is null."""
        faults, warnings = self.of_kind("invalid"), self.of_kind("warning")
        return {
            "rows": self.rows,
            "good": self.good,
            "invalid": self.invalid,
            "duplicates": {"in_file": self.in_file, "before": self.before},
            "near_duplicates": self.near_duplicates,
            "faults": [
                {"field": it.field, "reason": it.reason, "count": it.count, "rows": it.rows} for it in faults
            ],
            "warnings": [{"reason": it.reason, "count": it.count, "rows": it.rows} for it in warnings],
            "badges": [
                {"badgeMetaId": badge, "rows": rows, "known": None}
                for badge, rows in self.badges.most_common()
            ],
            "calls": None,
            "seconds": None,
            # As the first version had it.
            "valid": self.good,
            "groups": [
                {
                    "kind": it.kind,
                    "field": it.field,
                    "reason": it.reason,
                    "row": it.rows[0],
                    "count": it.count,
                }
                for it in (*faults, *warnings)
                if it.rows
            ],
        }

    def check(self, row: Source, org: Org) -> str | None:
        """Validate one row and count it; return its job's id if it is good and the first of that id here."""
        item = row.item
        if is_reported(row):  # which tells its job's state and org beside the badge
            item = {name: value for name, value in row.item.items() if name in FIELDS}
        issue = row.problem or parse_item(item, org=org.name, strict_dates=org.strict_dates)
        warnings = [row.warning] if row.warning else []
        if not isinstance(issue, Invalid):
            warnings += warnings_of(item, issue.badge)
        for warning in warnings:
            self._note("warning", Invalid(None, warning), int(row.row))
        if isinstance(issue, Invalid):
            self.invalid += 1
            for fault in issue.faults:
                self._note("invalid", fault, int(row.row))
            return None
        self.good += 1
        badge = issue.badge_meta_id
        self.badges[badge if badge in self.badges or len(self.badges) < _MOST_BADGES else None] += 1
        return self._first_of(issue, row, org)

    def _first_of(self, issue: BadgeIssue, row: Source, org: Org) -> str | None:
        own = None if is_reported(row) else issue.job_id  # of a report, the id is that of its dead letter
        job_id = own or content_id(org.name, issue.badge)
        job, pair = hash(job_id), hash((issue.badge_meta_id, issue.customer_id))
        if job in self._jobs:
            self.in_file += 1
            return None
        self.near_duplicates += pair in self._pairs and own is None
        self._jobs.add(job)
        self._pairs.add(pair)
        return job_id

    def remark(self, warnings: Iterable[Warned]) -> None:
        """Take in what is said of the file beside its rows."""
        for it in warnings:
            self.groups["file", it.reason] = Group(
                "warning", None, it.reason, [int(row) for row in it.rows], it.count
            )

    def _note(self, kind: str, problem: Invalid, row: int) -> None:
        key: object = (kind, problem.field, _OF_ONE_ROW.sub("", problem.reason))
        if key not in self.groups and len(self.groups) >= _MOST_GROUPS:
            key, problem = kind, Invalid(None, f"something else, at first: {problem}")
        self.groups.setdefault(key, Group(kind, problem.field, problem.reason)).add(row)


def check_rows(org: Org, rows: Iterable[Source], known: Known | None = None) -> Iterator[Checked]:
    """Validate every row and accept none; yields one account, ever fuller, every 1,000 rows.

    ``known`` says which jobs there are; without it nobody looks at what was accepted before.

    Raises:
        FileError: the file turns out to be damaged half-way.
    """
    checked = Checked(before=0 if known else None)
    remaining = iter(rows)
    while chunk := list(islice(remaining, CHUNK)):
        ids = [job_id for row in chunk if (job_id := checked.check(row, org))]
        if known and checked.before is not None:
            checked.before += sum(known(ids))
        yield checked
    yield checked
