"""Importing a file: its rows go to the producer, and what is wrong with them comes back by row.

Finding rows is the work of ``files/reader.py``, accepting them that of ``enqueue.py``; what a report
that is imported again does is in ``mending.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from worker.domain.badge import Invalid, parse_item, warnings_of
from worker.domain.item import Source
from worker.domain.org import Org
from worker.enqueue import Enqueued, EnqueueOptions, accept, new_run
from worker.errors import FileError
from worker.files.columns import FIELDS
from worker.operate.mending import is_reported, mend
from worker.store.queue import CHUNK, Queue

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_OF_ONE_ROW = re.compile(r"“.*”|\d+")  # what differs between rows with the same thing wrong
_MOST_GROUPS = 100


def run_name(file: str) -> str:
    """Return a name for the run of a file that nobody has named: the file's own and something random."""
    stem = (
        _NOT_IN_A_NAME.sub("-", Path(file.removesuffix(".gz")).stem).strip("-.")[:24] if file != "-" else ""
    )
    return new_run(stem or "import")


def import_rows(
    queue: Queue, org: Org, rows: Iterable[Source], options: EnqueueOptions
) -> Iterator[Enqueued]:
    """Enqueue every row of a file, chunk by chunk; memory stays flat, and what is yielded is durable.

    Raises:
        FileError: the file turns out to be cut off or damaged; what was yielded is accepted, and the run says
            that it is incomplete, until a file was read to its end under its name.
        StoreError: Redis can't take it; what was yielded is accepted, and importing again is safe.
    """
    try:
        for number, (reported, stretch) in enumerate(groupby(rows, key=is_reported)):
            part = replace(options, call=f"{options.call}.{number}")
            yield from (mend if reported else accept)(queue, org, stretch, part)
    except FileError as error:
        queue.note_incomplete(org, options.run, str(error))
        raise
    queue.note_incomplete(org, options.run, None)


@dataclass(slots=True)
class Group:
    """Rows of which the same is to be said: how many, and of the first its number, the field and the words.

    ``kind`` is ``invalid``, or ``warning`` where STRICT_DATES alone would refuse them.
    """

    kind: str
    field: str | None
    reason: str
    row: int
    count: int = 0


@dataclass(slots=True)
class Checked:
    """What rows would become: how many are good and how many aren't, and what is to be said of them."""

    valid: int = 0
    invalid: int = 0
    groups: dict[object, Group] = field(default_factory=dict)

    def _add(self, kind: str, problem: Invalid, row: int) -> None:
        key: object = (kind, problem.field, _OF_ONE_ROW.sub("", problem.reason))
        if key not in self.groups and len(self.groups) >= _MOST_GROUPS:
            key, problem = kind, Invalid(None, f"something else, at first: {problem}")
        self.groups.setdefault(key, Group(kind, problem.field, problem.reason, row)).count += 1

    def check(self, row: Source, org: Org) -> None:
        """Validate one row and count it."""
        item = row.item
        if is_reported(row):  # which tells its job's state and org beside the badge
            item = {name: value for name, value in row.item.items() if name in FIELDS}
        issue = row.problem or parse_item(item, org=org.name, strict_dates=org.strict_dates)
        warnings = [row.warning] if row.warning else []
        if isinstance(issue, Invalid):
            self.invalid += 1
            for fault in issue.faults:
                self._add("invalid", fault, int(row.row))
        else:
            self.valid += 1
            warnings += warnings_of(item, issue)
        for warning in warnings:
            self._add("warning", Invalid(None, warning), int(row.row))


def check_rows(org: Org, rows: Iterable[Source]) -> Iterator[Checked]:
    """Validate every row and accept none; yields one account, ever fuller, every 1,000 rows.

    Raises:
        FileError: the file turns out to be damaged half-way.
    """
    checked = Checked()
    for number, row in enumerate(rows):
        if number % CHUNK == 0:
            yield checked
        checked.check(row, org)
    yield checked
