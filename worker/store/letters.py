"""Dead letters of a group, as the acts on whole groups go through them (``lua/_letters.lua``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self


class GroupPart(NamedTuple):
    """The dead letters of a group, by its number, that died in a time, ms; of one run, where that is said."""

    number: str
    since_ms: int
    until_ms: int
    run: str = ""


class Letter(NamedTuple):
    """A dead letter of a group, and when it died, ms; that of no id lies before all of them."""

    id: str = ""
    died_at: str = "0"


class GroupDone(NamedTuple):
    """What was done about some letters of a group; ``left`` are those to be dealt with by their ids.

    ``last`` is the last that was looked at and stays: it goes on behind that one.
    """

    done: int
    looked_at: int
    last: Letter
    left: Sequence[str]

    @classmethod
    def of(cls, answer: Sequence[Any]) -> Self:
        """Read what a script answers."""
        done, looked_at, last, died_at, *left = answer
        return cls(int(done), int(looked_at), Letter(last, died_at), left)
