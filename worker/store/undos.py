"""Badges that are to be taken back, as the store has them; how they are: ``vendor/revoking.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from worker.domain.org import Org
from worker.server.cluster import reaching
from worker.store import keys
from worker.store.protocol import ttl_ms
from worker.store.queue import Queue
from worker.store.record import CODE_BYTES, Field, Record, bounded, read

Verb = Literal["undone", "later", "dead", "wait"]


class Revoke(NamedTuple):
    """A job that takes a badge back."""

    id: str
    record: Record


class Word(NamedTuple):
    """What became of a call; ``argument`` is ms until the next, or a dead letter's kind.

    ``wait``: none was made, and for so long none may be of whatever is to be taken back.
    """

    verb: Verb
    argument: str = ""
    code: str = ""
    message: str = ""
    spends_attempt: bool = True


def accept(queue: Queue, org: Org, *, run: str, ids: Sequence[tuple[str, str]]) -> int:
    """Accept up to 1,000 jobs that take badges back: of which job, and their own id; how many are new."""
    flat = [part for pair in ids for part in pair]
    args = [queue.new_id(), run, ttl_ms(org), *flat]
    new = int(queue.store.durably("undo", [keys.key_prefix(org.name)], args))
    queue.wake(org)
    return new


def take(queue: Queue, org: Org, by: str, *, again: str = "") -> Revoke | None:
    """Take the next one, if there is one and nobody else is at it; it comes up again by itself.

    Where what was taken before is to be kept for longer, ``again`` is its id: nothing, if it is gone.
    """
    lease_ms = int((org.http_timeout_s + 5) * 1000)
    found = queue.store.call(
        "take_revoke", [keys.key_prefix(org.name)], [by, lease_ms, again, queue.org_clock(org.name)]
    )
    return Revoke(found[0], read(found[1])) if found else None


def settle(queue: Queue, org: Org, revoke: Revoke, word: Word, status: str) -> str:
    """Write what became of a call; answers the job's state, in a word, "" where somebody else did."""
    code, message = bounded(word.code, CODE_BYTES), bounded(word.message)
    told = [word.verb, word.argument, code, message, int(word.spends_attempt), ttl_ms(org), status]
    args = [queue.new_id(), revoke.id, *told, revoke.record.get(Field.EARNED_BADGE_ID, "")]
    args.append(queue.org_clock(org.name))
    return str(queue.store.durably("settle_revoke", [keys.key_prefix(org.name)], args)[0])


def leave(queue: Queue, org: Org, by: str) -> None:
    """Let others go on with what is to be taken back, and note when to look at the org again."""
    with reaching("what is to be taken back"):
        key = keys.key(org.name, "revoker")
        if str(queue.client.get(key)).startswith(by):
            queue.client.delete(key)
    queue.wake(org)
