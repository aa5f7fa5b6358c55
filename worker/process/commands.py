"""What of Celery's remote control a worker refuses: what would end it, make it useless or lose messages.

Anybody may publish a command on the channel that every worker hears. A worker that hears another queue, which
may not even exist, or none of its own, whose tasks Celery holds back or cuts off in the middle of a call, or
without a place in its pool looks well, and delivers nothing. One whose pool is grown without end takes its
machine with it. A message that is revoked is gone, and a task that is terminated leaves its batch in doubt.
"""

from __future__ import annotations

from typing import Any

from celery.worker.control import Panel, control_command, inspect_command

from worker.process.refusals import REFUSED, note_refused

QUEUES = "a worker hears the queues that it was started with; to hold an org: badges pause"
LIMITS = "limits are settings: BADGES_RATE_LIMIT, BADGES_HTTP_TIMEOUT_S; to hold an org: badges pause"
PLACES = "a worker keeps at least one place; to end it, stop it"
GROWTH = "a worker has the places that it was started with; start another one: badges worker --concurrency N"
MESSAGES = "messages are not revoked: what is in them would be lost; to stop a run: badges run cancel RUN"
ENDS = "a worker ends by SIGTERM, on its own machine; to hold an org: badges pause"

# Under Celery's own names, in the place of its own: what each would do, and what there is instead.
COMMANDS = {
    "add_consumer": ("to hear another queue", QUEUES),
    "cancel_consumer": ("to stop listening to a queue", QUEUES),
    "rate_limit": ("to hold tasks back: an org's limit is the one that counts", LIMITS),
    "time_limit": ("to cut tasks off: a call that is cut off is in doubt", LIMITS),
    "pool_grow": ("to grow the pool: the machine may not bear it, orgs share the places there were", GROWTH),
    "revoke": ("to drop messages", MESSAGES),
    "revoke_by_stamped_headers": ("to drop messages by what they are stamped with", MESSAGES),
    "terminate": ("to end a task in the middle: its call would be in doubt", MESSAGES),
    "shutdown": ("to end: one message would end every worker there is", ENDS),
}

_shrink, _shown = Panel.data["pool_shrink"], Panel.meta["pool_shrink"]
_stats = Panel.data["stats"]


def _refuse(command: str, what: str, cure: str) -> None:
    @control_command(name=command, signature="(refused)", help=f"Refuse {what}.")
    def refuse(state: Any, **arguments: Any) -> dict[str, str]:  # noqa: ARG001 - Celery's
        return _refused(command, cure)


for _command, _said in COMMANDS.items():
    _refuse(_command, *_said)


@control_command(name="pool_shrink", args=_shown.args, signature=_shown.signature)
def pool_shrink(state: Any, n: Any = 1, **_: Any) -> Any:
    """Shrink the pool, but not to nothing."""
    if isinstance(n, int) and 1 <= n < state.consumer.pool.num_processes:
        return _shrink(state, n=n)
    return _refused("pool_shrink", PLACES)


@inspect_command(name="stats")
def stats(state: Any, **_: Any) -> Any:
    """Tell what Celery tells, but of the broker its URL without secrets, and no more.

    Celery's own hides one password, and shows those of the other nodes, of Sentinels and in options.
    """
    told = _stats(state)
    connection = state.consumer.connection
    return told | {"broker": {"url": connection.as_uri() if connection else "N/A"}}


def _refused(command: str, cure: str) -> dict[str, str]:
    note_refused(REFUSED, cure, {"task": command})
    return {"error": cure}
