"""Why nothing moves: whoever asks, and wherever, reads the same sentence; and an idle org holds nobody up."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import redis
from support import (
    BADGE,
    Probe,
    badges,
    badges_json,
    configured,
    environment,
    item,
    process,
    wait_for,
    worker_command,
)
from topology import APPEND_ONLY, Server, servers

from worker.domain.org import Org
from worker.operate.standstill import Standstill
from worker.operate.survey import Survey
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store import keys
from worker.store.pool import Seats
from worker.store.queue import Queue, new_id
from worker.web.metrics import BadgesCollector

ROWS = f"badgeMetaId,customerId\n{BADGE},1\n{BADGE},2\n".encode()


@pytest.fixture
def env(empty: Connection, sandbox: SandboxServer) -> dict[str, str]:
    """A vendor that is well."""
    return environment(redis_url=empty.url, api_base_url=sandbox.url)


def reasons(client: redis.Redis, **orgs: Org) -> dict[str, str]:
    """Return what metrics say, for each org."""
    families = {family.name: family for family in BadgesCollector(client, lambda: orgs).collect()}
    samples = families["badges_standstill_info"].samples
    return {sample.labels["org"]: sample.labels["reason"] for sample in samples}


def test_it_is_the_same_sentence_everywhere(env: dict[str, str], client: redis.Redis, tmp_path: Path) -> None:
    """At the end of an import, in status, run show and follow, doctor, and as the reason of a metric."""
    imported = badges("import", "-", "--run", "r", env=env, stdin=ROWS).stderr.decode()
    assert b"no worker" not in badges("import", "-", "--run", "r", env=env, stdin=ROWS).stderr
    again = badges("import", "-", "--run", "r", "--json", env=env, stdin=ROWS.replace(b",2", b",3"))
    (status,) = badges_json("status", "--org", "default", env=env)
    sentence = status["standstill"]["sentence"]
    assert sentence.startswith("no worker is alive; start one: ")
    assert f"what is accepted waits: {sentence}" in imported
    assert sentence in again.stderr.decode()
    assert json.loads(again.stdout)["run"] == "r"
    assert badges_json("run", "show", "r", env=env)["held"] == sentence
    found = {f["check"]: f for f in json.loads(badges("doctor", "--json", env=env).stdout)}
    assert sentence in found["gate"]["detail"]
    assert reasons(client, default=Org()) == {"default": status["standstill"]["reason"]}
    log = tmp_path / "follow.log"
    following = [sys.executable, "-m", "worker.cli", "run", "follow", "r", "--json"]
    with process(following, env=env, log=log):  # no terminal, so no bar
        said = wait_for(log.read_text, what="a line")
        assert f"nothing moves: {sentence}" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("REPLICAOF 127.0.0.1 1", "it is a read-only replica: nothing is accepted or sent"),
        ("CONFIG SET min-replicas-to-write 1", "too few replicas are in step: nothing is accepted or sent"),
    ],
)
def test_a_server_that_takes_no_writes_is_the_reason_everywhere(
    tmp_path: Path, change: str, words: str
) -> None:
    """A fail-over that nobody told us of: no worker can say that it is alive either."""
    with servers(tmp_path, APPEND_ONLY) as (server,), server.client() as client:
        env = environment(redis_url=f"redis://{server.address}/0", api_base_url="http://127.0.0.1:9")
        badges("import", "-", "--run", "r", env=env, stdin=ROWS)
        client.execute_command(*change.split())
        (status,) = badges_json("status", env=env)
        sentence = status["standstill"]["sentence"]
        assert status["standstill"]["reason"] == "redis_read_only"
        assert words in sentence
        assert badges_json("run", "show", "r", env=env)["held"] == sentence
        assert reasons(client, default=Org()) == {"default": "redis_read_only"}
        found = {f["check"]: f for f in json.loads(badges("doctor", "--json", env=env, expect=1).stdout)}
        assert found["redis writes"]["result"] == "fail"
        assert sentence in found["gate"]["detail"]
        refused = badges("import", "-", env=env, stdin=ROWS, expect=1).stderr.decode()
        assert f"warning: redis writes: {found['redis writes']['detail']}" in refused
        log = tmp_path / "follow.log"
        with process([sys.executable, "-m", "worker.cli", "run", "follow", "r"], env=env, log=log):
            wait_for(lambda: f"nothing moves: {sentence}" in log.read_text(), what="the sentence")


def test_a_claim_that_fails_says_what_the_server_lacks(client: redis.Redis) -> None:
    """What a worker met is noted until a call is made; with it what the doctor finds of the server."""
    queue, org = Queue(client), configured()
    queue.enqueue(org, run="r", items=[item(1)], call=new_id())
    Seats(queue=queue).offer("worker", 1)
    queue.note_trouble("default", "claims", "Redis didn't confirm")
    client.config_set("appendonly", "no")
    try:
        (state,) = Survey(client).states({"default": org})
        assert state.standstill
        assert state.standstill.reason == "claims"
        assert "Redis didn't confirm (no append-only file" in state.standstill.sentence
        assert reasons(client, default=org) == {"default": "claims"}
    finally:
        client.config_set("appendonly", "yes")


def test_a_vendor_whom_nobody_can_reach_is_named(tmp_path: Path) -> None:
    """A worker's own failed calls: status says what stands in the way; once it is gone, nothing does."""
    with servers(tmp_path, APPEND_ONLY) as (server,), SandboxServer() as vendor:
        there = environment(redis_url=f"redis://{server.address}/0", retry_base_s=0.1, batch_linger_s=0)
        nowhere = there | {"BADGES_API_BASE_URL": "https://vendor.invalid"}
        badges("import", "-", "--run", "r", env=nowhere, stdin=ROWS)

        def held() -> Standstill | None:
            with server.client() as client:
                (state,) = Survey(client).states({"default": configured()})
            return state.standstill

        with process(worker_command(), env=nowhere, log=tmp_path / "one.log"):
            met = wait_for(
                lambda: (found := held()) and found.reason == "dns" and found, within_s=60, what="a reason"
            )
            assert "the vendor is unavailable: " in met.sentence
            assert "Error:" not in met.sentence
        with process(
            worker_command(), env=there | {"BADGES_API_BASE_URL": vendor.url}, log=tmp_path / "2.log"
        ):
            badges("resume", env=there)
            wait_for(lambda: issued(server) == 2, within_s=60, what="both issued")
        assert held() is None


