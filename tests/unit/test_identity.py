"""What a job's id is made of is a format for ever: ids are remembered for good."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.badge import Badge
from worker.domain.identity import PAIR_LETTERS, content_id, pair_letters

BADGE = "696f0fd40772ad476ecf74ac"
PLAIN = Badge(BADGE, 98662653)
DATED = Badge(BADGE, 98662653, earn_event_date=1674292011, earn_expires_on_iso="2025-09-10T15:00:00+05:30")

GOLDEN = {
    ("default", PLAIN, ()): "6ji5cqejvkfqfsyxjloz",
    ("default", DATED, ()): "6ji5cqejvk7kw3nvepie",
    ("acme", PLAIN, ()): "q3yihk2mhrnqju6pgkqh",
    ("default", PLAIN, ("spring", "7")): "6ji5cqejvkayvoptuq72",
}


@pytest.mark.parametrize(("made_of", "expected"), GOLDEN.items(), ids=list(GOLDEN.values()))
def test_an_id_never_changes(made_of: tuple[str, Badge, tuple[str, ...]], expected: str) -> None:
    """Another way of making it would issue every badge of a file that was imported before once more."""
    org, badge, repeated = made_of
    assert content_id(org, badge, *repeated) == expected


def test_all_ids_of_a_badge_and_customer_begin_alike() -> None:
    """Whatever their dates, in whichever case the badge is written: so they are found by a prefix."""
    pair = pair_letters("default", BADGE, 98662653)
    ids = {
        content_id("default", badge) for badge in (PLAIN, DATED, PLAIN._replace(badge_meta_id=BADGE.upper()))
    }
    assert len(pair) == PAIR_LETTERS
    assert len(ids) == 2
    assert all(one.startswith(pair) for one in ids)
    assert not content_id("acme", PLAIN).startswith(pair)


@given(st.integers(1, 2**63 - 1), st.integers(1, 2**63 - 1), st.text(max_size=5), st.text(max_size=5))
def test_other_content_is_another_id(one: int, other: int, run: str, row: str) -> None:
    """Twenty letters and digits that are safe in a key and in a shell."""
    first, second = Badge(BADGE, one), Badge(BADGE, other)
    assert (content_id("default", first) == content_id("default", second)) == (one == other)
    assert content_id("default", first, run, row) != content_id("default", first)
    assert len(content_id("default", first)) == 20
    assert content_id("default", first).isalnum()
