"""What a person does about dead letters: replay, discard, resolve, and cancel what waits again.

Which dead letters there are is the work of ``deadlist.py``, who did what that of ``audit.py``. What was
replayed goes through the gate like any other job; its replay has an id, under which it can be followed
and cancelled.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any

from worker.domain.badge import Badge, Invalid, parse_item
from worker.domain.batch import Item, Replay
from worker.domain.identity import content_id
from worker.domain.job import TERMINAL, DeadKind, State
from worker.domain.org import Org
from worker.domain.text import counted
from worker.errors import NotAllowed, NotFound
from worker.operate import deadlist, groupwise
from worker.operate.deadlist import Filter, Letter
from worker.operate.operator import Operator
from worker.operate.runs import JobReader
from worker.store import audit, reading
from worker.store.queue import CHUNK, GroupPart, Queue, chunks
from worker.store.reading import PAGE
from worker.store.record import Field, badge_fields, badge_of, handed_on, state_of

Move = Callable[[int, int], None]  # how many were looked at, and of how many


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did, or would do.

    ``duplicates`` and ``skipped`` stay dead letters: with the changes they would be jobs that are known, or
    invalid (``problem`` is the first reason); skipped were also those that somebody else was faster with.
    ``unconfigured`` counts the letters of orgs that nobody could send for, ``left_out`` by kind those that
    fit but aren't replayed unasked. ``run`` holds the new jobs, if the replay made any.
    """

    replay: str
    run: str | None = None
    replayed: int = 0
    duplicates: int = 0
    skipped: int = 0
    problem: str | None = None
    unconfigured: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as ``badges dead replay --json`` prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Following:
    """Where the jobs of a replay are; ``gone`` are those whose results have expired.

    ``held`` says why nothing is sent of an org that some of them are waiting in, and what to do about it.
    """

    replay: str
    total: int
    queued: int = 0
    sending: int = 0
    retrying: int = 0
    issued: int = 0
    dead: int = 0
    gone: int = 0
    dead_kinds: dict[str, int] = field(default_factory=dict)
    held: str | None = None

    @property
    def open(self) -> int:
        """Jobs that aren't in a terminal state yet."""
        return self.queued + self.sending + self.retrying

    @property
    def waiting(self) -> int:
        """Jobs that wait, and can be cancelled; what is being sent can't."""
        return self.queued + self.retrying

    def as_json(self) -> dict[str, Any]:
        """Return it as ``badges dead follow --json`` prints it."""
        return asdict(self)


def replay_all(  # noqa: PLR0913 - what, and how
    operator: Operator,
    which: Filter,
    *,
    changes: Mapping[str, str] | None = None,
    limit: int | None = None,
    dry_run: bool = False,
    may_issue_twice: bool = False,
    replay: str = "",
    on_progress: Move = lambda _looked_at, _total: None,
) -> Replayed:
    """Queue the dead letters that fit again, oldest first: the same ids, or with ``changes`` as new jobs.

    Never an invalid one, and one in doubt only if ``which`` names that kind and ``may_issue_twice`` is said:
    it may have been issued. At most ``limit`` are replayed. A new job whose content was accepted before is a
    duplicate, and its dead letter stays. Breaking off leaves what was replayed so far queued. ``replay`` is
    its id, if the caller wants to know it beforehand.

    Raises:
        NotAllowed: there are jobs in doubt to be replayed, and it wasn't said that they may be.
    """
    if which.kind is DeadKind.IN_DOUBT and not (may_issue_twice or dry_run):
        refuse_doubt(operator.reports, which, limit)
    name = replay or audit.action_id(operator.queue, "replay")
    done = Replayed(name, run=name if changes else None, left_out=deadlist.left_out(operator.reports, which))
    reports = operator.reports
    said = which.as_json() | ({"set": dict(changes)} if changes else {}) | ({"limit": limit} if limit else {})
    looked_at, total = 0, deadlist.size(reports, which, replayable=True)
    ask = _rehearsal(reports) if dry_run else partial(_ask, operator.queue, name)
    begun: set[str] = set()

    def begin(org: Org) -> None:
        if not dry_run and org.name not in begun:
            operator.begin(org.name, name, said)
            begun.add(org.name)

    def room() -> int:
        return CHUNK if limit is None else max(0, min(CHUNK, limit - done.replayed))

    for its_org in reports.org_names(which.org):
        its, org = replace(which, org=its_org), operator.orgs.get(its_org)
        may_pick = org and not (changes or dry_run)
        parts = deadlist.parts(reports, its_org, its, replayable=True) if may_pick else None
        if org and parts is not None:
            steps = _by_groups(operator, org, parts, name, begin, room)
        else:
            steps = _one_by_one(reports, org, its, changes, ask, begin, room)
        for seen, counted_into in steps:
            looked_at, done = looked_at + seen, counted_into(done)
            on_progress(min(looked_at, total), total)
    on_progress(total, total)
    return done


