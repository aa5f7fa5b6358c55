"""A report imported again: a dead letter that was mended in it is replaced, and nothing else is sent.

What the record says now counts, not what the report says of then. A mended dead letter is replayed as a new
job, as by ``badges dead replay --set`` (``replaying.py``), so that doing it twice issues nothing twice. How a
report is written is in ``report.py``, how its columns are read in ``files/columns.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Final

from worker.domain.badge import BadgeIssue
from worker.domain.batch import Item, Replay
from worker.domain.identity import content_id, mended_id
from worker.domain.invalid import Invalid
from worker.domain.item import Source, Warned, add_up
from worker.domain.job import DeadKind, State
from worker.domain.org import Org
from worker.domain.parsing import parse_item
from worker.domain.text import cell
from worker.enqueue import TAKEN, Enqueued, EnqueueOptions, Noted, next_chunk, note
from worker.files.columns import FIELDS, ORG
from worker.files.sample import still_hours
from worker.operate.report import argument, invalid_item, of_org, option
from worker.operate.undojobs import UNCHANGEABLE
from worker.server.cluster import reaching
from worker.store import reading, runs
from worker.store.again import renewed
from worker.store.queue import Queue
from worker.store.record import (
    Answer,
    Field,
    Record,
    badge_fields,
    badge_of,
    handed_on,
    is_newer,
    state_of,
    takes_back,
)

CANCELLED_RUN: Final = "run {} is cancelled, and so would be what comes to it: import this as another run"
DISCARDED: Final = "it was discarded, or is dealt with otherwise: nothing was done"
_INPUT: Final = tuple(name for name in FIELDS if name != "job_id")


@dataclass(frozen=True, slots=True)
class Mended:
    """The job that is to take a dead letter's place."""

    letter: str
    job: Item


@dataclass(frozen=True, slots=True)
class Judged:
    """What rows of a report would do: those that mend a dead letter, and what is to be said of others.

    ``again`` are the jobs that are sent in place of undone ones, where that was asked for.
    """

    mended: tuple[Mended, ...]
    noted: tuple[Noted, ...]
    again: tuple[Item, ...] = ()


def is_reported(row: Source) -> bool:
    """Say whether a row is one of a report, which tells its job's state."""
    return isinstance(row.item, dict) and "state" in row.item


def mend(queue: Queue, org: Org, rows: Iterable[Source], options: EnqueueOptions) -> Iterator[Enqueued]:
    """Let mended rows of a report take the place of their dead letters; all others count as duplicates.

    A row that is still invalid counts as that, and its dead letter stays as it is. What is yielded, chunk by
    chunk, is durable.

    With ``again``, a job that was undone is sent once more.

    Raises:
        StoreError: Redis can't take it; importing the report again is safe.
    """
    remaining = iter(rows)
    for number in count():
        chunk, cut_off = next_chunk(remaining)
        if not chunk:
            return
        yield _mend(queue, org, chunk, replace(options, call=f"{options.call}.{number}"))
        if cut_off:
            raise cut_off


def judge(
    queue: Queue, org: Org, rows: Sequence[Source], *, again: bool = False, held: bool = False
) -> Judged:
    """Say what up to 1,000 rows of a report would do, and do nothing.

    Those of a run that isn't to be sent yet are mended by an import that is ``held`` as well.

    Raises:
        StoreError: Redis refused or can't be reached.
    """
    with reaching("the report's jobs"):
        records = reading.all_records(queue.client, org.name, [_text(row, "job_id") for row in rows])
    its_runs = () if held else (record.get(Field.RUN, "") for record in records if record)
    kept_back = runs.not_begun(queue.store, org.name, its_runs)
    judged = [_judge(row, record, org, kept_back) for row, record in zip(rows, records, strict=True)]
    noted = [one for one in judged if isinstance(one, Noted)]
    groups = {
        _text(row, "job_id"): its.get(Field.GROUP, "") for row, its in zip(rows, records, strict=True) if its
    }
    mended, more = _of_listed(queue, org, [one for one in judged if isinstance(one, Mended)], groups)
    noted += more
    once_more: list[Item] = []
    if again:
        its = zip(rows, records, judged, strict=True)
        reported = [(row, record) for row, record, told in its if record and told is None]
        undone = [_undone(row, record, org) for row, record in reported if not takes_back(record)]
        once_more = [item for item in renewed(queue.client, org.name, undone) if item.again_of]
    with reaching("what was accepted before"):
        known = reading.known(queue.client, org.name, [one.job.id for one in mended])
        known_again = reading.known(queue.client, org.name, [item.id for item in once_more])
    noted += [_known(org, one) for one, there in zip(mended, known, strict=True) if there]
    return Judged(
        tuple(one for one, there in zip(mended, known, strict=True) if not there),
        tuple(noted),
        tuple(item for item, there in zip(once_more, known_again, strict=True) if not there),
    )


