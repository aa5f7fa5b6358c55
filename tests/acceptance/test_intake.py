"""Badges come in over HTTP as the vendor takes them: each once, a row for each, only from those who may."""

from __future__ import annotations

import csv
import hmac
import io
import json
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis
from samples import AS_PRINTED, DEFAULT_BODY, SAMPLE
from support import (
    BADGE,
    PROGRAMS,
    Probe,
    badges,
    configured,
    environment,
    item,
    process,
    serving,
    wait_for,
    worker_command,
)

from worker.domain.org import Org
from worker.errors import ConfigError
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store import keys
from worker.store.queue import Queue, new_id
from worker.store.record import BUCKET_LETTERS
from worker.web.callers import Anyone, Callers, CallLimit
from worker.web.intake import MAX_ITEMS

PATH = "/api_gateway/v1/badges/import/customerBadges"
SAMPLE_TOKEN = "bWFkajU2YQ=="  # the one in the vendor's document
ACME_KEY, ZENITH_KEY, SMALL_KEY, SLOW_KEY = (
    f"{org}-key-7f3a-marker" for org in ("acme", "zenith", "small", "slow")
)
ORGS = f"""
[acme]
api_base_url = "{{url}}"
batch_linger_s = 0.05
rate_limit = "1000/second"
intake_keys = "Basic {SAMPLE_TOKEN}, {ACME_KEY}"

[zenith]
api_base_url = "{{url}}"
intake_keys_file = "{{folder}}/zenith"

[small]
api_base_url = "{{url}}"
intake_keys = "{SMALL_KEY}"
max_queued = 1000

[slow]
api_base_url = "{{url}}"
intake_keys = "{SLOW_KEY}"
"""
INTAKE = ("intake", "--port", 0)
RATE = 600  # of calls in ten minutes, in effect: no test but one comes near
customers = count(700_000_000)


def items(number: int, **more: Any) -> list[dict[str, Any]]:
    """Return badges that nobody has handed in yet."""
    return [{"badgeMetaId": BADGE, "customerId": next(customers)} | more for _ in range(number)]


@dataclass(frozen=True)
class Place:
    """Two intakes of one Redis, and what they said."""

    urls: tuple[str, str]
    client: redis.Redis
    env: dict[str, str]
    folder: Path
    vendor: SandboxServer

    def http(self, key: str = ACME_KEY, *, which: int = 0) -> httpx.Client:
        """Return a client of one of the intakes."""
        return httpx.Client(base_url=self.urls[which], headers={"X-API-Key": key}, timeout=30)

    def logs(self) -> str:
        """Return all that the processes wrote."""
        return "".join(file.read_text() for file in self.folder.glob("*.log"))


