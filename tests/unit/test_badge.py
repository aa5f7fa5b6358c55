"""What a producer hands in becomes a badge or a named reason; the same badge is known as the same."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from time import process_time
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from samples import DEFAULT_BODY, SAMPLE

from worker.domain.badge import Badge, BadgeIssue
from worker.domain.dates import END_S, FIRST_S, EpochUnit
from worker.domain.identity import content_id, short_hash
from worker.domain.invalid import Invalid
from worker.domain.parsing import parse_item
from worker.domain.spellings import compact_date
from worker.domain.text import plain
from worker.store.record import badge_fields, badge_of

ITEM: dict[str, Any] = {"badgeMetaId": "696f0fd40772ad476ecf74ac", "customerId": 555567088}
NOON_S, NOON_MS, NOON_ISO = 1757498400, 1757498400000, "2025-09-10T15:30:00+05:30"
LATER_S = NOON_S + 86400
DATES = ("earnEventDate", "earnExpiresOn")
EVENT, EXPIRY = (f"T00:00:00+01:00 in {name}ISO" for name in DATES)
SERIAL = "if it is a spreadsheet's date, write it as"


instants = st.datetimes(datetime(1974, 1, 1), datetime(2199, 12, 31)).map(  # noqa: DTZ001 - made aware here
    lambda at: at.replace(microsecond=0, tzinfo=UTC)
)
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**20, 10**60)
    | st.floats()
    | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=8,
)


def good(item: object = None, *, strict_dates: bool = False, **changes: Any) -> BadgeIssue:
    """Return the badge that the item, or the usual one with these changes, becomes."""
    parsed = parse_item(ITEM | changes if item is None else item, strict_dates=strict_dates)
    assert isinstance(parsed, BadgeIssue), parsed
    return parsed


def bad(item: object = None, *, strict_dates: bool = False, **changes: Any) -> Invalid:
    """Return why the item, or the usual one with these changes, is refused."""
    parsed = parse_item(ITEM | changes if item is None else item, strict_dates=strict_dates)
    assert isinstance(parsed, Invalid), parsed
    assert parsed.reason
    return parsed


# -- fields


@pytest.mark.parametrize("value", [7, "7", " 7 ", "7\n", "007", "7.0", 7.0, "7.000"])
def test_a_whole_number_is_taken_however_it_is_written(value: object) -> None:
    """A customer's id may come as a number or as text, with blanks around it or zeros behind the point."""
    assert good(customerId=value).customer_id == 7


@pytest.mark.parametrize("value", [2**63 - 1, str(2**63 - 1), 1])
def test_the_whole_range_of_ids_is_taken_exactly(value: object) -> None:
    """The largest id that a signed 64-bit number holds is taken, to the last digit."""
    assert good(customerId=value).customer_id == int(str(value))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "between 1 and"),
        ("0", "between 1 and"),
        ("-0", "between 1 and"),
        (-5, "between 1 and"),
        (2**63, "between 1 and"),
        (10**100, "between 1 and"),
        (1e300, "lost its last digits"),
        (2.0**53 + 2, "lost its last digits"),
        (2.0**53, "lost its last digits"),
        ("9007199254740992.0", "lost its last digits"),
        ("+555", "whole number"),
        ("\u200b555", "it holds an invisible character (U+200B)"),
        (7.5, "fraction"),
        ("7.5", "whole number"),
        ("7e3", "whole number"),
        ("1,000", "whole number"),
        ("1_000", "whole number"),
        ("٣", "whole number"),
        ("9" * 5000, "whole number"),
        ("", "whole number"),
        (True, "not true or false"),
        (float("nan"), "fraction"),
        (float("inf"), "fraction"),
        ([7], "not an array"),
        ({}, "not an object"),
        (None, "is missing"),
    ],
)
def test_a_bad_customer_id_is_named_with_the_reason(value: object, words: str) -> None:
    """No id is guessed: what isn't a whole number between 1 and 2^63-1 is refused in so many words."""
    problem = bad(customerId=value)
    assert problem.field == "customerId"
    assert words in problem.reason


