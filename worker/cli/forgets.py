"""The command ``badges forget``: what is kept of a customer goes, once a person has seen what that is."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli import exits, tables
from worker.cli.asking import DryRun, Yes, ask
from worker.cli.output import AsJson, say_json
from worker.cli.progress import progress_bar
from worker.cli.session import AnyOrg, Note, session
from worker.domain.text import counted
from worker.operate import forgetting
from worker.operate.forgetting import Done, Plan
from worker.operate.report import argument

forgets_cli = typer.Typer()


@forgets_cli.command("forget")
def forget_(
    customer: Annotated[int, typer.Option(min=1, help="Whose jobs: the customerId.")],
    org: AnyOrg = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Forget a customer: all records, invalid rows as they came in, and that jobs were ever accepted.

    What waits is cancelled. While a job is in flight or in doubt nothing is removed (exit 1): let it end,
    then say it again. Afterwards nobody knows what the customer got: the same rows imported again are issued
    again. The audit trail keeps that somebody was forgotten, not who: a --note can name the case.
    """
    with session() as here:
        with progress_bar("looking", None, unit="job") as move:
            found = forgetting.plan(here.reports, customer, org, on_progress=move)
        done = None
        if not as_json:
            _show(found)
        if not dry_run:
            act = (
                f"{counted(found.size, 'job')} of customer {customer} would be forgotten for good; the same "
                "rows imported again would be issued again"
            )
            ask(act, found.size, allowed=yes, as_json=as_json)
            with progress_bar("forgetting", None, unit="job"):
                done = forgetting.forget(here.operator(note), found)
    held = bool(done and (done.forgotten.in_flight or done.forgotten.in_doubt))
    if as_json:
        say_json(found.as_json() | (_of_done(done) if done else {"forgotten": 0}), dry_run=dry_run)
    elif done:
        _say(found, done)
    if held:
        raise typer.Exit(exits.FAILED)


def _of_done(done: Done) -> dict[str, int]:
    its = done.forgotten
    return {
        "in_flight": its.in_flight,
        "in_doubt": its.in_doubt,
        "cancelled": done.cancelled,
        "forgotten": its.jobs + its.by_memory,
    }


def _show(found: Plan) -> None:
    if not found.size:
        tables.out.print(f"nothing is kept of customer {found.customer}")
        return
    for state, count in sorted(found.records.items()):
        tables.out.print(f"{count:>11,} {state}")
    if found.raw_rows:
        tables.out.print(f"{found.raw_rows:>11,} of them with the row as it came in")
    tables.out.print(f"{found.remembered:>11,} remembered as accepted, with and without a result")
    if found.waiting:
        wait = "waits" if found.waiting == 1 else "wait"
        tables.out.print(f"{found.waiting:>11,} of them {wait}, and would be cancelled first")
    if found.to_undo:
        badge = "a badge" if found.to_undo == 1 else "badges"
        tables.out.print(
            f"[yellow]{found.to_undo:>11,} of these would take {badge} back: issued for good else, "
            "as nothing is known of it then; to have it taken back, wait for the undo[/]"
        )
    _show_held(found.in_flight, found.doubtful, len(found.doubtful))
    tables.out.print(
        "Nothing is issued twice, but for this customer from then on: nobody will know what was issued, and "
        "the same rows imported again are issued again."
    )
    tables.out.print("Not reached:")
    for what in found.out_of_reach:
        tables.out.print(f"  {what}")


def _show_held(in_flight: int, doubtful: list[str], in_doubt: int) -> None:
    if in_flight:
        they = "it has" if in_flight == 1 else "they have"
        tables.out.print(f"[yellow]{in_flight:>11,} in flight: wait until {they} ended[/]")
    if in_doubt:
        job = tables.safe(argument(doubtful[0])) if doubtful else "ID"
        cure = f"badges dead resolve --issued {job} (or --not-issued), or badges dead discard --job {job}"
        tables.out.print(f"[yellow]{in_doubt:>11,} in doubt: {cure}[/]")


def _say(found: Plan, done: Done) -> None:
    its = done.forgotten
    if its.in_flight or its.in_doubt:
        tables.out.print(
            f"{done.cancelled:,} cancelled, {its.jobs:,} forgotten: the rest is held by what is in flight or "
            f"in doubt; let that end, then: badges forget --customer {found.customer}"
        )
        return
    tables.out.print(f"{its.jobs + its.by_memory:,} forgotten")
