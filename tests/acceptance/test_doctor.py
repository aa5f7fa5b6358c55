"""``badges doctor``: what isn't well is found, with its cure, and the exit status says how bad it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from support import badges, configured, environment, item

from worker.config import Settings
from worker.domain.batch import Item
from worker.sandbox.issued import Fault, SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store import keys
from worker.store.queue import Queue, new_id

USERNAME, PASSWORD = "till.marker", "pAssw0rd-marker"
KEY, SECRET = "kEy-marker", "sEcret-marker"
ORGS = """
[tokens]
api_base_url = "{tokens}"
auth = "oauth"
oauth_key = "kEy-marker"
oauth_secret = "sEcret-marker"

[refused]
api_base_url = "{tokens}"
auth = "oauth"
oauth_key = "kEy-marker"
oauth_secret = "wrong-marker"

[nowhere]
api_base_url = "https://nowhere.invalid"
auth = "basic"
basic_username = "till"
basic_password = "pAssw0rd-marker"
basic_token = "dGlsbDptYXJrZXI="

[closed]
api_base_url = "https://127.0.0.1:1"
in_doubt = "resend"
"""

Report = dict[tuple[str, str | None], dict[str, Any]]


@pytest.fixture(scope="module")
def vendor() -> Iterator[SandboxServer]:
    """A vendor that wants Basic."""
    with SandboxServer(settings=SandboxSettings(basic=(USERNAME, PASSWORD))) as server:
        yield server


@pytest.fixture
def env(empty: Connection, vendor: SandboxServer) -> dict[str, str]:
    """An empty database, and right credentials for the vendor."""
    settings = {"auth": "basic", "basic_username": USERNAME, "basic_password": PASSWORD}
    own = {"redis_url": empty.url, "broker_url": empty.broker_url, "api_base_url": vendor.url}
    return environment(**own, **settings)


def examined(env: dict[str, str], *options: str, expect: int) -> Report:
    """Run it with ``--json``; return the findings by check and org, each of which has the right shape."""
    done = badges("doctor", "--json", *options, env=env, expect=expect)
    assert b"marker" not in done.stdout + done.stderr  # no secret
    found = json.loads(done.stdout)
    for finding in found:
        assert finding.keys() - {"org"} == {"check", "result", "detail", "cure"}
        assert finding["result"] in ("ok", "warn", "fail")
        assert finding["detail"]
        assert bool(finding["cure"]) == (finding["result"] != "ok")
    worst = {finding["result"] for finding in found}
    assert expect == (1 if "fail" in worst else 0)
    return {(finding["check"], finding.get("org")): finding for finding in found}


def test_all_is_well(env: dict[str, str], vendor: SandboxServer) -> None:
    """Every part is well, but that no worker runs; the vendor was asked once, paid from the limit."""
    with redis.Redis.from_url(env["BADGES_REDIS_URL"], decode_responses=True) as client:
        before = len(vendor.vendor.ledger().exchanges)
        report = examined(env, expect=0)
        assert len(vendor.vendor.ledger().exchanges) == before + 1
        assert not vendor.vendor.ledger().issues
        assert client.hget(keys.key("default", "gate"), "n") == "1"
    assert {check: finding["result"] for (check, _), finding in report.items()} == {
        "settings": "ok",
        "redis": "ok",
        "redis writes": "ok",
        "redis persistence": "ok",
        "redis eviction": "ok",
        "redis memory": "ok",
        "redis scripts": "ok",
        "clock": "ok",
        "broker": "ok",
        "workers": "warn",
        "gate": "ok",
        "rate": "ok",
        "network": "ok",
        "vendor": "ok",
        "vendor clock": "ok",
    }
    assert "credentials are good" in report["vendor", "default"]["detail"]


def test_each_org_and_what_ails_it(env: dict[str, str], tmp_path: Path) -> None:
    """OAuth really logs in; wrong keys, a wrong host and a closed port are told apart; all in one report."""
    file = tmp_path / "orgs.toml"
    with SandboxServer(settings=SandboxSettings(oauth=(KEY, SECRET))) as tokens:
        file.write_text(ORGS.format(tokens=tokens.url))
        env |= {
            "BADGES_ORGS_FILE": str(file),
            "BADGES_RATELIMIT": "1",
            "BADGES_BASIC_PASSWORD": "wrong-marker",
        }
        report = examined(env, expect=1)
        assert tokens.vendor.ledger().statuses[200] >= 2  # a token, and a read with it
    assert "BADGES_RATE_LIMIT" in report["settings", None]["detail"]
    assert report["settings", "closed"]["result"] == "warn"
    assert "twice" in report["settings", "closed"]["detail"]
    assert "BASIC_TOKEN is sent" in report["settings", "nowhere"]["detail"]
    assert (
        report["settings", "nowhere"]["cure"]
        == "unset basic_token of [nowhere] in ORGS_FILE, or the password"
    )
    said = {org: finding for (check, org), finding in report.items() if check == "vendor"}
    assert {org: finding["result"] for org, finding in said.items()} == {
        "default": "fail",
        "tokens": "ok",
        "refused": "fail",
        "nowhere": "fail",
        "closed": "fail",
    }
    assert "BASIC_PASSWORD" in said["default"]["cure"]
    assert "oauth_secret" in said["refused"]["cure"].lower()
    assert "DNS" in said["nowhere"]["cure"]
    assert "firewall" in said["closed"]["cure"]


def test_a_paused_org_is_asked_all_the_same(env: dict[str, str]) -> None:
    """Whoever mended the credentials sees that they are good before resuming; slow calls are seen, too."""
    badges("pause", "--reason", "mending", env=env)
    with redis.Redis.from_url(env["BADGES_REDIS_URL"], decode_responses=True) as client:
        client.hset(keys.key("default", "gate"), "took", "20 10000.0")
        gone = configured(name="gone")
        Queue(client).enqueue(gone, run="r", items=[item(0, org="gone")], call="c")
        report = examined(env, expect=0)
    assert "mending" in report["gate", "default"]["detail"]
    assert "badges resume" in report["gate", "default"]["cure"]
    assert report["vendor", "default"]["result"] == "ok"
    assert "MAX_IN_FLIGHT to 17" in report["rate", "default"]["cure"]
    assert "isn't configured" in report["gate", "gone"]["detail"]


def test_each_pause_has_its_cure(env: dict[str, str], tmp_path: Path) -> None:
    """What to mend is named as it is written, and what tells whether it is mended."""
    file = tmp_path / "orgs.toml"
    tables = {"key": "auth", "path": "config", "lunch": "operator", "ready": "auth"}
    written = "".join(f'[{org}]\napi_base_url = "http://127.0.0.1:1"\n' for org in tables)
    file.write_text(f'{written}basic_token = "bWFya2Vy"\n')
    with redis.Redis.from_url(env["BADGES_REDIS_URL"], decode_responses=True) as client:
        for org, why in tables.items():
            client.hset(keys.key(org, "gate"), mapping={"paused": why, "reason": "its reason", "since": 1})
    report = examined(env | {"BADGES_ORGS_FILE": str(file)}, expect=1)
    cures = {org: report["gate", org]["cure"] for org in tables}
    assert (
        "basic_username and basic_password of [key] in ORGS_FILE, then: badges resume --org key"
        in cures["key"]
    )
    assert "restart them first" in cures["key"]
    assert "api_base_url and api_path and api_method of [path]" in cures["path"]
    assert (
        "or cancel the run of a wrong file, then: badges resume --org path (that is the test" in cures["path"]
    )
    assert cures["lunch"] == "go on with: badges resume --org lunch"
    assert cures["ready"].startswith("correct basic_token of [ready] in ORGS_FILE, then: badges resume")


def test_an_outage_is_looked_at_but_nobody_who_throttles(env: dict[str, str]) -> None:
    """A read may tell what ails the vendor; jobs in doubt have a line of their own, with what to do."""
    gate = keys.key("default", "gate")
    closed = {"closed_until": 4_000_000_000_000, "since": 1, "probing": 1}
    with redis.Redis.from_url(env["BADGES_REDIS_URL"], decode_responses=True) as client:
        doubtful = [Item(it.id, it.row, it.fields, kind="in_doubt") for it in map(item, (1, 2))]
        Queue(client).enqueue(configured(), run="doubt", items=doubtful, call=new_id())
        client.hset(gate, mapping={**closed, "why": "answer in doubt"})
        asked = examined(env, expect=0)
        client.hset(gate, mapping={**closed, "why": "throttled"})
        left_alone = examined(env, expect=0)
    assert "credentials are good" in asked["vendor", "default"]["detail"]
    assert "waiting for: throttled" in left_alone["vendor", "default"]["detail"]
    assert "2 jobs in doubt" in asked["dead letters", "default"]["detail"]
    assert "badges dead check --org default" in asked["dead letters", "default"]["cure"]


def test_a_vendor_in_trouble_is_a_warning(env: dict[str, str], vendor: SandboxServer) -> None:
    """It answered: nothing of ours is wrong. A table for people says the same."""
    vendor.vendor.add_fault(Fault(fault="status", status=503, on="read", times=1))
    done = badges("doctor", "--org", "default", env=env | {"COLUMNS": "200"})
    said = done.stdout.decode()
    (line,) = [line for line in said.splitlines() if line.split()[1:3] == ["vendor", "default"]]
    assert line.split()[0] == "warn"
    assert "503" in line
    assert "→ start one: badges worker" in said


def test_a_server_that_cannot_keep_the_promises(tmp_path: Path) -> None:
    """No append-only file and an eviction policy fail, each with the setting that cures it."""
    with Connection.open(Settings(data_dir=tmp_path)) as own, own.client() as client:
        client.config_set("appendonly", "no")
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", client.info("memory")["used_memory"] * 10 // 9)
        report = examined(environment(redis_url=own.url), "--org", "default", expect=1)
    assert {check: report[check, None]["cure"] for check in ("redis persistence", "redis eviction")} == {
        "redis persistence": "appendonly yes",
        "redis eviction": "maxmemory-policy noeviction",
    }
    assert report["redis memory", None]["result"] in ("warn", "fail")
    assert report["settings", "default"]["result"] == "fail"  # no base URL


def test_redis_out_of_reach() -> None:
    """It fails, and so does the broker, by itself if it is another one; the passwords aren't shown."""
    env = environment(
        redis_url="redis://:marker@127.0.0.1:1",
        broker_url="amqp://u:marker@127.0.0.1:1//",
        api_base_url="https://x.invalid",
    )
    report = examined(env, expect=1)
    assert report["redis", None]["result"] == report["broker", None]["result"] == "fail"
    said = badges("status", env=env, expect=1).stderr.decode()
    assert "is Redis running? see: badges doctor" in " ".join(said.split())
    assert "marker" not in said


def test_wrong_settings_are_exit_2(env: dict[str, str]) -> None:
    """As everywhere."""
    assert b"BADGES_BATCH_SIZE" in badges("doctor", env=env | {"BADGES_BATCH_SIZE": "x"}, expect=2).stderr
    assert b"no org" in badges("doctor", "--org", "nobody", env=env, expect=2).stderr
