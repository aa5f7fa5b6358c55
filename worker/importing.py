"""Importing a file: its rows go to the producer, and what is wrong with them comes back by row.

Finding rows is the work of ``rows.py``, accepting them that of ``producer.py``, and what a report of ours
imported again does is in ``mending.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from worker.badge import Invalid, parse_item
from worker.mending import mend, state_in
from worker.org import Org
from worker.producer import Enqueued, Intake, Noted, Source, accept, new_run
from worker.queue import Queue
from worker.row import FIELDS, Row

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def run_name(file: str) -> str:
    """Return a name for the run of a file that nobody has named: the file's own and something random."""
    stem = (
        _NOT_IN_A_NAME.sub("-", Path(file.removesuffix(".gz")).stem).strip("-.")[:24] if file != "-" else ""
    )
    return new_run(stem or "import")


def import_rows(queue: Queue, org: Org, rows: Iterable[Row], intake: Intake) -> Iterator[Enqueued]:
    """Enqueue every row of a file, chunk by chunk; memory stays flat, and what is yielded is durable.

    Raises:
        FileError: the file turns out to be damaged half-way; what was yielded is accepted.
        StoreError: Redis can't take it; what was yielded is accepted, and importing again is safe.
    """
    for number, (reported, stretch) in enumerate(groupby(rows, key=lambda row: state_in(row) is not None)):
        part = replace(intake, call=f"{intake.call}.{number}")
        take = (
            mend(queue, org, stretch, part) if reported else accept(queue, org, map(_source, stretch), part)
        )
        yield from take


def check_rows(org: Org, rows: Iterable[Row]) -> tuple[int, list[Noted]]:
    """Validate every row without accepting any; returns how many are good, and what is wrong with the others.

    Raises:
        FileError: the file turns out to be damaged half-way.
    """
    good, noted = 0, []
    for source in map(_source, rows):
        badge = source.problem or parse_item(source.item, strict_dates=org.strict_dates)
        if isinstance(badge, Invalid):
            noted.append(Noted(source.row, badge.field, badge.reason, "invalid"))
        else:
            good += 1
    return good, noted


def _source(row: Row) -> Source:
    problem = Invalid(row.field, row.problem) if row.problem else None
    item = row.item and {name: value for name, value in row.item.items() if name in FIELDS}
    return Source(str(row.number), item, row.raw, problem)
