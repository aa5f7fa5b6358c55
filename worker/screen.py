"""What a person sees: tables, progress bars, results; foreign text is made safe to show here."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any, Protocol, TextIO, TypeVar

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from worker.audit import Entry
from worker.deadletters import Following
from worker.deadlist import Group
from worker.orgcheck import Finding
from worker.report import ResultForm, result_lines
from worker.runs import COUNTED, RunProgress

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

AUDIT_SHOWN = 50
PACE_OVER_S = 10.0
_GATE_COLORS = {"open": "green", "probing": "yellow", "closed": "yellow", "paused": "red"}
_RESULT_COLORS = {"ok": "green", "warn": "yellow", "fail": "bold red"}
_Followed = TypeVar("_Followed", RunProgress, Following)
_COLORS = {"issued": "green", "dead": "red", "retrying": "yellow", "sending": "cyan"}


def say_json(value: Any) -> None:
    """Print one JSON value, dataclasses in it as objects, on one line of standard output."""
    sys.stdout.write(json.dumps(value, default=asdict) + "\n")
    sys.stdout.flush()


def plain(text: object) -> str:
    """Make foreign text safe to show: no terminal escapes, no markup."""
    return escape("".join(letter if letter.isprintable() else " " for letter in str(text)))


def table(
    title: str, columns: Sequence[str], lines: Iterable[Sequence[object]], *, whole: Sequence[str] = ()
) -> None:
    """Print a table; numbers go to the right, and columns that are ``whole`` aren't folded."""
    grid = Table(title=title or None, title_justify="left", title_style="bold", header_style="dim", box=None)
    rows = [list(line) for line in lines]
    for n, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[n], int | float) for row in rows)
        grid.add_column(
            column, justify="right" if numeric else "left", overflow="fold", no_wrap=column in whole
        )
    for row in rows:
        grid.add_row(*(f"{cell:,}" if isinstance(cell, int) else plain(cell) for cell in row))
    out.print(grid)


def show_run(run: RunProgress) -> None:
    """Print one run as a person reads it."""
    out.print(f"[bold]{plain(run.run)}[/] of org {plain(run.org)}, started {run.started_at}")
    _show_states(run, COUNTED, always=("issued", "dead"))
    out.print(f"  {run.total:>11,} in all; beside them {run.duplicates:,} duplicates, not queued again")
    if run.finished_at:
        out.print(f"  finished {run.finished_at}")
    elif run.eta_s is not None:
        out.print(f"  about {duration(run.eta_s)} to go, with what waits before it")
    else:
        out.print("  its org is paused or not configured; see: badges status")


def show_replay(replay: Following) -> None:
    """Print what has become of the jobs of a replay."""
    _show_states(replay, (*COUNTED, "gone"))


def _show_states(
    progress: RunProgress | Following, states: Sequence[str], *, always: Sequence[str] = ()
) -> None:
    for state in states:
        count = getattr(progress, state)
        if count or state in always:
            dead = progress.dead_kinds if state == "dead" else {}
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in dead.items())
            color = _COLORS.get(state, "white") if count else "dim"
            out.print(f"  [{color}]{count:>11,} {state}[/] {plain(kinds)}")


def show_groups(groups: Sequence[Group]) -> None:
    """Print dead letters by group."""
    columns = ("count", "org", "kind", "code", "badge", "first (UTC)", "last (UTC)", "message", "for example")
    table("", columns, [_group_line(group) for group in groups], whole=("org", "kind", "code"))


def _group_line(group: Group) -> list[object]:
    which = [group.count, group.org, group.kind, group.code, group.badgeMetaId or ""]
    return [*which, *map(to_the_second, (group.first_at, group.last_at)), group.message, group.sample]


def show_audit(entries: Sequence[Entry]) -> None:
    """Print the newest of what was done, by whom, to what and why."""
    columns = ("at (UTC)", "by", "org", "action", "what", "jobs", "note")
    table("", columns, [_audit_line(entry) for entry in entries[:AUDIT_SHOWN]], whole=("action",))
    if len(entries) > AUDIT_SHOWN:
        out.print(f"… only the newest {AUDIT_SHOWN}; all of them: --json")


def _audit_line(entry: Entry) -> list[object]:
    what = " ".join(f"{name}={value}" for name, value in entry.which.items() if name not in ("org", "set"))
    what += "".join(f" set {name}={value}" for name, value in entry.which.get("set", {}).items())
    done = "" if entry.count is None else f"{entry.count:,}"
    return [to_the_second(entry.at), entry.by, entry.org, entry.id, what.strip(), done, entry.note]


def to_the_second(at: str | None) -> str:
    """Show an instant in UTC as a person reads it; the year, and what is behind a second, is for programs."""
    return at[5:19].replace("T", " ") if at else ""


def show_status(orgs: Sequence[Mapping[str, Any]]) -> None:
    """Print what each org is doing, and why not if it isn't."""
    out.print(_status_table(orgs))


def watch_status(snapshots: Iterable[Sequence[Mapping[str, Any]]]) -> None:
    """Show what each org is doing, live; Ctrl-C ends it, and leaves the last of it on the screen."""
    with suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False) as live:
        for orgs in snapshots:
            live.update(_status_table(orgs), refresh=True)


