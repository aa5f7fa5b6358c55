"""An item as it came in, before anybody knows whether it is a badge."""

from __future__ import annotations

from typing import Any, NamedTuple

from worker.domain.badge import Invalid


class Source(NamedTuple):
    """One item as it came in: where from, and what it is; ``problem`` if it could not even be read.

    Of a file, ``row`` is the line where the record begins or, in a JSON array, the element's place, both from
    1, and no two have the same; ``raw`` is what was written, cut at 2,000 characters.
    """

    row: str
    item: Any
    raw: str = ""
    problem: Invalid | None = None
