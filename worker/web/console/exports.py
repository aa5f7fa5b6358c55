"""Reports to download, as a spreadsheet opens them and as our own importer reads them back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from worker.domain.job import State
from worker.errors import ConfigError
from worker.operate import deadlist, othercolumns
from worker.operate.report import result_lines
from worker.web.console.asked import Asked
from worker.web.console.service import Console
from worker.web.serving import in_pages

BYTE_ORDER_MARK = "\ufeff"  # by which Excel knows UTF-8


def report(here: Console, request: Request) -> Response:
    """Write the results of a run, or the dead letters that fit, as CSV."""
    asked = Asked.of(request)
    which, state = asked.filter(), asked.text("state")
    if state and state not in set(State):
        raise ConfigError(f"there is no state {state!r}")
    run = here.reports.run_meant(which.run, which.org) if which.run else None
    if run:
        which = replace(which, run=run.run)
    elif state not in (None, State.DEAD):
        raise ConfigError(f"say of which run: a report of all runs has dead letters, and not what is {state}")
    if state == State.DEAD or which.kind or run is None:
        rows: Iterable[dict[str, object]] = deadlist.rows(here.reports, which)
        columns = othercolumns.of_dead_letters(here.reports, which)
    else:
        rows = here.reports.results(org=run.org, run=run.run, state=State(state) if state else None)
        columns = othercolumns.of_jobs(here.reports, run.org, run.run)
    lines = result_lines(rows, form="csv", columns=columns)
    name = (
        re.sub(r"[^A-Za-z0-9._-]+", "-", which.run or f"dead-{which.kind or 'letters'}").strip("-.")
        or "report"
    )
    headers = {"Content-Disposition": f'attachment; filename="{name}-report.csv"'}
    return StreamingResponse(
        in_pages(chain([BYTE_ORDER_MARK], lines)), media_type="text/csv; charset=utf-8", headers=headers
    )
