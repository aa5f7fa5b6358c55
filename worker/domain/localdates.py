"""Dates as people write them: which format they have, and which instant one is in a time zone.

Nothing is guessed: a format is said, or proposed where only one fits; a zone is always said. What comes out
is ISO with an offset, which ``dates.py`` then holds against its rules.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from itertools import permutations, product
from typing import Final, Self
from zoneinfo import ZoneInfo, available_timezones

_TOKENS: Final = {
    "YYYY": ("Y", r"\d{4}"),
    "YY": ("y", r"\d\d"),
    "MM": ("m", r"\d\d"),
    "M": ("m", r"\d{1,2}"),
    "DD": ("d", r"\d\d"),
    "D": ("d", r"\d{1,2}"),
    "HH": ("H", r"\d\d"),
    "H": ("H", r"\d{1,2}"),
    "hh": ("I", r"0[1-9]|1[0-2]"),
    "h": ("I", r"0?[1-9]|1[0-2]"),
    "mm": ("M", r"\d\d"),
    "ss": ("S", r"\d\d"),
    "A": ("p", r"[AaPp]\.?[Mm]\.?"),
}
_TOKEN: Final = re.compile("|".join(_TOKENS))
_ONE_OR_TWO: Final = frozenset(("M", "D", "H", "h"))  # digits
_SWAPPED: Final = {"DD": "MM", "D": "M", "MM": "DD", "M": "D"}
_ISO_TEXT: Final = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?)?", re.ASCII)
_OFFSET: Final = re.compile(r"[+-](0\d|1[0-4]):[0-5]\d", re.ASCII)
_AHEAD_OF_GMT: Final = re.compile(r"(Etc/)?(?:GMT|UTC)([+-])(\d{1,2}):?([0-5]\d)?", re.ASCII | re.IGNORECASE)
_CERTAIN: Final = re.compile(r"\d{4}-\d\d-\d\dT.*(Z|[+-]\d\d:?\d\d)", re.ASCII)
EPOCH, ISO_FORMAT = "epoch", "iso"
_ORDERS: Final = (
    *("YYYY MM DD", "DD MM YYYY", "MM DD YYYY", "D M YYYY", "M D YYYY"),
    *("YY MM DD", "DD MM YY", "MM DD YY", "D M YY", "M D YY"),
)
_CLOCKS: Final = ("", " HH:mm", " HH:mm:ss", " H:mm", " H:mm:ss", " h:mm A", " h:mm:ss A")
_PROPOSED: Final = tuple(
    order.replace(" ", sign) + clock for order, sign, clock in product(_ORDERS, "-/.", _CLOCKS)
)
_OR: Final = " or "
_ON_A_DAY: Final = {"Y": "2012", "y": "12", "m": "11", "d": "10", "p": "AM"}  # of which no two are alike
_ISO_DAY: Final = "2012-11-10"


@dataclass(frozen=True, slots=True)
class DateFormat:
    """How dates are written: ``DD/MM/YYYY HH:mm:ss``-like tokens, ``iso``, ``epoch``; or in several ways."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what a person says: one format, or several with `` or `` between them.

        Raises:
            ValueError: it is no format, or two can't be told apart; the text says what would be.
        """
        formats = list(dict.fromkeys(_one_format(one.strip()) for one in text.split(_OR)))
        for one, other in permutations(formats, 2):
            there = _read_as(other, written := _written(one))
            if there and there != _read_as(one, written):
                raise ValueError(
                    f"“{one}” and “{other}” can't be told apart: both read “{written}”, each as another day"
                )
        return cls(_OR.join(formats))

    def ways(self) -> list[DateFormat]:
        """Return the ways in which dates are written, one by one."""
        return [DateFormat(one) for one in self.text.split(_OR)]

    def day(self) -> DateFormat:
        """Return the one way without the time of day, where that stands behind a blank."""
        day, _, clock = self.text.partition(" ")
        return DateFormat(day) if re.fullmatch("[HhmsA:. ]+", clock) else self

    def swapped(self) -> DateFormat:
        """Return the one way with day and month in each other's place."""
        return DateFormat(_TOKEN.sub(lambda token: _SWAPPED.get(token[0], token[0]), self.text))

    def means(self, form: str) -> bool:
        """Say whether ``iso`` or ``epoch`` is one of the ways."""
        return form in self.text.split(_OR)

    def has_as_many(self, digits: str) -> bool:
        """Say whether a way without signs has as many digits, or one more: the 0 that a number has lost."""
        for way in map(_written, self.text.split(_OR)):
            may_lose = not way.startswith(_ON_A_DAY["Y"])
            if way.isdigit() and digits.isdigit() and len(digits) in (len(way), len(way) - may_lose):
                return True
        return False

    def read(self, cell: str) -> tuple[datetime, bool] | None:
        """Return the date that a cell is and whether it has a time; ``None`` if it isn't written so.

        What reads as several dates is none.
        """
        if _OR not in self.text:
            return _read_as(self.text, cell)
        found = {there for one in self.text.split(_OR) if (there := _read_as(one, cell))}
        return found.pop() if len(found) == 1 else None


