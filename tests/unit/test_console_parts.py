"""The console's pages, acts, templates and links belong together: what one names, the others have."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from worker.web.console import app
from worker.web.console.views import NAVIGATION

ROOT = Path(__file__).parents[2]
CONSOLE = ROOT / "worker/web/console"
TEMPLATES = {path.name: path.read_text() for path in (CONSOLE / "templates").glob("*.html")}
MODULES = {path.name: path.read_text() for path in CONSOLE.glob("*.py")}
PLACES = {name for _, name, _ in NAVIGATION}


def pages() -> Iterator[tuple[str, ast.Call]]:
    """Yield each ``Page`` that is made, with the module that makes it."""
    for name, text in MODULES.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Page":
                yield name, node


def test_a_page_has_its_template_its_place_and_its_live_part() -> None:
    """A ``live`` that is no page would be one that never changes, a ``place`` one that no menu marks."""
    for module, made in pages():
        template, _, place, *_ = (
            ast.literal_eval(arg) if isinstance(arg, ast.Constant) else "" for arg in made.args
        )
        live = next((ast.literal_eval(word.value) for word in made.keywords if word.arg == "live"), "banners")
        assert template in TEMPLATES, f"{module}: templates/{template}"
        assert place in PLACES | {""}, f"{module}: {place} is no entry of NAVIGATION in views.py"
        assert live in {*app.PAGES, "banners"}, f"{module}: live={live} is no page of PAGES in app.py"


def test_no_template_is_left_over() -> None:
    """Each is a page's, or part of one."""
    text = "".join([*MODULES.values(), *TEMPLATES.values()])
    assert [name for name in TEMPLATES if f'"{name}"' not in text] == []


def test_a_link_leads_somewhere() -> None:
    """Links, forms and the menu: to a page, an act, or another route of ``app.py``."""
    routes = {*app.PAGES, *app.ACTS, *re.findall(r'"/([\w.]+)"', MODULES["app.py"])}
    for name, text in {**MODULES, **TEMPLATES}.items():
        named = re.findall(r"""\burl\(['"]([\w.]+)['"]|\b(?:action|href)="([a-z][\w.]*)["?]""", text)
        assert [link for both in named for link in both if link and link not in routes] == [], name
    assert {href.removeprefix("./") for href, _, _ in NAVIGATION} <= {"", *app.PAGES}


def test_the_documentation_has_every_page_of_the_menu() -> None:
    """In its words and its order."""
    table = (ROOT / "deploy/docs/console.md").read_text().partition("| page | shows |\n|---|---|\n")[2]
    rows = table.partition("\n\n")[0].splitlines()
    assert [row.split(" | ")[0].lstrip("| ") for row in rows] == [words for _, _, words in NAVIGATION]
