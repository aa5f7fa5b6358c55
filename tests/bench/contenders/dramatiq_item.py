"""dramatiq, one message per item, with its result backend: https://dramatiq.io/guide.html."""

from typing import Any

import dramatiq
import httpx
import payload
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url=payload.redis_url(payload.STORE))
broker.add_middleware(
    Results(backend=RedisBackend(url=payload.redis_url(payload.RESULTS)), store_results=True)
)
dramatiq.set_broker(broker)
http = httpx.Client(timeout=30)


@dramatiq.actor
def issue(item: dict[str, Any]) -> Any:
    """Send one item; its row is the result."""
    answer = http.put(payload.VENDOR, json=[item])
    answer.raise_for_status()
    return answer.json()[0]


if __name__ == "__main__":
    payload.report(lambda: [issue.send(item) for item in payload.items()])