@pytest.mark.parametrize("name", ["badgeMetaId", "job_id"])
@pytest.mark.parametrize("value", ["a", " a", "a\n", "a\r\n", "\ta\u2028", "\ufeffa"[1:]])
def test_blanks_around_a_name_are_no_part_of_it(name: str, value: str) -> None:
    """A trailing newline, as files leave it, is stripped."""
    badge = good(**{name: value})
    assert {"badgeMetaId": badge.badge_meta_id, "job_id": badge.job_id}[name] == "a"


@pytest.mark.parametrize("name", ["badgeMetaId", "job_id"])
@pytest.mark.parametrize(
    "value", ["", " ", "a b", "a\nb", "a\x00b", "\x1b[31m", "é", "\ud800", "x" * 65, "a\u200b", 5, True, []]
)
def test_a_bad_name_is_named(name: str, value: object) -> None:
    """A name is 1 to 64 printable ASCII characters: no control character gets into a key or a terminal."""
    assert bad(**{name: value}).field == name


@pytest.mark.parametrize("name", DATES)
@pytest.mark.parametrize(
    "value",
    [-1, 0, FIRST_S - 1, END_S, 10**14, "-1", "soon", 1.5, True, {}, float("nan"), "2025-09-10T15:00:00Z"],
)
def test_a_bad_epoch_is_named(name: str, value: object) -> None:
    """An epoch is a whole number, in seconds or milliseconds of the years 1973 to 2199."""
    assert bad(**{name: value}).field == name


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("earnEventDate", "2025-09-10T15:00:00Z", "this is an ISO date: it belongs in earnEventDateISO"),
        (
            "earnExpiresOn",
            "31.12.2026",
            f"must be an epoch, not “31.12.2026”: write dates as 2026-12-31{EXPIRY}",
        ),
        (
            "earnEventDate",
            "45992",
            f"must be an epoch, and “45992” would be 1 January 1970: {SERIAL} 2025-12-01{EVENT}",
        ),
        (
            "earnExpiresOn",
            20261231,
            f"must be an epoch, and “20261231” would be 23 August 1970: write dates as 2026-12-31{EXPIRY}",
        ),
        ("customerId", "C-7\x1b[2J", "must be a whole number, not “C-7 [2J”"),
        (
            "customerId",
            "5.5E+08",
            "must be a whole number, not “5.5E+08”: a spreadsheet shortened it, take the id from its source",
        ),
    ],
)
def test_what_spreadsheets_make_of_a_value_is_shown_with_the_cure(
    field: str, value: object, reason: str
) -> None:
    """The value and the way out are in the reason, and no day of 1970 is issued without a word."""
    assert bad(**{field: value}) == Invalid(field, reason)


@pytest.mark.parametrize("name", DATES)
@pytest.mark.parametrize(
    "value",
    [
        "2025-09-10T15:00:00",
        "2025-09-10",
        "2025-09-10 15:00:00Z",
        "2025-09-10T15:00:00+05:30 IST",
        "2025-13-01T00:00:00Z",
        "2025-02-30T00:00:00Z",
        "2025-09-10T24:00:00Z",
        "2025-09-10T15:00:60Z",
        "2025-09-10T15:00:00+25:00",
        "0000-01-01T00:00:00Z",
        "٢٠٢٥-09-10T15:00:00Z",
        "2025-09-10T15:00:00." + "0" * 50 + "Z",
        1757498400,
        True,
        [],
    ],
)
def test_iso_needs_an_offset_and_to_be_a_date(name: str, value: object) -> None:
    """ISO without an offset means a different instant everywhere, so it is refused, as is what is no date."""
    assert bad(**{f"{name}ISO": value}).field == f"{name}ISO"


