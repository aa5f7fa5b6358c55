"""Taking badges back at the vendor, one a call (doc: ``customer/revokeEarn``).

Each call is paid from the org's limit; while deliveries wait, these have a share of it. A call whose end
nobody knows is made again: revoking twice does no harm, and 814 says that no such badge is active any more.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from worker.domain.batch import Wait, Why
from worker.domain.job import DeadKind
from worker.domain.org import Org
from worker.domain.outcome import ItemSignal, NoReply, Reply, Signal
from worker.domain.settlement import backoff_s
from worker.store import undos
from worker.store.protocol import SHARE
from worker.store.queue import Queue
from worker.store.record import Field, Record, number_of
from worker.store.undos import Revoke, Word
from worker.vendor.auth import Authenticator, AuthFailed, Credentials, wait_aside
from worker.vendor.client import TOO_LATE, Fence, VendorClient
from worker.vendor.codes import meanings_of
from worker.vendor.pausing import pause
from worker.vendor.rows import error_in
from worker.vendor.unpacking import json_in
from worker.vendor.verdict import read_answer

log = structlog.get_logger()

PATH = "/api_gateway/v1/badges/customer/revokeEarn"
GONE = "814"  # doc: "Active earn instance is not present"
WAIT_MS, LONGEST_WAIT_MS = 1000, 30_000  # until it is tried again where no call may be made
ORG_WIDE = (Signal.THROTTLED, Signal.UNAUTHORIZED, Signal.MISCONFIGURED)


@dataclass(frozen=True, slots=True)
class Revoker:
    """Takes back what is to be taken back of an org, one badge a call."""

    queue: Queue
    client: VendorClient
    auth: Authenticator
    share: float = SHARE

    def work(self, org: Org, *, for_s: float = 2.0) -> int:
        """Take badges back for a while, or as long as there are some; answers how many calls were made."""
        clock, by, calls = self.queue.clock, self.queue.new_id(), 0
        end_s = clock.monotonic_s() + for_s
        while clock.monotonic_s() < end_s and (revoke := undos.take(self.queue, org, by)):
            ready = self._ready(org, within_s=for_s)
            if isinstance(ready, Wait):
                undos.settle(self.queue, org, revoke, Word("wait", self._pause_ms(org, ready)), "-")
                break
            if not undos.take(self.queue, org, by, again=revoke.id):  # we waited, and somebody else is at it
                break
            credentials, fence = ready
            answer = self.client.post(org, PATH, _body(revoke.record), credentials.headers, fence=fence)
            if isinstance(answer, NoReply) and answer.code == TOO_LATE:  # none was made
                undos.settle(self.queue, org, revoke, Word("wait", str(WAIT_MS)), "-")
                break
            calls += 1
            if not self._settle(org, revoke, credentials, answer):
                break
        undos.leave(self.queue, org, by)
        return calls

    def _ready(self, org: Org, *, within_s: float) -> tuple[Credentials, Fence] | Wait:
        """Get what a call needs, and wait for its slot; a claim does what else there is to do about it."""
        credentials = self.auth.credentials(org)
        if isinstance(credentials, AuthFailed):
            return Wait(Why.NO_TOKEN, -1)
        if isinstance(credentials, Wait):
            return credentials
        fence = wait_aside(self.queue, org, self.share, for_s=within_s)
        return fence if isinstance(fence, Wait) else (credentials, fence)

    def _pause_ms(self, org: Org, wait: Wait) -> str:
        pause_ms = wait.look_at_ms - int(self.queue.now_s(org.name) * 1000)
        return str(min(LONGEST_WAIT_MS, max(WAIT_MS, pause_ms)))

    def _settle(self, org: Org, revoke: Revoke, credentials: Credentials, answer: Reply | NoReply) -> bool:
        """Write what became of a call; answers whether the next one may follow."""
        word, signal = self._read(org, revoke, answer)
        status = str(answer.status) if isinstance(answer, Reply) else answer.code
        state = undos.settle(self.queue, org, revoke, word, status)
        log.info("badge.revoked", job=revoke.id, run=revoke.record.get(Field.RUN), state=state, status=status)
        if signal is Signal.UNAUTHORIZED and not self.auth.refused(org, credentials):
            pause(self.queue, org.name, why="auth", reason=word.message)
        elif signal is Signal.MISCONFIGURED:
            pause(self.queue, org.name, why="config", reason=word.message)
        elif signal is Signal.THROTTLED and isinstance(answer, Reply):
            verdict = read_answer((), answer, meanings_of(org))
            self.queue.hear(org, signal, reason=word.message, retry_after_s=verdict.retry_after_s)
        return signal is Signal.OK

    def _read(self, org: Org, revoke: Revoke, answer: Reply | NoReply) -> tuple[Word, Signal]:
        """Say what an answer means for the badge, and for the org."""
        if isinstance(answer, NoReply):
            return _again(org, revoke, answer.code, answer.reason), Signal.UNAVAILABLE
        body, meanings = json_in(answer.body), meanings_of(org)
        if isinstance(body, list) and len(body) == 1:
            body = body[0]
        error = error_in(body.get("errors")) if isinstance(body, dict) else None
        if error and error[0] == GONE:
            return Word("undone", code=GONE, message="it was gone at the vendor already"), Signal.OK
        if not error and answer.status in (200, 201) and isinstance(body, dict) and body.get("data"):
            return Word("undone"), Signal.OK
        code, message = error or (str(answer.status), f"the vendor answered {answer.status}")
        signal = (
            meanings.of_error(code, answer.status, shaped=True)
            if error
            else meanings.of_status(answer.status)
        )
        is_busy = meanings.codes.get(code) is ItemSignal.BUSY
        if signal in ORG_WIDE or is_busy:
            return _later(WAIT_MS, code, message), Signal.UNAVAILABLE if is_busy else signal
        if signal is Signal.REFUSED and error and not meanings.passes(code):
            return Word("dead", DeadKind.REJECTED, code, message), Signal.OK
        return _again(org, revoke, code, message), Signal.UNAVAILABLE


def _again(org: Org, revoke: Revoke, code: str, message: str) -> Word:
    attempts = int(revoke.record.get(Field.ATTEMPTS, 0)) + 1
    if attempts >= org.max_attempts:
        return Word("dead", DeadKind.EXHAUSTED, code, message)
    delay_s = backoff_s(attempts, org=org, random=lambda: 1.0)
    return Word("later", str(int(delay_s * 1000)), code, message)


def _later(delay_ms: int, code: str, message: str) -> Word:
    return Word("later", str(delay_ms), code, message, spends_attempt=False)


def _body(record: Record) -> dict[str, object]:
    return {
        "badgeMetaId": record.get(Field.BADGE_META_ID),
        "customerId": number_of(record.get(Field.CUSTOMER_ID)),
        "earnedBadgeId": record.get(Field.EARNED_BADGE_ID),
    }
