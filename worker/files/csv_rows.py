"""Rows of CSV, with any delimiter: a damaged record is one problem, and the others go on."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Self

from worker.domain.item import NOTHING, Remarks, Source
from worker.domain.numbers import INVISIBLE
from worker.domain.text import counted, escaped
from worker.errors import FileError
from worker.files.columns import NEEDED, RAW_LIMIT, refused, unguarded
from worker.files.header import NAMED_AGAIN, Given, Header
from worker.files.sample import Sample
from worker.files.text import MAX_RECORD, Unended, damage_of
from worker.files.totals import LEFT_OUT, is_row, is_total, reads_as_total

_LINES_IN_A_RECORD: Final = 1_000
_LINES_IN_A_HEADER: Final = 10
_AS_TEXT: Final = re.compile(
    r'^="([^"]*)"\s*$'
)  # how a number is written so that spreadsheets keep its digits
_ID_LENGTH: Final = 24  # of a badge's id
_made: Final = partial(tuple.__new__, Source)  # makes one in a third of the time


@dataclass(frozen=True, slots=True)
class _Table:
    """How a CSV file is laid out: which column is which field, and where the others stand with which name."""

    header: Header
    columns: tuple[str | None, ...]
    others: tuple[tuple[int, str], ...]
    is_report: bool
    remarks: Remarks

    @property
    def delimiter(self) -> str:
        """What stands between two cells."""
        return self.header.delimiter

    @property
    def width(self) -> int:
        """How many cells a row has."""
        return self.header.width

    @property
    def is_plain(self) -> bool:
        """Whether each column is a field, and only a badge or customer can call its row the total."""
        columns = self.columns
        badge, customer = (name in columns for name in NEEDED)
        has_ids = badge or (customer and "job_id" not in columns)
        looks_like_an_id = any(len(name) == _ID_LENGTH for name in self.header.columns)
        is_simple = has_ids and not (self.is_report or looks_like_an_id)
        return len(columns) == self.width and all(columns) and is_simple


def open_csv(blocks: Iterator[list[str]], number: int, given: Given) -> Iterator[Source]:
    """Read the header, the first of the lines (line ``number`` of the file), and give the rows below it.

    Raises:
        FileError: the header can't be read, names columns that no badge has, or lacks one that is mapped.
        ConfigError: a date is missing, and a column of dates is neither mapped nor said to be left out.
    """
    lines = _Lines(blocks)
    for at, line in enumerate(lines, number):
        if line.strip() and not re.fullmatch("sep=.", line):  # Excel's hint; the header itself tells
            named = _header_lines(line, lines)
            if problem := next(filter(None, map(damage_of, named)), None):
                raise FileError(f"{given.file}: the header can't be read: {problem}")
            header = Header.read(INVISIBLE.sub("", " ".join(named)), given.file, given.names)
            header.tell(given.remarks)
            table = _table_of(header, given.remarks)
            sample = Sample.of(_csv_rows(lines, at + len(named) - 1, table))
            header.check(sample, without_dates=given.without_dates)
            return sample.rows()
    raise FileError(f"{given.file} is empty")


def _header_lines(line: str, lines: _Lines) -> list[str]:
    """Take the further lines over which the names of columns go, as spreadsheets break them within quotes."""
    named = [line]
    while "".join(named).count('"') % 2:
        if len(named) == _LINES_IN_A_HEADER or (further := next(lines, None)) is None:
            lines.give_back(named[1:])
            return [line]
        named.append(further)
    return named


def _table_of(header: Header, remarks: Remarks) -> _Table:
    columns, is_report = header.columns, header.is_report
    fields = tuple(map(header.field_of, columns))
    others = tuple(
        (at, column.strip()) for at, column in enumerate(columns) if not fields[at] and column.strip()
    )
    return _Table(header, fields, () if is_report else others, is_report, remarks)


class _Lines:
    """The lines of a file, one by one or many at once; it takes back what it gave, even after its end."""

    def __init__(self, blocks: Iterator[list[str]]) -> None:
        self._blocks = blocks
        self.at_hand: deque[str] = deque()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        while not self.at_hand:
            self.at_hand.extend(next(self._blocks))
        return self.at_hand.popleft()

    def give_back(self, lines: Sequence[str]) -> None:
        """Give these lines again, before all others."""
        self.at_hand.extendleft(reversed(lines))

    def take(self) -> list[str] | None:
        """Take all that is at hand, or else the next block; ``None`` at the end."""
        taken = [*self.at_hand]
        self.at_hand.clear()
        return taken or next(self._blocks, None)


def _csv_rows(lines: _Lines, number: int, table: _Table) -> Iterator[Source]:
    is_plain = table.is_plain
    while (block := lines.take()) is not None:
        if is_plain and _is_plain(block, table.delimiter):
            yield from _plain_rows(block, number, lines, table)
            number += len(block)
            continue
        lines.give_back(block)
        while lines.at_hand:
            number += 1
            taken = [next(lines)]
            if row := _row(number, taken, lines, table):
                yield row
            number += len(taken) - 1


def _is_plain(block: list[str], delimiter: str) -> bool:
    """Say whether all lines are as most are: printable ASCII and whole, no quotes, no blanks around cells."""
    text = "".join(block)
    return (
        text.isascii()
        and text.isprintable()
        and '"' not in text
        and not (" " in text and _has_blanks_around(block, text, delimiter))
        and not isinstance(block[-1], Unended)
    )


def _has_blanks_around(block: list[str], text: str, delimiter: str) -> bool:
    """Say whether a cell begins or ends with a blank, or is one."""
    if f" {delimiter}" in text or f"{delimiter} " in text:
        return True
    return any(line[:1] == " " or line[-1:] == " " for line in block)


def _plain_rows(block: list[str], number: int, lines: _Lines, table: _Table) -> Iterator[Source]:
    columns, delimiter, width = table.columns, table.delimiter, table.width
    ids = [columns.index(name) for name in NEEDED if name in columns]
    first, last = ids[0], ids[-1]
    for at, line in enumerate(block, number + 1):
        cells = line.split(delimiter)
        is_whole = len(cells) == width and "" not in cells and len(line) <= RAW_LIMIT
        if is_whole and (
            len(cells[first]) == _ID_LENGTH or (cells[last].isdigit() and not reads_as_total(cells[first]))
        ):
            item = dict(zip(columns, cells))  # noqa: B905 - as many, and in two thirds of the time
            yield _made((str(at), item, line, None, NOTHING, ""))
        elif row := _row(at, [line], lines, table):
            yield row


def _row(number: int, taken: list[str], lines: _Lines, table: _Table) -> Source | None:
    """Read the record that begins with the line taken, and take its other lines; ``None`` if it is blank."""
    if not taken[0] or taken[0].isspace():
        return None
    if len(taken[0]) <= RAW_LIMIT and table.header.is_again(taken[0].split(table.delimiter), number):
        table.remarks.add(NAMED_AGAIN, number)
        return None
    found = _record(taken, lines, table)
    warning = line.warning(number) if isinstance(line := taken[-1], Unended) else ""
    if isinstance(found, str):
        lines.give_back(taken[1:])
        warning = warning if len(taken) == 1 else ""
        del taken[1:]
        return refused(number, taken[0], found)._replace(warning=warning)
    item, others = found
    if not item and not is_row(others.values(), table.remarks, number):
        return None
    if not table.is_report and is_total(item, others.values()):
        table.remarks.add(LEFT_OUT, number)
        return None
    return Source(str(number), item, escaped("\n".join(taken), RAW_LIMIT), None, others, warning)


_Found = tuple[dict[str, str], Mapping[str, str]]


def _record(taken: list[str], source: Iterator[str], table: _Table) -> _Found | str:
    """Read the record that begins with the line taken; return its item and its other cells, or what is wrong.

    While a quote is open more lines are taken, and the caller must give them back if the record is refused.
    """
    line = taken[0]
    if len(line) > MAX_RECORD:
        return str(damage_of(line))
    if '"' not in line:
        cells = line.split(table.delimiter)
        item = _item_in(cells, table)
        problem = _damage(line, item)
    else:
        try:
            reader = csv.reader(
                _feed(taken, source), delimiter=table.delimiter, strict=True, skipinitialspace=True
            )
            cells = next(reader)
        except csv.Error as error:
            return damage_of(line) or _not_csv(str(error), several_lines=len(taken) > 1)
        text = "\n".join(taken)
        plain = (
            cells if table.is_report or '="' not in text else [_AS_TEXT.sub(r"\1", cell) for cell in cells]
        )
        item = _item_in(plain, table, one_line=len(taken) == 1)
        problem = _misquoted(taken, cells, item) or _damage(text, item)
    if problem or isinstance(item, str):
        return problem or str(item)
    if not table.others:
        return item, NOTHING
    return item, {name: cells[at] for at, name in table.others if at < len(cells)}


def _not_csv(words: str, *, several_lines: bool) -> str:
    if several_lines or words == "unexpected end of data":
        return "a quote opens here and is not closed properly"
    if words.startswith("field larger"):
        return f"the row is not CSV: a cell is longer than {csv.field_size_limit():,} characters"
    return "the row is not CSV: something stands between a closing quote and the next delimiter"


def _damage(text: str, item: dict[str, str] | str) -> str | None:
    """Return the damage to a record; bytes that are no text harm nothing in a cell that is ignored."""
    problem = damage_of(text)
    if problem and isinstance(item, dict) and len(text) <= MAX_RECORD:
        return problem if any(map(damage_of, item.values())) else None
    return problem


def _misquoted(taken: list[str], cells: list[str], item: dict[str, str] | str) -> str | None:
    """Find quotes that the csv module allows but no program writes: what is left of a record cut in two."""
    # No field holds a line break. One that seems to has an unclosed quote, and a later row has closed it.
    if len(taken) > 1 and (isinstance(item, str) or any("\n" in cell.strip() for cell in item.values())):
        return "a quote opens here and is closed only on a later line"
    text, at = "\n".join(taken), 0
    for cell in cells:
        if '"' not in cell or _AS_TEXT.fullmatch(cell):
            continue
        quoted = '"{}"'.format(cell.replace('"', '""'))
        at = text.find(quoted, at) + len(quoted)  # behind the one before, or a long row takes minutes
        if at < len(quoted):
            return "a quote stands within a cell that is not quoted"
    return None


def _item_in(cells: list[str], table: _Table, *, one_line: bool = True) -> dict[str, str] | str:
    # Some programs leave out empty cells at the end. In a report that would be a date that somebody removed.
    may_be_short = one_line and not table.is_report
    if len(cells) > table.width or (len(cells) < table.width and not may_be_short):
        return f"the row has {counted(len(cells), 'cell')}, the header {table.width}"
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
