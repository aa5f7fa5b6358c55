"""Each import call carries an id that the vendor's support can be asked by; it is made of the batch's."""

from __future__ import annotations

from uuid import UUID

import pytest
from support import configured, deliver_one, item

from worker.config import Settings
from worker.delivery import Delivered, Delivery
from worker.domain.identity import request_id
from worker.operate.runs import JobReader
from worker.sandbox.issued import Fault
from worker.sandbox.server import SandboxServer
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


def test_an_empty_variable_switches_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though every other empty variable is none."""
    assert Settings.load().request_id_header == "X-CAP-REQUEST-ID"
    monkeypatch.setenv("BADGES_REQUEST_ID_HEADER", "")
    assert Settings.load().org("default").request_id_header == ""
