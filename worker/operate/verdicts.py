"""What somebody else knows of jobs in doubt: a file of the vendor's support, or an export, that says it.

Each row names a job (``job_id``), or a customer and a badge, and says whether it was ``issued``. Reading it
is a plan; acting on it does what ``badges dead resolve ID`` does, for many.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from worker.domain.badge import one_case
from worker.domain.batch import Replay
from worker.domain.job import DeadKind
from worker.domain.text import cell
from worker.errors import FileError, NotAllowed
from worker.files.columns import folded, unguarded
from worker.files.text import read_bytes, read_text
from worker.operate import deadlist
from worker.operate.deadlist import Filter
from worker.operate.doubts import Done, Move
from worker.operate.operator import Operator
from worker.operate.replaying import why_skipped
from worker.operate.runs import JobReader
from worker.store import audit
from worker.store.queue import chunks
from worker.store.record import Field

WORDS = {
    **dict.fromkeys(("yes", "true", "1", "issued"), True),
    **dict.fromkeys(("no", "false", "0", "not issued", "not_issued", "notissued"), False),
}
COLUMNS = {folded(name): name for name in ("job_id", "customerId", "badgeMetaId", "issued")}
FORM = "a column issued (yes or no), and job_id, or customerId and badgeMetaId"
NOTED = 20


@dataclass(frozen=True, slots=True)
class Word:
    """A row of the file: which job or jobs it speaks of, and whether they were issued."""

    row: int
    issued: bool
    job: str = ""
    pair: tuple[str, str] = ("", "")  # badge and customer


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that says nothing that could be acted on, and why."""

    row: int
    reason: str


@dataclass(slots=True)
class Verdicts:
    """What a file says of the jobs that are in doubt here, by org.

    ``unknown`` rows speak of none that is in doubt; ``faults`` can't be read, or contradict another row, or
    leave open which of several jobs they mean.
    """

    issued: dict[str, list[str]] = field(default_factory=dict)
    not_issued: dict[str, list[str]] = field(default_factory=dict)
    unknown: int = 0
    faults: list[Fault] = field(default_factory=list)

    @property
    def counts(self) -> tuple[int, int]:
        """How many jobs were issued, and how many weren't."""
        return sum(map(len, self.issued.values())), sum(map(len, self.not_issued.values()))

    def as_json(self) -> dict[str, Any]:
        """Return it as ``badges dead resolve --from FILE --json`` prints it."""
        issued, not_issued = self.counts
        faults = [{"row": fault.row, "reason": fault.reason} for fault in self.faults[:NOTED]]
        return {
            "issued": issued,
            "not_issued": not_issued,
            "unknown": self.unknown,
            "refused": len(self.faults),
            "faults": faults,
        }


def read_words(stream: BinaryIO, *, name: str) -> Iterator[Word | Fault]:
    """Read what a file says: CSV, JSON Lines or a JSON array, also compressed.

    Raises:
        FileError: it can't be read at all, or hasn't the columns.
    """
    text = "".join(read_text(*read_bytes(stream, name=name), name=name)).strip()
    if not text:
        raise FileError(f"{name} is empty")
    rows = _json_rows(text, name) if text[0] in "[{" else _csv_rows(text, name)
    for number, values in rows:
        yield _word(number, values) if isinstance(values, Mapping) else Fault(number, str(values))


def _csv_rows(text: str, name: str) -> Iterator[tuple[int, Any]]:
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        columns = [COLUMNS.get(folded(column)) for column in next(reader)]
        if "issued" not in columns or not (
            "job_id" in columns or {"customerId", "badgeMetaId"} <= {*columns}
        ):
            raise FileError(f"{name} needs {FORM}; its columns are {cell(head)[:200]}")
        for values in reader:
            if any(map(str.strip, values)):
                cells = map(unguarded, values)
                yield reader.line_num, {key: its for key, its in zip(columns, cells, strict=False) if key}
    except csv.Error as error:
        raise FileError(
            f"{name} can't be read as CSV near line {reader.line_num}: {error}; is a quote left open there?"
        ) from None


def _json_rows(text: str, name: str) -> Iterator[tuple[int, Any]]:
    try:
        items = json.loads(text) if text[0] == "[" else [json.loads(line) for line in text.splitlines()]
    except (ValueError, RecursionError) as error:
        raise FileError(f"{name} can't be read as JSON: {error}") from None
    for number, item in enumerate(items, 1):
        its = {COLUMNS[key]: v for k, v in item.items() if (key := folded(k)) in COLUMNS} if isinstance(
            item, dict
        ) else "it is no object"  # fmt: skip
        yield number, its


def _word(row: int, values: Mapping[str, Any]) -> Word | Fault:
    said = cell(values.get("issued")).strip().lower()
    if said not in WORDS:
        return Fault(row, f"issued must be yes or no, not “{said[:40]}”")
    job, badge, customer = (cell(values.get(key)).strip() for key in ("job_id", "badgeMetaId", "customerId"))
    if not job and not (badge and customer):
        return Fault(row, "it names neither a job_id, nor a customerId and a badgeMetaId")
    return Word(row, WORDS[said], job, ("", "") if job else (one_case(badge), customer))


