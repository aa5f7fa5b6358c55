"""A round: a small world, disturbed by its plan, then left in peace until everything in it has ended."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog
from simulation.actors import MISSING, Cast
from simulation.hub import SECOND, Stuck
from simulation.knowledge import Broken, Pair
from simulation.plan import Plan, smaller
from simulation.server import Server
from simulation.wire import Client
from simulation.world import World

from worker.sandbox.issued import SandboxSettings
from worker.sandbox.vendor import Vendor
from worker.store.scripts import Scripts

DISTURBED_S, CALM_S = 20_000, 3_000  # of virtual time, at most
IDLE_S = 10  # more is passed over, once everything has ended
LOOK_EVERY, LOOK_EVERY_S = 25, 20  # turns, and seconds of virtual time: whether everything has ended
# After these nothing may be in doubt.
CERTAIN = frozenset(
    [
        "clock_back",
        "rows_shuffled",
        "not_connected",
        "throttled",
        "unavailable",
        "busy",
        "refused",
        "too_large",
        "unauthorized",
        "forbidden",
        "reply_lost",
        "unreachable",
        "given_up",
        "unconfirmed",
    ]
)
# After these a request isn't in doubt as a whole any more, or for longer than it is sent again.
PARTED = frozenset(["rows_missing", "rows_added", "clock_forward", "fail_over"])


@dataclass(frozen=True, slots=True)
class Played:
    """How a round went: its trace and what stands for that, what it met, and how it failed, if it did."""

    plan: Plan
    digest: str
    trace: tuple[str, ...]
    met: Counter[tuple[str, str]]
    failure: Exception | None = None

    @property
    def broke(self) -> str:
        """The promise that broke, in words; nothing if none did.

        Raises:
            Exception: the round didn't end, but no promise broke: there is a fault in the simulation.
        """
        if self.failure is None or isinstance(self.failure, Broken | Stuck):
            return str(self.failure or "")
        raise self.failure


class Stage:
    """Where rounds are played: a server, and the scripts it runs."""

    def __init__(self, server: Server, scripts: Scripts) -> None:
        self._server, self._scripts = server, scripts
        self._client = Client()

    def play(self, plan: Plan) -> Played:
        """Play a round to its end, or to where a promise breaks."""
        world = World(plan, self._server, self._scripts, self._client)
        failure: Exception | None = None
        try:
            _play(world)
        except Exception as error:  # noqa: BLE001 - whatever it is, the round has failed
            failure = error
        finally:
            world.hub.end()
        return Played(plan, f"{world.digest:08x}", tuple(world.trace), world.met, failure)

    def shrink(self, plan: Plan, *, tries: int = 200) -> Played:
        """Look for a smaller plan that fails in the same way, and play that, held after each step."""
        best, tried, goes_on = self.play(replace(plan, watched=False)), 0, True
        while best.failure and goes_on:
            goes_on = False
            for candidate in smaller(best.plan):
                tried += 1
                played = self.play(candidate)
                if type(played.failure) is type(best.failure):
                    best, goes_on = played, tried < tries
                    break
                if tried >= tries:
                    break
        watched = self.play(replace(best.plan, watched=True))
        return watched if watched.failure else best


def _play(world: World) -> None:
    settings = SandboxSettings(
        seed=world.plan.seed,
        unknown_badges=frozenset({MISSING} if world.plan.missing else ()),
        read_delay_s=world.plan.read_delay_s,
        request_ids=world.plan.request_ids,
    )
    vendor = Vendor(settings=settings, clock=world.time)
    cast = Cast(world, vendor)
    cast.enter()
    calm_from_us = int(world.plan.calm_at_s * SECOND)

    def is_over() -> bool:
        left_us = calm_from_us - world.hub.now_us
        idle_us = min(left_us, world.hub.idle_us())
        if idle_us > IDLE_S * SECOND and _has_ended(world):  # all would look in vain
            world.hub.pass_over(idle_us)
            return idle_us == left_us
        return left_us <= 0

    world.hub.run(until=is_over, limit_us=DISTURBED_S * SECOND)
    world.calm = True
    world.tell("CALM")
    cast.resume_all()
    world.hub.run(until=lambda: cast.busy == 0 and _has_ended(world), limit_us=CALM_S * SECOND)
    world.tell("END")
    earned = {i.earned_badge_id: Pair(i.badge_meta_id, i.customer_id) for i in vendor.ledger().issues}
    met = {kind for kind, _ in world.met}
    clear = met <= CERTAIN or (
        world.plan.request_ids != "ignores" and not world.plan.acts and not met & PARTED
    )
    sure = not world.plan.missing and not world.plan.acts and "busy" not in met
    for name, known in world.known.items():
        known.check_end(world.probe.held(name), earned, vendor.ledger().revoked, faultless=clear, sure=sure)


def _has_ended(world: World) -> bool:
    """Say whether everything has ended; looked at only now and then, since it costs."""
    world.looks += 1
    if world.looks % LOOK_EVERY and world.hub.now_us - world.looked_us < LOOK_EVERY_S * SECOND:
        return False
    world.looked_us = world.hub.now_us
    runs = {producer.run for producer in world.plan.producers}
    if any(world.probe.is_busy(name, runs) for name in world.known):
        return False
    return all(known.has_ended(world.probe.held(name)) for name, known in world.known.items())


def _drop(_: object, __: str, ___: object) -> str:
    raise structlog.DropEvent


@contextmanager
def quiet() -> Iterator[None]:
    """Let the program's log be silent while the block lasts."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), processors=[_drop]
    )
    try:
        yield
    finally:
        structlog.configure(**before)
