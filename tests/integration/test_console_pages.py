"""What the pages show and do: thin over what the commands do, safe with whatever people and vendors write."""

from __future__ import annotations

import csv
import io
import os
import re
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import pytest
import redis
from consoles import Browser, browsing, words
from hands import bury, issue_next
from support import BADGE, FIRST_CUSTOMER, LONG, OTHER_BADGE, Probe, item, wait_for

from worker.domain.batch import Item
from worker.domain.org import Org
from worker.errors import StoreError
from worker.operate import deadlist
from worker.operate.runs import JobReader
from worker.store import audit, keys
from worker.store.queue import Queue, new_id
from worker.web.console import acts
from worker.web.console.service import Console
from worker.web.console.views import NAVIGATION

ORG = Org(api_base_url="https://vendor.example")
LETTERS = int(
    os.environ.get("BADGES_CONSOLE_LETTERS", "100_000")
)  # a million by hand: see the contributing page
HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>\u202eevil =cmd|'/c calc'!A1 {{7*7}}"""
NO_TIME = f"at 99:99:99 UTC, or 2026-99-99T00:00Z {HOSTILE}"


@pytest.fixture
def at_console(client: redis.Redis) -> Iterator[tuple[Console, Browser]]:
    """Somebody with a session."""
    with browsing(client, api_base_url=ORG.api_base_url) as made:
        yield made


def test_every_page_has_its_title_command_and_empty_state(at_console: tuple[Console, Browser]) -> None:
    """With nothing there, each says what to do next; and each says the command that does the same."""
    _, browser = at_console
    for name, _, _ in NAVIGATION:
        page = browser.open(f"/{name}")
        assert re.search(r"<title>.+ · badges</title>", page), name
        assert 'data-copy="badges ' in page, name
    for name in ("runs", "import", "dead", "doubt", "audit"):
        assert re.search(
            r'class="empty">.*<a href|class="empty">.*(?:stands here|Choose one)', browser.open(f"/{name}")
        ), name


def test_the_first_page_says_in_what_workers_differ(at_console: tuple[Console, Browser]) -> None:
    """In the words of status and doctor; nothing where they agree."""
    console, browser = at_console
    workers = console.queue.workers
    workers.say("one", {ORG.name: ORG})
    assert "workers differ" not in browser.open("/")
    workers.say("two", {ORG.name: ORG.model_copy(update={"rate_limit": "7/minute"})})
    ((_, (told,)),) = workers.differences_by_org().items()
    assert f"workers differ in {told} ; the strictest limit holds" in words(browser.open("/"))
    assert "7/minute at two" in told


def test_a_setting_has_the_name_that_it_is_set_by(client: redis.Redis, tmp_path: Path) -> None:
    """A variable for the process and the org of the environment, a key of its table for any other org."""
    (tmp_path / "orgs.toml").write_text('[eu]\nrate_limit = "7/minute"\n[eu.codes]\n9001 = "busy"\n')
    with browsing(client, orgs_file=tmp_path / "orgs.toml", statuses={503: "throttled"}) as (_, browser):
        page = browser.open("/settings")
    default, _, eu = page.partition("Org eu")
    assert re.search(r"BADGES_STATUS_&lt;status&gt;</code></td><td[^>]*><strong><bdi>503=throttled<", default)
    assert "<code>BADGES_RATE_LIMIT</code>" in default
    its, _, process = eu.partition("This process")
    assert re.search(r"<code>rate_limit</code></td><td[^>]*><strong><bdi>7/minute<", its)
    assert re.search(r"<code>codes</code></td><td[^>]*><strong><bdi>9001=busy<", its)
    assert "BADGES_DATA_DIR" in process


def test_foreign_text_is_only_ever_text(at_console: tuple[Console, Browser], queue: Queue) -> None:
    """Scripts, formulas, templates and right-to-left marks in every field a person or a vendor can fill."""
    here, browser = at_console
    run = "r<script>&'\"=1"
    fields = item(0).fields | {
        "badge": "<b>badge</b>",
        "code": HOSTILE[:60],
        "message": HOSTILE,
        "others": f'{{"<i>col": "{quote(HOSTILE)}"}}',
    }
    raw = {"code": "customerId", "message": HOSTILE, "raw_row": HOSTILE}
    letters = [Item("<img/src=x>", "1", fields, kind="rejected"), Item("b" * 20, "2", raw, kind="invalid")]
    queue.enqueue(ORG, run=run, items=letters, call="hostile")
    here.operator(NO_TIME).pause("default")
    where = quote(run)
    for path in (
        "/",
        "/runs",
        f"/run?run={where}",
        "/dead",
        f"/dead?run={where}&kind=rejected",
        "/dead?kind=invalid",
        "/audit",
        f"/dead?kind=rejected&code={quote(HOSTILE[:60])}&badge={quote(HOSTILE)}",
        f"/search?what={quote(HOSTILE)}",
        f"/job?id={quote('<img/src=x>')}",
        f"/job?id={'b' * 20}",
        f"/plan?do=discard&run={where}",
        f"/dead?job={quote('<img/src=x>')}",
    ):
        page = browser.open(path)
        assert not re.search(r"<script>|<img|<b>badge|<i>col|javascript:", page), path
        assert "49" not in re.findall(r"evil =cmd.{0,40}", words(page)), path
    for path in (
        "/job?id=%3Cx%3E",
        "/run?run=%3Cscript%3E",
        "/dead?kind=%3Cscript%3E",
        "/plan?do=%3Cscript%3E&kind=rejected",
    ):
        answer = browser.http.get(path)
        assert answer.status_code in (400, 404), path
        assert "<script>" not in answer.text, path


def test_a_report_is_safe_for_a_spreadsheet_and_read_back(
    at_console: tuple[Console, Browser], queue: Queue
) -> None:
    """Formulas begin with an apostrophe; it is the report that the command writes."""
    _, browser = at_console
    fields = item(0).fields | {"code": "=1+1", "message": "@SUM(A1)"}
    queue.enqueue(ORG, run="=run", items=[Item("a" * 20, "1", fields, kind="rejected")], call="formula")
    answer = browser.http.get("/report.csv?run=%3Drun&state=dead")
    assert answer.headers["content-disposition"] == 'attachment; filename="run-report.csv"'
    (row,) = csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig")))
    assert (row["run"], row["error_code"], row["error_message"]) == ("'=run", "'=1+1", "'@SUM(A1)")
    answer = browser.http.get("/report.csv?state=issued")
    assert (answer.status_code, "say of which run" in answer.text) == (400, True)


def test_a_group_is_mended_planned_tried_and_replayed_once(
    at_console: tuple[Console, Browser], queue: Queue
) -> None:
    """The plan says how many and which are duplicates; ten first, then all; pressed twice, it acts once."""
    here, browser = at_console
    bury(queue, ORG, range(30))
    queue.enqueue(ORG, run="before", items=[item(0, badge_id=OTHER_BADGE)], call="before")
    plan = f"/plan?do=replay&kind=rejected&code=812&set_field=badgeMetaId&set_value={OTHER_BADGE}"
    said = wait_for(lambda: (text := words(browser.open(plan))) and "Duplicates" in text and text)
    assert "Sent 29" in said
    assert "Duplicates 1" in said
    form = browser.form(browser.open(plan), "replay")
    first, second = (browser.send("replay", form | {"limit": "10", "note": "as told"}) for _ in range(2))
    assert first.headers["location"] == second.headers["location"]
    follow = first.headers["location"]
    page = wait_for(lambda: (text := browser.open(follow)) and ("<strong>Done" in text and text))
    assert "10 replayed" in words(page)
    reports = JobReader(client=queue.client, orgs={"default": ORG})
    assert reports.run(form["act"]).queued == 10
    (entry,) = audit.entries(queue.client, "default")
    assert (entry.count, entry.note, entry.by[:8]) == (10, "as told", "console,")
    assert browser.send("replay", form).status_code == 303, "of an act that was begun, whatever else it says"
    assert len(list(audit.entries(queue.client, "default"))) == 1
    rest = browser.press(browser.open(plan), "replay")
    assert browser.send("replay", form).headers["location"].startswith("act?"), "it has acted"
    wait_for(lambda: Probe(queue.client).listed("rejected") == [item(0).id])
    assert "badges dead replay" in browser.open(plan)
    assert "Replay" in words(rest)
    here.forget_states()


def test_what_changed_since_one_looked_is_not_acted_on(
    at_console: tuple[Console, Browser], queue: Queue
) -> None:
    """Two people at once: the second hears that it isn't as it was."""
    _, browser = at_console
    ids = bury(queue, ORG, range(5))
    form = browser.form(browser.open("/plan?do=replay&kind=rejected"), "replay")
    queue.discard("default", ids[:2], keep_ms=1000, call="other", action="discard-aaaaaaaa")
    answer = browser.send("replay", form)
    assert answer.status_code == 400
    assert "changed since you looked" in answer.text
    assert len(Probe(queue.client).listed("rejected")) == 3


