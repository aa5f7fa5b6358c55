"""The HTTP intake (``badges intake``): at the vendor's own path, so that a caller changes its base URL alone.

What becomes of a body is decided in ``intake.py``, who may call in ``callers.py``, what answers look like in
``schema.py``, and how all that is described in ``document.py``. Needs the extra ``intake``.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import AfterValidator, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from worker import tracing
from worker.config import Settings
from worker.domain.actor import Actor, Via
from worker.domain.check import Check
from worker.domain.org import Org
from worker.domain.text import plain
from worker.enqueue import check_run_name
from worker.errors import ConfigError
from worker.operate import othercolumns
from worker.operate.progress import RunProgress
from worker.operate.report import ResultForm, result_lines
from worker.operate.runs import JobReader
from worker.server.cluster import Redis
from worker.server.health import ping
from worker.store.queue import Queue
from worker.vendor.auth import TOKEN_PATH
from worker.web.callers import TOKEN_TTL_S, Anyone, Caller, Callers, CallLimit, shown_key
from worker.web.document import (
    ACCEPTED_HEADERS,
    BADGES_BODY,
    CLIENT_BODY,
    LINES,
    OPEN,
    TAGS,
    DocumentedApp,
    add_page,
    operation_id,
)
from worker.web.intake import BOUND_S, HandedIn, Refusal, check, take_in
from worker.web.outage import Outage
from worker.web.schema import (
    COME_AGAIN,
    HANDLERS,
    MAX_BODY_BYTES,
    STORE_AWAY,
    Accepted,
    Token,
    TokenData,
    failure,
    failures,
    json_response,
)
from worker.web.serving import HEAD_WITHIN_S, AccessLog, in_pages, serve_app

MAX_CLIENT_BYTES = 10_000
BAD_CLIENT = 320001  # the vendor's code
BODY_WITHIN_S = 60
MOST_HELD_BYTES = 8 * MAX_BODY_BYTES  # of one caller: else one could fill the memory for all
DRAIN_S = 30


@dataclass(frozen=True, slots=True)
class Service:
    """What the endpoints work with."""

    queue: Queue
    reports: JobReader
    callers: Callers | Anyone
    limit: CallLimit
    outage: Outage
    held: Counter[str] = field(default_factory=Counter)  # bytes of bodies that aren't answered yet, by caller


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Here = Annotated[Service, Depends(_service)]
Absent = SkipJsonSchema[None]  # a parameter that may be left out, which isn't one that may be null


def _caller(request: Request, here: Here) -> Caller:
    """Find out who calls, and whether they call too often."""
    if here.outage.is_known:
        raise HTTPException(503, STORE_AWAY, COME_AGAIN)
    if not here.callers.are_reached_by(request.headers.get("host", "")):
        raise HTTPException(421, "without keys, this is for this machine alone: call it by a loopback name")
    caller = here.callers.who(shown_key(request.headers))
    if caller is None:
        raise HTTPException(401, "no API key, or a wrong one", {"WWW-Authenticate": "Bearer"})
    request.state.org = caller.org.name
    if wait_s := here.limit.wait_s(caller):
        raise HTTPException(429, f"too many calls; go on in {wait_s} s", {"Retry-After": str(wait_s)})
    return caller


Known = Annotated[Caller, Depends(_caller)]


async def _body(request: Request, here: Here, caller: Known) -> AsyncIterator[bytes]:
    """Read the body, of nobody but a known caller; until it is answered, it counts as held for that one."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" or "content-encoding" in request.headers:
        raise HTTPException(415, "the body must be application/json, not compressed")
    pieces: list[bytes] = []
    try:
        await _read(request, pieces, here.held, caller)
        yield b"".join(pieces)
    finally:
        here.held[caller.id] -= sum(map(len, pieces))


async def _read(request: Request, pieces: list[bytes], held: Counter[str], caller: Caller) -> None:
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for piece in _bounded(request, MAX_BODY_BYTES):
                pieces.append(piece)
                held[caller.id] += len(piece)
                if held[caller.id] > MOST_HELD_BYTES:
                    raise HTTPException(429, "too many large bodies at the same time", COME_AGAIN)
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {BODY_WITHIN_S} s") from None


async def _bounded(request: Request, most: int) -> AsyncIterator[bytes]:
    size, declared = 0, request.headers.get("content-length", "")
    async for piece in request.stream():
        size += len(piece)
        if max(size, int(declared) if declared.isdecimal() else 0) > most:
            raise HTTPException(413, f"the body is larger than {most:,} bytes")
        yield piece


def _new_run(name: str) -> str:
    try:
        check_run_name(name)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return name


