"""What happens in a round, decided by its seed: the world, who acts in it, and which faults strike where.

A plan is a value: a round is the same whenever its plan is, and a smaller plan is how a failure is narrowed
down. A fault strikes at a step (a script, or what a worker does between two) the n-th time that anybody takes
it, so that dropping one leaves the others where they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal

# Steps of the store are named by their scripts; "read" and "write" are single commands.
DURABLE = ("enqueue", "claim", "start", "replay", "cancel", "discard", "resolve", "audit")
PLAIN = ("settle", "retime", "hint", "gauge", "pause", "resume", "read", "write")
POOL = ("take_due", "begin", "take_seat", "take_next", "offer")
CHECK = ("take_check", "conclude_check", "reserve_call")
UNDO = ("undo", "take_revoke", "settle_revoke")
STORE = (*DURABLE, *PLAIN, *POOL, *CHECK, *UNDO)

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
    if step == "post":
        return (*ANYWHERE, "reset_unapplied", "reset_applied", "throttled", "unauthorized", "error_unapplied")
    if step == "put":
        return (*ANYWHERE, *IN_THE_CALL)
    if step not in STORE:
        return ANYWHERE
    # A run is held until a time by the server's clock: set back, it is held for so much longer.
    here = tuple(kind for kind in ANYWHERE if (kind, step) != ("clock_back", "start"))
    return (*here, *ON_THE_WAY, *(("unconfirmed",) if step in DURABLE else ()))


PAIRS = [(kind, step) for step in (*STORE, "put", "post", "get", "sleep") for kind in kinds_of(step)]

ACTS = (
    *("pause", "resume", "cancel", "replay", "replay_in_doubt", "replay_changed", "discard", "mend"),
    *("resolve_issued", "resolve_not_issued", "reimport", "wait"),
)


OFTEN = ("enqueue", "claim", "settle", "put", "put", "sleep", "retime", "hint", "write", "read", "gauge")
STEPS_OF = {  # what an act comes down to
    "pause": ("audit", "pause"),
    "resume": ("audit", "resume", "resume"),
    "start": ("audit", "start", "gauge"),
    "cancel": ("audit", "cancel", "cancel"),
    "replay": ("audit", "replay", "read"),
    "replay_in_doubt": ("replay", "replay"),
    "replay_changed": ("replay", "replay"),
    "discard": ("discard", "discard"),
    "mend": ("replay", "enqueue"),
    "resolve_issued": ("resolve", "resolve", "resolve"),
    "resolve_not_issued": ("replay",),
}
ON_DEAD = (
    *("replay", "replay_in_doubt", "replay_in_doubt", "replay_changed", "discard", "discard", "mend"),
    *("resolve_issued", "resolve_not_issued", "cancel"),
)
CERTAIN = ("throttled", "unavailable", "too_large", "refused", "busy", "rows_missing", "not_connected")
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
UNAPPLIED = ("timeout_unapplied", "reset_unapplied", "error_unapplied", "timeout_unapplied") * 2


@dataclass(frozen=True, slots=True)
class Fault:
    """Strikes at the ``nth`` time that a step is taken, from 1, counted from ``since_s`` on.

    Who is held up is so ``for_s``, or for a time that is drawn.
    """

    kind: str
    step: str
    nth: int
    since_s: float = 0.0
    for_s: float = 0.0

    def __str__(self) -> str:
        since = f" since {self.since_s:.1f} s" if self.since_s else ""
        return (
            f"{self.kind} at {self.step} {self.nth}{since}{f' for {self.for_s:.2f} s' if self.for_s else ''}"
        )


@dataclass(frozen=True, slots=True)
class Producer:
    """Brings rows, by their customers' numbers, as a run; negative ones can't be read."""

    org: str
    run: str
    rows: tuple[int, ...]
    at_s: float
    chunk: int
    urgent: bool = False
    later_s: float = 0.0  # so long nothing of the run is sent, unless somebody starts it


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
    read_delay_s: float = 0  # how late the vendor shows what it issued
    request_ids: Literal["ignores", "honours", "refuses"] = (
        "ignores"  # what the vendor does with a repeated one
    )
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
    """Draw the plan of a seed: anything at all, and most often a theme on top, where much comes together."""
    random = Random(seed)
    pooled = random.random() < 0.2
    number = 1 + (random.random() < (0.7 if pooled else 0.1))
    orgs = {name: _org(random) for name in ("default", "other")[:number]}
    theme = random.choice(("none", *THEMES))
    if theme == "check":
        orgs["default"] |= {"in_doubt": "check"}
    if theme in {"late sends", "twice"}:
        orgs["default"] |= {"rate_limit": random.choice(SLOW), "max_in_flight": 3, "batch_size": 1}
    acts = [*_acts(random, list(orgs), random.choice((0, 0, 1, 2)), 60 if pooled else 300)]
    faults: list[Fault] = []
    if theme in THEMES:
        more, its = THEMES[theme](random, list(orgs))
        acts, faults = acts + more, faults + its
    steps = [*OFTEN, *OFTEN, *(step for act in acts for step in STEPS_OF.get(act.what, ()))]
    steps += [*POOL] if pooled else []
    steps += [*CHECK, "get", *CHECK, "get"] if theme == "check" else []
    faults += _faults(random, steps, 0 if theme == "repeated" else random.choice((0, 1, 1, 2, 3, 4)))
    rest_s = random.choice((5, 30) if pooled else (5, 30, 150))
    request_ids, more = _same_requests(Random(f"same {seed}"), orgs, theme)
    undo = list(_undo(Random(f"undo {seed}"), list(orgs)))
    its_faults = [fault for _, its in undo for fault in its]
    acts += [act for act, _ in undo]
    faults += [*its_faults, *more]
    faults += _seats(Random(f"seats {seed}")) if pooled else []
    workers = tuple(random.randint(1, 2) for _ in range(random.randint(1, 3)))
    replicas = int(random.random() < 0.5)
    producers = tuple(_producers(random, list(orgs), theme))
    if not any(fault.kind == "clock_back" for fault in faults):
        producers, its_acts, its_faults = _later(Random(f"later {seed}"), producers)
        acts, faults = acts + its_acts, faults + its_faults
    return Plan(
        seed=seed,
        orgs=orgs,
        workers=workers,
        pooled=pooled,
        replicas=replicas,
        producers=producers,
        acts=tuple(acts),
        faults=tuple(faults),
        calm_at_s=rest_s
        + max(
            (
                *(act.at_s for act in acts),
                *(fault.since_s for fault in faults),
                *(producer.at_s + producer.later_s for producer in producers),
            ),
            default=0,
        ),
        missing=random.random() < 0.2,
        read_delay_s=random.choice((0, 900)),
        request_ids=request_ids,
    )


def _undo(random: Random, orgs: Sequence[str]) -> Iterator[tuple[Act, list[Fault]]]:
    """Take back what was issued, now and then, once or twice, while revoking fails."""
    if random.random() < 0.85:
        return
    for _ in range(random.choice((1, 1, 2))):
        at_s = random.choice((random.uniform(5, 20), random.uniform(100, 200)))
        kinds, steps = ("post", "take_revoke", "settle_revoke", "undo"), random.randint(0, 3)
        faults = [
            Fault(random.choice(kinds_of(step)), step, random.randint(1, 4), at_s)
            for step in random.choices(kinds, k=steps)
        ]
        yield Act("undo", random.choice(orgs), at_s), faults


def _later(
    random: Random, producers: Sequence[Producer]
) -> tuple[tuple[Producer, ...], list[Act], list[Fault]]:
    """Hold a run, now and then: it begins at its time, is started (which may fail), or cancelled."""
    if random.random() < 0.85:
        return tuple(producers), [], []
    run, for_s = random.choice(producers).run, random.uniform(1, 60)
    acts = [
        Act(random.choice(("start", "start", "cancel", "replay")), producer.org, random.uniform(0, for_s))
        for producer in producers
        for _ in range(random.choice((0, 1, 2)))
    ]
    held = [replace(one, later_s=for_s) if one.run == run else one for one in producers]
    starts = sum(act.what == "start" for act in acts)
    faults = [
        Fault(random.choice(kinds_of("start")), "start", n + 1)
        for n in range(starts)
        if random.random() < 0.5
    ]
    return tuple(held), acts, faults


def _same_requests(random: Random, orgs: dict[str, dict[str, Any]], theme: str) -> tuple[Any, list[Fault]]:
    """Let the vendor know request ids, now and then, and what is in doubt be sent again as it was."""
    if theme == "check" or random.random() < 0.8:
        return "ignores", []
    request_ids = random.choice(("honours", "refuses"))
    for settings in orgs.values():
        settings |= {"in_doubt": "same_request", "request_ids": request_ids}
    number, late = random.choice((0, 1, 2, 4)), random.choice((0, 0, 80))
    kinds = (*DOUBTFUL, *UNAPPLIED, *CERTAIN)
    faults = [Fault(random.choice(kinds), "put", random.randint(1, 6), since_s=late) for _ in range(number)]
    if random.random() < 0.3:
        step = random.choice(("claim", "settle", "sleep"))
        faults.append(Fault(random.choice(kinds_of(step)), step, random.randint(2, 8)))
    return request_ids, faults


def _org(random: Random) -> dict[str, Any]:
    rates = (
        "4/second",
        "4/second",
        "20/second",
        "100/second",
        "5/second,12/minute",
        "3/second,items:40/minute",
    )
    return {
        "rate_limit": random.choice(rates),
        "batch_size": random.randint(1, 4),
        "batch_linger_s": random.choice((0, 0.2, 1)),
        "max_in_flight": random.randint(1, 3),
        "http_timeout_s": random.choice((2, 10, 30)),
        "max_attempts": random.randint(1, 3),
        "retry_base_s": random.choice((0.5, 5)),
        "in_doubt": random.choice(("park",) * 9 + ("resend",)),
    }


def _producers(random: Random, orgs: Sequence[str], theme: str) -> Iterator[Producer]:
    """Draw who brings what; rows that are brought twice are what duplicates are made of."""
    if theme == "twice":  # a run in the middle of the lane, where a cancel leaves its ids
        for n, run in enumerate(("summer", "spring", "summer")):
            yield Producer(orgs[0], run, tuple(range(10 * n, 10 * n + 5)), 0.5 + 0.1 * n, 5)
        return
    for n in range(random.randint(1, 3)):
        first = random.choice((0, 0, 5, 10))
        rows = [*range(first, first + random.randint(2, 10))]
        rows += random.sample(rows, random.randint(0, 2)) + ([-1 - n] if random.random() < 0.3 else [])
        org, run = random.choice(orgs), random.choice(("spring", "summer"))
        urgent = random.random() < 0.2
        yield Producer(org, run, tuple(rows), random.uniform(0, 4), random.randint(2, 14), urgent)
    if theme == "check":  # what is issued later shows that the vendor shows what was issued before
        yield Producer(orgs[0], "later", (30, 31), random.choice((50, 300)), 2)


def _acts(random: Random, orgs: Sequence[str], number: int, most_s: float) -> Iterator[Act]:
    """Draw what operators do: at once, after a call's end, or once what is silent was given up."""
    for _ in range(number):
        at_s = random.choice((random.uniform(0, 5), random.uniform(2, 40), random.uniform(95, 300)))
        yield Act(random.choice(ACTS), random.choice(orgs), min(at_s, most_s))