def issued(server: Server) -> int:
    """Return how many of the run's jobs are."""
    with server.client() as client:
        return Probe(client).count("r")


def test_the_doctors_good_call_is_the_probe_of_an_idle_org(env: dict[str, str], client: redis.Redis) -> None:
    """The gate of one that has nothing to send opens; with jobs that wait, their own call tells."""
    gate, trouble = (
        keys.key("default", "gate"),
        {"probing": 2, "failures": 3, "since": 1, "why": "answer in doubt"},
    )
    queue = Queue(client)
    client.hset(gate, mapping=trouble)
    queue.enqueue(configured(), run="r", items=[item(1)], call=new_id())
    found = {f["check"]: f for f in json.loads(badges("doctor", "--json", env=env).stdout)}
    assert found["gate"]["result"] == "warn"
    assert client.hget(gate, "probing") == "2"
    queue.cancel("default", [item(1).id], call=new_id())
    found = {f["check"]: f for f in json.loads(badges("doctor", "--json", env=env).stdout)}
    assert (found["gate"]["result"], found["gate"]["detail"].partition(":")[0]) == ("ok", "open")
    (status,) = badges_json("status", env=env)
    assert (status["gate"]["state"], status["gate"]["since"], status["standstill"]) == ("open", None, None)


def test_a_gate_that_is_to_stay_closed_stays_so(client: redis.Redis) -> None:
    """Paused, or throttled by the vendor: a call that goes well opens neither."""
    gate, queue = keys.key("default", "gate"), Queue(client)
    until = 4_000_000_000_000
    for fields in ({"paused": "operator"}, {"closed_until": until, "why": "throttled"}, {}):
        client.delete(gate)
        client.hset(gate, mapping={"clock": 1} | fields)
        assert not queue.probed("default")
        assert client.hgetall(gate).items() >= {name: str(value) for name, value in fields.items()}.items()
    client.hset(gate, mapping={"closed_until": until, "why": "vendor unavailable"})
    assert [queue.probed("default"), queue.probed("default")] == [True, False]
