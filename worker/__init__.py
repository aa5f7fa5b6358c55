"""The badge import worker: badges go into a queue, and each is issued by the vendor once.

What a producer needs is here; operators use the command ``badges``, workers run ``worker.app``.
"""

from worker.badge import BadgeIssue
from worker.producer import BadgeQueue, Enqueued

__all__ = ["BadgeIssue", "BadgeQueue", "Enqueued"]
