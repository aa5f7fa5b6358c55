"""What stands before every page: whose host it is, who asks, whether a form is our own, and its size.

It wraps the whole application, so that no page can forget it. What a session is, is in ``sessions.py``.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, parse_qsl, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.web.console.sessions import Session, Sessions

COOKIE = "badges_console"  # and the port: two consoles of a machine share its cookies
CSRF_FIELD, CSRF_HEADER = "csrf", "x-csrf-token"
FORM_TYPE = "application/x-www-form-urlencoded"
FORM_BYTES = 256 * 1024
FORM_FIELDS = 2_000  # a file may have many columns
FORM_WITHIN_S, PIECE_WITHIN_S = 20.0, 200.0
PIECE_BYTES = 8 * 1024 * 1024
_OPEN = re.compile(r"/healthz|/favicon\.ico|/static/[a-z0-9.-]+")
_READING = frozenset({"GET", "HEAD"})
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_NO_LINK = (
    "The console is opened by the link that it prints where it was started: each works once. "
    "If yours is used up, the next one is printed there."
)


def policy(nonce: str) -> str:
    """Return the Content-Security-Policy of a page: nothing inline, nothing from elsewhere."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types htmx"
    )


_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # without any, a browser says Origin: null for our own forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

Refuse = Callable[[Scope, int, str], Response]


@dataclass(frozen=True, slots=True)
class Places:
    """The hosts and origins that the console goes by; a proxy's, where one stands before it."""

    hosts: frozenset[str]
    origins: frozenset[str]
    public: str = ""  # the host of a proxy, and the path under which it shows the console
    path: str = ""
    is_secure: bool = False
    cookie: str = COOKIE

    @classmethod
    def of(cls, port: int, public_url: str | None) -> Places:
        """Return those of a port on loopback, and of the URL at which a proxy shows it."""
        hosts = {f"{name}:{port}" for name in _LOOPBACK} | (set(_LOOPBACK) if port == 80 else set())
        origins = {f"http://{host}" for host in hosts}
        public = path = ""
        if public_url:
            parts = urlsplit(public_url)
            hosts.add(public := parts.netloc.lower())
            origins.add(f"{parts.scheme}://{parts.netloc}".lower())
            path = parts.path.rstrip("/")
        secure = (public_url or "").startswith("https:")
        return cls(frozenset(hosts), frozenset(origins), public, path, secure, f"{COOKIE}_{port}")


class Guard:
    """Lets in who has a session, and what such a person meant to send."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        sessions: Sessions,
        places: Callable[[], Places],
        refuse: Refuse,
        on_link_used: Callable[[], None],
    ) -> None:
        self._app, self._sessions, self._places = app, sessions, places
        self._refuse, self._on_link_used = refuse, on_link_used

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or say why not."""
        if scope["type"] != "http":
            return
        places = self._places()
        path = scope["path"]
        if places.path and (path == places.path or path.startswith(f"{places.path}/")):
            scope["path"] = path = path[len(places.path) :] or "/"
        state = scope.setdefault("state", {})
        state["nonce"] = secrets.token_urlsafe(16)
        answer = await self._judge(scope, receive, places)
        await (answer or self._app)(scope, receive, _with_headers(send, path, state["nonce"]))

    async def _judge(self, scope: Scope, receive: Receive, places: Places) -> Response | None:
        """Return why a request isn't served, or what takes its place; ``None`` if it is."""
        headers, state = Headers(scope=scope), scope["state"]
        if stranger := _stranger(headers, places):
            return self._refuse(scope, *stranger)
        if _OPEN.fullmatch(scope["path"]) and scope["method"] in _READING:
            return None
        if scope["path"] == "/" and (token := _token(scope)) is not None:
            return self._enter(scope, token, places)
        session = self._sessions.of(_cookie(headers, places.cookie))
        if session is None:
            return self._refuse(scope, 401, _NO_LINK)
        state["session"] = session
        if scope["method"] in _READING:
            return None
        return await self._judge_act(scope, receive, session, places)

    def _enter(self, scope: Scope, token: str, places: Places) -> Response:
        session = self._sessions.begin(token)
        if session is None:
            return self._refuse(scope, 401, _NO_LINK)
        self._on_link_used()
        answer = RedirectResponse("./", 303)
        is_public = Headers(scope=scope).get("host", "").lower() == places.public
        path = f"{places.path}/" if is_public else "/"
        secure = places.is_secure and is_public
        answer.set_cookie(
            places.cookie, session.id, path=path, httponly=True, samesite="strict", secure=secure
        )
        return answer

    async def _judge_act(
        self, scope: Scope, receive: Receive, session: Session, places: Places
    ) -> Response | None:
        """Look at what would change something: it must come from a page of this session's."""
        headers, state = Headers(scope=scope), scope["state"]
        if headers.get("origin", "").lower() not in places.origins:
            return self._refuse(scope, 403, "This came from another site, so nothing was done.")
        given: str = headers.get(CSRF_HEADER, "")
        if headers.get("content-type", "").partition(";")[0].strip().lower() == FORM_TYPE:
            body = await _body(Request(scope, receive), FORM_BYTES, within_s=FORM_WITHIN_S)
            if body is None:
                return self._refuse(scope, 413, "The form is too large, or didn't arrive in time.")
            try:
                pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FORM_FIELDS)
            except ValueError:
                return self._refuse(scope, 400, "The form can't be read.")
            state["form"] = dict(pairs)
            given = state["form"].pop(CSRF_FIELD, given)
        if not hmac.compare_digest(given.encode("utf-8", "replace"), session.csrf.encode()):
            words = "The form is of an earlier session, so nothing was done: load its page again."
            return self._refuse(scope, 403, words)
        return None


async def read_piece(request: Request) -> bytes | None:
    """Read a piece of an upload; ``None`` if it is too large, or doesn't arrive."""
    return await _body(request, PIECE_BYTES, within_s=PIECE_WITHIN_S)


async def _body(request: Request, most: int, *, within_s: float) -> bytes | None:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        return None
    pieces, size = [], 0
    try:
        async with asyncio.timeout(within_s):
            async for piece in request.stream():
                size += len(piece)
                if size > most:
                    return None
                pieces.append(piece)
    except (TimeoutError, ClientDisconnect):
        return None
    return b"".join(pieces)


def _token(scope: Scope) -> str | None:
    try:
        found = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=FORM_FIELDS)
    except ValueError:
        return None
    return found["token"][0] if "token" in found else None


def _stranger(headers: Mapping[str, str], places: Places) -> tuple[int, str] | None:
    """Say why a request isn't ours: to another name or, as browsers tell, by another site's page."""
    if headers.get("host", "").lower() not in places.hosts:
        return 421, "This host isn't the console's; see CONSOLE_PUBLIC_URL."
    by, how = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode", "")
    if by not in ("same-origin", "none") and how != "navigate":  # a link that somebody follows isn't meant
        return 403, "Another site asked for this, so it isn't shown."
    return None


def _cookie(headers: Mapping[str, str], name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _with_headers(send: Send, path: str, nonce: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers["Content-Security-Policy"] = policy(nonce)
            if not path.startswith("/static/"):
                headers["Cache-Control"] = "no-store"
        await send(message)

    return sending
