"""The call to the vendor: one HTTP request, one real deadline, and what is certain when it fails.

Whether any byte of the request left decides between "certainly not applied" and "in doubt"; the wire itself
tells (``network.py``), it is not guessed from the exception. What the answer means is decided in
``verdict.py``.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from typing import Any

import httpx

from worker import tracing
from worker.domain.dates import EpochUnit
from worker.domain.job import Job
from worker.domain.org import Org
from worker.domain.outcome import NoReply, Reply
from worker.domain.text import plain
from worker.store.clock import Clock, steady_s
from worker.vendor.addresses import Resolver
from worker.vendor.network import Call, DeadlineError, NotSentError
from worker.vendor.spacing import Place
from worker.vendor.transport import Transport
from worker.vendor.unpacking import ANSWER_MAX_BYTES, TooLongError, unpacked

HEADERS_KEPT = ("retry-after", "date", "server")
OWN_HEADERS = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "badge-import-worker"}
TOO_LATE = "too_late"
MOST_MOVES = 3  # of a slot, right before the first byte
REASON_BYTES = 200


@dataclass(frozen=True, slots=True)
class Fence:
    """When a request may leave, by ``steady_s()``.

    Not before ``send_at``: the connection is made in the meantime; nor, where it must ``line_up``, too close
    behind the one before it. Later than ``slack_s`` after its ``slot`` in the rate limit, the slot must be
    moved first (``retime``, to so many seconds from now, answers whether it could be); after ``send_by``
    nothing may leave, since others may have given the batch up. One that was held up between that look and
    the socket moves its slot once it has left.
    """

    slot: float
    slack_s: float
    send_by: float
    retime: Callable[[float], bool]
    send_at: float = -math.inf
    line_up: Callable[[float], Place] | None = None


class TooLateError(Exception):
    """The time to send had passed; nothing was sent."""


class Passage:
    """One request's way past its fence."""

    def __init__(self, fence: Fence, clock: Clock | None = None) -> None:
        self._fence, self._clock = fence, clock or Clock()
        self._late_from = fence.slot + fence.slack_s
        self._left_at = -math.inf
        self._place: Place | None = None

    def wait(self) -> None:
        """Wait until the request may leave, or raise: one that is to leave late moves its slot before."""
        self._clock.sleep(self._fence.send_at - self._clock.steady_s())
        if not self._fence.line_up:
            return
        now = self._clock.steady_s()
        self._place = self._fence.line_up(now)
        if (at := self._place.may_leave_at(now)) > max(now, self._late_from):
            self._move_slot(at, now)
        while at > now:
            self._clock.sleep(at - now)
            now = self._clock.steady_s()
            at = self._place.may_leave_at(now)

    def enter(self) -> None:
        """Let the request leave, or raise. Looked at any earlier, it would leave time to be suspended in.

        One that is held up while its slot is moved moves it again, a bounded number of times: a server that
        is slow each time may hold up, but not for ever.
        """
        for _ in range(MOST_MOVES):
            if not self._fence.send_by >= (now := self._clock.steady_s()) > self._late_from:
                break
            self._move_slot(now, now)
        if self._clock.steady_s() > self._fence.send_by:
            raise TooLateError

    def has_left(self) -> None:
        """Note when it left."""
        self._left_at = self._clock.steady_s()
        if self._place:
            self._place.left(self._left_at)

    def is_over(self) -> None:
        """Move the slot of a request that was held up between that look and the socket."""
        if self._left_at > self._late_from:
            self._fence.retime(0)

    def _move_slot(self, at: float, now: float) -> None:
        if not self._fence.retime(at - now):
            raise TooLateError
        self._late_from = at + self._fence.slack_s


