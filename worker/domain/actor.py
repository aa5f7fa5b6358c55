"""Who acts: a person at a shell, a caller with an API key, the sender of a Celery message."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Via(StrEnum):
    """The way by which somebody acts."""

    USER = "user"  # of the operating system, at a shell
    KEY = "key"  # an API key, by its name
    TASK = "task"  # a message of Celery's, by its origin
    CONSOLE = "console"  # in a browser, by the user whom the console runs as


_BEFORE = {Via.USER: "", Via.KEY: "key ", Via.TASK: "task from ", Via.CONSOLE: "console, "}


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who acts, by a name that is shown: as far as the way tells it, not proven."""

    via: Via
    name: str

    def __str__(self) -> str:
        """Return it as the audit trail shows it."""
        return _BEFORE[self.via] + self.name
