"""What the page of the HTTP intake says (``/docs``): the forms of bodies and answers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from worker.badge import BadgeIssue
from worker.intake import MAX_ITEMS

MAX_BODY_BYTES = 16 * 2**20


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
        status: {"model": Failure, "description": _REASONS[status]} for status in statuses
    }
    return found | {"default": {"model": Failure, "description": "Any other error."}}


BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_ITEMS,
                "items": BadgeIssue.model_json_schema(by_alias=True),
            },
            "example": [{"badgeMetaId": "696f0fd40772ad476ecf74ac", "customerId": 555567088}],
        }
    },
}
CLIENT: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "key": {"type": "string"},
                    "secret": {"type": "string", "description": "The API key."},
                },
                "required": ["secret"],
            }
        }
    },
}
RESULTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/jsonl": {}, "text/csv": {}}, "description": "One line a job."}
}
