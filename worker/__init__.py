"""The badge import worker: badges go into a queue, and each is issued by the vendor once.

What a producer needs is here; operators use the command ``badges``, workers run ``worker.app``.
"""

from worker.badge_queue import AsyncBadgeQueue, AsyncRun, BadgeQueue, Run
from worker.domain.badge import BadgeIssue
from worker.enqueue import Enqueued, Noted
from worker.errors import BadgesError, ConfigError, EmbeddedServerError, NoRoom, NotFound, StoreError
from worker.operate.runs import RunProgress

__all__ = [
    "AsyncBadgeQueue",
    "AsyncRun",
    "BadgeIssue",
    "BadgeQueue",
    "BadgesError",
    "ConfigError",
    "EmbeddedServerError",
    "Enqueued",
    "NoRoom",
    "NotFound",
    "Noted",
    "Run",
    "RunProgress",
    "StoreError",
]
