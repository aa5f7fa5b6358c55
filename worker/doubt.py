"""Narrowing doubt (``IN_DOUBT=check``): ask the vendor whether a badge that may have been issued was.

doc: ``earnCount`` says how often a customer earned a badge; nothing identifies a single earn. So only a
count of zero proves anything, and only once the read side is known to show what was written since: a badge
that we issued *later* must be visible. Two looks, ten minutes apart at least. Everything else waits for a
person. This narrows doubt and doesn't end it: a witness whose customer had that badge before shows nothing
new. Every look is paid from the org's rate limit.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from worker.auth import Authenticator, Credentials
from worker.client import VendorClient
from worker.org import Org
from worker.outcome import NoReply, Reply
from worker.queue import Queue, Suspects, Wait, new_id
from worker.wire import CHECK_AFTER_S

log = structlog.get_logger()

PATH = "/api_gateway/v1/badges/management/{customer}/badge/{badge}?includeStatistics=true"

Finding = Literal["cleared", "seen", "absent", "unknown"]


@dataclass(frozen=True, slots=True)
class DoubtChecker:
    """Checks the jobs in doubt of an org, one customer and badge at a time."""

    queue: Queue
    client: VendorClient
    auth: Authenticator

    def check(self, org: Org) -> Finding | None:
        """Look once at whatever is due; ``None`` if nothing is, or no call may be made now."""
        credentials = self.auth.credentials(org)
        if not isinstance(credentials, Credentials):
            return None
        suspects = self.queue.take_check(org.name)
        if suspects is None:
            return None
        finding = self._look(org, suspects, credentials)
        if finding != "unknown":
            self.queue.conclude_check(org.name, suspects, finding, call=new_id())
        log.info("doubt.checked", finding=finding, jobs=list(suspects.ids), badge=suspects.badge)
        return finding

    def _look(self, org: Org, suspects: Suspects, credentials: Credentials) -> Finding:
        witness = suspects.witness
        if witness is None or witness.issued_at_ms <= suspects.in_doubt_since_ms:
            return "unknown"  # nothing issued since could tell whether a zero is just late
        again = suspects.absent_since_ms
        if again is not None:
            if again > time.time() * 1000 - CHECK_AFTER_S * 1000:
                return "unknown"
            # The witness first: shown only after a zero was read, it would say nothing of that zero.
            if not self._earn_count(org, witness.badge, witness.customer, credentials):
                return "unknown"
        count = self._earn_count(org, suspects.badge, suspects.customer, credentials)
        if count is None:
            return "unknown"
        if count > 0:
            return "seen"
        return "absent" if again is None else "cleared"

    def _earn_count(self, org: Org, badge: str, customer: int, credentials: Credentials) -> int | None:
        """Ask how often the customer earned the badge; ``None`` if there is no clear answer."""
        paid = self.queue.pay(org, new_id())
        if isinstance(paid, Wait):
            return None
        time.sleep(max(0.0, paid))
        answer = self.client.get(org, PATH.format(customer=customer, badge=badge), credentials.headers)
        return _count_in(answer)


def _count_in(answer: Reply | NoReply) -> int | None:
    if isinstance(answer, NoReply) or answer.status != 200:
        return None
    try:
        body: Any = json.loads(answer.body)
        counts = [body["data"]["earnDetails"]["earnCount"], body["data"].get("activeEarnedCount") or 0]
        if body.get("errors"):
            return None
        return max(int(count) for count in counts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