@pytest.mark.parametrize(
    "value",
    ["2025-09-10T10:00:00Z", "2025-09-10T15:30:00+0530", "2025-09-10T10:00Z", " 2025-09-10T10:00:00.0Z\n"],
)
def test_iso_is_taken_as_people_write_it(value: str) -> None:
    """Z, an offset without a colon, no seconds and fractions all say which instant is meant."""
    assert good(earnEventDateISO=value).badge.content() == good(earnEventDate=NOON_S).badge.content()


@pytest.mark.parametrize(
    ("value", "iso"),
    [
        ("2025-09-10 10:00:00+00", "2025-09-10T10:00:00+00:00"),
        ("2025-09-10 10:00:00.5 UTC", "2025-09-10T10:00:00.5Z"),
        ("2025-09-10 10:00Z", "2025-09-10T10:00Z"),
        ("2025-09-10 15:30:00+0530", "2025-09-10T15:30:00+0530"),
        ("2025-09-10T05:00:00 -05:00", "2025-09-10T05:00:00-05:00"),
        ("2025-09-10T10:00:00UTC", "2025-09-10T10:00:00Z"),
    ],
)
def test_iso_as_databases_write_it_is_told_as_iso_has_it(value: str, iso: str) -> None:
    """What a person has to write is said, and that is taken."""
    reason = f"must be ISO 8601 with an offset: write “{value}” as {iso}"
    assert bad(earnEventDateISO=value).reason == reason
    assert good(earnEventDateISO=iso).badge.earn_event_date_iso == iso
    assert "belongs in earnEventDateISO" in bad(earnEventDate=value).reason


@pytest.mark.parametrize("missing", ["badgeMetaId", "customerId"])
def test_what_is_required_and_missing_is_named(missing: str) -> None:
    """An item without badge or customer is refused, and null counts as absent."""
    expected = Invalid(missing, "is missing")
    assert bad({name: value for name, value in ITEM.items() if name != missing}) == expected
    assert bad(ITEM | {missing: None}) == expected


@pytest.mark.parametrize("name", [*DATES, *(f"{name}ISO" for name in DATES), "job_id"])
def test_null_is_absent(name: str) -> None:
    """A date of null is the same as no date: other languages write it so; or as a text that is empty."""
    assert good(**{name: None}) == good()
    if name != "job_id":
        assert good(**{name: ""}) == good(**{name: " "}) == good()


@pytest.mark.parametrize(
    "name", ["earnedOn", "jobId", "badgemetaid", "", "\x1b[31mred", "\ud800", "x" * 5000, "é" * 64]
)
def test_an_unknown_field_is_refused(name: str) -> None:
    """A misspelt field must not silently vanish; its name is fit for a record and a terminal."""
    problem = bad(ITEM | {name: 1})
    shown = problem.field or ""
    assert "field" in problem.reason or "Unicode" in problem.reason
    assert len(shown.encode()) <= 64
    assert all(letter.isprintable() for letter in shown)


@pytest.mark.parametrize("item", [None, 5, "text", b"bytes", [], [ITEM], True, 1.5, object()])
def test_what_is_no_object_is_refused_as_a_whole(item: object) -> None:
    """An item that is no object has no field at fault, and a reason all the same."""
    words = {int: "a number", float: "a number", str: "a text", bool: "true or false", list: "an array"}
    kind = "null" if item is None else words.get(type(item), type(item).__name__)
    reason = f"must be an object with badgeMetaId and customerId, not {kind}"
    assert parse_item(item) == Invalid(None, reason)


@pytest.mark.parametrize("mapping", [dict, MappingProxyType])
def test_any_mapping_is_an_object(mapping: type[Mapping[str, Any]]) -> None:
    """Producers may hand in whatever maps names to values, or a badge that is one already."""
    assert good(mapping(ITEM)) == good(good())  # type: ignore[call-arg]


def test_python_names_work_as_well() -> None:
    """In Python, the names of Python do."""
    assert good({"badge_meta_id": ITEM["badgeMetaId"], "customer_id": "555567088"}) == good()
    with pytest.raises(ValidationError):
        BadgeIssue(badge_meta_id="a b", customer_id=1)


