"""Looking rows up in the past while the next are being read, and counting what an import would accept.

What a check says of its rows beside that is in ``checking.py``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Protocol

from worker.domain.item import Source
from worker.domain.org import Org
from worker.operate.mending import Judged
from worker.store.lookup import Asked
from worker.store.record import Seen

ROWS_NAMED: Final = 20
_LOOKS_AHEAD: Final = 2

_Found = tuple[list[Seen], list[Seen]]


class Past(Protocol):
    """What was accepted before, for those who can look; how many are to be sent ``once_more``."""

    once_more: int

    def look_up(self, contents: Sequence[str], others: Sequence[Asked] = ()) -> _Found:
        """Say what is known of up to 1,000 rows, as ``store.lookup`` does."""

    def judge(self, rows: Sequence[Source], org: Org) -> Judged:
        """Say what a report's rows would do."""


@dataclass(slots=True)
class Counted:
    """How many rows, and the first of them."""

    count: int = 0
    rows: list[int] = field(default_factory=list)

    def add(self, rows: Iterable[str]) -> None:
        """Count rows, in their order."""
        for row in rows:
            self.count += 1
            if len(self.rows) < ROWS_NAMED:
                self.rows.append(int(row))


@dataclass(slots=True)
class Firsts:
    """Rows whose id is new in their file, with that id; of ``near`` there was another with other dates."""

    rows: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    near: set[str] = field(default_factory=set)
    own: dict[str, Seen] = field(default_factory=dict)  # what is known of a producer's own ids
    invalid: list[Asked] = field(default_factory=list)

    def add(self, row: str, content: str, *, is_near: bool) -> None:
        """Add a row whose id is made of its content."""
        self.rows.append(row)
        self.contents.append(content)
        if is_near:
            self.near.add(row)


class LookingBack:
    """What is known of the rows so far; without a ``past``, nobody looks."""

    def __init__(self, past: Past | None, *, hold_repeats: bool) -> None:
        self._past, self._hold_repeats = past, hold_repeats
        self.before, self.near = Counted(), Counted()
        self.accepted = self.new_invalid = 0
        self._looking = ThreadPoolExecutor(1, "past")  # the server looks while the next rows are read
        self._looks: deque[tuple[Firsts, Future[_Found]]] = deque()

    def look(self, firsts: Firsts) -> None:
        """Look for up to 1,000 rows more."""
        if self._past is None:
            self.near.add(sorted(firsts.near, key=int))
            return
        found = self._looking.submit(self._past.look_up, firsts.contents, firsts.invalid)
        self._looks.append((firsts, found))
        self.take_in(left=_LOOKS_AHEAD)

    def of_own(self, job_ids: Sequence[str]) -> dict[str, Seen]:
        """Say at once what is known of up to 1,000 ids of a producer's own: without a ``past``, nothing."""
        if self._past is None or not job_ids:
            return dict.fromkeys(job_ids, Seen.NEW)
        return dict(zip(job_ids, self._past.look_up((), [*map(Asked, job_ids)])[1], strict=True))

    def take_in(self, *, left: int = 0) -> None:
        """Take in what was found, but for the last ``left`` times."""
        while len(self._looks) > left:
            firsts, looked = self._looks.popleft()
            self._know(firsts, *looked.result())

    def _know(self, firsts: Firsts, seen: list[Seen], invalid: list[Seen]) -> None:
        known, near = [], firsts.near
        if seen.count(Seen.NEW) < len(seen):
            known = [row for row, its in zip(firsts.rows, seen, strict=True) if its is Seen.KNOWN]
            similar = {row for row, its in zip(firsts.rows, seen, strict=True) if its is Seen.SIMILAR}
            near = (near | similar).difference(known)
        self.accepted += len(seen) - len(known) - (len(near) if self._hold_repeats else 0)
        own = [row for row, its in firsts.own.items() if its is Seen.KNOWN]
        known += own
        self.accepted += len(firsts.own) - len(own)
        self.new_invalid += len(invalid) - invalid.count(Seen.KNOWN)
        self.before.add(sorted(known, key=int))
        self.near.add(sorted(near, key=int))
