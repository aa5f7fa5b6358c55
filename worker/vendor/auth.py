"""Credentials: the header a call carries, and the OAuth token that all processes share.

doc: Basic is ``base64(username:md5hex(password))``; an OAuth token is fetched from
``/v3/oauth/token/generate``, lives 300 to 3600 s, and travels in ``X-CAP-API-OAUTH-TOKEN``.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from functools import partial

from worker.domain.batch import Slot, Wait, Why
from worker.domain.org import Org
from worker.domain.outcome import NoReply, Reply, Signal
from worker.store import tokens
from worker.store.protocol import slack_s
from worker.store.queue import Queue
from worker.vendor.client import TOO_LATE, Fence, VendorClient
from worker.vendor.codes import Meanings, meanings_of
from worker.vendor.rows import number_in, text_in
from worker.vendor.unpacking import json_in
from worker.vendor.verdict import retry_after_s

TOKEN_HEADER = "X-CAP-API-OAUTH-TOKEN"  # noqa: S105 - a header's name
TOKEN_PATH = "/v3/oauth/token/generate"  # noqa: S105 - a path
LOCK_S = 15
LONGEST_WAIT_S = 15.0  # for a slot of the limit, while a person looks on
ASK_AGAIN_MS = 250
# A token is renewed this long before its end; earlier than that only if it lives shorter altogether.
MARGIN_S = 30
# A token refused within this time of being fetched is no stale one: the credentials are at fault.
FRESH_S = 60
# A header's value; what else a vendor may send would be kept for all processes, and fit no call.
TOKEN = re.compile("[!-~]{1,8192}")
# Calls beside the deliveries let these go first, and take no slot that is far ahead: nobody sleeps on one.
SHORTEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_TURN_S, PATIENCE_S = 0.02, 2.0, 60.0, 2.0
TTL_S, TTL_MAX_S = 300.0, 86_400.0  # where the vendor says none, and at most


@dataclass(frozen=True, slots=True)
class Credentials:
    """The headers of a call; ``token_id`` names the token in them without showing it."""

    headers: dict[str, str]
    token_id: str = ""


@dataclass(frozen=True, slots=True)
class AuthFailed:
    """The vendor gave no token; ``signal`` says what that means for the org."""

    reason: str
    signal: Signal = Signal.UNAVAILABLE
    retry_after_s: float | None = None

    @property
    def lasting(self) -> bool:
        """Whether asking again won't help until somebody corrects the settings."""
        return self.signal in (Signal.UNAUTHORIZED, Signal.MISCONFIGURED)


class Authenticator:
    """Gives each call its credentials; one process fetches a token, the others wait for it.

    One that is ``asked`` by a person trusts no token that was given before, which says nothing of the
    credentials as they are now; it pays for its call as ``wait_for_slot`` says.
    """

    def __init__(self, *, queue: Queue, client: VendorClient, asked: bool = False) -> None:
        self._queue = queue
        self._client = client
        self._asked = asked

    def credentials(self, org: Org) -> Credentials | Wait | AuthFailed:
        """Return the headers for a call now, or say what there is to wait for or to mend."""
        match org.auth:
            case "none":
                return Credentials({})
            case "basic":
                return Credentials({"Authorization": org.basic_header})
            case "oauth":
                return self._token(org)

    def refused(self, org: Org, credentials: Credentials) -> bool:
        """Take note that a call was answered 401 or 498; answers whether fresh credentials may help."""
        if org.auth != "oauth":
            return False
        token = tokens.kept(self._queue.client, org.name)
        if token is None or _token_id(token.token) != credentials.token_id:
            return True  # somebody renewed it in the meantime
        tokens.drop(self._queue.client, org.name)
        return self._queue.now_s(org.name) - token.fetched_at > FRESH_S

    def _token(self, org: Org) -> Credentials | Wait | AuthFailed:
        if found := self._fresh(org):
            return found
        with tokens.alone(self._queue.client, org.name, within_s=LOCK_S + org.http_timeout_s) as ours:
            if not ours:
                return Wait(Why.TOKEN, int(self._queue.now_s(org.name) * 1000) + ASK_AGAIN_MS)
            return self._fresh(org) or self._fetch(org)  # somebody may have fetched one just before

    def _fresh(self, org: Org) -> Credentials | None:
        """Return the shared token if it is there and far enough from its end."""
        token = None if self._asked else tokens.kept(self._queue.client, org.name)
        if token and token.expires_at > self._queue.now_s(org.name) + min(MARGIN_S, token.ttl / 4):
            return Credentials({TOKEN_HEADER: token.token}, _token_id(token.token))
        return None

    def _fetch(self, org: Org) -> Credentials | Wait | AuthFailed:
        fence = wait_for_slot(self._queue, org, asked=self._asked)
        if isinstance(fence, Wait):
            return fence
        assert org.oauth_key and org.oauth_secret  # noqa: S101, PT018 - config.py sees to it
        body = {"key": org.oauth_key.get_secret_value(), "secret": org.oauth_secret.get_secret_value()}
        answer = self._client.post(org, TOKEN_PATH, body, fence=fence)
        if isinstance(answer, NoReply) and answer.code == TOO_LATE:
            return Wait(Why.TOO_LATE, int(self._queue.now_s(org.name) * 1000) + ASK_AGAIN_MS)
        found = _read_token(answer, meanings_of(org))
        if isinstance(found, AuthFailed):
            return found
        token, ttl = found
        now = self._queue.now_s(org.name)
        tokens.keep(self._queue.client, org.name, tokens.KeptToken(token, ttl, now, now + ttl))
        return Credentials({TOKEN_HEADER: token}, _token_id(token))


