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
from worker.store import doubts
from worker.store.doubts import Conclusion, Witness
from worker.store.protocol import CHECK_AFTER_S
from worker.store.queue import Queue
from worker.vendor.lookups import Lookups, Unanswered

log = structlog.get_logger()

Finding = Conclusion | Literal["unknown"]


@dataclass(frozen=True, slots=True)
class Suspects:
    """Jobs in doubt for one customer and badge, and since when the vendor has shown none of it."""

    ids: tuple[str, ...]
    badge: str
    customer: int
    in_doubt_since_ms: int
    absent_since_ms: int | None
    witness: Witness | None


@dataclass(frozen=True, slots=True)
class DoubtChecker:
    """Checks the jobs in doubt of an org, one customer and badge at a time."""

    queue: Queue
    lookups: Lookups

    def check(self, org: Org) -> Finding | None:
        """Look once at what is due; ``None`` if nothing is."""
        suspects = self._take(org.name)
        if suspects is None:
            return None
        finding = self._look(org, suspects)
        if finding != "unknown":
            name = suspects.witness.id if suspects.witness else ""
            died_by_ms = suspects.in_doubt_since_ms
            doubts.conclude(self.queue, org.name, suspects.ids, finding, witness=name, died_by_ms=died_by_ms)
        log.info("doubt.checked", finding=finding, jobs=list(suspects.ids), badge=suspects.badge)
        return finding

    def _take(self, org: str) -> Suspects | None:
        """Take what is due to be checked with the vendor; it comes up again unless a check concludes."""
        answer = doubts.take_due(self.queue, org)
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
            witness=Witness(witness[0], witness[2], int(witness[3]), int(witness[1])) if witness else None,
        )

    def _look(self, org: Org, suspects: Suspects) -> Finding:
        witness = suspects.witness
        if witness is None or witness.issued_at_ms <= suspects.in_doubt_since_ms:
            return "unknown"  # nothing issued since could tell whether a zero is just late
        again = suspects.absent_since_ms
        if again is not None:
            if again > self.queue.now_s(org.name) * 1000 - CHECK_AFTER_S * 1000:
                return "unknown"
            # The witness first: shown only after a zero was read, it would say nothing of that zero.
            if not self._earn_count(org, witness.badge, witness.customer):
                return "unknown"
        count = self._earn_count(org, suspects.badge, suspects.customer)
        if count is None:
            return "unknown"
        if count > 0:
            return "seen"
        return "absent" if again is None else "cleared"

    def _earn_count(self, org: Org, badge: str, customer: int) -> int | None:
        """Ask how often the customer earned the badge; ``None`` if there is no clear answer."""
        count = self.lookups.earn_count(org, badge, customer)
        return None if isinstance(count, Unanswered) else count
