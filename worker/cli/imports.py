"""The command ``badges import``: a file goes in, and its owner sees what became of it.

What only checks a file is in ``checks.py``, what is said of its rows in ``showimport.py``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, NamedTuple

import typer

from worker.cli import exits, tables
from worker.cli.asking import ask
from worker.cli.checks import Input, asked_of_file, check_file, count_good, reading
from worker.cli.dates import DateFormatOption, TimezoneOption, dating
from worker.cli.exits import FailOn, FailOnOption
from worker.cli.jobs import follow_run
from worker.cli.mapping import ReadAs, choose, for_check, note_profile, said_options
from worker.cli.output import AsJson, say_json
from worker.cli.session import Follow, Note, OneOrg, Session, load_settings, see_to_server, session
from worker.cli.showcheck import show_badges
from worker.cli.showimport import Notes, say_import, take_in
from worker.cli.starts import AtOption, HoldOption, starts_ms
from worker.domain.item import add_up
from worker.domain.org import DEFAULT_ORG, Org
from worker.domain.provenance import Provenance
from worker.domain.text import counted
from worker.enqueue import Enqueued, EnqueueOptions
from worker.operate.badgecheck import AskedBadges
from worker.operate.importing import import_rows, run_name
from worker.operate.operator import this_user
from worker.operate.progress import RunProgress
from worker.operate.starting import see_that_it_can_wait
from worker.store import audit
from worker.store.queue import new_id

import_cli = typer.Typer()


@import_cli.command("import")
def import_(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="CSV, XLSX, JSON Lines, a JSON array; also .gz; - is stdin.")
    ],
    run: Annotated[str | None, typer.Option(help="The run's name. [default: from the file's name]")] = None,
    org: OneOrg = DEFAULT_ORG,
    follow_it: Follow = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every row, accept none.")] = False,
    allow_duplicates: Annotated[
        bool, typer.Option("--allow-duplicates", help="Issue equal rows again; needs --run.")
    ] = False,
    hold_repeats: Annotated[
        bool,
        typer.Option(
            "--hold-repeats",
            help="Hold rows back whose badge and customer were accepted before, other dates.",
        ),
    ] = False,
    urgent: Annotated[bool, typer.Option("--urgent", help="Overtake what waits for this org.")] = False,
    mappings: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="COLUMN=FIELD",
            help="Read a column or key as that field; COLUMN= ignores it. May be repeated.",
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="What every row has. May be repeated."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="Read the file as this profile says.")
    ] = None,
    save_profile: Annotated[
        str | None,
        typer.Option("--save-profile", metavar="NAME", help="Keep how this file is read, under that name."),
    ] = None,
    no_profile: Annotated[bool, typer.Option("--no-profile", help="Propose no profile.")] = False,
    without_dates: Annotated[
        bool, typer.Option("--without-dates", help="Leave a column of dates out, though a date is missing.")
    ] = False,
    date_format: DateFormatOption = None,
    timezone: TimezoneOption = None,
    sheet: Annotated[
        str | None,
        typer.Option(
            "--sheet", help="The sheet of a workbook: its name or, from 1, its number among the tabs seen."
        ),
    ] = None,
    hidden_rows: Annotated[
        bool, typer.Option("--hidden-rows", help="Take hidden rows of a workbook as well.")
    ] = False,
    hold: HoldOption = False,
    at: AtOption = None,
    again: Annotated[
        bool, typer.Option("--again", help="Send rows once more whose badge was revoked (undone) since.")
    ] = False,
    check_badges: Annotated[
        bool, typer.Option("--check-badges", help="First ask the vendor, once a badge, whether it has it.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="End (exit 1) where the queue is full, instead of waiting.")
    ] = False,
    fail_on: FailOnOption = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="With duplicates, unknown badges, a profile that changed: don't ask."),
    ] = False,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Enqueue a file of badges, each once; rows that are wrong are reported and never stop the rest.

    Columns or keys: badgeMetaId and customerId; earnEventDate and earnExpiresOn (epoch, seconds or
    milliseconds), earnEventDateISO and earnExpiresOnISO (with offset); job_id, an id of your own.
    Others are mapped: --map customer=customerId --map "Badge Name="

    Importing a file again, or after a crash half-way, issues nothing twice. Exit status: 3 if rows are
    invalid or, with --follow, if the run has dead letters at its end.
    """
    _refuse_contradictions(context)
    beside = said_options(context, but="mappings")
    asked = ReadAs(mappings or (), sets or (), profile, save_profile, no_profile, yes, as_json, beside)
    options = EnqueueOptions(
        run or run_name(file),
        new_id(),
        allow_duplicates=allow_duplicates,
        again=again,
        urgent=urgent,
        starts_ms=starts_ms(at, timezone, hold=hold),
        wait=not no_wait,
        repeats="hold" if hold_repeats else "count",
        source=Provenance(note=note),
    )
    dates = dating(date_format, timezone)
    given = Input(asked.names(), without_dates, sheet, hidden_rows, dates, file=file)
    if dry_run:
        given = for_check(org, given, asked)
        how = {"hold_repeats": hold_repeats, "check_badges": check_badges, "again": again}
        check_file(load_settings(), org, given, fail_on=fail_on or FailOn.INVALID, as_json=as_json, **how)
        return
    with session() as here:
        imported = _import(here, org, given, asked, options, check_badges=check_badges)
        done, last = imported.done, imported.run
        if follow_it and last:
            last = follow_run(here, options.run, org, form="json" if as_json else "words")
    if as_json:
        badges = {"badges": imported.badges.badges} if imported.badges else {}
        say_json(_as_value(done) | badges | ({"followed": last} if follow_it else {}))
    dead = last.unhandled if last else 0
    exits.end(fail_on or (FailOn.DEAD if follow_it else FailOn.INVALID), dead=dead, invalid=done.invalid)


