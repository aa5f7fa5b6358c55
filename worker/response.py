"""What the vendor's answer means for each job of a batch: a pure function, no I/O, no clock.

The body is read before the status, since the vendor puts codes inside a 200 or 201 as well. Whatever
comes back, every job gets exactly one outcome, and ``Issued``, ``Rejected`` and ``Deferred`` are only
given on evidence; everything else is ``Unknown``: the badge may or may not have been issued.
What is done about an outcome is decided in ``policy.py``.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

from worker.badge import plain
from worker.job import Job


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that arrived whole."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NoReply:
    """No whole answer; ``sent`` says whether any byte of the request may have left."""

    sent: bool
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Issued:
    """The vendor issued the badge; ``earned_badge_id`` is the identity of what was issued."""

    earned_badge_id: str
    issued_id: str | None = None
    request_id: str | None = None
    expires_on: float | None = None
    expires_on_iso: str | None = None
    warnings: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Certainly not issued, and never will be as it is."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """Certainly not issued, and worth another call; ``spends_attempt`` if the fault is the item's own."""

    code: str
    message: str
    spends_attempt: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """May or may not have been issued."""

    code: str
    message: str


Outcome = Issued | Rejected | Deferred | Unknown


class Signal(StrEnum):
    """What an answer says about the org as a whole; the gate acts on it."""

    OK = "ok"
    THROTTLED = "throttled"
    UNAUTHORIZED = "unauthorized"
    STALE_TOKEN = "stale_token"  # noqa: S105 - a token that fresh credentials replace
    MISCONFIGURED = "misconfigured"
    UNAVAILABLE = "unavailable"
    TOO_LARGE = "too_large"
    REFUSED = "refused"
    IN_DOUBT = "in_doubt"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One outcome for each job of the batch, in its order, and what it all says about the org."""

    outcomes: tuple[Outcome, ...]
    signal: Signal
    code: str = ""
    reason: str = ""
    retry_after_s: float | None = None


# doc: the vendor's codes for a whole request; inferred for 429.
REQUEST_CODES = {
    "401": Signal.UNAUTHORIZED,
    "498": Signal.UNAUTHORIZED,
    "429": Signal.THROTTLED,
    "1060": Signal.TOO_LARGE,
    "4000": Signal.MISCONFIGURED,
    "4001": Signal.UNAVAILABLE,
}
# doc: 521 as a code is "multiple actions running for same customer"; it passes, and is nobody's fault.
BUSY_CODES = frozenset({"521"})
# inferred: the same meanings as the statuses of these numbers; or a whole call's trouble, met half-way.
DEFERRED_CODES = frozenset({"503", *REQUEST_CODES})
STATUSES = {
    400: Signal.REFUSED,
    401: Signal.UNAUTHORIZED,
    403: Signal.MISCONFIGURED,
    404: Signal.MISCONFIGURED,
    405: Signal.MISCONFIGURED,
    413: Signal.TOO_LARGE,
    415: Signal.MISCONFIGURED,
    422: Signal.REFUSED,
    429: Signal.THROTTLED,
    498: Signal.UNAUTHORIZED,
    521: Signal.UNAVAILABLE,
}
# Codes below are HTTP statuses, or mean success somewhere; the vendor's own for a wrong item lie above.
SMALLEST_VENDOR_CODE = 600
RETRY_AFTER_MAX_S = 3600.0
# What is said of a request that a smaller one may escape.
ISOLATED = frozenset({Signal.REFUSED, Signal.TOO_LARGE})


def read_answer(jobs: Sequence[Job], answer: Reply | NoReply) -> Verdict:
    """Decide one outcome per job, in the order of ``jobs``; never raises, whatever the answer holds."""
    if isinstance(answer, NoReply):
        signal = Signal.IN_DOUBT if answer.sent else Signal.UNAVAILABLE
        return _whole(jobs, signal, answer.code, answer.reason)
    body = _json(answer.body)
    rows = _rows(body)
    if failure := _request_failure(body, rows, answer.status, len(jobs)):
        signal, code, reason = failure
        return _whole(jobs, signal, code, reason, _retry_after_s(answer.headers))
    if rows:
        outcomes = _match(jobs, rows)
        if all(isinstance(outcome, Unknown) for outcome in outcomes):
            reason = "no row of the answer says for certain how an item went"
            return Verdict(outcomes, Signal.IN_DOUBT, str(answer.status), reason)
        return Verdict(outcomes, Signal.OK, str(answer.status))
    signal = _status_signal(answer.status)
    reason = f"the vendor answered {answer.status} {_excerpt(answer.body)}".rstrip()
    return _whole(jobs, signal, str(answer.status), reason, _retry_after_s(answer.headers))


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the answer: whose it is, as far as it says, and how it went; ``bare`` without any data."""

    owner: tuple[str, str] | None
    position: int | None
    outcome: Outcome
    bare: bool = False

    @property
    def error(self) -> tuple[str, str] | None:
        return (
            (self.outcome.code, self.outcome.message)
            if isinstance(self.outcome, Rejected | Deferred)
            else None
        )


