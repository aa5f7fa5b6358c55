"""Whatever comes back, each job gets one outcome, and nothing is said for certain without evidence."""

import codecs
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from support import configured

from worker.domain.badge import Badge
from worker.domain.job import Job
from worker.domain.outcome import (
    Deferred,
    Issued,
    NoReply,
    Outcome,
    Rejected,
    Reply,
    Signal,
    Unknown,
    Verdict,
)
from worker.vendor.codes import meanings_of
from worker.vendor.verdict import read_answer

UUID = "d9e144be-2450-4300-892f-798f9bb68ce2"
B1, B2 = "696f0fd40772ad476ecf74ac", "697a16140772ad476ecfe51c"
LETTERS = {Issued: "I", Rejected: "R", Deferred: "D", Unknown: "U"}
ERROR = {"code": 1054, "message": "GLOBAL.BADGE_NOT_FOUND", "reference": None}
BUSY = {"code": 521, "message": "multiple actions running for same customer"}


def job(customer: int, badge: str = B1) -> Job:
    """Return a job for a customer."""
    return Job(f"j{badge[:4]}{customer}", Badge(badge, customer))


ONE, TWO, THREE = [job(1)], [job(1), job(2)], [job(1), job(2), job(3)]
TWINS = [job(1), job(1)]


def row(
    customer: object,
    *,
    badge: object = B1,
    n: int | None = None,
    issued: object = None,
    errors: object = None,
    **data: object,
) -> dict[str, Any]:
    """Return a row as the vendor writes it: position ``n`` in the requestId, if there is one."""
    return {
        "data": {
            "badgeMetaId": badge,
            "customerId": customer,
            "earnedBadgeId": issued,
            "expiresOn": 1705828011.0 if issued else None,
            "expiresOnISO": "2024-01-21T09:06:51Z" if issued else None,
            "requestId": None if n is None else f"{UUID}_{n}",
            "issuedId": None,
            **data,
        },
        "errors": errors,
        "warnings": None,
    }


def bare(error: object = None) -> dict[str, Any]:
    """Return an error without any data."""
    return {"data": None, "errors": [ERROR if error is None else error], "warnings": None}


def read(
    jobs: Sequence[Job],
    body: object,
    status: int = 200,
    headers: dict[str, str] | None = None,
    *,
    request: str = "",
) -> Verdict:
    """Read an answer with this body: bytes as they are, anything else as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    verdict = read_answer(jobs, Reply(status, raw, headers or {}), request=request)
    assert len(verdict.outcomes) == len(jobs)
    return verdict


def letters(verdict: Verdict) -> str:
    """Return one letter per outcome: I issued, R rejected, D deferred, U unknown."""
    return "".join(LETTERS[type(outcome)] for outcome in verdict.outcomes)


def ids(verdict: Verdict) -> list[str | None]:
    """Return what was issued for each job."""
    return [o.earned_badge_id if isinstance(o, Issued) else None for o in verdict.outcomes]


SAID = row(2, issued="e")

# -- what came back: rows


def test_an_id_in_the_other_case_is_the_same_badge() -> None:
    """The ids are numbers in base 16: an answer may write them in another case than the request."""
    verdict = read([job(1, B1.upper())], [row(1, badge=B1.lower(), issued="e")])
    assert verdict.outcomes == (Issued("e", None, None, 1705828011.0, "2024-01-21T09:06:51Z"),)


def test_the_documents_sample_is_issued() -> None:
    """The sample answer of the vendor's document issues both items of its sample request, in every detail."""
    jobs = [job(555567088, B1), job(12098734, B2)]
    body = f"""[
    {{ "data": {{ "badgeMetaId": "{B1}", "customerId": 555567088, "earnedBadgeId": "697b5f6f0772ad476ecff272",
        "expiresOn": 1705828011.000000000, "expiresOnISO": "2024-01-21T09:06:51Z",
        "requestId": "{UUID}_1", "issuedId": null }}, "errors": null, "warnings": null }},
    {{ "data": {{ "badgeMetaId": "{B2}", "customerId": 12098734, "earnedBadgeId": "697b5f6f0772ad476ecff275",
        "expiresOn": 1667328000.000000000, "expiresOnISO": "2022-11-01T18:40:00Z",
        "requestId": "{UUID}_2", "issuedId": null }}, "errors": null, "warnings": null }}
    ]""".encode()
    first, second = (
        ("697b5f6f0772ad476ecff272", f"{UUID}_1", 1705828011.0, "2024-01-21T09:06:51Z"),
        ("697b5f6f0772ad476ecff275", f"{UUID}_2", 1667328000.0, "2022-11-01T18:40:00Z"),
    )
    expected = tuple(Issued(earned, None, request, at, iso) for earned, request, at, iso in (first, second))
    assert read(jobs, body) == Verdict(expected, Signal.OK, "200")


TWICE = {"code": 809, "message": "Request with the same requestId is not allowed"}


@pytest.mark.parametrize("errors", [None, {}, [], "", [None], [{}], {"code": None, "message": None}, [[]]])
def test_a_row_without_errors_is_issued(errors: object) -> None:
    """Errors may be null, an empty object or an empty array: with an earnedBadgeId, the badge is issued."""
    assert letters(read(ONE, [row(1, n=1, issued="e1", errors=errors)])) == "I"


