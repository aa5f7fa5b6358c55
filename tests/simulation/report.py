"""What is told of rounds: the story of one that failed, and which faults were met at which steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from simulation.plan import PAIRS
from simulation.rounds import Played

LAST = 60  # lines of a trace


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
    return [f"{kind} at {step}" for kind, step in PAIRS if not met.get((kind, step))]


def table(met: Counter[tuple[str, str]]) -> str:
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