def _whole(
    jobs: Sequence[Job], signal: Signal, code: str, reason: str, retry_after_s: float | None = None
) -> Verdict:
    outcome: Outcome = Deferred(code, reason)
    if signal is Signal.IN_DOUBT:
        outcome = Unknown(code, reason)
    elif signal in ISOLATED and len(jobs) == 1:
        # It can't be made smaller: what was said of the request is said of the item.
        outcome = _failed(code, reason) if signal is Signal.REFUSED else Rejected(code, reason)
        signal = Signal.REFUSED if isinstance(outcome, Rejected) else Signal.OK
    return Verdict((outcome,) * len(jobs), signal, code, reason, retry_after_s)


def _failed(code: str, message: str) -> Rejected | Deferred:
    """Say by the table of codes what an item's error means."""
    if code in BUSY_CODES:
        return Deferred(code, message)
    return Deferred(code, message, True) if code in DEFERRED_CODES else Rejected(code, message)


def _status_signal(status: int) -> Signal:
    if 300 <= status < 400:
        return Signal.MISCONFIGURED
    return STATUSES.get(status, Signal.IN_DOUBT)


def _request_failure(body: Any, rows: list[_Row], status: int, asked: int) -> tuple[Signal, str, str] | None:
    """Find an error of the vendor's that speaks of the whole request."""
    if isinstance(body, Mapping) and not rows and not body.get("data"):
        found, shaped = _error(body.get("errors")), True
        if not found:
            found, shaped = _error(body), False
    else:
        found, shaped = _error_of_all(rows, status, asked), True
    if not found:
        return None
    signal = _error_signal(found[0], status, shaped=shaped)
    # Rows that the status leaves in doubt may yet be as many as the items, and all errors.
    return None if rows and signal is Signal.IN_DOUBT else (signal, *found)


def _error_of_all(rows: list[_Row], status: int, asked: int) -> tuple[str, str] | None:
    """Find the error that stands for all, in rows that are all errors.

    One row without data is how the vendor refuses a request: an assumption. Several that are fewer
    than the items may be what is left of an answer: the rest is in doubt.
    """
    errors = [row.error for row in rows]
    if not errors or not (first := errors[0]) or None in errors:
        return None
    complete = len(rows) == asked
    if all(row.bare for row in rows):
        apart = complete and len(set(errors)) > 1  # which row is whose isn't said: sent again, it will be
        return first if len(rows) == 1 or apart or status in STATUSES else None
    same_code = len({error[0] for error in errors if error}) == 1
    return first if complete and same_code and first[0] in REQUEST_CODES else None


