"""Prints how often a worker tries to reach its broker before it gives up: None is for ever."""

from __future__ import annotations

from worker.app import app

print(app.conf.broker_connection_max_retries)
