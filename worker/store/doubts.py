"""Jobs in doubt as the store has them: what is due to be checked, by whom it can be told, what was found.

What is asked of the vendor is in ``vendor/doubt.py``; for many at once in ``operate/doubts.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import redis

from worker.domain.job import State
from worker.server.cluster import reaching
from worker.store import keys, reading
from worker.store.protocol import CHECK_AFTER_S
from worker.store.queue import Queue, chunks
from worker.store.record import Field, state_of

Conclusion = Literal["cleared", "seen", "absent"]


class Witness(NamedTuple):
    """A badge that was issued later: if the vendor shows it, it shows what came before as well."""

    id: str
    badge: str
    customer: int
    issued_at_ms: int


def take_due(queue: Queue, org: str) -> dict[str, Any]:
    """Take what is due to be checked, as ``take_check.lua`` answers; it comes up again by itself."""
    with reaching("doubts"):
        found: dict[str, Any] = queue.store.call("take_check", [keys.key_prefix(org)], [CHECK_AFTER_S * 1000])
    return found


def conclude(  # noqa: PLR0913 - what was found, of what, and when
    queue: Queue,
    org: str,
    ids: Sequence[str],
    found: Conclusion,
    *,
    witness: str = "",
    died_by_ms: int | None = None,
    action: str = "",
) -> int:
    """Write what a check found of jobs that are still in doubt; answers of how many.

    One that died later than ``died_by_ms`` was sent again since, and nobody has looked since then.
    """
    before = "" if died_by_ms is None else died_by_ms
    told = [found, witness, CHECK_AFTER_S * 1000, before, action]
    ask = queue.store.call if found == "absent" else queue.store.durably  # a look that is lost is made again
    done = 0
    for chunk in chunks(ids):
        args = [queue.new_id(), *told, *chunk]
        done += int(ask("conclude_check", [keys.key_prefix(org)], args))
    return done


def witness(client: redis.Redis, org: str, pinned: str = "") -> Witness | None:
    """Return the job that was issued last, or the one that a first look went by."""
    with reaching("doubts"):
        last = str(client.hget(keys.key(org, "gate"), "witness") or "")
        job_id = pinned or last.partition(" ")[0]
        record = reading.records(client, org, [job_id])[0] if job_id else None
    if not record or state_of(record) is not State.ISSUED:
        return None
    badge, customer = record.get(Field.BADGE_META_ID, ""), record.get(Field.CUSTOMER_ID, "0")
    return Witness(job_id, badge, int(customer), int(record.get(Field.FINISHED_AT, 0)))
