"""Threads that a worker can't do without: one that ends unasked takes the whole worker with it.

A worker that goes on without one looks well, and delivers nothing.
"""

from __future__ import annotations

import threading

import structlog
from celery.worker import state

log = structlog.get_logger()

FAILED = 1  # the worker's exit status then; its supervisor starts it again


class NeededThread(threading.Thread):
    """A thread of the worker; ``serve`` is what it does, and returns only when it was told to end."""

    def run(self) -> None:
        """Serve; end the worker, what is in flight being settled first, if that fails."""
        try:
            self.serve()
        except BaseException as error:  # noqa: BLE001 - nobody else would notice
            reason = f"{type(error).__name__}: {error}"[:300]
            log.critical("worker.thread_failed", thread=self.name, reason=reason)
            end_worker()

    def serve(self) -> None:
        """Do the thread's work."""
        raise NotImplementedError


def end_worker(status: int = FAILED) -> None:
    """Let the worker drain, and end with a status that says that it failed."""
    state.should_stop = status  # type: ignore[assignment] # which Celery's loop looks at whenever it turns
