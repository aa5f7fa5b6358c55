"""The cells of one sheet, row by row, in memory that doesn't grow: what is written, not yet what it means.

What a number means is in ``xlsx_cells.py``; which cell is which field, in
``xlsx_rows.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple, Self

from worker.errors import FileError
from worker.files.text import MAX_RECORD
from worker.files.xlsx_package import LARGEST_SHEET, Package, Xml
from worker.files.xlsx_quick import QuickRow, cells_in, pieces

LAST_ROW: Final = 1_048_576
_LAST_COLUMN: Final = 16_384
_MOST_MERGED: Final = 100_000
_DIGITS: Final = "0123456789"
_TRUE: Final = frozenset(("1", "true", "on"))
_AFTER_CELLS: Final = re.compile(rb"</(?:\w+:)?sheetData>|<(?:\w+:)?sheetData\s*/>")
_MERGED: Final = re.compile(
    rb"<(?:\w+:)?mergeCell\s[^<>]*?\bref=[\"']\$?([A-Z]{1,3})\$?(\d{1,7}):\$?([A-Z]{1,3})\$?(\d{1,7})[\"']"
)
_OVERLAP: Final = 200
_IS_HIDDEN: Final = re.compile(f' hidden="(?:{"|".join(_TRUE)})"| ht="0+(?:[.]0+)?"')
_NO_SIZE: Final = re.compile("0+([.]0+)?")
_CELLS: Final = re.compile(r"\$?([A-Z]{1,3})\$?(\d{1,7}):\$?([A-Z]{1,3})\$?(\d{1,7})", re.ASCII)
_FILLING: Final = ("array", "dataTable")  # kinds of formulas that fill cells beside their own
_MOST_FILLING: Final = 1_000  # at once


class Cell(NamedTuple):
    """A cell as it is written: its type, the number of its style, its text, and its formula if it has one."""

    kind: str
    style: str
    text: str
    formula: str | None


class Row(NamedTuple):
    """A row that has cells, by their columns from 1."""

    number: int
    hidden: bool
    cells: dict[int, Cell]


class Range(NamedTuple):
    """A rectangle of cells, its corners included."""

    left: int
    top: int
    right: int
    bottom: int

    def __str__(self) -> str:
        return f"{letters(self.left)}{self.top}:{letters(self.right)}{self.bottom}"

    @classmethod
    def of(cls, left: str, top: str, right: str, bottom: str) -> Self:
        """Return the one between two cells, such as B2 and C7."""
        return cls(_column(left), int(top), _column(right), int(bottom))

    def has(self, row: int, column: int) -> bool:
        """Say whether a cell lies in it."""
        return self.top <= row <= self.bottom and self.left <= column <= self.right


def is_true(text: str | None) -> bool:
    """Read a truth value; a missing one is false."""
    return text in _TRUE


def _is_unseen(has: Mapping[str, str], size: str) -> bool:
    """Say whether a row or column isn't shown: hidden, or without a height or width."""
    return is_true(has.get("hidden")) or bool(_NO_SIZE.fullmatch(has.get(size, "")))


def whole(text: str | None) -> int:
    """Read a number that counts something; 0 where there is none."""
    return int(text) if text and len(text) < 10 and text.isascii() and text.isdecimal() else 0


def letters(column: int) -> str:
    """Write a column from 1 as Excel does: A, B, … AA."""
    name = ""
    while column:
        column, rest = divmod(column - 1, 26)
        name = chr(65 + rest) + name
    return name


def _column(name: str) -> int:
    column = 0
    for letter in name:
        column = column * 26 + ord(letter) - 64
    return column


@dataclass(slots=True)
class Sheet:
    """A sheet of a package; ``hidden_columns`` is known once its first row was read."""

    package: Package
    part: str
    name: str
    hidden: bool = False
    hidden_columns: list[range] = field(default_factory=list)

    def rows(self) -> Iterator[Row]:
        """Give the rows that have cells; those of a damaged sheet up to the damage.

        Raises:
            FileError: the sheet is damaged.
        """
        reader = _Reader(self)
        with self.package.open(self.part, LARGEST_SHEET) as stream:
            for piece in pieces(stream):
                if isinstance(piece, bytes):
                    reader.xml.feed(piece)
                else:
                    reader.take(piece)
                yield from reader.rows
                reader.rows.clear()
            reader.xml.feed(b"")
            yield from reader.rows

    def merged(self) -> list[Range]:
        """Return the merged ranges, which a sheet tells behind its cells.

        Raises:
            FileError: the sheet is damaged: all of it is unpacked for this.
        """
        found: list[Range] = []
        before, behind = b"", False
        with self.package.open(self.part, LARGEST_SHEET) as stream:
            while piece := stream.read(1 << 18):
                text = before + piece
                if not behind and b"sheetData" in text and (end := _AFTER_CELLS.search(text)):
                    behind, text = True, text[end.end() :]
                if behind:
                    found += (Range.of(*map(bytes.decode, it.groups())) for it in _MERGED.finditer(text))
                    text = text[text.rfind(b">") + 1 :]
                before = text[-_OVERLAP:]
                if len(found) > _MOST_MERGED:
                    raise FileError(f"{self.package.name} has more than {_MOST_MERGED:,} merged ranges")
        return found


