"""What is done about an outcome: each job gets one settlement, and no outage spends an attempt."""

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import configured

from worker.domain.badge import Badge
from worker.domain.job import DeadKind, Job
from worker.domain.org import Org
from worker.domain.outcome import Deferred, Issued, Outcome, Rejected, Signal, Unknown, Verdict
from worker.domain.settlement import DeadLetter, Isolate, PutBack, Retry, Settlement, backoff_s, settlements

ISSUED = Issued("697b5f6f0772ad476ecff272")
BUSY = Deferred("521", "busy")
ITEMS_OWN = Deferred("503", "not now", spends_attempt=True)
DOUBT = Unknown("timeout", "no whole answer")
WAITING = [
    Signal.THROTTLED,
    Signal.UNAUTHORIZED,
    Signal.STALE_TOKEN,
    Signal.MISCONFIGURED,
    Signal.UNAVAILABLE,
    Signal.TOO_LARGE,
]


def job(attempts: int = 0, *, badge_id: str = "b", n: int = 1) -> Job:
    """Return a job that was tried so often."""
    return Job(f"j{n}", Badge(badge_id, n), attempts)


def settle(
    outcome: Outcome, *, attempts: int = 0, signal: Signal = Signal.OK, at: float = 0.5, **settings: Any
) -> Settlement:
    """Return what becomes of one job."""
    (settled,) = settlements(
        [job(attempts)], Verdict((outcome,), signal), org=configured(**settings), random=lambda: at
    )
    return settled


# -- each outcome


def test_what_is_issued_is_complete() -> None:
    """An issued badge is done, with what the vendor said of it, whatever else the answer says."""
    assert settle(ISSUED) == ISSUED
    assert settle(ISSUED, attempts=99, signal=Signal.REFUSED) == ISSUED


@pytest.mark.parametrize("signal", [Signal.OK, Signal.REFUSED])
def test_what_is_rejected_is_dead_with_the_vendors_words(signal: Signal) -> None:
    """A rejected item needs a person, who sees code and message; no attempt would change it."""
    assert settle(Rejected("1054", "BADGE_NOT_FOUND"), signal=signal) == DeadLetter(
        DeadKind.REJECTED, "1054", "BADGE_NOT_FOUND"
    )


@pytest.mark.parametrize("signal", [Signal.OK, Signal.IN_DOUBT])
@pytest.mark.parametrize("attempts", [0, 4, 99])
@pytest.mark.parametrize("in_doubt", ["park", "check"])
def test_what_is_in_doubt_is_parked(signal: Signal, attempts: int, in_doubt: str) -> None:
    """A job in doubt is not sent again by its answer alone, at whichever attempt: it may be issued."""
    settled = settle(DOUBT, signal=signal, attempts=attempts, in_doubt=in_doubt)
    assert settled == DeadLetter(DeadKind.IN_DOUBT, "timeout", "no whole answer")


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        (0, Retry(0.5 * 2, "timeout", "no whole answer", spends_attempt=True, in_doubt=True)),
        (3, Retry(0.5 * 16, "timeout", "no whole answer", spends_attempt=True, in_doubt=True)),
        (4, DeadLetter(DeadKind.IN_DOUBT, "timeout", "no whole answer")),
    ],
)
def test_resend_sends_what_is_in_doubt_again(attempts: int, expected: Settlement) -> None:
    """Who asks for at-least-once gets it, up to max_attempts; what is left then is still in doubt."""
    assert settle(DOUBT, attempts=attempts, in_doubt="resend") == expected


@pytest.mark.parametrize("signal", WAITING)
@pytest.mark.parametrize("attempts", [0, 4, 99])
def test_the_whole_calls_trouble_spends_no_attempt(signal: Signal, attempts: int) -> None:
    """Throttling, outages, refused credentials: the job goes back as if nothing had been tried."""
    assert settle(Deferred("429", "slow down"), signal=signal, attempts=attempts) == PutBack(
        "429", "slow down"
    )


@pytest.mark.parametrize("attempts", [0, 4, 99])
def test_a_busy_customer_spends_no_attempt(attempts: int) -> None:
    """521 in a row passes by itself: the job waits, however often."""
    assert settle(BUSY, attempts=attempts) == Retry(1.0, "521", "busy", spends_attempt=False)


