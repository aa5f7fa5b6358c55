"""How a page becomes HTML: templates that escape everything, and the few forms that values are shown in."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from functools import cache
from hashlib import sha256
from importlib import resources
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from worker.domain.dates import instants
from worker.domain.job import KIND_WORDS
from worker.domain.text import counted, in_words, iso_time, printable
from worker.web.console import charts

STATIC: Final = {
    "app.css": "text/css",
    "app.js": "text/javascript",
    "favicon.svg": "image/svg+xml",
    "htmx.min.js": "text/javascript",
    "hx-csp.min.js": "text/javascript",
    "hx-sse.min.js": "text/javascript",
}
NAVIGATION: Final = (
    ("./", "now", "Now"),
    ("runs", "runs", "Runs"),
    ("import", "import", "Import"),
    ("dead", "dead", "Dead letters"),
    ("doubt", "doubt", "Doubt"),
    ("search", "search", "Search"),
    ("audit", "audit", "Audit"),
    ("settings", "settings", "Settings"),
)
SOME_DAYS_S = 172_800
_SHORT = 12
_A_TIME = re.compile(r"\b\d\d:\d\d:\d\d UTC|\b\d{4}-\d\d-\d\dT[0-9:.]+Z")


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows: its template and values, and the command that says the same in a terminal.

    ``place`` is its entry in the navigation. ``live`` says which page's live part is streamed into it.
    """

    template: str
    title: str
    place: str
    command: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    live: str = "banners"


def url(page: str, **parameters: object) -> str:
    """Return a relative link; what is ``None`` or empty is left out."""
    said = {name.rstrip("_"): value for name, value in parameters.items() if value not in (None, "")}
    return f"{page}?{urlencode(said)}" if said else page


def turning(page: str, kept: Mapping[str, object], after: object, rest: str | None) -> dict[str, Any]:
    """Return what leads on from a part of a list: its first page and, if there is one, the next."""
    return {
        "after": after,
        "first": url(page, **kept),
        "next": url(page, **kept, after=rest) if rest else None,
    }


@dataclass(frozen=True, slots=True)
class Sorting:
    """How a table is sorted, and the links of its columns that sort it otherwise.

    ``sort`` is a column's name, with a - before it downwards; ``names`` are those that it can be sorted by;
    ``kept`` are the page's other parameters.
    """

    page: str
    kept: Mapping[str, Any]
    sort: str
    names: Collection[str]

    def has(self, name: str) -> bool:
        """Say whether the table can be sorted by a column."""
        return name in self.names

    def href(self, name: str, *, down: bool = False) -> str:
        """Return the link of a column's head; a second click turns it round."""
        upwards, downwards = name, f"-{name}"
        other = {upwards: downwards, downwards: upwards}.get(self.sort, downwards if down else upwards)
        return url(self.page, **self.kept, sort=other)

    def aria(self, name: str) -> str:
        """Say how the table is sorted by this column."""
        return {name: "ascending", f"-{name}": "descending"}.get(self.sort, "none")


def instant(at: str | None) -> Markup:
    """Show an instant (ISO 8601, UTC); in the browser it turns into the viewer's own time."""
    if not at:
        return Markup('<span class="none">\N{EN DASH}</span>')
    shown = datetime.fromisoformat(at)
    return Markup('<time datetime="{}" title="{} UTC">{} UTC</time>').format(
        at, f"{shown:%Y-%m-%d %H:%M:%S}", f"{shown:%Y-%m-%d %H:%M:%S}"
    )


def moment(epoch: object, iso: object) -> Markup:
    """Show a date of a badge: an epoch as the instant that it means, anything else as it was written."""
    if isinstance(epoch, int) and not isinstance(epoch, bool) and not iso:
        with suppress(ValueError, OverflowError, OSError):
            (at_s,) = instants(epoch, None)
            return instant(iso_time(at_s * 1000)) + Markup(" <small>{}</small>").format(epoch)
    given = iso or epoch
    return instant(None) if given in (None, "") else Markup("<bdi>{}</bdi>").format(printable(str(given)))


def timed(text: str) -> Markup:
    """Show the times that stand in a sentence, in UTC, as the viewer's own: those of a day near now."""
    shown, end = Markup(), 0
    for found in _A_TIME.finditer(text):
        with suppress(ValueError):  # what only looks like a time stays as it is
            at = instant(_near_now(found[0]))
            shown, end = shown + escape(text[end : found.start()]) + at, found.end()
    return shown + escape(text[end:])


def _near_now(said: str) -> str:
    if not said.endswith(" UTC"):
        return said
    now = datetime.now(UTC)
    at = datetime.combine(now.date(), time.fromisoformat(said.removesuffix(" UTC")), UTC)
    days = (timedelta(days=n) for n in (-1, 0, 1))
    return (
        iso_time(round(min((at + day for day in days), key=lambda it: abs(it - now)).timestamp() * 1000))
        or ""
    )


def coded(text: str) -> Markup:
    """Show words whose code stands between backticks."""
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if n % 2 else escape(part)
        for n, part in enumerate(text.split("`"))
    )


def ident(text: object, *, short: bool = False) -> Markup:
    """Show an id, to be copied whole by a click."""
    if text in (None, ""):
        return Markup('<span class="none">\N{EN DASH}</span>')
    whole = printable(str(text))
    shown = f"{whole[:_SHORT]}…" if short and len(whole) > _SHORT + 1 else whole
    return Markup(
        '<button type="button" class="id" data-copy="{}" title="copy {}"><bdi>{}</bdi></button>'
    ).format(whole, whole, shown)


def duration(seconds: float | None) -> str:
    """Say how long in words."""
    if seconds is None:
        return "\N{EN DASH}"
    return in_words(seconds) if seconds < SOME_DAYS_S else counted(int(seconds // 86_400), "day")


def number(value: float | None) -> str:
    """Write a number for people."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value:,.0f}" if value == int(value) else f"{value:,}"


@cache
def static_file(name: str) -> bytes:
    """Return a file that pages load."""
    return resources.files("worker.web.console").joinpath("static", name).read_bytes()


@cache
def _version_of(name: str) -> str:
    return sha256(static_file(name)).hexdigest()[:10]


def static_url(name: str) -> str:
    """Return where a file is; it changes with its content, so that a browser may keep it."""
    return f"static/{name}?v={_version_of(name)}"


@cache
def environment() -> Environment:
    """Return the templates. Everything is escaped; what is missing is an error, not an empty place."""
    made = Environment(
        loader=PackageLoader("worker.web.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "instant": instant,
        "moment": moment,
        "coded": coded,
        "timed": timed,
        "ident": ident,
        "duration": duration,
        "number": number,
    }
    made.globals |= {
        "url": url,
        "static": static_url,
        "counted": counted,
        "charts": charts,
        "kinds": KIND_WORDS,
        "navigation": NAVIGATION,
        "version": version("badge-import-worker"),
    }
    return made


def html(page: Page, common: Mapping[str, Any]) -> str:
    """Write a whole page."""
    return environment().get_template(page.template).render(_values(page, common))


def live_part(page: Page, common: Mapping[str, Any]) -> str:
    """Write the part of a page that is kept fresh."""
    template = environment().get_template(page.template)
    return "".join(template.blocks["live"](template.new_context(_values(page, common))))


def _values(page: Page, common: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a template is filled with; a block alone has no imports, so ``parts`` are a value."""
    parts = environment().get_template("parts.html").make_module(dict(common))
    return {**common, **page.values, "page": page, "parts": parts}
