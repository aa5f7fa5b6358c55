"""A job's record as it lies in Redis: one string, written when the job is accepted and when it has ended.

Its fields stand apart by a byte that no field holds; empty ones at the end are left out. Scripts know the
same fields by the same names (``lua/_record.lua``; ``lua_tables`` gives them their places). What lies in no
record is that a job is being sent: that is what the batches in flight say (``lua/_sending.lua``). A job and
its states are in ``domain/job.py``, what is shown of it in ``operate/report.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from worker.domain.badge import Badge
from worker.domain.identity import PAIR_LETTERS
from worker.domain.job import DeadKind, Job, State
from worker.domain.text import cell, printable

# The version of the records and structures that this program writes, and the newest that it reads.
VERSION = 2
SEPARATOR, LINE = "\x1f", "\x1e"
ISSUE, REVOKE = "i", "r"  # the kinds of jobs: whose call issues a badge, or takes it back
# What is remembered lies in buckets by the first letters of ids, once there are MANY by one letter more.
BUCKET_LETTERS, MANY = (3, 4), 3_000_000
HELD = "this badge of this customer was accepted before, with other dates"
AS_EXPIRES_ON = "="
CANCELLED = "it was cancelled before it was sent"  # the words of that code, which no record holds
OTHER = "other"  # the group, and the counter, of what there are too many kinds of
TEXT_BYTES, CODE_BYTES, FAULT_BYTES, FAULTS_BYTES, RAW_BYTES = 240, 64, 100, 1500, 2000
OTHERS_BYTES, OTHER_LENGTH = 960, 200  # of all cells of a row that stand for no field, and signs of one


class Field(StrEnum):
    """The fields of a record, in their order, by which they are read: a new one goes behind the last."""

    __hash__ = str.__hash__  # an enum's own is written in Python, and every field of every job asks for it

    VERSION = "version"
    FINISHED_AT = "finished_at"  # ms
    ENQUEUED_AT = "enqueued_at"  # ms
    JOB_KIND = "job_kind"
    STATE = "state"  # a letter of STATE_LETTERS
    URGENT = "urgent"  # 1 if it overtakes the bulk
    RUN = "run"
    BADGE_META_ID = "badge"
    CUSTOMER_ID = "customer"
    READY_SINCE = "ready_since"  # ms, where that isn't ENQUEUED_AT
    ATTEMPTS = "attempts"  # calls that decided, or may have decided, this job
    BUSY = "busy"  # how often the vendor was busy with its customer, which spends no attempt
    BATCH = "batch"  # the one that carried it last
    KIND = "kind"  # of dead letter
    CODE = "code"  # the vendor's error code, or our own word
    GROUP = "group"  # the number of its group of dead letters
    WAS_IN_DOUBT = "was_in_doubt"  # 1 if a call may have applied it; never cleared
    ROW = "row"  # where in the run it came from: a row's number, or the call and the place in it
    FINGERPRINT = "fingerprint"  # hash of the content, only where the id is the producer's own
    REPLAYED_AS = "replayed_as"  # the job that took its place
    REPLAY_OF = "replay_of"  # the dead letter, or the undone job, whose place it took
    START_AT = "start_at"  # unused: when a run is to start is in its hash; it keeps its place
    UNDONE = "undone"  # when its badge was revoked, ms, and the entry of the audit trail that says by whom
    # Of what follows scripts write only MESSAGE, HISTORY, ABSENT_SINCE and SECOND_EARNED_BADGE_ID.
    EARN_EVENT_DATE = "event"  # as it was given
    EARN_EVENT_DATE_ISO = "event_iso"
    EARN_EXPIRES_ON = "expiry"  # as it was given
    EARN_EXPIRES_ON_ISO = "expiry_iso"
    MESSAGE = "message"
    HISTORY = "history"  # the last calls that issued nothing: lines of "at_ms batch status request code"
    ABSENT_SINCE = "absent_since"  # the vendor showed none of it: since, ms, and the id of a later witness
    EARNED_BADGE_ID = "earned_badge_id"
    ISSUED_ID = "issued_id"
    REQUEST_ID = "request_id"
    EXPIRES_ON = "vendor_expiry"  # seconds, as the vendor answered
    EXPIRES_ON_ISO = "vendor_expiry_iso"  # AS_EXPIRES_ON where it is that in UTC, as nearly always
    WARNINGS = "vendor_warnings"
    SECOND_EARNED_BADGE_ID = "second_earned"  # the badge was issued twice
    TRACEPARENT = "traceparent"  # the context of the enqueueing, only where it was traced
    RAW_ITEM = "raw_item"  # the item as it came in, as JSON, where it was invalid; RAW_BYTES at most
    RAW_ROW = "raw_row"  # the row as it was written, where no item could be read from it; RAW_BYTES at most
    OTHERS = "others"  # the cells of columns that stand for no field, as JSON; OTHERS_BYTES at most
    REVOKES = "revokes"  # the job whose badge this one takes back


class Answer(StrEnum):
    """What ``enqueue.lua`` answers for one item; kept as letters, for a repeated call."""

    __hash__ = str.__hash__

    ACCEPTED = "a"
    SIMILAR = "s"  # accepted, though its badge and customer were before, with another content
    HELD = "h"  # accepted as a dead letter for that (by this run and row before, too)
    REPEATED = "A"  # accepted by this run and row before
    INVALID = "i"  # accepted as a dead letter at once (by this run and row before, too)
    CONFLICT = "c"  # the id was used for another badge
    DUPLICATE = "d"  # of a job that was discarded, too
    REMEMBERED = "m"  # accepted before; what became of it has expired
    DEAD = "D"  # duplicate of a dead letter
    IN_DOUBT = "Q"  # duplicate of one in doubt
    REPLACED = "R"  # duplicate of a dead letter whose place another job took
    UNDONE = "U"  # duplicate of one whose badge was revoked
    CANCELLED = "C"  # accepted as a dead letter, since its run is cancelled


class Seen(StrEnum):
    """What ``look_up.lua`` says of a row that nobody has accepted yet."""

    NEW = "n"
    KNOWN = "k"
    SIMILAR = "s"  # this badge of this customer was accepted before, with other dates or an id of its own


# "sending" is never written: it is what is shown of a queued job that a batch carries (``carried_by``).
STATE_LETTERS = {
    State.QUEUED: "q",
    State.SENDING: "s",
    State.RETRYING: "r",
    State.ISSUED: "i",
    State.DEAD: "d",
    State.UNDONE: "u",
}
_STATES = {letter: state for state, letter in STATE_LETTERS.items()}

FIELDS = tuple(Field)
PLACE: dict[str, int] = {field: place for place, field in enumerate(FIELDS)}
BADGE_FIELDS = (  # in the order of Badge
    Field.BADGE_META_ID,
    Field.CUSTOMER_ID,
    Field.EARN_EVENT_DATE,
    Field.EARN_EVENT_DATE_ISO,
    Field.EARN_EXPIRES_ON,
    Field.EARN_EXPIRES_ON_ISO,
)
SAID = (  # of a badge that was issued, in the order of Issued
    Field.EARNED_BADGE_ID,
    Field.ISSUED_ID,
    Field.REQUEST_ID,
    Field.EXPIRES_ON,
    Field.EXPIRES_ON_ISO,
    Field.WARNINGS,
)
# For what is written for every job: to look a field up by its enum costs more than to write it.
_NAME, _CUSTOMER, _EVENT, _EVENT_ISO, _EXPIRY, _EXPIRY_ISO = BADGE_FIELDS
_ENQUEUED_AT, _JOB_KIND, _STATE = PLACE[Field.ENQUEUED_AT], PLACE[Field.JOB_KIND], PLACE[Field.STATE]
_ATTEMPTS, _BATCH, _CODE, _MESSAGE = (
    PLACE[it] for it in (Field.ATTEMPTS, Field.BATCH, Field.CODE, Field.MESSAGE)
)
_ROW, _FINGERPRINT = PLACE[Field.ROW], PLACE[Field.FINGERPRINT]
_SAID_FROM, _SAID_TO = PLACE[SAID[0]], PLACE[SAID[-1]] + 1
_ISSUED = STATE_LETTERS[State.ISSUED]
_OF_JOB = itemgetter(
    *(PLACE[it] for it in (*BADGE_FIELDS, Field.ATTEMPTS, Field.BUSY, Field.TRACEPARENT, Field.RUN))
)
_EPOCH_DIGITS = 11  # until the year 5138
_ABSENT = [""] * len(FIELDS)
_UNSAFE = str.maketrans({SEPARATOR: " ", LINE: " "})
_AT_LEAST = PLACE[Field.CUSTOMER_ID] + 2  # never left out, so that scripts find the head of a record

Record = Mapping[str, str]  # of those fields that aren't empty, by name


class FailedCall(NamedTuple):
    """A call that issued nothing, as the record remembers it."""

    at: str  # ms
    batch: str
    status: str
    request: str  # the vendor's id of it, "-" where it said none
    code: str


def read(text: str) -> dict[str, str]:
    """Read a record; of one that only a newer program understands, version and run."""
    parts = zip(FIELDS, text.split(SEPARATOR), strict=False)
    record: dict[str, str] = {field: value for field, value in parts if value}
    if is_newer(record):
        return {name: record[name] for name in (Field.VERSION, Field.RUN) if name in record}
    if record.get(Field.KIND) == DeadKind.CANCELLED:
        record.setdefault(Field.MESSAGE, CANCELLED)
    if record.get(Field.EXPIRES_ON_ISO) == AS_EXPIRES_ON and (
        iso := _in_utc(record.get(Field.EXPIRES_ON, ""))
    ):
        record[Field.EXPIRES_ON_ISO] = iso
    return record


def new(fields: Record) -> list[str]:
    """Begin a new record by the fields that all of a call have; ``accepted`` writes each with its own."""
    parts = _ABSENT.copy()
    parts[PLACE[Field.JOB_KIND]], parts[PLACE[Field.STATE]] = ISSUE, STATE_LETTERS[State.QUEUED]
    _replace(parts, fields)
    return parts


def accepted(begun: Sequence[str], fields: Record, *, row: str = "", fingerprint: str = "") -> str:
    """Write a new record as ``enqueue.lua`` takes it: without the times that come first, which it adds."""
    parts = [*begun]
    parts[_ROW], parts[_FINGERPRINT] = row, fingerprint
    _replace(parts, fields)
    return _joined(parts, _JOB_KIND)


def split(text: str) -> list[str]:
    """Return all fields of a record, in their order."""
    parts = text.split(SEPARATOR)
    parts += _ABSENT[len(parts) :]
    return parts


def changed(stored: Sequence[str], fields: Record) -> str:
    """Write a record with other fields as ``settle.lua`` takes it: without the end's time, which it adds."""
    parts = [*stored]
    _replace(parts, fields)
    return _joined(parts, _ENQUEUED_AT)


