"""What is told of rounds: the story of one that failed, and which faults were met at which steps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from simulation.plan import PAIRS
from simulation.rounds import Played

LAST = 60  # lines of a trace
MANY = 20_000  # rounds from which on every pair must have been met
Pairs = Counter[tuple[str, str]]


@dataclass
class Coverage:
    """Which faults were met at which steps, in how many rounds; a file carries it from run to run."""

    rounds: int = 0
    met: Pairs = field(default_factory=Counter)

    @classmethod
    def read(cls, path: Path) -> Coverage:
        """Read what was met so far; it begins again where there are other steps or faults than before."""
        told = json.loads(path.read_text()) if path.exists() else {"met": {}}
        if told["met"].keys() != {_named(pair) for pair in PAIRS}:
            return cls()
        return cls(told["rounds"], Counter({pair: told["met"][_named(pair)] for pair in PAIRS}))

    def add(self, rounds: int, met: Pairs) -> None:
        """Add what some rounds met."""
        self.rounds += rounds
        self.met += met

    def write(self, path: Path) -> None:
        """Keep it for the next run."""
        met = {_named(pair): self.met[pair] for pair in PAIRS}
        path.write_text(json.dumps({"rounds": self.rounds, "met": met}, indent=1) + "\n")

    def missing(self) -> list[str]:
        """Return the pairs that were never met in so many rounds that each must have been."""
        return never_met(self.met) if self.rounds >= MANY else []


def _named(pair: tuple[str, str]) -> str:
    return " at ".join(pair)


def story(played: Played, seed: int) -> str:
    """Tell how a round failed, and how to see all of it."""
    lines = [line[:200] for line in played.trace[-LAST:]]
    return "\n".join(
        [
            f"seed {seed}: {type(played.failure).__name__}: {played.failure}",
            "what is left of it, after all was left out without which it fails as well:",
            str(played.plan),
            "",
            *lines,
            "",
            f"the whole of it: python tests/simulation/run.py --seed {seed} --shrink",
        ]
    )


def never_met(met: Mapping[tuple[str, str], int]) -> list[str]:
    """Return which faults were never met at a step where they may strike."""
    return [_named(pair) for pair in PAIRS if not met.get(pair)]


def table(met: Pairs) -> str:
    """Show how often each fault was met at each step."""
    steps = list(dict.fromkeys(step for _, step in PAIRS))
    kinds = list(dict.fromkeys(kind for kind, _ in PAIRS))
    possible = set(PAIRS)
    width = max(map(len, kinds))
    rows = [" " * width + " " + " ".join(f"{step[:7]:>7}" for step in steps)]
    for kind in kinds:
        cells = (str(met[kind, step]) if (kind, step) in possible else "" for step in steps)
        rows.append(f"{kind:{width}} " + " ".join(f"{cell:>7}" for cell in cells))
    return "\n".join(rows)
