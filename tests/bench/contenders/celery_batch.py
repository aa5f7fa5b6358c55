"""Plain Celery, one task per batch that the producer made; the task stores one result per item itself."""

import json
from typing import Any

import httpx
import payload
import redis
from celery import Celery

app = Celery("celery_batch", broker=payload.celery_url(payload.STORE))
app.conf.task_ignore_result = True
http = httpx.Client(timeout=30)
results = redis.Redis.from_url(payload.redis_url(payload.RESULTS))


@app.task
def issue(items: list[dict[str, Any]]) -> None:
    """Send a batch, and store a result for each of its items."""
    answer = http.put(payload.VENDOR, json=items)
    answer.raise_for_status()
    with results.pipeline(transaction=False) as pipe:
        for item, row in zip(items, answer.json(), strict=True):
            pipe.set(f"result:{item['badgeMetaId']}:{item['customerId']}", json.dumps(row), ex=86400)
        pipe.execute()


if __name__ == "__main__":
    payload.report(lambda: [issue.delay(batch) for batch in payload.batches()])
