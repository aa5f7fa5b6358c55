"""The badge as the vendor takes it: validation of what comes from outside, and what is the same badge.

Row by row reading of files lives in ``rows.py``; what becomes of a valid badge in ``job.py``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import product
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic.alias_generators import to_camel

from worker.domain.text import plain

EpochUnit = Literal["s", "ms", "as_given"]

# Told apart by size: as seconds, 10^11 is the year 5138; as milliseconds, March 1973.
SMALLEST_EPOCH_MS = 10**11
LARGEST_EPOCH_MS = 10**14
# March 1973 as well; below it are days counted by a spreadsheet, and dates written without their dashes.
SMALLEST_EPOCH_S = 10**8
LARGEST_CUSTOMER_ID = 2**63 - 1
LARGEST_EXACT_FLOAT = 2**53
# Two ways of writing one instant may differ by what a second can't hold.
AGREE_WITHIN_MS = 1000

_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|[+-]\d\d:?\d\d)", re.ASCII)
_INTEGER = re.compile(r"-?\d{1,30}(\.0+)?", re.ASCII)
_SHORTENED = re.compile(r"\d[.,]?\d*[eE]\+?\d+", re.ASCII)
_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")
_DAY_0_OF_SPREADSHEETS, _SERIALS = date(1899, 12, 30), range(1000, 100_000)
_ISO_LONGEST = 40
_BASE32_PAIRS = [a + b for a, b in product("abcdefghijklmnopqrstuvwxyz234567", repeat=2)]

_REASONS = {
    "missing": "is missing",
    "extra_forbidden": "is not a field of a badge",
    "invalid_key": "is not a field of a badge",
    "string_pattern_mismatch": "must be 1 to 64 printable characters without spaces",
    "string_type": "must be text",
    "string_unicode": "is no Unicode text",
}


def _integer(value: object, fault: Callable[[str], str]) -> int:
    """Take a whole number as number or text; ``fault`` says what is wrong with a text that is none."""
    if isinstance(value, str):  # first, since files are mostly text
        text = value.strip()
        if not _INTEGER.fullmatch(text):
            raise ValueError(fault(text))
        return int(text.partition(".")[0])
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, float):
        raise ValueError(f"must be a whole number, not {type(value).__name__}")  # noqa: TRY004
    if not value.is_integer():
        raise ValueError("must be a whole number, not a fraction")
    if abs(value) > LARGEST_EXACT_FLOAT:
        raise ValueError("must be written as a whole number: as a fraction it has lost its last digits")
    return int(value)


def _no_customer(text: str) -> str:
    hint = ": a spreadsheet shortened it, take the id from its source" if _SHORTENED.fullmatch(text) else ""
    return f"must be a whole number, not “{plain(text, 40)}”{hint}"


def _customer(value: object) -> int:
    number = _integer(value, _no_customer)
    if not 0 < number <= LARGEST_CUSTOMER_ID:
        raise ValueError("must be between 1 and 9223372036854775807")
    return number


def _no_epoch(field: str, text: str) -> str:
    if _ISO.match(text):
        return f"this is an ISO date: it belongs in {to_camel(field)}ISO"
    example = "2026-12-31T00:00:00+01:00"
    return f"must be an epoch, not “{plain(text, 40)}”: write dates as {example} in {to_camel(field)}ISO"


def _epoch(value: object, info: ValidationInfo) -> int:
    field = str(info.field_name)
    number = _integer(value, partial(_no_epoch, field))
    if not 0 <= number < LARGEST_EPOCH_MS:
        raise ValueError("must be an epoch in seconds or milliseconds, up to the year 5138")
    if number < SMALLEST_EPOCH_S:
        raise ValueError(_too_early(field, number))
    return number


def _too_early(field: str, number: int) -> str:
    day, hint = datetime.fromtimestamp(number, UTC), "write dates as 2026-12-31"
    if number in _SERIALS:
        hint = f"if it is a spreadsheet's date, write it as {_DAY_0_OF_SPREADSHEETS + timedelta(number)}"
    shown = f"“{number}” would be {day.day} {day:%B %Y}"
    return f"must be an epoch, and {shown}: {hint}T00:00:00+01:00 in {to_camel(field)}ISO"


def _iso(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {type(value).__name__}")  # noqa: TRY004
    text = value.strip()
    if len(text) > _ISO_LONGEST or not _ISO.fullmatch(text):
        raise ValueError("must be ISO 8601 with an offset, such as 2025-09-10T15:00:00+05:30")
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"is no date: {error}") from None
    return text


def _strip(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


_Name = Annotated[str, BeforeValidator(_strip), Field(pattern=r"^[!-~]{1,64}$")]
_Customer = Annotated[
    int, BeforeValidator(_customer), Field(json_schema_extra={"minimum": 1, "maximum": LARGEST_CUSTOMER_ID})
]
_Epoch = Annotated[
    int,
    BeforeValidator(_epoch),
    Field(json_schema_extra={"minimum": SMALLEST_EPOCH_S, "maximum": LARGEST_EPOCH_MS - 1}),
]
_Iso = Annotated[str, BeforeValidator(_iso), Field(json_schema_extra={"pattern": f"^{_ISO.pattern}$"})]


class BadgeIssue(BaseModel):
    """One badge to issue to one customer, as the vendor's document describes it.

    Epochs may be seconds or milliseconds (told apart by size); ISO dates need an offset. Either,
    both or none may be given: the vendor's own sample leaves out the event date it marks as required.
    ``job_id`` is the producer's own idempotency key, for the customer who rightly gets a badge twice.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    badge_meta_id: _Name
    customer_id: _Customer
    earn_event_date: _Epoch | None = None
    earn_event_date_iso: _Iso | None = Field(default=None, alias="earnEventDateISO")
    earn_expires_on: _Epoch | None = None
    earn_expires_on_iso: _Iso | None = Field(default=None, alias="earnExpiresOnISO")
    job_id: _Name | None = Field(default=None, alias="job_id")

    @property
    def badge(self) -> Badge:
        """The badge itself."""
        return Badge(
            self.badge_meta_id,
            self.customer_id,
            self.earn_event_date,
            self.earn_event_date_iso,
            self.earn_expires_on,
            self.earn_expires_on_iso,
        )


