"""How every act at the console begins: once, written into the audit trail first, and followed on a page."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

from worker.errors import ConfigError, NotFound
from worker.operate import following
from worker.store import audit
from worker.store.audit import Action, Entry
from worker.web.console.acts import Act
from worker.web.console.asked import Asked
from worker.web.console.service import Console
from worker.web.console.views import Page, url

_NO_ID = "the form has no id of its act: load its page again"
_ID = re.compile(r"(?P<action>[a-z]+)-[a-z0-9]{8}")


def begin(  # noqa: PLR0913 - what an act is
    here: Console,
    asked: Asked,
    action: Action,
    title: str,
    work: Callable[[Act], Any],
    *,
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """Begin the act whose form was sent, unless it was begun before; returns the page that follows it.

    Raises:
        ConfigError: the form has no id of an act.
    """
    act_id = asked.need("act")
    found = _ID.fullmatch(act_id)
    if not found or found["action"] != action:
        raise ConfigError(_NO_ID)
    if not begun(here, asked):
        here.acts.begin(act_id, title, work, links=links)
    return url("act", id=act_id)


def begun(here: Console, asked: Asked) -> str | None:
    """Return the page of the act whose form was sent, if it was begun before: by the click before this one.

    It comes before every other check: what the act was about has changed since, by the act itself.
    """
    act_id = asked.need("act")
    return url("act", id=act_id) if here.acts.get(act_id) or is_known(here, act_id) else None


def is_known(here: Console, act_id: str) -> bool:
    """Say whether the trail has an act.

    Raises:
        ConfigError: it is no id of one.
    """
    if not _ID.fullmatch(act_id):
        raise ConfigError(_NO_ID)
    return bool(entries(here, act_id))


def note_of(asked: Asked) -> str:
    """Return why it is done."""
    return asked.text("note") or ""


def typed(asked: Asked, count: int) -> None:
    """Make sure that the number was typed that an act is about.

    Raises:
        ConfigError: another one was.
    """
    if asked.whole("typed") != count:
        raise ConfigError(f"nothing was done: type {count:,}, the number that this is about, to go on")


def unchanged(asked: Asked, now: int) -> None:
    """Make sure that an act is about as many as were shown.

    Raises:
        ConfigError: it isn't any more.
    """
    if (seen := asked.whole("seen") or 0) != now:
        raise ConfigError(
            f"nothing was done: it has changed since you looked. {now:,} {'fits' if now == 1 else 'fit'} "
            f"now, and not {seen:,}; go back and look again"
        )


def page(here: Console, asked: Asked) -> Page:
    """Follow an act: what this process knows of it, or else what the audit trail says."""
    act_id = asked.need("id")
    act = copy(here.acts.get(act_id))  # as it is now: what ends meanwhile is told whole by the next page
    written = entries(here, act_id)
    if act is None and not written:
        raise NotFound(f"nothing is known of {act_id}: it was never begun, or the trail has forgotten it")
    title = act.title if act else f"{written[0].action} of {written[0].at}"
    values = {"act": act, "id": act_id, "entries": written, "replay": act_id.startswith("replay-")}
    values["following"] = _following(here, act_id, act) if values["replay"] else None
    values |= _asking(here, act_id, act) | {"cancel": audit.action_id(here.queue, "cancel")}
    return Page("act.html", title, "", "badges audit", values, live="act")


def _asking(here: Console, act_id: str, act: Act | None) -> dict[str, Any]:
    """Return what a page about asking the vendor goes on with: the plan, and how many it is about."""
    plan = act.kept[0] if act and act.kept and act.state == "done" else None
    return {
        "asking": act_id.startswith("check-"),
        "plan": plan,
        "again_at": plan.as_json()["look_again_at"] if plan else None,
        "count": plan.jobs["not_issued"] + plan.jobs["issued"] if plan else 0,
        "resolve": audit.action_id(here.queue, "resolve") if plan else "",
    }


def entries(here: Console, act_id: str) -> list[Entry]:
    """Return what the audit trail has of an act: an entry for each org that it is about."""
    client = here.queue.client
    return [it for org in here.reports.org_names() if (it := audit.entry(client, org, act_id))]


def _following(here: Console, act_id: str, act: Act | None) -> Any:
    if act and (not act.is_over or act.state == "failed"):
        return None
    try:
        return next(following.follow(here.reports, act_id, every_s=1))
    except NotFound:
        return None
