"""Who acts in a world: workers, producers and an operator, each with the program's own Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from random import Random
from typing import Any

from greenlet import getcurrent
from redis.exceptions import RedisError
from simulation.hub import SECOND, Process
from simulation.knowledge import Broken, Knowledge, Pair
from simulation.line import Line
from simulation.plan import Act, Producer
from simulation.world import World

from worker.delivery import Delivered, Delivery
from worker.domain.actor import Actor, Via
from worker.domain.badge import Badge
from worker.domain.batch import Batch, Item, Replay, Sent, Settled, Slot, Wait
from worker.domain.identity import content_id
from worker.domain.item import Source
from worker.domain.job import DeadKind, Job
from worker.domain.org import Org
from worker.domain.outcome import Issued, Verdict
from worker.domain.settlement import Settlement
from worker.enqueue import EnqueueOptions, item_of
from worker.errors import NotAllowed, NotFound, StoreError
from worker.operate import cancelling, deadletters, deadlist, replaying, undoing
from worker.operate.deadlist import Filter
from worker.operate.mending import mend
from worker.operate.operator import Operator
from worker.operate.runs import JobReader
from worker.operate.status import OrgState
from worker.operate.which import Which
from worker.sandbox.vendor import Vendor
from worker.store import audit
from worker.store.letters import GroupDone, GroupPart
from worker.store.pool import Seats
from worker.store.queue import SEND_WINDOW_S, Queue
from worker.store.record import Answer
from worker.vendor.auth import Authenticator
from worker.vendor.doubt import DoubtChecker
from worker.vendor.lookups import Lookups
from worker.vendor.revoking import Revoker

BADGES = ("696f0fd40772ad476ecf74ac", "697a16140772ad476ecfe51c", "69aa16140772ad476ecfe5aa")
MISSING = BADGES[2]
CHANGED = "5f5f0fd40772ad476ecf7400"
CUSTOMER, DATE = 500_000_000, 1674292011
AHEAD_MS = 2000
SWEEP_S = 120.0  # how long a worker sleeps at most: hints are lost only by faults
BEAT_S, BEATS_A_SWEEP = 15, 8
SEAT_WAIT_MS = 2000  # ten times what a real one waits: nothing happens in between
BEGIN_S, RESTART_S = (0.0, 4.0), (0.5, 20.0)
ACCEPTED = {Answer.ACCEPTED, Answer.CANCELLED, Answer.REPEATED, Answer.INVALID}


class OnlookersQueue(Queue):
    """The queue, with somebody who notes what is asked and answered."""

    def __init__(self, world: World) -> None:
        super().__init__(
            world.client,
            replicas=world.plan.replicas,
            clock=world.time,
            new_id=world.new_id,
            scripts=world.scripts,
        )
        self._world = world
        self._heard: set[str] = set()  # orgs whose clock was heard

    def enqueue(self, org: Org, *, items: Sequence[Item], run: str, **more: Any) -> list[Answer]:
        """Note what was accepted."""
        known = self._world.known[org.name]
        try:
            answers = super().enqueue(org, run=run, items=items, **more)
        except BaseException:
            known.uncounted = True
            raise
        known.accepted |= {it.id for it, answer in zip(items, answers, strict=True) if answer in ACCEPTED}
        known.duplicates[run] += sum(answer not in ACCEPTED for answer in answers) + more.get("duplicates", 0)
        return answers

    def claim(self, org: Org, batch: str, *, share: int | None = None, durably: bool = True) -> Batch | Wait:
        """Note which batch the caller is about; and whether it could know that the clock leapt ahead."""
        getcurrent().batch, known = batch, self._world.known[org.name]
        began_s, was_paused, has_heard = self.clock.steady_s(), known.paused, org.name in self._heard
        if not has_heard:
            getcurrent().then = lambda: self._world.excuse(known) if known.leapt else None
        found = super().claim(org, batch, share=share, durably=durably)
        if isinstance(found, Batch):
            getcurrent().batch = found.id
            getcurrent().send_by = max(began_s, found.slot_from) + SEND_WINDOW_S
            if was_paused and known.paused:
                raise Broken(f"{batch} was claimed while {org.name} was paused")
        known.leapt = known.leapt and not has_heard
        self._heard.add(org.name)
        return found

    def settle(
        self, org: Org, batch: Batch, settled: Sequence[Settlement], *, verdict: Verdict, sent: Sent
    ) -> Settled:
        """Note which badges were written down, unless a fail-over came before the answer was heard."""
        known, holds = self._world.known[org.name], self._world.holding()
        done = super().settle(org, batch, settled, verdict=verdict, sent=sent)
        if not holds():
            return done
        known.settled.add(batch.id)
        for job, settlement in zip(batch.jobs, settled, strict=True):
            if isinstance(settlement, Issued):
                known.answered[settlement.earned_badge_id] = job.id
        return done

    def release(self, org: Org, batch: str, jobs: Sequence[Job], *, share: int | None = None) -> Settled:
        """Note which batch is over, as in settle."""
        holds = self._world.holding()
        done = super().release(org, batch, jobs, share=share)
        if holds():
            self._world.known[org.name].settled.add(batch)
        return done

    def hint(self, org: str, at_ms: int, *, seen: str = "") -> None:
        """Wake somebody then: a hint that isn't lost rings a bell."""
        super().hint(org, at_ms, seen=seen)
        self._world.ring(org, at_ms)

    def reserve_call(self, org: Org, call: str, **more: Any) -> Slot | Wait:
        """Note that a call is paid for, which may never be made."""
        self._world.known[org.name].calls += 1
        return super().reserve_call(org, call, **more)

    def replay(self, org: Org, *, items: Sequence[Replay], **more: Any) -> dict[str, Any]:
        """Note what may be issued again, where that was asked for."""
        known, asked = self._world.known[org.name], self._world.hub.process.notes.get("may_issue_again")
        if asked:
            again = [item.id for item in items if not item.new]
            # As it is when the server first does it, and never again for that call.
            getcurrent().then = lambda: known.may_issue_again(again)
        return super().replay(org, items=items, **more)

    def discard_group(self, org: str, of: GroupPart, **more: Any) -> GroupDone:
        """Note what must never be sent again."""
        ids, holds = set(self._world.probe.letters(org, of.number)), self._world.holding()
        answer = super().discard_group(org, of, **more)
        if answer.done == len(ids):
            self._note_discarded(org, ids, holds=holds())
        return answer

    def pause(self, org: str, *, why: str, reason: str) -> bool:
        """Note that nothing may be claimed from now on."""
        known = self._world.known[org]
        resumed, holds = known.resumed, self._world.holding()
        was_open = super().pause(org, why=why, reason=reason)
        known.paused = holds() and known.resuming == 0 and known.resumed == resumed
        return was_open

    def resume(self, org: Org) -> str:
        """Note that what is paused may be claimed again, from before that is asked."""
        known = self._world.known[org.name]
        known.paused, known.resuming = False, known.resuming + 1
        try:
            return super().resume(org)
        finally:
            known.resuming -= 1
            known.resumed += 1

    def discard(self, org: str, ids: Sequence[str], **more: Any) -> int:
        """Note what must never be sent again."""
        holds = self._world.holding()
        done = super().discard(org, ids, **more)
        if done == len(ids):
            self._note_discarded(org, set(ids), holds=holds())
        return done

    def _note_discarded(self, org: str, ids: set[str], *, holds: bool) -> None:
        if self._world.plan.replicas or holds:
            self._world.known[org].discarded |= ids


