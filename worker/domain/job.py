"""The job: one badge to issue, and its states.

What its id is made of is in ``identity.py``, how it is kept in ``store/record.py``, what is shown of it in
``operate/report.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from worker.domain.badge import Badge


class State(StrEnum):
    """Where a job is on its way, in the words of the command line."""

    QUEUED = "queued"
    SENDING = "sending"
    RETRYING = "retrying"
    ISSUED = "issued"
    DEAD = "dead"
    UNDONE = "undone"  # issued, and revoked since


TERMINAL = frozenset({State.ISSUED, State.DEAD, State.UNDONE})


class DeadKind(StrEnum):
    """Why a job needs a person."""

    REJECTED = "rejected"
    EXHAUSTED = "exhausted"
    INVALID = "invalid"
    IN_DOUBT = "in_doubt"
    CANCELLED = "cancelled"
    REPEAT = "repeat"  # held back, since its customer has such a badge already (import --hold-repeats)


# How people read a kind, behind a number or alone.
KIND_WORDS: Mapping[str, str] = {
    DeadKind.REJECTED: "rejected by the vendor",
    DeadKind.EXHAUSTED: "exhausted (tried too often)",
    DeadKind.INVALID: "invalid (never sent)",
    DeadKind.IN_DOUBT: "in doubt (may have been issued)",
    DeadKind.CANCELLED: "cancelled",
    DeadKind.REPEAT: "held back (a repeat)",
}


class Job(NamedTuple):
    """A job as a batch carries it."""

    id: str
    badge: Badge
    attempts: int = 0
    busy: int = 0
    traceparent: str = ""
    run: str = ""
    stored: Sequence[str] = ()  # the fields of its record, in the order of ``store/record.py``