def _faults(random: Random, steps: Sequence[str], number: int) -> Iterator[Fault]:
    for _ in range(number):
        step = random.choice(steps)
        nth = 1 + int(random.expovariate(1 / (5 if step in OFTEN else 1)))
        yield Fault(random.choice(kinds_of(step)), step, nth)


SLOW = ("4/second", "4/second", "5/second,12/minute")
Theme = tuple[list[Act], list[Fault]]


def _trouble(random: Random, orgs: Sequence[str]) -> Theme:
    """A call or two in doubt, and an operator who acts on what comes of it."""
    faults = [
        Fault(random.choice(DOUBTFUL), "put", n) for n in random.sample(range(1, 6), random.randint(1, 2))
    ]
    times = (random.uniform(2, 40), random.uniform(95, 140))
    acts = [Act(random.choice(ON_DEAD), orgs[0], random.choice(times)) for _ in range(random.randint(1, 3))]
    return acts, faults


def _late(random: Random, orgs: Sequence[str]) -> Theme:
    """An answer that comes late, after its batch was given up, and what was done with its jobs meanwhile."""
    nth, late_s = random.randint(1, 3), random.uniform(140, 260)
    faults = [
        Fault(random.choice(IN_THE_CALL), "put", nth),
        Fault("held_up", "settle", nth, for_s=late_s),
        Fault(random.choice(("late_answer", "held_up_after", "throttled")), "put", 1, since_s=80),
        Fault("late_answer", "put", 2, since_s=80),
    ]
    at_s = random.uniform(130, late_s)
    acts = [Act(random.choice(ON_DEAD), orgs[0], at_s + n * random.uniform(0, 20)) for n in range(2)]
    return acts, faults


