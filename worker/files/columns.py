"""The names that the fields of a file may have, and what a spreadsheet would make of its cells."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Self
from unicodedata import normalize

from worker.domain.badge import BadgeIssue
from worker.domain.dates import HourText, read_epoch
from worker.domain.invalid import Invalid
from worker.domain.item import Source
from worker.domain.numbers import INVISIBLE
from worker.domain.spellings import compact_date
from worker.domain.text import escaped

FIELDS: Final = tuple(str(field.alias) for field in BadgeIssue.model_fields.values())
"""The names that an item may have."""

NEEDED: Final = FIELDS[:2]
EPOCHS: Final = ("earnEventDate", "earnExpiresOn")
HOUR_DIGITS: Final = 10  # may be an epoch, or a date to the hour
_REPORT: Final = (  # what our own reports add: a person mends a report and imports it again
    *(
        "row",
        "field",
        "reason",
        "raw",
        "run",
        "state",
        "attempts",
        "earnedBadgeId",
        "issuedId",
        "requestId",
    ),
    *("warnings", "error", "error_kind", "error_code", "error_message", "enqueued_at", "finished_at"),
    *("sent_request_id", "answered_request_id", "undone_at", "undone_by", "undone_note"),
)
# The vendor's answer: ignored as well, but only beside other columns of a report. In a person's own file they
# are earnExpiresOn misnamed, and to ignore them there would issue badges that never expire.
_ANSWER_ONLY: Final = ("expiresOn", "expiresOnISO")
ORG: Final = "org"  # of every row, where it has one: a row that belongs elsewhere is never taken for ours
_TOLD: Final = "state"  # by a report's row of its job, beside the fields
# What a spreadsheet takes for a formula (also in full width), or for a number or date, and writes otherwise.
_CHANGED: Final = re.compile(
    r"'*([=+\-@\uff1d\uff0b\uff0d\uff20\t\r].*|0\d+|\d{12,}|\d+[eE]\d+|\d{1,4}([-/.:]\d{1,4}){1,2})",
    re.DOTALL | re.ASCII,
)
_MAY_BE_CHANGED: Final = frozenset(
    "'=+-@\uff1d\uff0b\uff0d\uff20\t\r0123456789"
)  # what such a cell begins with
RAW_LIMIT: Final = 2_000


def refused(number: int, raw: str, problem: str, field: str | None = None) -> Source:
    """Return a row that can't be an item, and why."""
    return Source(str(number), None, escaped(raw, RAW_LIMIT), Invalid(field, problem))


_NO_PART_OF_A_NAME: Final = re.compile(rf"[\s_-]|{INVISIBLE.pattern}")


def folded(name: str) -> str:
    """Return what is left of a name without case, blanks, dashes, underscores and what can't be seen."""
    whole = name if name.isascii() else normalize("NFC", name)  # a Mac takes letters apart
    return _NO_PART_OF_A_NAME.sub("", whole).casefold()


BY_FOLDED_NAME: Final[dict[str, str | None]] = {
    **{folded(name): None for name in (*_REPORT, *_ANSWER_ONLY)},
    **{folded(name): name for name in FIELDS},
    ORG: ORG,
}
_ANSWER_NAMES: Final = frozenset(map(folded, _ANSWER_ONLY))
_SIGNS: Final = tuple(map(folded, ("reason", "error_kind", "error_code", "earnedBadgeId", "requestId")))


def lacking(names: Iterable[str], signs: Iterable[str]) -> str | None:
    """Say what a report must have and these don't: without a column, a mended badge would lack that field."""
    there = set(map(folded, names))
    absent = [name for name in (*FIELDS, "state") if folded(name) not in there]
    if not absent:
        return None
    return (
        f"a report must keep its {', '.join(absent)}; write it again with badges results. (To import it as "
        f"new rows, which may issue badges again, remove “{'”, “'.join(signs)}”.)"
    )


def guarded(cell: str) -> str:
    """Write a cell so that a spreadsheet leaves it as it is: what it would change gets an apostrophe."""
    return f"'{cell}" if cell[:1] in _MAY_BE_CHANGED and _CHANGED.fullmatch(cell) else cell


def unguarded(cell: str) -> str:
    """Read back what ``guarded`` wrote."""
    return cell[1:] if cell[:1] == "'" and _CHANGED.fullmatch(cell) else cell


