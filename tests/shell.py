"""The commands that the documentation shows: found in its Markdown, and held against the command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer

from worker.cli.root import cli

RUN = "<!-- run -->"

_FENCE = re.compile(
    r"^(?P<mark><!--[^\n]*-->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_INLINE = re.compile(r"`(badges [^`]+)`")
_HEREDOC = re.compile(r"<<'?(\w+)'?[^\n]*\n.*?^\1$", re.MULTILINE | re.DOTALL)
_BETWEEN = re.compile(r"[;&|()]+")
_ASSIGNMENT = re.compile(r"\w+=.*")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of shell commands; ``runs`` if it is marked to be run."""

    text: str
    runs: bool


def blocks(page: Path) -> list[Block]:
    """Return the shell blocks of a page, in their order."""
    found = _FENCE.finditer(page.read_text(encoding="utf-8"))
    return [
        Block(one["text"], (one["mark"] or "").strip() == RUN) for one in found if one["language"] == "sh"
    ]


def calls(page: Path) -> Iterator[list[str]]:
    """Yield the arguments of each call of ``badges`` on a page: in shell blocks, and in the text."""
    for block in blocks(page):
        yield from _calls_in(block.text)
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for inline in _INLINE.findall(text):
        yield from _calls_in(" ".join(inline.split()))


def _calls_in(text: str) -> Iterator[list[str]]:
    for line in _HEREDOC.sub("", text.replace("\\\n", " ")).splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command: list[str] = []
        for word in [*words, ";"]:
            if not _BETWEEN.fullmatch(word):
                command.append(word)
                continue
            yield from _badges(command)
            command = []


def _badges(command: list[str]) -> Iterator[list[str]]:
    """Yield what follows the program's name, if it is ours: behind assignments and ``timeout 120``."""
    for n, word in enumerate(command):
        if Path(word).name == "badges":
            yield command[n + 1 :]
            return
        if not (_ASSIGNMENT.fullmatch(word) or word.isdigit() or word in {"timeout", "export", "nohup"}):
            return


@cache
def _command() -> Any:
    return typer.main.get_command(cli)


def complaint(arguments: list[str]) -> str | None:
    """Say what is wrong with a call: a command or an option that doesn't exist; else None."""
    command = _command()
    context, names = type(command).context_class, ["badges"]
    rest = [word for word in arguments if word != "…"]
    while getattr(command, "commands", None) is not None and rest and not rest[0].startswith("-"):
        name, *rest = rest
        if name not in command.commands:
            return f"{' '.join(names)} has no command {name!r}"
        command = command.commands[name]
        names.append(name)
    how = _command().context_settings  # each command keeps what the first context says of its help
    try:
        command.make_parser(context(command, info_name=" ".join(names), **how)).parse_args(rest)
    except Exception as error:  # noqa: BLE001 - Typer's Click, whichever that is
        return f"{' '.join(names)}: {getattr(error, 'message', error)}"
    return None
