"""Why nothing moves is one sentence, judged in one place: what comes first of all that holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from worker.domain.org import Org
from worker.operate.standstill import Circumstances, Gate, Reason, Trouble, standstill, unreachable

OPEN = Gate(state="open")
WELL = Circumstances(org="default", settings=Org(), waiting=5, in_flight=0, gate=OPEN, has_worker=True)
CLOSED = Gate(state="closed", closed_until="2026-11-26T21:00:07+00:00")
UNKNOWN_CA = "ConnectError: TLS: the certificate is not trusted: unable to get local issuer certificate"


def test_what_moves_or_has_nothing_to_do_stands_still_for_no_reason() -> None:
    """An idle org needs nobody, whatever its gate says."""
    assert standstill(WELL) is None
    for idle in ({"gate": CLOSED}, {"gate": Gate("probing")}, {"has_worker": False}, {"settings": None}):
        assert standstill(replace(WELL, waiting=0, **idle)) is None
        assert standstill(replace(WELL, waiting=0, in_flight=1, **idle)) is None


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"settings": None}, Reason.UNCONFIGURED, "isn't configured; put it back into BADGES_ORGS_FILE"),
        (
            {"gate": Gate("paused", "operator", "lunch")},
            Reason.PAUSED_OPERATOR,
            "paused (operator): lunch; go on",
        ),
        (
            {"gate": Gate("paused", "auth", "401")},
            Reason.PAUSED_AUTH,
            "badges doctor says what to mend; go on",
        ),
        ({"gate": Gate("paused", "config")}, Reason.PAUSED_CONFIG, "badges resume"),
        ({"has_worker": False}, Reason.NO_WORKER, "no worker is alive; start one"),
        (
            {"redis_refuses": "it is a read-only replica: make it the primary", "has_worker": False},
            Reason.REDIS_READ_ONLY,
            "Redis: it is a read-only replica: make it the primary (badges doctor)",
        ),
        (
            {"waiting": 0, "in_flight": 1, "trouble": Trouble("claims", "not confirmed")},
            Reason.CLAIMS,
            "claims fail: not confirmed; see: badges doctor",
        ),
        (
            {"no_broker": "the broker can't be reached: refused", "has_worker": False},
            Reason.BROKER,
            "workers can't read their messages: the broker can't be reached: refused (badges doctor)",
        ),
        ({"redis_is_full": True}, Reason.REDIS_FULL, "Redis is full"),
        (
            {"trouble": Trouble("claims", "not confirmed"), "redis_weakness": "no append-only file"},
            Reason.CLAIMS,
            "claims fail: not confirmed (no append-only file)",
        ),
        ({"trouble": Trouble("token", f"no token: {UNKNOWN_CA}")}, Reason.TLS, "unable to get local issuer"),
        ({"trouble": Trouble("token", "no token: 503")}, Reason.TOKEN, "gives no token: 503"),
        (
            {"gate": replace(CLOSED, why="throttled")},
            Reason.THROTTLED,
            "closed until 21:00:07 UTC: the vendor thr",
        ),
        ({"gate": Gate("probing", "answer in doubt", "timeout")}, Reason.IN_DOUBT, "in doubt: timeout"),
        (
            {"gate": replace(CLOSED, why="vendor unavailable", reason=UNKNOWN_CA)},
            Reason.TLS,
            "closed until 21:00:07 UTC: the vendor is unavailable: TLS: the certificate is not trusted",
        ),
        ({"overdue_s": 44.0}, Reason.OVERDUE, "no worker has looked for 44 s"),
        ({"limit_for_s": 4000.0, "limit": "100/day"}, Reason.LIMIT, "the limit 100/day is used up"),
    ],
)
def test_each_reason_has_its_sentence(changes: dict[str, Any], reason: Reason, words: str) -> None:
    """One sentence, with what to do, and a word of a bounded set."""
    held = standstill(replace(WELL, **changes))
    assert held
    assert held.reason is reason
    assert words in held.sentence
    assert "\n" not in held.sentence
    assert "Error" not in held.sentence


def test_the_first_that_holds_is_the_reason() -> None:
    """Paused before all else; without a worker the gate tells nothing; a failed claim before the gate."""
    worst = replace(
        WELL, has_worker=False, gate=CLOSED, trouble=Trouble("claims", "x"), overdue_s=99.0, limit_for_s=99.0
    )
    paused = replace(worst, gate=Gate("paused", "operator"))
    reasons = [standstill(one) for one in (paused, worst, replace(worst, has_worker=True))]
    assert [held and held.reason for held in reasons] == [
        Reason.PAUSED_OPERATOR,
        Reason.NO_WORKER,
        Reason.CLAIMS,
    ]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("ConnectError: Name or service not known", Reason.DNS),
        ("no whole answer within 3 s: it was looking up the vendor's address", Reason.DNS),
        ("ProxyError: the proxy answered 403", Reason.PROXY),
        ("ConnectError: All connection attempts failed", Reason.UNREACHABLE),
        (UNKNOWN_CA, Reason.TLS),
        ("", Reason.UNREACHABLE),
    ],
)
def test_what_stands_in_the_way_is_told_from_its_words(words: str, reason: Reason) -> None:
    """Of whatever library they are."""
    assert unreachable(words) is reason
