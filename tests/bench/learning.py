"""How well is a limit learned that the vendor doesn't tell? In virtual time, with the real scripts.

    python tests/bench/learning.py [--only WORD] [--shard N/OF]

A vendor of every kind (tests/virtual.py) allows less than what is configured: 5 to 200 calls a second where
1.5, 3 or 10 times that is configured, 1 to 16 calls in flight, answers of 5 to 500 ms, with and without
Retry-After. From the 10th to the 70th second, how much of what is allowed was used, and how many calls were
refused? The whole takes hours; a few of these cases are in tests/integration/test_pace.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import redis

sys.path.insert(0, str(Path(__file__).parents[1]))
from support import configured
from virtual import Limiter, play

from worker.config import Settings
from worker.domain.outcome import Signal
from worker.server.connection import Connection

FROM_S, TILL_S = 10.0, 70.0
USED, REFUSED = 0.9, 0.03


@dataclass(frozen=True, slots=True)
class Case:
    """A vendor's limit, what is configured, and how calls are made."""

    kind: str
    allowed: int
    times: float
    in_flight: int
    answers_s: float
    says_when: bool = False
    own: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """What it is, in the table."""
        own = "".join(f", {name} {value:g}" for name, value in self.own.items())
        said = ", Retry-After" if self.says_when else ""
        calls = f"{self.in_flight} in flight, {self.answers_s * 1000:g} ms"
        return f"{self.kind} {self.allowed}/s of {self.allowed * self.times:g}/s{own}, {calls}{said}"

    def measure(self, client: redis.Redis) -> tuple[float, float]:
        """Return the share of what is allowed that was used, and the share of the calls that was refused."""
        client.flushall()
        org = configured(
            rate_limit=f"{int(self.allowed * self.times)}/second", batch_size=1, max_in_flight=self.in_flight
        )
        vendor = Limiter(self.kind, self.allowed, self.answers_s, says_when=self.says_when, **self.own)
        calls = play(client, org, vendor, seconds=TILL_S, transit_s=0.05 / self.allowed)
        late = [call.signal is Signal.OK for call in calls if call.at >= FROM_S]
        most_per_s = min(self.allowed, self.in_flight / (self.answers_s + 0.001))
        return late.count(True) / (TILL_S - FROM_S) / most_per_s, late.count(False) / len(late)


KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("sliding", {}),
    ("fixed", {}),
    ("bucket", {"burst": 5}),
    ("bucket", {"burst": 20}),
    ("leaky", {"burst": 0, "refuses_s": 0.001}),
    ("leaky", {"burst": 20, "refuses_s": 0.001}),
    ("rolling", {"refuses_s": 0.001}),
    ("rolling", {"refuses_s": 2.0}),
)


def grid() -> Iterator[Case]:
    """Return every case in which the vendor's limit is what holds calls back."""
    ways = product((5, 20, 50, 200), (1.5, 3, 10), (1, 4, 16), (0.005, 0.05, 0.15, 0.5), (False, True))
    for (kind, own), (allowed, times, in_flight, answers_s, says_when) in product(KINDS, list(ways)):
        if in_flight / answers_s > allowed:
            yield Case(kind, allowed, times, in_flight, answers_s, says_when, own)


def main() -> int:
    """Print the table and what misses; 1 if anything does."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", default="", help="cases with this in their words")
    arguments.add_argument("--shard", default="1/1", help="every OF-th case, from the N-th")
    options = arguments.parse_args()
    number, of = map(int, options.shard.split("/"))
    cases = [case for case in grid() if options.only in case.words][number - 1 :: of]
    missed = 0
    with (
        TemporaryDirectory(prefix="badges-learning-") as folder,
        Connection.open(Settings(data_dir=Path(folder))) as opened,
        opened.client() as client,
    ):
        client.config_set("appendfsync", "everysec")
        print("| vendor, calls | used | refused |\n|---|--:|--:|")
        for case in cases:
            used, refused = case.measure(client)
            missed += (misses := used < USED or refused > REFUSED)
            note = " MISSED" if misses else ""
            print(f"| {case.words} | {used:.1%} | {refused:.1%} |{note}", flush=True)
    print(f"{len(cases)} cases, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
