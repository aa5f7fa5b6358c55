"""Results as lines of text, JSON Lines or CSV, for files and for HTTP alike."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from worker.job import State
from worker.report import cell, report_row
from worker.row import guarded

_ERROR = ("kind", "code", "message")

ResultForm = Literal["jsonl", "csv"]


class _Echo:
    """A file that hands back what is written to it."""

    def write(self, text: str) -> str:
        return text


def result_lines(rows: Iterable[Mapping[str, Any]], *, form: ResultForm) -> Iterator[str]:
    """Yield a text for each row, ending with its line; before those of a CSV comes one of the columns' names.

    In a CSV a cell that a spreadsheet would change (a formula, a number of more than 15 digits) begins with
    an apostrophe; importing the report takes it away again.
    """
    if form == "jsonl":
        yield from (json.dumps(row) + "\n" for row in rows)
        return
    writer: Any = csv.writer(_Echo())
    yield writer.writerow(_flat(report_row("", "", {"s": State.QUEUED})))
    for row in rows:
        yield writer.writerow([guarded(cell(value)) for value in _flat(row).values()])


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Put the parts of the error into columns of their own, behind the contract's others."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "row":
            flat |= {f"error_{part}": (row["error"] or {}).get(part) for part in _ERROR}
        if name != "error":
            flat[name] = value
    return flat | {"warnings": "; ".join(row["warnings"])}
