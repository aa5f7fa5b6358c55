"""What the console does about many at once: undo, doubt by the vendor's or its support's word, searches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event
from typing import Any

import pytest
import redis
from consoles import Browser, browsing, words
from hands import claimed
from support import BADGE, FIRST_CUSTOMER, OTHER_BADGE, Probe, configured, item, wait_for
from workbench import Workbench

from worker.domain.batch import Item
from worker.operate.runs import JobReader
from worker.sandbox.server import SandboxServer
from worker.store import audit, keys
from worker.store.queue import Queue, new_id
from worker.web.console.acts import Act
from worker.web.console.service import Console


@dataclass
class Bench(Workbench):
    """One with somebody at the console."""

    here: Console
    browser: Browser

    def doubt(self, *numbers: int, run: str = "vague") -> list[str]:
        """Let jobs be in doubt, as a worker leaves them that died in the middle of a call."""
        ids = self.bring(*numbers, run=run)
        batch = claimed(self.queue, self.org, f"b{new_id()[1:]}")
        overdue = {job: self.queue.store.org_now_ms("default") - 1 for job in [batch.id]}
        self.client.zadd(keys.key("default", "leases"), overdue)
        self.queue.claim(self.org, new_id())
        assert Probe(self.client).listed("in_doubt")
        return ids

    def until(self, path: str, says: str) -> str:
        """Load a page until it says something, and return it."""
        page: str = wait_for(
            lambda: (text := self.browser.open(path)) and says in words(text) and text, what=says
        )
        return page

    def entries(self) -> list[tuple[str, int | None, str]]:
        """Return what the audit trail has: act, count, why."""
        return [(it.action, it.count, it.note) for it in audit.entries(self.client, "default")]


@pytest.fixture
def bench(queue: Queue, client: redis.Redis, sandbox: SandboxServer) -> Iterator[Bench]:
    """All of it, at a limit that holds nothing up."""
    settings = {"api_base_url": sandbox.url, "rate_limit": "100000/second"}
    with (
        browsing(client, **settings) as (here, browser),
        Bench.open(queue, sandbox, here, browser) as bench,
    ):
        yield bench


def test_a_run_is_undone_from_its_page(bench: Bench) -> None:
    """Planned, typed, once; the run's page leads there, and the undo is a run of its own."""
    bench.issue(1, 2, 3)
    page = bench.browser.open("/run?run=spring")
    (link,) = re.findall(r'href="(undo\?[^"]+)"', page)
    plan = bench.until(f"/{link.replace('&amp;', '&')}", "3 badges would be taken back")
    assert 'data-copy="badges run undo --org default spring"' in plan
    form = bench.browser.form(plan, "takeaway") | {"note": "wrong campaign"}
    assert bench.browser.send("takeaway", form | {"typed": "2"}).status_code == 400
    assert not bench.entries()
    for _ in range(2):
        answer = bench.browser.send("takeaway", form | {"typed": "3"})
        assert answer.status_code == 303
    bench.until(f"/{answer.headers['location']}", "3 on their way to be taken back")
    assert bench.entries() == [("undo", 3, "wrong campaign")]
    assert bench.client.zcard(bench.key("revokes")) == 3
    assert bench.revoke() == 3
    assert not bench.sandbox.vendor.ledger().active
    assert "3 were taken back" in words(bench.browser.open("/run?run=spring"))
    bench.until(f"/{link.replace('&amp;', '&')}", "3 were undone before")


def test_what_changed_since_its_plan_is_not_undone(bench: Bench) -> None:
    """Two people: the first takes one badge back, the second's plan was of all."""
    ids = bench.issue(1, 2)
    all_of_it = bench.browser.form(bench.until("/undo?run=spring", "2 badges would be"), "takeaway")
    one = bench.until(f"/undo?job={ids[0]}", "1 badge would be")
    assert "badges job undo" in one
    bench.browser.press(one, "takeaway", typed="1", note="only this")
    wait_for(lambda: bench.client.zcard(keys.key("default", "revokes")))
    assert bench.revoke() == 1
    answer = bench.browser.send("takeaway", all_of_it | {"typed": "2", "note": "x"})
    bench.until(f"/{answer.headers['location']}", "changed since you looked")
    assert len(bench.sandbox.vendor.ledger().active) == 1