class Names:
    """Which field each column of a file, or key of an item, stands for: by its own name, or as a person says.

    A name counts without case, blanks, dashes and underscores.
    """

    def __init__(
        self,
        said: Mapping[str, str | None] | None = None,
        fixed: Mapping[str, str] | None = None,
        *,
        of_profile: bool = False,
        beside: str = "",
    ) -> None:
        """Take what a person says.

        Args:
            said: a column's name, and its field, or None where it is to be ignored.
            fixed: fields that have the same value in every row, and no column.
            of_profile: all columns that are expected are said; others are left out, if they name no field.
            beside: the other options of the command, for one that is proposed.
        """
        self.said: Final = dict(said or {})
        self.fixed: Final = dict(fixed or {})
        self.of_profile: Final = of_profile
        self.beside: Final = beside
        self._said: Final = frozenset(map(folded, self.said))
        self._field: Final = BY_FOLDED_NAME | {folded(column): field for column, field in self.said.items()}
        self._field[ORG] = self._field[ORG] or ORG  # another field, if a person says so, but never ignored
        self.proper: Final = frozenset(name for name in FIELDS if self._field[folded(name)] == name)
        """The names that are written as the field's own, and mean it."""

    @classmethod
    def parse(
        cls, mappings: Iterable[str], fixed: Mapping[str, str] | None = None, *, beside: str = ""
    ) -> Self:
        """Read ``COLUMN=FIELD``, or ``COLUMN=`` for a column to be ignored; ``=`` for those without a name.

        Raises:
            ValueError: one isn't written like that, names no field, or contradicts another.
        """
        said: dict[str, str | None] = {}
        for text in mappings:
            column, sign, field = (part.strip() for part in text.rpartition("="))
            if not sign or (field and not column):
                raise ValueError(f"“{text}” is no mapping: write COLUMN=FIELD, or COLUMN= to ignore a column")
            if field and BY_FOLDED_NAME.get(folded(field)) not in FIELDS:
                hint = with_hint(field)
                raise ValueError(f"“{text}”: there is no field {hint}; the fields are {', '.join(FIELDS)}")
            if folded(column) in map(folded, said):
                raise ValueError(f"the column “{column}” is mapped twice")
            said[column] = BY_FOLDED_NAME[folded(field)] if field else None
            others = [other for other, its in said.items() if its and its == said[column]]
            if len(others) > 1:
                raise ValueError(f"“{others[0]}” and “{others[1]}” are both mapped to {said[column]}")
        return cls(said, fixed, beside=beside)

    def field(self, name: str) -> str | None:
        """Return the field, or ``org``, that a known name stands for; None if it is to be ignored."""
        return self._field.get(folded(name))

    def field_in_report(self, name: str) -> str | None:
        """Return the field, or what else a report's row tells of its job: its state."""
        return _TOLD if folded(name) == _TOLD else self.field(name)

    def means(self, name: str) -> bool:
        """Say whether a name is that of a field, a report's, or mapped."""
        return folded(name) in self._field

    def absent(self, names: Iterable[str]) -> list[str]:
        """Return those columns that a person mapped and that aren't among the names."""
        there = set(map(folded, names))
        return [column for column in self.said if folded(column) not in there]

    def signs_of_a_report(self, names: Iterable[str]) -> list[str]:
        """Return the names that mark one of this program's reports, without those that a person mapped."""
        its = {key: name for name in names if (key := folded(name)) not in self._said}
        both = ("state", "run") if its.keys() >= {"state", "run"} else ()
        return [its[sign] for sign in (*both, *_SIGNS) if sign in its]

    def unknown(self, names: Collection[str]) -> list[str]:
        """Return those names that are neither a field's nor a report's, and aren't mapped.

        A report has the other columns of its file beside its own; all of its own must be there (``lacking``).
        """
        if self.signs_of_a_report(names):
            return [name for name in names if self._is_nameless(name)]
        if self.of_profile:
            return [name for name in names if self._is_nameless(name) or self._is_new_field(name)]
        mistaken = _ANSWER_NAMES - self._said
        return [name for name in names if (key := folded(name)) not in self._field or key in mistaken]

    def left_out(self, names: Iterable[str]) -> list[str]:
        """Return the names that a profile doesn't know, and that stand for no field."""
        if not self.of_profile:
            return []
        return [
            name
            for name in names
            if name.strip() and folded(name) not in self._said and not self._is_new_field(name)
        ]

    def _is_nameless(self, name: str) -> bool:
        return not name.strip() and "" not in self._said

    def _is_new_field(self, name: str) -> bool:
        key = folded(name)
        return key not in self._said and self._field.get(key) in (*FIELDS, ORG)


def fixed_fields(assignments: Iterable[str]) -> dict[str, str]:
    """Read ``FIELD=VALUE``: what every row of a file, or every letter of a replay, has.

    Raises:
        ValueError: one isn't written like that, names no field that rows can share, or contradicts another.
    """
    fixed: dict[str, str] = {}
    for text in assignments:
        name, sign, value = (part.strip() for part in text.partition("="))
        field = BY_FOLDED_NAME.get(folded(name))
        if not sign or not value:
            raise ValueError(f"“{text}” sets nothing: write FIELD=VALUE")
        if field not in FIELDS or field == "job_id":
            hint = "" if field else f"there is no field {with_hint(name)}; "
            raise ValueError(f"“{text}”: {hint}every row can have the same {', '.join(FIELDS[:-1])}")
        if fixed.get(field, value) != value:
            raise ValueError(f"{field} is set twice")
        _refuse_hour(field, value)
        fixed[field] = value
    return fixed


def _refuse_hour(field: str, value: str) -> None:
    """Refuse ten digits that read as a date for a field of epochs, as in a column that has nothing else."""
    if field in EPOCHS and len(value) == HOUR_DIGITS and compact_date(value):
        try:
            read_epoch(HourText(value), field)
        except ValueError as error:
            raise ValueError(f"“{field}={value}”: {error}") from None


AS_THEY_ARE: Final = Names()
"""The names of a file that nobody maps."""


def nearest(name: str) -> str | None:
    """Return the field that was probably meant by a name nobody knows."""
    near = difflib.get_close_matches(folded(name), map(folded, FIELDS), n=1, cutoff=0.7)
    return BY_FOLDED_NAME[near[0]] if near else None


def with_hint(name: str) -> str:
    """Quote a name nobody knows, with the one that was probably meant."""
    hint = f" (did you mean {near}?)" if (near := nearest(name)) else ""
    return f"“{escaped(name.strip(), 60)}”{hint}"