def deep(levels: int) -> object:
    """Return a list in a list in a list."""
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def check(item: object) -> None:
    """Parse an item and use what comes of it."""
    for strict in (False, True):
        parsed = parse_item(item, strict_dates=strict)
        if isinstance(parsed, Invalid):
            assert str(parsed).encode()
        else:
            assert parsed.badge.content()
            assert parsed.badge.warnings() is not None
            assert json.dumps(parsed.badge.body("s"))


@given(
    json_values | st.dictionaries(st.sampled_from([*ITEM, *DATES, "earnEventDateISO", "job_id"]), json_values)
)
def test_nothing_that_json_holds_makes_it_raise(item: object) -> None:
    """Any value at all becomes a badge or a reason, with strict dates as without."""
    check(item)


@pytest.mark.parametrize(
    "item",
    [
        {"badgeMetaId": "a", "customerId": 10**5000},
        ITEM | {"earnEventDate": deep(5000)},
        ITEM | {"earnEventDateISO": "9999-12-31T23:59:59-23:59", "earnExpiresOnISO": "0001-01-01T00:00Z"},
        {1: 2, None: 3, (4,): 5},
        ITEM | {10**5000: 1},
    ],
    ids=["huge number", "deep", "ends of the calendar", "names that are no text", "a huge name"],
)
def test_extremes_do_not_make_it_raise(item: object) -> None:
    """Nor does what no JSON holds, or no stack."""
    check(item)


# -- dates


@pytest.mark.parametrize(
    ("given_", "unit", "leaves"),
    [
        (NOON_S, "s", NOON_S),
        (NOON_S, "ms", NOON_MS),
        (NOON_S, "as_given", NOON_S),
        (NOON_MS, "s", NOON_S),
        (NOON_MS, "ms", NOON_MS),
        (NOON_MS, "as_given", NOON_MS),
        (NOON_MS + 999, "s", NOON_S),
        (str(NOON_MS), "s", NOON_S),
        (FIRST_S, "s", FIRST_S),
        (END_S - 1, "ms", (END_S - 1) * 1000),
        (10**11, "s", 10**8),
        (END_S * 1000 - 1, "ms", END_S * 1000 - 1),
    ],
)
@pytest.mark.parametrize("name", DATES)
def test_epochs_leave_in_the_unit_asked_for(name: str, given_: object, unit: EpochUnit, leaves: int) -> None:
    """Seconds and milliseconds are told apart by size, and leave in EPOCH_UNIT."""
    assert good(**{name: given_}).badge.body(unit) == ITEM | {name: leaves}


def test_the_body_has_the_vendors_names_and_nothing_absent() -> None:
    """The item that is sent holds what was given, under the document's names, and never our job_id."""
    assert good(job_id="mine").badge.body("s") == ITEM
    item = ITEM | {"earnEventDateISO": NOON_ISO, "earnExpiresOn": LATER_S, "earnExpiresOnISO": NOON_ISO}
    assert good(item).badge.body("s") == item


@pytest.mark.parametrize(
    ("dates", "warning", "field"),
    [
        (
            {
                "earnEventDate": NOON_S,
                "earnEventDateISO": "2025-09-10T15:00:00Z",
                "earnExpiresOn": LATER_S * 1000,
            },
            "earnEventDate and earnEventDateISO disagree",
            "earnEventDate",
        ),
        (
            {"earnEventDate": NOON_S, "earnExpiresOn": LATER_S, "earnExpiresOnISO": "2027-01-01T00:00Z"},
            "earnExpiresOn and earnExpiresOnISO disagree",
            "earnExpiresOn",
        ),
        (
            {"earnEventDate": NOON_S, "earnExpiresOn": NOON_S - 1},
            "it expires before it is earned",
            "earnExpiresOn",
        ),
        (
            {"earnEventDateISO": NOON_ISO, "earnExpiresOn": NOON_MS - 1000},
            "it expires before it is earned",
            "earnExpiresOn",
        ),
    ],
)
def test_odd_dates_are_a_warning_and_strictly_invalid(
    dates: dict[str, Any], warning: str, field: str
) -> None:
    """Dates that contradict are sent as given with a warning; STRICT_DATES refuses them, field named."""
    badge = good(**dates).badge
    assert [odd for odd in badge.warnings() if not odd.endswith(" is missing")] == [warning]
    assert badge.body("as_given") == ITEM | dates
    problem = bad(strict_dates=True, **dates)
    assert problem == Invalid(field, f"{warning} (STRICT_DATES)")


