"""The call to the vendor: one HTTP request, one real deadline, and what is certain when it fails.

Whether any byte of the request left decides between "certainly not applied" and "in doubt"; it is
taken from the transport itself, not guessed from the exception. What the answer means is decided in
``response.py``.
"""

from __future__ import annotations

import asyncio
import json
import math
import ssl
import threading
import zlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from operator import attrgetter
from typing import Any, TypeVar

import httpx

from worker import tracing
from worker.domain.job import Job
from worker.domain.org import Org
from worker.domain.outcome import NoReply, Reply
from worker.domain.text import plain
from worker.store.clock import steady_s

T = TypeVar("T")

ANSWER_MAX_BYTES = 16 * 1024 * 1024
# Shorter than any server keeps an idle connection: one that it closes just as we send would be in doubt.
KEEPALIVE_S = 4.0
HEADERS_KEPT = ("retry-after", "date")
TOO_LATE = "too_late"
REASON_BYTES = 200
# Where bytes wait that came behind an answer; no public way leads there.
PARSED = attrgetter("stream._stream._httpcore_stream._stream._connection._h11_state.trailing_data")
BELOW_TLS = attrgetter("_stream.transport_stream._protocol.read_queue")
RECEIVED = attrgetter("_stream._protocol.read_queue")


@dataclass(frozen=True, slots=True)
class Fence:
    """When a request may still leave, by ``steady_s()``.

    Later than ``slack_s`` after its ``slot`` in the rate limit, the slot must be moved first (``retime``
    answers whether it could be); after ``send_by`` nothing may leave, since others may have given the batch
    up. One that was held up between that look and the socket moves its slot once it has left.
    """

    slot: float
    slack_s: float
    send_by: float
    retime: Callable[[], bool]


OPEN_FENCE = Fence(math.inf, 0, math.inf, lambda: True)


class _TooLateError(Exception):
    """The time to send had passed; nothing was sent."""


class _Progress:
    """Watches the transport: did any byte of the request leave? May any leave now?"""

    def __init__(self, fence: Fence) -> None:
        self.sent = False
        self._fence = fence
        self._late_from = fence.slot + fence.slack_s
        self._left_at = 0.0

    async def __call__(self, event: str, _: Mapping[str, Any]) -> None:
        """Take note of a step of the transport, right before or after it."""
        if event.endswith("send_request_headers.started"):
            # The last thing before the socket: looked at any earlier, it would leave time to be suspended in.
            await self._pass_fence()
            self.sent = True
        elif event.endswith("send_request_headers.complete"):
            self._left_at = steady_s()
        elif event.endswith("send_request_body.complete") and self._left_at > self._late_from:
            await asyncio.to_thread(self._fence.retime)

    async def _pass_fence(self) -> None:
        now = steady_s()
        if self._fence.send_by >= now > self._late_from:
            if not await asyncio.to_thread(self._fence.retime):
                raise _TooLateError
            self._late_from = now + self._fence.slack_s
        if steady_s() > self._fence.send_by:
            raise _TooLateError


