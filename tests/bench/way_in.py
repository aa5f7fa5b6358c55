"""What a file costs on its way in and out: ``python tests/bench/way_in.py [--rows N] [--quick]``.

Writes a CSV of a million rows, and runs the commands that people run: its dry run, its import until all is
accepted, its results as CSV, and ``--version``. Each is measured by its own seconds and processor time; the
server is one of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import payload
from stage import server

QUICK_ROWS = 1000


def write_rows(file: Path, rows: int) -> None:
    """Write the benchmark's badges as a CSV."""
    payload.FIRST, payload.ITEMS = 0, rows
    with file.open("w") as out:
        for number, item in enumerate(payload.items()):
            if not number:
                out.write(",".join(item) + "\n")
            out.write(",".join(map(str, item.values())) + "\n")


def run(words: str, *arguments: str, env: dict[str, str]) -> str:
    """Run a command; return its line of the table.

    Raises:
        CalledProcessError: it failed.
    """
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "worker.cli", *arguments]
    subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)
    after, took_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"| {words} | {took_s:.2f} | {cpu_s:.2f} |"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help=f"a try: {QUICK_ROWS} rows")
    asked = parser.parse_args()
    rows = QUICK_ROWS if asked.quick else asked.rows
    with tempfile.TemporaryDirectory() as folder, server() as running:
        file, report = Path(folder, "rows.csv"), Path(folder, "report.csv")
        write_rows(file, rows)
        env = os.environ | {
            "BADGES_REDIS_URL": f"unix://{running.socket}",
            "BADGES_MAX_QUEUED": str(2 * rows),
        }
        print(f"| {rows:,} rows | s | s of processor |\n|---|--:|--:|")
        print(run("badges --version", "--version", env=env))
        print(run("dry run", "import", str(file), "--dry-run", env=env))
        print(run("import, until all are accepted", "import", str(file), "--run", "bench", env=env))
        results = ("results", "--run", "bench", "--format", "csv", "-o", str(report))
        print(run("results to CSV", *results, env=env))
        with report.open() as lines:
            assert sum(1 for _ in lines) == rows + 1


if __name__ == "__main__":
    main()
