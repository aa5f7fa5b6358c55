"""The record of a job: one flat Redis hash, the only truth about it, and how it is written and read.

Field names and states are single letters and values are short (64 bytes at most), so that Redis keeps the
hash as one compact listpack: a million queued jobs take a quarter of a gigabyte. What each letter means
stands here and nowhere else; Python and the scripts use the names (``lua_tables``). A job and its states are
in ``domain/job.py``, what is shown of it in ``operate/report.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from worker.domain.badge import Badge
from worker.domain.job import State
from worker.domain.text import cell, printable


class Field(StrEnum):
    """The fields of a record."""

    STATE = "s"  # a letter of STATE_LETTERS
    BADGE_META_ID = "b"
    CUSTOMER_ID = "c"
    EARN_EVENT_DATE = "e"  # as it was given
    EARN_EVENT_DATE_ISO = "E"
    EARN_EXPIRES_ON = "x"  # as it was given
    EARN_EXPIRES_ON_ISO = "X"
    RUN = "r"
    ROW = "n"  # where in the run it came from: a row's number, or the call and the place in it
    FINGERPRINT = "p"  # hash of the content, only where the id is the producer's own
    ENQUEUED_AT = "t"  # ms
    READY_SINCE = "g"  # ms, where that isn't ENQUEUED_AT
    ATTEMPTS = "a"  # calls that decided, or may have decided, this job
    BUSY = "u"  # how often the vendor was busy with its customer, which spends no attempt
    URGENT = "U"  # 1 if it is urgent
    BATCH = "B"  # the batch that carries it, or carried it last
    FINISHED_AT = "f"  # ms
    KIND = "k"  # of dead letter
    CODE = "o"  # the vendor's error code, or our own word
    MESSAGE = "m"  # longer ones go on in m1, m2, m3 (``text_fields``)
    EARNED_BADGE_ID = "i"
    ISSUED_ID = "I"
    REQUEST_ID = "q"
    EXPIRES_ON = "y"  # seconds, as the vendor answered
    EXPIRES_ON_ISO = "Y"
    WARNINGS = "v"  # the vendor's
    ABSENT_SINCE = "z"  # in doubt, but the vendor showed none of it: since, ms, and the id of a later witness
    SECOND_EARNED_BADGE_ID = "j"  # the badge was issued twice
    REPLAYED_AS = "R"  # the job that took its place
    REPLAY_OF = "O"  # the dead letter whose place it took
    VERSION = "V"  # RECORD_VERSION, where it takes more than the first version to read this record
    RAW_ITEM = "w"  # the item as it came in, as JSON, where it was invalid; RAW_BYTES at most
    RAW_ROW = "W"  # the row as it was written, where no item could be read from it; RAW_BYTES at most
    OTHERS = "C"  # the cells of columns that stand for no field, as JSON; goes on in C1 to C15
    FAILURES = "H"  # how many calls issued nothing
    FAILURE = "h"  # h0 to h9: the last of these calls, each "at_ms batch status code"
    TRACEPARENT = "T"  # the context of the enqueueing, only where it was traced


class Answer(StrEnum):
    """What ``enqueue.lua`` answers for one item; kept as letters, for a repeated call."""

    ACCEPTED = "a"
    REPEATED = "A"  # accepted by this run and row before
    INVALID = "i"  # accepted as a dead letter at once (by this run and row before, too)
    CONFLICT = "c"  # the id was used for another badge
    DUPLICATE = "d"  # of a job that was discarded, too
    DEAD = "D"  # duplicate of a dead letter
    IN_DOUBT = "Q"  # duplicate of one in doubt
    REPLACED = "R"  # duplicate of a dead letter whose place another job took


STATE_LETTERS = {
    State.QUEUED: "q",
    State.SENDING: "s",
    State.RETRYING: "r",
    State.ISSUED: "i",
    State.DEAD: "d",
}
_STATES = {letter: state for state, letter in STATE_LETTERS.items()}

# The newest version of a record that this program reads. It writes VERSION only into one that an older
# program would misread; an older one leaves that alone (``newer`` in ``lua/_common.lua``), and so do we.
RECORD_VERSION = 1
VALUE_BYTES = 64
TEXT_PIECES = 4
OTHER_PIECES = 16
OTHER_LENGTH = 200  # signs of one cell
LONGEST_SIGN = 4  # in UTF-8, bytes
RAW_BYTES = 2000

# In the order of Badge.
BADGE_FIELDS = (
    Field.BADGE_META_ID,
    Field.CUSTOMER_ID,
    Field.EARN_EVENT_DATE,
    Field.EARN_EVENT_DATE_ISO,
    Field.EARN_EXPIRES_ON,
    Field.EARN_EXPIRES_ON_ISO,
)
OTHER_NAMES = tuple(f"{Field.OTHERS}{n or ''}" for n in range(OTHER_PIECES))
# All that we read of a record that only a newer program understands.
_READ_OF_NEWER = (Field.VERSION, Field.RUN)

Record = Mapping[str, str]


class FailedCall(NamedTuple):
    """A call that issued nothing, as the record remembers it."""

    at_ms: str
    batch: str
    status: str
    code: str


def state_of(record: Record) -> State | None:
    """Return the state that a record holds; ``None`` if it holds none that we know."""
    return _STATES.get(record.get(Field.STATE, ""))


def badge_fields(badge: Badge) -> list[str]:
    """Return the record's fields of a badge, as ``HSET`` takes them."""
    fields: list[str] = []
    for field, value in zip(BADGE_FIELDS, badge, strict=True):
        if value is not None:
            fields += (field, str(value))
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


