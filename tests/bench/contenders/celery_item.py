"""Plain Celery, one task per item: https://docs.celeryq.dev/en/stable/userguide/tasks.html."""

from typing import Any

import httpx
import payload
from celery import Celery

app = Celery(
    "celery_item", broker=payload.celery_url(payload.STORE), backend=payload.celery_url(payload.RESULTS)
)
http = httpx.Client(timeout=30)


@app.task
def issue(item: dict[str, Any]) -> Any:
    """Send one item; its row is the result."""
    answer = http.put(payload.VENDOR, json=[item])
    answer.raise_for_status()
    return answer.json()[0]


if __name__ == "__main__":
    payload.report(lambda: [issue.delay(item) for item in payload.items()])
