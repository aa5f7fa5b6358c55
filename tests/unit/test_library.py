"""What producers rely on, without a server: one chunk ahead and no more, bounded notes, whole errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support import configured, issue

from worker import BadgeIssue, ConfigError, Enqueued, NoRoom, Noted
from worker.domain.batch import Item
from worker.domain.org import Org
from worker.enqueue import NOTED_KEPT, EnqueueOptions, accept, as_many, check_run_name, sources, total
from worker.store.queue import CHUNK, Written
from worker.store.record import Answer
from worker.tracing import Span

ORG = configured()


class Recorder:
    """Stands where the queue stands, and takes everything; ``full`` says how often it refuses first."""

    def __init__(self, *, full: int = 0) -> None:
        self.calls: list[str] = []
        self.taken = 0
        self.full = full

    def write_down(self, org: Org, *, items: list[Item], call: str, **_options: Any) -> Written:
        """Write a chunk down."""
        return Written(org, (call, items), Span())

    def hand_in(self, written: Written) -> list[Answer]:
        """Accept a chunk."""
        call, items = written.arguments
        if self.full:
            self.full -= 1
            raise NoRoom("it is full")
        self.calls.append(call)
        self.taken += len(items)
        return [Answer.INVALID if item.kind else Answer.ACCEPTED for item in items]


def take_all(queue: Any, items: Any, **more: Any) -> Enqueued:
    """Hand items in to a recorder."""
    return total(
        "spring", accept(queue, ORG, sources(items, "call"), EnqueueOptions("spring", "call", **more))
    )


def test_a_generator_is_read_one_chunk_ahead_and_no_further() -> None:
    """Memory is flat: never more than two chunks are on the way; chunks go in order, one at a time."""
    queue, furthest = Recorder(), 0

    def generate() -> Iterator[dict[str, Any]]:
        nonlocal furthest
        for n in range(10 * CHUNK):
            furthest = max(furthest, n - queue.taken)
            yield {"badgeMetaId": "b", "customerId": n + 1}

    assert take_all(queue, generate()).accepted == 10 * CHUNK
    assert furthest <= 2 * CHUNK
    assert queue.calls == [f"call.{n}" for n in range(10)]


def test_items_are_read_in_the_callers_thread() -> None:
    """A database cursor may be handed in that belongs to its thread."""
    threads = set()

    def generate() -> Iterator[BadgeIssue]:
        for n in range(2 * CHUNK + 1):
            threads.add(threading.get_ident())
            yield issue(n)

    take_all(Recorder(), generate())
    assert threads == {threading.get_ident()}


def test_counts_are_whole_and_notes_the_first_thousand() -> None:
    """However many items are wrong: all are counted, the first are told."""
    done = take_all(Recorder(), ({"customerId": n} for n in range(3 * CHUNK)))
    assert (done.accepted, done.invalid, len(done.noted)) == (0, 3 * CHUNK, NOTED_KEPT)
    assert [note.place for note in done.noted] == list(range(NOTED_KEPT))
    assert done.noted[7] == Noted("call.7", "badgeMetaId", "is missing", "invalid")


def test_a_generator_that_fails_loses_nothing_that_was_sent() -> None:
    """Its own error reaches the caller, after the account of what was accepted before."""
    seen: list[Enqueued] = []

    def generate() -> Iterator[BadgeIssue]:
        yield from (issue(n) for n in range(CHUNK + 5))
        raise LookupError("the database went away")

    with pytest.raises(LookupError, match="database"):
        seen.extend(accept(Recorder(), ORG, sources(generate(), "call"), EnqueueOptions("spring", "call")))  # type: ignore[arg-type]
    assert [done.accepted for done in seen] == [CHUNK]


@pytest.mark.parametrize("wait", [False, True])
def test_a_full_queue(wait: bool) -> None:  # noqa: FBT001
    """It says how many were accepted; or waits, and sends the same call again."""
    queue = Recorder()

    def generate() -> Iterator[BadgeIssue]:
        for n in range(2 * CHUNK):
            if n == 2 * CHUNK - 1:  # by now the first chunk is on its way, and maybe not there yet
                while not queue.taken:
                    pass
                queue.full = 2
            yield issue(n)

    if wait:
        assert take_all(queue, generate(), wait=True).accepted == 2 * CHUNK
        assert queue.calls == ["call.0", "call.1"]
    else:
        with pytest.raises(NoRoom, match="1,000 were accepted") as failed:
            take_all(queue, generate())
        assert failed.value.accepted == CHUNK


def test_one_badge_alone_is_taken_as_one() -> None:
    """A mapping or a ``BadgeIssue`` could be iterated, and isn't."""
    for one in ({"badgeMetaId": "b", "customerId": 5}, issue(1)):
        assert list(as_many(one)) == [one]


@pytest.mark.parametrize("nothing", ["text", b"bytes", 5, None])
def test_what_is_no_items_at_all_is_refused(nothing: Any) -> None:
    """Text isn't taken letter by letter."""
    with pytest.raises(ConfigError, match=f"must be a list of badges, not {type(nothing).__name__}"):
        take_all(Recorder(), nothing)


@pytest.mark.parametrize("name", ["", "two words", "x" * 65, "ü" * 33, "line\n", 5, None, "\ud800", "last"])
def test_a_run_has_a_name_that_can_be_typed_and_kept(name: Any) -> None:
    """Whichever way it comes in."""
    with pytest.raises(ConfigError, match="no name for a run"):
        check_run_name(name)
    with pytest.raises(ConfigError, match="no name for a run"):
        EnqueueOptions(name, "call")


def test_names_that_runs_may_have() -> None:
    """Up to 64 bytes of anything that is seen."""
    for name in ("x" * 64, "März-2026", "nightly.csv", "lasting", "Last"):
        check_run_name(name)
