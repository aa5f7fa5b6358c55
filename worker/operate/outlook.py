"""When runs and jobs have ended, as far as anybody knows: at the pace of now, behind what waits before them.

How fast an org goes is said by ``status.py``; what waits for its time is read by ``store/runs.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import replace

from worker.operate.progress import RunProgress, why_later
from worker.operate.status import OrgState
from worker.server.cluster import Redis
from worker.store import runs
from worker.store.record import Record

AHEAD = 100  # runs before one that are looked at to say when it is done


def of_runs(
    client: Redis,
    found: Sequence[RunProgress],
    undos: Container[tuple[str, str]],
    states: Mapping[str, OrgState],
) -> list[RunProgress]:
    """Say of runs, in the order they began, when each is done: those of one org wait in one queue."""
    ahead: dict[str, int] = {}
    told = []
    for run in found:
        if not run.open:
            told.append(run)
            continue
        if run.later or (run.cancelled and run.queued + run.retrying):
            told.append(replace(run, eta_s=None, held=why_later(run)))
            continue
        state, waiting = states[run.org], run.queued + run.retrying
        if (run.org, run.run) in undos:
            eta_s = _undone_in_s(client, state, run.open, runs.by_run(run.run))
            told.append(replace(run, eta_s=eta_s, held=state.held))
            continue
        if run.org not in ahead:
            # Those that began before it are sent first.
            ahead[run.org] = runs.open_before(client, run.org, run.run, most=AHEAD)
        before = min(ahead[run.org], max(0, state.queued + state.isolated + state.retrying - waiting))
        last = runs.last_retry_ms(client, run.org, runs.by_run(run.run)) if run.retrying else None
        eta_s = state.seconds_for(before + run.open, last_ms=last)
        told.append(replace(run, eta_s=eta_s, held=state.held))
        ahead[run.org] += run.open
    return told


def of_jobs(
    client: Redis, state: OrgState, jobs: Collection[str], *, retrying: bool, undo: bool
) -> int | None:
    """Say how long these jobs of an org take at least, s.

    ``retrying``: whether any of them is to be tried again; ``undo``: they take badges back.
    """

    def are_these(job_id: str, _: Record) -> bool:
        return job_id in jobs

    if undo:
        return _undone_in_s(client, state, len(jobs), are_these)
    last = runs.last_retry_ms(client, state.org, are_these) if retrying else None
    return state.seconds_for(len(jobs), last_ms=last)


def _undone_in_s(
    client: Redis, state: OrgState, jobs: int, is_meant: Callable[[str, Record], bool]
) -> int | None:
    again = state.undo_retrying > 0
    last = runs.last_retry_ms(client, state.org, is_meant, undo=True) if again else None
    return state.seconds_for_calls(max(state.to_undo, jobs), last_ms=last)