@pytest.mark.parametrize(
    ("errors", "code", "message"),
    [
        (ERROR, "1054", "GLOBAL.BADGE_NOT_FOUND"),
        ([ERROR], "1054", "GLOBAL.BADGE_NOT_FOUND"),
        ([None, {}, ERROR, BUSY], "1054", "GLOBAL.BADGE_NOT_FOUND"),
        ({"code": "1054", "message": None}, "1054", ""),
        ({"code": 1054.0}, "1054", ""),
        ({"message": "no code"}, "error", "no code"),
        ({"code": 816, "message": {"text": "outside"}}, "816", '{"text": "outside"}'),
        ("BADGE_NOT_FOUND", "error", "BADGE_NOT_FOUND"),
        (["BADGE_NOT_FOUND"], "error", "BADGE_NOT_FOUND"),
    ],
)
@pytest.mark.parametrize("status", [200, 201, 400, 500])
def test_a_row_with_an_error_is_rejected(errors: object, code: str, message: str, status: int) -> None:
    """An item's error, in whichever shape and under whichever status, is permanent unless known to pass."""
    verdict = read(TWO, [row(1, n=1, errors=errors), row(2, n=2, issued="e2")], status)
    assert verdict.outcomes[0] == Rejected(code, message)
    assert (letters(verdict), verdict.signal) == ("RI", Signal.OK)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (521, Deferred("521", "x", spends_attempt=False)),
        (503, Deferred("503", "x", spends_attempt=True)),
        (429, Deferred("429", "x", spends_attempt=True)),
        (498, Deferred("498", "x", spends_attempt=True)),
        (4001, Deferred("4001", "x", spends_attempt=True)),
        (1060, Deferred("1060", "x", spends_attempt=True)),
        (809, Unknown("809", "x")),
        *((code, Rejected(str(code), "x")) for code in (1054, 750, 812, 815, 816, 1040, 500, 99999)),
    ],
)
def test_the_code_table_decides_about_an_item(code: int, expected: Outcome) -> None:
    """What is about the moment is deferred, a busy customer at no cost; all other codes are permanent."""
    errors = {"code": code, "message": "x"}
    verdict = read(TWO, [row(1, n=1, issued="e"), row(2, n=2, errors=errors)])
    assert verdict.outcomes[1] == expected
    assert verdict.signal is Signal.OK


@pytest.mark.parametrize("earned", [None, "", " ", True, False, [], {"id": 1}, 1.5])
def test_a_row_that_says_neither_is_in_doubt(earned: object) -> None:
    """Without an error and without a usable earnedBadgeId, nothing is known; its neighbour isn't touched."""
    verdict = read(TWO, [row(1, n=1, issued=earned), row(2, n=2, issued="e2")])
    assert letters(verdict) == "UI"
    assert read(ONE, [row(1, n=1, issued=earned)]).signal is Signal.IN_DOUBT


def test_a_row_that_says_both_is_in_doubt() -> None:
    """An error beside an earnedBadgeId contradicts itself: neither is believed."""
    verdict = read(TWO, [row(1, n=1, issued="e1", errors=ERROR), row(2, n=2, issued="e2")])
    assert letters(verdict) == "UI"
    assert "1054" in str(verdict.outcomes[0])


def test_details_of_an_issue_are_kept_and_bounded() -> None:
    """Warnings and ids are kept as far as a record holds them; odd ones don't spoil the outcome."""
    odd = row(
        1, issued=12345, issuedId="i" * 500, expiresOn=float("nan"), expiresOnISO=["x"], requestId="r\n\x1b"
    )
    odd["warnings"] = [{"message": "ü" * 500}]
    (issued,) = read(ONE, [odd]).outcomes
    assert isinstance(issued, Issued)
    assert issued.earned_badge_id == "12345"
    assert issued.issued_id == "i" * 64
    assert issued.expires_on is None
    assert issued.expires_on_iso is None
    assert issued.request_id == "r"
    assert issued.warnings
    assert len(issued.warnings.encode()) <= 240


# -- what came back: the whole request


@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"[{}]"])
@pytest.mark.parametrize(
    ("status", "signal"),
    [
        (429, Signal.THROTTLED),
        (401, Signal.UNAUTHORIZED),
        (498, Signal.UNAUTHORIZED),
        (403, Signal.MISCONFIGURED),
        (404, Signal.MISCONFIGURED),
        (405, Signal.MISCONFIGURED),
        (415, Signal.MISCONFIGURED),
        (301, Signal.MISCONFIGURED),
        (302, Signal.MISCONFIGURED),
        (304, Signal.MISCONFIGURED),
        (308, Signal.MISCONFIGURED),
        (521, Signal.UNAVAILABLE),
        (413, Signal.TOO_LARGE),
        (400, Signal.REFUSED),
        (422, Signal.REFUSED),
        *((status, Signal.IN_DOUBT) for status in (200, 201, 202, 204, 207, 408, 409, 410, 418, 423, 499)),
        *((status, Signal.IN_DOUBT) for status in (500, 501, 502, 503, 504, 520, 522, 524, 599, 100, 999)),
    ],
)
def test_a_status_alone_decides_about_all(status: int, signal: Signal, body: bytes) -> None:
    """Where the body says nothing, the status does; what is on no list may have been applied."""
    verdict = read(THREE, body, status)
    assert verdict.signal is signal
    assert letters(verdict) == ("UUU" if signal is Signal.IN_DOUBT else "DDD")
    assert verdict.code == str(status)
    assert str(status) in verdict.reason
    assert not any(o.spends_attempt for o in verdict.outcomes if isinstance(o, Deferred))


