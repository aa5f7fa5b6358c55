"""The console in a real browser: no violation that axe finds, and no error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from consoles import console
from neighbourhood import nginx
from playwright.sync_api import expect, sync_playwright
from support import BADGE, item, needs
from topology import free_port

from worker.domain.batch import Item
from worker.domain.org import Org
from worker.store.queue import Queue
from worker.web.console.service import Console

pytestmark = pytest.mark.neighbour("chromium", "axe-core", "nginx")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
)
ORG = Org(api_base_url="https://vendor.example")
HOSTILE = """<img src=x onerror=alert(1)>"'{{7*7}}=cmd|'/c calc'!A1 \u202eevil"""
PAGES = (
    "./",
    "runs?sort=-dead",
    "run?run=spring",
    f"run?run={quote(f'r{HOSTILE[:40]}')}",
    "import",
    "staged?id={staged}",
    "dead?kind=rejected&code=812",
    "dead?kind=invalid",
    "doubt",
    f"search?what={quote(HOSTILE)}",
    "search?what=500000100",
    "job?id={job}",
    "undo?run=spring",
    "audit",
    "settings",
)
RUN_AXE = "it => axe.run(it).then(found => found.violations.map(one => [one.id, one.nodes[0].html]))"
AXE: dict[tuple[str, int], dict[str, Any]] = {  # all of it once; then what can be otherwise
    ("light", 1280): {"rules": {"target-size": {"enabled": True}}},
    ("dark", 1280): {"runOnly": ["color-contrast"]},
    ("light", 390): {"runOnly": ["target-size", "color-contrast", "scrollable-region-focusable"]},
}
PLAN = "plan?do=discard&kind=rejected"


@pytest.fixture(scope="module")
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
    wrong = {"code": "customerId", "message": HOSTILE, "raw_row": HOSTILE}
    odd = {**item(0).fields, "badge": HOSTILE[:60], "code": HOSTILE[:50], "message": HOSTILE, "attempts": "1"}
    letters = [Item("<b>job", "1", odd, kind="rejected"), Item("b" * 20, "2", wrong, kind="invalid")]
    queue.enqueue(ORG, run=f"r{HOSTILE[:40]}", items=letters, call="hostile")


def stage(here: Console) -> str:
    """Upload a file whose columns nobody knows."""
    text = f"badge,{HOSTILE.replace(',', '')},Earned on\n{BADGE},500000001,31/12/2025\n".encode()
    made = here.staging.begin(f"{HOSTILE}.csv", len(text), "default")
    here.staging.append(made.id, 0, text)
    return made.id


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("scheme", "width"), list(AXE))
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
        page.on("dialog", lambda dialog: said.append(dialog.message))
        here.operator(HOSTILE).resume("default")
        staged = stage(here)
        page.goto(f"{http.base_url}/?token={here.sessions.token}")
        for path in (*PAGES, PLAN):
            page.goto(f"{http.base_url}/{path.replace('{staged}', staged).replace('{job}', item(100).id)}")
            page.wait_for_timeout(150)  # until the live part has come once
            page.evaluate(axe)
            found = page.evaluate(RUN_AXE, AXE[scheme, width])
            assert not found, (path, found)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        page.context.close()
    assert not said, said


def test_behind_a_proxy_under_a_sub_path(browser: Any, client: redis.Redis, tmp_path: Path) -> None:
    """With nginx's defaults: the link, every page of the navigation, forms, and what stays fresh."""
    port = free_port()
    home = f"http://127.0.0.1:{port}/ops/badges"
    with console(client, console_public_url=home, console_upload_dir=tmp_path / "up") as (here, http):
        place = f"location /ops/badges/ {{ proxy_pass {http.base_url}; proxy_set_header Host $http_host; }}"
        with nginx(tmp_path / "nginx", f"server {{ listen 127.0.0.1:{port}; {place} }}"):
            page = browser.new_page()
            page.goto(f"{home}/?token={here.sessions.token}")
            for name in ("Runs", "Import", "Dead letters", "Doubt", "Search", "Audit", "Settings", "Now"):
                page.get_by_role("link", name=name, exact=True).click()
                expect(page.locator("h1")).to_have_text(re.compile(f"^(In )?{name}$", re.IGNORECASE))
                assert page.url.startswith(home)
            page.fill("section.acts input[name=note]", "by proxy")
            page.get_by_role("button", name="Pause default").click()
            expect(page.locator(".words").first).to_contain_text("pause")
            here.operator().resume("default")
            here.forget_states()
            expect(page.locator(".lamp.paused")).to_have_count(0, timeout=15_000)
            page.get_by_role("button", name="Sign out").click()
            expect(page.locator("h1")).to_have_text("401")
            page.close()


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
