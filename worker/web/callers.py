"""Who may call the HTTP intake: API keys, the org that each stands for, and how often a caller may call.

What the callers hand in is taken in by ``intake.py``.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from worker.domain.identity import short_hash
from worker.domain.org import DEFAULT_ORG, Limit, Org, is_loopback, parse_limits
from worker.errors import ConfigError
from worker.server.cluster import Redis
from worker.store.intake import count_call

_KEY = re.compile(r"[!-~]{12,4096}")
TOKEN_TTL_S = 3600
_SCHEMES = frozenset({"basic", "bearer"})


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller with an API key: the org that it stands for, and a name to count the calls by."""

    org: Org
    id: str


class Callers:
    """All API keys there are. Only their hashes are kept."""

    def __init__(self, orgs: Mapping[str, Org]) -> None:
        """Take the keys of every org.

        Raises:
            ConfigError: there are no keys, one can't be a key, or one stands for two orgs.
        """
        self._known: dict[bytes, Caller] = {}
        for org in orgs.values():
            for key in _keys_of(org):
                digest = _digest(key)
                other = self._known.get(digest)
                if other and other.org.name != org.name:
                    raise ConfigError(
                        f"BADGES_INTAKE_KEYS: the orgs {other.org.name} and {org.name} have a key in common; "
                        "a key must tell the org"
                    )
                self._known[digest] = Caller(org, short_hash(org.name, digest.hex())[:8])
        if not self._known:
            raise ConfigError(
                "BADGES_INTAKE_KEYS is missing: the API keys that callers may show, with commas between (or "
                "intake_keys in the tables of BADGES_ORGS_FILE); the Basic token that a caller sends the "
                "vendor today will do. To try things out on this machine alone: --no-auth"
            )

    def are_reached_by(self, host: str) -> bool:  # noqa: ARG002
        """Say whether these callers may call by this ``Host``: who shows a key may by any."""
        return True

    def who(self, shown: str) -> Caller | None:
        """Return who shows this key, or a token for one. However wrong it is, it takes as long."""
        until, _, signature = shown.partition(".")
        is_fresh = until.isdecimal() and time.time() < float(until)
        key, signed, found = _digest(shown), _digest(signature), None
        for known, caller in self._known.items():
            is_key = hmac.compare_digest(key, known)
            is_token = hmac.compare_digest(signed, _digest(_signature(known, until)))
            if is_key or (is_token and is_fresh):
                found = caller
        return found

    def token(self, key: str) -> str | None:
        """Return a token for a key, good for ``TOKEN_TTL_S`` at every intake that knows the key."""
        digest = _digest(key)
        # A token isn't a key; however wrong it is, it takes as long.
        is_key = sum(hmac.compare_digest(digest, known) for known in self._known) > 0
        return _token(digest) if is_key else None


class Anyone:
    """No keys at all: everybody who reaches the intake stands for one org; as ``Callers`` otherwise."""

    def __init__(self, org: Org) -> None:
        self._caller = Caller(org, "anyone")

    def are_reached_by(self, host: str) -> bool:
        """Say whether this names this machine alone.

        A web page's own name, for which its server suddenly gives a loopback address, doesn't: a browser
        would let that page call as if it were ours.
        """
        try:
            return is_loopback(urlsplit(f"//{host}").hostname or "")
        except ValueError:
            return False

    def who(self, shown: str) -> Caller:  # noqa: ARG002
        """Return the one caller there is."""
        return self._caller

    def token(self, key: str) -> str:
        """Return a token, whatever the key."""
        return _token(_digest(key))


def shown_key(headers: Mapping[str, str]) -> str:
    """Return the key that a request shows, empty if none: what it sends the vendor today is one."""
    own = headers.get("x-api-key") or headers.get("x-cap-api-oauth-token")
    if own:
        return own.strip()
    written = headers.get("authorization", "").strip()
    scheme, _, rest = written.partition(" ")
    return rest.strip() if scheme.lower() in _SCHEMES else written


@dataclass(frozen=True, slots=True)
class CallLimit:
    """How often a caller may call, counted in Redis in fixed windows: whichever process it comes to."""

    client: Redis
    limits: tuple[Limit, ...]

    @classmethod
    def parse(cls, client: Redis, text: str) -> Self:
        """Read ``600/minute``, or several such with commas between.

        Raises:
            ConfigError: it is no limit of requests.
        """
        try:
            limits = parse_limits(text)
        except ValueError as error:
            raise ConfigError(f"--rate: {error}") from None
        if any(limit.of_items for limit in limits):
            raise ConfigError("--rate limits requests; write 600/minute")
        return cls(client, limits)

    def wait_s(self, caller: Caller) -> int:
        """Count a call; return 0, or in how many seconds the caller may call again.

        Raises:
            StoreError: Redis can't be reached.
        """
        now = time.time()
        windows_s = [limit.window_s for limit in self.limits]
        counts = count_call(self.client, caller.org.name, caller.id, windows_s, now_s=now)
        waits = [
            math.ceil(limit.window_s - now % limit.window_s)
            for limit, count in zip(self.limits, counts, strict=True)
            if count > limit.count
        ]
        return max(waits, default=0)


def _keys_of(org: Org) -> list[str]:
    written = org.intake_keys.get_secret_value().split(",") if org.intake_keys else []
    found = [shown_key({"authorization": key}) for key in written if key.strip()]
    for number, key in enumerate(found, 1):
        if not _KEY.fullmatch(key):
            where = (
                "BADGES_INTAKE_KEYS"
                if org.name == DEFAULT_ORG
                else f"intake_keys of [{org.name}] in BADGES_ORGS_FILE"
            )
            which = "" if len(found) == 1 else f"key {number} of {len(found)} isn't one: "
            raise ConfigError(f"{where}: {which}a key is 12 to 4096 letters, digits and signs")
    return found


def _token(digest: bytes) -> str:
    until = str(int(time.time()) + TOKEN_TTL_S)
    return f"{until}.{_signature(digest, until)}"


def _signature(digest: bytes, until: str) -> str:
    return hmac.new(digest, until.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
