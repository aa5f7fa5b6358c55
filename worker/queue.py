"""The queue in Redis: one method per transition of a job, each one atomic script (``scripts/*.lua``).

Every call may be repeated by the client library when a reply was lost; each script's header says what
the repetition answers. What the keys are stands in ``keys.py``, what the records hold in ``job.py``.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any, Literal

import redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from worker import keys
from worker.config import Org
from worker.errors import NotDurable, ScriptError, StoreError
from worker.job import Job, badge_of, text_fields
from worker.policy import Complete, DeadLetter, Isolate, PutBack, Retry, Settlement
from worker.response import Verdict

CHUNK = 1000  # jobs a script takes at most
SEND_WINDOW_S = 5.0  # between claim and PUT at most; later, the batch is released
LEASE_GRACE_S = 90.0  # how long after its call's end a silent holder is given up
DURABLE_WITHIN_MS = 2000
HORIZON_US = 50_000  # how far ahead of its time a slot is given out
GUARD = 0.015  # of a window: by how much a send may be late without exceeding the limit
MISSING_TTL_S = 600
CHECK_AFTER_S = 600  # between a call in doubt and the first look at the vendor, and between two looks
MISSING_CODES = frozenset({"1054"})

_SHARED = ("_common.lua", "_gate.lua")


@dataclass(frozen=True, slots=True)
class Item:
    """A job to accept: its id, where it came from, and its record's fields; ``kind`` for a dead one."""

    id: str
    row: str
    fields: Sequence[str]
    fingerprint: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """The jobs that one PUT carries, to be sent in ``send_in_s`` seconds and no earlier."""

    id: str
    jobs: tuple[Job, ...]
    send_in_s: float
    more: bool
    look_at_ms: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing may start now: what it waits for, and when to look again (-1: nothing to wait for)."""

    why: str
    look_at_ms: int
    check: bool = False  # whether a job in doubt is due to be checked with the vendor


@dataclass(frozen=True, slots=True)
class Witness:
    """A badge that was issued later: if the vendor shows it, it shows what came before as well."""

    badge: str
    customer: int
    issued_at_ms: int


@dataclass(frozen=True, slots=True)
class Suspects:
    """Jobs in doubt for one customer and badge, and since when the vendor has shown none of it."""

    ids: tuple[str, ...]
    badge: str
    customer: int
    in_doubt_since_ms: int
    absent_since_ms: int | None
    witness_id: str
    witness: Witness | None


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a batch's jobs, by number, and what to do next."""

    issued: int
    dead: int
    retrying: int
    queued: int
    late: int
    more: bool
    at: int
    twice: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sent:
    """How the call went, for the record: HTTP status (or our word for none) and milliseconds."""

    status: str
    elapsed_ms: int


def guard_s(org: Org) -> float:
    """Return by how much a send may be late without any limit being exceeded."""
    return min(limit.window_s for limit in org.limits) * GUARD


def new_id() -> str:
    """Return an id for a batch or a call: 12 letters and digits."""
    return secrets.token_hex(6)


