"""What goes to standard output: JSON for programs, and words that arrive even where it can't be written.

An act may be done when its result can't be written (a full disk): the result then goes to standard error, and
the command ends with 1.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar

import typer

LISTED = 50  # what a person is shown of a listing, unless --limit says otherwise

AsJson = Annotated[bool, typer.Option("--json", help="One JSON value, for programs.")]
AsJsonLines = Annotated[bool, typer.Option("--jsonl", help="JSON Lines, for programs.")]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", metavar="NUMBER", min=1, help="At most that many. [default: 50; with --json all]"
    ),
]

Form = Literal["words", "json", "jsonl"]
T = TypeVar("T")


def form_of(*, as_json: bool, as_lines: bool) -> Form:
    """Return the form that the options say.

    Raises:
        typer.BadParameter: they say two.
    """
    if as_json and as_lines:
        raise typer.BadParameter("say --json or --jsonl, not both")
    return "json" if as_json else "jsonl" if as_lines else "words"


def say_json(value: Any, *, dry_run: bool = False) -> None:
    """Print one JSON value, dataclasses in it as objects, on one line; of a ``dry_run``, that it was one."""
    stdout.write(_line(value | {"dry_run": True} if dry_run else value))
    stdout.flush()


def say_listing(
    rows: Iterable[T],
    *,
    form: Form,
    limit: int | None,
    show: Callable[[list[T]], None],
    count: Callable[[], int],
) -> None:
    """Print a listing, for a person its first rows, for a program all unless there is a limit.

    Args:
        rows: read one by one: memory stays flat.
        form: how they are written.
        limit: how many at most.
        show: prints them for a person.
        count: says how many there are in all; asked only if there are more than are printed.
    """
    remaining = iter(rows)
    if form == "words":
        shown = list(islice(remaining, limit or LISTED))
        show(shown)
        printed = len(shown)
    else:
        printed = _write_rows(islice(remaining, limit), form)
    if next(remaining, None) is not None:
        more = f"… {count() - printed:,} more: --limit N shows more, --json all of them\n"
        (stdout if form == "words" else sys.stderr).write(more)
        stdout.flush()


def _write_rows(rows: Iterator[Any], form: Form) -> int:
    """Write an array or lines, row by row; return how many rows."""
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        for count, row in enumerate(rows, 1):  # noqa: B007 - it is read below
            yield _line(row)

    sys.stdout.writelines(as_array(lines()) if form == "json" else lines())
    sys.stdout.flush()
    return count


def as_array(lines: Iterable[str]) -> Iterator[str]:
    """Make one JSON array of JSON Lines, without holding them all."""
    yield "["
    for number, line in enumerate(lines):
        yield f",{line}" if number else line
    yield "]\n"


def _line(value: Any) -> str:
    return json.dumps(value, default=asdict) + "\n"


class _Stdout:
    """Standard output, or standard error once the former can't be written; a closed pipe is no failure."""

    def __init__(self) -> None:
        self.failure: OSError | None = None
        self._unwritten = ""

    def write(self, text: str) -> int:
        """Write text; it counts as written after the next ``flush``."""
        if self.failure:
            return sys.stderr.write(text)
        self._unwritten += text
        return self._try(lambda: sys.stdout.write(text))

    def flush(self) -> None:
        """Hand what was written to the system."""
        self._try(sys.stdout.flush)
        self._unwritten = ""

    def _try(self, write: Callable[[], int | None]) -> int:
        try:
            return write() or 0
        except BrokenPipeError:
            raise
        except OSError as error:
            self.failure = error
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())  # so that what is left in its buffer can't fail again
            os.close(null)
            sys.stderr.write(self._unwritten)
            return 0

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)


stdout = _Stdout()
