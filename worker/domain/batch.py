"""A batch on its way: what is claimed, what there is to wait for, what was settled.

The transitions that make these values are in ``store/queue.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from worker.domain.job import Job


class Item(NamedTuple):
    """A job to accept: its id, where it came from, and its record's fields; ``kind`` for a dead one."""

    id: str
    row: str
    fields: Sequence[str]
    fingerprint: str = ""
    kind: str = ""


class Replay(NamedTuple):
    """A dead letter to queue again; with a ``new_id``, as a new job with a record of these ``fields``.

    A new job comes from where its dead letter did not: from ``row``, or else from the letter itself. It is
    urgent if that was, or if ``urgent`` says so.
    """

    id: str
    new_id: str = ""
    fields: Sequence[str] = ()
    row: str = ""
    urgent: bool = False


class Died(NamedTuple):
    """A job that became a dead letter."""

    job: str
    run: str
    kind: str
    code: str


class Due(NamedTuple):
    """An org that somebody must look at; ``seen`` is the time that says who took it (``hint.lua``)."""

    org: str
    seen: str
    has_own: bool = False  # workers


@dataclass(frozen=True, slots=True)
class Batch:
    """The jobs that one PUT carries, to be sent at ``send_at`` by ``steady_s()``, and no earlier.

    Its slot in the limit lies between ``slot_from`` and ``send_at``.
    """

    id: str
    jobs: tuple[Job, ...]
    send_at: float
    more: bool
    look_at_ms: int
    slot_from: float = 0.0
    died: tuple[Died, ...] = ()  # on the way to it: given up as in doubt, or of a badge known as missing
    share: int | None = (
        None  # of its org's batches that may be in flight, where that is less than its maximum
    )


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing may start now: what it waits for, and when to look again (-1: nothing to wait for)."""

    why: str
    look_at_ms: int
    check: bool = False  # whether a job in doubt is due to be checked with the vendor
    died: tuple[Died, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a batch's jobs, by number, and what to do next."""

    issued: int
    dead: int
    retrying: int
    queued: int
    late: int
    more: bool
    look_at_ms: int
    twice: tuple[str, ...] = ()
    died: tuple[Died, ...] = ()
    paused: str = ""  # why, where this answer paused the org


@dataclass(frozen=True, slots=True)
class Sent:
    """How the call went, for the record: HTTP status (or our word for none) and milliseconds."""

    status: str
    elapsed_ms: int
