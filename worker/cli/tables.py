"""What a person sees: tables and results; foreign text is made safe to show here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, TextIO, cast

from rich.console import Console
from rich.console import Group as Lines
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from worker.cli.output import stdout
from worker.domain.job import KIND_WORDS
from worker.domain.text import counted, in_words, printable
from worker.operate.deadlist import Group
from worker.operate.following import Following
from worker.operate.progress import COUNTED, RunProgress
from worker.operate.report import argument, of_org, option
from worker.server.health import Finding
from worker.store.audit import Entry

out = Console(file=cast(TextIO, stdout), highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

_GATE_COLORS = {"open": "green", "probing": "yellow", "closed": "yellow", "paused": "red"}
_RESULT_COLORS = {"ok": "green", "warn": "yellow", "fail": "bold red"}
_NAMED = {"run": "run", "row": "row", "customer": "customerId"}
_COLORS = {"issued": "green", "dead": "red", "retrying": "yellow", "sending": "cyan"}


def safe(text: object) -> str:
    """Make foreign text safe to show: no terminal escapes, no markup."""
    return escape(printable(str(text)))


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
        grid.add_row(*(f"{cell:,}" if isinstance(cell, int) else safe(cell) for cell in row))
    out.print(grid)


def show_run(run: RunProgress) -> None:
    """Print one run as a person reads it."""
    out.print(f"[bold]{safe(run.run)}[/] of org {safe(run.org)}, started {run.started_at}")
    came_from = {name: value for name, value in asdict(run.source).items() if value}
    for name, value in came_from.items():
        out.print(f"  [dim]{name}[/] {safe(value)}")
    _show_states(run, COUNTED, always=("issued", "dead"))
    if run.handled:
        were = "was" if run.handled == 1 else "were"
        out.print(f"  {run.handled:>11,} of the dead {were} mended or replayed as another job, or discarded")
    out.print(f"  {run.total:>11,} {'job' if run.total == 1 else 'jobs'} in all")
    if run.forgotten:
        out.print(f"  {run.forgotten:>11,} beside them of customers that were forgotten since")
    if run.duplicates:
        again = "not sent again (a file imported again counts its own again)"
        rows = (
            "row beside them was a duplicate" if run.duplicates == 1 else "rows beside them were duplicates"
        )
        out.print(f"  {run.duplicates:>11,} {rows}, {again}")
    if run.near_duplicates:
        what = "with the badge and customer of an earlier job, but other dates"
        out.print(f"  {run.near_duplicates:>11,} {'job' if run.near_duplicates == 1 else 'jobs'} {what}")
    if run.incomplete:
        its = f"{of_org(run.org)}{option('run', run.run)}"
        again = f"to go on: badges import FILE {its}, with the whole file"
        out.print(f"  [yellow]incomplete:[/] {safe(run.incomplete)}; {safe(again)}")
    if run.finished_at:
        out.print(f"  finished {run.finished_at}")
    elif run.held:
        out.print(f"  [yellow]{safe(run.held)}[/]")
    elif run.eta_s is not None:
        out.print(f"  about {in_words(run.eta_s)} to go, with what waits before it")


def show_replay(replay: Following) -> None:
    """Print the states of the jobs of a replay."""
    _show_states(replay, (*COUNTED, "gone"))


def _show_states(
    progress: RunProgress | Following, states: Sequence[str], *, always: Sequence[str] = ()
) -> None:
    for state in states:
        count = getattr(progress, state)
        if count or state in always:
            dead = progress.dead_kinds if state == "dead" else {}
            kinds = ", ".join(f"{n:,} {KIND_WORDS.get(kind, kind)}" for kind, n in dead.items())
            color = _COLORS.get(state, "white") if count else "dim"
            out.print(f"  [{color}]{count:>11,} {state}[/] {safe(kinds)}")


def show_job(job: Mapping[str, Any]) -> None:
    """Print all that is known of a job, its attempts one a line."""
    fields = dict(job) | {
        "error": ", ".join(f"{name} {value}" for name, value in (job["error"] or {}).items() if value),
        "warnings": "; ".join(job["warnings"]),
        "history": "\n".join(" ".join(filter(None, attempt.values())) for attempt in job["history"]),
    }
    known = [(name, str(value)) for name, value in fields.items() if value is not None]
    lines = [(name, line) for name, value in known for line in value.splitlines()]
    table("", ("field", "value"), lines)


def show_groups(groups: Sequence[Group]) -> None:
    """Print dead letters by group, two lines each: a table would cut what is to be copied."""
    several = len({group.org for group in groups}) > 1
    for group in groups:
        message = group.message.replace("”", "” and others", 1) if group.count > 1 else group.message
        which = [group.org if several else "", group.kind, group.code, group.badgeMetaId, message]
        died = " to ".join(dict.fromkeys(map(to_the_second, (group.first_at, group.last_at))))
        out.print(f"[bold]{group.count:>9,}[/]  {safe('  '.join(filter(None, which)))}")
        sample = safe(of_org(group.org) + argument(group.sample))
        out.print(f"{'':>9}  [dim]{died} UTC; see:[/] badges job show {sample}")


def show_dead(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print dead letters as ``deadlist.rows`` yields them, two lines each."""
    for row in rows:
        named = [f"{name} {row[of]}" for name, of in _NAMED.items() if row[of] is not None]
        what = "  ".join(str(word) for word in (row["org"], *named, row["badgeMetaId"]) if word)
        why = "  ".join(str(word) for word in (row["error"] or {}).values() if word)
        out.print(f"[bold]{safe(row['job_id'])}[/]  {safe(what)}")
        out.print(f"    [dim]{to_the_second(row['finished_at'])} UTC[/]  {safe(why)}")
        if row["sent_request_id"]:
            theirs = f", answered as {row['answered_request_id']}" if row["answered_request_id"] else ""
            out.print(f"    [dim]request {safe(row['sent_request_id'] + theirs)}[/]")


