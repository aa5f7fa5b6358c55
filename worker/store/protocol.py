"""How a batch, a settlement and an org's limits are written for the scripts, and read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from typing import Any

from worker.domain.badge import one_case
from worker.domain.batch import Item, Replay
from worker.domain.identity import short_hash
from worker.domain.job import DeadKind, Job, State
from worker.domain.org import Org
from worker.domain.outcome import Issued
from worker.domain.settlement import DeadLetter, Isolate, PutBack, Retry, Settlement
from worker.store import record
from worker.store.record import STATE_LETTERS, Field

HORIZON_US = 100_000  # how far ahead of its time a slot is given out
GUARD = 0.015  # of a window is added to it: half for sends that are late, half for the way to the vendor
SHARE = 0.25  # of the limit, for calls that deliver nothing, while deliveries wait
CHECK_AFTER_S = 600  # between a call in doubt and the first look at the vendor, and between two looks
# The upper bounds, ms, that calls are counted by, beside "longer".
TOOK_MS = (50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000)
MISSING_CODES = frozenset({"1054"})


class Verb(StrEnum):
    """What ``settle.lua`` does with a job."""

    ISSUED = "issued"
    DEAD = "dead"
    RETRY = "retry"  # argument: the delay, ms
    PUT_BACK = "put_back"
    ISOLATE = "isolate"  # argument: "group width"


_ISSUED = Verb.ISSUED.value


def slack_s(org: Org) -> float:
    """Return how late a send may pass its fence: half of the guard, the rest is for the way to the socket."""
    return min(limit.window_s for limit in org.limits) * GUARD / 2


def ttl_ms(org: Org) -> int:
    """Return how long a result is kept, in milliseconds."""
    return int(org.result_ttl_days * 86_400_000)


def gate_config(org: Org, **more: int) -> dict[str, Any]:
    """Return what the gate's part of the scripts must know of an org."""
    limits = [
        (limit.count, limit.window_s * 1_000_000, int(limit.window_s * 1_000_000 * GUARD), limit.of_items)
        for limit in org.limits
    ]
    return {
        "limits": limits,
        "batch_size": org.batch_size,
        "linger_ms": int(org.batch_linger_s * 1000),
        "max_in_flight": org.max_in_flight,
        "horizon_us": HORIZON_US,
        "in_doubt": org.in_doubt,
        "max_attempts": org.max_attempts,
        **({"check_after_ms": CHECK_AFTER_S * 1000} if org.in_doubt == "check" else {}),
        **({"how": sent_by(org)} if org.in_doubt == "same_request" else {}),
        **more,
    }


def sent_by(org: Org) -> str:
    """Return what stands for all that a request is made of beside its jobs."""
    where = (org.api_base_url or "", org.api_path, org.api_method)
    return short_hash(*where, org.request_id_header, org.epoch_unit, org.request_ids)


def job_arguments(items: Iterable[Item], *, run: str, urgent: bool, traceparent: str) -> Iterator[str]:
    """Write new jobs as ``enqueue.lua`` takes them: id, how that is made, record."""
    of_all: dict[str, str] = {
        Field.RUN: run,
        Field.URGENT: "1" if urgent else "",
        Field.TRACEPARENT: traceparent,
    }
    begun = record.new(of_all)
    for item in items:
        yield item.id
        yield how_made(item)
        yield new_record(item, begun)


def badges_of(items: Iterable[Item]) -> list[str]:
    """Return the badges of jobs, in one case, each once; an invalid row has none."""
    return [one_case(badge) for badge in {item.fields.get(Field.BADGE_META_ID) for item in items} if badge]


def how_made(item: Item) -> str:
    """Say what a job's id is made of, as ``enqueue.lua`` asks."""
    if item.kind:
        return f"dead:{record.fault_of(item.fields) if item.kind == DeadKind.INVALID else ''}"
    if item.again_of:
        return f"again:{item.again_of}"
    return f"own:{short_hash(item.id)}{item.fingerprint}" if item.fingerprint else ""


