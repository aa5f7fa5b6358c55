"""An item as it came in becomes a badge, or it is said what is wrong with it; by the same rules everywhere.

What a badge is, and what is odd about one that is taken, is in ``badge.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import ValidationError

from worker.domain.badge import NAME, Badge, BadgeIssue, customer_of
from worker.domain.dates import (
    read_epoch,
    read_iso,
)
from worker.domain.invalid import REASONS, Invalid, together
from worker.domain.numbers import (
    kind_of,
    may_be_thousands,
)
from worker.domain.text import plain

_DATES = frozenset(
    name
    for key, field in BadgeIssue.model_fields.items()
    if key.startswith("earn_")
    for name in (key, field.alias)
)
MOST_FIELDS = 50
THOUSANDS = "customerId is written with a point and three zeros: 5.000 is read as 5, not as 5000"
LEADING_ZEROS = "customerId has leading zeros, which a number doesn't keep"


def parse_item(item: object, *, org: str | None = None, strict_dates: bool = False) -> BadgeIssue | Invalid:
    """Turn what came in for an org into a badge, or say which fields are wrong and why; never raises.

    An item may name its ``org``, in any case: another one than this is a fault.
    """
    if isinstance(item, BadgeIssue):
        item = vars(item)  # checked again, since model_copy(update=…) checks nothing
    if not isinstance(item, Mapping):
        return Invalid(None, f"must be an object with badgeMetaId and customerId, not {kind_of(item)}")
    if len(item) > MOST_FIELDS:  # each that is unknown would be named
        return Invalid(None, f"has {len(item):,} fields, of which a badge has seven")
    try:
        issue = BadgeIssue.model_validate(item)
    except ValidationError as error:
        if org is not None and any(map(_is_org, item)):
            return _of_named_org(item, org, strict_dates=strict_dates)
        faults = [_fault(its) for its in error.errors(include_url=False)]
        return together([*faults, *(_strict_faults_beside(faults, item) if strict_dates else ())])
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
    return Badge(name, customer_of(item["customerId"]), event, event_iso, expiry, expiry_iso)


@lru_cache(maxsize=4096, typed=True)  # of a campaign, all but the customer is the same for many
def _in_common(
    name: object, event: object, event_iso: object, expiry: object, expiry_iso: object
) -> tuple[str, int | None, str | None, int | None, str | None]:
    if type(name) is not str or name[:1] == "#" or not NAME.fullmatch(name):
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
    return together((fault, *(parsed.faults if isinstance(parsed, Invalid) else ())))


def _strict_faults_beside(faults: Iterable[Invalid], item: Mapping[Any, Any]) -> list[Invalid]:
    """Return what ``STRICT_DATES`` refuses about the dates of an item that has other faults."""
    wrong = {str(fault.field).removesuffix("ISO") for fault in faults}
    dates = {name: value for name, value in item.items() if name in _DATES and name not in wrong}
    try:
        beside = BadgeIssue.model_validate({"badgeMetaId": "-", "customerId": 1} | dates).badge.strict_fault()
    except ValidationError:  # of a date that stands beside a fault
        return []
    return [fault for fault in beside.faults if fault.field not in wrong] if beside else []


def _fault(error: Mapping[str, Any]) -> Invalid:
    field = plain(".".join(str(part) for part in error["loc"]), 64) or None
    kind = error["type"]
    if error["input"] is None and kind != "extra_forbidden":
        kind = "missing"  # null is how JSON says so
    ours = error["msg"].removeprefix("Value error, ") if kind == "value_error" else "can't be read"
    return Invalid(field, REASONS.get(kind, ours))
