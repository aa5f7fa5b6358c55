"""Undo: what was issued is taken back at the vendor, by jobs of their own in a run of their own.

What can be undone is found here and shown as a plan; how it is revoked is in ``vendor/revoking.py``. Only
what has an earnedBadgeId that the vendor gave us is ever revoked; an undo has no undo.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from worker.domain.job import State
from worker.domain.text import counted
from worker.errors import NotAllowed
from worker.operate import undojobs
from worker.operate.operator import Move, Operator
from worker.operate.report import argument, of_org
from worker.operate.runs import JobReader
from worker.operate.status import longest
from worker.operate.which import Which, holds
from worker.store import audit, undos
from worker.store.queue import chunks
from worker.store.record import Field, Record, state_of, takes_back


@dataclass(slots=True)
class Plan:
    """What an undo would take back, by org: the job, and the id of the job that revokes it.

    ``twice`` of them were issued twice, and lose both; ``expired`` have expired by now. ``without_id`` were
    issued without an earnedBadgeId, and can't be undone; ``undone`` were before; ``begun`` an earlier undo
    has in hand, maybe as dead letters.
    """

    ids: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    twice: int = 0
    expired: int = 0
    without_id: int = 0
    undone: int = 0
    begun: int = 0
    seconds: int | None = 0  # None: nobody knows, such as of an org that isn't configured

    @property
    def jobs(self) -> int:
        """How many jobs would be undone."""
        return sum(map(len, self.ids.values()))

    @property
    def calls(self) -> int:
        """How many calls that takes."""
        return self.jobs + self.twice

    def as_json(self) -> dict[str, Any]:
        """Return it as ``badges run undo --json`` prints it."""
        return {
            "jobs": self.jobs,
            "calls": self.calls,
            "seconds": self.seconds,
            "expired": self.expired,
            "issued_twice": self.twice,
            "without_id": self.without_id,
            "undone_before": self.undone,
            "begun_before": self.begun,
        }

    def add(self, reports: JobReader, org: str, jobs: Mapping[str, Record]) -> None:
        """Count jobs that are meant, none that takes a badge back."""
        issued = {job_id: record for job_id, record in jobs.items() if state_of(record) is State.ISSUED}
        revocable = {job_id: record for job_id, record in issued.items() if undojobs.can_be_undone(record)}
        new = undojobs.next_ids(reports, org, revocable)
        self.undone += sum(state_of(record) is State.UNDONE for record in jobs.values())
        self.without_id += len(issued) - len(revocable)
        self.begun += len(revocable) - len(new)
        for job_id, new_id in new.items():
            record = revocable[job_id]
            self.twice += Field.SECOND_EARNED_BADGE_ID in record
            self.expired += float(record.get(Field.EXPIRES_ON) or "inf") < time.time()
            self.ids.setdefault(org, []).append((job_id, new_id))


def plan(
    reports: JobReader,
    which: Which,
    *,
    on_progress: Move = lambda _looked_at, _total: None,
) -> Plan:
    """Find what can be undone.

    Raises:
        NotAllowed: the run still sends: cancel it first.
        NotFound: there is no such run, or no such job.
    """
    found, looked_at = Plan(), 0
    for page in chunks(_records(reports, which)):
        for org, jobs in groupby(page, key=itemgetter(0)):
            its = {job_id: record for _, job_id, record in jobs if not takes_back(record)}
            found.add(reports, org, {one: its[one] for one in its if _fits(which, one, its[one])})
        looked_at += len(page)
        on_progress(looked_at, 0)
    states = reports.states(*found.ids) if found.ids else ()
    found.seconds = longest(
        state.seconds_for_calls(state.to_undo + len(found.ids[state.org]) + found.twice) for state in states
    )
    return found


def _fits(which: Which, job_id: str, record: Record) -> bool:
    """Say whether a job is meant, its run aside."""
    return (
        which.job in (None, job_id)
        and holds(record, which.badge_fields)
        and (which.since_ms is None or int(record.get(Field.FINISHED_AT, 0)) >= which.since_ms)
    )


def _records(reports: JobReader, which: Which) -> Iterator[tuple[str, str, Record]]:
    if which.job is not None and which.run is None:
        its_org = str(reports.job(which.job, which.org)["org"])
        yield from ((its_org, job_id, record) for job_id, record in reports.records(its_org, [which.job]))
        return
    for org, run in reports.run_names(which.org, which.run):
        if which.run and (waiting := reports.run(run, org).open):
            raise NotAllowed(
                f"{counted(waiting, 'job')} of run {run} still to be sent: "
                f"badges run cancel {of_org(org)}{argument(run)}; wait for what is being sent, then undo it"
            )
        yield from ((org, job_id, record) for job_id, record in reports.records(org, reports.ids(org, run)))


def words(count: int) -> str:
    """Say what undoing these would do."""
    whose = "its customer" if count == 1 else "their customers"
    return f"{counted(count, 'badge')} would be taken back from {whose} for good"


def undo(
    operator: Operator,
    found: Plan,
    which: Which,
    *,
    run: str = "",
    on_progress: Callable[[int], None] = lambda _seen: None,
) -> tuple[str, int]:
    """Let what a plan found be taken back; return the name of its run, and how many jobs it has.

    What is undone, or on its way to be, isn't undone again.

    Raises:
        ConfigError: an org of theirs isn't configured any more; nothing was done.
    """
    name, accepted, seen = run or audit.action_id(operator.queue, "undo"), 0, 0
    orgs = {org: operator.org(org) for org in found.ids}
    for org, ids in found.ids.items():
        operator.begin(org, name, which.as_json())
        for chunk in chunks(ids):
            accepted += undos.accept(operator.queue, orgs[org], run=name, ids=chunk)
            seen += len(chunk)
            on_progress(seen)
    return name, accepted
