"""What a person says of an uploaded file: its columns, its dates, a profile; each starts the check again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from worker.domain.item import Source
from worker.domain.text import iso_time
from worker.enqueue import check_name
from worker.errors import ConfigError
from worker.files.columns import FIELDS
from worker.operate.profiles import Profile, Profiles, of_file
from worker.operate.stagedfile import How, Look
from worker.operate.staging import Staged
from worker.web.console.asked import Asked
from worker.web.console.service import Console
from worker.web.console.views import url

LEFT_OUT = "-"
FIXED = tuple(name for name in FIELDS if name not in ("customerId", "job_id"))


def values(here: Console, about: Staged, look: Look) -> dict[str, Any]:
    """Return what the form about a file shows."""
    how = about.how
    mapped = set(look.columns.values())
    proposed = look.formats[0] if len(look.formats) == 1 else ""
    return {
        "how": how,
        "sample": [(row, [_cell(row, *it) for it in look.columns.items()]) for row in look.rows],
        "columns": look.columns,
        "problem": look.problem,
        "unclear": look.is_unclear,
        "look": look,
        "date_format": how.date_format or proposed,
        "fields": FIELDS,
        "left_out": LEFT_OUT,
        "fixable": [name for name in FIXED if name not in mapped or name in how.fixed],
        "profiles": _fitting(here, about, look),
        "profile": _profile_of(here, about),
        "is_workbook": ".xlsx" in about.name.lower(),
    }


def say(here: Console, asked: Asked) -> str:
    """Write down how a file is to be read, and keep that as a profile if it is given a name."""
    how = How(
        columns=_columns(asked),
        fixed={name: value for name in FIXED if (value := asked.text(f"set:{name}"))},
        date_format=asked.text("date_format") or "",
        timezone=asked.text("timezone") or "",
        sheet=asked.text("sheet") or "",
        hidden_rows=asked.text("hidden_rows") is not None,
        without_dates=asked.text("without_dates") is not None,
        hold_repeats=asked.text("hold_repeats") is not None,
        again=asked.text("again") is not None,
    )
    how.names()
    how.dates()
    with _while_nobody_begins(here, asked) as about:
        if name := asked.text("save_as"):
            how = _keep(here, asked, replace(about, said=how.written()), name)
        here.staging.change(about.id, said=how.written())
    return url("staged", id=about.id)


def choose(here: Console, asked: Asked) -> str:
    """Read a file as a profile says, or as nobody says."""
    name = asked.text("profile")
    with _while_nobody_begins(here, asked) as about:
        how = about.how.with_profile(_profiles(here, about).named(name)) if name else How()
        here.staging.change(about.id, said=how.written())
    return url("staged", id=about.id)


def shown(profile: Profile) -> dict[str, Any]:
    """Return a profile as a page shows it."""
    return {
        "name": profile.name,
        "columns": profile.columns,
        "fixed": profile.fixed,
        "dates": " ".join(filter(None, (profile.date_format, profile.timezone))),
        "made_by": profile.made_by,
        "made_at": iso_time(profile.made_at or None),
        "used_at": iso_time(profile.used_at or None),
        "is_changed": profile.is_changed,
    }


def of_org(here: Console, org: str) -> list[dict[str, Any]]:
    """Return the profiles of an org."""
    return [shown(profile) for profile in Profiles(here.queue, org).all()]


def used(here: Console, about: Staged, asked: Asked) -> None:
    """Note that a file goes in as its profile says; one that changed must be allowed to.

    Raises:
        ConfigError: it changed since it was last used, and nobody allowed that.
    """
    profile = _profile_of(here, about)
    if profile is None:
        return
    if profile.is_changed and not asked.text("changed_ok"):
        raise ConfigError(
            f"nothing was done: profile {profile.name} was changed since it was last used; say that it may "
            "be used so"
        )
    _profiles(here, about).note_use(profile)


def _profile_of(here: Console, about: Staged) -> Profile | None:
    """Return the profile that a file is read as, if it still says the same."""
    name = about.how.profile
    profile = _profiles(here, about).before(name) if name else None
    return profile if profile and about.how.with_profile(profile).mark == about.how.mark else None


def _fitting(here: Console, about: Staged, look: Look) -> list[dict[str, Any]]:
    if not look.columns:
        return []
    return [shown(it) for it in _profiles(here, about).all() if it.fits(look.columns)]


def _cell(row: Source, column: str, its: str | None) -> object:
    """Return what a row has in a column; a date that was read is there as ISO."""
    other = row.others.get(column, "")  # also of one whose field is only proposed
    if its is None or not isinstance(row.item, Mapping):
        return other
    return row.item.get(its, row.item.get(f"{its}ISO", other))


def _columns(asked: Asked) -> Mapping[str, str]:
    said = {
        name.partition(":")[2]: value for name, value in asked.given.items() if name.startswith("column:")
    }
    return {column: "" if value == LEFT_OUT else value for column, value in said.items() if value}


def _keep(here: Console, asked: Asked, about: Staged, name: str) -> How:
    """Keep how a file is read under a name, and read it as that profile.

    Raises:
        ConfigError: the file can't be read so, or there is another of that name that may not be replaced.
    """
    check_name(name, "a profile")
    look = here.staging.look(about)
    if look.problem:
        raise ConfigError(f"a profile must be able to read its file: {look.problem}")
    profile = of_file(name, look.columns, about.how.names(), about.how.dates())
    there = _profiles(here, about).before(name)
    if there and there.mark != profile.mark and not asked.text("replace"):
        raise ConfigError(
            f"there is a profile {name}, made by {there.made_by}: give yours another name, or say that it "
            "takes the place of that one"
        )
    saved = Profiles(here.patient, about.org).save(profile, str(here.operator().by))
    return about.how.with_profile(saved)


def _profiles(here: Console, about: Staged) -> Profiles:
    return Profiles(here.queue, about.org)


@contextmanager
def _while_nobody_begins(here: Console, asked: Asked) -> Iterator[Staged]:
    """Give the file whose reading changes: what somebody has confirmed is imported as they saw it.

    Raises:
        ConfigError: somebody begins with its import, or has begun.
    """
    with here.staging.alone(asked.need("id"), here.queue.new_id()) as about:
        if about.state != "there":
            raise ConfigError(f"{about.name} is {about.state}: how it is read can't be changed any more")
        yield about
