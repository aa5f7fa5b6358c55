"""Merged cells of a sheet: which cells of a row show the value of another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from worker.files.xlsx_sheet import Range


class Merged:
    """The merged ranges that touch columns of fields, asked row by row from above."""

    def __init__(self, ranges: Sequence[Range], fields: Mapping[int, str]) -> None:
        """Take a sheet's merged ranges, and which column is which field."""
        self._fields = fields
        touching = (it for it in ranges if any(it.left <= at <= it.right for at in fields))
        self._waiting = sorted(touching, key=lambda it: -it.top)
        self._open: dict[int, Range] = {}  # of each column the one that goes furthest down

    def at(self, row: int) -> Iterator[tuple[str, Range]]:
        """Give the fields of a row whose cells show another cell's value, each with its range."""
        while self._waiting and self._waiting[-1].top <= row:
            self._begin(self._waiting.pop())
        for at, it in self._open.items():
            if it.bottom >= row and (row, at) != (it.top, it.left):
                yield self._fields[at], it

    def _begin(self, merged: Range) -> None:
        for at in self._fields:
            if merged.left <= at <= merged.right:
                self._open[at] = max(self._open.get(at, merged), merged, key=lambda it: it.bottom)
