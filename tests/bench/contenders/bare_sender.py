"""The gate without Celery and HTTP, for gate.py: claims, waits for the slot, notes the time, settles."""

from __future__ import annotations

import os
import random
import threading
import time

from worker.config import Settings
from worker.domain.batch import Batch, Sent
from worker.domain.org import Org
from worker.domain.outcome import Issued, Signal, Verdict
from worker.server.connection import Connection
from worker.store.clock import steady_s
from worker.store.queue import Queue, new_id

THREADS = 16
ANSWERS_S = (0.02, 0.4)


def send(queue: Queue, org: Org) -> None:
    """Send as often as the gate lets it, until the process is ended."""
    with open(f"{os.environ['BENCH_TIMES']}.{os.getpid()}", "a", buffering=1) as log:  # noqa: PTH123
        while True:
            got = queue.claim(org, new_id())
            if not isinstance(got, Batch):
                time.sleep(0.05 if got.look_at_ms < 0 else max(0.005, got.look_at_ms / 1000 - time.time()))
                continue
            time.sleep(max(0.0, got.send_at - steady_s()))
            log.write(f"{time.monotonic()}\n")
            time.sleep(random.uniform(*ANSWERS_S))
            done = [Issued("earned")] * len(got.jobs)
            queue.settle(org, got, done, verdict=Verdict((), Signal.OK), sent=Sent("201", 1))


if __name__ == "__main__":
    settings = Settings.load()
    with Connection.open(settings) as connection, connection.client() as client:
        senders = Queue(client), settings.org("default")
        threads = [threading.Thread(target=send, args=senders, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        print("ready.", flush=True)
        for thread in threads:
            thread.join()
