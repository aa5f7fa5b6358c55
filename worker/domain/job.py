"""The job: one badge to issue, its states, and what stands for its content.

How a job is kept is in ``store/record.py``, what is shown of it in ``operate/report.py``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from worker.domain.badge import Badge, short_hash


class State(StrEnum):
    """Where a job is on its way, in the words of the command line."""

    QUEUED = "queued"
    SENDING = "sending"
    RETRYING = "retrying"
    ISSUED = "issued"
    DEAD = "dead"


TERMINAL = frozenset({State.ISSUED, State.DEAD})


class DeadKind(StrEnum):
    """Why a job needs a person."""

    REJECTED = "rejected"
    EXHAUSTED = "exhausted"
    INVALID = "invalid"
    IN_DOUBT = "in_doubt"
    CANCELLED = "cancelled"


class Job(NamedTuple):
    """A job as a batch carries it."""

    id: str
    badge: Badge
    attempts: int = 0
    busy: int = 0
    traceparent: str = ""


def content_hash(org: str, badge: Badge) -> str:
    """Return what stands for this content within this org."""
    return short_hash(org, badge.content())