def test_a_run_that_still_sends_is_not_undone(bench: Bench) -> None:
    """It says what to do first."""
    bench.queue.enqueue(bench.org, run="spring", items=[item(1)], call=new_id())
    assert "undo?" not in bench.browser.open("/run?run=spring")
    bench.until("/undo?run=spring", "badges run cancel spring")
    assert bench.browser.open("/undo?org=default", expect=400)


def test_an_act_tells_what_came_of_it_when_it_is_over(bench: Bench) -> None:
    """Not before: a page with the result and without what follows from it wouldn't be loaded again."""
    over = Event()

    def work(act: Act) -> None:
        act.result = {"calls made": 3}
        over.wait(60)

    bench.here.acts.begin("check-1", "Ask", work)
    try:
        page = bench.until("/act?id=check-1", "It is being done")
    finally:
        over.set()
    assert "calls made" not in words(page)
    assert 'data-again="' in page


def test_the_vendor_is_asked_about_all_that_is_in_doubt(bench: Bench) -> None:
    """What it shows is a plan first; typed, it ends as issued, and the rest waits for a second look."""
    ids = bench.doubt(1, 2)
    hour_ago = bench.queue.store.org_now_ms("default") - 3_600_000  # the vendor shows what it issued by now
    Probe(bench.client).set_died(dict.fromkeys(ids, hour_ago))
    exchange, _ = bench.sandbox.vendor.arrive("import")
    body = [{"badgeMetaId": BADGE, "customerId": FIRST_CUSTOMER + 1}]
    bench.sandbox.vendor.respond(exchange, {}, lambda e: bench.sandbox.vendor.import_badges(e, body))
    page = bench.browser.open("/doubt")
    assert "Ask about all 2" in page
    assert "2 calls at most, about" in words(page)
    assert "1 call at most" in words(bench.browser.open(f"/doubt?customer={FIRST_CUSTOMER + 1}"))
    answer = bench.browser.send("check", bench.browser.form(page, "check"))
    done = bench.until(f"/{answer.headers['location']}", "calls made")
    said = words(done)
    assert "1 shown as issued" in said
    assert "1 can't be told" in said
    assert Probe(bench.client).listed("in_doubt"), "asking resolves nothing"
    assert bench.entries() == [("check", None, "")]
    form = bench.browser.form(done, "conclude")
    assert bench.browser.send("conclude", form | {"typed": "2"}).status_code == 400
    for _ in range(2):
        answer = bench.browser.send("conclude", form | {"typed": "1", "note": "as shown"})
    bench.until(f"/{answer.headers['location']}", "1 ended as issued")
    assert Probe(bench.client).listed("in_doubt") == [ids[1]]
    assert bench.entries()[0] == ("resolve", 1, "as shown")


@pytest.mark.parametrize("form", ["csv", "json"])
def test_what_support_said_is_read_shown_and_then_done(bench: Bench, form: str) -> None:
    """By job, or by customer and badge; rows that say nothing usable are named; twice is once."""
    ids = bench.doubt(1, 2, 3)
    if form == "csv":
        text = f"job_id,issued\n{ids[0]},yes\n{ids[1]},no\n{ids[2]},perhaps\nzzz,yes\n"
    else:
        who = f'"customerId": {FIRST_CUSTOMER + 1}, "badgeMetaId": "{BADGE}"'
        lines = (f'{{"job_id": "{ids[1]}", "issued": false}}', '{"job_id": "zzz", "issued": true}', "{}")
        text = "\n".join((f'{{{who}, "issued": "yes"}}', *lines))
    csrf = bench.browser.form(bench.browser.open("/doubt"), "signout")["csrf"]
    headers = {"origin": bench.browser.home, "x-csrf-token": csrf}
    put: Any = bench.browser.http.put
    assert put("/said?name=a.csv", content=b"x", headers=headers | {"x-csrf-token": "w"}).status_code == 403
    taken = put(f"/said?name=<b>.{form}", content=text.encode(), headers=headers)
    path = f"/said?id={taken.json()['id']}"
    page = bench.until(path, "they end so")
    assert "1 row speaks of no job" in words(page)
    assert "<b>" not in page
    assert "issued must be yes or no" in words(page)
    assert len(Probe(bench.client).listed("in_doubt")) == 3
    filled = bench.browser.form(page, "settle") | {"note": "ticket 7"}
    assert bench.browser.send("settle", filled | {"typed": "3"}).status_code == 400
    for _ in range(2):
        answer = bench.browser.send("settle", filled | {"typed": "2"})
    bench.until(f"/{answer.headers['location']}", "1 queued again")
    assert Probe(bench.client).listed("in_doubt") == [ids[2]]
    reports = JobReader(client=bench.client, orgs={"default": bench.org})
    assert [reports.job(one)["state"] for one in ids[:2]] == ["issued", "queued"]
    assert bench.entries() == [("resolve", 2, "ticket 7")]


