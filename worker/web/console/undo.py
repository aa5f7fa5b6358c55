"""Taking badges back that were issued: of a run, of a customer, or one; its plan, and its act."""

from __future__ import annotations

from typing import Any

from worker.domain.text import counted
from worker.errors import ConfigError
from worker.operate import undoing
from worker.operate.report import argument, option
from worker.operate.undoing import Plan
from worker.operate.which import Which
from worker.store import audit
from worker.web.console.acting import begin, begun, note_of, typed, unchanged
from worker.web.console.acts import Act
from worker.web.console.asked import Asked
from worker.web.console.service import Console
from worker.web.console.views import Page, url


def page(here: Console, asked: Asked) -> Page:
    """Show what an undo would take back, and what it wouldn't."""
    which = _which(here, asked)
    look = _plan(here, which)
    values = {
        "fields": which.as_json(),
        "found": look.result if look.state == "done" else None,
        "looking": not look.is_over,
        "looked_at": look.looked_at,
        "failed": look.problem,
        "act": audit.action_id(here.queue, "undo"),
        "again": url("undo", **which.as_json()),
        "back": _back(which),
    }
    return Page("undo.html", "Undo: the plan", "runs", _command(which), values)


def undo(here: Console, asked: Asked) -> str:
    """Take back what was planned, if that is still as it was shown."""
    if known := begun(here, asked):
        return known
    which, count = _which(here, asked), asked.whole("seen") or 0
    if not count:
        raise ConfigError("nothing was done: there is nothing to be taken back")
    typed(asked, count)

    def work(act: Act) -> dict[str, Any]:
        found = undoing.plan(here.reports, which, on_progress=act.move)
        unchanged(asked, found.jobs)
        _, jobs = undoing.undo(here.operator(note_of(asked)), found, which, run=act.id)
        here.forget_states()
        return {"on their way to be taken back": jobs}

    orgs = [which.org] if which.org else here.reports.org_names(None)
    watch = (url("run", org=orgs[0], run=asked.need("act")), "Watch the undo")
    links = [watch if len(orgs) == 1 else (url("runs"), "The runs"), (_back(which), "Where you came from")]
    return begin(here, asked, "undo", f"Take back {counted(count, 'badge')}", work, links=links)


def _plan(here: Console, which: Which) -> Act:
    def work(act: Act) -> Plan:
        return undoing.plan(here.reports, which, on_progress=act.move)

    run = here.reports.run(which.run, which.org) if which.run else None
    state = f"{run.issued} {run.undone} {run.open}" if run else ""
    return here.looks.look(f"undo {which.as_json()} {state}", work, fresh_s=5)


def _which(here: Console, asked: Asked) -> Which:
    found = Which(
        asked.text("org"), asked.text("run"), asked.text("badge"), asked.customer(), asked.text("job")
    )
    if not found.is_said:
        raise ConfigError("say what is to be taken back: begin at a run or at a job")
    return here.reports.of_one_run(found)


def _back(which: Which) -> str:
    if which.run:
        return url("run", org=which.org, run=which.run)
    return url("job", org=which.org, id=which.job) if which.job else url("search", what=which.customer)


def _command(which: Which) -> str:
    org = [option("org", which.org)] if which.org else []
    if which.job and not which.run:
        return " ".join(["badges job undo", *org, argument(which.job)])
    names = ("badge", "customer", "job")
    said = [option(name, str(value)) for name in names if (value := getattr(which, name)) is not None]
    return " ".join(["badges run undo", *org, *said, *([argument(which.run)] if which.run else [])])
