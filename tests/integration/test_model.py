"""Any order of events against a simple model: each job in one state, each count right, none sent twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support import OTHER_BADGE, Probe, configured, item, long_too

from worker.domain.batch import Batch, Item, Replay, Sent, Settled, Wait, Why
from worker.domain.job import DeadKind
from worker.domain.outcome import Issued, Signal, Verdict
from worker.domain.settlement import DeadLetter, Isolate, PutBack, Retry, Settlement
from worker.store import forgets, keys, reading
from worker.store.protocol import ttl_ms
from worker.store.queue import Queue, new_id
from worker.store.record import SEPARATOR, carried_by, read

ORG = configured(batch_size=3, max_in_flight=5, rate_limit="100000/second")
RUNS = ("one", "two")
OPEN = "qsr"
EXAMPLES = 25 if long_too() else 6

# What may become of a job: the verb, and for a dead letter its kind.
OUTCOMES = {
    "issued": "i",
    "rejected": "d",
    "exhausted": "d",
    "in_doubt": "d",
    "retry": "r",
    "put back": "q",
    "isolate": "z",
}


@dataclass
class ModelJob:
    """What a job must be."""

    run: str
    state: str
    kind: str = ""
    batch: str = ""
    earned: str = ""
    second: str = ""
    indexed: bool = False
    due: bool = False  # its retry
    replaced: bool = False
    was_in_doubt: bool = False

    def letter(self, run: str) -> str:
        """Return what a producer is told who brings it again, under this run."""
        if self.run == run:
            return "i" if self.kind == "invalid" else "A"
        if self.state != "d" or not (self.indexed or self.replaced):
            return "d"
        return "R" if self.replaced else "Q" if self.kind == "in_doubt" else "D"


@dataclass
class ModelBatch:
    """A batch that was claimed, and what its settlement answered."""

    claimed: Batch
    state: str = "open"
    answer: Settled | None = None


@dataclass
class Model:
    """All there is."""

    jobs: dict[str, ModelJob] = field(default_factory=dict)
    batches: dict[str, ModelBatch] = field(default_factory=dict)
    overdue: set[str] = field(default_factory=set)
    duplicates: Counter[str] = field(default_factory=Counter)
    runs: set[str] = field(default_factory=set)
    paused: bool = False
    twice: int = 0
    cancelled: set[str] = field(default_factory=set)  # runs

    def in_state(self, state: str) -> set[str]:
        """Return the ids of the jobs in a state."""
        return {job_id for job_id, job in self.jobs.items() if job.state == state}

    def bury(self, job: ModelJob, kind: str) -> None:
        """Make a dead letter; where an earlier call may have applied it, a cancelled one is in doubt."""
        job.was_in_doubt = job.was_in_doubt or kind == "in_doubt"
        job.state, job.indexed = "d", True
        job.kind = "in_doubt" if kind == "cancelled" and job.was_in_doubt else kind

    def is_half_cancelled(self, run: str) -> bool:
        """Say whether some of a cancelled run waits, or is being sent, yet."""
        return run in self.cancelled and any(it.run == run and it.state in OPEN for it in self.jobs.values())

    def is_sendable(self, job: ModelJob) -> bool:
        """Say whether a dead letter can be replayed as it is."""
        return job.indexed and job.kind != "invalid" and not self.is_half_cancelled(job.run)

    def move(self, job: ModelJob, state: str) -> None:
        """Give a job that is no dead letter its state."""
        job.state, job.kind, job.indexed, job.due = state, "", False, False

    def waits_again(self, job: ModelJob, state: str) -> bool:
        """Let a job wait, unless its run was cancelled; answers whether it waits."""
        if job.run in self.cancelled:
            self.bury(job, "cancelled")
            return False
        self.move(job, state)
        return True

    def sweep(self) -> None:
        """Do what every claim does first: give up overdue leases, put back due retries."""
        for batch_id in self.overdue:
            self.batches[batch_id].state = "lost"
            for job in self.jobs.values():
                if job.state == "s" and job.batch == batch_id:
                    self.bury(job, "in_doubt")
        self.overdue.clear()
        for job_id in self.in_state("r"):
            if self.jobs[job_id].due:
                self.move(self.jobs[job_id], "q")

    def in_batch_state(self, state: str) -> list[str]:
        """Return the batches that are open, lost or done."""
        return [batch_id for batch_id, batch in self.batches.items() if batch.state == state]

    def open_batches(self) -> set[str]:
        """Return the batches that somebody may still be sending."""
        return set(self.in_batch_state("open"))

    def settle(self, batch_id: str, outcomes: list[str]) -> Settled:
        """Say what settling a batch must do and answer; late answers as ``DESIGN`` has them."""
        batch = self.batches[batch_id]
        count: Counter[str] = Counter()
        twice = []
        for job_id, outcome in zip((job.id for job in batch.claimed.jobs), outcomes, strict=True):
            verb = OUTCOMES[outcome]
            if (job := self.jobs.get(job_id)) is None:  # forgotten
                continue
            ours = job.batch == batch_id
            given_up = ours and job.state == "d" and job.kind == "in_doubt" and job.indexed
            if (ours and job.state == "s") or (given_up and outcome != "in_doubt"):
                if verb == "d":
                    self.bury(job, outcome)
                elif verb == "i":
                    self.move(job, "i")
                    job.earned = f"{batch_id}.{job_id}"
                elif not self.waits_again(job, "q" if verb == "z" else verb):
                    verb = "d"
                count[verb] += 1
            elif verb != "i":
                count["late"] += 1
            elif job.state != "i":
                count["i"] += 1
                self.move(job, "i")
                job.earned = f"{batch_id}.{job_id}"
            elif not job.earned:
                job.earned = f"{batch_id}.{job_id}"
            else:
                job.second = f"{batch_id}.{job_id}"
                twice.append(job_id)
        batch.state = "done"
        self.overdue.discard(batch_id)
        self.twice += len(twice)
        queued = count["q"] + count["z"]
        return Settled(count["i"], count["d"], count["r"], queued, count["late"], False, 0, tuple(twice))


_OUTCOMES = st.lists(st.sampled_from([*sorted(OUTCOMES), "issued"]), min_size=3, max_size=3)


class Machine(RuleBasedStateMachine):
    """Does to a real server what producers, workers, operators and accidents do."""

    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.queue = Queue(self.client)
        self.model = Model()

    # -- producers

    @rule(
        numbers=st.lists(st.integers(0, 11), min_size=1, max_size=8),
        run=st.sampled_from(RUNS),
        urgent=st.booleans(),
    )
    def enqueue(self, numbers: list[int], run: str, *, urgent: bool) -> None:
        """Accept jobs, long_too of them known."""
        expected = ""
        for it in map(item, numbers):
            job = self.model.jobs.get(it.id)
            if job is None:
                self.model.jobs[it.id] = ModelJob(run, "q")
                waits = self.model.waits_again(self.model.jobs[it.id], "q")
                expected += "a" if waits else "C"
            else:
                expected += job.letter(run)
        items = [item(n) for n in numbers]
        answers = self.queue.enqueue(ORG, run=run, items=items, call=new_id(), urgent=urgent)
        assert answers == list(expected)
        self.model.duplicates[run] += sum(letter not in "aAC" for letter in expected)
        self.model.runs.add(run)

    @rule(number=st.integers(0, 5), run=st.sampled_from(RUNS))
    def enqueue_invalid(self, number: int, run: str) -> None:
        """Accept a row that could not be read."""
        bad = Item(f"bad-{number}", str(number), {"code": "row"}, kind="invalid")
        job = self.model.jobs.get(bad.id)
        expected = job.letter(run) if job else "i"
        if job is None:
            self.model.jobs[bad.id] = ModelJob(run, "d", "invalid", indexed=True)
        assert self.queue.enqueue(ORG, run=run, items=[bad], call=new_id()) == [expected]
        self.model.duplicates[run] += expected != "i"
        self.model.runs.add(run)

    # -- workers

    @rule()
    def claim(self) -> None:
        """Claim whatever there is."""
        self._claim()

    @rule(data=st.data(), outcomes=_OUTCOMES)
    @precondition(lambda self: self.model.in_batch_state("open"))
    def settle(self, data: st.DataObject, outcomes: list[str]) -> None:
        """Settle in time."""
        self._settle(self._draw_batch(data, "open"), outcomes)

    @rule(data=st.data(), outcomes=_OUTCOMES)
    @precondition(lambda self: self.model.in_batch_state("lost"))
    def settle_late(self, data: st.DataObject, outcomes: list[str]) -> None:
        """Settle a batch that was given up."""
        self._settle(self._draw_batch(data, "lost"), outcomes)

    @rule(data=st.data(), outcomes=_OUTCOMES)
    @precondition(lambda self: self.model.in_batch_state("done"))
    def repeat(self, data: st.DataObject, outcomes: list[str]) -> None:
        """Settle once more, whatever is said now; and claim under an id whose batch is over."""
        batch_id = self._draw_batch(data, "done")
        self._settle(batch_id, outcomes)
        assert isinstance(self.queue.claim(ORG, batch_id), Wait)

    @rule(data=st.data())
    @precondition(lambda self: self.model.in_batch_state("open"))
    def repeat_the_claim(self, data: st.DataObject) -> None:
        """Claim under the id of an open batch: the same jobs, as far as no late answer took them from it."""
        batch_id = self._draw_batch(data, "open")
        again = self.queue.claim(ORG, batch_id)
        its = [job.id for job in self.model.batches[batch_id].claimed.jobs]
        its = [one for one in its if (job := self.model.jobs[one]).state == "s" and job.batch == batch_id]
        assert isinstance(again, Batch) == bool(its)
        assert ([job.id for job in again.jobs] if isinstance(again, Batch) else []) == its

    @rule(data=st.data(), state=st.sampled_from(("open", "lost")))
    @precondition(lambda self: self.model.in_batch_state("open") and self.model.in_batch_state("lost"))
    def release(self, data: st.DataObject, state: str) -> None:
        """Give a batch back that was not sent, in time or late."""
        batch_id = self._draw_batch(data, state)
        jobs = self.model.batches[batch_id].claimed.jobs
        self._settled(batch_id, ["put back"] * len(jobs), self.queue.release(ORG, batch_id, jobs))

    # -- time

    @rule(data=st.data())
    @precondition(lambda self: self.model.in_batch_state("open"))
    def lease_ends(self, data: st.DataObject) -> None:
        """A holder has been silent for too long; the next claim finds out."""
        self._lose(self._draw_batch(data, "open"))

    @rule(
        data=st.data(),
        since=st.sampled_from(("left", "discarded", "queued", "sent", "rejected", "retry", "issued")),
    )
    @precondition(lambda self: self.model.in_batch_state("open"))
    def lost(self, data: st.DataObject, since: str) -> None:
        """Give up a batch; what becomes of its jobs until its answer comes after all is one of many."""
        self._lose(self._draw_batch(data, "open"))
        if claimed := self._claim():
            self._settle(claimed, ["put back"] * 3)
        if since == "discarded":
            for job_id in sorted(self.model.in_state("d")):
                self._resolve(job_id, "discard")
        elif since != "left":
            self._replay_all()
        if since not in {"left", "discarded", "queued"} and (again := self._claim()) and since in OUTCOMES:
            self._settle(again, [since] * 3)

    @rule()
    def retries_are_due(self) -> None:
        """The time of all retries has come."""
        retry = keys.key("default", "retry")
        if waiting := self.client.zrange(retry, 0, -1):
            self.client.zadd(retry, dict.fromkeys(waiting, 1))
            for job_id in self.model.in_state("r"):
                self.model.jobs[job_id].due = True

    # -- what the rules are made of

    def _draw_batch(self, data: st.DataObject, state: str) -> str:
        return data.draw(st.sampled_from(self.model.in_batch_state(state)))

    def _claim(self) -> str:
        """Claim, as often as it is told to ask again at once; answers the batch, if there is one."""
        self.model.sweep()
        waiting, room = self.model.in_state("q"), len(self.model.open_batches()) < ORG.max_in_flight
        may = bool(waiting) and room and not self.model.paused
        batch_id = f"b{len(self.model.batches)}"
        answer: Batch | Wait = Wait(Why.IDLE, -1)
        for _ in range(200):
            answer = self.queue.claim(ORG, batch_id)
            if isinstance(answer, Batch) or not may:
                break
        assert isinstance(answer, Batch) == may, answer
        if not isinstance(answer, Batch):
            return ""
        ids = [job.id for job in answer.jobs]
        assert 1 <= len(ids) <= ORG.batch_size
        assert len(set(ids)) == len(ids)
        assert set(ids) <= waiting, "a job was claimed that isn't queued"
        for job_id in ids:
            self.model.jobs[job_id].state, self.model.jobs[job_id].batch = "s", batch_id
        self.model.batches[batch_id] = ModelBatch(answer)
        return batch_id

    def _settle(self, batch_id: str, outcomes: list[str]) -> None:
        """Settle; of the outcomes as many count as there are jobs."""
        batch = self.model.batches[batch_id].claimed
        named = outcomes[: len(batch.jobs)]
        decided = [_settlement(f"{batch_id}.{job.id}", o) for job, o in zip(batch.jobs, named, strict=True)]
        answer = self.queue.settle(ORG, batch, decided, verdict=Verdict((), Signal.OK), sent=Sent("200", 1))
        self._settled(batch_id, named, answer)

    def _settled(self, batch_id: str, outcomes: list[str], answer: Settled) -> None:
        batch = self.model.batches[batch_id]
        if batch.answer is not None:
            assert answer == batch.answer
            return
        batch.answer = answer
        expected = self.model.settle(batch_id, outcomes)
        for name in ("issued", "dead", "retrying", "queued", "late", "twice"):
            assert getattr(answer, name) == getattr(expected, name), name

    def _lose(self, batch_id: str) -> None:
        self.client.zadd(keys.key("default", "leases"), {batch_id: 1})
        self.model.overdue.add(batch_id)

    # -- operators

    @rule()
    @precondition(lambda self: self.model.in_state("d"))
    def replay_all(self) -> None:
        """Replay every dead letter there is."""
        self._replay_all()

    def _replay_all(self) -> None:
        dead = sorted(self.model.in_state("d"))
        sendable = [i for i in dead if self.model.is_sendable(self.model.jobs[i])]
        done = self.queue.replay(ORG, run="again", items=[Replay(job_id) for job_id in dead], call=new_id())
        assert done.pop("cancelling", "") in {"", *filter(self.model.is_half_cancelled, RUNS)}
        assert done == {
            "replayed": len(sendable),
            "duplicates": 0,
            "skipped": len(dead) - len(sendable),
            "undos": 0,
        }
        for job_id in sendable:
            self.model.cancelled.discard(self.model.jobs[job_id].run)
            self.model.move(self.model.jobs[job_id], "q")

    @rule(data=st.data(), n=st.integers(0, 20))
    @precondition(lambda self: self.model.in_state("d"))
    def replay(self, data: st.DataObject, n: int) -> None:
        """Replay a dead letter as it is, or as a new job."""
        job_id = data.draw(st.sampled_from(sorted(self.model.in_state("d"))))
        job, new = self.model.jobs[job_id], item(n, badge_id=OTHER_BADGE)
        as_new = data.draw(st.booleans())
        wire = Replay(job_id, new) if as_new else Replay(job_id)
        run = "mended" if as_new else "again"  # no replay is both
        done = self.queue.replay(ORG, run=run, items=[wire], call=new_id())
        if not (job.indexed if as_new else self.model.is_sendable(job)):
            assert done["skipped"] == 1
        elif not as_new:
            assert done["replayed"] == 1
            self.model.cancelled.discard(job.run)
            self.model.move(job, "q")
        elif new.id in self.model.jobs:
            assert done["duplicates"] == 1
        else:
            assert done["replayed"] == 1
            job.indexed, job.replaced = False, True
            self.model.jobs[new.id] = ModelJob("mended", "q")
            self.model.runs.add("mended")

    @rule(run=st.sampled_from(RUNS), whole=st.booleans())
    def cancel(self, run: str, *, whole: bool) -> None:
        """Cancel what waits of a run; if as a whole, also what of it would wait again."""
        mine = sorted(job_id for job_id, job in self.model.jobs.items() if job.run == run)
        waiting = [job_id for job_id in mine if self.model.jobs[job_id].state in "qr"]
        of_run = run if whole else ""
        assert self.queue.cancel("default", mine, call=new_id(), run=of_run) == len(waiting)
        for job_id in waiting:
            self.model.bury(self.model.jobs[job_id], "cancelled")
        if whole and run in self.model.runs:
            self.model.cancelled.add(run)

    @rule(data=st.data(), verb=st.sampled_from(("issued", "discard")))
    @precondition(lambda self: self.model.in_state("d"))
    def resolve(self, data: st.DataObject, verb: Any) -> None:
        """End a dead letter by a person's word."""
        self._resolve(data.draw(st.sampled_from(sorted(self.model.in_state("d")))), verb)

    def _resolve(self, job_id: str, verb: Any) -> None:
        job = self.model.jobs[job_id]
        may = job.indexed and (verb == "discard" or job.kind == "in_doubt")
        if verb == "issued":
            assert self.queue.resolve(ORG, [job_id], call=new_id()) == may
        else:
            done = self.queue.discard(ORG.name, [job_id], keep_ms=ttl_ms(ORG), call=new_id())
            assert done == may
        if may and verb == "issued":
            self.model.move(job, "i")
        elif may:
            job.indexed = False

    @rule(data=st.data())
    @precondition(lambda self: self.model.jobs)
    def forget(self, data: st.DataObject) -> None:
        """Forget some jobs; what a call may still be about, or is in doubt, stays."""
        ids = data.draw(
            st.lists(st.sampled_from(sorted(self.model.jobs)), min_size=1, max_size=4, unique=True)
        )
        batches = [self.model.batches[batch].claimed for batch in self.model.open_batches()]
        carried = {job.id for batch in batches for job in batch.jobs}
        doubtful = {
            i for i, job in self.model.jobs.items() if job.kind == "in_doubt" and job.indexed
        } - carried
        gone = set(ids) - carried - doubtful
        done = forgets.forget_jobs(self.queue, "default", ids, action="")
        assert done == (len(gone), 0, len(carried & set(ids)), len(doubtful & set(ids)))
        for job_id in gone:
            del self.model.jobs[job_id]

    @rule()
    def pause(self) -> None:
        """Pause; nothing is claimed until it is resumed."""
        assert self.queue.pause("default", why="operator", reason="model")
        assert not self.queue.pause("default", why="operator", reason="model")
        self.model.paused = True
        self._claim()
        assert self.queue.resume(ORG) == "paused"
        assert self.queue.resume(ORG) != "paused"
        self.model.paused = False

    # -- what always holds

    @invariant()
    def everything_is_as_the_model_has_it(self) -> None:
        """Each job is in one state and where it belongs, and each run counts its jobs."""
        held = _Held.read(self.client)
        self._records(held)
        self._ids(held)
        self._runs(held)

    def _records(self, held: _Held) -> None:
        """Each job is in exactly one state, and it is the right one."""
        assert held.jobs.keys() == self.model.jobs.keys()
        for job_id, job in self.model.jobs.items():
            record = held.jobs[job_id]
            assert (record["state"], record.get("kind", ""), record["run"]) == (
                job.state,
                job.kind,
                job.run,
            ), job_id
            if job.state == "s":
                assert record["batch"] == job.batch, job_id
            earned = record.get("earned_badge_id", ""), record.get("second_earned", "")
            assert earned == (job.earned, job.second), job_id
            assert ("finished_at" in record) == (job.state in "id"), job_id
        assert int(held.stats.get("issued_twice", 0)) == self.model.twice

    def _ids(self, held: _Held) -> None:
        """Whoever waits is found: in the queue, for a retry, in a batch with a lease, in a dead index."""
        assert self.model.in_state("q") <= set(held.queue + held.urgent) | {
            entry.split()[2] for entry in held.isolate
        }
        assert self.model.in_state("r") <= set(held.retry)
        assert held.batches.keys() == set(held.leases) == set(held.inflight) == self.model.open_batches()
        carried = {
            job_id: batch for batch, its in held.batches.items() for job_id in its.split(SEPARATOR)[1:]
        }
        assert held.sending.items() <= carried.items(), "the inverse says more than the lists"
        assert {i: self.model.jobs[i].batch for i in self.model.in_state("s")}.items() <= held.sending.items()
        for kind in DeadKind:
            of_kind = {i for i, job in self.model.jobs.items() if job.indexed and job.kind == kind}
            assert set(Probe(self.client).listed(kind)) == of_kind
        groups = reading.groups(self.client, "default")
        assert all(reading.extents(self.client, "default", groups)), "an empty group stays"

    def _runs(self, held: _Held) -> None:
        """The counters of each run are the sum of its records, and it is finished when nothing is open."""
        assert held.runs.keys() == self.model.runs
        assert int(self.client.get(keys.key("default", "queued")) or 0) == len(self.model.in_state("q"))
        names = {"q": "queued", "s": "sending", "r": "retrying", "i": "issued", "d": "dead"}
        for run, counted in held.runs.items():
            mine = {job_id: job for job_id, job in self.model.jobs.items() if job.run == run}
            states = Counter(names[job.state] for job in mine.values())
            assert {name: int(counted.get(name, 0)) for name in names.values()} == {
                name: states[name] for name in names.values()
            }
            kinds = Counter(job.kind for job in mine.values())
            assert [int(counted.get(f"dead:{kind}", 0)) for kind in DeadKind] == [kinds[k] for k in DeadKind]
            assert int(counted.get("total", 0)) == len(mine)
            assert int(counted.get("duplicates", 0)) == self.model.duplicates[run]
            assert int(counted.get("unhandled", 0)) == sum(job.indexed for job in mine.values())
            assert ("finished_at" in counted) == (not any(job.state in OPEN for job in mine.values()))
            assert sorted(held.ids.get(run, [])) == sorted(mine)


