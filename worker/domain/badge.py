"""The badge as the vendor takes it: what is taken, refused and warned about, and what is the same badge.

The rules for dates are in ``dates.py``, those for whole numbers in ``numbers.py``, both for every way in.
What only files know (columns, line ends) is in ``files/``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from worker.domain.dates import (
    END_S,
    FIRST_S,
    ISO,
    NEARLY_NEVER_S,
    EpochUnit,
    in_unit,
    instants,
    is_never,
    read_epoch,
    read_iso,
)
from worker.domain.numbers import (
    BadCell,
    NumberText,
    invisible_in,
    is_shortened,
    kind_of,
    may_be_thousands,
    whole_number,
)
from worker.domain.text import counted, plain

LARGEST_CUSTOMER_ID = 2**63 - 1
_ERROR_OF_SPREADSHEETS = re.compile(r"#(N/A|[A-Z0-9_/]{1,20}[!?])\s*")
_NAME = re.compile(r"[!-~]{1,64}")
_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")
_BASE32_PAIRS = [a + b for a, b in product("abcdefghijklmnopqrstuvwxyz234567", repeat=2)]

_REASONS = {
    "missing": "is missing",
    "extra_forbidden": "is not a field of a badge",
    "invalid_key": "is not a field of a badge",
    "string_pattern_mismatch": "must be 1 to 64 printable characters without spaces",
    "string_type": "must be text",
    "string_unicode": "is no Unicode text",
}


def _customer(value: object) -> int:
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
        raise ValueError(_REASONS["string_pattern_mismatch"] + hint)
    return value.strip() if isinstance(value, str) else value


_EPOCH: dict[str, Any] = {"minimum": FIRST_S, "maximum": END_S * 1000 - 1}
_ISO: dict[str, Any] = {"pattern": f"^({ISO.pattern})?$"}

_Name = Annotated[str, BeforeValidator(_name), Field(pattern=r"^[!-~]{1,64}$")]
_Customer = Annotated[
    int, BeforeValidator(_customer), Field(json_schema_extra={"minimum": 1, "maximum": LARGEST_CUSTOMER_ID})
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


_DATES = frozenset(
    name
    for key, field in BadgeIssue.model_fields.items()
    if key.startswith("earn_")
    for name in (key, field.alias)
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
        return _together(faults) if faults else None


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
THOUSANDS = "customerId is written with a point and three zeros: 5.000 is read as 5, not as 5000"
LEADING_ZEROS = "customerId has leading zeros, which a number doesn't keep"


@dataclass(frozen=True, slots=True)
class Invalid:
    """Why an item can't become a job: the field at fault (``None``: the item as a whole) and the reason.

    ``others`` is what is wrong with its other fields.
    """

    field: str | None
    reason: str
    others: tuple[Invalid, ...] = ()

    def __str__(self) -> str:
        """Name every field at fault and the reason, in one sentence."""
        return f"{self.field}: {self.words}" if self.field else self.words

    @property
    def words(self) -> str:
        """The reason, with what else is wrong."""
        return "; ".join((self.reason, *map(str, self.others)))

    def words_within(self, size: int) -> str:
        """The same in at most ``size`` bytes, or nearly so: no fault is cut, what has no room is counted."""
        told = self.reason
        for n, other in enumerate(self.others):
            longer = f"{told}; {other}"
            if len(longer.encode("utf-8", "replace")) > size:
                return f"{told}; and {counted(len(self.others) - n, 'other fault')}"
            told = longer
        return told

    @property
    def faults(self) -> tuple[Invalid, ...]:
        """Everything that is wrong, each by itself."""
        return (Invalid(self.field, self.reason), *self.others) if self.others else (self,)


def parse_item(item: object, *, org: str | None = None, strict_dates: bool = False) -> BadgeIssue | Invalid:
    """Turn what came in for an org into a badge, or say which fields are wrong and why; never raises.

    An item may name its ``org``, in any case: another one than this is a fault.
    """
    if isinstance(item, BadgeIssue):
        item = vars(item)  # checked again, since model_copy(update=…) checks nothing
    if not isinstance(item, Mapping):
        return Invalid(None, f"must be an object with badgeMetaId and customerId, not {kind_of(item)}")
    try:
        issue = BadgeIssue.model_validate(item)
    except ValidationError as error:
        if org is not None and any(map(_is_org, item)):
            return _of_named_org(item, org, strict_dates=strict_dates)
        faults = [_fault(its) for its in error.errors(include_url=False)]
        return _together([*faults, *(_strict_faults_beside(faults, item) if strict_dates else ())])
    return (issue.badge.strict_fault() if strict_dates else None) or issue


class Taken(NamedTuple):
    """A badge that was read, and the producer's own id for it."""

    badge: Badge
    job_id: str | None = None


_PLAIN = frozenset(alias for field in BadgeIssue.model_fields.values() if (alias := field.alias) != "job_id")


