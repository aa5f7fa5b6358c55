"""This project: its own worker, and its Python way in. The workers are started as `badges worker`."""

import payload

from worker import BadgeQueue

if __name__ == "__main__":
    with BadgeQueue.from_env() as opened:
        payload.report(lambda: opened.enqueue(payload.items(), run="bench"))