class Queue:
    """All orgs' jobs in one Redis."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self._known: set[str] = set()
        self._scripts = {name: _source(name) for name in _script_names()}
        self._shas = {
            name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            for name, text in self._scripts.items()
        }

    # -- the way of a job

    def enqueue(self, org: Org, *, run: str, items: Sequence[Item], call: str) -> str:
        """Accept up to 1,000 jobs and answer one letter for each, once they are durable.

        ``a`` accepted, ``i`` accepted as invalid, ``d`` duplicate, ``D`` duplicate of a dead job,
        ``c`` conflict. Under the same ``call`` the answer is the same, however often it is made.

        Raises:
            NotDurable: the server didn't confirm in time; calling again is safe.
            StoreError: Redis refused or can't be reached; calling again is safe.
        """
        if org.name not in self._known:
            with _reaching("orgs"):
                self.client.sadd(keys.ORGS, org.name)
            self._known.add(org.name)
        wire = [[i.id, i.row, i.fingerprint, i.kind, *i.fields] for i in items]
        answer = self._durably("enqueue", [keys.slot(org.name)], [call, run, _json(wire), _gate(org)])
        self.hint(org.name, answer["at"])
        return str(answer["answers"])

    def claim(self, org: Org, batch: str, *, durably: bool = True) -> Batch | Wait:
        """Take the jobs of one PUT, durably, or say what there is to wait for.

        The same ``batch`` again is the same claim; without ``durably``, only to release it.

        Raises:
            NotDurable: the claim may have been made, but it isn't known to be on disk: don't send.
        """
        call_s = SEND_WINDOW_S + org.http_timeout_s
        cfg = _gate(org, call_ms=int(call_s * 1000), lease_ms=int((call_s + LEASE_GRACE_S) * 1000))
        ask = self._durably if durably else self._call
        answer = ask("claim", [keys.slot(org.name)], [batch, cfg])
        if "jobs" not in answer:
            return Wait(answer["why"], answer["at"], answer["check"])
        jobs = tuple(_job(entry) for entry in answer["jobs"])
        return Batch(batch, jobs, answer["send_in_us"] / 1e6, answer["more"], answer["at"])

    def retime(self, org: Org, batch: Batch) -> bool:
        """Count a batch as sent now instead of at its slot; answers whether it may still be sent."""
        return bool(self._call("retime", [keys.slot(org.name)], [batch.id, _gate(org)]))

    def settle(
        self, org: Org, batch: Batch, settled: Sequence[Settlement], *, verdict: Verdict, sent: Sent
    ) -> Settled:
        """Write what became of every job of the batch, and let the gate act on the verdict's signal."""
        return self._settle(
            org,
            batch,
            jobs=[_settlement(job, s) for job, s in zip(batch.jobs, settled, strict=True)],
            sent=True,
            signal=verdict.signal.value,
            reason=verdict.reason[:200],
            wait_ms=int((verdict.retry_after_s or 0) * 1000),
            status=sent.status,
            elapsed_ms=sent.elapsed_ms,
            missing=_missing(batch.jobs, settled),
        )

    def release(self, org: Org, batch: str, jobs: Sequence[Job]) -> Settled:
        """Put a batch back that was certainly not sent, in its order, as if it hadn't been claimed."""
        back = [[job.id, "q", ""] for job in jobs]
        unsent = Batch(batch, tuple(jobs), 0, more=False, look_at_ms=-1)
        return self._settle(
            org,
            unsent,
            jobs=back,
            sent=False,
            signal="none",
            reason="",
            wait_ms=0,
            status="-",
            elapsed_ms=0,
            missing=[],
        )

    def replay(self, org: Org, *, run: str, items: Sequence[Sequence[str]], call: str) -> dict[str, int]:
        """Queue dead letters again (``[id]``), or as new jobs (``[id, new id, field, value, …]``)."""
        answer: dict[str, int] = self._durably("replay", [keys.slot(org.name)], [call, run, _json(items)])
        self.hint(org.name, self.look(org).look_at_ms)
        return answer

    def resolve(self, org: Org, job_id: str, verb: Literal["issued", "discard"]) -> bool:
        """End a dead letter by a person's word; answers whether it was one (and, to be issued, in doubt)."""
        return bool(self._call("resolve", [keys.slot(org.name)], [job_id, verb, _ttl_ms(org)]))

    # -- doubt

    def take_check(self, org: str) -> Suspects | None:
        """Take what is due to be checked with the vendor; it comes up again unless a check concludes."""
        answer = self._call("take_check", [keys.slot(org)], [CHECK_AFTER_S * 1000])
        jobs = answer.get("jobs")
        if not jobs:
            return None
        absent = [job[4].split(" ") if job[4] else None for job in jobs]
        witness = answer.get("witness")
        return Suspects(
            ids=tuple(job[0] for job in jobs),
            badge=jobs[0][1],
            customer=int(jobs[0][2]),
            in_doubt_since_ms=max(int(job[3]) for job in jobs),
            absent_since_ms=max(int(a[0]) for a in absent if a) if all(absent) else None,
            witness_id=witness[0] if witness else "",
            witness=Witness(witness[2], int(witness[3]), int(witness[1])) if witness else None,
        )

    def conclude_check(
        self, org: str, suspects: Suspects, finding: Literal["cleared", "seen", "absent"], *, call: str
    ) -> int:
        """Write what a check found; answers how many jobs it was true of."""
        args = [call, _json(suspects.ids), finding, suspects.witness_id, CHECK_AFTER_S * 1000]
        return int(self._call("conclude_check", [keys.slot(org)], args))

    # -- the gate

    def look(self, org: Org) -> Wait:
        """Say when the org needs somebody and what it waits for, without taking anything."""
        answer = self._call("look", [keys.slot(org.name)], [_gate(org)])
        return Wait(answer["why"], answer["at"])

    def pay(self, org: Org, call: str) -> float | Wait:
        """Take one slot of the limit for a call without jobs; return the seconds until it may be made."""
        answer = self._call("pay", [keys.slot(org.name)], [call, _gate(org)])
        return answer["send_in_us"] / 1e6 if "send_in_us" in answer else Wait(answer["why"], answer["at"])

    def pause(self, org: str, *, why: str, reason: str) -> bool:
        """Let no further batch start; answers whether the org was open."""
        return bool(self._call("pause", [keys.slot(org)], [why, reason]))

    def resume(self, org: Org) -> bool:
        """Let batches start again; answers whether the org was paused."""
        paused = bool(self._call("resume", [keys.slot(org.name)], []))
        self.hint(org.name, self.look(org).look_at_ms)
        return paused

    # -- the token that all processes of an org share

    def token(self, org: str) -> dict[str, Any] | None:
        """Return the org's OAuth token as it was kept, unless it has ended."""
        with _reaching("token"):
            record = self.client.get(keys.key(org, "token"))
        return json.loads(record) if isinstance(record, str) else None

    def keep_token(self, org: str, record: Mapping[str, Any], *, ttl_s: float) -> None:
        """Keep a token for all processes until it ends."""
        with _reaching("token"):
            self.client.set(keys.key(org, "token"), _json(record), px=max(1000, int(ttl_s * 1000)))

    def forget_token(self, org: str) -> None:
        """Forget a token that the vendor refused."""
        with _reaching("token"):
            self.client.delete(keys.key(org, "token"))

    @contextmanager
    def fetching_token(self, org: str, *, within_s: float) -> Iterator[bool]:
        """Let one process fetch a token; yields whether it is this one."""
        lock = self.client.lock(
            keys.key(org, "token") + ":lock", timeout=within_s, blocking=False, thread_local=False
        )
        with _reaching("token"):
            ours = lock.acquire()
        try:
            yield ours
        finally:
            with _reaching("token"):
                if ours and lock.owned():
                    lock.release()

    # -- waking up

    def hint(self, org: str, at_ms: int, *, seen: str = "") -> None:
        """Note when somebody should look at an org; see ``hint.lua``."""
        if at_ms >= 0 or seen:
            self._call("hint", [keys.WAKE, keys.BELL], [org, at_ms, seen])

    def take_due(self, *, ahead_ms: int) -> tuple[list[tuple[str, str]], float | None]:
        """Take the orgs that are due, each with its new time, and say in how many seconds the next one is."""
        answer = self._call("take_due", [keys.WAKE], [ahead_ms])
        wait_s = None if answer["wait_ms"] < 0 else answer["wait_ms"] / 1000
        return [(org, str(int(at))) for org, at in answer.get("due", [])], wait_s

    # -- calling scripts

    def _settle(self, org: Org, batch: Batch, **what: Any) -> Settled:
        what |= {
            "cfg": json.loads(_gate(org)),
            "ttl_ms": _ttl_ms(org),
            "missing_ttl_ms": MISSING_TTL_S * 1000,
        }
        answer = self._call("settle", [keys.slot(org.name)], [batch.id, _json(what)])
        answer["twice"] = tuple(answer.get("twice", ()))
        return Settled(**answer)

    @cached_property
    def keeps_a_log(self) -> bool:
        """Whether the server writes an append-only file: only then can a claim be made durable."""
        with _reaching("info"):
            return bool(self.client.info("persistence").get("aof_enabled"))

    def _call(self, name: str, its_keys: Sequence[str], args: Iterable[Any]) -> Any:
        return _answer(self._run(name, its_keys, args, durably=False)[0])

    def _durably(self, name: str, its_keys: Sequence[str], args: Iterable[Any]) -> Any:
        """Call a script and wait, on the same connection, until what it wrote is on disk."""
        replies = self._run(name, its_keys, args, durably=self.keeps_a_log)
        answer = _answer(replies[0])
        if len(replies) > 1 and (isinstance(replies[1], Exception) or replies[1][0] < 1):
            raise NotDurable(f"Redis didn't confirm within {DURABLE_WITHIN_MS} ms that {name} is on disk")
        return answer

    def _run(self, name: str, its_keys: Sequence[str], args: Iterable[Any], *, durably: bool) -> list[Any]:
        arguments = [str(arg) for arg in args]
        for _ in range(2):
            pipe = self.client.pipeline(transaction=False)
            pipe.evalsha(self._shas[name], len(its_keys), *its_keys, *arguments)
            if durably:
                pipe.waitaof(1, 0, DURABLE_WITHIN_MS)
            with _reaching(name):
                replies: list[Any] = pipe.execute(raise_on_error=False)
                if not isinstance(replies[0], NoScriptError):
                    return replies
                self.client.script_load(self._scripts[name])
        raise StoreError(f"Redis keeps forgetting the script {name}; is SCRIPT FLUSH called in a loop?")