def test_discarding_needs_its_number_and_a_reason(at_console: tuple[Console, Browser], queue: Queue) -> None:
    """Nothing is discarded by a slip."""
    _, browser = at_console
    bury(queue, ORG, range(3))
    page = browser.open("/plan?do=discard&kind=rejected")
    form = browser.form(page, "discard")
    for wrong in ({"typed": "2", "note": "x"}, {"typed": "", "note": "x"}, {"typed": "3", "note": ""}):
        assert browser.send("discard", form | wrong).status_code == 400, wrong
    assert len(Probe(queue.client).listed("rejected")) == 3
    browser.press(page, "discard", typed="3", note="old")
    wait_for(lambda: not Probe(queue.client).listed("rejected"))
    assert browser.open("/plan?do=discard&org=default", expect=400)


def test_a_run_is_cancelled_and_a_replay_taken_back(
    at_console: tuple[Console, Browser], queue: Queue
) -> None:
    """Both make dead letters of what waits, which are replayed again."""
    _, browser = at_console
    queue.enqueue(ORG, run="spring", items=[item(n) for n in range(4)], call="spring")
    browser.press(browser.open("/run?run=spring"), "cancel", note="too early")
    wait_for(lambda: len(Probe(queue.client).listed("cancelled")) == 4)
    act = browser.press(browser.open("/plan?do=replay&kind=cancelled"), "replay")
    wait_for(lambda: not Probe(queue.client).listed("cancelled"))
    page = wait_for(
        lambda: (
            (text := browser.open("/act?id=" + browser.form(act, "takeback")["replay"]))
            and "queued" in text
            and text
        )
    )
    browser.press(page, "takeback")
    wait_for(lambda: len(Probe(queue.client).listed("cancelled")) == 4)


