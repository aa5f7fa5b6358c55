"""Narrowing doubt (``IN_DOUBT=check``): ask the vendor whether a badge that may have been issued was.

doc: ``earnCount`` says how often a customer earned a badge; nothing identifies a single earn. So only a
count of zero proves anything, and only once the read side is known to show what was written since: a badge
that we issued *later* must be visible. Two looks, ten minutes apart at least. Everything else waits for a
person. This narrows doubt and doesn't end it: a witness whose customer had that badge before shows nothing
new. Every look is paid from the org's rate limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import structlog

from worker.domain.org import Org
from worker.domain.outcome import NoReply, Reply, Signal
from worker.store import keys
from worker.store.protocol import CHECK_AFTER_S
from worker.store.queue import Queue
from worker.vendor.auth import Authenticator, Credentials, wait_for_slot
from worker.vendor.client import VendorClient
from worker.vendor.codes import meanings_of
from worker.vendor.unpacking import json_in
from worker.vendor.verdict import read_answer

log = structlog.get_logger()

PATH = "/api_gateway/v1/badges/management/{customer}/badge/{badge}?includeStatistics=true"

Finding = Literal["cleared", "seen", "absent", "unknown"]


@dataclass(frozen=True, slots=True)
class Witness:
    """A badge that was issued later: if the vendor shows it, it shows what came before as well."""

    badge: str
    customer: int
    issued_at_ms: int


@dataclass(frozen=True, slots=True)
class Suspects:
    """Jobs in doubt for one customer and badge, and since when the vendor has shown none of it."""

    ids: tuple[str, ...]
    badge: str
    customer: int
    in_doubt_since_ms: int
    absent_since_ms: int | None
    witness_id: str
    witness: Witness | None


@dataclass(frozen=True, slots=True)
class DoubtChecker:
    """Checks the jobs in doubt of an org, one customer and badge at a time."""

    queue: Queue
    client: VendorClient
    auth: Authenticator

    def check(self, org: Org) -> Finding | None:
        """Look once at what is due; ``None`` if nothing is, or no call may be made now."""
        credentials = self.auth.credentials(org)
        if not isinstance(credentials, Credentials):
            return None
        suspects = self._take(org.name)
        if suspects is None:
            return None
        finding = self._look(org, suspects, credentials)
        if finding != "unknown":
            self._conclude(org.name, suspects, finding)
        log.info("doubt.checked", finding=finding, jobs=list(suspects.ids), badge=suspects.badge)
        return finding

    def _take(self, org: str) -> Suspects | None:
        """Take what is due to be checked with the vendor; it comes up again unless a check concludes."""
        answer = self.queue.store.call("take_check", [keys.key_prefix(org)], [CHECK_AFTER_S * 1000])
        jobs = answer.get("jobs")
        if not jobs:
            return None
        absent = [job[4].split(" ") if job[4] else None for job in jobs]
        witness = answer.get("witness")
        return Suspects(
            ids=tuple(job[0] for job in jobs),
            badge=jobs[0][1],
            customer=int(jobs[0][2]),
            in_doubt_since_ms=max(int(job[3]) for job in jobs),
            absent_since_ms=max(int(a[0]) for a in absent if a) if all(absent) else None,
            witness_id=witness[0] if witness else "",
            witness=Witness(witness[2], int(witness[3]), int(witness[1])) if witness else None,
        )

    def _conclude(self, org: str, suspects: Suspects, finding: Finding) -> None:
        """Write what a check found."""
        args = [self.queue.new_id(), finding, suspects.witness_id, CHECK_AFTER_S * 1000, *suspects.ids]
        self.queue.store.call("conclude_check", [keys.key_prefix(org)], args)

    def _look(self, org: Org, suspects: Suspects, credentials: Credentials) -> Finding:
        witness = suspects.witness
        if witness is None or witness.issued_at_ms <= suspects.in_doubt_since_ms:
            return "unknown"  # nothing issued since could tell whether a zero is just late
        again = suspects.absent_since_ms
        if again is not None:
            if again > self.queue.clock.wall_s() * 1000 - CHECK_AFTER_S * 1000:
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
        if wait_for_slot(self.queue, org):
            return None
        answer = self.client.get(org, PATH.format(customer=customer, badge=badge), credentials.headers)
        verdict = read_answer((), answer, meanings_of(org))
        if verdict.signal is Signal.THROTTLED:  # the limit is one for all calls
            self.queue.hear(org, verdict.signal, reason=verdict.reason, retry_after_s=verdict.retry_after_s)
        elif verdict.signal is Signal.UNAUTHORIZED:
            self.auth.refused(org, credentials)
        return _count_in(answer)


def _count_in(answer: Reply | NoReply) -> int | None:
    if isinstance(answer, NoReply) or answer.status != 200:
        return None
    try:
        body = json_in(answer.body)
        counts = [body["data"]["earnDetails"]["earnCount"], body["data"].get("activeEarnedCount") or 0]
        if body.get("errors"):
            return None
        return max(int(count) for count in counts)
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError):
        return None
