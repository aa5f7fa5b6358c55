"""How an import reads its file's columns: as the options say, as a profile says, or as both do.

A profile is taken by its name. Without a name it is proposed where its columns are the file's, and taken only
if a person at a terminal says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from shlex import quote

import typer

from worker.cli import tables
from worker.cli.asking import ask, is_person
from worker.cli.checks import Input, columns_of, undeclared_dates
from worker.cli.profiles import ask_to_replace, profiles_of, save, show_profile
from worker.cli.session import Session, load_settings, session
from worker.domain.localdates import DateFormat, read_zone
from worker.domain.text import escaped
from worker.enqueue import check_name
from worker.errors import ConfigError, EmbeddedServerError, FileError, StoreError
from worker.files.columns import Names, fixed_fields, folded
from worker.operate.profiles import Profile, Profiles, of_file
from worker.operate.report import option


@dataclass(frozen=True, slots=True)
class ReadAs:
    """What an import's options say of columns and profiles, and whether anybody can be asked about them."""

    maps: Sequence[str] = ()
    sets: Sequence[str] = ()
    profile: str | None = None
    save_as: str | None = None
    no_profile: bool = False
    yes: bool = False
    as_json: bool = False
    beside: str = ""  # the other options, to be pasted

    def names(self) -> Names:
        """Return what the columns stand for, without a profile.

        Raises:
            typer.BadParameter: an option isn't written as it must be, or they contradict each other.
        """
        if self.no_profile and self.profile:
            raise typer.BadParameter("say --profile or --no-profile, not both", param_hint="--no-profile")
        try:
            fixed = fixed_fields(self.sets)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--set") from None
        try:
            return Names.parse(self.maps, fixed, beside=self.beside)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--map") from None

    def said(self, given: Input, profile: Profile | None) -> str:
        """Say how the file is read, for the run's provenance."""
        parts = [f"profile {profile.name} ({profile.mark}):", *profile.options()] if profile else []
        parts += [f"--map {quote(one)}" for one in self.maps] + [f"--set {quote(one)}" for one in self.sets]
        parts += [f"--sheet {quote(given.sheet)}"] if given.sheet else []
        return " ".join([*parts, *given.dates.options()])


def said_options(context: typer.Context, *, but: str) -> str:
    """Return the options that a command was called with, to be pasted, but for one."""
    text = ""
    for param in context.command.params:
        name = str(param.name)
        source = context.get_parameter_source(name)
        if not source or source.name != "COMMANDLINE" or param.param_type_name != "option" or name == but:
            continue
        value = context.params[name]
        for one in value if isinstance(value, list | tuple) else [value]:
            text += f" {param.opts[0]}" if one is True else f" {option(param.opts[0][2:], str(one))}"
    return text


@dataclass(frozen=True, slots=True)
class Reading:
    """A file and how it is read; ``profile`` is the one that says so, if one does."""

    given: Input
    asked: ReadAs
    profile: Profile | None = None

    @property
    def is_as_profiled(self) -> bool:
        """Whether the profile alone says how it is read: only then was it used as it is now."""
        said_otherwise = self.asked.maps or self.asked.sets
        return bool(self.profile and not said_otherwise and self.given.dates == self.profile.dates())

    @property
    def said(self) -> str:
        """How the file is read, for the run's provenance."""
        return self.asked.said(self.given, self.profile)


def choose(here: Session, org: str, given: Input, asked: ReadAs) -> Reading:
    """Find the profile that is meant, if one is, and ask where it isn't what it was.

    Raises:
        NotFound: there is no profile of that name.
        NotAllowed: it changed, or would be replaced, and nobody allowed that.
    """
    profiles = profiles_of(here, org)
    if asked.save_as:
        check_name(asked.save_as, "a profile")
        ask_to_replace(profiles, asked.save_as, new_mark=None, allowed=asked.yes, as_json=asked.as_json)
    profile = _meant(profiles, given, asked)
    if profile is None:
        return Reading(with_dates(given, asked), asked)
    if profile.is_changed:
        act = (
            f"profile {profile.name} was changed by {profile.made_by} since it was last used: a row that was "
            "imported with it before may count as another badge now, and be issued again"
        )
        ask(act, 1, allowed=asked.yes, as_json=asked.as_json)
    return Reading(with_dates(_as_profiled(given, profile), asked), asked, profile)


