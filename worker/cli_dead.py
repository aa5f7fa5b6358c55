"""The commands about dead letters."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from itertools import groupby
from typing import Annotated, Any

import typer

from worker import deadletters, screen
from worker.deadletters import Filter, Replayed
from worker.desk import AnyOrg, AsJson, desk
from worker.errors import BadgesError
from worker.job import DeadKind
from worker.producer import new_run

dead_cli = typer.Typer(help="Dead letters: jobs that need a person.", no_args_is_help=True)

LISTED = 50

_FILTER = {
    "org": AnyOrg,
    "kind": Annotated[DeadKind | None, typer.Option(help="Only this kind.")],
    "run": Annotated[str | None, typer.Option(help="Only of this run.")],
    "code": Annotated[str | None, typer.Option(help="Only with this error code.")],
    "badge": Annotated[str | None, typer.Option(help="Only of this badgeMetaId.")],
    "customer": Annotated[int | None, typer.Option(help="Only of this customerId.")],
    "job": Annotated[str | None, typer.Option(help="Only this job.")],
    "since": Annotated[
        str | None, typer.Option(help="Only those that died since: 90m, 12h, 7d, or a date with offset.")
    ],
}
_AGO = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a filter in place of its parameter ``which``."""

    @wraps(command)
    def with_options(**given: Any) -> None:
        its = {name: given.pop(name) for name in _FILTER}
        its["since_ms"] = _since_ms(its.pop("since"))
        command(which=Filter(**its), **given)

    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "which"]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in _FILTER.items()
    ]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    with_options.__signature__ = inspect.Signature([*options, *own])  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in [*options, *own]}
    return with_options


def _since_ms(text: str | None) -> int | None:
    if text is None:
        return None
    if ago := _AGO.fullmatch(text.strip()):
        return int((time.time() - int(ago[1]) * _SECONDS[ago[2]]) * 1000)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise typer.BadParameter(f"--since takes 90m, 12h, 7d or 2026-11-01T00:00Z, not {text!r}")
    return int(instant.timestamp() * 1000)


@dead_cli.command("list")
@_filtered
def dead_list(
    which: Filter,
    as_json: AsJson = False,
) -> None:
    """List dead letters, each with its reason; with --json one a line, all of them."""
    with desk() as here:
        rows = deadletters.rows(here.reports, which)
        if as_json:
            for row in rows:
                screen.say_json(row)
            return
        shown = [row for row, _ in zip(rows, range(LISTED + 1), strict=False)]
    screen.table(
        "",
        ("job", "run", "badge", "customer", "kind", "code", "message"),
        [
            (r["job_id"], r["run"], r["badgeMetaId"] or "", str(r["customerId"] or ""), *r["error"].values())
            for r in shown[:LISTED]
        ],
    )
    if len(shown) > LISTED:
        screen.out.print(f"… only the first {LISTED}; all of them: --json, or: badges dead groups")


@dead_cli.command("groups")
@_filtered
def dead_groups(
    which: Filter,
    as_json: AsJson = False,
) -> None:
    """Count dead letters by kind, code and badge, largest group first."""
    with desk() as here:
        groups = deadletters.groups(here.reports, which)
    if as_json:
        screen.say_json([group.as_json() for group in groups])
        return
    screen.show_groups(groups)


@dead_cli.command("replay")
@_filtered
def dead_replay(
    which: Filter,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Mend a field: each becomes a new job."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be replayed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue dead letters again, with a new count of attempts.

    Invalid rows can't be replayed: mend the file and import it again. Jobs in doubt may have been issued,
    and are only replayed with --kind in_doubt: the badge may then be issued twice.
    """
    changes = _changes(change or [])
    done = Replayed()
    with desk() as here:
        new = new_run("replay") if changes else ""
        chosen = deadletters.replayable(here.reports, which)
        if dry_run:
            done = Replayed(replayed=sum(1 for _ in chosen))
        else:
            for name, of_one in groupby(chosen, key=lambda dead: dead[0]):
                letters = ((job_id, record) for _, job_id, record in of_one)
                done += deadletters.replay(here.queue, here.org(name), letters, run=new, changes=changes)
    if as_json:
        screen.say_json(done.as_json() | {"dry_run": dry_run})
        return
    verb = "would be replayed" if dry_run else "replayed"
    screen.out.print(f"{done.replayed:,} {verb}, {done.duplicates:,} refused as duplicates")
    if done.run:
        screen.out.print(f"  as new jobs, in run {done.run}: badges run follow {done.run}")


@dead_cli.command("resolve")
def dead_resolve(
    job_id: Annotated[str, typer.Argument(metavar="ID")],
    issued: Annotated[
        bool | None,
        typer.Option("--issued/--not-issued", help="What you found out; --not-issued sends it again now."),
    ] = None,
    org: AnyOrg = None,
) -> None:
    """Say what became of a job in doubt, once you have looked it up at the vendor."""
    if issued is None:
        raise typer.BadParameter("say --issued or --not-issued")
    with desk() as here:
        job = here.reports.job(job_id, org)
        target = here.org(job["org"])
        if issued:
            done = here.queue.resolve(target, job_id, "issued")
        else:
            which = Filter(org=target.name, kind=DeadKind.IN_DOUBT, job=job_id)
            letters = ((found, record) for _, found, record in deadletters.select(here.reports, which))
            done = deadletters.replay(here.queue, target, letters, run="").replayed == 1
    if not done:
        raise BadgesError(f"{job_id} is not in doubt: it is {job['state']}")
    screen.out.print(f"{screen.plain(job_id)} is {'issued' if issued else 'queued again'}")


@dead_cli.command("discard")
@_filtered
def dead_discard(
    which: Filter,
    as_json: AsJson = False,
) -> None:
    """Take dead letters off the list for good; their records stay, so that a re-import can't issue them."""
    if which == Filter(which.org):
        raise typer.BadParameter("say which: --kind, --run, --code, --badge, --customer, --job or --since")
    with desk() as here:
        chosen = deadletters.select(here.reports, which)
        count = sum(here.queue.resolve(here.org(name), job_id, "discard") for name, job_id, _ in chosen)
    if as_json:
        screen.say_json({"discarded": count})
    else:
        screen.out.print(f"{count:,} discarded")


def _changes(given: list[str]) -> dict[str, str]:
    changes = dict(part.partition("=")[::2] for part in given)
    for name, value in changes.items():
        if not name or not value:
            raise typer.BadParameter(f"--set wants FIELD=VALUE, such as badgeMetaId=…, not {name!r}")
    return changes