def issued(stored: Sequence[str], *, batch: str, attempts: int, said: Sequence[str]) -> str:
    """Write the record of a job whose badge was issued, as ``changed`` does, in a fifth of its time.

    ``said`` are the vendor's fields, in the order of ``SAID``; what was said of earlier attempts goes.
    """
    if not "".join(said).isprintable():
        said = [value.translate(_UNSAFE) for value in said]
    parts = [*stored[:_SAID_FROM], *said, *stored[_SAID_TO:]]
    parts[_STATE], parts[_ATTEMPTS], parts[_BATCH] = _ISSUED, str(attempts), batch
    parts[_CODE] = parts[_MESSAGE] = ""
    return SEPARATOR.join(parts[_ENQUEUED_AT:]).rstrip(SEPARATOR)  # which no value holds


def expiry_iso(iso: str, expires_on: str) -> str:
    """Write the date that the vendor says beside ``expires_on``, both of them as it said them."""
    return {_in_utc(expires_on): AS_EXPIRES_ON, AS_EXPIRES_ON: ""}.get(iso, iso)


@lru_cache(maxsize=4096)  # the dates of a campaign are few
def _in_utc(seconds: str) -> str:
    if not seconds.isdecimal() or len(seconds) > _EPOCH_DIGITS:
        return ""
    return f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%dT%H:%M:%SZ}"


