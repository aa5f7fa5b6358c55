"""The page *Doubt*: jobs that the vendor may have issued, by batch, with what its support asks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from worker.domain.job import DeadKind
from worker.domain.text import counted
from worker.errors import ConfigError
from worker.operate import deadletters, paging
from worker.operate.deadlist import Filter
from worker.store import audit
from worker.web.console.acting import begin, begun, note_of, typed
from worker.web.console.acts import Act
from worker.web.console.asked import Asked
from worker.web.console.dead import command, parameters
from worker.web.console.service import Console
from worker.web.console.views import Page, url

SIZE = 500  # jobs of a page, which are some batches
FOUND = {"issued": "issued", "not_issued": "not issued: sent again now"}


def page(here: Console, asked: Asked) -> Page:
    """Show what is in doubt, by the batch whose call got no certain answer."""
    given = asked.filter()
    which = Filter(
        org=given.org, kind=DeadKind.IN_DOUBT, run=given.run, customer=given.customer, job=given.job
    )
    after = asked.text("after")
    found = (
        paging.one_letter(here.reports, which)
        if which.job
        else paging.letters(here.reports, which, after, SIZE)
    )
    values = {
        "batches": _by_batch(here, found.rows),
        "next": url("doubt", **parameters(which), after=found.after) if found.after else None,
        "after": after,
        "orgs": here.reports.org_names(),
        "org": given.org or "",
        "found": FOUND,
        "act": lambda: audit.action_id(here.queue, "resolve"),
    }
    return Page("doubt.html", "In doubt", "doubt", command("list", which), values)


def resolve(here: Console, asked: Asked) -> str:
    """Write down what became of jobs in doubt: of a whole batch, or of those that are chosen."""
    if known := begun(here, asked):
        return known
    org, found = here.settings.org(asked.need("org")), asked.need("found")
    if found not in FOUND:
        raise ConfigError("say what became of them: issued, or not issued")
    jobs = asked.need("jobs").split(" ")
    typed(asked, len(jobs))

    def work(act: Act) -> dict[str, Any]:
        operator, done = here.operator(note_of(asked)), 0
        for n, job_id in enumerate(jobs, 1):
            done += deadletters.resolve(operator, org, job_id, issued=found == "issued")
            act.move(n, len(jobs))
        here.forget_states()
        return {FOUND[found].partition(":")[0]: done, "not in doubt any more": len(jobs) - done}

    links = ((url("doubt", org=org.name), "What is in doubt"),)
    return begin(here, asked, "resolve", f"Resolve {counted(len(jobs), 'job')} in doubt", work, links=links)


def _by_batch(here: Console, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put jobs together that one call carried, with what is known of that call."""
    batches: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        job = here.reports.job(row["job_id"], row["org"])
        batch = job["batch"] or (job["history"][-1]["batch"] if job["history"] else "") or "unknown"
        entry = batches.setdefault(
            (row["org"], batch),
            {
                "org": row["org"],
                "batch": batch,
                "jobs": [],
                "history": job["history"][-1:],
                "request_ids": {},
            },
        )
        entry["jobs"].append(row)
        if row["requestId"]:
            entry["request_ids"].setdefault(row["requestId"].rpartition("_")[0] or row["requestId"])
    return list(batches.values())
