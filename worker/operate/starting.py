"""Runs that aren't sent as they come in, but when somebody starts them, or when their time has come."""

from __future__ import annotations

from math import inf

from worker.domain.text import iso_time
from worker.errors import ConfigError, NotFound
from worker.operate.operator import Operator
from worker.operate.progress import RunProgress
from worker.operate.report import argument, of_org
from worker.operate.runs import JobReader


def see_that_it_can_wait(reports: JobReader, org: str, run: str, *, until_ms: float = inf) -> None:
    """See that a run can be held until then: it is new or held already, and that is still to come.

    Raises:
        ConfigError: its jobs are being sent, or were; it begins at another time; or that time is over, by
            Redis's clock.
    """
    if until_ms < (now_ms := reports.store.org_now_ms(org)):
        raise ConfigError(
            f"the time when run {run} is to begin is over already: Redis's clock shows {iso_time(now_ms)}"
        )
    try:
        there = reports.run(run, org)
    except NotFound:
        return
    if not there.later:
        if not there.total and not there.starts_ms:  # nothing but duplicates came under this name
            return
        raise ConfigError(
            f"run {run} has begun already, so that it can't be held: give this one another name"
        )
    is_the_same = until_ms == there.starts_ms or abs(until_ms - there.starts_ms) < 1
    if not is_the_same:
        how = f"begins at {there.starts_at}" if there.starts_at else "is on hold"
        raise ConfigError(
            f"run {run} {how}, and a run begins as a whole: say the same, or give this one another name"
        )


def start(operator: Operator, run: RunProgress, *, action: str) -> int:
    """Let a run begin now; returns how many jobs it holds.

    Raises:
        ConfigError: it has begun before, or was cancelled, and that hasn't come to its end.
    """
    org = operator.org(run.org)
    name = of_org(run.org) + argument(run.run)
    begun = ConfigError(f"run {run.run} has begun before; see: badges run show {name}")
    if not run.later:
        raise begun
    if run.cancelled and run.queued:
        raise ConfigError(
            f"run {run.run} was cancelled, so that nothing of it would be sent; to end what is left of it: "
            f"badges run cancel {name}"
        )
    operator.begin(run.org, action, {"run": run.run})
    held = operator.queue.start(org, run.run, call=operator.queue.new_id(), action=action)
    if held is None:
        raise begun
    return held
