"""The badge import worker: badges go into a queue, and each is issued by the vendor once.

What a producer needs is here; operators use the command ``badges``, workers run ``worker.app``. The story of
a job is ``enqueue.py``, then ``delivery.py``; each wing's own ``__init__`` says what to read first:

    domain/   words and pure values: no I/O, no clock          files/    bytes become rows
    server/   the Redis there is, or the embedded server       store/    each transition one script
    vendor/   all that knows the vendor's API                  operate/  what people do about jobs
    process/  a Celery worker: turns, wake-up, heartbeat       web/      what is served over HTTP
    cli/      the command ``badges``; thin                     sandbox/  a vendor to try things with
    to come:  ledger/, web/console/, operate/profiles, process/notify, files/sources, testing
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