def new_record(item: Item, begun: Sequence[str]) -> str:
    """Write the record of a new job, which was begun for all of its call."""
    fields = item.fields
    if item.kind:
        fields = {**fields, Field.STATE: STATE_LETTERS[State.DEAD], Field.KIND: item.kind}
    return record.accepted(begun, fields, row=item.row, fingerprint=item.fingerprint)


def replay_arguments(replay: Replay, *, run: str) -> tuple[str, str, str, str]:
    """Write a replay as ``replay.lua`` takes it: id; id of the new job, how that is made, its record."""
    job_id, new, urgent = replay
    if new is None:
        return job_id, "", "", ""
    fields: dict[str, str] = {Field.RUN: run, Field.REPLAY_OF: job_id, Field.URGENT: "1" if urgent else ""}
    return job_id, new.id, how_made(new), new_record(new, record.new(fields))


def settlement_arguments(jobs: Iterable[Job], settled: Iterable[Settlement], *, batch: str) -> Iterator[str]:
    """Write settlements as ``settle.lua`` takes them: in rows of which the same becomes."""
    written = [_settlement(job, its, batch) for job, its in zip(jobs, settled, strict=True)]
    for of_all, row in groupby(written, itemgetter(0)):
        its = [part for _, job_id, stored in row for part in (job_id, stored)]
        yield from (*of_all, str(len(its) // 2), *its)


def put_back_arguments(jobs: Iterable[Job]) -> Iterator[str]:
    """Write that jobs go back as they are."""
    for run, row in groupby(jobs, attrgetter("run")):
        ids = [job.id for job in row]
        yield from (Verb.PUT_BACK, "", run, str(len(ids)), *chain(*((one, "") for one in ids)))


def _settlement(job: Job, settlement: Settlement, batch: str) -> tuple[tuple[str, str, str], str, str]:
    """Return verb, argument and run; id; record."""
    if isinstance(settlement, Issued):
        rest = record.issued(job.stored, batch=batch, attempts=job.attempts + 1, said=_said(settlement))
        return (_ISSUED, "", job.run), job.id, rest
    verb, argument, fields = _outcome(job, settlement)
    return (verb, argument, job.run), job.id, record.changed(job.stored, {Field.BATCH: batch, **fields})


def _outcome(
    job: Job, settlement: DeadLetter | Retry | PutBack | Isolate
) -> tuple[Verb, str, dict[str, str]]:
    tried = {Field.ATTEMPTS: str(job.attempts + 1)}
    match settlement:
        case DeadLetter(kind, code, message):
            return Verb.DEAD, "", tried | {Field.KIND: kind} | _why(code, message)
        case Retry(delay_s, code, message, spends_attempt, in_doubt):
            spent = tried if spends_attempt else {Field.BUSY: str(job.busy + 1)}
            doubt = {Field.WAS_IN_DOUBT: "1"} if in_doubt else {}
            return Verb.RETRY, str(int(delay_s * 1000)), spent | doubt | _why(code, message)
        case PutBack(code, message):
            return Verb.PUT_BACK, "", _why(code, message)
        case Isolate(group, width, code, message):
            return Verb.ISOLATE, f"{group} {width}", _why(code, message)


def _why(code: str, message: str) -> dict[str, str]:
    return {Field.CODE: record.bounded(code, record.CODE_BYTES), Field.MESSAGE: record.bounded(message)}


def _said(issued: Issued) -> tuple[str, ...]:
    """Return what the vendor said of an issued badge, field by field."""
    earned, its_id, request, expires_on, iso, warnings = issued
    expiry = "" if expires_on is None else f"{expires_on:.15g}"
    return (
        earned,
        its_id or "",
        request or "",
        expiry,
        record.expiry_iso(iso, expiry) if iso else "",
        record.bounded(warnings) if warnings else "",
    )


def missing_badges(jobs: Sequence[Job], settled: Sequence[Settlement]) -> list[str]:
    """Return the badgeMetaIds that the vendor said it doesn't know."""
    return sorted(
        {
            job.badge.badge_meta_id
            for job, settlement in zip(jobs, settled, strict=True)
            if isinstance(settlement, DeadLetter) and settlement.code in MISSING_CODES
        }
    )
