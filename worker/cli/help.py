"""The command ``badges help``: the pages of ``deploy/docs``, which an installed program carries with it.

``index.md`` is the table of contents: its sections and its links, ``- [topic](topic.md): what it is about``.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.markup import escape

help_cli = typer.Typer()

INDEX = "index"
PAGE_COLUMNS = 100
MOST_FOUND = 20

_LINK = re.compile(r"- \[([\w-]+)\]\(\1\.md\): (.+)")
_SECTION = re.compile(r"## (.+)")
_PAGE = re.compile(r"\[([^]]+)\]\(([\w-]+)\.md(?:#[\w-]*)?\)")
_COMMENT = re.compile(r"^<!--.*?-->\n+", re.MULTILINE)


class Topic(NamedTuple):
    """A page, as the table of contents names it."""

    name: str
    section: str
    line: str


@help_cli.command("help")
def help_(
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="The page; without one the topics are listed.")
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(metavar="WORDS", help="List the places where all these words stand near each other."),
    ] = None,
) -> None:
    """Read the documentation: print a page, find words in all of them, or list the topics there are."""
    names = [found.name for found in topics()]
    if topic and search:
        raise typer.BadParameter("give a TOPIC or --search, not both", param_hint="--search")
    if topic and topic not in names:
        raise typer.BadParameter(f"there is no topic {topic!r}{_hint(topic, names)}", param_hint="TOPIC")
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr] # in any locale
    if search is not None:
        _print_found(search)
    elif topic:
        _print_page(_COMMENT.sub("", page(topic)))
    else:
        _list_topics()


def topics() -> Iterator[Topic]:
    """Yield the topics in the order of the table of contents."""
    section = ""
    for line in page(INDEX).splitlines():
        if found := _SECTION.fullmatch(line):
            section = found[1]
        elif found := _LINK.fullmatch(line):
            yield Topic(found[1], section, found[2])


class Place(NamedTuple):
    """A place in a page: its section, and the paragraph, row or point of a list."""

    topic: str
    section: str
    text: str


def places() -> Iterator[Place]:
    """Yield every paragraph, row and point of every page."""
    for topic in topics():
        section, block = "", ""
        for line in [*_COMMENT.sub("", page(topic.name)).splitlines(), ""]:
            if block and (not line.strip() or line.startswith(("#", "|", "- "))):
                yield Place(topic.name, section, block)
                block = ""
            if line.startswith("#"):
                section = line.lstrip("# ")
            else:
                block = f"{block} {line.strip()}".strip()


def found_places(words: str) -> list[Place]:
    """Return the places that hold all the words, in whatever case; those with most in the heading first."""
    wanted = words.casefold().split()
    found = [
        place
        for place in places()
        if all(word in f"{place.topic} {place.section} {place.text}".casefold() for word in wanted)
    ]

    def in_headings(place: Place) -> int:
        return sum(word in place.topic for word in wanted) + sum(
            word in place.section.casefold() for word in wanted
        )

    return sorted(found, key=in_headings, reverse=True)


def page(name: str) -> str:
    """Return a page's Markdown."""
    return (folder() / f"{name}.md").read_text(encoding="utf-8")


def folder() -> Path:
    """Return where the pages are: beside the code in a wheel, in ``deploy`` in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "docs"
    return installed if installed.is_dir() else package.parent / "deploy" / "docs"


def _hint(topic: str, names: list[str]) -> str:
    from worker.cli.root import OVERVIEW  # noqa: PLC0415 - it loads this module

    if topic in OVERVIEW:
        return f"; for the command: badges {topic} --help"
    near = difflib.get_close_matches(topic.lower(), names, n=1, cutoff=0.4)
    return f"; did you mean {near[0]}? All of them: badges help" if near else "; all of them: badges help"


def _print_found(words: str) -> None:
    """Print where the words stand, or end with 1."""
    console = Console(highlight=False, soft_wrap=True)
    found = found_places(words) if words.strip() else []
    for place in found[:MOST_FOUND]:
        where = f"{place.topic}: {place.section}" if place.section else place.topic
        shown = shorten(_PAGE.sub(r"\1", place.text), 2 * PAGE_COLUMNS, placeholder=" …")
        console.print(f"[cyan]{escape(where)}[/]\n  {escape(shown)}")
    if not found:
        what = (
            f"all of {words!r}; try fewer words" if len(words.split()) > 1 else f"{words!r}; try another word"
        )
        raise typer.BadParameter(f"no page holds {what}", param_hint="--search")
    if len(found) > MOST_FOUND:
        console.print(f"\n{len(found) - MOST_FOUND} more; give more words")
    console.print("\nRead one: badges help TOPIC")


def _list_topics() -> None:
    console = Console(highlight=False, soft_wrap=True)
    section, width = "", max(len(topic.name) for topic in topics())
    for topic in topics():
        if topic.section != section:
            section = topic.section
            console.print(f"[bold]{escape(section)}[/]")
        console.print(f"  [cyan]{topic.name:<{width}}[/]  {escape(topic.line)}")
    console.print("\nRead one: badges help TOPIC; find words: badges help --search WORDS")


def _print_page(text: str) -> None:
    """Print Markdown: rendered at a terminal, and as it is written for everything else."""
    console = Console()
    if not console.is_terminal:
        sys.stdout.write(text)
        return
    from rich.markdown import Markdown  # noqa: PLC0415 - a listing needs none of it

    text = _PAGE.sub(r"\1 (`badges help \2`)", text)
    console.print(Markdown(text, hyperlinks=False), width=min(console.width, PAGE_COLUMNS))
