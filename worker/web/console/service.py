"""What every page of the console works with: the store, who acts, and how the orgs are just now."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from worker.config import Settings
from worker.domain.actor import Actor, Via
from worker.domain.org import Org
from worker.errors import BadgesError, StoreError
from worker.operate.operator import Operator, this_user
from worker.operate.runs import JobReader
from worker.operate.staging import Staging
from worker.operate.status import OrgState
from worker.operate.survey import Survey
from worker.server.cluster import UNAVAILABLE
from worker.store.queue import Queue
from worker.web.console.acts import Acts
from worker.web.console.pulse import Pulse
from worker.web.console.sessions import Sessions

KNOWN_FOR_S = 0.8  # how long all pages believe one look at the orgs


def ask_a_worker(staged_id: str) -> None:
    """Send the message upon which a worker imports an uploaded file."""
    from worker.app import app  # noqa: PLC0415 - Celery is loaded only where it is needed

    try:
        app.send_task("badges.import_staged", args=(staged_id,), retry=False)
    except Exception as error:  # the broker's errors are many
        raise StoreError(f"the broker can't be reached; it is tried again by itself: {error}") from error


@dataclass(slots=True)
class Console:
    """The console's own: one for the process."""

    settings: Settings
    queue: Queue  # whose client gives up soon: somebody waits for the page
    patient: Queue  # for acts, which may take their time
    sessions: Sessions
    port: int = 0
    acts: Acts = field(default_factory=Acts)
    looks: Acts = field(default_factory=Acts)  # what is only found out
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    send_import: Callable[[str], None] = ask_a_worker
    pulse: Pulse = field(init=False)
    ending: asyncio.Event = field(default_factory=asyncio.Event)  # pages aren't kept fresh any more
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _states: list[OrgState] | Exception = field(default_factory=list)
    _looked_at: float = -KNOWN_FOR_S

    def __post_init__(self) -> None:
        self.pulse = Pulse(self.states, self.tend)

    @property
    def staging(self) -> Staging:
        """The files that were uploaded."""
        return Staging(self.queue, self.settings, clock=self.wall)

    def tend(self) -> None:
        """Ask again for imports that have come to a stop, and take away what is old."""
        for stalled in self.staging.stalled():
            self.send_import(stalled.id)
        self.staging.sweep()

    @property
    def orgs(self) -> Mapping[str, Org]:
        """The orgs that are configured, as they are now."""
        return self.settings.orgs()

    @property
    def reports(self) -> JobReader:
        """What reads runs and jobs."""
        return JobReader(client=self.queue.client, orgs=self.orgs)

    def operator(self, note: str = "") -> Operator:
        """Return who sits at the console, at work; the client is the patient one."""
        orgs = self.orgs
        reports = JobReader(client=self.patient.client, orgs=orgs)
        return Operator(self.patient, reports, orgs, Actor(Via.CONSOLE, this_user().name), note)

    def states(self) -> list[OrgState]:
        """Return how each org is; what was seen a moment ago will do.

        Raises:
            StoreError: Redis can't be reached; all who waited for one look are told so by it.
        """
        with self._lock:
            if self.clock() - self._looked_at >= KNOWN_FOR_S:
                try:
                    self._states = self._survey()
                except (BadgesError, *UNAVAILABLE) as error:
                    self._states = error
                self._looked_at = self.clock()
            if isinstance(self._states, Exception):
                raise self._states
            return self._states

    def _survey(self) -> list[OrgState]:
        orgs = self.orgs
        return Survey(self.queue.client).states({name: orgs.get(name) for name in self.reports.org_names()})

    def forget_states(self) -> None:
        """Look again at the orgs before anything is shown of them: one was changed."""
        self._looked_at = -KNOWN_FOR_S
