"""What is to be said of rows, in groups of those of which it is the same."""

from __future__ import annotations

import re
from dataclasses import dataclass
from dataclasses import field as made
from typing import Final, Literal

from worker.domain.check import CheckGroup
from worker.domain.invalid import Invalid
from worker.operate.checkedcolumns import shown
from worker.operate.lookingback import ROWS_NAMED

_OF_ONE_ROW: Final = re.compile(r"“.*”|\d+")  # what differs between rows with the same thing wrong
_MOST_GROUPS: Final = 100
_VALUES_SHOWN: Final = 5


@dataclass(slots=True)
class Group:
    """Rows of which the same is to be said; ``values`` are some of those that are wrong."""

    field: str | None
    reason: str
    rows: list[int] = made(default_factory=list)
    values: list[str] = made(default_factory=list)
    count: int = 0

    def add(self, row: str, value: object = None) -> None:
        """Add a row, with what is wrong in it."""
        self.count += 1
        if len(self.rows) < ROWS_NAMED:
            self.rows.append(int(row))
        if len(self.values) < _VALUES_SHOWN and (text := shown(value)):
            self.values += [] if text in self.values else [text]

    def as_first_version(self, kind: Literal["invalid", "warning"]) -> CheckGroup:
        """Return it as the first version told it."""
        return CheckGroup(kind, self.field, self.reason, self.rows[0], self.count)


class Groups:
    """A bounded number of groups; what is beyond it lies in one."""

    def __init__(self) -> None:
        self._groups: dict[object, Group] = {}

    def add(self, problem: Invalid, row: str, value: object = None) -> None:
        """Say something of a row."""
        groups = self._groups
        key: object = (problem.field, _OF_ONE_ROW.sub("", problem.reason))
        if key not in groups and len(groups) >= _MOST_GROUPS:
            key, problem = None, Invalid(None, f"something else, at first: {problem}")
        groups.setdefault(key, Group(problem.field, problem.reason)).add(row, value)

    def put(self, reason: str, count: int, rows: tuple[str, ...]) -> None:
        """Say something of rows that were counted elsewhere."""
        self._groups["file", reason] = Group(None, reason, [*map(int, rows)], count=count)

    def most_first(self) -> list[Group]:
        """Return all groups, those of the most rows first."""
        return sorted(self._groups.values(), key=lambda one: -one.count)
