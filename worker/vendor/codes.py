"""The vendor's error codes and HTTP statuses: what each means, in one table."""

from __future__ import annotations

from worker.domain.outcome import Deferred, Rejected, Signal

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


def failed(code: str, message: str) -> Rejected | Deferred:
    """Say by the table of codes what an item's error means."""
    if code in BUSY_CODES:
        return Deferred(code, message)
    return Deferred(code, message, True) if code in DEFERRED_CODES else Rejected(code, message)


def status_signal(status: int) -> Signal:
    """Say what an HTTP status means where the body says nothing."""
    if 300 <= status < 400:
        return Signal.MISCONFIGURED
    return STATUSES.get(status, Signal.IN_DOUBT)


def error_signal(code: str, status: int, *, shaped: bool) -> Signal:
    """Say what an error means that stands for all; ``shaped`` as the vendor's are, and not a gateway's."""
    if code in REQUEST_CODES:
        return REQUEST_CODES[code]
    number = int(code) if code.isascii() and code.isdigit() else None
    is_vendors = number is not None and (number >= SMALLEST_VENDOR_CODE or code in BUSY_CODES)
    if status in (200, 201):
        if is_vendors or (shaped and number is None):
            return Signal.REFUSED
        return status_signal(number or 0)
    return Signal.REFUSED if status == 404 and is_vendors else status_signal(status)
