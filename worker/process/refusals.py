"""What a worker says of a message that it refuses: one line, never the contents, and a count in metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import structlog

from worker.domain.text import plain

log = structlog.get_logger()

REFUSED = "message.refused"
# How many messages were refused, by kind, since the wake-up thread wrote it down last.
refused: Counter[str] = Counter()


def note_refused(event: str, reason: str, said: Mapping[str, Any], **more: Any) -> None:
    """Log in one line that a message was refused, with its sender if it names one; count it."""
    named = {name: plain(str(said[name]), 100) for name in ("task", "id", "origin") if said.get(name)}
    if event != REFUSED:
        named["sender"] = named.get("origin", "nobody")
    log.error(event, reason=reason[:300], **more, **named)
    refused[event.partition(".")[0]] += 1
