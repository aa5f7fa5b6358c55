"""The page *Now*: each org with its lamp, its limit and what waits; and the banners that every page has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker.operate import paging
from worker.operate.operator import Operator
from worker.operate.status import OrgState
from worker.web.console.acting import is_known, note_of
from worker.web.console.asked import Asked
from worker.web.console.runs import states
from worker.web.console.service import Console
from worker.web.console.views import Page

LATEST = 6  # runs and acts
LAMPS = {"open": "sending", "probing": "trying one job at a time", "closed": "waiting", "paused": "paused"}


def page(here: Console, _: Asked) -> Page:
    """Show every org as it is."""
    differs = here.queue.workers.differences_by_org()
    values = {
        "orgs": [_org(here, state) | {"differs": differs.get(state.org, ())} for state in here.states()],
        "runs": [(run, states(run)) for run in paging.runs(here.reports, None, None, LATEST).rows],
        "act": here.queue.new_id()[:8],
        "entries": paging.trail(here.reports, None, None, LATEST).rows,
    }
    return Page("now.html", "Now", "now", "badges status --watch", values, live="now")


def banners(here: Console) -> list[dict[str, Any]]:
    """Say which orgs stand still, and why: on every page."""
    return [
        {"org": state.org, "sentence": state.standstill.sentence, "reason": state.standstill.reason}
        for state in here.states()
        if state.standstill
    ]


def banners_page() -> Page:
    """Return a page whose live part is its banners alone."""
    return Page("base.html", "", "", "")


def pause(here: Console, asked: Asked) -> str:
    """Let no further batch of an org start."""
    return _turn(here, asked, "pause", Operator.pause)


def resume(here: Console, asked: Asked) -> str:
    """Let batches of an org start again."""
    return _turn(here, asked, "resume", Operator.resume)


def _turn(here: Console, asked: Asked, name: str, act: Callable[..., object]) -> str:
    """Do it once, however often its button was pressed."""
    org, action = here.settings.org(asked.need("org")).name, f"{name}-{asked.need('act')}"
    if not is_known(here, action):
        act(here.operator(note_of(asked)), org, action=action)
        here.forget_states()
    return "./"


def _org(here: Console, state: OrgState) -> dict[str, Any]:
    shown = state.as_json()
    per_minute, limit = shown["sent_last_minute"], shown["limit_per_minute"]
    lamp = state.gate.state if state.settings else "none"
    return shown | {
        "lamp": lamp,
        "words": _words(state),
        # Of less than one a minute nothing is to be seen there; what each window holds is said below.
        "share": per_minute / limit if limit and limit >= 1 and per_minute is not None else None,
        "hour": here.pulse.hour(state.org),
        "waiting": state.waiting,
        "empty_s": _empty_s(state),
        "dead_total": sum(state.dead.values()),
    }


def _empty_s(state: OrgState) -> int | None:
    return state.seconds_for(state.waiting, last_ms=state.last_retry_ms) if state.waiting else None


def _words(state: OrgState) -> str:
    if state.standstill:
        return state.standstill.sentence
    if state.settings is None:
        return "not configured any more; what it had is kept"
    if state.gate.state == "open" and not state.waiting and not state.in_flight:
        return "idle: nothing waits"
    return LAMPS[state.gate.state]
