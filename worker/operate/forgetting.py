"""Forgetting a customer: what is kept of one is found, shown as a plan, and removed.

Records are looked for everywhere, since an invalid row, or one under a producer's own id, isn't found by
its letters. What waits is cancelled first; what is in flight or in doubt holds all back until it has ended.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from worker.domain.identity import pair_letters
from worker.domain.job import DeadKind, State
from worker.domain.text import cell
from worker.operate.operator import Operator
from worker.operate.runs import JobReader
from worker.operate.search import MOST_BADGES, scan
from worker.server.cluster import reaching
from worker.store import audit, forgets, reading
from worker.store.forgets import Forgotten
from worker.store.queue import chunks
from worker.store.record import Field, Record, raw_of, state_of, takes_back

Move = Callable[[int], None]  # how many records were looked at

WAITING: Final = (State.QUEUED, State.RETRYING)
OPEN: Final = (*WAITING, State.SENDING)
OUT_OF_REACH: Final = (
    "what the vendor has: badges that were issued stay issued",
    "log files, traces, and whatever collected them",
    "Redis's append-only file until it is rewritten (BGREWRITEAOF), its snapshots, replicas' disks, backups",
    "files and reports on somebody's disk; a file uploaded to the console, for 24 hours",
    "notes that people wrote into the audit trail",
)
MANY_BADGES: Final = "in an org with more than 10,000 badges, that badges without a record were accepted"


@dataclass(slots=True)
class OfOrg:
    """What an org keeps of a customer: jobs by state, and the letters that ids of the customer begin with."""

    states: dict[str, State | None] = field(default_factory=dict)
    prefixes: list[str] = field(default_factory=list)
    remembered: list[str] = field(default_factory=list)
    raw_rows: int = 0
    doubtful: list[str] = field(default_factory=list)
    to_undo: int = 0
    has_many_badges: bool = False

    def ids(self, *states: State) -> list[str]:
        """Return the ids of the jobs in these states."""
        return [job_id for job_id, state in self.states.items() if state in states]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is kept of a customer, by org."""

    customer: int
    orgs: Mapping[str, OfOrg]

    @property
    def records(self) -> Counter[str]:
        """How many jobs have a record, by state."""
        return Counter(str(state or "newer") for its in self.orgs.values() for state in its.states.values())

    @property
    def remembered(self) -> int:
        """How many jobs are remembered, those with a record included."""
        return sum(len(its.remembered) for its in self.orgs.values())

    @property
    def raw_rows(self) -> int:
        """How many of the records keep a row as it came in."""
        return sum(its.raw_rows for its in self.orgs.values())

    @property
    def in_flight(self) -> int:
        """How many jobs are being sent."""
        return self.records[State.SENDING]

    @property
    def doubtful(self) -> list[str]:
        """The ids of jobs in doubt that somebody has to resolve first."""
        return [job_id for its in self.orgs.values() for job_id in its.doubtful]

    @property
    def waiting(self) -> int:
        """How many jobs wait, and would be cancelled."""
        return sum(len(its.ids(*WAITING)) for its in self.orgs.values())

    @property
    def to_undo(self) -> int:
        """How many of these were to take a badge back, which then stays issued."""
        return sum(its.to_undo for its in self.orgs.values())

    @property
    def size(self) -> int:
        """How much there is to forget."""
        return max(self.records.total(), self.remembered)

    @property
    def out_of_reach(self) -> list[str]:
        """What forgetting doesn't reach."""
        many = any(its.has_many_badges for its in self.orgs.values())
        return [*OUT_OF_REACH, *([MANY_BADGES] if many else [])]

    def as_json(self) -> dict[str, Any]:
        """Return it as ``badges forget --json`` prints it."""
        return {
            "customer": self.customer,
            "records": dict(self.records),
            "raw_rows": self.raw_rows,
            "remembered": self.remembered,
            "in_flight": self.in_flight,
            "in_doubt": len(self.doubtful),
            "cancelled": self.waiting,
            "out_of_reach": self.out_of_reach,
        }


@dataclass(frozen=True, slots=True)
class Done:
    """What was done: jobs that waited are cancelled, and ``forgotten`` with all others unless one is held."""

    cancelled: int
    forgotten: Forgotten


def plan(
    reports: JobReader, customer: int, org: str | None = None, *, on_progress: Move = lambda _looked_at: None
) -> Plan:
    """Find what is kept of a customer.

    Raises:
        StoreError: Redis can't be reached.
    """
    with reaching("what is kept of a customer"):
        return Plan(
            customer, {name: _of_org(reports, name, customer, on_progress) for name in reports.org_names(org)}
        )


