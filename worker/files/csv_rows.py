"""Rows of CSV, whatever its delimiter: a damaged record is one problem, and the others go on."""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from shlex import quote
from typing import Final, Self

from worker.domain.item import Source
from worker.domain.text import escaped
from worker.errors import FileError
from worker.files.columns import (
    FIELDS,
    NEEDED,
    RAW_LIMIT,
    Names,
    lacking,
    nearest,
    refused,
    unguarded,
    with_hint,
)
from worker.files.text import MAX_RECORD, damage_of

_COMPLAINTS: Final = 5
_COLUMNS_SHOWN: Final = 30
_LINES_IN_A_RECORD: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Table:
    """How a CSV file is laid out: a column without a name is ignored, and stands in no item."""

    delimiter: str
    columns: tuple[str | None, ...]
    width: int
    is_report: bool


def open_csv(lines: Iterator[str], number: int, name: str, names: Names) -> Iterator[Source]:
    """Read the header, the first of ``lines`` (line ``number`` of the file), and give the rows below it.

    Raises:
        FileError: the header can't be read, names columns that no badge has, or lacks one that is mapped.
    """
    for at, line in enumerate(lines, number):
        if line.strip() and not re.fullmatch("sep=.", line):  # Excel's hint; the header itself tells
            if problem := damage_of(line):
                raise FileError(f"{name}: the header can't be read: {problem}")
            return _csv_rows(lines, at, _table_of(line, name, names))
    raise FileError(f"{name} is empty")


def _table_of(header: str, name: str, names: Names) -> _Table:
    def split(delimiter: str) -> list[str]:
        try:
            return next(csv.reader([header], delimiter=delimiter, strict=True))
        except csv.Error:
            return []

    delimiter = max(",;\t|", key=lambda sign: sum(map(names.means, split(sign))))
    columns = split(delimiter)
    width = len(columns)
    while columns and not columns[-1].strip():  # a spreadsheet pads its rows
        columns.pop()
    _check_header(columns, name, names, escaped(header, 60))
    ours = names.signs_of_a_report(columns)
    if ours and (problem := lacking(columns, ours)):
        raise FileError(f"{name}: {problem}")
    fields = map(names.field_in_report if ours else names.field, columns)
    return _Table(delimiter, tuple(fields), width, bool(ours))


def _check_header(columns: list[str], name: str, names: Names, begin: str) -> None:
    """Refuse a header with a column missing, unknown, without a name, or there twice."""
    found = Counter(map(names.field, columns))
    unknown = [column.strip() for column in names.unknown(columns)]
    allowed = (
        f"The columns may be {', '.join(FIELDS)}; one of another name is read with --map COLUMN=FIELD, and "
        "ignored with --map COLUMN="
    )
    if absent := names.absent(columns):
        there = ", ".join(f"“{escaped(column.strip(), 60)}”" for column in columns[:_COLUMNS_SHOWN])
        raise FileError(f"{name} has no column “{absent[0]}” that could be mapped; its columns are {there}.")
    if not any(found[field] for field in FIELDS):
        raise FileError(f"{name}: the first line must name the columns, but reads “{begin}”. {allowed}.")
    complaints = [
        f"unknown column {with_hint(column)}" if column else "a column without a name"
        for column in unknown[:_COMPLAINTS]
    ]
    complaints += [f"no column {field}" for field in NEEDED if not found[field]]
    complaints += [f"{found[field]} columns that mean {field}" for field in FIELDS if found[field] > 1]
    if complaints:
        meant = {column: nearest(column) for column in unknown[:_COLUMNS_SHOWN] if column}
        mapped = names.said | {column: None if found[field] else field for column, field in meant.items()}
        pairs = (escaped(f"{column}={field or ''}", 200) for column, field in mapped.items())
        maps = "".join(f" --map {quote(pair)}" for pair in pairs)
        command = f". To be completed: badges import {quote(name)}{maps}" if mapped else "."
        raise FileError(f"{name} has {'; '.join(complaints)}. {allowed}{command}")


class _Lines:
    """An iterator that takes back what it gave, even after its end."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._again: deque[str] = deque()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        return self._again.popleft() if self._again else next(self._lines)

    def give_back(self, lines: list[str]) -> None:
        """Give these lines again, before all others."""
        self._again.extendleft(reversed(lines))


def _csv_rows(lines: Iterator[str], number: int, table: _Table) -> Iterator[Source]:
    source = _Lines(lines)
    for line in source:
        number += 1
        if not line or line.isspace():
            continue
        taken = [line]
        found = _record(taken, source, table)
        if isinstance(found, str):
            source.give_back(taken[1:])
            yield refused(number, line, found)
            continue
        if found:
            yield Source(str(number), found, escaped("\n".join(taken), RAW_LIMIT))
        number += len(taken) - 1


def _record(taken: list[str], source: Iterator[str], table: _Table) -> dict[str, str] | str:
    """Read the record that begins with the line taken; return its item, or what is wrong.

    While a quote is open more lines are taken, and the caller must give them back if the record is refused.
    """
    line = taken[0]
    if len(line) > MAX_RECORD:
        return str(damage_of(line))
    if '"' not in line:
        return _sound(line, _item_in(line.split(table.delimiter), table))
    try:
        cells = next(csv.reader(_feed(taken, source), delimiter=table.delimiter, strict=True))
    except csv.Error as error:
        unclosed = len(taken) > 1 or str(error) == "unexpected end of data"
        problem = (
            "a quote opens here and is not closed properly" if unclosed else f"the row is not CSV: {error}"
        )
        return damage_of(line) or problem
    item = _item_in(cells, table)
    return _misquoted(taken, cells, item) or _sound("\n".join(taken), item)


def _sound(text: str, item: dict[str, str] | str) -> dict[str, str] | str:
    """Return the item, or the damage to it; bytes that are no text harm nothing in a cell that is ignored."""
    problem = damage_of(text)
    if problem and isinstance(item, dict) and len(text) <= MAX_RECORD:
        return problem if any(map(damage_of, item.values())) else item
    return problem or item


def _misquoted(taken: list[str], cells: list[str], item: dict[str, str] | str) -> str | None:
    """Find quotes that the csv module allows but no program writes: what is left of a record cut in two."""
    # No field holds a line break. One that seems to has an unclosed quote, and a later row has closed it.
    if len(taken) > 1 and (isinstance(item, str) or any("\n" in cell.strip() for cell in item.values())):
        return "a quote opens here and is closed only on a later line"
    text = "\n".join(taken)
    if any('"' in cell and '"{}"'.format(cell.replace('"', '""')) not in text for cell in cells):
        return "a quote stands within a cell that is not quoted"
    return None


def _item_in(cells: list[str], table: _Table) -> dict[str, str] | str:
    if len(cells) != table.width:
        return f"the row has {len(cells)} cells, the header {table.width}"
    if table.width > len(table.columns) and any(map(str.strip, cells[len(table.columns) :])):
        return "a cell stands under no column's name"
    item = {
        name: cell
        for name, cell in zip(table.columns, cells, strict=False)
        if name and cell and not cell.isspace()
    }
    if not table.is_report or not item:
        return item
    return {"state": ""} | {name: unguarded(cell) for name, cell in item.items()}  # also where it was emptied


def _feed(taken: list[str], source: Iterator[str]) -> Iterator[str]:
    yield taken[0] + "\n"
    size = len(taken[0])
    while size <= MAX_RECORD and len(taken) < _LINES_IN_A_RECORD and (line := next(source, None)) is not None:
        taken.append(line)
        size += len(line)
        yield line + "\n"
