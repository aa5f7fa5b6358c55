"""Getting jobs in: however items come in, here they are validated, get their ids, and are handed over.

The job id is the idempotency key: the producer's own ``job_id``, or else a hash of org and content.
Finding rows in files is the work of ``files/reader.py``, taking in a body of HTTP that of ``web/intake.py``.
"""

from __future__ import annotations

import json
import reprlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from shlex import quote
from typing import NamedTuple

from worker.domain.badge import BadgeIssue
from worker.domain.batch import Item
from worker.domain.identity import content_id, short_hash
from worker.domain.invalid import Invalid
from worker.domain.item import ROWS_NAMED, Source, Warned, add_up
from worker.domain.job import DeadKind
from worker.domain.names import LAST_RUN
from worker.domain.org import Org
from worker.domain.parsing import read_badge, warnings_of
from worker.domain.plain import Plain, plain_rows
from worker.domain.provenance import NOWHERE, Provenance
from worker.errors import ConfigError, FileError, NoRoom
from worker.store.again import renewed
from worker.store.queue import CHUNK, Queue, Repeats, Written, new_id
from worker.store.record import (
    BADGE_FIELDS,
    FAULTS_BYTES,
    HELD,
    RAW_BYTES,
    Answer,
    Field,
    badge_fields,
    bounded,
    others_field,
)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0  # between two looks for room
NOTED_KEPT = 1000
RUN_BYTES = 64
# To look a field up by its enum costs more than to take it, and each row has four.
_NAME, _CUSTOMER, _EVENT, _EVENT_ISO, _EXPIRY, _EXPIRY_ISO = BADGE_FIELDS
OF_ANOTHER = "has a job_id that was used before for another badge: it isn't accepted, and no dead letter"
NEAR_DUPLICATE = "has the badge and customer of an earlier row or job, but other dates; it is sent"
_OF_DUPLICATES = {
    Answer.REMEMBERED: "was accepted before; what became of it has expired",
    Answer.UNDONE: "was issued, and its badge was revoked since (undone); to send it once more: --again",
}
TAKEN = (Answer.ACCEPTED, Answer.SIMILAR, Answer.REPEATED, Answer.CANCELLED)
_UNREMARKABLE = frozenset({Answer.ACCEPTED, Answer.SIMILAR, Answer.REPEATED, Answer.DUPLICATE})
_KNOWN_BEFORE = (
    Answer.DUPLICATE,
    Answer.REMEMBERED,
    Answer.DEAD,
    Answer.IN_DOUBT,
    Answer.REPLACED,
    Answer.UNDONE,
    Answer.CONFLICT,
)


