"""How a command ends, in one table: what it found, what it was told to look at, and the exit status."""

from __future__ import annotations

import pytest

from worker.cli.exits import FailOn, status


@pytest.mark.parametrize(
    ("dead", "invalid", "expected"),
    [
        (0, 0, {"never": 0, "invalid": 0, "dead": 0}),
        (2, 0, {"never": 0, "invalid": 0, "dead": 3}),
        (2, 2, {"never": 0, "invalid": 3, "dead": 3}),
        (
            0,
            2,
            {"never": 0, "invalid": 3, "dead": 3},
        ),  # of a report: dead letters of another run
    ],
)
def test_what_makes_it_three(dead: int, invalid: int, expected: dict[str, int]) -> None:
    """Dead letters include invalid rows; nothing else matters."""
    assert {each.value: status(each, dead=dead, invalid=invalid) for each in FailOn} == expected
