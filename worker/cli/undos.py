"""The commands that take badges back: of a run, by filters, or of one job."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import typer

from worker.cli import tables
from worker.cli.asking import DryRun, Yes, ask
from worker.cli.exits import FailOn, FailOnWithFollow
from worker.cli.output import AsJson, say_json
from worker.cli.progress import progress_bar
from worker.cli.replays import end_followed, watch_replay
from worker.cli.session import (
    AnyOrg,
    BadgeOption,
    CustomerOption,
    Follow,
    ItsOrg,
    JobId,
    JobOption,
    Note,
    Session,
    session,
    since_option,
)
from worker.domain.text import counted, in_words
from worker.operate import undoing
from worker.operate.following import Following
from worker.operate.report import of_org
from worker.operate.undoing import Plan
from worker.operate.which import Which

EARLIER = "badges run list; badges dead list"

run_undo_cli, job_undo_cli = typer.Typer(), typer.Typer()


@run_undo_cli.command("undo")
def run_undo(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="Its name, a beginning of it, or last; without it, say filters."),
    ] = None,
    badge: BadgeOption = None,
    customer: CustomerOption = None,
    job: JobOption = None,
    since: Annotated[
        str | None, typer.Option(help="Only what was issued since: 90m, 12h, 7d, or a date with offset.")
    ] = None,
    org: AnyOrg = None,
    dry_run: DryRun = False,
    follow_it: Follow = False,
    fail_on: FailOnWithFollow = None,
    yes: Yes = False,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Take back at the vendor what a run issued, by earnedBadgeId: one call a badge, at the org's limit.

    It is a run of its own, which goes on by itself: badges run follow shows it. What was issued without an
    earnedBadgeId can't be undone. An undo has no undo. Without RUN the filters go across all runs. Exit
    status: 0 or 1, with --follow as --fail-on says.
    """
    which = Which(org, run, badge, customer, job, since_option(since))
    if not which.is_said:
        raise typer.BadParameter("say which: RUN, --badge, --customer, --job or --since")
    follows = _Follows(follow_it, fail_on)
    _undo(which, follows, dry_run=dry_run, yes=yes, note=note, as_json=as_json)


@job_undo_cli.command("undo")
def job_undo(
    job_id: JobId,
    org: ItsOrg = None,
    dry_run: DryRun = False,
    follow_it: Follow = False,
    fail_on: FailOnWithFollow = None,
    yes: Yes = False,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Take one badge back at the vendor that was issued; see badges run undo."""
    follows, which = _Follows(follow_it, fail_on), Which(org, job=job_id)
    _undo(which, follows, dry_run=dry_run, yes=yes, note=note, as_json=as_json)


class _Follows(NamedTuple):
    """Whether the command stays until the undo has ended, and what of its end makes it fail."""

    follow_it: bool
    fail_on: FailOn | None


def _undo(which: Which, follows: _Follows, *, dry_run: bool, yes: bool, note: str, as_json: bool) -> None:
    with session() as here:
        which = here.reports.of_one_run(which)
        operator = here.operator(note)
        with progress_bar("looking", None, unit="job") as move:
            found = undoing.plan(here.reports, which, on_progress=lambda seen, _: move(seen))
        for its_org in found.ids:
            operator.org(its_org)
        name, jobs, last = None, found.jobs, None
        if not as_json:
            _show(found)
        if not dry_run:
            act = undoing.words(found.jobs)
            ask(act, found.jobs, allowed=yes, as_json=as_json)
            if found.jobs:
                with progress_bar("undoing", found.jobs, unit="badge") as move:
                    name, jobs = undoing.undo(operator, found, which, on_progress=move)
                if not as_json:
                    _say_begun(found, name, jobs)
            if follows.follow_it and name and jobs:
                last = _follow(here, name, found, as_json=as_json)
    if as_json:
        more = {"followed": last.as_json()} if last else {}
        said = {"run": name if jobs else None} | found.as_json() | {"jobs": jobs} | more
        say_json(said, dry_run=dry_run)
    if last:
        end_followed(last, follows.fail_on)


def _say_begun(found: Plan, name: str, jobs: int) -> None:
    if not jobs:
        tables.out.print(f"nothing new: another undo was faster ({EARLIER})")
        return
    tables.out.print(f"{counted(jobs, 'badge')} on the way; watch it: {_each(found, 'follow', name)}")


def _each(found: Plan, verb: str, name: str) -> str:
    """Return the commands that do so with the undo's run of each org."""
    several = len(found.ids) > 1  # have a run of this name
    return ", ".join(
        f"badges run {verb} {f'--org {org} ' if several else of_org(org)}{name}" for org in found.ids
    )


def _follow(here: Session, name: str, found: Plan, *, as_json: bool) -> Following:
    try:
        return watch_replay(here, name, form="json" if as_json else "words")
    except KeyboardInterrupt:
        tables.err.print(f"the undo goes on; see: badges run list; to end it: {_each(found, 'cancel', name)}")
        raise


def _show(found: Plan) -> None:
    seconds = "" if found.seconds is None else f", about {in_words(found.seconds)}"
    tables.out.print(f"{found.jobs:>11,} to be undone: {counted(found.calls, 'call')}{seconds}")
    for count, of_one, of_many in (
        (found.twice, "of them was issued twice, and loses both", "of them were issued twice, and lose both"),
        (found.expired, "of them has expired already", "of them have expired already"),
        (
            found.without_id,
            "has no earnedBadgeId, and can't be undone",
            "have no earnedBadgeId, and can't be undone",
        ),
        (found.undone, "was undone before", "were undone before"),
        (found.begun, f"is in an earlier undo: {EARLIER}", f"are in an earlier undo: {EARLIER}"),
    ):
        if count:
            tables.out.print(f"{count:>11,} {of_one if count == 1 else of_many}")
