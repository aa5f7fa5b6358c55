"""Profiles: how a file with certain columns is read, remembered per org under a name.

A profile says of every column of a file which field it is, or that it is ignored, what all rows have in
common, and how dates are written and in which zone. What of it decides which badge a row is has a mark of
its own: where that changed since the profile was last used, rows that were imported before would count as
new, and a person is asked first. How profiles are kept is in ``store/profiles.py``.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from shlex import quote
from typing import Any, Final

from worker.domain.identity import short_hash
from worker.domain.localdates import zone_name
from worker.domain.text import plain
from worker.enqueue import check_name
from worker.errors import ConfigError, NotFound
from worker.files.columns import Names, fixed_fields, folded
from worker.files.dated import Dating
from worker.store import audit
from worker.store import profiles as kept
from worker.store.queue import Queue

_MARK_LETTERS: Final = 8
_MOST: Final = 100  # of an org, and as many that were removed
_MOST_COLUMNS: Final = 500
_KEYS: Final = ("name", "date_format", "timezone", "columns", "set")
_LARGEST: Final = 100_000  # characters of TOML


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile; ``columns`` has the field of each column, "" for one that is ignored.

    ``date_format`` and ``timezone`` are "" where nothing is said of dates. ``used_as`` is the mark that it
    had when it was last used. Times are ms, 0 for never. One that was removed stays as a name with that mark.
    """

    name: str
    columns: dict[str, str]
    fixed: dict[str, str] = field(default_factory=dict)
    date_format: str = ""
    timezone: str = ""
    made_by: str = ""
    made_at: int = 0
    used_at: int = 0
    used_as: str = ""
    is_removed: bool = False

    @property
    def mark(self) -> str:
        """What stands for all of it that decides which badge a row is."""
        fields = sorted((folded(column), its) for column, its in self.columns.items() if its)
        parts: list[object] = [fields, sorted(self.fixed.items())]
        parts += [[self.date_format, self.timezone]] if self.date_format or self.timezone else []
        return short_hash(json.dumps(parts))[:_MARK_LETTERS]

    @property
    def is_changed(self) -> bool:
        """Whether it was used before as something else."""
        return self.used_as not in ("", self.mark)

    def names(self) -> Names:
        """Return what the columns stand for."""
        said = {column: its or None for column, its in self.columns.items()}
        return Names(said, self.fixed, of_profile=True)

    def dates(self) -> Dating:
        """Return how dates are written.

        Raises:
            ConfigError: this machine doesn't know the zone (any more).
        """
        try:
            return Dating.parse(self.date_format, self.timezone)
        except ValueError as error:
            raise ConfigError(f"profile {self.name}: {error}") from None

    def fits(self, columns: Iterable[str]) -> bool:
        """Say whether a file with these columns, in any order, is what the profile was made for."""
        return {folded(column) for column in columns} == {folded(column) for column in self.columns}

    def options(self) -> list[str]:
        """Return it as options of an import would say it."""
        maps = [
            f"{column}={its}"
            for column, its in self.columns.items()
            if not column or folded(column) != folded(its)
        ]
        sets = [f"{name}={value}" for name, value in self.fixed.items()]
        return [f"--map {quote(one)}" for one in maps] + [f"--set {quote(one)}" for one in sets]

    def to_toml(self) -> str:
        """Write it as a file that ``from_toml`` reads."""
        lines = [f"name = {_quoted(self.name)}"]
        said = (("date_format", self.date_format), ("timezone", self.timezone))
        lines += [f"{name} = {_quoted(value)}" for name, value in said if value]
        lines += ["", "[columns]  # the field of each; empty: it is ignored"]
        lines += [f"{_quoted(column)} = {_quoted(its)}" for column, its in self.columns.items()]
        lines += ["", "[set]  # what every row has"]
        lines += [f"{name} = {_quoted(value)}" for name, value in self.fixed.items()]
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def from_toml(text: str, file: str) -> Profile:
    """Read a profile that was exported.

    Raises:
        ConfigError: it isn't one; the text says what is wrong with it.
    """
    try:
        if len(text) > _LARGEST:
            raise ValueError(f"it is longer than {_LARGEST:,} characters")  # noqa: TRY301 - said alike
        return _checked(tomllib.loads(text))
    except ValueError as error:  # TOMLDecodeError is one
        raise ConfigError(f"{file} is no profile: {plain(str(error), 300)}") from None


