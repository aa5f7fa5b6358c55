"""The outbox: what has ended in an org, in that order, for the one who keeps it for longer (a ledger).

While an org has a reader, no record of what has ended expires before the reader has acknowledged it; without
one nothing is written. A record is acknowledged as it was read: where it has changed since, a later entry
says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from worker.domain.org import Org
from worker.server.cluster import reaching
from worker.store import keys
from worker.store.protocol import ttl_ms
from worker.store.queue import Queue

MOST = 1000  # entries that are read at once


class Ending(NamedTuple):
    """What ended, how and when: issued, dead, discarded, replaced, undone or forgotten.

    ``number`` grows with each ending of the org. ``stored`` is the job's record as it is now, "" if there is
    none any more: ``store/record.py`` reads it.
    """

    number: int
    job: str
    how: str
    at_ms: int
    stored: str


@dataclass(frozen=True, slots=True)
class Outbox:
    """One org's endings, for one reader."""

    queue: Queue
    org: Org

    def open(self, reader: str) -> bool:
        """Have every ending written from now on; answers ``False`` if another reads this org."""
        return bool(self.queue.store.durably("outbox", [keys.key_prefix(self.org.name)], [reader]))

    def close(self) -> bool:
        """Have no ending written any more; answers ``False`` while something isn't acknowledged."""
        return bool(self.queue.store.durably("outbox", [keys.key_prefix(self.org.name)], [""]))

    def waiting(self) -> int:
        """Count the endings that nobody has acknowledged."""
        with reaching("the outbox"):
            return self.queue.client.llen(keys.key(self.org.name, "outbox"))

    def read(self, most: int = MOST) -> list[Ending]:
        """Return the first endings that nobody has acknowledged; reading them again is harmless."""
        pipe = self.queue.client.pipeline(transaction=True)
        pipe.get(keys.key(self.org.name, "outbox_read"))
        pipe.lrange(keys.key(self.org.name, "outbox"), 0, most - 1)
        with reaching("the outbox"):
            first, entries = pipe.execute()
            parts = [str(entry).split(" ") for entry in entries]
            pipe = self.queue.client.pipeline(transaction=False)
            for job_id, *_ in parts:
                pipe.get(keys.key(self.org.name, "job", job_id))
            records = pipe.execute()
        return [
            Ending(number, job_id, how, int(at_ms), stored or "")
            for number, ((job_id, how, at_ms), stored) in enumerate(
                zip(parts, records, strict=True), int(first or 0)
            )
        ]

    def acknowledge(self, endings: Sequence[Ending]) -> bool:
        """Let go of the first endings, which are kept elsewhere; ``False`` if others stand first by now."""
        if not endings:
            return True
        args: list[object] = [endings[0].number, len(endings), ttl_ms(self.org)]
        for job_id, stored in {ending.job: ending.stored for ending in endings}.items():
            args += job_id, hashlib.sha1(stored.encode(), usedforsecurity=False).hexdigest()
        return bool(self.queue.store.durably("acknowledge", [keys.key_prefix(self.org.name)], args))
