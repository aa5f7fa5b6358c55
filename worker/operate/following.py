"""Following a replay or an undo: where its jobs are, in whichever orgs, until all have ended.

A run is followed by ``runs.py``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import groupby, takewhile
from typing import Any

from worker.domain.job import TERMINAL, State
from worker.errors import NotFound
from worker.operate import outlook
from worker.operate.runs import JobReader
from worker.operate.status import longest
from worker.store import audit, reading, runs
from worker.store.queue import chunks
from worker.store.reading import PAGE
from worker.store.record import Field, Record, state_of
from worker.store.runs import RunName

REQUEUES = ("replay", "resolve")  # acts whose lists hold the jobs that they queued again


@dataclass(frozen=True, slots=True)
class Following:
    """Where the jobs of a replay or an undo are; ``gone`` are those whose results have expired.

    ``held`` says why nothing is sent of an org, or of a run, that some of them are waiting in, and what to do
    about it.
    ``eta_s`` is how long the rest takes at least, what waits before it left out.
    """

    replay: str
    total: int
    queued: int = 0
    sending: int = 0
    retrying: int = 0
    issued: int = 0
    dead: int = 0
    gone: int = 0
    dead_kinds: dict[str, int] = field(default_factory=dict)
    held: str | None = None
    undone: int = 0
    eta_s: int | None = None

    @property
    def open(self) -> int:
        """Jobs that aren't in a terminal state yet."""
        return self.queued + self.sending + self.retrying

    @property
    def waiting(self) -> int:
        """Jobs that wait, and can be cancelled; what is being sent can't."""
        return self.queued + self.retrying

    def as_json(self) -> dict[str, Any]:
        """Return it as ``badges dead follow --json`` prints it."""
        return asdict(self)


def replayed_ids(reports: JobReader, replay: str) -> dict[str, list[str]]:
    """Return the ids that a replay queued, by org.

    Raises:
        NotFound: there is no such replay, or its results have expired.
    """
    found = {org: list(reports.ids(org, replay)) for org in reports.org_names()}
    if not any(found.values()):
        raise NotFound(f"there is no replay {replay!r} that queued anything; see: badges audit")
    return {org: ids for org, ids in found.items() if ids}


def _is_run(reports: JobReader, org: str, name: str) -> bool:
    """Say whether this is the name of a run that no act of this name has made."""
    is_run = runs.known(reports.client, [RunName(org, name)])
    return bool(is_run) and audit.entry(reports.client, org, name) is None


def still_its(reports: JobReader, replay: str) -> dict[str, list[str]]:
    """Return the ids that a replay queued and no later one did again, by org: what of it may be taken back.

    Raises:
        NotFound: there is no such replay, or its results have expired.
    """
    by_org = replayed_ids(reports, replay)
    if any(_is_run(reports, org, replay) for org in by_org):
        raise NotFound(
            f"there is no replay {replay!r}, but a run; what of it waits: badges run cancel {replay}"
        )
    for org, ids in by_org.items():
        later = takewhile(lambda entry: entry.id != replay, audit.entries(reports.client, org))
        others = {it for entry in later if entry.action in REQUEUES for it in reports.ids(org, entry.id)}
        by_org[org] = [job_id for job_id in ids if job_id not in others]
    return by_org


def waiting(reports: JobReader, by_org: Mapping[str, list[str]]) -> int:
    """Count the jobs that still wait, and that ``cancel`` would take."""
    jobs = [(org, job_id) for org, ids in by_org.items() for job_id in ids]
    return sum(state_of(record) in (State.QUEUED, State.RETRYING) for _, _, record in _read(reports, jobs))


def follow(reports: JobReader, replay: str, *, every_s: float) -> Iterator[Following]:
    """Yield the progress of a replay, or of an undo, until every job of it has ended again.

    Raises:
        NotFound: there is none of that name, or its results have expired.
    """
    by_org = replayed_ids(reports, replay)
    undo = any("undoes" in its for its in runs.counters(reports.client, [(org, replay) for org in by_org]))
    waiting = [(org, job_id) for org, ids in by_org.items() for job_id in ids]
    total, ended, kinds = len(waiting), Counter[str](), Counter[str]()
    while True:
        started, still, open_, their_runs = time.monotonic(), [], Counter[str](), set[RunName]()
        for org, job_id, record in _read(reports, waiting):
            state = state_of(record)
            if state is None:
                ended["gone"] += 1
            elif state in TERMINAL:
                ended[state] += 1
                kinds.update([record[Field.KIND]] if Field.KIND in record else [])
            else:
                open_[state] += 1
                still.append((org, job_id))
                their_runs.add(RunName(org, record.get(Field.RUN, "")))
        waiting = still
        eta_s, held = _outlook(reports, still, retrying=open_["retrying"] > 0, undo=undo)
        if why := _not_begun(reports, their_runs):
            eta_s, held = None, held or why
        yield Following(replay, total, **ended, **open_, dead_kinds=dict(kinds), held=held, eta_s=eta_s)
        if not waiting:
            return
        # Looking at a hundred thousand jobs takes a second: that is to be a fifth of the time at most.
        time.sleep(max(every_s, 4 * (time.monotonic() - started)))


def _outlook(
    reports: JobReader, jobs: list[tuple[str, str]], *, retrying: bool, undo: bool
) -> tuple[int | None, str | None]:
    """Say how long these take, which is as long as those of one org do, and why nothing of one is sent."""
    by_org: dict[str, set[str]] = {}
    for org, job_id in jobs:
        by_org.setdefault(org, set()).add(job_id)
    states, how = reports.states(*by_org), {"retrying": retrying, "undo": undo}
    told = [outlook.of_jobs(reports.client, state, by_org[state.org], **how) for state in states]
    return longest(told), next((state.held for state in states if state.held), None)


def _not_begun(reports: JobReader, names: set[RunName]) -> str | None:
    """Say of a run among these that isn't to be sent yet when it begins, or how."""
    for org in sorted({name.org for name in names}):
        for run in sorted(
            runs.not_begun(reports.store, org, (name.run for name in names if name.org == org))
        ):
            return f"nothing of run {run} is sent yet: {reports.run(run, org).held}"
    return None


def _read(reports: JobReader, jobs: list[tuple[str, str]]) -> Iterator[tuple[str, str, Record]]:
    for org, of_org in groupby(jobs, key=lambda job: job[0]):
        for page in chunks((job_id for _, job_id in of_org), PAGE):
            for job_id, record in zip(page, reading.records(reports.client, org, page), strict=True):
                yield org, job_id, record or {}