def _of_listed(
    queue: Queue, org: Org, mended: Sequence[Mended], groups: Mapping[str, str]
) -> tuple[list[Mended], list[Noted]]:
    """Return the first that takes a letter's place, if it is listed yet, and what is to be said of others."""
    with reaching("the dead letters"):
        listed = reading.listed(queue.client, org.name, [(one.letter, groups[one.letter]) for one in mended])
    taken: dict[str, Mended] = {}
    noted = []
    for one in mended:
        if one.letter not in listed:
            noted.append(Noted(one.job.row, None, DISCARDED, "conflict"))
        elif taken.setdefault(one.letter, one) is not one:
            reason = f"row {taken[one.letter].job.row} mends the same job already: nothing was done"
            noted.append(Noted(one.job.row, "job_id", reason, "conflict"))
    return list(taken.values()), noted


def _mend(queue: Queue, org: Org, rows: Sequence[Source], options: EnqueueOptions) -> Enqueued:
    call = options.call
    held = options.starts_ms is not None or bool(runs.not_begun(queue.store, org.name, [options.run]))
    judged = judge(queue, org, rows, again=options.again, held=held)
    if judged.mended and reading.cancelled_by(queue.client, org.name, options.run) is not None:
        noted = [
            Noted(one.job.row, None, CANCELLED_RUN.format(options.run), "conflict") for one in judged.mended
        ]
        judged = replace(judged, mended=(), noted=(*judged.noted, *noted))
    # Before others are replayed into it, so that it is known where the run came from, and whether it is held.
    answers = queue.enqueue(
        org,
        run=options.run,
        items=judged.again,
        call=f"{call}.a",
        urgent=options.urgent,
        source=options.source,
        starts_ms=options.starts_ms,
    )
    sent, replayed = sum(answer in TAKEN for answer in answers), 0
    if judged.mended:
        items = [Replay(one.letter, one.job, options.urgent) for one in judged.mended]
        replayed = queue.replay(org, run=options.run, items=items, call=f"{call}.m")["replayed"]
    invalid = sum(note.kind == "invalid" for note in judged.noted)
    others = len(rows) - replayed - invalid - len(answers)
    if others:
        queue.enqueue(org, run=options.run, items=[], call=f"{call}.d", duplicates=others)
    duplicates = others + len(answers) - sent
    warnings = add_up(Warned(row.warning, 1, (row.row,)) for row in rows if row.warning)
    return Enqueued(options.run, replayed + sent, duplicates, invalid, judged.noted, warnings=warnings)


def _judge(row: Source, record: Record | None, org: Org, kept_back: Collection[str]) -> Mended | Noted | None:
    """Return what takes a dead letter's place, what a person must know of the row, or nothing."""
    where, its_org = row.row, _text(row, "org")
    if its_org not in ("", org.name):
        reason = f"it belongs to another org: import it with {option('org', its_org)}"
        return Noted(where, "org", reason, "conflict")
    if not record:
        reason = "no such job is known any more: whether it was issued can't be told, so nothing was done"
        empty = "its cell job_id is empty, so nothing was done"
        return Noted(where, "job_id", reason if _text(row, "job_id") else empty, "conflict")
    if is_newer(record):
        reason = "a newer version of this program wrote it: mend it with that one"
        return Noted(where, "job_id", reason, "conflict")
    strict = org.strict_dates and not takes_back(record)  # which has no dates
    issue = parse_item(_item(row, record), org=org.name, strict_dates=strict)
    changed = _changed(row, issue, record)
    state = state_of(record)
    if state is State.DEAD and _text(row, "state").lower() == State.DEAD:
        new = issue if isinstance(issue, Invalid) else _mended(row, record, issue, org)
        mended = _judge_letter(row, record, new, org, changed=changed)
        if isinstance(mended, Mended) and (run := record.get(Field.RUN, "")) in kept_back:
            reason = (
                f"its run {run} isn't to be sent yet: import this with --hold as well, or first: "
                f"badges run start {of_org(org.name)}{argument(run)}"
            )
            return Noted(where, None, reason, "conflict")
        return mended
    told = _text(row, "state")
    reason = f"only dead jobs can be mended; it is {state}, and its cell state is “{told}”"
    return Noted(where, None, reason, "conflict") if changed else None


