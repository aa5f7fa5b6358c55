"""What is wrong with a setting or an argument that pydantic refused, and what it may be, in words.

The faults of a badge have their words in ``invalid.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from annotated_types import Ge, Gt, Le

_KINDS: Final = (  # what a type of fault begins with, and what the value must be instead
    ("missing", "is missing"),
    ("bool", "must be true or false"),
    ("int", "must be a whole number"),
    ("float", "must be a number"),
    ("finite_number", "must be a number"),
    ("string_too_long", "must have at most {max_length} characters"),
    ("string_too_short", "must have at least {min_length} character"),
    ("string", "must be text"),
    ("path", "must be the path of a file"),
    ("dict", "must be a table of names and values"),
    ("list", "must be a list"),
    ("tuple", "must be a list"),
    ("model", "must be a table of names and values"),
    ("enum", "must be {expected}"),
    ("literal_error", "must be {expected}"),
    ("greater_than_equal", "must be at least {ge}"),
    ("greater_than", "must be above {gt}"),
    ("less_than_equal", "must be at most {le}"),
    ("less_than", "must be below {lt}"),
)
_NUMBERS: Final = ("int", "float", "finite_number", "greater_than", "less_than")


def words_of(
    problem: Mapping[str, Any], *, kind: object = None, bounds: Sequence[object] = (), unit: str = ""
) -> str:
    """Say what a value must be instead of what it is.

    Args:
        problem: one of ``ValidationError.errors()``.
        kind: ``int`` or ``float`` where that is known.
        bounds: what else is known of a number: a field's ``metadata``.
        unit: what a number counts, such as seconds.
    """
    its = str(problem["type"])
    if its == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ")
    if kind in (int, float) and its.startswith(_NUMBERS):
        number = "whole number" if kind is int else "number"
        return f"must be a {number}{f' of {unit}' if unit else ''}{_range(bounds)}"
    words = next((words for begin, words in _KINDS if its.startswith(begin)), "can't be read")
    return words.format(
        **{name: str(value).replace("'", "") for name, value in problem.get("ctx", {}).items()}
    )


def _range(bounds: Sequence[object]) -> str:
    least = next((f" from {bound.ge}" for bound in bounds if isinstance(bound, Ge)), "")
    above = next((f" above {bound.gt}" for bound in bounds if isinstance(bound, Gt)), "")
    most = next((str(bound.le) for bound in bounds if isinstance(bound, Le)), "")
    if not most:
        return least or above
    return f"{least or above} to {most}" if least else f"{above}, at most {most}"
