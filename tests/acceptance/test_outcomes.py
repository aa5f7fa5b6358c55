"""What came back, row by row of the design's table: each from a vendor that really does it, to a real worker.

One worker serves all cases, several at once; each is an org of its own, with its own way to the same vendor.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis
from faultproxy import Behaviour, FaultProxy, Forward, answer
from support import BADGE, OTHER_BADGE, badges_json, environment, process, some, wait_for, worker_command

from worker.badge_queue import BadgeQueue
from worker.config import Settings
from worker.operate.runs import JobReader
from worker.operate.survey import Survey
from worker.sandbox.issued import Fault, SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store.queue import Queue

MISSING = "000000000000000000000bad"
RUN = "run"
ROWS = 6
BATCH = 4

# The calls of a case whose first one is struck, and what the gate makes of it.
ONE_BY_ONE = [4, 1, 1]  # probing: one batch of one job, until a success
HALVED = [4, 2, 2, 2]
AGAIN = [4, 4, 2]
WHOLE = [4, 2]

Error = dict[str, Any]


def failure(code: int | str, message: str = "as the vendor says it") -> list[Error]:
    """Refuse a whole request as the vendor does: one row without data."""
    return [{"data": None, "errors": [{"code": code, "message": message}], "warnings": None}]


def says(status: int, body: object = b"", *, applied: bool = False, **headers: str) -> Behaviour:
    """Answer this, before or after the vendor carried the call out."""

    async def behave(request: bytes, forward: Forward) -> bytes:
        if applied:
            await forward(request)
        return answer(status, body, **headers)

    return behave


def spoils(change: Callable[[list[Any]], object], *, status: int = 200) -> Behaviour:
    """Change the rows of the vendor's answer to a call that was carried out."""

    async def behave(request: bytes, forward: Forward) -> bytes:
        rows = json.loads((await forward(request)).partition(b"\r\n\r\n")[2])
        return answer(status, change(rows))

    return behave


def compresses(size: int = 0) -> Behaviour:
    """Answer gzip: the vendor's own rows, or that many blanks."""

    async def behave(request: bytes, forward: Forward) -> bytes:
        body = (await forward(request)).partition(b"\r\n\r\n")[2]
        return answer(200, gzip.compress(b" " * size if size else body), Content_Encoding="gzip")

    return behave


def refuses(culprits: int, *, status: int = 400) -> Behaviour:
    """Refuse every request with one of a case's first items in it, as a whole, and pass the others on."""

    async def behave(request: bytes, forward: Forward) -> bytes:
        items = json.loads(request.partition(b"\r\n\r\n")[2])
        if any(item["customerId"] % 1000 < culprits for item in items):
            return answer(status, failure(812, "customerId is wrong"))
        return await forward(request)

    return behave


def error_row(row: dict[str, Any], errors: object) -> dict[str, Any]:
    """Turn a row into an error's."""
    return row | {"data": row["data"] | {"earnedBadgeId": None}, "errors": errors}


@dataclass(frozen=True)
class Case:
    """One thing that comes back, and what must become of six jobs in batches of four.

    ``ends`` counts the jobs by how they end. ``sizes`` are the calls that this takes. ``lost`` were issued,
    and nobody can know it. ``paused`` is why the org pauses (then it is resumed); ``why`` why it closes
    by itself, and ``closed_s`` for how long at least.
    """

    name: str
    meets: Sequence[str | Behaviour]
    ends: Mapping[str, int] = field(default_factory=lambda: {"issued": ROWS})
    sizes: Sequence[int] | None = None
    lost: int = 0
    paused: str = ""
    why: str | None = None
    closed_s: float = 0
    org: Mapping[str, Any] = field(default_factory=dict)
    always: bool = False


