"""The simulation, from a shell; deploy/docs/simulation.md says more.

python tests/simulation/run.py --rounds N [--from SEED]    play rounds; --seed SEED: one, with its trace
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from simulation.plan import plan_of
from simulation.rounds import Stage, quiet
from simulation.server import running, virtual

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    asked = parser.parse_args()
    with running() as server, quiet():
        stage = Stage(server, virtual())
        if asked.seed is not None:
            from dataclasses import replace

            played = stage.play(replace(plan_of(asked.seed), watched=True))
            print(played.plan)
            print("\n".join(played.trace))
            if played.failure:
                raise played.failure
            sys.exit()
        began = time.monotonic()
        failures = {}
        for seed in range(asked.first, asked.first + asked.rounds):
            played = stage.play(plan_of(seed))
            if played.failure:
                failures.setdefault(f"{type(played.failure).__name__}: {played.failure}"[:150], []).append(
                    seed
                )
        took = time.monotonic() - began
        print(f"{asked.rounds / took * 60:.0f} rounds a minute")
        for why, seeds in failures.items():
            print(len(seeds), why, seeds[:5])
