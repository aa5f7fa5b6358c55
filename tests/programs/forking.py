"""A service whose forked child goes on using its queue."""

from __future__ import annotations

import os

from worker import BadgeQueue

items = [{"badgeMetaId": "696f0fd40772ad476ecf74ac", "customerId": n + 1} for n in range(20)]
with BadgeQueue.from_env() as queue:
    assert queue.enqueue(items[:10]).accepted == 10
    child = os.fork()
    if child == 0:
        os._exit(0 if queue.enqueue(items).accepted == 10 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert queue.enqueue(items).duplicates == 20