def show_audit(entries: Sequence[Entry]) -> None:
    """Print what was done, by whom, to what and why."""
    columns = ("at (UTC)", "by", "org", "action", "what", "jobs", "note")
    table("", columns, [_audit_line(entry) for entry in entries], whole=("action",))


def _audit_line(entry: Entry) -> list[object]:
    what = " ".join(f"{name}={value}" for name, value in entry.which.items() if name not in ("org", "set"))
    what += "".join(f" set {name}={value}" for name, value in entry.which.get("set", {}).items())
    done = "" if entry.count is None else f"{entry.count:,}"
    return [to_the_second(entry.at), entry.by, entry.org, entry.id, what.strip(), done, entry.note]


def to_the_second(at: str | None) -> str:
    """Show an instant in UTC for a person: without the year and without fractions of a second."""
    return at[5:19].replace("T", " ") if at else ""


def watch_status(snapshots: Iterable[Sequence[Mapping[str, Any]]]) -> None:
    """Show what each org is doing, live; Ctrl-C ends it, and leaves the last of it on the screen."""
    with suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False) as live:
        for orgs in snapshots:
            live.update(_status_view(orgs), refresh=True)


def show_status(orgs: Sequence[Mapping[str, Any]]) -> None:
    """Print what each org is doing, and of each in which nothing moves why."""
    out.print(_status_view(orgs))


def _status_table(orgs: Sequence[Mapping[str, Any]]) -> Table:
    """Show what each org is doing; if it is doing nothing, show why."""
    grid = Table(header_style="dim", box=None)
    columns = ("org", "queued", "oldest", "retrying", "in flight", "dead", "last minute", "gate")
    for column in columns:
        right = column in ("queued", "oldest", "retrying", "in flight", "last minute")
        grid.add_column(column, justify="right" if right else "left", overflow="fold")
    for org in orgs:
        dead = ", ".join(f"{count:,} {kind}" for kind, count in org["dead"].items())
        oldest = org["oldest_s"]
        color = _GATE_COLORS[org["gate"]["state"]] if org["configured"] else "red"
        grid.add_row(
            safe(org["org"]),
            f"{org['queued']:,}",
            in_words(oldest) if oldest is not None else "",
            f"{org['retrying']:,}",
            f"{org['in_flight']:,}",
            f"[red]{safe(dead)}[/]" if dead else "none",
            _used(org),
            f"[{color}]{safe(_gate_words(org))}[/]",
        )
    return grid


def _used(org: Mapping[str, Any]) -> str:
    """Say what was sent in the last minute, and may be; below one a minute in the limit's own time."""
    sent, limit = org["sent_last_minute"], org["limit_per_minute"]
    if sent is None or limit is None:
        return ""
    slow = ", ".join(f"{one['sent']:,} of {one['limit']}" for one in org["limits"]) if limit < 1 else ""
    return slow or f"{sent:,}/{limit:,.10g}"


def _status_view(orgs: Sequence[Mapping[str, Any]]) -> Lines:
    """Show what each org is doing, and below it a line for each in which nothing moves, with the reason."""
    held = [f"{org['org']}: {org['standstill']['sentence']}" for org in orgs if org["standstill"]]
    return Lines(_status_table(orgs), *(f"[bold red]{safe(line)}[/]" for line in held))


def _gate_words(org: Mapping[str, Any]) -> str:
    """Say what state the gate is in, why, and what was learned."""
    gate, missing = org["gate"], org["missing_badges"]
    is_paused = gate["state"] == "paused"
    why = ", ".join(word for word in (gate["why"], gate["reason"]) if word)
    notes = [] if org["configured"] else ["not configured: nobody sends its jobs"]
    if is_paused or not notes:
        notes.append(f"{gate['state']}: {why}" if why else gate["state"])
        notes += [f"since {gate['since'][:19]}Z"] if gate["since"] else []
    # A pause has no end by itself, whatever else closed the gate.
    notes += [f"until {gate['closed_until'][:19]}Z"] if gate["closed_until"] and not is_paused else []
    notes += [f"slowed to {gate['rate_per_minute']:g} a minute"] if gate["rate_per_minute"] else []
    notes += [f"batches of {gate['batch_size']} at most"] if gate["batch_size"] else []
    notes += [f"{counted(missing, 'badge')} unknown to the vendor"] if missing else []
    notes += [f"{counted(org['held'], 'job')} on hold"] if org["held"] else []
    if repeat := org["to_repeat"]:
        notes.append(f"{counted(repeat, 'call')} in doubt to be repeated as sent")
    if undo := org["to_undo"]:
        again = f", {org['undo_retrying']:,} of them being called or to be called again"
        notes.append(f"{counted(undo, 'badge')} to be taken back{again if org['undo_retrying'] else ''}")
    return "; ".join(notes)


def show_findings(findings: Iterable[Finding]) -> None:
    """Print what the doctor found, with the cure for each fault."""
    grid = Table(header_style="dim", box=None)
    for column in ("", "check", "org", "found"):
        grid.add_column(column, overflow="fold")
    for found in findings:
        cure = f"\n[dim]→[/] {safe(found.cure)}" if found.cure else ""
        result = f"[{_RESULT_COLORS[found.result]}]{found.result}[/]"
        grid.add_row(result, found.check, safe(found.org or ""), safe(found.detail) + cure)
    out.print(grid)
