"""A batch on its way: what is claimed, what there is to wait for, what was settled.

The transitions that make these values are in ``store/queue.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from worker.domain.job import Job


class Item(NamedTuple):
    """A job to accept: its id, where it came from, and its record's fields.

    ``fingerprint`` stands for its content where the id is the producer's own. ``kind`` makes it a dead letter
    at once. ``again_of`` is the undone job in whose place it is sent once more.
    """

    id: str
    row: str
    fields: Mapping[str, str]
    fingerprint: str = ""
    kind: str = ""
    again_of: str = ""


class Replay(NamedTuple):
    """A dead letter to queue again; with a ``new`` job that takes its place, which is urgent if that was."""

    id: str
    new: Item | None = None
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


class Slot(NamedTuple):
    """When a call without jobs may be made, by ``steady_s()``; its time in the limit lies between these."""

    call: str
    earliest: float
    send_at: float


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
    gap_s: float = 0.0  # how far behind the one before it is to leave, where the vendor throttles
    died: tuple[Died, ...] = ()  # on the way to it: given up as in doubt, or of a badge known as missing
    share: int | None = None  # how many of its org may be in flight, where that is less than its maximum

    @property
    def is_again(self) -> bool:
        """Whether it is a request that is sent again as it was, with the same id (``lua/_same.lua``)."""
        return "." in self.id


class Why(StrEnum):
    """What a batch waits for; the words of the scripts, and of ``waits_for`` in Flower."""

    IDLE = "idle"  # no job is ready
    LINGER = "linger"  # for the batch to fill
    IN_FLIGHT = "in flight"  # for one of the batches that may be in flight at once
    RATE = "rate"  # for a slot of the limit
    DELIVERIES = "deliveries"  # a look at the vendor, while its share of the limit is used up
    PAUSED = "paused"
    CLOSED = "closed"
    THROTTLED = "throttled"  # closed by a 429
    UNAVAILABLE = "vendor unavailable"
    IN_DOUBT = "answer in doubt"
    SETTLED = "settled"  # the claim is repeated, and its batch has ended
    STORE = "store"  # Redis can't make a claim durable
    TOO_LATE = "too_late"  # its slot has passed: released, not sent
    TOKEN = "token"  # noqa: S105 - another process fetches it
    NO_TOKEN = "no token"  # noqa: S105 - the vendor gave none
    PLACE = "a place in the pool"
    CONFIGURED = "a place in BADGES_ORGS_FILE"


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing may start now: what it waits for, and when to look again (-1: nothing to wait for)."""

    why: Why
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
    """How the call went, for the record: HTTP status (or our word for none) and milliseconds.

    ``request`` is the vendor's id of it, "-" where it said none: no blanks, 40 bytes at most.
    """

    status: str
    elapsed_ms: int
    request: str = "-"