def _checked(table: Mapping[str, Any]) -> Profile:
    if unknown := table.keys() - _KEYS:
        raise ValueError(f"it has “{min(unknown)}”; it may have {', '.join(_KEYS)}")
    name, columns, fixed = table.get("name"), table.get("columns"), table.get("set", {})
    for what, part in (("columns", columns), ("set", fixed)):
        if not isinstance(part, dict) or not all(isinstance(value, str) for value in part.values()):
            raise ValueError(f"[{what}] must be a table of texts")
    if not isinstance(name, str) or not columns or len(columns) > _MOST_COLUMNS:
        raise ValueError(f"it must have a name, and 1 to {_MOST_COLUMNS} columns")
    check_name(name, "a profile")
    names = Names.parse([f"{column}={its}" for column, its in columns.items()])
    proper = {column: its or "" for column, its in names.said.items()}
    of_dates = [table.get("date_format", ""), table.get("timezone", "")]
    if not all(isinstance(text, str) for text in of_dates):
        raise ValueError("date_format and timezone must be texts")
    dates = Dating.parse(*of_dates)
    dates.refuse_without_zone()
    its = fixed_fields(f"{field_}={value}" for field_, value in fixed.items())
    return _with_dates(Profile(name, proper, its), dates)


def _with_dates(profile: Profile, dates: Dating) -> Profile:
    form, zone = dates.form.text if dates.form else "", zone_name(dates.zone) if dates.zone else ""
    return replace(profile, date_format=form, timezone=zone)


@dataclass(frozen=True, slots=True)
class Profiles:
    """The profiles of an org."""

    queue: Queue
    org: str

    def all(self) -> list[Profile]:
        """Return them by name; one that can't be read (a newer version's) isn't among them."""
        return [profile for profile in self._kept() if not profile.is_removed]

    def _kept(self) -> list[Profile]:
        found = sorted(kept.all_profiles(self.queue, self.org).items())
        return [profile for name, text in found if (profile := _read(name, text))]

    def _kept_as(self, name: str) -> Profile | None:
        return next((profile for profile in self._kept() if profile.name == name), None)

    def named(self, name: str) -> Profile:
        """Return one.

        Raises:
            NotFound: there is none of that name.
        """
        profiles = self.all()
        for profile in profiles:
            if profile.name == name:
                return profile
        there = ", ".join(profile.name for profile in profiles) or "none yet"
        raise NotFound(f"{self.org} has no profile “{plain(name, 64)}”; it has {there}")

    def before(self, name: str) -> Profile | None:
        """Return the one of that name, if there is one."""
        return next((profile for profile in self.all() if profile.name == name), None)

    def save(self, profile: Profile, by: str, note: str = "") -> Profile:
        """Keep a profile; what is or was there under its name says how it was last used.

        Raises:
            ConfigError: the org has as many as it may.
        """
        there = self._kept_as(profile.name)
        others = [its for its in self.all() if its.name != profile.name]
        if len(others) >= _MOST:
            raise ConfigError(f"an org may have {_MOST} profiles: remove one first")
        made = replace(
            profile,
            made_by=by,
            made_at=kept.now_ms(self.queue, self.org),
            used_at=there.used_at if there else 0,
            used_as=there.used_as if there else "",
        )
        self._audit(by, {"profile": made.name, "saved_as": made.mark}, note)
        self._write(made)
        return made

    def note_use(self, profile: Profile) -> None:
        """Note that a file was read with it; a change or removal by somebody else meanwhile stands."""
        if there := self._kept_as(profile.name):
            at = kept.now_ms(self.queue, self.org)
            self._write(replace(there, used_at=at, used_as=profile.mark))

    def remove(self, name: str, by: str, note: str = "") -> None:
        """Forget one, but for how it was last used: another of its name isn't used instead without a word.

        Raises:
            NotFound: there is none of that name.
        """
        there = self.named(name)
        self._audit(by, {"profile": name, "removed": there.mark}, note)
        removed = sorted((it for it in self._kept() if it.is_removed), key=lambda it: it.used_at)
        for oldest in removed[: max(0, len(removed) + 1 - _MOST)]:
            kept.remove(self.queue, self.org, oldest.name)
        if there.used_as:
            self._write(Profile(name, {}, used_at=there.used_at, used_as=there.used_as, is_removed=True))
        else:
            kept.remove(self.queue, self.org, name)

    def _audit(self, by: str, which: Mapping[str, str], note: str) -> None:
        action = audit.action_id(self.queue, "profile")
        audit.begin(self.queue, self.org, action, by=by, note=note, which=which, counts=False)

    def _write(self, profile: Profile) -> None:
        values = asdict(profile)
        if not profile.is_removed:  # older versions don't know that
            del values["is_removed"]
        kept.write(self.queue, self.org, values.pop("name"), json.dumps(values))


def _read(name: str, text: str) -> Profile | None:
    try:
        return Profile(name=name, **json.loads(text))
    except (ValueError, TypeError):
        return None


def of_file(name: str, columns: Iterable[str], names: Names, dates: Dating) -> Profile:
    """Return the profile of a file with these columns, read like that.

    Raises:
        ConfigError: the file has no columns, or is a report, which says itself how it is read.
    """
    fields = {it: names.field(it) or "" for it in columns if it or it in names.said}
    if not fields:
        raise ConfigError("a profile is made of a table's columns, and JSON has none")
    if names.signs_of_a_report(fields):
        raise ConfigError("a report needs no profile: its columns are this program's own")
    return _with_dates(Profile(name, fields, dict(names.fixed)), dates)
