"""A person at the console, in a real browser, with a real worker and vendor: nothing needs a terminal."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any, Literal

import httpx
import pytest
import redis
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright
from support import BADGE, OTHER_BADGE, environment, in_process, needs, process, wait_for, worker_command

from worker.cli.demo_life import SHOPS, shops
from worker.config import Settings
from worker.operate.progress import RunProgress
from worker.operate.runs import JobReader
from worker.sandbox.issued import Fault, SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection

pytestmark = pytest.mark.neighbour("chromium")
PICTURES = Path(__file__).parents[2] / "deploy"
HEAD = "badgeMetaId,customerId,earnEventDate,earnExpiresOn\n"
DATES = "1674292011,1905828011"
CONSOLE = (sys.executable, "-m", "worker.cli", "console", "--port")


@dataclass
class Place:
    """A vendor, a server, a worker, and the console's environment."""

    vendor: SandboxServer
    client: redis.Redis
    browser: Browser
    env: dict[str, str]
    folder: Path

    @contextmanager
    def console(self) -> Iterator[tuple[Popen[bytes], str]]:
        """Run the console; yields its process and the link that opens it."""
        log = self.folder / "console.log"
        with process([*CONSOLE, "0"], env=self.env, log=log) as running:
            found = re.compile(r"^http://127\.0\.0\.1:\d+/\?token=\S+$", re.MULTILINE)
            begin = len(log.read_text())
            yield running, wait_for(lambda: found.search(log.read_text()[begin:]), what="the link")[0]

    @contextmanager
    def frozen_redis(self) -> Iterator[None]:
        """Let the server answer nobody for a while."""
        server = int(self.client.info("server")["process_id"])
        os.kill(server, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(server, signal.SIGCONT)

    def bring(self, run: str, count: int, *, org: str, held: bool = False) -> None:
        """Hand rows in from elsewhere."""
        file = self.folder / f"{run}.csv"
        file.write_text(HEAD + rows(530000000 + 1000 * len(run), count))
        hold = ["--hold", "--note", "when marketing has looked at it"] if held else []
        done = in_process("import", file, "--run", run, "--org", org, *hold, env=self.env)
        assert done.status == 0, done.err

    def run(self, name: str) -> RunProgress:
        """Return how a run is."""
        return JobReader(client=self.client, orgs={}).run_meant(name)

    def issued(self) -> set[int]:
        """Return which customers' badges are active at the vendor."""
        return {issue.customer_id for issue in self.vendor.vendor.ledger().active}


@dataclass
class Person:
    """Somebody with a browser."""

    page: Page
    home: str

    def go(self, path: str) -> Page:
        """Open a page."""
        self.page.goto(self.home + path)
        return self.page

    def picture(self, name: str, *, scheme: Literal["light", "dark"] = "light") -> None:
        """Take a picture that the README shows, if they are to be taken."""
        if os.environ.get("BADGES_PICTURES"):
            self.page.set_viewport_size({"width": 1280, "height": 860})
            self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            self.page.screenshot(path=PICTURES / f"console-{name}.png")
            self.page.emulate_media(color_scheme="light")

    def hears(self, text: str | re.Pattern[str], *, within_s: float = 60) -> None:
        """Wait until the page says something, without being loaded again."""
        expect(self.page.locator("main")).to_contain_text(text, timeout=within_s * 1000)

    def uploads(self, file: Path) -> None:
        """Choose a file on the import page, and wait for its own page."""
        self.go("import").set_input_files("input[name=file]", file)
        self.page.get_by_role("button", name="Upload").click()
        self.page.wait_for_url(re.compile("staged"))

    def begins(self, run: str) -> None:
        """Type the number of rows of a checked file, and have it imported."""
        typed = self.page.locator("input[name=typed][data-want]")
        expect(typed).to_be_visible(timeout=15_000)
        self.page.fill("input[name=run]", run)
        assert self.page.locator("button[data-armed]").is_disabled(), "nothing was typed yet"
        typed.fill(str(typed.get_attribute("data-want")))
        self.page.click("button[data-armed]")
        self.hears("All of it is in")


@pytest.fixture(scope="module")
def place(connection: Connection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """All of it, for the whole file."""
    folder = tmp_path_factory.mktemp("story")
    sandbox = SandboxSettings(unknown_badges=frozenset({OTHER_BADGE}))
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    with ExitStack() as stack:
        vendor = stack.enter_context(SandboxServer(settings=sandbox))
        client = stack.enter_context(connection.client())
        client.flushall()
        (orgs := folder / "orgs.toml").write_text(shops({"api_base_url": vendor.url}))
        env = environment(
            redis_url=connection.url,
            orgs_file=orgs,
            data_dir=folder / "data",
            api_base_url=vendor.url,
            rate_limit="1000/second",
            batch_linger_s=0.1,
        )
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=str(needs("chromium")), args=flags)
        stack.callback(browser.close)
        stack.enter_context(process(worker_command(), env=env, log=folder / "worker.log"))
        yield Place(vendor, client, browser, env, folder)


@pytest.fixture(scope="module")
def opened(place: Place) -> Iterator[BrowserContext]:
    """A console, and a browser with a session at it."""
    with place.console() as (_, link):
        context = place.browser.new_context(
            base_url=link.partition("?")[0], locale="en-GB", viewport={"width": 1280, "height": 720}
        )
        page = context.new_page()
        page.goto(link)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield context
        context.close()


@pytest.fixture
def person(opened: BrowserContext) -> Iterator[Person]:
    """Somebody at the console; whatever a page complains of fails the test."""
    said: list[str] = []
    page = opened.new_page()
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto("./")
    yield Person(page, page.url)
    page.close()
    assert not [one for one in said if "400" not in one and "ERR_" not in one], said


def rows(first: int, count: int, *, badge: str = BADGE) -> str:
    """Return good rows."""
    return "".join(f"{badge},{first + n},{DATES}\n" for n in range(count))


def test_a_file_with_bad_rows_is_imported_mended_and_finished(
    place: Place, person: Person, tmp_path: Path
) -> None:
    """Upload, check, start, watch; rows mended in their report, a badge in a form; all are issued at last."""
    file = tmp_path / "members.csv"
    bad = f"{BADGE},C-9,{DATES}\n{BADGE},500000601,not a date,\n"
    file.write_text(HEAD + rows(500000000, 30) + bad + rows(500000500, 12, badge=OTHER_BADGE))
    person.uploads(file)
    person.hears("42 good")
    person.hears("2 invalid")
    person.picture("import")
    person.begins("members")
    person.page.get_by_role("link", name="Watch the run").click()
    person.hears("14 need a person")
    person.page.get_by_role("link", name="Mend its dead letters").click()

    person.page.get_by_role("link", name=re.compile("rejected by the vendor")).click()
    person.hears("BADGE_NOT_FOUND")
    person.picture("dead", scheme="dark")
    person.page.fill("input[name=set_value]", BADGE)
    person.page.get_by_role("button", name="Plan this").click()
    person.hears("12 dead letters, each as a new job")
    person.page.get_by_role("button", name="Try 10 first").dblclick()
    person.hears("10 replayed")
    person.page.get_by_role("link", name="Watch the new jobs").click()
    person.hears("10 issued")
    person.page.go_back()
    person.page.get_by_role("link", name="Plan the rest").click()
    person.hears("2 dead letters")
    person.page.get_by_role("button", name="Replay all 2").click()
    person.hears("2 replayed")

    person.go("dead?run=members&kind=invalid")
    with person.page.expect_download() as coming:
        person.page.get_by_role("link", name="Download the report").click()
    report = list(csv.DictReader(io.StringIO(coming.value.path().read_text("utf-8-sig"))))
    assert len(report) == 2
    mended = tmp_path / "mended.csv"
    with mended.open("w", newline="") as out:
        writer = csv.DictWriter(out, report[0])
        writer.writeheader()
        for n, row in enumerate(report):
            right = {"customerId": str(500000600 + n), "earnEventDate": "1674292011", "earnExpiresOn": ""}
            writer.writerow(row | right | {"badgeMetaId": BADGE})
    person.uploads(mended)
    person.begins("mended")
    person.go("run?run=members")
    person.hears("of the dead, 14 were dealt with")
    wanted = {*range(500000000, 500000030), *range(500000500, 500000512), 500000600, 500000601}
    assert wait_for(lambda: place.issued() >= wanted, what="all of them issued")
    assert not place.vendor.vendor.ledger().issued_more_than_once
    person.go("audit")
    person.hears("console,")
    assert person.page.locator("tbody tr").count() >= 4, "every act is there"


def test_a_run_is_taken_back_and_a_job_found(place: Place, person: Person, tmp_path: Path) -> None:
    """From the run's page to an undo that ends; the customer is found with what became of the badge."""
    file = tmp_path / "wrong.csv"
    file.write_text(HEAD + rows(500001000, 3))
    person.uploads(file)
    person.begins("wrong")
    person.go("run?run=wrong")
    person.hears("3 issued")
    person.hears("ended")
    person.page.reload()
    person.page.get_by_role("link", name="Take back what it issued").click()
    person.hears("3 badges would be taken back")
    person.page.fill("input[name=note]", "wrong campaign")
    person.page.fill("input[name=typed]", "3")
    person.page.get_by_role("button", name="Take back 3 badges").dblclick()
    person.hears("3 on their way")
    person.page.get_by_role("link", name="Watch the undo").click()
    person.hears("3 undone")
    assert not place.issued() & {500001000, 500001001, 500001002}
    person.page.keyboard.press("/")
    person.page.keyboard.type("500001001\n")
    person.hears("Search: 500001001")
    person.page.locator("a.job").first.click()
    person.hears("undone")
    job = person.page.locator("h1 button.id")
    job.click()
    assert person.page.evaluate("navigator.clipboard.readText()") == job.get_attribute("data-copy")


def test_the_vendor_goes_down_and_comes_back_while_one_looks(
    place: Place, person: Person, tmp_path: Path
) -> None:
    """A banner says so within moments, on a page that nobody loads again, and goes away by itself."""
    file = tmp_path / "later.csv"
    file.write_text(HEAD + rows(500002000, 3))
    person.uploads(file)
    down = Fault(fault="status", status=503, body='{"errors": [{"code": 4001, "message": "down"}]}')
    place.vendor.vendor.add_fault(down)
    person.begins("later")
    person.go("./")
    person.hears("stands still")
    place.bring("shops-north", 900, org=SHOPS)
    place.bring("autumn-campaign", 320, org=SHOPS, held=True)
    person.hears("on hold")
    person.picture("now")
    person.go("runs")
    person.hears("stands still")
    place.vendor.vendor.clear_faults()
    expect(person.page.locator("p.banner", has_text="stands still")).to_have_count(0, timeout=40_000)
    assert wait_for(lambda: place.run("later").issued == 3)


def test_two_people_at_once(opened: BrowserContext, person: Person, tmp_path: Path) -> None:
    """The second is told that it changed since they looked; nothing is done twice."""
    file = tmp_path / "two.csv"
    file.write_text(HEAD + rows(500003000, 5, badge=OTHER_BADGE))
    person.uploads(file)
    person.begins("two")
    person.go("run?run=two")
    person.hears("5 need a person")
    other = Person(opened.new_page(), person.home)
    plan = "plan?do=discard&run=two&kind=rejected"
    for one in (person, other):
        one.go(plan)
        one.page.fill("input[name=note]", "not ours")
        one.page.fill("input[name=typed]", "5")
    person.page.get_by_role("button", name="Discard 5 dead letters").dblclick()
    person.hears("5 discarded")
    person.page.reload()
    person.hears("5 discarded")
    other.page.get_by_role("button", name="Discard 5 dead letters").click()
    other.hears("changed since you looked")
    other.page.close()


def _walk(page: Page) -> list[str]:
    """Press Tab until the focus comes round, and return what had it."""
    seen: list[str] = []
    what = """() => {
        const it = document.activeElement;
        if (it === document.body) return "";
        const style = getComputedStyle(it), box = it.getBoundingClientRect();
        const shown = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
        const what = `${it.tagName} ${it.textContent || it.name} ${it.href || ""}`;
        return `${shown && box.width ? "" : "UNSEEN "}${what}`;
    }"""
    for _ in range(400):
        page.keyboard.press("Tab")
        now = page.evaluate(what)
        if not now:
            return seen
        seen.append(now)
    raise AssertionError("the focus doesn't come round")


PAGES = ("./", "runs", "run?run=wrong", "import", "dead", "doubt", "search?what=500000001", "settings")


def test_all_can_be_done_by_keyboard_and_read_on_paper_and_without_javascript(
    place: Place, opened: BrowserContext, person: Person
) -> None:
    """Every control is reached by Tab and seen to be; print leaves out what can't be pressed there."""
    for path in PAGES:
        page = person.go(path)
        page.wait_for_timeout(200)
        controls = page.locator(
            "a[href]:visible, button:visible:enabled, input:visible, select:visible, summary"
        )
        seen = _walk(page)
        assert not [one for one in seen if one.startswith("UNSEEN")], path
        assert len(seen) >= controls.count(), path
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main", "the first stop skips to the content"
    person.go("run?run=members").emulate_media(media="print")
    assert not person.page.locator(".rail, form:visible").first.is_visible()
    assert person.page.locator("h1").is_visible()
    assert len(person.page.pdf()) > 10_000
    person.page.emulate_media(media="screen")
    cookies: Any = opened.cookies()
    plain = place.browser.new_context(java_script_enabled=False)
    plain.add_cookies(cookies)
    bare = plain.new_page()
    for path, says in (
        ("./", "queued"),
        ("runs", "members"),
        ("run?run=members", "issued"),
        ("dead", "nothing needs a person"),
    ):
        bare.goto(person.home + path)
        assert says in bare.inner_text("main"), path
        assert " UTC" in bare.inner_text("main") or path in ("./", "dead"), path
    bare.goto(person.home + "import")
    assert "badges import FILE --follow" in bare.inner_text("body")
    plain.close()


@pytest.mark.parametrize("late", ["htmx", "hx-csp", "hx-sse", "app"])
def test_a_page_is_live_however_late_a_script_comes(
    opened: BrowserContext, person: Person, late: str
) -> None:
    """Over a slow line one comes long after the others."""
    page = opened.new_page()

    def slowly(route: Route) -> None:
        time.sleep(0.5)  # slow is what the line is
        route.continue_()

    page.route(f"**/static/{late}.*js*", slowly)
    with page.expect_request("**/live?of=*", timeout=20_000):
        page.goto(person.home)
    page.close()


def test_a_page_whose_first_connection_fails_goes_on_by_itself(
    opened: BrowserContext, person: Person
) -> None:
    """As it says that it does."""
    page, asked = opened.new_page(), []

    def fails_twice(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) < 3:
            route.fulfill(status=503, body="away") if len(asked) == 1 else route.abort()
        else:
            route.continue_()

    page.route("**/live?of=*", fails_twice)
    page.goto(person.home)
    expect(page.locator("#stale")).to_contain_text("What you see is of", timeout=30_000)
    expect(page.locator("#stale")).to_be_hidden(timeout=60_000)
    assert len(asked) >= 3
    page.close()


def test_an_upload_is_stopped_and_goes_on_where_it_was(person: Person, tmp_path: Path) -> None:
    """Chosen again, only what isn't there yet is sent."""
    file = tmp_path / "large.csv"
    file.write_text("a,b\n" + "1,2\n" * 4_500_000)  # nothing that takes long to be checked
    size = file.stat().st_size
    offsets: list[int] = []

    def note(route: Any) -> None:
        offsets.append(int(re.findall(r"offset=(\d+)", route.request.url)[0]))
        if len(offsets) == 2:
            person.page.evaluate("document.querySelector('#stop').click()")
        route.continue_()

    person.page.route("**/piece?id=*&offset=*", note)
    person.go("import").set_input_files("input[name=file]", file)
    person.page.get_by_role("button", name="Upload").click()
    expect(person.page.locator("#upload-said")).to_contain_text("Stopped", timeout=20_000)
    person.page.get_by_role("button", name="Upload").click()
    person.page.wait_for_url(re.compile("staged"))
    assert len(offsets) == len(set(offsets)) == -(-size // (8 << 20)), "each piece was sent once"
    person.page.get_by_role("button", name="Take the file away").click()
    person.page.wait_for_url(re.compile("import"))


def test_what_was_said_outlives_a_page_that_loads_itself_again(person: Person, tmp_path: Path) -> None:
    """While a file is checked its page does so: a run that was to be held would be sent."""
    file = tmp_path / "checked.csv"
    file.write_text(HEAD + rows(700_000_000, 150_000))
    person.uploads(file)
    page = person.page
    page.fill("input[name=run]", "july")
    page.check("input[name=hold]")
    with page.expect_event("load", timeout=30_000):
        page.locator("h1").click()  # out of the form: the page stays while somebody is in a field
    expect(page.locator("input[name=run]")).to_have_value("july")
    expect(page.locator("input[name=hold]")).to_be_checked()
    expect(page.locator("input[name=typed][data-want]")).to_be_visible(timeout=60_000)
    expect(page.locator("input[name=run]")).to_have_value("july")
    page.get_by_role("button", name="Take the file away").click()
    page.wait_for_url(re.compile("import"))


def test_a_worker_finishes_what_a_console_began_that_was_killed(place: Place, tmp_path: Path) -> None:
    """While it is away, or Redis, a page says since when; when that comes back it goes on by itself."""
    file = tmp_path / "many.csv"
    file.write_text(HEAD + rows(520000000, 5_000))
    with place.console() as (running, link):
        context = place.browser.new_context(base_url=link.partition("?")[0])
        page = context.new_page()
        page.goto(link)
        person = Person(page, page.url)
        with place.frozen_redis():
            expect(page.locator("#stale")).to_contain_text("What you see is of", timeout=30_000)
            other = context.new_page()
            other.goto("./runs")
            expect(other.locator("h1")).to_have_text("Redis is away", timeout=20_000)
        expect(page.locator("#stale")).to_be_hidden(timeout=30_000)
        expect(other.locator("h1")).to_have_text("Runs", timeout=30_000)
        person.uploads(file)
        typed = page.locator("input[name=typed][data-want]")
        expect(typed).to_be_visible(timeout=20_000)
        page.fill("input[name=run]", "many")
        typed.fill("5,000")
        page.click("button[data-armed]")
        page.wait_for_url(re.compile("staged"))
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        expect(page.locator("#stale")).to_contain_text("What you see is of", timeout=20_000)
        context.close()
    done: Callable[[], bool] = lambda: place.run("many").total == 5_000  # noqa: E731
    assert wait_for(done, within_s=60, what="the import")
    assert place.run("many").duplicates == 0
    settings = Settings(data_dir=Path(place.env["BADGES_DATA_DIR"]))
    wait_for(lambda: not list(settings.uploads.glob("*.upload")), what="the file taken away")
    with pytest.raises(httpx.TransportError):
        httpx.get(link)
