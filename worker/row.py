"""A row of a file to import, and the names that its fields may have."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from worker.textlines import printable

FIELDS: Final = (
    "badgeMetaId",
    "customerId",
    "earnEventDate",
    "earnEventDateISO",
    "earnExpiresOn",
    "earnExpiresOnISO",
    "job_id",
)
"""The names that an item may have."""

NEEDED: Final = FIELDS[:2]
_REPORT: Final = (  # what our own reports add: a person mends a report and imports it again
    *("row", "field", "reason", "run", "org", "state", "attempts", "earnedBadgeId", "issuedId", "requestId"),
    *("warnings", "error", "error_kind", "error_code", "error_message", "enqueued_at", "finished_at"),
)
# The vendor's answer: ignored as well, but only beside other columns of a report. In a person's own file they
# are earnExpiresOn misnamed, and to ignore them there would issue badges that never expire.
_ANSWER_ONLY: Final = ("expiresOn", "expiresOnISO")
_SIGNS_OF_A_REPORT: Final = frozenset(("state", "reason"))
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


def unknown_names(names: Iterable[str]) -> list[str]:
    """Return those names that are neither a field's nor a report's."""
    plain_names = {name: plain(name) for name in names}
    is_report = not _SIGNS_OF_A_REPORT.isdisjoint(plain_names.values())
    return [
        name
        for name, key in plain_names.items()
        if key not in BY_PLAIN_NAME or (key in _ANSWER_NAMES and not is_report)
    ]


def with_hint(name: str) -> str:
    """Quote a name nobody knows, with the one that was probably meant."""
    near = difflib.get_close_matches(plain(name), map(plain, FIELDS), n=1, cutoff=0.7)
    hint = f" (did you mean {BY_PLAIN_NAME[near[0]]}?)" if near else ""
    return f"“{printable(name.strip(), 60)}”{hint}"
