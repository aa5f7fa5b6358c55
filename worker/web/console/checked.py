"""The check of an uploaded file: what importing it would do, and which of its badges the vendor has."""

from __future__ import annotations

from typing import Any

from worker.domain.check import Check
from worker.errors import ConfigError
from worker.operate.badgecheck import AskedBadges, ask_badges
from worker.operate.checking import Checking, check_rows
from worker.operate.past import StoredPast
from worker.operate.staging import Staged
from worker.vendor.lookups import looking_up
from worker.web.console.acts import Act
from worker.web.console.asked import Asked
from worker.web.console.service import Console
from worker.web.console.views import url


def check(here: Console, about: Staged) -> Act:
    """Check a file as it is read now, in the background; what was checked is kept for what follows."""
    org = here.settings.org(about.org)

    def work(act: Act) -> Check:
        past = StoredPast(here.queue, org, again=about.how.again)
        checking = Checking(org, past, names=about.how.names(), hold_repeats=about.how.hold_repeats)
        with here.staging.opened(about) as given:
            for so_far in check_rows(checking, given.rows):
                act.move(so_far.rows, 0)
            checking.remark(given.remarks)
        act.kept = checking.badges(), dict(checking.customers)
        return checking.result(past.state())

    return here.looks.look(f"check {about.id} {about.how.mark}", work, within_s=0.3)


def shown(here: Console, about: Staged, act: Act | None) -> dict[str, Any]:
    """Return what a page shows of a check, as far as it is."""
    done = act if act and act.state == "done" else None
    asked = here.looks.get(_name(about)) if done else None
    return {
        "check": done.result if done else None,
        "checking": act if act and not act.is_over else None,
        "failed": act.problem if act else "",
        "asking": asked if asked and not asked.is_over else None,
        "known": asked.result if asked and asked.state == "done" else None,
        "not_asked": asked.problem if asked else "",
    }


def ask(here: Console, asked: Asked) -> str:
    """Ask the vendor, once a badge, whether it has those of a file; only looks, each paid from the limit.

    Raises:
        ConfigError: the file must be checked first.
    """
    about = here.staging.get(asked.need("id"))
    seen = check(here, about)
    if about.state != "there" or seen.state != "done":
        raise ConfigError("nothing was asked: the file must be checked first")
    org, (badges, customers) = here.settings.org(about.org), seen.kept

    def work(act: Act) -> AskedBadges:
        with looking_up(here.patient) as lookups:
            return ask_badges(lookups, org, badges, customers, on_progress=act.move)

    here.looks.look(_name(about), work, fresh_s=0)
    return url("staged", id=about.id)


def _name(about: Staged) -> str:
    return f"badges {about.id} {about.how.mark}"
