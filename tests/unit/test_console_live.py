"""What keeps a page of the console fresh, and what is found out in the background for it."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from fastapi import Request

from worker.errors import StoreError
from worker.operate.status import OrgState
from worker.web.console import acts, live
from worker.web.console.acts import Act, Acts
from worker.web.console.live import ALIVE, Live
from worker.web.console.service import Console


def test_a_look_that_took_long_leaves_no_page_without_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after Redis was away: after nine silent seconds a page says that the console doesn't answer."""
    monkeypatch.setattr(live, "ALIVE_EVERY_S", 0.02)
    monkeypatch.setattr(live, "MOST_PAUSE_S", 0.07)
    now_s, looks = 0.0, 0

    def part_of(_: Request) -> str:
        nonlocal now_s, looks
        now_s, looks = now_s + 100, looks + 1
        return "as it was"

    async def heard() -> list[tuple[int, str]]:
        here: Any = SimpleNamespace(clock=lambda: now_s, ending=asyncio.Event())
        told: list[tuple[int, str]] = []
        stream: Any = Live(here, part_of).answer(Request({"type": "http"}))
        async for event in stream.body_iterator:
            told.append((looks, event))
            if looks == 2:
                here.ending.set()
        return told

    told = asyncio.run(heard())
    assert told == [(1, "data: as it was\n\n"), (1, ALIVE), (1, ALIVE), (1, ALIVE), (2, ALIVE)]


def test_a_look_that_failed_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page finds out once is remembered, but not that Redis was away for a moment."""
    monkeypatch.setattr(acts, "FAILED_FOR_S", 0)
    looks, made = Acts(), 0

    def work(_: Act) -> str:
        nonlocal made
        made += 1
        if made == 1:
            raise StoreError("away")
        return "found"

    def look() -> Act:
        return looks.look("it", work, within_s=60)

    assert look().problem == "away"
    assert [look().result, look().result, made] == ["found", "found", 2]
    looks.close()


def test_a_look_is_made_again_when_it_is_old() -> None:
    """One that took long is kept for ten times as long; one that failed is made again soon all the same."""
    looks = Acts()

    def look(*, seconds: float, age_s: float, state: str = "done") -> bool:
        before = looks.look("it", lambda _: "found", within_s=60, fresh_s=5)
        before.seconds, before.state, before.over_at = seconds, state, time.monotonic() - age_s
        return looks.look("it", lambda _: "again", within_s=60, fresh_s=5) is not before

    assert not look(seconds=0.1, age_s=4)
    assert look(seconds=0.1, age_s=6)
    assert not look(seconds=3, age_s=20)
    assert look(seconds=3, age_s=31)
    assert look(seconds=3, age_s=20, state="failed")
    looks.close()


def test_all_who_wait_for_a_look_at_the_orgs_hear_that_redis_is_away_by_one() -> None:
    """Each page would otherwise wait for its own, one after the other, and a person for all of them."""
    surveys, together, told = 0, threading.Barrier(6), []

    class Away(Console):
        def _survey(self) -> NoReturn:
            nonlocal surveys
            surveys += 1
            raise StoreError("away")

    away: Any = None
    here = Away(away, away, away, away, clock=lambda: 0.0)

    def page() -> None:
        together.wait()
        try:
            here.states()
        except StoreError as error:
            told.append(str(error))

    threads = [threading.Thread(target=page) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (surveys, told) == (1, ["away"] * 6)


def test_orgs_are_looked_at_again_once_redis_is_back() -> None:
    """A moment later; and what they are then is not what they were when it went away."""
    now_s, is_away = 0.0, True

    class Shaky(Console):
        def _survey(self) -> list[OrgState]:
            if is_away:
                raise StoreError("away")
            return []

    it: Any = None
    here = Shaky(it, it, it, it, clock=lambda: now_s)
    with pytest.raises(StoreError):
        here.states()
    is_away = False
    with pytest.raises(StoreError):
        here.states()
    now_s = 1.0
    assert here.states() == []
