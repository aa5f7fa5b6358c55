"""What a check says of rows is what an import of them then does."""

from __future__ import annotations

import datetime as dt
import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
import workbooks
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import BADGE, OTHER_BADGE, configured

from worker.domain.check import Check, Would
from worker.domain.item import Remarks, Source
from worker.domain.job import State
from worker.domain.localdates import DateFormat, read_zone
from worker.domain.numbers import BadCell
from worker.domain.org import Org
from worker.domain.seen import Fingerprints, Met
from worker.enqueue import Enqueued, EnqueueOptions, total
from worker.errors import ConfigError, FileError
from worker.files.columns import Names
from worker.files.dated import Dating, dated
from worker.files.reader import read_rows
from worker.files.xlsx_rows import SheetOptions
from worker.operate.checking import Checking, check_rows
from worker.operate.importing import import_rows
from worker.operate.past import StoredPast
from worker.operate.profiles import from_toml, of_file
from worker.operate.report import result_lines
from worker.operate.runs import JobReader
from worker.server.connection import Connection
from worker.store import keys
from worker.store.pool import Seats
from worker.store.queue import Queue, new_id

ORG = configured(rate_limit="60/minute,items:600/minute", batch_size=20)
_FEW = {
    "deadline": None,
    "database": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    "max_examples": 40,
}


@pytest.fixture
def queue(connection: Connection) -> Iterator[Queue]:
    """An empty queue."""
    with connection.client() as client:
        client.flushall()
        yield Queue(client)
        client.flushall()


def checked(
    queue: Queue,
    text: str,
    *,
    name: str = "f.jsonl",
    org: Org = ORG,
    names: Names | None = None,
    hold: bool = False,
) -> Check:
    """Check a file against what is in the store."""
    past = StoredPast(queue, org)
    rows = read_rows(io.BytesIO(text.encode()), name=name, names=names or Names())
    checking = Checking(org, past, names=names or Names(), hold_repeats=hold)
    for _ in check_rows(checking, rows):
        pass
    return checking.result(past.state())


def imported(queue: Queue, text: str, *, name: str = "f.jsonl", org: Org = ORG, hold: bool = False) -> Would:
    """Import the same file, as a new run."""
    done = taken_in(queue, text, name=name, org=org, hold=hold)
    return Would(done.accepted, done.duplicates, done.invalid, done.held)


def taken_in(
    queue: Queue, text: str, *, name: str = "f.jsonl", org: Org = ORG, hold: bool = False
) -> Enqueued:
    """Import it, and return all that is said of it."""
    run = f"r-{new_id()}"
    rows = read_rows(io.BytesIO(text.encode()), name=name)
    options = EnqueueOptions(run, new_id(), repeats="hold" if hold else "count")
    return total(run, import_rows(queue, org, rows, options))


def line(customer: object = 1, event: object = 1674292011, **more: object) -> str:
    """Write a row as a line of JSON."""
    row = {"badgeMetaId": BADGE, "customerId": customer, "earnEventDate": event} | more
    return json.dumps({name: value for name, value in row.items() if value is not None}) + "\n"


_rows = st.builds(
    lambda customer, event, own, badge: line(customer, event, job_id=own, badgeMetaId=badge),
    st.sampled_from([1, 2, 3, "4", "C-1", 0]),
    st.sampled_from([1674292011, 1674292012, "1674292011000", "20261231", None]),
    st.sampled_from([None, None, None, "own-1", "own-2"]),
    st.sampled_from([BADGE, BADGE, OTHER_BADGE, "two words"]),
)
_files = st.lists(_rows | st.just('{"x": 1}\n') | st.just("{\n"), max_size=12).map("".join)


