"""Redis as it is run in production: over TLS, with replicas and Sentinel, as a Cluster, beside a broker.

The servers are real ones. Only TLS is spoken by a proxy before the server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from neighbourhood import RabbitMQ
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry
from support import (
    BADGE,
    LONG,
    badges,
    badges_json,
    configured,
    csv_of,
    dicts,
    environment,
    item,
    process,
    wait_for,
    worker_command,
)
from topology import (
    APPEND_ONLY,
    SERVICE,
    Certificates,
    Server,
    behind_tls,
    cluster,
    move_slot,
    replicated,
    servers,
)

from worker.badge_queue import BadgeQueue
from worker.config import Settings
from worker.errors import StoreError
from worker.sandbox.issued import SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.server.health import memory
from worker.store import keys
from worker.store.queue import Queue

ROOT = Path(__file__).parents[2]
USER = "badges:secret"
ORGS = ("default", "north", "south", "west", "east")
UNKNOWN = "000000000000000000000000"


def settings_of(vendor: SandboxServer, **more: object) -> dict[str, str]:
    """Return the environment of a fast worker."""
    fast = {"api_base_url": vendor.url, "rate_limit": "1000/second", "batch_linger_s": 0.05}
    return environment(**(fast | more))


def each_once(vendor: SandboxServer, number: int) -> bool:
    """Say whether the vendor issued that many badges, each once."""
    ledger = vendor.vendor.ledger()
    assert not ledger.issued_more_than_once
    return len(ledger.issues) == number


def give_least_rights(server: Server) -> None:
    """Make the user of ``deploy/redis-acl.conf``."""
    lines = (ROOT / "deploy/redis-acl.conf").read_text().splitlines()
    (rights,) = [line.split()[2:] for line in lines if line.startswith("user badges ")]
    name, _, password = USER.partition(":")
    with server.client() as client:
        client.execute_command(
            "ACL SETUSER", name, *(f">{password}" if r.startswith("#") else r for r in rights)
        )


def denied(server: Server) -> dict[str, Any]:
    """Return how often the server refused something for want of rights."""
    with server.client() as client:
        return {n: v for n, v in client.info("stats").items() if n.startswith("acl_access_denied") and v}


# -- TLS


def test_over_tls_with_a_certificate_of_ones_own(sandbox: SandboxServer, tmp_path: Path) -> None:
    """Store and broker over TLS, the server's certificate checked by our CA; without one's own: refused.

    And with the least rights, which suffice for a worker of one org too.
    """
    certificates = Certificates.make(tmp_path)
    with servers(tmp_path, APPEND_ONLY) as (server,), behind_tls(server, certificates) as port:
        give_least_rights(server)
        url = f"rediss://{USER}@127.0.0.1:{port}/0?"
        env = settings_of(sandbox, redis_url=url + certificates.query())
        with process(worker_command("--org", "default"), env=env, log=tmp_path / "worker.log"):
            badges("import", "-", "--run", "r", env=env, stdin=csv_of(250))
            wait_for(lambda: each_once(sandbox, 250), what="under its rights")
            found = {one["check"]: one for one in badges_json("doctor", env=env)}
        assert {found[check]["result"] for check in ("redis", "broker", "workers")} == {"ok"}
        assert "redis TLS" not in found
        assert not denied(server), _tail(tmp_path)

        stranger = Connection(url + certificates.query(client=False), "")
        with stranger.client() as client:
            client.set_retry(Retry(NoBackoff(), 0))
            with pytest.raises(redis.ConnectionError):
                client.ping()
        unknown = settings_of(sandbox, redis_url=f"rediss://127.0.0.1:{port}/0")
        assert b"self-signed certificate" in badges("status", env=unknown, expect=1).stderr


# -- Sentinel


@LONG
def test_a_primary_that_is_killed_is_survived(sandbox: SandboxServer, tmp_path: Path) -> None:
    """The worker goes on with the new primary by itself. With REPLICAS nothing is lost or issued twice."""
    number, batch = 400, 10
    sandbox.vendor.configure(SandboxSettings(latency_s=(0.1, 0.1)))  # so that a call is always under way
    with replicated(tmp_path, replicas=2) as ((primary, *others), sentinel):
        env = settings_of(
            sandbox,
            redis_url=f"redis+sentinel://127.0.0.1:1,{sentinel.address}/{SERVICE}",
            replicas=1,
            batch_size=batch,
        )
        settings = Settings(redis_url=env["BADGES_REDIS_URL"], replicas=1)
        with (
            BadgeQueue(settings=settings, connection=Connection.open(settings)) as queue,
            process(worker_command(), env=env, log=tmp_path / "worker.log"),
        ):
            assert queue.enqueue(dicts(number), run="early").accepted == number
            wait_for(lambda: len(sandbox.vendor.ledger().issues) > number // 4)
            primary.kill()
            assert not each_once(sandbox, number), "killed too late"
            wait_for(lambda: is_taken(queue, dicts(50, first=9000), run="late"), what="producers go on")
            wait_for(lambda: each_once(sandbox, number + 50), what=_tail(tmp_path))
            wait_for(lambda: queue.progress("late").issued == 50)
            # A batch whose settlement the old primary alone had still has its lease; nothing else is open.
            assert queue.progress("early").queued == 0
        assert _primary(sentinel) in {server.port for server in others}


def is_taken(queue: BadgeQueue, of: list[dict[str, Any]], *, run: str, org: str = "default") -> bool:
    """Hand in what may have been handed in before; say whether Redis could take it."""
    try:
        done = queue.enqueue(of, org=org, run=run)
    except StoreError:
        return False
    return done.accepted + done.duplicates == len(of)


def _primary(sentinel: Server) -> int:
    with sentinel.client() as client:
        return int(client.sentinel_get_master_addr_by_name(SERVICE)[1])


def _tail(folder: Path) -> str:
    return (folder / "worker.log").read_text()[-3000:]


# -- Cluster


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """A Cluster of three."""
    with cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture
def clustered(
    nodes: list[Server], connection: Connection, tmp_path: Path, sandbox: SandboxServer
) -> Iterator[dict[str, str]]:
    """The environment of a worker of several orgs, whose store is a Cluster and whose broker is not."""
    orgs = tmp_path / "orgs.toml"
    table = f'api_base_url = "{sandbox.url}"\nrate_limit = "1000/second"\nbatch_linger_s = 0.05\n'
    orgs.write_text("".join(f"[{org}]\n{table}" for org in ORGS[1:]))
    broker = connection.broker_url.replace("virtual_host=0", "virtual_host=9")
    with redis.Redis.from_url(connection.url.replace("db=0", "db=9")) as client:
        client.flushdb()
        for node in nodes:
            give_least_rights(node)
            with node.client() as own:
                own.flushall()
        url = f"redis+cluster://{USER}@127.0.0.1:1,{nodes[0].address},{nodes[1].address}"
        yield settings_of(sandbox, redis_url=url, broker_url=broker, orgs_file=orgs)
        client.flushdb()


def test_a_cluster_is_the_store(
    clustered: dict[str, str], nodes: list[Server], sandbox: SandboxServer, tmp_path: Path
) -> None:
    """Orgs on all nodes are delivered, and every command works across them."""
    env = clustered
    sandbox.vendor.configure(SandboxSettings(unknown_badges=frozenset({UNKNOWN})))
    refused = [denied(node) for node in nodes]
    with process(worker_command(), env=env, log=tmp_path / "worker.log"):
        badges("import", "-", "--run", "bad", "--org", "east", env=env, stdin=csv_of(3, badge_id=UNKNOWN))
        assert bring(env, 120, run="r")
        wait_for(lambda: each_once(sandbox, 120 * len(ORGS)), what=_tail(tmp_path))
        wait_for(lambda: badges_json("run", "show", "bad", env=env)["dead"] == 3)
        orgs = {one["org"]: one for one in badges_json("status", env=env)}
        found = badges_json("doctor", env=env)
    assert all(node.client().dbsize() for node in nodes), "orgs on every node"
    assert [denied(node) for node in nodes] == refused, _tail(tmp_path)
    assert orgs.keys() == set(ORGS)
    assert all(one["sent_last_minute"] for one in orgs.values())
    runs = {(run["org"], run["run"]): run["issued"] for run in badges_json("run", "list", env=env)}
    assert runs == {(org, "r"): 120 for org in ORGS} | {("east", "bad"): 0}
    assert len(badges("results", env=env).stdout.splitlines()) == 120 * len(ORGS) + 3
    badges("dead", "replay", "--run", "bad", "--set", f"badgeMetaId={BADGE}", env=env)
    badges("pause", "--org", "north", env=env)
    did = badges("audit", "--jsonl", env=env).stdout.splitlines()
    found_in = {(entry["org"], entry["action"], entry.get("count")) for entry in map(json.loads, did)}
    assert found_in == {("east", "replay", 3), ("north", "pause", None)}
    assert not [one for one in found if one["result"] == "fail"]
    checks = ("redis persistence", "clock")
    assert {f"{check} {node.address}" for check in checks for node in nodes} <= {
        one["check"] for one in found
    }


def test_the_doctor_counts_the_replicas_of_each_node(clustered: dict[str, str], nodes: list[Server]) -> None:
    """A node without any keeps its orgs from being accepted, however many the others have."""
    found = json.loads(badges("doctor", "--json", env=clustered | {"BADGES_REPLICAS": "1"}, expect=1).stdout)
    lacking = {one["check"] for one in found if "0 of the 1" in one["detail"] and one["result"] == "fail"}
    assert lacking == {f"redis replicas {node.address}" for node in nodes}


def bring(env: dict[str, str], number: int, *, run: str, first: int = 1) -> bool:
    """Hand in that many badges for each org, from this process; say whether Redis could take them."""
    settings = Settings.load(redis_url=env["BADGES_REDIS_URL"], orgs_file=env["BADGES_ORGS_FILE"])
    with (
        Connection.open(settings) as connection,
        BadgeQueue(settings=settings, connection=connection) as queue,
    ):
        return all(
            is_taken(queue, dicts(number, first=first + 1000 * n), run=run, org=org)
            for n, org in enumerate(ORGS)
        )


def test_a_node_that_comes_back_is_found_again(
    clustered: dict[str, str], nodes: list[Server], sandbox: SandboxServer, tmp_path: Path
) -> None:
    """Killed and started again, it has all it said it had; worker and producer go on by themselves."""
    env = clustered
    with process(worker_command(), env=env, log=tmp_path / "worker.log"):
        assert bring(env, 50, run="before")
        wait_for(lambda: sandbox.vendor.ledger().issues, what="the worker is at work")
        for node in nodes:
            node.kill()
            node.start()
            give_least_rights(node)
        wait_for(lambda: bring(env, 50, run="after", first=500), what="producers go on")
        wait_for(lambda: each_once(sandbox, 100 * len(ORGS)), what=_tail(tmp_path))


def test_an_org_that_moves_to_another_node_is_found(clustered: dict[str, str], nodes: list[Server]) -> None:
    """The client that has known it elsewhere asks anew; nothing is lost or done twice."""
    org = configured(name="mover")
    with Connection.open(Settings(redis_url=clustered["BADGES_REDIS_URL"])).client() as client:
        queue = Queue(client)
        assert queue.take_due(ahead_ms=1)
        slot = key_slot(keys.key_prefix("mover").encode())
        for node in nodes:
            move_slot(nodes, slot, node)
            with node.client() as own:
                assert queue.enqueue(org, run="r", items=[item(1), item(2)], call="c") == list("aa")
                assert queue.claim(org, "b").jobs  # type: ignore[union-attr]
                assert own.execute_command("CLUSTER COUNTKEYSINSLOT", slot)
                own.flushall()


def test_a_clusters_memory_is_that_of_its_fullest_node(
    clustered: dict[str, str], nodes: list[Server]
) -> None:
    """An org lies on one node, which is full while others have room: whichever node is asked first."""
    with Connection.open(Settings(redis_url=clustered["BADGES_REDIS_URL"])).client() as client:
        for number, node in enumerate(nodes, 1):
            with node.client() as own:
                own.config_set("maxmemory", number << 26)
                try:
                    used, most = memory(client)
                    assert (most, 0 < used < most) == (number << 26, True)
                finally:
                    own.config_set("maxmemory", 0)


def test_a_cluster_needs_another_broker(clustered: dict[str, str]) -> None:
    """No worker starts without one, and the text says what to set; who only hands in needs none."""
    env = {name: value for name, value in clustered.items() if name != "BADGES_BROKER_URL"}
    assert b"set BADGES_BROKER_URL to another" in badges("worker", env=env, expect=2).stderr
    badges("import", "-", env=env, stdin=csv_of(1))
    env["BADGES_BROKER_URL"] = env["BADGES_REDIS_URL"]
    assert b"set BADGES_BROKER_URL to another" in badges("import", "-", env=env, expect=2).stderr


def test_a_node_that_is_given_as_a_server_says_so(clustered: dict[str, str], nodes: list[Server]) -> None:
    """Of the orgs that it doesn't have, with the way to write the URL."""
    del clustered  # it empties them
    words = []
    with Connection.open(Settings(redis_url=f"redis://{nodes[0].address}")) as here, here.client() as client:
        for org in ORGS:
            try:
                Queue(client).enqueue(configured(name=org), run="r", items=[item(1)], call="c")
            except StoreError as refused:
                words.append(str(refused))
    assert words
    assert all("write redis+cluster://" in each for each in words)


