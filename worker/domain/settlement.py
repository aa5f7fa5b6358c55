"""What is done about an outcome: keep it, retry, put back, isolate or dead-letter; pure decisions.

``settlements`` turns a verdict into one settlement per job; ``Queue.settle`` writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import assert_never

from worker.domain.job import DeadKind, Job
from worker.domain.org import Org
from worker.domain.outcome import Deferred, Issued, Outcome, Rejected, Signal, Unknown, Verdict


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The job needs a person."""

    kind: DeadKind
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Retry:
    """The job is tried again after ``delay_s`` seconds."""

    delay_s: float
    code: str
    message: str
    spends_attempt: bool
    in_doubt: bool = False  # the call before may have applied it (IN_DOUBT=resend)


@dataclass(frozen=True, slots=True)
class PutBack:
    """The job goes back to the head of the queue, as if nothing had been tried."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Isolate:
    """The job is sent again in calls of at most ``width`` jobs of its ``group``, to find the culprit."""

    group: int
    width: int
    code: str
    message: str


# How often a job waits for the vendor to be done with its customer; with the default delays, a few hours.
BUSY_MAX = 30

# What was issued is all that there is to write of it.
Settlement = Issued | DeadLetter | Retry | PutBack | Isolate


def settlements(
    jobs: Sequence[Job], verdict: Verdict, *, org: Org, random: Callable[[], float]
) -> list[Settlement]:
    """Decide what becomes of each job; ``random`` gives the jitter, between 0 and 1."""
    if verdict.signal is Signal.REFUSED and len(jobs) > 1:
        return _isolate(jobs, verdict)
    whole = verdict.signal is not Signal.OK
    return [
        _settle(job, outcome, whole=whole, org=org, random=random)
        for job, outcome in zip(jobs, verdict.outcomes, strict=True)
    ]


def backoff_s(attempt: int, *, org: Org, random: Callable[[], float]) -> float:
    """Return a delay with full jitter: anything up to base * 2^(attempt-1), capped."""
    return random() * min(org.retry_max_s, org.retry_base_s * 2.0 ** min(attempt - 1, 32))


def _settle(job: Job, outcome: Outcome, *, whole: bool, org: Org, random: Callable[[], float]) -> Settlement:
    """Decide for one job; ``whole``: the outcome is the whole call's, and the gate does the waiting."""
    match outcome:
        case Issued():
            return outcome
        case Rejected(code, message):
            return DeadLetter(DeadKind.REJECTED, code, message)
        case Unknown(code, message) if org.in_doubt != "resend":
            return DeadLetter(DeadKind.IN_DOUBT, code, message)
        case Deferred(code, message, spends_attempt=False) if whole:
            return PutBack(code, message)
        case Deferred(code, message, spends_attempt=False) if job.busy < BUSY_MAX:
            delay_s = backoff_s(job.busy + 1, org=org, random=random)
            return Retry(delay_s, code, message, spends_attempt=False)
        case Deferred() | Unknown():
            return _spend_attempt(job, outcome, org=org, random=random)
        case _:
            assert_never(outcome)


def _spend_attempt(
    job: Job, outcome: Deferred | Unknown, *, org: Org, random: Callable[[], float]
) -> Settlement:
    attempt = job.attempts + 1
    if attempt < org.max_attempts and job.busy < BUSY_MAX:
        delay_s = backoff_s(attempt, org=org, random=random)
        in_doubt = isinstance(outcome, Unknown)
        return Retry(delay_s, outcome.code, outcome.message, spends_attempt=True, in_doubt=in_doubt)
    kind = DeadKind.EXHAUSTED if isinstance(outcome, Deferred) else DeadKind.IN_DOUBT
    return DeadLetter(kind, outcome.code, outcome.message)


def _isolate(jobs: Sequence[Job], verdict: Verdict) -> list[Settlement]:
    """Split what was refused as a whole: by badge if there are several, in halves if there is one."""
    order = sorted(range(len(jobs)), key=lambda n: jobs[n].badge.badge_meta_id)
    groups = [list(group) for _, group in groupby(order, key=lambda n: jobs[n].badge.badge_meta_id)]
    if len(groups) == 1:
        half = (len(order) + 1) // 2
        groups = [order[:half], order[half:]]
    decided: dict[int, Settlement] = {
        place: Isolate(number, len(group), verdict.code, verdict.reason)
        for number, group in enumerate(groups)
        for place in group
    }
    return [decided[place] for place in range(len(jobs))]