def forget(operator: Operator, found: Plan) -> Done:
    """Cancel what waits; then, unless something is in flight or in doubt, remove what a plan found.

    Where it breaks off, a new plan finds what is left.
    """
    cancelled, done = 0, Forgotten()
    actions = {
        org: audit.action_id(operator.queue, "forget")
        for org, its in found.orgs.items()
        if its.states or its.remembered
    }
    for org, action in actions.items():
        operator.begin(org, action, {"customer": audit.FORGOTTEN})
        cancelled += _cancel(operator, org, found.orgs[org].ids(*WAITING))
    in_flight = sum(_not_ended(operator.reports, org, its.states) for org, its in found.orgs.items())
    if in_flight or found.doubtful:
        return Done(cancelled, Forgotten(in_flight=in_flight, in_doubt=len(found.doubtful)))
    for org, action in actions.items():
        done += _forget(operator, org, found, action)
    return Done(cancelled, done)


def _not_ended(reports: JobReader, org: str, ids: Iterable[str]) -> int:
    """Count the jobs that go on, though what waited was cancelled."""
    return sum(state_of(record) in OPEN for _, record in reports.records(org, ids))


def _cancel(operator: Operator, org: str, ids: list[str]) -> int:
    queue = operator.queue
    return sum(queue.cancel(org, chunk, call=queue.new_id()) for chunk in chunks(ids))


def _forget(operator: Operator, org: str, found: Plan, action: str) -> Forgotten:
    queue, its = operator.queue, found.orgs[org]
    ids = list(its.states)
    # First what only these ids lead to: were it broken off later, no new plan would find that.
    audit.forget(queue.client, org, found.customer, set(ids))
    _leave_lists(operator, org, its)
    done = forgets.forget_jobs(queue, org, ids, action=action)
    if done.in_flight or done.in_doubt:  # since the plan was made
        return done
    return done + forgets.forget_remembered(queue, org, its.prefixes, action=action)


def _leave_lists(operator: Operator, org: str, its: OfOrg) -> None:
    """Take ids off the lists of replays, and those without a record off the lists of runs.

    Those that have one leave the list of their run together with it, and are found by it until then.
    """
    queue, reports = operator.queue, operator.reports
    of_replays = {*its.states, *its.remembered}
    of_runs = set(its.remembered) - its.states.keys()
    lists = [(name, of_replays) for name in forgets.replays(queue, org)]
    lists += [(run, of_runs) for _, run in reports.run_names(org)] if of_runs else []
    for name, gone in lists:
        forgets.leave_run(queue, org, name, [job_id for job_id in reports.ids(org, name) if job_id in gone])


def _of_org(reports: JobReader, org: str, customer: int, move: Move) -> OfOrg:
    badges = reading.badges(reports.client, org)
    its = OfOrg(has_many_badges=len(badges) > MOST_BADGES)
    jobs = [it for it in scan(reports, org, str(customer), move) if is_of(it[1], customer)]
    listed = reading.listed(
        reports.client,
        org,
        [(job_id, record[Field.GROUP]) for job_id, record in jobs if Field.GROUP in record],
    )
    for job_id, record in jobs:
        its.states[job_id] = state_of(record)
        its.raw_rows += raw_of(record) is not None
        its.to_undo += takes_back(record) and state_of(record) is State.QUEUED
        if record.get(Field.KIND) == DeadKind.IN_DOUBT and job_id in listed:
            its.doubtful.append(job_id)
    named = {badge for _, record in jobs if (badge := record.get(Field.BADGE_META_ID))}
    its.prefixes = list(
        dict.fromkeys(pair_letters(org, badge, customer) for badge in (*badges, *sorted(named)))
    )
    its.remembered = reading.remembered(reports.store, org, its.prefixes)
    return its


def is_of(record: Record, customer: int) -> bool:
    """Say whether a job is of a customer; an invalid row is by its customerId, or else any number in it.

    Where no customer could be read, another's row that holds this number is taken for one.
    """
    if Field.CUSTOMER_ID in record:
        return record[Field.CUSTOMER_ID] == str(customer)
    raw = raw_of(record)
    if raw is None:
        return False
    written = _customer_in(raw)
    number = rf"(?<!\d)0*{customer}(?!\d)"
    return bool(re.search(number, raw if written is None else written))


def _customer_in(raw: str) -> str | None:
    """Return the customerId of a row that could be read as an object, as it is written there."""
    try:
        item = json.loads(raw)
    except ValueError:
        return None
    value = item.get("customerId") if isinstance(item, dict) else None
    text = cell(value)
    return text if any(map(str.isdigit, text)) else None
