"""A file as a person describes it: from its bytes to rows whose dates are instants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from worker.domain.item import Remarks, Source
from worker.files.columns import AS_THEY_ARE, Names
from worker.files.dated import AS_WRITTEN, Dating, dated
from worker.files.reader import read_rows
from worker.files.xlsx_rows import SheetOptions


class Opened(NamedTuple):
    """A file that is being read: its rows, and what is to be said of it at last."""

    rows: Iterator[Source]
    remarks: Remarks


@dataclass(frozen=True, slots=True)
class Described:
    """What a person says of a file: its columns, whether dates may be left out, its sheet, its dates."""

    names: Names = AS_THEY_ARE
    without_dates: bool = False
    sheet: str | None = None
    hidden_rows: bool = False
    dates: Dating = AS_WRITTEN

    def opened(self, stream: BinaryIO, name: str) -> Opened:
        """Read it so; ``read_rows`` says what of it is read at once.

        Raises:
            FileError: it can't be read as a whole.
            ConfigError: something must be said of it that wasn't.
        """
        rows, remarks = self._rows(stream, name, without_dates=self.without_dates)
        return Opened(dated(rows, self.dates, remarks, name=name), remarks)

    def as_written(self, stream: BinaryIO, name: str) -> Opened:
        """Read it without reading its dates, which may be missing; raises what ``opened`` does."""
        return self._rows(stream, name, without_dates=True)

    def _rows(self, stream: BinaryIO, name: str, *, without_dates: bool) -> Opened:
        sheets = SheetOptions(self.sheet, self.hidden_rows)
        rows = read_rows(stream, name=name, names=self.names, without_dates=without_dates, sheets=sheets)
        return Opened(rows, sheets.remarks)
