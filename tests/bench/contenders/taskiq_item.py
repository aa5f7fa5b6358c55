"""taskiq, one message per item, with its result backend: https://taskiq-python.github.io/guide/getting-started.html."""

import asyncio
from typing import Any

import httpx
import payload
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

AT_ONCE = 100

broker = RedisStreamBroker(url=payload.redis_url(payload.STORE)).with_result_backend(
    RedisAsyncResultBackend(redis_url=payload.redis_url(payload.RESULTS), result_ex_time=86400)
)
http = httpx.AsyncClient(timeout=30)


@broker.task
async def issue(item: dict[str, Any]) -> Any:
    """Send one item; its row is the result."""
    answer = await http.put(payload.VENDOR, json=[item])
    answer.raise_for_status()
    return answer.json()[0]


async def produce() -> None:
    """Hand the items in, some at once."""
    items = list(payload.items())
    for n in range(0, len(items), AT_ONCE):
        await asyncio.gather(*[issue.kiq(item) for item in items[n : n + AT_ONCE]])


if __name__ == "__main__":
    with asyncio.Runner() as runner:
        runner.run(broker.startup())
        payload.report(lambda: runner.run(produce()))
        runner.run(broker.shutdown())