def in_doubt(
    name: str, meets: str | Behaviour, code: str = "network", *, lost: int = BATCH, **org: Any
) -> Case:
    """Say what happens to all that isn't certain: dead of that kind, then one job until a success."""
    return Case(
        name,
        [meets],
        {f"in_doubt {code}": BATCH, "issued": ROWS - BATCH},
        ONE_BY_ONE,
        lost,
        why="answer in doubt",
        org=org,
    )


def refused(name: str, meets: Behaviour) -> Case:
    """Say what happens to a request that was refused: sent again in halves."""
    return Case(name, [meets], sizes=HALVED)


def paused(name: str, meets: Behaviour, why: str = "config") -> Case:
    """Say what happens when everything is refused: the org waits for somebody."""
    return Case(name, [meets], {"queued": ROWS}, AGAIN, paused=why)


def closed(name: str, meets: Behaviour, why: str, seconds: float = 1) -> Case:
    """Say what happens when nothing was applied and time will help: put back, and the gate closes."""
    return Case(name, [meets], sizes=AGAIN, why=why, closed_s=seconds)


def item_errors(name: str, shape: Callable[[Error], object]) -> Case:
    """Say what happens to an item that the vendor refuses, however it writes its errors."""
    wrong = shape({"code": 815, "message": "badge not live", "reference": None})

    def change(rows: list[Any]) -> object:
        others = [row | {"errors": [] if isinstance(wrong, list) else {}} for row in rows[1:]]
        return [error_row(rows[0], wrong), *others]

    # The vendor didn't issue it; the sandbox did, before the answer was changed.
    return Case(name, [spoils(change)], {"rejected 815": 1, "issued": 5}, WHOLE, lost=1)


UNAVAILABLE, THROTTLED = "vendor unavailable", "throttled"
HTML = b"<html><body>Bad gateway</body></html>"
DATES = {"Date": "Mon, 01 Jan 2024 00:00:00 GMT", "Retry_After": "Mon, 01 Jan 2024 00:00:02 GMT"}
TIGHT = {"http_timeout_s": 1.0}