def test_a_full_batch_is_resolved_at_once(bench: Bench) -> None:
    """However many jobs a call carried, each is meant."""
    batch = {"batch": "b" * 26, "code": "500", "attempts": "1"}
    many = [
        Item(f"{it.id}{'x' * 40}", str(n), {**it.fields, **batch}, kind="in_doubt", fingerprint=it.id)
        for n, it in enumerate(item(n) for n in range(500))
    ]
    bench.queue.enqueue(bench.org, run="vague", items=many, call="vague")
    form = bench.browser.form(bench.browser.open("/doubt"), "resolve")
    answer = bench.browser.send("resolve", form | {"found": "issued", "note": "said so", "typed": "500"})
    assert answer.status_code == 303
    bench.until(f"/{answer.headers['location']}", "500 issued")


def test_both_request_ids_of_a_batch_are_there_to_copy(bench: Bench) -> None:
    """Ours, which the call carried, and the one that came back with an earlier call of the same batch."""
    ids = bench.doubt(1)
    job = bench.here.reports.job(ids[0])
    page = bench.browser.open("/doubt")
    assert job["sent_request_id"]
    assert f'data-copy="{job["sent_request_id"]}"' in page
    assert f'data-copy="{job["batch"] or job["history"][-1]["batch"]}"' in page
    assert "none came back" in page


def test_whatever_a_person_has_at_hand_finds_the_job(bench: Bench) -> None:
    """A customer, a job, the vendor's ids, ours; what isn't known says what to do."""
    ids = bench.issue(1, 2)
    job = bench.here.reports.job(ids[0])
    for what in (
        str(FIRST_CUSTOMER + 1),
        ids[0],
        job["earnedBadgeId"],
        job["requestId"],
        job["requestId"].rpartition("_")[0],
    ):
        page = bench.until(f"/search?what={what}", "earned badge")
        assert f"id={ids[0]}" in page, what
    assert f"id={ids[1]}" not in bench.until(f"/search?what={job['earnedBadgeId']}&by=earned", "earned badge")
    customer = f"/search?what={FIRST_CUSTOMER + 1}"
    for nothing in (
        f"{customer}&by=job",
        "/search?what=nonesuch",
        f"{customer}&by=customer&badge={OTHER_BADGE}",
    ):
        assert bench.until(nothing, "Nothing is known of")
    bench.client.delete(keys.key("default", "job", ids[1]))
    assert "remembered" in bench.until(f"/search?what={ids[1]}", "remembered")


