"""Every promise, whatever is interleaved, lost, repeated, killed or late, from a seed each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from simulation.hub import SECOND, Hub, Process
from simulation.mutations import MUTATIONS, Mutation, without
from simulation.plan import PAIRS, plan_of
from simulation.report import MANY, Coverage, story
from simulation.rounds import Stage, quiet
from simulation.server import Server, running, virtual
from support import some

ROUNDS = 150
PARTS = 4  # for as many processes of pytest
QUICKLY_FOUND = [mutation for mutation in MUTATIONS if mutation.quick]
AT_ONCE = ("NX on enqueue", "repetition: settle", "fence: send_by", "the cap of calls at once")
QUICKLY = 500  # rounds, most of them many fewer


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of the simulation's own."""
    with running() as one, quiet():
        yield one


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_promise_is_kept_in_every_round(server: Server, part: int) -> None:
    """Nothing is lost, issued twice or over its limit, counters are right, and everything ends."""
    stage = Stage(server, virtual())
    for seed in range(part, ROUNDS, PARTS):
        if (played := stage.play(plan_of(seed))).failure:
            pytest.fail(story(stage.shrink(played.plan), seed))


def test_a_seed_is_a_round(server: Server) -> None:
    """The same seed twice is the same round, to the last answer."""
    stage = Stage(server, virtual())
    for seed in range(10):
        plan = plan_of(seed)
        assert plan == plan_of(seed)
        assert stage.play(plan).digest == stage.play(plan).digest, seed


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "mutation",
    some(sorted(QUICKLY_FOUND, key=lambda it: it.name not in AT_ONCE), len(AT_ONCE)),
    ids=lambda mutation: mutation.name,
)
def test_a_guard_that_is_taken_out_is_missed(server: Server, mutation: Mutation) -> None:
    """Without a guard its promise breaks: the simulation would notice."""
    with without(mutation) as scripts:
        stage = Stage(server, scripts)
        assert any(stage.play(plan_of(seed)).broke for seed in range(QUICKLY))


def test_time_is_passed_over_only_for_those_who_rest() -> None:
    """Who has something in hand goes on at its time, and for who rests it is as if nothing had passed."""
    hub, ended = Hub(), dict[str, int]()

    def wait(name: str, how: Callable[[int], None], seconds: int) -> None:
        def run() -> None:
            how(seconds * SECOND)
            ended[name] = hub.now_us // SECOND

        hub.spawn(Process(name), run)

    wait("sleeper", hub.sleep, 100)
    wait("beat", hub.rest, 15)
    wait("call", hub.pause, 40)
    hub.run(until=lambda: hub.idle_us() > 0, limit_us=SECOND)
    assert hub.idle_us() == 40 * SECOND
    hub.pass_over(30 * SECOND)
    hub.run(until=lambda: len(ended) == 3, limit_us=200 * SECOND)
    assert ended == {"call": 40, "beat": 45, "sleeper": 130}


def test_who_is_woken_rests_no_more() -> None:
    """It has been given something to do now."""
    hub = Hub()
    hub.spawn(Process("sleeper"), lambda: hub.sleep(100 * SECOND))
    hub.run(until=lambda: hub.idle_us() > 0, limit_us=SECOND)
    hub.wake(lambda asleep: asleep[0])
    assert hub.idle_us() == 0


def test_every_guard_can_be_taken_out() -> None:
    """Its text is still there: a script that changed may have lost it, and only a long run would tell."""
    for mutation in MUTATIONS:
        with without(mutation):
            pass


def test_a_failure_is_shrunk(server: Server) -> None:
    """What fails is told by the smallest round that fails as well, and that is in its story."""
    mutation = next(one for one in MUTATIONS if one.name == "customers are freed")
    with without(mutation) as scripts:
        smallest = Stage(server, scripts).shrink(plan_of(0))
    assert smallest.broke
    (producer,) = smallest.plan.producers
    assert (len(producer.rows), smallest.plan.faults, smallest.plan.acts) == (1, (), ())
    assert smallest.broke in story(smallest, 0)


def test_a_pair_that_is_never_met_is_told(tmp_path: Path) -> None:
    """Over all runs together: a fault that never strikes at a step tries nothing there."""
    kept = tmp_path / "met.json"
    for _ in range(2):
        coverage = Coverage.read(kept)
        assert coverage.missing() == []
        coverage.add(MANY // 2, Counter(PAIRS[1:]))
        coverage.write(kept)
    assert Coverage.read(kept).missing() == [" at ".join(PAIRS[0])]
    coverage.add(1, Counter(PAIRS[:1]))
    assert coverage.missing() == []


def test_faults_are_drawn_for_every_step() -> None:
    """Of an act that came later, too: where none is, everything is met but what may go wrong."""
    struck = {fault.step for seed in range(QUICKLY) for fault in plan_of(seed).faults}
    assert {step for _, step in PAIRS} - struck == set()


def test_coverage_begins_again_with_another_step(tmp_path: Path) -> None:
    """What was met before says nothing of it."""
    kept = tmp_path / "met.json"
    coverage = Coverage(MANY, Counter(PAIRS))
    coverage.write(kept)
    kept.write_text(kept.read_text().replace(" at ".join(PAIRS[0]), "crash_before at what_was_there"))
    assert Coverage.read(kept) == Coverage()
