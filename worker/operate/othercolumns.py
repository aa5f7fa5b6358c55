"""The columns of people's files that stand for no field: which there are, so that a report has them all.

A report as CSV needs its columns before its first row; so they are looked for beforehand. How a record keeps
these cells is in ``store/record.py``, how a report writes them in ``report.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from worker.operate import deadlist
from worker.operate.deadlist import Filter
from worker.operate.runs import PAGE, JobReader
from worker.store.record import OTHER_NAMES, Record, others_of

MOST = 200  # columns of a report


def of_dead_letters(reports: JobReader, which: Filter) -> tuple[str, ...]:
    """Return the columns that the dead letters that fit have beside the fields."""
    pages = deadlist.pages(reports, which, fields=OTHER_NAMES)
    return _names(it.record for _, page in pages for it in page)


def of_jobs(reports: JobReader, org: str | None, run: str | None) -> tuple[str, ...]:
    """Return the columns that the jobs of a run, or of all runs, have beside the fields."""
    return _names(_records(reports, org, run))


def _records(reports: JobReader, org: str | None, run: str | None) -> Iterator[Record]:
    for its_org, its_run in reports.run_names(org, run):
        ids = list(reports.ids(its_org, its_run))
        for at in range(0, len(ids), PAGE):
            for values in deadlist.columns(reports, its_org, ids[at : at + PAGE], OTHER_NAMES):
                found = zip(OTHER_NAMES, values, strict=True)
                yield {name: value for name, value in found if value is not None}


def _names(records: Iterator[Record]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for record in records:
        for name in others_of(record):
            if len(names) < MOST:
                names.setdefault(name)
    return tuple(names)
