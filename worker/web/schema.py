"""What the HTTP intake answers and refuses: the forms of its answers, and the words of a refusal.

The document that describes them is in ``document.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from worker.domain.faults import words_of
from worker.domain.text import counted
from worker.errors import NoRoom, NotDurable, NotFound, StoreError
from worker.web.intake import MAX_ITEMS

log = structlog.get_logger()

MAX_BODY_BYTES = 16 * 2**20
COME_AGAIN = {"Retry-After": "5"}
STORE_AWAY = "the store can't be reached; handing in the same again is safe: each badge is accepted once"


class ItemRow(BaseModel):
    """What became of one item."""

    row: int = Field(description="Its place in the array, from 0.")
    status: Literal["queued", "duplicate", "duplicate_of_dead", "conflict", "invalid"] = Field(
        description="queued: it will be issued. duplicate: it was accepted before, and is issued once. "
        "duplicate_of_dead: likewise, but it waits for a person. conflict: its job_id was used for another "
        "badge. invalid: it is no badge; field and reason say why."
    )
    job_id: str
    field: str | None = None
    reason: str | None = None
    warnings: list[str] | None = Field(
        default=None, description="What is odd about it, if anything; it is taken all the same."
    )


class Accepted(BaseModel):
    """What became of a body: durable, and each badge once."""

    run: str = Field(description="Ask for /runs/{run} and /runs/{run}/results.")
    accepted: int
    duplicates: int
    invalid: int
    rows: list[ItemRow]


class TokenData(BaseModel):
    """A token, to be shown in the header X-CAP-API-OAUTH-TOKEN."""

    accessToken: str  # noqa: N815 - the vendor's name
    ttlSeconds: int  # noqa: N815 - likewise


class TokenRequest(BaseModel):
    """What asks for a token, as the vendor wants it; the secret is the API key."""

    key: str = Field(default="", description="Anything: the secret alone tells who asks.")
    secret: str = Field(description="The API key.")


class Token(BaseModel):
    """An answer of the vendor's own form."""

    data: TokenData
    errors: None = None
    warnings: None = None


class Error(BaseModel):
    """One error, as the vendor writes it."""

    code: int
    message: str
    reference: str | None = None


class Failure(BaseModel):
    """A request that was refused as a whole, in the vendor's shape."""

    data: None = None
    errors: list[Error]
    warnings: None = None


_PLACES = {"query": "the parameter", "path": "in the path", "header": "the header"}
# What a parameter may be, in words; the pattern itself is in the document.
_PATTERNS = {
    "run": "must be 1 to 64 letters, digits or . _ ~ -, the first of them a letter or digit",
    "Idempotency-Key": "must be 1 to 255 printable characters without spaces",
}
_RETRY_AFTER: dict[str, Any] = {
    "Retry-After": {
        "description": "After how many seconds to come again.",
        "schema": {"type": "integer", "minimum": 0},
    }
}
_REASONS = {
    400: "The request, or its body as a whole, can't be read.",
    401: "No API key, or a wrong one.",
    404: "This org has no such run.",
    408: "The body took too long to arrive.",
    413: f"More than {MAX_ITEMS:,} items, or {MAX_BODY_BYTES // 2**20} MiB.",
    415: "The body is not application/json.",
    422: "The Idempotency-Key was used for another body.",
    429: "Too many calls, or too many jobs that wait already; see Retry-After.",
    503: "Redis can't be reached; see Retry-After. Handing in the same again is safe.",
}


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return how these statuses are answered, as FastAPI documents it."""
    found: dict[int | str, dict[str, Any]] = {
        status: {"model": Failure, "description": _REASONS[status]}
        | ({"headers": _RETRY_AFTER} if status in (429, 503) else {})
        for status in statuses
    }
    return found | {"default": {"model": Failure, "description": "Any other error."}}


def json_response(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON."""
    # Plain json.dumps, which escapes: half a surrogate pair in a name doesn't break the answer.
    return Response(json.dumps(body), status, headers, "application/json")


def failure(
    status: int, reason: str, headers: Mapping[str, str] | None = None, *, code: int | None = None
) -> Response:
    """Refuse a request as a whole; the vendor's code is the status unless it has a word of its own."""
    refused = Failure(errors=[Error(code=code or status, message=reason)])
    return json_response(status, refused.model_dump(), headers)


async def _refused(_: Request, error: HTTPException) -> Response:
    allowed = (error.headers or {}).get("Allow")
    words = {
        "Not Found": "there is nothing at this path; /docs shows what there is",
        "Method Not Allowed": f"this path takes {allowed} alone" if allowed else "not by this method",
    }
    return failure(error.status_code, words.get(str(error.detail), str(error.detail)), error.headers)


async def _bad_parameter(_: Request, error: RequestValidationError) -> Response:
    faults = (_fault(one) for one in error.errors() if one["type"] != "none_required")  # it may be left out
    return failure(400, "; ".join(faults))


def _fault(problem: Mapping[str, Any]) -> str:
    where, name, *_ = map(str, (*problem["loc"], ""))  # what follows is pydantic's own
    words = _PATTERNS.get(name, "") if problem["type"].startswith("string") else ""
    return f"{_PLACES.get(where, where)} {name}: {words or words_of(problem)}"


async def _not_found(_: Request, error: NotFound) -> Response:
    return failure(404, str(error).partition(";")[0])


async def _no_room(_: Request, error: NoRoom) -> Response:
    log.warning("intake.no_room", reason=error.reason)
    so_far = f"{counted(error.accepted, 'item')} accepted before that; " if error.accepted else ""
    reason = f"no room for more jobs at present; {so_far}handing in the same again later is safe"
    return failure(429, reason, COME_AGAIN)


async def _store_away(request: Request, error: Exception) -> Response:
    if not isinstance(error, NotDurable):
        request.app.state.service.outage.note()
    # Where Redis is is nobody's business but our own log's.
    log.warning("intake.store_unavailable", reason=str(error))
    return failure(503, STORE_AWAY, COME_AGAIN)


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
    ClientDisconnect: _gone,
    Exception: _broken,
}