@pytest.mark.parametrize(
    ("code", "signal"),
    [
        (401, Signal.UNAUTHORIZED),
        (498, Signal.UNAUTHORIZED),
        (429, Signal.THROTTLED),
        (4000, Signal.MISCONFIGURED),
        (4001, Signal.UNAVAILABLE),
        (1060, Signal.TOO_LARGE),
    ],
)
@pytest.mark.parametrize("status", [200, 201, 400, 401, 403, 500, 503])
@pytest.mark.parametrize(
    "shape",
    [
        lambda error: {"data": None, "errors": [error], "warnings": None},
        lambda error: {"data": {}, "errors": error},
        lambda error: {"errors": [None, error]},
        lambda error: [{"data": None, "errors": [error]}],
        lambda error: [{"data": {"badgeMetaId": None, "customerId": None}, "errors": error}],
        lambda error: error,
    ],
    ids=["object", "empty data", "errors alone", "one bare row", "row of nulls", "the error itself"],
)
def test_the_body_is_read_before_the_status(
    code: int, signal: Signal, status: int, shape: Callable[[object], object]
) -> None:
    """The vendor's codes for a whole request count under any status, 200 and 201 included, in any shape."""
    verdict = read(THREE, shape({"code": code, "message": "why"}), status)
    assert (verdict.signal, verdict.code, verdict.reason) == (signal, str(code), "why")
    assert letters(verdict) == "DDD"


@pytest.mark.parametrize("code", ["401", "498", "4001"])
def test_the_whole_call_failed_if_every_row_says_so(code: str) -> None:
    """The same request code in each item's row is one trouble, not as many dead letters."""
    errors = {"code": code, "message": "why"}
    rows = [row(n, n=n, errors=errors) for n in (1, 2, 3)]
    verdict = read(THREE, rows)
    assert (letters(verdict), verdict.code) == ("DDD", code)
    assert verdict.signal is not Signal.OK
    # With a row missing, its item may have been issued.
    assert letters(read(THREE, rows[:2])) == "DDU"


@pytest.mark.parametrize("status", [200, 201, 400, 404, 422])
@pytest.mark.parametrize(
    "body",
    [{"data": None, "errors": [ERROR]}, {"errors": ERROR}, [bare()], ERROR],
    ids=["object", "errors", "row", "error"],
)
def test_a_vendors_error_without_a_row_refuses_the_request(status: int, body: object) -> None:
    """1054 without any row of data: certainly nothing was issued (assumed), and the culprit is looked for."""
    verdict = read(THREE, body, status)
    assert (letters(verdict), verdict.signal, verdict.code) == ("DDD", Signal.REFUSED, "1054")
    alone = read(ONE, body, status)
    assert alone.outcomes == (Rejected("1054", "GLOBAL.BADGE_NOT_FOUND"),)


@pytest.mark.parametrize(
    ("body", "status", "signal"),
    [
        # What a gateway says in its own shape speaks by its status.
        (
            {"timestamp": 1, "status": 404, "error": "Not Found", "message": "No message", "path": "/x"},
            404,
            "misconfigured",
        ),
        ({"code": "NO_ROUTE", "message": "no route"}, 404, "misconfigured"),
        ({"errors": [{"code": 404, "message": "not found"}]}, 404, "misconfigured"),
        ({"message": "API rate limit exceeded"}, 429, "throttled"),
        ({"error": "x", "message": "y"}, 503, "in_doubt"),
        ({"errors": [{"code": 503}]}, 503, "in_doubt"),
        ({"errors": [ERROR]}, 500, "in_doubt"),
        ({"errors": [ERROR]}, 409, "in_doubt"),
        ({"message": "Moved"}, 302, "misconfigured"),
        # Success, or an error that may strike half-way, in the words of somebody else.
        ({"message": "3 badges imported"}, 200, "in_doubt"),
        ({"code": 200, "message": "OK"}, 201, "in_doubt"),
        ({"code": 0, "message": "success"}, 200, "in_doubt"),
        ({"code": "SUCCESS", "message": "done"}, 200, "in_doubt"),
        ({"status": {"success": True, "code": 200, "message": "ok"}}, 200, "in_doubt"),
        ({"errors": [{"code": 500, "message": "Internal error"}]}, 200, "in_doubt"),
        ({"errors": [{"code": 504, "message": "Gateway"}]}, 201, "in_doubt"),
        # There is data, which nobody can read: some of it may say "issued".
        ({"data": [{"earnedBadgeId": "e1"}], "errors": [ERROR]}, 200, "in_doubt"),
        ({"data": {"issued": 2, "failed": 1}, "errors": [ERROR]}, 200, "in_doubt"),
        ({"data": "2 of 3 issued", "errors": [ERROR]}, 200, "in_doubt"),
        ([bare(), bare(BUSY)], 200, "in_doubt"),
        ([bare(), "garbage", None], 200, "in_doubt"),
    ],
)
def test_what_is_not_the_vendors_refusal_is_no_evidence(body: object, status: int, signal: str) -> None:
    """Only an error of the vendor's own, in its own shape and with no data, says that nothing was issued."""
    verdict = read(THREE, body, status)
    assert verdict.signal == signal
    assert letters(verdict) == ("UUU" if signal == "in_doubt" else "DDD")


