"""A value means the same whichever way it comes in, and what could mean another is refused everywhere."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from celery import Celery
from support import Probe, configured, environment, process, wait_for, worker_command

from worker.domain.badge import ALMOST_NEVER, NEVER, NO_OBJECT_ID
from worker.domain.parsing import LEADING_ZEROS, THOUSANDS
from worker.enqueue import EnqueueOptions, accept, sources, total
from worker.files.reader import read_rows
from worker.operate.importing import import_rows
from worker.operate.runs import JobReader
from worker.server.connection import Connection
from worker.store.queue import Queue, new_id
from worker.store.record import badge_of
from worker.web.intake import HandedIn, take_in

FILES, PROGRAMS = ("csv", "lines", "array"), ("http", "celery", "python")
EXPIRY, EVENT, CUSTOMER, BADGE = "earnExpiresOn", "earnEventDate", "customerId", "badgeMetaId"
EXPIRY_ISO, EVENT_ISO = "earnExpiresOnISO", "earnEventDateISO"
DAY = "write dates as 2026-12-31T"
ISO_HINT = "+01:00 in earnExpiresOnISO"
COMPACT = ("must be an epoch", "reads as a date", ISO_HINT)
YEARS = ("of the years 1973 to 2199",)
LOST = ("as a fraction it may have lost its last digits",)
SHORTENED = ("a spreadsheet shortened it",)
OUTSIDE = ("must lie in the years 1973 to 2199", "leave it empty if there is none")
OFFSET = ("its offset must lie between -14:00 and +14:00",)
NOT_WHOLE = ("must be a whole number",)
NUL = ("a NUL character",)
OBJECTS = ("lines", "array", *PROGRAMS)  # which have null


class Case(NamedTuple):
    """A value of a field as JSON writes it, and what is to become of it.

    It is refused with ``words``, or sent as ``sent``. In CSV the cell is the same, without quotes.
    ``unless`` names ways in which another verdict holds.
    """

    field: str
    written: str
    sent: object = None
    words: tuple[str, ...] = ()
    warning: str = ""
    unless: Mapping[str, tuple[str, ...] | None] = {}

    def words_for(self, way: str) -> tuple[str, ...]:
        """Return the words with which it is refused this way; none if it is taken."""
        return (self.unless[way] or ()) if way in self.unless else self.words


def only(ways: tuple[str, ...], words: tuple[str, ...] | None = None) -> dict[str, tuple[str, ...] | None]:
    """Say that these ways refuse with other words, or take what the others refuse."""
    return dict.fromkeys(ways, words)


TABLE = [
    # Epochs, in seconds and milliseconds.
    Case(EXPIRY, "1705828011", 1705828011),
    Case(EXPIRY, '"1705828011"', 1705828011),
    Case(EXPIRY, "1705828011000", 1705828011),
    Case(EXPIRY, "1705828011500", 1705828011),
    Case(EXPIRY, "1705828011.0", 1705828011),
    Case(EXPIRY, "94694400", 94694400),
    Case(EXPIRY, "7258118399", 7258118399),
    Case(EXPIRY, "946684800000", 946684800),
    Case(EXPIRY, "94694399", words=("must be an epoch", "would be 31 December 1972")),
    Case(EXPIRY, "7258118400", words=YEARS),
    Case(EXPIRY, "7258118400000", words=YEARS),
    Case(EXPIRY, "0", words=("would be 1 January 1970",)),
    Case(EXPIRY, "-1", words=YEARS),
    Case(EXPIRY, "46387", words=("if it is a spreadsheet's date, write it as 2026-12-31",)),
    Case(EXPIRY, "1705828011000000", words=("reads as microseconds, 2024-01-21T09:06:51Z", "1705828011")),
    Case(EXPIRY, "1705828011000000000", words=("reads as nanoseconds", "in seconds that is 1705828011")),
    Case(EXPIRY, "1.70583E+09", 1705830000, words=SHORTENED, unless=only(PROGRAMS)),
    Case(EXPIRY, '"1.70583E+09"', words=SHORTENED),
    Case(EXPIRY, "1705828011.5", words=("must be",)),
    Case(EXPIRY, '"2026-12-31T00:00:00Z"', words=("belongs in earnExpiresOnISO",)),
    Case(EXPIRY, '"31.12.2026"', words=(DAY,)),
    Case(EXPIRY, '"01705828011"', words=("begins with a zero",)),
    Case(EXPIRY, '"+1705828011"', words=("must be an epoch",)),
    Case(
        EXPIRY, '"\u0661\u0667\u0660\u0665\u0668\u0662\u0668\u0660\u0661\u0661"', words=("must be an epoch",)
    ),
    Case(EXPIRY, "true", words=("must be",)),
    Case(EXPIRY, '""', None),
    Case(EXPIRY, '" "', None),
    # Digits that read as dates.
    Case(EXPIRY, "20261231", words=("must be an epoch", DAY)),
    Case(EXPIRY, "31122026", words=("must be an epoch", DAY)),
    Case(EXPIRY, "202612312359", words=(*COMPACT, "2026-12-31T23:59:00")),
    Case(EXPIRY, "261231235959", words=(*COMPACT, "2026-12-31T23:59:59")),
    Case(EXPIRY, "311220262359", words=(*COMPACT, "2026-12-31T23:59:00")),
    Case(EXPIRY, "20261231235959", words=COMPACT),
    Case(EXPIRY, '"20261231235959"', words=COMPACT),
    Case(EXPIRY, "31122026235959", words=COMPACT),
    Case(EVENT, "20250910120000", words=("reads as a date", "2025-09-10T12:00:00+01:00 in earnEventDateISO")),
    Case(EXPIRY, "2026123123", 2026123123, words=COMPACT, unless=only(PROGRAMS)),
    Case(EXPIRY, "2026123199", 2026123199),
    Case(EXPIRY, "12312026", words=("must be an epoch", DAY)),
    Case(EXPIRY, "2612312359", 2612312359),  # ten digits can be both; nobody writes YYMMDDHHMM
    Case(EXPIRY, "26123123", words=("must be an epoch", DAY)),
    # What isn't a number, or only looks like one.
    Case(EXPIRY, "false", words=("must be",)),
    Case(EXPIRY, "null", words=("must be an epoch",), unless=only(OBJECTS)),
    Case(EXPIRY, "[]", words=("must be",)),
    Case(EXPIRY, "1e400", words=("must be",), unless=only(("lines", "array"), ("1e400 is too large",))),
    Case(EXPIRY, "-1705828011", words=YEARS),
    Case(EXPIRY, "99999999999", words=YEARS),
    Case(EXPIRY, "100000000000", 100000000),
    Case(EXPIRY, "1" + 400 * "0", words=("must be an epoch",)),
    Case(EXPIRY, "1705828011e0", 1705828011, words=SHORTENED, unless=only(PROGRAMS)),
    Case(EXPIRY, "1.705828011E+12", 1705828011, words=SHORTENED, unless=only(PROGRAMS)),
    Case(EXPIRY, '"1_705_828_011"', words=("must be an epoch",)),
    Case(EXPIRY, '"\uff11705828011"', words=("must be an epoch",)),
    Case(EXPIRY, '"1.705.828.011"', words=("must be an epoch",)),
    Case(EXPIRY, r'"17058\u00002801"', words=("must be an epoch",), unless=only(("csv",), NUL)),
    Case(EXPIRY, '"00000000"', words=("would be 1 January 1970",)),
    Case(EXPIRY, '"Never"', words=("must be an epoch", DAY)),
    Case(EXPIRY, '"NULL"', words=("must be an epoch", DAY)),
    Case(EXPIRY, '"20261231T235959Z"', words=("must be an epoch", DAY)),
    # "Never", and no date.
    Case(EXPIRY, "99991231", words=(*COMPACT, "9999-12-31T00:00:00")),
    Case(EXPIRY, "999912312359", words=COMPACT),
    Case(EXPIRY, "311299992359", words=COMPACT),
    Case(EXPIRY, "99991231235959", words=COMPACT),
    Case(EXPIRY, "99999999", 99999999),
    Case(EXPIRY, "253402210800", 253402210, warning=ALMOST_NEVER),
    Case(EXPIRY, "253402300800", 253402300, warning=ALMOST_NEVER),
    Case(EXPIRY, "253402351200", 253402351),
    Case(EXPIRY, "253402214400", words=("is the end of 9999", "9999-12-31T23:59:59Z in earnExpiresOnISO")),
    Case(EXPIRY, "253402300799", words=("is the end of 9999",)),
    Case(EXPIRY, "253402300799000", words=("is the end of 9999",)),
    Case(EXPIRY_ISO, '"9999-12-31T23:59:59Z"', "9999-12-31T23:59:59Z", warning=NEVER),
    Case(EVENT_ISO, '"9999-12-31T23:59:59Z"', words=OUTSIDE),
    Case(EXPIRY_ISO, '"0001-01-01T00:00:00Z"', words=OUTSIDE),
    Case(EXPIRY_ISO, '"1899-12-30T00:00:00Z"', words=OUTSIDE),
    Case(EXPIRY_ISO, '"1970-01-01T00:00:00Z"', words=OUTSIDE),
    Case(EXPIRY_ISO, '"1973-01-01T00:00:00+00:01"', words=OUTSIDE),
    Case(EXPIRY_ISO, '"2200-01-01T00:00:00Z"', words=OUTSIDE),
    Case(EXPIRY_ISO, '""', None),
    # ISO dates.
    Case(EXPIRY_ISO, '"1973-01-01T00:00:00Z"', "1973-01-01T00:00:00Z"),
    Case(EXPIRY_ISO, '"2199-12-31T23:59:59Z"', "2199-12-31T23:59:59Z"),
    Case(EXPIRY_ISO, '" 2026-12-31T23:59:59+05:30 "', "2026-12-31T23:59:59+05:30"),
    Case(EXPIRY_ISO, '"2026-12-31T23:59:59+14:00"', "2026-12-31T23:59:59+14:00"),
    Case(EXPIRY_ISO, '"2026-12-31T23:59:59-14:00"', "2026-12-31T23:59:59-14:00"),
    Case(EXPIRY_ISO, '"2026-12-31T23:59:59+14:01"', words=OFFSET),
    Case(EXPIRY_ISO, '"2026-12-31T23:59:59+05:60"', words=OFFSET),
    Case(EXPIRY_ISO, '"2026-12-31T23:59:59+23:59"', words=OFFSET),
    Case(EXPIRY_ISO, '"2026-12-31T23:59:59"', words=("must be ISO 8601 with an offset",)),
    Case(EXPIRY_ISO, '"2026-02-30T00:00:00Z"', words=("is no date", "isn't in the calendar")),
    Case(EXPIRY_ISO, '"2026-12-31T24:00:00Z"', words=("is no date",)),
    Case(EXPIRY_ISO, '"1705828011"', words=("an epoch belongs in earnExpiresOn",)),
    Case(EXPIRY_ISO, "1705828011", words=("must be",)),
    Case(EXPIRY_ISO, "1705828011.5", words=("must be",)),
    Case(EXPIRY_ISO, '"9999-12-31T23:59:59-14:00"', "9999-12-31T23:59:59-14:00", warning=NEVER),
    Case(EXPIRY_ISO, '"9998-12-31T23:59:59Z"', words=OUTSIDE),
    Case(EXPIRY_ISO, '"2199-12-31T23:59:59-14:00"', words=OUTSIDE),
    Case(EXPIRY_ISO, '"2200-01-01T00:00:00+14:00"', "2200-01-01T00:00:00+14:00"),
    Case(EXPIRY_ISO, '"2026-03-29T02:30:00+01:00"', "2026-03-29T02:30:00+01:00"),  # no such hour in Berlin
    Case(EXPIRY_ISO, '"2026-12-31T23:59:59.123456789Z"', "2026-12-31T23:59:59.123456789Z"),
    Case(EXPIRY_ISO, '"2026-12-31T23:59:59-00:00"', "2026-12-31T23:59:59-00:00"),
    Case(EXPIRY_ISO, '"2026-12-31T23:59:59+0530"', "2026-12-31T23:59:59+0530"),
    Case(EXPIRY_ISO, '"2024-02-29T00:00:00Z"', "2024-02-29T00:00:00Z"),
    Case(EXPIRY_ISO, '"2025-02-29T00:00:00Z"', words=("is no date",)),
    Case(EXPIRY_ISO, '"2026-12-31T23:59:60Z"', words=("is no date",)),
    Case(EXPIRY_ISO, '"0000-00-00T00:00:00Z"', words=("is no date",)),
    *(
        Case(EXPIRY_ISO, f'"{written}"', words=("must be ISO 8601 with an offset",))
        for written in (
            *("2026-12-31 23:59:59Z", "2026-12-31t23:59:59z", "20261231T235959Z", "2026-W53-4T00:00:00Z"),
            *("2026-365T00:00:00Z", "2026-12-31T23Z", "2026-12-31T23:59:59.Z", "2026-12-31T23:59:59+05"),
            *("2026-12-31T23:59:59+05:30:15", "+002026-12-31T23:59:59Z", "12026-12-31T23:59:59Z"),
            *("2026-12-31T23:59:59Europe/Berlin", "2026-12-31T23:59:59+01:00[Europe/Berlin]"),
            *("\uff12\uff10\uff12\uff16-12-31T23:59:59Z", "2026-12-31T23:59:59\u221205:00", "31/12/2026"),
            *("2026-12-31T23:59:59ZZ", "0000-00-00 00:00:00", "2" * 5000),
        )
    ),
    Case(EXPIRY_ISO, '"2026-12-31T23:59:59\u200bZ"', words=("it holds an invisible character (U+200B)",)),
    Case(EXPIRY_ISO, "true", words=("must be",)),
    Case(EXPIRY_ISO, "null", words=("must be ISO 8601",), unless=only(OBJECTS)),
    # Customers.
    Case(CUSTOMER, "7", 7),
    Case(CUSTOMER, '" 8 "', 8),
    Case(CUSTOMER, "9.0", 9),
    Case(CUSTOMER, '"0010"', 10, warning=LEADING_ZEROS),
    Case(CUSTOMER, "9223372036854775807", 9223372036854775807),
    Case(CUSTOMER, "9223372036854775808", words=("must be between 1 and",)),
    Case(CUSTOMER, "9007199254740991.0", 9007199254740991),
    Case(CUSTOMER, "9007199254740992.0", words=LOST),
    Case(CUSTOMER, "9007199254740993.0", words=LOST),
    Case(CUSTOMER, "5.55567E+08", 555567000, words=SHORTENED, unless=only(PROGRAMS)),
    Case(CUSTOMER, "5.55567E+18", words=SHORTENED, unless=only(PROGRAMS, LOST)),
    Case(CUSTOMER, '"5.55567E+08"', words=SHORTENED),
    Case(CUSTOMER, "0", words=("must be between 1 and",)),
    Case(CUSTOMER, "-0", words=("must be between 1 and",)),
    Case(CUSTOMER, "-5", words=("must be between 1 and",)),
    Case(CUSTOMER, '"+555"', words=NOT_WHOLE),
    Case(CUSTOMER, '"1 000"', words=NOT_WHOLE),
    Case(CUSTOMER, '"\u0665"', words=NOT_WHOLE),
    Case(CUSTOMER, '"\u200b555"', words=("it holds an invisible character (U+200B)",)),
    Case(CUSTOMER, "true", words=NOT_WHOLE),
    Case(CUSTOMER, "[5]", words=NOT_WHOLE),
    Case(CUSTOMER, '{"id": 5}', words=NOT_WHOLE, unless=only(("csv",), ("quote stands within a cell",))),
    Case(CUSTOMER, '"555.000"', 555, warning=THOUSANDS),
    Case(CUSTOMER, '"556.00"', 556),
    Case(CUSTOMER, "9007199254740995", 9007199254740995),
    Case(CUSTOMER, "1" + 400 * "0", words=("must be",)),
    Case(CUSTOMER, '"1' + 400 * "0" + '"', words=NOT_WHOLE),
    Case(CUSTOMER, "1e400", words=NOT_WHOLE, unless=only(("lines", "array"), ("1e400 is too large",))),
    Case(CUSTOMER, "4.35E2", 435, words=SHORTENED, unless=only(PROGRAMS)),
    Case(CUSTOMER, "-1.0", words=("must be between 1 and",)),
    Case(CUSTOMER, "1.5", words=NOT_WHOLE),
    Case(CUSTOMER, "false", words=NOT_WHOLE),
    Case(CUSTOMER, "null", words=NOT_WHOLE, unless=only(OBJECTS, ("is missing",))),
    Case(CUSTOMER, r'"5\u00005"', words=NOT_WHOLE, unless=only(("csv",), NUL)),
    *(
        Case(CUSTOMER, f'"{written}"', words=NOT_WHOLE)
        for written in (
            "\uff15\uff15",
            "1_000",
            "0x1F",
            "5.",
            ".5",
            "1.000.000",
            "\u00b2",
            "\u2164",
            "'555",
            "five",
        )
    ),
    # Badges.
    Case(BADGE, r'"GO\u0000LD"', words=("1 to 64 printable",), unless=only(("csv",), NUL)),
    Case(BADGE, '"\u200b696f0fd40772ad476ecf74ac"', words=("it holds an invisible character (U+200B)",)),
    Case(BADGE, '"\ufeff696f0fd40772ad476ecf74ac"', words=("it holds an invisible character (U+FEFF)",)),
    Case(BADGE, f'"{"x" * 65}"', words=("1 to 64 printable",)),
    Case(BADGE, '"\u00e9"', words=("1 to 64 printable",)),
    Case(BADGE, "true", "true", words=("must be text",), unless=only(("csv",))),
    Case(BADGE, "5", "5", words=("must be text",), unless=only(("csv",))),
    Case(BADGE, "null", "null", words=("is missing",), unless=only(("csv",))),
    Case(BADGE, '"GOLD"', "GOLD", warning=NO_OBJECT_ID),
    Case(BADGE, '"6.96E+23"', "6.96E+23", warning=NO_OBJECT_ID),
    Case(BADGE, "6.96E+23", "6.96E+23", words=("must be text",), unless=only(("csv",))),
    Case(BADGE, '"two words"', words=("1 to 64 printable characters",)),
    # Where it belongs.
    Case("org", '"default"'),
    Case("Org", '"default"'),
    Case("ORG", '""'),
    Case("org", '"acme"', words=("it belongs to “acme”, and this goes to default",)),
    Case("org", '"DEFAULT"', words=("it belongs to “DEFAULT”",)),
    Case("org", '" default "'),
    Case("org", '"d\u0435fault"', words=("it belongs to",)),  # with a letter of another alphabet
    Case(" org", '"acme"', words=("it belongs to “acme”",)),
    Case("org", "5", words=("it belongs to",)),
    Case("org", "null", words=("it belongs to “null”",), unless=only(OBJECTS)),
    Case("job_id", '"a b"', words=("1 to 64 printable",)),
    Case("job_id", '"x1"'),
    Case("job_id", "5", words=("must be text",), unless=only(("csv",))),
    Case("oRg", '"ACME"', words=("it belongs to “ACME”",)),
]


class Here(NamedTuple):
    """A queue that is empty, and what is needed to reach it from elsewhere."""

    queue: Queue
    connection: Connection
    folder: Path


def row_of(case: Case, number: int) -> dict[str, str]:
    """Return the fields of a row in JSON, no two of them of the same badge and customer."""
    row = {BADGE: f'"{number + 1:024x}"', CUSTOMER: str(1000 + number)}
    return row | {case.field: case.written}


def as_json(case: Case, number: int) -> str:
    """Write a row as a JSON object."""
    return "{" + ", ".join(f'"{name}": {value}' for name, value in row_of(case, number).items()) + "}"


def as_csv(case: Case, number: int) -> str:
    """Write a row as a CSV file of its own."""
    row = row_of(case, number)
    cells = [json.loads(text) if text.startswith('"') else text for text in row.values()]
    return f"{','.join(row)}\n{','.join(cells)}\n"


def by_file(here: Here, write: Callable[[Case, int], str], name: str) -> None:
    """Import each row as a file of its own, since the rows of one together decide what its columns are."""
    for number, case in enumerate(TABLE):
        rows = read_rows(io.BytesIO(write(case, number).encode()), name=name)
        done = total("r", import_rows(here.queue, configured(), rows, EnqueueOptions("r", new_id())))
        if case.warning:
            assert case.warning in [odd.reason for odd in done.warnings], case


def by_http(here: Here) -> None:
    """Hand all rows in with one body."""
    body = "[" + ",".join(as_json(case, number) for number, case in enumerate(TABLE)) + "]"
    taken: Any = take_in(here.queue, configured(), HandedIn(body.encode(), run="r"))
    for case, row in zip(TABLE, taken.rows, strict=True):
        assert case.warning in ["", *row.get("warnings", [])], case


def by_celery(here: Here) -> None:
    """Send all rows in one message to a real worker."""
    items = [json.loads(as_json(case, number)) for number, case in enumerate(TABLE)]
    urls = {"redis_url": here.connection.url, "broker_url": here.connection.broker_url}
    env = environment(**urls, api_base_url="http://127.0.0.1:9")
    with process(worker_command("--concurrency", 1), env=env, log=here.folder / "worker.log"):
        here.queue.pause("default", why="hand", reason="nothing is to be sent")
        with Celery(broker=here.connection.broker_url) as stranger:
            stranger.send_task("badges.enqueue", kwargs={"items": items, "run": "r"})
        wait_for(lambda: Probe(here.queue.client).count("r", "total") == len(TABLE), within_s=60)


def by_python(here: Here) -> None:
    """Hand all rows in as values of Python."""
    items = [json.loads(as_json(case, number)) for number, case in enumerate(TABLE)]
    options = EnqueueOptions("r", new_id())
    done = total("r", accept(here.queue, configured(), sources(items, options.call), options))
    reasons = [odd.reason for odd in done.warnings]
    assert {case.warning for case in TABLE if case.warning} <= set(reasons)


WAYS: dict[str, Callable[[Here], None]] = {
    "csv": lambda here: by_file(here, as_csv, "f.csv"),
    "lines": lambda here: by_file(here, lambda case, n: f"{as_json(case, n)}\n", "f.jsonl"),
    "array": lambda here: by_file(here, lambda case, n: f"[{as_json(case, n)}]", "f.json"),
    "http": by_http,
    "celery": by_celery,
    "python": by_python,
}


TWICE = f'{{"badgeMetaId": "{1:024x}", "customerId": 7, "customerId": 8}}'


@pytest.mark.parametrize(
    ("data", "name"), [(f"{TWICE}\n", "f.jsonl"), (f"[{TWICE}]", "f.json"), (TWICE.replace(" 8", " 7"), "-")]
)
def test_a_key_that_is_given_twice_is_refused_in_a_file(client: redis.Redis, data: str, name: str) -> None:
    """Even where both are the same. By Celery its whole message is refused (``test_messages.py``)."""
    rows = read_rows(io.BytesIO(data.encode()), name=name)
    done = total("r", import_rows(Queue(client), configured(), rows, EnqueueOptions("r", new_id())))
    assert (done.accepted, done.invalid) == (0, 1)


def test_a_body_that_is_no_json_or_ambiguous_is_refused_by_http(client: redis.Redis) -> None:
    """A key given twice spoils its row; what isn't JSON, as NaN, the body: nothing of it is taken."""
    taken: Any = take_in(Queue(client), configured(), HandedIn(f"[{TWICE}]".encode(), run="r"))
    assert (taken.rows[0]["status"], "given twice" in str(taken.rows[0])) == ("invalid", True)
    for constant in ("NaN", "Infinity", "-Infinity"):
        body = f'[{{"badgeMetaId": "{2:024x}", "customerId": 7}}, {{"customerId": {constant}}}]'
        refused: Any = take_in(Queue(client), configured(), HandedIn(body.encode(), run="r"))
        assert refused.status == 400
    assert len(list(JobReader(client=client, orgs={}).ids("default", "r"))) == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_value_means_the_same_whichever_way_it_comes_in(
    client: redis.Redis, connection: Connection, tmp_path: Path, way: str
) -> None:
    """Each row of the table is sent as it says, or refused with its words, or has a stated difference."""
    here = Here(Queue(client), connection, tmp_path)
    WAYS[way](here)
    reader = JobReader(client=client, orgs={})
    rows = list(reader.results(run="r"))
    records = [record for _, record in reader.records("default", reader.ids("default", "r"))]
    assert len(rows) == len(records) == len(TABLE)
    for case, row, record in zip(TABLE, rows, records, strict=True):
        words = case.words_for(way)
        if not words:
            assert row["state"] == "queued", (case, row)
            assert badge_of(record).body("s").get(case.field) == case.sent, case
            assert case.warning in [*row["warnings"], "", LEADING_ZEROS, THOUSANDS], case
            continue
        assert (row["state"], row["error"] and row["error"]["kind"]) == ("dead", "invalid"), (case, row)
        found = f"{row['error']['code']}: {row['error']['message']}"
        assert all(word in found for word in words), (case, found)
