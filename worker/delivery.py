"""Delivery: claim a batch, send it, read the answer, settle every job. This is the way of a job.

What may start when is decided in ``lua/claim.lua``, what an answer means in ``vendor/verdict.py``, what
is done about it in ``domain/settlement.py``. A process that dies anywhere in here leaves an overdue lease,
which the next claim gives up as in doubt.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import structlog
from structlog.contextvars import bound_contextvars

from worker import tracing
from worker.domain.batch import Batch, Died, Sent, Settled, Wait, Why
from worker.domain.identity import request_id
from worker.domain.job import DeadKind
from worker.domain.org import Org
from worker.domain.outcome import NoReply, Reply, Signal, Verdict
from worker.domain.settlement import settlements
from worker.domain.text import plain
from worker.errors import LogLost, StoreError
from worker.logs import Seldom
from worker.store.protocol import slack_s
from worker.store.queue import SEND_WINDOW_S, Queue
from worker.tracing import Span
from worker.vendor.auth import Authenticator, AuthFailed, Credentials
from worker.vendor.client import TOO_LATE, Fence, VendorClient
from worker.vendor.codes import meanings_of
from worker.vendor.pausing import log_paused, pause
from worker.vendor.repeating import read_again
from worker.vendor.spacing import Spacing
from worker.vendor.verdict import read_answer

log = structlog.get_logger()
T = TypeVar("T")

# How long a process that knows what became of a batch keeps trying to write it down. Until the lease ends
# nobody else touches the jobs; after that they are in doubt, and certain knowledge still wins.
INSIST_S = 600.0
INSIST_EVERY_S = 1.0
# Between claims that fail one after the other, growing from the first to the second.
PAUSE_S, PAUSE_MAX_S = 0.25, 5.0
CLAIM = "claim"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A batch that is to be sent, with which credentials, and when its claim began, by ``steady_s()``."""

    batch: Batch
    credentials: Credentials
    began_at: float


@dataclass(frozen=True, slots=True)
class Delivered:
    """A batch that was sent and settled."""

    org: str
    batch: Batch
    verdict: Verdict
    sent: Sent
    settled: Settled


@dataclass(frozen=True, slots=True)
class Delivery:
    """Makes at most one PUT per claim; one per process, safe to share between threads."""

    queue: Queue
    client: VendorClient
    auth: Authenticator
    spacing: Spacing = field(default_factory=Spacing)
    failed: Seldom = field(default_factory=Seldom)  # claims, one after the other
    random: Callable[[], float] = random.random  # for the jitter of retries

    def claim(self, org: Org, *, share: int | None = None) -> Claimed | Wait:
        """Take one batch to ``send``, or say what there is to wait for.

        The org has at most ``share`` batches in flight at once, and never more than its own maximum.
        """
        credentials = self._credentials(org)
        if isinstance(credentials, Wait):
            return credentials
        began_at = self.queue.clock.steady_s()  # before the claim: whatever delays us from here on counts
        batch = self._claim(org, share)
        _log_dead(batch.died)
        return batch if isinstance(batch, Wait) else Claimed(batch, credentials, began_at)

    def send(self, org: Org, claimed: Claimed) -> Delivered | Wait:
        """Send a batch and settle every job of it; it must be sent soon after its claim."""
        batch = claimed.batch
        with bound_contextvars(batch=batch.id), _traced(org, batch) as span:
            answer = self._send(org, claimed)
            if isinstance(answer, Wait):
                return answer
            delivered = self._settle(org, claimed, *answer)
            _note(span, delivered)
        return delivered

    def _credentials(self, org: Org) -> Credentials | Wait:
        credentials = self.auth.credentials(org)
        if not isinstance(credentials, AuthFailed):
            return credentials
        log.error("auth.failed", reason=credentials.reason, pauses=credentials.lasting)
        self.queue.note_trouble(org.name, "token", credentials.reason)
        if credentials.lasting:
            why = "auth" if credentials.signal is Signal.UNAUTHORIZED else "config"
            pause(self.queue, org.name, why=why, reason=credentials.reason)
            return Wait(Why.PAUSED, -1)
        said = self.queue.hear(
            org, credentials.signal, reason=credentials.reason, retry_after_s=credentials.retry_after_s
        )
        return Wait(Why.NO_TOKEN, said.look_at_ms)

    def _claim(self, org: Org, share: int | None) -> Batch | Wait:
        """Claim; a claim that may have been made, but can't be relied on, is given back.

        Nothing is claimed from a server that has stopped writing its log, until it writes it again.
        """
        batch_id = self.queue.new_id()
        try:
            self.queue.store.see_to_log()
        except LogLost as error:
            self.queue.note_trouble(org.name, "claims", str(error))
            return self._later(org, Why.STORE, -1)
        try:
            claimed = self.queue.claim(org, batch_id, share=share)
        except StoreError as error:
            if self.failed.tells(CLAIM):
                times = self.failed.times[CLAIM]
                log.warning("claim.failed", batch=batch_id, reason=str(error), times=times)
            self.queue.note_trouble(org.name, "claims", str(error))
        else:
            self.failed.over()
            return claimed
        back = self._insist(lambda: self._give_back(org, batch_id, share))
        return self._later(org, back.why, back.look_at_ms)

    def _later(self, org: Org, why: Why, at_ms: int) -> Wait:
        """Wait longer each time that claims fail one after the other: each try costs the server something."""
        pause_s = min(PAUSE_MAX_S, PAUSE_S * 2.0 ** min(self.failed.times[CLAIM], 10))
        return Wait(why, max(at_ms, int((self.queue.now_s(org.name) + pause_s) * 1000)))

    def _give_back(self, org: Org, batch_id: str, share: int | None) -> Wait:
        """Release what was claimed under this id, if anything was."""
        claimed = self.queue.claim(org, batch_id, share=share, durably=False)
        _log_dead(claimed.died)
        return self._release(org, claimed, Why.STORE)

    def _send(self, org: Org, claimed: Claimed) -> tuple[Reply | NoReply, Sent] | Wait:
        """Make the PUT at the batch's time; if it has grown too late for it, give the batch back."""
        batch, clock = claimed.batch, self.queue.clock
        fence = Fence(
            slot=batch.slot_from,
            slack_s=slack_s(self.queue.workers.strict(org)),
            send_by=max(claimed.began_at, batch.slot_from) + SEND_WINDOW_S,
            retime=partial(self.queue.retime, org, batch.id),
            send_at=batch.send_at,  # the connection is made in the meantime
            line_up=partial(self.spacing.line_up, org.name, batch.gap_s) if batch.gap_s else None,
        )
        started = max(batch.send_at, clock.steady_s())
        name = org.request_id_header
        headers = claimed.credentials.headers | ({name: request_id(batch.id)} if name else {})
        answer = self.client.put(org, batch.jobs, headers, fence=fence)
        elapsed_ms = round(max(0.0, clock.steady_s() - started) * 1000)
        if isinstance(answer, Reply):
            theirs = plain(answer.headers.get(name.lower(), ""), 40).replace(" ", "")
            return answer, Sent(str(answer.status), elapsed_ms, theirs or "-")
        if answer.code == TOO_LATE:
            log.warning("batch.too_late")
            return self._insist(lambda: self._release(org, batch, Why.TOO_LATE))
        return answer, Sent(answer.code, elapsed_ms)

    def _settle(self, org: Org, claimed: Claimed, answer: Reply | NoReply, sent: Sent) -> Delivered:
        batch = claimed.batch
        request = request_id(batch.id) if org.request_id_header else ""
        verdict = read_answer(batch.jobs, answer, meanings_of(org), request=request)
        if verdict.signal is Signal.UNAUTHORIZED and self.auth.refused(org, claimed.credentials):
            verdict = replace(verdict, signal=Signal.STALE_TOKEN)
        if batch.is_again:
            verdict = read_again(verdict, org)
        decided = settlements(batch.jobs, verdict, org=org, random=self.random)
        settled = self._insist(lambda: self.queue.settle(org, batch, decided, verdict=verdict, sent=sent))
        _log(org, batch, verdict, sent, settled)
        return Delivered(org.name, batch, verdict, sent, settled)

    def _release(self, org: Org, batch: Batch | Wait, why: Why) -> Wait:
        if isinstance(batch, Wait):
            return batch
        settled = self.queue.release(org, batch.id, batch.jobs, share=batch.share)
        return Wait(why, settled.look_at_ms)

    def _insist(self, call: Callable[[], T]) -> T:
        """Call until Redis takes it: what is known of a batch must not be lost because Redis is away."""
        clock = self.queue.clock
        end = clock.monotonic_s() + INSIST_S
        while True:
            try:
                return call()
            except StoreError as error:
                if clock.monotonic_s() > end:
                    raise
                log.warning("store.unavailable", reason=str(error), trying_again_in_s=INSIST_EVERY_S)
                clock.sleep(INSIST_EVERY_S)


