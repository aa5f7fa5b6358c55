"""Rows whose dates are written as people write them: each is read in the format and zone that were said.

The date of a workbook's cell is a date already, and only lacks its zone.

How one is read is in ``domain/localdates.py``; what the result must be, in ``domain/dates.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import lru_cache
from itertools import product
from shlex import quote
from typing import Any, Final, NamedTuple, Self

from worker.domain.dates import HourText
from worker.domain.item import Remarks, Source
from worker.domain.localdates import (
    EPOCH,
    ISO_FORMAT,
    DateFormat,
    end_of_day,
    fitting,
    in_zone,
    is_certain,
    read_zone,
    shown,
    zone_name,
)
from worker.domain.numbers import BadCell, CellDate, NumberText
from worker.domain.spellings import is_written_date, nearly_iso
from worker.domain.text import escaped
from worker.errors import ConfigError
from worker.files.sample import ROWS, Sample, are_most
from worker.files.transposed import DayOrder

_FIELDS: Final = ("earnEventDate", "earnEventDateISO", "earnExpiresOn", "earnExpiresOnISO")
_NUMBER: Final = re.compile(r"-?(\d{5}|\d{9,})(\.0+)?", re.ASCII)  # a spreadsheet's day, or an epoch
_LOCAL_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]", re.ASCII)
_SAMPLES: Final = 3
_MOST_KNOWN: Final = 8_192  # the rows of a file have few days
_EITHER_CENTURY: Final = 2073  # in two digits: 1973, from which on dates are taken, may be meant
_AS_ISO: Final = DateFormat(ISO_FORMAT)
_ISO_OF: Final = {field: field if field.endswith("ISO") else f"{field}ISO" for field in _FIELDS}


@dataclass(frozen=True, slots=True)
class Dating:
    """How the dates of a file are to be read; without a format they are ISO or epochs."""

    form: DateFormat | None = None
    zone: tzinfo | None = None

    def options(self) -> list[str]:
        """Return the options that say so."""
        form = [f"--date-format {quote(self.form.text)}"] if self.form else []
        return form + ([f"--timezone {zone_name(self.zone)}"] if self.zone else [])

    @classmethod
    def parse(cls, form: str, zone: str) -> Self:
        """Read both as they are said; "" where one isn't.

        Raises:
            ValueError: it is no format, or no zone.
        """
        return cls(DateFormat.parse(form) if form else None, read_zone(zone) if zone else None)

    def over(self, other: Dating) -> Dating:
        """Return what this says, and what another says where this says nothing."""
        return Dating(self.form or other.form, self.zone or other.zone)

    def refuse_without_zone(self) -> None:
        """Make sure that dates can become instants.

        Raises:
            ConfigError: there is a format of dates without a zone, and no zone.
        """
        if self.form and self.form.text not in (EPOCH, ISO_FORMAT) and not self.zone:
            raise ConfigError(
                f"--date-format {self.form.text} has no zone: say --timezone, such as Europe/Berlin; UTC is "
                "never assumed"
            )

    def reads(self, cell: str) -> bool:
        """Say whether a text is written as is said or, where nothing is, as ISO with a time."""
        return bool(self.form.read(cell)) if self.form else bool(_LOCAL_ISO.match(cell))


class UndeclaredDates(ConfigError):  # noqa: N818 - reads as what is the case
    """Most dates of a field are written so that a format, a zone or both must be said."""

    def __init__(self, why: str, field: str, cells: Sequence[str], formats: Sequence[str] | None) -> None:
        """Take why, and the formats that all cells fit; ``None`` where they are dates and need none."""
        super().__init__(why)
        self.field, self.formats = field, formats
        self.samples = list(dict.fromkeys(cells))[:_SAMPLES]


AS_WRITTEN: Final = Dating()
"""Dates are ISO with an offset, or epochs."""


def dated(rows: Iterator[Source], how: Dating, remarks: Remarks, *, name: str) -> Iterator[Source]:
    """Give the rows with their dates read; a date that can't be is refused in its row.

    Raises:
        ConfigError: most of a column's dates are written in a format that nobody said, or day and month seem
            to have changed places; or there is no zone.
    """
    how.refuse_without_zone()
    if how.form and how.form.means(EPOCH):
        rows = map(_taken_at_its_word, rows)
    sample = Sample.of(rows)
    order = DayOrder(how.form, name)
    cells: dict[str, list[str]] = {field: [] for field in _FIELDS}
    for row, field in product(sample.first, _FIELDS):
        if not isinstance(row.item, dict):
            continue
        if (cell := _cell(row.item, field)).strip():
            cells[field].append(cell)
        if given := cell or _number(row.item.get(field), how.form):
            order.note(field, given, row.row)
    order.refuse()
    _refuse_without_zone(cells, how, name)
    _refuse_undeclared(cells, how, name)
    if how.zone:
        return _all_read(sample, how, remarks, order)
    for field, its in cells.items():
        if local := next((it for it in its if _LOCAL_ISO.match(it) and _AS_ISO.read(it.strip())), None):
            shown = f"{field} has dates without a zone, such as “{escaped(local.strip(), 40)}”"
            remarks.add(f"{shown}: with --timezone they can be read")
        is_read = not how.form or how.form.means(ISO_FORMAT)
        if other := next(
            (it for it in its if nearly_iso(it.strip()) not in {None, it.strip()} and is_read), None
        ):
            shown = f"{field} has dates that aren't quite ISO, such as “{escaped(other.strip(), 40)}”"
            remarks.add(f"{shown}: with --timezone, of any zone, they are read by their own")
    return sample.everything()


def _taken_at_its_word(row: Source) -> Source:
    marked = {field: str(cell) for field, cell in (row.item or {}).items() if isinstance(cell, HourText)}
    return row._replace(item=row.item | marked) if marked else row


_Cells = Mapping[str, Sequence[str]]


def _refuse_without_zone(cells: _Cells, how: Dating, name: str) -> None:
    for field, its in cells.items():
        typed = [] if how.zone else [cell for cell in its if isinstance(cell, CellDate)]
        if typed and are_most(len(typed), len(its)):
            why = (
                f"{name}: {field} has dates such as “{escaped(typed[0], 40)}”, and a workbook's dates have "
                "no zone: say --timezone, such as Europe/Berlin; UTC is never assumed"
            )
            raise UndeclaredDates(why, field, typed, None)


def _refuse_undeclared(cells: _Cells, how: Dating, name: str) -> None:
    """Refuse a file in which a column is written as nobody said; a format that is said must fit another."""
    undeclared: dict[str, list[str]] = {}
    fits = not how.form
    for field, its in cells.items():
        written = [
            cell.strip() for cell in its if not isinstance(cell, CellDate) and is_written_date(cell.strip())
        ]
        foreign = [cell for cell in written if not is_certain(cell) and not how.reads(cell)]
        fits = fits or len(foreign) < len(written)
        if foreign and are_most(len(foreign), len(its)):
            undeclared[field] = foreign
    if not undeclared or not fits:
        return
    field, foreign = next(iter(undeclared.items()))
    formats = _together([each for its in undeclared.values() for each in _fitting_parts(its[:ROWS])], how)
    why = f"{name}: {field} has dates such as “{escaped(foreign[0], 40)}”; {_advice(formats, foreign, how)}"
    raise UndeclaredDates(why, field, foreign, formats)


def _advice(formats: Sequence[str], foreign: Sequence[str], how: Dating) -> str:
    """Say what is to be said of dates that fit these formats, or can be done about them."""
    zone = "" if how.zone else " --timezone ZONE (such as Europe/Berlin)"
    and_zone = zone and f", and{zone}"
    as_iso = "write them as 2026-12-31T00:00:00+01:00"
    if len(formats) == 1:
        return f"say {shown(formats)}{zone}"
    if formats:
        return f"they fit {shown(formats)}: say which{and_zone}"
    if how.form:
        return f"which isn't {how.form.text}: say their format as well, or {as_iso}"
    if not fitting(foreign[:1]):
        return f"which no --date-format reads: {as_iso}"
    return f"they are written in several ways: say --date-format for each{and_zone}, or {as_iso}"


def _fitting_parts(cells: Sequence[str]) -> list[Sequence[str]]:
    """Return the formats that those with a time of day fit, and those without, their days written alike."""
    parts = [[cell for cell in cells if (":" in cell) is timed] for timed in (True, False)]
    each = [fitting(part) for part in parts if part]
    days = set.intersection(*({DateFormat(it).day().text for it in formats} for formats in each))
    return [[it for it in formats if not days or DateFormat(it).day().text in days] for formats in each]


def _together(fitting_each: Sequence[Sequence[str]], how: Dating) -> Sequence[str]:
    """Return what is to be said so that all columns can be read; or what the first of them fits."""
    said = [how.form.text] if how.form else []
    if all(len(formats) == 1 for formats in fitting_each):
        try:
            return [DateFormat.parse(" or ".join([*said, *(formats[0] for formats in fitting_each)])).text]
        except ValueError:  # they can't be told apart
            return []
    return [] if said else fitting_each[0]


def _cell(item: Any, field: str) -> str:
    cell = item.get(field) if isinstance(item, dict) else None
    return cell if isinstance(cell, str) and not isinstance(cell, BadCell | NumberText) else ""


def _number(value: object, form: DateFormat | None) -> str:
    """Return a number that may be a date, as one is said to be written without signs."""
    digits = str(value) if isinstance(value, NumberText | int) else ""
    return digits if form and form.has_as_many(digits) else ""


def _all_read(sample: Sample, how: Dating, remarks: Remarks, order: DayOrder) -> Iterator[Source]:
    @lru_cache(maxsize=_MOST_KNOWN)
    def meant(cell: str, iso: str, *, is_text: bool) -> _Meant | None:
        # A workbook's date is one, whatever format is said for what is written as text.
        return _meant(cell, iso, how.form if is_text else None, how.zone)

    for row in sample.everything():
        yield _read(row, how, remarks, order, meant)
    order.tell(remarks)


def _read(
    row: Source, how: Dating, remarks: Remarks, order: DayOrder, meant: Callable[..., _Meant | None]
) -> Source:
    if not isinstance(row.item, dict):
        return row
    item = dict(row.item)
    for field, iso in _ISO_OF.items():
        if field not in item:
            continue
        given = _cell(item, field) or _number(item[field], how.form)
        if not (cell := given.strip()) or (iso != field and item.get(iso)):
            continue
        order.note(field, given, row.row)
        found = meant(cell, iso, is_text=not isinstance(given, CellDate))
        if found is None:
            continue
        value, is_read, remark = found
        del item[field]
        item[iso if is_read else field] = value
        if remark:
            remarks.add(remark, int(row.row))
    return row._replace(item=item)


class _Meant(NamedTuple):
    """What a cell becomes, whether that is a date that was read, and what is to be said of it."""

    value: str
    is_read: bool = True
    remark: str = ""


def _meant(cell: str, iso: str, form: DateFormat | None, zone: tzinfo | None) -> _Meant | None:
    """Return what a cell of text means; ``None`` if that is to be told as in any file."""
    if form is not None and form.text == EPOCH:
        return None
    nearly = nearly_iso(cell) if form is None or form.means(ISO_FORMAT) else None
    if nearly or is_certain(cell):
        return _Meant(nearly or cell)
    found = (form or _AS_ISO).read(cell)
    if found is None:
        is_epoch = _NUMBER.fullmatch(cell) and form and (form.means(EPOCH) or not form.has_as_many(cell))
        if form is None or is_epoch:
            return None
        why = f"isn't written as {form.text}: “{escaped(cell, 40)}”"
        return _Meant(BadCell.of("date", cell, why), is_read=False)
    at, has_time = found
    remark = ""
    if not has_time:
        at = end_of_day(at) if iso.startswith("earnExpiresOn") else at
        remark = f"{iso} has dates without a time of day: {at.time()} in {zone} is meant"
    try:
        _refuse_either_century(at.year, cell)
        return _Meant(in_zone(at, zone or UTC), remark=remark)  # there is a zone wherever dates are read
    except ValueError as error:
        return _Meant(BadCell.of("date", cell, str(error)), remark=remark)


def _refuse_either_century(year: int, cell: str) -> None:
    if year >= _EITHER_CENTURY and str(year) not in cell:
        raise ValueError(f"“{cell}” could be {year - 100} or {year}: write it as ISO with its offset")
