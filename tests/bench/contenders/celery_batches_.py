"""celery-batches, as its README has it: a task whose calls are buffered, flushed by number or time.

Its documentation asks for a prefetch beyond ``flush_every``.
"""

from typing import Any

import httpx
import payload
from celery import Celery
from celery_batches import Batches

app = Celery(
    "celery_batches_", broker=payload.celery_url(payload.STORE), backend=payload.celery_url(payload.RESULTS)
)
app.conf.worker_prefetch_multiplier = 10 * payload.BATCH // payload.CONCURRENCY
http = httpx.Client(timeout=30)


@app.task(base=Batches, flush_every=payload.BATCH, flush_interval=1)
def issue(requests: list[Any]) -> None:
    """Send what was buffered, and store a result for each."""
    answer = http.put(payload.VENDOR, json=[request.args[0] for request in requests])
    answer.raise_for_status()
    for request, row in zip(requests, answer.json(), strict=True):
        app.backend.mark_as_done(request.id, row, request=request)


if __name__ == "__main__":
    payload.report(lambda: [issue.delay(item) for item in payload.items()])
