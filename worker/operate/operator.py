"""An operator: who acts on jobs, and with what; each act is in the audit trail.

Acts on dead letters are in ``replaying.py`` and ``deadletters.py``, what the trail keeps is in
``store/audit.py``.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from worker.domain.actor import Actor, Via
from worker.domain.org import Org
from worker.errors import ConfigError
from worker.operate.runs import JobReader
from worker.store import audit
from worker.store.queue import Queue


def this_user() -> Actor:
    """Return the user this process runs as; the user's number if the system knows no name."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return Actor(Via.USER, name)


Move = Callable[[int, int], None]  # how many were looked at, and of how many


@dataclass(frozen=True, slots=True)
class Operator:
    """Who acts, on which orgs' jobs, and why (``note``)."""

    queue: Queue
    reports: JobReader
    orgs: Mapping[str, Org]
    by: Actor
    note: str = ""

    def begin(
        self, org: str, action: str, which: Mapping[str, Any] | None = None, *, counts: bool = True
    ) -> None:
        """Write into the audit trail, durably, what is about to be done (``audit.begin``)."""
        by, note = str(self.by), self.note
        audit.begin(self.queue, org, action, by=by, note=note, which=which, counts=counts)

    def org(self, name: str) -> Org:
        """Return an org's settings.

        Raises:
            ConfigError: it has none any more.
        """
        if name not in self.orgs:
            raise ConfigError(
                f"org {name} isn't configured any more, so that nothing of it can be sent: put it back into "
                "BADGES_ORGS_FILE"
            )
        return self.orgs[name]

    def pause(self, org: str, *, action: str = "") -> bool:
        """Let no further batch of an org start; answers whether batches could start before."""
        self.begin(org, action or audit.action_id(self.queue, "pause"))
        return self.queue.pause(org, why="operator", reason=self.note)

    def resume(self, org: str, *, action: str = "") -> str:
        """Let batches of an org start again; answers how its gate was, if not open."""
        self.begin(org, action or audit.action_id(self.queue, "resume"))
        return self.queue.resume(self.org(org))
