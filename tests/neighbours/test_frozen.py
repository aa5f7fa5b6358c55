"""A Redis that takes connections and says nothing any more: those who wait for an answer get one soon."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from support import BADGE, environment, serving, wait_for
from topology import APPEND_ONLY, Server, servers

from worker.domain.org import Org

WITHIN_S = 5.0
CALLERS = 60  # more than there are threads to serve them


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Stop a server while the block lasts, without ending it."""
    assert server.process
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


def test_a_frozen_redis_is_told_to_every_caller_within_seconds(tmp_path: Path) -> None:
    """503 with Retry-After, also to many callers at once; metrics say so; all goes on by itself."""
    with servers(tmp_path, APPEND_ONLY) as (server,):
        env = environment(redis_url=f"redis://{server.address}/0", api_base_url="http://127.0.0.1:9")
        ours = ["intake", "--port", 0, "--no-auth"]
        with (
            serving(ours, env=env, log=tmp_path / "intake.log", says="intake") as (intake, _),
            serving(["metrics", "--port", 0], env=env, log=tmp_path / "m.log", says="metrics") as (
                metrics,
                _,
            ),
            httpx.Client(timeout=WITHIN_S, limits=httpx.Limits(max_connections=None)) as http,
            ThreadPoolExecutor(CALLERS) as pool,
        ):

            def hand_in(n: int) -> httpx.Response:
                item = {"badgeMetaId": BADGE, "customerId": 600_000_000 + n}
                return http.put(intake + Org().api_path, json=[item])

            assert hand_in(0).status_code == 202
            assert "badges_up 1.0" in http.get(f"{metrics}/metrics").text
            with frozen(server):
                scrape = pool.submit(http.get, f"{metrics}/metrics")
                answers = list(pool.map(hand_in, range(CALLERS)))
                assert {answer.status_code for answer in answers} == {503}
                assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
                assert "badges_up 0.0" in scrape.result().text
                for url in (intake, metrics):
                    assert http.get(f"{url}/healthz").status_code == 503
            wait_for(lambda: hand_in(CALLERS).status_code == 202, what="the intake going on by itself")
            wait_for(lambda: "badges_up 1.0" in http.get(f"{metrics}/metrics").text, what="metrics as well")


def test_a_frozen_redis_is_told_on_every_path(tmp_path: Path) -> None:
    """Whichever of them is the first to meet it."""
    with servers(tmp_path, APPEND_ONLY) as (server,):
        orgs = tmp_path / "orgs.toml"
        orgs.write_text('[acme]\napi_base_url = "http://127.0.0.1:9"\nintake_keys = "key-of-acme-1"\n')
        env = environment(redis_url=f"redis://{server.address}/0", orgs_file=orgs)
        with (
            serving(["intake", "--port", 0], env=env, log=tmp_path / "intake.log", says="intake") as (url, _),
            httpx.Client(base_url=url, headers={"X-API-Key": "key-of-acme-1"}, timeout=WITHIN_S) as http,
        ):
            item = {"badgeMetaId": BADGE, "customerId": 600_000_000}
            calls: list[tuple[str, str, int, dict[str, Any]]] = [
                ("PUT", f"{Org().api_path}?run=r", 202, {"json": [item]}),
                (
                    "POST",
                    f"{Org().api_path}?run=r",
                    202,
                    {"json": [item], "headers": {"Idempotency-Key": "k"}},
                ),
                ("PUT", f"{Org().api_path}?dry_run=true", 200, {"json": [item]}),
                ("GET", "/runs/r", 200, {}),
                ("GET", "/runs/nobody", 404, {}),
                ("GET", "/runs/r/results", 200, {}),
                ("GET", "/runs/r/results?format=csv", 200, {}),
                ("GET", "/healthz", 200, {}),
            ]
            for method, path, well, more in calls:
                wait_for(lambda: http.request(method, path, **more).status_code == well, what=path)  # noqa: B023
                with frozen(server):
                    answer = http.request(method, path, **more)
                    assert (answer.status_code, "retry-after" in answer.headers) == (503, True), path
                    for needs_none in ("/openapi.json", "/docs", "/docs/swagger-ui.css"):
                        assert http.get(needs_none).status_code == 200
