"""What of Celery's remote control a worker refuses: which queues it hears is decided at its start.

Anybody may publish a command on the channel that every worker hears. One with a queue more, which may not
even exist, or without its own looks well and delivers nothing, for as long as it lives.
"""

from __future__ import annotations

from typing import Any

from celery.worker.control import control_command

from worker.process.refusals import REFUSED, note_refused

CURE = "a worker hears the queues that it was started with; to hold an org: badges pause"


# Under Celery's own names, in the place of its own.
@control_command(name="add_consumer", signature="(refused)")
def add_consumer(state: Any, **arguments: Any) -> dict[str, str]:  # noqa: ARG001 - Celery's
    """Refuse to hear another queue."""
    return _refused("add_consumer")


@control_command(name="cancel_consumer", signature="(refused)")
def cancel_consumer(state: Any, **arguments: Any) -> dict[str, str]:  # noqa: ARG001 - Celery's
    """Refuse to hear a queue no more."""
    return _refused("cancel_consumer")


def _refused(command: str) -> dict[str, str]:
    note_refused(REFUSED, CURE, {"task": command})
    return {"error": CURE}
