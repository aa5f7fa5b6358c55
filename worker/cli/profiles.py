"""The commands about profiles: how files with certain columns are read, remembered under a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from worker.cli import tables
from worker.cli.asking import DryRun, Yes, ask
from worker.cli.output import AsJson, AsJsonLines, Limit, form_of, say_json, say_listing, stdout
from worker.cli.session import Note, OneOrg, Session, session
from worker.domain.org import DEFAULT_ORG
from worker.domain.text import counted, iso_time
from worker.errors import FileError
from worker.operate.operator import this_user
from worker.operate.profiles import Profile, Profiles, from_toml

profiles_cli = typer.Typer(
    name="profiles", help="Profiles: how files with certain columns are read, by name.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The profile's name.")]


def as_row(profile: Profile, org: str) -> dict[str, Any]:
    """Return a profile as the commands print it with ``--json``."""
    return {
        "name": profile.name,
        "org": org,
        "columns": profile.columns,
        "set": profile.fixed,
        "date_format": profile.date_format or None,
        "timezone": profile.timezone or None,
        "mark": profile.mark,
        "changed": profile.is_changed,
        "made_by": profile.made_by,
        "made_at": iso_time(profile.made_at or None),
        "last_used_at": iso_time(profile.used_at or None),
    }


def profiles_of(here: Session, org: str) -> Profiles:
    """Return the profiles of an org that is configured."""
    return Profiles(here.queue, here.settings.org(org).name)


@profiles_cli.command("list")
def list_(
    org: OneOrg = DEFAULT_ORG, limit: Limit = None, as_json: AsJson = False, as_lines: AsJsonLines = False
) -> None:
    """List an org's profiles: who made them, when, and when they were last used."""
    form = form_of(as_json=as_json, as_lines=as_lines)
    with session() as here:
        rows = [as_row(profile, org) for profile in profiles_of(here, org).all()]
    say_listing(rows, form=form, limit=limit, show=_show_all, count=lambda: len(rows))


def _show_all(rows: Sequence[Mapping[str, Any]]) -> None:
    columns = ("name", "columns", "set", "made by", "made at (UTC)", "last used (UTC)")
    tables.table("", columns, [_line(row) for row in rows], whole=("name",))


def _line(row: Mapping[str, Any]) -> list[object]:
    times = map(tables.to_the_second, (row["made_at"], row["last_used_at"]))
    fixed = " ".join(f"{name}={value}" for name, value in row["set"].items())
    return [row["name"], len(row["columns"]), fixed, row["made_by"], *times]


@profiles_cli.command()
def show(name: Name, org: OneOrg = DEFAULT_ORG, as_json: AsJson = False) -> None:
    """Show what a profile makes of each column."""
    with session() as here:
        profile = profiles_of(here, org).named(name)
    if as_json:
        say_json(as_row(profile, org))
    else:
        show_profile(profile)


def show_profile(profile: Profile) -> None:
    """Print what a profile makes of each column, who made it, and when it was last used."""
    lines = [[column, its or "(ignored)"] for column, its in profile.columns.items()]
    lines += [["(every row)", f"{name}={value}"] for name, value in profile.fixed.items()]
    said = (("as", profile.date_format), ("in", profile.timezone))
    if dates := " ".join(f"{word} {its}" for word, its in said if its):
        lines.append(["(dates)", dates])
    tables.table(f"profile {profile.name}, mark {profile.mark}", ("column", "is"), lines)
    if not profile.made_at:  # it isn't kept yet
        return
    made = f"made by {profile.made_by} at {iso_time(profile.made_at)}"
    used = iso_time(profile.used_at) if profile.used_at else "never"
    changed = "; changed since it was last used" if profile.is_changed else ""
    tables.out.print(tables.safe(f"{made}; last used: {used}{changed}"))


@profiles_cli.command()
def remove(
    name: Name,
    org: OneOrg = DEFAULT_ORG,
    dry_run: DryRun = False,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Forget a profile; what was imported with it stays as it is. To keep a copy: badges profiles export."""
    with session() as here:
        profiles = profiles_of(here, org)
        there = profiles.named(name)
        act = f"profile {name} of {counted(len(there.columns), 'column')} would be forgotten"
        if not dry_run:
            profiles.remove(name, str(this_user()), note)
    if as_json:
        say_json({"name": name, "org": org, "removed": not dry_run}, dry_run=dry_run)
    else:
        tables.out.print(tables.safe(act if dry_run else f"profile {name} is forgotten"))


@profiles_cli.command()
def export(
    name: Name,
    org: OneOrg = DEFAULT_ORG,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write to this file. [default: standard output]"),
    ] = None,
) -> None:
    """Write a profile as TOML, for another org or to be kept with other files."""
    with session() as here:
        text = profiles_of(here, org).named(name).to_toml()
    if output is None:
        stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FileError(f"{output} can't be written: {error.strerror}") from None


@profiles_cli.command()
def load(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML, as badges profiles export writes it.")],
    org: OneOrg = DEFAULT_ORG,
    dry_run: DryRun = False,
    yes: Yes = False,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Take a profile from a TOML file; one of the same name is replaced, if you say so."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{file} can't be read: {getattr(error, 'strerror', None) or 'no UTF-8'}") from None
    profile = from_toml(text, str(file))
    with session() as here:
        profiles = profiles_of(here, org)
        act = replacing(profiles, profile.name, new_mark=profile.mark)
        if dry_run and act:
            tables.err.print(f"[yellow]{tables.safe(act)}[/]")
        elif not dry_run:
            ask_to_replace(profiles, profile.name, new_mark=profile.mark, allowed=yes, as_json=as_json)
            profile = save(profiles, profile, note)
    if as_json:
        say_json(as_row(profile, org), dry_run=dry_run)
    else:
        show_profile(profile)


def save(profiles: Profiles, profile: Profile, note: str = "") -> Profile:
    """Keep a profile in the name of this command's user."""
    return profiles.save(profile, str(this_user()), note)


def ask_to_replace(
    profiles: Profiles, name: str, *, new_mark: str | None, allowed: bool, as_json: bool
) -> None:
    """Ask before a profile takes the place of another that makes other badges of the same rows.

    Raises:
        NotAllowed: nobody can be asked, and nobody allowed it.
    """
    if act := replacing(profiles, name, new_mark=new_mark):
        ask(act, 1, allowed=allowed, as_json=as_json)


def replacing(profiles: Profiles, name: str, *, new_mark: str | None) -> str | None:
    """Say which profile would be replaced, and what that may do, if one would be."""
    there = profiles.before(name)
    if there is None or there.mark == new_mark:
        return None
    return (
        f"profile {name}, made by {there.made_by} at {iso_time(there.made_at or None)}, would be replaced: "
        "a row that was imported with it may count as another badge from then on, and be issued again"
    )
