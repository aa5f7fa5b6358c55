"""The vendor's API as a local server, for `badges sandbox`, `badges demo` and the tests.

Here is the HTTP: paths, headers, JSON, and a server in a thread. What the vendor does with a call is in
`vendor.py`. `/_sandbox/` is the sandbox's own door, no part of the vendor and open to all who reach it:

    GET    /_sandbox/ledger     what arrived, what was answered, what was issued
    POST   /_sandbox/settings   the `SandboxSettings` to change, as an object
    POST   /_sandbox/faults     a `Fault` or an array of them: {"fault": "status", "status": 503, "times": 2}
    DELETE /_sandbox/faults     forget them
"""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Self

import uvicorn
from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from worker.domain.faults import words_of
from worker.sandbox.issued import Answer, Endpoint, Exchange, Fault, SandboxSettings
from worker.sandbox.vendor import Vendor

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 10
STOP_TIMEOUT_S = 1
KEEP_ALIVE_S = 75  # above any linger: an idle connection closed under a client looks like a lost call

_FAULTS = TypeAdapter(list[Fault])
_SETTINGS = TypeAdapter(SandboxSettings)

Handler = Callable[[Request], Awaitable[Response]]
Behaviour = Callable[[Request, Exchange, object], Answer]


def create_app(vendor: Vendor) -> Starlette:
    """Serve a vendor's endpoints, and the sandbox's own beside them."""

    def import_badges(_request: Request, exchange: Exchange, body: object) -> Answer:
        return vendor.import_badges(exchange, body)

    def generate_token(_request: Request, _exchange: Exchange, body: object) -> Answer:
        return vendor.generate_token(body)

    def read_badge(request: Request, _exchange: Exchange, _body: object) -> Answer:
        statistics = request.query_params.get("includeStatistics") == "true"
        return vendor.read_badge(**request.path_params, statistics=statistics)

    def read_customer(request: Request, _exchange: Exchange, _body: object) -> Answer:
        return vendor.read_customer(
            **request.path_params, badge_type=request.query_params.get("badgeType", "")
        )

    def revoke(_request: Request, exchange: Exchange, body: object) -> Answer:
        return vendor.revoke(exchange, body)

    def route(path: str, method: str, endpoint: Endpoint, behaviour: Behaviour) -> Route:
        return Route(path, _endpoint(vendor, endpoint, behaviour), methods=[method])

    badges = "/api_gateway/v1/badges"
    return Starlette(
        routes=[
            route(f"{badges}/import/customerBadges", "PUT", "import", import_badges),
            route("/v3/oauth/token/generate", "POST", "token", generate_token),
            route(
                f"{badges}/management/{{customer_id:int}}/badge/{{badge_meta_id}}", "GET", "read", read_badge
            ),
            route(f"{badges}/customer/{{customer_id:int}}", "GET", "read", read_customer),
            route(f"{badges}/customer/revokeEarn", "POST", "revoke", revoke),
            *_own_routes(vendor),
        ],
        exception_handlers={HTTPException: _not_served(vendor)},
    )


