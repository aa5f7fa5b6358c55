"""The intake's OpenAPI document, and the page that shows it; both work without the internet.

Clients are generated from the document: so every form and operation has a name, and linters find nothing to
say. The forms themselves are in ``schema.py``, the page's files are Swagger UI's own, in ``page/``.
"""

from __future__ import annotations

import gzip
from functools import cache
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from worker.domain.badge import BadgeIssue
from worker.web.intake import MAX_ITEMS
from worker.web.schema import TokenRequest

REFERENCE = "#/components/schemas/{model}"
TAGS = [
    {"name": "badges", "description": "Hand badges in."},
    {"name": "runs", "description": "See what became of them."},
    {"name": "token", "description": "For callers that use OAuth with the vendor."},
    {"name": "health", "description": "For probes."},
]
SECURITY = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer", "description": "The API key."},
    "VendorBasic": {
        "type": "http",
        "scheme": "basic",
        "description": "What a caller sends the vendor today, user name and md5 of the password, where the "
        "token made of them is its API key.",
    },
    "VendorToken": {
        "type": "apiKey",
        "in": "header",
        "name": "X-CAP-API-OAUTH-TOKEN",
        "description": "A token from createToken, as a caller that uses OAuth with the vendor sends it.",
    },
}
OPEN: dict[str, Any] = {"security": []}  # of an operation that asks for no key
_TAKEN = (BadgeIssue, TokenRequest)  # read by hand, so that FastAPI doesn't name them

BADGES_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_ITEMS,
                "items": {"$ref": REFERENCE.format(model="BadgeIssue")},
            },
            "example": [{"badgeMetaId": "696f0fd40772ad476ecf74ac", "customerId": 555567088}],
        }
    },
}
CLIENT_BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"schema": {"$ref": REFERENCE.format(model="TokenRequest")}}},
}
LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One line a job.",
        "content": {kind: {"schema": {"type": "string"}} for kind in ("application/jsonl", "text/csv")},
    }
}
ACCEPTED_HEADERS = {"Location": {"description": "The run's path.", "schema": {"type": "string"}}}

_PAGE = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}


class DocumentedApp(FastAPI):
    """An application whose document needs nothing put right by hand."""

    asks_for_keys = True

    def openapi(self) -> dict[str, Any]:
        """Return the document: FastAPI's, with the forms it doesn't know of and how to show a key."""
        if self.openapi_schema is None:
            document = super().openapi()
            components = document["components"]
            components["schemas"] |= {model.__name__: _form(model) for model in _TAKEN}
            if self.asks_for_keys:
                components["securitySchemes"] = SECURITY
            document["security"] = [{name: []} for name in SECURITY] if self.asks_for_keys else []
            document["paths"], document["components"] = _untitled(document["paths"]), _untitled(components)
            self.openapi_schema = document
        return self.openapi_schema


def operation_id(path: str, method: str, usual: str) -> str:
    """Name the operation that takes badges: the vendor's own plainly, others by method and path."""
    words = [word for word in path.replace("_", "/").replace("-", "/").split("/") if word]
    where = "" if path == usual else "At" + "".join(word[0].upper() + word[1:] for word in words)
    return f"importBadges{where}" + ("" if method == "PUT" else f"By{method.capitalize()}")


def add_page(app: FastAPI) -> None:
    """Serve ``/docs``, from this package alone; its links are relative, for a proxy that adds a prefix."""

    def page() -> Response:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=app.title,
            swagger_js_url="docs/swagger-ui-bundle.js",
            swagger_css_url="docs/swagger-ui.css",
            swagger_favicon_url="data:,",
            swagger_ui_parameters={"validatorUrl": "none"},  # which would send the document somewhere
        )

    def part(name: str, request: Request) -> Response:
        if name not in _PAGE:
            raise HTTPException(404)
        packed, headers = _packed(name), {"Vary": "Accept-Encoding", "Cache-Control": "max-age=3600"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=_PAGE[name])
        return Response(gzip.decompress(packed), headers=headers, media_type=_PAGE[name])

    app.add_api_route("/docs", page, include_in_schema=False)
    app.add_api_route("/docs/{name}", part, include_in_schema=False)


@cache
def _packed(name: str) -> bytes:
    return resources.files("worker.web").joinpath("page", f"{name}.gz").read_bytes()


def _form(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema(by_alias=True, ref_template=REFERENCE)


def _untitled(part: Any) -> Any:
    """Leave the titles out that pydantic makes of fields' names: generators make worse names of them."""
    if isinstance(part, list):
        return [_untitled(one) for one in part]
    if not isinstance(part, dict):
        return part
    return {
        name: _untitled(value)
        for name, value in part.items()
        if name != "title" or not isinstance(value, str)
    }
