"""The body of an answer, row by row: whose each row is, as far as it says, and how it went."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from worker.domain.badge import one_case
from worker.domain.outcome import Deferred, Issued, Outcome, Rejected, Unknown
from worker.domain.text import plain
from worker.vendor.codes import Meanings

TEXT_LENGTH = 64
EXACT = 1e15  # below it, a float is exact to the unit


class Row(NamedTuple):
    """A row of the answer: whose it is, as far as it says, and how it went; ``bare`` without any data.

    ``position`` and ``request`` are the two parts of its requestId.
    """

    owner: tuple[str, str] | None
    position: int | None
    outcome: Outcome
    bare: bool = False
    request: str = ""

    @property
    def error(self) -> tuple[str, str] | None:
        """Code and message, if the row says that the item failed."""
        match self.outcome:
            case Rejected(code, message) | Deferred(code, message):
                return code, message
        return None


def rows_of(body: Any, meanings: Meanings) -> list[Row]:
    """Read the answer's rows; beside real ones, what can't be read is a row too, and tells nothing."""
    if isinstance(body, dict) and isinstance(data := body.get("data"), dict) and data:
        body = [body]
    if not isinstance(body, list) or not any(map(_is_row, body)):
        return []
    unreadable = Row(None, None, Unknown("unreadable", "a row of the answer can't be read"))
    return [_row(row, meanings) if _is_row(row) else unreadable for row in body]


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and ("data" in row or "errors" in row)


def _row(row: Mapping[str, Any], meanings: Meanings) -> Row:
    there = row.get("data")
    data: Mapping[str, Any] = there if isinstance(there, dict) else {}
    badge, customer = text_in(data.get("badgeMetaId")), text_in(data.get("customerId"))
    owner = (one_case(badge), customer) if badge and customer else None
    request_id = data.get("requestId")
    request, mark, suffix = request_id.rpartition("_") if isinstance(request_id, str) else ("", "", "")
    numbered = mark and suffix.isascii() and suffix.isdigit() and len(suffix) < 7
    bare = not there or (not owner and bool(data) and all(value is None for value in data.values()))
    position = int(suffix) if numbered else None
    return Row(owner, position, _row_outcome(row, data, meanings), bare, request if numbered else "")


def _row_outcome(row: Mapping[str, Any], data: Mapping[str, Any], meanings: Meanings) -> Outcome:
    earned = text_in(data.get("earnedBadgeId"))
    error = error_in(row.get("errors"))
    if error and earned:
        return Unknown("contradiction", f"the row has both an earnedBadgeId and error {error[0]}")
    if error:
        return meanings.failed(*error)
    if not earned:
        return Unknown("no_earned_badge_id", "the row has neither an error nor an earnedBadgeId")
    warnings = row.get("warnings")
    return Issued(
        earned,
        text_in(data.get("issuedId")),
        text_in(data.get("requestId")),
        number_in(data.get("expiresOn")),
        text_in(data.get("expiresOnISO")),
        plain(_written(warnings), 240) if warnings else None,
    )


def error_in(errors: Any) -> tuple[str, str] | None:
    """Read ``errors`` as null, an object (both doc), an array of objects (its siblings'), or text."""
    if errors is None:
        return None
    if isinstance(errors, list):
        # No deeper: nesting without end must not end the worker's stack.
        return next((found for found in map(error_in, errors) if found), None) if _is_flat(errors) else None
    if isinstance(errors, dict):
        code, message = text_in(errors.get("code")), errors.get("message")
        if not code and not message:
            return None
        text = message if isinstance(message, str) else _written(message) if message else ""
        return plain(code or "error", 32), plain(text, 240)
    return ("error", plain(errors, 240)) if isinstance(errors, str) and errors.strip() else None


def _is_flat(errors: list[Any]) -> bool:
    return not any(isinstance(error, list) for error in errors)


def text_in(value: Any) -> str | None:
    """Read a text or a whole number, within ``TEXT_LENGTH`` bytes; ``None`` for anything else."""
    if type(value) is not str:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            return None
        value = str(value)
    return plain(value, TEXT_LENGTH).strip() or None


def number_in(value: Any) -> float | None:
    """Read a number of which a float is still exact; ``None`` for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < EXACT else None


def _written(value: Any) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply to be shown)"
