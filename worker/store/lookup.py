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
    contents = [one.job_id for one in asked if not (one.is_own or one.is_invalid)]
    others = [one for one in asked if one.is_own or one.is_invalid] if len(contents) < len(asked) else []
    arguments = ["".join(contents), *(part for one in others for part in (one.job_id, _how(one)))]
    (letters,) = store.call("look_up", [keys.key_prefix(org)], arguments)
    seen = [_SEEN[letter] for letter in letters]
    if not others:
        return seen
    of_content, of_others = iter(seen[: len(contents)]), iter(seen[len(contents) :])
    return [next(of_others if one.is_own or one.is_invalid else of_content) for one in asked]


_SEEN = {seen.value: seen for seen in Seen}


def _how(asked: Asked) -> str:
    """Say what the id of a row is, where it isn't made of the row's content, as ``look_up.lua`` asks."""
    return "dead:" if asked.is_invalid else f"own:{short_hash(asked.job_id)}"
