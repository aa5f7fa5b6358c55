"""The jobs that undoes made: of a job, those that are, or were, to take its badge back, in their order.

An undo's job has an id made of what it takes back, so that two undoes at once make one. Where it ended as a
dead letter that somebody discarded, the next undo's is made of that one's id too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from worker.domain.identity import short_hash
from worker.domain.job import State
from worker.operate.runs import JobReader
from worker.store import reading
from worker.store.record import Field, Record, state_of, takes_back

UNCHANGEABLE: Final = "it takes a badge back, and issues none: nothing of it can be changed"


class UndoJob(NamedTuple):
    """A job of an undo, and of which job it is to take the badge back."""

    of: str
    id: str
    record: Record


def find(reports: JobReader, org: str, jobs: Mapping[str, Record]) -> Iterator[UndoJob]:
    """Yield the undoes' jobs of these jobs that have a record, of each the first one first."""
    asked = {_id(org, job_id, record): job_id for job_id, record in jobs.items() if can_be_undone(record)}
    while asked:
        found = dict(reports.records(org, asked))
        yield from (UndoJob(asked[undo_id], undo_id, record) for undo_id, record in found.items())
        asked = {_id(org, asked[undo_id], jobs[asked[undo_id]], undo_id): asked[undo_id] for undo_id in found}


def next_ids(reports: JobReader, org: str, jobs: Mapping[str, Record]) -> dict[str, str]:
    """Return, by job, the id of what would undo it; not of one that an earlier undo's job has in hand."""
    last = {its.of: its for its in find(reports, org, jobs)}
    dead = [(its.id, its.record[Field.GROUP]) for its in last.values() if state_of(its.record) is State.DEAD]
    discarded = {undo_id for undo_id, _ in dead} - reading.listed(reports.client, org, dead).keys()
    return {
        job_id: _id(org, job_id, record, last[job_id].id if job_id in last else "")
        for job_id, record in jobs.items()
        if job_id not in last or last[job_id].id in discarded
    }


def can_be_undone(record: Record) -> bool:
    """Say whether a badge was issued that has an earnedBadgeId, by which it is revoked."""
    return Field.EARNED_BADGE_ID in record and not takes_back(record)


def _id(org: str, job_id: str, record: Record, after: str = "") -> str:
    """Return the id of what takes a job's badge back, behind another that was discarded, if there was one."""
    earned = [record.get(it, "") for it in (Field.EARNED_BADGE_ID, Field.SECOND_EARNED_BADGE_ID)]
    return short_hash("undo", org, job_id, *earned, *([after] if after else []))