def _replace(parts: list[str], fields: Record) -> None:
    for name, value in fields.items():
        parts[PLACE[name]] = value if value.isprintable() else value.translate(_UNSAFE)


def _joined(parts: list[str], first: int) -> str:
    body = SEPARATOR.join(parts[_AT_LEAST:]).rstrip(SEPARATOR)  # which no value holds
    head = SEPARATOR.join(parts[first:_AT_LEAST])
    return f"{head}{SEPARATOR}{body}" if body else head


def bounded(value: str, size: int = TEXT_BYTES) -> str:
    """Cut a text to at most ``size`` bytes, at a whole character."""
    return value.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


def badge_fields(badge: Badge) -> dict[str, str]:
    """Return the record's fields of a badge."""
    name, customer, event, event_iso, expiry, expiry_iso = badge
    fields: dict[str, str] = {_NAME: name, _CUSTOMER: str(customer)}
    if event is not None:
        fields[_EVENT] = str(event)
    if event_iso is not None:
        fields[_EVENT_ISO] = event_iso
    if expiry is not None:
        fields[_EXPIRY] = str(expiry)
    if expiry_iso is not None:
        fields[_EXPIRY_ISO] = expiry_iso
    return fields


def badge_of(record: Record) -> Badge:
    """Read the badge back from a record's fields."""
    get = record.get
    return Badge(
        get(Field.BADGE_META_ID, ""),
        number_of(get(Field.CUSTOMER_ID)),
        number_of(get(Field.EARN_EVENT_DATE)),
        get(Field.EARN_EVENT_DATE_ISO),
        number_of(get(Field.EARN_EXPIRES_ON)),
        get(Field.EARN_EXPIRES_ON_ISO),
    )