@settings(**_FEW)  # type: ignore[arg-type]
@example(before=[], text=line(job_id="own-1") + line(2, job_id="own-1") + line(2), strict=False, hold=True)
@example(before=[line(3, job_id="own-1")], text=line(2, job_id="own-1") + line(2), strict=False, hold=True)
@example(before=[line(2, job_id="own-1")], text=line(2, job_id="own-1") + line(2), strict=False, hold=False)
@given(before=st.lists(_files, max_size=2), text=_files, strict=st.booleans(), hold=st.booleans())
def test_what_a_check_says_is_what_an_import_does(
    connection: Connection,
    before: list[str],
    text: str,
    strict: bool,  # noqa: FBT001
    hold: bool,  # noqa: FBT001
) -> None:
    """Whatever was imported before and whatever the file holds, its forecast is right to the row."""
    org = ORG.model_copy(update={"strict_dates": strict})
    with connection.client() as client:
        client.flushall()
        queue = Queue(client)
        for earlier in filter(str.strip, before):
            imported(queue, earlier, org=org)
        if not text.strip():
            return
        check = checked(queue, text, org=org, hold=hold)
        waiting = client.llen("{badges:default}/queue")
        assert (check.waiting, check.rows) == (waiting, len(text.splitlines()))
        assert checked(queue, text, org=org, hold=hold) == check, "a check changes nothing"
        done = taken_in(queue, text, org=org, hold=hold)
        would = Would(done.accepted, done.duplicates, done.invalid, done.held)
        assert check.would == would
        assert check.near_duplicates == done.near_duplicates
        assert check.duplicates.before is not None
        assert check.good - check.duplicates.in_file - check.duplicates.before == would.accepted + would.held
        assert checked(queue, text, org=org).would == Would(0, check.rows, 0), "now all of it is known"


BERLIN, FORMATS = read_zone("Europe/Berlin"), DateFormat.parse("DD.MM.YYYY or DD.MM.YYYY HH:mm")
_CELLS = st.tuples(
    st.sampled_from([BADGE, BADGE, BADGE, OTHER_BADGE.upper(), "two words"]),
    st.sampled_from([1, 2, "3", "0003", 4.0, "C-1", "Total", ""]),
    st.sampled_from(
        [
            *("05.01.2026", "05.01.2026 00:00", "2026-01-05T00:00:00+01:00", "1767567600", 1767567600),
            *(
                "2026-01-05 00:00",
                "29.03.2026 02:30",
                "25.10.2026 02:30",
                "31.02.2026",
                "2026010510",
                "",
                "x",
            ),
            *(dt.datetime(2026, 1, 5), dt.datetime(2026, 3, 29, 2, 30)),  # noqa: DTZ001 - as cells are
        ]
    ),
    st.sampled_from(["", "", "31.12.2027", "1830293999", "31.12.9999"]),
    st.booleans(),  # hidden, in a workbook
)
_FORMS = st.sampled_from(["f.csv", "f.xlsx", "f.jsonl"])


def table(rows: Sequence[tuple[Any, ...]], form: str, names: Names) -> bytes:
    """Write a table whose columns aren't named as the fields; the badge is left out if it is set for all."""
    left_out = len(names.fixed)
    columns = ["Badge", "Kunde", "Verliehen", "earnExpiresOn"][left_out:]
    cells = [list(row[left_out:4]) for row in rows]
    if form == "f.xlsx":
        book = workbooks.saved([["Members"], columns, *cells])
        for number, row in enumerate(rows, 3):
            book["Members"].row_dimensions[number].hidden = row[4]
        return workbooks.content(book)
    texts = [["" if cell is None else str(cell) for cell in row] for row in cells]
    if form == "f.csv":
        return "\n".join(map(",".join, [columns, *texts, [""]])).encode()
    return "\n".join(json.dumps(dict(zip(columns, row, strict=True))) for row in [*texts]).encode() + b"\n"


def read(data: bytes, form: str, names: Names, how: Dating) -> Iterator[Source]:
    """Read a file as the commands do."""
    return dated(read_rows(io.BytesIO(data), name=form, names=names), how, Remarks(), name=form)


class Reading(NamedTuple):
    """A file of some form, of which so many rows came in before in some form, and how it is read."""

    form: str
    before: tuple[int, str]
    is_set: bool
    how: Dating
    hold: bool


_readings = st.builds(
    Reading,
    _FORMS,
    st.tuples(st.integers(0, 8), _FORMS),
    st.booleans(),
    st.sampled_from([Dating(), Dating(None, BERLIN), Dating(FORMATS, BERLIN)]),
    st.booleans(),
)