def _error_signal(code: str, status: int, *, shaped: bool) -> Signal:
    """Say what an error means that stands for all; ``shaped`` as the vendor's are, and not a gateway's."""
    if code in REQUEST_CODES:
        return REQUEST_CODES[code]
    number = int(code) if code.isascii() and code.isdigit() else None
    is_vendors = number is not None and (number >= SMALLEST_VENDOR_CODE or code in BUSY_CODES)
    if status in (200, 201):
        if is_vendors or (shaped and number is None):
            return Signal.REFUSED
        return _status_signal(number or 0)
    return Signal.REFUSED if status == 404 and is_vendors else _status_signal(status)


def _match(jobs: Sequence[Job], rows: list[_Row]) -> tuple[Outcome, ...]:
    """Match rows to jobs: by position and content, then by content, then what is left over by number."""
    outcomes: dict[int, Outcome] = {}
    owners = [(job.badge.badge_meta_id, str(job.badge.customer_id)) for job in jobs]
    loose = _match_by_position(owners, _once(rows), outcomes)
    loose = _match_by_content(owners, loose, outcomes)
    outcomes |= _left_over(owners, loose, outcomes)
    unmatched = Unknown("unmatched", "the answer has no row that is certainly this job's")
    return tuple(outcomes.get(n, unmatched) for n in range(len(jobs)))


def _once(rows: list[_Row]) -> list[_Row]:
    """Drop repetitions of rows that have an identity: a position, or what was issued."""
    kept: dict[_Row | int, _Row] = {}
    for n, row in enumerate(rows):
        kept.setdefault(row if row.position or isinstance(row.outcome, Issued) else n, row)
    return list(kept.values())


def _match_by_position(
    owners: list[tuple[str, str]], rows: list[_Row], outcomes: dict[int, Outcome]
) -> list[_Row]:
    """Take rows whose requestId ends in the position of an item with their badge and customer.

    That it is the position is inferred. To tell items of the same badge and customer apart it is only
    trusted in an answer that bears it out: nowhere wrong, and right for all items, or for a unique one.
    """
    times = Counter(owners)
    placed: dict[int, list[_Row]] = defaultdict(list)
    loose, trusted = [], True
    for row in rows:
        at = (row.position or 0) - 1
        if 0 <= at < len(owners) and row.owner == owners[at]:
            placed[at].append(row)
        else:
            loose.append(row)
            trusted = trusted and (row.position is None or row.owner not in times)
    borne_out = len(placed) == len(owners) or any(times[owners[at]] == 1 for at in placed)
    trusted = trusted and borne_out and all(len(claims) == 1 for claims in placed.values())
    for at, claims in placed.items():
        if times[owners[at]] > 1 and not trusted:
            loose += claims
        elif len({type(row.outcome) for row in claims}) == 1:
            outcomes[at] = claims[0].outcome
        else:
            outcomes[at] = Unknown("contradiction", "the answer has rows for it that contradict each other")
    return loose


def _match_by_content(
    owners: list[tuple[str, str]], rows: list[_Row], outcomes: dict[int, Outcome]
) -> list[_Row]:
    """Take rows by badge and customer, where there are as many rows as items and all went the same way."""
    waiting: dict[tuple[str, str], list[int]] = defaultdict(list)
    for n, owner in enumerate(owners):
        if n not in outcomes:
            waiting[owner].append(n)
    answered: dict[tuple[str, str] | None, list[_Row]] = defaultdict(list)
    for row in rows:
        answered[row.owner].append(row)
    for owner, places in waiting.items():
        theirs = answered.get(owner, [])
        if len(theirs) == len(places) and len({type(row.outcome) for row in theirs}) == 1:
            outcomes.update((n, row.outcome) for n, row in zip(places, theirs, strict=True))
            del answered[owner]
    return [row for rows_of_one in answered.values() for row in rows_of_one]