class VendorClient:
    """Calls the vendor; one per process, for any number of threads, each of which makes its own calls.

    Raises:
        ConfigError: the environment names a proxy or certificates that can't be used.
    """

    def __init__(self, *, resolver: Resolver | None = None) -> None:
        self._transport = Transport(resolver=resolver)

    def put(
        self, org: Org, jobs: Sequence[Job], headers: Mapping[str, str], *, fence: Fence
    ) -> Reply | NoReply:
        """Send a batch; returns what came back, and raises nothing, since the batch must be settled.

        The time-out begins when the request may leave. The fence is looked at once the connection stands,
        right before the first byte; if it is too late, nothing is sent, and the code is ``TOO_LATE``.
        """
        body = body_of(jobs, org.epoch_unit)
        url = f"{org.api_base_url}{org.api_path}"
        with tracing.span(org.api_method, kind="client", url__full=url) as span:
            answer = self._exchange(org, org.api_method, org.api_path, headers, body, fence=fence)
            if isinstance(answer, Reply):
                span.note(http__response__status_code=answer.status)
            else:
                span.note(error__type=answer.code)
                span.fail(answer.code)
        return answer

    def post(
        self, org: Org, path: str, body: Any, headers: Mapping[str, str] | None = None, *, fence: Fence
    ) -> Reply | NoReply:
        """Make another JSON call to the org's host, within its HTTP time-out from first to last byte."""
        text = json.dumps(body, separators=(",", ":"))
        return self._exchange(org, "POST", path, headers or {}, text, fence=fence)

    def get(self, org: Org, path: str, headers: Mapping[str, str], *, fence: Fence) -> Reply | NoReply:
        """Read from the org's host, within its HTTP time-out."""
        return self._exchange(org, "GET", path, headers, fence=fence)

    def close(self) -> None:
        """Close what is open; no call may be running."""
        self._transport.close()

    def _exchange(  # noqa: PLR0913 - a request
        self,
        org: Org,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: str | None = None,
        *,
        fence: Fence,
    ) -> Reply | NoReply:
        timeout_s, passage = org.http_timeout_s, Passage(fence)
        call = Call(time.monotonic() + max(0.0, fence.send_at - steady_s()) + timeout_s, passage)
        try:
            with closing(call):
                return self._receive(_request(org, method, path, headers, body), call, org.request_id_header)
        except Exception as error:  # noqa: BLE001 - a mistyped host alone causes a UnicodeError
            return _failure(error, call, timeout_s)

    def _receive(self, request: httpx.Request, call: Call, also: str) -> Reply:
        request.extensions["call"] = call
        response = self._transport.handle_request(request)
        assert isinstance(response.stream, httpx.SyncByteStream)  # noqa: S101 - our own
        body = unpacked(response.stream, response.headers.get("content-encoding", ""))
        return Reply(response.status_code, body, _kept(response.headers, also.lower()))


def body_of(jobs: Sequence[Job], unit: EpochUnit) -> str:
    """Write the body of a batch's request."""
    return f"[{','.join([job.badge.written(unit) for job in jobs])}]"


def _request(org: Org, method: str, path: str, headers: Mapping[str, str], body: str | None) -> httpx.Request:
    its = OWN_HEADERS | ({} if body is None else {"Content-Type": "application/json"}) | dict(headers)
    return httpx.Request(method, _url(f"{org.api_base_url}{path}"), content=body, headers=its)


@lru_cache(maxsize=256)  # an org's are few, and each call asks
def _url(text: str) -> httpx.URL:
    return httpx.URL(text)


def _kept(headers: Mapping[str, str], also: str) -> dict[str, str]:
    """Keep what decides something; where an answer has no date, a wait is counted by our own clock."""
    kept = {name: headers[name] for name in (*HEADERS_KEPT, also) if name in headers}
    return kept if "retry-after" not in kept else {"date": formatdate(usegmt=True)} | kept


def _failure(error: Exception, call: Call, timeout_s: float) -> NoReply:
    """Say what failed, in a line; what left before it is the wire's to say."""
    code = type(error).__name__
    match error:
        case TooLateError():
            code, reason = TOO_LATE, "the time to send had passed"
        case DeadlineError():
            code, reason = "timeout", f"no whole answer within {timeout_s:g} s: it was {call.stage}"
        case TooLongError():
            code, reason = "too_long", f"the answer is larger than {ANSWER_MAX_BYTES} bytes"
        case zlib.error():
            code, reason = "coding", f"the answer can't be unpacked: {error}"
        case NotSentError():
            code, reason = "ConnectError", f"nothing was sent: {error}"
        case httpx.LocalProtocolError():
            # Refused by our own side before a byte left; its words quote the header, so they are not shown.
            code, reason = "bad_header", "a credential can't be sent as a header"
        case httpx.RemoteProtocolError():
            # The rest quotes what came, which may echo our credentials.
            reason = f"{code}: {str(error).partition(':')[0]}"
        case _:
            reason = f"{code}: {error}" if str(error) else code
    return NoReply(call.left, code, plain(reason, REASON_BYTES))
