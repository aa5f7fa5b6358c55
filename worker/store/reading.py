"""What lies in Redis of jobs, read back: records, dead letters in groups. Nothing here changes anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import redis

from worker.domain.identity import short_hash
from worker.domain.job import DeadKind
from worker.store import keys
from worker.store.letters import GroupPart
from worker.store.queue import chunks
from worker.store.record import (
    BUCKET_LETTERS,
    OTHER,
    SEPARATOR,
    Field,
    Record,
    carried_by,
    has_others,
    others_of,
    read,
)
from worker.store.scripts import Store

PAGE = 500
TALLIED = 1000


class StoredGroup(NamedTuple):
    """A group of dead letters: those of one kind, code and badge; invalid ones of one field and fault.

    ``is_mixed``: there are too many groups, and this one has what the others have no room for.
    """

    number: str
    kind: str
    code: str
    badge: str

    @property
    def is_mixed(self) -> bool:
        """Whether only its letters' records tell their code and badge."""
        return self.code == OTHER and not self.badge


class Extent(NamedTuple):
    """How many letters a group has since a time, the first and the last of them and when they died, ms."""

    size: int
    first: str
    first_at_ms: int
    last_at_ms: int


def records(client: redis.Redis, org: str, ids: Sequence[str]) -> list[Record | None]:
    """Return the records of some hundred jobs, ``None`` for those that have none (any more)."""
    if not ids:
        return []
    stored = _stored(client, org, ids)
    batches: list[Any] = client.hmget(keys.key(org, "sending"), list(ids))
    return [
        carried_by(read(text), batch) if text else None for text, batch in zip(stored, batches, strict=True)
    ]


def others(client: redis.Redis, org: str, ids: Sequence[str]) -> list[Mapping[str, str]]:
    """Return the cells of columns that stand for no field, of those of some hundred jobs that have any."""
    return [others_of(read(text)) for text in _stored(client, org, ids) if text and has_others(text)]


def _stored(client: redis.Redis, org: str, ids: Sequence[str]) -> list[Any]:
    prefix = keys.key(org, "job")
    return client.mget([prefix + job_id for job_id in ids])


def all_records(client: redis.Redis, org: str, ids: Sequence[str]) -> list[Record | None]:
    """Return the records of however many jobs."""
    return [record for page in chunks(ids, PAGE) for record in records(client, org, page)]


def known(client: redis.Redis, org: str, ids: Sequence[str]) -> list[bool]:
    """Say of each id whether a job of that id was accepted before, however long ago."""
    pipe = client.pipeline(transaction=False)
    for job_id in ids:
        pipe.exists(keys.key(org, "job", job_id))
        own = short_hash(job_id)  # under which a producer's own id is remembered
        for remembered, end in ((job_id, ""), (own, "\xff")):
            for letters in BUCKET_LETTERS:
                rest = remembered[letters:]
                bucket = keys.key(org, "memory", remembered[:letters])
                pipe.zlexcount(bucket, f"[{rest}", f"[{rest}{end}")
    found, each = pipe.execute(), 1 + 2 * len(BUCKET_LETTERS)
    return [any(found[at : at + each]) for at in range(0, len(found), each)]


def remembered(store: Store, org: str, prefixes: Sequence[str]) -> list[str]:
    """Return what is remembered that begins so: ids; of a producer's own ten letters and eight capitals."""
    found: list[str] = []
    for some in chunks(prefixes):
        found += store.call("remembered", [keys.key_prefix(org)], some)
    return found


def holding(  # noqa: PLR0913 - what, and where to look
    store: Store, org: str, run: str, text: str, *, first: int, most: int
) -> tuple[int, list[str]]:
    """Look at the records of some jobs of a run; return how many there were, and ids of those with a text."""
    count, *ids = store.call("search", [keys.key_prefix(org)], [run, first, most, text])
    return int(count), [str(job_id) for job_id in ids]


class Counted(NamedTuple):
    """What jobs have in common; a ``kind`` only dead ones have."""

    state: str
    kind: str
    code: str
    badge: str


def tally(store: Store, org: str, run: str) -> Iterator[tuple[int, Counter[Counted]]]:
    """Count the jobs of a run, page by page; yields how many were looked at, and the counts of the page."""
    first = 0
    while True:
        count, *flat = store.call("tally", [keys.key_prefix(org)], [run, first, TALLIED])
        first += int(count)
        names = (Counted(*str(name).split(SEPARATOR)) for name in flat[::2])
        yield first, Counter(dict(zip(names, map(int, flat[1::2]), strict=True)))
        if int(count) < TALLIED:
            return


def cancelled_by(client: redis.Redis, org: str, run: str) -> str | None:
    """Return the action that cancelled a run as a whole; ``None``: none did, or some was replayed since."""
    found = client.hget(keys.key(org, "run", run), "cancelled")
    return None if found is None else str(found)


def badges(client: redis.Redis, org: str) -> list[str]:
    """Return the badges that an org has, or had, jobs of, in one case."""
    return sorted(str(badge) for badge in client.smembers(keys.key(org, "badges")))


