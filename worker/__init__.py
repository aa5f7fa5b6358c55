"""The badge import worker: badges go into a queue, and each is issued by the vendor once.

What a producer needs is here; operators use the command ``badges``, workers run ``worker.app``.
"""

from worker.badge import BadgeIssue
from worker.errors import BadgesError, ConfigError, EmbeddedServerError, NoRoom, NotFound, StoreError
from worker.library import AsyncBadgeQueue, AsyncRun, BadgeQueue, Run
from worker.producer import Enqueued, Noted
from worker.runs import RunProgress

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
