"""Waking up: one thread in every worker that starts deliveries when they are due. No beat, no polling.

Each script answers when its org needs somebody; the callers write that into one small sorted set, and
ring a bell if it is earlier than anything there. The thread takes what is due, as far as the pool has places
for it, and sleeps on the bell until the next; who finds no place stands in line for a delivery that goes on
with it. A sweep heals hints that were lost.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from celery import Celery, Task, bootsteps

from worker.app import Services, connection, services, settings
from worker.domain.identity import short_hash
from worker.domain.org import Org
from worker.errors import UnusableServer
from worker.logs import Seldom
from worker.process.heartbeat import Heartbeat
from worker.process.refusals import refused
from worker.process.threads import NeededThread
from worker.process.timing import USUAL, Timing, timing_of
from worker.server.brokerkeys import deliver_queue
from worker.server.health import Answering, check_servers, refuse_unusable
from worker.store import audit
from worker.store.queue import Queue
from worker.vendor.codes import own_meanings

log = structlog.get_logger()

TURN, UNUSABLE = "turn", "unusable"
EXPIRE_CALLS = 20  # of 250 jobs each, in a sweep


def send_due(queue: Queue, deliver: Task[..., Any], *, ahead_ms: int) -> float | None:
    """Send ``badges.deliver`` for every org that is due; return in how many seconds to do so again."""
    due, wait_s = queue.take_due(ahead_ms=ahead_ms)
    for org, seen, has_own in due:
        deliver.apply_async((org,), {"seen": seen}, queue=deliver_queue(org if has_own else None))
    return wait_s


class WakeUp(NeededThread):
    """Sends ``badges.deliver`` for every org that is due, until it is stopped."""

    def __init__(  # noqa: PLR0913 - what it works with, and for whom
        self,
        deliver: Task[..., Any],
        *,
        here: Callable[[], Services] = services,
        worker: str = "worker",
        places: int = 1,
        own_org: str | None = None,
        timing: Timing = USUAL,
    ) -> None:
        super().__init__(name="wake-up", daemon=True)
        self._deliver, self._here, self._timing = deliver, here, timing
        self._worker, self._places, self._own_org = worker, places, own_org
        self._meanings: dict[str, str] = {}  # as the audit trail has them
        self._weaknesses: dict[str, str] = {}  # of the server, as the log has them
        self._failed = Seldom()
        self._stopping = threading.Event()
        self.turned_at = time.monotonic()  # for the heartbeat

    def serve(self) -> None:
        """Take what is due, sleep until the next; continue after any failure of Redis."""
        next_sweep, next_look = 0.0, 0.0
        while not self._stopping.is_set():
            self.turned_at = time.monotonic()
            try:
                queue = self._here().queue
                if time.monotonic() >= next_look:
                    self._look_at_server(queue)
                    next_look = time.monotonic() + self._timing.look_s
                if time.monotonic() >= next_sweep:
                    self._offer()
                    _expire_discarded(queue)  # before whatever a full server refuses
                    orgs = self._here().settings.orgs()
                    queue.workers.say(self._worker, orgs)
                    self._audit_meanings(queue, orgs)
                    _count_refused(queue)
                    queue.store.refuse_other_versions()
                    next_sweep = time.monotonic() + self._timing.sweep_s * random.uniform(0.8, 1.2)  # noqa: S311
                    self._sweep(queue)
                wait_s = send_due(queue, self._deliver, ahead_ms=self._timing.ahead_ms)
                self._failed.over()
                self._sleep(queue, wait_s, next_sweep)
            except Exception as error:  # noqa: BLE001 - a worker must wake up again after any failure
                next_look = 0.0
                self._say_failed(error)
                self._stopping.wait(self._timing.recover_s)

    def stop(self) -> None:
        """Let the thread end; one that sleeps on the bell ends when it wakes."""
        self._stopping.set()

    def _say_failed(self, error: Exception) -> None:
        if isinstance(error, UnusableServer):
            if self._failed.tells(UNUSABLE):
                log.critical("redis.unusable", reason=str(error), times=self._failed.times[UNUSABLE])
        elif self._failed.tells(TURN):
            log.warning("wakeup.failed", reason=str(error), times=self._failed.times[TURN])

    def _look_at_server(self, queue: Queue) -> None:
        """Look at the server, now and then and after each failure: it may be another one by now.

        Raises:
            UnusableServer: nothing may be sent until it is a better one.
        """
        refuse_unusable(queue.client)
        for found in check_servers(queue.client):
            if found.result != "ok" and self._weaknesses.get(found.check) != found.result:
                log.warning("redis.weakness", check=found.check, reason=found.detail, cure=found.cure)
            self._weaknesses[found.check] = found.result

    def _audit_meanings(self, queue: Queue, orgs: Mapping[str, Org]) -> None:
        """Keep in the audit trail what settings make of the vendor's answers: it is somebody's word."""
        for name, org in orgs.items():
            said = ", ".join(own_meanings(org))
            if said != self._meanings.get(name, ""):
                action = f"answers-{short_hash(said)[:8]}"
                audit.begin(queue, name, action, by=f"settings of {self._worker}", note=said or "as built in")
                self._meanings[name] = said

    def _offer(self) -> None:
        if self._own_org:
            self._here().seats.offer_own(self._own_org)
        else:
            self._here().seats.offer(self._worker, self._places)

    def _sleep(self, queue: Queue, wait_s: float | None, next_sweep: float) -> None:
        until_sweep = max(0.01, next_sweep - time.monotonic())
        longest = min(until_sweep, wait_s if wait_s is not None else until_sweep)
        if longest > 0:
            queue.wait_for_bell(max(0.01, longest))

    def _sweep(self, queue: Queue) -> None:
        """Look at every org that ever had a job; one worker at a time does it for all."""
        if not queue.take_sweep(for_s=self._timing.sweep_s * 0.8):
            return
        orgs = self._here().settings.orgs()
        for name in orgs.keys() & queue.orgs():
            queue.wake(orgs[name])


def _expire_discarded(queue: Queue) -> None:
    """See that what was discarded by groups expires, not all at once: deliveries wait to be started."""
    waiting = queue.discarded()
    for org, calls in waiting.items():
        for _ in range(min(calls, max(1, EXPIRE_CALLS // len(waiting)))):
            queue.expire_discarded(org)


def _count_refused(queue: Queue) -> None:
    """Write down how many messages were refused; while Redis is away they stay for the next time."""
    for kind, number in [(kind, number) for kind, number in refused.items() if number]:
        queue.count_refused(kind, number)
        refused[kind] -= number


def install(app: Celery, deliver: Task[..., Any]) -> None:
    """Give every worker of the app its thread; a step of the consumer, so that it follows reconnections.

    With it comes the heartbeat, which watches both.
    """

    class Step(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, parent: Any, **options: Any) -> None:
            super().__init__(parent, **options)
            self.thread: WakeUp | None = None
            self.places = parent.controller.concurrency or 1
            self.timing = timing_of(app)
            self.heartbeat = Heartbeat(
                settings(), Answering(connection().client), places=self.places, timing=self.timing
            )

        def start(self, parent: Any) -> None:
            own_org = app.conf.get("own_org")
            self.thread = thread = WakeUp(
                deliver, worker=parent.hostname, places=self.places, own_org=own_org, timing=self.timing
            )
            self.thread.start()
            self.turned()
            self.timer = parent.timer.call_repeatedly(self.timing.beat_s, self.turned)
            loops = {"consumer": lambda: self.turned_at, "wake-up": lambda: thread.turned_at}
            self.heartbeat.watch(loops)

        def turned(self) -> None:
            self.turned_at = time.monotonic()

        def stop(self, parent: Any) -> None:  # noqa: ARG002
            self.heartbeat.watch({})
            if self.thread:
                self.timer.cancel()
                self.thread.stop()

    app.steps["consumer"].add(Step)
