"""nginx and HAProxy before the vendor: whatever they do to a call, its ledger and our results agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from neighbourhood import haproxy, nginx, nginx_file
from support import environment, item, process, wait_for, worker_command
from topology import APPEND_ONLY, Certificates, free_port, servers

from worker.config import Settings
from worker.operate.runs import JobReader
from worker.operate.standstill import Reason, Standstill
from worker.operate.survey import Survey
from worker.sandbox.issued import SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.store.queue import Queue, new_id

pytestmark = pytest.mark.neighbour("nginx", "haproxy")
JOBS = 60
BATCH = 10
TABLE = f"""
[{{name}}]
api_base_url = "{{url}}"
rate_limit = "40/second"
batch_size = {BATCH}
batch_linger_s = 0
max_in_flight = 2
http_timeout_s = 10
"""


@dataclass(frozen=True)
class Place:
    """One worker, to whose orgs each test adds one of its own."""

    client: redis.Redis
    orgs: Path
    certificates: Certificates

    @property
    def settings(self) -> Settings:
        """What the worker has read."""
        return Settings(orgs_file=self.orgs)

    def bring(self, name: str, url: str) -> None:
        """Add an org whose vendor is there, and queue its jobs."""
        before = self.orgs.read_text()
        self.orgs.write_text(before + TABLE.format(name=name, url=url))
        jobs = [item(n, org=name) for n in range(JOBS)]
        Queue(self.client).enqueue(self.settings.org(name), run="r", items=jobs, call=new_id())

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the results of its run."""
        reader = JobReader(client=self.client, orgs=self.settings.orgs())
        return list(reader.results(org=name, run="r"))

    def held(self, name: str) -> Standstill | None:
        """Say why nothing of it moves; the worker may not have said yet that it is there."""
        (state,) = Survey(self.client).states({name: self.settings.org(name)})
        held = state.standstill
        return held if held and held.reason is not Reason.NO_WORKER else None

    def ended(self, name: str, vendor: SandboxServer, *, within_s: float = 60) -> tuple[int, int]:
        """Wait for the run's end, hold results against the ledger, and count what is issued, and in doubt."""

        def over() -> list[dict[str, Any]]:
            rows = self.rows(name)
            return rows if all(row["state"] in ("issued", "dead") for row in rows) else []

        rows = wait_for(over, within_s=within_s, what=f"the end of {name}")
        assert len(rows) == JOBS
        issued = {row["customerId"] for row in rows if row["state"] == "issued"}
        doubts = {row["customerId"] for row in rows if row["state"] == "dead"}
        assert {row["error"]["kind"] for row in rows if row["error"]} <= {"in_doubt"}
        ledger = vendor.vendor.ledger()
        assert not ledger.issued_more_than_once
        applied = {issue.customer_id for issue in ledger.issues}
        assert issued <= applied <= issued | doubts
        return len(issued), len(doubts)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A worker that trusts one CA, and has an org from the start: without any it would not go on."""
    folder = tmp_path_factory.mktemp("proxies")
    orgs = folder / "orgs.toml"
    orgs.write_text(TABLE.format(name="first", url="http://127.0.0.1:9"))
    (folder / "known").mkdir()
    certificates = Certificates.make(folder / "known")
    with servers(folder, APPEND_ONLY) as (server,), server.client() as client:
        env = environment(redis_url=f"redis://{server.address}/0", orgs_file=orgs)
        env["SSL_CERT_FILE"] = str(certificates.folder / "ca.pem")
        with process(worker_command("--concurrency", 4), env=env, log=folder / "worker.log"):
            yield Place(client, orgs, certificates)


def block(port: int, inside: str, *, tls: Certificates | None = None) -> str:
    """Write a ``server`` of nginx's."""
    files = (
        f"ssl_certificate {tls.folder}/server.pem; ssl_certificate_key {tls.folder}/server.key;"
        if tls
        else ""
    )
    return f"server {{ listen 127.0.0.1:{port}{' ssl' if tls else ''}; {files} location / {{ {inside} }} }}"


def passing(vendor: SandboxServer) -> str:
    """Write what passes calls on."""
    return f"proxy_pass {vendor.url}; proxy_http_version 1.1;"