@settings(**_FEW)  # type: ignore[arg-type]
@given(rows=st.lists(_CELLS, min_size=1, max_size=8), reading=_readings)
def test_it_is_so_however_a_file_is_read(
    connection: Connection, rows: list[tuple[Any, ...]], reading: Reading
) -> None:
    """As CSV, workbook or JSON, with columns mapped, values set, formats and a zone; some of it known before.

    A profile that was made of it, and came back from its TOML, reads the same badges.
    """
    form, before, is_set, how, hold = reading
    maps = ["Badge=badgeMetaId"] * (not is_set) + ["Kunde=customerId", "Verliehen=earnEventDate"]
    names = Names.parse(maps, {"badgeMetaId": BADGE} if is_set else {})
    known, its = rows[: before[0]], before[1]
    data = table(rows, form, names)
    with connection.client() as client:
        client.flushall()
        queue, past = Queue(client), StoredPast(Queue(client), ORG)

        def check(names: Names = names, how: Dating = how) -> Check:
            checking = Checking(ORG, past, names=names, hold_repeats=hold)
            list(check_rows(checking, read(data, form, names, how)))
            return checking.result(past.state())

        def take_in(data: bytes, form: str) -> Enqueued:
            options = EnqueueOptions(f"r-{new_id()}", new_id(), repeats="hold" if hold else "count")
            return total(options.run, import_rows(queue, ORG, read(data, form, names, how), options))

        with suppress(ConfigError, FileError):
            take_in(table(known, its, names), its)
        try:
            said = check()
        except (ConfigError, FileError) as error:
            with pytest.raises(type(error), match=re.escape(str(error))):
                take_in(data, form)
            return
        done = take_in(data, form)
        assert said.would == Would(done.accepted, done.duplicates, done.invalid, done.held)
        assert said.near_duplicates == done.near_duplicates
        again = check()
        assert again.would == Would(0, said.rows, 0), "now all of it is known"
        if form != "f.jsonl":
            columns = ["Badge", "Kunde", "Verliehen", "earnExpiresOn"][is_set:]
            profile = from_toml(of_file("monthly", columns, names, how).to_toml(), "monthly.toml")
            assert check(profile.names(), profile.dates()).would == again.would


def test_every_fault_of_every_row_is_told(queue: Queue) -> None:
    """By field and reason, the largest first, with rows and values; a row with three faults is in three."""
    bad = line("C-1", "20261231", earnExpiresOnISO="tomorrow")
    check = checked(queue, bad + line("C-2") + line("C-3", job_id="two words") + line(1))
    assert [(fault.field, fault.count, fault.rows, fault.values) for fault in check.faults] == [
        ("customerId", 3, (1, 2, 3), ("C-1", "C-2", "C-3")),
        ("earnEventDate", 1, (1,), ("20261231",)),
        ("earnExpiresOnISO", 1, (1,), ("tomorrow",)),
        ("job_id", 1, (3,), ("two words",)),
    ]
    assert (check.good, check.invalid, check.would) == (1, 3, Would(1, 0, 3))


def test_duplicates_and_near_duplicates_in_the_file_and_before(queue: Queue) -> None:
    """Equal rows aren't sent; the same badge of the same customer with another date is, and is told."""
    imported(queue, line(1) + line(2) + line(5, job_id="mine"))
    rows = [line(1), line(2, 1674292999), line(3), line(3), line(3, 1674292999), line(4), line(5)]
    check = checked(queue, "".join(rows))
    assert (check.duplicates.in_file_rows, check.duplicates.before_rows) == ((4,), (1,))
    assert check.near_duplicate_rows == (2, 5, 7)
    assert check.would == Would(5, 2, 0)


