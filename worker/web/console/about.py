"""The page *Settings*: what is set, without any secret, and what the doctor says. It changes nothing."""

from __future__ import annotations

import os
from typing import Any

from pydantic import SecretStr

from worker.config import PREFIX, SPELLED, Settings, unknown_settings
from worker.domain.org import DEFAULT_ORG, Org
from worker.web.console.acts import Act
from worker.web.console.asked import Asked
from worker.web.console.service import Console
from worker.web.console.views import Page, url

DOCTOR, ASKED_EVERY_S = "doctor", 10
SECRET = "set, not shown"  # noqa: S105 - no secret
_HIDDEN = ("basic_username",)  # half of a credential


def page(here: Console, asked: Asked) -> Page:
    """Show every setting by its name, and the doctor's findings if they were asked for."""
    look = here.looks.get(DOCTOR) if asked.text("doctor") else None
    process = {name: field for name, field in Settings.model_fields.items() if name not in Org.model_fields}
    values = {
        "process": [_row(here.settings, name, field) for name, field in process.items()],
        "orgs": [
            (name, [_row(org, field, it) for field, it in Org.model_fields.items() if field != "name"])
            for name, org in here.orgs.items()
        ],
        "unknown": unknown_settings(os.environ),
        "findings": look.result if look and look.state == "done" else None,
        "looking": look is not None and not look.is_over,
        "problem": look.problem if look else "",
    }
    return Page("settings.html", "Settings", "settings", "badges doctor", values, live="settings")


def _row(of: Settings | Org, name: str, field: Any) -> dict[str, Any]:
    """Show a setting by the name that it is set by: a variable, or in another org's table a key."""
    value = getattr(of, name)
    if isinstance(value, SecretStr) or (name in _HIDDEN and value):
        shown = SECRET
    else:
        said = [f"{key}={word}" for key, word in value] if name in SPELLED else [str(value)]
        shown = "\N{EN DASH}" if value in (None, ()) else ", ".join(said)
    return {
        "name": PREFIX + SPELLED.get(name, name.upper()) if of.name == DEFAULT_ORG else name,
        "value": shown,
        "is_default": value == field.default,
        "words": field.description or "",
    }


def ask(here: Console, _: Asked) -> str:
    """Ask the doctor, in the background: a call to each vendor is paid from its limit, so once in a while."""
    from worker.operate.doctor import examine  # noqa: PLC0415 - brokers are loaded only where they are needed

    def work(_: Act) -> list[dict[str, Any]]:
        return [found.as_json() for found in examine(here.settings, os.environ)]

    here.looks.look(DOCTOR, work, fresh_s=ASKED_EVERY_S)
    return url("settings", doctor="asked")
