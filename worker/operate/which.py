"""Which jobs an act or a list is about, as options, a form or a message say it.

Of dead letters more can be said: ``Filter``, in ``deadlist.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.domain.badge import one_case
from worker.domain.text import iso_time
from worker.store.record import Field, Record

_NAMES = ("org", "kind", "run", "code", "badge", "customer", "job")


@dataclass(frozen=True, slots=True)
class Which:
    """Which jobs are meant; ``None`` means any, ``since_ms`` those that ended since."""

    org: str | None = None
    run: str | None = None
    badge: str | None = None
    customer: int | None = None
    job: str | None = None
    since_ms: int | None = None

    @property
    def is_said(self) -> bool:
        """Whether anything is said beside the org: an act that is about all of its jobs is nobody's wish."""
        return bool(self.as_json().keys() - {"org"})

    @property
    def badge_fields(self) -> dict[Field, str]:
        """What a record must hold of badge and customer."""
        customer = None if self.customer is None else str(self.customer)
        wanted = {Field.BADGE_META_ID: self.badge, Field.CUSTOMER_ID: customer}
        return {field: value for field, value in wanted.items() if value is not None}

    def as_json(self) -> dict[str, Any]:
        """Return what is said, by the names of the options."""
        said = {name: value for name in _NAMES if (value := getattr(self, name, None)) is not None}
        return said | ({"since": iso_time(self.since_ms)} if self.since_ms else {})


def holds(record: Record, wanted: Mapping[Field, str]) -> bool:
    """Say whether a record holds all that is wanted; a badge in either case."""
    return all(
        record.get(field) == value or (field is Field.BADGE_META_ID and is_badge(record.get(field), value))
        for field, value in wanted.items()
    )


def is_badge(badge: str | None, wanted: str) -> bool:
    """Say whether a badge is the one that is wanted, as one or the other wrote it."""
    return badge is not None and one_case(badge) == one_case(wanted)
