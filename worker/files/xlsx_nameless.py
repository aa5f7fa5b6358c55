"""Cells of a sheet that stand under no column's name: they aren't read; a column of dates is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from worker.domain.dates import looks_like_a_date
from worker.domain.item import Remarks
from worker.errors import ConfigError
from worker.files.sample import ROWS, are_most
from worker.files.xlsx_sheet import letters

_NAMELESS: Final = "a cell under no column's name isn't read"


class Nameless:
    """Notes such cells."""

    def __init__(self, remarks: Remarks) -> None:
        """Note them there."""
        self._remarks = remarks
        self._dates: dict[int, list[bool]] = {}  # by column, which of its first cells look like dates

    def note(self, row: int, shown: Mapping[int, str]) -> None:
        """Take in what such cells of a row show, by column; what shows nothing is none."""
        for at, text in shown.items():
            if text and len(its := self._dates.setdefault(at, [])) < ROWS:
                its.append(looks_like_a_date(text))
        if any(shown.values()):
            self._remarks.add(_NAMELESS, row)

    def refuse_dates(self, where: str, header: int, missing: Sequence[str]) -> None:
        """Refuse that dates are missing while there is such a column of dates, as far as rows were taken in.

        Raises:
            ConfigError: it is so.
        """
        dates = [at for at, its in sorted(self._dates.items()) if are_most(sum(its), len(its))]
        if missing and dates:
            raise ConfigError(
                f"{where} lacks {' and '.join(missing)}, and column {letters(dates[0])}, which has no name "
                f"in row {header}, looks like a date: name it there; if the badges are to have no such date, "
                "say --without-dates"
            )