_Step = tuple[
    int, Callable[[Replayed], Replayed]
]  # how many were looked at, and what to make of what was done


def _by_groups(  # noqa: PLR0913, PLR0917 - of whom, what, and how far
    operator: Operator,
    org: Org,
    parts: Sequence[GroupPart],
    name: str,
    begin: Callable[[Org], None],
    room: Callable[[], int],
) -> Iterator[_Step]:
    if parts:
        begin(org)
    for seen, answer in groupwise.replay(operator, org, parts, name=name, room=room):
        yield seen, partial(_counted, answer=answer, problems=[])


def _one_by_one(  # noqa: PLR0913, PLR0917 - as above
    reports: JobReader,
    org: Org | None,
    which: Filter,
    changes: Mapping[str, str] | None,
    ask: Callable[[Org, list[Replay]], Mapping[str, int]],
    begin: Callable[[Org], None],
    room: Callable[[], int],
) -> Iterator[_Step]:
    for seen, page in deadlist.pages(reports, which, with_records=bool(changes), replayable=True):
        rest = page
        while rest and (most := room()):
            chunk, rest = rest[:most], rest[most:]
            if org is None:
                yield 0, partial(_left, chunk=chunk)
                continue
            begin(org)
            items, problems = _items(org, chunk, changes)
            yield 0, partial(_counted, answer=ask(org, items), problems=problems)
        yield seen, lambda done: done
        if not room():
            return


def refuse_doubt(reports: JobReader, which: Filter, limit: int | None) -> None:
    """Refuse to replay what is in doubt, if there is any.

    Raises:
        NotAllowed: there is.
    """
    if count := doubtful(reports, which, limit):
        raise NotAllowed(f"{doubt_words(count)}; to allow it, say may_issue_twice")


def doubtful(reports: JobReader, which: Filter, limit: int | None) -> int:
    """Count the jobs in doubt that a replay would send again."""
    found = sum(deadlist.count(reports, which).values())
    return found if limit is None else min(limit, found)


def doubt_words(count: int) -> str:
    """Say what replaying jobs in doubt may do."""
    these, them = ("this badge", "it") if count == 1 else ("these badges", "them")
    return (
        f"{counted(count, 'job')} in doubt would be sent again: the vendor may have issued {these}, "
        f"and would then issue {them} a second time"
    )


def discard_all(
    operator: Operator,
    which: Filter,
    *,
    action: str = "",
    on_progress: Move = lambda _looked_at, _total: None,
) -> int:
    """Take the dead letters that fit off the list for good, and return how many.

    Their records stay, so that importing them again can't issue them, for as long as results are kept: for
    an org that isn't configured any more, as long as those of the default one. ``action`` is its id in the
    audit trail, if the caller wants to know it beforehand.
    """
    action = action or audit.action_id(operator.queue, "discard")
    reports, discarded, looked_at = operator.reports, 0, 0
    total = deadlist.size(reports, which)
    for org in reports.org_names(which.org):
        for seen, done in groupwise.discard(operator, org, replace(which, org=org), action, which.as_json()):
            looked_at, discarded = looked_at + seen, discarded + done
            on_progress(min(looked_at, total), total)
    on_progress(total, total)
    return discarded