def _late_sends(random: Random, _: Sequence[str]) -> Theme:
    """Calls that leave later than they were to."""
    return [], [
        Fault(
            "held_up", random.choice(("put", "sleep", "claim", "retime")), random.randint(1, 8), for_s=for_s
        )
        for for_s in (random.choice((0.03, 0.3, 0.7, 1.5, 4)) for _ in range(random.randint(2, 6)))
    ]


def _operators(random: Random, orgs: Sequence[str]) -> Theme:
    """Several people who act on the same dead letters at the same time."""
    at_s = random.choice((random.uniform(3, 20), random.uniform(100, 140)))
    whats = random.choices(ON_DEAD, k=random.randint(2, 4))
    if random.random() < 0.5:
        whats = (
            random.choice(
                (
                    *(["discard", "resolve_issued"], ["discard", "replay"]),
                    *(["discard", "replay_changed"], ["replay_changed", "mend"]),
                )
            )
            * 2
        )
    faults = [Fault(random.choice((*DOUBTFUL, *CERTAIN)), "put", n) for n in range(1, random.randint(2, 5))]
    acts = [Act(what, orgs[0], at_s + random.uniform(0, 0.01)) for what in whats]
    if random.random() < 0.5:  # so that there are dead letters
        acts.append(Act("cancel", orgs[0], random.uniform(0.5, 3)))
    steps = [step for act in acts for step in STEPS_OF[act.what]]
    faults += [
        Fault("held_up", random.choice(steps), random.randint(1, 2), at_s, random.choice((0.01, 0.5, 20)))
        for _ in range(2)
    ]
    faults.append(Fault(random.choice((*ON_THE_WAY, "crash_after")), random.choice(steps), 1, at_s))
    return acts, faults


