"""The limiters of nginx and HAProxy, which allow less than is configured: learned within seconds, and used.

The same in virtual time, and many more of their kinds: tests/bench/learning.py.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
import redis
from neighbourhood import haproxy, nginx
from support import environment, item, process, wait_for, worker_command
from topology import APPEND_ONLY, free_port, servers

from worker.config import Settings
from worker.sandbox.issued import SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.store import keys
from worker.store.queue import Queue, new_id

ALLOWED_PER_S, LATENCY_S = 20, 0.05
FROM_S, TILL_S = 10, 40
# Of what is allowed: what only a fault can miss, also on a machine with five times the work that it can do.
# How much is used on a quiet one is in deploy/docs/limits.md.
LEAST = {"nginx": 0.1, "nginx-burst": 0.4, "haproxy": 0.4, "haproxy-tarpit": 0.3}
REFUSED = 0.06
NGINX = {"nginx": "", "nginx-burst": "burst=20 nodelay"}
HAPROXY = {"haproxy": "deny", "haproxy-tarpit": "tarpit"}
ORG = """
[{name}]
api_base_url = "http://127.0.0.1:{port}"
rate_limit = "60/second"
batch_size = 1
batch_linger_s = 0
max_in_flight = 4
"""


def limit_req(ports: dict[str, int], vendor: SandboxServer) -> str:
    """Write nginx's limiter before the vendor, once with and once without a burst."""
    zones = "".join(
        f"limit_req_zone $server_port zone={name}:1m rate={ALLOWED_PER_S}r/s;\n" for name in NGINX
    )
    blocks = "".join(
        f"server {{ listen 127.0.0.1:{ports[name]}; location / {{ limit_req zone={name} {burst};"
        f" limit_req_status 429; proxy_pass {vendor.url}; proxy_http_version 1.1; }} }}\n"
        for name, burst in NGINX.items()
    )
    return zones + blocks


def stick_tables(ports: dict[str, int], vendor: SandboxServer) -> str:
    """Write HAProxy's stick tables before the vendor: one refuses at once, the other in two seconds."""
    fronts = "".join(
        f"frontend {name}\n  bind 127.0.0.1:{ports[name]}\n  timeout tarpit 2s\n"
        "  stick-table type ip size 1k expire 60s store http_req_rate(1s)\n"
        "  http-request track-sc0 src\n"
        f"  http-request {how} deny_status 429 if {{ sc_http_req_rate(0) gt {ALLOWED_PER_S} }}\n"
        "  default_backend vendor\n"
        for name, how in HAPROXY.items()
    )
    return (
        "defaults\n  mode http\n  timeout connect 2s\n  timeout client 30s\n  timeout server 30s\n"
        f"{fronts}backend vendor\n  server one {vendor.url.removeprefix('http://')}\n"
    )


def answered(client: redis.Redis, names: list[str]) -> dict[str, Counter[str]]:
    """Count each org's answers by their status."""
    found = {}
    for name in names:
        stats = client.hgetall(keys.key(name, "stats")).items()
        counts = {key.removeprefix("status:"): int(n) for key, n in stats if key.startswith("status:")}
        found[name] = Counter(counts)
    return found


@pytest.mark.neighbour("nginx", "haproxy")
def test_real_limiters_are_learned_within_ten_seconds_and_used(tmp_path: Path) -> None:
    """20 calls a second of 60 configured, 4 in flight: one lesson a wave, then hardly one is refused."""
    names = [*NGINX, *HAPROXY]
    ports = {name: free_port() for name in names}
    orgs = tmp_path / "orgs.toml"
    orgs.write_text("".join(ORG.format(name=name, port=ports[name]) for name in names))
    settings = SandboxSettings(latency_s=(LATENCY_S, LATENCY_S))
    with (
        SandboxServer(settings=settings) as vendor,
        nginx(tmp_path / "nginx", limit_req(ports, vendor)),
        haproxy(tmp_path / "haproxy", stick_tables(ports, vendor)),
        servers(tmp_path, APPEND_ONLY) as (server,),
        server.client() as client,
    ):
        known = Settings(orgs_file=orgs)
        for name in names:
            jobs = [item(n, org=name) for n in range(ALLOWED_PER_S * (TILL_S + 20))]
            Queue(client).enqueue(known.org(name), run="r", items=jobs, call=new_id())
        env = environment(redis_url=f"redis://{server.address}/0", orgs_file=orgs)
        with process(worker_command("--concurrency", 16), env=env, log=tmp_path / "worker.log"):
            wait_for(lambda: all(answered(client, names).values()), what="a call of each")
            began = time.monotonic()
            wait_for(lambda: time.monotonic() > began + FROM_S, what="the time to learn in")
            early, since = answered(client, names), time.monotonic()
            wait_for(lambda: time.monotonic() > began + TILL_S, what="the time that is looked at")
            late, seconds = answered(client, names), time.monotonic() - since
    used, refused = {}, {}
    for name in names:
        counts = late[name] - early[name]
        used[name] = (counts["200"] + counts["201"]) / (ALLOWED_PER_S * seconds)
        refused[name] = counts["429"] / counts.total()
    print(used, refused)
    assert all(used[name] >= least for name, least in LEAST.items()), (used, refused)
    assert max(refused.values()) < REFUSED, (used, refused)
