"""What the vendor's answer means for each job of a batch: a pure function, no I/O, no clock.

The body is read before the status, since the vendor puts codes inside a 200 or 201 as well. Whatever
comes back, every job gets exactly one outcome, and ``Issued``, ``Rejected`` and ``Deferred`` are only
given on evidence; everything else is ``Unknown``: the badge may or may not have been issued.
What is done about an outcome is decided in ``domain/settlement.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

from worker.domain.job import Job
from worker.domain.outcome import Deferred, NoReply, Outcome, Rejected, Reply, Signal, Unknown, Verdict
from worker.domain.text import plain
from worker.vendor.codes import BUILT_IN, Meanings
from worker.vendor.matching import issued_in_order, match
from worker.vendor.rows import Row, error_in, rows_of
from worker.vendor.unpacking import json_in

RETRY_AFTER_MAX_S = 3600.0
# A row of the vendor's has about ten. Millions would take seconds to read, and stop the process meanwhile.
COMMAS_A_ROW = 100
ROWS_TO_SPARE = 100
# What is said of a request that a smaller one may escape.
ISOLATED = frozenset({Signal.REFUSED, Signal.TOO_LARGE})


def read_answer(
    jobs: Sequence[Job], answer: Reply | NoReply, meanings: Meanings = BUILT_IN, *, request: str = ""
) -> Verdict:
    """Decide one outcome per job, in the order of ``jobs``; never raises, for any answer.

    ``request`` is the id that the call carried, if any.
    """
    if isinstance(answer, NoReply):
        signal = Signal.IN_DOUBT if answer.sent else Signal.UNAVAILABLE
        return _whole(jobs, meanings, (signal, answer.code, answer.reason))
    if _says_too_much(answer.body, len(jobs)):
        failure = (Signal.IN_DOUBT, "too_many", "the answer says far more than its items need")
        return _whole(jobs, meanings, failure)
    if issued := issued_in_order(jobs, answer.body):
        return Verdict(issued, Signal.OK, str(answer.status))
    return _read_rows(jobs, answer, meanings, request)


def _says_too_much(body: bytes, asked: int) -> bool:
    is_page = body.lstrip()[:1] == b"<"
    return not is_page and body.count(b",") > COMMAS_A_ROW * (asked + ROWS_TO_SPARE)


def _read_rows(jobs: Sequence[Job], answer: Reply, meanings: Meanings, request: str) -> Verdict:
    body = json_in(answer.body)
    rows = rows_of(body, meanings)
    if found := _request_failure(body, rows, answer.status, len(jobs), meanings):
        return _whole(jobs, meanings, found, retry_after_s(answer.headers))
    if rows:
        outcomes = match(jobs, rows, request)
        if all(isinstance(outcome, Unknown) for outcome in outcomes):
            reason = "no row of the answer says for certain how an item went"
            return Verdict(outcomes, Signal.IN_DOUBT, str(answer.status), reason)
        return Verdict(outcomes, Signal.OK, str(answer.status))
    failure = (meanings.of_status(answer.status), str(answer.status), _said(answer))
    return _whole(jobs, meanings, failure, retry_after_s(answer.headers))


def _whole(
    jobs: Sequence[Job], meanings: Meanings, failure: tuple[Signal, str, str], wait_s: float | None = None
) -> Verdict:
    signal, code, reason = failure
    outcome: Outcome = Deferred(code, reason)
    if signal is Signal.IN_DOUBT:
        outcome = Unknown(code, reason)
    elif signal in ISOLATED and len(jobs) == 1:
        # It can't be made smaller: what was said of the request is said of the item.
        outcome = meanings.failed(code, reason) if signal is Signal.REFUSED else Rejected(code, reason)
        signal = Signal.REFUSED if isinstance(outcome, Rejected) else Signal.OK
    return Verdict((outcome,) * len(jobs), signal, code, reason, wait_s)


def _request_failure(
    body: Any, rows: list[Row], status: int, asked: int, meanings: Meanings
) -> tuple[Signal, str, str] | None:
    """Find an error of the vendor's that speaks of the whole request."""
    if isinstance(body, Mapping) and not rows and not body.get("data"):
        found, shaped = error_in(body.get("errors")), True
        if not found:
            found, shaped = error_in(body), False
    else:
        found, shaped = _error_of_all(rows, status, asked, meanings), True
    if not found:
        return _doubt_of_all(rows, meanings)
    signal = meanings.of_error(found[0], status, shaped=shaped)
    # Rows that the status leaves in doubt may yet be as many as the items, and all errors.
    return None if rows and signal is Signal.IN_DOUBT else (signal, *found)


def _error_of_all(rows: list[Row], status: int, asked: int, meanings: Meanings) -> tuple[str, str] | None:
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
        return first if len(rows) == 1 or apart or status in meanings.statuses else None
    # A lone item that is named in its row speaks for itself: it must not hold up all others.
    same_code = asked > 1 and len({error[0] for error in errors if error}) == 1
    return first if complete and same_code and meanings.is_of_request(first[0]) else None


def _doubt_of_all(rows: list[Row], meanings: Meanings) -> tuple[Signal, str, str] | None:
    """Find the code that leaves all in doubt (809), in rows that say nothing else."""
    said = {row.outcome for row in rows}
    match next(iter(said), None):
        case Unknown(code, message) if len(said) == 1 and meanings.codes.get(code) is Signal.IN_DOUBT:
            return Signal.IN_DOUBT, code, message
    return None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After, in seconds or as a date relative to the answer's own; capped at an hour."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:20]), RETRY_AFTER_MAX_S)
    try:
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(wait.total_seconds(), 0.0), RETRY_AFTER_MAX_S)


def _said(answer: Reply) -> str:
    """Quote the beginning; and name an nginx before the vendor, whose limiter answers a bare 503."""
    by = " by nginx" if answer.headers.get("server", "").lower().startswith("nginx") else ""
    return f"the vendor answered {answer.status}{by} {_excerpt(answer.body)}".rstrip()


def _excerpt(body: bytes) -> str:
    text = plain(body[:200].decode("utf-8", "replace"), 120).strip()
    return f"({text})" if text else "(no body)"
