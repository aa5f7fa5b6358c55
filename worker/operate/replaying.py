"""Replaying dead letters: the same jobs once more, or with changes as new ones.

What was replayed goes through the gate like any other job; its replay has an id, under which it can be
followed (``following.py``) and cancelled (``cancelling.py``). Whole groups go by ``groupwise.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from worker.domain.badge import Badge
from worker.domain.batch import Item, Replay
from worker.domain.identity import mended_id
from worker.domain.invalid import Invalid
from worker.domain.job import DeadKind
from worker.domain.org import Org
from worker.domain.parsing import parse_item
from worker.domain.text import counted
from worker.errors import NotAllowed
from worker.operate import deadlist, groupwise
from worker.operate.deadlist import Filter, Letter
from worker.operate.operator import Move, Operator
from worker.operate.report import argument, of_org
from worker.operate.runs import JobReader
from worker.operate.undojobs import UNCHANGEABLE
from worker.store import audit, reading, runs
from worker.store.letters import GroupPart
from worker.store.queue import CHUNK, Queue
from worker.store.record import Field, badge_fields, badge_of, handed_on, takes_back

UNDO = "undo"  # beside the kinds that are left out: what takes a badge back


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

    Never an invalid one; one in doubt only if ``which`` names that kind and ``may_issue_twice`` is said: it
    may have been issued; one of an undo, which takes a badge back, only if ``which`` names its run or it. At
    most ``limit`` are replayed. A new job whose content was accepted before is a duplicate, and its dead
    letter stays. Breaking off leaves what was replayed so far queued. ``replay`` is its id, if the caller
    wants to know it beforehand.

    Raises:
        NotAllowed: there are jobs in doubt to be replayed, and it wasn't said that they may be.
        Ambiguous: it is about a job that several orgs have.
    """
    if which.kind is DeadKind.IN_DOUBT and not (may_issue_twice or dry_run):
        refuse_doubt(operator.reports, which, limit)
    name = replay or audit.action_id(operator.queue, "replay")
    done = Replayed(name, run=name if changes else None, left_out=deadlist.left_out(operator.reports, which))
    reports = operator.reports
    said = which.as_json() | ({"set": dict(changes)} if changes else {}) | ({"limit": limit} if limit else {})
    looked_at, total = 0, deadlist.size(reports, which, replayable=True)
    undos = which.job is not None or which.run is not None  # who names one knows what its letters do
    ask = _rehearsal(reports, undos=undos) if dry_run else partial(_ask, operator.queue, name, undos)
    begun: set[str] = set()

    def begin(org: Org) -> None:
        if not dry_run and org.name not in begun:
            operator.begin(org.name, name, said)
            begun.add(org.name)

    def room() -> int:
        return CHUNK if limit is None else max(0, min(CHUNK, limit - done.replayed))

    for its_org in reports.orgs_meant(which):
        its, org = replace(which, org=its_org), operator.orgs.get(its_org)
        may_pick = org and not (changes or dry_run)
        parts = deadlist.parts(reports, its_org, its, replayable=True) if may_pick else None
        if org and parts is not None:
            steps = _by_groups(operator, org, parts, name, begin, room, undos)
        else:
            steps = _one_by_one(reports, org, its, changes, ask, begin, room)
        for seen, counted_into in steps:
            looked_at, done = looked_at + seen, counted_into(done)
            on_progress(min(looked_at, total), total)
    on_progress(total, total)
    return done


# How many were looked at, and what to make of what was done.
_Step = tuple[int, Callable[[Replayed], Replayed]]


def _by_groups(  # noqa: PLR0913, PLR0917 - of whom, what, and how far
    operator: Operator,
    org: Org,
    parts: Sequence[GroupPart],
    name: str,
    begin: Callable[[Org], None],
    room: Callable[[], int],
    undos: bool,  # noqa: FBT001 - as above
) -> Iterator[_Step]:
    if parts:
        begin(org)
    for seen, answer in groupwise.replay(operator, org, parts, name=name, room=room, undos=undos):
        yield seen, partial(_counted, org=org.name, answer=answer, problems=[])


