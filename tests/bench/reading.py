"""How fast files are read, and in how much memory: ``python tests/bench/reading.py [--rows N]``.

Writes the same rows as CSV, compressed CSV, JSON Lines, a JSON array and a workbook, and takes each through
three loops, each in a process of its own: the standard library's bare one (the array, and the workbook by
calamine: all at once), our rows, and our rows validated.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from itertools import chain
from pathlib import Path

import xlsxwriter
from python_calamine import CalamineWorkbook

from worker.domain.org import Org
from worker.files.reader import read_rows
from worker.operate.checking import Checking, check_rows

BADGES = ("696f0fd40772ad476ecf74ac", "697a16140772ad476ecfe51c", "654e08f2041fd452b3ef5b2e")
NAMES = ("badgeMetaId", "customerId", "earnEventDate", "earnExpiresOn")
FILES = ("rows.csv", "rows.csv.gz", "rows.jsonl", "rows.json", "rows.xlsx")
LOOPS = ("bare", "read", "validated")


def write_files(folder: Path, count: int) -> None:
    """Write the same rows in every format."""
    with (
        (folder / "rows.csv").open("w") as plain,
        gzip.open(folder / "rows.csv.gz", "wt", compresslevel=6) as packed,
        (folder / "rows.jsonl").open("w") as lines,
        (folder / "rows.json").open("w") as array,
    ):
        plain.write(",".join(NAMES) + "\n")
        packed.write(",".join(NAMES) + "\n")
        for n in range(count):
            row = (BADGES[n % 3], 500_000_000 + n, 1_674_292_011 + n, 1_905_828_011)
            text = ",".join(map(str, row)) + "\n"
            item = json.dumps(dict(zip(NAMES, row, strict=True)))
            plain.write(text)
            packed.write(text)
            lines.write(item + "\n")
            array.write(("," if n else "[") + "\n" + item)
        array.write("\n]\n")
    with xlsxwriter.Workbook(folder / "rows.xlsx", {"constant_memory": True}) as book:
        sheet = book.add_worksheet()
        for at, name in enumerate(NAMES):
            sheet.write_string(0, at, name)
        for n in range(count):
            sheet.write_row(n + 1, 0, (BADGES[n % 3], 500_000_000 + n, 1_674_292_011 + n, 1_905_828_011))


def bare(file: Path) -> int:
    """Count a file's rows, read with nothing but the standard library and nothing checked."""
    if file.name == "rows.json":
        return len(json.loads(file.read_bytes()))
    if file.name == "rows.xlsx":
        return sum(1 for _ in CalamineWorkbook.from_path(file).get_sheet_by_index(0).iter_rows()) - 1
    with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as text:
        return sum(1 for _ in (map(json.loads, text) if file.suffix == ".jsonl" else csv.DictReader(text)))


def measure(file: Path, loop: str) -> None:
    """Print how many rows there were, the seconds, and the most memory in MiB."""
    start = time.process_time()  # what others do on this machine doesn't count
    if loop == "bare":
        count = bare(file)
    else:
        with file.open("rb") as stream:
            rows = read_rows(stream, name=file.name)
            checking = Checking(Org())
            if loop == "validated":
                deque(check_rows(checking, rows), maxlen=0)
            count = checking.rows or sum(1 for _ in rows)
    elapsed_s = time.process_time() - start
    print(json.dumps([count, elapsed_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def compare(file: Path, count: int) -> list[str]:
    """Measure one file; return its line of the table."""
    cells, rates = [file.name], []
    for loop in LOOPS:
        command = [sys.executable, __file__, "--measure", str(file), loop]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=900)
        found, elapsed_s, peak_mib = json.loads(done.stdout)
        assert found == count, (file, loop, found)
        rates.append(found / elapsed_s)
        cells += [f"{rates[-1]:,.0f}", f"{rates[-1] / rates[0]:.2f}", f"{peak_mib:.0f}"]
    return cells


def main() -> None:
    """Write the files, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", default=FILES, metavar="FILE")
    parser.add_argument("--measure", nargs=2, metavar=("FILE", "LOOP"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(Path(options.measure[0]), options.measure[1])
        return
    with tempfile.TemporaryDirectory(prefix="badges-reading-") as folder:
        write_files(Path(folder), options.rows)
        print(f"{options.rows:,} rows; rows a second of CPU, times the bare loop, most memory (MiB)")
        heads = chain(["file"], *([loop, "x", "MiB"] for loop in LOOPS))
        for cells in chain(
            [list(heads)], (compare(Path(folder, name), options.rows) for name in options.only)
        ):
            print(
                f"{cells[0]:<12}" + "".join(f"{cell:>{10 - n % 3 * 2}}" for n, cell in enumerate(cells[1:]))
            )


if __name__ == "__main__":
    main()