def _one_format(text: str) -> str:
    if text.lower() in (EPOCH, ISO_FORMAT):
        return text.lower()
    letters = [_TOKENS[token][0] for token in _TOKEN.findall(text)]
    whole = {"m", "d"} < set(letters) and {"Y", "y"} & set(letters) and ("I" in letters) == ("p" in letters)
    if not whole or len(set(letters)) != len(letters) or re.search("[A-SU-Za-z0-9]", _TOKEN.sub("", text)):
        raise ValueError(
            f"“{text}” is no format: write it with YYYY MM DD HH mm ss, such as DD/MM/YYYY, "
            "“DD.MM.YYYY HH:mm” or “M/D/YYYY h:mm A”; or say iso or epoch"
        )
    if _is_ambiguous(text):
        raise ValueError(
            f"“{text}” can be read in several ways, since digits of no certain number stand side by side: "
            "write two letters for each, as in DDMMYYYY, or what stands between them"
        )
    return text


def _is_ambiguous(text: str) -> bool:
    """Say whether two parts of one or two digits have nothing but digits between them."""
    end = uncertain = 0
    for token in _TOKEN.finditer(text):
        if token.start() != end or token[0] == "A":
            uncertain = 0
        end, uncertain = token.end(), uncertain + (token[0] in _ONE_OR_TWO)
        if uncertain > 1:
            return True
    return False


def _written(form: str) -> str:
    """Return how a format writes a certain day."""
    if form in (EPOCH, ISO_FORMAT):
        return _ISO_DAY
    return _TOKEN.sub(lambda token: _ON_A_DAY.get(_TOKENS[token[0]][0], "09"), form)


def _read_as(form: str, cell: str) -> tuple[datetime, bool] | None:
    if form == ISO_FORMAT:
        return _iso_date(cell)
    found = None if form == EPOCH else _pattern(form).fullmatch(cell)
    if not found:
        return None
    part = found.groupdict()
    year = int(part["Y"]) if "Y" in part else 2000 + int(part["y"])
    hour = int(part.get("H") or part.get("I") or 0)
    if half := part.get("p"):
        hour = hour % 12 + (12 if half[0] in "Pp" else 0)
    try:
        day = datetime(  # noqa: DTZ001 - it has none
            year, int(part["m"]), int(part["d"]), hour, int(part.get("M", 0)), int(part.get("S", 0))
        )
    except ValueError:
        return None
    return day, "H" in part or "I" in part


@lru_cache(maxsize=512)
def _pattern(text: str) -> re.Pattern[str]:
    pattern, at = "", 0
    for token in _TOKEN.finditer(text):
        name, digits = _TOKENS[token[0]]
        pattern += f"{re.escape(text[at : token.start()])}(?P<{name}>{digits})"
        at = token.end()
    return re.compile(pattern + re.escape(text[at:]), re.ASCII)


