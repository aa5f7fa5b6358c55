"""The page *Search*, as ``badges find`` looks, and a job's whole story."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from typing import Any

from worker.errors import BadgesError
from worker.operate import paging, search
from worker.operate.report import argument, option
from worker.operate.search import Sought
from worker.store import audit
from worker.web.console.acts import Act
from worker.web.console.asked import Asked
from worker.web.console.service import Console
from worker.web.console.views import Page, Sorting, turning, url

SIZE = 50
MOST = 1_000  # that are found
BY = {
    "": "anything",
    "customer": "a customer",
    "job": "a job by its id",
    "request": "a request id or batch",
    "earned": "an earnedBadgeId",
}
_MOST_ENTRIES = 2_000  # of the trail that are looked through for one job
_FRESH_S = 20.0  # after so long a search is made again


def page(here: Console, asked: Asked) -> Page:
    """Find jobs and runs by whatever a person has at hand."""
    what, by, badge = asked.text("what") or "", asked.text("by") or "", asked.text("badge")
    org = asked.text("org")
    looked = {sought: _look(here, sought) for sought in _sought(what, by, badge, org)}
    runs = _runs(here, what, org) if what and not by else []
    if what and not by and not runs and not any(look.result for look in looked.values()):
        # Only records tell these: all of them are looked through.
        others = (Sought(request=what, org=org), Sought(earned=what, org=org))
        looked |= {sought: _look(here, sought) for sought in others}
    looks = looked.values()
    found = {_name(row): row for look in looks for row in look.result or []}
    after, sort = asked.text("after"), asked.text("sort") and asked.sort(paging.JOB_SORTS, "")
    asked_for = {"what": what, "by": by, "badge": badge, "org": org}
    if sort:
        jobs = paging.in_order([*found.values()], paging.JOB_SORTS, _name, after, SIZE, sort=sort)
    else:
        jobs = paging.as_found([*found.values()], _name, after, SIZE)
    values = {
        "what": what,
        "by": by,
        "kinds_of_search": BY,
        "badge": badge or "",
        "jobs": jobs.rows,
        "total": len(found),
        "more": len(found) >= MOST,
        "sorting": Sorting("search", asked_for, sort or "", paging.JOB_SORTS),
        "runs": runs,
        "looking": [look.looked_at for look in looks if not look.is_over],
        "failed": next((look.problem for look in looks if look.problem), ""),
        "again": url("search", **asked_for, sort=sort),
        "undo": list(dict.fromkeys(row["org"] for row in found.values() if str(row["customerId"]) == what)),
    } | turning("search", asked_for | {"sort": sort}, after, jobs.after)
    title = f"Search: {what}" if what else "Search"
    finds = next((sought for sought, look in looked.items() if look.result), next(iter(looked), None))
    return Page("search.html", title, "search", _command(finds), values)


def job(here: Console, asked: Asked) -> Page:
    """Show the whole story of a job."""
    found = here.reports.job(asked.need("id"), asked.text("org"))
    values = {"job": found, "acts": _acts(here, found)}
    command = f"badges job show {option('org', found['org'])} {argument(found['job_id'])}"
    return Page("job.html", f"Job {found['job_id']}", "search", command, values, live="job")


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['org']} {row['job_id']} {row['state']}"


def _sought(what: str, by: str, badge: str | None, org: str | None) -> list[Sought]:
    """Return what is looked for at once; a number is a customer's, and may be a job's."""
    if not what:
        return []
    customer = int(what) if what.isascii() and what.isdecimal() and len(what) < 20 else None
    if by in ("request", "earned"):
        return [Sought(request=what, org=org) if by == "request" else Sought(earned=what, org=org)]
    found = [Sought(customer=customer, badge=badge, org=org)] if customer is not None and by != "job" else []
    return found + ([Sought(job=what, org=org)] if by != "customer" else [])


def _look(here: Console, sought: Sought) -> Act:
    """Look in the background, which is over at once for what is found by its letters."""

    def work(act: Act) -> list[dict[str, Any]]:
        def move(looked_at: int) -> None:
            act.move(looked_at, 0)

        return list(islice(search.find(here.reports, sought, on_progress=move), MOST))

    return here.looks.look(f"find {sought}", work, within_s=0.2, fresh_s=_FRESH_S)


def _runs(here: Console, what: str, org: str | None) -> list[Any]:
    """Return the run that is meant, of each org."""
    found = []
    for name in here.reports.org_names(org):
        with suppress(BadgesError):
            found.append(here.reports.run_meant(what, name))
    return found


def _command(sought: Sought | None) -> str:
    """Return the command that finds what the page shows."""
    if sought is None:
        return "badges find --customer CUSTOMER"
    said = ((name, value) for name, value in asdict(sought).items() if value is not None)
    return " ".join(["badges find", *(option(name, str(value)) for name, value in said)])


def _acts(here: Console, job: dict[str, Any]) -> list[Any]:
    """Return what people did to this job by name."""
    entries = audit.before(here.queue.client, job["org"], None, _MOST_ENTRIES)
    return [it for it in entries if it.which.get("job") == job["job_id"]]