NewRun = Annotated[
    str, StringConstraints(pattern="^[A-Za-z0-9][A-Za-z0-9._~-]{0,63}$"), AfterValidator(_new_run)
]


PARAMETERS = ("run", "urgent", "dry_run")


def import_badges(
    request: Request,
    here: Here,
    caller: Known,
    body: Annotated[bytes, Depends(_body)],
    run: Annotated[
        NewRun | Absent,
        Query(description="The run's name, but for last; without one, a name is made."),
    ] = None,
    urgent: Annotated[bool, Query(description="Overtake what waits for this org.")] = False,
    dry_run: Annotated[
        bool, Query(description="Accept nothing: say with 200 what is wrong, and what this would do.")
    ] = False,
    idempotency_key: Annotated[
        Annotated[str, StringConstraints(pattern="^[!-~]{1,255}$")] | Absent,
        Header(
            alias="Idempotency-Key",
            description="The same key with the same body is accepted once; with another it is refused, "
            f"for {BOUND_S // 3600} hours.",
        ),
    ] = None,
) -> Response:
    """Accept badges, each once. What is wrong with an item is said in its row, and never stops the rest."""
    if unknown := request.query_params.keys() - set(PARAMETERS):  # such as dryRun: it would be issued
        there = f"there are {', '.join(PARAMETERS)}"
        return failure(400, f"{plain(min(unknown), 64)}: is no parameter of an import; {there}")
    if dry_run:
        checked = check(here.queue, caller.org, body)
        if isinstance(checked, Refusal):
            return failure(checked.status, checked.reason)
        return json_response(200, asdict(checked))
    with tracing.continued(request.headers.get("traceparent")):
        by = str(Actor(Via.KEY, caller.id))
        taken = take_in(here.queue, caller.org, HandedIn(body, run, urgent, idempotency_key, by))
    if isinstance(taken, Refusal):
        return failure(taken.status, taken.reason)
    counts = taken.counts()
    request.state.run, request.state.counts = taken.run, counts
    answer = {"run": taken.run} | counts | {"rows": taken.rows}
    return json_response(202, answer, {"Location": f"/runs/{taken.run}"})


async def make_token(request: Request, here: Here) -> Response:
    """Give a caller that uses OAuth a token, as the vendor does: its secret is its API key."""
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            asked = json.loads(b"".join([piece async for piece in _bounded(request, MAX_CLIENT_BYTES)]))
    except (ValueError, RecursionError, TimeoutError):
        asked = None
    secret = asked.get("secret") if isinstance(asked, dict) else None
    token = here.callers.token(secret) if isinstance(secret, str) else None
    if token is None:
        return failure(401, "Invalid client key or secret", code=BAD_CLIENT)
    given = Token(data=TokenData(accessToken=token, ttlSeconds=TOKEN_TTL_S))
    return json_response(200, given.model_dump())


RunName = Annotated[str, Path(min_length=1, max_length=64)]


def show_run(request: Request, here: Here, caller: Known, run: RunName) -> Response:
    """Say where a run is: how many of its jobs are in which state."""
    request.state.run = run
    return json_response(200, here.reports.run(run, caller.org.name).as_json())


def run_results(
    request: Request,
    here: Here,
    caller: Known,
    run: RunName,
    form: Annotated[
        ResultForm | Absent,
        Query(alias="format", description="By default what Accept asks for."),
    ] = None,
) -> Response:
    """Give one line a job: what became of it, and why. A connection that breaks off has not given all."""
    request.state.run = run
    here.reports.run(run, caller.org.name)
    if form is None:
        form = "csv" if "text/csv" in request.headers.get("accept", "") else "jsonl"
    columns = othercolumns.of_jobs(here.reports, caller.org.name, run) if form == "csv" else ()
    lines = result_lines(here.reports.results(org=caller.org.name, run=run), form=form, columns=columns)
    media_type = "text/csv" if form == "csv" else "application/jsonl"
    return StreamingResponse(in_pages(lines), media_type=media_type)


def healthz(here: Here) -> Response:
    """Say whether Redis answers."""
    ping(here.queue.client)
    return PlainTextResponse("ok\n")


