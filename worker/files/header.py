"""The header of a table: which delimiter a CSV file has, and what is wrong with the columns of any."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from shlex import quote
from typing import Final, Self

from worker.domain.badge import is_object_id
from worker.domain.item import Remarks
from worker.domain.text import escaped
from worker.errors import ColumnsUnclear, ConfigError, FileError
from worker.files.columns import FIELDS, NEEDED, ORG, Names, folded, lacking, nearest, with_hint
from worker.files.sample import Sample, missing_dates, proposed, unmapped_dates

NAMELESS: Final = "a column without a name: if it only counts the rows, as pandas does, --map = leaves it out"
NAMED_AGAIN: Final = "a row that names the columns again is left out"
NAMED: Final = 2  # columns at least
_AROUND: Final = "\ufeff\"' "  # a cell, where the file that begins with it was a file of its own
_COMPLAINTS: Final = 5
_COLUMNS_SHOWN: Final = 30


@dataclass(frozen=True, slots=True)
class Given:
    """A table's file, what a person says of it, and ``remarks``, which gets what is to be said back.

    ``without_dates``: columns of dates may be left out, though a date is missing.
    """

    file: str
    names: Names
    without_dates: bool = False
    remarks: Remarks = field(default_factory=Remarks)


@dataclass(frozen=True)
class Header:
    """The columns of a file, and what a person says of them.

    ``width`` counts empty ones at the end too.
    """

    file: str
    names: Names
    columns: tuple[str, ...]
    delimiter: str = ","
    width: int = 0

    @classmethod
    def read(cls, line: str, file: str, names: Names) -> Self:
        """Read the first line of a file.

        Raises:
            FileError: it names no columns of a badge, or lacks one that is mapped or that a report must have.
        """

        def split(delimiter: str) -> list[str]:
            try:
                return next(csv.reader([line], delimiter=delimiter, strict=True, skipinitialspace=True))
            except csv.Error:
                return []

        delimiter = max(",;\t|", key=lambda sign: (sum(map(names.means, cells := split(sign))), len(cells)))
        columns = split(delimiter)
        width = len(columns)
        while columns and not columns[-1].strip():  # a spreadsheet pads its rows
            columns.pop()
        header = cls(file, names, tuple(columns), delimiter, width)
        header.check_names(
            f"the first line must name the columns, but reads “{escaped(line, 60)}”: if their names come "
            "later, remove what stands above"
        )
        return header

    @property
    def is_report(self) -> bool:
        """Whether it is one of this program's reports."""
        return bool(self.names.signs_of_a_report(self.columns))

    @property
    def field_of(self) -> Callable[[str], str | None]:
        """What tells which field a column stands for."""
        return self.names.field_in_report if self.is_report else self.names.field

    def check_names(self, none: str) -> None:
        """Refuse names of which none is a badge's, or that lack what is mapped or what a report must have.

        Args:
            none: what to say where none is a badge's.

        Raises:
            FileError: as described.
        """
        file, names, columns = self.file, self.names, self.columns
        if absent := names.absent(columns):
            there = ", ".join(f"“{escaped(column.strip(), 60)}”" for column in columns[:_COLUMNS_SHOWN])
            text = f"{file} has no column “{absent[0]}” that could be mapped; its columns are {there}."
            if names.of_profile:
                text = (
                    f"{file} has no column “{absent[0]}”, which its profile expects; its columns are "
                    f"{there}. Where it has another name now, say --map COLUMN=FIELD beside the profile."
                )
            raise FileError(text)
        if not any(names.field(column) in FIELDS for column in columns):
            named = [column.strip() for column in columns[:_COLUMNS_SHOWN] if column.strip()]
            raise ColumnsUnclear(f"{file}: {none}. {_ALLOWED}.", {it: nearest(it) for it in named})
        ours = names.signs_of_a_report(columns)
        if ours and not names.unknown(columns) and (problem := lacking(columns, ours)):
            raise FileError(f"{file}: {problem}")

    def tell(self, remarks: Remarks) -> None:
        """Hand on the columns, and say which of them a profile leaves out."""
        remarks.columns = tuple(column.strip() for column in self.columns)
        for column in self.names.left_out(self.columns):
            remarks.add(f"the column “{escaped(column.strip(), 60)}” isn't in the profile, and isn't read")

    def is_again(self, cells: Sequence[str], row: int) -> bool:
        """Say whether a row's cells name the columns once more, as where files were put together.

        They may stand behind the last row of the file before, if that had no end.

        Raises:
            FileError: they name them otherwise, so that what stands below would be misread.
        """
        there = [name for cell in cells if (name := folded(cell.strip(_AROUND)))]
        behind = there[1 - len(self._own) :] if len(there) > len(self._own) > NAMED else []
        if not self._names_columns(there) and not self._names_columns(behind):
            return False
        if there == self._own:
            return True
        one = next((cell for cell, own in zip_longest(there, self._own) if cell != own), "") or there[-1]
        shown = next((cell.strip(_AROUND) for cell in cells if folded(cell.strip(_AROUND)) == one), one)
        raise FileError(
            f"{self.file}: row {row} names the columns again, but otherwise: “{escaped(shown, 60)}” is out "
            "of its place. Nothing from there on was read: make a file of its own of it"
        )

    def _names_columns(self, cells: Sequence[str]) -> bool:
        """Say whether these do: most of them, and none is a customer's or a badge's id."""
        known = self._known.intersection(cells)
        most = len(known) >= NAMED and 2 * len(known) > len(cells)
        return most and not any(cell.isdigit() or is_object_id(cell) for cell in cells)

    @cached_property
    def _own(self) -> list[str]:
        return [name for column in self.columns if (name := folded(column))]

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset((*self._own, *map(folded, FIELDS)))

    def check(self, sample: Sample, *, without_dates: bool) -> None:
        """Refuse columns that are missing, unknown, nameless, there twice, or hold dates that are needed.

        Args:
            sample: the first rows, which tell what columns that stand for no field hold.
            without_dates: a person says that these aren't needed.

        Raises:
            FileError: as described.
            ConfigError: a date is missing, and there is a column that holds dates.
        """
        dates = {} if self.is_report else sample.date_columns()
        found = Counter(map(self.names.field, self.columns))
        missing = missing_dates([field for field in FIELDS if found[field] or field in self.names.fixed])
        complaints = self._complaints(found)
        text = f"{self.file} has {'; '.join(complaints)}. {_ALLOWED}{self._command(found, dates, missing)}"
        if missing and dates and not without_dates:
            raise ConfigError(unmapped_dates(self.file, dates, missing) + (f" {text}" if complaints else ""))
        if complaints:
            raise ColumnsUnclear(text, self._mapped(found, dates, missing), [it for it in found if it])

    def _complaints(self, found: Counter[str | None]) -> list[str]:
        unknown = [column.strip() for column in self.names.unknown(self.columns)]
        complaints = [self._unknown(column) if column else NAMELESS for column in unknown[:_COMPLAINTS]]
        fixed = self.names.fixed
        complaints += [f"no column {field}" for field in NEEDED if not found[field] and field not in fixed]
        complaints += [f"a column {field}, which is set for all rows" for field in fixed if found[field]]
        twice = [name for name in (*FIELDS, ORG) if found[name] > 1]
        return complaints + [f"{found[name]} columns that mean {name}" for name in twice]

    def _unknown(self, column: str) -> str:
        if self.names.of_profile:
            return f"a column “{escaped(column, 60)}” that its profile doesn't know, though it names a field"
        return f"unknown column {with_hint(column)}"

    def _command(self, found: Counter[str | None], dates: Mapping[str, str], missing: Sequence[str]) -> str:
        """Return the command that would read the file.

        What holds dates is never left out by it, nor what nobody can name.
        """
        if self.names.of_profile:
            return "."
        kept, said = {"", *map(folded, dates)}, self.names.said
        mapped = self._mapped(found, dates, missing)
        mapped = {it: field for it, field in mapped.items() if field or it in said or folded(it) not in kept}
        if mapped == said:
            return "."
        pairs = (escaped(f"{column}={field or ''}", 200) for column, field in mapped.items())
        maps = "".join(f" --map {quote(pair)}" for pair in pairs)
        return f". To be completed: badges import {quote(self.file)}{self.names.beside}{maps}"

    def _mapped(
        self, found: Counter[str | None], dates: Mapping[str, str], missing: Sequence[str]
    ) -> dict[str, str | None]:
        """Say what each column that nobody knows probably stands for, beside what a person said."""
        unknown = [column.strip() for column in self.names.unknown(self.columns)]
        mapped = dict(self.names.said)
        for column in unknown[:_COLUMNS_SHOWN]:
            field = proposed(column, dates[column], missing) if column in dates else nearest(column)
            mapped[column] = None if found[field] else field
        return mapped


_ALLOWED: Final = (
    f"The columns may be {', '.join(FIELDS)}; one of another name is read with --map COLUMN=FIELD, and "
    "ignored with --map COLUMN="
)