def _meant(profiles: Profiles, given: Input, asked: ReadAs) -> Profile | None:
    if asked.profile:
        return profiles.named(asked.profile)
    if asked.no_profile or asked.maps or asked.sets or asked.save_as or given.is_read_once:
        return None
    return _proposed(profiles, given, as_json=asked.as_json)


def with_dates(given: Input, asked: ReadAs) -> Input:
    """Return the file with a format of its dates that a person at a terminal agrees to, if one is needed.

    Elsewhere, and where several formats fit, reading the file says what to say.
    """
    if given.is_read_once or asked.as_json or not is_person():
        return given
    while found := undeclared_dates(given):
        if found.formats is not None and len(found.formats) != 1:
            return given
        shown = "”, “".join(escaped(cell, 40) for cell in found.samples)
        tables.err.print(tables.safe(f"{found.field} has dates such as “{shown}”"))
        dates = given.dates
        if found.formats:
            text = found.formats[0]
            typer.confirm(f"Are they written as {text}?", default=None, abort=True, err=True)
            dates = replace(dates, form=DateFormat.parse(text))
        if not dates.zone:
            dates = replace(dates, zone=_asked_zone())
        given = replace(given, dates=dates)
    return given


def _asked_zone() -> tzinfo:
    text = typer.prompt("In which time zone, such as Europe/Berlin or +02:00", err=True)
    try:
        return read_zone(text)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def for_check(org: str, given: Input, asked: ReadAs) -> Input:
    """Return the file as a profile that is named reads it, to be checked only.

    Raises:
        NotFound: there is no profile of that name.
        typer.BadParameter: a check would have to keep one.
    """
    if asked.save_as:
        raise typer.BadParameter(
            "a check keeps nothing: import the file with it", param_hint="--save-profile"
        )
    settings = load_settings()
    if not asked.profile and not (settings.redis_url or settings.data_dir.exists()):
        return with_dates(given, asked)  # nothing was ever kept here
    try:
        with session() as here:
            profile = _meant(profiles_of(here, org), given, asked)
    except (StoreError, EmbeddedServerError):
        if asked.profile:
            raise
        profile = None  # a check goes on without what is kept; it says so itself
    if profile is None:
        return with_dates(given, asked)
    if profile.is_changed:
        tables.err.print(f"[yellow]profile {tables.safe(profile.name)} was changed since it was last used[/]")
    return with_dates(_as_profiled(given, profile), asked)


def _as_profiled(given: Input, profile: Profile) -> Input:
    """Return the file as a profile reads it, but for what the options say otherwise."""
    return replace(given, names=_merged(profile, given.names), dates=given.dates.over(profile.dates()))


def _merged(profile: Profile, names: Names) -> Names:
    """Return what a profile says, but for what the options say otherwise: they may rename a column."""
    its, mapped = profile.names(), set(map(folded, names.said))
    fields = {field for field in names.said.values() if field}
    kept = {
        column: field
        for column, field in its.said.items()
        if folded(column) not in mapped and field not in fields
    }
    return Names({**kept, **names.said}, its.fixed | names.fixed, of_profile=True)


def _proposed(profiles: Profiles, given: Input, *, as_json: bool) -> Profile | None:
    """Return the profile that was made for such a file, if a person wants it."""
    for profile in profiles.all():
        if not _fits(profile, given):
            continue
        if as_json or not is_person():
            hint = (
                f"profile {profile.name} was made for these columns: --profile {quote(profile.name)} takes it"
            )
            tables.err.print(tables.safe(hint))
            return None
        show_profile(profile)
        return profile if typer.confirm("Read the file with this profile?", default=True, err=True) else None
    return None


def _fits(profile: Profile, given: Input) -> bool:
    try:
        return profile.fits(columns_of(replace(given, names=profile.names(), without_dates=True)))
    except (FileError, ConfigError):
        return False


def note_profile(here: Session, org: str, chosen: Reading, columns: Sequence[str]) -> None:
    """Note that a profile was used, and keep how the file was read as one, if that is asked for."""
    profiles = profiles_of(here, org)
    if not chosen.asked.save_as:
        if chosen.profile and chosen.is_as_profiled:
            profiles.note_use(chosen.profile)
        return
    try:
        made = of_file(chosen.asked.save_as, columns, chosen.given.names, chosen.given.dates)
    except ConfigError as error:  # what was imported stays imported
        tables.err.print(f"[yellow]no profile is kept:[/] {tables.safe(error)}")
        return
    profiles.note_use(save(profiles, made))
    name = tables.safe(quote(made.name))
    tables.err.print(f"the profile is kept; to read such a file in this way: --profile {name}")