@pytest.mark.parametrize("max_attempts", [1, 2, 5])
def test_attempts_end_in_exhausted(max_attempts: int) -> None:
    """An item's own trouble is tried max_attempts times in all, then needs a person."""
    tried = [settle(ITEMS_OWN, attempts=n, max_attempts=max_attempts) for n in range(max_attempts + 2)]
    assert all(isinstance(settled, Retry) and settled.spends_attempt for settled in tried[: max_attempts - 1])
    assert tried[max_attempts - 1 :] == [DeadLetter(DeadKind.EXHAUSTED, "503", "not now")] * 3


def test_one_items_fate_does_not_move_anothers() -> None:
    """In one batch each job gets what its own outcome asks for, in the batch's order."""
    outcomes = (ISSUED, Rejected("1054", "no"), BUSY, ITEMS_OWN, DOUBT, ISSUED)
    jobs = [job(n=n + 1) for n in range(len(outcomes))]
    settled = settlements(jobs, Verdict(outcomes, Signal.OK), org=configured(), random=lambda: 0.0)
    assert [type(s) for s in settled] == [Issued, DeadLetter, Retry, Retry, DeadLetter, Issued]


# -- jitter


@given(
    st.integers(1, 10**6),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.001, 3600),
    st.floats(0.001, 86400),
)
def test_a_delay_is_fully_jittered_and_capped(attempt: int, at: float, base_s: float, max_s: float) -> None:
    """A delay is anything from nothing to base * 2^(attempt-1), never more than the cap."""
    org = Org(retry_base_s=base_s, retry_max_s=max_s)
    most = min(max_s, base_s * 2.0 ** min(attempt - 1, 60))
    delay_s = backoff_s(attempt, org=org, random=lambda: at)
    assert delay_s == pytest.approx(at * most)
    assert 0 <= delay_s <= max_s


# -- isolation


def isolate(badges: list[str]) -> list[Isolate]:
    """Return what becomes of a refused batch of these badgeMetaIds."""
    jobs = [job(badge_id=badge_id, n=n + 1) for n, badge_id in enumerate(badges)]
    verdict = Verdict((Deferred("1054", "no"),) * len(jobs), Signal.REFUSED, "1054", "no")
    settled = settlements(jobs, verdict, org=configured(), random=lambda: 0.0)
    assert all(isinstance(s, Isolate) for s in settled)
    return [s for s in settled if isinstance(s, Isolate)]


@pytest.mark.parametrize(
    ("badges", "expected"),
    [
        ("aa", [(0, 1), (1, 1)]),
        ("aaa", [(0, 2), (0, 2), (1, 1)]),
        ("aaaa", [(0, 2), (0, 2), (1, 2), (1, 2)]),
        ("ab", [(0, 1), (1, 1)]),
        ("bab", [(1, 2), (0, 1), (1, 2)]),
        ("abcab", [(0, 2), (1, 2), (2, 1), (0, 2), (1, 2)]),
    ],
)
def test_a_refused_batch_is_split_by_badge_then_in_halves(
    badges: str, expected: list[tuple[int, int]]
) -> None:
    """The likeliest culprit is a badge: each gets a call of its own; a single one is halved."""
    assert [(s.group, s.width) for s in isolate(list(badges))] == expected


@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=60))
def test_isolation_covers_every_job_once_and_gets_smaller(badges: list[str]) -> None:
    """Each job is in one group, as wide as the group is, of one badge, and smaller than what was refused."""
    groups: dict[int, list[int]] = defaultdict(list)
    settled = isolate(badges)
    for place, s in enumerate(settled):
        groups[s.group].append(place)
    assert sorted(place for places in groups.values() for place in places) == list(range(len(badges)))
    for number, places in groups.items():
        assert {settled[place].width for place in places} == {len(places)}
        assert len(places) < len(badges)
        assert len({badges[place] for place in places}) == 1, number
    assert {(s.code, s.message) for s in settled} == {("1054", "no")}


@given(st.integers(2, 200), st.data())
def test_isolation_finds_one_culprit_in_about_two_log_n_calls(size: int, data: st.DataObject) -> None:
    """The culprit of a batch of one badge stands alone after few calls, and everybody else is issued."""
    culprit = data.draw(st.integers(0, size - 1))
    calls, issued, waiting = 0, [], [list(range(size))]
    while waiting:
        batch = waiting.pop()
        calls += 1
        if culprit not in batch:
            issued += batch
        elif len(batch) > 1:
            groups: dict[int, list[int]] = defaultdict(list)
            for place, s in zip(batch, isolate(["a"] * len(batch)), strict=True):
                groups[s.group].append(place)
            waiting += groups.values()
    assert sorted([*issued, culprit]) == list(range(size))
    assert calls <= 2 * (size - 1).bit_length() + 1
