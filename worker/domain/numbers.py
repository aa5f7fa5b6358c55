"""How a cell becomes a whole number, and why one doesn't: nothing is rounded, completed or guessed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

EXACT_BELOW: Final = 2**53
"""From here on a fraction no longer says which whole number it was."""

LONGEST_NUMBER: Final = 30
_WHOLE: Final = re.compile(r"-?\d{1,30}(\.0+)?", re.ASCII)
_THOUSANDS: Final = re.compile(r"\s*\d{1,3}\.000\s*", re.ASCII)
_GROUPED: Final = re.compile(r"\s*\d{1,3}(\.\d{3})+\s*", re.ASCII)
_SHORTENED: Final = re.compile(r"[+-]?\d+([.,]\d*)?[eE][+-]?\d+", re.ASCII)
# Formats without a shape of their own: they hide in a cell that looks right.
INVISIBLE: Final = re.compile("[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_KINDS: Final = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "an array",
    tuple: "an array",
    type(None): "null",
}


class BadCell(str):
    """What a cell of a spreadsheet shows instead of a value, and why it can't be taken.

    It holds a blank, so that it is refused as well where it is read again, as a text of a report or a replay.
    """

    __slots__ = ("why",)
    why: str

    @classmethod
    def of(cls, what: str, shown: str, why: str) -> BadCell:
        """Return it, as what it is and what it shows."""
        cell = cls(f"{what} {shown}")
        cell.why = why
        return cell

    @property
    def shown(self) -> str:
        """What the cell shows, where that can be told from the value alone."""
        what, _, shown = self.partition(" ")
        return str(self) if what in ("merged", "formula") else shown


class CellDate(str):
    """The date of a spreadsheet's cell, as ISO without an offset: a cell has no zone."""

    __slots__ = ()


class NumberText(str):
    """A number of a JSON file as it is written there, where a float would have lost how."""

    __slots__ = ()


def kind_of(value: object) -> str:
    """Say in words of JSON what a value is; of Python's other types the name."""
    if isinstance(value, NumberText):
        return "a number"
    if isinstance(value, Mapping):
        return "an object"
    return _KINDS.get(type(value)) or type(value).__name__


def whole_number(value: object, fault: Callable[[str], str]) -> int:
    """Read a whole number, given as number or text; ``fault`` says what is wrong with a text.

    ``7.0`` is one as long as it is below 2^53. A text with an exponent isn't; of a float it can't be told.

    Raises:
        ValueError: it isn't one; the text says why.
    """
    if isinstance(value, str):  # first, since files are mostly text
        if len(value) <= LONGEST_NUMBER and value.isascii() and value.isdigit():
            return int(value)
        if isinstance(value, BadCell):
            raise ValueError(value.why)  # noqa: TRY004 - it is the value that is wrong
        return _in_text(value.strip(), fault)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, float):
        raise ValueError(f"must be a whole number, not {kind_of(value)}")  # noqa: TRY004
    return _in_float(value)


def may_be_thousands(text: str) -> bool:
    """Say whether a text is a number as much of Europe writes 555,000; it is read as 555."""
    return bool(_THOUSANDS.fullmatch(text)) and not isinstance(text, NumberText)


def is_thousands(text: str) -> bool:
    """Say whether a text can only be a number with points between its thousands, as 555,123 or 5,000,000."""
    return (
        bool(_GROUPED.fullmatch(text)) and not _THOUSANDS.fullmatch(text) and not isinstance(text, NumberText)
    )


def is_shortened(text: str) -> bool:
    """Say whether a number was written with an exponent, as spreadsheets do with long ones."""
    return bool(_SHORTENED.fullmatch(text))


def invisible_in(text: str) -> str:
    """Name the first invisible character, as a hint that follows a reason; empty if there is none."""
    found = INVISIBLE.search(text)
    return f": it holds an invisible character (U+{ord(found[0]):04X})" if found else ""


def _in_text(text: str, fault: Callable[[str], str]) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(fault(text))
    number = int(text.partition(".")[0])
    if "." in text and abs(number) >= EXACT_BELOW:
        raise ValueError(_INEXACT)
    return number


def _in_float(value: float) -> int:
    if not value.is_integer():
        raise ValueError("must be a whole number, not a fraction")
    if abs(value) >= EXACT_BELOW:
        raise ValueError(_INEXACT)
    return int(value)


_INEXACT: Final = "must be written as a whole number: as a fraction it may have lost its last digits"
