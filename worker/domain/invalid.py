"""What is wrong with an item, field by field, in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from worker.domain.text import counted

REASONS = {
    "missing": "is missing",
    "extra_forbidden": "is not a field of a badge",
    "invalid_key": "is not a field of a badge",
    "string_pattern_mismatch": "must be 1 to 64 printable characters without spaces",
    "string_type": "must be text",
    "string_unicode": "is no Unicode text",
}


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


def together(faults: Iterable[Invalid]) -> Invalid:
    """Make one of all that is wrong with an item."""
    first, *others = faults
    return Invalid(first.field, first.reason, tuple(others))
