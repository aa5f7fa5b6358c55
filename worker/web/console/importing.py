"""The pages *Import*: a file is uploaded in pieces, looked at, checked, and imported by a worker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from worker.domain.check import Check
from worker.domain.org import DEFAULT_ORG
from worker.domain.text import counted
from worker.errors import ConfigError
from worker.files.columns import FIELDS
from worker.operate.checking import Checking, check_rows
from worker.operate.importing import run_name
from worker.operate.past import StoredPast
from worker.operate.report import option
from worker.operate.staging import Staged
from worker.store import audit
from worker.web.console.acting import typed
from worker.web.console.acts import Act
from worker.web.console.asked import Asked
from worker.web.console.guard import PIECE_BYTES, read_piece
from worker.web.console.service import Console
from worker.web.console.views import Page, url

LEFT_OUT = "-"


def page(here: Console, asked: Asked) -> Page:
    """Take a file, and show those that were uploaded."""
    values = {
        "files": here.staging.all(),
        "orgs": list(here.orgs),
        "org": asked.text("org") or DEFAULT_ORG,
        "most": here.settings.console_upload_max,
        "piece": PIECE_BYTES,
    }
    return Page("import.html", "Import", "import", "badges import FILE --follow", values, live="import")


def staged(here: Console, asked: Asked) -> Page:
    """Show an uploaded file: what its columns stand for, what the check says, how far its import is."""
    about = here.staging.get(asked.need("id"))
    values: dict[str, Any] = {
        "file": about,
        "fields": FIELDS,
        "left_out": LEFT_OUT,
        "columns": {},
        "sample": [],
    }
    check = None
    if about.state == "there":
        look = here.staging.look(about)
        unclear = look.problem and look.columns != about.names.said
        values |= {"sample": look.rows, "columns": look.columns, "problem": look.problem, "unclear": unclear}
        check = None if look.problem and look.columns != about.names.said else _check(here, about)
    done = check if check and check.state == "done" else None
    values |= {
        "check": done.result if done else None,
        "checking": check if check and not check.is_over else None,
        "failed": check.problem if check else "",
        "act": audit.action_id(here.queue, "import"),
        "run": run_name(about.name),
    }
    return Page("staged.html", about.name, "import", _command(about), values, live="staged")


def begin(here: Console, asked: Asked) -> Response:
    """Make room for a file that is about to be uploaded."""
    made = here.staging.begin(asked.need("name"), asked.whole("size") or 0, asked.text("org") or DEFAULT_ORG)
    return JSONResponse({"id": made.id, "offset": 0})


def offset(here: Console, asked: Asked) -> Response:
    """Say how much of a file is there."""
    about = here.staging.get(asked.need("id"))
    return JSONResponse({"id": about.id, "offset": here.staging.size(about.id), "size": about.size})


async def piece(here: Console, request: Request) -> Response:
    """Take a piece of a file, which belongs behind so many bytes."""
    asked = Asked.of(request)
    body = await read_piece(request)
    if body is None:
        raise HTTPException(413, f"a piece has at most {PIECE_BYTES:,} bytes, and must arrive in time")
    at = asked.whole("offset") or 0
    there = await run_in_threadpool(here.staging.append, asked.need("id"), at, body)
    return JSONResponse({"offset": there})


def columns(here: Console, asked: Asked) -> str:
    """Write down what the columns of a file stand for."""
    about = here.staging.get(asked.need("id"))
    if about.state != "there":
        raise ConfigError(f"{about.name} is {about.state}: its columns can't be changed any more")
    maps = []
    for name, value in asked.given.items():
        if name.startswith("column:") and value:
            maps.append(f"{name.partition(':')[2]}={'' if value == LEFT_OUT else value}")
    try:
        here.staging.change(
            about.id, maps=json.dumps(maps), without_dates="1" if asked.text("without_dates") else "0"
        )
        _ = here.staging.get(about.id).names
    except ValueError as error:
        here.staging.change(about.id, maps="[]")
        raise ConfigError(f"{error}; the columns are as they were") from None
    return url("staged", id=about.id)


def start(here: Console, asked: Asked) -> str:
    """Let a worker import a checked file: it is that one's from now on."""
    about = here.staging.get(asked.need("id"))
    if about.state != "there":  # a second click
        return url("staged", id=about.id)
    check = _check(here, about)
    check.over.wait(20)
    if check.state != "done":
        raise ConfigError("nothing was done: the file must be checked first")
    typed(asked, check.result.rows)
    run, act = asked.text("run") or run_name(about.name), asked.need("act")
    which = {"run": run, "file": about.name}
    here.operator(asked.text("note") or "").begin(about.org, act, which, counts=False)
    here.staging.change(about.id, state="asked", run=run, alive_at=int(here.wall()))
    here.send_import(about.id)
    return url("staged", id=about.id)


def stop(here: Console, asked: Asked) -> str:
    """Import no more of a file; what was accepted is delivered."""
    about = here.staging.get(asked.need("id"))
    if about.goes_on:
        operator = here.operator(asked.text("note") or "")
        operator.begin(
            about.org,
            audit.action_id(here.queue, "cancel"),
            {"import": about.name, "run": about.run},
            counts=False,
        )
        here.staging.change(about.id, stop=1)
        return url("staged", id=about.id)
    here.staging.remove(about.id)
    return "import"


def _check(here: Console, about: Staged) -> Act:
    org = here.settings.org(about.org)

    def work(act: Act) -> Check:
        past = StoredPast(here.queue, org)
        checking = Checking(org, past, names=about.names)
        with here.staging.rows(about) as rows:
            for so_far in check_rows(checking, rows):
                act.move(so_far.rows, 0)
        return checking.result(past.state())

    return here.looks.look(f"check {about.id} {about.maps} {about.without_dates}", work, within_s=0.3)


def _command(about: Staged) -> str:
    said: Mapping[str, str | None] = about.names.said
    maps = [option("map", f"{column}={field or ''}") for column, field in said.items()]
    dates = ["--without-dates"] if about.without_dates else []
    return " ".join(["badges import", option("org", about.org), *maps, *dates, f"./{about.name}"])


def words(about: Staged) -> str:
    """Say in a few words how far a file is."""
    if about.goes_on or about.state in ("done", "cancelled"):
        return f"{about.state}, {counted(about.rows, 'row')}"
    return about.state
