"""The page *Audit*: who did what, when, why, and to how many."""

from __future__ import annotations

from worker.operate import paging
from worker.operate.report import option
from worker.web.console.asked import Asked
from worker.web.console.service import Console
from worker.web.console.views import Page, Sorting, turning

SIZE = 50
NEWEST = "-at"


def page(here: Console, asked: Asked) -> Page:
    """Show what was done, the newest first."""
    org, after, sort = asked.text("org"), asked.text("after"), asked.sort(paging.TRAIL_SORTS, NEWEST)
    found = paging.trail(here.reports, org, after, SIZE, sort=sort)
    values = {
        "entries": found.rows,
        "sorted_of": None if sort == NEWEST else paging.SORTED,
        "sorting": Sorting("audit", {"org": org}, sort, paging.TRAIL_SORTS),
        "orgs": here.reports.org_names(),
        "org": org or "",
    } | turning("audit", {"org": org, "sort": None if sort == NEWEST else sort}, after, found.after)
    command = " ".join(["badges audit", *([option("org", org)] if org else [])])
    return Page("audit.html", "Audit", "audit", command, values, live="audit")
