"""The report: what became of each job, for a person to open in a spreadsheet, mend and import again.

The contract's columns come first, then the number of the row in the file it came from, the reason in words,
and the input as it came in. What importing one does is in ``mending.py``.
"""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NoReturn

from worker.domain.identity import request_id
from worker.domain.job import DeadKind, State
from worker.domain.org import DEFAULT_ORG
from worker.domain.text import cell, iso_time
from worker.files.columns import FIELDS, ORG, folded, guarded
from worker.files.xlsx_writer import xlsx_pieces
from worker.store.record import (
    Field,
    Record,
    badge_of,
    failed_calls,
    is_newer,
    number_of,
    others_of,
    raw_of,
    state_of,
    takes_back,
)

_DATES: Final = {
    "earnEventDate": Field.EARN_EVENT_DATE,
    "earnEventDateISO": Field.EARN_EVENT_DATE_ISO,
    "earnExpiresOn": Field.EARN_EXPIRES_ON,
    "earnExpiresOnISO": Field.EARN_EXPIRES_ON_ISO,
}
_EPOCHS: Final = (Field.EARN_EVENT_DATE, Field.EARN_EXPIRES_ON)
_ELSEWHERE: Final = frozenset({"error", "columns"})
_ERROR = ("kind", "code", "message")
_UNDONE: Final = ("undone_at", "undone_by", "undone_note")
_NUMBERS: Final = ("attempts", "row")  # of a workbook's columns; ids stay text, which loses no digit
NEWER = "newer"  # what is shown instead of a state, where we can't read the record

HAND_IN_AGAIN: Final = "correct it and hand it in again"  # what came in without a file

ResultForm = Literal["jsonl", "csv"]


class _Echo:
    """A file that hands back what is written to it."""

    def write(self, text: str) -> str:
        return text


def result_lines(
    rows: Iterable[Mapping[str, Any]], *, form: ResultForm, columns: Sequence[str] = ()
) -> Iterator[str]:
    """Yield a text for each row, ending with its line; before those of a CSV comes one of the columns' names.

    In a CSV a cell that a spreadsheet would change (a formula, a date, a long number) begins with
    an apostrophe; importing the report takes it away again. Behind the report's own columns come those of the
    person's file that are named in ``columns``; one that has the name of a report's column gets another.
    """
    if form == "jsonl":
        yield from (json.dumps(row) + "\n" for row in rows)
        return
    writer: Any = csv.writer(_Echo())
    yield writer.writerow([guarded(name) for name in _names(columns)])
    for row in rows:
        yield writer.writerow(
            ["" if value is None else guarded(cell(value)) for value in _values(row, columns)]
        )


def result_workbook(rows: Iterable[Mapping[str, Any]], *, columns: Sequence[str] = ()) -> Iterator[bytes]:
    """Yield the pieces of an Excel workbook with the same columns; all but two are text, and stay it.

    Only what begins with an apostrophe gets one more, so that importing the report can take one away.

    Raises:
        FileError: there are more rows than a sheet may have.
    """
    names = _names(columns)
    numbers = [name in _NUMBERS for name in names]

    def cells(row: Mapping[str, Any]) -> list[str | int | None]:
        values = zip(_values(row, columns), numbers, strict=True)
        return [
            value if is_number and isinstance(value, int) else _with_apostrophe(cell(value))
            for value, is_number in values
        ]

    return xlsx_pieces([_with_apostrophe(name) for name in names], map(cells, rows))


def _with_apostrophe(text: str) -> str:
    return guarded(text) if text[:1] == "'" else text


def _names(columns: Sequence[str]) -> list[str]:
    """Return the names of a report's columns, those of the person's file last."""
    own = list(_flat(report_row("", "", {})))
    taken = set(map(folded, own))
    return own + [name if folded(name) not in taken else f"{name} (of the file)" for name in columns]


def _values(row: Mapping[str, Any], columns: Sequence[str]) -> list[Any]:
    others = row.get("columns", {})
    return [*_flat(row).values(), *(others.get(name) for name in columns)]


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Put the parts of the error into columns of their own, behind the contract's others."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "row":
            flat |= {f"error_{part}": (row["error"] or {}).get(part) for part in _ERROR}
        if name not in _ELSEWHERE:
            flat[name] = value
    for name in _UNDONE:
        flat.setdefault(name)
    flat["warnings"] = "; ".join(row["warnings"])
    return flat


def result_row(org: str, job_id: str, record: Record) -> dict[str, Any]:
    """Return the job as ``badges results`` shows it; names and order are the contract's."""
    expires_on = record.get(Field.EXPIRES_ON)
    return {
        "job_id": job_id,
        "run": record.get(Field.RUN),
        "org": org,
        "badgeMetaId": record.get(Field.BADGE_META_ID),
        "customerId": number_of(record.get(Field.CUSTOMER_ID)),
        "state": NEWER if is_newer(record) else state_of(record),
        "attempts": int(record.get(Field.ATTEMPTS, 0)),
        "earnedBadgeId": record.get(Field.EARNED_BADGE_ID),
        "issuedId": record.get(Field.ISSUED_ID),
        "requestId": record.get(Field.REQUEST_ID),
        "expiresOn": None if expires_on is None else float(expires_on),
        "expiresOnISO": record.get(Field.EXPIRES_ON_ISO),
        "warnings": _warnings(record),
        "error": _error(record),
        "enqueued_at": iso_time(record.get(Field.ENQUEUED_AT)),
        "finished_at": iso_time(record.get(Field.FINISHED_AT)),
    }


