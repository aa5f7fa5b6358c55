"""Reading back: runs, jobs and their results, of all orgs. Nothing here changes anything.

What is known of a run is in ``progress.py``, when it is done in ``outlook.py``, why nothing of an org is
sent in ``standstill.py``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from worker.domain.identity import request_id
from worker.domain.job import State
from worker.domain.names import LAST_RUN
from worker.domain.org import Org
from worker.domain.text import iso_time
from worker.errors import Ambiguous, ConfigError, NotFound
from worker.operate import outlook
from worker.operate.progress import RunProgress, progress_of
from worker.operate.report import report_row
from worker.operate.status import OrgState
from worker.operate.survey import Survey
from worker.operate.which import Which
from worker.server.cluster import Redis
from worker.store import audit, reading, runs
from worker.store.queue import Queue, chunks
from worker.store.reading import PAGE
from worker.store.record import Field, Record, failed_calls, raw_of, state_of, takes_back
from worker.store.runs import RunName

_W = TypeVar("_W", bound=Which)
CANDIDATES = 20  # that are named where a beginning fits several


class JobReader:
    """Reads runs and jobs of all orgs."""

    def __init__(self, *, client: Redis, orgs: Mapping[str, Org]) -> None:
        self._queue = Queue(client)
        self.client, self.store = client, self._queue.store
        self._orgs, self._survey = orgs, Survey(client)

    def org_names(self, only: str | None = None) -> list[str]:
        """Return the orgs there are: configured, or with jobs from when they were.

        Raises:
            ConfigError: ``only`` is none of them.
        """
        names = self._queue.orgs() | set(self._orgs)
        if only is None:
            return sorted(names)
        if only not in names:  # also an empty one: a script's variable without a value isn't all of them
            raise ConfigError(f"there is no org {only!r}; there are: {', '.join(sorted(names))}")
        return [only]

    def runs(self, org: str | None = None, *, newest: int | None = None) -> list[RunProgress]:
        """Return every run, or the newest N, in the order they began."""
        began = self._began(org)
        return self.progress(began[-newest if newest else 0 :])

    def count_runs(self, org: str | None = None) -> int:
        """Count the runs there are."""
        return len(self._began(org))

    def _began(self, org: str | None) -> list[RunName]:
        return runs.began(self.client, self.org_names(org))

    def run(self, run: str, org: str | None = None) -> RunProgress:
        """Return one run; the first org that has one of that name, unless one is said.

        Raises:
            NotFound: no org has such a run.
        """
        for name in self.org_names(org):
            if found := self.progress([(name, run)]):
                return found[0]
        raise NotFound(f"there is no run {run!r}; see: badges run list")

    def run_meant(self, text: str, org: str | None = None) -> RunProgress:
        """Return the run that a person means: by its name, a beginning of it, or ``last``.

        Raises:
            NotFound: there is no such run.
            Ambiguous: several begin so, or several orgs have one of that name.
        """
        its_org, run = self._one(text, self._meant(text, org))
        return self.run(run, its_org)

    def run_named(self, text: str, org: str | None = None) -> str:
        """Return the name of the run that a person means, whichever orgs have one of that name.

        Raises:
            NotFound: there is no such run.
            Ambiguous: several of different names begin so.
        """
        found = self._meant(text, org)
        return found[0][1] if len({run for _, run in found}) == 1 else self._one(text, found)[1]

    def _meant(self, text: str, org: str | None) -> list[RunName]:
        """Return those that can be meant; a whole name goes before a beginning, and before ``last``."""
        if exact := runs.known(self.client, [RunName(name, text) for name in self.org_names(org)]):
            return exact
        began = self._began(org)
        if not text:  # with which each of them begins
            return []
        if text != LAST_RUN:
            return runs.known(self.client, [one for one in began if one.run.startswith(text)])
        return next(filter(None, (runs.known(self.client, [one]) for one in reversed(began))), [])

    @staticmethod
    def _one(text: str, found: Sequence[RunName]) -> RunName:
        if not found:
            raise NotFound(f"there is no run {text!r}; see: badges run list")
        if len(found) == 1:
            return found[0]
        names = [f"{run} (org {org})" for org, run in found[-CANDIDATES:]]
        more = f", and {len(found) - len(names):,} more" if len(found) > len(names) else ""
        raise Ambiguous(
            f"{text!r} can mean {len(found):,} runs: {', '.join(names)}{more}; write more of its name, "
            "or say --org"
        )

    def job(self, job_id: str, org: str | None = None) -> dict[str, Any]:
        """Return the whole record of a job, with the history of its attempts.

        Raises:
            NotFound: no org has such a job, or its result has expired.
            Ambiguous: several orgs have one of that id, which their producers gave.
        """
        found = self._of_one_org(job_id, org)
        if not found:
            raise NotFound(f"there is no job {job_id!r}, or its result has expired")
        name, record = found
        discarded = job_id in self._discarded(name, [(job_id, record)])
        row = report_row(name, job_id, record, discarded=discarded)
        return row | _details(record) | self._undone(name, row, record, {})

    def meant(self, which: _W) -> _W:
        """Return what an act is about, its run by its whole name.

        Raises:
            NotFound: there is no such run.
            Ambiguous: several runs, or jobs of several orgs, can be meant.
        """
        self.orgs_meant(which)
        return which if which.run is None else replace(which, run=self.run_named(which.run, which.org))

    def of_one_run(self, which: _W) -> _W:
        """Do so for an act on a run, which is one org's."""
        if which.run is None:
            return which
        org, run = self._one(which.run, self._meant(which.run, which.org))
        return replace(which, org=org, run=run)

    def orgs_meant(self, which: Which) -> list[str]:
        """Return the orgs that an act may be about; refuse, as ``Ambiguous``, a job that several have."""
        if which.job is not None:
            self._of_one_org(which.job, which.org)
        return self.org_names(which.org)

    def _of_one_org(self, job_id: str, org: str | None) -> tuple[str, Record] | None:
        found = [(name, record) for name in self.org_names(org) for _, record in self.records(name, [job_id])]
        if len(found) > 1:
            raise Ambiguous(f"{job_id!r} is a job of several orgs: {', '.join(dict(found))}; say --org")
        return found[0] if found else None

    def results(
        self,
        *,
        org: str | None = None,
        run: str | None = None,
        state: State | None = None,
        code: str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield a row a job, as ``report.py`` says, run by run in the order they came; memory stays flat.

        It reads every job; those that are dead letters are found faster by ``deadlist.rows``.
        """
        for its_org, its_run in self.run_names(org, run):
            yield from self.rows(its_org, self.records(its_org, self.ids(its_org, its_run)), state, code)

    def rows(
        self,
        org: str,
        jobs: Iterable[tuple[str, Record]],
        state: State | None = None,
        code: str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield a row for each of these jobs, if it is in this state and has this code."""
        acts = dict[str, audit.Act]()
        for page in chunks(jobs, PAGE):
            discarded = self._discarded(org, page)
            for job_id, record in page:
                fits_state = state is None or state_of(record) is state
                if fits_state and (code is None or record.get(Field.CODE) == code):
                    row = report_row(org, job_id, record, discarded=job_id in discarded)
                    yield row | self._undone(org, row, record, acts)

    def _undone(
        self, org: str, row: Mapping[str, Any], record: Record, acts: dict[str, audit.Act]
    ) -> dict[str, Any]:
        """Say of a job whose badge was taken back when, by whom and why; ``acts`` are those known by now."""
        if Field.UNDONE not in record:
            return {}
        at_ms, _, action = record[Field.UNDONE].partition(" ")
        if action not in acts:
            acts[action] = audit.act(self.client, org, action)
        by, note = acts[action]
        at, gone = iso_time(at_ms), record.get(Field.MESSAGE)
        why = f"undone at {at} by {by or 'somebody'}" + (f": {note}" if note else "")
        reason = row["reason"] or (f"{why}; {gone}" if gone else why)
        return {"undone_at": at, "undone_by": by, "undone_note": note, "reason": reason}

    def run_names(self, org: str | None = None, run: str | None = None) -> list[RunName]:
        """Return the runs there are, or the one that is named, each with its org, in the order they began.

        Raises:
            NotFound: no org has such a run.
            Ambiguous: several orgs have one of that name.
        """
        return self._began(org) if run is None else [self._one(run, self._meant(run, org))]

    def _discarded(self, org: str, jobs: Sequence[tuple[str, Record]]) -> set[str]:
        """Return the ids of dead jobs that were taken off the list without another taking their place."""
        dead = [
            (job_id, record[Field.GROUP])
            for job_id, record in jobs
            if state_of(record) is State.DEAD and Field.REPLAYED_AS not in record
        ]
        return {job_id for job_id, _ in dead} - reading.listed(self.client, org, dead).keys()

    def ids(self, org: str, run: str) -> Iterator[str]:
        """Yield the ids of a run's jobs, in the order they came."""
        at = 0
        while page := runs.page_of_ids(self.client, org, run, at):
            yield from page
            at += PAGE

    def others(self, org: str, run: str) -> Iterator[Mapping[str, str]]:
        """Yield the cells of columns that stand for no field, of each of a run's jobs that has any."""
        for page in chunks(self.ids(org, run), PAGE):
            yield from reading.others(self.client, org, page)

    def records(self, org: str, ids: Iterable[str]) -> Iterator[tuple[str, Record]]:
        """Yield id and whole record of these jobs, but for those that have none any more."""
        for page in chunks(ids, PAGE):
            found = zip(page, reading.records(self.client, org, page), strict=True)
            yield from ((job_id, record) for job_id, record in found if record)

    def progress(self, names: Sequence[tuple[str, str]]) -> list[RunProgress]:
        """Read runs, each an org and a name, in one pipeline; those that are forgotten are left out."""
        records = dict(zip(names, runs.counters(self.client, names), strict=True))
        undos = {name for name, record in records.items() if "undoes" in record}
        now_ms = self.store.orgs_now_ms({org for (org, _), its in records.items() if "starts_at" in its})
        found = [
            progress_of(org, run, record, now_ms.get(org, 0))
            for (org, run), record in records.items()
            if record
        ]
        states = {state.org: state for state in self.states(*(run.org for run in found if run.open))}
        return outlook.of_runs(self.client, found, undos, states)

    def states(self, *orgs: str) -> list[OrgState]:
        """Return what these orgs are doing now."""
        return self._survey.states({org: self._orgs.get(org) for org in orgs})


def follow(reports: JobReader, run: str, *, org: str | None = None, every_s: float) -> Iterator[RunProgress]:
    """Yield a run's progress until every job of it has ended."""
    while True:
        progress = reports.run(run, org)
        yield progress
        if progress.open == 0:
            return
        time.sleep(every_s)


def _details(record: Record) -> dict[str, Any]:
    """Return what a job's record says beyond its row in the results."""
    revokes = takes_back(record)  # whose calls carry no request id
    attempts = [
        call._asdict()
        | {
            "at": iso_time(call.at),
            "request": call.request.strip("-") or None,
            "sent_request_id": None if revokes else request_id(call.batch),
        }
        for call in failed_calls(record)
    ]
    return {
        "came_from": record.get(Field.ROW),
        "batch": record.get(Field.BATCH),
        "raw": raw_of(record),
        "replayed_as": record.get(Field.REPLAYED_AS),
        "replay_of": record.get(Field.REPLAY_OF),
        "second_earnedBadgeId": record.get(Field.SECOND_EARNED_BADGE_ID),
        "history": sorted(attempts, key=lambda attempt: str(attempt["at"])),
    }