@pytest.mark.parametrize(
    ("body", "status", "outcome", "signal"),
    [
        ([bare(BUSY)], 200, Deferred("521", BUSY["message"]), Signal.OK),
        ({"errors": [BUSY]}, 200, Deferred("521", BUSY["message"]), Signal.OK),
        ([bare({"code": 1060, "message": "m"})], 200, Rejected("1060", "m"), Signal.REFUSED),
        (b"", 413, Rejected("413", "the vendor answered 413 (no body)"), Signal.REFUSED),
        (b"bad", 400, Rejected("400", "the vendor answered 400 (bad)"), Signal.REFUSED),
    ],
)
def test_a_request_of_one_item_ends_with_it(
    body: object, status: int, outcome: Outcome, signal: Signal
) -> None:
    """What can't be made smaller gets the outcome itself, so that nothing is sent again for ever."""
    verdict = read(ONE, body, status)
    assert (verdict.outcomes, verdict.signal) == ((outcome,), signal)


@pytest.mark.parametrize(
    ("answer", "letter", "signal"),
    [
        (NoReply(sent=False, code="ConnectError", reason="refused"), "D", Signal.UNAVAILABLE),
        (NoReply(sent=True, code="timeout", reason="too slow"), "U", Signal.IN_DOUBT),
    ],
)
def test_no_answer_is_certain_only_if_nothing_was_sent(answer: NoReply, letter: str, signal: Signal) -> None:
    """A connection that never came about applied nothing; once a byte has left, nobody knows."""
    verdict = read_answer(TWO, answer)
    assert (letters(verdict), verdict.signal) == (letter * 2, signal)
    assert (verdict.code, verdict.reason) == (answer.code, answer.reason)


# -- Retry-After

DATE = "Wed, 10 Sep 2025 10:00:00 GMT"


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(SAID | {"warnings": ["café"]}, ensure_ascii=False).encode("latin-1"),
        json.dumps(SAID | {"warnings": ["a b"]}).replace("a b", "a\nb\tc").encode(),
        json.dumps(SAID).encode("utf-16"),
    ],
    ids=["another encoding", "bare line end", "utf-16"],
)
def test_odd_letters_in_a_text_spoil_no_row(body: bytes) -> None:
    """What an answer is made of is ASCII whatever its words are in."""
    assert letters(read([job(2)], body)) == "I"


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "0"}, 0),
        ({"retry-after": " 17 "}, 17),
        ({"retry-after": "3601"}, 3600),
        ({"retry-after": "99999999999"}, 3600),
        ({"retry-after": "9" * 6000}, 3600),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "Wed, 10 Sep 2025 10:00:42 GMT", "date": DATE}, 42),
        ({"retry-after": "Wed, 10 Sep 2025 12:00:42 +0200", "date": DATE}, 42),
        ({"retry-after": "Thu, 11 Sep 2025 10:00:00 GMT", "date": DATE}, 3600),
        ({"retry-after": "Tue, 09 Sep 2025 10:00:00 GMT", "date": DATE}, 0),
        ({"retry-after": "Wed, 10 Sep 2025 10:00:42 GMT"}, None),
        ({"retry-after": "Wed, 10 Sep 2025 10:00:42 GMT", "date": "garbage"}, None),
        ({"retry-after": "Wed, 10 Sep 2025 10:00:42 -0000", "date": DATE}, None),
        ({"retry-after": "Wed, 10 Sep 99999 10:00:42 GMT", "date": DATE}, None),
        ({"retry-after": "Wed, 10 Sep 2025 10:00:42 +99999999999999", "date": DATE}, None),
    ],
)
def test_retry_after_is_read_and_capped(headers: dict[str, str], wait_s: float | None) -> None:
    """Seconds, or a date relative to the answer's own, an hour at most; anything else is as if not said."""
    assert read(TWO, b"", 429, headers).retry_after_s == wait_s
    assert read(TWO, [bare({"code": 429})], 200, headers).retry_after_s == wait_s


@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)))
@example("Mon, 1 Jan 1 00:00:00 +9999", DATE)
@example("Sun, 31 Dec 9999 23:59:59 -2359", DATE)
def test_retry_after_is_never_a_stumbling_block(value: str, date: str) -> None:
    """No header makes it raise, or wait for less than nothing or more than an hour."""
    wait_s = read(ONE, b"", 429, {"retry-after": value, "date": date}).retry_after_s
    assert wait_s is None or 0 <= wait_s <= 3600


# -- whose row it is


@pytest.mark.parametrize("seed", range(5))
def test_order_does_not_matter(seed: int) -> None:
    """Rows are matched by what they say, whatever order they come in, with requestIds or without."""
    jobs = [job(n % 7, B1 if n < 7 else B2) for n in range(1, 14) if n % 7]
    for numbered in (True, False):
        rows = [
            row(j.badge.customer_id, badge=j.badge.badge_meta_id, n=n if numbered else None, issued=f"e{n}")
            for n, j in enumerate(jobs, 1)
        ]
        rows[3] = row(jobs[3].badge.customer_id, badge=jobs[3].badge.badge_meta_id, errors=ERROR)
        random.Random(seed).shuffle(rows)
        expected = [None if n == 4 else f"e{n}" for n in range(1, len(jobs) + 1)]
        assert ids(read(jobs, rows)) == expected