def match(reports: JobReader, words: Iterable[Word | Fault], which: Filter) -> Verdicts:
    """Say of which jobs in doubt a file speaks, and what; nothing is changed."""
    found = Verdicts()
    by_job: dict[str, list[Word]] = {}
    by_pair: dict[tuple[str, str], list[Word]] = {}
    rows = 0
    for word in words:
        if isinstance(word, Fault):
            found.faults.append(word)
            continue
        rows += 1
        (by_job.setdefault(word.job, []) if word.job else by_pair.setdefault(word.pair, [])).append(word)
    jobs: dict[str | tuple[str, str], list[tuple[str, str]]] = {}
    named_of: dict[tuple[str, str], list[str]] = {}  # the jobs of a pair that other rows name
    for _, page in deadlist.pages(
        reports, replace(which, kind=DeadKind.IN_DOUBT), with_records=bool(by_pair)
    ):
        for letter in page:
            badge, customer = (letter.record.get(it, "") for it in (Field.BADGE_META_ID, Field.CUSTOMER_ID))
            pair = one_case(badge), customer
            if letter.id in by_job:
                jobs.setdefault(letter.id, []).append((letter.org, letter.id))
                named_of.setdefault(pair, []).append(letter.id)
            elif pair in by_pair:
                jobs.setdefault(pair, []).append((letter.org, letter.id))
    told = 0
    for pair in named_of.keys() & by_pair.keys() - jobs.keys():  # its rows can mean no other than these
        told += len(by_pair[pair])
        _add_contradicting(by_pair[pair], [by_job[job_id] for job_id in named_of[pair]])
    for named, meant in jobs.items():
        its = by_job[named] if isinstance(named, str) else by_pair[named]
        told += sum(bool(word.job) is isinstance(named, str) for word in its)
        _take(found, its, meant)
    found.unknown = rows - told
    return found


def _add_contradicting(words: list[Word], of_jobs: list[list[Word]]) -> None:
    """Add to what is said of these jobs, one by one, what is said of none of them but of their pair."""
    said = {word.issued for its in of_jobs for word in its}
    for its in of_jobs:
        its.extend(word for word in words if word.issued not in said)


def _take(found: Verdicts, words: list[Word], jobs: list[tuple[str, str]]) -> None:
    """Take what rows say of the jobs that they mean: all of them, or it can't be told which."""
    row, said = words[0].row, {word.issued for word in words}
    orgs = sorted({org for org, _ in jobs})
    if len(orgs) > 1:
        found.faults.append(Fault(row, f"jobs of several orgs can be meant ({', '.join(orgs)}): say --org"))
    elif len(said) > 1:
        other = next(word.row for word in words if word.issued is not words[0].issued)
        found.faults.append(Fault(row, f"row {other} says otherwise of the same job"))
    elif said == {True} and len(jobs) > max(1, len(words)):
        reason = f"{len(jobs)} jobs of this customer and badge are in doubt: say which by job_id"
        found.faults.append(Fault(row, reason))
    else:
        into = found.issued if said == {True} else found.not_issued
        for org, job_id in jobs:
            into.setdefault(org, []).append(job_id)


def act(
    operator: Operator,
    found: Verdicts,
    file: str,
    *,
    action: str = "",
    on_progress: Move = lambda _done, _total: None,
) -> Done:
    """End what was issued, and queue again what wasn't; what is no longer in doubt stays as it is.

    ``action`` is its id in the audit trail, if the caller wants to know it beforehand.

    Raises:
        ConfigError: an org of theirs isn't configured any more; nothing was done.
        NotAllowed: some would be queued again in a run that is only half cancelled; all others were.
    """
    queue, total = operator.queue, sum(found.counts)
    action = action or audit.action_id(queue, "resolve")
    done, stays = Done(action), None
    orgs = {org: operator.org(org) for org in sorted(found.issued.keys() | found.not_issued.keys())}
    for org, its in orgs.items():
        operator.begin(org, action, {"file": file})
        for ids in chunks(found.issued.get(org, [])):
            issued = queue.resolve(its, ids, call=queue.new_id(), action=action)
            done = replace(done, issued=done.issued + issued)
            on_progress(done.issued + done.queued, total)
        for ids in chunks(found.not_issued.get(org, [])):
            again = [Replay(job_id) for job_id in ids]
            answer = queue.replay(its, run=action, items=again, call=queue.new_id())
            done = replace(done, queued=done.queued + answer["replayed"])
            stays = stays or why_skipped(org, answer)
            on_progress(done.issued + done.queued, total)
    if stays:
        so_far = f"{done.queued:,} queued again, {done.issued:,} ended as issued ({action})"
        raise NotAllowed(f"{so_far}; the rest stays: {stays}")
    return done
