"""How a batch, a settlement and an org's limits are written for the scripts, and read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from worker.domain.batch import Replay
from worker.domain.job import Job
from worker.domain.org import Org
from worker.domain.settlement import Complete, DeadLetter, Isolate, PutBack, Retry, Settlement
from worker.store.record import BADGE_FIELDS, Field, badge_of, text_fields

HORIZON_US = 100_000  # how far ahead of its time a slot is given out
GUARD = 0.015  # of a window: by how much a send may be late without exceeding the limit
CHECK_AFTER_S = 600  # between a call in doubt and the first look at the vendor, and between two looks
# The upper bounds, ms, that calls are counted by, beside "longer".
TOOK_MS = (50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000)
MISSING_CODES = frozenset({"1054"})


class Verb(StrEnum):
    """What ``settle.lua`` does with a job."""

    ISSUED = "issued"
    DEAD = "dead"  # argument: the kind
    RETRY = "retry"  # argument: the delay, ms
    PUT_BACK = "put_back"
    ISOLATE = "isolate"  # argument: "group width"


def guard_s(org: Org) -> float:
    """Return by how much a send may be late without any limit being exceeded."""
    return min(limit.window_s for limit in org.limits) * GUARD


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
        "badge": list(BADGE_FIELDS),
        **({"check_after_ms": CHECK_AFTER_S * 1000} if org.in_doubt == "check" else {}),
        **more,
    }


def job_of(entry: Sequence[Any]) -> Job:
    """Read a job as ``claim.lua`` gives it."""
    job_id, attempts, busy, traceparent, *values = entry
    record: dict[str, str] = {
        field: value for field, value in zip(BADGE_FIELDS, values, strict=True) if value
    }
    return Job(job_id, badge_of(record), int(attempts or 0), int(busy or 0), traceparent or "")


def replay_of(item: Replay) -> list[str]:
    """Write what ``replay.lua`` takes: the id alone, or also new id, row, whether urgent, fields."""
    if not item.new_id:
        return [item.id]
    return [item.id, item.new_id, item.row or item.id, str(int(item.urgent)), *item.fields]


def settlement_of(job: Job, settlement: Settlement) -> list[str | int]:
    """Write a settlement as ``settle.lua`` takes it: id, verb, argument, fields."""
    tried = (Field.ATTEMPTS, str(job.attempts + 1))
    match settlement:
        case Complete(issued):
            return [job.id, Verb.ISSUED, "", *tried, *_issued_fields(issued)]
        case DeadLetter(kind, code, message):
            return [job.id, Verb.DEAD, kind.value, *tried, *_why(code, message)]
        case Retry(delay_s, code, message, spends_attempt):
            spent = tried if spends_attempt else (Field.BUSY, str(job.busy + 1))
            return [job.id, Verb.RETRY, int(delay_s * 1000), *spent, *_why(code, message)]
        case PutBack(code, message):
            return [job.id, Verb.PUT_BACK, "", *_why(code, message)]
        case Isolate(group, width, code, message):
            return [job.id, Verb.ISOLATE, f"{group} {width}", *_why(code, message)]


def _why(code: str, message: str) -> list[str]:
    return [Field.CODE, code, *text_fields(Field.MESSAGE, message)]


def _issued_fields(issued: Any) -> list[str]:
    values: Mapping[Field, Any] = {
        Field.EARNED_BADGE_ID: issued.earned_badge_id,
        Field.ISSUED_ID: issued.issued_id,
        Field.REQUEST_ID: issued.request_id,
        Field.EXPIRES_ON: f"{issued.expires_on:.15g}" if issued.expires_on is not None else None,
        Field.EXPIRES_ON_ISO: issued.expires_on_iso,
    }
    fields = [part for field, value in values.items() if value is not None for part in (field, value)]
    return fields + (text_fields(Field.WARNINGS, issued.warnings) if issued.warnings else [])


def missing_badges(jobs: Sequence[Job], settled: Sequence[Settlement]) -> list[str]:
    """Return the badgeMetaIds that the vendor said it doesn't know."""
    return sorted(
        {
            job.badge.badge_meta_id
            for job, settlement in zip(jobs, settled, strict=True)
            if isinstance(settlement, DeadLetter) and settlement.code in MISSING_CODES
        }
    )