def test_thousands_of_plain_rows_are_looked_for_while_others_are_read(queue: Queue) -> None:
    """What a file of several thousands has, and has twice, and what was there before, is told row by row."""
    rows = [f"{BADGE},{n},1674292011,1905828011" for n in range(1, 4501)]
    rows[4000], rows[3999] = rows[10], f"{BADGE},12,1674292012,1905828011"
    head = "badgeMetaId,customerId,earnEventDate,earnExpiresOn"
    before = "\n".join([head, *rows[2000:2500], *rows[20:30], ""])
    taken_in(queue, before, name="before.csv")
    text = "\n".join([head, *rows, ""])
    check = checked(queue, text, name="f.csv")
    assert check.duplicates.in_file_rows == (4002,)
    assert check.duplicates.before_rows == (*range(22, 32), *range(2002, 2012))
    assert (check.duplicates.before, check.near_duplicate_rows) == (510, (4001,))
    assert check.would == imported(queue, text, name="f.csv") == Would(3989, 511, 0)


def test_samples_show_what_a_cell_shows() -> None:
    """Also of a cell that can't be taken: nothing of how we mark it."""
    checking = Checking(ORG)
    wrong = [
        BadCell.of("rounded", "1000000000000001", "is rounded"),
        BadCell.of("error", "#N/A", "is an error"),
    ]
    checking.add([Source(str(n), {"customerId": cell}) for n, cell in enumerate(wrong, 2)])
    check = checking.result()
    assert check.columns[0].samples == ("1000000000000001", "#N/A")
    shown = {value for fault in check.faults for value in fault.values}
    assert shown == {"1000000000000001", "#N/A"}


def test_what_it_costs(queue: Queue) -> None:
    """Calls by the size of a batch, seconds by the limit behind what waits, unless all stands still."""
    imported(queue, "".join(line(n) for n in range(1, 41)))
    text = "".join(line(n) for n in range(100, 145))
    assert checked(queue, text).seconds is None, "nobody sends"
    Seats(queue=queue).offer("somebody", 4)
    check = checked(queue, text)
    assert (check.waiting, check.calls) == (40, 3)
    assert check.seconds is not None
    assert 8 <= check.seconds <= 10, "600 items a minute, for 85"
    queue.pause("default", why="hand", reason="")
    assert checked(queue, text).seconds is None


def test_what_it_costs_where_the_next_job_is_the_probe(queue: Queue) -> None:
    """Nothing waits, so that nobody knows whether the vendor is back; once it is, batches are full again."""
    Seats(queue=queue).offer("somebody", 4)
    gate = {"probing": 1, "why": "vendor unavailable", "since": 1_700_000_000_000}
    queue.client.hset(keys.key("default", "gate"), mapping=gate)
    check = checked(queue, "".join(line(n) for n in range(100, 145)))
    assert (check.waiting, check.calls) == (0, 3)
    assert check.seconds is not None


def test_the_columns_and_what_is_in_them(queue: Queue) -> None:
    """Each with its field, or as ignored, and the first cells that differ."""
    text = f"Badge,customer_id,Name\n{BADGE},7,Ann\n{BADGE},8,Bo\n{BADGE},9,Ann\n"
    names = Names.parse(["Badge=badgeMetaId", "Name="])
    check = checked(queue, text, name="f.csv", names=names)
    assert [(column.column, column.field, column.samples) for column in check.columns] == [
        ("Badge", "badgeMetaId", (BADGE,)),
        ("customerId", "customerId", ("7", "8", "9")),
        ("Name", None, ("Ann", "Bo")),
    ]


def test_columns_are_called_as_in_the_file() -> None:
    """By their own names, in their order, also those that are empty or whose dates were read."""
    text = f"Empty,When,customer_id,Badge,earnExpiresOn\n,31.12.2026,7,{BADGE},1905828011\n"
    names, remarks = Names.parse(["Badge=badgeMetaId", "When=earnEventDate", "Empty="]), Remarks()
    sheets = SheetOptions(remarks=remarks)
    rows = read_rows(io.BytesIO(text.encode()), name="f.csv", names=names, sheets=sheets)
    how = Dating(DateFormat.parse("DD.MM.YYYY"), read_zone("+01:00"))
    checking = Checking(ORG, names=names)
    list(check_rows(checking, dated(rows, how, remarks, name="f.csv")))
    checking.remark(remarks)
    assert [(column.column, column.field, column.samples) for column in checking.result().columns] == [
        ("Empty", None, ()),
        ("When", "earnEventDate", ("2026-12-31T00:00:00+01:00",)),
        ("customer_id", "customerId", ("7",)),
        ("Badge", "badgeMetaId", (BADGE,)),
        ("earnExpiresOn", "earnExpiresOn", ("1905828011",)),
    ]


