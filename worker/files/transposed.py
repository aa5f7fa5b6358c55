"""Columns in which day and month may have changed places: they are refused, since most cells look right.

Either a format is said that isn't the file's, or a spreadsheet of another country took the days up to 12 for
months and left the others as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from worker.domain.item import Source
from worker.domain.localdates import DateFormat, shown
from worker.domain.numbers import CellDate
from worker.domain.text import escaped
from worker.errors import ConfigError

_BY_DAY: Final = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d\d)(?!\d)", re.ASCII)
_MONTHS: Final = 12

Cells = Mapping[str, Sequence[tuple[Source, str]]]
"""By field, the cells of the first rows that aren't empty, each with its row."""


def refuse_transposed(cells: Cells, form: DateFormat | None, name: str) -> None:
    """Refuse columns that were probably read, or would be, with day and month in each other's place.

    Raises:
        ConfigError: there is such a column.
    """
    for field, its in cells.items():
        if why := _by_a_spreadsheet(its) or (form and _by_the_format(its, form)):
            raise ConfigError(f"{name}: {field} has {why}")


def _by_a_spreadsheet(its: Sequence[tuple[Source, str]]) -> str:
    """Say so where all real dates are of days up to 12, and all texts of later ones."""
    typed = [(row, cell) for row, cell in its if isinstance(cell, CellDate)]
    texts = [
        (row, cell) for row, cell in its if not isinstance(cell, CellDate) and _BY_DAY.match(cell.strip())
    ]
    changed = [(row, cell) for row, cell in typed if cell[5:7] != cell[8:10]]
    if not texts or not changed or any(int(cell[8:10]) > _MONTHS for _, cell in typed):
        return ""
    if any(_may_be_swapped(cell.strip()) for _, cell in texts):
        return ""
    (a_date, date), (a_text, text) = changed[0], texts[0]
    return (
        f"text such as “{escaped(text.strip(), 40)}” (row {a_text.row}) only where the day is beyond 12, and "
        f"real dates such as {date[:10]} (row {a_date.row}) only up to it: so it looks where a spreadsheet "
        "of another country took days for months, and those dates are wrong. Take the column from its "
        "source once more, as text; if the dates are right, make the texts dates as well"
    )


def _may_be_swapped(text: str) -> bool:
    found = _BY_DAY.match(text)
    return found is None or max(int(found[1]), int(found[3])) <= _MONTHS


def _by_the_format(its: Sequence[tuple[Source, str]], form: DateFormat) -> str:
    """Say so where not all dates are as was said, and all would be with day and month swapped."""
    written = [(row, cell.strip()) for row, cell in its if not isinstance(cell, CellDate)]
    for way in form.ways():
        one = way.day()
        other = one.swapped()
        days = [(row, cell, cell if " " in one.text else cell.partition(" ")[0]) for row, cell in written]
        wrong = [(row, cell) for row, cell, day in days if not one.read(day) and other.read(day)]
        right = [day for _, _, day in days if one.read(day)]
        if wrong and right and all(map(other.read, right)):
            (row, cell), other = wrong[0], way.swapped()
            return (
                f"“{escaped(cell, 40)}” (row {row.row}), which isn't {way.text}, and all of its dates can be "
                f"read as {other.text}: where both are below 13, day and month would change places. Say "
                f"{shown([other.text])}, or correct row {row.row}"
            )
    return ""
