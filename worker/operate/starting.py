"""Runs that aren't sent as they come in, but when somebody starts them, or when their time has come."""

from __future__ import annotations

from worker.errors import ConfigError, NotFound
from worker.operate.operator import Operator
from worker.operate.progress import RunProgress
from worker.operate.report import argument
from worker.operate.runs import JobReader


def refuse_begun(reports: JobReader, org: str, run: str) -> None:
    """See that a run can be held: it is new, or is held already.

    Raises:
        ConfigError: its jobs are being sent, or were.
    """
    try:
        there = reports.run(run, org)
    except NotFound:
        return
    if not there.is_later:
        raise ConfigError(
            f"run {run} has begun already, so that it can't be held: give this one another name"
        )


def start(operator: Operator, run: RunProgress, *, action: str) -> int:
    """Let a run begin now; returns how many jobs it holds.

    Raises:
        ConfigError: it has begun before.
    """
    org = operator.orgs.get(run.org)
    if org is None:
        raise ConfigError(f"org {run.org} isn't configured any more, so that nothing of it can be sent")
    begun = ConfigError(f"run {run.run} has begun before; see: badges run show {argument(run.run)}")
    if not run.is_later:
        raise begun
    operator.begin(run.org, action, {"run": run.run})
    held = operator.queue.start(org, run.run, call=operator.queue.new_id(), action=action)
    if held is None:
        raise begun
    return held
