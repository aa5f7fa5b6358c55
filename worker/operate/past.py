"""What was accepted before and what the org is doing now, as a check wants to know it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from worker.domain.item import Source
from worker.domain.org import Org
from worker.operate.mending import Judged, judge
from worker.operate.status import OrgState, idle
from worker.operate.survey import Survey
from worker.store.again import sent_again
from worker.store.lookup import Asked, look_up
from worker.store.queue import Queue
from worker.store.record import Seen


class StoredPast:
    """The past of one org, as it lies in Redis.

    Each of its answers may raise ``StoreError``: Redis refused or can't be reached. With ``again``, rows
    whose badge was taken back since count as new; it says how many there were.
    """

    def __init__(self, queue: Queue, org: Org, *, again: bool = False) -> None:
        self._queue, self._org, self._again = queue, org, again
        self.once_more = 0

    def look_up(self, contents: Sequence[str], others: Sequence[Asked] = ()) -> tuple[list[Seen], list[Seen]]:
        """Say what is known of up to 1,000 rows, as ``lookup.look_up`` does."""
        of_contents, of_others = look_up(self._queue.store, self._org.name, contents, others)
        if not self._again:
            return of_contents, of_others
        ids = [*contents, *("" if one.is_invalid else one.job_id for one in others)]
        seen = [*of_contents, *of_others]
        known = [job_id for job_id, its in zip(ids, seen, strict=True) if its is Seen.KNOWN and job_id]
        again = sent_again(self._queue.client, self._org.name, known)
        self.once_more += len(again)
        seen = [Seen.NEW if job_id in again else its for job_id, its in zip(ids, seen, strict=True)]
        return seen[: len(contents)], seen[len(contents) :]

    def judge(self, rows: Sequence[Source], org: Org) -> Judged:
        """Say what a report's rows would do."""
        judged = judge(self._queue, org, rows, again=self._again)
        self.once_more += len(judged.again)
        return judged

    def state(self) -> OrgState:
        """Say what the org is doing now."""
        orgs: Mapping[str, Org | None] = {self._org.name: self._org}
        (state,) = Survey(self._queue.client).states(orgs)
        return state


class NoPast:
    """The past of an org for which nothing was ever accepted here."""

    def __init__(self, org: Org) -> None:
        self._org, self.once_more = org, 0

    def look_up(self, contents: Sequence[str], others: Sequence[Asked] = ()) -> tuple[list[Seen], list[Seen]]:
        """Know nothing."""
        return [Seen.NEW] * len(contents), [Seen.NEW] * len(others)

    def judge(self, rows: Sequence[Source], org: Org) -> Judged:  # noqa: ARG002
        """Know none of the report's jobs, so that nothing would be done."""
        return Judged((), ())

    def state(self) -> OrgState:
        """Say that nothing waits."""
        return idle(self._org)
