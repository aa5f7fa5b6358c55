"""When a run begins: the options of ``badges import`` that hold it, and the command that starts it."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated

import typer

from worker.cli import tables
from worker.cli.output import AsJson, say_json
from worker.cli.session import ItsOrg, Note, RunName, session
from worker.domain.localdates import in_zone, read_zone
from worker.domain.text import LATEST_MS, counted
from worker.operate import starting
from worker.operate.report import argument, of_org
from worker.store import audit

start_cli = typer.Typer()

HoldOption = Annotated[bool, typer.Option("--hold", help="Send nothing of it before: badges run start RUN.")]
AtOption = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help="Send nothing of it before that: 2027-01-31T09:00+01:00."),
]


def starts_ms(at: str | None, timezone: str | None, *, hold: bool) -> float | None:
    """Return when a run may be sent, ms: infinity when somebody has to start it, ``None`` at once.

    Raises:
        typer.BadParameter: it is no time, has no zone, or is both.
    """
    if hold and at:
        raise typer.BadParameter("--hold doesn't go with --at")
    if at is None:
        return math.inf if hold else None
    try:
        meant = datetime.fromisoformat(at)
    except ValueError:
        words = f"“{at}” is no time: write it as 2027-01-31T09:00+01:00"
        raise typer.BadParameter(words, param_hint="--at") from None
    try:
        if timezone and meant.tzinfo is None:
            meant = datetime.fromisoformat(in_zone(meant, read_zone(timezone)))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--at") from None
    if meant.tzinfo is None:
        raise typer.BadParameter(
            f"{at} has no zone: write +01:00 or Z behind it, or say --timezone", param_hint="--at"
        )
    if (at_ms := meant.timestamp() * 1000) > LATEST_MS:
        raise typer.BadParameter(f"{at} is too late: hold the run with --hold instead", param_hint="--at")
    return at_ms


@start_cli.command("start")
def run_start(
    run: RunName,
    org: ItsOrg = None,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Send a run now that was imported with --hold, or whose time (--at) is still to come."""
    with session() as here:
        meant = here.reports.run_meant(run, org)
        jobs = starting.start(here.operator(note), meant, action=audit.action_id(here.queue, "start"))
    if as_json:
        say_json({"run": meant.run, "started": jobs})
    else:
        name = of_org(meant.org) + argument(meant.run)
        told = f"{counted(jobs, 'job')} on the way; watch it: badges run follow {name}"
        none = f"nothing of run {meant.run} waits to be sent; see: badges run show {name}"
        tables.out.print(tables.safe(told if jobs else none))
