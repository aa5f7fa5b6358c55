"""What was measured, as tables in Markdown and as a plot in SVG.

python tests/bench/table.py FOLDER: put the short table of a run that lies there into README and benchmarks.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from html import escape
from math import log10
from pathlib import Path
from statistics import median
from textwrap import fill

from goals import Goal
from rivals import CONTENDERS
from stage import Performance

_WORDS = {contender.name: contender.words for contender in CONTENDERS}
_HEADER = (
    "| contender | items/s | ratio | items per CPU-second | ratio | enqueued/s | CPU µs/item: producer + "
    "workers + Redis (+ vendor) | vendor's core busy | workers' MB | items |"
)
_ROOT = Path(__file__).parents[2]
_PAGES = (_ROOT / "README.md", _ROOT / "deploy/docs/benchmarks.md")
_BEGIN, _END = "<!-- what tests/bench/run.py wrote -->\n", "<!-- until here -->"
SHORT = "readme.md"
_WIDTH = 118
_BAR, _LABEL, _ROW, _HEAD = 420, 330, 20, 46  # of the plot, pixels


def typical(performances: Iterable[Performance]) -> list[Performance]:
    """Return, for each contender and latency, the run of median speed."""
    groups: dict[tuple[float, str], list[Performance]] = {}
    for performance in performances:
        groups.setdefault((performance.latency_ms, performance.contender), []).append(performance)
    chosen = []
    for runs in groups.values():
        middle = median(sorted(run.per_second for run in runs)[: 2 * ((len(runs) - 1) // 2) + 1])
        chosen.append(next(run for run in runs if run.per_second == middle))
    return sorted(chosen, key=lambda run: (run.latency_ms, -run.per_second))


def markdown(typical_runs: Sequence[Performance]) -> str:
    """Return one table per latency, fastest first; ratios are this project's figure over the row's."""
    lines = []
    for latency in sorted({run.latency_ms for run in typical_runs}):
        rows = [run for run in typical_runs if run.latency_ms == latency]
        ours = next((run for run in rows if run.contender == "badges"), None)
        lines += [f"Vendor answers after {latency:g} ms:", "", _HEADER, "|---|" + "--:|" * 9]
        lines += [_row(run, ours) for run in rows] + [""]
    return "\n".join(lines)


def short(typical_runs: Sequence[Performance], said: str) -> str:
    """Return one table of all contenders, items a second and a CPU-second, behind what is said of the run."""
    latencies = sorted({run.latency_ms for run in typical_runs})
    figures = {(run.contender, run.latency_ms): run for run in typical_runs}
    by_speed = dict.fromkeys(
        run.contender
        for run in sorted(typical_runs, key=lambda run: (run.latency_ms, -run.per_second))
        if not run.contender.startswith("httpx")
    )
    ceilings = dict.fromkeys(run.contender for run in typical_runs if run.contender.startswith("httpx"))
    columns = [name for latency in latencies for name in (f"vendor {latency:g} ms", "a CPU-second")]
    lines = [
        fill(said, _WIDTH, break_on_hyphens=False),
        "",
        "| items a second | " + " | ".join(columns) + " |",
        "|---|" + "--:|" * len(columns),
    ]
    for name in (*by_speed, *ceilings):
        its = [figures.get((name, latency)) for latency in latencies]
        cells = [f"{value:,.0f}" for run in its if run for value in (run.per_second, run.per_cpu_second)]
        if name == "badges":
            cells = [f"**{cell}**" for cell in cells]
        lines.append(f"| {_WORDS[name].removeprefix('the ceiling: ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def put_into_pages(folder: Path) -> None:
    """Put the short table that lies in a folder where the pages have one."""
    table = (folder / SHORT).read_text()
    for page in _PAGES:
        text, found = re.subn(
            f"{_BEGIN}.*?{_END}", lambda _: f"{_BEGIN}{table}{_END}", page.read_text(), flags=re.DOTALL
        )
        if found != 1:
            raise SystemExit(f"{page} has no place for the table: {_BEGIN.strip()} … {_END}")
        page.write_text(text)


def _row(run: Performance, ours: Performance | None) -> str:
    each = {who: s / run.items * 1e6 for who, s in run.cpu_s.items()}
    costs = f"{each['producer']:.0f} + {each['workers']:.0f} + {each['redis']:.0f} (+ {each['vendor']:.0f})"
    cells = [
        _WORDS[run.contender] + ("" if run.complete else " (stopped: out of time)"),
        f"{run.per_second:,.0f}",
        _ratio(ours and ours.per_second, run.per_second),
        f"{run.per_cpu_second:,.0f}",
        _ratio(ours and ours.per_cpu_second, run.per_cpu_second),
        f"{run.enqueued_per_second:,.0f}",
        costs,
        f"{run.cpu_s['vendor'] / run.seconds:.0%}",
        f"{run.rss_mb:.0f}",
        f"{run.items:,}",
    ]
    return "| " + " | ".join(cells) + " |"


def _ratio(ours: float | None, theirs: float) -> str:
    if not ours:
        return ""
    ratio = ours / theirs
    return f"{ratio:.1f} x" if ratio >= 1 else f"{ratio:.2f} x"


def goals_markdown(goals: Sequence[Goal]) -> str:
    """Return the goals and what was reached."""
    lines = ["| goal | wanted | measured | |", "|---|---|---|---|"]
    lines += [
        f"| {goal.words} | {goal.wanted} | {goal.measured} | {'met' if goal.met else '**missed**'} |"
        for goal in goals
    ]
    return "\n".join(lines) + "\n"


def svg(typical_runs: Sequence[Performance]) -> str:
    """Return bars of items per second, a group for each latency; logarithmic, so that all can be seen."""
    parts, y = [], 10
    top = max(run.per_second for run in typical_runs)
    for latency in sorted({run.latency_ms for run in typical_runs}):
        title = f"items per second, vendor answers after {latency:g} ms"
        parts.append(f'<text x="10" y="{y + 20}" class="h">{title}</text>')
        y += _HEAD - 14
        for run in (run for run in typical_runs if run.latency_ms == latency):
            width = max(2, _BAR * _scale(run.per_second) / _scale(top))
            kind = (
                "ours"
                if run.contender.startswith("badges")
                else "ceiling"
                if run.contender.startswith("httpx")
                else "other"
            )
            parts += [
                f'<text x="{_LABEL - 8}" y="{y + 14}" class="l">{escape(_WORDS[run.contender])}</text>',
                f'<rect x="{_LABEL}" y="{y + 2}" width="{width:.0f}" height="{_ROW - 5}" class="{kind}"/>',
                f'<text x="{_LABEL + width + 6:.0f}" y="{y + 14}">{run.per_second:,.0f}</text>',
            ]
            y += _ROW
        y += 12
    style = (
        "text{font:12px sans-serif;fill:#222}.h{font-weight:bold}.l{text-anchor:end}"
        ".ours{fill:#2b7a4b}.ceiling{fill:#bbb}.other{fill:#5b7db1}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LABEL + _BAR + 80}" height="{y + 22}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}'
        f'<text x="10" y="{y + 12}">Logarithmic scale.</text></svg>\n'
    )


def _scale(per_second: float) -> float:
    """Return the logarithm to base 10 of a speed, 10 items a second being the origin."""
    return log10(max(per_second, 11) / 10)


if __name__ == "__main__":
    put_into_pages(Path(sys.argv[1]))