def wait_for_slot(queue: Queue, org: Org, *, asked: bool = False) -> Fence | Wait:
    """Wait for a slot of the limit for a call without jobs, or say what else there is to wait for.

    The call must pass the fence that this answers.

    Nobody sleeps on a slot that is far ahead: only what a person asked for waits a little longer. That is
    called though the org is paused or closed by an outage.
    """
    patience_s = LONGEST_WAIT_S if asked else PATIENCE_S
    slot = queue.reserve_call(org, queue.new_id(), though_closed=asked, patience_s=patience_s)
    return slot if isinstance(slot, Wait) else _wait(queue, org, slot)


def wait_aside(queue: Queue, org: Org, share: float, *, for_s: float = LONGEST_TURN_S) -> Fence | Wait:
    """Wait so long at most for a slot beside the deliveries, or say what else there is to wait for.

    While deliveries wait, such calls have a ``share`` of the limit.
    """
    end_s = queue.clock.monotonic_s() + for_s
    while isinstance(
        slot := queue.reserve_call(org, queue.new_id(), share=share, patience_s=PATIENCE_S), Wait
    ):
        passes = slot.why in (Why.DELIVERIES, Why.RATE)
        pause_s = max(SHORTEST_PAUSE_S, slot.look_at_ms / 1000 - queue.now_s(org.name))
        pause_s = min(LONGEST_PAUSE_S, pause_s)
        if not passes or queue.clock.monotonic_s() + pause_s > end_s:
            return slot
        queue.clock.sleep(pause_s)
    return _wait(queue, org, slot)


def _wait(queue: Queue, org: Org, slot: Slot) -> Fence:
    """Wait for a slot, and answer the fence that it ends with: who passes it late moves the slot."""
    queue.clock.sleep(slot.send_at - queue.clock.steady_s())
    late_s, retime = slack_s(queue.workers.strict(org)), partial(queue.retime, org, slot.call)
    return Fence(slot=slot.earliest, slack_s=late_s, send_by=math.inf, retime=retime)


def _token_id(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:12]


def _read_token(answer: Reply | NoReply, meanings: Meanings) -> tuple[str, float] | AuthFailed:
    """Read the token's answer; its body is never quoted, since it may hold a token."""
    if isinstance(answer, NoReply):
        return AuthFailed(f"no token: {answer.reason}")
    try:
        body = json_in(answer.body)
        data, errors = body.get("data") or {}, body.get("errors")
        token, ttl = data.get("accessToken"), number_in(data.get("ttlSeconds")) or TTL_S
    except AttributeError:
        token, ttl, errors = None, TTL_S, None
    if isinstance(token, str) and TOKEN.fullmatch(token):
        return token, min(max(ttl, 1.0), TTL_MAX_S)
    error = errors[0] if isinstance(errors, list) and errors else errors
    code = text_in(error.get("code")) if isinstance(error, dict) else None
    return _no_token(answer, code, meanings)


def _no_token(answer: Reply, code: str | None, meanings: Meanings) -> AuthFailed:
    """Say what a missing token means, by the table that holds for every call.

    Nobody can be in doubt of a token: whatever isn't certain, or concerns how fast we ask, passes.
    """
    status = answer.status
    if code is None:
        signal, what = meanings.of_status(status), f"HTTP {status}"
    else:
        signal = meanings.of_error(code, status, shaped=True)
        what = f"code {code}" if code.isdecimal() else "an unknown code"  # doc: a number; else it may be ours
    reason = f"the vendor gave no token ({what})"
    passes = code is not None and meanings.passes(code)
    if signal in (Signal.UNAUTHORIZED, Signal.REFUSED) and not passes:
        return AuthFailed(f"{reason}; check OAUTH_KEY and OAUTH_SECRET", Signal.UNAUTHORIZED)
    if signal is Signal.MISCONFIGURED:
        return AuthFailed(f"{reason}; check API_BASE_URL, OAUTH_KEY and OAUTH_SECRET", signal)
    passing = Signal.THROTTLED if signal is Signal.THROTTLED else Signal.UNAVAILABLE
    return AuthFailed(f"{reason} for now", passing, retry_after_s(answer.headers))
