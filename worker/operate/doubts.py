"""Many jobs in doubt at once: what the vendor shows of each, and what follows from it.

The rules are those of ``IN_DOUBT=check`` (``vendor/doubt.py``): two looks, ten minutes apart, and a zero
counts only once something issued later is visible. Looking changes nothing but notes; acting on what was
found is a second step, so that a person sees the numbers first. What somebody else knows of them, in a file,
is the work of ``verdicts.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

from worker.domain.identity import PAIR_LETTERS, pair_letters
from worker.domain.job import DeadKind, State
from worker.domain.org import Org
from worker.domain.text import iso_time
from worker.operate import deadlist
from worker.operate.deadlist import Filter
from worker.operate.operator import Operator
from worker.operate.runs import JobReader
from worker.operate.status import longest
from worker.store import audit, doubts, reading
from worker.store.doubts import Witness
from worker.store.protocol import CHECK_AFTER_S
from worker.store.queue import chunks
from worker.store.record import Field, Record, number_of, state_of
from worker.vendor.lookups import Lookups

Move = Callable[[int, int], None]  # how many customers and badges were looked at, and of how many
Finding = Literal["not_issued", "issued", "unclear", "waiting"]

AFTER_MS = CHECK_AFTER_S * 1000
AT_ONCE = 4  # looks on their way at the same time: an answer takes longer than the limit's pace
NO_WITNESS = "not shown, but nothing was issued since that could tell whether the vendor shows it late"
WINDOW = 16  # customers and badges whose looks are prepared together


@dataclass(frozen=True, slots=True)
class Pair:
    """Jobs in doubt of one customer and badge, which the vendor can't tell apart."""

    org: str
    badge: str
    customer: int
    ids: tuple[str, ...]
    died_ms: int  # the last of them
    absent_since_ms: int | None = None  # the vendor shows none, since then
    witness_id: str = ""  # by which that was judged
    own: int = 0  # how many have ids of the producer's own
    others: int = 0  # further jobs of theirs that were, or may have been, issued

    @property
    def tells_from_ms(self) -> int:
        """From when on a look can tell more."""
        return max(self.died_ms, self.absent_since_ms or 0) + AFTER_MS


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at a pair found: why it isn't clear, or when the next look can tell (ms)."""

    pair: Pair
    finding: Finding
    why: str = ""
    again_ms: int = 0
    calls: int = 0


@dataclass(slots=True)
class Plan:
    """What is known of jobs in doubt, and what would be done about them.

    ``not_issued`` are queued again, ``issued`` end as issued; ``unclear`` and ``waiting`` stay as they are.
    ``waiting`` were looked at once, or are too young to be; a look from ``again_ms`` on tells more.
    """

    as_of_ms: int
    jobs: Counter[Finding] = field(default_factory=Counter)
    ids: dict[tuple[str, Finding], list[str]] = field(default_factory=dict)
    why: Counter[str] = field(default_factory=Counter)
    again_ms: int | None = None
    calls: int = 0

    def add(self, looked: Looked) -> None:
        """Count what was found."""
        number = len(looked.pair.ids)
        self.jobs[looked.finding] += number
        self.calls += looked.calls
        if looked.finding in ("not_issued", "issued"):
            self.ids.setdefault((looked.pair.org, looked.finding), []).extend(looked.pair.ids)
        if looked.why:
            self.why[looked.why] += number
        if looked.again_ms:
            self.again_ms = max(self.again_ms or 0, looked.again_ms)

    def as_json(self) -> dict[str, Any]:
        """Return it as ``badges dead check --json`` prints it."""
        kinds: tuple[Finding, ...] = ("not_issued", "issued", "unclear", "waiting")
        return {
            "jobs": self.jobs.total(),
            **{kind: self.jobs[kind] for kind in kinds},
            "why": dict(self.why.most_common()),
            "look_again_at": iso_time(self.again_ms),
            "calls": self.calls,
        }


@dataclass(frozen=True, slots=True)
class Done:
    """What was done about jobs in doubt: queued again, ended as issued, or cancelled as their run is."""

    action: str
    queued: int = 0
    issued: int = 0
    cancelled: int = 0