class Badge(NamedTuple):
    """A badge and whose it is, its dates as they were given: a plain value, which was checked before."""

    badge_meta_id: str
    customer_id: int
    earn_event_date: int | None = None
    earn_event_date_iso: str | None = None
    earn_expires_on: int | None = None
    earn_expires_on_iso: str | None = None

    def content(self) -> str:
        """Say what makes two badges the same: badge, customer and the instants, however they are written."""
        event = _instants(self.earn_event_date, self.earn_event_date_iso)
        expiry = _instants(self.earn_expires_on, self.earn_expires_on_iso)
        return f"{one_case(self.badge_meta_id)}\n{self.customer_id}\n{event}\n{expiry}"

    def body(self, unit: EpochUnit) -> dict[str, str | int]:
        """Return the item of the request, its epochs in ``unit``; absent dates stay absent."""
        item: dict[str, str | int | None] = {
            "badgeMetaId": self.badge_meta_id,
            "customerId": self.customer_id,
            "earnEventDate": _in_unit(self.earn_event_date, unit),
            "earnEventDateISO": self.earn_event_date_iso,
            "earnExpiresOn": _in_unit(self.earn_expires_on, unit),
            "earnExpiresOnISO": self.earn_expires_on_iso,
        }
        return {name: value for name, value in item.items() if value is not None}

    def date_warnings(self) -> list[str]:
        """Say what is odd about the dates; such an item is sent as it is unless ``STRICT_DATES`` says no."""
        event = _instants(self.earn_event_date, self.earn_event_date_iso)
        expiry = _instants(self.earn_expires_on, self.earn_expires_on_iso)
        warnings = []
        if len(event) > 1:
            warnings.append("earnEventDate and earnEventDateISO disagree")
        if len(expiry) > 1:
            warnings.append("earnExpiresOn and earnExpiresOnISO disagree")
        if event and expiry and expiry[0] < event[-1]:
            warnings.append("it expires before it is earned")
        return warnings