@pytest.fixture(scope="module")
def place(connection: Connection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two intakes, as behind a proxy."""
    folder = tmp_path_factory.mktemp("intake")
    with ExitStack() as stack:
        vendor = stack.enter_context(SandboxServer())
        (folder / "zenith").write_text(f"{ZENITH_KEY}\n")
        (folder / "orgs.toml").write_text(ORGS.format(url=vendor.url, folder=folder))
        client = stack.enter_context(connection.client())
        client.flushall()
        env = environment(redis_url=connection.url, orgs_file=folder / "orgs.toml")
        options = (*INTAKE, "--rate", f"{RATE * 10}/minute")
        urls = [
            stack.enter_context(serving(options, env=env, log=folder / f"{n}.log", says="intake"))[0]
            for n in range(2)
        ]
        yield Place((urls[0], urls[1]), client, env, folder, vendor)


# -- what comes in is issued


def test_a_service_changes_its_base_url_and_its_badges_are_issued_once(place: Place, tmp_path: Path) -> None:
    """The vendor's path, method, body and credentials: 202 and a row for each; then progress and results."""
    sent = items(250)
    headers = {"Authorization": f"Basic {SAMPLE_TOKEN}", "Content-Type": "application/json"}
    answer = httpx.put(place.urls[0] + PATH, content=json.dumps([*sent, *sent[:5]]), headers=headers)
    assert answer.status_code == 202
    body = answer.json()
    assert [row["row"] for row in body["rows"]] == list(range(255))
    assert [row["status"] for row in body["rows"]] == ["queued"] * 250 + ["duplicate"] * 5
    assert (body["accepted"], body["duplicates"], body["invalid"]) == (250, 5, 0)
    with place.http() as http, process(worker_command(), env=place.env, log=tmp_path / "worker.log"):
        run = answer.headers["location"]
        assert run == f"/runs/{body['run']}"
        progress = wait_for(
            lambda: (now := http.get(run).raise_for_status().json())["finished_at"] and now,
            what="the run's end",
        )
        assert (progress["issued"], progress["total"], progress["org"]) == (250, 250, "acme")
        results = http.get(f"{run}/results").raise_for_status()
        table = http.get(f"{run}/results", headers={"Accept": "text/csv"}).raise_for_status()
        assert http.get(f"{run}/results?format=csv").text == table.text
    assert results.headers["content-type"].startswith("application/jsonl")
    found = [json.loads(line) for line in results.text.splitlines()]
    assert [job["customerId"] for job in found] == [item["customerId"] for item in sent]
    assert all(job["earnedBadgeId"] and job["state"] == "issued" for job in found)
    assert [job["job_id"] for job in found] == [row["job_id"] for row in body["rows"][:250]]
    assert table.headers["content-type"].startswith("text/csv")
    assert len(table.text.splitlines()) == 251
    customers_of = Counter(issue.customer_id for issue in place.vendor.vendor.ledger().issues)
    assert {customers_of[item["customerId"]] for item in sent} == {1}


def test_a_files_other_columns_come_back_over_http(place: Place, tmp_path: Path) -> None:
    """A run that was imported from a file has that file's columns in its table, as in the command's."""
    file = tmp_path / "members.csv"
    file.write_text(
        f"badgeMetaId,customerId,Name,Office\n{BADGE},{next(customers)},Ann,Oslo\n{BADGE},x,Bo,\n"
    )
    maps = ("--map", "Name=", "--map", "Office=")
    badges("import", file, *maps, "--run", "members", "--org", "acme", env=place.env, expect=3)
    with place.http() as http:
        table = list(csv.DictReader(io.StringIO(http.get("/runs/members/results?format=csv").text)))
    assert [(row["Name"], row["Office"]) for row in table] == [("Ann", "Oslo"), ("Bo", "")]


def test_the_vendors_own_examples_are_taken_as_they_are(place: Place) -> None:
    """Its sample request, a POST, is no JSON, and the answer says where; mended, it is taken."""
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Basic {SAMPLE_TOKEN}",
        "Cookie": "_cfuvid=S8HjBH10RqTfOhguIBzGFsmmDRCu5LYrozbGHbzkPBE-1768884697575-0.0.1.1-604800000",
    }
    with httpx.Client(base_url=place.urls[0], headers=headers) as http:
        refused = http.post(PATH, content=AS_PRINTED)
        assert refused.status_code == 400
        assert "line 5" in refused.json()["errors"][0]["message"]
        assert statuses(http.post(PATH, content=SAMPLE)) == ["queued", "queued"]
        assert statuses(http.post(PATH, content=DEFAULT_BODY)) == ["queued", "duplicate"]


def statuses(answer: httpx.Response) -> list[str]:
    """Return what became of each item."""
    assert answer.status_code == 202, answer.text
    return [row["status"] for row in answer.json()["rows"]]


