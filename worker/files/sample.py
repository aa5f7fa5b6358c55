"""What only the first rows of a file together can tell: which columns hold dates, and what ten digits are.

A column holds dates if 80 % of its cells that aren't empty, among the first 1,000 rows, read as dates.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any, Final, Self

from worker.domain.dates import HourText, looks_like_a_date
from worker.domain.item import Source
from worker.domain.numbers import BadCell, CellDate, is_thousands, may_be_thousands
from worker.domain.spellings import compact_date, is_written_date
from worker.domain.text import escaped
from worker.errors import FileError
from worker.files.columns import EPOCHS, HOUR_DIGITS

ROWS: Final = 1_000
_SHARE: Final = 0.8
_CUSTOMER: Final = "customerId"
_THOUSANDS: Final = "must be a whole number without points: others of the column have them between thousands"
_SHOWN: Final = 5
_WORD: Final = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![^\W\d_A-Z])")  # also of camel case
_OF_EXPIRY: Final = re.compile(
    "expir.*|until|valid|validity|ends?|end(date|time)|validuntil|(ablauf|gültig|verfall|caduc|scad).*"
)
_OF_BEGIN: Final = frozenset(
    ("from", "since", "start", "starts", "begin", "begins", "ab", "von", "seit", "desde", "dal")
)


@dataclass(frozen=True, slots=True)
class Sample:
    """The first rows of a file, and all that come after."""

    first: Sequence[Source]
    rest: Iterator[Source]

    @classmethod
    def of(cls, rows: Iterator[Source]) -> Self:
        """Read the first rows; what ends the reading early is raised again behind them."""
        first: list[Source] = []
        try:
            first.extend(itertools.islice(rows, ROWS))  # keeps what came before an error
        except FileError as error:
            rows = _raising(error)
        return cls(first, rows)

    def fields(self) -> set[str]:
        """Return the fields that at least one row has."""
        return {
            name for row in self.first for name, value in (row.item or {}).items() if not _is_empty(value)
        }

    def date_columns(self) -> dict[str, str]:
        """Return the columns that stand for no field, but hold dates: with "" for numbers, else "ISO"."""
        cells = [(name, value) for row in self.first for name, value in row.others.items()]
        numbers = _mostly(lambda value: str(value).strip().isdigit(), cells)
        return {name: "" if name in numbers else "ISO" for name in _mostly(looks_like_a_date, cells)}

    def everything(self) -> Iterator[Source]:
        """Give all rows as they are."""
        return itertools.chain(self.first, self.rest)

    def rows(self) -> Iterator[Source]:
        """Give all rows; what their columns tell to be meant otherwise is marked, so that it is refused.

        These are ten digits in a column of dates, and 5.000 in one of numbers such as 5.123.
        """
        items = [row.item for row in self.first if row.item]
        cells = [(name, item[name]) for item in items for name in EPOCHS if name in item]
        compact, dates = _mostly(_is_compact, cells), _mostly(_reads_as_a_date, cells)
        everything = self.everything()
        if any(isinstance(cell := item.get(_CUSTOMER), str) and is_thousands(cell) for item in items):
            everything = map(_not_as_fraction, everything)
        return (_marked(row, compact, dates) for row in everything) if dates else everything


def missing_dates(fields: Collection[str]) -> list[str]:
    """Return the dates that none of the fields gives."""
    return [name for name in EPOCHS if not {name, f"{name}ISO"}.intersection(fields)]


def proposed(column: str, suffix: str, missing: Sequence[str]) -> str | None:
    """Return the field that the name of a column of dates speaks for; ``None`` if that isn't missing."""
    words = [word.lower() for word in _WORD.findall(column)]
    ends = any(map(_OF_EXPIRY.fullmatch, words)) and _OF_BEGIN.isdisjoint(words)
    wanted = "earnExpiresOn" if ends else "earnEventDate"
    return f"{wanted}{suffix}" if wanted in missing else None


def unmapped_dates(file: str, columns: Mapping[str, str], missing: Sequence[str]) -> str:
    """Say that a file has dates that nobody mapped, while some are missing, and what to do."""
    shown = ", ".join(f"“{escaped(column, 60)}”" for column in list(columns)[:_SHOWN])
    column, suffix = next(iter(columns.items()))
    meant = proposed(column, suffix, missing)
    option = f"--map {quote(f'{escaped(column, 60)}={meant or missing[0] + suffix}')}"
    advice = f"Map the column, such as with {option}" if meant else f"If it is {missing[0]}, say {option}"
    return (
        f"{file} lacks {' and '.join(missing)}, and {shown} looks like a date. A badge's dates are part of "
        f"what it is: the same row imported later with its date would be issued once more. {advice}; if the "
        "badges are to have no such date, say --without-dates."
    )


def _mostly(reads_so: Callable[[object], bool], cells: Iterable[tuple[str, Any]]) -> list[str]:
    counted: Counter[str] = Counter()
    so: Counter[str] = Counter()
    for name, value in cells:
        if not _is_empty(value):
            counted[name] += 1
            so[name] += reads_so(value)
    return [name for name, count in counted.items() if are_most(so[name], count)]


def are_most(some: int, count: int) -> bool:
    """Say whether so many cells that are so, of all that aren't empty, make a column that is so."""
    return some >= _SHARE * count


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _digits(value: object) -> str:
    return str(value).strip().partition(".")[0] if isinstance(value, str | int) else ""


def _is_compact(value: object) -> bool:
    return compact_date(_digits(value)) is not None


def _reads_as_a_date(value: object) -> bool:
    return _is_compact(value) or isinstance(value, CellDate) or is_written_date(str(value).strip())


def still_hours(item: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Mark ten digits that read as a date and that nobody changed since their row was refused."""
    same = (name for name in EPOCHS if name in item and _digits(item[name]) == _digits(before.get(name)))
    marks = {n: HourText(d) for n in same if len(d := _digits(item[n])) == HOUR_DIGITS and _is_compact(d)}
    return item | marks


def _marked(row: Source, compact: Collection[str], dates: Collection[str]) -> Source:
    """Mark ten digits: all of a column of compact dates; among dates with signs, those that read as one."""
    digits = {name: _digits((row.item or {}).get(name)) for name in dates}
    found = {
        name: HourText(its)
        for name, its in digits.items()
        if len(its) == HOUR_DIGITS and its.isdigit() and (name in compact or _is_compact(its))
    }
    return row._replace(item=(row.item or {}) | found) if found else row


def _not_as_fraction(row: Source) -> Source:
    cell = row.item.get(_CUSTOMER) if row.item else None
    if not isinstance(cell, str) or not may_be_thousands(cell):
        return row
    return row._replace(item=row.item | {_CUSTOMER: BadCell.of("number", cell.strip(), _THOUSANDS)})


def _raising(error: FileError) -> Iterator[Source]:
    raise error
    yield  # which makes it an iterator
