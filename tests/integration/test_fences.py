"""A call without jobs that was held up counts in the window in which it leaves, or isn't made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from support import BADGE, FIRST_CUSTOMER, Probe, badges_json, configured, deliver_one, environment, item

from worker.delivery import Delivered, Delivery
from worker.domain.batch import Slot, Wait, Why
from worker.domain.org import Org
from worker.operate.orgcheck import check_org
from worker.operate.survey import Survey
from worker.sandbox.issued import SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.server.connection import Connection
from worker.store import keys
from worker.store.clock import Clock
from worker.store.queue import Queue, new_id
from worker.vendor.auth import Authenticator, Credentials
from worker.vendor.client import VendorClient
from worker.vendor.lookups import Lookups, Unanswered
from worker.vendor.revoking import Revoker


class Behind(Clock):
    """A clock by which every slot is over by ten seconds once its call is made: something held it up."""

    def steady_s(self) -> float:
        """Return what it was ten seconds ago."""
        return super().steady_s() - 10


class Forgotten(Queue):
    """A queue whose server has forgotten when a call was to be made, so that its slot can't be moved."""

    def reserve_call(self, org: Org, call: str, **more: Any) -> Slot | Wait:
        """Pay, and forget it."""
        paid = super().reserve_call(org, call, **more)
        self.client.delete(keys.key(org.name, "call", call))
        return paid


@pytest.fixture
def http() -> Iterator[VendorClient]:
    """The vendor's client, which goes by the real clock."""
    made = VendorClient()
    yield made
    made.close()


@pytest.fixture
def late(client: redis.Redis) -> Queue:
    """A queue whose calls are late, and move their slots."""
    return Queue(client, clock=Behind())


@pytest.fixture
def too_late(client: redis.Redis) -> Queue:
    """A queue whose calls are late, and may not be made any more."""
    return Forgotten(client, clock=Behind())


def test_a_token(http: VendorClient, sandbox: SandboxServer, late: Queue, too_late: Queue) -> None:
    """Where it isn't fetched, nothing is wrong with the credentials: somebody looks again."""
    sandbox.vendor.configure(SandboxSettings(oauth=("key", "secret")))
    org = configured(auth="oauth", oauth_key="key", oauth_secret="secret", api_base_url=sandbox.url)
    answer = Authenticator(queue=too_late, client=http).credentials(org)
    assert isinstance(answer, Wait)
    assert answer.why is Why.TOO_LATE
    assert sandbox.vendor.ledger().exchanges == ()
    assert isinstance(Authenticator(queue=late, client=http).credentials(org), Credentials)


def test_a_look(http: VendorClient, sandbox: SandboxServer, late: Queue, too_late: Queue) -> None:
    """Where it isn't made, nothing is known of the badge."""
    org = configured(api_base_url=sandbox.url)
    looks = [Lookups(queue, http, Authenticator(queue=queue, client=http)) for queue in (too_late, late)]
    assert isinstance(looks[0].earn_count(org, BADGE, FIRST_CUSTOMER), Unanswered)
    assert sandbox.vendor.ledger().exchanges == ()
    assert looks[1].earn_count(org, BADGE, FIRST_CUSTOMER) == 0


def test_the_doctors_call(http: VendorClient, sandbox: SandboxServer, late: Queue, too_late: Queue) -> None:
    """Where it isn't made, the vendor isn't said to be unreachable."""
    org = configured(api_base_url=sandbox.url)
    (state,) = Survey(late.client).states({"default": org})
    found = {one.check: one for one in check_org(state, too_late, http)}
    assert (found["vendor"].result, sandbox.vendor.ledger().exchanges) == ("warn", ())
    assert "not asked" in found["vendor"].detail
    assert {one.check: one.result for one in check_org(state, late, http)}["vendor"] == "ok"


def test_taking_a_badge_back(
    http: VendorClient, sandbox: SandboxServer, connection: Connection, late: Queue, too_late: Queue
) -> None:
    """Where the call isn't made, no attempt is spent, and none is counted."""
    org, client, it = configured(api_base_url=sandbox.url), late.client, item(1)
    env = environment(redis_url=connection.url, api_base_url=sandbox.url)
    punctual = Queue(client)
    punctual.enqueue(org, run="spring", items=[it], call=new_id())
    delivery = Delivery(queue=punctual, client=http, auth=Authenticator(queue=punctual, client=http))
    assert isinstance(deliver_one(delivery, org), Delivered)
    badges_json("run", "undo", "spring", "--yes", env=env)
    (undo,) = client.zrange(keys.key("default", "revokes"), 0, -1)
    assert Revoker(too_late, http, Authenticator(queue=too_late, client=http)).work(org) == 0
    assert Probe(client).record(undo).get("attempts", "0") == "0"
    assert len(sandbox.vendor.ledger().active) == 1
    client.delete(keys.key("default", "revoker"))  # it waits for a second
    client.zadd(keys.key("default", "revokes"), {undo: 1})
    assert Revoker(late, http, Authenticator(queue=late, client=http)).work(org) == 1
    assert sandbox.vendor.ledger().active == ()
    assert badges_json("job", "show", it.id, env=env)["state"] == "undone"
