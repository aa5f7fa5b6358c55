"""What happens in a round, decided by its seed: the world, who acts in it, and which faults strike where.

A plan is a value: a round is the same whenever its plan is, and a smaller plan is how a failure is narrowed
down. A fault strikes at a step (a script, or what a worker does between two) the n-th time that anybody takes
it, so that dropping one leaves the others where they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

# Steps of the store are named by their scripts; "read" and "write" are single commands.
DURABLE = ("enqueue", "claim", "replay", "cancel", "discard", "resolve", "audit")
PLAIN = ("settle", "retime", "hint", "gauge", "pause", "resume", "read", "write")
POOL = ("take_due", "begin", "take_seat", "take_next", "offer")
CHECK = ("take_check", "conclude_check", "pay")
STORE = (*DURABLE, *PLAIN, *POOL, *CHECK)

ANYWHERE = (
    "crash_before",
    "crash_after",
    "held_up",
    "held_up_after",
    "clock_forward",
    "clock_back",
    "fail_over",
)
ON_THE_WAY = ("reply_lost", "unreachable", "given_up", "echo")
IN_THE_CALL = (
    *("not_connected", "reset_unapplied", "reset_applied", "timeout_unapplied", "timeout_applied"),
    *("applied_late", "late_answer", "crash_unapplied", "crash_applied", "truncated"),
    *("throttled", "unavailable", "error_unapplied", "error_applied", "unauthorized", "too_large"),
    *("refused", "rows_missing", "rows_shuffled", "rows_added", "busy", "forbidden"),
)


def kinds_of(step: str) -> tuple[str, ...]:
    """Return which faults may strike at a step."""
    if step == "put":
        return (*ANYWHERE, *IN_THE_CALL)
    if step not in STORE:
        return ANYWHERE
    return (*ANYWHERE, *ON_THE_WAY, *(("unconfirmed",) if step in DURABLE else ()))


PAIRS = [(kind, step) for step in (*STORE, "put", "get", "sleep") for kind in kinds_of(step)]

ACTS = (
    *("pause", "resume", "cancel", "replay", "replay_in_doubt", "replay_changed", "discard", "mend"),
    *("resolve_issued", "resolve_not_issued", "reimport", "wait"),
)


OFTEN = ("enqueue", "claim", "settle", "put", "put", "sleep", "retime", "hint", "write", "read", "gauge")
STEPS_OF = {  # what an act comes down to
    "pause": ("audit", "pause"),
    "resume": ("audit", "resume", "resume"),
    "cancel": ("audit", "cancel", "cancel"),
    "replay": ("audit", "replay", "read"),
    "replay_in_doubt": ("replay", "replay"),
    "replay_changed": ("replay", "replay"),
    "discard": ("discard", "discard"),
    "mend": ("replay", "enqueue"),
    "resolve_issued": ("resolve", "resolve", "resolve"),
    "resolve_not_issued": ("replay",),
}
DOUBTFUL = (
    *(
        "timeout_applied",
        "timeout_unapplied",
        "reset_applied",
        "crash_applied",
        "crash_unapplied",
        "applied_late",
    ),
    *("held_up", "held_up_after", "crash_after", "truncated", "error_applied"),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Strikes at the ``nth`` time that a step is taken, from 1."""

    kind: str
    step: str
    nth: int

    def __str__(self) -> str:
        return f"{self.kind} at {self.step} {self.nth}"


