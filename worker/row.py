"""A row of a file to import, and the names that its fields may have."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from worker.badge import BadgeIssue
from worker.textlines import printable

FIELDS: Final = tuple(str(field.alias) for field in BadgeIssue.model_fields.values())
"""The names that an item may have."""

NEEDED: Final = FIELDS[:2]
_REPORT: Final = (  # what our own reports add: a person mends a report and imports it again
    *(
        "row",
        "field",
        "reason",
        "raw",
        "run",
        "org",
        "state",
        "attempts",
        "earnedBadgeId",
        "issuedId",
        "requestId",
    ),
    *("warnings", "error", "error_kind", "error_code", "error_message", "enqueued_at", "finished_at"),
)
# The vendor's answer: ignored as well, but only beside other columns of a report. In a person's own file they
# are earnExpiresOn misnamed, and to ignore them there would issue badges that never expire.
_ANSWER_ONLY: Final = ("expiresOn", "expiresOnISO")
_SIGNS_OF_A_REPORT: Final = frozenset(("state", "run"))
_TOLD: Final = ("state", "org")  # by a report's row of its job, beside the fields; they stand in its item
# What a spreadsheet takes for a formula, or for a number that it writes otherwise.
_CHANGED: Final = re.compile(r"'*([=+\-@\t\r].*|0\d+|\d{16,}|\d+[eE]\d+)", re.DOTALL | re.ASCII)
RAW_LIMIT: Final = 2_000


@dataclass(frozen=True, slots=True)
class Row:
    """One row: an item (not validated), or the problem that keeps it from being one.

    ``number`` is the line where the record begins or, in a JSON array, the place of the element, both from 1;
    no two rows of a file have the same. ``raw`` is what was written, cut at 2,000 characters. ``problem``
    says what is wrong, and ``field`` where, if it is one field.
    """

    number: int
    item: Mapping[str, Any] | None
    raw: str
    problem: str | None = None
    field: str | None = None


def refused(number: int, raw: str, problem: str, field: str | None = None) -> Row:
    """Return a row that can't be an item, and why."""
    return Row(number, None, printable(raw, RAW_LIMIT), problem, field)


def plain(name: str) -> str:
    """Return what is left of a name without case, blanks, dashes and underscores."""
    return re.sub(r"[\s_-]", "", name).casefold()


BY_PLAIN_NAME: Final[dict[str, str | None]] = {
    **{plain(name): None for name in (*_REPORT, *_ANSWER_ONLY)},
    **{plain(name): name for name in FIELDS},
}
_ANSWER_NAMES: Final = frozenset(map(plain, _ANSWER_ONLY))


def is_report(names: Iterable[str]) -> bool:
    """Say whether these are the columns or keys of a report of ours."""
    return _SIGNS_OF_A_REPORT.issubset(map(plain, names))


def lacking(names: Iterable[str]) -> str | None:
    """Say what a report must have and these don't: without a column, a mended badge would lack that field."""
    there = set(map(plain, names))
    absent = [field for field in FIELDS if plain(field) not in there]
    return (
        f"a report must keep its {', '.join(absent)}; to import it as new rows, remove run"
        if absent
        else None
    )


def guarded(cell: str) -> str:
    """Write a cell so that a spreadsheet leaves it as it is: what it would change gets an apostrophe."""
    return f"'{cell}" if _CHANGED.fullmatch(cell) else cell


def unguarded(cell: str) -> str:
    """Read back what ``guarded`` wrote."""
    return cell[1:] if cell[:1] == "'" and _CHANGED.fullmatch(cell) else cell


class Names:
    """Which field each column of a file, or key of an item, stands for: by its own name, or as a person says.

    A name counts without case, blanks, dashes and underscores.
    """

    def __init__(self, said: Mapping[str, str | None] | None = None) -> None:
        """Take what a person says: a column's name, and its field, or None where it is to be ignored."""
        self.said: Final = dict(said or {})
        self._said: Final = frozenset(map(plain, self.said))
        self._field: Final = BY_PLAIN_NAME | {plain(column): field for column, field in self.said.items()}
        self.proper: Final = frozenset(name for name in FIELDS if self._field[plain(name)] == name)
        """The names that are written as the field's own, and mean it."""

    @classmethod
    def parse(cls, mappings: Iterable[str]) -> Self:
        """Read ``COLUMN=FIELD``, or ``COLUMN=`` for a column to be ignored.

        Raises:
            ValueError: one isn't written like that, names no field, or contradicts another.
        """
        said: dict[str, str | None] = {}
        for text in mappings:
            column, sign, field = (part.strip() for part in text.rpartition("="))
            if not sign or not column:
                raise ValueError(f"“{text}” is no mapping: write COLUMN=FIELD, or COLUMN= to ignore a column")
            if field and not BY_PLAIN_NAME.get(plain(field)):
                hint = with_hint(field)
                raise ValueError(f"“{text}”: there is no field {hint}; the fields are {', '.join(FIELDS)}")
            if plain(column) in map(plain, said):
                raise ValueError(f"the column “{column}” is mapped twice")
            said[column] = BY_PLAIN_NAME[plain(field)] if field else None
            others = [other for other, its in said.items() if its and its == said[column]]
            if len(others) > 1:
                raise ValueError(f"“{others[0]}” and “{others[1]}” are both mapped to {said[column]}")
        return cls(said)

    def field(self, name: str) -> str | None:
        """Return the field that a known name stands for; None if it is to be ignored."""
        return self._field.get(plain(name))

    def field_in_report(self, name: str) -> str | None:
        """Return the field, or what else a report's row tells of its job: its state and org."""
        return key if (key := plain(name)) in _TOLD else self.field(name)

    def means(self, name: str) -> bool:
        """Say whether a name is that of a field, a report's, or mapped."""
        return plain(name) in self._field

    def absent(self, names: Iterable[str]) -> list[str]:
        """Return those columns that a person mapped and that aren't among the names."""
        there = set(map(plain, names))
        return [column for column in self.said if plain(column) not in there]

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Return those names that are neither a field's nor a report's, and aren't mapped."""
        plain_names = {name: plain(name) for name in names}
        ours = is_report(plain_names)
        return [
            name
            for name, key in plain_names.items()
            if key not in self._field or (key in _ANSWER_NAMES - self._said and not ours)
        ]


AS_THEY_ARE: Final = Names()
"""The names of a file that nobody maps."""


def with_hint(name: str) -> str:
    """Quote a name nobody knows, with the one that was probably meant."""
    near = difflib.get_close_matches(plain(name), map(plain, FIELDS), n=1, cutoff=0.7)
    hint = f" (did you mean {BY_PLAIN_NAME[near[0]]}?)" if near else ""
    return f"“{printable(name.strip(), 60)}”{hint}"
