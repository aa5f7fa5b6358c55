"""The pages *Import*: a file is uploaded in pieces, looked at, checked, and imported by a worker."""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from worker.domain.org import DEFAULT_ORG
from worker.domain.text import iso_time
from worker.enqueue import check_run_name
from worker.errors import ConfigError
from worker.operate.importing import run_name
from worker.operate.report import argument, option
from worker.operate.staging import Staged
from worker.operate.starting import see_that_it_can_wait
from worker.store import audit
from worker.store.pool import fleet
from worker.web.console import checked, columns
from worker.web.console.acting import note_of, typed
from worker.web.console.asked import Asked
from worker.web.console.guard import PIECE_BYTES, read_piece
from worker.web.console.service import Console
from worker.web.console.views import Page, url


def page(here: Console, asked: Asked) -> Page:
    """Take a file, and show those that were uploaded."""
    org = here.settings.org(asked.text("org") or DEFAULT_ORG).name
    values = {
        "files": [(file, iso_time(int(file.came_at * 1000))) for file in here.staging.all()],
        "profiles": columns.of_org(here, org),
        "orgs": list(here.orgs),
        "org": org,
        "most": here.settings.console_upload_max,
        "piece": PIECE_BYTES,
    }
    return Page("import.html", "Import", "import", "badges import FILE --follow", values, live="import")


def staged(here: Console, asked: Asked) -> Page:
    """Show an uploaded file: how it is read, what the check says, how far its import is."""
    about = here.staging.get(asked.need("id"))
    shown: dict[str, Any] = {"file": about, "columns": {}, "sample": [], "how": about.how}
    check = None
    if about.state == "there":
        look = here.staging.look(about)
        shown |= columns.values(here, about, look)
        check = None if look.problem else checked.check(here, about)
    shown |= checked.shown(here, about, check)
    shown |= {
        "act": audit.action_id(here.queue, "import"),
        "run": run_name(about.name),
        "is_alone": about.state == "asked" and not (alive := fleet(here.queue)).places and not alive.own,
    }
    return Page("staged.html", about.name, "import", _command(about), shown, live="staged")


def begin(here: Console, asked: Asked) -> Response:
    """Make room for a file that is about to be uploaded."""
    made = here.staging.begin(asked.need("name"), asked.whole("size") or 0, asked.text("org") or DEFAULT_ORG)
    return JSONResponse({"id": made.id, "offset": 0})


def offset(here: Console, asked: Asked) -> Response:
    """Say how much of a file is there."""
    about = here.staging.get(asked.need("id"))
    return JSONResponse({"id": about.id, "offset": here.staging.size(about.id), "size": about.size})


async def piece(here: Console, request: Request) -> Response:
    """Take a piece of a file, to be written at an offset."""
    asked = Asked.of(request)
    body = await read_piece(request)
    if body is None:
        raise HTTPException(413, f"a piece has at most {PIECE_BYTES:,} bytes, and must arrive in time")
    at = asked.whole("offset") or 0
    there = await run_in_threadpool(here.staging.append, asked.need("id"), at, body)
    return JSONResponse({"offset": there})


def start(here: Console, asked: Asked) -> str:
    """Let a worker import a checked file: it is that one's from now on."""
    act = asked.need("act")
    with here.staging.alone(asked.need("id"), act) as about:
        if is_first := about.state == "there":  # and this is no second click
            _start(here, about, asked, act)
    if is_first:  # and the worker finds it let go
        here.send_import(about.id)
    return url("staged", id=about.id)


def _start(here: Console, about: Staged, asked: Asked, act: str) -> None:
    if asked.text("seen") != about.how.mark:
        raise ConfigError(
            "nothing was done: how the file is read has changed since you looked; load its page again"
        )
    check = checked.check(here, about)
    check.over.wait(20)
    if check.state != "done":
        raise ConfigError(f"nothing was done: {check.problem or 'the file must be checked first'}")
    typed(asked, check.result.rows)
    run = asked.text("run") or run_name(about.name)
    check_run_name(run)
    if hold := asked.text("hold") is not None:
        see_that_it_can_wait(here.reports, about.org, run)
    columns.used(here, about, asked)
    unusual = {"again": about.how.again, "hold": hold}
    which = {"run": run, "file": about.name} | {name: True for name, is_so in unusual.items() if is_so}
    operator = here.operator(note_of(asked))
    operator.begin(about.org, act, which, counts=False)
    now = int(here.wall())
    here.staging.change(
        about.id,
        state="asked",
        run=run,
        by=str(operator.by),
        note=operator.note,
        hold=int(hold),
        alive_at=now,
    )


def stop(here: Console, asked: Asked) -> str:
    """Stop importing a file, of which what was accepted is delivered; or take it away, as the page offered.

    Raises:
        ConfigError: its import has begun, or ended, since the page was loaded.
    """
    about = here.staging.get(asked.need("id"))
    if about.goes_on is not (asked.need("do") == "stop"):
        since = "its import has begun" if about.goes_on else f"its import is {about.state}"
        raise ConfigError(f"nothing was done: {since} by now; load the page of {about.name} again")
    if about.goes_on:
        operator = here.operator(note_of(asked))
        operator.begin(
            about.org,
            audit.action_id(here.queue, "cancel"),
            {"import": about.name, "run": about.run},
            counts=False,
        )
        here.staging.stop(about.id)
        return url("staged", id=about.id)
    here.staging.remove(about.id)
    return "import"


def _command(about: Staged) -> str:
    said = [option("org", about.org), *about.how.options()]
    return " ".join(["badges import", *said, argument(f"./{about.name}")])
