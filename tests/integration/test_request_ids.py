"""Each import call carries an id that the vendor's support can be asked by; it is made of the batch's."""

from __future__ import annotations

import csv
from pathlib import Path
from uuid import UUID

import pytest
import redis
from support import badges, badges_json, configured, deliver_one, environment, item

from worker.config import Settings
from worker.delivery import Delivered, Delivery
from worker.domain.identity import request_id
from worker.operate.runs import JobReader
from worker.sandbox.issued import Fault, SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store.queue import Queue, new_id
from worker.vendor.auth import Authenticator
from worker.vendor.client import VendorClient


@pytest.mark.parametrize("header", ["X-CAP-REQUEST-ID", ""])
def test_a_call_carries_its_id_and_the_one_that_comes_back_is_kept(
    queue: Queue, sandbox: SandboxServer, header: str
) -> None:
    """Ours in the job's record, theirs with the attempt; switched off, none is sent."""
    org = configured(api_base_url=sandbox.url, request_id_header=header)
    sandbox.vendor.add_fault(Fault(fault="status", status=500, times=1))
    queue.enqueue(org, run="r", items=[item(1)], call=new_id())
    http = VendorClient()
    done = deliver_one(Delivery(queue=queue, client=http, auth=Authenticator(queue=queue, client=http)), org)
    http.close()
    assert isinstance(done, Delivered)
    ours = request_id(done.batch.id)
    assert UUID(ours).version == 4
    (exchange,) = sandbox.vendor.ledger().exchanges
    assert (exchange.request_id == ours) == bool(header)
    job = JobReader(client=queue.client, orgs={"default": org}).job(item(1).id)
    assert job["sent_request_id"] == ours
    assert job["history"][0]["request"] == (ours if header else None)


def test_both_ids_are_shown_where_people_look(
    connection: Connection, client: redis.Redis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In dead letters, results (CSV too), the job, the log; by ours the jobs of a call are found."""
    client.flushall()
    with SandboxServer(settings=SandboxSettings(request_ids="honours")) as sandbox:
        org = configured(api_base_url=sandbox.url, batch_size=2, batch_linger_s=0, rate_limit="1000/second")
        queue, http = Queue(client), VendorClient()
        queue.enqueue(org, run="r", items=[item(n) for n in range(4)], call=new_id())
        theirs = {"X-CAP-REQUEST-ID": "their-own-id"}
        sandbox.vendor.add_fault(Fault(fault="status", status=500, times=1, headers=theirs, after=1))
        delivery = Delivery(queue=queue, client=http, auth=Authenticator(queue=queue, client=http))
        sent = [deliver_one(delivery, org) for _ in range(2)]
        http.close()
    well, doubtful = (request_id(done.batch.id) for done in sent if isinstance(done, Delivered))
    logged = capsys.readouterr().out
    assert f"request={doubtful}" in logged
    assert "answered=their-own-id" in logged
    assert f"answered={well}" in logged
    env = environment(redis_url=connection.url)
    letters = badges_json("dead", "list", env=env)
    assert [(one["sent_request_id"], one["answered_request_id"]) for one in letters] == [
        (doubtful, "their-own-id")
    ] * 2
    assert f"request {doubtful}, answered as their-own-id" in badges("dead", "list", env=env).stdout.decode()
    job = badges_json("job", "show", letters[0]["job_id"], env=env)
    assert job["history"][0]["sent_request_id"] == doubtful
    report = tmp_path / "report.csv"
    badges("results", "--run", "r", "--format", "csv", "-o", report, env=env)
    with report.open(newline="", encoding="utf-8-sig") as opened:
        rows = list(csv.DictReader(opened))
    issued = [row for row in rows if row["state"] == "issued"]
    assert {(row["sent_request_id"], row["answered_request_id"]) for row in issued} == {(well, well)}
    assert {row["requestId"].rpartition("_")[0] for row in issued} == {well}
    for its_id in (well, doubtful, doubtful.upper(), "their-own-id"):
        assert len(badges_json("find", "--request", its_id, env=env)) == 2
    assert badges_json("find", "--request", request_id("another"), env=env) == []
    again = badges_json("import", report, env=environment(redis_url=connection.url, api_base_url=sandbox.url))
    assert (again["accepted"], again["invalid"]) == (0, 0)  # a report with these columns is one still


def test_an_empty_variable_switches_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though every other empty variable is none."""
    assert Settings.load().request_id_header == "X-CAP-REQUEST-ID"
    monkeypatch.setenv("BADGES_REQUEST_ID_HEADER", "")
    assert Settings.load().org("default").request_id_header == ""
