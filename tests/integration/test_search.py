"""The promise that a customer's jobs are found, however long ago they were accepted, and nobody else's."""

from __future__ import annotations

import pytest
import redis
from hands import claimed, expire_discarded, settle
from support import BADGE, FIRST_CUSTOMER, OTHER_BADGE, badges, badges_json, configured, environment, item

from worker.domain.outcome import Issued
from worker.operate.deadlist import Filter
from worker.operate.paging import letters
from worker.operate.runs import JobReader
from worker.operate.search import Sought, find
from worker.server.connection import Connection
from worker.store import keys
from worker.store.queue import Queue

ORG = configured(batch_size=10)


@pytest.fixture
def reports(queue: Queue, client: redis.Redis) -> JobReader:
    """Jobs of two badges for three customers, the first of them issued, one with an id of its own."""
    own = item(2)._replace(id="order-7", fingerprint=item(2).id)
    items = [item(0), item(1), item(0, badge_id=OTHER_BADGE), own]
    queue.enqueue(ORG, run="r", items=items, call="c")
    batch = claimed(queue, ORG, "b1")
    issued = [Issued(f"E{n}", request_id=f"uuid_{n}") for n, _ in enumerate(batch.jobs)]
    settle(queue, ORG, batch, *issued)
    return JobReader(client=client, orgs={"default": ORG})


def found(reports: JobReader, **sought: object) -> list[tuple[str, str, bool]]:
    """Return id, state and certainty of what is found."""
    rows = find(reports, Sought(**sought))  # type: ignore[arg-type]
    return sorted((row["job_id"], row["state"], row["certain"]) for row in rows)


def test_a_customers_jobs_are_found(reports: JobReader) -> None:
    """Of all badges, or of one; also where the producer gave the id."""
    mine = [item(0).id, item(0, badge_id=OTHER_BADGE).id]
    assert found(reports, customer=FIRST_CUSTOMER) == sorted((one, "issued", True) for one in mine)
    assert found(reports, customer=FIRST_CUSTOMER, badge=BADGE.upper()) == [(item(0).id, "issued", True)]
    assert found(reports, customer=FIRST_CUSTOMER + 2) == [("order-7", "issued", True)]
    assert found(reports, customer=1) == []


def test_what_was_discarded_is_not_said_to_have_never_been_there(
    reports: JobReader, queue: Queue, connection: Connection
) -> None:
    """It isn't found by its customer for long, but where it is counted; nor are expired ones by a call."""
    queue.enqueue(ORG, run="r", items=[item(7)], call="d")
    queue.cancel("default", [item(7).id], call="e")
    assert found(reports, customer=FIRST_CUSTOMER + 7)
    env = environment(redis_url=connection.url)
    badges("dead", "discard", "--kind", "cancelled", "--yes", env=env)
    customer = FIRST_CUSTOMER + 7
    assert "discarded since: " in badges("find", "--customer", customer, env=env).stdout.decode()
    expire_discarded(queue)
    said = badges("find", "--customer", customer, env=env).stdout.decode()
    command = f"badges forget --customer {customer} --dry-run"
    assert " ".join(said.split()).endswith(f"what was discarded are counted by {command}")
    assert badges_json(*command.split()[1:], env=env)["records"] == {"dead": 1}
    assert b"that are kept" in badges("find", "--earned", "E9", env=env).stdout


def test_what_has_expired_is_remembered(reports: JobReader, client: redis.Redis) -> None:
    """By customer that is probable, by the job's own id it is certain; a revoked one is told apart."""
    for job_id in (item(0).id, "order-7"):
        client.delete(keys.key("default", "job", job_id))
    sought = {"customer": FIRST_CUSTOMER, "badge": BADGE}
    assert found(reports, **sought) == [(item(0).id, "remembered", False)]
    row = next(find(reports, Sought(customer=FIRST_CUSTOMER)))
    assert (row["badgeMetaId"], row["customerId"]) == (BADGE, FIRST_CUSTOMER)
    assert found(reports, job=item(0).id) == [(item(0).id, "remembered", True)]
    assert found(reports, job="order-7") == [("order-7", "remembered", True)]
    assert found(reports, customer=FIRST_CUSTOMER + 2) == [("", "remembered", True)]
    client.zadd(keys.key("default", "undone", item(0).id[:3]), {item(0).id[3:]: 0})
    assert found(reports, job=item(0).id) == [(item(0).id, "undone", True)]


def test_what_the_vendor_called_it_finds_it(reports: JobReader) -> None:
    """An earnedBadgeId, a row's requestId, the whole call's, our batch."""
    first = [(item(0).id, "issued", True)]
    assert found(reports, earned="E0") == first
    assert found(reports, request="uuid_0") == first
    assert len(found(reports, request="uuid")) == 4
    assert len(found(reports, request="b1")) == 4
    assert found(reports, earned="E") == []


def test_a_customers_results_and_dead_letters_are_found_without_reading_others(
    reports: JobReader, queue: Queue, connection: Connection
) -> None:
    """The commands' --customer, with their other filters: what belongs to others isn't looked at."""
    many = [item(n) for n in range(100, 400)]
    queue.enqueue(ORG, run="many", items=many, call="m")
    queue.cancel("default", [many[7].id, many[8].id], call="m2")
    env = environment(redis_url=connection.url)
    customer = FIRST_CUSTOMER + 107

    def asked(*command: object) -> list[dict[str, str]]:
        reports.client.config_resetstat()
        rows = badges_json(*command, env=env)
        assert reports.client.info("commandstats").get("cmdstat_get", {}).get("calls", 0) < 50
        return [{name: row[name] for name in ("job_id", "state")} for row in rows]

    mine = [{"job_id": many[7].id, "state": "dead"}]
    assert asked("dead", "list", "--customer", customer) == mine
    assert asked("dead", "list", "--customer", customer, "--kind", "rejected") == []
    assert asked("results", "--customer", customer) == mine
    assert asked("results", "--customer", customer, "--state", "dead") == mine
    assert asked("results", "--customer", customer, "--state", "issued") == []
    assert asked("results", "--customer", customer, "--badge", OTHER_BADGE) == []
    assert asked("results", "--customer", customer, "--run", "r") == []
    assert [row["state"] for row in asked("results", "--customer", FIRST_CUSTOMER)] == ["issued"] * 2
    (group,) = badges_json("dead", "groups", "--customer", customer, env=env)
    assert (group["count"], group["sample"]) == (1, many[7].id)
    assert badges_json("dead", "discard", "--customer", customer, "--yes", env=env) == {"discarded": 1}
    assert asked("dead", "list", "--customer", customer) == []
    page = letters(reports, Filter(customer=customer + 1), None, 10)
    assert [row["job_id"] for row in page.rows] == [many[8].id]
    assert letters(reports, Filter(customer=customer + 1), f"default {many[8].id}", 10).rows == []
