"""The job: one badge to issue, its states, its id, and the record that is the only truth about it.

A record is one flat Redis hash. Its field names are single letters and its values short (64 bytes at
most), so that Redis keeps it as one compact listpack: a million queued jobs take a quarter of a gigabyte.
What each letter means stands here and nowhere else; the scripts use the same letters.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from worker.domain.badge import Badge, short_hash


class State(StrEnum):
    """Where a job is on its way; the value is what the record holds."""

    QUEUED = "q"
    SENDING = "s"
    RETRYING = "r"
    ISSUED = "i"
    DEAD = "d"

    @property
    def word(self) -> str:
        """The state in the words of the command line."""
        return self.name.lower()


TERMINAL = frozenset({State.ISSUED, State.DEAD})


class DeadKind(StrEnum):
    """Why a job needs a person."""

    REJECTED = "rejected"
    EXHAUSTED = "exhausted"
    INVALID = "invalid"
    IN_DOUBT = "in_doubt"
    CANCELLED = "cancelled"


FIELDS = {
    "s": "state, one letter of State",
    "b": "badgeMetaId",
    "c": "customerId",
    "e": "earnEventDate, as it was given",
    "E": "earnEventDateISO",
    "x": "earnExpiresOn, as it was given",
    "X": "earnExpiresOnISO",
    "r": "run",
    "n": "where in the run it came from: a row's number, or the call and the place in it",
    "p": "hash of the content, only where the id is the producer's own",
    "t": "enqueued_at, ms",
    "g": "ready since, ms, where that isn't enqueued_at",
    "a": "attempts: calls that decided, or may have decided, this job",
    "u": "how often the vendor was busy with its customer, which spends no attempt",
    "U": "1 if it is urgent",
    "B": "the batch that carries it, or carried it last",
    "f": "finished_at, ms",
    "k": "the kind of dead letter",
    "o": "the vendor's error code, or our own word",
    "m": "message; longer ones go on in m1, m2, m3",
    "i": "earnedBadgeId",
    "I": "issuedId",
    "q": "requestId",
    "y": "expiresOn, seconds, as the vendor answered",
    "Y": "expiresOnISO",
    "v": "the vendor's warnings",
    "z": "in doubt, but the vendor showed none of it: since, ms, and the id of a witness issued later",
    "j": "a second earnedBadgeId: the badge was issued twice",
    "R": "replayed_as: the job that took its place",
    "O": "replay_of: the dead letter whose place it took",
    "V": "RECORD_VERSION, where it takes more than the first version to read this record",
    "w": "the item as it came in, as JSON, where it was invalid; longer than the others, and bounded",
    "W": "the row as it was written, where no item could be read from it; bounded as well",
    "H": "how many calls issued nothing",
    "T": "traceparent: the context of the enqueueing, only where it was traced",
}
# The newest version of a record that this program reads. It writes "V" only into one that an older program
# would misread; an older one leaves that alone (``newer`` in ``scripts/_common.lua``), and so do we.
RECORD_VERSION = 1
# "h0" to "h9" are the last attempts that issued nothing: "at_ms batch status code".
VALUE_BYTES = 64
TEXT_PIECES = 4
NEWER = "newer"  # what is shown instead of a state, where we can't read the record
LONGEST_LETTER = 4  # in UTF-8, bytes
RAW_BYTES = 2000

BADGE_LETTERS = "bceExX"  # in the order of Badge


def content_hash(org: str, badge: Badge) -> str:
    """Return what stands for this content within this org."""
    return short_hash(org, badge.content())


def badge_fields(badge: Badge) -> list[str]:
    """Return the record's fields of a badge, as ``HSET`` takes them."""
    fields: list[str] = []
    for letter, value in zip(BADGE_LETTERS, badge, strict=True):
        if value is not None:
            fields += (letter, str(value))
    return fields


def badge_of(record: Mapping[str, str]) -> Badge:
    """Read the badge back from a record's fields."""
    get = record.get
    return Badge(get("b", ""), _number(get("c")), _number(get("e")), get("E"), _number(get("x")), get("X"))


def _number(text: str | None) -> Any:
    """Read a number; what is none stays as it is, so that one bad record spoils nothing for the others."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return text


def text_fields(letter: str, text: str) -> list[str]:
    """Spread a text over fields short enough to keep the record compact, four of them at most.

    All but the last are full, up to a letter that would have been cut: so a shorter text, written over
    a longer one, says where it ends, and what is left of the longer one is not read.
    """
    data = text.encode("utf-8", "replace")
    fields: list[str] = []
    for n in range(TEXT_PIECES):
        piece = data[:VALUE_BYTES].decode("utf-8", "ignore")
        fields += (f"{letter}{n or ''}", piece)
        data = data[len(piece.encode()) :]
        if not _is_full(piece):
            break
    return fields


def text_of(record: Mapping[str, str], letter: str) -> str | None:
    """Join what ``text_fields`` spread."""
    if letter not in record:
        return None
    text = ""
    for n in range(TEXT_PIECES):
        piece = record.get(f"{letter}{n or ''}", "")
        text += piece
        if not _is_full(piece):
            break
    return text


def _is_full(piece: str) -> bool:
    return len(piece.encode()) > VALUE_BYTES - LONGEST_LETTER


class Job(NamedTuple):
    """A job as a batch carries it."""

    id: str
    badge: Badge
    attempts: int = 0
    busy: int = 0
    traceparent: str = ""


def result_row(org: str, job_id: str, record: Mapping[str, str]) -> dict[str, Any]:
    """Return the job as ``badges results`` shows it; names and order are the contract's."""
    return {
        "job_id": job_id,
        "run": record.get("r"),
        "org": org,
        "badgeMetaId": record.get("b"),
        "customerId": _number(record.get("c")),
        "state": NEWER if is_newer(record) else State(record["s"]).word,
        "attempts": int(record.get("a", 0)),
        "earnedBadgeId": record.get("i"),
        "issuedId": record.get("I"),
        "requestId": record.get("q"),
        "expiresOn": float(record["y"]) if "y" in record else None,
        "expiresOnISO": record.get("Y"),
        "warnings": _warnings(record),
        "error": _error(record),
        "enqueued_at": iso_time(record.get("t")),
        "finished_at": iso_time(record.get("f")),
    }


def is_newer(record: Mapping[str, str]) -> bool:
    """Say whether only a newer version of this program can read a record."""
    return int(record.get("V", 1)) > RECORD_VERSION


def readable(record: Mapping[str, str]) -> Mapping[str, str]:
    """Return what we can read of a record: of one that is newer, little more than that."""
    return {name: record[name] for name in "Vr" if name in record} if is_newer(record) else record


def iso_time(at_ms: str | int | None) -> str | None:
    """Return an instant in the record's milliseconds as ISO 8601 in UTC."""
    if at_ms is None:
        return None
    instant = datetime.fromtimestamp(int(at_ms) / 1000, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error(record: Mapping[str, str]) -> dict[str, Any] | None:
    if "o" not in record or record["s"] == State.ISSUED:
        return None
    return {"kind": record.get("k"), "code": record["o"], "message": text_of(record, "m")}


def _warnings(record: Mapping[str, str]) -> list[str]:
    ours = badge_of(record).warnings() if "b" in record and "c" in record else []
    return ours + ([theirs] if (theirs := text_of(record, "v")) else [])
