"""Columns in which day and month may have changed places, though most of their cells look right.

Either a format is said that isn't the file's, or a spreadsheet of another country took the days up to 12 for
months and left the others as text; it may have been saved as text since. What the first rows show is refused,
what shows only later is told at last.
"""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import permutations
from typing import Final, NamedTuple

from worker.domain.item import Remarks
from worker.domain.localdates import DateFormat, is_certain, shown
from worker.domain.numbers import CellDate
from worker.domain.text import escaped
from worker.errors import ConfigError

_BY_DAY: Final = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d\d)(?!\d)", re.ASCII)
_BY_YEAR: Final = re.compile(r"\d{4}([-/.])(\d{1,2})\1(\d{1,2})(?!\d)", re.ASCII)
_MONTHS: Final = 12
_ENOUGH: Final = 5  # different dates of each kind; by chance it is so in one file of a thousand
_MOST_KNOWN: Final = 8_192  # a file has few days
_DAY_LENGTH: Final = len("31/12/2026")  # at most; what time of day stands behind it says nothing here
_REAL, _YEAR_FIRST = "real", "year first"  # how dates are written; else by what stands between day and month
_EITHER, _ALIKE, _BEYOND = "either", "alike", "beyond"  # which of day and month is the month; beyond 12
_READ, _READ_BOTH_WAYS, _READ_SWAPPED = "read", "read both ways", "read swapped"


class _Place(NamedTuple):
    """A cell, and its row."""

    row: str
    cell: str


class DayOrder:
    """What the dates of a file tell, column by column, of the order of day and month; bounded."""

    def __init__(self, form: DateFormat | None, name: str) -> None:
        """Begin; ``form`` is how dates are said to be written, and ``name`` the file's."""
        self._form, self._name = form, name
        self._ways = [(way, way.day(), way.day().swapped()) for way in form.ways()] if form else []
        self._day_length = _DAY_LENGTH if not any(" " in one.text for _, one, _ in self._ways) else None
        self._known: set[tuple[str, str, bool]] = set()
        self._written: dict[str, dict[str, dict[str, list[_Place]]]] = {}
        self._reads: dict[str, list[dict[str, _Place]]] = defaultdict(lambda: [{} for _ in self._ways])

    def note(self, field: str, cell: str, row: str) -> None:
        """Take in a cell that isn't empty."""
        text = cell.strip()
        key = (field, text[: self._day_length], is_real := isinstance(cell, CellDate))
        is_epoch = text.isdigit() and not (self._form and self._form.has_as_many(text))
        if key in self._known or is_epoch:
            return
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known.add(key)
        place = _Place(row, text)
        if found := _written(text, is_real=is_real):
            layout, kind = found
            cells = self._written.setdefault(field, {}).setdefault(layout, {}).setdefault(kind, [])
            if len(cells) < _ENOUGH and place.cell not in (it.cell for it in cells):
                cells.append(place)
        if not is_real:
            for (_, one, other), reads in zip(self._ways, self._reads[field], strict=True):
                if _READ not in reads and (how := _how_read(place.cell, one, other)):
                    reads[how] = reads.get(how, place)

    def refuse(self) -> None:
        """Refuse columns that the first rows show to be so.

        Raises:
            ConfigError: there is such a column.
        """
        for field, (why, is_sure) in self._found().items():
            if is_sure:
                raise ConfigError(f"{self._name}: {field} has {why}")

    def tell(self, remarks: Remarks) -> None:
        """Say of the whole file which columns are probably so."""
        for field, (why, _) in self._found().items():
            remarks.add(f"{field} has {why}")

    def _found(self) -> dict[str, tuple[str, bool]]:
        """Return by field why it is probably so, and whether that is sure enough to refuse it."""
        fields = dict.fromkeys((*self._written, *self._reads))
        each = {field: self._by_a_spreadsheet(field) or self._by_the_format(field) for field in fields}
        return {field: found for field, found in each.items() if found}

    def _by_a_spreadsheet(self, field: str) -> tuple[str, bool] | None:
        """Say so where all dates that are written in one way are of days up to 12, in another of others."""
        for (dates, its), (texts, of_texts) in permutations(self._written.get(field, {}).items(), 2):
            left, changed = of_texts.get(_BEYOND), its.get(_EITHER)
            if texts in (_REAL, _YEAR_FIRST) or len(of_texts) > 1 or not left or not changed:
                continue
            if _BEYOND in its or self._keep_their_order(changed[0].cell, left[0].cell):
                continue
            is_sure = dates == _REAL or min(len(left), len(changed)) == _ENOUGH
            return _swapped(left[0], changed[0], is_real=dates == _REAL), is_sure
        return None

    def _keep_their_order(self, date: str, text: str) -> bool:
        """Say whether a date is read in the order in which a text is that was left: so both are right."""
        by_day, left = _BY_DAY.match(date), _BY_DAY.match(text)
        read = self._form.read(date) if self._form and by_day else None
        if not by_day or not left or not read:
            return bool(by_day)  # what isn't read is refused in its row
        return (read[0].day == int(by_day[1])) is (int(left[1]) > _MONTHS)

    def _by_the_format(self, field: str) -> tuple[str, bool] | None:
        """Say so where not all dates are as was said, and all would be with day and month swapped."""
        for (way, _, _), reads in zip(self._ways, self._reads[field], strict=True):
            if reads.keys() == {_READ_BOTH_WAYS, _READ_SWAPPED}:
                return _misread(reads[_READ_SWAPPED], way.text, way.swapped().text), True
        return None


def _swapped(left: _Place, changed: _Place, *, is_real: bool) -> str:
    date = f"real dates such as {changed.cell[:10]}" if is_real else f"dates such as {_quoted(changed.cell)}"
    return (
        f"text such as {_quoted(left.cell)} (row {left.row}) only where the day is beyond 12, and {date} "
        f"(row {changed.row}) only up to it: so it looks where a spreadsheet of another country took "
        "days for months, and those dates are wrong. Take the column from its source once more, as text; if "
        "the dates are right, write all of them in one way"
    )


def _misread(place: _Place, said: str, other: str) -> str:
    return (
        f"{_quoted(place.cell)} (row {place.row}), which isn't {said}, and all of its dates can be read as "
        f"{other}: where both are below 13, day and month change places. Say {shown([other])}, or correct "
        f"row {place.row}"
    )


def _quoted(cell: str) -> str:
    return f"“{escaped(cell, 40)}”"


def _how_read(cell: str, one: DateFormat, other: DateFormat) -> str:
    """Say whether one way of writing reads a cell, or only the other, with day and month swapped."""
    day = cell if " " in one.text else cell.partition(" ")[0]
    is_swapped = other.read(day)
    if one.read(day):
        return _READ_BOTH_WAYS if is_swapped else _READ
    return _READ_SWAPPED if is_swapped else ""


def _written(cell: str, *, is_real: bool) -> tuple[str, str] | None:
    if not is_real and (found := _BY_DAY.match(cell)):
        return found[2], _kind(found[1], found[3])
    found = None if is_certain(cell) else _BY_YEAR.match(cell)  # other programs call any text a real date
    return (_REAL if is_real else _YEAR_FIRST, _kind(found[2], found[3])) if found else None


def _kind(one: str, other: str) -> str:
    if max(int(one), int(other)) > _MONTHS:
        return _BEYOND
    return _ALIKE if int(one) == int(other) else _EITHER
