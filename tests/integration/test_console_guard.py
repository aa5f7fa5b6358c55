"""Who may come in to the console, and what a form must be: nothing is done for anybody else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
import redis
from consoles import Browser, browsing, console
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.store import audit
from worker.web.console.app import ACTS, PAGES
from worker.web.console.guard import FORM_BYTES
from worker.web.console.service import Console


@pytest.fixture
def stranger(client: redis.Redis) -> Iterator[tuple[Console, httpx.Client]]:
    """Somebody without a session."""
    with console(client) as made:
        yield made


@pytest.fixture
def operator(client: redis.Redis) -> Iterator[tuple[Console, Browser]]:
    """Somebody with one."""
    with browsing(client, api_base_url="https://vendor.example") as made:
        yield made


def test_nothing_is_shown_without_a_session(stranger: tuple[Console, httpx.Client]) -> None:
    """No page and no act, whatever it is called; only what tells nothing."""
    _, http = stranger
    for page in ("", *PAGES, "report.csv", "live?of=now", "nonesuch", "deep/er"):
        assert http.get(f"/{page}").status_code == 401, page
    for act in (*ACTS, "signout"):
        assert http.post(f"/{act}", headers={"origin": str(http.base_url)}).status_code == 401, act
    assert http.get("/healthz").text == "ok\n"
    assert http.head("/healthz").status_code == 200
    assert http.get("/static/app.css").headers["content-type"].startswith("text/css")
    assert http.get("/static/app.py").status_code in (401, 404)


def test_a_link_works_once(stranger: tuple[Console, httpx.Client]) -> None:
    """The next one is another; the session's cookie is for this site's own requests alone."""
    here, http = stranger
    link = f"/?token={here.sessions.token}"
    first = http.get(link, follow_redirects=False)
    assert first.status_code == 303
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert http.get("/").status_code == 200
    http.cookies.clear()
    assert http.get(link).status_code == 401
    assert http.get("/?token=%ff%fe").status_code == 401
    assert http.get(f"/?token={here.sessions.token}").status_code == 200, "the next link"


def test_a_session_ends(client: redis.Redis) -> None:
    """After its time without use, and when somebody signs out."""
    now = [0.0]
    with console(client, clock=lambda: now[0], lasts_s=100) as (here, http):
        http.get(f"/?token={here.sessions.token}")
        now[0] = 99
        page = http.get("/").text
        now[0] = 198
        assert http.get("/").status_code == 200, "it was used"
        csrf = re.findall(r'name="csrf" value="([^"]+)"', page)[0]
        http.post(
            "/signout", data={"csrf": csrf}, headers={"origin": str(http.base_url)}, follow_redirects=False
        )
        assert http.get("/").status_code == 401
        http.get(f"/?token={here.sessions.token}")
        now[0] = 400
        assert http.get("/").status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:1", "localhost.evil.example:8090", ""])
def test_another_host_is_refused(operator: tuple[Console, Browser], host: str) -> None:
    """A name that somebody else points at this machine is not the console's."""
    assert operator[1].http.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize(
    ("origin", "change", "status"),
    [
        ("https://evil.example", {}, 403),
        ("null", {}, 403),
        (None, {}, 403),
        ("", {"csrf": ""}, 403),
        ("", {"csrf": "é"}, 403),
        ("", {"note": "x" * FORM_BYTES}, 413),
    ],
)
def test_a_form_must_be_our_own(
    operator: tuple[Console, Browser], origin: str | None, change: dict[str, str], status: int
) -> None:
    """Of this origin, with this session's token, and no larger than a form is; else nothing is done."""
    here, browser = operator
    fields = browser.form(browser.open("/"), "pause") | change
    assert browser.send("/pause", fields, origin=origin).status_code == status
    assert here.states()[0].gate.state == "open"
    assert not list(audit.entries(here.queue.client, "default"))


def test_a_form_of_our_own_acts_and_is_in_the_trail_by_its_user(operator: tuple[Console, Browser]) -> None:
    """Pause and resume, by the console's user; each says so."""
    here, browser = operator
    page = browser.open("/")
    browser.press(page, "pause", note="to look <b>closer</b>")
    assert here.states()[0].gate.state == "paused"
    browser.send("pause", browser.form(page, "pause") | {"note": "the second click"})
    (entry,) = audit.entries(here.queue.client, "default")
    assert entry.by.startswith("console, ")
    assert "to look &lt;b&gt;closer&lt;/b&gt;" in browser.open("/audit")


