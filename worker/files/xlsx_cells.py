"""What a cell of a workbook means: a number as it was typed, a date, a text, an error that is named.

Nothing is guessed: a date has no zone here, and what a formula never was computed to isn't computed.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final

from worker.domain.numbers import EXACT_BELOW, BadCell, CellDate
from worker.domain.text import escaped
from worker.files.xlsx_looks import PLAIN, Look
from worker.files.xlsx_sheet import Cell
from worker.files.xlsx_texts import unescaped
from worker.files.xlsx_workbook import Workbook

_DAY_0: Final = datetime(1899, 12, 30)  # noqa: DTZ001 - a cell's date has no zone
_DAY_0_OF_1904: Final = datetime(1904, 1, 1)  # noqa: DTZ001
_LAST_DAY: Final = datetime(9999, 12, 31)  # noqa: DTZ001
_FIRST_DAY: Final = 61  # March 1900: before it Excel counts a day that never was
_MS_A_DAY: Final = 86_400_000
_ERROR: Final = "the cell shows the error {}: mend its formula, or enter the value"
_NOT_COMPUTED: Final = (
    "the cell is a formula whose value isn't stored in the file: open it in a spreadsheet and save it"
)
_NO_DAY: Final = "the cell is a time without a day"
_DAY_HIDDEN: Final = (
    "the cell is shown as a time, without its day: format the column with day, month and year"
)
_NO_DATE: Final = "the cell is shown as a date, and its number is none that a spreadsheet can show"
_SHORT_DIGITS: Final = 15
_LONG: Final = 10  # digits of a number that counts
_ROUNDED_FROM: Final = 10**15

Value = str | bool | None


class Rounded(str):
    """A number of more digits than a spreadsheet keeps: it may be another than was typed."""

    __slots__ = ()


class Meanings:
    """Says what cells of a workbook mean."""

    def __init__(self, workbook: Workbook) -> None:
        self._workbook = workbook
        self._looks: dict[str, Look] = {}
        self._plain: set[str] = set()

    def value(self, cell: Cell) -> Value:
        """Return a cell's value; ``None`` if it shows nothing.

        Raises:
            FileError: the cell refers to what the workbook doesn't have.
        """
        kind, style, text, formula = cell
        if (
            kind == "n"
            and style in self._plain
            and len(text) < _SHORT_DIGITS
            and text.isascii()
            and text.isdigit()
        ):
            return text  # as most numbers are
        if kind in ("str", "inlineStr"):
            return self._text(text, style)
        if not text:
            return None if formula is None else BadCell.of("formula", formula, _NOT_COMPUTED)
        return self._typed(kind, text, style)

    def _typed(self, kind: str, text: str, style: str) -> Value:
        match kind:
            case "s":
                return self._text(self._workbook.texts[self._number_of("text", text)], style)
            case "b":
                return text == "1"
            case "d":
                return CellDate(text.removesuffix("T00:00:00"))
            case "e":
                return BadCell.of("error", text[:20], _ERROR.format(text[:20]))
        return self._number(text, style)

    def _text(self, text: str, style: str) -> str:
        text = unescaped(text)
        why = "" if style in self._plain else self._look(style).text
        return BadCell.of("text", text, why) if text and why else text

    def _look(self, style: str) -> Look:
        look = self._looks.get(style)
        if look is None:
            looks, at = self._workbook.looks, self._number_of("style", style) if style else 0
            look = self._looks[style] = looks[at] if at < len(looks) else PLAIN
            if look == PLAIN:
                self._plain.add(style)
        return look

    def _number_of(self, what: str, text: str) -> int:
        """Read the number by which a cell refers to something; another's would be another value."""
        number = text.strip()
        if not (number.isascii() and number.isdigit() and len(number) < _LONG):
            raise self._workbook.damaged(f"a cell refers to {what} “{escaped(text, 20)}”")
        return int(number)

    def _number(self, text: str, style: str) -> Value:
        look = self._look(style)
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            return BadCell.of("error", "#NUM!", _ERROR.format("#NUM!"))
        if look.number:
            return BadCell.of("date" if look.kind else "number", _digits(number), look.number)
        if look.kind:
            return self._date(number, look.kind)
        digits = _digits(number).zfill(look.zeros)
        return digits if abs(number) < _ROUNDED_FROM else Rounded(digits)

    def _date(self, number: float, kind: str) -> Value:
        ms = round(number * _MS_A_DAY)  # a cell holds a microsecond, roughly
        day_0, first = (_DAY_0_OF_1904, 0) if self._workbook.is_1904 else (_DAY_0, _FIRST_DAY)
        has_day = not 0 <= ms < _MS_A_DAY
        if kind == "time" or (kind != "date" and not has_day):
            time = (day_0 + timedelta(milliseconds=ms % _MS_A_DAY)).time()
            return BadCell.of("time", str(time), _DAY_HIDDEN if has_day else _NO_DAY)
        if not first * _MS_A_DAY <= ms < (_LAST_DAY - day_0).days * _MS_A_DAY + _MS_A_DAY:
            return BadCell.of("date", "########", _NO_DATE)
        at = day_0 + timedelta(milliseconds=ms)
        if kind == "date" and not ms % _MS_A_DAY:
            return CellDate(at.date().isoformat())
        return CellDate(at.isoformat(timespec="milliseconds" if at.microsecond else "seconds"))


def _digits(number: float) -> str:
    if not number.is_integer():
        return repr(number)
    return str(int(number)) if abs(number) < EXACT_BELOW else f"{number:.15g}".upper()
