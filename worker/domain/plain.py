"""The rows that files mostly have, many at once: a vendor's badge id, a customer, two epochs or ISO dates.

Nothing is wrong or odd about these. What isn't plain goes the general way (``parsing.read_badge``), which
tells what is. A test holds the two ways against each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from typing import Final, NamedTuple

from worker.domain.badge import is_object_id
from worker.domain.dates import END_S, instants
from worker.domain.identity import content_ids
from worker.domain.item import Source
from worker.domain.spellings import ISO

_with_epochs = itemgetter("badgeMetaId", "customerId", "earnEventDate", "earnExpiresOn")
_with_iso = itemgetter("badgeMetaId", "customerId", "earnEventDateISO", "earnExpiresOnISO")
_FIELDS: Final = 4
# A customer of digits that aren't too many, and two epochs in seconds, from 2001 on; as a content has them.
_is_plain: Final = re.compile(r"[1-9][0-9]{0,17}\n\[[1-9][0-9]{9}\]\n\[[1-9][0-9]{9}\]").fullmatch


class Plain(NamedTuple):
    """A plain row: its badge and dates as they are written, its customer in digits, its content's id."""

    badge_meta_id: str
    customer: str
    event: str
    expiry: str
    content: str
    is_iso: bool  # both dates are, else both are epochs

    @property
    def customer_id(self) -> int:
        """The customer as a number."""
        return int(self.customer)


def plain_rows(org: str, rows: Sequence[Source]) -> Iterator[Plain | None]:
    """Yield for each row what it is, or ``None`` where it isn't plain."""
    ids_of = content_ids(org)
    badges: dict[str, Callable[[str, str], str]] = {}  # those that are the vendor's
    made = partial(tuple.__new__, Plain)  # which makes one in a third of the time
    for _, item, _, problem, _, warning in rows:
        if problem or warning or type(item) is not dict or len(item) != _FIELDS:
            yield None
            continue
        is_iso = "earnEventDateISO" in item
        try:
            name, customer, event, expiry = (_with_iso if is_iso else _with_epochs)(item)
        except KeyError:
            yield None
            continue
        if not (type(name) is type(customer) is type(event) is type(expiry) is str):
            customer, event, expiry = _text(customer), _text(event), _text(expiry)  # as in JSON
            if not (type(name) is type(customer) is type(event) is type(expiry) is str):
                yield None
                continue
        begins, ends = (_seconds(event), _seconds(expiry)) if is_iso else (event, expiry)
        rest = f"{customer}\n[{begins}]\n[{ends}]"
        if not (_is_plain(rest) and begins <= ends < _END):
            yield None
            continue
        id_of = badges.get(name)
        if id_of is None:
            if not is_object_id(name):
                yield None
                continue
            id_of = badges[name] = ids_of(name.lower())
        yield made((name, customer, event, expiry, id_of(customer, rest), is_iso))


_END: Final = str(END_S)  # of as many digits


def _seconds(iso: str) -> str:
    """Return an ISO date's instant in whole seconds; nothing if it isn't one."""
    try:
        return str(instants(None, iso)[0]) if ISO.fullmatch(iso) else ""
    except ValueError:
        return ""


def _text(value: object) -> object:
    return str(value) if type(value) is int else value
