"""What the HTTP intake answers when it refuses or fails: an error in the vendor's shape, with what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from worker.errors import NoRoom, NotFound, StoreError

log = structlog.get_logger()

RETRY_AFTER_S = 5


def json_response(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON."""
    # Plain json.dumps, which escapes: half a surrogate pair in a name doesn't break the answer.
    return Response(json.dumps(body), status, headers, "application/json")


def failure(
    status: int, reason: str, headers: Mapping[str, str] | None = None, *, code: int | None = None
) -> Response:
    """Refuse a request as a whole; the vendor's code is the status unless it has a word of its own."""
    error = {"code": code or status, "message": reason, "reference": None}
    return json_response(status, {"data": None, "errors": [error], "warnings": None}, headers)


async def _refused(_: Request, error: HTTPException) -> Response:
    return failure(error.status_code, str(error.detail), error.headers)


async def _bad_parameter(_: Request, error: RequestValidationError) -> Response:
    reasons = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
    return failure(400, "; ".join(reasons))


async def _not_found(_: Request, error: NotFound) -> Response:
    return failure(404, str(error).partition(";")[0])


async def _no_room(_: Request, error: NoRoom) -> Response:
    log.warning("intake.no_room", reason=error.reason)
    so_far = f"{error.accepted:,} items were accepted before that; " if error.accepted else ""
    reason = f"no room for more jobs at present; {so_far}handing in the same again later is safe"
    return failure(429, reason, {"Retry-After": str(RETRY_AFTER_S)})


async def _store_away(_: Request, error: Exception) -> Response:
    # Where Redis is is nobody's business but our own log's.
    log.warning("intake.store_unavailable", reason=str(error))
    reason = "the store can't be reached; handing in the same again is safe: each badge is accepted once"
    return failure(503, reason, {"Retry-After": str(RETRY_AFTER_S)})


async def _gone(_: Request, _error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # nobody is there to read it


async def _broken(_: Request, _error: Exception) -> Response:
    return failure(500, "the intake failed; handing in the same again is safe")


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    HTTPException: _refused,
    RequestValidationError: _bad_parameter,
    NotFound: _not_found,
    NoRoom: _no_room,
    StoreError: _store_away,
    RedisError: _store_away,
    ClientDisconnect: _gone,
    Exception: _broken,
}