def create_app(service: Service, orgs: Iterable[Org]) -> FastAPI:
    """Serve the paths that these orgs have at the vendor, and what tells of the runs."""
    app = DocumentedApp(
        title="Badge intake",
        redirect_slashes=False,  # which would name the host that the caller says
        version=version("badge-import-worker"),
        description="Takes badges in place of the vendor, and issues each once, at the vendor's rate.",
        contact={"name": "Who operates this intake"},
        license_info={"name": "Proprietary", "identifier": "LicenseRef-Proprietary"},
        openapi_tags=TAGS,
        servers=[{"url": ".", "description": "Beside this document, whatever path a proxy adds."}],
        docs_url=None,
        redoc_url=None,
        exception_handlers=HANDLERS,
    )
    app.state.service = service
    app.asks_for_keys = not isinstance(service.callers, Anyone)
    app.add_middleware(AccessLog)
    add_page(app)
    for path in sorted({org.api_path for org in orgs}):
        _add_import(app, path)
    _add_others(app)
    return app


def _add_import(app: FastAPI, path: str) -> None:
    """Take badges at a path, by PUT, which is the vendor's, and by POST, which its own sample sends."""
    # One route serves both, so that a 405 names both. Those behind it serve nobody: they are the
    # operations in the document, which need an id each.
    app.add_api_route(path, import_badges, methods=["PUT", "POST"], include_in_schema=False)
    answered: dict[int | str, dict[str, Any]] = {
        200: {"model": Check, "description": "Of a dry run: what was found. Rows are places, from 0."},
        202: {"headers": ACCEPTED_HEADERS},
    }
    for method in ("PUT", "POST"):
        app.add_api_route(
            path,
            import_badges,
            methods=[method],
            operation_id=operation_id(path, method, Org().api_path),
            summary="Import badges" + (", as the vendor's own sample does" if method == "POST" else ""),
            tags=["badges"],
            status_code=202,
            response_model=Accepted,
            response_description="Accepted for good; each item has its row.",
            responses=answered | failures(400, 401, 408, 413, 415, 422, 429, 503),
            openapi_extra={"requestBody": BADGES_BODY},
        )


def _add_others(app: FastAPI) -> None:
    """Serve tokens, what became of runs, and a sign of life."""
    _add_token(app)
    _add_runs(app)
    app.add_api_route(
        "/healthz",
        healthz,
        operation_id="getHealth",
        summary="Say whether Redis answers",
        tags=["health"],
        response_class=PlainTextResponse,
        response_description="It does.",
        responses=failures(400, 503),
        openapi_extra=OPEN,
    )


def _add_token(app: FastAPI) -> None:
    app.add_api_route(
        TOKEN_PATH,
        make_token,
        methods=["POST"],
        operation_id="createToken",
        summary="Create a token",
        tags=["token"],
        response_model=Token,
        response_description="The token.",
        responses=failures(401, 413),
        openapi_extra={"requestBody": CLIENT_BODY} | OPEN,
    )


def _add_runs(app: FastAPI) -> None:
    reading = failures(400, 401, 404, 429, 503)
    # A run that came by Celery may have a name with a slash in it, which a server gives us unquoted.
    app.add_api_route(
        "/runs/{run:path}/results",
        run_results,
        operation_id="getRunResults",
        summary="Read a run's results",
        tags=["runs"],
        response_class=StreamingResponse,
        responses=reading | LINES,
    )
    app.add_api_route(
        "/runs/{run:path}",
        show_run,
        operation_id="getRun",
        summary="Show where a run is",
        tags=["runs"],
        response_model=RunProgress,
        response_description="Its jobs by state.",
        responses=reading,
    )


def serve(
    client: Redis,
    settings: Settings,
    *,
    alone: str | None,
    rate: str,
    host: str,
    port: int,
    on_ready: Callable[[str], None],
    head_within_s: float = HEAD_WITHIN_S,
) -> None:
    """Serve in the foreground until Ctrl-C or SIGTERM, upon which the calls that are going on are finished.

    Args:
        client: of the store, a hurried one: a caller would rather hear soon that it is away.
        settings: whose orgs' keys are asked for.
        alone: ask for no keys: every caller stands for this org.
        rate: how often each caller may call, such as ``600/minute``.
        host: the address to listen at; a proxy before it speaks TLS.
        port: 0 takes a free one.
        on_ready: called with the URL once the port is bound.
        head_within_s: how long a connection may take until the whole head of its next request is there.

    Raises:
        ConfigError: there are no keys, or they don't tell the org.
        OSError: the port is taken.
    """
    orgs = settings.orgs()
    callers = Anyone(settings.org(alone)) if alone else Callers(orgs)
    limit = CallLimit.parse(client, rate)
    queue = Queue(client, replicas=settings.replicas)
    service = Service(queue, JobReader(client=client, orgs=orgs), callers, limit, Outage())
    app = create_app(service, orgs.values())
    serve_app(app, host=host, port=port, drain_s=DRAIN_S, on_ready=on_ready, head_within_s=head_within_s)
