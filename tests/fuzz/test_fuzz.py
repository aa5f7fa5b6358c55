"""Whatever comes in, each row and each job has one outcome; no date and no id becomes another one."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from fuzz.inputs import ANSWERS_PER_DRAW, BADGE, Exchange, as_csv, as_object, exchanges, rows
from fuzz.promises import check_answer, check_file, check_item, check_meaning, days_before
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from worker.domain.badge import Badge
from worker.domain.invalid import Invalid
from worker.domain.job import Job
from worker.domain.outcome import Reply
from worker.vendor.verdict import read_answer

ROWS_PER_FILE = 20
# How many, in files of 20 rows: a share of seconds, or what the command of the long run (long.py) says.
FILES, ANSWERS = (
    int(os.environ.get(name, share)) for name, share in (("FUZZ_FILES", "50"), ("FUZZ_ANSWERS", "1000"))
)
_LONG: Any = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
OF_FILES = settings(max_examples=FILES, **_LONG)
OF_ANSWERS = settings(max_examples=max(1, ANSWERS // ANSWERS_PER_DRAW), **_LONG)
TRIED: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def _count() -> Iterator[None]:
    """Say in the end how many were tried, which the long run shows."""
    yield
    print(f"\ntried: {', '.join(f'{number:,} {what}' for what, number in TRIED.items())}")


def test_our_own_calendar_is_right() -> None:
    """The reading that the others are held against knows 1970, 2000 and 2026."""
    assert [days_before(1970, 1, 1), days_before(2000, 2, 29), days_before(2026, 12, 31)] == [0, 11016, 20818]


@OF_FILES
@given(
    st.lists(rows(), min_size=ROWS_PER_FILE, max_size=ROWS_PER_FILE),
    st.sampled_from(["f.csv", "f.jsonl", "f.json"]),
)
@example([{"badgeMetaId": BADGE, "customerId": "7", "earnExpiresOn": "20261231235959"}], "f.csv")
@example([{"badgeMetaId": BADGE, "customerId": "9007199254740993.0"}], "f.jsonl")
@example(
    [{"badgeMetaId": BADGE, "customerId": "7", "earnExpiresOnISO": "2026-12-31T23:59:59.999999Z"}], "f.json"
)
def test_a_files_rows_mean_what_is_written(items: list[dict[str, str]], name: str) -> None:
    """What is taken leaves as what was written, by another reading of it; all else has a reason."""
    objects = [as_object(item) for item in items]
    data = {
        "f.csv": as_csv(items),
        "f.jsonl": "\n".join(objects).encode(),
        "f.json": f"[{','.join(objects)}]".encode(),
    }
    found = check_file(data[name], name)
    TRIED["rows in whole files"] += len(items)
    first = 2 if name == "f.csv" else 1
    for row in found:
        parsed = row.problem or check_item(row.item)
        if not isinstance(parsed, Invalid):
            check_meaning(items[int(row.row) - first], parsed.badge)


@OF_FILES
@given(
    st.lists(rows(), min_size=ROWS_PER_FILE, max_size=ROWS_PER_FILE),
    st.sampled_from(["f.csv", "f.jsonl", "f.json", "-"]),
    st.data(),
    st.booleans(),
)
def test_a_damaged_file_never_raises_what_is_not_ours(
    items: list[dict[str, str]],
    name: str,
    data: st.DataObject,
    packed: bool,  # noqa: FBT001
) -> None:
    """Bytes changed, put in or cut off: each row has one outcome, or the file has a reason."""
    whole = (
        as_csv(items) if name in {"f.csv", "-"} else b"[" + ",\n".join(map(as_object, items)).encode() + b"]"
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole)))
        cut = data.draw(st.integers(0, 3))
        whole = (
            whole[:at]
            + data.draw(st.binary(max_size=3) | st.sampled_from([b'"', b"\n", b",", b"{"]))
            + whole[at + cut :]
        )
    if data.draw(st.integers(0, 3)) == 0:
        whole = whole[: data.draw(st.integers(0, len(whole)))]
    TRIED["rows in damaged files"] += len(items)
    check_file(gzip.compress(whole)[: -1 if len(whole) % 7 == 0 else None] if packed else whole, name)


@OF_ANSWERS
@given(exchanges())
def test_each_job_has_one_outcome_whatever_is_answered(made: list[Exchange]) -> None:
    """Nothing raises, and nothing is issued without an earnedBadgeId that the answer has."""
    for body, status, count in made:
        note(f"{status} {body!r}")
        check_answer(body, status, [Job(f"j{n}", Badge(BADGE, n)) for n in range(1, count + 1)])
        TRIED["answers"] += 1


def test_the_answers_are_worth_trying() -> None:
    """Enough of what is made up is issued, refused and in doubt, and what is made of one draw differs."""
    outcomes: Counter[str] = Counter()
    bodies: list[bytes] = []

    @settings(OF_ANSWERS, max_examples=60, derandomize=True)
    @given(exchanges())
    def look(made: list[Exchange]) -> None:
        for body, status, _ in made:
            bodies.append(body)
            found = read_answer([Job("j1", Badge(BADGE, 1))], Reply(status, body, {}))
            outcomes[type(found.outcomes[0]).__name__] += 1

    look()
    assert set(outcomes) >= {"Issued", "Rejected", "Unknown"}, outcomes
    assert min(outcomes[name] for name in ("Issued", "Rejected", "Unknown")) > len(bodies) // 100, outcomes
    assert len(set(bodies)) > len(bodies) // 2


def test_the_inputs_are_worth_trying() -> None:
    """Enough of what is made up is taken, and enough is refused, so that both ways are tried."""
    verdicts: Counter[str] = Counter()

    @settings(OF_FILES, max_examples=200, derandomize=True)
    @given(rows())
    def look(item: dict[str, str]) -> None:
        verdicts[type(check_item(item)).__name__] += 1

    look()
    assert min(verdicts["BadgeIssue"], verdicts["Invalid"]) >= 8, verdicts
