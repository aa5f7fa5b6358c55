"""How a cell becomes an instant: what is taken for a date, what is refused, and with which hint.

The same rules hold for every way in. Two things differ, and only because files know more: a column of a file
decides what ten digits are (``files/sample.py``), and a file shows how a number was written (``numbers.py``).
Nothing is guessed: what could be another date is refused, with the spelling that is certain.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from worker.domain.numbers import (
    BadCell,
    CellDate,
    NumberText,
    invisible_in,
    is_shortened,
    kind_of,
    whole_number,
)
from worker.domain.spellings import ISO, compact_date, has_lost_zero, is_written_date, nearly_iso
from worker.domain.text import plain

EpochUnit = Literal["s", "ms", "as_given"]

FIRST_S: Final = 94_694_400
"""1973-01-01T00:00:00Z. What lies before it is how programs write that there is no date: 0, 1899, year 1."""
END_S: Final = 7_258_118_400
"""2200-01-01T00:00:00Z, where the plausible years end."""
SMALLEST_EPOCH_MS: Final = 10**11
"""Epochs are told apart by size: from here on they are milliseconds (March 1973)."""
_SMALLEST_CLEAR_MS: Final = 10**12  # September 2001; below it a number may read as a compact date
_END_MS: Final = END_S * 1000
_LIKELY_S: Final = range(946_684_800, 4_102_444_800)  # 2000 to 2099
_NEVER_S: Final = range(253_402_214_400, 253_402_300_800)  # 9999-12-31; as milliseconds it would be 1978
NEARLY_NEVER_S: Final = range(_NEVER_S.start - 14 * 3600, _NEVER_S.stop + 14 * 3600)
"""The same day in any zone: milliseconds outside the day in UTC are sent with a warning."""
_DAY_0_OF_SPREADSHEETS, _SERIALS = date(1899, 12, 30), range(1000, 100_000)
# Two ways of writing one instant may differ by what a second can't hold.
_AGREE_WITHIN_MS: Final = 1000
_ISO_LONGEST: Final = 40
_SHOWN: Final = 40
_AMBIGUOUS_DIGITS: Final = (8, 12, 13, 14)  # ten can be both, and only a column tells
_CLEAR_S: Final = 10**8  # March 1973; below it a number may be the day 99991231
_USUAL_DIGITS: Final = 10  # of seconds, from 2001 on

_UNIX, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
_DIGITS: Final = re.compile(r"\d{8,14}(\.0+)?", re.ASCII)


class HourText(str):
    """Ten digits in a column whose values read as dates, such as 2026123123; alone, they are an epoch."""

    __slots__ = ()


_ZONELESS: Final = "is a cell's date, “{}”, which has no zone, and UTC is never assumed: say --timezone"


def read_epoch(value: object, field: str) -> int | None:
    """Read an epoch in seconds or milliseconds of the years 1973 to 2199; an empty text is no date.

    Raises:
        ValueError: it isn't one; the text says why, and how to write what was probably meant.
    """
    if type(value) is str and len(value) == _USUAL_DIGITS and value.isascii() and value.isdigit():
        usual = int(value)  # told apart first, since files are mostly this
        if value[0] != "0" and usual < END_S:
            return usual
    if type(value) is int and _CLEAR_S <= value < END_S:
        return value
    if value is None or (isinstance(value, str) and (not value or value.isspace())):
        return None
    if isinstance(value, CellDate):
        raise ValueError(_ZONELESS.format(value))  # noqa: TRY004 - it is the value that is wrong
    number = whole_number(value, lambda text: _not_an_epoch(text, field))
    text = value.strip() if isinstance(value, str) else ""
    clear = _CLEAR_S <= number < END_S or _SMALLEST_CLEAR_MS <= number < _END_MS
    if (
        clear
        and text[:1] != "0"
        and not isinstance(value, HourText)
        and not has_lost_zero(text or str(number))
    ):
        return number
    epoch = _Epoch(number, text or _shown(number), field)
    if isinstance(value, HourText):
        raise ValueError(_as_compact(epoch))  # noqa: TRY004 - it is the value that is wrong
    _refuse_by(_IF_AMBIGUOUS, epoch)
    if not _is_plausible(number):
        _refuse_by(_IF_IMPLAUSIBLE, epoch)
    return number


def read_iso(value: object, field: str) -> str | None:
    """Read an ISO date with an offset, of the years 1973 to 2199 or, for an expiry, 9999; keep it as written.

    Raises:
        ValueError: it isn't one; the text says why.
    """
    if value is None:
        return None
    if not isinstance(value, str) or isinstance(value, NumberText):
        raise ValueError(f"must be text, not {kind_of(value)}")  # noqa: TRY004 - the same for all
    if isinstance(value, BadCell):
        raise ValueError(value.why)  # noqa: TRY004 - it is the value that is wrong
    if isinstance(value, CellDate):
        raise ValueError(_ZONELESS.format(value))  # noqa: TRY004
    text = value.strip()
    return _plausible_iso(text, field) if text else None


@lru_cache(maxsize=4096)  # the dates of a campaign are few
def _plausible_iso(text: str, field: str) -> str:
    if len(text) > _ISO_LONGEST or not ISO.fullmatch(text):
        raise ValueError(_not_iso(text, field))
    try:
        plausible = FIRST_S * 1000 <= _iso_ms(text) < _END_MS
    except ValueError:
        raise ValueError(f"is no date: “{text}” isn't in the calendar or on the clock") from None
    if not plausible and not (is_never(text) and field == "earnExpiresOn"):
        raise ValueError(f"must lie in the years 1973 to 2199, not “{text}”: leave it empty if there is none")
    return text


def is_never(iso: str) -> bool:
    """Say whether a date is the year 9999, as people write that something never ends."""
    return iso.startswith("9999")


def instants(epoch: int | None, iso: str | None) -> list[int]:
    """Return the instants meant, in whole seconds, earliest first; one if both ways of writing agree."""
    if epoch is None:
        return [] if iso is None else [_iso_ms(iso) // 1000]
    at_ms = epoch if epoch >= SMALLEST_EPOCH_MS else epoch * 1000
    if iso is None or abs(_iso_ms(iso) - at_ms) < _AGREE_WITHIN_MS:
        return [at_ms // 1000]
    return sorted({at_ms // 1000, _iso_ms(iso) // 1000})


def in_unit(epoch: int | None, unit: EpochUnit) -> int | None:
    """Return an epoch as it leaves: in seconds, milliseconds, or as it was given."""
    if epoch is None or unit == "as_given":
        return epoch
    in_ms = epoch if epoch >= SMALLEST_EPOCH_MS else epoch * 1000
    return in_ms if unit == "ms" else in_ms // 1000


def looks_like_a_date(cell: object) -> bool:
    """Say whether a cell reads as a date, however written, or as an epoch of this century.

    Narrower than what is taken as an epoch: among numbers of nine digits far more are ids than dates.
    """
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        return False
    text = str(cell).strip()
    if len(text) > _ISO_LONGEST:
        return False
    if _DIGITS.fullmatch(text):
        digits = text.partition(".")[0]
        number = int(digits)
        in_s = number // 1000 if number >= SMALLEST_EPOCH_MS else number
        return in_s in _LIKELY_S or compact_date(digits) is not None
    return is_written_date(text)


def _is_plausible(number: int) -> bool:
    return FIRST_S <= number < END_S or SMALLEST_EPOCH_MS <= number < _END_MS


def _shown(number: int) -> str:
    return str(number) if abs(number) < 10**_SHOWN else f"a number of more than {_SHOWN} digits"


@lru_cache(maxsize=4096)  # the dates of a campaign are few
def _iso_ms(iso: str) -> int:
    return (datetime.fromisoformat(iso) - _UNIX) // _MILLISECOND


class _Epoch(NamedTuple):
    """A number that is given as an epoch, and how it is written."""

    number: int
    text: str
    field: str

    @property
    def digits(self) -> str:
        """Its digits, without a fraction of nothing."""
        return self.text.partition(".")[0]


_SAMPLE: Final = datetime(2026, 12, 31)  # noqa: DTZ001 - shows how to write, not when


def _with_cure(epoch: _Epoch, what: str, spelled: str = _SAMPLE.isoformat()) -> str:
    hint = f"write dates as {spelled}+01:00 in {epoch.field}ISO"
    return f"must be an epoch, and “{plain(epoch.text, 40)}” {what}: {hint}"


def _as_compact(epoch: _Epoch) -> str:
    at = compact_date(epoch.digits) or _SAMPLE
    return _with_cure(epoch, "reads as a date", at.isoformat())


def _too_early(epoch: _Epoch) -> str:
    day = datetime.fromtimestamp(epoch.number, UTC)
    what = f"would be {day.day} {day:%B %Y}"
    if epoch.number in _SERIALS:
        hint = (
            f"if it is a spreadsheet's date, write it as {_DAY_0_OF_SPREADSHEETS + timedelta(epoch.number)}"
        )
        return f"must be an epoch, and “{epoch.text}” {what}: {hint}T00:00:00+01:00 in {epoch.field}ISO"
    return _with_cure(epoch, what, (compact_date(epoch.digits) or _SAMPLE).isoformat())


def _as_never(epoch: _Epoch) -> str:
    what = f"must be an epoch of the years 1973 to 2199, and “{epoch.text}” is the end of 9999"
    if epoch.field != "earnExpiresOn":
        return what
    return f"{what}: an expiry that is never reached is written 9999-12-31T23:59:59Z in {epoch.field}ISO"


def _with_zero(epoch: _Epoch) -> str:
    return _with_cure(epoch, "begins with a zero")


def _in_other_unit(unit: str, per_second: int) -> _Rule:
    """Return the rule for numbers that would be plausible in another unit."""

    def reason(epoch: _Epoch) -> str:
        seconds = epoch.number // per_second
        at = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()
        what = f"must be an epoch in seconds or milliseconds, and “{epoch.text}” reads as {unit}, {at}Z"
        return f"{what}: in seconds that is {seconds}"

    return lambda it: FIRST_S * per_second <= it.number < END_S * per_second, reason


def _out_of_range(epoch: _Epoch) -> str:
    return (
        "must be an epoch in seconds or milliseconds of the years 1973 to 2199, not "
        f"“{plain(epoch.text, _SHOWN)}”"
    )


_Rule = tuple[Callable[[_Epoch], bool], Callable[[_Epoch], str]]
# The first rule that applies gives the reason. These hold within the plausible years as well:
_IF_AMBIGUOUS: Final[tuple[_Rule, ...]] = (
    (
        lambda it: (
            it.number >= FIRST_S
            and len(it.digits) in _AMBIGUOUS_DIGITS
            and compact_date(it.digits) is not None
        ),
        _as_compact,
    ),
    (lambda it: it.number in _NEVER_S or it.number // 1000 in _NEVER_S, _as_never),
    (lambda it: it.number >= FIRST_S and it.digits.startswith("0"), _with_zero),
)
_IF_IMPLAUSIBLE: Final[tuple[_Rule, ...]] = (
    (lambda it: 0 <= it.number < FIRST_S, _too_early),
    _in_other_unit("microseconds", 10**6),
    _in_other_unit("nanoseconds", 10**9),
    (lambda _: True, _out_of_range),
)


def _refuse_by(rules: tuple[_Rule, ...], epoch: _Epoch) -> None:
    for applies, reason in rules:
        if applies(epoch):
            raise ValueError(reason(epoch))


def _not_an_epoch(text: str, field: str) -> str:
    if iso := nearly_iso(text):
        return f"this is an ISO date: it belongs in {field}ISO{'' if ISO.fullmatch(text) else f', as {iso}'}"
    if is_shortened(text):
        hint = ": a spreadsheet shortened it, take it from its source"
    else:
        hint = invisible_in(text) or f": write dates as 2026-12-31T00:00:00+01:00 in {field}ISO"
    return f"must be an epoch, not “{plain(text, _SHOWN)}”{hint}"


def _not_iso(text: str, field: str) -> str:
    iso = nearly_iso(text)
    if iso and not ISO.fullmatch(iso):
        return f"its offset must lie between -14:00 and +14:00, with minutes below 60, not “{text}”"
    if text.isascii() and text.isdigit() and len(text) <= _ISO_LONGEST:
        return f"must be ISO 8601 with an offset, not “{text}”: an epoch belongs in {field}"
    if iso:
        return f"must be ISO 8601 with an offset: write “{text}” as {iso}"
    return f"must be ISO 8601 with an offset, such as 2025-09-10T15:00:00+05:30{invisible_in(text)}"
