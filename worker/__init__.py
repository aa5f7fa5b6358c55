"""The badge import worker: badges go into a queue, and each is issued by the vendor once.

What a producer needs is here; operators use the command ``badges``, workers run ``worker.app``. The story of
a job is ``enqueue.py``, then ``delivery.py``; each wing's own ``__init__`` says what to read first:

    domain/   words and pure values: no I/O, no clock          files/    bytes become rows
    server/   the Redis there is, or the embedded server       store/    each transition one script
    vendor/   all that knows the vendor's API                  operate/  what people do about jobs
    process/  a Celery worker: turns, wake-up, heartbeat       web/      what is served over HTTP
    cli/      the command ``badges``; thin                     sandbox/  a vendor to try things with

A name is loaded when it is first asked for, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.async_badge_queue import AsyncBadgeQueue, AsyncRun
    from worker.badge_queue import BadgeQueue, Run
    from worker.domain.badge import BadgeIssue
    from worker.enqueue import Enqueued, Noted
    from worker.errors import BadgesError, ConfigError, EmbeddedServerError, NoRoom, NotFound, StoreError
    from worker.operate.progress import RunProgress

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

_HOME = {
    "worker.async_badge_queue": ("AsyncBadgeQueue", "AsyncRun"),
    "worker.badge_queue": ("BadgeQueue", "Run"),
    "worker.domain.badge": ("BadgeIssue",),
    "worker.enqueue": ("Enqueued", "Noted"),
    "worker.errors": (
        "BadgesError", "ConfigError", "EmbeddedServerError", "NoRoom", "NotFound", "StoreError"
    ),
    "worker.operate.progress": ("RunProgress",),
}  # fmt: skip


def __getattr__(name: str) -> object:
    """Load one of the names above from its module (PEP 562)."""
    for module, names in _HOME.items():
        if name in names:
            found = globals()[name] = getattr(import_module(module), name)
            return found
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}: it is the badge import worker's. A service with a "
        "worker.py of its own hands badges in by Celery message or HTTP (deploy/docs/producers.md)"
    )
