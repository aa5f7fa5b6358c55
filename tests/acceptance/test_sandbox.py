"""The sandbox is the vendor as its document describes it, seen over real HTTP."""

import base64
import hashlib
import itertools
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest
from support import badges, environment, some

from worker.sandbox.issued import SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.sandbox.vendor import Vendor

IMPORT = "/api_gateway/v1/badges/import/customerBadges"
TOKEN = "/v3/oauth/token/generate"
BADGE = "696f0fd40772ad476ecf74ac"
OTHER = "697a16140772ad476ecfe51c"
CUSTOMER = 555567088
ITEM = {"badgeMetaId": BADGE, "customerId": CUSTOMER, "earnExpiresOn": 1705828011}

Start = Callable[..., httpx.Client]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a sandbox with some settings; its client knows the base URL."""
    with ExitStack() as stack:

        def start_one(**settings: Any) -> httpx.Client:
            server = stack.enter_context(SandboxServer(settings=SandboxSettings(**settings)))
            return stack.enter_context(httpx.Client(base_url=server.url, timeout=10))

        yield start_one


@pytest.fixture
def client(start: Start) -> httpx.Client:
    """Make a client of a sandbox with the default settings."""
    return start()


def put(client: httpx.Client, *items: Any, **headers: str) -> httpx.Response:
    """Import some items in one call."""
    return client.put(IMPORT, json=list(items), headers=headers)


def items(count: int) -> list[dict[str, Any]]:
    """Make items for the customers 1 to `count`."""
    return [ITEM | {"customerId": n} for n in range(1, count + 1)]


def codes(response: httpx.Response) -> list[int | None]:
    """Read the code of each row's first error."""
    return [row["errors"][0]["code"] if row["errors"] else None for row in response.json()]


def fault(client: httpx.Client, kind: str, **more: Any) -> None:
    """Set a fault."""
    client.post("/_sandbox/faults", json={"fault": kind, **more}).raise_for_status()


def change(client: httpx.Client, **settings: Any) -> None:
    """Change some settings."""
    client.post("/_sandbox/settings", json=settings).raise_for_status()


def ledger(client: httpx.Client) -> dict[str, Any]:
    """Read the ledger."""
    return client.get("/_sandbox/ledger").json()


def earn_count(client: httpx.Client, customer: int = CUSTOMER, badge: str = BADGE) -> int:
    """Read how often a customer earned a badge."""
    path = f"/api_gateway/v1/badges/management/{customer}/badge/{badge}"
    return client.get(path, params={"includeStatistics": "true"}).json()["data"]["earnDetails"]["earnCount"]


# The import


def test_the_documented_request_gets_the_documented_answer(client: httpx.Client) -> None:
    """Both items of the document's sample succeed, with its fields and its dates."""
    second = {
        "badgeMetaId": OTHER,
        "customerId": 12098734,
        "earnEventDate": 1635792000,
        "earnEventDateISO": "2025-09-10T15:00:00+05:30",
        "earnExpiresOn": 1667328000,
        "earnExpiresOnISO": "2022-11-02T00:10:00+05:30",
    }
    response = put(client, ITEM, second)
    rows = response.json()
    assert response.status_code == 200
    assert [(row["errors"], row["warnings"]) for row in rows] == [(None, None)] * 2
    earned = [row["data"].pop("earnedBadgeId") for row in rows]
    request_ids = [row["data"].pop("requestId").rpartition("_") for row in rows]
    assert all(re.fullmatch("[0-9a-f]{24}", one) for one in earned)
    assert [n for _, _, n in request_ids] == ["1", "2"]
    assert len({uuid for uuid, _, _ in request_ids}) == 1
    assert [row["data"] for row in rows] == [
        {
            "badgeMetaId": BADGE,
            "customerId": CUSTOMER,
            "expiresOn": 1705828011.0,
            "expiresOnISO": "2024-01-21T09:06:51Z",
            "issuedId": None,
        },
        {
            "badgeMetaId": OTHER,
            "customerId": 12098734,
            "expiresOn": 1667328000.0,
            "expiresOnISO": "2022-11-01T18:40:00Z",
            "issuedId": None,
        },
    ]
    assert b"1705828011.0" in response.content