@pytest.mark.parametrize("customer", ["1", 1, 1.0])
def test_a_customer_is_the_same_as_number_and_as_text(customer: object) -> None:
    """How the vendor writes an id back doesn't matter."""
    assert ids(read(TWO, [row(customer, issued="e1"), row(2, issued="e2")])) == ["e1", "e2"]


def test_position_alone_is_no_evidence() -> None:
    """A row in the right place, or with the right number, for somebody else is not this job's."""
    assert letters(read(TWO, [row(2, n=1, issued="e1"), row(9, n=2, issued="e2")])) == "UI"
    assert letters(read(TWO, [row(8, n=1, issued="e1"), row(9, n=2, issued="e2")])) == "UU"
    assert letters(read(ONE, [row(1, badge=B2, n=1, issued="e1")])) == "U"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row(1, n=2, issued="e2"), row(1, n=1, errors=ERROR)], "RI"),
        ([row(1, n=2, errors=BUSY), row(1, n=1, issued="e1")], "ID"),
        ([row(1, issued="e1"), row(1, issued="e2")], "II"),
        ([row(1, errors=ERROR), row(1, errors=ERROR)], "RR"),
        ([row(1, errors=ERROR), row(1, errors=BUSY)], "DD"),
        ([row(1, issued="e1"), row(1, errors=ERROR)], "UU"),
        ([row(1, issued="e1")], "UU"),
        ([row(1, errors=ERROR)], "UU"),
        ([row(1, issued="e1"), row(1, issued="e2"), row(1, issued="e3")], "UU"),
        # Numbers that may be no positions tell twins apart no better than none.
        ([row(1, n=1, issued="e1"), row(1, errors=ERROR)], "UU"),
        ([row(1, n=2, issued="e2")], "UU"),
        ([row(1, n=2, errors=ERROR)], "UU"),
        ([row(1, n=0, issued="e1"), row(1, n=1, errors=ERROR)], "UU"),
        ([row(1, n=1, issued="e1"), row(1, n=1, errors=ERROR)], "UU"),
        ([row(1, n=1, issued="e1"), row(1, n=1, issued="e2")], "II"),
        ([row(1, n=7, issued="e1"), row(1, n=2, errors=ERROR)], "UU"),
        ([row(1, issued="e1", requestId="1"), row(1, errors=ERROR, requestId=2)], "UU"),
    ],
)
def test_twins_are_told_apart_by_position_or_not_at_all(rows: list[dict[str, Any]], expected: str) -> None:
    """Two jobs of the same badge and customer: what went differently is given to neither without a number."""
    assert letters(read(TWINS, rows)) == expected


def test_one_unique_item_bears_the_numbers_out() -> None:
    """An incomplete answer tells twins apart if its numbers are positions where that can be seen."""
    jobs = [job(1), job(1), job(2)]
    rows = [row(1, n=2, errors=ERROR), row(2, n=3, issued="e3")]
    assert letters(read(jobs, rows)) == "URI"
    assert letters(read(jobs, [rows[0], row(2, n=2, issued="e3")])) == "UUI"
    assert letters(read(jobs, [rows[0], row(9, n=3, issued="e3")])) == "UUU"


def test_the_id_of_our_request_bears_the_numbers_out() -> None:
    """Where the answer carries it: twins are told apart, and rows of another request tell nothing."""
    one, other = row(1, n=2, issued="e2"), row(1, issued="e1", requestId="another_1")
    assert letters(read(TWINS, [one])) == "UU"
    assert letters(read(TWINS, [one], request=UUID)) == "UI"
    assert letters(read(TWINS, [one], request="another")) == "UU"
    assert letters(read(THREE, [row(2, n=2, issued="e2"), other])) == "IIU"
    assert letters(read(THREE, [row(2, n=2, issued="e2"), other], request=UUID)) == "UIU"
    assert letters(read(TWINS, [row(1, n=1, issued="e1"), row(1, n=1, errors=ERROR)], request=UUID)) == "UU"


