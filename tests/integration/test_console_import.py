"""A file is uploaded in pieces, checked, begun by its number of rows, and imported whoever goes away."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import NoReturn

import pytest
import redis
from consoles import Browser, browsing, csrf, put, upload, words
from openpyxl import Workbook
from support import BADGE, wait_for

from worker.errors import ConfigError, NotFound
from worker.operate.runs import JobReader
from worker.operate.stagedfile import How, look
from worker.store import audit, staged
from worker.store.queue import Queue
from worker.web.console.guard import PIECE_BYTES
from worker.web.console.service import Console

HEAD = "badgeMetaId,customerId,earnEventDate,earnExpiresOn\n"


@pytest.fixture
def at_console(client: redis.Redis, tmp_path: Path) -> Iterator[tuple[Console, Browser]]:
    """Somebody with a session; what should be sent to a worker is noted."""
    settings = {"api_base_url": "https://vendor.example", "console_upload_dir": tmp_path / "up"}
    with browsing(client, **settings, console_upload_max=20 << 20) as (here, browser):
        here.send_import = sent(browser).append
        yield here, browser


def sent(browser: Browser) -> list[str]:
    """Return what was sent to a worker."""
    browser.__dict__.setdefault("sent", [])
    found: list[str] = browser.__dict__["sent"]
    return found


def row(n: int) -> str:
    """Return a good row."""
    return f"{BADGE},{500000000 + n},1674292011,1905828011\n"


def begin(browser: Browser, staged_id: str, count: int) -> str:
    """Start the import once the check is there."""
    page = wait_for(
        lambda: (text := browser.open(f"/staged?id={staged_id}")) and "data-want" in text and text
    )
    return browser.press(page, "start", typed=str(count))


def test_pieces_are_written_each_once_and_resumed(at_console: tuple[Console, Browser]) -> None:
    """By their offset: one that comes again changes nothing, one that leaves a gap is refused."""
    here, browser = at_console
    token = csrf(browser)
    made = browser.send("upload", {"csrf": token, "name": "../../m.csv", "size": "10"}).json()
    one = made["id"]
    assert put(browser, one, 0, b"01234", token=token).json() == {"offset": 5}
    assert put(browser, one, 0, b"xxxxx", token=token).json() == {"offset": 5}
    assert put(browser, one, 7, b"789", token=token).status_code == 400
    assert put(browser, one, 5, b"5678901", token=token).status_code == 400
    assert browser.http.get(f"/piece?id={one}").json()["offset"] == 5
    assert put(browser, one, 5, b"56789", token=token).json() == {"offset": 10}
    (path,) = here.settings.uploads.iterdir()
    assert path.read_bytes() == b"0123456789"
    assert path.stat().st_mode & 0o777 == 0o600
    assert here.settings.uploads.stat().st_mode & 0o777 == 0o700
    assert here.staging.get(one).name == "m.csv"


@pytest.mark.parametrize("size", ["0", str((20 << 20) + 1), "many"])
def test_what_is_too_large_is_refused_before_it_comes(at_console: tuple[Console, Browser], size: str) -> None:
    """By its name and by its size; nothing is left of it."""
    here, browser = at_console
    answer = browser.send("upload", {"csrf": csrf(browser), "name": "m.csv", "size": size})
    assert answer.status_code == 400
    assert ("m.csv is empty" in answer.text) is (size == "0")
    assert not here.staging.all()


def test_bounds_hold_whatever_comes(at_console: tuple[Console, Browser]) -> None:
    """A piece that is too large, without its token, or for another file."""
    _, browser = at_console
    made = browser.send("upload", {"csrf": csrf(browser), "name": "m.csv", "size": "15000000"}).json()["id"]
    assert put(browser, made, 0, b"x" * (PIECE_BYTES + 1)).status_code == 413
    assert put(browser, made, 0, b"x", token="wrong").status_code == 403
    for other in ("../../etc/passwd", "a" * 26, ""):
        assert put(browser, other, 0, b"x").status_code in (400, 404), other


def test_a_full_disk_is_said_before_anything_is_written(
    at_console: tuple[Console, Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With how much is left."""
    _, browser = at_console
    monkeypatch.setattr(
        "shutil.disk_usage", lambda _: os.terminal_size((0, 0)) and type("Use", (), {"free": 5})
    )
    answer = browser.send("upload", {"csrf": csrf(browser), "name": "m.csv", "size": "10"})
    assert answer.status_code == 400
    assert "5 bytes left" in answer.text