def test_a_report_that_was_mended(queue: Queue) -> None:
    """Its rows do what importing the report does: mended ones go in, all others are known."""
    imported(queue, line("C-1") + line("C-2") + line(3))
    reader = JobReader(client=queue.client, orgs={})
    (run,) = [run.run for run in reader.runs()]
    rows: list[Any] = list(reader.results(run=run, state=State.DEAD))
    report = "".join(result_lines(rows, form="csv"))
    assert checked(queue, report, name="r.csv").would == Would(0, 2, 0)
    mended = report.replace("C-1", "11", 1)
    check = checked(queue, mended, name="r.csv")
    assert check.would == Would(1, 1, 0)
    assert check.would == imported(queue, mended, name="r.csv")


def test_rows_that_mend_nothing_any_more_say_so(queue: Queue) -> None:
    """Their letter was discarded, or a row above mends it; a check says no more than the import does."""
    imported(queue, line("C-1") + line("C-2"))
    reader = JobReader(client=queue.client, orgs={})
    (run,) = [run.run for run in reader.runs()]
    rows: list[Any] = list(reader.results(run=run, state=State.DEAD))
    report = "".join(result_lines(rows, form="csv")).replace("C-1", "11", 1).replace("C-2", "12", 1)
    report += report.splitlines(keepends=True)[2].replace("12", "13", 1)  # the second letter once more
    gone = next(row["job_id"] for row in rows if "C-1" in str(row))
    queue.discard("default", [gone], keep_ms=10**6, call=new_id())
    check = checked(queue, report, name="r.csv")
    assert check.would == Would(1, 2, 0)
    assert [warning.reason for warning in check.warnings if "nothing was done" in warning.reason] == [
        "it was discarded, or is dealt with otherwise: nothing was done",
        "row 3 mends the same job already: nothing was done",
    ]
    assert check.would == imported(queue, report, name="r.csv")


def test_a_file_that_is_cut_off_is_told_as_far_as_it_goes(queue: Queue) -> None:
    """The check has what came before, as the import would have accepted it."""
    rows = read_rows(io.BytesIO(f"[{line(1)},{line('x')},{{".encode()), name="f.json")
    checking = Checking(ORG, StoredPast(queue, ORG))
    with pytest.raises(FileError, match="cut off"):
        list(check_rows(checking, rows))
    assert checking.result().would == Would(1, 0, 1)


def test_nobody_looks_at_the_past() -> None:
    """What can't be told is null, and the rest is told."""
    checking = Checking(ORG)
    list(check_rows(checking, read_rows(io.BytesIO((line(1) + line(1, 5)).encode()), name="f.jsonl")))
    check = checking.result()
    assert (check.would, check.calls, check.seconds, check.waiting) == (None, None, None, None)
    assert (check.good, check.invalid, check.duplicates.before) == (1, 1, None)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3))))
def test_what_was_met_is_known_again(met: list[tuple[int, int]]) -> None:
    """A pair is new once, a content is the same from its second time on."""
    seen, pairs, contents = Fingerprints(), set(), set()
    for pair, content in met:
        said = seen.add(str(pair), f"{pair}.{content}")
        wanted = Met.SAME if (pair, content) in contents else Met.SIMILAR if pair in pairs else Met.NEW
        assert said is wanted
        pairs.add(pair)
        contents.add((pair, content))


def test_many_are_met_in_little_room() -> None:
    """A table that grows forgets nothing."""
    seen = Fingerprints()
    assert all(seen.add(str(n), str(n)) is Met.NEW for n in range(20_000))
    assert all(seen.add(str(n), str(n)) is Met.SAME for n in range(20_000))
    assert seen.add("5", "other") is Met.SIMILAR
