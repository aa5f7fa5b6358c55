"""The page *Search*, and a job's whole story."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from worker.errors import BadgesError, NotFound
from worker.operate import deadlist
from worker.operate.deadlist import Filter
from worker.operate.report import argument, option
from worker.store import audit
from worker.web.console.acts import Act
from worker.web.console.asked import Asked
from worker.web.console.service import Console
from worker.web.console.views import Page

SIZE = 50
_MOST_ENTRIES = 2_000  # of the trail that are looked through for one job


def page(here: Console, asked: Asked) -> Page:
    """Find jobs and runs by whatever a person has at hand."""
    what = asked.text("what")
    values: dict[str, Any] = {
        "what": what or "",
        "jobs": [],
        "runs": [],
        "badge": asked.text("badge") or "",
        "looking": False,
    }
    if what:
        values |= {"jobs": [*_jobs(here, what, asked.text("badge"))], "runs": _runs(here, what)}
    values["looking"] = here.looks.is_busy("letters ")
    command = f"badges job show {argument(what)}" if what else "badges job show JOB"
    return Page("search.html", f"Search: {what}" if what else "Search", "search", command, values)


def job(here: Console, asked: Asked) -> Page:
    """Show the whole story of a job."""
    found = here.reports.job(asked.need("id"), asked.text("org"))
    values = {"job": found, "acts": _acts(here, found)}
    command = f"badges job show {option('org', found['org'])} {argument(found['job_id'])}"
    return Page("job.html", f"Job {found['job_id']}", "search", command, values, live="job")


def _jobs(here: Console, what: str, badge: str | None) -> Iterator[dict[str, Any]]:
    reports = here.reports
    seen: set[tuple[str, str]] = set()
    for org in reports.org_names():
        try:
            found = [reports.job(what, org)]
        except NotFound:
            found = []
        if what.isdecimal() and len(what) < 20:
            found += _letters(here, Filter(org=org, customer=int(what), badge=badge))
        for row in found:
            if (key := (org, row["job_id"])) not in seen:
                seen.add(key)
                yield row


def _letters(here: Console, which: Filter) -> list[dict[str, Any]]:
    """Return a customer's dead letters; they are looked for in the background, which may not be over yet."""

    def work(_: Act) -> list[dict[str, Any]]:
        return list(islice(deadlist.rows(here.reports, which), SIZE))

    dead = sum(sum(state.dead.values()) for state in here.states())
    look = here.looks.look(f"letters {which} {dead}", work)
    return look.result or []


def _runs(here: Console, what: str) -> list[Any]:
    try:
        return [here.reports.run_meant(what)]
    except BadgesError:
        return []


def _acts(here: Console, job: dict[str, Any]) -> list[Any]:
    """Return what people did to this job by name."""
    entries = audit.before(here.queue.client, job["org"], None, _MOST_ENTRIES)
    return [it for it in entries if it.which.get("job") == job["job_id"]]