def _one_by_one(  # noqa: PLR0913, PLR0917 - as above
    reports: JobReader,
    org: Org | None,
    which: Filter,
    changes: Mapping[str, str] | None,
    ask: Callable[[Org, list[Replay]], Mapping[str, Any]],
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
            items, problems = _items(reports, org, chunk, changes)
            yield 0, partial(_counted, org=org.name, answer=ask(org, items), problems=problems)
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


def _left(done: Replayed, chunk: list[Letter]) -> Replayed:
    org = chunk[0].org
    return replace(done, unconfigured=done.unconfigured | {org: done.unconfigured.get(org, 0) + len(chunk)})


def _rehearsal(reports: JobReader, *, undos: bool) -> Callable[[Org, list[Replay]], Mapping[str, Any]]:
    """Return what answers as the replay would, and changes nothing."""
    taken: set[tuple[str, str]] = set()
    half: dict[tuple[str, str], bool] = {}

    def would_replay(org: Org, items: list[Replay]) -> Mapping[str, Any]:
        new = [item.new for item in items if item.new]
        duplicates = 0
        for job, there in zip(
            new, reading.known(reports.client, org.name, [job.id for job in new]), strict=True
        ):
            duplicates += there or (org.name, job.id) in taken
            taken.add((org.name, job.id))
        found = [
            record for _, record in reports.records(org.name, [item.id for item in items if not item.new])
        ]
        left = [record for record in found if takes_back(record) and not undos]
        its_runs = [(org.name, record.get(Field.RUN, "")) for record in found if record not in left]
        half.update({one: is_half_cancelled(reports, *one) for one in {*its_runs} - half.keys()})
        stay = [run for org_name, run in its_runs if half[org_name, run]]
        replayed = len(items) - duplicates - len(left) - len(stay)
        answer = {"replayed": replayed, "duplicates": duplicates, "skipped": len(stay), "undos": len(left)}
        return answer | ({"cancelling": stay[0]} if stay else {})

    return would_replay


def _ask(queue: Queue, replay: str, undos: bool, org: Org, items: list[Replay]) -> Mapping[str, Any]:  # noqa: FBT001
    return queue.replay(org, run=replay, items=items, call=queue.new_id(), undos=undos)


def _counted(done: Replayed, org: str, answer: Mapping[str, Any], problems: list[str]) -> Replayed:
    undos = done.left_out.get(UNDO, 0) + answer["undos"]
    return replace(
        done,
        left_out=done.left_out | ({UNDO: undos} if undos else {}),
        replayed=done.replayed + answer["replayed"],
        duplicates=done.duplicates + answer["duplicates"],
        skipped=done.skipped + answer["skipped"] + len(problems),
        problem=done.problem or next(iter(problems), None) or why_skipped(org, answer),
    )


def is_half_cancelled(reports: JobReader, org: str, run: str) -> bool:
    """Say whether some of a cancelled run waits or is sent yet: it would go out with what is replayed."""
    found = reports.progress([(org, run)])
    return bool(found and found[0].cancelled and found[0].open)


def why_skipped(org: str, answer: Mapping[str, Any]) -> str | None:
    """Return why some of what the store was asked to replay stays, if they are dead letters still."""
    if run := answer.get("cancelling"):
        first = f"badges run cancel {of_org(org)}{argument(run)}"
        return (
            f"run {run} is only half cancelled: what waits of it, or is being sent, would go on as well; "
            f"first: {first}, and wait for what is being sent"
        )
    return None


def _items(
    reports: JobReader, org: Org, chunk: list[Letter], changes: Mapping[str, str] | None
) -> tuple[list[Replay], list[str]]:
    """Return what ``queue.replay`` takes, and what is wrong with those that can't be changed so."""
    if not changes:
        return [Replay(it.id) for it in chunk], []
    items: list[Replay] = []
    problems = []
    kept_back = runs.not_begun(reports.store, org.name, (it.record.get(Field.RUN, "") for it in chunk))
    for it in chunk:
        if (run := it.record.get(Field.RUN, "")) in kept_back:
            start = f"badges run start {of_org(org.name)}{argument(run)}"
            problems.append(f"run {run} isn't to be sent yet; first: {start}")
            continue
        if takes_back(it.record):
            problems.append(UNCHANGEABLE)
            continue
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
    its_id = mended_id(org.name, letter.id, badge_of(letter.record), badge)
    return Item(its_id, letter.record.get(Field.ROW, ""), fields)