class Cast:
    """All who act in a world."""

    def __init__(self, world: World, vendor: Vendor) -> None:
        self.world, self._vendor = world, vendor
        self._random = Random(f"cast {world.plan.seed}")
        self.busy = 0  # producers and acts that aren't done

    def enter(self) -> None:
        """Start everybody."""
        for number, threads in enumerate(self.world.plan.workers):
            self._start_worker(f"worker{number}", threads, self._random.uniform(*BEGIN_S))
        for number, producer in enumerate(self.world.plan.producers):
            self.busy += 1
            self._start_producer(f"producer{number}", producer, producer.at_s)
        for number, act in enumerate(self.world.plan.acts):
            self.busy += 1
            self._start_operator(f"operator{number}", act)

    # -- processes that end, and what comes after

    def _start(
        self, name: str, runs: Iterable[Callable[[], None]], *, at_s: float, after: Callable[[bool], None]
    ) -> None:
        """Start a process; afterwards, say whether it ended by itself."""
        process, runs = Process(name), list(runs)
        left = len(runs)

        def guarded(run: Callable[[], None]) -> Callable[[], None]:
            def main() -> None:
                nonlocal left
                try:
                    if process.alive:
                        run()
                finally:
                    left -= 1
                    if left == 0:
                        after(process.alive)

            return main

        for run in runs:
            self.world.hub.spawn(process, guarded(run), after_us=int(at_s * SECOND))

    def _again_s(self) -> float:
        return self._random.uniform(*RESTART_S)

    # -- workers

    def _start_worker(self, name: str, threads: int, at_s: float) -> None:
        worker = Worker(self.world, self._vendor, name, threads)

        def after(_: bool) -> None:  # noqa: FBT001
            self._start_worker(name, threads, self._again_s())

        # A process' threads begin at once; only a crash ends them, each where it is.
        self._start(name, worker.runs(), at_s=at_s, after=after)

    # -- producers

    def _start_producer(self, name: str, producer: Producer, at_s: float) -> None:
        def run() -> None:
            produce(self.world, producer)

        def after(is_done: bool) -> None:  # noqa: FBT001
            self.busy -= is_done
            if not is_done:  # whoever imports comes again, with the same file
                self._start_producer(name, producer, self._again_s())

        self._start(name, [run], at_s=at_s, after=after)

    # -- operators

    def _start_operator(self, name: str, act: Act) -> None:
        def run() -> None:
            with suppress(StoreError, RedisError):
                Person(self.world).do(act)

        def after(_: bool) -> None:  # noqa: FBT001
            self.busy -= 1

        self._start(name, [run], at_s=act.at_s, after=after)

    def resume_all(self) -> None:
        """Let an operator look after what is paused, from now on."""

        def run() -> None:
            person = Person(self.world)
            while True:
                for name in self.world.known:
                    person.operator.resume(name)
                self.world.hub.pause(300 * SECOND)

        self._start("caretaker", [run], at_s=0, after=lambda _: None)