def read_badge(item: object, *, org: str | None = None, strict_dates: bool = False) -> Taken | Invalid:
    """Do as ``parse_item``, in a third of its time for what is right and has no id of its own."""
    if type(item) is dict and _PLAIN.issuperset(item):
        try:
            badge = _quickly(item)
        except (KeyError, TypeError, ValueError):  # whatever is wrong, parse_item says it
            pass
        else:
            return (badge.strict_fault() if strict_dates else None) or Taken(badge)
    issue = parse_item(item, org=org, strict_dates=strict_dates)
    return issue if isinstance(issue, Invalid) else Taken(issue.badge, issue.job_id)


def _quickly(item: dict[str, Any]) -> Badge:
    """Read a badge by the same rules as ``BadgeIssue``, or raise anything: then that has the say."""
    get = item.get
    name, event, event_iso, expiry, expiry_iso = _in_common(
        item["badgeMetaId"],
        get("earnEventDate"),
        get("earnEventDateISO"),
        get("earnExpiresOn"),
        get("earnExpiresOnISO"),
    )
    return Badge(name, _customer(item["customerId"]), event, event_iso, expiry, expiry_iso)


@lru_cache(maxsize=4096, typed=True)  # of a campaign, all but the customer is the same for many
def _in_common(
    name: object, event: object, event_iso: object, expiry: object, expiry_iso: object
) -> tuple[str, int | None, str | None, int | None, str | None]:
    if type(name) is not str or name[:1] == "#" or not _NAME.fullmatch(name):
        raise ValueError(name)
    return (
        name,
        read_epoch(event, "earnEventDate"),
        read_iso(event_iso, "earnEventDate"),
        read_epoch(expiry, "earnExpiresOn"),
        read_iso(expiry_iso, "earnExpiresOn"),
    )


def warnings_of(item: object, badge: Badge) -> list[str]:
    """Say what is odd about what became a badge, also where the badge itself no longer shows it."""
    # Asking for a dict first, since to ask an abstract class takes 2 us.
    customer = item.get("customerId") if isinstance(item, dict) or isinstance(item, Mapping) else None  # noqa: SIM101
    if not isinstance(customer, str) or (customer[0] in "123456789" and "." not in customer):
        return badge.warnings()
    odd = [LEADING_ZEROS] if customer.strip()[0] == "0" else []
    return odd + ([THOUSANDS] if may_be_thousands(customer) else []) + badge.warnings()


def _is_org(name: object) -> bool:
    return isinstance(name, str) and name.strip().casefold() == "org"


def _of_named_org(item: Mapping[Any, Any], org: str, *, strict_dates: bool) -> BadgeIssue | Invalid:
    named = [its.strip() if isinstance(its := item[name], str) else its for name in item if _is_org(name)]
    foreign = [its for its in named if its not in ("", None, org)]
    parsed = parse_item({name: item[name] for name in item if not _is_org(name)}, strict_dates=strict_dates)
    if not foreign:
        return parsed
    shown = plain(foreign[0], 32) if isinstance(foreign[0], str) else kind_of(foreign[0])
    fault = Invalid("org", f"it belongs to “{shown}”, and this goes to {org}: hand it in for its own org")
    return _together((fault, *(parsed.faults if isinstance(parsed, Invalid) else ())))


def _strict_faults_beside(faults: Iterable[Invalid], item: Mapping[Any, Any]) -> list[Invalid]:
    """Return what ``STRICT_DATES`` refuses about the dates of an item that has other faults."""
    wrong = {str(fault.field).removesuffix("ISO") for fault in faults}
    dates = {name: value for name, value in item.items() if name in _DATES and name not in wrong}
    try:
        beside = BadgeIssue.model_validate({"badgeMetaId": "-", "customerId": 1} | dates).badge.strict_fault()
    except ValidationError:  # of a date that stands beside a fault
        return []
    return [fault for fault in beside.faults if fault.field not in wrong] if beside else []


@lru_cache(maxsize=4096)  # the badges of a campaign are few
def one_case(badge_id: str) -> str:
    """Return what compares equal for one badge: the vendor's ids are numbers in base 16, in either case."""
    return badge_id.lower() if is_object_id(badge_id) else badge_id


@lru_cache(maxsize=1024)  # so are the badges
def is_object_id(badge_id: str) -> bool:
    """Say whether an id is as the vendor's are."""
    return _OBJECT_ID.fullmatch(badge_id) is not None


def short_hash(*parts: str) -> str:
    """Return 20 letters and digits (100 bits) that stand for ``parts``; safe in a shell and in a key."""
    digest = hashlib.blake2b("\x00".join(parts).encode("utf-8", "surrogatepass"), digest_size=13).digest()
    bits = int.from_bytes(digest) >> 4
    # As base64.b32encode would write it, in a third of its time: every job has such an id.
    return "".join([_BASE32_PAIRS[bits >> shift & 1023] for shift in range(90, -1, -10)])


def _together(faults: Iterable[Invalid]) -> Invalid:
    first, *others = faults
    return Invalid(first.field, first.reason, tuple(others))


def _fault(error: Mapping[str, Any]) -> Invalid:
    field = plain(".".join(str(part) for part in error["loc"]), 64) or None
    kind = error["type"]
    if error["input"] is None and kind != "extra_forbidden":
        kind = "missing"  # null is how JSON says so
    ours = error["msg"].removeprefix("Value error, ") if kind == "value_error" else "can't be read"
    return Invalid(field, _REASONS.get(kind, ours))