class VendorClient:
    """Calls the vendor; one per process, made at first use so that no connection crosses a fork.

    All calls share one event loop in a thread of its own: only there can a deadline bound a whole
    call, name resolution and a slowly dripping answer included.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vendor-client", daemon=True)
        self._thread.start()
        self._http = httpx.AsyncClient(
            # The cookies in the vendor's sample are Cloudflare's, not ours to send.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=KEEPALIVE_S),
            follow_redirects=False,
            headers={"Accept-Encoding": "gzip"},
        )

    def put(
        self, org: Org, jobs: Sequence[Job], headers: Mapping[str, str], *, fence: Fence
    ) -> Reply | NoReply:
        """Send a batch; returns what came back, and raises nothing, since the batch must be settled.

        The fence is looked at once the connection stands, right before the first byte; if it is too
        late, nothing is sent, and the code is ``TOO_LATE``.
        """
        body = [job.badge.body(org.epoch_unit) for job in jobs]
        url = f"{org.api_base_url}{org.api_path}"
        with tracing.span(org.api_method, kind="client", url__full=url) as span:
            answer = self._exchange(org, org.api_method, org.api_path, headers, body, fence)
            if isinstance(answer, Reply):
                span.note(http__response__status_code=answer.status)
            else:
                span.note(error__type=answer.code)
                span.fail(answer.code)
        return answer

    def post(self, org: Org, path: str, body: Any) -> Reply | NoReply:
        """Make another JSON call to the org's host, within its HTTP time-out from first to last byte."""
        return self._exchange(org, "POST", path, {}, body)

    def get(self, org: Org, path: str, headers: Mapping[str, str]) -> Reply | NoReply:
        """Read from the org's host, within its HTTP time-out."""
        return self._exchange(org, "GET", path, headers)

    def close(self) -> None:
        """Close the connections and end the thread."""
        if not self._loop.is_closed():
            self._wait_for(self._http.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _wait_for(self, what: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(what, self._loop)
        return future.result()

    def _exchange(  # noqa: PLR0913, PLR0917 - a request
        self,
        org: Org,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Any = None,
        fence: Fence = OPEN_FENCE,
    ) -> Reply | NoReply:
        def build() -> httpx.Request:
            content = None if body is None else json.dumps(body, separators=(",", ":"))
            its = {
                "Accept": "application/json",
                **({} if body is None else {"Content-Type": "application/json"}),
                **headers,
            }
            return self._http.build_request(
                method, f"{org.api_base_url}{path}", content=content, headers=its, timeout=org.http_timeout_s
            )

        return self._wait_for(self._call(build, org.http_timeout_s, fence))

    async def _call(
        self, build: Callable[[], httpx.Request], timeout_s: float, fence: Fence
    ) -> Reply | NoReply:
        progress = _Progress(fence)
        try:
            async with asyncio.timeout(timeout_s):
                request = build()
                request.extensions["trace"] = progress
                return await self._receive(request)
        except _TooLateError:
            return NoReply(sent=False, code=TOO_LATE, reason="the time to send had passed")
        except TimeoutError:
            return NoReply(progress.sent, "timeout", f"no whole answer within {timeout_s:g} s")
        except httpx.LocalProtocolError:
            # Refused by our own side before a byte left; its words quote the header, so they are not shown.
            return NoReply(sent=False, code="bad_header", reason="a credential can't be sent as a header")
        except zlib.error as error:
            return NoReply(sent=True, code="coding", reason=f"the answer can't be unpacked: {error}")
        except Exception as error:  # noqa: BLE001 - a mistyped host alone causes a UnicodeError
            name, words = type(error).__name__, str(error)
            if isinstance(error, httpx.RemoteProtocolError):
                words = words.partition(":")[0]  # the rest quotes what came, which may echo our credentials
            return NoReply(progress.sent, name, plain(f"{name}: {words}" if words else name, REASON_BYTES))

    async def _receive(self, request: httpx.Request) -> Reply | NoReply:
        response = await self._http.send(request, stream=True)
        try:
            body = await _unpacked(response)
        finally:
            if not _is_spent(response):
                await response.extensions["network_stream"].aclose()
            await response.aclose()
        if len(body) > ANSWER_MAX_BYTES:
            reason = f"the answer is larger than {ANSWER_MAX_BYTES} bytes"
            return NoReply(sent=True, code="too_long", reason=reason)
        kept = {name: response.headers[name] for name in HEADERS_KEPT if name in response.headers}
        return Reply(response.status_code, body, kept)


async def _unpacked(response: httpx.Response) -> bytes:
    """Read the body, and no more of it than a byte too many; its stream, since a response's methods close it.

    httpx itself would unpack each piece to its full size, as often as the answer says it is packed.
    """
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity", "gzip"):
        raise zlib.error(f"it is packed as {plain(coding, 40)}; only gzip was asked for")
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16) if coding == "gzip" else None
    body, piece = bytearray(), b""
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - of an asynchronous client
    async for piece in response.stream:
        body += unpacker.decompress(piece, ANSWER_MAX_BYTES + 1 - len(body)) if unpacker else piece
        if len(body) > ANSWER_MAX_BYTES:
            break
        if unpacker and unpacker.unused_data:
            raise zlib.error("more follows its end")
    else:
        if unpacker and piece and not unpacker.eof:
            raise zlib.error("its end is missing")
    return bytes(body)


def _is_spent(response: httpx.Response) -> bool:
    """Say whether nothing came behind the answer, which the connection's next call would take for its own.

    Where that can't be seen, since the libraries' inner names have changed, the answer is no. What comes
    later stays in the socket: httpx uses no idle connection that has something to read.
    """
    wire = response.extensions["network_stream"]
    try:
        tls = wire.get_extra_info("ssl_object")
        if PARSED(response)[0] or (BELOW_TLS if tls else RECEIVED)(wire):
            return False
        if tls:
            tls.read(1)
    except ssl.SSLWantReadError:
        return True
    except (AttributeError, OSError):
        return False
    return not tls