class _Imported(NamedTuple):
    """What became of a file, its run, and what the vendor said of its badges, where it was asked."""

    done: Enqueued
    run: RunProgress | None
    badges: AskedBadges | None


def _import(
    here: Session,
    org: str,
    given: Input,
    asked: ReadAs,
    options: EnqueueOptions,
    *,
    check_badges: bool,
) -> _Imported:
    """Take a file in, ask what there is to be asked before, and say what became of it."""
    see_to_server(here)
    target, how = here.settings.org(org), {"allowed": asked.yes, "as_json": asked.as_json}
    if options.starts_ms is not None:
        see_that_it_can_wait(here.reports, org, options.run, until_ms=options.starts_ms)
    chosen = choose(here, org, given, asked)
    given, note = chosen.given, options.source.note
    source = Provenance(str(this_user()), given.file, given.sha256(), chosen.said, note)
    options = replace(options, source=source)
    if options.allow_duplicates:
        _ask_about_duplicates(target, given, **how)
    badges = _check_badges(here, target, given, **how) if check_badges else None
    _note_in_audit(here, target, options, given.file)
    notes = Notes()
    with reading(given, "importing") as opened:
        begin = partial(import_rows, here.queue, target, opened.rows)
        done = take_in(org, options, begin, opened.move, notes)
    note_profile(here, org, chosen, opened.remarks.columns)
    done = replace(done, warnings=add_up((*done.warnings, *opened.remarks.warned())))
    run = here.reports.run(options.run, org) if done.rows else None
    say_import(org, done, notes, run, as_json=asked.as_json)
    return _Imported(done, run, badges)


_CONTRADICTING = (
    *(("allow_duplicates", "hold_repeats"), ("again", "allow_duplicates")),
    *(("hold", "follow_it"), ("at", "follow_it"), ("hold", "dry_run"), ("at", "dry_run")),
)


def _refuse_contradictions(context: typer.Context) -> None:
    """Refuse empty names, such as a variable of a script that isn't set, and what doesn't go together."""
    said, option = context.params, {str(param.name): param.opts[0] for param in context.command.params}
    if not said["file"].strip():
        raise typer.BadParameter("it is empty; name a file, or - for standard input", param_hint="FILE")
    for name in ("run", "profile", "save_profile"):
        if said[name] == "":
            raise typer.BadParameter("it is empty: say a name, or leave it out", param_hint=option[name])
    if said["allow_duplicates"] and not said["run"]:
        raise typer.BadParameter(
            "--allow-duplicates needs --run, so that repeating the command repeats nothing"
        )
    for one, other in _CONTRADICTING:
        if said[one] and said[other]:
            raise typer.BadParameter(f"{option[one]} doesn't go with {option[other]}")


def _note_in_audit(here: Session, org: Org, options: EnqueueOptions, file: str) -> None:
    """Keep who imported, where that may issue a badge again or says why it was done."""
    unusual = {"allow_duplicates": options.allow_duplicates, "again": options.again}
    marked = {name: True for name, is_so in unusual.items() if is_so}
    if marked or options.source.note:
        which = {"run": options.run, "file": file} | marked
        operator = here.operator(options.source.note)
        operator.begin(org.name, audit.action_id(here.queue, "import"), which, counts=False)


def _as_value(done: Enqueued) -> dict[str, object]:
    names = ("run", "accepted", "duplicates", "invalid", "warnings", "near_duplicates", "held")
    return {name: getattr(done, name) for name in names}


def _check_badges(here: Session, org: Org, given: Input, *, allowed: bool, as_json: bool) -> AskedBadges:
    """Ask the vendor about a file's badges, and the person about rows that name one it doesn't know."""
    found = asked_of_file(here.queue, org, given)
    show_badges(found, tables.err if as_json else tables.out)
    act = (
        f"{counted(found.rows, 'row')} would go in that {'names' if found.rows == 1 else 'name'} a badge "
        f"the vendor doesn't know ({counted(len(found.unknown), 'badge')}): it will reject them"
    )
    ask(act, found.rows, allowed=allowed, as_json=as_json)
    return found


def _ask_about_duplicates(org: Org, given: Input, *, allowed: bool, as_json: bool) -> None:
    """Ask whether rows may go in that equal others, or what was issued before."""
    if allowed:
        return
    good = None if given.is_read_once else count_good(org, given)
    rows = "all rows of what can be read only once" if good is None else counted(good, "good row")
    new = "a new job" if good == 1 else "new jobs"
    act = (
        f"--allow-duplicates: {rows} would go in as {new}, also what equals another row or was accepted "
        "before: customers may get a badge a second time"
    )
    ask(act, 1 if good is None else good, allowed=allowed, as_json=as_json)
