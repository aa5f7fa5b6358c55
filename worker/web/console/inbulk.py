"""Many jobs in doubt at once: the vendor is asked about all of them, or its support has said what became.

Both find something out first and show it; acting on it is a second step, by number. What was found is known
to this process alone: after a restart of the console it is looked up again.
"""

from __future__ import annotations

import io
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse

from worker.domain.text import counted, plain
from worker.errors import ConfigError, NotFound
from worker.operate import doubts, verdicts
from worker.operate.deadlist import Filter
from worker.operate.doubts import Plan
from worker.operate.verdicts import Verdicts
from worker.store import audit
from worker.store.queue import new_id
from worker.vendor.lookups import looking_up
from worker.web.console import doubt
from worker.web.console.acting import begin, begun, note_of, typed
from worker.web.console.acts import Act
from worker.web.console.asked import Asked
from worker.web.console.guard import PIECE_BYTES, read_piece
from worker.web.console.service import Console
from worker.web.console.views import Page, url


def check(here: Console, asked: Asked) -> str:
    """Ask the vendor about jobs in doubt; nothing but the first look at each is noted."""
    if known := begun(here, asked):
        return known
    which = doubt.of(asked)

    def work(act: Act) -> dict[str, Any]:
        operator = here.operator(note_of(asked))
        for org in operator.reports.org_names(which.org):
            operator.begin(org, act.id, which.as_json(), counts=False)
        with looking_up(here.patient) as lookups:
            its = doubts.pairs(operator.reports, which)
            plan = doubts.look(operator, lookups, its, on_progress=act.move, wanted=lambda: act.is_wanted)
        act.kept = plan, which
        return told(plan)

    links = ((url("doubt", org=which.org), "What is in doubt"),)
    return begin(here, asked, "check", "Ask the vendor about what is in doubt", work, links=links)


def told(plan: Plan) -> dict[str, int]:
    """Return what was found, as a page shows it."""
    return {
        "certainly not issued": plan.jobs["not_issued"],
        "shown as issued (it may be an older badge)": plan.jobs["issued"],
        "to be looked at again": plan.jobs["waiting"],
        "can't be told": plan.jobs["unclear"],
        "calls made": plan.calls,
    }


def enough(here: Console, asked: Asked) -> str:
    """Stop asking the vendor; what it has said so far is kept."""
    act_id = asked.need("asking")
    if act := here.acts.get(act_id):
        act.is_wanted = False
    return url("act", id=act_id)


def conclude(here: Console, asked: Asked) -> str:
    """Act on what the vendor has said."""
    if known := begun(here, asked):
        return known
    act = here.acts.get(asked.need("asking"))
    if act is None or not act.kept:
        raise ConfigError("nothing was done: what the vendor said isn't known any more; ask once more")
    plan, which = act.kept
    count = plan.jobs["not_issued"] + plan.jobs["issued"]
    typed(asked, count)

    def work(doing: Act) -> dict[str, Any]:
        done = doubts.act(here.operator(note_of(asked)), plan, which, action=doing.id)
        here.forget_states()
        return {"queued again": done.queued, "ended as issued": done.issued}

    links = ((url("doubt", org=which.org), "What is still in doubt"),)
    return begin(here, asked, "resolve", f"Resolve {counted(count, 'job')} in doubt", work, links=links)


# -- what the vendor's support has said, in a file


async def take(here: Console, request: Request) -> Response:
    """Take a file that says what became of jobs, and look up which of them are in doubt."""
    asked, body = Asked.of(request), await read_piece(request)
    if body is None:
        raise HTTPException(413, f"the file may have {PIECE_BYTES:,} bytes, and must arrive in time")
    name, which = plain(asked.text("name") or "file", 200), Filter(org=asked.text("org"))

    def work(_: Act) -> tuple[str, Verdicts]:
        words = verdicts.read_words(io.BytesIO(body), name=name)
        return name, verdicts.match(here.reports, words, which)

    said = here.looks.begin(f"said-{new_id()}", name, work)
    return JSONResponse({"id": said.id.removeprefix("said-")})


def said(here: Console, asked: Asked) -> Page:
    """Show what a file says of the jobs that are in doubt here."""
    look = _said(here, asked)
    look.over.wait(0.3)
    name, found = look.result or (look.title, None)
    values = {
        "id": asked.need("id"),
        "name": name,
        "found": found,
        "counts": found.counts if found else (0, 0),
        "faults": found.faults[: verdicts.NOTED] if found else [],
        "looking": not look.is_over,
        "failed": look.problem,
        "act": audit.action_id(here.queue, "resolve"),
    }
    return Page("said.html", f"What {name} says", "doubt", "badges dead resolve --from FILE", values)


def settle(here: Console, asked: Asked) -> str:
    """End what was issued by a file's word, and send again what wasn't."""
    if known := begun(here, asked):
        return known
    look = _said(here, asked)
    if look.state != "done":
        raise ConfigError("nothing was done: the file must be read first")
    name, found = look.result
    typed(asked, sum(found.counts))

    def work(act: Act) -> dict[str, Any]:
        operator = here.operator(note_of(asked))
        done = verdicts.act(operator, found, name, action=act.id, on_progress=act.move)
        here.forget_states()
        return {"ended as issued": done.issued, "queued again": done.queued}

    links = ((url("doubt"), "What is still in doubt"),)
    what = counted(sum(found.counts), "job")
    return begin(here, asked, "resolve", f"Resolve {what} by {name}", work, links=links)


def _said(here: Console, asked: Asked) -> Act:
    look = here.looks.get(f"said-{asked.need('id')}")
    if look is None:
        raise NotFound("what this file said isn't known any more: upload it again")
    return look
