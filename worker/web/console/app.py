"""The console's application: which pages and acts there are, and how each becomes an answer.

A page is a function of what was asked for (``Asked``) and returns a ``Page``; an act is one of a form, and
returns where to go on. What stands before all of them is ``guard.py``. Needs the extra ``console``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope

from worker.errors import BadgesError, ConfigError, NotAllowed, NotFound
from worker.server.cluster import UNAVAILABLE
from worker.web.console import (
    about,
    acting,
    checked,
    columns,
    dead,
    doubt,
    exports,
    importing,
    inbulk,
    now,
    plan,
    runs,
    search,
    trail,
    undo,
)
from worker.web.console.asked import Asked
from worker.web.console.guard import Guard, Places
from worker.web.console.live import Live
from worker.web.console.service import Console
from worker.web.console.views import STATIC, Page, html, live_part, static_file

log = structlog.get_logger()

_AWAY = "Redis can't be reached: nothing can be shown or done until it answers"

PageOf = Callable[[Console, Asked], Page]
ActOf = Callable[[Console, Asked], str]

PAGES: Mapping[str, PageOf] = {
    "now": now.page,
    "runs": runs.page,
    "run": runs.one,
    "import": importing.page,
    "staged": importing.staged,
    "dead": dead.page,
    "plan": plan.page,
    "doubt": doubt.page,
    "said": inbulk.said,
    "undo": undo.page,
    "search": search.page,
    "job": search.job,
    "audit": trail.page,
    "settings": about.page,
    "act": acting.page,
}
ACTS: Mapping[str, ActOf] = {
    "pause": now.pause,
    "resume": now.resume,
    "cancel": runs.cancel,
    "replay": plan.replay,
    "discard": plan.discard,
    "takeback": plan.take_back,
    "takeaway": undo.undo,
    "resolve": doubt.resolve,
    "check": inbulk.check,
    "enough": inbulk.enough,
    "conclude": inbulk.conclude,
    "settle": inbulk.settle,
    "columns": columns.say,
    "profile": columns.choose,
    "start": importing.start,
    "begin": runs.start,
    "ask": checked.ask,
    "doctor": about.ask,
    "stop": importing.stop,
}


def create_app(
    here: Console, *, places: Callable[[], Places], on_link_used: Callable[[], None] = lambda: None
) -> Guard:
    """Make the application, with what guards it."""
    app = FastAPI(
        docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False, exception_handlers=_HANDLERS
    )
    app.state.here, app.state.live = here, Live(here, _live_part)
    for name in ("", *PAGES):
        app.add_api_route(f"/{name}", _page, methods=["GET"])
    for name in ACTS:
        app.add_api_route(f"/{name}", _act, methods=["POST"])
    app.add_api_route("/upload", _upload, methods=["POST"])
    app.add_api_route("/piece", _offset, methods=["GET"])
    app.add_api_route("/piece", _piece, methods=["PUT"])
    app.add_api_route("/said", _take, methods=["PUT"])
    app.add_api_route("/report.csv", _report, methods=["GET"])
    app.add_api_route("/live", _live, methods=["GET"])
    app.add_api_route("/signout", _sign_out, methods=["POST"])
    app.add_api_route("/healthz", _healthz, methods=["GET", "HEAD"])
    app.add_api_route("/favicon.ico", _favicon, methods=["GET"])
    app.add_api_route("/static/{name}", _static, methods=["GET"])
    return Guard(app, sessions=here.sessions, places=places, refuse=_refused, on_link_used=on_link_used)


def _here(request: Request) -> Console:
    here: Console = request.app.state.here
    return here


def _page(request: Request) -> Response:
    name = request.url.path.strip("/") or "now"
    return _shown(request, PAGES[name](_here(request), Asked.of(request)))


def _act(request: Request) -> Response:
    name = request.url.path.strip("/")
    return RedirectResponse(ACTS[name](_here(request), Asked.of(request)), 303)


def _shown(request: Request, page: Page) -> Response:
    return HTMLResponse(html(page, _common(request, page)), page.status)


def _common(request: Request, page: Page) -> dict[str, Any]:
    """Return what every page has: who is here, and what stands still."""
    session = getattr(request.state, "session", None)
    here = _here(request)
    return {
        "nonce": request.state.nonce,
        "csrf": session.csrf if session else "",
        "query": request.url.query,
        "flower": (here.settings.console_flower_url or "").rstrip("/"),
        "banners": now.banners(here) if session and page.status < 500 else [],  # which may be what failed
    }


def _live(request: Request) -> Response:
    name = request.query_params.get("of", "")
    if name not in PAGES and name != "banners":
        raise HTTPException(404)
    answer: Response = request.app.state.live.answer(request)
    return answer


def _live_part(request: Request) -> str:
    here, name = _here(request), request.query_params["of"]
    if here.sessions.of(request.state.session.id) is None:
        raise NotFound("the session has ended")
    page = now.banners_page() if name == "banners" else PAGES[name](here, Asked.of(request))
    return live_part(page, _common(request, page))


# -- the rest


def _upload(request: Request) -> Response:
    return importing.begin(_here(request), Asked.of(request))


def _offset(request: Request) -> Response:
    return importing.offset(_here(request), Asked.of(request))


async def _piece(request: Request) -> Response:
    return await importing.piece(_here(request), request)


async def _take(request: Request) -> Response:
    return await inbulk.take(_here(request), request)


def _report(request: Request) -> Response:
    return exports.report(_here(request), request)


def _sign_out(request: Request) -> Response:
    _here(request).sessions.end(request.state.session)
    return RedirectResponse("./", 303)


def _healthz(request: Request) -> Response:
    _here(request).queue.client.ping()
    return PlainTextResponse("ok\n")


def _favicon() -> Response:
    return _static("favicon.svg")


def _static(name: str) -> Response:
    if name not in STATIC:
        raise HTTPException(404)
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(static_file(name), media_type=STATIC[name], headers=headers)


# -- what goes wrong


def _failed(request: Request, status: int, what: str, *, title: str = "") -> Response:
    page = Page(
        "problem.html", title or "That didn't work", "", "", {"what": what, "status": status}, status=status
    )
    if request.headers.get("accept") == "text/plain":
        return PlainTextResponse(what, status)
    if request.url.path.count("/") > 1 or "nonce" not in request.scope.get("state", {}):
        return PlainTextResponse(f"{what}\n", status)
    return _shown(request, page)


def _refused(scope: Scope, status: int, words: str) -> Response:
    """Say why a request is not for this console; nothing of the orgs is shown."""
    request = Request(scope)
    if request.url.path.count("/") > 1 or request.headers.get("accept") == "text/plain":
        return PlainTextResponse(f"{words}\n", status)
    page = Page("refused.html", "badges", "", "", {"what": words, "status": status}, status=status)
    common = {"nonce": scope["state"]["nonce"], "csrf": "", "query": "", "flower": "", "banners": []}
    return HTMLResponse(html(page, common), status)


def _expected(request: Request, error: BadgesError) -> Response:
    statuses: dict[type[BadgesError], int] = {NotFound: 404, NotAllowed: 409, ConfigError: 400}
    found = (status for kind, status in statuses.items() if isinstance(error, kind))
    return _failed(request, next(found, 500), str(error))


def _away(request: Request, error: Exception) -> Response:
    log.warning("console.store_unavailable", reason=str(error))
    if request.url.path == "/healthz":
        return PlainTextResponse("Redis doesn't answer\n", 503)
    return _failed(request, 503, _AWAY, title="Redis is away")


def _http(request: Request, error: HTTPException) -> Response:
    words = "There is no such page." if error.status_code == 404 else str(error.detail)
    return _failed(request, error.status_code, words)


def _broken(request: Request, _: Exception) -> Response:
    return _failed(request, 500, "The console failed; its log says more.")


_HANDLERS: Any = {
    HTTPException: _http,
    BadgesError: _expected,
    Exception: _broken,
    **dict.fromkeys(UNAVAILABLE, _away),
}