def resolve(operator: Operator, org: Org, job_id: str, *, issued: bool) -> bool:
    """Say what became of a job in doubt: issued after all, or not, and then it is queued again.

    Answers whether it was in doubt.
    """
    action, queue = audit.action_id(operator.queue, "resolve"), operator.queue
    if deadlist.died_at_ms(operator.reports, org.name, DeadKind.IN_DOUBT, job_id) is None:
        return False
    which = {"job": job_id, "found": "issued" if issued else "not issued"}
    operator.begin(org.name, action, which)
    if issued:
        return queue.resolve(org, [job_id], call=queue.new_id(), action=action) == 1
    return queue.replay(org, run=action, items=[Replay(job_id)], call=queue.new_id())["replayed"] == 1


def cancel(
    queue: Queue, org: str, ids: Iterable[str], *, action: str, on_progress: Callable[[int], None]
) -> int:
    """Make dead letters of the jobs that still wait; returns how many. What is being sent is settled.

    ``action`` is the entry of the audit trail that counts them.
    """
    cancelled = seen = 0
    for chunk in chunks(ids):
        cancelled += queue.cancel(org, chunk, call=queue.new_id(), action=action)
        seen += len(chunk)
        on_progress(seen)
    _tidy_lanes(queue, org, action)
    return cancelled


