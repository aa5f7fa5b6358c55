"""The columns of people's files that stand for no field: which there are, so that a report has them all.

A report as CSV needs its columns before its first row; so they are looked for beforehand. How a record keeps
these cells is in ``store/record.py``, how a report writes them in ``report.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from worker.operate import deadlist
from worker.operate.deadlist import Filter
from worker.operate.runs import JobReader
from worker.store.record import others_of

MOST = 200  # columns of a report


def of_dead_letters(reports: JobReader, which: Filter) -> tuple[str, ...]:
    """Return the columns that the dead letters that fit have beside the fields."""
    pages = deadlist.pages(reports, which, with_records=True)
    return _together(others_of(it.record) for _, page in pages for it in page)


def of_jobs(reports: JobReader, org: str | None, run: str | None) -> tuple[str, ...]:
    """Return the columns that the jobs of a run, or of all runs, have beside the fields."""
    runs = reports.run_names(org, run)
    return _together(its for org_and_run in runs for its in reports.others(*org_and_run))


def of_rows(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the columns that rows of results have beside the fields."""
    return _together(row.get("columns", {}) for row in rows)


def _together(columns: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for its in columns:
        for name in its:
            if len(names) < MOST:
                names.setdefault(name)
    return tuple(names)