def _judge_letter(
    row: Source, record: Record, new: Mended | Invalid, org: Org, *, changed: bool
) -> Mended | Noted | None:
    where = row.row
    if changed and takes_back(record):
        return Noted(where, None, UNCHANGEABLE, "conflict")
    if Field.REPLAYED_AS in record:
        done_before = isinstance(new, Mended) and new.job.id == record[Field.REPLAYED_AS]
        reason = f"job {record[Field.REPLAYED_AS]} took its place already: mend that one"
        return Noted(where, None, reason, "conflict") if changed and not done_before else None
    problem, in_doubt = new if isinstance(new, Invalid) else None, record[Field.KIND] == DeadKind.IN_DOUBT
    if in_doubt or not changed:
        its = Item(_text(row, "job_id"), where, {}, fingerprint=record.get(Field.FINGERPRINT, ""))
        return note(org.name, its, problem, Answer.IN_DOUBT if in_doubt else Answer.DEAD)
    return Noted(where, new.field, new.words, "invalid") if isinstance(new, Invalid) else new


def _item(row: Source, record: Record) -> dict[str, Any]:
    """Return the badge as the report has it; of an invalid row also the id and the org that it came with."""
    item = {name: value for name in _INPUT if (value := (row.item or {}).get(name)) is not None}
    before = (invalid_item(record) or {}) if record.get(Field.KIND) == DeadKind.INVALID else {}
    own = {name: before[name] for name in ("job_id", ORG) if before.get(name) is not None}
    return still_hours(item, before) | own


def _changed(row: Source, issue: BadgeIssue | Invalid, record: Record) -> bool:
    """Say whether a row's input is another than that of its record."""
    if record.get(Field.KIND) != DeadKind.INVALID:
        return isinstance(issue, Invalid) or issue.badge.content() != badge_of(record).content()
    before = invalid_item(record) or {}
    return any(_text(row, name) != cell(before.get(name)).strip() for name in _INPUT)


def _mended(row: Source, record: Record, issue: BadgeIssue, org: Org) -> Mended:
    """Return the job that takes a dead letter's place."""
    letter, content = _text(row, "job_id"), content_id(org.name, issue.badge)
    fields = badge_fields(issue.badge) | handed_on(record)
    if issue.job_id:
        return Mended(letter, Item(issue.job_id, row.row, fields, fingerprint=content))
    new_id = content
    if record[Field.KIND] != DeadKind.INVALID:
        new_id = mended_id(org.name, letter, badge_of(record), issue.badge)
    return Mended(letter, Item(new_id, row.row, fields))


def _undone(row: Source, record: Record, org: Org) -> Item:
    """Return a reported job as it came in; whether it was undone is asked of it."""
    job_id, content = _text(row, "job_id"), content_id(org.name, badge_of(record))
    fields = badge_fields(badge_of(record)) | handed_on(record)
    return Item(job_id, row.row, fields, fingerprint="" if job_id == content else content)


def _known(org: Org, mended: Mended) -> Noted:
    discard = f"badges dead discard {of_org(org.name)}{option('job', mended.letter)}"
    reason = f"as mended it was accepted before, as job {mended.job.id}; to be rid of this one: {discard}"
    return Noted(mended.job.row, None, reason, "conflict")


def _text(row: Source, name: str) -> str:
    return cell((row.item or {}).get(name)).strip()
