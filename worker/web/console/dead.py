"""The page *Dead letters*: groups, samples of one with the vendor's own answer, and ways to mend it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from worker.domain.badge import BadgeIssue
from worker.domain.job import DeadKind
from worker.errors import BadgesError
from worker.operate import deadlist, paging
from worker.operate.deadlist import Filter, Group
from worker.operate.report import option
from worker.web.console.acts import FRESH_S, Act
from worker.web.console.asked import Asked
from worker.web.console.service import Console
from worker.web.console.views import Page, turning, url

SIZE = 25
GROUPS_SHOWN = 200
MENDABLE = tuple(str(f.alias) for name, f in BadgeIssue.model_fields.items() if name != "job_id")
SORTS = {"count": "most first", "last": "newest first", "kind": "by kind"}


def page(here: Console, asked: Asked) -> Page:
    """Show the groups that fit, and the letters of what is chosen."""
    which, after = asked.filter(), asked.text("after")
    if which.run:
        which = replace(which, run=here.reports.run_named(which.run, which.org))
    sort = asked.text("sort") or "count"
    counted = _groups(here, replace(which, kind=None, code=None, badge=None))
    groups = _sorted(counted or [], sort)
    is_chosen = bool(which.kind or which.job or which.customer)
    order = "-died" if asked.text("order") == "-died" else None
    letters: paging.Slice[dict[str, Any]] = paging.Slice([])
    if is_chosen:
        letters = paging.letters(here.reports, which, after, SIZE, newest=order is not None)
    chosen = parameters(which)
    values = {
        "which": which,
        "chosen": chosen,
        "groups": [
            (group, _link(which, group, {"sort": sort, "order": order}), _is_this(which, group))
            for group in groups[:GROUPS_SHOWN]
        ],
        "more_groups": max(0, len(groups) - GROUPS_SHOWN),
        "counting": counted is None,
        "letters": letters.rows,
        "other_order": url("dead", **chosen, sort=sort, order=None if order else "-died"),
        "order": order,
        "is_chosen": is_chosen,
        "orgs": here.reports.org_names(),
        "mendable": MENDABLE,
        "sort": sort,
        "sorts": SORTS,
        "in_doubt": which.kind is DeadKind.IN_DOUBT,
        "invalid": which.kind is DeadKind.INVALID,
    } | turning("dead", chosen | {"sort": sort, "order": order}, after, letters.after)
    return Page("dead.html", "Dead letters", "dead", command("groups", which), values)


def parameters(which: Filter) -> dict[str, Any]:
    """Return a filter as the parameters of a link."""
    names = ("org", "kind", "run", "code", "badge", "customer", "job", "since_ms")
    return {name: getattr(which, name) for name in names if getattr(which, name) is not None}


def command(verb: str, which: Filter, *more: str) -> str:
    """Return the command that does the same for these dead letters."""
    said = which.as_json()
    options = [option(name, str(value)) for name, value in said.items()]
    return " ".join(["badges dead", verb, *options, *more])


def _groups(here: Console, which: Filter) -> list[Group] | None:
    """Count the groups in the background, and for a second where no record is read for it.

    Returns None while that goes on: hardly ever, where the groups themselves tell.

    Raises:
        BadgesError: that failed.
    """

    def work(_: Act) -> list[Group]:
        return deadlist.groups(here.reports, which)

    reads = which.job is not None or bool(which.read_fields)
    dead = sum(sum(state.dead.values()) for state in here.states()) if reads else 0
    name, fresh_s = f"groups {parameters(which)} {dead}", FRESH_S if reads else 1.0
    look = here.looks.look(name, work, within_s=0.2 if reads or which.run else 5.0, fresh_s=fresh_s)
    if look.problem:
        raise BadgesError(f"the letters can't be counted: {look.problem}")
    return look.result if look.is_over else None


def _sorted(groups: Sequence[Group], sort: str) -> list[Group]:
    if sort == "last":
        return sorted(groups, key=lambda group: group.last_at or "", reverse=True)
    if sort == "kind":
        return sorted(groups, key=lambda group: (group.kind, group.code, -group.count))
    return sorted(groups, key=lambda group: -group.count)


def _link(which: Filter, group: Group, shown: Mapping[str, str | None]) -> str:
    its: Mapping[str, Any] = {
        "org": group.org,
        "kind": group.kind,
        "code": group.code,
        "badge": group.badgeMetaId,
    }
    return url(
        "dead", **parameters(replace(which, org=None, kind=None, code=None, badge=None)), **its, **shown
    )


def _is_this(which: Filter, group: Group) -> bool:
    its = (which.org or group.org, which.kind, which.code, which.badge)
    return its == (group.org, group.kind, group.code, group.badgeMetaId)