def test_numbers_from_zero_do_not_confuse_twins() -> None:
    """That the number is the position from one is inferred: an answer that counts otherwise shows it."""
    jobs = [job(1), job(1), job(2)]
    rows = [row(1, n=0, issued="e1"), row(1, n=1, errors=ERROR), row(2, n=2, issued="e3")]
    assert letters(read(jobs, rows)) == "UUI"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row(1, n=1, issued="e1")], "IUU"),
        ([row(3, n=3, errors=ERROR)], "UUR"),
        ([row(1, n=1, issued="e1"), row(1, n=1, issued="e1")], "IUU"),
        ([row(1, n=1, issued="e1"), row(1, n=1, errors=ERROR)], "UUU"),
        ([row(1, issued="e1"), row(1, issued="e1"), row(2, issued="e2")], "IIU"),
        ([row(n, n=n, issued=f"e{n}") for n in (1, 2, 3, 4)], "III"),
        ([row(9, n=1, issued="e9"), *(row(n, n=n, issued=f"e{n}") for n in (1, 2, 3))], "III"),
        ([row(9, n=2, errors=ERROR), row(1, n=1, issued="e1"), row(3, n=3, issued="e3")], "IRI"),
        ([row(9, n=2, issued="e9"), row(1, n=1, issued="e1"), row(3, n=3, issued="e3")], "IUI"),
    ],
    ids=[
        "one",
        "one error",
        "repeated",
        "contradictory",
        "repeated, unnumbered",
        "one more",
        "a stranger's",
        "left over",
        "issued to a stranger",
    ],
)
def test_rows_too_few_and_too_many(rows: list[dict[str, Any]], expected: str) -> None:
    """Who has no row of its own is in doubt; whose row is certain isn't touched by strangers' rows."""
    assert letters(read(THREE, rows)) == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row(1, n=1, issued="e1"), bare(), bare()], "IRR"),
        ([row(1, n=1, issued="e1"), bare(), bare(BUSY)], "IDD"),
        ([row(1, n=1, issued="e1"), bare(BUSY), bare(BUSY)], "IDD"),
        ([row(1, n=1, issued="e1"), bare()], "IUU"),
        ([row(1, n=1, issued="e1"), bare(), bare(), bare()], "IUU"),
        ([row(1, n=1, issued="e1"), bare(), {"data": None, "errors": None}], "IUU"),
        ([row(1, n=1, issued="e1"), bare(), "garbage"], "IUU"),
        ([bare(), bare(), bare()], "RRR"),
        ([row(None, n=1, errors=ERROR), row(None, errors=ERROR), bare()], "RRR"),
        # Two errors of customer 2 say nothing of customer 3.
        ([row(1, n=1, issued="e1"), row(2, errors=ERROR), row(2, errors=ERROR)], "IUU"),
        ([row(1, n=1, issued="e1"), row(1, errors=ERROR), row(2, errors=ERROR)], "IRU"),
    ],
)
def test_as_many_errors_left_over_as_items(rows: list[object], expected: str) -> None:
    """If what is left unmatched is equal in number and all errors, none of these items was issued."""
    verdict = read(THREE, rows)
    assert letters(verdict) == expected
    # Codes that differ are guessed for nobody: sent again, the answer may tell.
    assert all(
        o.spends_attempt for o in verdict.outcomes if isinstance(o, Deferred) and o.code == "unmatched"
    )


def test_bare_rows_that_differ_are_isolated() -> None:
    """As many errors as items, none saying whose it is: nothing was issued, and each is sent alone."""
    verdict = read(TWO, [bare(), bare({"code": 816, "message": "outside"})])
    assert (letters(verdict), verdict.signal) == ("DD", Signal.REFUSED)


# -- any answer at all

CUSTOMERS = st.integers(1, 4)
batches = st.lists(st.builds(job, CUSTOMERS, st.sampled_from([B1, B2])), min_size=1, max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=6,
)
codes = st.sampled_from([1054, 521, 401, 498, 429, 4000, 4001, 1060, 500, 503, 816, "1054", "x", 0, None])
errors = st.builds(lambda code, message: {"code": code, "message": message}, codes, st.text(max_size=5))
error_shapes = st.none() | errors | st.lists(errors | st.none(), max_size=2) | json_values
statuses = st.sampled_from([200, 201, 204, 302, 400, 401, 403, 404, 409, 413, 422, 429, 500, 503, 521, 999])
any_data = st.fixed_dictionaries(
    {},
    optional={
        "badgeMetaId": st.sampled_from([B1, B2]) | json_values,
        "customerId": CUSTOMERS | json_values,
        "earnedBadgeId": st.none() | st.text(max_size=3) | json_values,
        "requestId": st.integers(-1, 9).map(lambda n: f"{UUID}_{n}") | json_values,
        "expiresOn": json_values,
        "issuedId": json_values,
    },
)
any_row = st.fixed_dictionaries(
    {}, optional={"data": any_data | json_values, "errors": error_shapes, "warnings": json_values}
)
any_body = json_values | any_row | st.lists(any_row | json_values, max_size=9)


def check(jobs: Sequence[Job], body: bytes, status: int) -> None:
    """Read an answer; see that it says one thing of each job, in words fit for a record."""
    verdict = read_answer(jobs, Reply(status, body, {}))
    assert len(verdict.outcomes) == len(jobs)
    assert isinstance(verdict.signal, Signal)
    for outcome in verdict.outcomes:
        if isinstance(outcome, Issued):
            shown = [outcome.earned_badge_id, outcome.issued_id, outcome.request_id, outcome.expires_on_iso]
            assert outcome.earned_badge_id
            assert all(text is None or len(text.encode()) <= 64 for text in shown)
        else:
            shown = [outcome.message]
            assert len(outcome.code.encode()) <= 64
            assert outcome.code
        assert all(text is None or text.isprintable() for text in shown)


@given(batches, any_body, statuses)
def test_any_json_gives_every_job_one_outcome(jobs: list[Job], body: object, status: int) -> None:
    """Whatever JSON comes back, NaN and half letters included, nothing is raised and nobody is forgotten."""
    check(jobs, json.dumps(body).encode(), status)


@given(batches, st.binary() | st.text().map(str.encode), statuses)
def test_any_bytes_give_every_job_one_outcome(jobs: list[Job], body: bytes, status: int) -> None:
    """Nor do bytes that are no JSON."""
    check(jobs, body, status)


