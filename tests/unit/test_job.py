"""A job's record holds any text in short fields, and shows as the contract's row."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.domain.badge import Badge
from worker.domain.identity import content_id
from worker.domain.job import Job, State
from worker.domain.outcome import Issued
from worker.domain.text import iso_time
from worker.operate.report import result_row
from worker.store import record
from worker.store.protocol import settlement_arguments
from worker.store.record import STATE_LETTERS, Field

TIMES = {Field.VERSION, Field.FINISHED_AT, Field.ENQUEUED_AT}

CONTRACT = (
    "job_id, run, org, badgeMetaId, customerId, state, attempts, earnedBadgeId, issuedId, requestId, "
    "expiresOn, expiresOnISO, warnings, error, enqueued_at, finished_at"
)
texts = st.text(st.characters(), max_size=300) | st.text("aé漢🦡\x1e\x1f", max_size=300)


# -- texts


@given(texts)
@example("")
@example("🦡" * 100)
@example("a" * 240)
@example("\ud800")
def test_a_text_comes_back_from_its_record(text: str) -> None:
    """Any text comes back, or its beginning if it is too long; what divides fields is a blank in it."""
    kept = record.bounded(text)
    assert len(kept.encode()) <= record.TEXT_BYTES
    stored = record.changed(record.split("2"), {Field.RUN: "r", Field.MESSAGE: kept})
    back = record.read(f"2\x1f\x1f{stored}")
    assert back.get(Field.MESSAGE, "") == kept.replace("\x1e", " ").replace("\x1f", " ")
    assert back[Field.RUN] == "r"


@given(st.dictionaries(st.sampled_from(sorted(set(Field) - TIMES)), texts.map(record.bounded)))
def test_a_record_is_read_as_it_was_written(fields: dict[Field, str]) -> None:
    """Every field, whatever the others hold; an empty one is absent."""
    back = record.read(f"2\x1f\x1f5\x1f{record.accepted(record.new({}), fields)}")
    written = {"state": "q", "job_kind": "i"} | fields
    clean = {name: text.replace("\x1e", " ").replace("\x1f", " ") for name, text in written.items()}
    assert back == {"version": "2", "enqueued_at": "5"} | {name: text for name, text in clean.items() if text}


@pytest.mark.parametrize(
    ("expires_on", "iso", "kept"),
    [
        (1705828011.0, "2024-01-21T09:06:51Z", "="),
        (1705828011.0, "2024-01-21T14:36:51+05:30", "2024-01-21T14:36:51+05:30"),
        (1705828011.0, "2024-01-21T09:06:52Z", "2024-01-21T09:06:52Z"),
        (1705828011.5, "2024-01-21T09:06:51Z", "2024-01-21T09:06:51Z"),
        (99999999999.0, "5138-11-16T09:46:39Z", "="),
        (1e15, "2024-01-21T09:06:51Z", "2024-01-21T09:06:51Z"),
        (-1.0, "1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z"),
        (None, "2024-01-21T09:06:51Z", "2024-01-21T09:06:51Z"),
        (1705828011.0, None, ""),
        (1705828011.0, "=", ""),
    ],
)
def test_what_the_vendor_says_of_an_expiry_comes_back_as_it_said_it(
    expires_on: float | None, iso: str | None, kept: str
) -> None:
    """Twice the same instant is kept once, which is a tenth of a result."""
    job = Job("id", Badge("b", 7), stored=record.split("2"))
    said = Issued("earned", None, None, expires_on, iso)
    (*_, stored) = settlement_arguments([job], [said], batch="b")
    assert record.split(stored)[record.PLACE[Field.EXPIRES_ON_ISO] - 2] == kept
    row = result_row("o", "id", record.read(f"2\x1f\x1f{stored}"))
    assert row["expiresOn"] == expires_on
    assert row["expiresOnISO"] == (None if iso == "=" else iso)


# What the records in Redis hold at which place, and the letters of states and answers there: see the test.
FORM = """
    version finished_at enqueued_at job_kind state urgent run badge customer ready_since attempts
    busy batch kind code group was_in_doubt row fingerprint replayed_as replay_of start_at undone
    event event_iso expiry expiry_iso message history absent_since earned_badge_id issued_id
    request_id vendor_expiry vendor_expiry_iso vendor_warnings second_earned traceparent raw_item
    raw_row others revokes
