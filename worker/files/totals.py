"""Rows that add up the others: people leave them below a table, and none is a customer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from worker.domain.badge import is_object_id
from worker.domain.item import Remarks
from worker.files.columns import folded

LEFT_OUT: Final = "a row that reads as totals is left out; if it is a customer's, clear the cell that says so"
NO_FIELD: Final = "a row that fills no column of a field is left out"
_WORDS: Final = frozenset(
    map(
        folded,
        (
            *("total", "totals", "grand total", "subtotal", "sum", "count"),
            *("summe", "gesamt", "gesamtsumme", "gesamtergebnis", "zwischensumme", "anzahl"),
            *("somme", "total général", "suma", "totale", "totaal", "итого", "всего"),
            *("合計", "合计", "总计"),
        ),
    )
)
_BEGINNINGS: Final = frozenset(it for word in _WORDS for it in (word[0], word[0].upper()))
_READS_SO: Final = re.compile(f"({'|'.join(_WORDS)})([:(=].*)?")
_ADDS_UP: Final = re.compile(r"\+?(SUM|SUBTOTAL|AGGREGATE|COUNT|COUNTA|AVERAGE|MIN|MAX)\(", re.IGNORECASE)
_OWN_ROW: Final = re.compile(r"@|\[#This Row\]|\$?\b[A-Z]{1,3}:\$?[A-Z]{1,3}\b", re.IGNORECASE)
_ROW_OF_CELL: Final = re.compile(r"\$?\b[A-Z]{1,3}\$?(\d{1,7})\b", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[-+]?\d[\d.,'\s]*[%€$£]?")
_BADGE: Final = "badgeMetaId"
_MAY_BESIDE: Final = frozenset(("customerId", "job_id"))  # with a date, or a badge, it is a customer's


def reads_as_total(text: str) -> bool:
    """Say whether a cell's text calls its row the total: Total, Summe:, Total (2 rows)."""
    return text.lstrip()[:1] in _BEGINNINGS and bool(_READS_SO.fullmatch(folded(text)))


def adds_up(formula: str, row: int) -> bool:
    """Say whether the formula of a cell in this row adds up other rows.

    One that reaches into its own row, such as by a whole column, adds up what one customer has, or counts on
    from row to row; one that takes a single row of another sheet looks up what one customer has.
    """
    if not _ADDS_UP.match(formula) or _OWN_ROW.search(formula):
        return False
    rows = set(_ROW_OF_CELL.findall(formula))
    return str(row) not in rows and not ("!" in formula and len(rows) == 1)


def is_row(others: Iterable[str], remarks: Remarks, row: int) -> bool:
    """Say whether a row that fills no field is one all the same, by its other cells; but a note is told."""
    filled = sum(bool(cell.strip()) for cell in others)
    if filled == 1:
        remarks.add(NO_FIELD, row)
    return filled > 1


class Added:
    """Which cells of a table's rows add up others: of a total, or in each row of a column."""

    def __init__(self) -> None:
        """Begin above the first row."""
        self._columns: set[int] | None = None  # of the last row that was taken

    def is_by_formula(self, row: int, formulas: Mapping[int, str], *, has_customer: bool) -> bool:
        """Say whether formulas, by column, make a row the total.

        What the row above has as well is a column's formula, whatever it adds up; so it is in the first row,
        if a customer's number was typed there (``has_customer``).
        """
        added = {at for at, formula in formulas.items() if adds_up(formula, row)}
        above = self._columns if self._columns is not None else added if has_customer else set()
        if not added <= above:
            return True
        self._columns = added
        return False


def has_badge(item: Mapping[str, object]) -> bool:
    """Say whether a row has a badge's id, so that it is a customer's whatever else it says."""
    badge = item.get(_BADGE)
    return isinstance(badge, str) and is_object_id(badge.strip())


def is_total(item: Mapping[str, str], beside: Iterable[str]) -> bool:
    """Say whether a row without a badge's id calls itself the total.

    It does so where a badge or customer would stand; or where it has but numbers, and neither badge nor date.
    ``beside`` are its cells that stand for no field.
    """
    if reads_as_total(item.get(_BADGE, "")) or reads_as_total(item.get("customerId", "")):
        return not has_badge(item)
    if not item.keys() <= _MAY_BESIDE:
        return False
    cells = [text for cell in (*item.values(), *beside) if (text := cell.strip())]
    named = [cell for cell in cells if not _NUMBER.fullmatch(cell)]
    return bool(named) and all(map(reads_as_total, named))
