"""The badge as the vendor takes it: its fields, what goes over the wire, what is odd, what is the same badge.

The rules for dates are in ``dates.py``, those for whole numbers in ``numbers.py``, both for every way in; how
an item becomes a badge or is refused is in ``parsing.py``. What only files know (columns, line ends) is in
``files/``.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache, partial
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from worker.domain.dates import (
    END_S,
    FIRST_S,
    NEARLY_NEVER_S,
    EpochUnit,
    in_unit,
    instants,
    is_never,
    read_epoch,
    read_iso,
)
from worker.domain.invalid import REASONS, Invalid, together
from worker.domain.numbers import (
    BadCell,
    NumberText,
    invisible_in,
    is_shortened,
    whole_number,
)
from worker.domain.spellings import ISO
from worker.domain.text import plain

LARGEST_CUSTOMER_ID = 2**63 - 1
_ERROR_OF_SPREADSHEETS = re.compile(r"#(N/A|[A-Z0-9_/]{1,20}[!?])\s*")
NAME = re.compile(r"[!-~]{1,64}")
_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")


def customer_of(value: object) -> int:
    """Read a customerId.

    Raises:
        ValueError: it is none; in words.
    """
    if type(value) is int and 0 < value <= LARGEST_CUSTOMER_ID:
        return value
    number = whole_number(value, _no_customer)
    if not 0 < number <= LARGEST_CUSTOMER_ID:
        raise ValueError("must be between 1 and 9223372036854775807")
    return number


def _no_customer(text: str) -> str:
    shortened = ": a spreadsheet shortened it, take the id from its source" if is_shortened(text) else ""
    return f"must be a whole number, not “{plain(text, 40)}”{shortened or invisible_in(text)}"


def _name(value: object) -> object:
    if isinstance(value, BadCell):
        raise ValueError(value.why)  # noqa: TRY004 - pydantic takes no other
    if isinstance(value, NumberText):
        raise ValueError("must be text")  # noqa: TRY004 - pydantic takes no other
    if isinstance(value, str) and value[:1] == "#" and _ERROR_OF_SPREADSHEETS.fullmatch(value):
        raise ValueError(f"is a spreadsheet's error, “{value.strip()}”")
    if isinstance(value, str) and not value.isascii() and (hint := invisible_in(value)):
        raise ValueError(REASONS["string_pattern_mismatch"] + hint)
    return value.strip() if isinstance(value, str) else value


_EPOCH: dict[str, Any] = {"minimum": FIRST_S, "maximum": END_S * 1000 - 1}
_ISO: dict[str, Any] = {"pattern": f"^({ISO.pattern})?$"}

_Name = Annotated[str, BeforeValidator(_name), Field(pattern=r"^[!-~]{1,64}$")]
_Customer = Annotated[
    int, BeforeValidator(customer_of), Field(json_schema_extra={"minimum": 1, "maximum": LARGEST_CUSTOMER_ID})
]
_Event = Annotated[
    int | None,
    BeforeValidator(partial(read_epoch, field="earnEventDate")),
    Field(json_schema_extra=_EPOCH),
]
_EventISO = Annotated[
    str | None, BeforeValidator(partial(read_iso, field="earnEventDate")), Field(json_schema_extra=_ISO)
]
_Expiry = Annotated[
    int | None,
    BeforeValidator(partial(read_epoch, field="earnExpiresOn")),
    Field(json_schema_extra=_EPOCH),
]
_ExpiryISO = Annotated[
    str | None, BeforeValidator(partial(read_iso, field="earnExpiresOn")), Field(json_schema_extra=_ISO)
]


class BadgeIssue(BaseModel):
    """One badge to issue to one customer, as the vendor's document describes it.

    Epochs may be seconds or milliseconds (told apart by size); ISO dates need an offset; all lie in the
    years 1973 to 2199. Either, both or none may be given, with a warning for none: the vendor's own sample
    leaves out the event date it marks as required.
    ``job_id`` is the producer's own idempotency key, for the customer who rightly gets a badge twice.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    badge_meta_id: _Name
    customer_id: _Customer
    earn_event_date: _Event = None
    earn_event_date_iso: _EventISO = Field(default=None, alias="earnEventDateISO")
    earn_expires_on: _Expiry = None
    earn_expires_on_iso: _ExpiryISO = Field(default=None, alias="earnExpiresOnISO")
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
    """One badge for one customer, its dates as they were given: a plain value, which was checked before."""

    badge_meta_id: str
    customer_id: int
    earn_event_date: int | None = None
    earn_event_date_iso: str | None = None
    earn_expires_on: int | None = None
    earn_expires_on_iso: str | None = None

    def content(self) -> str:
        """Say what makes two badges the same: badge, customer and the instants in whole seconds."""
        dates, _ = _dates_meant(*self[2:])
        return f"{one_case(self.badge_meta_id)}\n{self.customer_id}\n{dates}"

    def body(self, unit: EpochUnit) -> dict[str, str | int]:
        """Return the item of the request, its epochs in ``unit``; absent dates stay absent."""
        item: dict[str, str | int | None] = {
            "badgeMetaId": self.badge_meta_id,
            "customerId": self.customer_id,
            "earnEventDate": in_unit(self.earn_event_date, unit),
            "earnEventDateISO": self.earn_event_date_iso,
            "earnExpiresOn": in_unit(self.earn_expires_on, unit),
            "earnExpiresOnISO": self.earn_expires_on_iso,
        }
        return {name: value for name, value in item.items() if value is not None}

    def written(self, unit: EpochUnit) -> str:
        """Return the same as JSON."""
        name, customer, event, event_iso, expiry, expiry_iso = self
        if type(customer) is not int:  # of a spoiled record
            return json.dumps(self.body(unit), separators=(",", ":"))
        begun, ended = _written_around(name, event, event_iso, expiry, expiry_iso, unit)
        return f"{begun}{customer}{ended}"

    def warnings(self) -> list[str]:
        """Say what is odd about it; it is sent as it is, unless ``STRICT_DATES`` refuses its dates.

        A warning holds no value of the badge, so that those of a file are few.
        """
        name, _, *dates = self
        return list(_odd_of(name, *dates))

    def strict_fault(self) -> Invalid | None:
        """Say what ``STRICT_DATES`` refuses about its dates."""
        _, dates = _dates_meant(*self[2:])
        faults = [Invalid(field, f"{what} (STRICT_DATES)") for field, what in dates]
        return together(faults) if faults else None


