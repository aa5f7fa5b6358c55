"""Reading back: runs with their progress, jobs with their results. Nothing here changes anything."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import redis

from worker import keys
from worker.config import Org
from worker.errors import ConfigError, NotFound
from worker.job import DeadKind, State, iso_time, result_row

PAGE = 500
COUNTED = ("queued", "sending", "retrying", "issued", "dead")


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Where a run is; names and order are the contract's. ``total`` counts accepted and invalid rows."""

    run: str
    org: str
    total: int
    queued: int
    sending: int
    retrying: int
    issued: int
    dead: int
    duplicates: int
    invalid: int
    dead_kinds: dict[str, int] = field(default_factory=dict)
    started_at: str | None = None
    finished_at: str | None = None
    eta_s: int | None = None

    @property
    def open(self) -> int:
        """Jobs that aren't in a terminal state yet."""
        return self.queued + self.sending + self.retrying

    def states(self) -> list[int]:
        """How many jobs are in each state, in the order of ``COUNTED``."""
        return [getattr(self, state) for state in COUNTED]

    def as_json(self) -> dict[str, Any]:
        """Return it as ``badges run show --json`` prints it."""
        return asdict(self)


class Reports:
    """Reads runs and jobs of all orgs."""

    def __init__(self, *, client: redis.Redis, orgs: Mapping[str, Org]) -> None:
        self._client = client
        self._orgs = orgs

    def org_names(self, only: str | None = None) -> list[str]:
        """Return the orgs there are: configured, or with jobs from when they were.

        Raises:
            ConfigError: ``only`` is none of them.
        """
        names = {str(name) for name in self._client.smembers(keys.ORGS)} | set(self._orgs)
        if only and only not in names:
            raise ConfigError(f"there is no org {only!r}; there are: {', '.join(sorted(names))}")
        return [only] if only else sorted(names)

    def runs(self, org: str | None = None) -> list[RunProgress]:
        """Return every run, oldest first within its org."""
        return [
            self._progress(name, str(run))
            for name in self.org_names(org)
            for run in self._client.zrange(keys.key(name, "runs"), 0, -1)
        ]

    def run(self, run: str, org: str | None = None) -> RunProgress:
        """Return one run; the first org that has one of that name, unless one is said.

        Raises:
            NotFound: no org has such a run.
        """
        for name in self.org_names(org):
            if self._client.exists(keys.key(name, "run", run)):
                return self._progress(name, run)
        raise NotFound(f"there is no run {run!r}; see: badges run list")

    def job(self, job_id: str, org: str | None = None) -> dict[str, Any]:
        """Return the whole record of a job, with the history of its attempts.

        Raises:
            NotFound: no org has such a job, or its result has expired.
        """
        for name in self.org_names(org):
            record = self._hash(keys.key(name, "job", job_id))
            if record:
                return result_row(name, job_id, record) | _details(record)
        raise NotFound(f"there is no job {job_id!r}, or its result has expired")

    def results(
        self, *, org: str | None = None, run: str | None = None, state: State | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield one row a job, run by run in the order they came; memory stays flat."""
        if run:
            found = self.run(run, org)
            runs = [(found.org, run)]
        else:
            runs = [(progress.org, progress.run) for progress in self.runs(org)]
        for its_org, its_run in runs:
            for job_id, record in self._records(its_org, self.ids(its_org, its_run)):
                if state is None or record["s"] == state:
                    yield result_row(its_org, job_id, record)

    def dead(
        self, *, org: str | None = None, kinds: Iterable[DeadKind] = DeadKind
    ) -> Iterator[tuple[str, str, dict[str, str]]]:
        """Yield org, id and record of every dead letter of these kinds, oldest first within each."""
        for name in self.org_names(org):
            for kind in kinds:
                ids = (str(i) for i, _ in self._client.zscan_iter(keys.key(name, "dead", kind), count=PAGE))
                for job_id, record in self._records(name, ids):
                    yield name, job_id, record

    def _hash(self, key: str) -> dict[str, str]:
        return {str(name): str(value) for name, value in self._client.hgetall(key).items()}

    def ids(self, org: str, run: str) -> Iterator[str]:
        """Yield the ids of a run's jobs, in the order they came."""
        key, at = keys.key(org, "jobs", run), 0
        while page := self._client.lrange(key, at, at + PAGE - 1):
            yield from (str(job_id) for job_id in page)
            at += PAGE

    def _records(self, org: str, ids: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
        page: list[str] = []
        for job_id in ids:
            page.append(job_id)
            if len(page) == PAGE:
                yield from self._fetch(org, page)
                page = []
        yield from self._fetch(org, page)

    def _fetch(self, org: str, ids: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
        pipe = self._client.pipeline(transaction=False)
        for job_id in ids:
            pipe.hgetall(keys.key(org, "job", job_id))
        yield from ((i, record) for i, record in zip(ids, pipe.execute(), strict=True) if record)

    def _progress(self, org: str, run: str) -> RunProgress:
        record = self._hash(keys.key(org, "run", run))
        counted = {name: int(record.get(name, 0)) for name in ("total", *COUNTED, "duplicates", "invalid")}
        waiting = counted["queued"] + counted["sending"] + counted["retrying"]
        return RunProgress(
            run=run,
            org=org,
            **counted,
            dead_kinds={k: n for k in DeadKind if (n := int(record.get(f"dead:{k}", 0)))},
            started_at=iso_time(record.get("started_at")),
            finished_at=iso_time(record.get("finished_at")),
            eta_s=self._eta_s(org, waiting),
        )

    def _eta_s(self, org: str, waiting: int) -> int | None:
        """How long the rate limit makes what waits in this run take; unknown while the org is paused."""
        if org not in self._orgs or self._client.hexists(keys.key(org, "gate"), "paused"):
            return None
        settings = self._orgs[org]
        per_second = min(limit.count / limit.window_s for limit in settings.limits)
        return round(-(-waiting // settings.batch_size) / per_second)


def follow(reports: Reports, run: str, *, org: str | None = None, every_s: float) -> Iterator[RunProgress]:
    """Yield a run's progress until every job of it has ended."""
    while True:
        progress = reports.run(run, org)
        yield progress
        if progress.open == 0:
            return
        time.sleep(every_s)


def _details(record: Mapping[str, str]) -> dict[str, Any]:
    """Return what a job's record says beyond its row in the results."""
    attempts = []
    for letter in sorted(record):
        if letter[0] == "h" and letter[1:].isdigit():
            at_ms, batch, status, code = record[letter].split(" ", 3)
            attempts.append({"at": iso_time(at_ms), "batch": batch, "status": status, "code": code})
    return {
        "row": record.get("n"),
        "batch": record.get("B"),
        "raw": record.get("w"),
        "replayed_as": record.get("R"),
        "replay_of": record.get("O"),
        "second_earnedBadgeId": record.get("j"),
        "history": sorted(attempts, key=lambda attempt: str(attempt["at"])),
    }