def test_doubt_is_resolved_by_batch(at_console: tuple[Console, Browser], queue: Queue) -> None:
    """What the vendor's support found is written down; sending all the same needs the number."""
    here, browser = at_console
    bury(queue, ORG, range(3), kind="in_doubt", code="500")
    page = browser.open("/doubt")
    assert "badges dead check" in page
    form = browser.form(page, "resolve") | {"found": "issued", "note": "support said so"}
    assert browser.send("resolve", form | {"typed": "2"}).status_code == 400
    assert browser.send("resolve", form | {"typed": "3", "found": "maybe"}).status_code == 400
    assert browser.send("resolve", form | {"typed": "3"}).status_code == 303
    wait_for(lambda: not Probe(queue.client).listed("in_doubt"))
    assert {job["state"] for job in here.reports.results(run="spring")} == {"issued"}
    bury(queue, ORG, range(10, 12), kind="in_doubt", run="more", code="500")
    plan = browser.open("/plan?do=replay&kind=in_doubt")
    assert "may be issued twice" in plan
    assert browser.send("replay", browser.form(plan, "replay")).status_code == 400


def test_pages_go_on_behind_a_key(at_console: tuple[Console, Browser], queue: Queue) -> None:
    """Every dead letter, job, run and act stands on just one page, also if some vanish meanwhile."""
    _, browser = at_console
    ids = bury(queue, ORG, range(60))
    seen: list[str] = []
    path: str | None = "/dead?kind=rejected"
    while path:
        page = browser.open(path)
        seen += re.findall(r'href="job\?[^"]*id=([a-z2-7]{20})"', page)
        if len(seen) == 25:
            queue.discard("default", seen[:10], keep_ms=1000, call="gone", action="discard-aaaaaaaa")
        more = re.findall(r'rel="next" href="([^"]+)"', page)
        path = more[0].replace("&amp;", "&") if more else None
    assert sorted(seen) == sorted(ids)
    for n in range(55):
        queue.enqueue(ORG, run=f"run-{n:02}", items=[item(1000 + n)], call=f"run {n}")
    runs: list[str] = []
    path = "/runs"
    while path:
        page = browser.open(path)
        runs += re.findall(r'<td><a href="run\?org=default&amp;run=([^"]+)"', page)
        more = re.findall(r'rel="next" href="([^"]+)"', page)
        path = more[0].replace("&amp;", "&") if more else None
    assert sorted(runs) == sorted({f"run-{n:02}" for n in range(55)} | {"spring"})