@pytest.mark.parametrize(
    "dates",
    [
        {"earnEventDate": NOON_S, "earnExpiresOn": LATER_S},
        {"earnEventDate": NOON_MS, "earnExpiresOn": LATER_S},
        {"earnEventDate": NOON_S, "earnEventDateISO": NOON_ISO, "earnExpiresOnISO": NOON_ISO},
        {"earnEventDate": NOON_S, "earnEventDateISO": "2025-09-10T10:00:00.999Z", "earnExpiresOn": LATER_S},
        {"earnEventDate": NOON_MS + 999, "earnEventDateISO": NOON_ISO, "earnExpiresOn": LATER_S},
        {"earnEventDate": 10**8, "earnExpiresOn": 10**8 + 1},
    ],
)
def test_dates_that_agree_are_no_cause_for_a_warning(dates: dict[str, Any]) -> None:
    """Units may be mixed, a second can't hold a fraction, and the past is normal."""
    assert good(strict_dates=True, **dates).badge.warnings() == []


@pytest.mark.parametrize(
    ("dates", "field"),
    [
        ({}, "earnEventDate"),
        ({"earnExpiresOn": NOON_S}, "earnEventDate"),
        ({"earnEventDateISO": NOON_ISO}, "earnExpiresOn"),
    ],
)
def test_a_missing_date_is_fine_unless_dates_are_strict(dates: dict[str, Any], field: str) -> None:
    """The vendor's own sample has no event date, so a warning does; STRICT_DATES wants each."""
    assert f"{field} is missing" in good(**dates).badge.warnings()
    strict = bad(strict_dates=True, **dates)
    assert strict.faults[0] == Invalid(field, "is missing (STRICT_DATES)")
    assert len(strict.faults) == 2 - len(dates)


def test_strictness_hides_no_other_fault() -> None:
    """What is wrong with other fields is said beside what STRICT_DATES refuses, each once."""
    found = bad(strict_dates=True, customerId="x", earnEventDate="y")
    assert [fault.field for fault in found.faults] == ["customerId", "earnEventDate", "earnExpiresOn"]
    found = bad(strict_dates=True, customerId="x", earnEventDate=NOON_S, earnExpiresOn=NOON_S - 1)
    assert [fault.reason[:10] for fault in found.faults] == ["must be a ", "it expires"]


def test_strictness_reaches_badges_that_are_badges_already() -> None:
    """A BadgeIssue made in Python is held to the same dates as an item from a file."""
    assert isinstance(parse_item(good(), strict_dates=True), Invalid)


def test_badges_that_are_badges_already_are_looked_at_again() -> None:
    """``model_copy`` checks nothing: what it changed is found here, before it gets into a record."""
    assert bad(good().model_copy(update={"customer_id": "abc"})).field == "customer_id"


@pytest.mark.parametrize("digits", ["1122026093000", "9302026235959", "123120262359", "12312026235959"])
def test_a_date_without_signs_is_no_epoch(digits: str) -> None:
    """Also where a spreadsheet took the 0 at its head, and with the month before the day."""
    assert "reads as a date" in str(parse_item(ITEM | {"earnEventDate": digits}))


# -- what is the same badge


