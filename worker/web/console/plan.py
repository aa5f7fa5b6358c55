"""What would become of dead letters before anything does: a replay or a discard, its plan and its act."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from worker.domain.job import DeadKind
from worker.domain.text import counted
from worker.errors import ConfigError
from worker.operate import cancelling, deadletters, deadlist, following, replaying
from worker.operate.deadlist import Filter
from worker.operate.replaying import UNDO, Replayed
from worker.operate.report import option
from worker.store import audit, runs
from worker.web.console.acting import begin, begun, note_of, typed, unchanged
from worker.web.console.acts import FRESH_S, Act
from worker.web.console.asked import Asked
from worker.web.console.dead import MENDABLE, command, parameters
from worker.web.console.service import Console
from worker.web.console.views import Page, url

FIRST = 10  # as many are tried before all


def page(here: Console, asked: Asked) -> Page:
    """Show what a replay or a discard would do, and to how many."""
    which, changes = _which(here, asked), _changes(asked)
    do = asked.text("do") or "replay"
    if do not in ("replay", "discard"):
        raise ConfigError(f"do must be replay or discard, not {do!r}")
    if do == "replay" and which.kind is DeadKind.INVALID:
        raise ConfigError("an invalid row can't be replayed: download its report, mend it, and upload that")
    which = replace(which, until_ms=deadlist.now_ms(here.reports))
    count = _count(here, which, replayable=do == "replay")
    left_out = deadlist.left_out(here.reports, which) if do == "replay" else {}
    look = _rehearse(here, which, changes, count) if do == "replay" and changes and count else None
    values = {
        "do": do,
        "count": count,
        "left_out": left_out,
        "changes": changes,
        "rehearsal": look.result if look and look.state == "done" else None,
        "rehearsing": look if look and not look.is_over else None,
        "failed": look.problem if look else "",
        "orgs": [which.org] if which.org else here.reports.orgs_meant(which),
        "is_held": which.run is not None and _is_held(here, which, which.run),
        "seconds": _seconds(here, which, count),
        "first": min(FIRST, count),
        "in_doubt": which.kind is DeadKind.IN_DOUBT,
        "act": audit.action_id(here.queue, "replay" if do == "replay" else "discard"),
        "fields": parameters(which) | {"until_ms": which.until_ms} | _set(changes),
        "back": url("dead", **parameters(which)),
        "again": url("plan", do=do, **parameters(which), **_set(changes)),
    }
    more = [option("set", f"{name}={value}") for name, value in changes.items()]
    title = "Replay" if do == "replay" else "Discard"
    return Page("plan.html", f"{title}: the plan", "dead", command(do, which, *more), values)


def replay(here: Console, asked: Asked) -> str:
    """Replay what was planned: all, or the first ten."""
    if known := begun(here, asked):
        return known
    which, changes = _which(here, asked), _changes(asked)
    count = _count(here, which, replayable=True)
    unchanged(asked, count)
    if in_doubt := which.kind is DeadKind.IN_DOUBT:
        typed(asked, count)
    limit = asked.whole("limit")

    def work(act: Act) -> dict[str, Any]:
        done = replaying.replay_all(
            here.operator(note_of(asked)),
            which,
            changes=changes or None,
            limit=limit,
            may_issue_twice=in_doubt,
            replay=act.id,
            on_progress=act.move,
        )
        here.forget_states()
        return _told(done)

    rest = url("plan", do="replay", **parameters(which), **_set(changes))
    links = [(rest, "Plan the rest"), (url("dead", **parameters(which)), "The dead letters")]
    if changes and len(orgs := here.reports.orgs_meant(which)) == 1:
        links.insert(0, (url("run", org=orgs[0], run=asked.need("act")), "Watch the new jobs"))
    what = counted(min(limit or count, count), "dead letter")
    return begin(here, asked, "replay", f"Replay {what}", work, links=links)


def discard(here: Console, asked: Asked) -> str:
    """Take off the list what was planned."""
    if known := begun(here, asked):
        return known
    which = _which(here, asked)
    count = _count(here, which)
    unchanged(asked, count)
    typed(asked, count)
    if not note_of(asked):
        raise ConfigError("nothing was done: say why, for the audit trail")

    def work(act: Act) -> dict[str, Any]:
        done = deadletters.discard_all(
            here.operator(note_of(asked)), which, action=act.id, on_progress=act.move
        )
        here.forget_states()
        return {"discarded": done}

    links = ((url("dead", org=which.org), "The dead letters"),)
    return begin(here, asked, "discard", f"Discard {counted(count, 'dead letter')}", work, links=links)


def take_back(here: Console, asked: Asked) -> str:
    """Make dead letters again of what still waits of a replay."""
    if known := begun(here, asked):
        return known
    name = asked.need("replay")
    by_org = following.still_its(here.reports, name)

    def work(act: Act) -> dict[str, Any]:
        operator, done = here.operator(note_of(asked)), 0
        for org, ids in by_org.items():
            operator.begin(org, act.id, {"replay": name})
            done += cancelling.cancel(
                operator.queue,
                org,
                ids,
                action=act.id,
                on_progress=partial(_move, act, len(ids)),
            )
        return {"taken back": done}

    links = ((url("act", id=name), "The replay"), (url("dead", kind="cancelled"), "What was cancelled"))
    return begin(here, asked, "cancel", f"Take back what waits of {name}", work, links=links)


def _move(act: Act, total: int, seen: int) -> None:
    act.move(seen, total)


def _which(here: Console, asked: Asked) -> Filter:
    which = asked.filter()
    if not which.is_said:
        raise ConfigError("say which dead letters: choose a group first")
    return here.reports.meant(which)


def _changes(asked: Asked) -> dict[str, str]:
    field, value = asked.text("set_field"), asked.text("set_value")
    if not field or not value:
        return {}
    if field not in MENDABLE:
        raise ConfigError(f"there is no field {field!r}; the fields are {', '.join(MENDABLE)}")
    return {field: value}


def _set(changes: dict[str, str]) -> dict[str, str]:
    return {"set_field": next(iter(changes)), "set_value": next(iter(changes.values()))} if changes else {}


def _count(here: Console, which: Filter, *, replayable: bool = False) -> int:
    return sum(deadlist.count(here.reports, which, replayable=replayable).values())


def _rehearse(here: Console, which: Filter, changes: dict[str, str], count: int) -> Act:
    def work(act: Act) -> Replayed:
        return replaying.replay_all(
            here.operator(), which, changes=changes, dry_run=True, on_progress=act.move
        )

    return here.looks.look(f"plan {parameters(which)} {changes} {count}", work, fresh_s=FRESH_S)


def _is_held(here: Console, which: Filter, run: str) -> bool:
    """Say whether what is replayed waits until somebody, or its time, starts the run."""
    orgs = here.reports.orgs_meant(which)
    return any(runs.not_begun(here.reports.store, org, [run]) for org in orgs)


def _seconds(here: Console, which: Filter, count: int) -> int | None:
    """Say when these would be done, behind all that waits already."""
    told = [
        state.seconds_for(state.waiting + count)
        for state in here.states()
        if which.org in (None, state.org) and state.settings
    ]
    known = [seconds for seconds in told if seconds is not None]
    return max(known) if known else None


def _told(done: Replayed) -> dict[str, Any]:
    told: dict[str, Any] = {"replayed": done.replayed, "duplicates": done.duplicates, "skipped": done.skipped}
    if undos := done.left_out.get(UNDO):
        told["left, of an undo"] = undos
    if done.problem:
        told["reason"] = done.problem
    return told | {f"left in {org}, not configured": count for org, count in done.unconfigured.items()}