@dataclass(frozen=True, slots=True)
class Noted:
    """An item that was not simply accepted: ``invalid``, a ``conflict``, known as ``dead`` or ``in doubt``.

    ``row`` is the row of a file, or names the call and the item's place in it.
    """

    row: str
    field: str | None
    reason: str
    kind: str

    @property
    def place(self) -> int:
        """The item's place in the call, from 0; in a file, its row."""
        return int(self.row.rpartition(".")[2])


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of what was handed in, by number; accepted ones are on disk.

    Of the ``accepted``, ``repeated`` were accepted by the same run before, and aren't sent again; those of a
    run that is cancelled are dead letters at once. ``noted`` says why not, item by item, for the first 1,000
    that were not simply accepted. All that are invalid are dead letters as well. Where it was asked,
    ``near_duplicates`` are new rows whose badge and customer were accepted before with other dates; of them
    ``held`` became dead letters instead of being accepted. ``warnings`` says what is odd about items that are
    badges all the same.
    """

    run: str
    accepted: int = 0
    duplicates: int = 0
    invalid: int = 0
    noted: tuple[Noted, ...] = ()
    repeated: int = 0
    warnings: tuple[Warned, ...] = ()
    near_duplicates: int = 0
    held: int = 0

    @property
    def rows(self) -> int:
        """How many were handed in."""
        return self.accepted + self.duplicates + self.invalid + self.held


@dataclass(frozen=True, slots=True)
class EnqueueOptions:
    """How items are taken in: as which run, and by which call, so that repeating it repeats nothing.

    ``wait``: where there is no room, wait for it, however long that takes, instead of raising ``NoRoom``;
    ``on_wait`` hears why before each pause.
    ``repeats``: what to do about rows whose badge and customer were accepted before; see ``Queue.enqueue``.
    ``again``: rows whose badge was revoked since are sent once more, as new jobs.
    ``starts_ms``: the run isn't sent before; with infinity, not before somebody starts it.

    Raises:
        ConfigError: no run can have this name, or ``urgent`` is neither true nor false.
    """

    run: str
    call: str
    allow_duplicates: bool = False
    urgent: bool = False
    wait: bool = False
    on_wait: Callable[[str], None] = field(default=lambda _why: None, compare=False)
    source: Provenance = NOWHERE
    repeats: Repeats = ""
    again: bool = False
    starts_ms: float | None = None

    def __post_init__(self) -> None:
        check_run_name(self.run)
        if self.urgent not in (True, False):
            raise ConfigError(f"urgent must be true or false, not {reprlib.repr(self.urgent)}")


def check_run_name(run: object) -> None:
    """Make sure that a run can have this name.

    Raises:
        ConfigError: it can't; the text says what it may be.
    """
    check_name(run, "a run")
    if run == LAST_RUN:
        raise ConfigError(f"{run!r} is no name for a run: it stands for the newest one; choose another")


def check_name(name: object, what: str) -> None:
    """Make sure that ``what``, such as ``a run``, can have this name.

    Raises:
        ConfigError: it can't; the text says what it may be.
    """
    fits = isinstance(name, str) and name.isprintable() and " " not in name
    if not fits or not 0 < len(str(name).encode()) <= RUN_BYTES:
        raise ConfigError(
            f"{reprlib.repr(name)} is no name for {what}: 1 to {RUN_BYTES} bytes, all printable, no spaces"
        )


def new_run(prefix: str) -> str:
    """Return a name for a run that nobody has named."""
    return f"{prefix}-{new_id()[:8]}"


def accept(queue: Queue, org: Org, sources: Iterable[Source], options: EnqueueOptions) -> Iterator[Enqueued]:
    """Enqueue what comes in, chunk by chunk; what is yielded is durable, and memory stays flat.

    The same call with the same sources again is the same acceptance. The sources are read in the caller's
    thread; each chunk is read, checked and written while the one before is on its way to the disk.

    Raises:
        NoRoom: the queue or Redis is full; how many were accepted before, it says.
        StoreError: Redis can't take it; what was yielded before is accepted, and trying again is safe.
    """
    chunks, accepted = _chunks(queue, org, sources, options), 0
    chunk, failure = next(chunks, None), None
    with ThreadPoolExecutor(1, "enqueue") as sender:
        while chunk:
            # In the caller's context: its trace goes on in the other thread.
            send = partial(sender.submit, copy_context().run, queue.hand_in, chunk.written)
            sent = send()
            try:
                following = next(chunks, None)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets it, after what was sent
                following, failure = None, error
            try:
                with chunk.written.span.ending():
                    answers = _answers(sent, send, options)
            except NoRoom as error:
                raise NoRoom(error.reason, accepted=accepted) from error
            done = chunk.outcome(options, answers)
            accepted += done.accepted
            yield done
            chunk = following
    if failure:
        raise failure


@dataclass(frozen=True, slots=True)
class _Chunk:
    org: str
    items: Sequence[Item]
    problems: Sequence[Invalid | None]
    warnings: tuple[Warned, ...]
    written: Written

    def outcome(self, options: EnqueueOptions, answers: Sequence[Answer]) -> Enqueued:
        """Say what became of it."""
        counts = Counter(answers)

        def rows_of(meant: Answer) -> list[str]:
            return [item.row for item, it in zip(self.items, answers, strict=True) if it is meant]

        told = {NEAR_DUPLICATE: rows_of(Answer.SIMILAR), OF_ANOTHER: rows_of(Answer.CONFLICT)}
        warnings = (Warned(why, len(its), tuple(its[:ROWS_NAMED])) for why, its in told.items() if its)
        remarkable = zip(self.items, self.problems, answers, strict=True)
        notes = [note(self.org, *each) for each in remarkable if each[2] not in _UNREMARKABLE]
        return Enqueued(
            options.run,
            accepted=sum(counts[answer] for answer in TAKEN),
            repeated=counts[Answer.REPEATED],
            duplicates=sum(counts[answer] for answer in _KNOWN_BEFORE),
            invalid=counts[Answer.INVALID],
            noted=tuple(noted for noted in notes if noted),
            warnings=(*self.warnings, *warnings),
            near_duplicates=counts[Answer.SIMILAR] + counts[Answer.HELD],
            held=counts[Answer.HELD],
        )


def _chunks(queue: Queue, org: Org, sources: Iterable[Source], options: EnqueueOptions) -> Iterator[_Chunk]:
    remaining = iter(sources)
    for number in range(2**62):
        taken, cut_off = next_chunk(remaining)
        if not taken:
            return
        yield _chunk(queue, org, taken, options, number)
        if cut_off:
            raise cut_off


def _chunk(queue: Queue, org: Org, taken: Sequence[Source], options: EnqueueOptions, number: int) -> _Chunk:
    items, problems, odd = map(list, zip(*prepared(taken, org, options), strict=True))
    warned = (
        Warned(why, 1, (item.row,)) for item, reasons in zip(items, odd, strict=True) for why in reasons
    )
    if options.again:
        items = renewed(queue.client, org.name, items)
    written = queue.write_down(
        org,
        run=options.run,
        items=items,
        call=f"{options.call}.{number}",
        urgent=options.urgent,
        source=options.source,
        repeats="" if options.allow_duplicates else options.repeats,
        starts_ms=options.starts_ms,
    )
    return _Chunk(org.name, items, problems, add_up(warned), written)


def next_chunk(rows: Iterator[Source]) -> tuple[list[Source], FileError | None]:
    """Take up to 1,000 rows; where their file ends too early behind them, the error comes with them.

    Raises:
        FileError: it ends before the first of them.
    """
    taken: list[Source] = []
    try:
        taken.extend(islice(rows, CHUNK))  # keeps what came before an error
    except FileError as error:
        if not taken:
            raise
        return taken, error
    return taken, None


def _answers(
    sent: Future[list[Answer]], send: Callable[[], Future[list[Answer]]], options: EnqueueOptions
) -> list[Answer]:
    """Return the answers for a chunk that was sent; if that is wanted, wait for room in growing pauses."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return sent.result()
        except NoRoom as error:
            if not options.wait:
                raise
            options.on_wait(error.reason)
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        sent = send()


