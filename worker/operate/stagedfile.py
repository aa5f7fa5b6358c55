"""How an uploaded file is read: what a person said of it, its first rows, and then all of them.

Where it lies and how far its import is, is in ``staging.py``; what is said may be kept (``profiles.py``).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import islice, permutations
from pathlib import Path
from typing import Final, Self

from worker.domain.badge import is_object_id
from worker.domain.identity import short_hash
from worker.domain.invalid import Invalid
from worker.domain.item import Remarks, Source
from worker.domain.parsing import parse_item
from worker.errors import ColumnsUnclear, ConfigError, FileError
from worker.files.columns import NEEDED, Names, fixed_fields, folded
from worker.files.dated import Dating, UndeclaredDates
from worker.files.described import Described, Opened
from worker.operate.profiles import Profile
from worker.operate.report import option

SAMPLE: Final = 5
_GUESSES: Final = 40


@dataclass(frozen=True, slots=True)
class How:
    """What a person said of a file; ``columns`` has the field of each, "" for one that is left out.

    ``fixed`` is what every row has, ``profile`` the one that says all this. Rows that differ from an earlier
    one in their dates alone are held back if ``hold_repeats``; those whose badge was taken back since go once
    more if ``again``.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    date_format: str = ""
    timezone: str = ""
    sheet: str = ""
    hidden_rows: bool = False
    without_dates: bool = False
    hold_repeats: bool = False
    again: bool = False
    profile: str = ""

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what ``written`` wrote.

        Raises:
            ConfigError: it says something that only a newer version knows.
        """
        try:
            return cls(**json.loads(text or "{}"))
        except TypeError:
            raise ConfigError(
                "a newer console says how this file is read: install that version here too"
            ) from None

    def written(self) -> str:
        """Write it as text."""
        return json.dumps(asdict(self))

    @property
    def mark(self) -> str:
        """What stands for all of it: another mark, another reading."""
        return short_hash(self.written())

    def names(self) -> Names:
        """Return what the columns stand for.

        Raises:
            ConfigError: that contradicts itself, or names no field.
        """
        try:
            fixed = fixed_fields(f"{name}={value}" for name, value in self.fixed.items())
            beside = f" {option('sheet', self.sheet)}" if self.sheet else ""
            mapped = (f"{column}={its}" for column, its in self.columns.items())
            names = Names.parse(mapped, fixed, beside=beside)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return Names(names.said, fixed, of_profile=True) if self.profile else names

    def undated(self) -> Described:
        """Return all that but how dates are written.

        Raises:
            ConfigError: the columns contradict each other, or name no field.
        """
        return Described(self.names(), self.without_dates, self.sheet or None, self.hidden_rows)

    def dates(self) -> Dating:
        """Return how dates are written.

        Raises:
            ConfigError: that is no format, or no zone.
        """
        try:
            dates = Dating.parse(self.date_format, self.timezone)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        dates.refuse_without_zone()
        return dates

    def with_profile(self, profile: Profile) -> Self:
        """Return it as a profile says it."""
        return replace(
            self,
            columns=profile.columns,
            fixed=profile.fixed,
            date_format=profile.date_format,
            timezone=profile.timezone,
            profile=profile.name,
        )

    def options(self) -> list[str]:
        """Return it as options of ``badges import`` say it."""
        maps = [f"{column}={its}" for column, its in self.columns.items() if folded(column) != folded(its)]
        said = [option("map", one) for one in maps]
        said += [option("set", f"{name}={value}") for name, value in self.fixed.items()]
        if self.profile:
            said = [option("profile", self.profile)]
        named = {"date-format": self.date_format, "timezone": self.timezone} if not self.profile else {}
        said += [option(name, value) for name, value in (named | {"sheet": self.sheet}).items() if value]
        flags = {
            "--hidden-rows": self.hidden_rows,
            "--without-dates": self.without_dates,
            "--hold-repeats": self.hold_repeats,
            "--again": self.again,
        }
        return said + [flag for flag, given in flags.items() if given]


@dataclass(frozen=True, slots=True)
class Look:
    """The first rows of a file, and what may be said of its columns; ``columns`` is empty where it has none.

    ``problem`` is why it can't be read so; ``is_unclear``: a person has to say what the columns stand for, or
    how its dates are written, which are such as ``dates`` and may be as ``formats``.
    """

    rows: list[Source] = field(default_factory=list)
    columns: Mapping[str, str | None] = field(default_factory=dict)
    problem: str = ""
    is_unclear: bool = False
    dates: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()


@contextmanager
def opened(path: Path, name: str, how: How) -> Iterator[Opened]:
    """Open a file to be read so, for as long as the block lasts.

    Raises:
        FileError: it isn't there, or can't be read as a whole.
        ConfigError: something must be said of it that wasn't.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise FileError(
            f"this worker can't read the uploaded file ({error.strerror}): it must see the console's "
            "BADGES_CONSOLE_UPLOAD_DIR"
        ) from None
    with stream:
        yield replace(how.undated(), dates=how.dates()).opened(stream, name)


