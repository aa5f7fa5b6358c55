"""What the workers that were heard of lately go by: the settings of each, so that the strictest limit holds.

Workers may differ for as long as a change is rolled out, or by mistake. Each says its settings every few
seconds, of a secret only a byte of its hash; whatever reckons with an org's limit reckons with all that are
said. How places are shared among workers is in ``pool.py``.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis

from worker.domain.org import Org, parse_limits
from worker.errors import StoreError
from worker.server.cluster import reaching
from worker.server.health import server_time_s
from worker.store import keys
from worker.store.clock import Clock

HEARD_WITHIN_S = 20.0
FORGOTTEN_AFTER_S = 300.0
READ_EVERY_S = 1.0
SECRET = ("basic_password", "basic_token", "oauth_key", "oauth_secret")
# What is said otherwise, what a worker doesn't act by, and what is told apart by its name already.
LEFT_OUT = {*SECRET, "intake_keys", "name"}


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting of an org in which workers differ: what each goes by."""

    org: str
    setting: str
    values: Mapping[str, tuple[str, ...]]  # value -> workers

    def __str__(self) -> str:
        shown = {value: value for value in self.values}
        if self.setting in SECRET:
            shown = dict(zip(self.values, ("one", *["another"] * len(self.values)), strict=False))
        values = "; ".join(f"{shown[value]} at {', '.join(names)}" for value, names in self.values.items())
        return f"{self.setting}: {values}"


class Workers:
    """The settings that workers say."""

    def __init__(self, client: redis.Redis, *, clock: Clock | None = None) -> None:
        self._client = client
        self._clock = clock or Clock()
        self._reading = threading.Lock()
        self._read_at = -math.inf
        self._limits: Mapping[str, tuple[str, ...]] = {}

    def say(self, worker: str, orgs: Mapping[str, Org]) -> None:
        """Say what a worker goes by; to be repeated while it lives."""
        now_s = self._now_s()
        said = {name: _settings(org) for name, org in orgs.items()}
        with reaching("workers"):
            self._client.hset(keys.WORKERS, worker, json.dumps({"at_s": now_s, "orgs": said}))
            old = [name for name, at_s, _ in self._all() if not abs(now_s - at_s) <= FORGOTTEN_AFTER_S]
            if old:
                self._client.hdel(keys.WORKERS, *old)

    def strict(self, org: Org) -> Org:
        """Return the org with every limit that a worker heard of lately goes by: all of them hold at once.

        While Redis can't be reached, what was heard last holds.
        """
        is_old = self._clock.monotonic_s() - self._read_at >= READ_EVERY_S
        if is_old and self._reading.acquire(blocking=False):  # others go on with what is known meanwhile
            try:
                self._read_at = self._clock.monotonic_s()
                with suppress(StoreError):
                    self._limits = self._read_limits()
            finally:
                self._reading.release()
        others = [limit for limit in self._limits.get(org.name, ()) if limit != org.rate_limit]
        return org.model_copy(update={"rate_limit": ",".join([org.rate_limit, *others])}) if others else org

    def differences(self) -> list[Difference]:
        """Return in what the workers heard of lately differ."""
        values: dict[tuple[str, str], dict[str, list[str]]] = {}
        for worker, orgs in self._heard():
            for org, settings in orgs.items():
                for setting, value in settings.items():
                    of_value = values.setdefault((org, setting), {})
                    of_value.setdefault(_written(value), []).append(worker)
        return [
            Difference(org, setting, {value: tuple(sorted(names)) for value, names in its.items()})
            for (org, setting), its in sorted(values.items())
            if len(its) > 1
        ]

    def differences_by_org(self) -> dict[str, list[str]]:
        """Return what a person is told of them, by org."""
        found: dict[str, list[str]] = {}
        for one in self.differences():
            found.setdefault(one.org, []).append(str(one))
        return found

    def _read_limits(self) -> dict[str, tuple[str, ...]]:
        limits: dict[str, dict[str, None]] = {}
        for _, orgs in self._heard():
            for org, settings in orgs.items():
                with suppress(ValueError):
                    parse_limits(limit := str(settings.get("rate_limit")))
                    limits.setdefault(org, {})[limit] = None
        return {org: tuple(its) for org, its in limits.items()}

    def _heard(self) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
        now_s = self._now_s()
        for worker, at_s, orgs in self._all():
            if abs(now_s - at_s) <= HEARD_WITHIN_S:  # from the future: the server's clock was put back
                yield worker, orgs

    def _all(self) -> list[tuple[str, float, dict[str, dict[str, Any]]]]:
        with reaching("workers"):
            found = self._client.hgetall(keys.WORKERS)
        said = []
        for worker, text in found.items():
            with suppress(ValueError, KeyError, TypeError, RecursionError):  # another version's, or nobody's
                one = json.loads(text)
                orgs = {
                    org: settings for org, settings in dict(one["orgs"]).items() if isinstance(settings, dict)
                }
                said.append((str(worker), float(one["at_s"]), orgs))
        return said

    def _now_s(self) -> float:
        """Return the server's time, which all workers share."""
        return server_time_s(self._client)


def _settings(org: Org) -> dict[str, Any]:
    return org.model_dump(mode="json", exclude=LEFT_OUT) | {name: _sign(org, name) for name in SECRET}


def _sign(org: Org, setting: str) -> str:
    """Return what tells two secrets apart, but for one pair in 256, and says next to nothing of either."""
    if (secret := getattr(org, setting)) is None:
        return ""
    return hashlib.sha256(f"{org.name} {setting} {secret.get_secret_value()}".encode()).hexdigest()[:2]


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
