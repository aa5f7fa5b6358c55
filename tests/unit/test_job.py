"""A job's record holds any text in short fields, and shows as the contract's row."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.domain.badge import Badge
from worker.domain.job import State, content_hash
from worker.domain.text import iso_time
from worker.operate.report import result_row
from worker.store.record import STATE_LETTERS, VALUE_BYTES, Field, text_fields, text_of

CONTRACT = (
    "job_id, run, org, badgeMetaId, customerId, state, attempts, earnedBadgeId, issuedId, requestId, "
    "expiresOn, expiresOnISO, warnings, error, enqueued_at, finished_at"
)
LONGEST = 4 * VALUE_BYTES

texts = st.text(st.characters(), max_size=300) | st.text("aé漢🦡", max_size=300)


def pairs(fields: list[str]) -> dict[str, str]:
    """Return the record that HSET makes of these fields."""
    return dict(zip(fields[::2], fields[1::2], strict=True))


# -- texts


@given(texts)
@example("")
@example("🦡" * 100)
@example("a" * 64)
@example("a" * 63 + "🦡")
@example("a" * 256)
@example("\ud800")
def test_a_text_comes_back_from_its_fields(text: str) -> None:
    """Any text comes back whole from short fields of valid UTF-8, or its beginning if it is too long."""
    fields = pairs(text_fields("m", text))
    assert list(fields) == ["m", "m1", "m2", "m3"][: len(fields)]
    assert all(len(value.encode()) <= VALUE_BYTES for value in fields.values())
    back = text_of(fields, "m")
    assert back is not None
    valid = text.encode(errors="replace").decode()
    assert valid.startswith(back)
    # A letter that doesn't fit goes over to the next field: a few bytes of each may stay unused.
    assert back == valid or len(back.encode()) > LONGEST - 4 * 4


@given(texts, texts)
def test_a_text_written_over_another_is_all_that_is_read(before: str, after: str) -> None:
    """A shorter message over a longer one doesn't end in what was left of it."""
    record = pairs(text_fields("m", before)) | pairs(text_fields("m", after))
    assert text_of(record, "m") == text_of(pairs(text_fields("m", after)), "m")


def test_a_short_text_takes_one_field() -> None:
    """Memory is what a record is made for: nothing is written that isn't needed."""
    assert text_fields("m", "throttled") == ["m", "throttled"]
    assert len(text_fields("m", "a" * 60)) == 2
    assert text_of({}, "m") is None


@pytest.mark.parametrize("written", ["its worker disappeared during the call", "badge not found", ""])
def test_a_text_that_a_script_wrote_is_read(written: str) -> None:
    """The scripts write short messages into the first field alone, over whatever was there."""
    record = pairs(text_fields("m", "x" * 250)) | {"m": written}
    assert text_of(record, "m") == written


# -- badge and record


def test_the_same_content_is_one_hash_within_an_org() -> None:
    """An id stands for content and org, and is safe in a key and a shell."""
    badge = Badge("b", 7)
    assert content_hash("a", badge) == content_hash("a", Badge("b", 7))
    assert content_hash("a", badge) != content_hash("b", badge)
    assert content_hash("a", badge).isalnum()


# -- the row people see

ISSUED = {
    "s": "i",
    "b": "696f0fd40772ad476ecf74ac",
    "c": "555567088",
    "x": "1705828011",
    "r": "january",
    "t": "1700000000000",
    "f": "1700000001250",
    "a": "2",
    "o": "521",
    "m": "busy, the time before",
    "i": "697b5f6f0772ad476ecff272",
    "q": "d9e144be-2450-4300-892f-798f9bb68ce2_1",
    "y": "1705828011",
    "Y": "2024-01-21T09:06:51Z",
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


@pytest.mark.parametrize("state", [state for state in State if state is not State.ISSUED])
def test_a_row_tells_the_error_of_what_is_not_issued(state: State) -> None:
    """A dead letter, or a job on its way, shows what happened last, the long message in one piece."""
    message = "no whole answer " * 10
    record = {
        Field.STATE: STATE_LETTERS[state],
        "k": "in_doubt",
        "o": "timeout",
        **pairs(text_fields("m", message)),
    }
    row = result_row("default", "id1", record)
    assert row["state"] == state
    assert row["error"] == {"kind": "in_doubt", "code": "timeout", "message": message}


def test_a_row_of_an_invalid_item_needs_no_badge() -> None:
    """What never was a badge is shown all the same, its missing values as null."""
    row: dict[str, Any] = result_row(
        "o", "id", {"s": "d", "k": "invalid", "o": "customerId", "m": "is missing"}
    )
    assert ", ".join(row) == CONTRACT
    assert row["customerId"] is row["badgeMetaId"] is row["run"] is row["finished_at"] is None
    assert row["attempts"] == 0
    assert row["warnings"] == []


def test_a_record_that_was_spoilt_is_a_row_all_the_same() -> None:
    """A customer that is no number is shown as it is, and keeps nobody from reading the others."""
    assert result_row("o", "id", ISSUED | {"c": "abc"})["customerId"] == "abc"


def test_a_row_carries_our_warnings_and_the_vendors() -> None:
    """Odd dates that were sent as given are told beside what the vendor warned of."""
    row = result_row("o", "id", ISSUED | {"e": "1900000000", "v": '{"code": 7}'})
    assert row["warnings"] == ["it expires before it is earned", '{"code": 7}']


@pytest.mark.parametrize(
    ("at_ms", "shown"),
    [(None, None), ("0", "1970-01-01T00:00:00.000Z"), ("1700000001250", "2023-11-14T22:13:21.250Z")],
)
def test_instants_are_shown_in_utc(at_ms: str | None, shown: str | None) -> None:
    """A time is shown as ISO 8601 in UTC with milliseconds, whatever the machine's zone."""
    assert iso_time(at_ms) == shown
