"""Forgetting a customer, as the store has it; what is found of one is in ``operate/forgetting.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from worker.domain.identity import short_hash
from worker.server.cluster import reaching
from worker.store import audit, keys
from worker.store.queue import Queue, chunks

JOBS = 10  # in a call: taking an id out of the lists of a run of a million takes a while each


class Forgotten(NamedTuple):
    """What a call forgot: jobs, and by memory alone; and what is held back, being in flight or in doubt."""

    jobs: int = 0
    by_memory: int = 0
    in_flight: int = 0
    in_doubt: int = 0

    def __add__(self, other: tuple[int, ...]) -> Forgotten:  # type: ignore[override]
        return Forgotten(*(its + more for its, more in zip(self, other, strict=True)))


def forget_jobs(queue: Queue, org: str, ids: Sequence[str], *, action: str) -> Forgotten:
    """Forget jobs, durably; ``action`` is the entry of the audit trail that counts them."""
    done = Forgotten()
    for page in chunks(ids, JOBS):
        hashed = [part for job_id in page for part in (job_id, short_hash(job_id))]
        done += forget(queue, org, [len(page), *hashed], action=action)
    return done


def forget_remembered(queue: Queue, org: str, prefixes: Sequence[str], *, action: str) -> Forgotten:
    """Forget, durably, that jobs without a record were accepted, by the letters that their ids begin with."""
    done = Forgotten()
    for some in chunks(prefixes):
        done += forget(queue, org, [0, *some], action=action)
    return done


def forget(queue: Queue, org: str, what: Sequence[object], *, action: str, call: str = "") -> Forgotten:
    """Call the script for what it takes behind its first two arguments."""
    args = [call or queue.new_id(), action, *what]
    return Forgotten(*map(int, queue.store.durably("forget", [keys.key_prefix(org)], args)))


def replays(queue: Queue, org: str) -> list[str]:
    """Return the names of the lists of what was replayed."""
    with reaching("the audit trail"):
        acts = audit.entries(queue.client, org)
        return [entry.id for entry in acts if entry.action in {"replay", "resolve"}]


def leave_run(queue: Queue, org: str, run: str, ids: Sequence[str]) -> None:
    """Take ids off the list of a run or a replay; each costs the server a look through all of it."""
    with reaching("the lists of runs"):
        for some in chunks(ids, JOBS):
            pipe = queue.client.pipeline(transaction=False)
            for job_id in some:
                pipe.lrem(keys.key(org, "jobs", run), 0, job_id)
            pipe.execute()