def undone(client: redis.Redis, org: str, ids: Iterable[str]) -> set[str]:
    """Return as which of these jobs a badge was issued, and revoked since."""
    asked = [(job_id, n) for job_id in ids for n in BUCKET_LETTERS]
    pipe = client.pipeline(transaction=False)
    for job_id, n in asked:
        pipe.zscore(keys.key(org, "undone", job_id[:n]), job_id[n:])
    scores = pipe.execute() if asked else []
    return {job_id for (job_id, _), score in zip(asked, scores, strict=True) if score is not None}


def count_cancelled(client: redis.Redis, org: str, ids: Iterable[str]) -> int:
    """Count those of these jobs that were cancelled."""
    found = (record for page in chunks(ids, PAGE) for record in records(client, org, page))
    return sum(record is not None and record.get(Field.KIND) == DeadKind.CANCELLED for record in found)


def cancelled(client: redis.Redis, org: str, run: str) -> int:
    """Count the dead letters of a run that were cancelled."""
    return int(client.hget(keys.key(org, "run", run), f"dead:{DeadKind.CANCELLED}") or 0)


def in_lanes(client: redis.Redis, org: str) -> int:
    """Count the ids in an org's lanes: those of jobs that were dealt with otherwise, too."""
    return client.llen(keys.key(org, "queue")) + client.llen(keys.key(org, "urgent"))


def groups(client: redis.Redis, org: str) -> list[StoredGroup]:
    """Return the groups of an org's dead letters."""
    found: dict[str, str] = client.hgetall(keys.key(org, "groups"))  # type: ignore[assignment]
    return [StoredGroup(number, *name.split(SEPARATOR)) for number, name in found.items()]


def extents(
    client: redis.Redis,
    org: str,
    of: Sequence[StoredGroup],
    *,
    since_ms: int = 0,
    until_ms: int | str = "+inf",
) -> list[Extent | None]:
    """Return what groups hold of a time; ``None`` for one that holds nothing."""
    pipe = client.pipeline(transaction=False)
    for group in of:
        key = keys.key(org, "dead", group.number)
        pipe.zcount(key, since_ms, until_ms)
        pipe.zrangebyscore(key, since_ms, until_ms, start=0, num=1, withscores=True)
        pipe.zrevrangebyscore(key, until_ms, since_ms, start=0, num=1, withscores=True)
    answers = iter(pipe.execute())
    told: list[Extent | None] = []
    for _ in of:
        count, first, last = next(answers), next(answers), next(answers)
        told.append(Extent(count, first[0][0], int(first[0][1]), int(last[0][1])) if first else None)
    return told


def extent_of_run(store: Store, org: str, of: GroupPart) -> Extent | None:
    """Return what a part of a group holds of its run, whose records the server reads for that."""
    size, first, last_at_ms, passed = 0, ("", 0), 0, 0
    while True:
        looked_at, count, *ends = store.call("count_group", [keys.key_prefix(org)], [*of, passed])
        if ends:
            first = first if size else (str(ends[0]), int(ends[1]))
            size, last_at_ms = size + int(count), int(ends[2])
        passed += int(looked_at)
        if int(looked_at) < TALLIED:
            return Extent(size, *first, last_at_ms) if size else None


def letters(  # noqa: PLR0913 - of which group, and which of it
    client: redis.Redis,
    org: str,
    group: StoredGroup,
    *,
    since_ms: int,
    until_ms: int | str,
    behind: tuple[int, str] | None = None,
    newest: bool = False,
) -> Iterator[list[tuple[str, int]]]:
    """Yield ids and times of death (ms), in pages, oldest or ``newest`` first; or those behind one of them.

    Whatever is taken off the list between two pages makes it skip none.
    """
    begin, end = (until_ms, since_ms) if newest else (since_ms, until_ms)
    last, limit, key = behind, PAGE, keys.key(org, "dead", group.number)
    while True:
        # Not by rank: a rank moves when others are taken off the list.
        start = last[0] if last else begin
        found: Any = client.zrange(
            key, start, end, byscore=True, desc=newest, offset=0, num=limit, withscores=True
        )
        page = [(int(at_ms), str(job_id)) for job_id, at_ms in found]
        if fresh := [entry for entry in page if last is None or (entry < last if newest else entry > last)]:
            yield [(job_id, at_ms) for at_ms, job_id in fresh]
            last = fresh[-1]
        if len(page) < limit:
            return
        if not fresh:
            limit *= 2  # more died in the same millisecond


def listed(client: redis.Redis, org: str, letters: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return which of the dead letters, each an id and its group's number, are listed, and since when, ms."""
    pipe = client.pipeline(transaction=False)
    for job_id, group in letters:
        pipe.zscore(keys.key(org, "dead", group), job_id)
    found = zip(letters, pipe.execute(), strict=True)
    return {job_id: int(at_ms) for (job_id, _), at_ms in found if at_ms is not None}


def listed_at_ms(client: redis.Redis, org: str, job_id: str) -> tuple[Record, int] | None:
    """Return a dead letter and when it died; ``None`` if the job is none, or needs nobody any more."""
    record = records(client, org, [job_id])[0]
    if not record or Field.GROUP not in record:
        return None
    at_ms = client.zscore(keys.key(org, "dead", record[Field.GROUP]), job_id)
    return None if at_ms is None else (record, int(float(str(at_ms))))