def test_each_item_has_its_own_row(place: Place) -> None:
    """What is wrong with one is said in its row, by field and reason, and never stops the rest."""
    good, other = items(2)
    ambiguous = json.dumps(items(1)[0])[:-1] + ', "customerId": 5}'
    wrong: list[tuple[str, str | None, str]] = [
        ('{"badgeMetaId": "x"}', "customerId", "missing"),
        ('{"badgeMetaId": "x", "customerId": "abc"}', "customerId", "whole number"),
        ('{"badgeMetaId": "x", "customerId": 1e400}', "customerId", "whole number"),
        (f'{{"badgeMetaId": "x", "customerId": {"9" * 5000}}}', "customerId", "whole number"),
        (
            '{"badgeMetaId": "x", "customerId": 1, "earnEventDateISO": "2025-01-01"}',
            "earnEventDateISO",
            "ISO 8601",
        ),
        ('{"badgeMetaId": "x", "customerId": 1, "colour": "red"}', "colour", "not a field"),
        ('{"badgeMetaId": "\\ud800", "customerId": 1}', "badgeMetaId", ""),
        ("null", None, "object"),
        ("[[]]", None, "object"),
        (ambiguous, "customerId", "twice"),
    ]
    own = items(1)[0] | {"job_id": "own-1"}
    body = [
        json.dumps(good),
        *(text for text, _, _ in wrong),
        *map(json.dumps, (good, own, other | {"job_id": "own-1"})),
    ]
    with place.http() as http:

        def hand_in() -> list[dict[str, Any]]:
            answer = http.put(
                PATH, content=f"[{','.join(body)}]", headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == 202, answer.text
            rows: list[dict[str, Any]] = answer.json()["rows"]
            return rows

        first, *middle, again, named, conflict = hand_in()
        assert (first["status"], again["status"], named["status"]) == ("queued", "duplicate", "queued")
        assert again["job_id"] == first["job_id"]
        assert named["job_id"] == "own-1"
        assert (conflict["status"], conflict["field"], conflict["job_id"]) == ("conflict", "job_id", "own-1")
        for row, (_, field, words) in zip(middle, wrong, strict=True):
            assert (row["status"], row["field"]) == ("invalid", field), row
            assert words in row["reason"]
        repeated = hand_in()
        assert [row["status"] for row in repeated[1:-3]] == ["invalid"] * len(wrong), "as wrong as before"
        assert [row["reason"] for row in repeated[1:-3]] == [row["reason"] for row in middle]
    badges("run", "cancel", named_run(place, first["job_id"]), "--yes", "--org", "acme", env=place.env)
    with place.http() as http:
        dead = http.put(PATH, json=[good]).json()["rows"][0]
    assert dead["status"] == "duplicate_of_dead"
    assert "badges job show" in dead["reason"]


def named_run(place: Place, job_id: str) -> str:
    """Return the run of a job."""
    return str(Probe(place.client, "acme").record(job_id).get("run"))


def test_a_run_can_be_named_and_be_urgent(place: Place) -> None:
    """``run`` names the run, several calls long; ``urgent`` overtakes."""
    with place.http(ZENITH_KEY) as http:
        for urgent in ("false", "true"):
            answer = http.put(PATH, params={"run": "nightly-1", "urgent": urgent}, json=items(3))
            assert answer.json()["run"] == "nightly-1"
        assert http.get("/runs/nightly-1").json()["total"] == 6
    assert place.client.llen(keys.key("zenith", "urgent")) == 3


@pytest.mark.parametrize("name", ["crm/2026-11", "crm%2F2026-11"])
def test_a_run_with_a_slash_in_its_name_is_read(place: Place, name: str) -> None:
    """Celery's callers may have named it so; quoted or not, the server is given the same."""
    org, jobs = configured(name="zenith"), [item(n, org="zenith") for n in range(2)]
    Queue(place.client).enqueue(org, run="crm/2026-11", items=jobs, call=new_id())
    with place.http(ZENITH_KEY) as http:
        assert http.get(f"/runs/{name}").json()["run"] == "crm/2026-11"
        assert len(http.get(f"/runs/{name}/results").text.splitlines()) == 2
        assert http.get(f"/runs/{name}/nonesuch").status_code == 404


# -- Idempotency-Key


def test_a_dry_run_says_what_handing_in_then_does_and_accepts_nothing(place: Place) -> None:
    """All that is wrong, by the place in the array; duplicates, near ones, and the calls that it takes."""
    known, twice, new = items(3, earnEventDate=1_674_292_011, earnExpiresOn=1_905_828_011)
    other_date = known | {"earnEventDate": 1_674_300_000}
    wrong: list[Any] = [{"badgeMetaId": "", "customerId": "x"}, 7, twice | {"state": "dead"}, "state"]
    body = [known, twice, twice, other_date, new, *wrong]
    for method in ("PUT", "POST"):
        with place.http() as http:
            http.put(PATH, json=[known], params={"run": "dry-before"}).raise_for_status()
            answer = http.request(method, PATH, json=body, params={"dry_run": True, "run": "dry"})
            assert (answer.status_code, http.get("/runs/dry").status_code) == (200, 404)
            found = answer.json()
            assert (found["rows"], found["good"], found["invalid"]) == (9, 5, 4)
            assert found["duplicates"] == {
                "in_file": 1, "before": 1, "in_file_rows": [2], "before_rows": [0]
            }  # fmt: skip
            assert (found["near_duplicates"], found["near_duplicate_rows"]) == (1, [3])
            assert [(it["field"], it["rows"]) for it in found["faults"]] == [
                ("badgeMetaId", [5]), ("customerId", [5]), (None, [6]), ("state", [7]), (None, [8])
            ]  # fmt: skip
            assert (found["calls"], found["incomplete"]) == (1, None)
    with place.http() as http:
        done = http.put(PATH, json=body, params={"run": "dry", "dry_run": False}).json()
        counts = {name: done[name] for name in ("accepted", "duplicates", "invalid")}
        assert found["would"] == counts | {"held": 0, "again": 0}
        for wrong_body, status in ((b"[", 400), (b"{}", 400), (b"[]", 400)):
            said = http.put(
                PATH,
                content=wrong_body,
                params={"dry_run": True},
                headers={"Content-Type": "application/json"},
            )
            assert said.status_code == status, wrong_body
        assert http.put(PATH, json=body, params={"dry_run": "perhaps"}).status_code == 400
        assert http.put(f"{PATH}/", json=body).status_code == 404
        misspelled = http.put(PATH, json=body, params={"dryRun": True})
        assert (misspelled.status_code, "dryRun: is no parameter" in misspelled.text) == (400, True)
        for dry_run in (True, False):
            last = http.put(PATH, json=body, params={"run": "last", "dry_run": dry_run})
            assert (last.status_code, "it stands for the newest one" in last.text) == (400, True)
    with place.http("no such key") as http:
        assert http.put(PATH, json=body, params={"dry_run": True}).status_code == 401


def test_the_same_key_and_body_are_accepted_once_and_answered_alike(place: Place) -> None:
    """At the same time, in several processes, and again later; another body or org is another matter."""
    body = [*items(1500), {"badgeMetaId": BADGE}]
    body.append(body[0])
    headers = {"Idempotency-Key": "order-4711"}
    others = set(place.client.scan_iter(keys.key("acme", "intake", "*")))

    def call(n: int) -> tuple[int, bytes]:
        with place.http(which=n % 2) as http:
            answer = http.put(PATH, json=body, headers=headers)
            return answer.status_code, answer.content

    with ThreadPoolExecutor(12) as pool:
        answers = set(pool.map(call, range(12)))
    ((status, content),) = answers
    assert status == 202
    answer = json.loads(content)
    assert (answer["accepted"], answer["duplicates"], answer["invalid"]) == (1500, 1, 1)
    with place.http() as http:
        run = http.get(f"/runs/{answer['run']}").json()
        assert (run["total"], run["queued"], run["invalid"], run["duplicates"]) == (1501, 1500, 1, 1)
        other = http.put(PATH, json=items(1), headers=headers)
        assert other.status_code == 422
        assert "Idempotency-Key" in other.json()["errors"][0]["message"]
        assert http.put(PATH, json=body, headers=headers, params={"urgent": "true"}).status_code == 422
    with place.http(ZENITH_KEY) as http:
        assert statuses(http.put(PATH, json=items(1), headers=headers)) == ["queued"]
    (memory,) = set(place.client.scan_iter(keys.key("acme", "intake", "*"))) - others
    assert 86_000 < place.client.ttl(memory) <= 86_400
    badges("run", "cancel", answer["run"], "--yes", "--org", "acme", env=place.env)
    for key in place.client.scan_iter(keys.key("acme", "call", "*")):
        place.client.delete(key)  # as time does, sooner than it forgets the key
    again = json.loads(call(0)[1])
    assert again["rows"][:-1] == answer["rows"][:-1], "whatever became of the jobs"
    assert again["rows"][-1]["status"] == "duplicate_of_dead"


def test_a_process_that_died_half_way_is_made_up_for(place: Place) -> None:
    """A part of the body is in, nothing was answered: the repetition brings in the rest, once."""
    body = items(1200)
    headers, few = {"Idempotency-Key": "half-way"}, BUCKET_LETTERS[0]
    with place.http() as http:
        first = http.put(PATH, json=body, headers=headers)
        # As if it had died between two chunks, long enough ago that the answers of its calls are forgotten.
        for row in first.json()["rows"][1000:]:
            job_id = row["job_id"]
            place.client.delete(keys.key("acme", "job", job_id))
            place.client.zrem(keys.key("acme", "memory", job_id[:few]), job_id[few:])
        for key in place.client.scan_iter(keys.key("acme", "call", "*")):
            place.client.delete(key)
        queued = place.client.llen(keys.key("acme", "queue"))
        again = http.put(PATH, json=body, headers=headers)
    assert again.content == first.content
    assert place.client.llen(keys.key("acme", "queue")) - queued == 200


# -- who may call


def test_only_who_shows_a_key_is_let_in_and_it_tells_the_org(place: Place) -> None:
    """In any of the headers that callers use; all else is 401, and what others handed in isn't there."""
    with httpx.Client(base_url=place.urls[0], timeout=30) as http:
        for headers in (
            {"X-API-Key": ACME_KEY},
            {"Authorization": f"Bearer {ACME_KEY}"},
            {"Authorization": f"basic {SAMPLE_TOKEN}"},
            {"X-CAP-API-OAUTH-TOKEN": ACME_KEY},
        ):
            answer = http.put(PATH, json=items(1), headers=headers, params={"run": "acmes-own"})
            assert statuses(answer) == ["queued"]
        for headers in (
            {},
            {"X-API-Key": ""},
            {"X-API-Key": ACME_KEY[:-1]},
            {"X-API-Key": ACME_KEY + "x"},
            {"X-API-Key": "wrong", "Authorization": f"Basic {SAMPLE_TOKEN}"},
            {"Authorization": "Basic"},
            {"Authorization": f"Digest {SAMPLE_TOKEN}"},
            {"X-API-Key": "\u00e9".encode("latin-1").decode("latin-1") * 20},
        ):
            shown = [(name, value.encode("latin-1")) for name, value in headers.items()]
            for method, path in (
                ("PUT", PATH),
                ("GET", "/runs/acmes-own"),
                ("GET", "/runs/acmes-own/results"),
            ):
                refused = http.request(method, path, headers=shown)
                assert refused.status_code == 401, headers
                assert refused.headers["www-authenticate"]
                assert refused.json()["errors"][0]["code"] == 401
    with place.http(ZENITH_KEY) as http:
        for path in ("/runs/acmes-own", "/runs/acmes-own/results", "/runs/nobodys"):
            assert http.get(path).status_code == 404


def test_a_caller_with_oauth_gets_its_token_here(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from the vendor: the token is good at every intake, for this org, for an hour; no other is."""
    ask = f"{place.urls[0]}/v3/oauth/token/generate"
    data = httpx.post(ask, json={"key": "any", "secret": ZENITH_KEY}).raise_for_status().json()["data"]
    token = str(data["accessToken"])
    assert data["ttlSeconds"] == 3600
    assert ZENITH_KEY not in token
    until, _, signature = token.partition(".")
    for shown, status in (
        (token, 202),
        (f"{int(until) + 1}.{signature}", 401),
        (f"{until}.", 401),
        (f"{until}.{signature[:-1]}", 401),
    ):
        sent = httpx.put(place.urls[1] + PATH, json=items(1), headers={"X-CAP-API-OAUTH-TOKEN": shown})
        assert sent.status_code == status, shown
    half_a_letter = {"secret": "\ud800" * 12}
    for body in ({"key": "any", "secret": "wrong"}, {}, [], {"secret": 5}, half_a_letter, {"secret": token}):
        refused = httpx.post(ask, content=json.dumps(body))
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (401, 320001), body
    assert httpx.post(ask, content=b"x" * 20_000).status_code == 413
    callers = Callers({"zenith": Org(name="zenith", intake_keys=ZENITH_KEY)})
    assert callers.who(token)
    monkeypatch.setattr("time.time", lambda: float(until))
    assert not callers.who(token), "an hour later"


def test_a_wrong_key_takes_as_long_as_a_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is compared in full, whatever is shown."""
    known = Callers(
        {name: Org(name=name, intake_keys=f"{name}-key-123456,{name}-key-234567") for name in "abc"}
    )
    compared: list[tuple[Any, Any]] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b))
    numbers = set()
    for shown in ("a-key-123456", "c-key-234567", "", "a-key-12345", "x" * 9999):
        compared.clear()
        caller = known.who(shown)
        assert (caller.org.name if caller else None) == {"a-key-123456": "a", "c-key-234567": "c"}.get(shown)
        numbers.add((len(compared), *sorted({len(text) for pair in compared for text in pair})))
    assert numbers == {(12, 32)}, "as many comparisons, of hashes"


