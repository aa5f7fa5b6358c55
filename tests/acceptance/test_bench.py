"""The benchmark runs, and writes down what it promises; a tiny run, so that its code doesn't rot."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from support import LONG

RUN = Path(__file__).parents[1] / "bench" / "run.py"
ITEMS = 2000


def test_the_pages_have_a_place_for_its_table() -> None:
    """Each has the table of one run, as that wrote it, with the machine and the command."""
    root = RUN.parents[2]
    pages = [(root / name).read_text() for name in ("README.md", "deploy/docs/benchmarks.md")]
    place = "<!-- what tests/bench/run.py wrote -->\n(.*?)<!-- until here -->"
    tables = [re.findall(place, page, re.DOTALL) for page in pages]
    assert tables[0] == tables[1]
    (its,) = tables[0]
    assert its.startswith("By `python tests/bench/run.py` on ")
    assert "cores" in its.partition("\n\n")[0]


@LONG
@pytest.mark.timeout(300)
def test_a_tiny_run_compares_this_project_with_the_ceiling(tmp_path: Path) -> None:
    """Both deliver every item once (the benchmark itself fails otherwise), and table and plot are there."""
    command = [
        sys.executable,
        RUN,
        "--quick",
        "--items",
        ITEMS,
        "--only",
        "badges",
        "httpx",
        "--out",
        tmp_path,
    ]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    runs = {run["contender"]: run for run in json.loads((tmp_path / "runs.json").read_text())}
    assert runs.keys() == {"badges", "httpx"}
    assert "| this project | **" in (tmp_path / "readme.md").read_text()
    assert all(run["complete"] and run["items"] == ITEMS for run in runs.values())
    assert runs["httpx"]["requests"] >= ITEMS / 100
    # Full batches, but for the first and the last ones, which may be cut by how the items came in.
    assert ITEMS / 100 <= runs["badges"]["requests"] <= ITEMS / 100 + 5
    table = (tmp_path / "table.md").read_text()
    assert table in done.stdout
    for words in (
        "this project",
        "the ceiling",
        "an item, vendor 0 ms",
        "pipelined XADD",
        "raw sockets",
    ):
        assert words in table
    assert ET.fromstring((tmp_path / "plot.svg").read_text()).tag.endswith("svg")  # noqa: S314 - our own