CASES = [
    # Not certain: in doubt.
    in_doubt("reset-before", "reset_before", lost=0),
    in_doubt("reset-after", "reset_after"),
    in_doubt("hang-before", "hang_before", "timeout", lost=0, **TIGHT),
    in_doubt("hang-after", "hang_after", "timeout", **TIGHT),
    in_doubt("drip", "drip", "timeout", **TIGHT),
    in_doubt("truncated", "truncate"),
    in_doubt("nonsense", "nonsense"),
    in_doubt("html", "html", "200"),
    in_doubt("empty", "empty", "200"),
    in_doubt("empty-array", says(200, [], applied=True), "200"),
    in_doubt("empty-object", says(200, {}, applied=True), "200"),
    in_doubt("no-json", says(200, b"[{", applied=True), "200"),
    in_doubt("no-content", says(204, applied=True), "204"),
    in_doubt("200-mb", "huge", "too_long", http_timeout_s=20),
    in_doubt("gzip-bomb", compresses(64 * 1024 * 1024), "too_long", http_timeout_s=20),
    in_doubt("bad-gzip", says(200, b"no gzip", applied=True, Content_Encoding="gzip"), "coding"),
    *(
        in_doubt(f"status-{status}", says(status, HTML, applied=True), str(status))
        for status in (408, 409, 418, 500, 502, 503, 504, 520)
    ),
    in_doubt("status-500-vendors", says(500, failure(500), applied=True), "unmatched"),
    Case(
        "fewer-rows",
        [spoils(lambda rows: rows[:-1])],
        {"in_doubt unmatched": 1, "issued": 5},
        WHOLE,
        lost=1,
    ),
    Case(
        "no-earned-badge-id",
        [spoils(lambda rows: [error_row(rows[0], None), *rows[1:]])],
        {"in_doubt no_earned_badge_id": 1, "issued": 5},
        WHOLE,
        lost=1,
    ),
    # Rows, in all their forms.
    Case("pass", ["pass"], sizes=WHOLE),
    Case("more-rows", [spoils(lambda rows: [*rows, *failure(999), {"data": {}}])], sizes=WHOLE),
    Case("shuffled", [spoils(lambda rows: rows[::-1])], sizes=WHOLE),
    Case("errors-object", [spoils(lambda rows: [row | {"errors": {}} for row in rows])], sizes=WHOLE),
    Case("errors-array", [spoils(lambda rows: [row | {"errors": []} for row in rows])], sizes=WHOLE),
    item_errors("item-error-object", lambda error: error),
    item_errors("item-error-array", lambda error: [error]),
    Case("gzip", [compresses()], sizes=WHOLE),
    Case("rows-in-a-500", [spoils(lambda rows: rows, status=500)], sizes=WHOLE),
    Case(
        "rows-in-a-201",
        [spoils(lambda rows: [error_row(rows[0], {"code": 816, "message": "no"}), *rows[1:]], status=201)],
        {"rejected 816": 1, "issued": 5},
        WHOLE,
        lost=1,
    ),
    # The request was refused: whose fault is it?
    refused("status-400", says(400, HTML)),
    refused("status-400-vendors", says(400, failure(812))),
    refused("status-422", says(422, {"message": "unprocessable"})),
    refused("1054-whole-200", says(200, failure(1054))),
    refused("1054-whole-404", says(404, failure(1054))),
    # Nobody's fault, or everybody's.
    paused("status-301", says(301, Location="/elsewhere")),
    paused("status-302", says(302, HTML, Location="/elsewhere")),
    paused("status-307", says(307, Location="/api_gateway/v1/badges/import/customerBadges")),
    paused("status-403", says(403, HTML)),
    paused("status-403-4000", says(403, failure(4000))),
    paused("status-404", says(404, HTML)),
    paused("status-405", says(405, HTML)),
    paused("status-415", says(415, HTML)),
    paused("status-401", says(401, HTML), "auth"),
    paused("code-401", says(200, failure(401)), "auth"),
    paused("status-498", says(498, HTML), "auth"),
    paused("code-498", says(200, failure(498)), "auth"),
    closed("status-429", says(429, HTML, Retry_After="2"), THROTTLED, 2),
    closed("status-429-date", says(429, HTML, **DATES), THROTTLED, 2),
    closed("status-429-absent", says(429, HTML), THROTTLED),
    closed("status-521", says(521, HTML), UNAVAILABLE),
    closed("status-503-4001", says(503, failure(4001)), UNAVAILABLE),
    closed("code-4001", says(200, failure(4001)), UNAVAILABLE),
    Case("status-413", [says(413, HTML)], sizes=HALVED),
    Case("code-1060", [says(200, failure(1060))], sizes=HALVED),
]
BY_NAME = {case.name: case for case in (*CASES[::2], *CASES[1::2])}  # a person waits for the first half
AT_ONCE = 12

OAUTH = ("key", "secret")
CULPRIT_ROWS = 64
FAST: dict[str, Any] = {
    "rate_limit": "1000/second",
    "batch_linger_s": 0.1,
    "batch_size": BATCH,
    "max_in_flight": 1,
    "http_timeout_s": 5,
    "retry_base_s": 0.02,
    "retry_max_s": 0.05,
}
# Orgs with tests of their own.
SPECIAL: dict[str, tuple[dict[str, Any], str | Behaviour]] = {
    "culprit": ({"batch_size": CULPRIT_ROWS}, refuses(1)),
    "badges": ({"batch_size": CULPRIT_ROWS}, refuses(1, status=422)),
    "wrong-file": ({}, says(400, failure(812))),
    "too-large": ({}, says(413, HTML)),
    "missing": ({}, "pass"),
    "missing-whole": ({"batch_size": 16}, "pass"),
    "busy": ({}, "pass"),
    "exhausted": ({"max_attempts": 12}, "pass"),
    "long-429": ({}, says(429, HTML, Retry_After="999999")),
    "down": ({"batch_size": 2}, says(521, HTML)),
    "refused": ({}, "pass"),
    "unknown-host": ({"api_base_url": "https://nothing.invalid"}, "pass"),
    "no-host": ({"api_base_url": "https://a..b"}, "pass"),
    "tls": (TIGHT, "pass"),
    "stale": ({"auth": "oauth", "oauth_key": "key", "oauth_secret": "secret"}, "pass"),
}


