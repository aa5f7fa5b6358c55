"""The report: what became of each job, for a person to open in a spreadsheet, mend and import again.

The contract's columns come first, then the number of the row in the file it came from, the reason in words,
and the input as it came in. What importing one does is in ``mending.py``.
"""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NoReturn

from worker.domain.job import DeadKind, State, result_row, text_of
from worker.files.columns import FIELDS, guarded

_INPUT: Final = {"e": "earnEventDate", "E": "earnEventDateISO", "x": "earnExpiresOn", "X": "earnExpiresOnISO"}


_ERROR = ("kind", "code", "message")

ResultForm = Literal["jsonl", "csv"]


class _Echo:
    """A file that hands back what is written to it."""

    def write(self, text: str) -> str:
        return text


def result_lines(rows: Iterable[Mapping[str, Any]], *, form: ResultForm) -> Iterator[str]:
    """Yield a text for each row, ending with its line; before those of a CSV comes one of the columns' names.

    In a CSV a cell that a spreadsheet would change (a formula, a date, a long number) begins with
    an apostrophe; importing the report takes it away again.
    """
    if form == "jsonl":
        yield from (json.dumps(row) + "\n" for row in rows)
        return
    writer: Any = csv.writer(_Echo())
    yield writer.writerow(_flat(report_row("", "", {"s": State.QUEUED})))
    for row in rows:
        yield writer.writerow([guarded(cell(value)) for value in _flat(row).values()])


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Put the parts of the error into columns of their own, behind the contract's others."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "row":
            flat |= {f"error_{part}": (row["error"] or {}).get(part) for part in _ERROR}
        if name != "error":
            flat[name] = value
    return flat | {"warnings": "; ".join(row["warnings"])}


def report_row(org: str, job_id: str, record: Mapping[str, str]) -> dict[str, Any]:
    """Return a job as ``badges results`` writes it; an invalid one with its fields as they came in.

    ``raw`` is what was written, where it could not be told apart into fields.
    """
    row = result_row(org, job_id, record)
    came_from = record.get("n", "")
    row |= {"row": int(came_from) if came_from.isdecimal() else None, "reason": reason(job_id, record)}
    row |= {name: _value(letter, record) for letter, name in _INPUT.items()}
    row["raw"] = None
    if record.get("k") == DeadKind.INVALID:
        item = invalid_item(record)
        row |= {name: value for name, value in (item or {}).items() if name != "job_id"}
        row["raw"] = record.get("W", record.get("w")) if item is None else None
    return row


def invalid_item(record: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the fields of an invalid row as they came in; ``None`` if they fit into no columns."""
    try:
        item = json.loads(record["w"], parse_constant=_refuse)
        json.dumps(item, ensure_ascii=False).encode()
    except (KeyError, ValueError):
        return None
    return item if isinstance(item, dict) and set(FIELDS).issuperset(item) else None


def reason(job_id: str, record: Mapping[str, str]) -> str | None:
    """Say in words why a job isn't issued, and what can be done about it."""
    code, message = record.get("o", ""), text_of(record, "m") or ""
    what = f"{message} ({code})" if message else code
    match record.get("s"):
        case State.RETRYING:
            return f"waits for its next attempt: {what}"
        case State.DEAD if "R" in record:
            return f"job {record['R']} took its place"
        case State.DEAD if record["k"] == DeadKind.INVALID:
            mend = "fill in the cells from raw" if invalid_item(record) is None else "mend the cell"
            return f"{message if code == 'row' else f'{code}: {message}'}; {mend} and import this file again"
        case State.DEAD:
            return f"{what}; {_cure(record['k'], job_id)}"
    return None


def argument(text: str) -> str:
    """Write foreign text as an argument of a command that a person copies into a shell; it comes last."""
    return f"-- {shlex.quote(text)}" if text.startswith("-") else shlex.quote(text)


def option(name: str, text: str) -> str:
    """Write foreign text as an option's value, in the same way."""
    return f"--{name}{'=' if text.startswith('-') else ' '}{shlex.quote(text)}"


def _cure(kind: str, job_id: str) -> str:
    replay = f"badges dead replay {option('job', job_id)}"
    if kind == DeadKind.IN_DOUBT:
        look = f"badges dead resolve --issued {argument(job_id)} (or --not-issued)"
        return f"it may have been issued: look it up at the vendor, then: {look}"
    if kind == DeadKind.REJECTED:
        return f"mend the row and import this file again, or: {replay}"
    return f"to send it again: {replay}"


def cell(value: object) -> str:
    """Write a value as one cell of text, on one line; nothing for what isn't there."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text.isprintable() else "".join(sign if sign.isprintable() else " " for sign in text)


def _value(letter: str, record: Mapping[str, str]) -> int | str | None:
    return int(record[letter]) if letter in "ex" and letter in record else record.get(letter)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