# -- another broker


@LONG
@pytest.mark.neighbour("rabbitmq-server", "epmd")
def test_rabbitmq_is_the_broker(connection: Connection, sandbox: SandboxServer, tmp_path: Path) -> None:
    """Wake-ups and what producers send go over AMQP; what makes no sense harms nobody."""
    with (
        RabbitMQ(tmp_path / "rabbitmq") as broker,
        redis.Redis.from_url(connection.url.replace("db=0", "db=9"), decode_responses=True) as client,
    ):
        client.flushdb()
        amqp = broker.url
        url = connection.url.replace("db=0", "db=9")
        env = settings_of(sandbox, redis_url=url, broker_url=amqp, log_level="info")
        with process(worker_command(), env=env, log=tmp_path / "worker.log"), Celery(broker=amqp) as stranger:
            badges("import", "-", "--run", "r", env=env, stdin=csv_of(500))
            sent = {"items": dicts(50, first=9000), "run": "sent"}
            stranger.send_task("badges.enqueue", kwargs=sent)
            stranger.send_task("nobody.knows")
            wait_for(lambda: each_once(sandbox, 550), what=_tail(tmp_path))
            wait_for(lambda: "there is no task" in _tail(tmp_path))
            found = {one["check"]: one["result"] for one in badges_json("doctor", env=env)}
            assert (found["broker"], found["workers"]) == ("ok", "ok")
        assert not [key for key in client.scan_iter() if "badges" not in key], "nothing of Celery's is there"
        client.flushdb()