def test_connections_that_end_and_reloads_cost_no_badge(place: Place, tmp_path: Path) -> None:
    """Nginx ends each connection after two calls, and is reloaded again and again in the middle."""
    port = free_port()
    with SandboxServer() as vendor:
        text = f"keepalive_timeout 1s; keepalive_requests 2; {block(port, passing(vendor))}"
        with nginx(tmp_path / "nginx", text) as proxy:
            place.bring("reloaded", f"http://127.0.0.1:{port}")
            for calls in range(1, JOBS // BATCH, 2):
                seen = vendor.vendor.ledger
                wait_for(lambda: len(seen().exchanges) >= calls, what="a call")  # noqa: B023 - called at once
                proxy.reload(nginx_file(tmp_path / "nginx", text))
            issued, doubts = place.ended("reloaded", vendor)
    assert issued + doubts == JOBS
    assert doubts <= 2 * BATCH, "no more than the calls that were in flight at a reload"


def test_batches_that_a_proxy_finds_too_large_are_halved(place: Place, tmp_path: Path) -> None:
    """413 from nginx, in its own words: smaller batches, all issued, none in doubt."""
    port = free_port()
    with SandboxServer() as vendor:
        text = f"client_max_body_size 300; {block(port, passing(vendor))}"
        with nginx(tmp_path / "nginx", text):
            place.bring("small", f"http://127.0.0.1:{port}")
            assert place.ended("small", vendor) == (JOBS, 0)
    assert max(vendor.vendor.ledger().batch_sizes) < BATCH


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_vendor_that_is_away_behind_a_proxy(place: Place, tmp_path: Path, status: int) -> None:
    """The calls in flight and the probes are in doubt, and no more; what is sent later is sent once."""
    # Away behind one configuration: around a reload nginx answers by the old one and the new one in turn.
    port, behind, name = free_port(), free_port(), f"away-{status}"
    inside = (
        f"proxy_pass http://127.0.0.1:{behind}; proxy_http_version 1.1; error_page 502 ={status} @away; }} "
        f"location @away {{ return {status};"
    )
    with nginx(tmp_path / "nginx", block(port, inside)):
        place.bring(name, f"http://127.0.0.1:{port}")
        held = wait_for(lambda: place.held(name), what="a standstill")
        assert held.reason == "in_doubt"
        assert str(status) in held.sentence
        with SandboxServer(port=behind) as vendor:
            issued, doubts = place.ended(name, vendor)
    assert issued + doubts == JOBS
    assert BATCH <= doubts <= 3 * BATCH, "two calls in flight, and the probes of one job each"
    assert len(vendor.vendor.ledger().issues) == issued, (
        "none of those in doubt was applied, and none sent again"
    )


def test_a_vendor_that_answers_too_late_for_the_proxy(place: Place, tmp_path: Path) -> None:
    """504 from nginx for calls that were carried out: in doubt, never sent again."""
    port = free_port()
    with SandboxServer(settings=SandboxSettings(latency_s=(3.0, 3.0))) as vendor:
        slow = f"{passing(vendor)} proxy_read_timeout 1s;"
        with nginx(tmp_path / "nginx", block(port, slow)) as proxy:
            place.bring("late", f"http://127.0.0.1:{port}")
            wait_for(lambda: place.held("late"), what="a standstill")
            vendor.vendor.configure(SandboxSettings())
            proxy.reload(nginx_file(tmp_path / "nginx", block(port, passing(vendor))))
            issued, doubts = place.ended("late", vendor)
    assert doubts >= BATCH
    assert len(vendor.vendor.ledger().issues) >= issued + BATCH, "they were applied all the same"


def test_a_redirect_is_not_followed(place: Place, tmp_path: Path) -> None:
    """It pauses the org as wrongly configured, and says where it would have led."""
    port = free_port()
    with (
        SandboxServer() as vendor,
        nginx(tmp_path / "nginx", block(port, f"return 308 {vendor.url}$request_uri;")),
    ):
        place.bring("moved", f"http://127.0.0.1:{port}")
        held = wait_for(lambda: place.held("moved"), what="a pause")
    assert held.reason == "paused_config"
    assert "308" in held.sentence
    assert not vendor.vendor.ledger().exchanges


def test_tls_is_believed_of_a_known_ca_alone(place: Place, tmp_path: Path) -> None:
    """Of an unknown one nothing leaves, and the sentence says that the certificate is at fault."""
    unknown_port, known_port = free_port(), free_port()
    (tmp_path / "unknown").mkdir()
    stranger = Certificates.make(tmp_path / "unknown")
    with SandboxServer() as vendor:
        blocks = [
            block(unknown_port, passing(vendor), tls=stranger),
            block(known_port, passing(vendor), tls=place.certificates),
        ]
        with nginx(tmp_path / "nginx", "\n".join(blocks)):
            place.bring("unknown", f"https://127.0.0.1:{unknown_port}")
            held = wait_for(
                lambda: (found := place.held("unknown")) and found.reason == "tls" and found,
                what="the reason",
            )
            assert "the vendor is unavailable: TLS: the certificate is not trusted" in held.sentence
            assert not vendor.vendor.ledger().exchanges
            place.bring("known", f"https://127.0.0.1:{known_port}")
            assert place.ended("known", vendor) == (JOBS, 0)


HAPROXY = """
global
  stats socket {folder}/stats
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  timeout http-keep-alive 1s
frontend front
  bind 127.0.0.1:{port}
  default_backend vendor
backend vendor
  server one {server}
"""


def test_haproxy_without_a_server_and_reloaded_once_it_has_one(place: Place, tmp_path: Path) -> None:
    """Its 503 leaves no more in doubt than was in flight; reloaded in the middle, it loses no badge."""
    port, behind, folder = free_port(), free_port(), tmp_path / "haproxy"
    text = HAPROXY.format(port=port, server=f"127.0.0.1:{behind}", folder=folder)
    with haproxy(folder, text) as proxy:
        place.bring("balanced", f"http://127.0.0.1:{port}")
        held = wait_for(lambda: place.held("balanced"), what="a standstill")
        assert "503" in held.sentence
        with SandboxServer(port=behind) as vendor:
            wait_for(lambda: vendor.vendor.ledger().exchanges, within_s=60, what="a call")
            proxy.reload(text)
            issued, doubts = place.ended("balanced", vendor)
    assert issued + doubts == JOBS
    assert doubts <= 5 * BATCH, (
        "two calls when it had no server, two when it was reloaded, and the probes: one job each"
    )