def test_tables_are_sorted_and_paged_by_key(bench: Bench) -> None:
    """Runs by what they count, jobs from the last, letters from the newest: each on just one page."""
    for n in range(53):
        items = [item(1000 * n + k) for k in range(1 + n % 3)]
        bench.queue.enqueue(bench.org, run=f"run-{n:02}", items=items, call=f"r{n}")
    runs = r'<td><a href="run\?org=default&amp;run=([^"]+)"'
    rows = _all_pages(bench, "/runs?sort=-rows", runs)
    sizes = [1 + int(name[4:]) % 3 for name in rows]
    assert (len(set(rows)), sizes) == (53, sorted(sizes, reverse=True))
    assert _all_pages(bench, "/runs?sort=run", runs) == sorted(rows)
    assert bench.browser.open("/runs?sort=nonsense", expect=400)
    many = [item(900_000 + n) for n in range(620)]
    bench.queue.enqueue(bench.org, run="many", items=many, call="many")
    forwards = _all_pages(bench, "/run?run=many", r'href="job\?[^"]*id=([a-z2-7]{20})"')
    backwards = _all_pages(bench, "/run?run=many&sort=-row", r'href="job\?[^"]*id=([a-z2-7]{20})"')
    assert forwards == [it.id for it in many]
    assert backwards == forwards[::-1]
    dead = [
        Item(it.id, "1", {**it.fields, "code": "812", "attempts": "1"}, kind="rejected")
        for it in (item(500_000 + n) for n in range(60))
    ]
    bench.queue.enqueue(bench.org, run="dead", items=dead, call="dead")
    Probe(bench.client).set_died({it.id: 1_000_000 + n // 2 for n, it in enumerate(dead)})
    path = "/dead?kind=rejected&code=812"
    oldest = _all_pages(bench, path, r'href="job\?[^"]*id=([a-z2-7]{20})"')
    newest = _all_pages(bench, f"{path}&order=-died", r'href="job\?[^"]*id=([a-z2-7]{20})"')
    assert sorted(oldest) == sorted(it.id for it in dead)
    assert newest == oldest[::-1]


def test_the_trail_what_was_found_and_what_is_in_doubt_are_sorted_too(bench: Bench) -> None:
    """Each by its columns and behind a key, so that every row stands on just one page."""
    for n in range(60):
        here = bench.here.operator(f"note {n:02}")
        here.begin(
            "default", f"{('pause', 'cancel', 'import')[n % 3]}-{n:08}", {"run": "r"}, counts=n % 2 == 0
        )
    names = r'href="act\?id=([a-z]+-\d{8})"'
    newest = _all_pages(bench, "/audit", names)
    assert len(set(newest)) == len(newest) == 60
    assert _all_pages(bench, "/audit?sort=at", names)[::-1] == newest
    acts = _all_pages(bench, "/audit?sort=-action", names)
    assert (len(set(acts)), acts) == (60, sorted(acts, key=lambda it: it.partition("-")[0], reverse=True))
    assert len(set(_all_pages(bench, "/audit?sort=count", names))) == 60
    assert bench.browser.open("/audit?sort=note", expect=400)
    batch = "b" * 26
    many = [
        Item(it.id, str(n), {**it.fields, "code": "500", "attempts": "1", "batch": batch}, kind="in_doubt")
        for n, it in enumerate(item(700_000 + n) for n in range(130))
    ]
    bench.queue.enqueue(bench.org, run="vague", items=many, call="vague")
    ids, customers = r'href="job\?[^"]*id=([a-z2-7]{20})"', r'copy (5007\d{5})"'
    path = f"/search?what={batch}&by=request"
    bench.until(path, "130 jobs")
    assert sorted(_all_pages(bench, path, ids)) == sorted(it.id for it in many)
    upwards = _all_pages(bench, f"{path}&sort=customer", customers)
    assert upwards == [str(FIRST_CUSTOMER + 700_000 + n) for n in range(130)]
    assert _all_pages(bench, f"{path}&sort=-customer", customers) == upwards[::-1]
    Probe(bench.client).set_died({it.id: 1_000_000 + n for n, it in enumerate(many)})
    oldest = re.findall(ids, bench.browser.open("/doubt"))
    assert re.findall(ids, bench.browser.open("/doubt?order=-died"))[0] == many[-1].id
    assert oldest[0] == many[0].id


def test_choosing_an_org_keeps_what_else_the_address_says(bench: Bench) -> None:
    """How a listing is sorted, and what it is of; with forms and links alike."""
    other = configured(name="other", api_base_url=bench.sandbox.url)
    doubt = Item(item(9).id, "1", {**item(9).fields, "code": "500", "attempts": "1"}, kind="in_doubt")
    bench.queue.enqueue(other, run="r", items=[item(8), doubt], call="o")
    for path, kept in {
        "runs?sort=-dead": {"sort": "-dead"},
        "audit?sort=by": {"sort": "by"},
        "doubt?order=-died": {"order": "-died"},
        "doubt": {},
        "dead?kind=in_doubt&order=-died&sort=last": {"order": "-died", "sort": "last"},
        "search?what=500000009&sort=-badge": {"sort": "-badge"},
    }.items():
        name = path.partition("?")[0]
        page = bench.browser.open(f"/{path}")
        forms = [it for it in bench.browser.forms(page) if it["action"] == name and not it["method"]]
        assert any(kept.items() <= it["fields"].items() for it in forms), path
    groups = re.findall(r'<li><a href="([^"]+)"', bench.browser.open("/dead?order=-died&sort=last"))
    assert all("order=-died" in link and "sort=last" in link for link in groups if link.startswith("dead?"))


def _all_pages(bench: Bench, path: str | None, pattern: str) -> list[str]:
    found: list[str] = []
    while path:
        page = bench.browser.open(path)
        found += re.findall(pattern, page)
        more = re.findall(r'rel="next" href="([^"]+)"', page)
        path = f"/{more[0].replace('&amp;', '&')}" if more else None
    return found