def number_of(value: str | None) -> Any:
    """Read a number; other text stays as it is, so that one bad record spoils nothing for the others."""
    try:
        return int(value) if value else None
    except ValueError:
        return value


def job_of(job_id: str, stored: str) -> Job:
    """Read a job as a batch carries it."""
    parts = split(stored)
    name, customer, event, event_iso, expiry, expiry_iso, attempts, busy, traceparent, run = _OF_JOB(parts)
    badge = Badge(name, number_of(customer), *_dates_of(event, event_iso, expiry, expiry_iso))
    tried, met_busy = attempts and number_of(attempts), busy and number_of(busy)
    return Job(job_id, badge, tried or 0, met_busy or 0, traceparent, run, parts)


@lru_cache(maxsize=4096)  # the dates of a campaign are few
def _dates_of(
    event: str, event_iso: str, expiry: str, expiry_iso: str
) -> tuple[Any, str | None, Any, str | None]:
    return number_of(event), event_iso or None, number_of(expiry), expiry_iso or None


def takes_back(record: Record) -> bool:
    """Say whether a job is an undo's, whose call takes a badge back."""
    return record.get(Field.JOB_KIND) == REVOKE


def state_of(record: Record) -> State | None:
    """Return the state that a record holds; ``None`` if it holds none that we know."""
    return _STATES.get(record.get(Field.STATE, ""))


def carried_by(record: Record, batch: str | None) -> Record:
    """Return what is to be shown of a job that this batch carries, if any does."""
    if not batch or state_of(record) is not State.QUEUED:
        return record
    return {**record, Field.STATE: STATE_LETTERS[State.SENDING], Field.BATCH: batch}