def number_of(text: str | None) -> Any:
    """Read a number; other text stays as it is, so that one bad record spoils nothing for the others."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return text


def raw_of(record: Record) -> str | None:
    """Return an invalid item as it came in: the row as it was written, else the item as JSON."""
    return record.get(Field.RAW_ROW, record.get(Field.RAW_ITEM))


def failed_calls(record: Record) -> Iterator[FailedCall]:
    """Yield the last calls that issued nothing, in no certain order."""
    for name, value in sorted(record.items()):
        if name[0] == Field.FAILURE and name[1:].isdigit():
            yield FailedCall(*value.split(" ", 3))


def other_fields(others: Mapping[str, Any]) -> list[str]:
    """Return the record's fields for the cells of columns that stand for no field; empty cells are left out.

    They are bounded: a long cell is cut, and one that doesn't fit any more is only marked by an ellipsis.
    """
    kept: dict[str, str] = {}
    for name, value in others.items():
        if text := cell(value):
            cut = text if len(text) <= OTHER_LENGTH else f"{text[:OTHER_LENGTH]}…"
            column = printable(name)
            kept |= next((one for one in ({column: cut}, {column: "…"}) if _fits(kept | one)), {})
    return text_fields(Field.OTHERS, _compact(kept), OTHER_PIECES) if kept else []


def _fits(others: Mapping[str, str]) -> bool:
    return len(_compact(others).encode()) <= OTHER_PIECES * (VALUE_BYTES - LONGEST_SIGN)


def _compact(others: Mapping[str, str]) -> str:
    return json.dumps(others, ensure_ascii=False, separators=(",", ":"))


def others_of(record: Record) -> dict[str, str]:
    """Return the cells of columns that stand for no field, by column."""
    text = text_of(record, Field.OTHERS, OTHER_PIECES)
    return {} if text is None else dict(json.loads(text))


def carried(record: Record) -> list[str]:
    """Return the fields that a job hands on to the one that takes its place: the other cells of its row."""
    return [part for name in OTHER_NAMES if name in record for part in (name, record[name])]


def text_fields(field: str, text: str, pieces: int = TEXT_PIECES) -> list[str]:
    """Spread a text over fields short enough to keep the record compact, ``pieces`` of them at most.

    All but the last are full, up to a sign that would have been cut: so a shorter text, written over
    a longer one, says where it ends, and what is left of the longer one is not read.
    """
    data = text.encode("utf-8", "replace")
    fields: list[str] = []
    for n in range(pieces):
        piece = data[:VALUE_BYTES].decode("utf-8", "ignore")
        fields += (f"{field}{n or ''}", piece)
        data = data[len(piece.encode()) :]
        if not _is_full(piece):
            break
    return fields


def text_of(record: Record, field: str, pieces: int = TEXT_PIECES) -> str | None:
    """Join what ``text_fields`` spread."""
    if field not in record:
        return None
    text = ""
    for n in range(pieces):
        piece = record.get(f"{field}{n or ''}", "")
        text += piece
        if not _is_full(piece):
            break
    return text


def _is_full(piece: str) -> bool:
    return len(piece.encode()) > VALUE_BYTES - LONGEST_SIGN


def is_newer(record: Record) -> bool:
    """Say whether only a newer version of this program can read a record."""
    return int(record.get(Field.VERSION, 1)) > RECORD_VERSION


def readable(record: Record) -> Record:
    """Return what we can read of a record: of one that is newer, little more than that."""
    if not is_newer(record):
        return record
    return {name: record[name] for name in _READ_OF_NEWER if name in record}


def lua_tables() -> str:
    """Return the Lua tables ``F`` of fields, ``S`` of states and ``A`` of answers, by name in lower case.

    A script that uses a name that isn't in one of them fails at once.
    """
    tables = {
        "F": {field.name: field.value for field in Field},
        "S": {state.name: letter for state, letter in STATE_LETTERS.items()},
        "A": {answer.name: answer.value for answer in Answer},
    }
    unknown = "{__index = function(_, name) error('there is no name ' .. name) end}"
    return "\n".join(
        f"local {table} = setmetatable({{"
        + ", ".join(f"{name.lower()} = '{letter}'" for name, letter in names.items())
        + f"}}, {unknown})"
        for table, names in tables.items()
    )