def pairs(reports: JobReader, which: Filter) -> list[Pair]:
    """Return the jobs in doubt that fit, by customer and badge."""
    found: dict[tuple[str, str, int], Pair] = {}
    for _, page in deadlist.pages(reports, replace(which, kind=DeadKind.IN_DOUBT), with_records=True):
        for letter in page:
            record = letter.record
            badge, customer = record.get(Field.BADGE_META_ID), number_of(record.get(Field.CUSTOMER_ID))
            if badge is None or not isinstance(customer, int):
                continue
            name = (letter.org, badge, customer)
            since, _, witness = record.get(Field.ABSENT_SINCE, "").partition(" ")
            so_far, own = found.get(name), int(Field.FINGERPRINT in record)
            absent_ms = int(since) if since else None
            if so_far is None:
                found[name] = Pair(*name, (letter.id,), letter.at_ms, absent_ms, witness, own)
            else:  # both are judged by the later of their first looks
                both = absent_ms is not None and so_far.absent_since_ms is not None
                found[name] = replace(
                    so_far,
                    ids=(*so_far.ids, letter.id),
                    own=so_far.own + own,
                    died_ms=max(so_far.died_ms, letter.at_ms),
                    absent_since_ms=max(absent_ms or 0, so_far.absent_since_ms or 0) if both else None,
                )
    return list(found.values())


def expected(reports: JobReader, its: Sequence[Pair], share: float) -> tuple[int, int | None]:
    """Say how many calls a look at these takes at most, and how many seconds, where anybody knows."""
    now_ms, calls = deadlist.now_ms(reports), Counter[str]()
    for pair in its:
        if now_ms >= pair.tells_from_ms:
            calls[pair.org] += 1 if pair.absent_since_ms is None else 2
    states = reports.states(*calls) if calls else ()
    told = (state.seconds_for_calls(calls[state.org], share=share, at_once=AT_ONCE) for state in states)
    return calls.total(), longest(told)


def look(
    operator: Operator,
    lookups: Lookups,
    its: Sequence[Pair],
    *,
    on_progress: Move = lambda _done, _total: None,
    wanted: Callable[[], bool] = lambda: True,
) -> Plan:
    """Ask the vendor about jobs in doubt, as far as that can tell anything now, and say what is known.

    First looks are noted in the jobs' records, so that a later look goes on from there. It ends early where
    it isn't ``wanted`` any more.
    """
    plan, done = Plan(deadlist.now_ms(operator.reports)), 0
    remaining = iter(its)
    with ThreadPoolExecutor(AT_ONCE, "look") as pool:
        while wanted() and (window := list(islice(remaining, WINDOW))):
            ready = list(_prepared(operator, window))
            for looked in pool.map(
                lambda one: _look(operator, lookups, one[0], one[1], plan.as_of_ms), ready
            ):
                plan.add(looked)
                done += 1
                on_progress(done, len(its))
    return plan


def act(operator: Operator, plan: Plan, which: Filter, *, action: str = "") -> Done:
    """Do what a plan says: queue again what certainly wasn't issued, and end what the vendor shows.

    Whatever changed since the look stays as it is: what was sent again meanwhile isn't sent once more.
    ``action`` is its id in the audit trail, if the caller wants to know it beforehand.
    """
    queue, action = operator.queue, action or audit.action_id(operator.queue, "resolve")
    done = Done(action)
    for org in sorted({org for org, _ in plan.ids}):
        operator.begin(org, action, which.as_json() | {"found": "by the vendor's word"})
        absent, shown = (plan.ids.get((org, finding), []) for finding in ("not_issued", "issued"))
        queued = doubts.conclude(queue, org, absent, "cleared", died_by_ms=plan.as_of_ms, action=action)
        issued = sum(
            queue.resolve(operator.org(org), chunk, call=queue.new_id(), action=action)
            for chunk in chunks(shown)
        )
        cancelled = reading.count_cancelled(queue.client, org, absent) if queued else 0
        if queued:
            queue.wake(operator.org(org))
        queued, cancelled = done.queued + queued - cancelled, done.cancelled + cancelled
        done = replace(done, queued=queued, issued=done.issued + issued, cancelled=cancelled)
    return done


