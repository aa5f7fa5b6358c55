"""A round's world: time, the server, the network to it, and the faults that strike."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import redis
from greenlet import getcurrent
from simulation.hub import SECOND, Hub
from simulation.knowledge import Broken, Knowledge
from simulation.plan import DURABLE, STORE, Plan
from simulation.probe import Held, Probe
from simulation.server import Server
from simulation.wire import Client, Command

from worker.domain.org import Org
from worker.store import keys
from worker.store.clock import Clock
from worker.store.scripts import Scripts

BEGAN_S = 1_800_000_000  # what the server's clock shows at first
STEADY_S = 5_000.0  # what a process' own shows
READS = frozenset(
    [
        "GET",
        "HGET",
        "HMGET",
        "HGETALL",
        "ZRANGE",
        "ZRANGEBYSCORE",
        "ZCOUNT",
        "ZSCORE",
        "SMEMBERS",
        "LRANGE",
        "EXISTS",
        "HEXISTS",
    ]
)
# How long somebody is held up, s: beyond a slot, the fence, a call, a lease.
HELD_UP_S = (0.05, 0.4, 2.5, 7.0, 40.0, 140.0, 400.0)
CHECK_EVERY = 40  # steps
EXPIRE_EVERY_MS = 5000  # what has expired is deleted so late at most
UNSURE_S = 200  # beyond a window, after a fail-over: whose slot it lost may be held up for so long


class Time(Clock):
    """The time as a process of the world sees it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def steady_s(self) -> float:
        """Return the true time, from somewhere on."""
        return STEADY_S + self._world.hub.now_us / SECOND

    def monotonic_s(self) -> float:
        """Return the same: no machine is suspended as a whole."""
        return self.steady_s()

    def wall_s(self) -> float:
        """Return what a machine's own clock shows."""
        return BEGAN_S + self._world.hub.now_us / SECOND

    def sleep(self, seconds: float) -> None:
        """Let the others go on."""
        if seconds > 0:
            self._world.step("sleep", lambda: None, us=int(seconds * SECOND))

    # As the vendor asks for it.
    time, monotonic = wall_s, steady_s


