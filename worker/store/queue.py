"""The queue in Redis: one method per transition of a job, each one atomic script (``lua/*.lua``).

How the scripts are called is in ``scripts.py``, what the keys are in ``keys.py``, what the records hold in
``record.py``.
"""

from __future__ import annotations

import math
import secrets
from base64 import b32encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Any, Literal, NamedTuple, Required, TypedDict, TypeVar, Unpack

import redis
from redis.exceptions import RedisError

from worker import tracing
from worker.domain.batch import Batch, Died, Due, Item, Replay, Sent, Settled, Slot, Wait, Why
from worker.domain.identity import short_hash
from worker.domain.job import Job
from worker.domain.org import DEFAULT_ORG, Org
from worker.domain.outcome import Signal, Verdict
from worker.domain.provenance import NOWHERE, Provenance
from worker.domain.settlement import Settlement
from worker.domain.text import counted, plain
from worker.errors import NoRoom, StoreError
from worker.server.cluster import FULL, reaching
from worker.store import keys
from worker.store.clock import Clock, OrgClocks
from worker.store.letters import GroupDone, GroupPart, Letter
from worker.store.protocol import (
    TOOK_MS,
    badges_of,
    gate_config,
    job_arguments,
    missing_badges,
    put_back_arguments,
    replay_arguments,
    settlement_arguments,
    ttl_ms,
)
from worker.store.record import Answer, job_of
from worker.store.scripts import Scripts, Store
from worker.store.workers import Workers

Value = TypeVar("Value")
CHUNK = 1000  # jobs a script takes at most
Repeats = Literal["", "count", "hold"]
SEND_WINDOW_S = 5.0  # between claim and PUT at most; later, the batch is released
LEASE_GRACE_S = 90.0  # how long after its call's end a silent holder is given up
MISSING_TTL_S = 600
_ANSWERS: dict[str, Answer] = {answer.value: answer for answer in Answer}
LINE_MS = 250  # how soon to look again for a free place; a delivery that ends looks at once


class Handed(TypedDict, total=False):
    """How jobs are handed in.

    Urgent ones overtake the others of their org. The run counts ``duplicates`` that were found before as
    well, and keeps where it came from first (``source``). ``repeats``: what to do about new jobs whose badge
    and customer were accepted before, with another content: nothing, say it (SIMILAR), or hold them as dead
    letters (HELD). A run that begins with ``starts_ms`` isn't sent before; with infinity, not before
    ``Queue.start``.
    """

    run: Required[str]
    items: Required[Sequence[Item]]
    call: Required[str]
    urgent: bool
    duplicates: int
    source: Provenance
    repeats: Repeats
    starts_ms: float | None


class Written(NamedTuple):
    """A call of ``Queue.enqueue`` that is written down: its arguments, and what traces it."""

    org: Org
    arguments: Sequence[Any]
    span: tracing.Span


def _told(signal: str, reason: str, retry_after_s: float | None) -> dict[str, Any]:
    """Return what the gate acts on."""
    return {"signal": signal, "reason": reason[:200], "wait_ms": int((retry_after_s or 0) * 1000)}


def _died(answer: Mapping[str, Any]) -> tuple[Died, ...]:
    return tuple(Died(*one) for one in answer.get("died", ()))


def _no_room(org: Org, waiting: int) -> str:
    if waiting < 0:
        return f"{FULL}; its last memory is for what is accepted already"
    most = f"its MAX_QUEUED is {org.max_queued:,}"
    wait = "waits" if waiting == 1 else "wait"
    return f"the queue of org {org.name} is full: {counted(waiting, 'job')} {wait} in it, and {most}"


def new_id() -> str:
    """Return an id for a batch or a call: 26 letters and digits, 128 bits."""
    return b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()


def chunks(values: Iterable[Value], size: int = CHUNK) -> Iterator[list[Value]]:
    """Yield so many at a time: as many as a script takes, unless told."""
    remaining = iter(values)
    while chunk := list(islice(remaining, size)):
        yield chunk


