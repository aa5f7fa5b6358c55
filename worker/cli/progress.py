"""Progress on the screen: bars, and a run or a replay that is followed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from worker.cli import tables
from worker.cli.output import Form, say_json
from worker.domain.text import counted, in_words
from worker.operate.following import Following
from worker.operate.progress import RunProgress

PACE_OVER_S = 10.0
HELD_AGAIN_S = 10.0  # a sentence that names a time differs often
_Followed = TypeVar("_Followed", RunProgress, Following)


class Bar(Protocol):
    """Moves a progress bar to ``done`` of ``total``."""

    def __call__(self, done: int, total: int | None = None, what: str | None = None) -> None:
        """Move the bar; a ``total`` or a ``what`` that is given replaces the former one."""


@contextmanager
def progress_bar(what: str, total: int | None, *, unit: str | None) -> Iterator[Bar]:
    """Show a bar on standard error while the block lasts; nothing but its last state without a terminal.

    Beside it stands how many are done, of which ``unit`` (in the singular) or, without one, which part in per
    cent.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[part]}"),
        TimeElapsedColumn(),
        TextColumn("elapsed"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[to_go]}"),
    )

    def move(done: int, total: int | None = total, what: str | None = what) -> None:
        part = f"{done / total:.0%}" if total else ""
        if unit:
            part = f"{done:,}/{counted(total, unit)}" if total else f"{counted(done, unit)} looked at"
        bar.update(
            task, completed=done, total=total, description=what, part=part, to_go="to go" if total else ""
        )

    with Progress(*columns, console=tables.err) as bar:
        task = bar.add_task(what, total=total, part="", to_go="")
        yield move


def _saying_why(snapshots: Iterable[_Followed]) -> Iterator[_Followed]:
    """Pass them on, and say in a line on standard error why nothing moves, whenever that changes."""
    said, said_at = None, -HELD_AGAIN_S
    for one in snapshots:
        now = time.monotonic()
        if one.held != said and now - said_at >= HELD_AGAIN_S:
            if one.held:
                tables.err.print(f"[yellow]nothing moves:[/] {tables.safe(one.held)}")
                said_at = now
            said = one.held
        yield one


def follow_jobs(snapshots: Iterable[_Followed], *, clock: Callable[[], float] = time.monotonic) -> _Followed:
    """Show the progress of a run or a replay live, until it is over; returns the last of it.

    There is one at least. The pace is by this clock, in seconds.
    """
    seen = deque[tuple[float, int]]()
    columns = (
        SpinnerColumn(),
        TextColumn("delivering"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[jobs]} ended"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[pace]}"),
    )
    with Progress(*columns, console=tables.err) as bar:
        task = bar.add_task("", total=None, pace="", jobs="jobs")
        for last in _saying_why(snapshots):
            ended, now = last.total - last.open, clock()
            seen.append((now, ended))
            while now - seen[0][0] > PACE_OVER_S:
                seen.popleft()
            jobs = "job" if last.total == 1 else "jobs"
            bar.update(task, completed=ended, total=last.total, pace=_pace(seen, last), jobs=jobs)
    return last


def watch(snapshots: Iterable[_Followed], show: Callable[[_Followed], None], *, form: Form) -> _Followed:
    """Follow a run or a replay to its end and return its last state.

    A person sees a bar and then all of it, a program that reads lines one each time; one that wants a single
    value gets it from the caller.
    """
    if form == "words":
        last = follow_jobs(snapshots)
        show(last)
        return last
    for last in snapshots if form == "jsonl" else _saying_why(snapshots):
        if form == "jsonl":
            say_json(last.as_json())
    return last


def _pace(seen: Sequence[tuple[float, int]], progress: RunProgress | Following) -> str:
    """Say that it waits, or how fast jobs ended lately, and how long the rest takes.

    That is at the pace that the org may go, or at which it went if that is slower.
    """
    if progress.held:
        return "waits"
    (first_s, first), (last_s, last) = seen[0], seen[-1]
    if last_s - first_s < 1:
        return ""
    per_s = (last - first) / (last_s - first_s)
    rate = f"{per_s:,.0f} a second" if per_s >= 1 or not per_s else f"{per_s * 60:,.0f} a minute"
    eta_s = max(progress.eta_s or 0, progress.open / per_s if per_s else 0)
    return f"{rate}, {in_words(eta_s)} to go" if eta_s else rate