@dataclass(frozen=True, slots=True)
class Producer:
    """Brings rows, by their customers' numbers, as a run; negative ones can't be read."""

    org: str
    run: str
    rows: tuple[int, ...]
    at_s: float
    chunk: int
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Act:
    """What an operator does."""

    what: str
    org: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A round."""

    seed: int
    orgs: dict[str, dict[str, Any]]
    workers: tuple[int, ...]  # threads of each
    pooled: bool
    replicas: int
    producers: tuple[Producer, ...]
    acts: tuple[Act, ...]
    faults: tuple[Fault, ...]
    calm_at_s: float
    missing: bool = False  # whether the vendor doesn't know one of the badges
    watched: bool = field(default=False, compare=False)  # look at everything after each step

    @property
    def has_fail_over(self) -> bool:
        """Say whether the server is ever replaced."""
        return any(fault.kind == "fail_over" for fault in self.faults)

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: workers {self.workers}{' pooled' * self.pooled}, replicas {self.replicas}"
        ]
        lines += [f"  org {name}: {settings}" for name, settings in self.orgs.items()]
        lines += [f"  {one}" for one in (*self.producers, *self.acts)]
        lines += [f"  fault: {fault}" for fault in self.faults]
        return "\n".join([*lines, f"  calm from {self.calm_at_s:.1f} s on"])


def plan_of(seed: int) -> Plan:
    """Draw the plan of a seed."""
    random = Random(seed)
    pooled = random.random() < 0.3
    orgs = {
        name: _org(random)
        for name in ("default", "other")[: 1 + (random.random() < (0.7 if pooled else 0.15))]
    }
    checks = any(settings["in_doubt"] == "check" for settings in orgs.values())
    trouble = random.random() < 0.6  # a call in doubt, and an operator who acts on what comes of it
    acts = tuple(_acts(random, list(orgs), trouble=trouble, checks=checks, most_s=60 if pooled else 400))
    steps = [*OFTEN, *OFTEN, *(step for act in acts for step in STEPS_OF.get(act.what, ()))]
    steps += POOL if pooled else ()
    steps += (*CHECK, "get", *CHECK, "get") if checks else ()
    faults = list(_faults(random, steps, random.choice((0, 1, 2, 3, 4, 6, 8))))
    if trouble:
        faults.append(Fault(random.choice(DOUBTFUL), "put", random.randint(1, 3)))
    return Plan(
        seed=seed,
        orgs=orgs,
        workers=tuple(random.randint(1, 2) for _ in range(random.randint(1, 3))),
        pooled=pooled,
        replicas=int(random.random() < 0.5),
        producers=tuple(_producers(random, list(orgs))),
        acts=acts,
        faults=tuple(faults),
        calm_at_s=random.choice((5, 30) if pooled else (5, 30, 200)) + max((a.at_s for a in acts), default=0),
        missing=random.random() < 0.2,
    )


def _org(random: Random) -> dict[str, Any]:
    rates = ("4/second", "20/second", "100/second", "5/second,12/minute", "3/second,items:40/minute")
    return {
        "rate_limit": random.choice(rates),
        "batch_size": random.randint(1, 4),
        "batch_linger_s": random.choice((0, 0.2, 1)),
        "max_in_flight": random.randint(1, 3),
        "http_timeout_s": random.choice((2, 10, 30)),
        "max_attempts": random.randint(1, 3),
        "retry_base_s": random.choice((0.5, 5)),
        "in_doubt": random.choice(("park",) * 8 + ("check",) * 3 + ("resend",)),
    }


def _producers(random: Random, orgs: Sequence[str]) -> Iterator[Producer]:
    """Draw who brings what; rows that are brought twice are what duplicates are made of."""
    for n in range(random.randint(1, 3)):
        first = random.choice((0, 0, 5, 10))
        rows = [*range(first, first + random.randint(2, 12))]
        rows += random.sample(rows, random.randint(0, 2)) + ([-1 - n] if random.random() < 0.3 else [])
        org, run = random.choice(orgs), random.choice(("spring", "summer"))
        yield Producer(
            org, run, tuple(rows), random.uniform(0, 4), random.randint(2, 12), random.random() < 0.2
        )


def _acts(
    random: Random, orgs: Sequence[str], *, trouble: bool, checks: bool, most_s: float
) -> Iterator[Act]:
    """Draw what operators do: at once, after a call's end, or once what is silent was given up."""
    for _ in range(random.choice((1, 2, 3, 5) if trouble else (0, 0, 1, 2))):
        at_s = random.choice((random.uniform(0, 5), random.uniform(2, 40), random.uniform(95, 400)))
        yield Act(random.choice(ACTS), random.choice(orgs), min(at_s, most_s))
    if checks:  # which takes two looks, ten minutes apart
        yield Act("wait", orgs[0], random.choice((700, 1500)))


def _faults(random: Random, steps: Sequence[str], number: int) -> Iterator[Fault]:
    for _ in range(number):
        step = random.choice(steps)
        nth = 1 + int(random.expovariate(1 / (4 if step in OFTEN else 1)))
        yield Fault(random.choice(kinds_of(step)), step, nth)


def smaller(plan: Plan) -> Iterator[Plan]:
    """Yield plans that are a little less than this one, those that leave out most first."""
    for name in ("faults", "acts", "producers", "workers"):
        for left in _parts(getattr(plan, name)):
            if left or name in {"faults", "acts"}:
                yield replace(plan, **{name: left})
    for n, producer in enumerate(plan.producers):
        for fewer in (replace(producer, rows=rows) for rows in _parts(producer.rows) if rows):
            yield replace(plan, producers=(*plan.producers[:n], fewer, *plan.producers[n + 1 :]))
    if max(plan.workers) > 1:
        yield replace(plan, workers=(1,) * len(plan.workers))
    if plan.missing:
        yield replace(plan, missing=False)
    if plan.pooled:
        yield replace(plan, pooled=False)


def _parts(whole: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield what is left without one half or the other, then without a quarter, down to without one."""
    size = len(whole)
    while size := size // 2:
        for at in range(0, len(whole), size):
            yield whole[:at] + whole[at + size :]
    if len(whole) == 1:
        yield ()
