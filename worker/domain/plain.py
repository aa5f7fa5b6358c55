"""The rows that files mostly have, many at once: a vendor's badge id, a customer, two epochs in seconds.

Nothing is wrong or odd about these. What isn't plain goes the general way (``badge.read_badge``), which tells
what is. A test holds the two ways against each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from worker.domain.badge import is_object_id
from worker.domain.dates import END_S
from worker.domain.identity import content_ids
from worker.domain.item import Source

_FIELDS: Final = {"badgeMetaId", "customerId", "earnEventDate", "earnExpiresOn"}
_DIGITS: Final = 10  # of an epoch in seconds, from 2001 on
_LONGEST_CUSTOMER: Final = 18  # digits, none of which is too many


class Plain(NamedTuple):
    """A plain row: its badge as it is written, its customer and dates in digits, its content's id."""

    badge_meta_id: str
    customer: str
    event: str
    expiry: str
    content: str

    @property
    def customer_id(self) -> int:
        """The customer as a number."""
        return int(self.customer)


def plain_rows(org: str, rows: Sequence[Source]) -> Iterator[Plain | None]:
    """Yield for each row what it is, or ``None`` where it isn't plain."""
    id_of = content_ids(org)
    lowered: dict[str, str] = {}  # of badges that are the vendor's
    for _, item, _, problem, _, warning in rows:
        if problem or warning or type(item) is not dict or item.keys() != _FIELDS:
            yield None
            continue
        name, customer = item["badgeMetaId"], item["customerId"]
        event, expiry = item["earnEventDate"], item["earnExpiresOn"]
        if type(customer) is int or type(event) is int or type(expiry) is int:  # as in JSON
            customer, event, expiry = _text(customer), _text(event), _text(expiry)
        if not (
            type(name) is type(customer) is type(event) is type(expiry) is str
            and len(event) == len(expiry) == _DIGITS
            and len(customer) <= _LONGEST_CUSTOMER
            and (digits := customer + event + expiry).isdigit()
            and digits.isascii()
            and customer[:1] != "0" != event[0]
            and event <= expiry < _END
        ):
            yield None
            continue
        lower = lowered.get(name)
        if lower is None:
            if not is_object_id(name):
                yield None
                continue
            lower = lowered[name] = name.lower()
        content = id_of(f"{lower}\0{customer}", f"{lower}\n{customer}\n[{event}]\n[{expiry}]")
        yield Plain(name, customer, event, expiry, content)


_END: Final = str(END_S)  # of as many digits


def _text(value: object) -> object:
    return str(value) if type(value) is int else value
