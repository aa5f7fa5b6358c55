"""Why nothing of an org moves, in one sentence: the same in status, doctor, metrics, import and follow.

What is known of an org is read in ``survey.py``; here it is only judged:
the first of all that holds is the reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from worker.domain.batch import Why
from worker.domain.org import DEFAULT_ORG, Org

OVERDUE_S = 10.0  # a worker takes what is due within milliseconds
LONG_WAIT_S = 60.0  # for the limit; what is shorter is the pace, and no standstill


class Reason(StrEnum):
    """What holds an org up, as metrics name it."""

    UNCONFIGURED = "unconfigured"
    PAUSED_OPERATOR = "paused_operator"
    PAUSED_AUTH = "paused_auth"
    PAUSED_CONFIG = "paused_config"
    BROKER = "broker"
    NO_WORKER = "no_worker"
    REDIS_READ_ONLY = "redis_read_only"
    REDIS_FULL = "redis_full"
    CLAIMS = "claims"
    TOKEN = "token"  # noqa: S105 - no secret
    THROTTLED = "throttled"
    IN_DOUBT = "in_doubt"
    TLS = "tls"
    PROXY = "proxy"
    DNS = "dns"
    UNREACHABLE = "unreachable"
    OVERDUE = "overdue"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Standstill:
    """Why nothing moves: a word of a bounded set, and a sentence that also says what to do about it."""

    reason: Reason
    sentence: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a worker met when it wanted to send, and couldn't even begin: ``claims`` or ``token``."""

    why: str
    reason: str


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether batches may start, and why not; times are ISO 8601."""

    state: str  # open, closed (opens by itself), probing (one batch of one job at a time), paused (by resume)
    why: str | None = None
    reason: str | None = None
    since: str | None = None
    closed_until: str | None = None
    tripped: bool = False  # the breaker: one batch of one job at a time, until one succeeds
    batch_size: int | None = None  # what the vendor taught, where it is less than what is configured
    limiter: str | None = None  # what nginx's limiter seems to have answered, of late
    call_ms: float | None = None  # how long calls took lately, once there were enough to tell
    ahead_ms: int = 0  # of Redis's clock: the org's own, by which batches and retries are due


@dataclass(frozen=True, slots=True)
class Circumstances:
    """All that a standstill is judged by."""

    org: str
    settings: Org | None
    waiting: int  # jobs that are to be sent, calls to be repeated, badges to be taken back
    in_flight: int
    gate: Gate
    has_worker: bool
    no_broker: str = ""  # why no worker can read its messages
    redis_is_full: bool = False
    redis_refuses: str = ""  # why the server takes no writes, and what to do
    redis_weakness: str = ""  # what the server lacks that a claim needs
    trouble: Trouble | None = None  # since the last call
    overdue_s: float = 0.0  # how long a look at the org has been due
    limit_for_s: float = 0.0  # how long the limit lets nothing through
    limit: str = ""  # the one that is used up


def standstill(of: Circumstances) -> Standstill | None:
    """Say why nothing moves; ``None`` where something does, or nothing waits (and nobody has paused it)."""
    if of.settings is None:
        words = "its org isn't configured; put it back into BADGES_ORGS_FILE (see: badges status)"
        return Standstill(Reason.UNCONFIGURED, words) if of.waiting else None
    if of.gate.state == "paused":
        return _paused(of)
    # What is claimed again and again in vain is in flight most of the time.
    if not of.waiting and not (of.in_flight and of.trouble):
        return None
    return _not_begun(of) or _held_by_the_gate(of) or _not_yet(of)


def _paused(of: Circumstances) -> Standstill:
    why = of.gate.why or "operator"
    its = "" if of.org == DEFAULT_ORG else f" --org {of.org}"
    reason = f": {of.gate.reason}" if of.gate.reason else ""
    first = "" if why == "operator" else f"; badges doctor{its} says what to mend"
    reasons = {"auth": Reason.PAUSED_AUTH, "config": Reason.PAUSED_CONFIG}
    sentence = f"paused ({why}){reason}{first}; go on: badges resume{its}"
    return Standstill(reasons.get(why, Reason.PAUSED_OPERATOR), sentence)


def _not_begun(of: Circumstances) -> Standstill | None:
    """Find what keeps workers from claiming a batch at all."""
    return _redis_refuses(of) or _no_worker(of) or _claims_or_token_fail(of)


def _redis_refuses(of: Circumstances) -> Standstill | None:
    if of.redis_refuses:  # not even that a worker is alive can be written there
        return Standstill(Reason.REDIS_READ_ONLY, f"Redis: {of.redis_refuses} (badges doctor)")
    if of.redis_is_full:
        words = "Redis is full: nothing is accepted or sent; give it more memory (badges doctor)"
        return Standstill(Reason.REDIS_FULL, words)
    return None


def _no_worker(of: Circumstances) -> Standstill | None:
    if of.no_broker:  # such a worker doesn't say that it is alive
        return Standstill(Reason.BROKER, f"workers can't read their messages: {of.no_broker} (badges doctor)")
    if not of.has_worker:
        return Standstill(Reason.NO_WORKER, "no worker is alive; start one: badges worker, or badges up")
    return None


def _claims_or_token_fail(of: Circumstances) -> Standstill | None:
    if of.trouble is None:
        return None
    if of.trouble.why == "token":
        cause = unreachable(of.trouble.reason)
        reason = Reason.TOKEN if cause is Reason.UNREACHABLE else cause
        return Standstill(reason, f"the vendor gives no token: {_short(of.trouble.reason)}")
    weakness = f" ({of.redis_weakness})" if of.redis_weakness else ""
    return Standstill(Reason.CLAIMS, f"claims fail: {of.trouble.reason}{weakness}; see: badges doctor")


def _held_by_the_gate(of: Circumstances) -> Standstill | None:
    gate = of.gate
    if gate.state not in ("closed", "probing"):
        return None
    until = f"closed until {_clock(gate.closed_until)}" if gate.closed_until else "one job at a time is tried"
    if gate.why == Why.THROTTLED:
        return Standstill(Reason.THROTTLED, f"{until}: the vendor throttles")
    reason = f": {_short(gate.reason)}" if gate.reason else ""
    if gate.why == Why.IN_DOUBT:
        return Standstill(Reason.IN_DOUBT, f"{until}: the vendor's last answer is in doubt{reason}")
    return Standstill(unreachable(gate.reason or ""), f"{until}: the vendor is unavailable{reason}")


def _not_yet(of: Circumstances) -> Standstill | None:
    if of.overdue_s > OVERDUE_S and not of.in_flight:
        words = f"no worker has looked for {of.overdue_s:.0f} s, though some are alive; see their logs"
        return Standstill(Reason.OVERDUE, words)
    if of.limit_for_s > LONG_WAIT_S:
        words = f"the limit {of.limit} is used up; the next call may leave in {of.limit_for_s:,.0f} s"
        return Standstill(Reason.LIMIT, words)
    return None


_CAUSES = (
    (Reason.TLS, ("ssl", "certificate", "tls")),
    (Reason.PROXY, ("proxy",)),
    (Reason.DNS, ("name or service", "name resolution", "no address", "looking up", "nodename")),
)


def unreachable(reason: str) -> Reason:
    """Tell from the words of a call that failed what stands in the way."""
    words = reason.lower()
    return next((cause for cause, signs in _CAUSES if any(s in words for s in signs)), Reason.UNREACHABLE)


def _short(reason: str | None) -> str:
    """Leave out what only the libraries' authors need: the name of an error's class."""
    return re.sub(r"\bno token: |\b\w+(?:Error|Timeout): ", "", reason or "")


def _clock(at: str | None) -> str:
    return f"{datetime.fromisoformat(at):%H:%M:%S} UTC" if at else ""