@contextmanager
def _reaching(what: str) -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise StoreError(f"Redis can't be reached for {what}: {error}") from error


def _answer(reply: Any) -> Any:
    if isinstance(reply, ResponseError) and "OOM" in str(reply):
        raise StoreError("Redis is full (maxmemory); give it more, or let results expire sooner") from reply
    if isinstance(reply, ResponseError) and "script:" in str(reply):
        raise ScriptError(str(reply)) from reply
    if isinstance(reply, Exception):
        raise StoreError(f"Redis refused: {reply}") from reply
    return json.loads(reply) if isinstance(reply, str) else reply


def _ttl_ms(org: Org) -> int:
    return int(org.result_ttl_days * 86_400_000)


def _gate(org: Org, **more: int) -> str:
    limits = [
        (limit.count, limit.window_s * 1_000_000, int(limit.window_s * 1_000_000 * GUARD))
        for limit in org.limits
    ]
    return _json(
        {
            "limits": limits,
            "batch_size": org.batch_size,
            "linger_ms": int(org.batch_linger_s * 1000),
            "max_in_flight": org.max_in_flight,
            "horizon_us": HORIZON_US,
            "in_doubt": org.in_doubt,
            **({"check_after_ms": CHECK_AFTER_S * 1000} if org.in_doubt == "check" else {}),
            **more,
        }
    )


