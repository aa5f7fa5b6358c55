"""The page *Doubt*: jobs that the vendor may have issued, by batch, with what its support asks for.

What is done about many at once is in ``inbulk.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from worker.domain.identity import request_id
from worker.domain.job import DeadKind
from worker.domain.text import counted, iso_time
from worker.errors import ConfigError
from worker.operate import deadletters, deadlist, paging
from worker.operate.deadlist import Filter
from worker.operate.doubts import AT_ONCE
from worker.operate.status import longest
from worker.store import audit, reading
from worker.store.record import Field, Record, failed_calls
from worker.web.console.acting import begin, begun, note_of, typed
from worker.web.console.acts import Act
from worker.web.console.asked import Asked
from worker.web.console.dead import command, parameters
from worker.web.console.service import Console
from worker.web.console.views import Page, turning, url

SIZE = 500  # jobs of a page, which are some batches
LISTED = 25  # jobs of a batch that are shown before somebody asks for all
FOUND = {"issued": "issued", "not_issued": "not issued: sent again now"}


def page(here: Console, asked: Asked) -> Page:
    """Show what is in doubt, by the batch whose call got no certain answer."""
    which, after, newest = of(asked), asked.text("after"), asked.text("order") == "-died"
    found = paging.letters(here.reports, which, after, SIZE, newest=newest)
    listing = parameters(which) | {"order": "-died" if newest else None}
    of_org = {
        org: sum(deadlist.count(here.reports, replace(which, org=org)).values())
        for org in here.reports.org_names(which.org)
    }
    values = {
        "batches": _by_batch(here, found.rows),
        "newest": newest,
        "other_order": url("doubt", **parameters(which), order=None if newest else "-died"),
        "orgs": here.reports.org_names(),
        "org": which.org or "",
        "which": parameters(which),
        "found": FOUND,
        "listed": LISTED,
        "total": sum(of_org.values()),
        "seconds": _asking_s(here, of_org),
        "act": lambda: audit.action_id(here.queue, "resolve"),
        "check": audit.action_id(here.queue, "check"),
    } | turning("doubt", listing, after, found.after)
    return Page("doubt.html", "In doubt", "doubt", command("check", Filter(org=which.org)), values)


def _asking_s(here: Console, of_org: Mapping[str, int]) -> int | None:
    """Say how many seconds the looks at so many jobs take, where anybody knows."""
    states = (state for state in here.states() if of_org.get(state.org))
    return longest(state.seconds_for_calls(of_org[state.org], at_once=AT_ONCE) for state in states)


def of(asked: Asked) -> Filter:
    """Return which jobs in doubt are meant."""
    its = asked.filter()
    return Filter(org=its.org, kind=DeadKind.IN_DOUBT, run=its.run, customer=its.customer, job=its.job)


def resolve(here: Console, asked: Asked) -> str:
    """Write down what became of jobs in doubt: of a whole batch, or of those that are chosen."""
    if known := begun(here, asked):
        return known
    org, found = here.settings.org(asked.need("org")), asked.need("found")
    if found not in FOUND:
        raise ConfigError("say what became of them: issued, or not issued")
    jobs = asked.ids("jobs")
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
    for row, record in _with_records(here, rows):
        call = next(iter([*failed_calls(record)][::-1]), None)
        batch = record.get(Field.BATCH) or (call.batch if call else "")
        entry = batches.setdefault(
            (row["org"], batch),
            {
                "org": row["org"],
                "batch": batch,
                "jobs": [],
                "call": call and call._asdict() | {"at": iso_time(call.at)},
                "sent_as": request_id(batch) if batch else None,
                "answered_as": {},
            },
        )
        entry["jobs"].append(row)
        theirs = (row["requestId"] or "").rpartition("_")[0] or row["requestId"]
        for one in (theirs, call.request.strip("-") if call else ""):
            if one:
                entry["answered_as"].setdefault(one)
    return list(batches.values())


def _with_records(here: Console, rows: Iterable[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Record]]:
    for org, of_org in groupby(rows, key=lambda row: row["org"]):
        its = list(of_org)
        records = reading.all_records(here.queue.client, str(org), [row["job_id"] for row in its])
        yield from ((row, record or {}) for row, record in zip(its, records, strict=True))