"""
STATES = {"queued": "q", "sending": "s", "retrying": "r", "issued": "i", "dead": "d", "undone": "u"}
ANSWERS = "ashAicdmDQRUC"


def test_records_keep_their_form_within_a_version() -> None:
    """They are read by place, also by workers of before and after: what is stored must go on being read.

    A new field goes behind the last one, and a new letter is one that never was; anything else needs a new
    ``VERSION``, which older workers refuse and newer ones have to read both of.
    """
    assert record.VERSION == 2
    assert list(record.FIELDS) == FORM.split(), "a new field goes behind the last, here as well"
    assert {str(state): letter for state, letter in STATE_LETTERS.items()} == STATES
    assert "".join(record.Answer) == ANSWERS


# -- badge and record


def test_the_same_content_is_one_hash_within_an_org() -> None:
    """An id stands for content and org, and is safe in a key and a shell."""
    badge = Badge("b", 7)
    assert content_id("a", badge) == content_id("a", Badge("b", 7))
    assert content_id("a", badge) != content_id("b", badge)
    assert content_id("a", badge).isalnum()


# -- the row people see

ISSUED = {
    "state": "i",
    "badge": "696f0fd40772ad476ecf74ac",
    "customer": "555567088",
    "expiry": "1705828011",
    "run": "january",
    "enqueued_at": "1700000000000",
    "finished_at": "1700000001250",
    "attempts": "2",
    "code": "521",
    "message": "busy, the time before",
    "earned_badge_id": "697b5f6f0772ad476ecff272",
    "request_id": "d9e144be-2450-4300-892f-798f9bb68ce2_1",
    "vendor_expiry": "1705828011",
    "vendor_expiry_iso": "2024-01-21T09:06:51Z",
}


def test_a_row_has_the_contracts_names_in_its_order() -> None:
    """What `badges results` shows of an issued job is what other programs rely on."""
    row = result_row("default", "id1", ISSUED)
    assert ", ".join(row) == CONTRACT
    assert row == {
        "job_id": "id1",
        "run": "january",
        "org": "default",
        "badgeMetaId": "696f0fd40772ad476ecf74ac",
        "customerId": 555567088,
        "state": "issued",
        "attempts": 2,
        "earnedBadgeId": "697b5f6f0772ad476ecff272",
        "issuedId": None,
        "requestId": "d9e144be-2450-4300-892f-798f9bb68ce2_1",
        "expiresOn": 1705828011.0,
        "expiresOnISO": "2024-01-21T09:06:51Z",
        "warnings": ["earnEventDate is missing"],
        "error": None,
        "enqueued_at": "2023-11-14T22:13:20.000Z",
        "finished_at": "2023-11-14T22:13:21.250Z",
    }


@pytest.mark.parametrize("state", [state for state in State if state not in (State.ISSUED, State.UNDONE)])
def test_a_row_tells_the_error_of_what_is_not_issued(state: State) -> None:
    """A dead letter, or a job on its way, shows what happened last, the long message in one piece."""
    message = "no whole answer " * 10
    fields: dict[str, str] = {
        Field.STATE: STATE_LETTERS[state],
        "kind": "in_doubt",
        "code": "timeout",
        Field.MESSAGE: message,
    }
    row = result_row("default", "id1", fields)
    assert row["state"] == state
    assert row["error"] == {"kind": "in_doubt", "code": "timeout", "message": message}


def test_a_row_of_an_invalid_item_needs_no_badge() -> None:
    """What never was a badge is shown all the same, its missing values as null."""
    row: dict[str, Any] = result_row(
        "o", "id", {"state": "d", "kind": "invalid", "code": "customerId", "message": "is missing"}
    )
    assert ", ".join(row) == CONTRACT
    assert row["customerId"] is row["badgeMetaId"] is row["run"] is row["finished_at"] is None
    assert row["attempts"] == 0
    assert row["warnings"] == []


def test_a_record_that_was_spoilt_is_a_row_all_the_same() -> None:
    """A customer that is no number is shown as it is, and keeps nobody from reading the others."""
    assert result_row("o", "id", ISSUED | {"customer": "abc"})["customerId"] == "abc"


def test_a_row_carries_our_warnings_and_the_vendors() -> None:
    """Odd dates that were sent as given are told beside what the vendor warned of."""
    row = result_row("o", "id", ISSUED | {"event": "1900000000", "vendor_warnings": '{"code": 7}'})
    assert row["warnings"] == ["it expires before it is earned", '{"code": 7}']


@pytest.mark.parametrize(
    ("at_ms", "shown"),
    [(None, None), ("0", "1970-01-01T00:00:00.000Z"), ("1700000001250", "2023-11-14T22:13:21.250Z")],
)
def test_instants_are_shown_in_utc(at_ms: str | None, shown: str | None) -> None:
    """A time is shown as ISO 8601 in UTC with milliseconds, whatever the machine's zone."""
    assert iso_time(at_ms) == shown
