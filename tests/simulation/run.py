"""The simulation from a shell; deploy/docs/simulation.md says how to read what it prints.

python tests/simulation/run.py --rounds N      N rounds, from where the log of seeds stopped
python tests/simulation/run.py --seed SEED     one round, with its trace; --shrink makes it small first
python tests/simulation/run.py --mutations     the test of the test: takes out every guard, one by one
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from queue import SimpleQueue

sys.path.insert(0, str(Path(__file__).parents[1]))

from simulation.mutations import MUTATIONS, Mutation, without
from simulation.plan import plan_of
from simulation.report import Coverage, story, table
from simulation.rounds import Stage, quiet
from simulation.server import Server, running, virtual

LOG = Path(__file__).with_name("seeds.log")
MET = Path(__file__).with_name("met.json")  # what the rounds of the log met
BLOCK = 100  # rounds a line of the log
WITHIN = 3000  # rounds in which a mutation must be found
ITS_SERVER: list[Server] = []  # a player's own


@dataclass
class Block:
    """What became of some rounds."""

    rounds: int = 0
    seconds: float = 0.0
    met: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)


def main() -> int:
    """Do what was asked for; exit 1 if a round failed, a guard wasn't missed, or a pair wasn't met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--from", dest="first", type=int, help="begin at this seed; nothing goes to the log")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--mutations", nargs="*", metavar="NAME", help="those whose names begin so; all")
    parser.add_argument("--within", type=int, default=WITHIN, help="rounds in which a mutation must be found")
    asked = parser.parse_args()
    if asked.seed is not None:
        return show(asked.seed, shrink=asked.shrink)
    if asked.mutations is not None:
        wanted = [m for m in MUTATIONS if not asked.mutations or m.name.startswith(tuple(asked.mutations))]
        return mutate(wanted, asked.within, asked.processes)
    first = next_seed() if asked.first is None else asked.first
    return play(range(first, first + asked.rounds), asked.processes, log=asked.first is None)


def show(seed: int, *, shrink: bool) -> int:
    """Play one round, looked at after each step, and print all of it."""
    with running() as server, quiet():
        stage = Stage(server, virtual())
        plan = plan_of(seed)
        played = stage.shrink(plan) if shrink else stage.play(replace(plan, watched=True))
    print(played.plan, *played.trace, f"trace {played.digest}", sep="\n")
    if played.failure:
        print(f"{type(played.failure).__name__}: {played.failure}")
    return 1 if played.failure else 0


def play(seeds: Sequence[int], processes: int, *, log: bool) -> int:
    """Play rounds in several processes; print what was met, and each failure's smallest form."""
    began, failures = time.monotonic(), dict[int, str]()
    here, all_ = Coverage(), Coverage.read(MET)
    blocks = [seeds[at : at + BLOCK] for at in range(0, len(seeds), BLOCK)]
    with players(processes) as pool:
        for its, block in zip(blocks, pool.map(play_block, blocks), strict=True):
            here.add(block.rounds, block.met)
            failures |= block.failures
            for text in block.failures.values():
                print(text, flush=True)
            if log:
                write_log(its, block)
                all_.add(block.rounds, block.met)
                all_.write(MET)
    of_all = all_ if log else here
    print(table(of_all.met))
    minutes, seconds = (time.monotonic() - began) / 60, sum(os.times()[:4])
    speed = f"{here.rounds / minutes:,.0f} a minute, {seconds / here.rounds:.3f} s of CPU each"
    print(f"{here.rounds:,} rounds, {speed}")
    print(f"{len(failures)} failed {sorted(failures)}; the table is of {of_all.rounds:,} rounds")
    if missing := of_all.missing():
        print("never met:", ", ".join(missing))
    return 1 if failures or missing else 0


@contextmanager
def players(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Run processes that play, each on a core with its server; if one of them dies, the run fails."""
    context = get_context("spawn")
    places = context.SimpleQueue()
    with ExitStack() as servers:
        for core in islice(cycle(_cores()), processes):
            places.put((core, servers.enter_context(running(core)).path))
        pool = ProcessPoolExecutor(processes, context, take_place, [places])
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def take_place(places: SimpleQueue[tuple[int, Path]]) -> None:
    """Stay on one core, with the server: they take turns, and to wake another core takes long."""
    core, path = places.get()
    if sys.platform == "linux":
        os.sched_setaffinity(0, {core})
    ITS_SERVER.append(Server(path))


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else [0]


def play_block(seeds: Sequence[int]) -> Block:
    """Play some rounds, in a process of its own."""
    block, began = Block(), time.monotonic()
    with quiet():
        stage = Stage(ITS_SERVER[0], virtual())
        for seed in seeds:
            played = stage.play(plan_of(seed))
            block.rounds += 1
            block.met += played.met
            if played.failure:
                block.failures[seed] = story(stage.shrink(played.plan), seed)
    block.seconds = time.monotonic() - began
    return block


def mutate(mutations: Sequence[Mutation], within: int, processes: int) -> int:
    """Take out guard after guard; print which seed missed it first, and the promise that broke."""
    missed = 0
    with players(processes) as pool:
        jobs = [(mutation.name, within) for mutation in mutations]
        for mutation, (seed, why) in zip(mutations, pool.map(find, jobs), strict=True):
            missed += seed is not None
            found = "NOT MISSED" if seed is None else f"seed {seed}"
            print(f"{mutation.name:38} {mutation.promise:48} {found:12} {why[:90]}", flush=True)
    print(f"{missed} of {len(mutations)} guards are missed when they are taken out")
    return 0 if missed == len(mutations) else 1


def find(job: tuple[str, int]) -> tuple[int | None, str]:
    """Return the first seed that fails without a guard, and how."""
    name, within = job
    mutation = next(one for one in MUTATIONS if one.name == name)
    with quiet(), without(mutation) as scripts:
        stage = Stage(ITS_SERVER[0], scripts)
        for seed in range(within):
            if broke := stage.play(plan_of(seed)).broke:
                return seed, broke
    return None, ""


def next_seed() -> int:
    """Return the seed after the last that the log has."""
    return max((last + 1 for last in _logged()), default=0)


def write_log(seeds: Sequence[int], block: Block) -> None:
    """Add a line to the log: when, which seeds, how fast, and which of them failed."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    failed = " ".join(map(str, block.failures)) or "none"
    with LOG.open("a") as log:
        log.write(f"{at} {seeds[0]}-{seeds[-1]} {block.seconds:.0f}s failed: {failed}\n")


def _logged() -> Iterator[int]:
    if LOG.exists():
        for line in LOG.read_text().splitlines():
            yield int(line.split()[1].partition("-")[2])


if __name__ == "__main__":
    sys.exit(main())
