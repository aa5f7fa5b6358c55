"""A check of a file, as a person reads it."""

from __future__ import annotations

from rich.console import Console

from worker.cli import tables
from worker.domain.check import Check, CheckWarning, Fault
from worker.domain.text import counted, in_words
from worker.operate.badgecheck import AskedBadges


def show_check(check: Check) -> None:
    """Print what was found: columns, faults, warnings, and what an import would do and take."""
    for column in check.columns:
        samples = ", ".join(column.samples) or "(empty)"
        means = column.field or "(ignored)"
        tables.out.print(f"  {tables.safe(f'{column.column} → {means}: {samples}')}")
    for fault in check.faults:
        _show_group(fault, f"{fault.field}: {fault.reason}" if fault.field else fault.reason)
    for warning in check.warnings:
        _show_group(warning, warning.reason, " (a warning)")
    good = "1 row is good" if check.good == 1 else f"{check.good:,} rows are good"
    others = "1 is not" if check.invalid == 1 else f"{check.invalid:,} are not"
    tables.out.print(f"{good}, {others}; nothing was enqueued.")
    _show_duplicates(check)
    _show_cost(check)


def _show_group(group: Fault | CheckWarning, what: str, mark: str = "") -> None:
    where = f", such as row {group.rows[0]}" if group.rows else ""
    count = f"{group.count:,}" if group.count else ""  # none of the file as a whole
    tables.out.print(f"{count:>11} {tables.safe(what)}{where}{mark}")


def _show_duplicates(check: Check) -> None:
    in_file, before = check.duplicates.in_file, check.duplicates.before
    known = "what was accepted before isn't known" if before is None else (
        f"{before:,} {'was' if before == 1 else 'were'} accepted before"
    )  # fmt: skip
    same = f"{in_file:,} {'equals' if in_file == 1 else 'equal'} an earlier row"
    tables.out.print(f"Of the good ones, {same} of the file, and {known}; those aren't sent again.")
    if near := check.near_duplicates:
        tables.out.print(
            f"{counted(near, 'row')} {'has' if near == 1 else 'have'} the badge and customer of an earlier "
            f"row or job, but other dates, such as row {check.near_duplicate_rows[0]}: "
            f"{_sent(near, held=bool(check.would and check.would.held))}."
        )


def _sent(rows: int, *, held: bool) -> str:
    they = "it" if rows == 1 else "they"
    return f"{they} would be held back" if held else f"{they} {'is' if rows == 1 else 'are'} sent"


def _show_cost(check: Check) -> None:
    if check.calls is None or check.would is None:
        return
    waiting = check.waiting or 0
    behind = f" behind {counted(waiting, 'job')} that {'waits' if waiting == 1 else 'wait'}"
    once_more = f" ({check.would.again:,} once more, since their badge was undone)"
    again = once_more if check.would.again else ""
    how_long = "nobody can tell, it stands still" if check.seconds is None else in_words(check.seconds)
    tables.out.print(
        f"An import would accept {counted(check.would.accepted, 'row')}{again}, in "
        f"{counted(check.calls, 'call')}{behind if waiting else ''}: {how_long} at the present limit."
        if check.would.accepted
        else "An import would accept none."
    )


UNKNOWN_SHOWN = 20


def show_badges(asked: AskedBadges, console: Console) -> None:
    """Print which badges of a file the vendor doesn't know."""
    unknown = asked.unknown
    for badge in unknown[:UNKNOWN_SHOWN]:
        console.print(
            f"{badge.rows:>11,} {'name' if badge.rows > 1 else 'names'} {tables.safe(badge.badgeMetaId)}, "
            "which the vendor doesn't know"
        )
    if (more := len(unknown) - UNKNOWN_SHOWN) > 0:
        console.print(f"  … and {counted(more, 'badge')} more that the vendor doesn't know")
    if not unknown and asked.badges and not asked.open:
        all_of_them = "its badge" if len(asked.badges) == 1 else f"all {len(asked.badges):,} badges"
        console.print(f"The vendor knows {all_of_them}.")
    if asked.open:
        console.print(f"[yellow]{counted(asked.open, 'badge')} couldn't be told of[/]")
    for why in asked.why[:3]:
        console.print(f"  [dim]{tables.safe(why)}[/]")