def _iso_date(cell: str) -> tuple[datetime, bool] | None:
    if not _ISO_TEXT.fullmatch(cell):
        return None
    try:
        return datetime.fromisoformat(cell.replace(",", ".")), ":" in cell
    except ValueError:
        return None


def is_certain(cell: str) -> bool:
    """Say whether a cell is ISO with an offset, which means the same in any zone."""
    return bool(_CERTAIN.fullmatch(cell))


def fitting(cells: Iterable[str]) -> list[str]:
    """Return the formats that every one of these cells is written in: one that is certain, or several."""
    formats, sample = [DateFormat(text) for text in _PROPOSED], list(cells)
    fit = [one.text for one in formats if sample and all(one.read(cell) for cell in sample)]
    padded = [text for text in fit if "DD" in text] or fit
    return [text for text in padded if "HH" in text] or padded


def read_zone(text: str) -> tzinfo:
    """Return the time zone of a name such as Europe/Berlin, or of an offset such as +02:00.

    Raises:
        ValueError: there is none; the text says which was probably meant.
    """
    text = text.strip()
    if text in ("UTC", "Z"):
        return UTC
    if _OFFSET.fullmatch(text):
        hours, minutes = int(text[1:3]), int(text[4:])
        return timezone((1 if text[0] == "+" else -1) * timedelta(hours=hours, minutes=minutes))
    if found := _AHEAD_OF_GMT.fullmatch(text):  # the sign of the Etc names is that of no clock
        sign = found[2] if not found[1] else "-+"[found[2] == "-"]
        raise ValueError(
            f"“{text}” can be read in two ways: write {sign}{int(found[3]):02}:{found[4] or '00'}"
        )
    names = [name for name in available_timezones() if "/" in name and not name.startswith("Etc/")]
    if text in names:
        return ZoneInfo(text)
    near = difflib.get_close_matches(text.lower(), [name.lower() for name in names], n=1, cutoff=0.7)
    city = f"/{text.replace(' ', '_').lower()}"
    meant = next((f"; did you mean {name}?" for name in names if name.lower().endswith(city)), "") or next(
        (f"; did you mean {name}?" for name in names if [name.lower()] == near), ""
    )
    raise ValueError(
        f"there is no time zone “{text}”{meant or ': write one such as Europe/Berlin or +02:00'}"
    )


def zone_name(zone: tzinfo) -> str:
    """Return what ``read_zone`` reads a zone from."""
    return str(zone).removeprefix("UTC") or "UTC"


def in_zone(at: datetime, zone: tzinfo) -> str:
    """Return a local time as ISO with its offset.

    Raises:
        ValueError: the clocks skip it, or show it twice.
    """
    earlier = at.replace(tzinfo=zone)
    if (
        not isinstance(zone, timezone)
        and earlier.utcoffset() != (later := earlier.replace(fold=1)).utcoffset()
    ):
        offsets = " or ".join(_offset(one) for one in (earlier, later))
        if earlier.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != at:
            raise ValueError(f"there is no {at} in {zone}, where clocks skip it: say which time is meant")
        raise ValueError(f"{at} comes twice in {zone}: write it as ISO with its offset, {offsets}")
    return earlier.isoformat(timespec="milliseconds" if at.microsecond else "seconds")


def _offset(at: datetime) -> str:
    return at.isoformat()[-6:]


def end_of_day(at: datetime) -> datetime:
    """Return the last second of a day, when what expires that day does."""
    return at.replace(hour=23, minute=59, second=59)


def shown(formats: Sequence[str]) -> str:
    """Return formats as options to copy."""
    return " or ".join(f"--date-format '{one}'" if " " in one else f"--date-format {one}" for one in formats)