def test_a_folder_where_others_may_write_is_refused(at_console: tuple[Console, Browser]) -> None:
    """They could swap a file that was checked: nothing comes in, and what waits isn't imported."""
    here, browser = at_console
    one = upload(browser, "m.csv", (HEAD + row(1)).encode())
    two = upload(browser, "m.csv", (HEAD + row(2)).encode())
    begin(browser, one, 1)
    for mode in (0o755, 0o770, 0o1777):  # a group is let in on purpose; where the sticky bit is, nobody swaps
        here.settings.uploads.chmod(mode)
        here.staging.refuse_foreign()
    for mode in (0o707, 0o777):
        here.settings.uploads.chmod(mode)
        answer = browser.send("upload", {"csrf": csrf(browser), "name": "m.csv", "size": "10"})
        assert (answer.status_code, "others might swap an uploaded file" in answer.text) == (400, True)
        assert "others might swap" in browser.http.get(f"/staged?id={two}").text
        with pytest.raises(ConfigError, match="BADGES_CONSOLE_UPLOAD_DIR"):
            here.staging.refuse_foreign()
    assert here.staging.go_on(one) is False
    assert (here.staging.get(one).state, here.staging.get(one).rows) == ("failed", 0)
    assert "others might swap" in browser.open(f"/staged?id={one}")