class World:
    """All that there is in a round but the actors."""

    def __init__(self, plan: Plan, server: Server, scripts: Scripts, client: Client) -> None:
        self.plan, self.server, self.scripts, self.client = plan, server, scripts, client
        self.hub, self.time, self.probe = Hub(), Time(self), Probe(server)
        self.random = Random(f"world {plan.seed}")
        self.known = {
            name: Knowledge(Org(name=name, api_base_url="http://localhost", **settings))
            for name, settings in plan.orgs.items()
        }
        self.calm = False
        self.fail_overs = 0
        self.trace: list[str] = []
        self.digest = 0
        self.met: Counter[tuple[str, str]] = Counter()
        self.ahead_us = 0  # of the server's clock
        self._faults: dict[str, list[list[Any]]] = {}
        for fault in plan.faults:
            self._faults.setdefault(fault.step, []).append([fault, 0])
        self._names = {script.sha: name for name, script in scripts.items()}
        self._swept_ms = 0
        self._for_s = 0.0
        self._rings: dict[str, int] = {}
        self._since_check = 0
        self.looks = self.looked_us = 0
        self._serial = 0
        client.carry = self.carry
        server.begin(scripts)
        self._has_fail_over = plan.has_fail_over
        if self._has_fail_over:
            server.snapshot()

    @property
    def server_us(self) -> int:
        """What the server's clock shows."""
        return BEGAN_S * SECOND + self.hub.now_us + self.ahead_us

    def new_id(self) -> str:
        """Return an id that no other has; what it is doesn't depend on what else was drawn."""
        self._serial += 1
        return f"{zlib.crc32(b'%d %d' % (self.plan.seed, self._serial)):08x}{self._serial:04x}"

    def ring(self, org: str, at_ms: int) -> None:
        """Wake a worker at this time by the server's clock, unless that is to happen before."""
        at_us = self.hub.now_us + max(0, at_ms * 1000 - self.server_us)
        if at_ms >= 0 and at_us < self._rings.get(org, at_us + 1):
            self._rings[org] = at_us
            self.hub.later(at_us - self.hub.now_us, lambda: self._ring(org, at_us))

    def _ring(self, org: str, at_us: int) -> None:
        if self._rings.get(org) == at_us:
            del self._rings[org]
            self.hub.wake(self.random.choice)

    # -- steps and faults

    def step(self, name: str, act: Callable[[], Any], *, us: int = 0) -> Any:
        """Take a step that isn't the store's: it may be held up, and the process may die before or after."""
        fault = self.strike(name)
        self.before(fault)
        self.hub.pause(us)
        answer = act()
        self.after(fault)
        return answer

    def strike(self, step: str) -> str:
        """Return which fault strikes at this step, if any."""
        if self.calm:
            return ""
        struck = ""
        for waiting in self._faults.get(step, ()):
            fault = waiting[0]
            waiting[1] += self.hub.now_us >= fault.since_s * SECOND
            if waiting[1] == fault.nth and not struck:
                waiting[1] += 1
                struck, self._for_s = fault.kind, fault.for_s
                self.met[struck, step] += 1
                self.tell(f"FAULT {fault}")
        return struck

    def before(self, fault: str) -> None:
        """Let a fault strike that comes before what is done."""
        match fault:
            case "crash_before":
                self.hub.crash()
            case "held_up":
                self.hub.pause(self.held_up_us())
            case "clock_forward":
                for known in self.known.values():
                    known.leapt = True
                    known.uncounted = True  # what a call answered is forgotten by then, and it counts again
                self.ahead_us += self.random.choice((400_000, 5 * SECOND, 3600 * SECOND))
            case "clock_back":
                self.ahead_us -= self.random.choice((400_000, 5 * SECOND, 3600 * SECOND))
            case "fail_over":
                self._fail_over()

    def after(self, fault: str) -> None:
        """Let a fault strike that comes after what is done."""
        match fault:
            case "crash_after":
                self.hub.crash()
            case "held_up_after":
                self.hub.pause(self.held_up_us())

    def held_up_us(self) -> int:
        """Return how long somebody is held up; drawn, if it isn't said."""
        for_s, self._for_s = self._for_s, 0.0
        if for_s:
            return int(for_s * SECOND)
        return int(self.random.choice(HELD_UP_S) * self.random.uniform(0.7, 1.3) * SECOND)

    def tell(self, what: str) -> None:
        """Write a line of the trace, and add it to what stands for all of it."""
        who = self.hub.who
        line = f"{self.hub.now_us / SECOND:12.6f} {f'{who:10} {what}' if who else what}"
        self.digest = zlib.crc32(line.encode(), self.digest)
        self.trace.append(line)

    # -- the network to the server

    def carry(self, commands: list[Command]) -> list[Any]:
        """Carry commands to the server, and their answers back, as a client does that repeats lost ones."""
        if local := self._locally(commands):
            return local
        step = self._step(commands)
        fault = self.strike(step)
        self.before(fault)
        self.hub.pause(self._latency_us())
        actor = getcurrent()
        then, actor.then = getattr(actor, "then", None), None
        if fault == "unreachable":
            self.hub.pause(self.random.choice((10_000, 3 * SECOND)))
            raise redis.ConnectionError("unreachable")
        if then:
            then()
        replies = self._execute(step, commands, confirmed=fault != "unconfirmed")
        match fault:
            case "reply_lost":
                for _ in range(self.random.randint(1, 2)):
                    self.hub.pause(self.random.choice((50_000, 500_000, 10 * SECOND)))
                    replies = self._execute(step, commands)
            case "given_up":
                raise redis.ConnectionError("the answer was lost")
            case "echo":
                after_us = self.random.choice((1000, 200_000, 200_000, SECOND, 30 * SECOND, 200 * SECOND))
                self.hub.later(after_us, lambda: self._echo(step, commands))
        self.after(fault)
        self.hub.pause(self._latency_us())
        return replies

    def _latency_us(self) -> int:
        return int(self.random.expovariate(1 / 400)) + 30

    def _locally(self, commands: list[Command]) -> list[Any]:
        """Answer what needs no server."""
        match commands[0]:
            case ("TIME",):
                seconds, us = divmod(self.server_us, SECOND)
                return [[str(seconds), str(us)]]
            case ("INFO", *_):
                return ["aof_enabled:1\r\n"]
            case ("SCRIPT LOAD", _):
                return ["loaded"]
            case ("HGETALL", keys.WORKERS):  # here no worker says its settings, and all ask for them
                return [[]]
            case ("EXISTS", keys.VERSION_1):
                return [0]
        return []

    def _step(self, commands: list[Command]) -> str:
        name, *rest = commands[0]
        if name == "EVALSHA":
            return self._names[rest[0]]
        return "read" if name in READS else "write"

    def _echo(self, step: str, commands: list[Command]) -> None:
        self.tell(f"{step} arrives once more")
        for known in self.known.values():
            known.paused = known.paused and step != "resume"
        self._execute(step, commands)

    def _execute(self, step: str, commands: list[Command], *, confirmed: bool = True) -> list[Any]:
        """Have the server do it, at this instant."""
        now_us = self.server_us
        real = [[*c, now_us] if c[0] == "EVALSHA" else c for c in commands if c[0] not in {"WAITAOF", "WAIT"}]
        if expires := not 0 <= now_us // 1000 - self._swept_ms < EXPIRE_EVERY_MS:
            self._swept_ms = now_us // 1000
            real.insert(0, self.server.expire(self._swept_ms))
        replies = self.server.wire.ask(real)[expires:]
        waits = [c for c in commands if c[0] in {"WAITAOF", "WAIT"}]
        replies += [([1, 0] if w[0] == "WAITAOF" else self.plan.replicas) if confirmed else 0 for w in waits]
        if not confirmed:
            replies = [[0, 0] if c[0] == "WAITAOF" else r for c, r in zip(commands, replies, strict=True)]
        told = f" {commands[0][-2:]} -> {replies}" if self.plan.watched else ""  # it takes long
        self.tell(f"{step} {self.server.wire.heard:08x}{told}")
        if self._has_fail_over and self._is_confirmed(step, waits, confirmed=confirmed):
            self.server.snapshot()
        self._look(step)
        return replies

    def _look(self, step: str) -> None:
        self._since_check += 1
        if self._since_check >= (1 if self.plan.watched else CHECK_EVERY) and step in STORE:
            self.check()

    def check(self) -> None:
        """Hold the promises against what the store holds now."""
        self._since_check = 0
        for name, known in self.known.items():
            known.check(self.probe.held(name))

    def excuse(self, known: Knowledge) -> None:
        """Hold the limit against nothing that is sent within a window from now, or was to be sent by now."""
        window_s = max(limit.window_s for limit in known.org.limits)
        known.unsure_until_us = self.hub.now_us + (window_s + UNSURE_S) * SECOND

    # -- fail-over

    def holding(self) -> Callable[[], bool]:
        """Return what says whether no fail-over has come since."""
        fail_overs = self.fail_overs
        return lambda: self.fail_overs == fail_overs

    def _is_confirmed(self, step: str, waits: list[Command], *, confirmed: bool) -> bool:
        """Say whether what was written is on every replica by now: it had to be, or it came to be."""
        if self.plan.replicas:
            return (bool(waits) and confirmed and step in DURABLE) or self.random.random() < 0.05
        return self.random.random() < 0.1

    def _fail_over(self) -> None:
        """Lose what was written since the last snapshot: promises too, if no replica had to confirm."""
        before = {name: self.probe.held(name) for name in self.known}
        self.server.restore()
        self.fail_overs += 1
        self.tell("FAIL-OVER")
        for name, known in self.known.items():
            self.excuse(known)
            known.uncounted = True
            known.answered.clear()
            known.settled.clear()
            known.paused = False
            if not self.plan.replicas:
                after = self.probe.held(name)
                resends = known.org.in_doubt == "same_request"
                known.doubtful |= {
                    job
                    for job in before[name].jobs
                    if _is_forgotten(job, before[name], after, resends=resends)
                }


def _is_forgotten(job: str, before: Held, after: Held, *, resends: bool) -> bool:
    """Say whether a fail-over made the store forget something that it had confirmed of a job.

    What it takes to be on the way ends in doubt, never in a second call: nothing is excused there, unless
    the request of then is sent again (``resends``), which isn't the one that was sent since.
    """
    was, there = before.jobs[job], after.jobs.get(job)
    if there is None or before.needs_somebody(job) != after.needs_somebody(job):
        return True
    if there.state == "sending":
        return resends and there.batch != was.batch
    return there != was and there.state != "issued"


__all__ = ["SECOND", "Broken", "Time", "World"]
