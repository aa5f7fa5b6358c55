"""What the vendor's answer means for each job of a batch: a pure function, no I/O, no clock.

The body is read before the status, since the vendor puts codes inside a 200 or 201 as well. Whatever
comes back, every job gets exactly one outcome, and ``Issued``, ``Rejected`` and ``Deferred`` are only
given on evidence; everything else is ``Unknown``: the badge may or may not have been issued.
What is done about an outcome is decided in ``policy.py``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

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
# doc: 521 in a row is "multiple actions running for same customer"; it passes, and is nobody's fault.
BUSY_CODES = frozenset({"521"})
# inferred: the same meanings as the statuses of these numbers.
DEFERRED_CODES = frozenset({"429", "503"})
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
# Where a vendor-shaped error without any row of data speaks of the request, whatever its code.
REFUSING_STATUSES = frozenset({200, 201, 400, 404, 422})
RETRY_AFTER_MAX_S = 3600.0


def read_answer(jobs: Sequence[Job], answer: Reply | NoReply) -> Verdict:
    """Decide one outcome per job, in the order of ``jobs``; never raises, whatever the answer holds."""
    if isinstance(answer, NoReply):
        signal = Signal.IN_DOUBT if answer.sent else Signal.UNAVAILABLE
        return _whole(jobs, signal, answer.code, answer.reason)
    body = _json(answer.body)
    rows = _rows(body)
    if failure := _request_failure(body, rows, answer.status):
        signal, code, reason = failure
        return _whole(jobs, signal, code, reason, _retry_after_s(answer.headers))
    if rows:
        outcomes = _match(jobs, rows)
        undecided = all(isinstance(outcome, Unknown) for outcome in outcomes)
        return Verdict(outcomes, Signal.IN_DOUBT if undecided else Signal.OK, str(answer.status))
    signal = _status_signal(answer.status)
    reason = f"the vendor answered {answer.status} {_excerpt(answer.body)}".rstrip()
    return _whole(jobs, signal, str(answer.status), reason, _retry_after_s(answer.headers))


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the answer: whose it is, as far as it says, and how it went."""

    owner: tuple[str, str] | None
    position: int | None
    outcome: Outcome

    @property
    def failed(self) -> bool:
        return isinstance(self.outcome, Rejected | Deferred)


def _whole(
    jobs: Sequence[Job], signal: Signal, code: str, reason: str, retry_after_s: float | None = None
) -> Verdict:
    outcome: Outcome
    if signal is Signal.IN_DOUBT:
        outcome = Unknown(code, reason)
    elif signal is Signal.REFUSED and len(jobs) == 1:
        outcome = Rejected(code, reason)
    else:
        outcome = Deferred(code, reason)
    return Verdict((outcome,) * len(jobs), signal, code, reason, retry_after_s)


def _status_signal(status: int) -> Signal:
    if 300 <= status < 400:
        return Signal.MISCONFIGURED
    return STATUSES.get(status, Signal.IN_DOUBT)


def _request_failure(body: Any, rows: list[_Row], status: int) -> tuple[Signal, str, str] | None:
    """Find an error of the vendor's that speaks of the whole request."""
    if rows:
        if any(row.owner or not row.failed for row in rows) and not _all_of_one_request_code(rows):
            return None
        error = rows[0].outcome
        assert isinstance(error, Rejected | Deferred)  # noqa: S101 - what failed means
        code, message = error.code, error.message
    elif isinstance(body, Mapping):
        found = _error(body.get("errors")) or _error(body)
        if not found:
            return None
        code, message = found
    else:
        return None
    if signal := REQUEST_CODES.get(code):
        return signal, code, message
    if status in REFUSING_STATUSES and code != str(status):
        return Signal.REFUSED, code, message
    return (_status_signal(status), code, message) if not rows or status in STATUSES else None


def _all_of_one_request_code(rows: list[_Row]) -> bool:
    codes = {row.outcome.code if isinstance(row.outcome, Rejected | Deferred) else None for row in rows}
    return len(codes) == 1 and next(iter(codes)) in REQUEST_CODES


def _match(jobs: Sequence[Job], rows: list[_Row]) -> tuple[Outcome, ...]:
    """Match rows to jobs: by position and content, then by content, then what is left over by number."""
    outcomes: dict[int, Outcome] = {}
    owners = [(job.badge.badge_meta_id, str(job.badge.customer_id)) for job in jobs]
    loose = _match_by_position(owners, rows, outcomes)
    loose = _match_by_content(owners, loose, outcomes)
    missing = [n for n in range(len(jobs)) if n not in outcomes]
    if missing and len(loose) == len(missing) and all(row.failed for row in loose):
        outcomes.update(_left_over(missing, loose))
    unmatched = Unknown("unmatched", "the answer has no row that is certainly this job's")
    return tuple(outcomes.get(n, unmatched) for n in range(len(jobs)))


