"""Interrupted in a finalizer, which drops what it raises; waits to hear of it all the same."""

from __future__ import annotations

import signal
import time

from worker.cli import start


class Last:
    """Something whose end takes a moment, in which Ctrl-C is pressed."""

    def __del__(self) -> None:
        """Hear it, in vain."""
        signal.raise_signal(signal.SIGINT)


start.prepare()
start.take_over_interrupts()
Last()
time.sleep(10)