def raw_of(record: Record) -> str | None:
    """Return an invalid item as it came in: the row as it was written, else the item as JSON."""
    return record.get(Field.RAW_ROW, record.get(Field.RAW_ITEM))


def fault_of(record: Record) -> str:
    """Return what is wrong with an invalid row: its reason, without the value that this quotes."""
    return bounded(record.get(Field.MESSAGE, "").partition("“")[0], FAULT_BYTES)


def failed_calls(record: Record) -> Iterator[FailedCall]:
    """Yield the last calls that issued nothing, oldest first."""
    for line in record.get(Field.HISTORY, "").split(LINE):
        if line:
            yield FailedCall(*line.split(" ", 4))


def batches_of(record: Record) -> set[str]:
    """Return the batches that carried a job, as far as its record tells."""
    return {record.get(Field.BATCH, ""), *(call.batch for call in failed_calls(record))} - {""}


def others_field(others: Mapping[str, Any]) -> dict[str, str]:
    """Return the record's field for the cells of columns that stand for no field; empty cells are left out.

    They are bounded: a long cell is cut, and one that doesn't fit any more is only marked by an ellipsis.
    """
    kept: dict[str, str] = {}
    for name, value in others.items():
        if text := cell(value):
            cut = text if len(text) <= OTHER_LENGTH else f"{text[:OTHER_LENGTH]}…"
            column = printable(name)
            kept |= next((one for one in ({column: cut}, {column: "…"}) if _fits(kept | one)), {})
    return {Field.OTHERS: _compact(kept)} if kept else {}


def _fits(others: Mapping[str, str]) -> bool:
    return len(_compact(others).encode()) <= OTHERS_BYTES


def _compact(others: Mapping[str, str]) -> str:
    return json.dumps(others, ensure_ascii=False, separators=(",", ":"))


def others_of(record: Record) -> dict[str, str]:
    """Return the cells of columns that stand for no field, by column."""
    text = record.get(Field.OTHERS)
    return dict(json.loads(text)) if text else {}


def has_others(stored: str) -> bool:
    """Say whether a record may have such cells, without reading it: empty fields at its end are left out."""
    return stored.count(SEPARATOR) >= PLACE[Field.OTHERS]


def handed_on(record: Record) -> dict[str, str]:
    """Return the fields that a job hands on to the one that takes its place: the other cells of its row."""
    return {Field.OTHERS: record[Field.OTHERS]} if Field.OTHERS in record else {}


def is_newer(record: Record) -> bool:
    """Say whether only a newer version of this program can read a record, or none that we know."""
    version = record.get(Field.VERSION, str(VERSION))
    return not version.isdecimal() or int(version) > VERSION


def lua_tables() -> dict[str, dict[str, str | int]]:
    """Return what the scripts know by name: FIELD, STATE, WORD, KIND, ANSWER, SEEN."""
    letters = {state.value: letter for state, letter in STATE_LETTERS.items()}
    return {
        "FIELD": {str(field): place + 1 for field, place in PLACE.items()},
        "STATE": dict(letters),
        "WORD": {letter: word for word, letter in letters.items()},
        "KIND": {kind.value: kind.value for kind in DeadKind},
        "ANSWER": {answer.name.lower(): answer.value for answer in Answer},
        "SEEN": {seen.name.lower(): seen.value for seen in Seen},
    }


def lua_values() -> dict[str, str | int]:
    """Return the scripts' other constants."""
    few, more = BUCKET_LETTERS
    return {
        "FEW_LETTERS": few,
        "MORE_LETTERS": more,
        "MANY": MANY,
        "PAIR_LETTERS": PAIR_LETTERS,
        "RECORD_VERSION": VERSION,
        "FIELDS": len(FIELDS),
        "SEPARATOR": SEPARATOR,
        "OTHER": OTHER,
        "REVOKE": REVOKE,
        "HELD": HELD,
    }
