"""What is done a shorter way where it is plain is done as it is the long way."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import from_json

from worker.domain.badge import Badge
from worker.domain.dates import EpochUnit
from worker.domain.invalid import Invalid
from worker.domain.job import Job
from worker.domain.parsing import parse_item, read_badge
from worker.store import record
from worker.store.record import Field, badge_fields, badge_of
from worker.vendor.client import body_of
from worker.vendor.codes import BUILT_IN
from worker.vendor.matching import issued_in_order, match
from worker.vendor.rows import rows_of
from worker.vendor.unpacking import json_in

EPOCHS = st.one_of(
    st.none(),
    st.integers(-10, 10**14),
    st.integers(10**9, 2 * 10**9),
    st.sampled_from([0, 94_694_399, 94_694_400, 99_991_231, 10**8, 7_258_118_399, 7_258_118_400, 10**11]),
    st.booleans(),
    st.floats(0, 1e13),
)
CUSTOMERS = st.one_of(st.integers(-2, 2**64), st.just(2**63), st.booleans(), st.none(), st.text(max_size=4))
ISOS = st.sampled_from([None, "", "2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-13-01T00:00:00Z", 7])
ITEMS = st.fixed_dictionaries(
    {
        "badgeMetaId": st.one_of(
            st.sampled_from(["696f0fd40772ad476ecf74ac", '"\\', "#N/A", "a b", "", 5]), st.text(max_size=5)
        ),
        "customerId": CUSTOMERS | CUSTOMERS.map(str),
    },
    optional={
        "earnEventDate": EPOCHS | EPOCHS.map(str),
        "earnExpiresOn": EPOCHS | EPOCHS.map(str),
        "earnEventDateISO": ISOS,
        "earnExpiresOnISO": ISOS,
    },
)
JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda its: st.lists(its, max_size=4) | st.dictionaries(st.text(max_size=4), its, max_size=4),
    max_leaves=12,
)


@given(item=ITEMS, strict=st.booleans())
def test_an_item_is_judged_alike(item: dict[str, Any], *, strict: bool) -> None:
    """By the quick way and by the model: the same badge, the same words, or the same warnings."""
    slow = parse_item(item, strict_dates=strict)
    quick = read_badge(item, strict_dates=strict)
    if isinstance(slow, Invalid):
        assert quick == slow
    else:
        assert not isinstance(quick, Invalid)
        assert quick.badge == slow.badge
        assert list(map(type, quick.badge)) == list(map(type, slow.badge))


@given(ITEMS, st.sampled_from(["s", "ms", "as_given"]))
def test_a_body_is_written_alike(item: dict[str, Any], unit: EpochUnit) -> None:
    """From pieces, as from dicts; also of a badge that was read back from its record."""
    taken = read_badge(item)
    if isinstance(taken, Invalid):
        return
    stored = badge_of(badge_fields(taken.badge))
    assert stored == taken.badge
    odd = taken.badge._replace(customer_id="?")  # type: ignore[arg-type]
    for badge in (taken.badge, stored, odd):
        badges = [badge, badge]
        jobs = [Job("id", badge, 0) for badge in badges]
        long_way = json.dumps([badge.body(unit) for badge in badges], separators=(",", ":"))
        assert body_of(jobs, unit) == long_way


def test_a_body_holds_what_its_record_holds() -> None:
    """Also what is no number, so that one bad record spoils nothing for the others."""
    odd = Badge('"', 7, "x")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        odd.body("s")
    assert json.loads(odd.written("as_given")) == odd.body("as_given")


ODD = [
    "",
    "a b",
    " a",
    "é",
    "x" * 65,
    "r_1",
    "r_2",
    "r_02",
    "r_",
    0,
    -1,
    1.0,
    2.0,
    1e15,
    1e300,
    10**18,
    2**70,
    None,
    True,
    [],
    [None],
]
VALUES: Any = st.one_of(st.sampled_from(ODD), st.integers(), st.floats(), st.text(max_size=3))
SAID = ("badgeMetaId", "customerId", "earnedBadgeId", "issuedId", "requestId", "expiresOn", "expiresOnISO")
CHANGES = st.dictionaries(st.sampled_from(SAID), VALUES, max_size=2)


@given(
    st.lists(CHANGES, min_size=2, max_size=2),
    st.sets(st.integers(0, 1)),
    st.sampled_from([None, [], "", "w"]),
)
@example([{}, {}], set(), None)
def test_a_usual_answer_is_read_alike(changes: list[dict[str, Any]], without: set[int], said: Any) -> None:
    """At once, as row by row: what the quick way takes, the long way decides alike."""
    jobs = [Job(str(n), Badge("696f0fd40772ad476ecf74ac", n)) for n in (1, 2)]
    rows: list[dict[str, Any]] = [
        {
            "data": job.badge.body("s")
            | {"earnedBadgeId": f"e{job.id}", "issuedId": None, "requestId": f"r_{job.id}"}
            | {"expiresOn": 1737450411.0, "expiresOnISO": "2025-01-21T09:06:51Z"}
            | change,
            "errors": None,
            "warnings": said,
        }
        for job, change in zip(jobs, changes, strict=True)
    ]
    for n in without:
        del rows[n]["data"]["issuedId"]
    body = json.dumps(rows).encode()
    quick = issued_in_order(jobs, body)
    if not any(changes) and not without and said is None:
        assert quick
    if quick:
        assert repr(quick) == repr(match(jobs, rows_of(json_in(body), BUILT_IN)))


TEXTS = st.text(max_size=8).filter(str.isprintable)


@example(dict.fromkeys(list(Field)[2:], "x"), ["y"] * 6)
@given(
    st.dictionaries(st.sampled_from(list(Field)[2:]), TEXTS),
    st.lists(st.text(max_size=8), min_size=6, max_size=6),
)
def test_a_badge_that_was_issued_is_written_alike(before: dict[Field, str], said: list[str]) -> None:
    """By places, as by names; also of a record with more fields than a new one has."""
    stored = record.split(f"2\x1f\x1f{record.changed(record.split('2'), before)}")
    by_name = {
        Field.STATE: "i", Field.ATTEMPTS: "3", Field.BATCH: "b", Field.CODE: "", Field.MESSAGE: "",
        **dict(zip(record.SAID, said, strict=True)),
    }  # fmt: skip
    by_place = record.issued(stored, batch="b", attempts=3, said=said)
    assert by_place == record.changed(stored, by_name)


def _long_way(body: bytes) -> Any:
    with suppress(ValueError, RecursionError):
        return json.loads(body)
    return ValueError


@given(st.one_of(JSON.map(json.dumps), st.text()), st.data())
@example("1" * 5000, None)
@example('{"a":1,"a":2}', None)
@example(
    '["\\ud800", NaN, -Infinity, 1e999, -0, -0.0, 1E400, 18446744073709551616, 0.1000000000000000055]', None
)
@example("[" * 300 + "]" * 300, None)
@example('\ufeff{"a":1}', None)
@example('"\\u0000\\ud83d\\ude00"', None)
def test_json_is_read_alike(text: str, data: st.DataObject | None) -> None:
    """What the quick reader takes, the other takes as well, and alike."""
    body = text.encode("utf-8", "surrogatepass")
    if data and body:
        at = data.draw(st.integers(0, len(body) - 1))
        body = body[:at] + data.draw(st.binary(max_size=2)) + body[at + data.draw(st.integers(0, 2)) :]
    try:
        quick = from_json(body)
    except ValueError:
        return
    assert repr(quick) == repr(_long_way(body))
    assert repr(json_in(body)) == repr(quick)