def look(path: Path, name: str, how: How) -> Look:
    """Read the first rows as a person said; where that isn't enough, as it is probably meant."""
    try:
        return _first(path, name, how)
    except ColumnsUnclear as unclear:
        return _guessed(path, name, how, unclear)
    except UndeclaredDates as found:
        shown = Look()
        with suppress(FileError, ConfigError):
            shown = _as_written(path, name, how)
        formats = tuple(found.formats or ())
        return replace(
            shown, problem=str(found), is_unclear=True, dates=tuple(found.samples), formats=formats
        )
    except (FileError, ConfigError) as error:
        return _refused(path, name, how, str(error))


def _refused(path: Path, name: str, how: How, problem: str) -> Look:
    """Show what can be found of a file that is refused as it is read: its rows, and what a person may say."""
    try:
        shown = _as_written(path, name, how)
    except ColumnsUnclear as unclear:
        shown = _guessed(path, name, how, unclear)
    except (FileError, ConfigError):
        shown = Look()
    return replace(shown, problem=problem, is_unclear=bool(shown.columns))


def _first(path: Path, name: str, how: How) -> Look:
    with opened(path, name, how) as given:
        return Look(list(islice(given.rows, SAMPLE)), _columns(given.remarks, how.names()))


def _as_written(path: Path, name: str, how: How) -> Look:
    """Read the first rows without reading their dates."""
    with path.open("rb") as stream:
        rows, remarks = how.undated().as_written(stream, name)
        return Look(list(islice(rows, SAMPLE)), _columns(remarks, how.names()))


def _columns(remarks: Remarks, names: Names) -> dict[str, str | None]:
    """Return which field each column is read as; none of a report, which says that itself."""
    if names.signs_of_a_report(remarks.columns):
        return {}
    return {column: names.field(column) for column in remarks.columns if column or column in names.said}


def _guessed(path: Path, name: str, how: How, unclear: ColumnsUnclear) -> Look:
    """Read columns that nobody knows: which are the badge and the customer, the rows tell.

    Those are meant that make the most badges.
    """
    said = {**unclear.proposed, **{column: its or None for column, its in how.columns.items()}}
    lacking = [it for it in NEEDED if it not in {*said.values(), *how.fixed, *unclear.given}]
    open_ = [column for column, its in said.items() if its is None and column not in how.columns]
    found = Look([], said, str(unclear), is_unclear=True)
    for chosen in islice(permutations(open_, len(lacking)), _GUESSES):
        guess = said | dict(zip(chosen, lacking, strict=True))
        read_so = replace(how, columns={column: its or "" for column, its in guess.items()}, profile="")
        try:
            shown = _as_written(path, name, read_so)
        except ColumnsUnclear as still:
            if still.proposed.keys() - said.keys():  # so many columns that no guess is about all
                break
        except (FileError, ConfigError):
            continue
        else:
            if not found.rows or _badges(shown.rows) > _badges(found.rows):
                found = replace(found, rows=shown.rows, columns=shown.columns)
    found = _unless_a_badge(found, open_)
    return replace(found, columns={**found.columns, **_dates_in(path, name, how, found)})


def _unless_a_badge(found: Look, open_: Collection[str]) -> Look:
    """Leave open the column that was guessed to be the badge's, if no cell is one: any text could be."""
    badge = NEEDED[0]
    column = next((it for it, its in found.columns.items() if its == badge and it in open_), None)
    cells = [str(row.item.get(badge, "")) if isinstance(row.item, dict) else "" for row in found.rows]
    if column is None or any(is_object_id(cell.strip()) for cell in cells):
        return found
    rows = [
        row._replace(others={**row.others, column: cell}) for row, cell in zip(found.rows, cells, strict=True)
    ]
    return replace(found, rows=rows, columns={**found.columns, column: None})


def _dates_in(path: Path, name: str, how: How, found: Look) -> dict[str, str]:
    """Return which date each column that is still open probably is: its name and its cells tell."""
    known = {column: its for column, its in found.columns.items() if its}
    try:
        _as_written(path, name, replace(how, columns=known, profile=""))
    except ColumnsUnclear as unclear:
        open_ = {column: its for column, its in unclear.proposed.items() if its and column not in known}
        return {column: its for column, its in open_.items() if column not in how.columns}
    except (FileError, ConfigError):
        pass
    return {}


def _badges(rows: list[Source]) -> int:
    """Count the rows that are badges."""
    read = [row.problem or parse_item(row.item) for row in rows]
    return sum(not isinstance(it, Invalid) for it in read)
