"""Pausing an org for what the vendor said: a person has to mend it, and the log says how to go on."""

from __future__ import annotations

import structlog

from worker.store.queue import Queue

log = structlog.get_logger()


def pause(queue: Queue, org: str, *, why: str, reason: str) -> None:
    """Let no further call of an org start, and say so if calls could start before."""
    if queue.pause(org, why=why, reason=reason):
        log_paused(org, why, reason)


def log_paused(org: str, why: str, reason: str) -> None:
    """Say that an org was paused."""
    cure = f"badges doctor --org {org} says what to mend; then: badges resume --org {org}"
    log.error("org.paused", org=org, why=why, reason=reason, cure=cure)