def as_many(items: object) -> Iterable[object]:
    """Return the items that were handed in; one alone is taken as well.

    Raises:
        ConfigError: it is neither an item nor many.
    """
    if isinstance(items, BadgeIssue | Mapping):  # of which both could be iterated
        return (items,)
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise ConfigError(f"items must be a list of badges, not {type(items).__name__}")
    return items


def sources(items: object, call: str, *, first: int = 0) -> Iterator[Source]:
    """Number items that have no rows of their own: the place in the call is where they came from.

    Raises:
        ConfigError: it is neither an item nor many.
    """
    for n, item in enumerate(as_many(items), first):
        yield Source(f"{call[:12]}.{n}", item)


def total(run: str, chunks: Iterable[Enqueued]) -> Enqueued:
    """Add up what became of each chunk; of the notes the first are kept, so that memory stays flat."""
    accepted = duplicates = invalid = repeated = near = held = 0
    noted: list[Noted] = []
    warnings: tuple[Warned, ...] = ()
    for chunk in chunks:
        accepted += chunk.accepted
        duplicates += chunk.duplicates
        invalid += chunk.invalid
        repeated += chunk.repeated
        near += chunk.near_duplicates
        held += chunk.held
        noted += chunk.noted[: NOTED_KEPT - len(noted)]
        warnings = add_up((*warnings, *chunk.warnings))
    return Enqueued(run, accepted, duplicates, invalid, tuple(noted), repeated, warnings, near, held)


class Prepared(NamedTuple):
    """What came in as the queue takes it, what is wrong with it, and what is odd about it."""

    item: Item
    problem: Invalid | None
    warnings: Sequence[str]


def prepared(rows: Sequence[Source], org: Org, options: EnqueueOptions) -> Iterator[Prepared]:
    """Yield what ``item_of`` makes of each row, in a third of its time for those that files mostly have."""
    for row, plain in zip(rows, plain_rows(org.name, rows), strict=True):
        yield (
            item_of(row, org, options) if plain is None or options.allow_duplicates else _plainly(row, plain)
        )


