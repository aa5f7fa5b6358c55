"""The library: what a service that produces badges imports. ``from worker import BadgeQueue``.

It needs neither Celery nor anything of the command line. Redis' client and Pydantic are loaded by the first
``BadgeQueue``, which is why methods import here: importing this module costs a service nothing. How items
become jobs is the work of ``enqueue.py``, how runs are read back that of ``operate/runs.py``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from worker.domain.names import DEFAULT_ORG
from worker.domain.text import counted

if TYPE_CHECKING:
    from worker.config import Settings
    from worker.domain.badge import BadgeIssue
    from worker.enqueue import Enqueued, EnqueueOptions
    from worker.operate.progress import RunProgress
    from worker.server.connection import Connection

Given: TypeAlias = "BadgeIssue | Mapping[str, Any]"

LOOK_EVERY_S = 0.5


class BadgeQueue:
    """Hands badges in, and says what became of them: ``BadgeQueue.from_env().enqueue([...])``.

    One for a whole process: threads may share it, and a child that was forked may go on using it, as long as
    the parent did not fork in the middle of a call. Close it, or use it in a ``with``; then an embedded
    server that nobody else uses ends.
    """

    def __init__(self, *, settings: Settings, connection: Connection) -> None:
        from worker.store.queue import Queue  # noqa: PLC0415

        self._settings = settings
        self._connection = connection
        self._queue = Queue(connection.client(), replicas=settings.replicas)

    @classmethod
    def from_env(cls) -> Self:
        """Read ``BADGES_*``; starts the embedded server if no Redis is configured.

        A Redis that is configured is connected to at the first use.

        Raises:
            ConfigError: a setting is wrong; the text names it.
            EmbeddedServerError: there is no embedded server to be had here; the text says what to do.
        """
        from worker.config import Settings  # noqa: PLC0415
        from worker.server.connection import Connection  # noqa: PLC0415

        settings = Settings.load()
        return cls(settings=settings, connection=Connection.open(settings))

    def enqueue(
        self,
        items: Given | Iterable[Given],
        *,
        org: str = DEFAULT_ORG,
        run: str | None = None,
        urgent: bool = False,
        wait: bool = False,
    ) -> Enqueued:
        """Accept one badge, or many, or a generator of millions; returns when they are on disk.

        A bad item is reported and becomes a dead letter, and never stops the rest. What was handed in before
        is a duplicate, and is issued once. Urgent ones overtake the others of their org. Where the queue is
        full, ``wait`` waits for room, however long that takes.

        Raises:
            ConfigError: there is no such org, no run can have this name, or these are no items at all.
            NoRoom: the queue (``BADGES_MAX_QUEUED``) or Redis is full; it says how many were accepted before,
                and calling again later with the same items is safe.
            StoreError: Redis can't be reached or can't take it. Some may have been accepted; calling again
                with the same items is safe.
        """
        from worker.domain.provenance import Provenance  # noqa: PLC0415
        from worker.enqueue import EnqueueOptions, new_run  # noqa: PLC0415
        from worker.operate.operator import this_user  # noqa: PLC0415
        from worker.store.queue import new_id  # noqa: PLC0415

        source = Provenance(by=str(this_user()))
        options = EnqueueOptions(run or new_run("call"), new_id(), urgent=urgent, wait=wait, source=source)
        return self.take(items, options, org=org)

    def take(
        self, items: Given | Iterable[Given], options: EnqueueOptions, *, org: str, first: int = 0
    ) -> Enqueued:
        """Accept items as part of a call; the first of these is its item number ``first``."""
        from worker.enqueue import accept, sources, total  # noqa: PLC0415

        chunks = accept(
            self._queue, self._settings.org(org), sources(items, options.call, first=first), options
        )
        return total(options.run, chunks)

    def run(self, run: str, *, org: str = DEFAULT_ORG) -> Run:
        """Return a run, to watch it; ``Enqueued.run`` is its name."""
        return Run(self, run, org)

    def progress(self, run: str, *, org: str = DEFAULT_ORG) -> RunProgress:
        """Say where a run is.

        Raises:
            NotFound: nothing was ever handed in under this name, or it has expired.
            StoreError: Redis can't be reached.
        """
        from worker.operate.runs import JobReader  # noqa: PLC0415
        from worker.server.cluster import reaching  # noqa: PLC0415

        reports = JobReader(client=self._queue.client, orgs=self._settings.orgs())
        with reaching("a run's progress"):
            return reports.run(run, org)

    def close(self) -> None:
        """Leave Redis; an embedded server that nobody else uses ends. Closing again does nothing."""
        self._queue.client.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Run:
    """A run in the queue that it was handed in to."""

    queue: BadgeQueue
    name: str
    org: str = DEFAULT_ORG

    def progress(self) -> RunProgress:
        """Say where it is; errors as in ``BadgeQueue.progress``."""
        return self.queue.progress(self.name, org=self.org)

    def wait(self, timeout_s: float | None = None, *, every_s: float = LOOK_EVERY_S) -> RunProgress:
        """Return once every job has ended, issued or dead; looks every ``every_s`` seconds.

        Raises:
            TimeoutError: some haven't within ``timeout_s`` seconds; they go on all the same.
            NotFound, StoreError: as in ``BadgeQueue.progress``.
        """
        end = deadline(timeout_s)
        while (now := self.progress()).open:
            time.sleep(pause_s(now, end, every_s))
        return now


def deadline(timeout_s: float | None) -> float:
    """Return when the monotonic clock says that ``timeout_s`` have passed; never for ``None``."""
    return time.monotonic() + timeout_s if timeout_s is not None else math.inf


def pause_s(now: RunProgress, end: float, every_s: float) -> float:
    """Return how long to wait for what hasn't ended yet, in seconds; raise where there is no time left."""
    left_s = end - time.monotonic()
    if left_s <= 0:
        have = "has" if now.open == 1 else "have"
        raise TimeoutError(f"run {now.run}: {now.open:,} of {counted(now.total, 'job')} {have} not ended yet")
    return min(every_s, left_s)