def _match_by_position(
    owners: list[tuple[str, str]], rows: list[_Row], outcomes: dict[int, Outcome]
) -> list[_Row]:
    """Take rows whose requestId ends in the position of an item with their badge and customer."""
    loose = []
    for row in rows:
        at = (row.position or 0) - 1
        if 0 <= at < len(owners) and row.owner == owners[at]:
            if not isinstance(outcomes.get(at), Issued):
                outcomes[at] = row.outcome
        else:
            loose.append(row)
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


def _left_over(missing: list[int], rows: list[_Row]) -> dict[int, Outcome]:
    """As many failed rows as items: none of these items was issued, whichever row is whose."""
    if len({row.outcome for row in rows}) == 1:
        return dict.fromkeys(missing, rows[0].outcome)
    codes = sorted({row.outcome.code for row in rows if isinstance(row.outcome, Rejected | Deferred)})
    tried_again = Deferred(
        "unmatched", f"not issued; the answer doesn't say which of {', '.join(codes)} is its", True
    )
    return dict.fromkeys(missing, tried_again)


def _rows(body: Any) -> list[_Row]:
    if isinstance(body, Mapping) and isinstance(body.get("data"), Mapping):
        body = [body]
    if not isinstance(body, list):
        return []
    return [_row(row) for row in body if isinstance(row, Mapping) and ("data" in row or "errors" in row)]


def _row(row: Mapping[str, Any]) -> _Row:
    data = row.get("data")
    data = data if isinstance(data, Mapping) else {}
    badge, customer = data.get("badgeMetaId"), data.get("customerId")
    owner = (str(badge), str(customer)) if badge is not None and customer is not None else None
    request_id = _text(data.get("requestId"))
    suffix = (request_id or "").rpartition("_")[2]
    position = int(suffix) if suffix.isascii() and suffix.isdigit() and len(suffix) < 7 else None
    return _Row(owner, position, _row_outcome(row, data, request_id))


def _row_outcome(row: Mapping[str, Any], data: Mapping[str, Any], request_id: str | None) -> Outcome:
    earned = _text(data.get("earnedBadgeId"))
    error = _error(row.get("errors"))
    if error and earned:
        return Unknown("contradiction", f"the row has both an earnedBadgeId and error {error[0]}")
    if error:
        code, message = error
        if code in BUSY_CODES:
            return Deferred(code, message)
        return Deferred(code, message, True) if code in DEFERRED_CODES else Rejected(code, message)
    if not earned:
        return Unknown("no_earned_badge_id", "the row has neither an error nor an earnedBadgeId")
    warnings = row.get("warnings")
    return Issued(
        earned,
        _text(data.get("issuedId")),
        request_id,
        _number(data.get("expiresOn")),
        _text(data.get("expiresOnISO")),
        _plain(json.dumps(warnings))[:200] if warnings else None,
    )


def _error(errors: Any) -> tuple[str, str] | None:
    """Read ``errors`` as null, an object or an array of them (doc says the first two, its siblings the last)."""
    if isinstance(errors, list):
        return next((found for found in map(_error, errors) if found), None)
    if isinstance(errors, Mapping):
        code, message = errors.get("code"), errors.get("message")
        if code is None and message is None:
            return None
        name = "error" if code is None else str(code)
        return _plain(name)[:32], _plain(str(message or ""))[:240]
    if isinstance(errors, str) and errors:
        return "error", _plain(errors)[:240]
    return None


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After, in seconds or as a date relative to the answer's own; capped at an hour."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return min(float(value), RETRY_AFTER_MAX_S)
    try:
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):
        return None
    return min(max(wait.total_seconds(), 0.0), RETRY_AFTER_MAX_S)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _text(value: Any) -> str | None:
    return _plain(str(value))[:64] if isinstance(value, str | int) and value != "" else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e15 else None


def _excerpt(body: bytes) -> str:
    text = _plain(body[:200].decode("utf-8", "replace"))
    return f"({text[:120].strip()})" if text.strip() else "(no body)"


def _plain(text: str) -> str:
    """Keep what can be shown on a terminal and in a report; what can't becomes a blank."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