def _job(entry: Sequence[Any]) -> Job:
    job_id, attempts, busy, *badge = entry
    record = {letter: value for letter, value in zip("bceExX", badge, strict=True) if value is not False}
    return Job(job_id, badge_of(record), int(attempts or 0), int(busy or 0))


def _settlement(job: Job, settlement: Settlement) -> list[str | int]:
    """Write a settlement as ``settle.lua`` takes it: id, verb, argument, fields."""
    tried = ("a", str(job.attempts + 1))
    match settlement:
        case Complete(issued):
            return [job.id, "i", "", *tried, *_issued_fields(issued)]
        case DeadLetter(kind, code, message):
            return [job.id, "d", kind.value, *tried, "o", code, *text_fields("m", message)]
        case Retry(delay_s, code, message, spends_attempt):
            spent = tried if spends_attempt else ("u", str(job.busy + 1))
            return [job.id, "r", int(delay_s * 1000), *spent, "o", code, *text_fields("m", message)]
        case PutBack(code, message):
            return [job.id, "q", "", "o", code, *text_fields("m", message)]
        case Isolate(group, width, code, message):
            return [job.id, "z", f"{group} {width}", "o", code, *text_fields("m", message)]


def _issued_fields(issued: Any) -> list[str]:
    values: Mapping[str, Any] = {
        "i": issued.earned_badge_id,
        "I": issued.issued_id,
        "q": issued.request_id,
        "y": f"{issued.expires_on:.15g}" if issued.expires_on is not None else None,
        "Y": issued.expires_on_iso,
    }
    fields = [part for letter, value in values.items() if value is not None for part in (letter, value)]
    return fields + (text_fields("v", issued.warnings) if issued.warnings else [])


def _missing(jobs: Sequence[Job], settled: Sequence[Settlement]) -> list[str]:
    return sorted(
        {
            job.badge.badge_meta_id
            for job, settlement in zip(jobs, settled, strict=True)
            if isinstance(settlement, DeadLetter) and settlement.code in MISSING_CODES
        }
    )


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _script_names() -> list[str]:
    files = resources.files("worker").joinpath("scripts").iterdir()
    return [f.name.removesuffix(".lua") for f in files if f.name.endswith(".lua") and f.name[0] != "_"]


def _source(name: str) -> str:
    """Compose a script: its own first line (the flags), the keys, what all share, then its own text."""
    folder = resources.files("worker").joinpath("scripts")
    flags, _, body = folder.joinpath(f"{name}.lua").read_text().partition("\n")
    shared = [folder.joinpath(file).read_text() for file in _SHARED]
    return "\n".join([flags, keys.lua_table(), *shared, body])
