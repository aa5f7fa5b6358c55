"""An item as it came in, before anybody knows whether it is a badge, and what is odd about items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from worker.domain.invalid import Invalid

ROWS_NAMED: Final = 10
NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Source(NamedTuple):
    """One item as it came in: where from, and what it is; ``problem`` if it could not even be read.

    Of a file, ``row`` is the line where the record begins or, in a JSON array, the element's place, both from
    1, and no two have the same; ``raw`` is what was written, cut at 2,000 characters. ``others`` are the
    cells of columns that stand for no field, and ``warning`` is what is odd about the row as it was written.
    """

    row: str
    item: Any
    raw: str = ""
    problem: Invalid | None = None
    others: Mapping[str, Any] = NOTHING
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Warned:
    """What is odd about items that are taken all the same: the reason, how many, and the first of them.

    Of a file as a whole it is said with no rows.
    """

    reason: str
    count: int
    rows: tuple[str, ...]


def add_up(warnings: Iterable[Warned]) -> tuple[Warned, ...]:
    """Put together what has the same reason, in the order of first appearance."""
    by_reason: dict[str, Warned] = {}
    for one in warnings:
        so_far = by_reason.get(one.reason, Warned(one.reason, 0, ()))
        rows = (so_far.rows + one.rows)[:ROWS_NAMED]
        by_reason[one.reason] = Warned(one.reason, so_far.count + one.count, rows)
    return tuple(by_reason.values())


class Remarks:
    """What is to be said of a file beside what is said of its rows: few reasons, bounded.

    ``columns`` are the names of a table's columns, once its header was read.
    """

    MOST: Final = 100

    def __init__(self) -> None:
        self.columns: tuple[str, ...] = ()
        self._by_reason: dict[str, Warned] = {}

    def add(self, reason: str, *rows: int) -> None:
        """Note a reason: for some rows, or else for the file as a whole."""
        if reason in self._by_reason or len(self._by_reason) < self.MOST:
            so_far = self._by_reason.get(reason, Warned(reason, 0, ()))
            has_all = len(so_far.rows) == ROWS_NAMED
            named = so_far.rows if has_all else (*so_far.rows, *map(str, rows))[:ROWS_NAMED]
            self._by_reason[reason] = Warned(reason, so_far.count + len(rows), named)

    def warned(self) -> tuple[Warned, ...]:
        """Return what was noted, in the order of first appearance."""
        return tuple(self._by_reason.values())
