"""Where a run is: what is counted of its jobs, and why it hasn't begun. Read from Redis in ``runs.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from math import inf
from typing import Any

from worker.domain.job import DeadKind
from worker.domain.provenance import NOWHERE, Provenance
from worker.domain.text import iso_time
from worker.operate.report import argument, of_org

_ON_HOLD = "inf"
COUNTED = ("queued", "sending", "retrying", "issued", "dead", "undone")  # which add up to the total


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Where a run is; names and order are the contract's. ``total`` counts accepted and invalid rows.

    Of the dead, ``unhandled`` still need a person; ``handled`` don't any more: they were mended or replayed
    as another job, or discarded. ``held`` says why nothing of it is sent, and what to do about that;
    ``incomplete`` why its file wasn't read to its end, ``source`` where it came from. Jobs of customers that
    were ``forgotten`` since are in none of these numbers. ``near_duplicates`` of its jobs had the badge and
    customer of an earlier one, but other dates. Nothing of it is sent before ``starts_at``, or while it is
    ``on_hold``: before somebody starts it; ``later`` says that this hasn't come yet, by Redis's clock. Where
    it was ``cancelled`` as a whole, nothing of it is sent any more, though some of it may still be queued.
    """

    run: str
    org: str
    total: int
    queued: int
    sending: int
    retrying: int
    issued: int
    dead: int
    duplicates: int
    invalid: int
    dead_kinds: dict[str, int] = field(default_factory=dict)
    started_at: str | None = None
    finished_at: str | None = None
    eta_s: int | None = None
    handled: int = 0
    held: str | None = None
    incomplete: str | None = None
    unhandled: int = 0
    source: Provenance = NOWHERE
    undone: int = 0
    forgotten: int = 0
    near_duplicates: int = 0
    starts_at: str | None = None
    on_hold: bool = False
    later: bool = False
    cancelled: bool = False

    @property
    def open(self) -> int:
        """Jobs that aren't in a terminal state yet."""
        return self.queued + self.sending + self.retrying

    @property
    def starts_ms(self) -> float:
        """When it begins, or began, ms; infinity while it is on hold, 0 if it was never to wait."""
        if self.on_hold:
            return inf
        return datetime.fromisoformat(self.starts_at).timestamp() * 1000 if self.starts_at else 0

    @property
    def waiting(self) -> int:
        """Jobs that wait, and can be cancelled; what is being sent can't."""
        return self.queued + self.retrying

    def states(self) -> list[int]:
        """How many jobs are in each state, in the order of ``COUNTED``."""
        return [getattr(self, state) for state in COUNTED]

    def as_json(self) -> dict[str, Any]:
        """Return it as ``badges run show --json`` prints it."""
        return asdict(self)


def why_later(run: RunProgress) -> str:
    """Say of a run that isn't to be sent yet when it begins, or how."""
    name = of_org(run.org) + argument(run.run)
    if run.cancelled:
        return f"it was cancelled; to end what is left of it: badges run cancel {name}"
    start = f"badges run start {name}"
    return (
        f"it begins at {run.starts_at}; at once: {start}"
        if run.starts_at
        else f"on hold; to send it: {start}"
    )


def progress_of(org: str, run: str, record: Mapping[str, str], now_ms: int) -> RunProgress:
    """Read a run's record; why nothing of it is sent, and when it is done, is said by who knows the org.

    ``now_ms`` is the time by Redis's clock.
    """
    starts_at = record.get("starts_at")
    counted = {name: int(record.get(name, 0)) for name in ("total", *COUNTED, "duplicates", "invalid")}
    unhandled = int(record.get("unhandled", counted["dead"]))
    return RunProgress(
        run=run,
        org=org,
        **counted,
        dead_kinds={k: n for k in DeadKind if (n := int(record.get(f"dead:{k}", 0)))},
        started_at=iso_time(record.get("started_at")),
        finished_at=iso_time(record.get("finished_at")),
        eta_s=0,
        handled=counted["dead"] - unhandled,
        held=None,
        incomplete=record.get("incomplete"),
        unhandled=unhandled,
        source=Provenance.of(record),
        forgotten=int(record.get("forgotten", 0)),
        near_duplicates=int(record.get("near_duplicates", 0)),
        starts_at=None if starts_at == _ON_HOLD else iso_time(starts_at),
        on_hold=starts_at == _ON_HOLD,
        later=float(starts_at or 0) > now_ms,
        cancelled="cancelled" in record,
    )
