"""Cancelling what still waits, by ids or as a whole run: it becomes dead letters.

What is being sent is settled as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from worker.domain.job import DeadKind
from worker.operate.operator import Operator
from worker.operate.progress import RunProgress
from worker.operate.runs import JobReader
from worker.store import audit, reading, runs
from worker.store.queue import CHUNK, Queue, chunks


def cancel(
    queue: Queue, org: str, ids: Iterable[str], *, action: str, on_progress: Callable[[int], None]
) -> int:
    """Make dead letters of the jobs that still wait; returns how many. What is being sent is settled.

    ``action`` is the entry of the audit trail that counts them.
    """
    cancelled = seen = 0
    for chunk in chunks(ids):
        cancelled += queue.cancel(org, chunk, call=queue.new_id(), action=action)
        seen += len(chunk)
        on_progress(seen)
    _tidy_lanes(queue, org, action)
    return cancelled


def cancel_run(
    operator: Operator, org: str, run: str, *, action: str, on_progress: Callable[[int], None]
) -> int:
    """Cancel a run as a whole: what waits, and later what of it would wait again; returns how many.

    From the first call on nothing of it is sent any more, wherever the rest is broken off: whatever of it is
    claimed becomes a dead letter then.
    """
    queue, client = operator.queue, operator.reports.client
    total, before = runs.count_ids(client, org, run), reading.cancelled(client, org, run)
    # From its end, so that what is taken off the list meanwhile (forgotten) makes it skip none.
    for first in range((total - 1) // CHUNK * CHUNK, -1, -CHUNK):
        queue.cancel_run(org, run, first, call=queue.new_id(), action=action)
        on_progress(total - first)
    _tidy_lanes(queue, org, action)
    return reading.cancelled(client, org, run) - before


def has_ended(run: RunProgress) -> bool:
    """Say whether nothing is to be cancelled: were it marked, what comes to it some day would be, unasked.

    What is in doubt may turn out not to be issued, and would wait again.
    """
    return not (run.open or run.incomplete or run.dead_kinds.get(DeadKind.IN_DOUBT))


def in_doubt_again(reports: JobReader, before: RunProgress) -> int:
    """Count what was in doubt, waited to be sent again, and is in doubt since its run was cancelled."""
    now = reports.run(before.run, before.org)
    return max(0, now.dead_kinds.get(DeadKind.IN_DOUBT, 0) - before.dead_kinds.get(DeadKind.IN_DOUBT, 0))


def broken_off_at(reports: JobReader, run: RunProgress) -> str | None:
    """Return when a run's cancel began that was broken off, as the trail has it; ``None`` if none was."""
    action = reading.cancelled_by(reports.client, run.org, run.run) if run.waiting else None
    begun = audit.entry(reports.client, run.org, action) if action else None
    return begun.at if begun else None


def _tidy_lanes(queue: Queue, org: str, action: str) -> None:
    """Take the ids of what was cancelled off the ends of the lanes."""
    # Of a run that came last no id could be taken off the queue's end before its last job was cancelled.
    left, before = reading.in_lanes(queue.client, org), -1
    while left and left != before:
        queue.cancel(org, [], call=queue.new_id(), action=action)
        left, before = reading.in_lanes(queue.client, org), left
