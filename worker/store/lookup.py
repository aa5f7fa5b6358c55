"""Looking at the past: which rows were accepted before, however long ago, without accepting any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from worker.domain.badge import short_hash
from worker.store import keys
from worker.store.record import Seen
from worker.store.scripts import Store


class Asked(NamedTuple):
    """A row to look for: its job's id, and whether that is a producer's own, or of an invalid row."""

    job_id: str
    is_own: bool = False
    is_invalid: bool = False


def look_up(store: Store, org: str, asked: Sequence[Asked]) -> list[Seen]:
    """Say of up to 1,000 rows what is known of them.

    Raises:
        StoreError: Redis refused or can't be reached.
    """
    if not asked:
        return []
    arguments = [part for one in asked for part in (one.job_id, _how(one))]
    (letters,) = store.call("look_up", [keys.key_prefix(org)], arguments)
    return [Seen(letter) for letter in letters]


def _how(asked: Asked) -> str:
    if asked.is_invalid:
        return "dead:"
    return f"own:{short_hash(asked.job_id)}" if asked.is_own else ""
