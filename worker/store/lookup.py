"""Looking at the past: which rows were accepted before, however long ago, without accepting any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from worker.domain.identity import short_hash
from worker.store import keys
from worker.store.record import Seen
from worker.store.scripts import Store


class Asked(NamedTuple):
    """A row whose id isn't made of its content: a producer's own id, or that of an invalid row."""

    job_id: str
    is_invalid: bool = False


def look_up(
    store: Store, org: str, contents: Sequence[str], others: Sequence[Asked] = ()
) -> tuple[list[Seen], list[Seen]]:
    """Say what is known of up to 1,000 rows: of those whose ids are made of their contents, and of others.

    Raises:
        StoreError: Redis refused or can't be reached.
    """
    if not (contents or others):
        return [], []
    arguments = ["".join(contents), *(part for one in others for part in (one.job_id, _how(one)))]
    (letters,) = store.call("look_up", [keys.key_prefix(org)], arguments)
    seen = [*map(_SEEN.__getitem__, letters)]
    return seen[: len(contents)], seen[len(contents) :]


_SEEN = {seen.value: seen for seen in Seen}


def _how(asked: Asked) -> str:
    """Say what the id of a row is, where it isn't made of the row's content, as ``look_up.lua`` asks."""
    return "dead:" if asked.is_invalid else f"own:{short_hash(asked.job_id)}"