def test_a_disk_that_fills_up_meanwhile_is_said_too(
    at_console: tuple[Console, Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may write as well: each piece looks before it is written."""
    _, browser = at_console
    one = browser.send("upload", {"csrf": csrf(browser), "name": "m.csv", "size": "10"}).json()["id"]
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Use", (), {"free": 5}))
    answer = put(browser, one, 0, b"0123456789")
    assert (answer.status_code, "5 bytes left" in answer.text) == (400, True)


def test_a_checked_file_is_imported_by_its_number_of_rows(
    at_console: tuple[Console, Browser], queue: Queue
) -> None:
    """The check says what is wrong before; another number starts nothing; two clicks start it once."""
    here, browser = at_console
    one = upload(browser, "members.csv", (HEAD + row(1) + row(2) + row(1) + f"{BADGE},C-9,,\n").encode())
    page = wait_for(lambda: (text := browser.open(f"/staged?id={one}")) and "data-want" in text and text)
    said = words(page)
    assert "3 good" in said
    assert "1 invalid" in said
    assert "must be a whole number" in said
    form = browser.form(page, "start")
    assert browser.send("start", form | {"typed": "3"}).status_code == 400
    assert not sent(browser)
    for _ in range(2):
        assert browser.send("start", form | {"typed": "4", "note": "spring"}).status_code == 303
    assert sent(browser) == [one]
    (entry,) = audit.entries(queue.client, "default")
    assert (entry.action, entry.which["file"]) == ("import", "members.csv")
    assert here.staging.go_on(one) is False
    about = here.staging.get(one)
    assert (about.state, about.rows, about.accepted, about.duplicates, about.invalid) == ("done", 4, 2, 1, 1)
    assert "All of it is in" in browser.open(f"/staged?id={one}")
    assert not list(here.settings.uploads.iterdir())


def test_an_import_whose_org_is_gone_ends(
    at_console: tuple[Console, Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what is wrong, instead of going on for ever."""
    here, browser = at_console
    one = upload(browser, "members.csv", (HEAD + row(1)).encode())
    begin(browser, one, 1)

    def gone(_: object, name: str) -> NoReturn:
        raise ConfigError(f"there is no org {name!r}")

    with monkeypatch.context() as patched:
        patched.setattr(type(here.settings), "org", gone)
        assert here.staging.go_on(one) is False
    assert (here.staging.get(one).state, here.staging.get(one).problem) == (
        "failed",
        "there is no org 'default'",
    )
    assert "It ended early" in words(browser.open(f"/staged?id={one}"))


def test_columns_that_nobody_knows_are_mapped_beside_sample_rows(at_console: tuple[Console, Browser]) -> None:
    """What is proposed is said by a person before anything is checked."""
    _, browser = at_console
    text = (
        "badge,member,earnEventDate,earnExpiresOn,Shop\n" + f"{BADGE},500000001,1674292011,1905828011,Süd\n"
    )
    one = upload(browser, "odd.csv", text.encode())
    page = browser.open(f"/staged?id={one}")
    assert "Süd" in page
    assert "data-want" not in page
    fields = {"column:badge": "badgeMetaId", "column:member": "customerId", "column:Shop": "-"}
    page = browser.press(page, "columns", **fields)
    page = wait_for(lambda: (text := browser.open(f"/staged?id={one}")) and "data-want" in text and text)
    assert "1 good" in words(page)
    assert "--map member=customerId" in page.replace("&#39;", "'")
    same = fields | {"column:Shop": "customerId"}
    assert browser.send("columns", browser.form(page, "columns") | same).status_code == 400


def test_a_file_that_cant_be_read_to_its_end_is_not_offered(at_console: tuple[Console, Browser]) -> None:
    """What is wrong stands where the check would, and is said again to who imports it all the same."""
    here, browser = at_console
    head = b"badgeMetaId,customerId,earnEventDate,earnExpiresOn\n"
    row = f"{BADGE},50000%04d,1674292011,1905828011\n"
    rows = "".join(row % number for number in range(2_000)).encode()
    why = "row 2002 names the columns again, but otherwise"
    other = b"customerId,badgeMetaId,earnEventDate,earnExpiresOn\n"
    one = upload(browser, "torn.csv", head + rows + other + f"500000001,{BADGE},,\n".encode())
    page = wait_for(lambda: why in (text := browser.open(f"/staged?id={one}")) and text)
    assert "Import it" not in page
    form = {"id": one, "act": "a-1", "seen": here.staging.get(one).how.mark, "typed": "2000"}
    refused = browser.send("start", browser.form(page, "stop") | form)
    assert refused.status_code == 400
    assert "nothing was done" in words(refused.text)
    assert why in words(refused.text)


def test_a_date_beside_columns_that_are_known_can_be_mapped(at_console: tuple[Console, Browser]) -> None:
    """As most people's files are: some names are a field's, a date and a name aren't."""
    _, browser = at_console
    text = f"Name;badgeMetaId;customerId;Datum\nAnn;{BADGE};500000001;31.01.2026\n"
    one = upload(browser, "odd.csv", text.encode())
    page = browser.open(f"/staged?id={one}")
    assert "“Datum” looks like a date" in words(page)
    assert "31.01.2026" in page
    sent = columns_of(browser, page, date_format="DD.MM.YYYY", timezone="Europe/Berlin")
    assert sent["column:Name"] == "-"
    browser.press(page, "columns", **sent)
    page = checked(browser, one)
    assert "1 good" in words(page)
    assert "--map Datum=earnEventDate" in page


def test_a_persons_name_is_not_proposed_as_a_badge(at_console: tuple[Console, Browser]) -> None:
    """Though any text could be one: what every row has is said by the person."""
    _, browser = at_console
    one = upload(browser, "odd.csv", b"Name,customerId\nAnn,500000001\nBob,500000002\n")
    page = browser.open(f"/staged?id={one}")
    assert "Bob" in page
    assert columns_of(browser, page)["column:Name"] == "-"


def test_a_column_without_a_name_is_left_out_by_a_person(at_console: tuple[Console, Browser]) -> None:
    """As the one in which pandas counts the rows."""
    _, browser = at_console
    dates = "earnEventDate,earnExpiresOn"
    text = f",badgeMetaId,customerId,{dates}\n0,{BADGE},500000001,1674292011,1905828011\n"
    one = upload(browser, "pandas.csv", text.encode())
    page = browser.open(f"/staged?id={one}")
    assert "(no name)" in page
    sent = columns_of(browser, page)
    assert sent["column:"] == "-"
    browser.press(page, "columns", **sent)
    page = checked(browser, one)
    assert "1 good" in words(page)
    assert columns_of(browser, page)["column:"] == "-"


def columns_of(browser: Browser, page: str, **more: str) -> dict[str, str]:
    """Return what the form about a file's columns would send."""
    chosen = re.findall(
        r'<select name="(column:[^"]*)">.*?(?:<option selected>([^<]+)|</select>)', page, re.DOTALL
    )
    columns = {unescape(name): field or "-" for name, field in chosen}
    return browser.form(page, "columns") | columns | more


def checked(browser: Browser, staged_id: str) -> str:
    """Return the page of a file once its check is there."""
    page: str = wait_for(
        lambda: (text := browser.open(f"/staged?id={staged_id}")) and "data-want" in text and text
    )
    return page


LOCAL = (
    f"badge,member,Earned on\n{BADGE},500000001,31/12/2025\n{BADGE},500000002,01/02/2026\n"
    f"{BADGE},500000003,02/02/2026\n"
)


def test_a_file_of_thousands_of_columns_is_looked_at_in_no_time(tmp_path: Path) -> None:
    """What its columns mean isn't guessed again and again where no guess can be about all of them."""
    wide = tmp_path / "wide.csv"
    names, cells = ("badgeMetaId", "customerId", *map(str, range(4_000))), (BADGE, *["7"] * 4_001)
    wide.write_text(f"{','.join(names)}\n{','.join(cells)}\n")
    began = time.process_time()
    assert look(wide, wide.name, How()).is_unclear
    assert time.process_time() - began < 2


def test_dates_and_columns_are_said_kept_as_a_profile_and_used_again(
    at_console: tuple[Console, Browser], queue: Queue
) -> None:
    """What is unclear is shown with what it probably is; the next file of that kind needs one click."""
    here, browser = at_console
    one = upload(browser, "spring.csv", LOCAL.encode())
    page = browser.open(f"/staged?id={one}")
    assert "01/02/2026" in page, "its dates are there to be read before their format is said"
    assert "data-want" not in page
    columns = {
        "column:badge": "badgeMetaId",
        "column:member": "customerId",
        "column:Earned on": "earnEventDateISO",
    }
    proposed = {name: field for name, field in columns_of(browser, page).items() if name in columns}
    assert proposed == columns
    page = browser.press(page, "columns", **columns)
    assert "31/12/2025" in page
    assert 'value="DD/MM/YYYY"' in page, "it is the only format that fits"
    form = browser.form(page, "columns") | columns | {"date_format": "DD/MM/YYYY"}
    assert "UTC is never assumed" in browser.send("columns", form).text
    assert "no time zone" in browser.send("columns", form | {"timezone": "Middle/Earth"}).text
    page = browser.press(
        page, "columns", **columns, date_format="DD/MM/YYYY", timezone="Europe/Berlin", save_as="members"
    )
    page = checked(browser, one)
    assert "--profile members" in page
    begin(browser, one, 3)
    assert here.staging.go_on(one) is False
    run = JobReader(client=queue.client, orgs={}).run(here.staging.get(one).run)
    assert (run.issued + run.queued, run.source.file) == (3, "spring.csv")
    assert run.source.mapping == "--profile members"
    assert run.source.by.startswith("console,")
    assert run.source.sha256 == sha256(LOCAL.encode()).hexdigest()
    two = upload(browser, "summer.csv", LOCAL.replace("50000000", "50000001").encode())
    page = browser.open(f"/staged?id={two}")
    assert "never" not in words(page).partition("Profiles that fit")[2].partition("How it is read")[0]
    browser.press(page, "profile", profile="members")
    assert "3 good" in words(checked(browser, two))
    assert "members" in browser.open("/import")
    three = upload(browser, "other.csv", LOCAL.encode())
    another = columns | {"date_format": "DD/MM/YYYY", "timezone": "UTC", "save_as": "members"}
    page = browser.open(f"/staged?id={three}")
    answer = browser.send("columns", browser.form(page, "columns") | another)
    assert "there is a profile members" in answer.text
    browser.press(page, "columns", **another, replace="yes")
    page = checked(browser, three)
    form = browser.form(page, "start") | {"typed": "3", "changed_ok": ""}
    assert "was changed since it was last used" in browser.send("start", form).text
    assert browser.send("start", form | {"changed_ok": "yes"}).status_code == 303
    assert here.staging.get(three).state == "asked"


def test_what_every_row_has_is_said_once(at_console: tuple[Console, Browser]) -> None:
    """A file of customers alone becomes badges."""
    _, browser = at_console
    one = upload(
        browser, "people.csv", b"customerId,earnEventDate,earnExpiresOn\n500000001,1674292011,1905828011\n"
    )
    page = browser.open(f"/staged?id={one}")
    browser.press(page, "columns", **{"set:badgeMetaId": BADGE})
    page = checked(browser, one)
    assert "1 good" in words(page)
    assert f"--set badgeMetaId={BADGE}" in page


def test_two_people_at_one_file_begin_it_once_and_as_it_was_seen(
    at_console: tuple[Console, Browser], queue: Queue
) -> None:
    """Somebody maps the columns otherwise meanwhile: what was checked isn't what would go in."""
    here, browser = at_console
    one = upload(browser, "m.csv", (HEAD + row(1)).encode())
    page = checked(browser, one)
    first = browser.form(page, "start") | {"typed": "1"}
    browser.press(
        page, "columns", **columns_of(browser, page, **{"column:earnEventDate": "-", "without_dates": "1"})
    )
    assert "changed since you looked" in browser.send("start", first).text
    assert not sent(browser)
    second = browser.form(checked(browser, one), "start") | {"typed": "1"}
    third = browser.form(checked(browser, one), "start") | {"typed": "1", "run": "other"}
    with ThreadPoolExecutor(2) as two:
        answers = list(two.map(lambda form: browser.send("start", form).status_code, (second, third)))
    assert 303 in answers
    assert len(list(audit.entries(queue.client, "default"))) == len(sent(browser)) == 1
    assert here.staging.get(one).run in (second["run"], "other")


def test_rows_that_differ_in_their_dates_alone_are_held_back(at_console: tuple[Console, Browser]) -> None:
    """If a person says so; the check says how many, and the command says it too."""
    here, browser = at_console
    near = row(1).replace("1674292011", "1674292099")
    one = upload(browser, "m.csv", (HEAD + row(1) + near).encode())
    page = checked(browser, one)
    assert "1 differ" in words(page)
    browser.press(page, "columns", **columns_of(browser, page), hold_repeats="yes")
    page = checked(browser, one)
    assert "--hold-repeats" in page
    begin(browser, one, 2)
    here.staging.go_on(one)
    assert here.reports.run(here.staging.get(one).run).dead_kinds == {"repeat": 1}


def test_an_import_of_which_all_is_held_back_ends(at_console: tuple[Console, Browser]) -> None:
    """Slice by slice it goes on behind what was looked at, whatever became of that."""
    here, browser = at_console
    rows = [row(n) for n in range(1, 2501)]
    base = upload(browser, "base.csv", (HEAD + "".join(rows)).encode())
    begin(browser, base, 2500)
    here.staging.go_on(base)
    near = [it.replace("1674292011", "1674292099") for it in rows]
    one = upload(browser, "near.csv", (HEAD + "".join(near)).encode())
    page = checked(browser, one)
    browser.press(page, "columns", **columns_of(browser, page), hold_repeats="yes")
    begin(browser, one, 2500)
    slices = 1
    while here.staging.go_on(one, for_s=0):
        slices += 1
        assert slices < 10
    about = here.staging.get(one)
    assert (about.rows, about.state, here.reports.run(about.run).dead_kinds) == (
        2500,
        "done",
        {"repeat": 2500},
    )


def test_a_worker_that_is_quick_finds_the_file_let_go(at_console: tuple[Console, Browser]) -> None:
    """The message may arrive before the page is answered."""
    here, browser = at_console

    def at_once(staged_id: str) -> None:
        here.staging.go_on(staged_id)

    here.send_import = at_once
    one = upload(browser, "m.csv", (HEAD + row(1)).encode())
    assert "All of it is in" in begin(browser, one, 1)


def test_a_workbook_with_several_sheets_is_asked_about(
    at_console: tuple[Console, Browser], tmp_path: Path
) -> None:
    """Its sheets are named; the one that is said is read, hidden rows with it if they are wanted."""
    _, browser = at_console
    book = Workbook()
    rows = [HEAD.strip().split(","), [BADGE, 500000001, 1674292011, 1905828011]]
    for name in ("Spring", "Summer"):
        sheet = book.create_sheet(name)
        for values in rows:
            sheet.append(values)
    del book["Sheet"]
    book.save(tmp_path / "b.xlsx")
    one = upload(browser, "b.xlsx", (tmp_path / "b.xlsx").read_bytes())
    page = browser.open(f"/staged?id={one}")
    assert "Summer" in words(page)
    browser.press(page, "columns", sheet="Summer")
    assert "1 good" in words(checked(browser, one))


def test_an_import_goes_on_in_slices_and_after_a_crash(
    at_console: tuple[Console, Browser], queue: Queue
) -> None:
    """Each slice begins behind the last; what was accepted and not noted comes in once all the same."""
    here, browser = at_console
    content = HEAD + "".join(row(n) for n in range(3500))
    one = upload(browser, "m.csv", content.encode())
    begin(browser, one, 3500)
    assert here.staging.go_on(one, for_s=0) is True
    first = here.staging.get(one)
    assert 0 < first.rows < 3500
    assert here.staging.go_on(one, for_s=0) is True
    here.staging.change(one, rows=first.rows, accepted=first.accepted)  # as after a crash
    while here.staging.go_on(one, for_s=0):
        pass
    run = JobReader(client=queue.client, orgs={}).run(first.run)
    assert (run.total, run.queued, run.duplicates) == (3500, 3500, 0)
    assert here.staging.get(one).rows == 3500
    assert here.staging.go_on(one) is False, "it is over"


def test_one_worker_imports_a_file_at_a_time_and_a_silent_one_is_replaced(
    at_console: tuple[Console, Browser], client: redis.Redis
) -> None:
    """Whoever has it keeps it for a minute; an import of which nothing is heard is asked for again."""
    here, browser = at_console
    one = upload(browser, "m.csv", (HEAD + row(1)).encode())
    begin(browser, one, 1)
    assert staged.take(client, one, "somebody")
    assert here.staging.go_on(one) is False
    assert here.staging.get(one).state == "asked"
    here.tend()
    assert sent(browser) == [one]
    here.staging.change(one, alive_at=int(time.time()) - 1000)
    here.tend()
    assert sent(browser) == [one, one]
    staged.give_back(client, one, "another")
    assert here.staging.go_on(one) is False, "it isn't the other's to give"
    staged.give_back(client, one, "somebody")
    here.staging.go_on(one)
    assert here.staging.get(one).state == "done"


def test_an_import_is_stopped_and_a_file_taken_away(at_console: tuple[Console, Browser]) -> None:
    """Stopped, no more comes in; what wasn't begun is deleted."""
    here, browser = at_console
    one = upload(browser, "m.csv", (HEAD + "".join(row(n) for n in range(2500))).encode())
    page = begin(browser, one, 2500)
    assert here.staging.go_on(one, for_s=0) is True
    browser.press(page, "stop")
    assert here.staging.go_on(one) is False
    assert here.staging.get(one).state == "cancelled"
    two = upload(browser, "n.csv", (HEAD + row(1)).encode())
    browser.press(browser.open(f"/staged?id={two}"), "stop")
    with pytest.raises(NotFound):
        here.staging.get(two)


def test_what_is_stopped_before_a_worker_begins_is_not_imported(at_console: tuple[Console, Browser]) -> None:
    """Nor is a row of it, where it is stopped between two slices; where one is at it, it sees that."""
    here, browser = at_console
    one = upload(browser, "m.csv", (HEAD + "".join(row(n) for n in range(2500))).encode())
    page = begin(browser, one, 2500)
    assert "No worker is alive" in words(browser.open(f"/staged?id={one}"))
    browser.press(page, "stop")
    assert (here.staging.get(one).state, here.staging.go_on(one)) == ("cancelled", False)
    assert here.staging.get(one).accepted == 0
    two = upload(browser, "n.csv", (HEAD + "".join(row(n) for n in range(2500))).encode())
    page = begin(browser, two, 2500)
    with here.staging.alone(two, "a worker"):
        browser.press(page, "stop")
        assert here.staging.get(two).goes_on
        assert "It ends behind the rows" in words(browser.open(f"/staged?id={two}"))
    assert here.staging.go_on(two) is False
    assert (here.staging.get(two).state, here.staging.get(two).accepted) == ("cancelled", 0)


def test_a_page_of_before_neither_stops_nor_changes_an_import(at_console: tuple[Console, Browser]) -> None:
    """It offered to take the file away, or to read it otherwise, and somebody has begun with it since."""
    here, browser = at_console
    one = upload(browser, "m.csv", (HEAD + row(1)).encode())
    old = browser.open(f"/staged?id={one}")
    with here.staging.alone(one, "who imports it"):
        assert "somebody else" in browser.send("columns", browser.form(old, "columns")).text
    begin(browser, one, 1)
    assert "its import has begun" in browser.send("stop", browser.form(old, "stop")).text
    assert browser.send("columns", browser.form(old, "columns")).status_code == 400
    assert here.staging.get(one).goes_on
    assert here.staging.go_on(one) is False
    assert here.staging.get(one).accepted == 1


def test_a_file_is_gone_after_a_day(at_console: tuple[Console, Browser]) -> None:
    """With what is known of it, and what lies there that nobody knows; the page says so."""
    here, browser = at_console
    one = upload(browser, "m.csv", (HEAD + row(1)).encode())
    two = upload(browser, "n.csv", (HEAD + row(2)).encode())
    begin(browser, two, 1)
    stray = here.settings.uploads / "stray.upload"
    stray.touch()
    now = here.wall()
    here.wall = lambda: now + 86_000
    here.tend()
    assert here.staging.get(one)
    assert stray.exists()
    here.wall = lambda: now + 87_000
    here.tend()
    assert [path.stem for path in here.settings.uploads.iterdir()] == [two], "it waits for a worker"
    assert "upload it again" in browser.open(f"/staged?id={one}", expect=404)


def test_a_mended_report_goes_up_the_same_way(at_console: tuple[Console, Browser], queue: Queue) -> None:
    """A bad row is downloaded, mended, uploaded, and takes its letter's place."""
    here, browser = at_console
    one = upload(browser, "m.csv", (HEAD + row(1) + f"{BADGE},C-9,1674292011,1905828011\n").encode())
    begin(browser, one, 2)
    here.staging.go_on(one)
    run = here.staging.get(one).run
    report = browser.http.get(f"/report.csv?run={run}&state=dead").content.decode("utf-8-sig")
    two = upload(browser, "report.csv", report.replace("C-9", "500000009").encode())
    begin(browser, two, 1)
    here.staging.go_on(two)
    done = here.staging.get(two)
    assert (done.accepted, done.invalid, done.problem) == (1, 0, "")
    progress = JobReader(client=queue.client, orgs={}).run(run)
    assert progress.unhandled == 0
