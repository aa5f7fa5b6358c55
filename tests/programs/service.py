"""A service that hands in one badge twice, and says which of the packages it is asked about were loaded."""

from __future__ import annotations

import asyncio
import sys

from worker import AsyncBadgeQueue, BadgeQueue

ITEM = {"badgeMetaId": "696f0fd40772ad476ecf74ac", "customerId": 1}


async def _again() -> None:
    async with AsyncBadgeQueue.from_env() as queue:
        assert (await queue.enqueue(ITEM)).duplicates == 1


with BadgeQueue.from_env() as queue:
    assert queue.enqueue(ITEM).accepted == 1
asyncio.run(_again())
print(*(name for name in sys.argv[1:] if name in sys.modules))
