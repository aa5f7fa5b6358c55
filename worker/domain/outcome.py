"""What the vendor can say: of a call, of one job (an outcome), of the whole org (a signal).

Which code or status of the vendor's is which signal is in ``vendor/codes.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


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


class Issued(NamedTuple):
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
    """What an answer says about the org as a whole; the gate acts on it (``store/lua/settle.lua``)."""

    OK = "ok"
    STALE_TOKEN = "stale_token"  # noqa: S105 - a token that fresh credentials replace
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    UNAUTHORIZED = "unauthorized"
    MISCONFIGURED = "misconfigured"
    TOO_LARGE = "too_large"
    REFUSED = "refused"
    IN_DOUBT = "in_doubt"


class ItemSignal(StrEnum):
    """What an error code says of one item; of the call as a whole a ``Signal`` is said."""

    REJECTED = "rejected"
    BUSY = "busy"  # passes, and is nobody's fault
    DEFERRED = "deferred"  # passes, and costs an attempt


@dataclass(frozen=True, slots=True)
class Verdict:
    """One outcome for each job of the batch, in its order, and what it all says about the org."""

    outcomes: tuple[Outcome, ...]
    signal: Signal
    code: str = ""
    reason: str = ""
    retry_after_s: float | None = None