def _check(random: Random, orgs: Sequence[str]) -> Theme:
    """Doubt that is narrowed by asking the vendor, which takes two looks, ten minutes apart."""
    faults = [Fault(random.choice((*DOUBTFUL, *UNAPPLIED)), "put", random.randint(1, 3))]
    step, for_s = random.choice(("get", "reserve_call", "conclude_check")), random.uniform(1, 120)
    look_s = 600 if for_s < 60 else 1200  # the first, which finds nothing, or the second, which clears
    faults.append(Fault("held_up", step, 1, look_s - 100, for_s))
    acts = [Act("wait", orgs[0], random.choice((700, 2600)))]
    if random.random() < 0.7:  # while a check goes on
        what = random.choice((*ON_DEAD, *("discard",) * 6))
        acts.append(Act(what, orgs[0], look_s + random.uniform(0, 120)))
    return acts, faults


def _repeated(random: Random, orgs: Sequence[str]) -> Theme:
    """Calls that arrive more than once, at once or much later."""
    steps = ("claim", "claim", "claim", "settle", "settle", "enqueue", "enqueue", "retime", "hint")
    faults = [
        Fault(random.choice(("echo", "reply_lost")), random.choice(steps), random.randint(1, 6))
        for _ in range(random.randint(2, 6))
    ]
    acts: list[Act] = []
    if random.random() < 0.6:
        what, at_s = random.choice(ON_DEAD), random.uniform(5, 20)
        acts = [Act(what, orgs[0], at_s)]
        in_doubt = random.choice(("reset_applied", "reset_unapplied", "refused"))
        faults += [Fault(in_doubt, "put", random.randint(1, 3)), Fault(in_doubt, "put", 1, since_s=at_s)]
        faults.append(Fault(random.choice(("echo", "reply_lost")), STEPS_OF[what][-1], 1, since_s=at_s))
    return acts, faults


def _twice(random: Random, orgs: Sequence[str]) -> Theme:
    """Jobs that are cancelled and replayed while they wait, so that their ids lie in the lane twice."""
    at_s = random.uniform(0.75, 1.5)
    acts = [Act("cancel", orgs[0], at_s), Act("replay", orgs[0], at_s + random.uniform(0.02, 0.4))]
    return acts, [Fault("late_answer", "put", random.randint(3, 10)) for _ in range(2)]


def _seats(random: Random) -> list[Fault]:
    """A place that a repeated call takes again, so that nobody gives it back; then the clock steps back."""
    if random.random() < 0.5:
        return []
    step = random.choice(("claim", "settle", "put", "write", "hint"))
    return [
        Fault("echo", "take_seat", random.randint(1, 4)),
        Fault("clock_back", step, random.randint(2, 8)),
    ]


THEMES = {
    "twice": _twice,
    "repeated": _repeated,
    "trouble": _trouble,
    "late": _late,
    "late sends": _late_sends,
    "operators": _operators,
    "check": _check,
}


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