@lru_cache(maxsize=4096, typed=True)  # in a campaign, all but the customer is the same for many
def _written_around(*item: Any) -> tuple[str, str]:
    """Return what stands before and behind the customer in a badge's JSON."""
    name, event, event_iso, expiry, expiry_iso, unit = item
    body = Badge(name, 0, event, event_iso, expiry, expiry_iso).body(unit)
    begun, _, ended = json.dumps(body, separators=(",", ":")).partition('"customerId":0')
    return f'{begun}"customerId":', ended


@lru_cache(maxsize=4096)  # the dates of a campaign are few
def _dates_meant(
    event: int | None, event_iso: str | None, expiry: int | None, expiry_iso: str | None
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the instants that a badge's dates mean, as a part of the content, and what is odd, by field."""
    earned, expires = instants(event, event_iso), instants(expiry, expiry_iso)
    odd = [
        (field, f"{field} and {field}ISO disagree" if its else MISSING)
        for field, its in (("earnEventDate", earned), ("earnExpiresOn", expires))
        if len(its) != 1
    ]
    if earned and expires and expires[0] < earned[-1]:
        odd.append(("earnExpiresOn", "it expires before it is earned"))
    return f"{earned}\n{expires}", tuple(odd)


@lru_cache(maxsize=4096)
def _odd_of(
    name: str, event: int | None, event_iso: str | None, expiry: int | None, expiry_iso: str | None
) -> tuple[str, ...]:
    """Say what is odd about all badges with this name and these dates."""
    odd = [] if is_object_id(name) else [NO_OBJECT_ID]
    _, dates = _dates_meant(event, event_iso, expiry, expiry_iso)
    odd += [f"{field} {what}" if what == MISSING else what for field, what in dates]
    if expiry_iso and is_never(expiry_iso):
        odd.append(NEVER)
    # Of what is no int, a range would look through all it holds.
    if expiry is not None and expiry in NEARLY_NEVER_S:
        odd.append(ALMOST_NEVER)
    return tuple(odd)


MISSING = "is missing"
NO_OBJECT_ID = "badgeMetaId isn't 24 hexadecimal digits, as the vendor's ids are"
NEVER = "earnExpiresOnISO is in the year 9999; it is sent as it is written"
ALMOST_NEVER = "earnExpiresOn is in January 1978 as milliseconds; as seconds it would be the end of 9999"


@lru_cache(maxsize=4096)  # the badges of a campaign are few
def one_case(badge_id: str) -> str:
    """Return what compares equal for one badge: the vendor's ids are numbers in base 16, in either case."""
    return badge_id.lower() if is_object_id(badge_id) else badge_id


@lru_cache(maxsize=1024)  # so are the badges
def is_object_id(badge_id: str) -> bool:
    """Say whether an id is as the vendor's are."""
    return _OBJECT_ID.fullmatch(badge_id) is not None