@given(instants, offsets, offsets)
def test_one_instant_is_one_content_however_written(at: datetime, here: timezone, there: timezone) -> None:
    """Seconds, milliseconds, ISO with any offset, or both: the same instant is the same badge."""
    seconds = int(at.timestamp())
    assume(compact_date(str(seconds * 1000)) is None)  # such milliseconds are refused
    ways: list[dict[str, Any]] = [
        {"earnEventDate": seconds},
        {"earnEventDate": seconds * 1000},
        {"earnEventDateISO": at.astimezone(here).isoformat()},
        {"earnEventDateISO": at.astimezone(there).isoformat()},
        {"earnEventDate": str(seconds), "earnEventDateISO": at.astimezone(here).isoformat()},
        {"earnEventDate": seconds * 1000, "earnEventDateISO": at.astimezone(there).isoformat()},
    ]
    assert len({good(**way).badge.content() for way in ways}) == 1
    assert len({content_id("default", good(**way).badge) for way in ways}) == 1
    expiries = [{name.replace("EventDate", "ExpiresOn"): v for name, v in way.items()} for way in ways]
    assert len({good(**way).badge.content() for way in expiries}) == 1
    assert good(**ways[0]).badge.content() != good(**expiries[0]).badge.content()


@given(instants, st.integers(1, 3 * 10**9))
def test_another_instant_is_another_badge(at: datetime, later_s: int) -> None:
    """Two events a second or more apart are two badges, whichever way they are written."""
    assume(at.timestamp() + later_s < END_S)
    first, second = int(at.timestamp()), int(at.timestamp()) + later_s
    one, two = good(earnEventDate=first), good(earnEventDate=second)
    iso = good(earnEventDateISO=(at + timedelta(seconds=later_s)).isoformat())
    assert one.badge.content() != two.badge.content() == iso.badge.content()


@pytest.mark.parametrize(
    "change",
    [
        {"badgeMetaId": "697a16140772ad476ecfe51c"},
        {"customerId": 5555670880},
        {"earnEventDate": NOON_S},
        {"earnExpiresOn": NOON_S},
        {"earnEventDate": NOON_S, "earnEventDateISO": "2027-01-01T00:00:00Z"},
    ],
)
def test_another_badge_customer_or_date_is_another_content(change: dict[str, Any]) -> None:
    """What differs in badge, customer, any date or the org is never taken for a duplicate."""
    assert good(**change).badge.content() != good().badge.content()
    assert content_id("default", good().badge) != content_id("other", good().badge)


def test_an_objectids_case_makes_no_other_badge() -> None:
    """An ObjectId is a number in base 16; a name of another form is as it is written."""
    assert good(badgeMetaId=ITEM["badgeMetaId"].upper()).badge.content() == good().badge.content()
    assert good(badgeMetaId="GOLD").badge.content() != good(badgeMetaId="gold").badge.content()


def test_the_producers_id_is_no_part_of_the_content() -> None:
    """A job_id names the job; what is issued is the same with another one, which is how a conflict shows."""
    assert good(job_id="a").badge.content() == good(job_id="b").badge.content() == good().badge.content()


# -- in and out of a record


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64),
    st.integers(1, 2**63 - 1),
    st.none() | st.integers(10**8, 10**14 - 1),
    st.none() | st.tuples(instants, offsets).map(lambda both: both[0].astimezone(both[1]).isoformat()),
    st.none() | st.integers(10**8, 10**14 - 1),
)
def test_a_badge_survives_its_record(
    badge_id: str, customer: int, event: int | None, iso: str | None, expiry: int | None
) -> None:
    """What a record holds is the badge as it was given, in short fields, so that it is sent as given."""
    badge = Badge(
        badge_meta_id=badge_id,
        customer_id=customer,
        earn_event_date=event,
        earn_event_date_iso=iso,
        earn_expires_on=expiry,
        earn_expires_on_iso=iso,
    )
    fields = badge_fields(badge)
    assert all(len(value.encode()) <= 64 for value in fields.values())
    back = badge_of(fields)
    assert back == badge
    assert back.content() == badge.content()