def _request(org: Org, batch: Batch, name: str = "badges__request") -> dict[str, str]:
    """Return the id that the batch's call carries, under a name; nothing where calls carry none."""
    return {name: request_id(batch.id)} if org.request_id_header else {}


def _traced(org: Org, batch: Batch) -> AbstractContextManager[Span]:
    links = (job.traceparent for job in batch.jobs)
    jobs = len(batch.jobs)
    return tracing.span(
        "badges.batch",
        kind="consumer",
        links=links,
        badges__org=org.name,
        badges__batch=batch.id,
        badges__jobs=jobs,
        **_request(org, batch),
    )


def _note(span: Span, done: Delivered) -> None:
    settled = done.settled
    span.note(badges__status=done.sent.status, badges__issued=settled.issued, badges__dead=settled.dead)
    if done.sent.request != "-":
        span.note(badges__answered=done.sent.request)
    if done.verdict.signal is not Signal.OK:
        span.fail(f"{done.verdict.signal.value}: {done.verdict.reason}")


def _log(org: Org, batch: Batch, verdict: Verdict, sent: Sent, settled: Settled) -> None:
    """One line a batch, one a dead job, and one for each badge issued twice, which must never be missed."""
    well = verdict.signal in (Signal.OK, Signal.STALE_TOKEN)
    (log.info if well else log.warning)(
        "batch.settled",
        jobs=len(batch.jobs),
        issued=settled.issued,
        dead=settled.dead,
        retrying=settled.retrying,
        queued=settled.queued,
        status=sent.status,
        elapsed_ms=sent.elapsed_ms,
        **_request(org, batch, "request"),
        **({"answered": sent.request} if sent.request != "-" else {}),
        **({"again": True} if batch.is_again else {}),
        **({} if verdict.signal is Signal.OK else {"signal": verdict.signal.value, "reason": verdict.reason}),
    )
    if settled.paused:
        log_paused(org.name, settled.paused, verdict.reason)
    # Of a request that was sent again, who is in doubt was so before.
    _log_dead(one for one in settled.died if not (batch.is_again and one.kind == DeadKind.IN_DOUBT))
    for job_id in settled.twice:
        log.critical("job.issued_twice", job=job_id)


def _log_dead(died: Iterable[Died]) -> None:
    for job_id, run, kind, code in died:
        log.warning("job.dead", job=job_id, run=run, kind=kind, code=code)
