"""How people and programs write dates that are no epochs.

They are to be recognised, and never to be read but for ISO as databases write it.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

_DATE, _TIME = r"\d{4}-\d\d-\d\d", r"\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?"
ISO: Final = re.compile(rf"{_DATE}T{_TIME}(Z|[+-]((0\d|1[0-3]):?[0-5]\d|14:?00))", re.ASCII)
_SECONDS: Final = re.compile(":.*:")
_NEARLY_ISO: Final = re.compile(rf"({_DATE})[T ]({_TIME}) ?(Z|UTC|[+-]\d\d(?::?\d\d)?)", re.ASCII)

_YEAR, _SHORT_YEAR = r"(?P<Y>(19|2[01])\d\d|9999)", r"(?P<y>\d\d)"  # 9999 is how people write "never"
_MONTH, _DAY = "(?P<m>0[1-9]|1[0-2])", r"(?P<d>[0-3]\d)"
_CENTURIES, _DIGITS_LEFT = ("19", "20", "21"), 13
_LOST_MONTH, _LOST_DAY = "(?P<m>[1-9])", "(?P<d>[1-9])"
_HOUR, _MINUTE, _SECOND = r"(?P<H>[01]\d|2[0-4])", r"(?P<M>[0-5]\d)", r"(?P<S>[0-5]\d)"
_BY_YEAR, _BY_DAY = _YEAR + _MONTH + _DAY, _DAY + _MONTH + _YEAR
_COMPACT: Final = {
    digits: tuple(re.compile(pattern, re.ASCII) for pattern in patterns)
    for digits, patterns in {
        8: (_BY_YEAR, _BY_DAY),
        10: (_BY_YEAR + _HOUR,),
        12: (
            _BY_YEAR + _HOUR + _MINUTE,
            _SHORT_YEAR + _MONTH + _DAY + _HOUR + _MINUTE + _SECOND,
            _BY_DAY + _HOUR + _MINUTE,
            _MONTH + _DAY + _YEAR + _HOUR + _MINUTE,
        ),
        13: (  # of 14, and the 0 at their head is lost
            _LOST_DAY + _MONTH + _YEAR + _HOUR + _MINUTE + _SECOND,
            _LOST_MONTH + _DAY + _YEAR + _HOUR + _MINUTE + _SECOND,
        ),
        14: (
            _BY_YEAR + _HOUR + _MINUTE + _SECOND,
            _BY_DAY + _HOUR + _MINUTE + _SECOND,
            _MONTH + _DAY + _YEAR + _HOUR + _MINUTE + _SECOND,
        ),
    }.items()
}
_MONTH_NAME: Final = r"(jan|feb|m[aä]r|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])[a-zä]*\.?"
_WEEKDAY: Final = r"(mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?"
_WRITTEN_DATE: Final = re.compile(
    rf"({_WEEKDAY},? +)?("
    r"\d{4}(?P<ymd>[-/.])\d{1,2}(?P=ymd)\d{1,2}(?!\d)"
    r"|\d{1,2}(?P<dmy>[-/.])\d{1,2}(?P=dmy)(\d{4}|\d\d)(?![\d.])"
    rf"|\d{{1,2}}[. -]{{1,2}}{_MONTH_NAME}[ -](\d{{4}}|\d\d)(?!\d)"
    rf"|{_MONTH_NAME} +\d{{1,2}}(,? \d{{4}}(?!\d)| \d\d:\d\d)"
    r"|(19|2[01])\d{6}T\d{4})",
    re.ASCII | re.IGNORECASE,
)


def nearly_iso(text: str) -> str | None:
    """Return a date with an offset as ISO has it, ``None`` if it is none; the offset may be one of no place.

    Databases write 2026-12-31 10:00:00+00, and programs 2026-12-31 10:00:00 UTC; but 2026-12-31 10:00-12:00
    is a stretch of time.
    """
    found = _NEARLY_ISO.fullmatch(text)
    if not found:
        return None
    date, time, zone = found.groups()
    if not _SECONDS.search(time) and zone[0] in "+-" and not ISO.fullmatch(text):
        return None
    zone = "Z" if zone == "UTC" else zone
    return f"{date}T{time}{zone}{':00' if len(zone) == len('+00') else ''}"


def compact_date(digits: str) -> datetime | None:
    """Read digits as a date written without its signs, such as 20261231 or 311220262359; no zone is meant."""
    for pattern in _COMPACT.get(len(digits), ()):
        if found := pattern.fullmatch(digits):
            part = {name: int(text) for name, text in found.groupdict().items()}
            year = part["Y"] if "Y" in part else 2000 + part["y"]
            try:
                day = datetime(year, part["m"], part["d"])  # noqa: DTZ001 - it has none
            except ValueError:
                continue
            return day + timedelta(hours=part.get("H", 0), minutes=part.get("M", 0), seconds=part.get("S", 0))
    return None


def has_lost_zero(digits: str) -> bool:
    """Say whether these are the 14 digits of a date but for the 0 at their head, which a spreadsheet took."""
    return digits[3:5] in _CENTURIES and len(digits) == _DIGITS_LEFT and compact_date(digits) is not None


def is_written_date(text: str) -> bool:
    """Say whether a text begins as a date does: 2026-12-31, 31.12.2026, 12/31/26, 31 Dec 2026."""
    return bool(_WRITTEN_DATE.match(text))