def cancel_run(
    operator: Operator, org: str, run: str, *, action: str, on_progress: Callable[[int], None]
) -> int:
    """Cancel a run as a whole: what waits, and later what of it would wait again; returns how many.

    From the first call on nothing of it is sent any more, wherever the rest is broken off: whatever of it is
    claimed becomes a dead letter then.
    """
    queue, client = operator.queue, operator.reports.client
    total, before = operator.reports.count_ids(org, run), reading.cancelled(client, org, run)
    # From its end, so that what is taken off the list meanwhile (forgotten) makes it skip none.
    for first in range((total - 1) // CHUNK * CHUNK, -1, -CHUNK):
        queue.cancel_run(org, run, first, call=queue.new_id(), action=action)
        on_progress(total - first)
    _tidy_lanes(queue, org, action)
    return reading.cancelled(client, org, run) - before


def _tidy_lanes(queue: Queue, org: str, action: str) -> None:
    """Take the ids of what was cancelled off the ends of the lanes."""
    # Of a run that came last no id could be taken off the queue's end before its last job was cancelled.
    left, before = reading.in_lanes(queue.client, org), -1
    while left and left != before:
        queue.cancel(org, [], call=queue.new_id(), action=action)
        left, before = reading.in_lanes(queue.client, org), left


def replayed_ids(reports: JobReader, replay: str) -> dict[str, list[str]]:
    """Return the ids that a replay queued, by org.

    Raises:
        NotFound: there is no such replay, or its results have expired.
    """
    found = {org: list(reports.ids(org, replay)) for org in reports.org_names()}
    if not any(found.values()):
        raise NotFound(f"there is no replay {replay!r} that queued anything; see: badges audit")
    return {org: ids for org, ids in found.items() if ids}


def waiting(reports: JobReader, by_org: Mapping[str, list[str]]) -> int:
    """Count the jobs that still wait, and that ``cancel`` would take."""
    jobs = [(org, job_id) for org, ids in by_org.items() for job_id in ids]
    return sum(state in (State.QUEUED, State.RETRYING) for _, _, state, _ in _states(reports, jobs))


def follow(reports: JobReader, replay: str, *, every_s: float) -> Iterator[Following]:
    """Yield the progress of a replay until every job of it has ended again.

    Raises:
        NotFound: there is no such replay, or its results have expired.
    """
    waiting = [(org, job_id) for org, ids in replayed_ids(reports, replay).items() for job_id in ids]
    total, ended, kinds = len(waiting), Counter[str](), Counter[str]()
    while True:
        started, still, open_ = time.monotonic(), [], Counter[str]()
        for org, job_id, state, kind in _states(reports, waiting):
            if state is None:
                ended["gone"] += 1
            elif state in TERMINAL:
                ended[state] += 1
                kinds.update([kind] if kind else [])
            else:
                open_[state] += 1
                still.append((org, job_id))
        waiting = still
        held = next(filter(None, map(reports.held, {org for org, _ in still})), None)
        yield Following(replay, total, **ended, **open_, dead_kinds=dict(kinds), held=held)
        if not waiting:
            return
        # Looking at a hundred thousand jobs takes a second: that is to be a fifth of the time at most.
        time.sleep(max(every_s, 4 * (time.monotonic() - started)))


def _states(
    reports: JobReader, jobs: list[tuple[str, str]]
) -> Iterator[tuple[str, str, State | None, str | None]]:
    for org, of_org in groupby(jobs, key=lambda job: job[0]):
        ids = [job_id for _, job_id in of_org]
        for at in range(0, len(ids), PAGE):
            page = ids[at : at + PAGE]
            for job_id, record in zip(page, reading.records(reports.client, org, page), strict=True):
                yield org, job_id, state_of(record or {}), (record or {}).get(Field.KIND)


def _left(done: Replayed, chunk: list[Letter]) -> Replayed:
    org = chunk[0].org
    return replace(done, unconfigured=done.unconfigured | {org: done.unconfigured.get(org, 0) + len(chunk)})


def _rehearsal(reports: JobReader) -> Callable[[Org, list[Replay]], Mapping[str, int]]:
    """Return what answers as the replay would, and changes nothing."""
    taken: set[tuple[str, str]] = set()

    def would_replay(org: Org, items: list[Replay]) -> Mapping[str, int]:
        new = [item.new for item in items if item.new]
        duplicates = 0
        for job, there in zip(
            new, reading.known(reports.client, org.name, [job.id for job in new]), strict=True
        ):
            duplicates += there or (org.name, job.id) in taken
            taken.add((org.name, job.id))
        return {"replayed": len(items) - duplicates, "duplicates": duplicates, "skipped": 0}

    return would_replay


def _ask(queue: Queue, replay: str, org: Org, items: list[Replay]) -> Mapping[str, int]:
    return queue.replay(org, run=replay, items=items, call=queue.new_id())


def _counted(done: Replayed, answer: Mapping[str, int], problems: list[str]) -> Replayed:
    return replace(
        done,
        replayed=done.replayed + answer["replayed"],
        duplicates=done.duplicates + answer["duplicates"],
        skipped=done.skipped + answer["skipped"] + len(problems),
        problem=done.problem or next(iter(problems), None),
    )


def _items(
    org: Org, chunk: list[Letter], changes: Mapping[str, str] | None
) -> tuple[list[Replay], list[str]]:
    """Return what ``queue.replay`` takes, and what is wrong with those that can't be changed so."""
    if not changes:
        return [Replay(it.id) for it in chunk], []
    items: list[Replay] = []
    problems = []
    for it in chunk:
        item = badge_of(it.record).body("as_given") | dict(changes)
        changed = parse_item(item, strict_dates=org.strict_dates)
        if isinstance(changed, Invalid):
            problems.append(str(changed))
        else:
            items.append(Replay(it.id, _changed(it, changed.badge, org)))
    return items, problems


def _changed(letter: Letter, badge: Badge, org: Org) -> Item:
    """Return the job that takes a letter's place, of the same row."""
    fields = badge_fields(badge) | handed_on(letter.record)
    return Item(content_id(org.name, badge), letter.record.get(Field.ROW, ""), fields)
