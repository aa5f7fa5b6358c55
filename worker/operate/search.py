"""Finding jobs among all there ever were: of a customer, by an id, by what the vendor called them.

A customer's jobs begin with letters that badge and customer make (``domain/identity.py``), so that only their
records are read. What only records tell (a request id, an earnedBadgeId, an invalid row) is looked for in all
of them, on the server. Where a record has expired, what is remembered is shown: that a job was accepted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from worker.domain.badge import one_case
from worker.domain.identity import PAIR_LETTERS, pair_letters, request_id
from worker.domain.job import State
from worker.operate import undojobs
from worker.operate.report import report_row
from worker.operate.runs import JobReader
from worker.server.cluster import reaching
from worker.store import reading
from worker.store.queue import chunks
from worker.store.record import SEPARATOR, Field, Record, batches_of, failed_calls

MOST_BADGES: Final = 10_000  # of an org that has more, a customer is looked for in all records
PAGE: Final = 1000
PROBABLE: Final = "was accepted before; its record has expired, and by chance it may be another's"
CERTAIN: Final = "was accepted before; its record has expired"
OWN: Final = "has an id of its producer's own; its record has expired"

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

Move = Callable[[int], None]  # how many records were looked at


@dataclass(frozen=True, slots=True)
class Sought:
    """What is looked for: one of them, a badge only beside a customer."""

    customer: int | None = None
    badge: str | None = None
    job: str | None = None
    request: str | None = None
    earned: str | None = None
    org: str | None = None


def nothing_found(sought: Sought) -> str:
    """Say what it means that nothing was found: that what is looked at doesn't have it."""
    if sought.customer is not None:
        of_badge = "" if sought.badge is None else f" of badge {sought.badge}"
        return (
            f"nothing was found: no job{of_badge} of this customer waits, was issued or needs somebody, as "
            "far as is remembered; invalid rows and what was discarded are counted by "
            f"badges forget --customer {sought.customer} --dry-run"
        )
    if sought.job is not None:
        return "nothing was found: no such job was ever accepted here, as far as is remembered"
    return "nothing was found among the results that are kept; what has expired can't be found by this"


def find(
    reports: JobReader, sought: Sought, *, on_progress: Move = lambda _looked_at: None
) -> Iterator[dict[str, Any]]:
    """Yield the jobs that fit as ``badges results`` shows them, and ``certain``: whether it is surely one.

    One without a record is "remembered", or "undone" if its badge was revoked since; its ``reason`` says
    what is known of it.
    """
    for org in reports.org_names(sought.org):
        with reaching("the jobs there are"):
            if sought.customer is not None:
                yield from _of_customer(reports, org, sought, on_progress)
            elif sought.job is not None:
                yield from _one(reports, org, sought.job)
            else:
                yield from _scanned(reports, org, sought, on_progress)


def _scanned(reports: JobReader, org: str, sought: Sought, move: Move) -> Iterator[dict[str, Any]]:
    text, seen = str(sought.request or sought.earned), set[str]()
    for job_id, record in scan(reports, org, text, move):
        if text in _names(record, sought):
            seen.add(job_id)
            yield _row(reports, org, job_id, record)
    if sought.request is None or not _UUID.fullmatch(text):
        return
    # The id that we sent is made of the batch's, which no text of a record tells.
    for job_id, record in scan(reports, org, "", move):
        if job_id not in seen and text.lower() in map(request_id, batches_of(record)):
            yield _row(reports, org, job_id, record)


def ids_of_customer(reports: JobReader, org: str, customer: int, badge: str | None = None) -> list[str]:
    """Return what is remembered that begins as the ids of this customer do; false ones are very few."""
    badges = [badge] if badge else reading.badges(reports.client, org)
    prefixes = list(dict.fromkeys(pair_letters(org, its, customer) for its in badges))
    return reading.remembered(reports.store, org, prefixes)