def test_it_does_not_start_without_keys(place: Place) -> None:
    """No key, or ``--no-auth`` beyond loopback: exit 2, and how to mend it."""
    env = {name: value for name, value in place.env.items() if name != "BADGES_ORGS_FILE"}
    for options, words in (
        ((), "BADGES_INTAKE_KEYS is missing"),
        (("--no-auth", "--host", "0.0.0.0"), "loopback"),  # noqa: S104
    ):
        said = badges("intake", "--port", 0, *options, env=env, expect=2).stderr.decode()
        assert words in " ".join(said.split()), said


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({}, "BADGES_INTAKE_KEYS is missing"),
        ({"a": " , "}, "BADGES_INTAKE_KEYS is missing"),
        (
            {"a": "the-same-key-1,x-123456789012", "b": "Basic the-same-key-1"},
            "orgs a and b have a key in common",
        ),
        ({"a": "too-short"}, r"intake_keys of \[a\] in BADGES_ORGS_FILE: a key is 12"),
        ({"default": "x-123456789012,k2"}, "BADGES_INTAKE_KEYS: key 2 of 2 isn't one: a key is 12"),
        ({"a": "with a blank in it"}, "a key is 12"),
    ],
)
def test_a_key_tells_the_org(written: dict[str, str], words: str) -> None:
    """Keys that don't are refused, and not shown."""
    orgs = {name: Org(name=name, intake_keys=keys) for name, keys in ({"z": None} | written).items()}
    with pytest.raises(ConfigError, match=words) as refused:
        Callers(orgs)
    assert not [
        key
        for text in written.values()
        for key in text.split(",")
        if key.strip() and key in str(refused.value)
    ]


