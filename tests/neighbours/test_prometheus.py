"""Prometheus itself: each alert pages where it must and nowhere else, and every panel has data."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import yaml
from support import (
    BADGE,
    OTHER_BADGE,
    badges,
    badges_json,
    environment,
    needs,
    process,
    serving,
    wait_for,
    worker_command,
)
from topology import APPEND_ONLY, free_port, servers

from worker.sandbox.issued import SandboxSettings
from worker.sandbox.server import SandboxServer

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.neighbour("promtool")
def test_each_alert_fires_where_it_must_and_is_silent_where_it_must_not() -> None:
    """Both cases of each, by Prometheus' own reckoning; a page where nothing waits is one that must not."""
    command = [needs("promtool"), "test", "rules", "alerts_test.yml"]
    done = subprocess.run(command, cwd=DEPLOY, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    (group,) = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    tested = [test["name"] for test in yaml.safe_load((DEPLOY / "alerts_test.yml").read_text())["tests"]]
    for rule in group["rules"]:
        for case in ("fires: ", "is silent: "):
            assert [name for name in tested if name.startswith(f"{rule['alert']} {case}")], (rule, case)


def panels() -> list[tuple[str, str]]:
    """Return each query of the dashboard, as it is asked of all orgs, with its panel's title."""
    board = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    found = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel["targets"]]
    return [(title, q.replace("$__rate_interval", "5m").replace("$org", ".*")) for title, q in found]


@pytest.mark.neighbour("prometheus")
def test_every_panel_has_data(tmp_path: Path) -> None:
    """After a run with a badge that the vendor doesn't know, none of the dashboard's queries is empty."""
    unknown = SandboxSettings(unknown_badges=frozenset({OTHER_BADGE}))
    rows = "badgeMetaId,customerId\n" + f"{OTHER_BADGE},1\n" + "".join(f"{BADGE},{n}\n" for n in range(1, 30))
    with servers(tmp_path, APPEND_ONLY) as (server,), SandboxServer(settings=unknown) as vendor:
        env = environment(redis_url=f"redis://{server.address}/0", api_base_url=vendor.url, batch_linger_s=0)
        with (
            serving(["metrics", "--port", 0], env=env, log=tmp_path / "metrics.log", says="metrics") as (
                url,
                _,
            ),
            process(worker_command(), env=env, log=tmp_path / "worker.log"),
        ):
            port = free_port()
            scraping = {"job_name": "badges", "static_configs": [{"targets": [url.removeprefix("http://")]}]}
            config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [scraping]}
            (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
            command = [
                *(needs("prometheus"), f"--config.file={tmp_path}/prometheus.yml"),
                *(f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={tmp_path}/data"),
            ]
            with process(command, env=env, log=tmp_path / "prometheus.log"):
                badges("import", "-", "--run", "r", env=env, stdin=rows.encode())
                ended = wait_for(
                    lambda: (run := badges_json("run", "show", "r", env=env))["finished_at"] and run,
                    what="the run's end",
                )
                assert (ended["issued"], ended["dead"]) == (29, 1)

                def empty() -> list[tuple[str, str]]:
                    asked = f"http://127.0.0.1:{port}/api/v1/query"
                    answers = ((t, q, httpx.get(asked, params={"query": q}).json()) for t, q in panels())
                    return [(t, q) for t, q, found in answers if not found.get("data", {}).get("result")]

                within = time.monotonic() + 30
                while (left := empty()) and time.monotonic() < within:
                    time.sleep(0.5)
                assert left == []
