"""Undo with a real worker, and a vendor with faults."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import BADGE, FIRST_CUSTOMER, badges, badges_json, environment, process, wait_for, worker_command

from worker.sandbox.issued import Fault
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection


@pytest.fixture
def env(empty: Connection, sandbox: SandboxServer) -> dict[str, str]:
    """The vendor, at a limit that holds nothing up."""
    its = {"rate_limit": "1000/second", "batch_linger_s": 0.1, "http_timeout_s": 2, "retry_base_s": 0.1}
    return environment(redis_url=empty.url, broker_url=empty.broker_url, api_base_url=sandbox.url, **its)


def imported(env: dict[str, str], folder: Path, number: int, run: str) -> None:
    """Bring rows in, and see them issued."""
    file = folder / f"{run}.csv"
    lines = [f"{BADGE},{FIRST_CUSTOMER + n},1674292011" for n in range(number)]
    file.write_text("\n".join(["badgeMetaId,customerId,earnEventDate", *lines, ""]))
    badges("import", file, "--run", run, env=env)
    badges("run", "follow", run, env=env)


def ended(env: dict[str, str], run: str) -> Any:
    """Return a run's progress once all of it has ended."""

    def over() -> Any:
        shown = badges_json("run", "show", run, env=env)
        return shown if not shown["queued"] + shown["sending"] + shown["retrying"] else None

    return wait_for(over, what=f"{run} to end")


@pytest.mark.timeout(120)
def test_an_undo_goes_through_whatever_the_vendor_answers(
    env: dict[str, str], sandbox: SandboxServer, tmp_path: Path
) -> None:
    """429, 502 after it was done, 401 (which pauses the org), and one that somebody else took back."""
    vendor = sandbox.vendor
    with process(worker_command(), env=env, log=tmp_path / "log"):
        imported(env, tmp_path, 40, "spring")
        first = vendor.ledger().issues[0]
        its = {"badgeMetaId": first.badge_meta_id, "customerId": first.customer_id}
        exchange, _ = vendor.arrive("revoke")
        vendor.respond(
            exchange, {}, lambda e: vendor.revoke(e, its | {"earnedBadgeId": first.earned_badge_id})
        )
        faults: list[dict[str, Any]] = [
            {"status": 429, "headers": {"Retry-After": "1"}, "after": 3},
            {"status": 502, "apply": "all", "after": 8},
            {"status": 401, "after": 15},
        ]
        for fault in faults:
            vendor.add_fault(Fault(fault="status", on="revoke", times=1, **fault))
        done = badges_json("run", "undo", "spring", "--yes", "--note", "wrong", env=env)
        assert (done["jobs"], done["calls"]) == (40, 40)
        assert badges_json("run", "undo", "spring", "--yes", env=env)["jobs"] == 0
        wait_for(lambda: badges_json("status", env=env)[0]["gate"]["state"] == "paused", what="the 401")
        badges("resume", env=env)
        undo = ended(env, done["run"])
    assert (undo["undone"], undo["dead"], vendor.ledger().active) == (40, 0, ())
    run = badges_json("run", "show", "spring", env=env)
    assert (run["issued"], run["undone"], run["total"]) == (0, 40, 40)
    rows = badges_json("results", "--run", "spring", "--json", env=env)
    assert {row["undone_note"] for row in rows} == {"wrong"}
    gone = [row["customerId"] for row in rows if "gone at the vendor" in row["reason"]]
    assert first.customer_id in gone
    endpoints = Counter(exchange.endpoint for exchange in vendor.ledger().exchanges)
    assert endpoints["revoke"] == 1 + 40 + len(faults)
    metrics = badges_json("status", env=env)[0]
    assert metrics["gate"]["state"] == "open"
