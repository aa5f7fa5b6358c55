"""What becomes of jobs without a vendor: issued by hand, or dead letters from the beginning."""

from __future__ import annotations

from collections.abc import Iterable

from support import item

from worker.domain.batch import Batch, Item, Sent, Settled
from worker.domain.org import Org
from worker.domain.outcome import Issued, Signal, Verdict
from worker.domain.settlement import Settlement
from worker.store.queue import Queue, chunks, new_id


def claimed(queue: Queue, org: Org, batch: str | None = None) -> Batch:
    """Claim a batch; fail if there is none."""
    found = queue.claim(org, batch or new_id())
    assert isinstance(found, Batch), found
    return found


def ids(batch: Batch) -> list[str]:
    """Return the ids of a batch's jobs."""
    return [job.id for job in batch.jobs]


def settle(queue: Queue, org: Org, batch: Batch, *decided: Settlement) -> Settled:
    """Settle a batch whose call went well: each job by its own decision, or all by the one."""
    each = decided if len(decided) == len(batch.jobs) else decided * len(batch.jobs)
    return queue.settle(org, batch, each, verdict=Verdict((), Signal.OK), sent=Sent("200", 1))


def issue_next(queue: Queue, org: Org) -> int:
    """Issue the next batch of what waits; answers how many jobs it had."""
    batch = queue.claim(org, new_id())
    if not isinstance(batch, Batch):
        return 0
    done = [Issued(f"E{job.id}") for job in batch.jobs]
    return settle(queue, org, batch, *done).issued


def bury(
    queue: Queue,
    org: Org,
    numbers: Iterable[int],
    *,
    run: str = "spring",
    kind: str = "rejected",
    **its: str,
) -> list[str]:
    """Make dead letters of these numbers, and return their ids; their records hold ``its`` as well."""
    why = {"attempts": "1", "code": "812", "message": "no good"} | its
    new = [(n, item(n, org=org.name)) for n in numbers]
    items = [Item(it.id, str(n), it.fields | why, kind=kind) for n, it in new]
    for chunk in chunks(items):
        queue.enqueue(org, run=run, items=chunk, call=new_id())
    return [it.id for it in items]


def expire_discarded(queue: Queue) -> int:
    """See that all expire that were discarded by groups, as workers do by and by; returns how many."""
    return sum(iter(lambda: queue.expire_discarded("default"), 0))
