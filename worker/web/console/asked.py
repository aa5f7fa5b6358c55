"""What somebody asks the console for: the parameters of a page, or the fields of a form."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from fastapi import Request

from worker.domain.job import DeadKind
from worker.domain.text import LATEST_MS
from worker.errors import ConfigError
from worker.operate.deadlist import Filter

LONGEST, LONGEST_ID = 1000, 20


@dataclass(frozen=True, slots=True)
class Asked:
    """The parameters by name; of one that comes twice, the last."""

    given: Mapping[str, str]

    @classmethod
    def of(cls, request: Request) -> Asked:
        """Take them from the URL or, of a form, from its body."""
        return cls(getattr(request.state, "form", None) or dict(request.query_params))

    def text(self, name: str) -> str | None:
        """Return a parameter, cut and without blanks around it; ``None`` if it is empty or isn't there."""
        return self.given.get(name, "")[:LONGEST].strip() or None

    def ids(self, name: str) -> list[str]:
        """Return the ids that a parameter has, each once: as many as a form holds.

        Raises:
            ConfigError: there is none.
        """
        if found := [*dict.fromkeys(self.given.get(name, "").split())]:
            return found
        raise ConfigError(f"{name} is missing")

    def need(self, name: str) -> str:
        """Return a parameter that must be there.

        Raises:
            ConfigError: it isn't.
        """
        if value := self.text(name):
            return value
        raise ConfigError(f"{name} is missing")

    def whole(self, name: str) -> int | None:
        """Return a whole number; commas, blanks and points between its digits don't count.

        Raises:
            ConfigError: it is none.
        """
        text = self.text(name)
        if text is None:
            return None
        digits = text.replace(",", "").replace("\u00a0", "").replace(" ", "").replace(".", "")
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
            raise ConfigError(f"{name} must be a whole number, not {text!r}")
        return int(digits)

    def customer(self) -> int | None:
        """Return the customerId that is asked for.

        Raises:
            ConfigError: it is no whole number as ids are written: a point or comma may be another's digits.
        """
        text = self.text("customer")
        if text is None or (text.isascii() and text.isdecimal() and len(text) < LONGEST_ID):
            return None if text is None else int(text)
        raise ConfigError(f"customer must be a customerId, of digits alone, not {text!r}")

    def _instant(self, name: str) -> int | None:
        at_ms = self.whole(name)
        if at_ms and at_ms > LATEST_MS:
            raise ConfigError(f"{name} is no instant in milliseconds")
        return at_ms

    def sort(self, names: Collection[str], usual: str) -> str:
        """Return what a table is to be sorted by; a - before it is downwards.

        Raises:
            ConfigError: it has no such column.
        """
        found = self.text("sort") or usual
        if found.removeprefix("-") not in names:
            raise ConfigError(f"it can't be sorted by {found!r}; by {', '.join(names)}")
        return found

    def filter(self) -> Filter:
        """Return which dead letters are meant.

        Raises:
            ConfigError: a kind or a number isn't one.
        """
        kind = self.text("kind")
        if kind and kind not in set(DeadKind):
            raise ConfigError(f"there is no kind {kind!r}; there are: {', '.join(DeadKind)}")
        return Filter(
            org=self.text("org"),
            kind=DeadKind(kind) if kind else None,
            run=self.text("run"),
            code=self.text("code"),
            badge=self.text("badge"),
            customer=self.customer(),
            job=self.text("job"),
            since_ms=self._instant("since_ms"),
            until_ms=self._instant("until_ms"),
        )
