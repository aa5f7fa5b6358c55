"""Rows whose dates are written as people write them: each is read in the format and zone that were said.

The date of a workbook's cell is a date already, and only lacks its zone.

How one is read is in ``domain/localdates.py``; what the result must be, in ``domain/dates.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from shlex import quote
from typing import Any, Final

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
    shown,
    zone_name,
)
from worker.domain.numbers import BadCell, CellDate, NumberText
from worker.domain.spellings import is_written_date
from worker.domain.text import escaped
from worker.errors import ConfigError
from worker.files.sample import ROWS, Sample

_FIELDS: Final = ("earnEventDate", "earnEventDateISO", "earnExpiresOn", "earnExpiresOnISO")
_EPOCH: Final = re.compile(r"-?\d{9,}(\.0+)?", re.ASCII)
_LOCAL_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]", re.ASCII)
_SAMPLES: Final = 3
_SHARE: Final = 0.8
_AS_ISO: Final = DateFormat(ISO_FORMAT)


@dataclass(frozen=True, slots=True)
class Dating:
    """How the dates of a file are to be read; without a format they are ISO or epochs."""

    form: DateFormat | None = None
    zone: tzinfo | None = None

    def options(self) -> list[str]:
        """Return the options that say so."""
        form = [f"--date-format {quote(self.form.text)}"] if self.form else []
        return form + ([f"--timezone {zone_name(self.zone)}"] if self.zone else [])

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
        ConfigError: most of a column's dates are written in a format that nobody said; or there is no zone.
    """
    how.refuse_without_zone()
    if how.form and how.form.text == EPOCH:
        rows = map(_taken_at_its_word, rows)
    if not how.form or not how.zone:
        sample = Sample.of(rows)
        _refuse_undeclared(sample, how, name)
        rows = sample.everything()
    return (_read(row, how, remarks) for row in rows) if how.zone else rows


def _taken_at_its_word(row: Source) -> Source:
    marked = {field: str(cell) for field, cell in (row.item or {}).items() if isinstance(cell, HourText)}
    return row._replace(item=row.item | marked) if marked else row


def _refuse_undeclared(sample: Sample, how: Dating, name: str) -> None:
    for field in _FIELDS:
        cells = [cell for row in sample.first if (cell := _cell(row.item, field)).strip()]
        least = max(1, _SHARE * len(cells))
        typed = [cell for cell in cells if isinstance(cell, CellDate)]
        if not how.zone and len(typed) >= least:
            why = (
                f"{name}: {field} has dates such as “{escaped(typed[0], 40)}”, and a workbook's dates have "
                "no zone: say --timezone, such as Europe/Berlin; UTC is never assumed"
            )
            raise UndeclaredDates(why, field, typed, None)
        foreign = [cell.strip() for cell in cells if not how.form and _is_undeclared(cell)]
        if len(foreign) < least:
            continue
        formats = fitting(foreign[:ROWS])
        zone = "" if how.zone else " --timezone ZONE (such as Europe/Berlin)"
        advice = f"say {shown(formats)}{zone}" if len(formats) == 1 else (
            f"they fit {shown(formats)}: say which{', and' if zone else ''}{zone}" if formats
            else f"say --date-format and{zone or ' --timezone'}, or write them as 2026-12-31T00:00:00+01:00"
        )  # fmt: skip
        why = f"{name}: {field} has dates such as “{escaped(foreign[0], 40)}”; {advice}"
        raise UndeclaredDates(why, field, foreign, formats)


def _is_undeclared(cell: str) -> bool:
    text = cell.strip()
    return not isinstance(cell, CellDate) and is_written_date(text) and not _LOCAL_ISO.match(text)


def _cell(item: Any, field: str) -> str:
    cell = item.get(field) if isinstance(item, Mapping) else None
    return cell if isinstance(cell, str) and not isinstance(cell, BadCell | NumberText) else ""


def _read(row: Source, how: Dating, remarks: Remarks) -> Source:
    if not isinstance(row.item, dict):
        return row
    item = dict(row.item)
    for field in _FIELDS:
        iso = field if field.endswith("ISO") else f"{field}ISO"
        given = _cell(item, field)
        cell, form = given.strip(), how.form or _AS_ISO
        if not cell or (iso != field and item.get(iso)):
            continue
        if isinstance(given, CellDate):  # whatever format is said for what is written as text
            form = _AS_ISO
        elif form.text == EPOCH:
            continue
        if is_certain(cell):
            del item[field]
            item[iso] = cell
        elif found := form.read(cell):
            del item[field]
            item[iso] = _instant(found, iso, how, remarks, int(row.row))
        elif how.form and not _EPOCH.fullmatch(cell):
            item[field] = BadCell.of("date", cell, f"isn't written as {form.text}: “{escaped(cell, 40)}”")
    return row._replace(item=item)


def _instant(found: tuple[datetime, bool], field: str, how: Dating, remarks: Remarks, row: int) -> str:
    at, has_time = found
    if not has_time:
        at = end_of_day(at) if field.startswith("earnExpiresOn") else at
        remarks.add(f"{field} has dates without a time of day: {at.time()} in {how.zone} is meant", row)
    try:
        return in_zone(at, how.zone or UTC)  # there is a zone wherever dates are read
    except ValueError as error:
        return BadCell.of("date", str(at), str(error))
