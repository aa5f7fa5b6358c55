"""What the answer to a request means that is sent again as it was (``IN_DOUBT=same_request``).

Its first call may have been applied, or may be on its way still. So whatever says only that *this* one wasn't
applied leaves the jobs in doubt; what the vendor says of the request itself holds, by the operator's word of
``REQUEST_IDS``.
"""

from __future__ import annotations

from worker.domain.org import Org
from worker.domain.outcome import Issued, Outcome, Signal, Unknown, Verdict
from worker.vendor.codes import SMALLEST_VENDOR_CODE

SEEN = "809"  # doc: "Request with the same requestId is not allowed"
APPLIED_BEFORE = "answered 809: the vendor applied this request before, and said no earnedBadgeId"
# What a limit, our credentials, a gateway or the line have to do with, and not the request.
ABOUT_THE_CALL = frozenset(
    [
        Signal.THROTTLED,
        Signal.UNAUTHORIZED,
        Signal.STALE_TOKEN,
        Signal.MISCONFIGURED,
        Signal.UNAVAILABLE,
    ]
)
# What a gateway may say as well as the vendor, whose own codes are large.
REFUSALS = frozenset([Signal.REFUSED, Signal.TOO_LARGE])


def read_again(verdict: Verdict, org: Org) -> Verdict:
    """Read a verdict on a request that was sent again as it was."""
    if org.request_ids == "refuses" and all(map(_is_seen, verdict.outcomes)):
        applied = Issued("", warnings=APPLIED_BEFORE)
        return Verdict((applied,) * len(verdict.outcomes), Signal.OK, SEEN)
    is_refusal = verdict.signal in REFUSALS and not _is_the_vendors(verdict.code)
    if not is_refusal and verdict.signal not in ABOUT_THE_CALL:
        return verdict
    in_doubt = (Unknown(verdict.code, verdict.reason),) * len(verdict.outcomes)
    signal = Signal.IN_DOUBT if is_refusal else verdict.signal
    return Verdict(in_doubt, signal, verdict.code, verdict.reason, verdict.retry_after_s)


def _is_seen(outcome: Outcome) -> bool:
    return isinstance(outcome, Unknown) and outcome.code == SEEN


def _is_the_vendors(code: str) -> bool:
    return code.isascii() and code.isdigit() and int(code) >= SMALLEST_VENDOR_CODE