def test_a_page_of_another_origin_reads_nothing(operator: tuple[Console, Browser]) -> None:
    """Not with this session either, from another port, whose cookies are the same; a link is followed."""
    _, browser = operator
    for by in ("cross-site", "same-site"):
        fetched = {"sec-fetch-site": by, "sec-fetch-mode": "no-cors"}
        for path in ("/", "/runs", "/report.csv?kind=rejected", "/live?of=now"):
            assert browser.http.get(path, headers=fetched).status_code == 403, path
        assert browser.http.get("/runs", headers=fetched | {"sec-fetch-mode": "navigate"}).status_code == 200
    assert browser.http.get("/", headers={"sec-fetch-site": "same-origin"}).status_code == 200
    page = browser.open("/settings")
    assert browser.http.get("/doctor").status_code == 405, "what costs calls is asked for by a form"
    assert browser.send("doctor", browser.form(page, "doctor")).status_code == 303


def test_two_consoles_of_a_machine_have_sessions_of_their_own(client: redis.Redis) -> None:
    """A browser sends the cookies of a host to each of its ports."""
    with console(client) as (one, http), console(client) as (other, _):
        http.get(f"/?token={one.sessions.token}")
        http.get(f"http://127.0.0.1:{other.port}/?token={other.sessions.token}")
        assert http.get("/").status_code == 200
        assert http.get(f"http://127.0.0.1:{other.port}/").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/audit?after=xyz",
        "/audit?after=9999-99-99%20x",
        "/audit?sort=__class__",
        "/dead?kind=rejected&after=default%20x%20y%20z",
        "/dead?kind=rejected&after=x",
        "/plan?do=replay&kind=rejected&since_ms=1000000000000000000",
        "/dead?customer=99999999999999999999999",
        "/run?run=nonesuch&after=-1",
        "/runs?org=%00",
        "/search?what=x&sort=job",
        "/undo",
    ],
)
def test_what_no_page_links_to_is_refused_in_words(operator: tuple[Console, Browser], path: str) -> None:
    """Keys of another listing, numbers that are none: no failure of the console."""
    assert operator[1].http.get(path).status_code in (400, 404)


def test_every_answer_keeps_others_out(operator: tuple[Console, Browser]) -> None:
    """Nothing inline, nothing from elsewhere, no frame, no guessing of types, nothing kept."""
    _, browser = operator
    for path in ("/", "/dead", "/nonesuch", "/static/app.js", "/healthz"):
        headers = browser.http.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
    assert browser.http.get("/").headers["cache-control"] == "no-store"
    page = browser.open("/")
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|<style", page)
    assert not re.search(r"(?:src|href|action)=.https?:", page)


def test_links_work_under_a_sub_path(client: redis.Redis) -> None:
    """Behind a proxy, whether or not it takes the path away; and its origin is ours."""
    with console(client, console_public_url="https://ops.example/badges") as (here, http):
        outside = {"host": "ops.example", "origin": "https://ops.example"}
        link = f"/badges/?token={here.sessions.token}"
        answer = http.get(link, headers=outside, follow_redirects=False)
        assert answer.status_code == 303
        assert "secure" in answer.headers["set-cookie"].lower()
        assert "path=/badges/;" in answer.headers["set-cookie"].lower(), "others there don't get it"
        assert not re.search(r'(?:href|src|action)="/', answer.text)
        given = outside | {"cookie": answer.headers["set-cookie"].partition(";")[0]}
        page = http.get("/badges/", headers=given).text
        assert not re.search(r'(?:href|src|action)="/', page)
        assert http.get("/badges/static/app.css", headers=given).status_code == 200
        csrf = re.findall(r'name="csrf" value="([^"]+)"', page)[0]
        form = {"csrf": csrf, "org": "default", "act": "abcd2345"}
        done = http.post("/badges/pause", data=form, headers=given, follow_redirects=False)
        assert done.status_code == 303
        elsewhere = given | {"origin": "https://other.example"}
        assert http.post("/badges/pause", data=form, headers=elsewhere).status_code == 403


def test_health_says_when_redis_is_away() -> None:
    """And a page says so in words, with nothing done."""
    away = redis.Redis(port=1, decode_responses=True, retry=Retry(NoBackoff(), 0))
    with console(away) as (here, http):
        assert http.get("/healthz").status_code == 503
        http.get(f"/?token={here.sessions.token}")
        page = http.get("/runs")
        assert page.status_code == 503
        assert "Redis can" in page.text