def item_of(source: Source, org: Org, options: EnqueueOptions) -> Prepared:
    """Check what came in and make a job of it, an invalid one included."""
    issue = source.problem or read_badge(source.item, org=org.name, strict_dates=org.strict_dates)
    odd = [source.warning] if source.warning else []
    if isinstance(issue, Invalid):
        return Prepared(_invalid(source, issue, org), issue, odd)
    badge = issue.badge
    odd += warnings_of(source.item, badge)
    content = content_id(org.name, badge)
    fields = badge_fields(badge)
    if source.others:
        fields |= others_field(source.others)
    if issue.job_id:
        return Prepared(Item(issue.job_id, source.row, fields, fingerprint=content), None, odd)
    if options.allow_duplicates:
        content = content_id(org.name, badge, options.run, source.row)
    return Prepared(Item(content, source.row, fields), None, odd)


def _plainly(source: Source, plain: Plain) -> Prepared:
    name, customer, event, expiry, content, is_iso = plain
    dates = (_EVENT_ISO, _EXPIRY_ISO) if is_iso else (_EVENT, _EXPIRY)
    fields: dict[str, str] = {_NAME: name, _CUSTOMER: customer, dates[0]: event, dates[1]: expiry}
    if source.others:
        fields |= others_field(source.others)
    return Prepared(Item(content, source.row, fields), None, [])


def _invalid(source: Source, problem: Invalid, org: Org) -> Item:
    raw = _raw_of(source)
    fields: dict[str, str] = {
        Field.CODE: problem.field or "row",
        Field.MESSAGE: bounded(problem.words_within(FAULTS_BYTES - 40), FAULTS_BYTES),
        Field.RAW_ROW if source.problem else Field.RAW_ITEM: raw[:RAW_BYTES],
    }
    fields |= others_field(source.others)
    return Item(invalid_id(source, org), source.row, fields, kind=DeadKind.INVALID)


def invalid_id(source: Source, org: Org) -> str:
    """Return the id of an invalid row's job: what came in alike has the same."""
    return short_hash(org.name, "invalid", _raw_of(source))


def _raw_of(source: Source) -> str:
    return (source.problem and source.raw) or as_text(source.item)


def as_text(item: object) -> str:
    """Write anything down, the same thing always alike; fit for Redis, but not bounded."""
    for write in (partial(json.dumps, default=str, sort_keys=True), reprlib.repr):
        with suppress(Exception):  # which ones, foreign objects decide
            return write(item).encode("utf-8", "replace").decode()
    return f"({type(item).__name__} that can't be written)"


def note(org: str, item: Item, problem: Invalid | None, answer: Answer) -> Noted | None:
    """Say why an item was not simply accepted."""
    if answer in _UNREMARKABLE:
        return None
    field, job = problem.field if problem else None, quote(item.id)
    its = f"--org {org} " if item.fingerprint else ""  # a producer's own id may be another org's, too
    match answer:
        case Answer.INVALID if problem:
            kind, reason = "invalid", problem.words
        case Answer.DEAD if problem:
            kind, reason = "dead", f"as wrong as before, and not mended: {problem.words}"
        case Answer.DEAD:
            kind, reason = (
                "dead",
                f"already a dead letter; why, and what to do about it: badges job show {its}{job}",
            )
        case Answer.IN_DOUBT:
            resolve = f"badges dead resolve {its}{job} --issued or --not-issued"
            kind, reason = "in doubt", f"look it up at the vendor, then: {resolve}"
        case Answer.HELD:
            kind, reason = "repeat", f"{HELD}; to send it: badges dead replay --kind repeat {its}--job={job}"
        case Answer.CANCELLED:
            again = f"badges dead replay --kind cancelled {its}--job={job}"
            kind, reason = "dead", f"its run is cancelled, and so is what comes to it; to send it: {again}"
        case Answer.REMEMBERED | Answer.UNDONE:
            kind, reason = "duplicate", _OF_DUPLICATES[answer]
        case Answer.REPLACED:
            kind, reason = "dead", f"was mended: another job took its place, see: badges job show {its}{job}"
        case _:
            kind, field, reason = "conflict", "job_id", "this id was used before for another badge"
    return Noted(item.row, field, reason, kind)
