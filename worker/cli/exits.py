"""How a command ends: the one place that decides the exit status.

0 all is well, 1 failed, 2 usage or configuration (also an act that wasn't allowed), 3 done, but some rows are
invalid or dead letters. Duplicates, near-duplicates and undone jobs never change it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

DONE, FAILED, USAGE, SOME_BAD = 0, 1, 2, 3


class FailOn(StrEnum):
    """What makes a command that did its work end with 3."""

    NEVER = "never"
    INVALID = "invalid"
    DEAD = "dead"


_WHEN = "Exit 3 if there are invalid rows, or dead letters of any kind."
FailOnOption = Annotated[
    FailOn | None,
    typer.Option(
        "--fail-on", help=f"{_WHEN} [default: dead with --follow, else invalid]", show_default=False
    ),
]
FollowedFailOn = Annotated[
    FailOn | None, typer.Option("--fail-on", help=f"{_WHEN} [default: dead]", show_default=False)
]
FailOnWithFollow = Annotated[
    FailOn | None,
    typer.Option("--fail-on", help=f"With --follow: {_WHEN} [default: dead]", show_default=False),
]


def status(fail_on: FailOn, *, dead: int, invalid: int) -> int:
    """Return the exit status of a command that did what it was asked to.

    Args:
        fail_on: what is looked at.
        dead: dead letters that still need a person, invalid rows and jobs in doubt included.
        invalid: of them, invalid rows.
    """
    bad = {FailOn.NEVER: 0, FailOn.INVALID: invalid, FailOn.DEAD: max(dead, invalid)}[fail_on]
    return SOME_BAD if bad else DONE


def end(fail_on: FailOn, *, dead: int, invalid: int) -> None:
    """End the command with 3 if there is what it looks at; else return.

    Raises:
        typer.Exit: there is.
    """
    if code := status(fail_on, dead=dead, invalid=invalid):
        raise typer.Exit(code)
