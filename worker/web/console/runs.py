"""The pages *Runs*: all of them, and one with its outcomes, its reasons and what can be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.domain.job import DeadKind, State
from worker.domain.text import counted
from worker.errors import ConfigError
from worker.operate import cancelling, deadlist, paging, starting
from worker.operate.deadlist import Filter, Group
from worker.operate.progress import COUNTED, RunProgress
from worker.operate.report import argument, option
from worker.store import audit
from worker.web.console.acting import begin, begun, note_of, typed, unchanged
from worker.web.console.acts import FRESH_S, Act
from worker.web.console.asked import Asked
from worker.web.console.service import Console
from worker.web.console.views import Page, Sorting, turning, url

SIZE = 50
NEWEST = "-began"


def page(here: Console, asked: Asked) -> Page:
    """Show the newest runs, or those before one."""
    org, after, sort = asked.text("org"), asked.text("after"), asked.sort(paging.RUN_SORTS, NEWEST)
    found = paging.runs(here.reports, org, after, SIZE, sort=sort)
    command = " ".join(["badges run list", *([option("org", org)] if org else [])])
    values = {
        "runs": [(run, states(run)) for run in found.rows],
        "sorted_of": None if sort in (NEWEST, "began") else paging.SORTED,
        "sorting": Sorting("runs", {"org": org}, sort, paging.RUN_SORTS),
        "orgs": here.reports.org_names(),
        "org": org or "",
    } | turning("runs", {"org": org, "sort": None if sort == NEWEST else sort}, after, found.after)
    return Page("runs.html", "Runs", "runs", command, values, live="runs")


def one(here: Console, asked: Asked) -> Page:
    """Show a run: its counts, its dead letters by reason, and its jobs."""
    run = here.reports.run_meant(asked.need("run"), asked.text("org"))
    state = asked.text("state")
    if state and state not in COUNTED:
        raise ConfigError(f"there is no state {state!r}; there are: {', '.join(COUNTED)}")
    last, behind = asked.text("sort") == "-row", asked.whole("after")
    after = f"{'-' if last else ''}{behind or 0}"
    jobs = paging.jobs(here.reports, run, State(state) if state else None, after, SIZE)
    rest = (jobs.after or "").removeprefix("-")
    reasons = _reasons(here, run)
    which = {"org": run.org, "run": run.run}
    listing = which | {"state": state, "sort": "-row" if last else None}
    values = {
        "run": run,
        "states": states(run),
        "state": state or "",
        "jobs": jobs.rows,
        "sorting": Sorting("run", which | {"state": state}, "-row" if last else "row", ("row",)),
        "reasons": reasons.result if reasons and reasons.state == "done" else None,
        "counting": reasons is not None and not reasons.is_over,
        "counted_states": COUNTED,
        "act": audit.action_id(here.queue, "cancel"),
        "begin": audit.action_id(here.queue, "start"),
        "which": which,
    } | turning("run", listing, behind, rest)
    command = f"badges run show {option('org', run.org)} {argument(run.run)}"
    return Page("run.html", f"Run {run.run}", "runs", command, values, live="run")


def cancel(here: Console, asked: Asked) -> str:
    """Cancel what still waits of a run."""
    if known := begun(here, asked):
        return known
    run = here.reports.run_meant(asked.need("run"), asked.need("org"))
    if cancelling.has_ended(run):
        raise ConfigError(f"nothing was done: run {run.run} has ended, and nothing of it waits any more")
    if (seen := asked.whole("seen")) is not None and seen < run.waiting:
        raise ConfigError(
            f"changed since you looked: now {counted(run.waiting, 'job')} to be sent, and not {seen:,}"
        )

    def work(act: Act) -> Mapping[str, Any]:
        operator = here.operator(note_of(asked))
        operator.begin(run.org, act.id, {"run": run.run})
        done = cancelling.cancel_run(
            operator, run.org, run.run, action=act.id, on_progress=lambda seen: act.move(seen, run.total)
        )
        doubtful = cancelling.in_doubt_again(here.reports, run)
        return {"cancelled": done} | ({"in doubt again": doubtful} if doubtful else {})

    back = url("plan", do="replay", org=run.org, run=run.run, kind=DeadKind.CANCELLED.value)
    links = (
        (url("run", org=run.org, run=run.run), "The run"),
        (back, "Take it back: replay what was cancelled"),
    )
    title = f"Cancel what waits of run {run.run}"
    return begin(here, asked, "cancel", title, work, links=links)


def start(here: Console, asked: Asked) -> str:
    """Send a run that is on hold, or whose time is still to come."""
    if known := begun(here, asked):
        return known
    run = here.reports.run_meant(asked.need("run"), asked.need("org"))
    unchanged(asked, run.queued)
    typed(asked, run.queued)

    def work(act: Act) -> Mapping[str, Any]:
        jobs = starting.start(here.operator(note_of(asked)), run, action=act.id)
        here.forget_states()
        return {"on their way": jobs}

    links = ((url("run", org=run.org, run=run.run), "Watch the run"),)
    title = f"Start run {run.run}"
    return begin(here, asked, "start", title, work, links=links)


def states(run: RunProgress) -> dict[str, int]:
    """Return how many jobs are in each state."""
    return dict(zip(COUNTED, run.states(), strict=True))


def _reasons(here: Console, run: RunProgress) -> Act | None:
    """Count a run's dead letters by reason, in the background where that takes long."""
    if not run.unhandled:
        return None

    def work(_: Act) -> list[Group]:
        return deadlist.groups(here.reports, Filter(org=run.org, run=run.run))

    return here.looks.look(f"reasons {run.org} {run.run} {run.unhandled} {run.dead}", work, fresh_s=FRESH_S)
