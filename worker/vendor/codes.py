"""What the vendor's error codes and HTTP statuses mean: one table for every call, import, token and reads.

An org's settings extend it (``STATUS_503=throttled``, ``CODE_9001=busy``); ``deploy/docs/answers.md``
explains it. How a body is read before its status is in ``verdict.py``. What a signal does to the org's gate
is in ``store/lua/settle.lua``, at the signal's name, and what to the jobs in ``domain/settlement.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from worker.domain.org import Org
from worker.domain.outcome import Deferred, ItemSignal, Rejected, Signal, Unknown

# doc: the vendor's codes; inferred: 429, and 503 for an item, which mean what the statuses of these numbers
# mean.
CODES: Mapping[str, Signal | ItemSignal] = {
    "401": Signal.UNAUTHORIZED,
    "429": Signal.THROTTLED,
    "498": Signal.UNAUTHORIZED,
    "503": ItemSignal.DEFERRED,
    "521": ItemSignal.BUSY,  # doc: "multiple actions running for same customer"
    # doc: "Request with the same requestId is not allowed". Ours is new with each call: so something on the
    # way sent it twice, and the first may have been applied.
    "809": Signal.IN_DOUBT,
    "1060": Signal.TOO_LARGE,
    "4000": Signal.MISCONFIGURED,
    "4001": Signal.UNAVAILABLE,
    "320001": Signal.UNAUTHORIZED,  # the token call's: a wrong key
}
# Of answers whose body explains nothing. 3xx is misconfigured; any other that isn't here is in doubt.
STATUSES: Mapping[int, Signal] = {
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


@dataclass(frozen=True, slots=True)
class Meanings:
    """The table as it holds for one org."""

    statuses: Mapping[int, Signal]
    codes: Mapping[str, Signal | ItemSignal]

    def failed(self, code: str, message: str) -> Rejected | Deferred | Unknown:
        """Say what an item's error means."""
        match self.codes.get(code):
            case None | ItemSignal.REJECTED | Signal.REFUSED:
                return Rejected(code, message)
            case ItemSignal.BUSY:
                return Deferred(code, message)
            case Signal.IN_DOUBT:
                return Unknown(code, message)
        return Deferred(code, message, True)

    def passes(self, code: str) -> bool:
        """Say whether a code tells of something that passes by itself."""
        return self.codes.get(code) in (ItemSignal.BUSY, ItemSignal.DEFERRED)

    def is_of_request(self, code: str) -> bool:
        """Say whether a code speaks of a whole request."""
        return isinstance(self.codes.get(code), Signal)

    def of_status(self, status: int) -> Signal:
        """Say what an HTTP status means where the body says nothing."""
        if signal := self.statuses.get(status):
            return signal
        return Signal.MISCONFIGURED if 300 <= status < 400 else Signal.IN_DOUBT

    def of_error(self, code: str, status: int, *, shaped: bool) -> Signal:
        """Say what an error means that stands for all; ``shaped`` as the vendor's are, not a gateway's."""
        meaning = self.codes.get(code)
        if isinstance(meaning, Signal):
            return meaning
        number = int(code) if code.isascii() and code.isdigit() else None
        is_vendors = number is not None and number >= SMALLEST_VENDOR_CODE
        is_vendors = is_vendors or meaning in (ItemSignal.BUSY, ItemSignal.REJECTED)
        if status in (200, 201):
            if is_vendors or (shaped and number is None):
                return Signal.REFUSED
            return self.of_status(number or 0)
        return Signal.REFUSED if status == 404 and is_vendors else self.of_status(status)


BUILT_IN = Meanings(STATUSES, CODES)


def meanings_of(org: Org) -> Meanings:
    """Return the table that holds for an org."""
    return _extended(org.statuses, org.codes) if org.statuses or org.codes else BUILT_IN


@lru_cache(maxsize=100)
def _extended(statuses: tuple[tuple[int, str], ...], codes: tuple[tuple[str, str], ...]) -> Meanings:
    items = {word.value: word for word in ItemSignal}
    return Meanings(
        {**STATUSES, **{status: Signal(word) for status, word in statuses}},
        {**CODES, **{code: items.get(word) or Signal(word) for code, word in codes}},
    )


def own_meanings(org: Org) -> list[str]:
    """Return what an org's settings say beyond the built-in table, as they are written."""
    statuses = [f"STATUS_{status}={word}" for status, word in org.statuses if STATUSES.get(status) != word]
    return statuses + [f"CODE_{code}={word}" for code, word in org.codes if CODES.get(code) != word]


def taken_on_trust(org: Org) -> list[str]:
    """Return which of these call certainly not applied, on the operator's word, what would be in doubt."""
    certain = [(status, word) for status, word in org.statuses if word != Signal.IN_DOUBT]
    return [f"STATUS_{status}={word}" for status, word in certain if status not in STATUSES and status >= 400]