def of_customer(
    reports: JobReader, org: str, customer: int, badge: str | None = None, *, move: Move = lambda _: None
) -> Iterator[tuple[str, Record | None]]:
    """Yield the jobs of a customer, those without a record too; of a producer's own id that isn't known then.

    What takes a badge of theirs back is one, too. Only where there are producers' own ids, or too many
    badges, all records are looked at.
    """
    found = ids_of_customer(reports, org, customer, badge)
    own = [one for one in found if len(one) == PAIR_LETTERS + 8]
    ids = [one for one in dict.fromkeys(found) if one not in own]
    records = dict(reports.records(org, ids))
    theirs = {job_id: it for job_id, it in records.items() if it.get(Field.CUSTOMER_ID) == str(customer)}
    undoes = {undo.id: undo.record for undo in undojobs.find(reports, org, theirs)}
    yield from ((job_id, theirs.get(job_id)) for job_id in ids if job_id in theirs or job_id not in records)
    yield from undoes.items()
    records |= undoes
    if not own and (badge or len(reading.badges(reports.client, org)) <= MOST_BADGES):
        return
    left = len(own)
    for job_id, record in scan(reports, org, f"{SEPARATOR}{customer}{SEPARATOR}", move):
        fits = badge is None or one_case(record.get(Field.BADGE_META_ID, "")) == one_case(badge)
        if job_id not in records and record.get(Field.CUSTOMER_ID) == str(customer) and fits:
            left -= Field.FINGERPRINT in record
            yield job_id, record
    yield from [("", None)] * left


def results(  # noqa: PLR0913 - what of it
    reports: JobReader,
    customer: int,
    *,
    badge: str | None = None,
    org: str | None = None,
    run: str | None = None,
    state: State | None = None,
    code: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the jobs of a customer that have a record as ``JobReader.results`` shows them."""
    for its_org in reports.org_names(org):
        jobs = (
            (job_id, record)
            for job_id, record in of_customer(reports, its_org, customer, badge)
            if record and run in (None, record.get(Field.RUN))
        )
        yield from reports.rows(its_org, jobs, state, code)


def scan(reports: JobReader, org: str, text: str, move: Move) -> Iterator[tuple[str, Record]]:
    """Yield the jobs whose record holds a text, with it; every record is looked at, on the server."""
    looked_at, seen = 0, set[str]()
    for _, run in reports.run_names(org):
        at = 0
        while True:
            count, ids = reading.holding(reports.store, org, run, text, first=at, most=PAGE)
            new = [job_id for job_id in ids if job_id not in seen]
            seen.update(new)
            yield from reports.records(org, new)
            at, looked_at = at + count, looked_at + count
            move(looked_at)
            if count < PAGE:
                break


def _of_customer(reports: JobReader, org: str, sought: Sought, move: Move) -> Iterator[dict[str, Any]]:
    jobs = of_customer(reports, org, int(str(sought.customer)), sought.badge, move=move)
    badges = [sought.badge] if sought.badge else reading.badges(reports.client, org)
    of_pair = {pair_letters(org, badge, int(str(sought.customer))): badge for badge in badges}
    for page in chunks(jobs, PAGE):
        rows = reports.rows(org, [(job_id, record) for job_id, record in page if record])
        for job_id, record in page:
            if record:
                yield next(rows) | {"certain": True}
            else:
                its = replace(sought, badge=of_pair.get(job_id[:PAIR_LETTERS], sought.badge))
                yield _without_record(reports, org, job_id, its, PROBABLE if job_id else OWN)


def _one(reports: JobReader, org: str, job_id: str) -> Iterator[dict[str, Any]]:
    for _, record in reports.records(org, [job_id]):
        yield _row(reports, org, job_id, record)
        return
    if reading.known(reports.client, org, [job_id])[0]:
        yield _without_record(reports, org, job_id, Sought(), CERTAIN)


def _names(record: Record, sought: Sought) -> set[str]:
    """Return what a job is called by: its requests' ids, with the vendor's and without its item's place."""
    if sought.earned is not None:
        return {record.get(Field.EARNED_BADGE_ID, ""), record.get(Field.SECOND_EARNED_BADGE_ID, "")}
    its = record.get(Field.REQUEST_ID, "")
    calls = {name for call in failed_calls(record) for name in (call.batch, call.request)}
    return {its, its.rpartition("_")[0], record.get(Field.BATCH, ""), *calls}


def _row(reports: JobReader, org: str, job_id: str, record: Record) -> dict[str, Any]:
    (row,) = reports.rows(org, [(job_id, record)])
    return row | {"certain": True}


def _without_record(reports: JobReader, org: str, job_id: str, sought: Sought, why: str) -> dict[str, Any]:
    undone = bool(job_id) and bool(reading.undone(reports.client, org, [job_id]))
    known = {"badgeMetaId": sought.badge, "customerId": sought.customer}
    state = {"state": "undone" if undone else "remembered", "reason": why, "certain": why != PROBABLE}
    return report_row(org, job_id, {}) | known | state