def _error(record: Record) -> dict[str, Any] | None:
    if Field.CODE not in record or state_of(record) in (State.ISSUED, State.UNDONE):
        return None
    message = record.get(Field.MESSAGE)
    return {"kind": record.get(Field.KIND), "code": record[Field.CODE], "message": message}


def _warnings(record: Record) -> list[str]:
    has_badge = Field.BADGE_META_ID in record and Field.CUSTOMER_ID in record
    ours = badge_of(record).warnings() if has_badge else []
    return ours + ([theirs] if (theirs := record.get(Field.WARNINGS)) else [])


def report_row(org: str, job_id: str, record: Record, *, discarded: bool = False) -> dict[str, Any]:
    """Return a job as ``badges results`` writes it; an invalid one with its fields as they came in.

    ``row`` is the number of its row in the file that it came in with, where that was a file. ``raw`` is what
    was written, where it could not be told apart into fields. Where that file had other columns, ``columns``
    has their cells. ``discarded`` says of a dead job that somebody took it off the list.
    """
    row = result_row(org, job_id, record)
    row |= {"row": file_row(record), "reason": reason(org, job_id, record, discarded=discarded)}
    row |= {name: _value(field, record) for name, field in _DATES.items()}
    row["raw"] = None
    row |= _request_ids(record)
    if record.get(Field.KIND) == DeadKind.INVALID:
        item = invalid_item(record)
        row |= {name: value for name, value in (item or {}).items() if name not in ("job_id", ORG)}
        row["raw"] = raw_of(record) if item is None else None
    return row | ({"columns": others} if (others := others_of(record)) else {})


def _request_ids(record: Record) -> dict[str, str | None]:
    """Return the id that its last call carried, and the one that came back with it, to ask the vendor by."""
    batch, of_row = record.get(Field.BATCH), record.get(Field.REQUEST_ID, "")
    theirs = of_row.rpartition("_")[0] or of_row
    calls = list(failed_calls(record))
    if not theirs and calls and calls[-1].batch == batch:
        theirs = calls[-1].request.strip("-")
    return {"sent_request_id": request_id(batch) if batch else None, "answered_request_id": theirs or None}


def file_row(record: Record) -> int | None:
    """Return the number of the row in the file that a job came in with; ``None`` if it came in otherwise."""
    came_from = record.get(Field.ROW, "")
    is_file = came_from.isdecimal() and came_from != record.get(Field.REPLAY_OF)
    return int(came_from) if is_file else None


def invalid_item(record: Record) -> dict[str, Any] | None:
    """Return the fields of an invalid row as they came in; ``None`` if they fit into no columns."""
    try:
        item = json.loads(record[Field.RAW_ITEM], parse_constant=_refuse)
        json.dumps(item, ensure_ascii=False).encode()
    except (KeyError, ValueError):
        return None
    return item if isinstance(item, dict) and {*FIELDS, ORG}.issuperset(item) else None


def reason(org: str, job_id: str, record: Record, *, discarded: bool = False) -> str | None:
    """Say in words why a job isn't issued, and what can be done about it; nothing, if it was discarded."""
    code, message = record.get(Field.CODE, ""), record.get(Field.MESSAGE, "")
    what = f"{message} ({code})" if message else code
    match state_of(record):
        case State.RETRYING:
            return f"waits for its next attempt: {what}"
        case State.DEAD if Field.REPLAYED_AS in record:
            return f"mended since: job {record[Field.REPLAYED_AS]} took its place"
        case State.DEAD:
            if record[Field.KIND] == DeadKind.INVALID:
                what = message if code == "row" else f"{code}: {message}"
            return f"discarded since: {what}" if discarded else f"{what}; {_cure(org, job_id, record)}"
    return None


def argument(text: str) -> str:
    """Write foreign text as an argument of a command that a person copies into a shell; it comes last."""
    return f"-- {shlex.quote(text)}" if text.startswith("-") else shlex.quote(text)


def of_org(org: str) -> str:
    """Write the option that says an org, with a blank behind it; nothing for the default one."""
    return "" if org == DEFAULT_ORG else f"{option('org', org)} "


def option(name: str, text: str) -> str:
    """Write foreign text as an option's value, in the same way."""
    return f"--{name}{'=' if text.startswith('-') else ' '}{shlex.quote(text)}"


def _cure(org: str, job_id: str, record: Record) -> str:
    kind = record[Field.KIND]
    if kind == DeadKind.INVALID:
        mend = "fill in the cells from raw" if invalid_item(record) is None else "mend the cell"
        return f"{mend} and import this file again" if file_row(record) is not None else HAND_IN_AGAIN
    its = (
        f"--org {org} " if Field.FINGERPRINT in record else ""
    )  # a producer's own id may be another org's, too
    job = f"{its}{option('job', job_id)}"
    replay = f"badges dead replay {job}"
    if takes_back(record) and kind != DeadKind.IN_DOUBT:
        return f"its badge wasn't taken back; to take it back: {replay}"
    if kind == DeadKind.IN_DOUBT:
        look = f"badges dead resolve --issued {its}{argument(job_id)} (or --not-issued)"
        return f"it may have been issued: look it up at the vendor, then: {look}"
    if kind == DeadKind.REPEAT:
        drop = f"badges dead discard {job}"
        return f"to send it all the same: badges dead replay --kind repeat {job}; else: {drop}"
    if kind == DeadKind.REJECTED:
        mend = "mend the row and import this file again" if file_row(record) is not None else HAND_IN_AGAIN
        return f"{mend}, or: {replay}"
    return f"to send it again: {replay}"


def _value(field: Field, record: Record) -> int | str | None:
    return int(record[field]) if field in _EPOCHS and field in record else record.get(field)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
