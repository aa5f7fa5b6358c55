"""What it costs to begin: the command's overview, and the library in a service."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from goals import Goal, at_most

TURNS = 7
BEGINNINGS = (  # in words, how, at most so many seconds
    ("badges --version", ("-m", "worker.cli", "--version"), 0.3),
    ("badges --help", ("-m", "worker.cli", "--help"), 0.3),
    ("from worker import BadgeQueue", ("-m", "worker.badge_queue"), 0.2),
)


def goals() -> Iterator[Goal]:
    """Measure each, from starting the interpreter to its end: the shortest of some turns, as is usual."""
    for words, arguments, limit_s in BEGINNINGS:
        yield at_most(words, min(_seconds(*arguments) for _ in range(TURNS)), limit_s, " s")


def _seconds(*arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
