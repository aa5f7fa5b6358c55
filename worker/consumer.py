"""Celery's consumer, taught to survive a broker that is killed, or full, and comes back."""

from __future__ import annotations

from typing import Any

import structlog
from celery.worker import consumer

log = structlog.get_logger()


class Consumer(consumer.Consumer):
    """Celery's own, which survives that a lost connection can't be used any more, not even to close it.

    kombu 5.7 acknowledges and restores messages over a channel whose connection is gone, and what it raises
    then is an AttributeError, of which the whole worker would die.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.connection_errors: tuple[type[Exception], ...] = (*self.connection_errors, AttributeError)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Drop the connection; the blueprint is started again by whoever calls this."""
        try:
            super().on_connection_error_after_connected(exc)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next connection is a new one
            log.warning("broker.not_closed", reason=f"{type(error).__name__}: {error}")
            self.connection = None
