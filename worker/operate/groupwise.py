"""Acts on whole groups of dead letters: the server picks the letters itself, a thousand a call.

So a million are dealt with in seconds. Where records must be read to tell which letters are meant, or letters
become other jobs, ``replaying.py`` goes through them one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from worker.domain.batch import Replay
from worker.domain.org import DEFAULT_ORG, Org
from worker.operate import deadlist
from worker.operate.deadlist import Filter
from worker.operate.operator import Operator
from worker.store.letters import GroupPart, Letter
from worker.store.protocol import ttl_ms
from worker.store.queue import CHUNK, chunks


def replay(  # noqa: PLR0913 - which, and how
    operator: Operator,
    org: Org,
    parts: Sequence[GroupPart],
    *,
    name: str,
    room: Callable[[], int],
    undos: bool,
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Queue letters again as they are, while there is ``room``; yields how many were seen, and the answer.

    Those of ``undos`` only if they are meant.
    """
    queue = operator.queue
    for part in parts:
        last = Letter()
        while most := room():
            done, seen, last, left = queue.replay_group(
                org, run=name, of=part, behind=last, most=most, call=queue.new_id()
            )
            answer = {"replayed": done, "duplicates": 0, "skipped": 0, "undos": 0}
            if left:
                items, call = [*map(Replay, left)], queue.new_id()
                by_id = queue.replay(org, run=name, items=items, call=call, undos=undos)
                answer = by_id | {what: number + by_id[what] for what, number in answer.items()}
            yield seen, answer
            if seen < most:
                break
    queue.wake(org)


def discard(
    operator: Operator, org: str, which: Filter, action: str, said: Mapping[str, Any]
) -> Iterator[tuple[int, int]]:
    """Discard what fits of one org; yields how many were looked at, and how many discarded."""
    queue, orgs, reports = operator.queue, operator.orgs, operator.reports
    keep_ms = ttl_ms(orgs.get(org, orgs[DEFAULT_ORG]))
    is_begun = False

    def begin() -> None:
        nonlocal is_begun
        if not is_begun:
            operator.begin(org, action, said)
        is_begun = True

    def discard_these(ids: Sequence[str]) -> int:
        if ids:
            begin()
        return sum(
            queue.discard(org, chunk, keep_ms=keep_ms, call=queue.new_id(), action=action)
            for chunk in chunks(ids)
        )

    parts = deadlist.parts(reports, org, which)
    if parts is None:
        for seen, page in deadlist.pages(reports, which):
            yield seen, discard_these([it.id for it in page])
    for part in parts or ():
        begin()
        last, seen = Letter(), CHUNK
        while seen == CHUNK:
            done, seen, last, left = queue.discard_group(
                org, part, behind=last, keep_ms=keep_ms, call=queue.new_id(), action=action
            )
            done += discard_these(left)
            yield seen, done
