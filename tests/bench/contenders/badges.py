"""This project: its own worker, and its Python way in. The workers are started as `badges worker`."""

from itertools import islice

import payload

from worker import BadgeQueue

CHUNK = 10_000


def produce(queue: BadgeQueue) -> None:
    """Enqueue everything under one run, ten thousand a call."""
    remaining = payload.items()
    while chunk := list(islice(remaining, CHUNK)):
        queue.enqueue(chunk, run="bench")


if __name__ == "__main__":
    with BadgeQueue.from_env() as opened:
        payload.report(lambda: produce(opened))