def test_two_identical_items_are_two_badges(client: httpx.Client) -> None:
    """Nothing is idempotent, neither in one call nor in two; the ledger tells."""
    rows = put(client, ITEM, ITEM).json() + put(client, ITEM | {"badgeMetaId": BADGE.upper()}).json()
    assert len({row["data"]["earnedBadgeId"] for row in rows}) == 3
    entry = {"badgeMetaId": BADGE, "customerId": CUSTOMER, "count": 3}
    assert ledger(client)["issued_more_than_once"] == [entry]


@pytest.mark.parametrize(
    ("dates", "expires_on", "iso"),
    [
        ({"earnExpiresOn": 1705828011000}, 1705828011000.0, "+56025-07-15T18:10:00Z"),
        ({"earnExpiresOn": -62198755200}, -62198755200.0, "-0001-01-01T00:00:00Z"),
        ({"earnExpiresOnISO": "2022-11-02T00:10:00+05:30"}, 1667328000.0, "2022-11-01T18:40:00Z"),
        ({}, None, None),
    ],
)
def test_the_expiry_is_read_as_seconds(
    client: httpx.Client, dates: dict[str, Any], expires_on: float | None, iso: str | None
) -> None:
    """Milliseconds give an expiry in the year 56025, as in the sibling API; ISO does where no epoch is."""
    data = put(client, {"badgeMetaId": BADGE, "customerId": 1, **dates}).json()[0]["data"]
    assert (data["expiresOn"], data["expiresOnISO"]) == (expires_on, iso)
    assert data["earnedBadgeId"]


def test_another_method_is_405_and_another_path_404(client: httpx.Client) -> None:
    """The import is a PUT, though the document's curl would POST."""
    refused = client.post(IMPORT, json=[ITEM])
    assert (refused.status_code, refused.headers["allow"]) == (405, "PUT")
    assert client.get("/api_gateway/v1/nothing").status_code == 404
    assert ledger(client)["statuses"] == {"405": 1, "404": 1}
    assert client.get("/_sandbox/nothing").status_code == 404
    assert ledger(client)["requests"] == 2