@dataclass(frozen=True, slots=True)
class Invalid:
    """Why an item can't become a job: the field at fault (``None``: the item as a whole) and the reason."""

    field: str | None
    reason: str

    def __str__(self) -> str:
        """Name field and reason in one sentence."""
        return f"{self.field}: {self.reason}" if self.field else self.reason


def parse_item(item: object, *, strict_dates: bool = False) -> BadgeIssue | Invalid:
    """Turn what a producer handed in into a badge, or say which field is wrong and why; never raises."""
    if isinstance(item, BadgeIssue):
        item = vars(item)  # checked again, since model_copy(update=…) checks nothing
    if not isinstance(item, Mapping):
        return Invalid(None, f"must be an object with badgeMetaId and customerId, not {type(item).__name__}")
    try:
        issue = BadgeIssue.model_validate(item)
    except ValidationError as error:
        return _invalid(error)
    return (_strict(issue.badge) if strict_dates else None) or issue


def one_case(badge_id: str) -> str:
    """Return what compares equal for one badge: the vendor's ids are numbers in base 16, in either case."""
    return badge_id.lower() if _OBJECT_ID.fullmatch(badge_id) else badge_id


def short_hash(*parts: str) -> str:
    """Return 20 letters and digits (100 bits) that stand for ``parts``; safe in a shell and in a key."""
    digest = hashlib.blake2b("\x00".join(parts).encode("utf-8", "surrogatepass"), digest_size=13).digest()
    bits = int.from_bytes(digest) >> 4
    # As base64.b32encode would write it, in a third of its time: every job has such an id.
    return "".join([_BASE32_PAIRS[bits >> shift & 1023] for shift in range(90, -1, -10)])


def _invalid(error: ValidationError) -> Invalid:
    first = error.errors(include_url=False)[0]
    field = plain(".".join(str(part) for part in first["loc"]), 64) or None
    kind = first["type"]
    if first["input"] is None and kind != "extra_forbidden":
        kind = "missing"  # null is how JSON says so
    return Invalid(field, _REASONS.get(kind) or first["msg"].removeprefix("Value error, "))


def _strict(badge: Badge) -> Invalid | None:
    if badge.earn_event_date is None and badge.earn_event_date_iso is None:
        return Invalid("earnEventDate", "is missing (STRICT_DATES)")
    if badge.earn_expires_on is None and badge.earn_expires_on_iso is None:
        return Invalid("earnExpiresOn", "is missing (STRICT_DATES)")
    warnings = badge.date_warnings()
    if not warnings:
        return None
    field = "earnEventDate" if warnings[0].startswith("earnEventDate") else "earnExpiresOn"
    return Invalid(field, f"{warnings[0]} (STRICT_DATES)")


def _instants(epoch: int | None, iso: str | None) -> list[int]:
    """Return the instants meant, in milliseconds, earliest first; one if both ways of writing agree."""
    instants = []
    if epoch is not None:
        instants.append(epoch if epoch >= SMALLEST_EPOCH_MS else epoch * 1000)
    if iso is not None:
        instant = round(datetime.fromisoformat(iso).timestamp() * 1000)
        if not instants or abs(instant - instants[0]) >= AGREE_WITHIN_MS:
            instants.append(instant)
    return sorted(instants)


def _in_unit(epoch: int | None, unit: EpochUnit) -> int | None:
    if epoch is None or unit == "as_given":
        return epoch
    in_ms = epoch if epoch >= SMALLEST_EPOCH_MS else epoch * 1000
    return in_ms if unit == "ms" else in_ms // 1000
