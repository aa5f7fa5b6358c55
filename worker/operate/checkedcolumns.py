"""The columns of a file that is checked: which field each stands for, and some of its cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from worker.domain.check import CheckedColumn
from worker.domain.item import Source
from worker.domain.numbers import BadCell
from worker.domain.text import cell, plain
from worker.files.columns import Names

_MOST: Final = 200
_SAMPLES: Final = 3
_LONGEST: Final = 60


def shown(value: object) -> str:
    """Return what a person sees in a cell."""
    return plain(cell(value.shown if isinstance(value, BadCell) else value), _LONGEST)


class Columns:
    """What the first rows showed of each column, or key."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._found: dict[str, tuple[str | None, list[str]]] = {}

    def look_at(self, rows: Sequence[Source]) -> None:
        """Take in the first rows."""
        column_of = {its: column for column, its in self._names.said.items() if its}
        for row in rows:
            for name, value in row.item.items() if isinstance(row.item, dict) else ():
                self._look_at(column_of.get(name) or name, name, value)
            for other, value in row.others.items():
                self._look_at(other, None, value)

    def _look_at(self, column: str, its: str | None, value: object) -> None:
        key = plain(column, _LONGEST)
        if key not in self._found and len(self._found) >= _MOST:
            return
        _, samples = self._found.setdefault(key, (its, []))
        if len(samples) < _SAMPLES and (text := shown(value)) and text not in samples:
            samples.append(text)

    def call(self, columns: Sequence[str]) -> None:
        """Call them as the file's header does, in its order; also those whose cells are all empty.

        A report keeps the names of its fields.
        """
        if self._names.signs_of_a_report(columns):
            return
        named = {column: self._names.field(column) for column in columns[:_MOST] if column}
        called = {its: key for key, (its, _) in self._found.items() if its}
        found: dict[str, tuple[str | None, list[str]]] = {}
        for column, its in named.items():
            key = plain(column, _LONGEST)
            _, samples = self._found.pop(called.get(its, "") if its else key, (its, []))
            if its and (iso := f"{its}ISO") not in named.values():  # its dates were read, and stand there now
                samples += self._found.pop(called.get(iso, ""), (None, []))[1]
            found[key] = its, samples[:_SAMPLES]
        self._found = found | self._found

    def result(self) -> tuple[CheckedColumn, ...]:
        """Return them."""
        return tuple(
            CheckedColumn(column, its, tuple(samples)) for column, (its, samples) in self._found.items()
        )
