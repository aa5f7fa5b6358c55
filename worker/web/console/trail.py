"""The page *Audit*: who did what, when, why, and to how many."""

from __future__ import annotations

from worker.operate import paging
from worker.operate.report import option
from worker.web.console.asked import Asked
from worker.web.console.service import Console
from worker.web.console.views import Page, url

SIZE = 50


def page(here: Console, asked: Asked) -> Page:
    """Show what was done, the newest first."""
    org, after = asked.text("org"), asked.text("after")
    found = paging.trail(here.reports, org, after, SIZE)
    values = {
        "entries": found.rows,
        "next": url("audit", org=org, after=found.after) if found.after else None,
        "orgs": here.reports.org_names(),
        "org": org or "",
        "after": after,
    }
    command = " ".join(["badges audit", *([option("org", org)] if org else [])])
    return Page("audit.html", "Audit", "audit", command, values, live="audit")
