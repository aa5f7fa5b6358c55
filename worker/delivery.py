"""Delivery: claim a batch, send it, read the answer, settle every job. This is the way of a job.

What may start when is decided in ``scripts/claim.lua``, what an answer means in ``response.py``, what
is done about it in ``policy.py``. A process that dies anywhere in here leaves an overdue lease, which
the next claim gives up as in doubt.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog
from structlog.contextvars import bound_contextvars

from worker import tracing
from worker.domain.batch import Batch, Died, Sent, Settled, Wait
from worker.domain.org import Org
from worker.domain.outcome import NoReply, Reply, Signal, Verdict
from worker.domain.settlement import settlements
from worker.errors import StoreError
from worker.store.protocol import guard_s
from worker.store.queue import SEND_WINDOW_S, Queue
from worker.tracing import Span
from worker.vendor.auth import Authenticator, AuthFailed, Credentials
from worker.vendor.client import TOO_LATE, Fence, VendorClient
from worker.vendor.verdict import read_answer

log = structlog.get_logger()
T = TypeVar("T")

# How long a process that knows what became of a batch keeps trying to write it down. Until the lease ends
# nobody else touches the jobs; after that they are in doubt, and certain knowledge still wins.
INSIST_S = 600.0
INSIST_EVERY_S = 1.0


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
    """Makes at most one PUT per call of ``deliver``; one per process, safe to share between threads."""

    queue: Queue
    client: VendorClient
    auth: Authenticator
    random: Callable[[], float] = random.random  # for the jitter of retries

    def deliver(self, org: Org, *, go_on: Callable[[Batch | Settled], None]) -> Delivered | Wait:
        """Send one batch and settle it, or say what there is to wait for.

        ``go_on`` is called after the claim and after the settlement, to start another delivery if there
        is ``more`` to send now, or to have the org looked at again at ``look_at_ms``.
        """
        credentials = self._credentials(org)
        if isinstance(credentials, Wait):
            return credentials
        asked_at = self.queue.clock.steady_s()  # before the claim: whatever delays us from here on counts
        batch = self._claim(org)
        _log_dead(batch.died)
        if isinstance(batch, Wait):
            return batch
        go_on(batch)
        with bound_contextvars(batch=batch.id), _traced(org, batch) as span:
            answer = self._send(org, batch, credentials, asked_at)
            if isinstance(answer, Wait):
                return answer
            delivered = self._settle(org, batch, credentials, *answer)
            _note(span, delivered)
        go_on(delivered.settled)
        return delivered

    def _credentials(self, org: Org) -> Credentials | Wait:
        credentials = self.auth.credentials(org)
        if not isinstance(credentials, AuthFailed):
            return credentials
        log.error("auth.failed", reason=credentials.reason, pauses=credentials.lasting)
        if credentials.lasting:
            if self.queue.pause(org.name, why="auth", reason=credentials.reason):
                _log_paused(org, "auth", credentials.reason)
            return Wait("paused", -1)
        return Wait("no token", int((self.queue.clock.wall_s() + org.retry_base_s) * 1000))

    def _claim(self, org: Org) -> Batch | Wait:
        """Claim; a claim that may have been made, but can't be relied on, is given back."""
        batch_id = self.queue.new_id()
        try:
            return self.queue.claim(org, batch_id)
        except StoreError as error:
            log.warning("claim.failed", batch=batch_id, reason=str(error))
        return self._insist(
            lambda: self._release(org, self.queue.claim(org, batch_id, durably=False), "store")
        )

    def _send(
        self, org: Org, batch: Batch, credentials: Credentials, asked_at: float
    ) -> tuple[Reply | NoReply, Sent] | Wait:
        """Make the PUT at the batch's time; if it has grown too late for it, give the batch back."""
        fence = Fence(
            slot=batch.slot_from,
            slack_s=guard_s(org) / 2,  # the other half is for the way to the socket
            send_by=max(asked_at, batch.slot_from) + SEND_WINDOW_S,
            retime=lambda: self._retime(org, batch),
        )
        clock = self.queue.clock
        clock.sleep(batch.send_at - clock.steady_s())
        started = clock.monotonic_s()
        answer = self.client.put(org, batch.jobs, credentials.headers, fence=fence)
        elapsed_ms = round((clock.monotonic_s() - started) * 1000)
        if isinstance(answer, Reply):
            return answer, Sent(str(answer.status), elapsed_ms)
        if answer.code == TOO_LATE:
            log.warning("batch.too_late")
            return self._insist(lambda: self._release(org, batch, TOO_LATE))
        return answer, Sent(answer.code, elapsed_ms)

    def _retime(self, org: Org, batch: Batch) -> bool:
        try:
            return self.queue.retime(org, batch)
        except StoreError:
            return False

    def _settle(
        self, org: Org, batch: Batch, credentials: Credentials, answer: Reply | NoReply, sent: Sent
    ) -> Delivered:
        verdict = read_answer(batch.jobs, answer)
        if verdict.signal is Signal.UNAUTHORIZED and self.auth.refused(org, credentials):
            verdict = replace(verdict, signal=Signal.STALE_TOKEN)
        decided = settlements(batch.jobs, verdict, org=org, random=self.random)
        settled = self._insist(lambda: self.queue.settle(org, batch, decided, verdict=verdict, sent=sent))
        _log(org, batch, verdict, sent, settled)
        return Delivered(org.name, batch, verdict, sent, settled)

    def _release(self, org: Org, batch: Batch | Wait, why: str) -> Wait:
        if isinstance(batch, Wait):
            return batch
        settled = self.queue.release(org, batch.id, batch.jobs)
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
    )


def _note(span: Span, done: Delivered) -> None:
    settled = done.settled
    span.note(badges__status=done.sent.status, badges__issued=settled.issued, badges__dead=settled.dead)
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
        **({} if verdict.signal is Signal.OK else {"signal": verdict.signal.value, "reason": verdict.reason}),
    )
    if settled.paused:
        _log_paused(org, settled.paused, verdict.reason)
    _log_dead(settled.died)
    for job_id in settled.twice:
        log.critical("job.issued_twice", job=job_id)


def _log_paused(org: Org, why: str, reason: str) -> None:
    cure = f"badges doctor --org {org.name} says what to mend; then: badges resume --org {org.name}"
    log.error("org.paused", org=org.name, why=why, reason=reason, cure=cure)


def _log_dead(died: Iterable[Died]) -> None:
    for job_id, run, kind, code in died:
        log.warning("job.dead", job=job_id, run=run, kind=kind, code=code)