# -- the vendor's document


def test_the_documents_sample_is_taken() -> None:
    """Both items of the sample request are good, though one has no event date and one contradicts itself."""
    items = json.loads(SAMPLE)
    assert [good(item).badge.body("s") for item in items] == items
    assert [good(item).badge.warnings() for item in items] == [
        ["earnEventDate is missing"],
        ["earnEventDate and earnEventDateISO disagree", "it expires before it is earned"],
    ]


def test_the_documents_default_body_is_one_badge_twice() -> None:
    """Its two identical items have one content, so that one of them is a duplicate."""
    first, second = map(good, json.loads(DEFAULT_BODY))
    assert first.badge.content() == second.badge.content()


# -- helpers of others


@given(st.text(st.characters()), st.integers(0, 70))
def test_plain_text_is_printable_and_bounded(text: str, size: int) -> None:
    """What is shown holds no control character and no half letter, and fits."""
    shown = plain(text, size)
    assert shown.isprintable()
    assert len(shown.encode()) <= size
    assert len(text) > size or not text.isascii() or not text.isprintable() or shown == text


@given(st.lists(st.text(st.characters()), max_size=4), st.lists(st.text(st.characters()), max_size=4))
def test_a_short_hash_stands_for_its_parts(one: list[str], other: list[str]) -> None:
    """Twenty letters and digits, the same for the same parts only."""
    assert re.fullmatch(r"[a-z2-7]{20}", short_hash(*one))
    if "\x00" not in "".join(one + other) and one and other:
        assert (short_hash(*one) == short_hash(*other)) == (one == other)


@given(st.lists(st.text(st.characters()), max_size=4))
def test_short_hashes_are_what_they_always_were(parts: list[str]) -> None:
    """They are jobs' ids: another way of making them would issue every badge of a file once more."""
    text = "\x00".join(parts).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=13).digest()
    assert short_hash(*parts) == base64.b32encode(digest)[:20].decode().lower()


@pytest.mark.parametrize(
    ("dates", "event", "expiry"),
    [
        ({}, "[]", "[]"),
        ({"earnEventDate": 1674292011}, "[1674292011]", "[]"),
        ({"earnEventDate": "1674292011999"}, "[1674292011]", "[]"),
        ({"earnEventDateISO": "2023-01-21T10:06:51.999999+01:00"}, "[1674292011]", "[]"),
        ({"earnEventDate": 1674292011, "earnEventDateISO": "2023-01-21T09:06:51.5Z"}, "[1674292011]", "[]"),
        (
            {"earnEventDate": 1674292011, "earnEventDateISO": "2023-01-21T09:06:53Z"},
            "[1674292011, 1674292013]",
            "[]",
        ),
        ({"earnExpiresOnISO": "2025-09-10T15:00:00+05:30"}, "[]", "[1757496600]"),
        ({"earnExpiresOn": 94694400}, "[]", "[94694400]"),
        ({"earnExpiresOnISO": "2199-12-31T23:59:59Z"}, "[]", "[7258118399]"),
        ({"earnExpiresOnISO": "9999-12-31T23:59:59.999999-05:00"}, "[]", "[253402318799]"),
    ],
)
def test_what_an_id_is_made_of_never_changes(dates: dict[str, Any], event: str, expiry: str) -> None:
    """Badge in one case, customer, and the instants cut to whole seconds, however they are written."""
    badge = good(badgeMetaId=ITEM["badgeMetaId"].upper(), customerId="0098662653.0", **dates).badge
    assert badge.content() == f"696f0fd40772ad476ecf74ac\n98662653\n{event}\n{expiry}"


def test_a_badge_without_an_epoch_costs_no_more() -> None:
    """What a date is compared with is never looked through: 10,000 badges take a moment."""
    began = process_time()
    for _ in range(10_000):
        good(earnExpiresOnISO=NOON_ISO).badge.warnings()
    assert process_time() - began < 5
