"""Importing a file: its rows go to the producer, and what is wrong with them comes back by row.

Finding rows is the work of ``files/reader.py``, accepting them that of ``enqueue.py``, and only checking them
that of ``checking.py``; what a report imported again does is in ``mending.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from worker.domain.item import Source
from worker.domain.org import Org
from worker.enqueue import Enqueued, EnqueueOptions, accept, new_run
from worker.errors import FileError
from worker.operate.mending import is_reported, mend
from worker.store import unread
from worker.store.queue import Queue

UNREAD = "{} isn't read to its end: its import goes on, or was broken off"
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


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

    However it is broken off, the run says that it is incomplete, until a file of the same name was read to
    its end under the run's.

    Raises:
        FileError: the file turns out to be cut off or damaged; what was yielded is accepted.
        StoreError: Redis can't take it; what was yielded is accepted, and importing again is safe.
    """
    is_noted, file = False, Path(options.source.file).name
    try:
        for number, (reported, stretch) in enumerate(groupby(rows, key=is_reported)):
            part = replace(options, call=f"{options.call}.{number}")
            for done in (mend if reported else accept)(queue, org, stretch, part):
                if not is_noted:  # at the end it may be too late: a process can be killed
                    unread.note(queue.client, org.name, options.run, file, UNREAD.format(file or "its file"))
                    is_noted = True
                yield done
    except FileError as error:
        unread.note(queue.client, org.name, options.run, file, str(error))
        raise
    unread.take_back(queue.client, org.name, options.run, file)
