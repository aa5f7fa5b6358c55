"""The commands about jobs in doubt: ask the vendor about many, or take what somebody else knows of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from worker.cli import tables
from worker.cli.asking import DryRun, Yes, ask
from worker.cli.checks import open_file
from worker.cli.output import AsJson, say_json
from worker.cli.progress import progress_bar
from worker.cli.session import Note, Session, filtered, session
from worker.domain.job import DeadKind
from worker.domain.text import counted, in_words
from worker.errors import BadgesError, NotAllowed
from worker.operate import deadletters, deadlist, doubts, verdicts
from worker.operate.deadlist import Filter
from worker.operate.doubts import Done, Plan
from worker.operate.replaying import is_half_cancelled, why_skipped
from worker.operate.verdicts import Verdicts
from worker.store.protocol import SHARE
from worker.vendor.lookups import looking_up

doubts_cli = typer.Typer()

Share = Annotated[
    float,
    typer.Option(min=0.01, max=1, help="Of the limit, at most, while deliveries wait."),
]


@doubts_cli.command("check")
@filtered
def dead_check(
    which: Filter,
    share: Share = SHARE,
    dry_run: DryRun = False,
    yes: Yes = False,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Ask the vendor about jobs in doubt, show what it shows of each, and then act on it.

    Certainly not issued (shown at neither of two looks, ten minutes apart, while something issued later is
    shown) is sent again; what is shown ends as issued, though it may be an older badge of that customer.
    The first look at a job only notes it: ten minutes later the same command looks again. Each look is a
    call, paid from the org's limit.
    """
    if which.kind not in (None, DeadKind.IN_DOUBT):
        raise typer.BadParameter("only jobs in doubt can be checked: leave --kind out")
    with session() as here, looking_up(here.queue, share=share, wait_s=math.inf) as lookups:
        which = replace(here.chosen(which), kind=DeadKind.IN_DOUBT)
        operator = here.operator(note)
        its = doubts.pairs(here.reports, which)
        _say_expected(*doubts.expected(here.reports, its, share), to=tables.err if as_json else tables.out)
        with progress_bar("asking the vendor", len(its), unit="badge") as move:
            plan = doubts.look(operator, lookups, its, on_progress=move)
        if not as_json:
            _show_plan(plan)
        done = None
        if not dry_run:
            ask(_act(plan), _acted_on(plan), allowed=yes, as_json=as_json)
            done = doubts.act(operator, plan, which)
    _end(plan, done if _acted_on(plan) else None, as_json=as_json, dry_run=dry_run)


def _say_expected(calls: int, seconds: int | None, *, to: Console) -> None:
    if calls:
        time = "nobody can say how long that takes now" if seconds is None else f"about {in_words(seconds)}"
        to.print(f"{counted(calls, 'call')} at most, {time}")


def _acted_on(plan: Plan) -> int:
    return plan.jobs["not_issued"] + plan.jobs["issued"]


def _act(plan: Plan) -> str:
    return (
        f"{counted(plan.jobs['not_issued'], 'job')} would be sent again, and {plan.jobs['issued']:,} would "
        "end as issued, since the vendor shows such a badge (which may be an older one)"
    )


def _show_plan(plan: Plan) -> None:
    found = plan.jobs
    for count, words in (
        (found["not_issued"], "certainly not issued: to be sent again"),
        (found["issued"], "shown as issued (it may be an older badge): to end as issued"),
        (found["waiting"], "to be looked at again"),
        (found["unclear"], "can't be told"),
    ):
        tables.out.print(f"{count:>11,} {words}")
    for why, count in plan.why.most_common():
        tables.out.print(f"{'':>11} [dim]{count:,}: {tables.safe(why)}[/]")
    tables.out.print(f"{counted(found.total(), 'job')} in doubt, {counted(plan.calls, 'call')} made")
    if plan.again_ms:
        at = tables.to_the_second(plan.as_json()["look_again_at"])
        tables.out.print(f"  look again after {at} UTC, with the same command")


def _end(found: Plan | Verdicts, done: Done | None, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        did = {"queued": done.queued if done else 0, "resolved": done.issued if done else 0}
        say_json(found.as_json() | did | {"dry_run": dry_run})
    elif done:
        tables.out.print(f"{done.queued:,} queued again, {done.issued:,} ended as issued ({done.action})")
        if done.cancelled:
            tables.out.print(
                f"{done.cancelled:,} cancelled, since their whole run is: badges dead replay sends them"
            )


def resolve_from(file: str, which: Filter, *, dry_run: bool, yes: bool, note: str, as_json: bool) -> None:
    """Take what a file says of jobs in doubt: show it as a plan, ask, and act."""
    with session() as here:
        found = _read(here, file, which)
        issued, not_issued = found.counts
        if not as_json:
            _show_verdicts(found)
        done = None
        if not dry_run:
            act = f"{issued:,} would end as issued, and {counted(not_issued, 'job')} would be sent again now"
            ask(act, issued + not_issued, allowed=yes, as_json=as_json)
            with progress_bar("resolving", issued + not_issued, unit="job") as move:
                done = verdicts.act(here.operator(note), found, file, on_progress=move)
    _end(found, done, as_json=as_json, dry_run=dry_run)


def _read(here: Session, file: str, which: Filter) -> Verdicts:
    with open_file(file) as stream:
        return verdicts.match(here.reports, verdicts.read_words(stream, name=file), which)


def _show_verdicts(found: Verdicts) -> None:
    issued, not_issued = found.counts
    tables.out.print(f"{issued:>11,} issued: to end so")
    tables.out.print(f"{not_issued:>11,} not issued: to be sent again")
    if found.unknown:
        rows = "row speaks" if found.unknown == 1 else "rows speak"
        tables.out.print(f"{found.unknown:>11,} {rows} of nothing that is in doubt")
    for fault in found.faults[: verdicts.NOTED]:
        tables.out.print(f"  [yellow]row {fault.row}[/] {tables.safe(fault.reason)}: left as it is")
    if (more := len(found.faults) - verdicts.NOTED) > 0:
        tables.out.print(f"  … and {more:,} more that can't be used")


def resolve_one(
    job_id: str, *, issued: bool, org: str | None, dry_run: bool, note: str, as_json: bool
) -> None:
    """Say what became of one job in doubt."""
    with session() as here:
        job = here.reports.job(job_id, org)
        operator = here.operator(note)
        its = operator.org(job["org"])
        if dry_run:
            was = deadlist.died_at_ms(here.reports, its.name, DeadKind.IN_DOUBT, job["job_id"]) is not None
            if not issued and is_half_cancelled(here.reports, its.name, job["run"]):
                raise NotAllowed(str(why_skipped(its.name, {"cancelling": job["run"]})))
        else:
            was = deadletters.resolve(operator, its, job["job_id"], issued=issued)
        if not was:
            why = f" ({job['reason']})" if job["reason"] else ""
            raise BadgesError(f"{job_id} is not in doubt: it is {job['state']}{why}")
    now = "issued" if issued else "queued"
    if as_json:
        say_json({"job_id": job_id, "org": job["org"], "state": now}, dry_run=dry_run)
    else:
        verb = "would be" if dry_run else "is"
        tables.out.print(f"{tables.safe(job_id)} {verb} {'issued' if issued else 'queued again'}")
