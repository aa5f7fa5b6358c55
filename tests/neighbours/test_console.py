"""The console in a real browser: no violation that axe finds, no error, and pictures of the main pages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import redis
from consoles import console
from playwright.sync_api import Page, sync_playwright
from support import item, needs

from worker.domain.batch import Item
from worker.domain.org import Org
from worker.store.queue import Queue

pytestmark = pytest.mark.neighbour("chromium", "axe-core")
PICTURES = Path(__file__).parents[2] / "deploy"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
)
ORG = Org(api_base_url="https://vendor.example")
PAGES = (
    "./",
    "runs",
    "run?run=spring",
    "import",
    "dead?kind=rejected&code=812",
    "doubt",
    "search",
    "audit",
    "settings",
)
PLAN = "plan?do=discard&kind=rejected"


@pytest.fixture
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(needs("chromium")), args=list(FLAGS))
        yield opened
        opened.close()


def fill(queue: Queue) -> None:
    """Make a store that has something of everything."""
    good = [item(n) for n in range(40)]
    fields = {"attempts": "1", "code": "812", "message": "customerId is missing <script>alert(1)</script>"}
    dead = [Item(item(n).id, str(n), {**item(n).fields, **fields}, kind="rejected") for n in range(100, 130)]
    doubt = [
        Item(
            item(n).id,
            str(n),
            {**item(n).fields, "code": "500", "message": "no certain answer"},
            kind="in_doubt",
        )
        for n in range(200, 205)
    ]
    queue.enqueue(ORG, run="spring", items=[*good, *dead, *doubt], call="spring")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_no_page_has_an_error_or_an_axe_violation(  # noqa: PLR0917 - fixtures are arguments
    browser: Any, client: redis.Redis, queue: Queue, tmp_path: Path, scheme: str, width: int
) -> None:
    """In light and dark and on a phone; nothing is wider than the screen."""
    fill(queue)
    said: list[str] = []
    axe = (needs("axe-core") / "axe.min.js").read_text()
    with console(client, api_base_url=ORG.api_base_url, console_upload_dir=tmp_path / "up") as (here, http):
        page = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{http.base_url}/?token={here.sessions.token}")
        for path in (*PAGES, PLAN):
            page.goto(f"{http.base_url}/{path}")
            page.wait_for_timeout(300)  # until the live part has come once
            page.evaluate(axe)
            found = page.evaluate("axe.run().then(r => r.violations.map(v => [v.id, v.nodes[0].html]))")
            assert not found, (path, found)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
            if os.environ.get("BADGES_PICTURES"):
                _picture(page, path, scheme, width)
        page.context.close()
    assert not said, said


def _picture(page: Page, path: str, scheme: str, width: int) -> None:
    """Take the pictures that the README shows."""
    name = {"./": "now", "dead?kind=rejected&code=812": "dead"}.get(path)
    if name and (scheme, width) == (("light", 1280) if name == "now" else ("dark", 1280)):
        page.screenshot(path=PICTURES / f"console-{name}.png")


def test_the_vendors_files_are_its_own() -> None:
    """Those of htmx and its extensions are the package's, byte by byte."""
    theirs = needs("htmx.org") / "dist"
    ours = resources.files("worker.web.console").joinpath("static")
    for name, place in {"htmx.min.js": "", "hx-sse.min.js": "ext", "hx-csp.min.js": "ext"}.items():
        assert ours.joinpath(name).read_bytes() == (theirs / place / name).read_bytes(), name


def test_the_first_page_is_small(client: redis.Redis) -> None:
    """Under 100 KB, all that it loads included."""
    with console(client) as (here, http):
        page = http.get(f"/?token={here.sessions.token}")
        loads = re.findall(r'(?:src|href)="(static/[^"]+)"', page.text)
        assert len(page.content) + sum(len(http.get(f"/{it}").content) for it in loads) < 100_000
