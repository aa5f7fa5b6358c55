"""Reading from the vendor what only it knows: how often a badge was earned, and whether a badge exists.

Each look is one call, paid from the org's limit; while deliveries wait, looks have a share of it. What
follows from it for a job in doubt is decided in ``doubt.py``, for many at once in ``operate/doubts.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from urllib.parse import quote

from worker.domain.batch import Wait
from worker.domain.org import Org
from worker.domain.outcome import NoReply, Reply, Signal, Verdict
from worker.store.protocol import SHARE
from worker.store.queue import Queue
from worker.vendor.auth import LONGEST_TURN_S, Authenticator, AuthFailed, Credentials, wait_aside
from worker.vendor.client import VendorClient
from worker.vendor.codes import meanings_of
from worker.vendor.rows import error_in
from worker.vendor.unpacking import json_in
from worker.vendor.verdict import read_answer

PATH = "/api_gateway/v1/badges/management/{customer}/badge/{badge}"
NO_SUCH_BADGE = "1054"


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A look that told nothing, and why in words; ``lasting``: the next one won't either."""

    why: str
    lasting: bool = False


@contextmanager
def looking_up(queue: Queue, *, share: float = SHARE, wait_s: float = LONGEST_TURN_S) -> Iterator[Lookups]:
    """Open a connection of its own to the vendors for what is looked up while the block lasts."""
    with closing(VendorClient()) as client:
        yield Lookups(queue, client, Authenticator(queue=queue, client=client), share, wait_s)


@dataclass(frozen=True, slots=True)
class Lookups:
    """Looks things up at the vendor, with a ``share`` of the limit while deliveries wait.

    It waits ``wait_s`` at most for a call's slot.
    """

    queue: Queue
    client: VendorClient
    auth: Authenticator
    share: float = SHARE
    wait_s: float = LONGEST_TURN_S

    def earn_count(self, org: Org, badge: str, customer: int) -> int | Unanswered:
        """Ask how often the customer earned the badge."""
        answer = self._get(org, f"{_path(badge, customer)}?includeStatistics=true")
        if isinstance(answer, Unanswered):
            return answer
        count = _count_in(answer)
        return Unanswered(_said(answer)) if count is None else count

    def is_known(self, org: Org, badge: str, customer: int) -> bool | Unanswered:
        """Ask whether the org has a badge; only 404 or 1054 says that it hasn't."""
        answer = self._get(org, _path(badge, customer))
        if isinstance(answer, Unanswered):
            return answer
        body = json_in(answer.body)
        code = (error_in(body.get("errors")) or ("", ""))[0] if isinstance(body, dict) else ""
        if answer.status == 404 or code == NO_SUCH_BADGE:
            return False
        well = answer.status == 200 and not code and isinstance(body, dict) and bool(body.get("data"))
        return True if well else Unanswered(_said(answer))

    def _get(self, org: Org, path: str) -> Reply | Unanswered:
        """Make one paid call; what its answer says of the org as a whole, the gate hears."""
        credentials = self._credentials(org)
        if isinstance(credentials, Unanswered):
            return credentials
        fence = wait_aside(self.queue, org, self.share, for_s=self.wait_s)
        if isinstance(fence, Wait):
            return Unanswered(f"no call may be made now: {fence.why}", lasting=fence.why == "paused")
        answer = self.client.get(org, path, credentials.headers, fence=fence)
        verdict = read_answer((), answer, meanings_of(org))
        if verdict.signal is Signal.THROTTLED:  # the limit is one for all calls
            self._hear(org, verdict)
        elif verdict.signal is Signal.UNAUTHORIZED:
            self.auth.refused(org, credentials)
        return Unanswered(answer.reason) if isinstance(answer, NoReply) else answer

    def _hear(self, org: Org, verdict: Verdict) -> None:
        self.queue.hear(org, verdict.signal, reason=verdict.reason, retry_after_s=verdict.retry_after_s)

    def _credentials(self, org: Org) -> Credentials | Unanswered:
        match found := self.auth.credentials(org):
            case Wait(why):
                return Unanswered(f"no call may be made now: {why}")
            case AuthFailed(reason):
                return Unanswered(reason, lasting=found.lasting)
        return found


def _path(badge: str, customer: int) -> str:
    return PATH.format(customer=customer, badge=quote(badge, safe="", errors="surrogatepass"))


def _said(answer: Reply) -> str:
    error = error_in(body.get("errors")) if isinstance(body := json_in(answer.body), dict) else None
    return f"the vendor answered {answer.status}" + (f" ({error[0]} {error[1]})" if error else "")


def _count_in(answer: Reply) -> int | None:
    if answer.status != 200:
        return None
    try:
        body = json_in(answer.body)
        counts = [body["data"]["earnDetails"]["earnCount"], body["data"].get("activeEarnedCount") or 0]
        if body.get("errors"):
            return None
        return max(int(count) for count in counts)
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError):
        return None
