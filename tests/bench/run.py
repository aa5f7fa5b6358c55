"""The benchmark: all contenders in one go, on this machine, against the same stub vendor.

python tests/bench/run.py [--items N] [--only NAME ...] [--latency 0 50] [--rounds 3] [--quick] [--out DIR]

Contenders take turns, so that what else the machine does meets all alike; of several rounds the one of median
speed counts. Ratios are only meant within one run. Everything is bounded in time; whoever doesn't finish is
stopped, and shown as such.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

import cost
import goals
import limits
import measure
import payload
import start
import table
from rivals import CONTENDERS, Contender, NotHereError, interpreter
from stage import Performance, perform

FEWEST = 2000  # items for the slow ones
LIMIT_S = 90.0  # for one run of one contender
# Calls at once in each process at which the share of the ceiling is measured too.
FEWER_CALLS, FEWER_CALLS_LATENCY_MS = (1, 2, 4), 50


def main() -> int:
    """Run what was asked for and write it down; the exit status is 1 if a contender failed."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is ended on the way out
    folder: Path = asked.out
    folder.mkdir(parents=True, exist_ok=True)
    _say(f"machine: {measure.machine()}, load {measure.load():.1f}")
    chosen, absent = _cast(asked.only, folder)
    performances, failed = _performances(chosen, asked, folder)
    typical = table.typical(performances)
    reached = list(goals.of_throughput(typical))
    if FEWER_CALLS_LATENCY_MS in asked.latency:
        reached += _shares(chosen, asked, folder)
    parts = [_preface(asked), table.markdown(typical), *(f"{name}: {why}\n" for name, why in absent.items())]
    if not asked.only or "badges" in asked.only:
        _say("enqueueing, against a bare pipelined XADD")
        turns = [
            (limits.enqueued_per_second(asked.items), limits.xadd_per_second(asked.items))
            for _ in range(asked.rounds)
        ]
        reached.append(goals.of_enqueueing(*map(median, zip(*turns, strict=True))))
    if asked.cost:
        reached += cost.goals(folder, scale=asked.scale, say=_say)
        _say("cost: beginning")
        reached += start.goals()
    requests_per_second = limits.blast_vendor()
    parts.append(
        f"The vendor answers {requests_per_second:,.0f} requests of {payload.BATCH} a second "
        f"({requests_per_second * payload.BATCH:,.0f} items) to raw sockets: it bounds nobody.\n"
    )
    text = "\n".join([*parts, table.goals_markdown(reached)])
    (folder / "table.md").write_text(text)
    (folder / "runs.json").write_text(json.dumps([asdict(run) for run in performances], indent=1))
    if typical:
        (folder / "plot.svg").write_text(table.svg(typical))
        (folder / table.SHORT).write_text(table.short(typical, _said(asked)))
    sys.stdout.write(text)
    _say(
        f"written to {folder}: table.md, plot.svg, runs.json, {table.SHORT} "
        f"(into README.md: python tests/bench/table.py {folder})"
    )
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    names = [contender.name for contender in CONTENDERS]
    parser = argparse.ArgumentParser(description="All contenders against the same stub vendor.")
    parser.add_argument(
        "--items", type=int, default=100_000, help="for the fast ones; the slow ones get a twentieth"
    )
    parser.add_argument("--only", nargs="*", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument(
        "--latency", nargs="+", type=float, metavar="MS", help="of the vendor; 0 and 50, if quick only 0"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the costs' million jobs; 0.1 is a try")
    parser.add_argument("--no-cost", dest="cost", action="store_false", help="only the comparison")
    parser.add_argument(
        "--quick", action="store_true", help="a try, within 90 s: few items, one round, no costs"
    )
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "badges-bench")
    parser.set_defaults(fewest=FEWEST)
    asked = parser.parse_args()
    if asked.quick:
        asked.items, asked.rounds, asked.cost = min(asked.items, 10_000), 1, False
        asked.fewest = 500
    asked.out = asked.out.resolve()
    asked.latency = asked.latency or ([0] if asked.quick else [0, 50])
    return asked


def _cast(
    only: Sequence[str] | None, folder: Path
) -> tuple[list[tuple[Contender, list[str]]], dict[str, str]]:
    """Return who can be run, each with its interpreter, and why the others can't."""
    chosen, absent = [], {}
    for contender in CONTENDERS:
        if only and contender.name not in only:
            continue
        try:
            chosen.append((contender, interpreter(contender, folder)))
        except NotHereError as error:
            absent[contender.words] = str(error)
            _say(f"{contender.name}: {error}")
    return chosen, absent


def _performances(
    chosen: Sequence[tuple[Contender, list[str]]], asked: argparse.Namespace, folder: Path
) -> tuple[list[Performance], bool]:
    performances, failed = [], False
    for number in range(asked.rounds):
        for latency_ms in asked.latency:
            for contender, python in chosen:
                items = max(min(asked.fewest, asked.items), int(asked.items * contender.share))
                try:
                    run = perform(
                        contender, python, items=items, latency_ms=latency_ms, limit_s=LIMIT_S, folder=folder
                    )
                except Exception as error:  # noqa: BLE001 - whatever fails, the others go on
                    failed = True
                    _say(f"{contender.name}: {type(error).__name__}: {error}")
                    continue
                performances.append(run)
                _say(
                    f"round {number + 1}, vendor {latency_ms:g} ms, {contender.name}: "
                    f"{run.per_second:,.0f} items/s, {run.per_cpu_second:,.0f} per CPU-second"
                )
    return performances, failed


def _shares(
    chosen: Sequence[tuple[Contender, list[str]]], asked: argparse.Namespace, folder: Path
) -> Iterator[goals.Goal]:
    """Measure the share of the ceiling with fewer calls at once, where the vendor is what takes the time."""
    ours_and_ceilings = [(one, python) for one, python in chosen if one.name in ("badges", *goals.CEILINGS)]
    for calls in FEWER_CALLS:
        _say(f"share of the ceiling, {calls} calls at once in each process")
        items = min(asked.items, calls * 12_500)
        runs = [
            perform(
                contender, python, items=items, latency_ms=FEWER_CALLS_LATENCY_MS, limit_s=LIMIT_S,
                folder=folder, calls=calls,
            )
            for _ in range(asked.rounds)
            for contender, python in ours_and_ceilings
        ]  # fmt: skip
        yield from goals.of_ceiling(table.typical(runs), FEWER_CALLS_LATENCY_MS, calls)


def _preface(asked: argparse.Namespace) -> str:
    return (
        f"Machine: {measure.machine()}. Batches of {payload.BATCH}; {payload.PROCESSES} worker processes, "
        f"{payload.CONCURRENCY} calls at once in each (prefork: a process for each call); the same embedded "
        f"Valkey for all, appendfsync always, over its unix socket; median of {asked.rounds}. "
        "Ratios: this project's figure over the row's.\n"
    )


def _said(asked: argparse.Namespace) -> str:
    day = dt.datetime.now(dt.UTC).date()
    return (
        f"By `python tests/bench/run.py` on {day}: {measure.machine()}; batches of {payload.BATCH}, no "
        f"rate limit, the embedded server (`appendfsync always`), a stub vendor, median of {asked.rounds}."
    )


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