@pytest.mark.parametrize("body", [b"", b"[{", b'{"badgeMetaId": 1}', b"[NaN]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_array_is_refused_whole(client: httpx.Client, body: bytes) -> None:
    """It answers 400 with an error row that has no data."""
    response = client.put(IMPORT, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert [(row["data"], row["errors"][0]["code"]) for row in response.json()] == [(None, 400)]


def test_an_empty_array_is_answered_by_one(client: httpx.Client) -> None:
    """No items, no rows."""
    assert put(client).json() == []


def test_the_content_type_must_be_json(client: httpx.Client) -> None:
    """Curl's own type is refused; a charset is none of its business."""
    content = json.dumps([ITEM])
    form = client.put(IMPORT, content=content, headers={"Content-Type": "application/x-www-form-urlencoded"})
    utf8 = client.put(IMPORT, content=content, headers={"Content-Type": "application/json; charset=UTF-8"})
    assert (form.status_code, utf8.status_code) == (415, 200)


@pytest.mark.parametrize(
    ("item", "code"),
    [
        ({"badgeMetaId": BADGE}, 812),
        ({"badgeMetaId": BADGE, "customerId": "12"}, 812),
        ({"badgeMetaId": BADGE, "customerId": True}, 812),
        ("no object", 812),
        ({"customerId": 1}, 1054),
        ({"badgeMetaId": "nonsense", "customerId": 1}, 1054),
        ({"badgeMetaId": [BADGE], "customerId": 1}, 1054),
        ({"badgeMetaId": "\ud800", "customerId": 1}, 1054),
        (ITEM | {"earnExpiresOn": "soon"}, 400),
        (ITEM | {"earnExpiresOn": True}, 400),
        (ITEM | {"earnExpiresOn": 10**18}, 400),
        ({"badgeMetaId": BADGE, "customerId": 1, "earnExpiresOnISO": "2022-11-02T00:10:00"}, 400),
        ({"badgeMetaId": BADGE, "customerId": 1, "earnExpiresOnISO": 7}, 400),
    ],
)
def test_a_bad_item_fails_alone_and_can_be_told(client: httpx.Client, item: Any, code: int) -> None:
    """Its row has the code, and the data that a client matches by; its neighbours are issued."""
    response = client.put(
        IMPORT, content=json.dumps([ITEM, item, ITEM]), headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 200
    assert codes(response) == [None, code, None]
    row = response.json()[1]
    fields = item if isinstance(item, dict) else {}
    assert row["errors"][0].keys() == {"code", "message", "reference"}
    assert row["data"]["badgeMetaId"] == fields.get("badgeMetaId")
    assert row["data"]["customerId"] == fields.get("customerId")
    assert row["data"]["earnedBadgeId"] is None
    assert row["data"]["requestId"].endswith("_2")
    assert ledger(client)["items_issued"] == 2


@pytest.mark.parametrize("half", [("--username", "till"), ("--password", "secret")])
def test_half_of_a_credential_is_refused(half: tuple[str, str]) -> None:
    """It asked for none at all, and who tried it took their wrong password for a good one."""
    done = badges("sandbox", "--port", "0", *half, env=environment(), expect=2)
    assert b"--username goes with --password" in done.stderr


def test_only_known_badges_exist(start: Start) -> None:
    """With a list of badges, another organisation's is 1054; an unknown one is so in any case."""
    known = start(badges=frozenset({BADGE}))
    assert codes(put(known, ITEM, ITEM | {"badgeMetaId": OTHER})) == [None, 1054]
    unknown = start(unknown_badges=frozenset({OTHER}))
    assert codes(put(unknown, ITEM, ITEM | {"badgeMetaId": OTHER})) == [None, 1054]


def test_a_missing_badge_may_fail_the_whole_request(start: Start) -> None:
    """The document's other reading: HTTP 400, one row without data, nothing issued."""
    client = start(unknown_badges=frozenset({OTHER}), missing_badge_fails="request")
    response = put(client, ITEM, ITEM | {"badgeMetaId": OTHER})
    error = {"code": 1054, "message": "GLOBAL.BADGE_NOT_FOUND", "reference": None}
    assert response.status_code == 400
    assert response.json() == [{"data": None, "errors": [error], "warnings": None}]
    assert ledger(client)["items_issued"] == 0


@pytest.mark.parametrize(("over_batch", "status"), [("413", 413), ("1060", 200)])
def test_too_many_items_are_refused(start: Start, over_batch: str, status: int) -> None:
    """Either by HTTP status, or by the vendor's code in a 200; nothing is issued, and the size is noted."""
    client = start(max_batch=2, over_batch=over_batch)
    response = put(client, *items(3))
    assert response.status_code == status
    assert status == 413 or codes(response) == [1060]
    assert put(client, *items(2)).status_code == 200
    found = ledger(client)
    assert (found["batch_sizes"], found["items_issued"]) == ([3, 2], 2)


# Credentials


def basic(username: str, password: str) -> str:
    """Make the Authorization header that the vendor wants."""
    digest = hashlib.md5(password.encode(), usedforsecurity=False).hexdigest()
    return "Basic " + base64.b64encode(f"{username}:{digest}".encode()).decode()


def test_basic_takes_the_md5_of_the_password(start: Start) -> None:
    """Nothing, a wrong password and the plain one are all 401 in status and body."""
    client = start(basic=("till.1", "secret"))
    plain = "Basic " + base64.b64encode(b"till.1:secret").decode()
    for headers in ({}, {"Authorization": basic("till.1", "wrong")}, {"Authorization": plain}):
        refused = put(client, ITEM, **headers)
        assert refused.status_code == 401
        assert refused.json()["errors"][0]["code"] == 401
    assert put(client, ITEM, Authorization=basic("till.1", "secret")).status_code == 200
    assert client.get("/api_gateway/v1/badges/customer/1?badgeType=EARNED").status_code == 401
    assert ledger(client)["items_issued"] == 1


def test_oauth_gives_out_tokens_that_expire(start: Start) -> None:
    """A token works until its time is over (498), and no longer when the client changes (401)."""
    client = start(oauth=("key", "secret"), token_ttl_s=300)
    body = client.post(TOKEN, json={"key": "key", "secret": "secret"}).json()
    assert (body["data"]["ttlSeconds"], body["errors"]) == (300, None)
    token = {"X-CAP-API-OAUTH-TOKEN": body["data"]["accessToken"]}
    assert put(client, ITEM, **token).status_code == 200
    change(client, token_ttl_s=0)
    expired = put(client, ITEM, **token)
    assert (expired.status_code, expired.json()["errors"][0]["code"]) == (401, 498)
    change(client, token_ttl_s=300, oauth=["key", "another"])
    invalid = put(client, ITEM, **token)
    assert (invalid.status_code, invalid.json()["errors"][0]["code"]) == (401, 401)


@pytest.mark.parametrize("body", [{"key": "key", "secret": "wrong"}, {}, []])
def test_a_bad_key_gets_no_token(start: Start, body: Any) -> None:
    """The error is the first of an array, 320001."""
    response = start(oauth=("key", "secret")).post(TOKEN, json=body)
    assert response.json()["data"] is None
    assert response.json()["errors"][0]["code"] == 320001


def test_either_way_in_will_do_where_both_are_open(start: Start) -> None:
    """A vendor that knows Basic and OAuth takes any one of them."""
    client = start(basic=("till.1", "secret"), oauth=("key", "secret"))
    token = client.post(TOKEN, json={"key": "key", "secret": "secret"}).json()["data"]["accessToken"]
    assert put(client, ITEM, Authorization=basic("till.1", "secret")).status_code == 200
    assert put(client, ITEM, **{"X-CAP-API-OAUTH-TOKEN": token}).status_code == 200


def test_a_missing_access_group_is_403(start: Start) -> None:
    """Credentials come first: only good ones learn that access is missing."""
    client = start(basic=("till.1", "secret"), has_access=False)
    refused = put(client, ITEM, Authorization=basic("till.1", "secret"))
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (403, 4000)
    assert put(client, ITEM).status_code == 401


# Limits


def test_more_requests_than_the_limit_are_429(start: Start) -> None:
    """Calls of every kind count; what is refused issues nothing, and says when to come again."""
    client = start(rate=(3, 600.0))
    client.post(TOKEN, json={})
    assert earn_count(client) == 0
    assert put(client, ITEM).status_code == 200
    refused = put(client, ITEM)
    assert refused.status_code == 429
    assert 590 <= int(refused.headers["retry-after"]) <= 600
    assert ledger(client)["items_issued"] == 1


def test_retry_after_may_be_a_date_or_absent(start: Start) -> None:
    """The date, taken relative to the answer's own, never comes too early."""
    client = start(rate=(1, 600.0), retry_after="date")
    put(client, ITEM)
    headers = put(client, ITEM).headers
    wait = parsedate_to_datetime(headers["retry-after"]) - parsedate_to_datetime(headers["date"])
    assert 599 <= wait.total_seconds() <= 603
    change(client, retry_after="absent")
    refused = put(client, ITEM)
    assert (refused.status_code, "retry-after" in refused.headers) == (429, False)


def test_the_limit_is_a_sliding_window(start: Start) -> None:
    """However fast one knocks, no window holds more admitted requests than the limit, and none is wasted."""
    limit, window_s = 3, 0.2
    client = start(rate=(limit, window_s))
    while ledger(client)["statuses"].get("200", 0) < 10:
        put(client, ITEM)
    found = [e for e in ledger(client)["exchanges"] if e["status"] == 200]
    times = [e["arrived_s"] for e in found]
    gaps = [later - earlier for earlier, later in zip(times, times[limit:], strict=False)]
    assert min(gaps) >= window_s
    assert ledger(client)["statuses"]["429"] > 0


def test_latency_comes_after_the_badge(start: Start) -> None:
    """A client that gives up waiting has been issued its badge all the same: the hard case."""
    client = start(latency_s=(30.0, 30.0))
    with pytest.raises(httpx.ReadTimeout):
        client.put(IMPORT, json=[ITEM], timeout=0.2)
    assert ledger(client)["items_issued"] == 1


def test_latency_is_random_between_its_ends(start: Start) -> None:
    """Every answer takes its least time, and two differ."""
    client = start(latency_s=(0.02, 0.05), seed=7)
    for _ in range(3):
        put(client, ITEM)
    taken = [e["answered_s"] - e["arrived_s"] for e in ledger(client)["exchanges"]]
    assert min(taken) >= 0.02
    assert max(taken) - min(taken) > 0.001


# Reading


def test_the_read_endpoints_count_what_was_earned(client: httpx.Client) -> None:
    """Expired badges are earned but not active."""
    put(client, ITEM, ITEM | {"earnExpiresOn": 4102444800}, ITEM | {"badgeMetaId": OTHER})
    path = f"/api_gateway/v1/badges/management/{CUSTOMER}/badge/{BADGE.upper()}"
    data = client.get(path, params={"includeStatistics": "true"}).json()["data"]
    assert (data["earnDetails"]["earnCount"], data["activeEarnedCount"]) == (2, 1)
    assert "earnDetails" not in client.get(path).json()["data"]
    listed = client.get(f"/api_gateway/v1/badges/customer/{CUSTOMER}", params={"badgeType": "EARNED"}).json()
    assert listed["data"]["badges"] == [
        {"badgeMetaId": BADGE, "earnedCount": 2},
        {"badgeMetaId": OTHER, "earnedCount": 1},
    ]
    assert client.get(f"/api_gateway/v1/badges/customer/{CUSTOMER}").status_code == 400


def test_who_earned_nothing_counts_zero(client: httpx.Client) -> None:
    """Nobody is an error; a badge that doesn't exist is one."""
    assert earn_count(client, customer=4711) == 0
    listed = client.get("/api_gateway/v1/badges/customer/4711?badgeType=EARNED").json()
    assert listed["data"]["badges"] == []
    missing = client.get("/api_gateway/v1/badges/management/4711/badge/nonsense?includeStatistics=true")
    assert (missing.status_code, missing.json()["errors"][0]["code"]) == (400, 1054)
    assert client.get("/api_gateway/v1/badges/customer/nobody?badgeType=EARNED").status_code == 404


def test_a_write_may_show_late(start: Start) -> None:
    """Until the read delay is over, the count is zero in both read endpoints."""
    client = start(read_delay_s=3600)
    put(client, ITEM)
    assert earn_count(client) == 0
    change(client, read_delay_s=0)
    assert earn_count(client) == 1


# The ledger


def test_the_ledger_tells_what_arrived(client: httpx.Client) -> None:
    """Each request is there with both clocks, its size and its answer."""
    before_s, before_at = time.monotonic(), time.time()
    put(client, *items(3))
    earn_count(client)
    found = ledger(client)
    assert (found["requests"], found["items_issued"], found["batch_sizes"]) == (2, 3, [3])
    assert (found["statuses"], found["issued_more_than_once"]) == ({"200": 2}, [])
    first, second = found["exchanges"]
    assert (first["endpoint"], first["items"], first["issued"], first["status"]) == ("import", 3, 3, 200)
    assert (second["endpoint"], second["items"], second["issued"]) == ("read", None, 0)
    assert before_s <= first["arrived_s"] <= first["answered_s"] <= second["arrived_s"] <= time.monotonic()
    assert before_at <= first["arrived_at"] <= second["arrived_at"] <= time.time()


def test_the_ledger_may_be_read_while_it_is_written() -> None:
    """From this process, in the midst of four clients: a copy that agrees with itself."""
    with SandboxServer() as server:

        def import_some() -> None:
            with httpx.Client(base_url=server.url) as client:
                for _ in range(20):
                    put(client, *items(10))

        threads = [threading.Thread(target=import_some) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            copy = server.vendor.ledger()
            assert len(copy.issues) == sum(e.issued for e in copy.exchanges)
            assert len({issue.earned_badge_id for issue in copy.issues}) == len(copy.issues)
        done = server.vendor.ledger()
        assert (len(done.exchanges), len(done.issues), sum(done.batch_sizes)) == (80, 800, 800)
        assert set(done.issued_more_than_once.values()) == {80}


def test_a_client_that_leaves_early_is_an_arrival_without_an_answer(client: httpx.Client) -> None:
    """Half a request issues nothing and breaks nothing."""
    host, port = client.base_url.host, client.base_url.port
    with socket.create_connection((host, port or 0)) as early:
        early.sendall(f"PUT {IMPORT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n[".encode())
        while ledger(client)["requests"] == 0:
            pass
    assert put(client, ITEM).status_code == 200
    found = ledger(client)
    assert (found["exchanges"][0]["status"], found["items_issued"]) == (None, 1)


# Faults


def test_a_status_fault_strikes_so_many_times(client: httpx.Client) -> None:
    """Its status, body and headers come back, nothing is issued, and then all is well again."""
    fault(client, "status", status=503, body="<html>", headers={"Retry-After": "7"}, times=2)
    for _ in range(2):
        response = put(client, ITEM)
        assert (response.status_code, response.text) == (503, "<html>")
        assert response.headers["retry-after"] == "7"
    assert put(client, ITEM).status_code == 200
    found = ledger(client)
    assert (found["items_issued"], found["statuses"], found["batch_sizes"]) == (
        1,
        {"503": 2, "200": 1},
        [1, 1, 1],
    )


@pytest.mark.parametrize("status", [408, 498, 500, 521, 599])
def test_a_status_fault_may_come_after_the_deed(client: httpx.Client, status: int) -> None:
    """With apply all, the ledger has the badges that the answer denies."""
    fault(client, "status", status=status, apply="all", times=1)
    assert put(client, *items(5)).status_code == status
    assert ledger(client)["items_issued"] == 5


def test_a_fault_lasts_until_it_is_cleared(client: httpx.Client) -> None:
    """Without times it is an outage; DELETE ends it."""
    fault(client, "status", status=502)
    assert {put(client, ITEM).status_code for _ in range(5)} == {502}
    assert client.delete("/_sandbox/faults").status_code == 204
    assert put(client, ITEM).status_code == 200


def test_faults_queue_up(client: httpx.Client) -> None:
    """One call meets one status, in the order they were given; after lets some by first."""
    plan = [
        {"fault": "status", "status": 500, "times": 1, "after": 1},
        {"fault": "status", "status": 502, "times": 2},
    ]
    client.post("/_sandbox/faults", json=plan).raise_for_status()
    assert [put(client, ITEM).status_code for _ in range(4)] == [502, 500, 502, 200]


def test_a_fault_may_be_set_on_another_endpoint(client: httpx.Client) -> None:
    """The token endpoint is down, with the vendor's own words; imports go on."""
    body = {"data": None, "errors": [{"code": 4001}]}
    headers = {"Content-Type": "application/json"}
    fault(client, "status", status=503, on="token", body=json.dumps(body), headers=headers)
    refused = client.post(TOKEN, json={})
    assert (refused.status_code, refused.json(), refused.headers["content-type"]) == (
        503,
        body,
        "application/json",
    )
    assert put(client, ITEM).status_code == 200


def test_a_delay_comes_after_the_badge(client: httpx.Client) -> None:
    """The call is carried out at once and answered late, beside any other fault."""
    fault(client, "delay", seconds=0.1, times=1)
    fault(client, "status", status=504, times=1, apply="all")
    assert put(client, ITEM).status_code == 504
    exchange = ledger(client)["exchanges"][0]
    assert exchange["issued"] == 1
    assert exchange["answered_s"] - exchange["arrived_s"] >= 0.1


def test_an_item_error_counts_items(client: httpx.Client) -> None:
    """A customer who is busy twice is issued the third time; others never notice."""
    fault(client, "item_error", badgeMetaId=BADGE, customerId=2, code=521, message="busy", times=2)
    answers = [codes(put(client, *items(3))) for _ in range(3)]
    assert answers == [[None, 521, None], [None, 521, None], [None, None, None]]
    fault(client, "item_error", badgeMetaId=OTHER, code=815, message="badge not live")
    response = put(client, ITEM, ITEM | {"badgeMetaId": OTHER}, ITEM | {"badgeMetaId": OTHER})
    assert codes(response) == [None, 815, 815]
    assert response.json()[1]["errors"][0]["message"] == "badge not live"


def test_shuffled_rows_are_the_same_rows(client: httpx.Client) -> None:
    """The order is lost, the request ids still tell the positions."""
    fault(client, "shuffle")
    rows = [row["data"] for row in put(client, *items(50)).json()]
    order = [row["customerId"] for row in rows]
    assert order != sorted(order)
    assert sorted(order) == list(range(1, 51))
    assert all(row["requestId"].endswith(f"_{row['customerId']}") for row in rows)


def test_rows_may_be_dropped_and_added(client: httpx.Client) -> None:
    """What is missing in the answer was issued; what is too much belongs to nobody."""
    fault(client, "drop_rows", count=2, times=1)
    assert len(put(client, *items(5)).json()) == 3
    assert ledger(client)["items_issued"] == 5
    fault(client, "add_rows", times=1)
    rows = put(client, *items(5)).json()
    assert len(rows) == 6
    assert rows[-1]["data"]["badgeMetaId"] != BADGE
    assert ledger(client)["items_issued"] == 10


@pytest.mark.parametrize(
    ("shape", "none", "some"), [("null", None, type(None)), ("object", {}, dict), ("array", [], list)]
)
def test_errors_may_have_any_shape(client: httpx.Client, shape: str, none: Any, some: type) -> None:
    """Null, an object and an array are all seen in the family, for rows with and without an error."""
    fault(client, "errors_shape", shape=shape)
    good, bad = put(client, ITEM, {"badgeMetaId": BADGE}).json()
    assert good["errors"] == none
    assert isinstance(bad["errors"], some)
    assert bad["data"]["earnedBadgeId"] is None
    assert not bad["errors"] or "812" in json.dumps(bad["errors"])


def test_a_nonsensical_fault_or_setting_is_refused(client: httpx.Client) -> None:
    """It says what is wrong, changes nothing, and repeats no secret."""
    for body in (
        {"fault": "earthquake"},
        {"fault": "status", "satus": 500},
        {"fault": "status", "status": 42},
    ):
        assert client.post("/_sandbox/faults", json=body).status_code == 422
    refused = client.post("/_sandbox/settings", json={"basic": ["till.1", "secret", "x"], "rate": [1, 60]})
    assert refused.status_code == 422
    assert "basic" in refused.text
    assert "secret" not in refused.text
    assert client.post("/_sandbox/settings", json=[]).status_code == 422
    assert client.post("/_sandbox/settings", content=b"{").status_code == 422
    assert [put(client, ITEM).status_code for _ in range(2)] == [200, 200]


def test_settings_change_while_it_runs(client: httpx.Client) -> None:
    """Badges, limit and credentials; what isn't named stays."""
    change(client, badges=[BADGE], unknown_badges=[])
    assert codes(put(client, ITEM, ITEM | {"badgeMetaId": OTHER})) == [None, 1054]
    change(client, badges=None, unknown_badges=[BADGE])
    assert codes(put(client, ITEM, ITEM | {"badgeMetaId": OTHER})) == [1054, None]
    change(client, rate=[0, 60])
    assert put(client, ITEM).status_code == 429
    change(client, rate=None, basic=["till.1", "secret"])
    assert put(client, ITEM).status_code == 401
    assert codes(put(client, ITEM, Authorization=basic("till.1", "secret"))) == [1054]


# The server


def test_the_same_seed_answers_alike(start: Start) -> None:
    """Request ids, shuffles and all."""
    answers = []
    for seed in (1, 1, 2):
        client = start(seed=seed)
        fault(client, "shuffle")
        answers.append([row["data"]["requestId"] for row in put(client, *items(20)).json()])
    assert answers[0] == answers[1] != answers[2]


def test_it_starts_and_stops_at_once() -> None:
    """On loopback, on a free port, with nothing left behind; even while a client holds a connection."""
    began = time.monotonic()
    with SandboxServer() as server, httpx.Client(base_url=server.url) as client:
        assert put(client, ITEM).status_code == 200
        assert time.monotonic() - began < 10
        assert server.url.startswith("http://127.0.0.1:")
        server.stop()
        with pytest.raises(httpx.TransportError):
            put(client, ITEM)
    assert not [thread for thread in threading.enumerate() if thread.name == "sandbox"]


def test_the_port_may_be_chosen_and_used_again() -> None:
    """A vendor that comes back is found where it was; a taken port is an error at once."""
    with SandboxServer() as first:
        port = int(first.url.rpartition(":")[2])
        httpx.get(first.url)
        with pytest.raises(OSError, match="in use"):
            SandboxServer(port=port)
    with SandboxServer(port=port) as second:
        assert second.url == first.url
        assert httpx.get(second.url).status_code == 404


@pytest.mark.parametrize("kind", some([signal.SIGINT, signal.SIGTERM], 1))
def test_the_foreground_server_ends_on_a_signal(kind: signal.Signals) -> None:
    """That is a clean end, without a traceback."""
    with subprocess.Popen(
        [sys.executable, "-m", "worker.cli", "sandbox", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().split()[-1]
        assert httpx.put(url + IMPORT, json=[ITEM]).status_code == 200
        process.send_signal(kind)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_a_hundred_items_cost_little() -> None:
    """Some 2 ms of CPU a call; with twice that the sandbox would be what a benchmark measures."""
    if sys.gettrace() is not None:
        pytest.skip("coverage is measured, not speed")
    vendor = Vendor()
    batch = items(100)

    def once() -> float:
        began = time.thread_time()
        exchange, _ = vendor.arrive("import")
        answer = vendor.respond(
            exchange, {}, lambda e: vendor.import_badges(e, json.loads(json.dumps(batch)))
        )
        json.dumps(answer.body)
        return time.thread_time() - began

    assert min(once() for _ in itertools.repeat(None, 100)) < 0.004


# -- request ids


ID = "0b5cbb1e-7a0c-4b57-9d4c-aaaaaaaaaaaa"


def test_a_request_id_comes_back_and_a_repeated_one_is_ignored(client: httpx.Client) -> None:
    """The header comes back, or one that is made; by default rows have another, and each call issues."""
    first, again = (put(client, ITEM, **{"X-CAP-REQUEST-ID": ID}) for _ in range(2))
    assert first.headers["X-CAP-REQUEST-ID"] == again.headers["X-CAP-REQUEST-ID"] == ID
    ids = {row["data"]["requestId"] for reply in (first, again) for row in reply.json()}
    assert len(ids) == 2
    assert not any(ID in one for one in ids)
    assert put(client, ITEM).headers["X-CAP-REQUEST-ID"]
    assert client.get("/_sandbox/ledger").json()["items_issued"] == 3


def test_a_vendor_that_honours_a_request_id_answers_the_same_once_more(start: Start) -> None:
    """The rows carry the id; repeated, they are the same, and nothing more is issued."""
    client = start(request_ids="honours")
    first, again = (put(client, *items(3), **{"X-CAP-REQUEST-ID": ID}) for _ in range(2))
    assert first.json() == again.json()
    assert [row["data"]["requestId"] for row in first.json()] == [f"{ID}_{n}" for n in (1, 2, 3)]
    assert client.get("/_sandbox/ledger").json()["items_issued"] == 3


def test_a_vendor_that_refuses_a_request_id_says_809_once_it_was_applied(start: Start) -> None:
    """What failed before it was applied leaves no trace of its id."""
    client = start(request_ids="refuses")
    client.post("/_sandbox/faults", json={"fault": "status", "status": 500, "times": 1})
    assert put(client, ITEM, **{"X-CAP-REQUEST-ID": ID}).status_code == 500
    client.post("/_sandbox/faults", json={"fault": "status", "status": 500, "times": 1, "apply": "all"})
    assert put(client, ITEM, **{"X-CAP-REQUEST-ID": ID}).status_code == 500
    refused = put(client, ITEM, **{"X-CAP-REQUEST-ID": ID})
    assert refused.json()[0]["errors"][0]["code"] == 809
    assert client.get("/_sandbox/ledger").json()["items_issued"] == 1


# -- revoking


def revoke(client: httpx.Client, row: dict[str, Any], **other: Any) -> httpx.Response:
    """Take back what a row of an answer issued."""
    asked = {name: row["data"][name] for name in ("badgeMetaId", "customerId", "earnedBadgeId")}
    return client.post("/api_gateway/v1/badges/customer/revokeEarn", json=asked | other)


def test_an_earned_badge_is_revoked_once(client: httpx.Client) -> None:
    """Doc: isActive is false afterwards, and 814 where no such earn is active; the count of earns stays."""
    row = put(client, ITEM).json()[0]
    assert revoke(client, row, customerId=CUSTOMER + 1).json()["errors"][0]["code"] == 814
    done = revoke(client, row)
    assert (done.status_code, done.json()["data"]["isActive"], done.json()["errors"]) == (200, False, [])
    assert revoke(client, row).json()["errors"][0]["code"] == 814
    read = client.get(
        f"/api_gateway/v1/badges/management/{CUSTOMER}/badge/{BADGE}", params={"includeStatistics": "true"}
    ).json()["data"]
    assert (read["earnDetails"]["earnCount"], read["activeEarnedCount"]) == (1, 0)
    assert client.get("/_sandbox/ledger").json()["items_revoked"] == 1


def test_faults_strike_revoking_too(client: httpx.Client) -> None:
    """Before it is carried out, or after."""
    row = put(client, ITEM).json()[0]
    fault = {"fault": "status", "on": "revoke", "status": 502, "times": 1, "apply": "all"}
    client.post("/_sandbox/faults", json=fault)
    assert revoke(client, row).status_code == 502
    assert revoke(client, row).json()["errors"][0]["code"] == 814
