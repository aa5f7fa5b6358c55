"""A run in numbers: its jobs by state, code and badge, counted on the server from their records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from worker.operate.progress import RunProgress
from worker.operate.runs import JobReader
from worker.server.cluster import reaching
from worker.store import reading

Move = Callable[[int], None]  # how many records were looked at
UNASKED = 10_000  # jobs of a run that are counted whenever it is shown


@dataclass(frozen=True, slots=True)
class Number:
    """How many jobs of a run have this state, kind of dead letter, code and badge."""

    state: str
    kind: str | None
    code: str | None
    badgeMetaId: str | None  # noqa: N815 - the contract's name
    count: int


@dataclass(frozen=True)
class RunShown(RunProgress):
    """A run, and its jobs in ``numbers``; null where it is large and nobody asked for them."""

    numbers: list[Number] | None = None


def numbers(
    reports: JobReader, run: RunProgress, *, on_progress: Move = lambda _looked_at: None
) -> list[Number]:
    """Count a run's jobs by state, code and badge, the most first; those without a record aren't counted."""
    counts: Counter[reading.Counted] = Counter()
    with reaching("a run's jobs"):
        for looked_at, page in reading.tally(reports.store, run.org, run.run):
            counts += page
            on_progress(looked_at)
    return [
        Number(it.state, it.kind or None, it.code or None, it.badge or None, count)
        for it, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    ]