class Worker:
    """A worker process: what its threads share, and their loop."""

    def __init__(self, world: World, vendor: Vendor, name: str, threads: int) -> None:
        self._world, self._name, self._threads = world, name, threads
        self.queue = OnlookersQueue(world)
        line: Any = Line(world, vendor)
        auth = Authenticator(queue=self.queue, client=line)
        jitter = Random(f"jitter {world.plan.seed} {name}")
        self._delivery = Delivery(queue=self.queue, client=line, auth=auth, random=jitter.random)
        self._revoker = Revoker(self.queue, line, auth)
        self._checker = DoubtChecker(self.queue, Lookups(self.queue, line, auth))
        self._seats = Seats(queue=self.queue)

    def runs(self) -> list[Callable[[], None]]:
        """Return what its threads do."""
        turn = self._look_for_due if self._world.plan.pooled else self._take_turns
        beats = [self._beat] if self._world.plan.pooled else []
        return [*beats, *[partial(self._deliver_for_good, turn)] * self._threads]

    def _deliver_for_good(self, turn: Callable[[], float]) -> None:
        """Take turn after turn, when one is due or somebody rings; what the store refuses is tried again."""
        while True:
            try:
                sleep_s = turn()
            except (StoreError, RedisError):
                sleep_s = 1.0
            self._world.hub.sleep(int(min(SWEEP_S, max(0.005, sleep_s)) * SECOND))

    # -- alone: every org in turn

    def _take_turns(self) -> float:
        for known in self._world.known.values():
            self._turn(known.org)
        return SWEEP_S

    def _turn(self, org: Org) -> None:
        """Deliver while there is more; somebody is woken for what is to be done later, or beside it."""
        ring = self._world.ring

        def go_on(step: Batch | Settled) -> None:
            ring(org.name, self._world.server_us // 1000 if step.more else step.look_at_ms)

        while True:
            last = self._deliver(org, go_on)
            if isinstance(last, Wait):
                ring(org.name, last.look_at_ms)
                if last.check:
                    self._look_aside(org)
                return
            if not last.settled.more:
                return

    def _look_aside(self, org: Org) -> None:
        self._revoker.work(org)
        self._checker.check(org)

    def _deliver(
        self, org: Org, go_on: Callable[[Batch | Settled], None], *, share: int | None = None
    ) -> Delivered | Wait:
        """Claim a batch and send it, and say after both what there is to do besides."""
        claimed = self._delivery.claim(org, share=share)
        if isinstance(claimed, Wait):
            return claimed
        go_on(claimed.batch)
        last = self._delivery.send(org, claimed)
        if isinstance(last, Delivered):
            go_on(last.settled)
        return last

    # -- in the pool that the orgs share

    def _beat(self) -> None:
        """Say that the worker is alive, and look now and then for hints that were lost."""
        for beat in count():
            with suppress(StoreError, RedisError):
                self._seats.offer(self._name, self._threads)
                if beat % BEATS_A_SWEEP == 0:
                    for known in self._world.known.values():
                        self.queue.hint(known.org.name, self.queue.look(known.org).look_at_ms)
                        self.queue.expire_discarded(known.org.name)
            self._world.hub.rest(BEAT_S * SECOND)

    def _look_for_due(self) -> float:
        """Look as a worker's wake-up does, and serve what is due as its tasks do."""
        due, wait_s = self.queue.take_due(ahead_ms=AHEAD_MS)
        for org, seen, _ in due:
            if self.queue.begin(org, seen=seen):
                self._serve(self._world.known[org].org, seen)
        if due and (following := self.queue.take_next(ahead_ms=AHEAD_MS)):
            self._serve(self._world.known[following.org].org, following.seen)
        return SWEEP_S if wait_s is None else wait_s

    def _serve(self, org: Org, seen: str) -> None:
        look_at_ms = self._world.server_us // 1000 + SEAT_WAIT_MS
        with self._seats.take(org, self._name, alone=False) as share:
            if share:
                look_at_ms = self._turn_in_pool(org, share, look_at_ms)
        self.queue.hint(org.name, look_at_ms, seen=seen)

    def _turn_in_pool(self, org: Org, share: int, look_at_ms: int) -> int:
        def go_on(step: Batch | Settled) -> None:
            nonlocal look_at_ms
            look_at_ms = step.look_at_ms
            with suppress(StoreError):
                self.queue.hint(org.name, step.look_at_ms)

        for _ in range(4):
            last = self._deliver(org, go_on, share=share)
            if isinstance(last, Wait):
                if last.check:
                    self._look_aside(org)
                return last.look_at_ms
            if not last.settled.more:
                break
        return look_at_ms


def produce(world: World, producer: Producer) -> None:
    """Hand in the rows, chunk by chunk, each until it is accepted."""
    known, queue = world.known[producer.org], OnlookersQueue(world)
    options = EnqueueOptions(producer.run, "call", urgent=producer.urgent)
    starts_ms = world.server_us / 1000 + producer.later_s * 1000 if producer.later_s else None
    how: dict[str, Any] = {"run": producer.run, "urgent": producer.urgent, "starts_ms": starts_ms}
    for at in range(0, len(producer.rows), producer.chunk):
        rows = producer.rows[at : at + producer.chunk]
        sources = [Source(str(at + n), row_of(row)) for n, row in enumerate(rows)]
        items = [item_of(source, known.org, options)[0] for source in sources]
        for row, item in zip(rows, items, strict=True):
            if row >= 0:
                known.met(item.id, Pair.of(badge_of(row_of(row))))
        call = world.new_id()
        while True:
            try:
                queue.enqueue(known.org, items=items, call=call, **how)
                break
            except StoreError:
                world.time.sleep(1.0)


def row_of(number: int) -> dict[str, Any]:
    """Return a row; several badges of one customer, so that the vendor may be busy with it."""
    if number < 0:
        return {"badgeMetaId": BADGES[0], "customerId": f"C{number}"}
    badge = MISSING if number % 7 == 6 else BADGES[number % 2]
    return {"badgeMetaId": badge, "customerId": CUSTOMER + number // 2, "earnEventDate": DATE}


def badge_of(row: dict[str, Any]) -> Badge:
    """Return the badge that a row is about."""
    return Badge(row["badgeMetaId"], row["customerId"], earn_event_date=row["earnEventDate"])


def _meet_changed(known: Knowledge, pair: Pair) -> None:
    """Note the job that takes another's place, once its badge is changed."""
    changed = Badge(CHANGED, pair.customer, earn_event_date=DATE)
    known.met(content_id(known.org.name, changed), Pair.of(changed))


class _Reader(JobReader):
    """One that says no time to go, for which scripts are asked that know no simulated time."""

    def states(self, *_: str) -> list[OrgState]:
        """Return none."""
        return []


class Person:
    """An operator with the command line."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.queue = OnlookersQueue(world)
        orgs = {name: known.org for name, known in world.known.items()}
        self._reader = _Reader(client=world.client, orgs=orgs)
        self.operator = Operator(self.queue, self._reader, orgs, Actor(Via.USER, "simulation"), "lunch")
        self._random = Random(f"operator {world.plan.seed} {world.hub.now_us}")

    def do(self, act: Act) -> None:
        """Do one thing."""
        if act.what != "wait":
            getattr(self, f"_{act.what}")(self.operator.orgs[act.org])

    def _pause(self, org: Org) -> None:
        self.operator.pause(org.name)

    def _resume(self, org: Org) -> None:
        self.operator.resume(org.name)

    def _start(self, org: Org) -> None:
        run = self._random.choice(("spring", "summer"))
        action = audit.action_id(self.queue, "start")
        self.operator.begin(org.name, action, {"run": run})
        self.queue.start(org, run, call=self._world.new_id(), action=action)

    def _cancel(self, org: Org) -> None:
        action = audit.action_id(self.queue, "cancel")
        run = self._random.choice(("spring", "summer"))
        self.operator.begin(org.name, action, {"run": run})
        if self._random.random() < 0.5:
            cancelling.cancel_run(self.operator, org.name, run, action=action, on_progress=lambda _: None)
            return
        ids = list(self._reader.ids(org.name, run))
        cancelling.cancel(self.queue, org.name, ids, action=action, on_progress=lambda _: None)

    def _replay(self, org: Org, kind: DeadKind | None = None, **more: Any) -> None:
        which = Filter(org=org.name, kind=kind)
        replaying.replay_all(self.operator, which, may_issue_twice=kind is DeadKind.IN_DOUBT, **more)

    def _replay_in_doubt(self, org: Org) -> None:
        self._world.hub.process.notes["may_issue_again"] = True
        self._replay(org, DeadKind.IN_DOUBT)

    def _replay_changed(self, org: Org) -> None:
        known = self._world.known[org.name]
        for pair in list(known.jobs):
            _meet_changed(known, pair)
        self._replay(org, changes={"badgeMetaId": CHANGED})

    def _undo(self, org: Org) -> None:
        which = Which(org=org.name, since_ms=1)  # what is issued by now, of all runs
        with suppress(NotAllowed, NotFound):
            found = undoing.plan(self._reader, which)
            undoing.undo(self.operator, found, which)

    def _discard(self, org: Org) -> None:
        kind = self._random.choice((None, DeadKind.CANCELLED, DeadKind.IN_DOUBT, DeadKind.REJECTED))
        which = Filter(org=org.name, kind=kind)
        deadletters.discard_all(self.operator, which)

    def _resolve_issued(self, org: Org) -> None:
        self._resolve(org, issued=True)

    def _resolve_not_issued(self, org: Org) -> None:
        self._world.hub.process.notes["may_issue_again"] = True
        self._resolve(org, issued=False)

    def _resolve(self, org: Org, *, issued: bool) -> None:
        letters = list(deadlist.rows(self._reader, Filter(org=org.name, kind=DeadKind.IN_DOUBT)))
        for letter in letters[:2]:
            with suppress(NotAllowed):  # its run is only half cancelled
                deadletters.resolve(self.operator, org, letter["job_id"], issued=issued)

    def _mend(self, org: Org) -> None:
        known = self._world.known[org.name]
        rows = []
        for n, letter in enumerate(deadlist.rows(self._reader, Filter(org=org.name))):
            if pair := known.pairs.get(letter["job_id"]):
                _meet_changed(known, pair)
                rows.append(Source(str(n), letter | {"badgeMetaId": CHANGED}))
        list(mend(self.queue, org, rows, EnqueueOptions("mended", self._world.new_id())))

    def _reimport(self, org: Org) -> None:
        for producer in self._world.plan.producers:
            if producer.org == org.name:
                produce(self._world, producer)
