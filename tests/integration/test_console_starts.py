"""What a person decides of an import at the console: hold and start it, send once more, ask about badges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from consoles import Browser, browsing, upload, words
from support import BADGE, OTHER_BADGE, deliver_one, wait_for

from worker.delivery import Delivered, Delivery
from worker.domain.batch import Wait
from worker.operate.runs import JobReader
from worker.sandbox.issued import SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.store import audit, keys
from worker.store.queue import Queue
from worker.vendor.auth import Authenticator
from worker.vendor.client import VendorClient
from worker.vendor.revoking import Revoker
from worker.web.console.service import Console

HEAD = "badgeMetaId,customerId,earnEventDate,earnExpiresOn\n"
ROWS = "".join(f"{BADGE},{500000000 + n},1674292011,1905828011\n" for n in range(3))


@pytest.fixture
def place(client: redis.Redis, tmp_path: Path) -> Iterator[tuple[Console, Browser, Queue]]:
    """Somebody at a console, a vendor that doesn't know one badge, and no worker."""
    with SandboxServer(settings=SandboxSettings(unknown_badges=frozenset({OTHER_BADGE}))) as vendor:
        settings = {"api_base_url": vendor.url, "rate_limit": "100000/second", "batch_linger_s": 0}
        with browsing(client, **settings, console_upload_dir=tmp_path) as (here, browser):
            here.send_import = lambda _: None
            yield here, browser, Queue(client)


def checked(browser: Browser, staged_id: str, says: str = "data-want") -> str:
    """Load a file's page until its check is there."""
    page: str = wait_for(
        lambda: says in (text := browser.open(f"/staged?id={staged_id}")) and text, what=says
    )
    return page


def bring_in(place: tuple[Console, Browser, Queue], run: str, **more: str) -> str:
    """Import a file, as the worker does that the console asks."""
    here, browser, _ = place
    one = upload(browser, "members.csv", (HEAD + ROWS).encode())
    if again := more.pop("again", ""):
        browser.press(checked(browser, one), "columns", again=again)
    said = words(page := checked(browser, one))
    browser.press(page, "start", typed="3", run=run, **more)
    here.staging.go_on(one)
    return said


def deliver(place: tuple[Console, Browser, Queue]) -> Delivered | Wait:
    """Send what may be sent."""
    here, _, queue = place
    with_it = VendorClient()
    delivery = Delivery(queue=queue, client=with_it, auth=Authenticator(queue=queue, client=with_it))
    try:
        return deliver_one(delivery, here.settings.org("default"))
    finally:
        with_it.close()


def test_an_import_is_held_and_its_run_started_by_number(place: tuple[Console, Browser, Queue]) -> None:
    """Nothing is sent before; another number starts nothing; pressed twice, it starts once."""
    here, browser, queue = place
    bring_in(place, "spring", hold="yes")
    assert isinstance(deliver(place), Wait)
    page = browser.open("/run?run=spring")
    assert "on hold" in words(page)
    wait_for(lambda: "on hold 3" in words(browser.open("/")), what="what is on hold")
    form = browser.form(page, "begin")
    assert browser.send("begin", form | {"typed": "2"}).status_code == 400
    assert browser.send("begin", form | {"typed": "2", "seen": "2"}).status_code == 400
    for _ in range(2):
        assert browser.send("begin", form | {"typed": "3", "note": "go"}).status_code == 303
    wait_for(lambda: isinstance(deliver(place), Delivered))
    assert JobReader(client=queue.client, orgs=here.orgs).run("spring").issued == 3
    acts = [(it.action, it.count, it.note) for it in audit.entries(queue.client, "default")]
    assert ("start", 3, "go") in acts
    assert 'action="begin"' not in browser.open("/run?run=spring")
    one = upload(browser, "more.csv", (HEAD + ROWS).encode())
    begun = browser.form(checked(browser, one), "start") | {"typed": "3", "run": "spring", "hold": "yes"}
    assert "has begun already" in browser.send("start", begun).text


def test_a_held_run_whose_cancel_was_broken_off_offers_no_start(
    place: tuple[Console, Browser, Queue],
) -> None:
    """It says what there is to be done about what is left of it."""
    _, browser, queue = place
    bring_in(place, "spring", hold="yes")
    queue.client.hset(keys.key("default", "run", "spring"), "cancelled", "cancel-x")
    page = browser.open("/run?run=spring")
    assert "badges run cancel spring" in words(page)
    assert 'action="begin"' not in page


def test_what_was_taken_back_is_sent_once_more(place: tuple[Console, Browser, Queue]) -> None:
    """Only where somebody says so; the check says of how many, before."""
    here, browser, queue = place
    bring_in(place, "spring")
    assert isinstance(deliver(place), Delivered)
    plan = wait_for(lambda: "be taken back" in (text := browser.open("/undo?run=spring")) and text)
    browser.press(plan, "takeaway", typed="3", note="wrong")
    revokes = keys.key("default", "revokes")
    wait_for(lambda: queue.client.zcard(revokes) == 3)
    queue.client.zadd(revokes, dict.fromkeys(queue.client.zrange(revokes, 0, -1), 1))
    client = VendorClient()
    undone = Revoker(queue, client, Authenticator(queue=queue, client=client))
    assert undone.work(here.settings.org("default")) == 3
    client.close()
    assert "accepts 0" in bring_in(place, "again-1")
    assert isinstance(deliver(place), Wait)
    assert "accepts 3 , 3 of them once more" in bring_in(place, "again-2", again="yes")
    assert isinstance(deliver(place), Delivered)
    assert "accepts 0" in bring_in(place, "again-3", again="yes"), "it is issued by now"
    assert "--again" in JobReader(client=queue.client, orgs=here.orgs).run("again-2").source.mapping


def test_the_vendor_is_asked_about_a_files_badges(place: tuple[Console, Browser, Queue]) -> None:
    """Once a badge, when somebody asks for it; rows that it will reject are counted before the import."""
    _, browser, _ = place
    unknown = f"{OTHER_BADGE},500000009,1674292011,1905828011\n" * 2
    one = upload(browser, "members.csv", (HEAD + ROWS + unknown).encode())
    browser.press(checked(browser, one), "ask")
    said = words(checked(browser, one, "name a badge"))
    assert "2 rows name a badge" in said
    assert OTHER_BADGE in said
    two = upload(browser, "good.csv", (HEAD + ROWS).encode())
    browser.press(checked(browser, two), "ask")
    checked(browser, two, "The vendor knows its badge")
