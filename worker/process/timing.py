"""How often the threads of a worker act, and after how long something in it counts as stuck.

A worker has the defaults; a program that embeds one, as the tests do, hands others in as ``app.conf.timing``.
"""

from __future__ import annotations

from dataclasses import dataclass

from celery import Celery

from worker.delivery import INSIST_S


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds, but for ``ahead_ms``: how soon an org comes up again whose message got lost, at first.

    ``beat_s``: from one sign of life to the next. ``sweep_s``: from one look at all orgs to the next;
    ``look_s``: at the server. ``recover_s``: the pause after a failure. Stuck is a loop that doesn't turn for
    ``loop_stuck_s``, a delivery that took ``delivery_spare_s`` longer than its HTTP calls may, and a pool of
    which no task has ended for ``task_stuck_s``.
    """

    beat_s: float = 2.0
    sweep_s: float = 5.0
    recover_s: float = 1.0
    look_s: float = 60.0
    ahead_ms: int = 2000
    loop_stuck_s: float = 120.0  # a call to a Redis that went silent is given up after about a minute
    delivery_spare_s: float = INSIST_S + 120.0  # for its calls to Redis, each of which may take as long
    task_stuck_s: float = 3600.0  # as long as the broker waits before it gives a message to another worker


USUAL = Timing()


def timing_of(app: Celery) -> Timing:
    """Return what was handed in, or the defaults."""
    timing: Timing = app.conf.get("timing", USUAL)
    return timing