def _status_table(orgs: Sequence[Mapping[str, Any]]) -> Table:
    grid = Table(header_style="dim", box=None)
    columns = ("org", "queued", "oldest", "retrying", "in flight", "dead", "last minute", "gate")
    for column in columns:
        right = column in ("queued", "oldest", "retrying", "in flight", "last minute")
        grid.add_column(column, justify="right" if right else "left", overflow="fold")
    for org in orgs:
        dead = ", ".join(f"{count:,} {kind}" for kind, count in org["dead"].items())
        oldest, sent, limit = org["oldest_s"], org["sent_last_minute"], org["limit_per_minute"]
        color = _GATE_COLORS[org["gate"]["state"]] if org["configured"] else "red"
        grid.add_row(
            plain(org["org"]),
            f"{org['queued']:,}",
            duration(oldest) if oldest is not None else "",
            f"{org['retrying']:,}",
            f"{org['in_flight']:,}",
            f"[red]{plain(dead)}[/]" if dead else "none",
            f"{sent:,}/{limit:,g}" if sent is not None and limit is not None else "",
            f"[{color}]{plain(_gate_words(org))}[/]",
        )
    return grid


def _gate_words(org: Mapping[str, Any]) -> str:
    """Say what state the gate is in, why, and what was learned."""
    if not org["configured"]:
        return "not configured: nobody sends its jobs"
    gate, missing = org["gate"], org["missing_badges"]
    words = [gate["state"], gate["why"], gate["reason"]]
    words += [f"since {gate['since'][:19]}Z"] if gate["since"] else []
    words += [f"until {gate['closed_until'][:19]}Z"] if gate["closed_until"] else []
    notes = [" ".join(word for word in words if word)]
    notes += [f"slowed to {gate['rate_per_minute']:g} a minute"] if gate["rate_per_minute"] else []
    notes += [f"batches of {gate['batch_size']} at most"] if gate["batch_size"] else []
    notes += [f"{missing:,} badges unknown to the vendor"] if missing else []
    return "; ".join(notes)


def show_findings(findings: Iterable[Finding]) -> None:
    """Print what the doctor found, with the cure of what isn't well."""
    grid = Table(header_style="dim", box=None)
    for column in ("", "check", "org", "found"):
        grid.add_column(column, overflow="fold")
    for found in findings:
        cure = f"\n[dim]→[/] {plain(found.cure)}" if found.cure else ""
        result = f"[{_RESULT_COLORS[found.result]}]{found.result}[/]"
        grid.add_row(result, found.check, plain(found.org or ""), plain(found.detail) + cure)
    out.print(grid)


def duration(seconds: float) -> str:
    """Say how long in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Bar(Protocol):
    """Moves a progress bar to ``done`` of ``total``."""

    def __call__(self, done: int, total: int | None = None, what: str | None = None) -> None:
        """Move it; a ``total`` becomes the new one, and so does ``what`` is going on."""


@contextmanager
def progress_bar(what: str, total: int | None, *, unit: str) -> Iterator[Bar]:
    """Show a bar on standard error while the block lasts; nothing but its last state without a terminal."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, total=total, what=what: bar.update(
            task, completed=done, total=total, description=what
        )


def follow_jobs(snapshots: Iterable[_Followed]) -> _Followed | None:
    """Show the progress of a run or a replay live, until it is over; returns the last of it."""
    last, seen = None, deque[tuple[float, int]]()
    columns = (
        SpinnerColumn(),
        TextColumn("delivering"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("jobs ended"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[pace]}"),
    )
    with Progress(*columns, console=err) as bar:
        task = bar.add_task("", total=None, pace="")
        for last in snapshots:
            ended, now = last.total - last.open, time.monotonic()
            seen.append((now, ended))
            while now - seen[0][0] > PACE_OVER_S:
                seen.popleft()
            bar.update(task, completed=ended, total=last.total, pace=_pace(seen, last))
    return last


def follow(snapshots: Iterable[_Followed], show: Callable[[_Followed], None], *, as_json: bool) -> None:
    """Follow a run or a replay, for a person or for programs."""
    if as_json:
        for progress in snapshots:
            say_json(progress)
    elif last := follow_jobs(snapshots):
        show(last)


def _pace(seen: Sequence[tuple[float, int]], progress: RunProgress | Following) -> str:
    """Say how fast jobs ended of late, and how long the rest takes at the pace that the org may go."""
    (first_s, first), (last_s, last) = seen[0], seen[-1]
    rate = f"{(last - first) / (last_s - first_s):,.1f} a second" if last_s - first_s >= 1 else ""
    eta_s = getattr(progress, "eta_s", None)
    return f"{rate}, {duration(eta_s)} to go" if rate and eta_s and progress.open else rate


def write_results(rows: Iterable[Mapping[str, Any]], *, form: ResultForm, to: TextIO) -> int:
    """Write results as ``jsonl`` or ``csv``, row by row; returns how many."""
    count = -1 if form == "csv" else 0  # its first line names the columns
    for text in result_lines(rows, form=form):
        to.write(text)
        count += 1
    return count