@dataclass
class _Held:
    """What the server holds, read in one go."""

    jobs: dict[str, dict[str, str]]
    batches: dict[str, str]
    runs: dict[str, dict[str, str]]
    ids: dict[str, list[str]]
    sending: dict[str, str]
    queue: list[str]
    urgent: list[str]
    isolate: list[str]
    retry: list[str]
    leases: list[str]
    inflight: list[str]
    stats: dict[str, str]

    @classmethod
    def read(cls, client: redis.Redis) -> _Held:
        """Read what there is of an org."""
        found = [str(key) for key in client.scan_iter(match=f"{keys.key_prefix('default')}*", count=10_000)]
        pipe = client.pipeline(transaction=False)
        sections: list[tuple[str, list[str]]] = []
        for name, how in (("job", "get"), ("batch", "get"), ("run", "hgetall"), ("jobs", "lrange")):
            prefix = keys.key("default", name)
            of_name = [key.removeprefix(prefix) for key in found if key.startswith(prefix)]
            sections.append((name, of_name))
            for one in of_name:
                getattr(pipe, how)(prefix + one, *((0, -1) if how == "lrange" else ()))
        pipe.hgetall(keys.key("default", "sending"))
        for name in ("queue", "urgent", "isolate"):
            pipe.lrange(keys.key("default", name), 0, -1)
        for name in ("retry", "leases", "inflight"):
            pipe.zrange(keys.key("default", name), 0, -1)
        pipe.hgetall(keys.key("default", "stats"))
        answers = iter(pipe.execute())
        stored, *named = [{one: next(answers) for one in of_name} for _, of_name in sections]
        sending = next(answers)
        jobs = {one: dict(carried_by(read(text), sending.get(one))) for one, text in stored.items()}
        return cls(jobs, *named, sending, *answers)


def _settlement(earned: str, outcome: str) -> Settlement:
    match outcome:
        case "issued":
            return Issued(earned)
        case "retry":
            return Retry(3600, "521", "busy", spends_attempt=True)
        case "put back":
            return PutBack("503", "away")
        case "isolate":
            return Isolate(0, 2, "400", "bad")
        case kind:
            return DeadLetter(DeadKind(kind), "812", "no")


@pytest.mark.timeout(600)  # to find the shortest order in which something fails takes its time
def test_any_order_of_events_keeps_every_promise(client: redis.Redis) -> None:
    """Producers, workers, operators and accidents in any order: the server agrees with the model."""

    class OnThisServer(Machine):
        pass

    OnThisServer.client = client
    run_state_machine_as_test(
        OnThisServer,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=50, deadline=None, print_blob=True),
    )
