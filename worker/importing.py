"""Importing a file: its rows go to the producer, and what is wrong with them comes back by row.

Finding rows is the work of ``rows.py``, accepting them that of ``producer.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from worker.badge import Invalid, parse_item
from worker.config import Org
from worker.producer import Enqueued, Intake, Noted, Source, accept, new_run
from worker.queue import Queue
from worker.rows import Row, read_rows

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def run_name(file: str) -> str:
    """Return a name for the run of a file that nobody has named: the file's own and something random."""
    stem = _NOT_IN_A_NAME.sub("-", Path(file).stem).strip("-.")[:24] if file != "-" else ""
    return new_run(stem or "import")


def import_file(queue: Queue, org: Org, stream: BinaryIO, *, name: str, intake: Intake) -> Iterator[Enqueued]:
    """Enqueue every row of a file, chunk by chunk; memory stays flat, and what is yielded is durable.

    Raises:
        FileError: the file as a whole can't be read; nothing was accepted.
        StoreError: Redis can't take it; what was yielded is accepted, and importing again is safe.
    """
    sources = (_source(row) for row in read_rows(stream, name=name))
    yield from accept(queue, org, sources, intake)


def check_file(
    org: Org, stream: BinaryIO, *, name: str, on_row: Callable[[], None] = lambda: None
) -> tuple[int, list[Noted]]:
    """Validate every row without accepting any; returns how many are good, and what is wrong with the others.

    Raises:
        FileError: the file as a whole can't be read.
    """
    good, noted = 0, []
    for row in read_rows(stream, name=name):
        source = _source(row)
        badge = source.problem or parse_item(source.item, strict_dates=org.strict_dates)
        if isinstance(badge, Invalid):
            noted.append(Noted(source.row, badge.field, badge.reason, "invalid"))
        else:
            good += 1
        on_row()
    return good, noted


def _source(row: Row) -> Source:
    problem = Invalid(row.field, row.problem) if row.problem else None
    return Source(str(row.number), row.item, row.raw, problem)