class _Reader:
    """Takes what the XML of a sheet says, and puts rows together."""

    def __init__(self, sheet: Sheet) -> None:
        self.rows: list[Row] = []
        self._sheet = sheet
        self._columns: dict[str, int] = {}
        self._row, self._column, self._hidden = 0, 0, False
        self._cells: dict[int, Cell] = {}
        self._kind = self._style = ""
        self._formula: str | None = None
        self._value: list[str] = []
        self._text: list[str] = []
        self._size = 0
        self._phonetic = False
        self._filled: list[Range] = []
        self.xml = Xml(sheet.package)
        self.xml.on_start(self._start)
        self.xml.on_end(self._end)

    def _start(self, name: str, has: Mapping[str, str]) -> None:
        if name == "c":
            self._begin_cell(has)
        elif name in ("v", "f") or (name == "t" and not self._phonetic):
            self._text = []
            self.xml.on_text(self._take)
            if name == "f" and has.get("t") in _FILLING and (cells := _CELLS.fullmatch(has.get("ref", ""))):
                self._fill(Range.of(*cells.groups()))
        elif name == "row":
            self._begin_row(has)
        elif name == "rPh":
            self._phonetic = True
        elif name == "col" and _is_unseen(has, "width"):
            self._hide(range(whole(has.get("min")), whole(has.get("max")) + 1))

    def _fill(self, cells: Range) -> None:
        """Note cells that show what a formula in the first of them says; nothing else tells."""
        if len(self._filled) >= _MOST_FILLING:
            raise self._sheet.package.damaged(f"more than {_MOST_FILLING:,} formulas fill the same row")
        self._filled.append(cells)

    def _hide(self, columns: range) -> None:
        if len(self._sheet.hidden_columns) >= _LAST_COLUMN:
            raise self._sheet.package.damaged("it hides more columns than there can be")
        self._sheet.hidden_columns.append(columns)

    def _take(self, text: str) -> None:
        self._size += len(text)
        if self._size > MAX_RECORD:
            raise self._sheet.package.damaged(f"a cell of row {self._row} is longer than {MAX_RECORD:,}")
        self._text.append(text)

    def take(self, rows: Sequence[QuickRow]) -> None:
        """Take rows that are written as most are."""
        columns, made = self._columns, partial(tuple.__new__, Cell)
        for number, attributes, cells in rows:
            self._begin(int(number), hidden=bool(attributes and _IS_HIDDEN.search(attributes)))
            its = self._cells
            for name, style, kind, value, text in cells_in(cells):
                column = columns.get(name) or self._column_named(name)
                if shown := value or text:
                    its[column] = made((kind or "n", style, shown, None))
            if its:
                self._add_row()

    def _begin_row(self, has: Mapping[str, str]) -> None:
        self._begin(whole(has.get("r")) or self._row + 1, hidden=_is_unseen(has, "ht"))

    def _begin(self, number: int, *, hidden: bool) -> None:
        if not self._row < number <= LAST_ROW:
            raise self._sheet.package.damaged(f"row {number} follows row {self._row}")
        self._row, self._column, self._cells = number, 0, {}
        self._hidden = hidden

    def _add_row(self) -> None:
        row, cells = self._row, self._cells
        if self._filled:
            for at, cell in cells.items():
                if cell.formula is None and any(it.has(row, at) for it in self._filled):
                    cells[at] = cell._replace(formula="")
            self._filled = [it for it in self._filled if it.bottom > row]
        self.rows.append(Row(row, self._hidden, cells))

    def _begin_cell(self, has: Mapping[str, str]) -> None:
        name = has.get("r", "").rstrip(_DIGITS)
        self._column = self._column_named(name) if name else self._column + 1
        if self._column > _LAST_COLUMN:
            raise self._sheet.package.damaged(f"row {self._row} has more than {_LAST_COLUMN:,} cells")
        self._kind, self._style = has.get("t", "n"), has.get("s", "")
        self._formula, self._value, self._size = None, [], 0  # of all its parts together

    def _column_named(self, name: str) -> int:
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = self._named(name)
        return column

    def _named(self, name: str) -> int:
        column = _column(name) if name.isascii() and name.isupper() and len(name) <= 3 else 0
        if not 0 < column <= _LAST_COLUMN:
            raise self._sheet.package.damaged(f"there is no column {name}")
        return column

    def _end(self, name: str) -> None:
        if name == "v" or (name == "t" and not self._phonetic):
            self._value += self._text
            self.xml.on_text(None)
        elif name == "c":
            if self._value or self._formula is not None:
                text = "".join(self._value)
                self._cells[self._column] = Cell(self._kind, self._style, text, self._formula)
        elif name == "f":
            self._formula = "".join(self._text)
            self.xml.on_text(None)
        elif name == "row":
            if self._cells:
                self._add_row()
        elif name == "rPh":
            self._phonetic = False
