"""Rows whose badge was revoked, sent once more because a person asks for it (``badges import --again``).

Such a row becomes a new job with an id of its own, made of the same content and of how often it was undone,
so that importing it again under another run finds it. It says in whose place it is (``replay_of``), and the
undone job says what took its place. ``enqueue.lua`` looks once more whether that is undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import redis

from worker.domain.batch import Item
from worker.domain.identity import content_id
from worker.domain.job import State
from worker.server.cluster import reaching
from worker.store import reading
from worker.store.record import Field, Record, badge_of, state_of, takes_back

OFTEN = 100  # times that one row may have been undone


def renewed(client: redis.Redis, org: str, items: Sequence[Item]) -> list[Item]:
    """Return up to 1,000 items, each whose job was undone as a new job in its place."""
    new = list(items)
    places = [n for n, item in enumerate(items) if not item.kind]
    for times in range(1, OFTEN + 1):
        undone = _undone(client, org, [new[n].id for n in places])
        places = [n for n in places if new[n].id in undone]
        if not places:
            break
        for n in places:
            new[n] = _in_its_place(org, items[n], new[n].id, times)
    return new


def sent_again(client: redis.Redis, org: str, ids: Iterable[str]) -> set[str]:
    """Return which of up to 1,000 jobs would be sent once more: undone, or replaced by one that is."""
    now = {one: one for one in ids}  # job -> what is in its place by now
    found: set[str] = set()
    for _ in range(OFTEN):
        records = dict(zip(now, reading.records(client, org, list(now.values())), strict=True))
        following = {one: record.get(Field.REPLAYED_AS) for one, record in records.items() if record}
        ends = {one: its for one, its in now.items() if not following.get(one)}
        undone = _undone(client, org, ends.values())
        found |= {one for one, its in ends.items() if its in undone}
        now = {one: its for one, its in following.items() if its}
        if not now:
            break
    return found


def _in_its_place(org: str, item: Item, undone: str, times: int) -> Item:
    # An id of the producer's own is part of what the new one is made of.
    own = item.id if item.fingerprint else ""
    content = content_id(org, badge_of(item.fields), "again", own, str(times))
    return Item(content, item.row, {**item.fields, Field.REPLAY_OF: undone}, again_of=undone)


def _was_undone(record: Record) -> bool:
    """Say whether its badge was revoked; what revoked one issued none."""
    return state_of(record) is State.UNDONE and not takes_back(record)


def _undone(client: redis.Redis, org: str, ids: Iterable[str]) -> set[str]:
    asked = list(ids)
    with reaching("what was undone"):
        records = dict(zip(asked, reading.records(client, org, asked), strict=True))
        gone = [job_id for job_id, record in records.items() if not record]
        undone = {one for one, record in records.items() if record and _was_undone(record)}
        return undone | reading.undone(client, org, gone)