@dataclass
class Floor:
    """A worker, its orgs, and the way of each to the vendor."""

    client: redis.Redis
    settings: Settings
    env: dict[str, str]
    orgs: dict[str, dict[str, Any]]
    orgs_file: Path
    ways: dict[str, FaultProxy]
    vendor: SandboxServer
    strict: SandboxServer
    closed: SandboxServer
    queue: BadgeQueue
    started: set[str] = field(default_factory=set)
    more: int = 0

    def start(self, orgs: Iterable[str]) -> None:
        """Bring orgs their jobs, if they haven't got them yet."""
        for org in orgs:
            if org not in self.started:
                self.started.add(org)
                items = _items(org, self.first(org))
                assert self.queue.enqueue(items, org=org, run=RUN).accepted == len(items)

    def first(self, org: str) -> int:
        """Return the first customer of an org."""
        return 1_000_000 + 1000 * list(self.orgs).index(org)

    def bring(self, org: str, number: int) -> None:
        """Bring an org that many more badges."""
        first = self.first(org) + 500 + self.more
        self.more += number
        items = [{"badgeMetaId": BADGE, "customerId": first + n} for n in range(number)]
        assert self.queue.enqueue(items, org=org, run=RUN).accepted == number

    def rows(self, org: str, state: str | None = None) -> list[dict[str, Any]]:
        """Return the org's jobs as ``badges results`` shows them."""
        found = JobReader(client=self.client, orgs=self.settings.orgs()).results(org=org, run=RUN)
        return [row for row in found if state in (None, row["state"])]

    def ends(self, org: str) -> Counter[str]:
        """Count an org's jobs by how they ended, or where they are."""
        return Counter(map(_end, self.rows(org)))

    def wait_for(self, org: str, ends: Mapping[str, int], *, within_s: float = 60) -> None:
        """Wait until an org's jobs are where they should be."""
        self.wait(org, lambda: self.ends(org) == Counter(ends), within_s=within_s)

    def wait(self, org: str, condition: Callable[[], Any], *, within_s: float = 60) -> None:
        """Wait for a condition; say where the org's jobs are instead."""
        try:
            wait_for(condition, within_s=within_s)
        except AssertionError:
            raise AssertionError((org, self.ends(org), self.gate(org), self.ways[org].sizes)) from None

    def gate(self, org: str) -> dict[str, Any]:
        """Return the gate as ``badges status`` shows it."""
        return dict(Survey(self.client).states({org: None})[0].as_json()["gate"])

    def issued(self, org: str) -> dict[int, str]:
        """Return what the vendor issued to the org's customers: each once."""
        first = self.first(org)
        issues = [i for s in (self.vendor, self.strict, self.closed) for i in s.vendor.ledger().issues]
        mine = [issue for issue in issues if first <= issue.customer_id < first + 1000]
        assert len(mine) == len({issue.customer_id for issue in mine}), "issued twice"
        return {issue.customer_id: issue.earned_badge_id for issue in mine}

    def check(self, org: str, *, lost: int = 0) -> None:
        """Compare results and ledger: all that is called issued is, under the id that the vendor gave."""
        issued = self.issued(org)
        results = {row["customerId"]: row["earnedBadgeId"] for row in self.rows(org, "issued")}
        assert results.items() <= issued.items()
        assert len(issued) - len(results) == lost

    def write_orgs(self) -> None:
        """Write the settings, at once: the worker reads them at every delivery."""
        tables = (
            f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
            for name, settings in self.orgs.items()
        )
        new = self.orgs_file.with_suffix(".new")
        new.write_text("\n".join(tables))
        new.replace(self.orgs_file)

    def resume(self, org: str) -> bool:
        """Do as ``badges resume`` does."""
        return Queue(self.client).resume(self.settings.org(org))


