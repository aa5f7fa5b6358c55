"""The sign of life: a worker in which something is stuck stops giving it, and its supervisor restarts it.

It goes into a file (``BADGES_HEARTBEAT_FILE``), whose age a probe looks at, and to systemd's watchdog. That a
process lives says little; and a probe that asked Redis would restart every worker while that is away, and
throw away what they know of batches that wait to be settled. So stuck is here what no outage explains: while
Redis answers, a loop that doesn't turn, or a delivery beyond all its deadlines.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import structlog
from celery.worker import state

from worker.config import Settings
from worker.errors import ConfigError
from worker.logs import Seldom
from worker.process.threads import NeededThread
from worker.process.timing import USUAL, Timing

log = structlog.get_logger()

DELIVERIES = ("badges.deliver", "badges.check")


class Heartbeat(NeededThread):
    """Gives a sign of life every few seconds unless something is stuck, until the process ends.

    It begins when the worker has connected for the first time, and goes on while the worker drains.

    Args:
        settings: whose heartbeat file it touches, and whose orgs say how long a call may take.
        redis_answers: says whether Redis does, at once.
        places: how many tasks the pool can run at once.
        timing: how often it looks, and what counts as stuck.
        running: the tasks that run, each with ``id`` and ``name``.
        clock: seconds that only ever grow.
    """

    def __init__(  # noqa: PLR0913 - what it watches, and by what
        self,
        settings: Settings,
        redis_answers: Callable[[], bool],
        *,
        places: int,
        timing: Timing = USUAL,
        running: Iterable[Any] = state.active_requests,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._settings, self._redis_answers, self._places = settings, redis_answers, places
        self._timing, self._running, self._clock = timing, running, clock
        self._loops: Mapping[str, Callable[[], float]] = {}
        self._redis_since: float | None = None
        self._running_since: dict[tuple[str, str], float] = {}
        self._longest_delivery_s = 0.0
        self._said, self._failed = "", Seldom()
        if settings.heartbeat_file:
            with suppress(OSError):  # the first beat reports what is wrong
                settings.heartbeat_file.unlink()  # a predecessor's

    def watch(self, loops: Mapping[str, Callable[[], float]]) -> None:
        """Watch these loops from now on, each by when it turned last (``time.monotonic``).

        None are watched while the worker reconnects, which may take any time.
        """
        self._loops = loops
        if loops and not self.is_alive():
            self.start()

    def serve(self) -> None:
        """Beat; say once what is stuck, and once that it goes on."""
        while True:
            self.look()
            why = ", ".join(self.stuck())
            if why and not self._said:
                log.error("worker.stuck", reason=why)
            elif self._said and not why:
                log.warning("worker.recovered", reason=self._said)
            self._said = why
            if not why:
                self.beat()
            time.sleep(self._timing.beat_s)

    def stuck(self) -> Iterator[str]:
        """Say what is stuck, if anything is."""
        if self._redis_since is None:
            return
        # After an outage every time-out begins again.
        now, redis_since = self._clock(), self._redis_since
        for name, turned_at in self._loops.items():
            if now - max(turned_at(), redis_since) > self._timing.loop_stuck_s:
                yield f"the {name} loop"
        ages = {task: now - max(since, redis_since) for task, since in self._running_since.items()}
        for (task_id, name), age_s in ages.items():
            if name in DELIVERIES and age_s > self._longest_delivery_s:
                yield f"{name} {task_id}"
        if len(ages) >= self._places and min(ages.values()) > self._timing.task_stuck_s:
            yield "every place of the pool"

    def look(self) -> None:
        """Note whether Redis answers, what is running, and how long it may."""
        now = self._clock()
        self._redis_since = (self._redis_since or now) if self._redis_answers() else None
        with suppress(RuntimeError):  # another task began just now; the next look will do
            running = [(str(one.id), str(one.name)) for one in self._running]
            self._running_since = {one: self._running_since.get(one, now) for one in running}
        with suppress(ConfigError):
            slowest_s = max(org.http_timeout_s for org in self._settings.orgs().values())
            # One call for a token, one PUT.
            self._longest_delivery_s = 2 * slowest_s + self._timing.delivery_spare_s

    def beat(self) -> None:
        """Give the sign."""
        try:
            if self._settings.heartbeat_file:
                self._settings.heartbeat_file.touch()
            _tell_systemd("READY=1\nWATCHDOG=1")
        except OSError as error:
            if self._failed.tells("beat"):
                log.warning("heartbeat.failed", reason=str(error), times=self._failed.times["beat"])
        else:
            self._failed.over()


def _tell_systemd(state_now: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_systemd:
            to_systemd.sendto(state_now.encode(), address.replace("@", "\0", 1))