class Queue:
    """All orgs' jobs in one Redis.

    The clock, the ids of its calls and batches, and the scripts are handed in where time is simulated.
    """

    def __init__(  # noqa: PLR0913 - what a test or a simulation replaces
        self,
        client: redis.Redis,
        *,
        replicas: int = 0,
        clock: Clock | None = None,
        clocks: OrgClocks | None = None,
        new_id: Callable[[], str] = new_id,
        scripts: Scripts | None = None,
    ) -> None:
        self.client = client
        self.store = Store(client, replicas=replicas, scripts=scripts)
        self.clock = clock or Clock()
        self.new_id = new_id
        self._known: set[str] = set()
        self._clocks = clocks or OrgClocks(self.clock.steady_s)
        self.workers = Workers(client, clock=self.clock)

    # -- the way of a job

    def enqueue(self, org: Org, **how: Unpack[Handed]) -> list[Answer]:
        """Accept up to 1,000 jobs and answer for each of them, once they are durable.

        Under the same ``call`` the answers are the same, however often it is made.

        Raises:
            NoRoom: the queue or Redis is full; nothing was accepted, and calling again later is safe.
            NotDurable: the server didn't confirm in time; calling again is safe.
            StoreError: Redis refused or can't be reached; calling again is safe.
            NewerStore: a newer version of this program changed what is in Redis.
        """
        written = self.write_down(org, **how)
        with written.span.ending():
            return self.hand_in(written)

    def write_down(self, org: Org, **how: Unpack[Handed]) -> Written:
        """Write down a call of ``enqueue`` for ``hand_in``, which then only waits for the server.

        From here on it is traced, so that its span has the time in which it waits for its turn as well.
        """
        items, run, urgent = how["items"], how["run"], how.get("urgent", False)
        span = tracing.begun(
            "badges.enqueue", kind="producer", badges__org=org.name, badges__run=run, badges__jobs=len(items)
        )
        starts_ms = how.get("starts_ms")
        arguments = (
            how["call"],
            run,
            org.batch_size,
            int(org.batch_linger_s * 1000),
            ttl_ms(org),
            int(urgent),
            org.max_queued,
            how.get("duplicates", 0),
            how.get("source", NOWHERE).as_fields() or "",
            badges_of(items),
            how.get("repeats", ""),
            "" if starts_ms is None else "inf" if math.isinf(starts_ms) else int(starts_ms),
            *job_arguments(items, run=run, urgent=urgent, traceparent=span.traceparent),
        )
        return Written(org, arguments, span)

    def hand_in(self, written: Written) -> list[Answer]:
        """Make a call of ``enqueue`` that was written down; its span is the caller's to end."""
        org = written.org
        if org.name not in self._known:
            self.store.refuse_other_versions()
            with reaching("orgs"):
                self.client.sadd(keys.ORGS, org.name)
            self._known.add(org.name)
        with written.span.inside():
            answer = self.store.durably("enqueue", [keys.key_prefix(org.name)], written.arguments)
        letters, look_at_ms, *full = answer
        if full:
            raise NoRoom(_no_room(org, full[0]))
        self.hint(org.name, look_at_ms)
        return [_ANSWERS[letter] for letter in letters]

    def start(self, org: Org, run: str, *, call: str, action: str = "") -> int | None:
        """Let a run begin that isn't sent yet; answers how many jobs it holds, ``None`` if it has begun."""
        held = int(self.store.durably("start", [keys.key_prefix(org.name)], [call, run, action]))
        self.wake(org)
        return held if held >= 0 else None

    def claim(self, org: Org, batch: str, *, share: int | None = None, durably: bool = True) -> Batch | Wait:
        """Take the jobs of one PUT, durably, or say what there is to wait for.

        The same ``batch`` again is the same claim; without ``durably``, only to release it. ``share`` bounds
        how many batches of the org are in flight at once, where that is less than its ``max_in_flight``.
        What is claimed may be a request in doubt that is sent again as it was: it has its own id.

        Raises:
            NotDurable: the claim may have been made, but it isn't known to be on disk: don't send.
        """
        call_s = SEND_WINDOW_S + org.http_timeout_s
        times = {"call_ms": int(call_s * 1000), "lease_ms": int((call_s + LEASE_GRACE_S) * 1000)}
        ask = self.store.durably if durably else self.store.call
        answer, *flat = self._timed(ask, "claim", org, [batch, self._gate(org, share, **times)])
        if not flat:
            return Wait(
                Why(answer.get("why", Why.SETTLED)), answer["at"], answer.get("check", False), _died(answer)
            )
        jobs = tuple(map(job_of, flat[::2], flat[1::2]))
        slot_us = int(answer["clock"]) + int(answer["send_in_us"])
        slot_from, send_at = self._clocks.when(org.name, slot_us)
        more, at, name = answer["more"], answer["at"], answer.get("batch", batch)
        gap_s = int(answer.get("gap_us", 0)) / 1e6
        return Batch(name, jobs, send_at, more, at, slot_from, gap_s, _died(answer), share)

    def retime(self, org: Org, call: str, in_s: float = 0.0) -> bool:
        """Count a batch, or a reserved call, as made so soon, not at its slot; answers whether it may be."""
        arguments = [call, self._gate(org, None, in_us=round(in_s * 1e6))]
        try:
            return bool(self.store.call("retime", [keys.key_prefix(org.name)], arguments))
        except StoreError:
            return False

    def settle(
        self, org: Org, batch: Batch, settled: Sequence[Settlement], *, verdict: Verdict, sent: Sent
    ) -> Settled:
        """Write what became of every job of the batch, and let the gate act on the verdict's signal."""
        written = settlement_arguments(batch.jobs, settled, batch=batch.id)
        missing = missing_badges(batch.jobs, settled)
        told = _told(verdict.signal.value, verdict.reason, verdict.retry_after_s)
        return self._settle(org, batch.id, batch.share, written, told, sent=sent, missing=missing)

    def hear(self, org: Org, signal: Signal, *, reason: str, retry_after_s: float | None = None) -> Settled:
        """Let the gate act on what a call without jobs was answered: for a token, or a read."""
        return self._settle(org, self.new_id(), None, [], _told(signal.value, reason, retry_after_s))

    def release(self, org: Org, batch: str, jobs: Sequence[Job], *, share: int | None = None) -> Settled:
        """Put a batch back that was certainly not sent, in its order, as if it hadn't been claimed."""
        return self._settle(org, batch, share, put_back_arguments(jobs), _told("none", "", None))

    def replay(
        self, org: Org, *, run: str, items: Sequence[Replay], call: str, undos: bool = True
    ) -> dict[str, Any]:
        """Queue up to 1,000 dead letters again, those of undos if meant, or let new jobs take their places.

        ``run`` is the replay's id: the ids are found under it, and its entry in the audit trail counts them.
        Of ``skipped`` ones, ``cancelling`` names a run whose cancellation was broken off, if there is one.
        """
        flat = chain(*(replay_arguments(item, run=run) for item in items))
        args = [call, run, ttl_ms(org), "1" if undos else "", *flat]
        answer: dict[str, Any] = self.store.durably("replay", [keys.key_prefix(org.name)], args)
        self.wake(org)
        return {name: it for name, it in answer.items() if it != ""}

    def replay_group(  # noqa: PLR0913 - which, and how many
        self, org: Org, *, run: str, of: GroupPart, behind: Letter, most: int, call: str
    ) -> GroupDone:
        """Queue letters of a group again as they are, up to 1,000 ``behind`` one that stays.

        Nobody is woken for them: the caller does that in the end.
        """
        args = [call, run, ttl_ms(org), *of, *behind, most]
        return GroupDone.of(self.store.durably("replay_group", [keys.key_prefix(org.name)], args))

    def cancel(self, org: str, ids: Sequence[str], *, call: str, action: str = "", run: str = "") -> int:
        """Make dead letters of up to 1,000 jobs that wait; answers how many did.

        ``action`` is the entry of the audit trail that counts them, here and below. Where ``run`` is
        cancelled as a whole, so is what of it would wait again later.
        """
        return int(self.store.durably("cancel", [keys.key_prefix(org)], [call, action, run, "", *ids]))

    def cancel_run(self, org: str, run: str, first: int, *, call: str, action: str = "") -> int:
        """Do so with the jobs of a run that is cancelled as a whole: ``CHUNK`` from this place in it on."""
        return int(self.store.durably("cancel", [keys.key_prefix(org)], [call, action, run, first]))

    def discard(self, org: str, ids: Sequence[str], *, keep_ms: int, call: str, action: str = "") -> int:
        """Take up to 1,000 dead letters off the list for good, and keep their records; answers how many."""
        hashed = [part for job_id in ids for part in (job_id, short_hash(job_id))]
        args = [call, keep_ms, action, *hashed]
        return int(self.store.durably("discard", [keys.key_prefix(org)], args))

    def discard_group(  # noqa: PLR0913 - as above
        self, org: str, of: GroupPart, *, behind: Letter, keep_ms: int, call: str, action: str
    ) -> GroupDone:
        """Do so with up to 1,000 letters of a group, ``behind`` one that stays.

        Their records are to expire as well, but only ``expire_discarded`` sees to that.
        """
        args = [call, keep_ms, action, *of, *behind]
        return GroupDone.of(self.store.durably("discard_group", [keys.key_prefix(org)], args))

    def discarded(self) -> dict[str, int]:
        """Return how many calls of ``expire_discarded`` there are to be made, of orgs that need some."""
        orgs = sorted(self.orgs())
        pipe = self.client.pipeline(transaction=False)
        for org in orgs:
            pipe.llen(keys.key(org, "discarded"))
        with reaching("what was discarded"):
            return {org: calls for org, calls in zip(orgs, pipe.execute(), strict=True) if calls}

    def expire_discarded(self, org: str) -> int:
        """See that some of those that were discarded by groups expire; answers how many, 0 at the end."""
        return int(self.store.call("expire_discarded", [keys.key_prefix(org)], []))

    def resolve(self, org: Org, ids: Sequence[str], *, call: str, action: str = "") -> int:
        """End up to 1,000 jobs in doubt as issued, by a person's word; answers how many were in doubt."""
        hashed = [part for job_id in ids for part in (job_id, short_hash(job_id))]
        args = [call, ttl_ms(org), action, *hashed]
        return int(self.store.durably("resolve", [keys.key_prefix(org.name)], args))

    # -- the gate

    def look(self, org: Org) -> Wait:
        """Say when the org needs somebody and what it waits for, without taking anything."""
        answer = self.store.call("gauge", [keys.key_prefix(org.name)], [self._gate(org)])
        return Wait(Why(answer["why"]), answer["at"])

    def reserve_call(
        self,
        org: Org,
        call: str,
        *,
        though_closed: bool = False,
        share: float | None = None,
        patience_s: float | None = None,
    ) -> Slot | Wait:
        """Take one slot of the limit for a call without jobs; return when it may be made.

        While deliveries wait, such calls have a ``share`` of the limit at most. A slot further ahead than
        ``patience_s`` isn't taken.
        """
        more = {"though_closed": 1} if though_closed else {}
        cfg = self._gate(org, **more) | ({} if share is None else {"aside": share})
        if patience_s is not None:
            cfg["patience_us"] = int(patience_s * 1e6)
        answer = self._timed(self.store.call, "reserve_call", org, [call, cfg])
        if "send_in_us" in answer:
            return Slot(call, *self._clocks.when(org.name, int(answer["clock"]) + int(answer["send_in_us"])))
        return Wait(Why(answer["why"]), answer["at"])

    def org_clock(self, org: str) -> dict[str, Any]:
        """Return what this process knows of the org's clock by now, for a script that goes by it."""
        return dict(self._clocks.expected(org))

    def now_s(self, org: str) -> float:
        """Return Redis's time, by which all look who share an org; this machine's own where Redis is away."""
        with suppress(StoreError):
            return self.store.org_now_ms(org) / 1000
        return self.clock.wall_s()

    def pause(self, org: str, *, why: str, reason: str) -> bool:
        """Let no further batch start; answers whether the org was open. A long reason is cut."""
        return bool(self.store.call("pause", [keys.key_prefix(org)], [why, plain(reason, 200)]))

    def probed(self, org: str) -> bool:
        """Open an idle org's gate after trouble, since a call went well; answers whether that opened it."""
        return bool(self.store.call("probed", [keys.key_prefix(org)], []))

    def note_trouble(self, org: str, why: str, reason: str) -> None:
        """Note why nothing could be sent, until something is; lost where Redis can't take it."""
        with suppress(RedisError):
            noted = f"{int(self.now_s(org) * 1000)} {why} {plain(reason, 200)}"
            self.client.hset(keys.key(org, "gate"), "trouble", noted)

    def resume(self, org: Org) -> str:
        """Let batches start again, one job after trouble; says what it was: paused, closed, probing or ""."""
        was = str(self.store.call("resume", [keys.key_prefix(org.name)], []))
        self.wake(org)
        return was

    def counters(self, org: str) -> dict[str, int]:
        """Return an org's lifetime counters: of requests, items, outcomes."""
        with reaching("the counters"):
            return {str(name): int(n) for name, n in self.client.hgetall(keys.key(org, "stats")).items()}

    # -- messages

    def take_message(self, message: str, me: str, *, for_s: int) -> bool:
        """Say whether a message is handled for the first time in this while; ``me`` may ask again."""
        key = keys.key(DEFAULT_ORG, "call", f"task-{message}")
        with reaching("a message"):
            return self.client.set(key, me, nx=True, get=True, ex=for_s) in (None, me)

    def refused(self) -> dict[str, int]:
        """Return how many messages were refused, by kind."""
        with reaching("a counter"):
            return {str(kind): int(number) for kind, number in self.client.hgetall(keys.REFUSED).items()}

    def count_refused(self, kind: str, number: int = 1) -> None:
        """Count messages that were refused; ``kind`` is ``message`` or ``enqueue``."""
        with reaching("a counter"):
            self.client.hincrby(keys.REFUSED, kind, number)

    # -- waking up

    def orgs(self) -> set[str]:
        """Return every org that ever had a job."""
        with reaching("orgs"):
            return {str(name) for name in self.client.smembers(keys.ORGS)}

    def wait_for_bell(self, longest_s: float) -> None:
        """Wait until an org is due earlier than was known, but no longer than this."""
        with reaching("the bell"):
            self.client.blpop([keys.BELL], timeout=longest_s)

    def take_sweep(self, *, for_s: float) -> bool:
        """Say whether the caller is the one worker that looks for lost hints in this while."""
        with reaching("the sweep"):
            return bool(self.client.set(keys.SWEEP, "1", nx=True, px=int(for_s * 1000)))

    def hint(self, org: str, at_ms: int, *, seen: str = "") -> None:
        """Note when somebody should look at an org; see ``hint.lua``."""
        if at_ms >= 0 or seen:
            self.store.call("hint", [keys.WAKE, keys.BELL, keys.OWN], [org, at_ms, seen])

    def wake(self, org: Org) -> None:
        """Note when somebody should look at an org of which something has changed."""
        self.hint(org.name, self.look(org).look_at_ms)

    def take_due(self, *, ahead_ms: int) -> tuple[list[Due], float | None]:
        """Take the orgs that are due and for which there is a place, and say how many seconds to wait now."""
        its_keys = [keys.WAKE, keys.ASKED, keys.OWN, keys.POOL, keys.SEATS]
        answer = self.store.call("take_due", its_keys, [ahead_ms, LINE_MS])
        wait_s = None if answer["wait_ms"] < 0 else answer["wait_ms"] / 1000
        return [Due(org, str(int(at)), has_own) for org, at, has_own in answer.get("due", [])], wait_s

    def take_next(self, *, ahead_ms: int) -> Due | None:
        """Take the org that stands first in line for the place that the caller has."""
        taken = self.store.call("take_next", [keys.WAKE, keys.ASKED, keys.OWN], [ahead_ms])
        return Due(*taken) if taken else None

    def begin(self, org: str, *, seen: str) -> bool:
        """Begin what a message asked for; ``False`` if another for the org was begun since it was sent."""
        return bool(self.store.call("begin", [keys.ASKED, keys.BEGUN + self.new_id()], [org, seen]))

    def _gate(self, org: Org, share: int | None = None, **more: int) -> dict[str, Any]:
        org = self.workers.strict(org)
        if share is not None:
            more["max_in_flight"] = min(share, org.max_in_flight)
        return gate_config(org, **more) | self._clocks.expected(org.name)

    def _timed(self, ask: Callable[..., Any], name: str, org: Org, args: Sequence[Any]) -> Any:
        """Call a script that answers with the org's clock, and note what it shows."""
        asked_at = self.clock.steady_s()
        answer = ask(name, [keys.key_prefix(org.name)], args)
        told = answer[0] if isinstance(answer, list) else answer
        self._clocks.heard(org.name, int(told["clock"]), asked_at=asked_at)
        return answer

    def _settle(  # noqa: PLR0913 - of what, what became of it, and what was told
        self,
        org: Org,
        batch: str,
        share: int | None,
        jobs: Iterable[str],
        told: Mapping[str, Any],
        *,
        sent: Sent | None = None,
        missing: Sequence[str] = (),
    ) -> Settled:
        """Settle a batch of which a call was ``sent``, if one was."""
        how = sent or Sent("-", 0)
        what = {
            **told,
            "sent": sent is not None,
            "status": how.status,
            "request": how.request,
            "elapsed_ms": how.elapsed_ms,
            "took": next((most for most in TOOK_MS if how.elapsed_ms <= most), 0) if sent else 0,
            "missing": missing,
            "cfg": self._gate(org, share),
            "ttl_ms": ttl_ms(org),
            "missing_ttl_ms": MISSING_TTL_S * 1000,
        }
        answer = self._timed(self.store.call, "settle", org, [batch, what, *jobs])
        del answer["clock"]
        answer["twice"] = tuple(answer.get("twice", ()))
        answer["died"] = _died(answer)
        answer["look_at_ms"] = answer.pop("at")
        return Settled(**answer)