def _end(row: Mapping[str, Any]) -> str:
    error = row["error"]
    if row["state"] != "dead":
        return str(row["state"])
    code = error["code"]
    return f"{error['kind']} {'network' if code.endswith('Error') else code}"


def _in_turn(meets: Sequence[str | Behaviour], *, always: bool = False) -> Callable[[], str | Behaviour]:
    left = list(meets)

    def choose() -> str | Behaviour:
        return left[0] if always else left.pop(0) if left else "pass"

    return choose


def _items(org: str, first: int) -> list[dict[str, Any]]:
    """Return what each org is to deliver."""
    number, badge_of = ROWS, dict[int, str]()
    match org:
        case "culprit":
            number = CULPRIT_ROWS
        case "badges":
            number, badge_of = CULPRIT_ROWS, {n: f"{n % 4:024x}" for n in range(CULPRIT_ROWS)}
        case "wrong-file":
            number = 100
        case "missing" | "missing-whole":
            number = 48
            badge_of = dict.fromkeys((1, 2, *range(20, 30)), MISSING) | {0: OTHER_BADGE}
        case "down":
            number = 4
    return [{"badgeMetaId": badge_of.get(n, BADGE), "customerId": first + n} for n in range(number)]


@pytest.fixture(scope="module")
def floor(connection: Connection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    """One worker process for all cases."""
    folder = tmp_path_factory.mktemp("outcomes")
    unknown = SandboxSettings(unknown_badges=frozenset({MISSING}))
    strict = SandboxSettings(unknown_badges=frozenset({MISSING}), missing_badge_fails="request")
    with ExitStack() as stack:
        vendor = stack.enter_context(SandboxServer(settings=unknown))
        strict_vendor = stack.enter_context(SandboxServer(settings=strict))
        closed_vendor = stack.enter_context(SandboxServer(settings=SandboxSettings(oauth=OAUTH)))
        targets = {"missing-whole": strict_vendor, "stale": closed_vendor}
        meets = {case.name: (case.org, _in_turn(case.meets, always=case.always)) for case in CASES}
        meets |= {name: (own, _in_turn([what], always=True)) for name, (own, what) in SPECIAL.items()}
        orgs, ways = {}, {}
        for name, (own, choose) in meets.items():
            target = targets.get(name, vendor).url
            ways[name] = stack.enter_context(FaultProxy(target, choose, listening=name != "refused"))
            orgs[name] = FAST | {"api_base_url": ways[name].url} | dict(own)
        orgs["tls"]["api_base_url"] = ways["tls"].url.replace("http:", "https:")
        client = stack.enter_context(connection.client())
        client.flushall()
        orgs_file = folder / "orgs.toml"
        settings = Settings(redis_url=connection.url, orgs_file=orgs_file)
        env = environment(redis_url=connection.url, broker_url=connection.broker_url, orgs_file=orgs_file)
        own = Connection(connection.url, connection.broker_url)
        queue = stack.enter_context(BadgeQueue(settings=settings, connection=own))
        floor = Floor(client, settings, env, orgs, orgs_file, ways, vendor, *targets.values(), queue)
        floor.write_orgs()
        _vendor_errors(floor)
        command = worker_command("--concurrency", 8)
        stack.enter_context(process(command, env=env, log=folder / "worker.log"))
        floor.start(SPECIAL)
        yield floor


def _vendor_errors(floor: Floor) -> None:
    """Let the vendor be busy with a customer of two orgs: for three calls, and for ever."""
    for org, code, times in (("busy", 521, 3), ("exhausted", 503, None)):
        floor.vendor.vendor.add_fault(
            Fault(fault="item_error", customer_id=floor.first(org), code=code, times=times)
        )


# No connection: first, since here time passes between the calls


def test_nothing_listens(floor: Floor) -> None:
    """Refused connections cost time, not jobs: none is tried on, and one at a time goes out at first."""
    gate = "{badges:refused}/gate"
    floor.wait("refused", lambda: floor.client.hget(gate, "probing"))
    assert int(floor.client.hget(gate, "failures") or 0) >= 3
    assert floor.gate("refused")["why"] == UNAVAILABLE
    assert floor.ends("refused") == {"queued": ROWS}
    floor.ways["refused"].listen()
    floor.wait_for("refused", {"issued": ROWS})
    assert floor.ways["refused"].sizes[0] == 1
    assert {row["attempts"] for row in floor.rows("refused")} == {1}
    assert floor.gate("refused")["state"] == "open"


@pytest.mark.parametrize("org", ["unknown-host", "no-host", "tls"])
def test_a_wrong_base_url(floor: Floor, org: str) -> None:
    """No address, no possible name, no TLS: the jobs wait, status says so, and once mended they go out."""
    floor.wait(org, lambda: floor.client.hget(f"{{badges:{org}}}/gate", "probing"))
    (status,) = badges_json("status", "--org", org, env=floor.env)
    assert status["gate"]["state"] in ("closed", "probing")
    assert status["dead"] == {}
    assert {row["attempts"] for row in floor.rows(org)} == {0}
    floor.orgs[org]["api_base_url"] = floor.ways[org].url
    floor.write_orgs()
    floor.resume(org)
    floor.wait_for(org, {"issued": ROWS})
    floor.check(org)


def test_an_outage_costs_no_job(floor: Floor) -> None:
    """A vendor that is down for longer gets ever fewer calls, and in the end of one job."""
    way = floor.ways["down"]
    floor.wait("down", lambda: len(way.requests) >= 4)
    arrived = [request.arrived_s for request in way.requests[:4]]
    gaps = [later - earlier for earlier, later in pairwise(arrived)]
    assert [gap > least for gap, least in zip(gaps, (1, 2, 4), strict=True)] == [True] * 3
    assert way.sizes[:4] == [2, 2, 2, 1]
    assert floor.ends("down") == {"queued": 4}
    assert {row["attempts"] for row in floor.rows("down")} == {0}


def test_retry_after_is_capped(floor: Floor) -> None:
    """A Retry-After of eleven days closes the gate for an hour; the jobs wait, and status says until when."""
    floor.wait("long-429", lambda: floor.gate("long-429")["state"] == "closed")
    since, until = floor.client.hmget("{badges:long-429}/gate", "since", "closed_until")
    assert int(until or 0) - int(since or 0) == 3600 * 1000
    (status,) = badges_json("status", "--org", "long-429", env=floor.env)
    assert (status["gate"]["state"], status["gate"]["why"]) == ("closed", THROTTLED)
    assert status["gate"]["closed_until"]
    assert floor.ends("long-429") == {"queued": ROWS}
    assert floor.ways["long-429"].sizes == [4]


# The table


@pytest.mark.parametrize("name", some(BY_NAME, len(BY_NAME) // 2))
def test_what_came_back(floor: Floor, name: str) -> None:
    """Each answer and failure does to jobs, gate and ledger just what the table says; no badge is lost."""
    case, place = BY_NAME[name], list(BY_NAME).index(name)
    floor.start(list(BY_NAME)[place : place + AT_ONCE])
    if case.paused:
        _is_paused_until_resumed(floor, case)
    else:
        floor.wait_for(name, case.ends)
    way = floor.ways[name]
    assert way.sizes == case.sizes
    ended = [row for row in floor.rows(name) if row["state"] in ("issued", "dead")]
    assert {row["attempts"] for row in ended} == {1}
    assert all(row["error"]["message"] for row in ended if row["state"] == "dead")
    floor.check(name, lost=case.lost)
    assert floor.client.hget(f"{{badges:{name}}}/gate", "why") == case.why
    first, second = way.requests[0].arrived_s, way.requests[1].arrived_s
    assert second - first >= case.closed_s
    assert floor.gate(name)["state"] == "open"


def _is_paused_until_resumed(floor: Floor, case: Case) -> None:
    floor.wait(case.name, lambda: floor.gate(case.name)["state"] == "paused")
    gate = floor.gate(case.name)
    assert (gate["why"], bool(gate["reason"])) == (case.paused, True)
    floor.wait_for(case.name, case.ends)
    assert {row["attempts"] for row in floor.rows(case.name)} == {0}
    assert len(floor.ways[case.name].requests) == 1
    assert not floor.issued(case.name)
    assert floor.resume(case.name)
    floor.wait_for(case.name, {"issued": ROWS})


# Isolation


def test_one_culprit_is_found_in_halves(floor: Floor) -> None:
    """Of 64 all but the culprit are issued; it carries the vendor's error; it cost 2·log2(64) calls more."""
    floor.wait_for("culprit", {"issued": CULPRIT_ROWS - 1, "rejected 812": 1})
    assert floor.ways["culprit"].sizes == [64, 32, 32, 16, 16, 8, 8, 4, 4, 2, 2, 1, 1]
    (dead,) = floor.rows("culprit", "dead")
    assert dead["customerId"] == floor.first("culprit")
    assert dead["error"] == {"kind": "rejected", "code": "812", "message": "customerId is wrong"}
    assert {row["attempts"] for row in floor.rows("culprit")} == {1}
    floor.check("culprit")
    assert floor.gate("culprit")["state"] == "open"


def test_a_culprit_is_looked_for_by_badge_first(floor: Floor) -> None:
    """A refused call with several badges is first taken apart by badge: a wrong one soon stands alone."""
    floor.wait_for("badges", {"issued": CULPRIT_ROWS - 1, "rejected 812": 1})
    requests = floor.ways["badges"].requests
    by_badge = [sorted({item["badgeMetaId"] for item in request.items}) for request in requests[:5]]
    assert [len(found) for found in by_badge] == [4, 1, 1, 1, 1]
    assert len({found[0] for found in by_badge[1:]}) == 4
    assert len(requests) <= 1 + 4 + 2 * 4
    floor.check("badges")


def test_a_file_that_is_wrong_throughout_pauses_the_org(floor: Floor) -> None:
    """After twenty wholly refused calls the org pauses, with the vendor's words: not every row is paid."""
    floor.wait("wrong-file", lambda: floor.gate("wrong-file")["state"] == "paused")
    gate = floor.gate("wrong-file")
    assert (gate["why"], gate["reason"]) == ("config", "as the vendor says it")
    assert len(floor.ways["wrong-file"].requests) == 20
    ends = floor.ends("wrong-file")
    assert set(ends) == {"rejected 812", "queued"}
    assert ends["queued"] >= 80
    assert not floor.issued("wrong-file")


def test_an_item_that_is_too_large_by_itself(floor: Floor) -> None:
    """Where even one item is too much for the vendor, it is that item's error, and status shows the size."""
    floor.wait_for("too-large", {"rejected 413": ROWS})
    assert floor.ways["too-large"].sizes == [4, 2, *[1] * ROWS]
    assert floor.gate("too-large")["batch_size"] == 1


# Known-missing badges


def test_a_missing_badge_costs_one_call_until_it_is_replayed(floor: Floor) -> None:
    """After 1054 the rest of that badge dies without a call; replayed, it is asked for once more."""
    ends = {"issued": 36, "rejected 1054": 12}
    floor.wait_for("missing", ends)
    way = floor.ways["missing"]

    def asked() -> int:
        return sum(item["badgeMetaId"] == MISSING for request in way.requests for item in request.items)

    assert asked() == 2  # those of the first call
    said = badges_json("dead", "replay", "--org", "missing", "--code", "1054", env=floor.env)
    assert said["replayed"] == 12
    floor.wait("missing", lambda: asked() == 2 + BATCH and floor.ends("missing") == ends)
    floor.vendor.vendor.configure(SandboxSettings())
    badges_json("dead", "replay", "--org", "missing", "--code", "1054", env=floor.env)
    floor.wait_for("missing", {"issued": 48})
    floor.vendor.vendor.configure(SandboxSettings(unknown_badges=frozenset({MISSING})))
    floor.check("missing")


def test_a_missing_badge_that_refuses_the_whole_request(floor: Floor) -> None:
    """1054 for the whole call: the badge is isolated, its rest costs no call, all others are issued."""
    floor.wait_for("missing-whole", {"issued": 36, "rejected 1054": 12})
    requests = floor.ways["missing-whole"].requests
    asked = sum(item["badgeMetaId"] == MISSING for request in requests for item in request.items)
    assert asked == 2 + 2 + 1  # in the first call, alone with its like, and one by itself
    assert len(requests) == 3 + 3 + 1
    floor.check("missing-whole")


# Items that are worth another call


def test_a_busy_customer_is_waited_for(floor: Floor) -> None:
    """Code 521 in a row: that job alone is sent again until it passes, which spends none of its attempts."""
    floor.wait_for("busy", {"issued": ROWS})
    assert {row["attempts"] for row in floor.rows("busy")} == {1}
    sent = Counter(item["customerId"] for r in floor.ways["busy"].requests for item in r.items)
    assert sent == Counter({floor.first("busy"): 4} | {floor.first("busy") + n: 1 for n in range(1, ROWS)})
    floor.check("busy")


def test_attempts_are_counted_and_end(floor: Floor) -> None:
    """An item that keeps failing has ``MAX_ATTEMPTS`` calls, and is then dead, with its last ten attempts."""
    floor.wait_for("exhausted", {"issued": ROWS - 1, "exhausted 503": 1})
    (dead,) = floor.rows("exhausted", "dead")
    assert dead["attempts"] == 12
    job = badges_json("job", "show", dead["job_id"], env=floor.env)
    assert [(a["status"], a["code"]) for a in job["history"]] == [("200", "503")] * 10
    assert len({attempt["batch"] for attempt in job["history"]}) == 10
    floor.check("exhausted")


# Credentials


def test_a_stale_token_is_renewed_once_and_a_fresh_one_that_is_refused_pauses(floor: Floor) -> None:
    """401 to a token of some age: a new one is fetched and nobody notices; to a new one: paused, ``auth``."""
    vendor, token = floor.closed.vendor, "{badges:stale}/token"

    def end_all_tokens() -> None:
        vendor.configure(SandboxSettings(oauth=("another", "client")))
        vendor.configure(SandboxSettings(oauth=OAUTH))

    def fetched() -> int:
        return sum(request.method == "POST" for request in floor.ways["stale"].requests)

    floor.wait_for("stale", {"issued": ROWS})
    record = json.loads(str(floor.client.get(token)))
    end_all_tokens()
    floor.client.set(token, json.dumps(record | {"fetched_at": record["fetched_at"] - 100}), keepttl=True)
    floor.bring("stale", ROWS)
    floor.wait_for("stale", {"issued": 2 * ROWS})
    assert fetched() == 2
    assert {row["attempts"] for row in floor.rows("stale")} == {1}
    assert floor.gate("stale")["state"] == "open"
    end_all_tokens()
    floor.bring("stale", ROWS)
    floor.wait("stale", lambda: floor.gate("stale")["state"] == "paused")
    assert floor.gate("stale")["why"] == "auth"
    assert floor.ends("stale") == {"issued": 2 * ROWS, "queued": ROWS}
    assert floor.resume("stale")
    floor.wait_for("stale", {"issued": 3 * ROWS})
    assert fetched() == 3
    floor.check("stale")
