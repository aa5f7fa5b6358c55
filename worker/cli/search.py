"""The command ``badges find``: jobs of a customer, or by an id, among all there ever were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Annotated, Any

import typer

from worker.cli import tables
from worker.cli.output import AsJson, AsJsonLines, Limit, form_of, say_listing
from worker.cli.progress import progress_bar
from worker.cli.session import AnyOrg, session
from worker.operate.search import Sought, find, nothing_found

search_cli = typer.Typer()


@search_cli.command("find")
def find_(
    customer: Annotated[int | None, typer.Option(min=1, help="All jobs of this customerId.")] = None,
    badge: Annotated[str | None, typer.Option(help="With --customer: only of this badgeMetaId.")] = None,
    job: Annotated[str | None, typer.Option(help="The job of this id.")] = None,
    request: Annotated[str | None, typer.Option(help="Jobs of this call: its batch, or a requestId.")] = None,
    earned: Annotated[str | None, typer.Option(help="The job that was issued as this earnedBadgeId.")] = None,
    org: AnyOrg = None,
    limit: Limit = None,
    as_json: AsJson = False,
    as_lines: AsJsonLines = False,
) -> None:
    """Find jobs: of a customer, by an id, or by what the vendor called them; expired ones as well.

    A customer and a job are found at once, among millions; --request and --earned look at all results that
    are kept, which takes long where there are many. What has expired is "remembered": that it was accepted.
    """
    if sum(one is not None for one in (customer, job, request, earned)) != 1:
        raise typer.BadParameter("say one of --customer, --job, --request, --earned")
    if badge is not None and customer is None:
        raise typer.BadParameter("--badge goes with --customer", param_hint="--badge")
    form = form_of(as_json=as_json, as_lines=as_lines)
    sought = Sought(customer, badge, job, request, earned, org)
    with session() as here, progress_bar("looking", None, unit="job") as move:
        found = list(find(here.reports, sought, on_progress=move))
    say_listing(found, form=form, limit=limit, show=partial(_show, sought), count=lambda: len(found))


def _show(sought: Sought, rows: Iterable[Mapping[str, Any]]) -> None:
    there = False
    for row in rows:
        there = True
        probably = "" if row["certain"] else "probably "
        what = "  ".join(str(row[name]) for name in ("org", "run", "badgeMetaId", "customerId") if row[name])
        job = tables.safe(row["job_id"] or "-")
        tables.out.print(f"[bold]{job}[/]  {probably}{row['state']}  {tables.safe(what)}")
        why = row["earnedBadgeId"] or row["reason"]
        tables.out.print(f"    [dim]{tables.to_the_second(row['finished_at'])}[/]  {tables.safe(why or '')}")
    if not there:
        tables.out.print(nothing_found(sought))
