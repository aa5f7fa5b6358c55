"""What was asked for at the console and takes a while: done in the background, its progress shown meanwhile.

An act has an id, made when its form is shown: a form that is sent twice begins one act. The audit trail keeps
what was done under the same id; here is only what this process remembers of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog

from worker.errors import BadgesError
from worker.server.cluster import UNAVAILABLE

log = structlog.get_logger()

KEPT = 500  # acts that are remembered, the newest
AT_ONCE = 4
FAILED_FOR_S = 1.0
FRESH_S = 5.0  # what takes reading records to find out; or ten times as long as that took

Move = Callable[[int, int], None]


@dataclass(slots=True)
class Act:
    """One act: what it is, how far it is, and what came of it.

    ``result`` is what its work returned, ``kept`` what another act goes on from; ``links`` are pages that
    tell more, each with its words. Work that may take hours ends early where it isn't ``is_wanted``.
    """

    id: str
    title: str
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    looked_at: int = 0
    total: int = 0
    result: Any = None
    kept: Any = None
    is_wanted: bool = True
    problem: str = ""
    seconds: float = 0.0
    over_at: float = 0.0  # monotonic
    links: Sequence[tuple[str, str]] = ()
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens."""
        return self.state in ("done", "failed")

    @property
    def age_s(self) -> float:
        """Seconds since it was over."""
        return time.monotonic() - self.over_at

    def move(self, looked_at: int, total: int) -> None:
        """Take note of how far it is."""
        self.looked_at, self.total = looked_at, total


class Acts:
    """The acts of this process, by id."""

    def __init__(self) -> None:
        self._acts: dict[str, Act] = {}
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def get(self, act_id: str) -> Act | None:
        """Return an act, if this process has done it and still remembers it."""
        return self._acts.get(act_id)

    def begin(
        self, act_id: str, title: str, work: Callable[[Act], Any], *, links: Sequence[tuple[str, str]] = ()
    ) -> Act:
        """Do the work in the background; one that was begun before is only returned."""
        with self._lock:
            if act := self._acts.get(act_id):
                return act
            act = self._acts[act_id] = Act(act_id, title, links=links)
            while len(self._acts) > KEPT:
                del self._acts[next(iter(self._acts))]
            self._pool = self._pool or ThreadPoolExecutor(AT_ONCE, "act")
            self._pool.submit(_do, act, work)
        return act

    def look(
        self,
        name: str,
        work: Callable[[Act], Any],
        *,
        within_s: float = 0.15,
        fresh_s: float | None = None,
    ) -> Act:
        """Do what takes long to find out in the background, and wait a moment for it: it may be over.

        A look of the same name is done once, for as long as it is remembered; or else again when what it
        found is older than ``fresh_s``, or when it failed a moment ago.
        """
        with self._lock:
            before = self._acts.get(name)
            if before and fresh_s:  # what takes long isn't begun again and again
                fresh_s = max(fresh_s, 10 * before.seconds)
            lasts_s = fresh_s if before is None or before.state != "failed" else FAILED_FOR_S
            if before and lasts_s is not None and before.is_over and before.age_s > lasts_s:
                del self._acts[name]
        act = self.begin(name, name, work)
        act.over.wait(within_s)
        return act

    def is_busy(self, beginning: str) -> bool:
        """Say whether one whose name begins so isn't over."""
        return any(name.startswith(beginning) and not act.is_over for name, act in list(self._acts.items()))

    def close(self) -> None:
        """Wait for what is being done; what waits to be begun is dropped."""
        for act in list(self._acts.values()):
            act.is_wanted = False
        if self._pool:
            self._pool.shutdown(cancel_futures=True)


def _do(act: Act, work: Callable[[Act], Any]) -> None:
    began = time.monotonic()
    act.state = "running"
    try:
        act.result = work(act)
        act.state = "done"
    except (BadgesError, OSError, *UNAVAILABLE) as error:
        act.problem, act.state = str(error), "failed"
    except Exception:
        act.problem, act.state = "the console failed; its log says more", "failed"
        log.exception("console.failed", act=act.id)
    finally:
        act.over_at = time.monotonic()
        act.seconds = act.over_at - began
        act.over.set()