class SandboxServer:
    """A vendor on loopback, in a thread of this process, while the `with` block lasts.

    The port is bound when the object is made: from then on `url` is right, and connections wait.
    """

    def __init__(self, *, settings: SandboxSettings | None = None, port: int = 0) -> None:
        self.vendor = Vendor(settings=settings)
        self._socket = _listen(port)
        self.url = f"http://{LOOPBACK}:{self._socket.getsockname()[1]}"
        self._server = _Server(_config(self.vendor))
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="sandbox", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._server.ready.wait(START_TIMEOUT_S):
            self.stop()
            raise RuntimeError("the sandbox did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server and wait for it; answers still delayed after a second are cut off."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()


class _Server(uvicorn.Server):
    """Says when it accepts connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def _config(vendor: Vendor) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(vendor),
        http="h11",  # not "auto", nor is the loop: the vendor must not change with what is installed
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
    )


def _listen(port: int) -> socket.socket:
    listener = socket.create_server((LOOPBACK, port))
    # asyncio sets this on sockets that name their protocol, which these don't: each answer would take 40 ms
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _endpoint(vendor: Vendor, endpoint: Endpoint, behaviour: Behaviour) -> Handler:
    """Make the way of every call: noted, throttled or carried out, answered when its delay is over."""

    async def handle(request: Request) -> Response:
        exchange, refusal = vendor.arrive(endpoint)
        try:
            body = _read_json(await request.body())
        except ClientDisconnect:
            return Response(status_code=400)  # to nobody; the ledger keeps an arrival without an answer
        if endpoint == "import":
            exchange.items = len(body) if isinstance(body, list) else None
            refusal = refusal or _unsupported(request)
        answer = refusal or vendor.respond(exchange, request.headers, lambda e: behaviour(request, e, body))
        return await _send(exchange, answer)

    return handle


def _not_served(vendor: Vendor) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Answer 404 and 405 (doc: the import is a PUT), which cost a request like any other."""

    async def handle(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        answer = Answer(error.status_code, error.detail, error.headers or {})
        if request.url.path.startswith("/_sandbox/"):
            return _response(answer)
        exchange, refusal = vendor.arrive("other")
        return await _send(exchange, refusal or answer)

    return handle


def _unsupported(request: Request) -> Answer | None:
    """Doc: `Content-Type: application/json`."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return None if media_type == "application/json" else Answer(415, "Unsupported Media Type")


async def _send(exchange: Exchange, answer: Answer) -> Response:
    exchange.status = answer.status
    if answer.delay_s:
        await asyncio.sleep(answer.delay_s)
    exchange.answered_s = time.monotonic()
    return _response(answer)


def _response(answer: Answer) -> Response:
    if not isinstance(answer.body, str):
        # Plain json.dumps, which escapes: an id with half a surrogate pair goes back as it came.
        return Response(json.dumps(answer.body), answer.status, answer.headers, "application/json")
    has_type = any(name.lower() == "content-type" for name in answer.headers)
    return Response(answer.body, answer.status, answer.headers, None if has_type else "text/plain")


def _read_json(body: bytes) -> object:
    """Read a body strictly (NaN is no JSON); what can't be read comes back as its error."""
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as unreadable:
        return unreadable


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _own_routes(vendor: Vendor) -> list[Route]:
    async def ledger(_request: Request) -> Response:
        return JSONResponse(_ledger_json(vendor))

    async def settings(request: Request) -> Response:
        changes = _read_json(await request.body())
        if not isinstance(changes, dict):
            return _invalid(["not a JSON object"])
        try:
            vendor.configure(_SETTINGS.validate_python(asdict(vendor.settings) | changes))
        except ValidationError as invalid:
            return _invalid(_reasons(invalid))
        return Response(status_code=204)

    async def add_faults(request: Request) -> Response:
        body = _read_json(await request.body())
        try:
            faults = _FAULTS.validate_python(body if isinstance(body, list) else [body])
        except ValidationError as invalid:
            return _invalid(_reasons(invalid))
        for fault in faults:
            vendor.add_fault(fault)
        return Response(status_code=204)

    async def clear_faults(_request: Request) -> Response:
        vendor.clear_faults()
        return Response(status_code=204)

    return [
        Route("/_sandbox/ledger", ledger, methods=["GET"]),
        Route("/_sandbox/settings", settings, methods=["POST"]),
        Route("/_sandbox/faults", add_faults, methods=["POST"]),
        Route("/_sandbox/faults", clear_faults, methods=["DELETE"]),
    ]


def _ledger_json(vendor: Vendor) -> dict[str, Any]:
    ledger = vendor.ledger()
    return {
        "requests": len(ledger.exchanges),
        "items_issued": len(ledger.issues),
        "items_revoked": len(ledger.revoked),
        "issued_more_than_once": [
            {"badgeMetaId": badge, "customerId": customer, "count": count}
            for (badge, customer), count in ledger.issued_more_than_once.items()
        ],
        "batch_sizes": ledger.batch_sizes,
        "statuses": {str(status): count for status, count in ledger.statuses.items()},
        "exchanges": [asdict(exchange) for exchange in ledger.exchanges],
    }


def _invalid(reasons: list[str]) -> Response:
    return JSONResponse({"errors": reasons}, 422)


def _reasons(invalid: ValidationError) -> list[str]:
    """Say what is wrong and where, without the values: they may be credentials."""
    return [f"{'.'.join(map(str, error['loc']))}: {words_of(error)}" for error in invalid.errors()]