def _prepared(operator: Operator, window: Sequence[Pair]) -> Iterator[tuple[Pair, Witness | None]]:
    """Find by whom each pair is judged, and which further jobs of theirs may have been issued."""
    client, witnesses = operator.queue.client, dict[tuple[str, str], Witness | None]()
    for org in {pair.org: None for pair in window}:
        mine = [pair for pair in window if pair.org == org]
        prefixes = [pair_letters(org, pair.badge, pair.customer) for pair in mine]
        remembered: dict[str, list[str]] = {}
        for one in reading.remembered(operator.queue.store, org, prefixes):
            remembered.setdefault(one[:PAIR_LETTERS], []).append(one)
        for pair, prefix in zip(mine, prefixes, strict=True):
            ids = remembered.get(prefix, [])
            whole = [job_id for job_id in ids if len(job_id) == 2 * PAIR_LETTERS]
            records = reading.all_records(client, org, [job_id for job_id in whole if job_id not in pair.ids])
            # Of a producer's own ids only hashes are remembered.
            own = len(ids) - len(whole) - pair.own
            judge = (org, pair.witness_id if pair.absent_since_ms else "")
            if judge not in witnesses:
                witnesses[judge] = doubts.witness(client, *judge)
            others = sum(map(_may_be_issued, records)) + max(0, own)
            if pair.absent_since_ms and witnesses[judge] is None:  # undone since, say: the looks begin again
                yield replace(pair, others=others, absent_since_ms=None), doubts.witness(client, org)
            else:
                yield replace(pair, others=others), witnesses[judge]


def _may_be_issued(record: Record | None) -> bool:
    """Say whether the vendor may show the badge of another job; one that has expired may be, too."""
    if record is None:
        return True
    state = state_of(record)
    if state is State.DEAD:
        return Field.WAS_IN_DOUBT in record
    return state not in (State.QUEUED, State.RETRYING) or Field.WAS_IN_DOUBT in record


def _look(operator: Operator, lookups: Lookups, pair: Pair, witness: Witness | None, now_ms: int) -> Looked:
    """Look once at a pair, if that can tell anything by now."""
    org, since_ms = operator.orgs.get(pair.org), pair.absent_since_ms
    if org is None or not org.api_base_url:
        return Looked(pair, "unclear", "its org isn't configured here")
    if now_ms < pair.tells_from_ms:
        why = "looked at once: not shown" if since_ms else "in doubt for less than ten minutes"
        return Looked(pair, "waiting", why, pair.tells_from_ms)
    if since_ms is None or witness is None:
        return _first_look(operator, lookups, org, pair, witness)
    return _second_look(lookups, org, pair, witness)


def _first_look(
    operator: Operator, lookups: Lookups, org: Org, pair: Pair, witness: Witness | None
) -> Looked:
    shown = lookups.earn_count(org, pair.badge, pair.customer)
    if not isinstance(shown, int):
        return Looked(pair, "unclear", shown.why, calls=1)
    if shown:
        return _shown(pair, shown, calls=1)
    if witness is None or witness.issued_at_ms <= pair.died_ms:
        return Looked(pair, "unclear", NO_WITNESS, calls=1)
    now_ms = deadlist.now_ms(operator.reports)
    doubts.conclude(operator.queue, org.name, pair.ids, "absent", witness=witness.id, died_by_ms=pair.died_ms)
    return Looked(pair, "waiting", "looked at once: not shown", now_ms + AFTER_MS, calls=1)


def _second_look(lookups: Lookups, org: Org, pair: Pair, witness: Witness) -> Looked:
    """Look again: the witness first, since shown only after a zero was read it would say nothing of that."""
    seen = lookups.earn_count(org, witness.badge, witness.customer)
    if not isinstance(seen, int):
        return Looked(pair, "unclear", seen.why, calls=1)
    if not seen:
        return Looked(pair, "unclear", "the vendor doesn't show what was issued later either", calls=1)
    shown = lookups.earn_count(org, pair.badge, pair.customer)
    if not isinstance(shown, int):
        return Looked(pair, "unclear", shown.why, calls=2)
    return _shown(pair, shown, calls=2) if shown else Looked(pair, "not_issued", calls=2)


def _shown(pair: Pair, count: int, *, calls: int) -> Looked:
    """Judge a count: it must be enough for these and for all others that were issued."""
    if count >= len(pair.ids) + pair.others:
        return Looked(pair, "issued", calls=calls)
    return Looked(pair, "unclear", "shown, but not as often as it may have been issued", calls=calls)