def test_the_extra_is_asked_for(place: Place) -> None:
    """Without FastAPI the command says how to install it."""
    command = [sys.executable, PROGRAMS / "without.py", "fastapi", "intake"]
    done = subprocess.run(command, env=place.env, capture_output=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "badge-import-worker[intake]" in done.stderr.decode()


# -- bounds


def test_what_isnt_there_says_what_is(place: Place) -> None:
    """A path that nobody serves, or not by that method: in words that help, as the vendor writes errors."""
    with place.http() as http:
        nowhere, removed = http.get("/nowhere"), http.delete(PATH)
    assert (nowhere.status_code, removed.status_code) == (404, 405)
    assert (
        nowhere.json()["errors"][0]["message"] == "there is nothing at this path; /docs shows what there is"
    )
    assert removed.json()["errors"][0]["message"] == f"this path takes {removed.headers['allow']} alone"


def test_who_is_refused_while_it_sends_hears_why(place: Place) -> None:
    """The body may come long after its head was refused: nobody hangs up on it before."""
    where = urlsplit(place.urls[0])
    head = f"PUT {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=10) as caller:
        caller.sendall(head.encode())
        answer = b""
        while not answer.endswith(b"send one\n"):
            answer += caller.recv(1000)
        caller.sendall(b"4\r\n[{}]\r\n")  # a connection that is closed by now would be reset by that
        caller.sendall(b"0\r\n\r\n")
        assert caller.recv(1000) == b"", "and then it ends"
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_body_is_bounded_and_read_strictly(place: Place) -> None:
    """What is too large, no JSON or no array is refused as a whole, and nothing comes of it."""
    large = b"[" + b" " * (16 * 2**20) + b"]"
    deep = b"[" * 200_000
    with place.http() as http:
        before = place.client.llen(keys.key("acme", "queue"))

        def refusal(content: Any, **headers: str) -> tuple[int, str]:
            sent = http.put(PATH, content=content, headers={"Content-Type": "application/json"} | headers)
            body = sent.json()
            assert (body["data"], body["errors"][0]["code"]) == (None, sent.status_code)
            return sent.status_code, body["errors"][0]["message"]

        assert refusal(large)[0] == 413
        assert refusal(iter([large[:1000], large[1000:]]))[0] == 413, "without Content-Length"
        assert refusal(json.dumps(items(1) * (MAX_ITEMS + 1)))[0] == 413
        assert refusal(b"[" + b"1," * 5_000_000 + b"1]")[0] == 413
        for content in (b"", b"{", b"{}", b"[]", b"[{}", b"[{}]]", b"[NaN]", b'"x"', b"\xff", deep):
            status, message = refusal(content)
            assert status == 400, content
            assert re.match("the (body|array) ", message), message
        both = {"Content-Length": "4", "Transfer-Encoding": "chunked", "Content-Type": "application/json"}
        ambiguous = http.put(PATH, content=iter([b"[{}]"]), headers=both)
        assert (ambiguous.status_code, ambiguous.headers["connection"]) == (400, "close")
        reading = http.get("/healthz", headers=both)
        assert (reading.status_code, reading.headers["connection"]) == (400, "close")
        assert refusal(b"[{}]", **{"Content-Type": "text/plain"})[0] == 415
        assert refusal(b"[{}]", **{"Content-Encoding": "gzip"})[0] == 415
        names = "the parameter run: must be 1 to 64 letters, digits or . _ ~ -"
        for name, value, words in [
            *(("run", bad, names) for bad in ("", "a/b", "x" * 65, "..")),
            ("urgent", "perhaps", "the parameter urgent: must be true or false"),
        ]:
            answer = http.put(PATH, json=items(1), params={name: value})
            assert answer.status_code == 400
            assert words in answer.json()["errors"][0]["message"], answer.text
            assert "can't be read" not in answer.text
        many = http.put(PATH, json=[dict.fromkeys(map(str, range(20_000)), 1)])
        assert many.json()["rows"][0]["reason"] == "has 20,000 fields, of which a badge has seven"
        answer = http.put(PATH, json=items(1), headers={"Idempotency-Key": "k" * 256})
        assert answer.status_code == 400
        assert "the header Idempotency-Key: must be 1 to 255 printable" in answer.text
        wrong = http.get("/runs/a/results", params={"format": "xml"})
        assert (wrong.status_code, "the parameter format: must be jsonl or csv" in wrong.text) == (400, True)
        assert http.get("/nowhere").status_code == 404
        assert http.delete(PATH).status_code == 405
        assert place.client.llen(keys.key("acme", "queue")) == before


def test_nobody_holds_a_connection_without_asking_anything(place: Place, tmp_path: Path) -> None:
    """No whole head of a request in time, of the first or a later one: it is closed. A slow body is read."""
    body = json.dumps(items(2)).encode()
    head = f"PUT {PATH} HTTP/1.1\r\nHost: x\r\nX-API-Key: {ACME_KEY}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    program = [PROGRAMS / "impatient_intake.py"]
    with (
        serving((), program=program, env=place.env, log=tmp_path / "log", says="intake") as (url, _),
        ExitStack() as stack,
    ):
        host, port = url.removeprefix("http://").split(":")

        def connect(sent: bytes) -> socket.socket:
            opened = stack.enter_context(socket.create_connection((host, int(port)), timeout=60))
            opened.sendall(sent)
            return opened

        slow = connect(head.encode() + body[:10])
        first = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        for sent, answered in ((b"", b""), (b"G", b""), (first, b"ok\n"), (first + b"GET", b"ok\n")):
            assert connect(sent).makefile("rb").read().endswith(answered)
        dripping = connect(b"GET /healthz?")

        def is_closed() -> bool:
            try:
                dripping.send(b"x")
            except ConnectionError:
                return True
            return False

        wait_for(is_closed, what="the end of one who sends a byte now and then")
        slow.sendall(body[10:])
        assert slow.makefile("rb").read().startswith(b"HTTP/1.1 202 ")


def test_a_full_queue_is_no_room_and_no_loss(place: Place) -> None:
    """429 with Retry-After, and nothing of the body is in."""
    with place.http(SMALL_KEY) as http:
        assert statuses(http.put(PATH, json=items(1000))) == ["queued"] * 1000
        full = http.put(PATH, json=items(5))
        assert full.status_code == 429
        assert int(full.headers["retry-after"]) > 0
        assert "safe" in full.json()["errors"][0]["message"]
    assert place.client.llen(keys.key("small", "queue")) == 1000


def test_a_caller_in_a_hurry_is_told_when_to_come_again(place: Place, tmp_path: Path) -> None:
    """Calls are counted over all processes, for each caller by itself; without keys all are one."""
    options = ("--no-auth", "--org", "slow", "--rate", "5/day,1000/second")
    with serving((*INTAKE, *options), env=place.env, log=tmp_path / "log", says="intake") as (url, _):
        for stranger in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[", "10.0.0.7"):
            rebound = httpx.put(url + PATH, json=items(1), headers={"Host": stranger})
            assert (rebound.status_code, "loopback" in rebound.text) == (421, True), rebound.text
        run = httpx.put(url + PATH, json=items(2), headers={"Host": "localhost:80"}).json()["run"]
        assert httpx.get(f"{url}/runs/{run}").json()["org"] == "slow"
        another = CallLimit.parse(place.client, "5/day,1000/second")
        callers = Callers({"slow": Org(name="slow", intake_keys=SLOW_KEY)})
        assert [another.wait_s(Anyone(Org(name="slow")).who("")) for _ in range(3)] == [0, 0, 0]
        late = httpx.get(f"{url}/runs/{run}")
        assert late.status_code == 429
        assert 0 < int(late.headers["retry-after"]) <= 86_400
        someone = callers.who(SLOW_KEY)
        assert someone
        assert another.wait_s(someone) == 0, "for each by itself"


def test_no_caller_fills_the_memory_for_all(place: Place) -> None:
    """Bodies that aren't whole yet are held up to a bound, one caller's; others are served meanwhile."""
    host, port = place.urls[0].removeprefix("http://").split(":")
    head = f"PUT {PATH} HTTP/1.1\r\nHost: x\r\nX-API-Key: {ACME_KEY}\r\nContent-Type: application/json\r\n"
    begun = f"{head}Content-Length: {16 << 20}\r\n\r\n".encode() + b" " * (15 << 20)
    with ExitStack() as calls, place.http(ACME_KEY) as acme, place.http(ZENITH_KEY) as zenith:
        callers = []
        for _ in range(9):
            callers.append(calls.enter_context(socket.create_connection((host, int(port)), timeout=30)))
            callers[-1].sendall(begun)
        assert callers[-1].recv(4096).startswith(b"HTTP/1.1 429")
        large = b" " * (15 << 20) + json.dumps(items(1)).encode()
        as_json = {"Content-Type": "application/json"}
        assert acme.put(PATH, content=large, headers=as_json).status_code == 429
        assert zenith.put(PATH, content=large, headers=as_json).status_code == 202
        assert acme.put(PATH, json=items(1)).status_code == 202
        callers[0].close()
        wait_for(lambda: acme.put(PATH, content=large, headers=as_json).status_code == 202)


# -- when things break


def test_while_redis_is_away_callers_are_told_to_come_again(place: Place, tmp_path: Path) -> None:
    """503 with Retry-After, nothing said of where Redis is; /healthz says so too."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    env = place.env | {"BADGES_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    with serving(INTAKE, env=env, log=tmp_path / "log", says="intake") as (url, _):
        away = httpx.put(url + PATH, json=items(1), headers={"X-API-Key": ACME_KEY}, timeout=20)
        assert away.status_code == 503
        assert int(away.headers["retry-after"]) > 0
        assert "safe" in away.json()["errors"][0]["message"]
        assert str(port) not in away.text
        assert httpx.get(f"{url}/healthz", timeout=20).status_code == 503
    assert httpx.get(f"{place.urls[0]}/healthz").text == "ok\n"


def test_sigterm_finishes_what_is_going_on(place: Place, tmp_path: Path) -> None:
    """A call whose body is still arriving is answered; then the process ends, with status 0."""
    body = json.dumps(items(2)).encode()
    with serving(INTAKE, env=place.env, log=tmp_path / "log", says="intake") as (url, running):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as caller:
            head = f"PUT {PATH} HTTP/1.1\r\nHost: x\r\nX-API-Key: {ACME_KEY}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            caller.sendall(head.encode() + body[:10])
            # The first call on this connection is being read once a second one has been answered.
            assert httpx.get(f"{url}/healthz").status_code == 200
            running.send_signal(signal.SIGTERM)
            wait_for(lambda: "Shutting down" in (tmp_path / "log").read_text(), what="the signal")
            caller.sendall(body[10:])
            answer = caller.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 202 ")
        assert running.wait(20) == 0
    assert b'"accepted": 2' in answer


def test_it_logs_a_line_a_call_and_no_secret(place: Place) -> None:
    """Who, which run, how many, how long; no key in any log, nor in Redis."""
    with place.http() as http:
        run = http.put(PATH, json=[*items(2), {}], headers={"Idempotency-Key": "a-logged-one"}).json()["run"]
    # Written once the answer is on its way.
    told = wait_for(lambda: [it for it in place.logs().splitlines() if it[:1] == "{" and run in it])
    (line,) = map(json.loads, told)
    expected = {"org": "acme", "accepted": 2, "duplicates": 0, "invalid": 1, "status": 202, "method": "PUT"}
    assert line.items() >= expected.items()
    assert line["elapsed_ms"] >= 0
    names = " ".join(str(key) for key in place.client.scan_iter())
    assert "/rate/" in names
    for secret in (ACME_KEY, ZENITH_KEY, SMALL_KEY, SLOW_KEY, SAMPLE_TOKEN):
        assert secret not in place.logs() + names