@pytest.mark.parametrize(
    "opening", ["[", '{"errors":', '{"data":', '[{"data":{"customerId":', '{"errors":[{"message":']
)
@pytest.mark.parametrize("depth", [1, 50, 300, 900, 960, 980, 990, 1000, 100_000])
def test_nesting_does_not_end_the_stack(opening: str, depth: int) -> None:
    """However deep an answer is nested, closed or not, it is read or in doubt."""
    closing = "".join({"[": "]", "{": "}"}.get(letter, "") for letter in reversed(opening))
    for inner in ("null", "[" * depth + "]" * depth):
        check(THREE, (opening * depth + inner + closing * depth).encode(), 200)
    deep = "[" * depth + "]" * depth
    for place in ("earnedBadgeId", "customerId", "expiresOn", "requestId"):
        check(ONE, f'[{{"data":{{"earnedBadgeId":"e","{place}":{deep}}},"warnings":{deep}}}]'.encode(), 200)
    for errors_ in (deep, f'{{"code":{deep}}}', f'{{"message":{deep}}}'):
        check(ONE, f'[{{"data":null,"errors":{errors_}}}]'.encode(), 200)
    warned = row(1, n=1, issued="e") | {"warnings": "DEEP"}
    raw = json.dumps([warned]).replace('"DEEP"', deep).encode()
    assert letters(read(ONE, raw)) in ("I", "U")


@pytest.mark.parametrize("status", [200, 400, 429])
@pytest.mark.parametrize(
    "body",
    [
        b'[{"data":{}}%b]' % (b',{"data":{}}' * 1_300_000),
        b'\n{"errors":[{}%b]}' % (b",{}" * 5_000_000),
        codecs.BOM_UTF8 + b"[1%b]" % (b",1" * 8_000_000),
    ],
    ids=["rows", "errors", "numbers"],
)
def test_millions_of_values_are_not_parsed(body: bytes, status: int) -> None:
    """They would take seconds, in which the process does nothing else, and half a gigabyte."""
    verdict = read(THREE, body, status)
    assert (letters(verdict), verdict.signal, verdict.code) == ("UUU", Signal.IN_DOUBT, "too_many")


def test_a_long_answer_that_is_no_json_leaves_the_status_alone() -> None:
    """It may be the page of whatever stands before the vendor."""
    page = b"<script>" + b"[1,2]," * 100_000
    assert read(THREE, page, 429).signal is Signal.THROTTLED


def test_what_can_just_be_read_need_not_be_written() -> None:
    """At the depth at which an answer can still be read, but not its warnings written, nothing is raised."""
    for depth in range(800, 1000):
        body = json.dumps([row(1, issued="e") | {"warnings": 0}])
        deep = body.replace('"warnings": 0', f'"warnings": {"[" * depth}{"]" * depth}')
        assert letters(read(ONE, deep.encode())) in ("I", "U")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "9" * 4000, "9" * 5000, "1e308", "-0.0"])
def test_odd_numbers_are_read_or_in_doubt(number: str) -> None:
    """Numbers of any size, wherever they stand, are no reason to raise."""
    for place in ("customerId", "earnedBadgeId", "expiresOn", "requestId", "issuedId"):
        body = json.dumps([row(1, n=1, issued="e") | {}]).replace(
            f'"{place}": ', f'"{place}": {number}, "x": '
        )
        check(ONE, body.encode(), 200)
    check(ONE, f'[{{"data":null,"errors":{{"code":{number}}}}}]'.encode(), 200)


# -- safety: what a vendor that doesn't lie can make us believe


@st.composite
def honest(draw: st.DrawFn) -> tuple[list[Job], list[bool], list[dict[str, Any]]]:
    """Draw a batch, which of it was really issued, and the vendor's full and honest answer."""
    jobs = draw(batches)
    truth = [draw(st.booleans()) for _ in jobs]
    bare_errors = draw(st.booleans())
    rows = []
    for n, (j, was_issued) in enumerate(zip(jobs, truth, strict=True), 1):
        customer = draw(st.sampled_from([j.badge.customer_id, str(j.badge.customer_id)]))
        error = {
            "code": draw(st.sampled_from([1054, 521, 401, 498, 4001, 429, 816, 503, 500])),
            "message": "m",
        }
        if was_issued:
            rows.append(row(customer, badge=j.badge.badge_meta_id, n=n, issued=f"e{n}"))
        elif bare_errors and draw(st.booleans()):
            rows.append(bare(error))
        else:
            shape = draw(st.sampled_from([error, [error]]))
            rows.append(row(customer, badge=j.badge.badge_meta_id, n=n, errors=shape))
    return jobs, truth, rows


def assert_safe(jobs: Sequence[Job], truth: Sequence[bool], answer: object, status: int) -> None:
    """See that nothing certain is said that isn't so."""
    verdict = read(jobs, answer, status)
    for was_issued, outcome in zip(truth, verdict.outcomes, strict=True):
        if isinstance(outcome, Issued):
            assert was_issued, verdict
        elif not isinstance(outcome, Unknown):
            assert not was_issued, verdict
    kinds = {type(outcome) for outcome in verdict.outcomes}
    assert (verdict.signal is Signal.IN_DOUBT) == (kinds == {Unknown})


ok_statuses = st.sampled_from([200, 201, 207, 500])


