"""Acts that can lose work or issue a badge twice: what and how many is shown, and a person says yes to it.

Where nobody can be asked (no terminal, or output for programs) the act is refused unless the option that
names the danger was given.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from worker.cli import tables
from worker.errors import NotAllowed

LARGE = 100  # from this number on it has to be typed: a "y" comes too easily

Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def ask(act: str, count: int, *, allowed: bool, as_json: bool, flag: str = "--yes") -> None:
    """Return if a person allows an act, or has allowed it by its option; nothing is asked about no jobs.

    Args:
        act: what would happen and to how many, as the beginning of a sentence.
        count: how many jobs it is about; from 100 on the number is to be typed.
        allowed: whether the option was given that allows it.
        as_json: whether the output is for a program, which can't be asked.
        flag: that option; one that names the danger, where ``--yes`` says too little.

    Raises:
        NotAllowed: nobody can be asked; the command ends with 2.
        typer.Abort: the person said no; the command ends with 1.
    """
    if allowed or not count:
        return
    if as_json or not is_person():
        raise NotAllowed(f"{act}; nothing was done. To do it unasked, add {flag}; to look first: --dry-run")
    tables.err.print(f"[yellow]{tables.safe(act)}[/]")
    if count < LARGE:
        typer.confirm("Go on?", abort=True, err=True)
        return
    typed = typer.prompt(f"Type the number ({count}) to go on", default="", show_default=False, err=True)
    if typed.replace(",", "").strip() != str(count):
        tables.err.print("That is another number: nothing was done.")
        raise typer.Abort


def is_person() -> bool:
    """Say whether there is a terminal at which somebody can be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