def _left_over(
    owners: list[tuple[str, str]], rows: list[_Row], outcomes: Mapping[int, Outcome]
) -> dict[int, Outcome]:
    """As many failed rows as items: none of these items was issued, whichever row is whose."""
    missing = [n for n in range(len(owners)) if n not in outcomes]
    errors = [row.error for row in rows]
    if len(rows) != len(missing) or None in errors:
        return {}
    room = Counter(owners[n] for n in missing)
    known = set(owners)
    named = Counter(row.owner for row in rows if row.owner in known)
    if any(times > room[owner] for owner, times in named.items()):
        return {}  # a row too many for one item is a row too few for another
    if len({row.outcome for row in rows}) == 1:
        return dict.fromkeys(missing, rows[0].outcome)
    codes = sorted({error[0] for error in errors if error})
    tried_again = Deferred(
        "unmatched", f"not issued; the answer doesn't say which of {', '.join(codes)} is its", True
    )
    return dict.fromkeys(missing, tried_again)


def _rows(body: Any) -> list[_Row]:
    """Read the answer's rows; beside real ones, what can't be read is a row too, and tells nothing."""
    if isinstance(body, Mapping) and isinstance(data := body.get("data"), Mapping) and data:
        body = [body]
    if not isinstance(body, list) or not any(map(_is_row, body)):
        return []
    unreadable = _Row(None, None, Unknown("unreadable", "a row of the answer can't be read"))
    return [_row(row) if _is_row(row) else unreadable for row in body]


def _is_row(row: Any) -> bool:
    return isinstance(row, Mapping) and ("data" in row or "errors" in row)


def _row(row: Mapping[str, Any]) -> _Row:
    data = row.get("data")
    bare = not data
    data = data if isinstance(data, Mapping) else {}
    badge, customer = _text(data.get("badgeMetaId")), _text(data.get("customerId"))
    owner = (badge, customer) if badge and customer else None
    request_id = data.get("requestId")
    _, mark, suffix = request_id.rpartition("_") if isinstance(request_id, str) else ("", "", "")
    numbered = mark and suffix.isascii() and suffix.isdigit() and len(suffix) < 7
    bare = bare or (bool(data) and all(value is None for value in data.values()))
    return _Row(owner, int(suffix) if numbered else None, _row_outcome(row, data), bare)


def _row_outcome(row: Mapping[str, Any], data: Mapping[str, Any]) -> Outcome:
    earned = _text(data.get("earnedBadgeId"))
    error = _error(row.get("errors"))
    if error and earned:
        return Unknown("contradiction", f"the row has both an earnedBadgeId and error {error[0]}")
    if error:
        return _failed(*error)
    if not earned:
        return Unknown("no_earned_badge_id", "the row has neither an error nor an earnedBadgeId")
    warnings = row.get("warnings")
    return Issued(
        earned,
        _text(data.get("issuedId")),
        _text(data.get("requestId")),
        _number(data.get("expiresOn")),
        _text(data.get("expiresOnISO")),
        plain(_written(warnings), 240) if warnings else None,
    )


def _error(errors: Any) -> tuple[str, str] | None:
    """Read ``errors`` as null, an object (both doc), an array of objects (its siblings'), or text."""
    if isinstance(errors, list):
        # No deeper: nesting without end must not end the worker's stack.
        return next((found for found in map(_error, errors) if found), None) if _is_flat(errors) else None
    if isinstance(errors, Mapping):
        code, message = _text(errors.get("code")), errors.get("message")
        if not code and not message:
            return None
        text = message if isinstance(message, str) else _written(message) if message else ""
        return plain(code or "error", 32), plain(text, 240)
    return ("error", plain(errors, 240)) if isinstance(errors, str) and errors.strip() else None


def _is_flat(errors: list[Any]) -> bool:
    return not any(isinstance(error, list) for error in errors)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After, in seconds or as a date relative to the answer's own; capped at an hour."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:20]), RETRY_AFTER_MAX_S)
    try:
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(wait.total_seconds(), 0.0), RETRY_AFTER_MAX_S)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _text(value: Any) -> str | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return plain(str(value), 64).strip() or None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 1e15 else None


def _written(value: Any) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply to be shown)"


def _excerpt(body: bytes) -> str:
    text = plain(body[:200].decode("utf-8", "replace"), 120).strip()
    return f"({text})" if text else "(no body)"
