"""What lies in Redis of runs: their names, counters and ids. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from worker.server.cluster import Redis, reaching
from worker.store import keys
from worker.store.reading import PAGE, records
from worker.store.record import Field, Record
from worker.store.scripts import Store

LATEST = 100  # of what is to be tried again, looked at to find the last of a run


class RunName(NamedTuple):
    """A run is known by its org and its name."""

    org: str
    run: str


def began(client: Redis, orgs: Sequence[str]) -> list[RunName]:
    """Return the runs of these orgs in the order they began; some may be forgotten by now."""
    pipe = client.pipeline(transaction=False)
    for org in orgs:
        pipe.zrange(keys.key(org, "runs"), 0, -1, withscores=True)
    with reaching("runs"):
        found = zip(orgs, pipe.execute(), strict=True)
    in_order = sorted((at_ms, org, str(run)) for org, runs in found for run, at_ms in runs)
    return [RunName(org, run) for _, org, run in in_order]


def known(client: Redis, runs: Sequence[RunName]) -> list[RunName]:
    """Return those of the runs that aren't forgotten."""
    pipe = client.pipeline(transaction=False)
    for org, run in runs:
        pipe.exists(keys.key(org, "run", run))
    with reaching("runs"):
        return [one for one, is_there in zip(runs, pipe.execute(), strict=True) if is_there]


def counters(client: Redis, runs: Sequence[tuple[str, str]]) -> list[Mapping[str, str]]:
    """Return the counters and times of each run; nothing of one that is forgotten."""
    pipe = client.pipeline(transaction=False)
    for org, run in runs:
        pipe.hgetall(keys.key(org, "run", run))
    with reaching("runs"):
        return list(pipe.execute())


def not_begun(store: Store, org: str, runs: Iterable[str]) -> set[str]:
    """Return those of these runs that aren't to be sent yet."""
    names = sorted(set(runs))
    pipe = store.client.pipeline(transaction=False)
    for run in names:
        pipe.hget(keys.key(org, "run", run), "starts_at")
    with reaching("runs"):
        starts = dict(zip(names, pipe.execute() if names else [], strict=True))
    now_ms = store.org_now_ms(org) if any(starts.values()) else 0
    return {run for run, at in starts.items() if at and float(at) > now_ms}


def page_of_ids(client: Redis, org: str, run: str, at: int) -> list[str]:
    """Return the ids of a run's jobs in their order, a page at most, from the one at that place on."""
    with reaching("a run"):
        return [str(one) for one in client.lrange(keys.key(org, "jobs", run), at, at + PAGE - 1)]


def count_ids(client: Redis, org: str, run: str) -> int:
    """Count a run's jobs."""
    with reaching("a run"):
        return int(client.llen(keys.key(org, "jobs", run)))


def open_before(client: Redis, org: str, run: str, *, most: int) -> int:
    """Count the open jobs of the runs that began before this one, the latest ``most`` of them."""
    runs = keys.key(org, "runs")
    with reaching("runs"):
        rank = int(str(client.zrank(runs, run) or 0))
        earlier = client.zrange(runs, max(0, rank - most), rank - 1) if rank else []
        pipe = client.pipeline(transaction=False)
        for one in earlier:
            pipe.hmget(keys.key(org, "run", str(one)), "queued", "sending", "retrying")
        return sum(int(count or 0) for counts in pipe.execute() for count in counts)


def last_retry_ms(
    client: Redis, org: str, is_meant: Callable[[str, Record], bool], *, undo: bool = False
) -> int | None:
    """Return when the last of these jobs is due that are to be tried again, by the org's clock.

    Of more than are looked at, it is when the rest is due at the latest. ``undo``: of badges that are to be
    taken back; the one that is being called isn't counted.
    """
    key = keys.key(org, "revokes" if undo else "retry")
    with reaching("runs"):
        latest: Any = client.zrange(key, 0, LATEST - 1, desc=True, withscores=True)
        its = records(client, org, [job_id for job_id, _ in latest])
        _, called, _ = (str(client.get(keys.key(org, "revoker")) or "") + "  ").split(" ", 2)
    for (job_id, at_ms), record in zip(latest, its, strict=True):
        if job_id != called and is_meant(job_id, record or {}):
            return int(at_ms)
    return int(latest[-1][1]) if len(latest) == LATEST else None


def by_run(run: str) -> Callable[[str, Record], bool]:
    """Return what tells the jobs of a run."""
    return lambda _, record: record.get(Field.RUN) == run