@given(honest(), st.data(), ok_statuses)
@settings(max_examples=200)
def test_an_honest_answer_never_misleads(
    case: tuple[list[Job], list[bool], list[dict[str, Any]]], data: st.DataObject, status: int
) -> None:
    """Rows dropped, shuffled, repeated, their requestIds stripped: Issued was issued, and failed was not.

    One assumption is made, and stated in response.py: a single error without any data speaks of the
    whole request. So the answer that is cut down to just that is left out here.
    """
    jobs, truth, rows = case
    kept = [r for r in data.draw(st.permutations(rows)) if data.draw(st.integers(0, 3))]
    stripped = data.draw(st.sampled_from(["none", "some", "all"]))
    for r in kept:
        if r["data"] and (stripped == "all" or (stripped == "some" and data.draw(st.booleans()))):
            r["data"]["requestId"] = None
    assume(len(jobs) == 1 or len(kept) != 1 or kept[0]["data"])
    assert_safe(jobs, truth, kept, status)


@given(honest(), st.data())
@settings(max_examples=100)
def test_strangers_and_garbage_among_honest_rows_do_not_mislead(
    case: tuple[list[Job], list[bool], list[dict[str, Any]]], data: st.DataObject
) -> None:
    """Beside a full answer, strangers' issued rows, repetitions and garbage do no harm."""
    jobs, truth, rows = case
    extra: list[object] = []
    for _ in range(data.draw(st.integers(1, 4))):
        stranger = row(data.draw(st.integers(5, 9)), n=data.draw(st.integers(0, 9)), issued="s")
        repeated = data.draw(st.sampled_from([r for r in rows if r["data"]] or [stranger]))
        extra.append(
            data.draw(st.sampled_from([stranger, repeated, None, "garbage", {"data": None, "errors": None}]))
        )
    answer: list[object] = data.draw(st.permutations([*rows, *extra]))
    assert_safe(jobs, truth, answer, 200)


@given(honest(), st.integers(-2, 2), ok_statuses)
@settings(max_examples=100)
def test_numbers_that_mean_something_else_do_not_mislead(
    case: tuple[list[Job], list[bool], list[dict[str, Any]]], shift: int, status: int
) -> None:
    """That requestIds count from one is inferred: a full answer that counts otherwise is safe too."""
    jobs, truth, rows = case
    for n, r in enumerate(rows):
        if r["data"]:
            r["data"]["requestId"] = f"{UUID}_{n + 1 + shift}"
    assert_safe(jobs, truth, rows, status)


@given(honest(), st.randoms(use_true_random=False))
def test_a_full_answer_leaves_no_doubt_where_items_differ(
    case: tuple[list[Job], list[bool], list[dict[str, Any]]], source: random.Random
) -> None:
    """An answer with all its rows, in any order, decides about every item of which there is one only."""
    jobs, truth, rows = case
    assume(all(r["data"] for r in rows))
    source.shuffle(rows)
    verdict = read(jobs, rows)
    for was_issued, outcome in zip(truth, verdict.outcomes, strict=True):
        assert isinstance(outcome, Issued if was_issued else Rejected | Deferred)


# -- what an operator says it means


def says(status: int, body: object, **settings: Any) -> Verdict:
    """Read an answer to two jobs as an org with these settings does."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_answer(TWO, Reply(status, raw, {"retry-after": "7"}), meanings_of(configured(**settings)))


@pytest.mark.parametrize(
    "body", [b"<html>busy</html>", b"", {"errors": [{"code": 503}]}, bare({"code": 503})]
)
def test_a_limiter_that_answers_503(body: object) -> None:
    """Told so, it is as good as 429: certainly not applied, with its Retry-After; untold it is in doubt."""
    told = says(503, body, statuses={503: "throttled"})
    assert (letters(told), told.signal, told.retry_after_s) == ("DD", Signal.THROTTLED, 7)
    assert says(503, body).signal is Signal.IN_DOUBT


def test_a_status_told_anew_is_read_after_the_body() -> None:
    """Rows, and codes of the vendor's own, say more than any status."""
    rows = [row(1, n=1, issued="e1"), row(2, n=2, issued="e2")]
    assert letters(says(503, rows, statuses={503: "throttled"})) == "II"
    assert says(503, bare({"code": 4001}), statuses={503: "throttled"}).signal is Signal.UNAVAILABLE
    assert says(400, b"", statuses={400: "in_doubt"}).signal is Signal.IN_DOUBT


@pytest.mark.parametrize(
    ("code", "word", "result"),
    [
        (9001, "busy", "DI"),
        (9001, "deferred", "DI"),
        ("X_1", "deferred", "DI"),
        (521, "rejected", "RI"),
        (9001, "in_doubt", "UI"),
        (9001, "throttled", "DI"),
        (503, "rejected", "RI"),
    ],
)
def test_a_code_told_anew(code: object, word: str, result: str) -> None:
    """Of an item, it is that item's alone."""
    rows = [row(1, n=1, errors={"code": code}), row(2, n=2, issued="e2")]
    assert letters(says(200, rows, codes={str(code): word})) == result


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_code_of_the_whole_request(status: int) -> None:
    """It counts under every status, as the built-in ones do."""
    assert says(status, bare({"code": 9001}), codes={"9001": "throttled"}).signal is Signal.THROTTLED


@pytest.mark.parametrize("status", [200, 400, 409, 500])
@pytest.mark.parametrize("body", [{"data": None, "errors": [TWICE]}, [{"data": None, "errors": [TWICE]}]])
def test_a_request_id_that_was_seen_before_leaves_all_in_doubt(status: int, body: Any) -> None:
    """Ours is new with each call, so something on the way sent it twice: the first may have been applied."""
    verdict = read(TWO, body, status)
    assert (letters(verdict), verdict.signal) == ("UU", Signal.IN_DOUBT)
