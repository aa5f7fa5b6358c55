"""What an onlooker knows of a round, from what was answered, and the promises that can be held against it."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from simulation.hub import SECOND
from simulation.probe import Held, Record

from worker.domain.badge import Badge, one_case
from worker.domain.org import Org

TERMINAL = {"issued", "dead", "undone"}
COUNTERS = ("queued", "sending", "retrying", "issued", "dead", "undone")


class Broken(AssertionError):  # noqa: N818 - reads as what is the case
    """A promise was broken; the text says which and how."""


class Pair(NamedTuple):
    """What the vendor tells badges apart by. No two jobs of a round have the same."""

    badge: str
    customer: int

    @classmethod
    def of(cls, badge: Badge) -> Pair:
        """Return a badge's."""
        return cls(one_case(badge.badge_meta_id), badge.customer_id)


@dataclass
class Knowledge:
    """What is known of one org. ``doubtful`` are jobs of which a fail-over may have lost what was said."""

    org: Org
    accepted: set[str] = field(default_factory=set)
    pairs: dict[str, Pair] = field(default_factory=dict)
    jobs: dict[Pair, str] = field(default_factory=dict)
    issues: Counter[Pair] = field(default_factory=Counter)
    on_the_way: Counter[Pair] = field(default_factory=Counter)
    allowed: dict[Pair, int] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    discarded: set[str] = field(default_factory=set)
    answered: dict[str, str] = field(default_factory=dict)  # earnedBadgeIds of settlements that were taken
    settled: set[str] = field(default_factory=set)  # batches that are over
    duplicates: Counter[str] = field(default_factory=Counter)
    uncounted: bool = False  # an answer was never heard, or forgotten: what repeats it may count again
    open_until: list[int] = field(default_factory=list)
    sends: deque[tuple[int, int]] = field(default_factory=deque)
    calls: int = 0
    items: int = 0
    unsure_until_us: int = 0  # the limit isn't held against what the store forgot, or couldn't know
    paused: bool = False  # for certain
    resuming: int = 0  # that are on their way
    resumed: int = 0
    leapt: bool = False  # the server's clock, and nobody who had heard it before has claimed since

    def met(self, job: str, pair: Pair) -> None:
        """Note which badge a job is."""
        self.pairs[job], self.jobs[pair] = pair, job

    # -- the vendor's ledger

    def issued(self, pair: Pair) -> None:
        """Note that the vendor issued a badge; never twice, unless that was asked for in so many words."""
        self.issues[pair] += 1
        allowed = self.allowed.get(pair, 1)
        if self.issues[pair] > allowed and self.org.in_doubt != "resend":
            job = self.jobs.get(pair, "?")
            if job not in self.doubtful:
                raise Broken(f"issued twice: job {job} ({self.issues[pair]} times, allowed {allowed})")

    def may_issue_again(self, jobs: Iterable[str]) -> None:
        """Note that an operator asked for these to be sent again, whatever became of them."""
        for job in jobs:
            if pair := self.pairs.get(job):
                so_far = self.issues[pair] + self.on_the_way[pair]
                self.allowed[pair] = max(self.allowed.get(pair, 1), so_far + 1)

    # -- the limit, where it is sent

    def sent(self, at_us: int, items: int, until_us: int) -> None:
        """Note a call that leaves now and is over then: within every window and the cap."""
        self.sends.append((at_us, items))
        for limit in self.org.limits:
            used = 0
            for sent_us, its in reversed(self.sends):
                if sent_us <= at_us - limit.window_s * SECOND:
                    break
                used += its if limit.of_items else 1
            if used > limit.count and at_us >= self.unsure_until_us:
                raise Broken(f"window over its limit: {used} in {limit}")
        if items:
            self.open_until = [end for end in self.open_until if end > at_us]
            self.open_until.append(until_us)
            if len(self.open_until) > self.org.max_in_flight and at_us >= self.unsure_until_us:
                raise Broken(f"{len(self.open_until)} calls at once, of {self.org.max_in_flight}")

    def tried(self, items: int) -> None:
        """Note that a call is made, whether it reaches the vendor or not."""
        self.calls += 1
        self.items += items

    def call_is_over(self, until_us: int) -> None:
        """Note that a call was answered before its end."""
        if until_us in self.open_until:
            self.open_until.remove(until_us)

    # -- what the store holds

    def check(self, held: Held) -> None:
        """Hold the promises against what the store holds, whatever is going on."""
        self._nothing_is_lost(held)
        self._batches(held)
        self._counters(held)

    def _nothing_is_lost(self, held: Held) -> None:
        if lost := self.accepted - held.jobs.keys() - self.doubtful:
            raise Broken(f"lost: {sorted(lost)}")
        waiting = set(held.waiting)
        carried = {job for ids in held.batches.values() for job in ids}
        for job, record in held.jobs.items():
            is_found = {
                "queued": job in waiting,
                "retrying": job in held.retrying,
                "sending": job in carried,
                "issued": True,
                "undone": True,
                "dead": bool(record.kind),
            }.get(record.state)
            if not is_found:
                raise Broken(f"lost: {job} is {record.state}, and nobody would find it")

    def _batches(self, held: Held) -> None:
        carrying: dict[str, str] = {}
        for batch, ids in held.batches.items():
            if batch in self.settled:
                raise Broken(f"{batch} is over, and lives again: nobody would send what it holds")
            for job in ids:
                if job in carrying:
                    raise Broken(f"{job} is in two live batches: {carrying[job]} and {batch}")
                carrying[job] = batch
                record = held.jobs.get(job)
                its_own = record and record.batch == batch and record.state in {"sending", "issued"}
                if not its_own and not (record and record.state in {"issued", "undone"}):
                    raise Broken(f"{job} is in the live batch {batch}, but {record}")
            if batch not in held.leases:
                raise Broken(f"batch {batch} has no lease: nobody would give it up")

    def _counters(self, held: Held) -> None:
        states: dict[str, Counter[str]] = defaultdict(Counter)
        for job, record in held.jobs.items():
            its = states[record.run]
            its["total"] += 1
            its[record.state] += 1
            if record.state == "dead":
                its[f"dead:{record.kind}"] += 1
                its["unhandled"] += job in held.dead.get(record.kind, ())
        for run in held.runs.keys() | states.keys():
            _count_is_right(run, held.runs.get(run, {}), states[run], said_over=run in held.finished)
        for kind, ids in held.dead.items():
            for job in ids:
                if held.jobs[job].state != "dead" or held.jobs[job].kind != kind:
                    raise Broken(f"{job} is listed as {kind}, but {held.jobs[job]}")
        for name, made in (("requests", self.calls), ("items", self.items)):
            if (counted := held.stats.get(name, 0)) > made and not self.uncounted:
                raise Broken(f"{counted} {name} are counted, {made} were made")

    # -- in the end

    def has_ended(self, held: Held) -> bool:
        """Say whether everything has come to its end."""
        is_over = all(record.state in TERMINAL for record in held.jobs.values())
        return is_over and self.accepted - self.doubtful <= held.jobs.keys() and not held.batches

    def check_end(
        self, held: Held, earned: dict[str, Pair], revoked: frozenset[str], *, faultless: bool, sure: bool
    ) -> None:
        """Hold records, counters and the vendor's ledger against each other, once all has ended.

        ``faultless``: nothing may be in doubt. ``sure``: what is said to be issued was.
        """
        self.check(held)
        if held.busy:
            raise Broken(f"customers are said to be busy for good, in {held.busy}")
        for job, record in held.jobs.items():
            self._ended_well(job, record, earned, revoked, faultless=faultless)
            pair = self.pairs.get(job)
            if (
                sure
                and record.state == "issued"
                and pair
                and not self.issues[pair]
                and job not in self.doubtful
            ):
                raise Broken(f"{job} is said to be issued, and wasn't")
        taken_back = revoked & {record.earned for record in held.jobs.values() if record.state == "undone"}
        for badge, job in self.answered.items():
            record = held.jobs.get(job)
            # One that was taken back is told by the job that did so, if an answer about another came later.
            known = badge in taken_back or (record and badge in {record.earned, record.second})
            if job not in self.doubtful and not known:
                raise Broken(f"{job} was answered as issued, {badge}, and the record is {record}")
        for run, number in self.duplicates.items():
            told = held.runs.get(run, {}).get("duplicates", 0)
            if told != number and not self.uncounted:
                raise Broken(f"run {run} counts {told} duplicates, and {number} were answered")

    def _ended_well(
        self, job: str, record: Record, earned: dict[str, Pair], revoked: frozenset[str], *, faultless: bool
    ) -> None:
        """Hold a record against the vendor's ledger."""
        if job in self.doubtful:
            return
        if record.state == "undone" and {record.earned, record.second} - {""} - revoked:
            raise Broken(f"{job} is undone, and its badge is active: {record}")
        if record.earned and record.earned not in earned:
            raise Broken(f"{job} has a result, {record.earned}, that the vendor never gave")
        if job in self.discarded and record.replaced_as:
            raise Broken(f"{job} was discarded, and another job took its place: {record}")
        if job in self.discarded and record.state == "issued" and not record.earned:
            raise Broken(f"{job} was discarded, and is said to be issued by nobody's answer")
        pair = self.pairs.get(job)
        well = record.state in {"issued", "undone"} or record.kind in {"in_doubt", "invalid"}
        is_asked = pair in self.allowed or self.org.in_doubt == "resend"
        if pair and self.issues[pair] and not well and not is_asked:
            raise Broken(f"{job} was issued, and is {record.state} {record.kind}")
        if faultless and record.kind == "in_doubt":
            raise Broken(f"{job} is in doubt, and nothing went wrong")


def _count_is_right(run: str, counted: dict[str, int], its: Counter[str], *, said_over: bool) -> None:
    """Hold a run's counters against its records."""
    names = (*COUNTERS, "total", "unhandled", *(name for name in counted if name.startswith("dead:")))
    told = {name: counted.get(name, 0) for name in names}
    if told != {name: its[name] for name in names}:
        raise Broken(f"run {run} counts {told}, but has {dict(its)}")
    is_over = its["queued"] + its["sending"] + its["retrying"] == 0
    if is_over != said_over:
        raise Broken(f"run {run} is {'' if is_over else 'not '}over, but doesn't say so")
