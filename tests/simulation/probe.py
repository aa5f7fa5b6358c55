"""The only place that looks into Redis: what is held, in words that no layout of keys changes.

Whoever changes the layout changes this file and the scripts ``probe*.lua`` beside it, and nothing else here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from simulation.server import Server

from worker.store import keys, record
from worker.store.composing import program

HERE = Path(__file__).parent
LUA = Path(record.__file__).parent / "lua"
SCRIPTS = ("probe.lua", "probe_batch.lua")


class Record(NamedTuple):
    """What a job's record says; ``batch`` carries it or carried it last, ``kind`` is a dead letter's."""

    state: str  # queued, sending, retrying, issued, dead
    run: str
    kind: str
    batch: str
    earned: str
    second: str  # another earnedBadgeId, of one that was issued twice
    replaced_as: str


@dataclass(frozen=True, slots=True)
class Held:
    """All that an org holds."""

    jobs: dict[str, Record]
    waiting: list[str]  # ids in lanes, of jobs that were dealt with otherwise too
    retrying: set[str]
    batches: dict[str, list[str]]  # live ones, and the ids that each carries
    leases: set[str]
    dead: dict[str, set[str]]  # by kind: those that need somebody
    runs: dict[str, dict[str, int]]  # counters
    finished: set[str]  # runs
    run_ids: dict[str, list[str]]
    busy: set[str]  # batches that some customer is said to be in
    stats: dict[str, int]

    def needs_somebody(self, job: str) -> bool:
        """Say whether a job is a dead letter that nobody has dealt with."""
        return any(job in ids for ids in self.dead.values())


class Probe:
    """Looks into the server, beside all that is simulated."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._all, self._batch = _programs()

    def held(self, org: str) -> Held:
        """Read all that an org holds."""
        found = json.loads(self._server.evaluate(self._all, [keys.key_prefix(org)]))
        runs = found["runs"] or {}
        return Held(
            jobs={job: Record(*values) for job, values in (found["jobs"] or {}).items()},
            waiting=list(found["waiting"]),
            retrying=set(found["retrying"]),
            batches={batch: list(ids) for batch, ids in (found["batches"] or {}).items()},
            leases=set(found["leases"]),
            dead={kind: set(ids) for kind, ids in (found["dead"] or {}).items()},
            runs={
                run: {name: int(value) for name, value in counters.items() if name != "cancelled"}
                for run, counters in runs.items()
            },
            finished={run for run, counters in runs.items() if "finished_at" in counters},
            run_ids={run: list(ids) for run, ids in (found["run_ids"] or {}).items()},
            busy=set((found["busy"] or {}).values()),
            stats={name: int(float(value)) for name, value in (found["stats"] or {}).items()},
        )

    def is_busy(self, org: str, runs: Iterable[str]) -> bool:
        """Say whether something is certainly on its way still, also by its runs' counters; costs little."""
        its = [("ZCARD", keys.key(org, name)) for name in ("leases", "retry", "agains", "revokes", "starts")]
        its += [("HMGET", keys.key(org, "run", run), "queued", "sending", "retrying") for run in runs]
        said = [number for answer in self._server.wire.ask(its) for number in _numbers(answer)]
        return any(said)

    def letters(self, org: str, group: str) -> list[str]:
        """Return the ids of the dead letters in a group."""
        (ids,) = self._server.wire.ask([("ZRANGE", keys.key(org, "dead", group), "0", "-1")])
        return [str(job_id) for job_id in ids]

    def batch(self, org: str, batch: str) -> dict[str, str]:
        """Return how the jobs of a live batch stand: ``sending``, ``issued`` or ``not its own``."""
        found = json.loads(self._server.evaluate(self._batch, [keys.key_prefix(org)], batch))
        return dict(found or {})


@cache  # a probe lasts for a round
def _programs() -> tuple[str, ...]:
    shared = (LUA / name for name in ("_clock.lua", "_record.lua", "_sending.lua"))
    texts = "\n".join(path.read_text() for path in shared)
    return tuple(program(f"#!lua\n{texts}\n{(HERE / name).read_text()}") for name in SCRIPTS)


def _numbers(answer: int | Sequence[str | None]) -> Iterator[int]:
    yield from (answer,) if isinstance(answer, int) else (int(counted or 0) for counted in answer)
