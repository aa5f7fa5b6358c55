"""The commands about dead letters: what there are and what ends them; ``replays.py`` sends them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import typer

from worker.cli import tables
from worker.cli.asking import DryRun, Yes, ask
from worker.cli.doubts import doubts_cli, resolve_from, resolve_one
from worker.cli.output import AsJson, AsJsonLines, Limit, form_of, say_json, say_listing
from worker.cli.progress import progress_bar
from worker.cli.replays import replays_cli
from worker.cli.session import ItsOrg, Note, Session, filtered, session
from worker.domain.job import DeadKind
from worker.domain.text import counted
from worker.errors import StoreError
from worker.operate import deadletters, deadlist
from worker.operate.deadlist import Filter
from worker.operate.report import option

dead_cli = typer.Typer(name="dead", help="Dead letters: jobs that need a person.", no_args_is_help=True)
dead_cli.add_typer(replays_cli)
dead_cli.add_typer(doubts_cli)


@dead_cli.command("list")
@filtered
def dead_list(
    which: Filter, limit: Limit = None, as_json: AsJson = False, as_lines: AsJsonLines = False
) -> None:
    """List dead letters, each with its reason, of each org and kind the oldest first."""
    form = form_of(as_json=as_json, as_lines=as_lines)
    with session() as here:
        which = here.chosen(which)
        say_listing(
            deadlist.rows(here.reports, which),
            form=form,
            limit=limit,
            show=lambda rows: tables.show_dead(rows) if rows else _say_none(which),
            count=lambda: sum(deadlist.count(here.reports, which).values()),
        )


def _say_none(which: Filter) -> None:
    tables.out.print("no dead letters" + (" that fit" if which.as_json() else ""))
    if which.customer is not None:
        counted_by = f"badges forget --customer {which.customer} --dry-run"
        tables.out.print(f"  (invalid rows aren't found by their customer; {counted_by} counts them)")


@dead_cli.command("groups")
@filtered
def dead_groups(
    which: Filter, limit: Limit = None, as_json: AsJson = False, as_lines: AsJsonLines = False
) -> None:
    """Count dead letters by kind, code and badge, largest group first."""
    form = form_of(as_json=as_json, as_lines=as_lines)
    with session() as here:
        which = here.chosen(which)
        groups = deadlist.groups(here.reports, which)
    say_listing(groups, form=form, limit=limit, show=tables.show_groups, count=lambda: len(groups))
    if form != "words":
        return
    if not groups:
        _say_none(which)
        return
    its = {"org": which.org, "run": which.run}
    run = "".join(f" {option(name, value)}" for name, value in its.items() if value)
    if any(group.kind == DeadKind.IN_DOUBT for group in groups):
        tables.out.print(
            f"  in doubt: badges dead check{tables.safe(run)} asks the vendor about all of them;"
        )
        tables.out.print("    or, by what its support or an export says: badges dead resolve --from FILE")
    hints = {}
    if any(group.kind in deadlist.REPLAYED_UNASKED for group in groups):
        hints["a group mended"] = f"badges dead replay{run} --badge BADGE --set badgeMetaId=… --dry-run"
    if any(group.kind == DeadKind.REPEAT for group in groups):
        hints["repeats sent all the same"] = f"badges dead replay{run} --kind repeat --dry-run"
    hints["row by row"] = f"badges results{run} --state dead --format csv -o report.csv"
    for what, command in hints.items():
        tables.out.print(f"  {what}: {tables.safe(command)}")


@dead_cli.command("discard")
@filtered
def dead_discard(
    which: Filter, dry_run: DryRun = False, yes: Yes = False, note: Note = "", as_json: AsJson = False
) -> None:
    """Take dead letters off the list for good.

    Their records stay as long as results do (RESULT_TTL_DAYS), so that importing them again can't issue them.
    """
    if not which.is_said:
        raise typer.BadParameter("say which: --kind, --run, --code, --badge, --customer, --job or --since")
    with session() as here:
        which = replace(here.chosen(which), until_ms=deadlist.now_ms(here.reports))
        kinds = deadlist.count(here.reports, which)
        count = sum(kinds.values())
        if not dry_run:
            act = f"{_dead_letters(kinds)} would be discarded for good: nobody will see them on a list again"
            ask(act, count, allowed=yes, as_json=as_json)
            count = _discard(here, which, note)
    if as_json:
        say_json({"discarded": count} | ({"kinds": kinds} if dry_run else {}), dry_run=dry_run)
    else:
        tables.out.print(f"{_dead_letters(kinds)} would be discarded" if dry_run else f"{count:,} discarded")


def _discard(here: Session, which: Filter, note: str) -> int:
    try:
        with progress_bar("discarding", None, unit="dead letter") as move:
            return deadletters.discard_all(here.operator(note), which, on_progress=move)
    except (KeyboardInterrupt, StoreError):
        tables.err.print("What was discarded stays so: badges audit counts it. The others are still listed.")
        raise


@dead_cli.command("resolve")
def dead_resolve(
    job_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The job's; see: badges dead list --kind in_doubt.")
    ] = None,
    issued: Annotated[
        bool | None,
        typer.Option("--issued/--not-issued", help="What you found out; --not-issued sends it again now."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Of many: CSV or JSON with issued (yes/no), and job_id, or customerId and badgeMetaId.",
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    note: Note = "",
    org: ItsOrg = None,
    as_json: AsJson = False,
) -> None:
    """Say what became of a job in doubt, once you have looked it up at the vendor; or of many, by a file."""
    if (job_id is None) == (file is None):
        raise typer.BadParameter("say which job or --from FILE, one of both")
    if file is not None:
        if issued is not None:
            raise typer.BadParameter("with --from the file says which were issued")
        resolve_from(file, Filter(org), dry_run=dry_run, yes=yes, note=note, as_json=as_json)
        return
    if issued is None:
        raise typer.BadParameter("say --issued or --not-issued")
    resolve_one(str(job_id), issued=issued, org=org, dry_run=dry_run, note=note, as_json=as_json)


# -- what is said of them


def _dead_letters(kinds: Mapping[str, int]) -> str:
    """Say how many dead letters, and of which kinds."""
    parts = ", ".join(f"{number:,} {kind}" for kind, number in kinds.items())
    return f"{counted(sum(kinds.values()), 'dead letter')}{f' ({parts})' if parts else ''}"