def test_the_live_part_comes_at_once_and_again_when_it_changes(
    at_console: tuple[Console, Browser], queue: Queue
) -> None:
    """As server-sent events; each is the part of the page that changes."""
    _, browser = at_console
    with browser.http.stream("GET", "/live?of=runs") as stream:
        lines = stream.iter_lines()
        first = next(line for line in lines if line.startswith("data: "))
        assert first
        queue.enqueue(ORG, run="new-run", items=[item(1)], call="new")
        assert next(line for line in lines if "new-run" in line)
    assert browser.http.get("/live?of=nonesuch").status_code == 404


def test_dead_letters_are_counted_before_it_is_said_that_there_are_none(
    at_console: tuple[Console, Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while all is slow; and that they can't be counted is not that there are none."""
    _, browser = at_console
    counted = deadlist.groups

    def slow(*given: Any) -> list[deadlist.Group]:
        time.sleep(0.5)  # slow is what it is
        return counted(*given)

    monkeypatch.setattr(deadlist, "groups", slow)
    assert "No dead letters: nothing needs a person." in words(browser.open("/dead"))

    def failing(*_: Any) -> NoReturn:
        raise StoreError("Redis is full")

    monkeypatch.setattr(deadlist, "groups", failing)
    monkeypatch.setattr(acts, "FAILED_FOR_S", 0)
    assert "the letters can't be counted: Redis is full" in words(
        browser.open("/dead?org=default", expect=500)
    )
    monkeypatch.setattr(deadlist, "groups", counted)
    assert "No dead letter fits." in words(browser.open("/dead?org=default"))


def test_no_secret_is_shown(client: redis.Redis) -> None:
    """Neither a credential nor half of one."""
    secret = {"auth": "basic", "basic_username": "till.1", "basic_password": "hunter2secret"}
    with browsing(client, api_base_url=ORG.api_base_url, **secret) as (_, browser):
        page = browser.open("/settings")
        assert "BADGES_BASIC_PASSWORD" in page
        assert "hunter2secret" not in page
        assert "till.1" not in page


@LONG
@pytest.mark.timeout(300 + LETTERS // 1_000)
def test_pages_are_quick_with_a_hundred_thousand_dead_letters(
    at_console: tuple[Console, Browser], queue: Queue
) -> None:
    """Under 300 ms of server time each: the console's and the server's processors, whoever else has them."""
    here, browser = at_console
    bury(queue, ORG, range(LETTERS))

    def spent_s() -> float:
        usage = queue.client.info("cpu")
        return time.process_time() + usage["used_cpu_user"] + usage["used_cpu_sys"]

    slow = {}
    for path in (
        "/",
        "/runs",
        "/run?run=spring",
        "/dead",
        "/dead?kind=rejected&code=812",
        f"/dead?kind=rejected&badge={BADGE}",
        "/dead?kind=rejected&code=812&order=-died",
        "/dead?run=spring",
        f"/dead?customer={FIRST_CUSTOMER + 1}",
        "/run?run=spring&sort=-row",
        "/run?run=spring&state=issued",
        "/runs?sort=-dead",
        "/doubt",
        "/audit",
        "/audit?sort=-by",
        "/doubt?order=-died",
        "/search?what=500000001",
        "/search?what=500000001&sort=-customer",
        "/plan?do=replay&kind=rejected",
        f"/plan?do=replay&kind=rejected&set_field=badgeMetaId&set_value={OTHER_BADGE}",
        "/plan?do=discard&kind=rejected",
        "/undo?run=spring",
    ):
        browser.open(path)
        wait_for(lambda: not here.looks.is_busy(""), within_s=60 + LETTERS / 5_000)
        took_s = []
        for _ in range(3):
            began = spent_s()
            browser.open(path)
            took_s.append(round(spent_s() - began, 3))
        slow |= {path: took_s} if min(took_s) > 0.3 else {}
    assert not slow


@pytest.mark.parametrize(
    "path", ["now", "runs", "run?run=spring", "import", "act?id={act}", "audit", "job?id={job}"]
)
def test_every_live_part_is_streamed(at_console: tuple[Console, Browser], queue: Queue, path: str) -> None:
    """It is the same as in the whole page, and nothing fails meanwhile."""
    here, browser = at_console
    ids = bury(queue, ORG, range(2))
    here.operator("because").begin("default", "pause-aaaaaaaa")
    name, _, query = path.format(act="pause-aaaaaaaa", job=ids[0]).partition("?")
    with browser.http.stream("GET", f"/live?of={name}&{query}") as stream:
        first = next(line for line in stream.iter_lines() if line)
    assert first.startswith("data: "), first


def test_a_page_that_fails_says_so(
    at_console: tuple[Console, Browser], queue: Queue, client: redis.Redis
) -> None:
    """Also where what fails is the banners, which every page has: in words, and not as a lost connection."""
    here, browser = at_console
    bury(queue, ORG, range(1))
    client.hset(keys.key("default", "gate"), "closed_until", "9" * 17)  # of which no time can be made
    browser.http.headers["connection"] = "close"  # the server closes one on which something failed
    for path in ("/", "/runs"):
        here.forget_states()
        assert "its log says more" in words(browser.open(path, expect=500))


def test_what_several_orgs_have_is_told_apart(client: redis.Redis, queue: Queue, tmp_path: Path) -> None:
    """A customer, a run's name and letters of two: each row and link says whose it is."""
    (tmp_path / "orgs.toml").write_text('[eu]\napi_base_url = "https://eu.example"\n')
    with browsing(client, api_base_url=ORG.api_base_url, orgs_file=tmp_path / "orgs.toml") as (_, browser):
        for name in ("default", "eu"):
            org = ORG.model_copy(update={"name": name})
            queue.enqueue(org, run="same", items=[item(1, org=name)], call=new_id())
            wait_for(lambda its=org: issue_next(queue, its))
            bury(queue, org, [2])
        found = browser.open(f"/search?what={FIRST_CUSTOMER + 1}")
        links = {unescape(link) for link in re.findall(r'href="(undo\?[^"]+)"', found)}
        assert {re.search(r"org=(\w+)", link)[1] for link in links} == {"default", "eu"}  # type: ignore[index]
        assert re.findall(r"<td><bdi>(\w+)</bdi></td>", found) == ["default", "eu"]
        assert "badges find --customer" in found
        assert browser.open("/search?what=same").count("Run <a href") == 2
        letters = browser.open("/dead?kind=rejected&code=812")
        assert re.findall(r"<td><bdi>(\w+)</bdi></td>", letters) == ["default", "eu"]
        plan = browser.open("/plan?do=replay&kind=rejected&set_field=badgeMetaId&set_value=a;b%20c")
        assert "of every org" in plan
        assert "--set &#39;badgeMetaId=a;b c&#39;" in plan
        assert "digits alone" in browser.open("/dead?customer=424.2", expect=400)
        assert "digits alone" in browser.open("/undo?customer=12.5", expect=400)


def test_a_cancel_says_what_is_in_doubt_and_leaves_what_has_ended(
    at_console: tuple[Console, Browser], queue: Queue
) -> None:
    """What an earlier call may have issued isn't cancelled; a run of which nothing waits isn't marked."""
    _, browser = at_console
    queue.enqueue(ORG, run="spring", items=[item(n) for n in range(3)], call=new_id())
    page = browser.open("/run?run=spring")
    form = browser.form(page, "cancel")
    waiting = str(queue.client.lindex(keys.key("default", "queue"), 0))
    Probe(queue.client).change(waiting, was_in_doubt=1)
    answer = browser.send("cancel", form)
    done = wait_for(lambda: "again" in (text := browser.open(f"/{answer.headers['location']}")) and text)
    assert "2 cancelled" in words(done)
    assert "1 in doubt again" in words(done)
    queue.enqueue(ORG, run="over", items=[item(9)], call=new_id())
    form = browser.form(browser.open("/run?run=over"), "cancel")
    wait_for(lambda: issue_next(queue, ORG))
    assert "has ended" in browser.send("cancel", form).text
    assert not queue.client.hexists(keys.key("default", "run", "over"), "cancelled")
