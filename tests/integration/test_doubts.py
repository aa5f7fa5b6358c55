"""Many jobs in doubt: two commands deal with thousands, by the vendor's word or by what a file says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from support import (
    FIRST_CUSTOMER,
    LONG,
    OTHER_BADGE,
    Probe,
    badges,
    badges_json,
    configured,
    environment,
    item,
)

from worker.domain.actor import Actor, Via
from worker.domain.batch import Item
from worker.domain.org import Org
from worker.operate import doubts
from worker.operate.deadlist import Filter
from worker.operate.operator import Operator
from worker.operate.runs import JobReader
from worker.sandbox.issued import Fault, SandboxSettings
from worker.sandbox.server import SandboxServer
from worker.sandbox.vendor import Vendor
from worker.server.connection import Connection
from worker.store import keys, reading
from worker.store.pool import Seats
from worker.store.protocol import CHECK_AFTER_S
from worker.store.queue import Queue, new_id
from worker.store.record import FIELDS, SEPARATOR
from worker.vendor.lookups import Unanswered

AWHILE_MS = CHECK_AFTER_S * 1000 + 1000


@dataclass
class Place:
    """An org, its vendor, and jobs in doubt that died a while ago."""

    queue: Queue
    client: redis.Redis
    sandbox: SandboxServer
    env: dict[str, str]

    @property
    def org(self) -> Org:
        """The org, as the commands have it."""
        return configured(api_base_url=self.sandbox.url)

    @property
    def vendor(self) -> Vendor:
        """The vendor behind it."""
        return self.sandbox.vendor

    def doubt(self, *numbers: int, run: str = "spring", badge_id: str | None = None) -> list[str]:
        """Let jobs be in doubt, since half an hour."""
        more = {"badge_id": badge_id} if badge_id else {}
        items = [
            Item(it.id, str(n), {**it.fields, "code": "500", "attempts": "1"}, kind="in_doubt")
            for n in numbers
            for it in [item(n, **more)]
        ]
        for at in range(0, len(items), 1000):
            self.queue.enqueue(self.org, run=run, items=items[at : at + 1000], call=new_id())
        self.age([it.id for it in items], 3 * AWHILE_MS)
        return [it.id for it in items]

    def age(self, ids: list[str], by_ms: int) -> None:
        """Let jobs have died, and been looked at, earlier."""
        found = [one or {} for one in reading.all_records(self.client, "default", ids)]
        pipe = self.client.pipeline(transaction=False)
        for job_id, record in zip(ids, found, strict=True):
            died_ms = int(record["finished_at"]) - by_ms
            since, _, witness = record.get("absent_since", "").partition(" ")
            seen = f"{int(since) - by_ms} {witness}" if since else ""
            fields = {**record, "finished_at": str(died_ms), "absent_since": seen}
            stored = SEPARATOR.join(fields.get(field, "") for field in FIELDS)
            pipe.set(keys.key("default", "job", job_id), stored)
            pipe.zadd(keys.key("default", "dead", record["group"]), {job_id: died_ms})
        pipe.execute()

    def apply(self, *numbers: int, badge_id: str | None = None) -> None:
        """Let the vendor have issued these."""
        more = {"badge_id": badge_id} if badge_id else {}
        exchange, _ = self.vendor.arrive("import")
        body = [
            {"badgeMetaId": its["badge"], "customerId": int(its["customer"])}
            for its in (item(n, **more).fields for n in numbers)
        ]
        self.vendor.respond(exchange, {}, lambda e: self.vendor.import_badges(e, body))

    def witness(self, n: int = 9999) -> None:
        """Let a badge be issued now."""
        it = item(n)
        self.queue.enqueue(self.org, run="later", items=[it], call=new_id())
        self.apply(n)
        Probe(self.client).change(it.id, state="i", finished_at=_now_ms(self.queue), earned_badge_id="E")
        self.client.lpop(keys.key("default", "queue"))
        self.client.decr(keys.key("default", "queued"))
        self.client.hset(keys.key("default", "gate"), "witness", f"{it.id} {_now_ms(self.queue)}")

    def states(self, ids: list[str]) -> list[str]:
        """Return the letters of the jobs' states."""
        return [str((one or {})["state"]) for one in reading.all_records(self.client, "default", ids)]


def _now_ms(queue: Queue) -> int:
    return queue.store.org_now_ms("default")


@pytest.fixture
def place(queue: Queue, client: redis.Redis, sandbox: SandboxServer, connection: Connection) -> Place:
    """An org at a limit that holds nothing up."""
    env = environment(redis_url=connection.url, api_base_url=sandbox.url, rate_limit="100000/second")
    return Place(queue, client, sandbox, env)


def test_a_look_finds_what_is_shown_and_notes_what_is_not(place: Place) -> None:
    """The first look: shown ones are known, others wait for a second look; a plan alone changes no job."""
    ids = place.doubt(1, 2, 3)
    place.apply(1)
    place.witness()
    plan = badges_json("dead", "check", "--dry-run", env=place.env)
    counts = {name: plan[name] for name in ("jobs", "not_issued", "issued", "waiting", "unclear", "calls")}
    assert counts == {"jobs": 3, "not_issued": 0, "issued": 1, "waiting": 2, "unclear": 0, "calls": 3}
    assert plan["look_again_at"]
    assert place.states(ids) == ["d", "d", "d"]
    refused = badges("dead", "check", "--json", env=place.env, expect=2)
    assert b"--yes" in refused.stderr


def test_how_long_asking_takes_is_said_beforehand(place: Place) -> None:
    """A call for a first look, two for a second, none for what is too young; at its share of the limit."""
    ids = place.doubt(1, 2, 3)
    place.witness()
    Seats(queue=place.queue).offer("worker", 1)
    said = badges(
        "dead", "check", "--dry-run", env=place.env | {"BADGES_RATE_LIMIT": "4/second"}
    ).stdout.decode()
    assert said.splitlines()[0] == "3 calls at most, about 1 s"
    place.age(ids, AWHILE_MS)
    slow = configured(api_base_url=place.sandbox.url, rate_limit="1/second")
    reports = JobReader(client=place.client, orgs={"default": slow})
    which = Filter(org="default")
    assert doubts.expected(reports, doubts.pairs(reports, which), 0.1) == (6, 6)
    place.queue.enqueue(slow, run="waits", items=[item(5)], call=new_id())
    assert doubts.expected(reports, doubts.pairs(reports, which), 0.1) == (6, pytest.approx(60, abs=2))
    place.age(ids, -3 * AWHILE_MS)
    assert doubts.expected(reports, doubts.pairs(reports, which), 0.1) == (0, 0)
    assert "at most" not in badges("dead", "check", "--dry-run", env=place.env).stdout.decode()


def test_two_looks_end_it(place: Place) -> None:
    """Ten minutes later what is still not shown is sent again, what is shown ends as issued; audited."""
    ids = place.doubt(1, 2, 3, 4)
    place.apply(1, 3)
    place.witness()
    badges("dead", "check", "--dry-run", env=place.env)
    place.age(ids, AWHILE_MS)
    done = badges_json("dead", "check", "--yes", "--note", "ticket 7", env=place.env)
    assert (done["not_issued"], done["issued"], done["queued"], done["resolved"]) == (2, 2, 2, 2)
    assert place.states(ids) == ["i", "q", "i", "q"]
    (entry,) = badges_json("audit", env=place.env)
    assert (entry["action"], entry["count"], entry["note"]) == ("resolve", 4, "ticket 7")
    assert badges_json("dead", "check", "--yes", env=place.env)["jobs"] == 0


def test_looks_begin_again_if_what_they_went_by_is_gone(place: Place) -> None:
    """Its badge was taken back, say: two looks that go by a later one end it, not one."""
    ids = place.doubt(1)
    place.witness()
    badges("dead", "check", "--dry-run", env=place.env)
    Probe(place.client).change(item(9999).id, state="u")
    place.age(ids, AWHILE_MS)
    place.witness(9998)
    for _ in range(2):  # the second time too early
        plan = badges_json("dead", "check", "--yes", env=place.env)
        assert (plan["waiting"], plan["queued"]) == (1, 0)
    place.age(ids, AWHILE_MS)
    assert badges_json("dead", "check", "--yes", env=place.env)["queued"] == 1


def test_a_file_that_can_mean_jobs_of_several_orgs_ends_none(place: Place, tmp_path: Path) -> None:
    """By customer and badge, or a producer's own id: which org is meant is said by --org."""
    (tmp_path / "orgs.toml").write_text(f'[eu]\napi_base_url = "{place.sandbox.url}"\n')
    env = place.env | {"BADGES_ORGS_FILE": str(tmp_path / "orgs.toml")}
    eu = place.org.model_copy(update={"name": "eu"})
    for org in (place.org, eu):
        fields = {**item(1).fields, "code": "500", "fingerprint": item(1, org=org.name).id}
        own = Item("own-1", "1", fields, kind="in_doubt")
        place.queue.enqueue(org, run="spring", items=[own], call=new_id())
    (by_job := tmp_path / "job.csv").write_text("job_id,issued\nown-1,no\n")
    (by_pair := tmp_path / "pair.csv").write_text(
        f"customerId,badgeMetaId,issued\n{FIRST_CUSTOMER + 1},{item(1).fields['badge']},no\n"
    )
    for file in (by_job, by_pair):
        said = badges_json("dead", "resolve", "--from", file, "--dry-run", env=env)
        assert (said["issued"], said["not_issued"], said["unknown"]) == (0, 0, 0)
        assert "jobs of several orgs can be meant (default, eu): say --org" in str(said)
    for command in (("job", "show"), ("job", "undo"), ("dead", "resolve", "--not-issued")):
        told = badges(*command, "own-1", env=env, expect=2).stderr
        assert b"is a job of several orgs: default, eu; say --org" in told
    for command in (("replay", "--dry-run"), ("replay", "--kind", "in_doubt"), ("discard", "--yes")):
        told = badges("dead", *command, "--job", "own-1", env=env, expect=2).stderr
        assert b"is a job of several orgs: default, eu; say --org" in told
    done = badges_json("dead", "resolve", "--from", by_pair, "--org", "eu", "--yes", env=env)
    assert (done["not_issued"], done["queued"]) == (1, 1)
    assert badges_json("job", "show", "own-1", "--org", "default", env=env)["state"] == "dead"
    told = badges("dead", "resolve", "own-1", "--org", "eu", "--issued", env=place.env, expect=2).stderr
    assert b"org eu isn't configured any more" in told


def test_a_half_cancelled_run_is_refused_by_previews_and_files(place: Place, tmp_path: Path) -> None:
    """As the act is, with what is to be done first; nothing is passed over in silence."""
    (doubted, cancelled) = place.doubt(1), [item(n).id for n in range(2000, 3500)]
    place.queue.enqueue(place.org, run="spring", items=[item(n) for n in range(2000, 2999)], call=new_id())
    place.queue.enqueue(place.org, run="spring", items=[item(n) for n in range(2999, 3500)], call=new_id())
    place.queue.cancel_run("default", "spring", 1000, call=new_id())
    assert cancelled
    replay = ("dead", "replay", "--kind", "cancelled", "--dry-run", "--json")
    said = json.loads(badges(*replay, env=place.env, expect=None).stdout)
    assert (said["replayed"], said["skipped"] > 0) == (0, True)
    first = b"first: badges run cancel spring"
    for how in (["--dry-run"], []):
        told = badges("dead", "resolve", doubted[0], "--not-issued", *how, env=place.env, expect=2)
        assert first in told.stderr
    (file := tmp_path / "said.csv").write_text(f"job_id,issued\n{doubted[0]},no\n")
    told = badges("dead", "resolve", "--from", file, "--yes", env=place.env, expect=2)
    assert first in told.stderr
    assert place.states(doubted) == ["d"]


def test_what_is_not_certain_is_said_and_left(place: Place) -> None:
    """No witness, too young, a vendor in trouble, a count that is too small for all: in doubt as before."""
    old = place.doubt(1)
    plan = badges_json("dead", "check", "--yes", env=place.env)
    assert (plan["unclear"], plan["queued"]) == (1, 0)
    assert "nothing was issued since" in next(iter(plan["why"]))
    place.witness()
    place.vendor.add_fault(Fault(fault="status", status=500, on="read", times=1))
    assert badges_json("dead", "check", "--yes", env=place.env)["why"] == {"the vendor answered 500": 1}
    young = place.doubt(2)
    place.age(young, -3 * AWHILE_MS)
    plan = badges_json("dead", "check", "--yes", "--job", young[0], env=place.env)
    assert (plan["waiting"], plan["calls"]) == (1, 0)
    assert place.states(old + young) == ["d", "d"]


def test_a_badge_that_we_issued_before_explains_what_is_shown(place: Place) -> None:
    """Another job of the same customer and badge was issued: one shown earn is that one, two are both."""
    (doubted,) = place.doubt(1)
    earlier = Item("earlier", "1", item(1).fields, fingerprint=item(1).id)
    place.queue.enqueue(place.org, run="before", items=[earlier], call=new_id())
    place.apply(1)
    place.witness()
    plan = badges_json("dead", "check", "--dry-run", env=place.env)
    assert (plan["unclear"], plan["issued"]) == (1, 0)
    place.apply(1)
    assert badges_json("dead", "check", "--yes", env=place.env)["issued"] == 1
    assert place.states([doubted]) == ["i"]


def test_the_read_side_may_lag(place: Place) -> None:
    """Applied, but not shown yet: never sent again, however often it is looked at."""
    place.vendor.configure(SandboxSettings(read_delay_s=3600))
    ids = place.doubt(1)
    place.apply(1)
    place.witness()
    badges("dead", "check", "--dry-run", env=place.env)
    place.age(ids, AWHILE_MS)
    plan = badges_json("dead", "check", "--yes", env=place.env)
    assert (plan["unclear"], plan["queued"]) == (1, 0)
    assert "later" in next(iter(plan["why"]))


class Shown:
    """A vendor's read side that answers at once: an even customer has the badge, an odd one hasn't."""

    def earn_count(self, _org: Org, _badge: str, customer: int) -> int | Unanswered:
        """Say how often."""
        return (customer - FIRST_CUSTOMER) % 2 == 0 or customer == FIRST_CUSTOMER + 9999


@LONG
def test_five_thousand_are_dealt_with_by_two_looks(place: Place) -> None:
    """Half of them shown, half not; between the looks ten minutes go by."""
    ids = place.doubt(*range(5000))
    place.witness()
    reports = JobReader(client=place.client, orgs={"default": place.org})
    operator = Operator(place.queue, reports, {"default": place.org}, Actor(Via.USER, "ann"))
    lookups: Any = Shown()
    for _ in range(2):
        plan = doubts.look(operator, lookups, doubts.pairs(reports, Filter()))
        doubts.act(operator, plan, Filter())
        place.age([it for it, state in zip(ids, place.states(ids), strict=True) if state == "d"], AWHILE_MS)
    states = place.states(ids)
    assert (states.count("i"), states.count("q")) == (2500, 2500)
    run = reports.run("spring")
    assert (run.issued, run.queued, run.dead) == (2500, 2500, 0)


@LONG
def test_five_thousand_are_dealt_with_by_a_file(place: Place, tmp_path: Path) -> None:
    """What the vendor's support says of each, as a plan and then as an act."""
    ids = place.doubt(*range(5000))
    file = tmp_path / "support.csv"
    rows = [f"{job_id},{'yes' if n % 2 else 'no'}" for n, job_id in enumerate(ids)]
    file.write_text("job_id,issued\n" + "\n".join(rows))
    plan = badges_json("dead", "resolve", "--from", file, "--dry-run", env=place.env)
    assert (plan["issued"], plan["not_issued"], plan["unknown"], plan["queued"]) == (2500, 2500, 0, 0)
    badges("dead", "resolve", "--from", file, env=place.env, expect=2)
    assert set(place.states(ids)) == {"d"}
    done = badges_json("dead", "resolve", "--from", file, "--yes", env=place.env)
    assert (done["resolved"], done["queued"]) == (2500, 2500)
    assert badges_json("dead", "resolve", "--from", file, "--yes", env=place.env)["unknown"] == 5000


def test_a_file_names_customers_and_badges(place: Place, tmp_path: Path) -> None:
    """Without job ids; where several jobs may be meant, a yes for one of them is left to a person."""
    one, two = place.doubt(1, 2)
    other = place.doubt(3, badge_id=OTHER_BADGE)[0]
    twin = Item("twin", "1", {**item(1).fields, "code": "500"}, fingerprint="f", kind="in_doubt")
    place.queue.enqueue(place.org, run="spring", items=[twin], call=new_id())
    badge, customer = item(1).fields["badge"], FIRST_CUSTOMER
    said = [
        {"badgeMetaId": badge, "customerId": customer + 1, "issued": True},
        {"badgeMetaId": badge, "customerId": customer + 2, "issued": "no"},
        {"badgeMetaId": OTHER_BADGE, "customerId": customer + 3, "issued": "Issued"},
        {"badgeMetaId": badge, "customerId": 7, "issued": "yes"},
        {"badgeMetaId": badge, "issued": "yes"},
        {"job_id": other, "issued": "perhaps"},
    ]
    file = tmp_path / "export.jsonl"
    file.write_text("\n".join(map(json.dumps, said)))
    done = badges_json("dead", "resolve", "--from", file, "--yes", env=place.env)
    assert (done["resolved"], done["queued"], done["unknown"], done["refused"]) == (1, 1, 1, 3)
    assert {fault["row"] for fault in done["faults"]} == {1, 5, 6}
    assert place.states([one, two, other]) == ["d", "q", "i"]


def test_a_file_that_contradicts_itself(place: Place, tmp_path: Path) -> None:
    """Yes and no for one job: left as it is, and said; a file without the columns is refused."""
    (one,) = place.doubt(1)
    file = tmp_path / "support.csv"
    file.write_text(f"Job Id;Issued\n{one};yes\n{one};no\n")
    done = badges_json("dead", "resolve", "--from", file, "--yes", env=place.env)
    assert (done["refused"], place.states([one])) == (1, ["d"])
    file.write_text("customer,badge\n1,2\n")
    assert (
        b"needs a column issued" in badges("dead", "resolve", "--from", file, env=place.env, expect=1).stderr
    )
    badges("dead", "resolve", env=place.env, expect=2)
    said = badges("dead", "resolve", "--from", file.parent, env=place.env, expect=1).stderr.decode()
    assert f"{file.parent} is a directory, not a file" in said
    badges("dead", "resolve", one, "--from", file, "--issued", env=place.env, expect=2)


def test_a_row_of_a_pair_contradicts_a_row_of_its_job(place: Place, tmp_path: Path) -> None:
    """Named by its id in one row and by customer and badge in another: sent again, it may come twice."""
    one, two, three = place.doubt(1, 2, 3)
    twin = Item("twin", "1", {**item(3).fields, "code": "500"}, fingerprint="f", kind="in_doubt")
    place.queue.enqueue(place.org, run="spring", items=[twin], call=new_id())
    badge, customer = item(1).fields["badge"], FIRST_CUSTOMER
    rows = [f"{one},,,no", f",{customer + 1},{badge},yes"]  # they contradict each other
    rows += [f"{two},,,no", f",{customer + 2},{badge},no"]  # they agree
    rows += [f"{three},,,no", f",{customer + 3},{badge},yes"]  # of two jobs one each
    file = tmp_path / "support.csv"
    file.write_text("\n".join(["job_id,customerId,badgeMetaId,issued", *rows]) + "\n")
    done = badges_json("dead", "resolve", "--from", file, "--yes", env=place.env)
    assert (done["unknown"], done["refused"]) == (0, 1)
    assert done["faults"] == [{"row": 2, "reason": "row 3 says otherwise of the same job"}]
    assert place.states([one, two, three, "twin"]) == ["d", "q", "q", "i"]


def test_what_is_cancelled_as_its_run_is_isnt_said_to_be_sent(place: Place) -> None:
    """A run that was cancelled while some of it were in doubt: certainly not issued, they stay here."""
    ids = place.doubt(1, 2)
    place.witness()
    badges("dead", "check", "--dry-run", env=place.env)
    said = badges("run", "cancel", "spring", "--yes", env=place.env).stderr.decode()
    assert "what comes to it, or would wait again, is cancelled too" in said
    place.age(ids, AWHILE_MS)
    said = badges("dead", "check", "--yes", env=place.env).stdout.decode()
    assert "0 queued again" in said
    assert "2 cancelled, since their whole run is" in said


def test_groups_offer_both(place: Place) -> None:
    """Where there is doubt, the commands that end it are named."""
    place.doubt(1)
    shown = badges("dead", "groups", env=place.env).stdout.decode()
    assert "badges dead check" in shown
    assert "badges dead resolve --from FILE" in shown
    (run,) = {one["run"] for one in badges_json("dead", "list", env=place.env)}
    shown = badges("run", "show", run, env=place.env).stdout.decode()
    assert f"badges dead check --run {run}" in shown
    assert "to mend" not in shown  # nothing of these rows is wrong


def test_a_file_names_badges_in_either_case(place: Place, tmp_path: Path) -> None:
    """An export of the vendor's may write its ids in capitals."""
    ids = place.doubt(1)
    (file := tmp_path / "export.csv").write_text(
        f"badgeMetaId,customerId,issued\n{item(1).fields['badge'].upper()},{FIRST_CUSTOMER + 1},yes\n"
    )
    done = badges_json("dead", "resolve", "--from", file, "--yes", env=place.env)
    assert (done["resolved"], done["unknown"], place.states(ids)) == (1, 0, ["i"])


def test_a_quote_that_nothing_closes_is_an_error_of_the_file(place: Place, tmp_path: Path) -> None:
    """However much follows it."""
    ids = place.doubt(1)
    (file := tmp_path / "support.csv").write_text(f'job_id,issued\n"{ids[0]},yes\n' + "x,yes\n" * 30_000)
    said = badges("dead", "resolve", "--from", file, "--yes", env=place.env, expect=1).stderr.decode()
    assert "support.csv can't be read as CSV near line" in said
    assert place.states(ids) == ["d"]


def test_an_org_that_nobody_configures_ends_nothing(place: Place, tmp_path: Path) -> None:
    """It is said, before anything is done: no job of any org is changed."""
    ids = place.doubt(1)
    gone = configured(name="gone")
    theirs = Item("theirs", "1", {**item(2).fields, "code": "500"}, kind="in_doubt")
    place.queue.enqueue(gone, run="spring", items=[theirs], call=new_id())
    (file := tmp_path / "support.csv").write_text(f"job_id,issued\n{ids[0]},no\ntheirs,no\n")
    said = badges("dead", "resolve", "--from", file, "--yes", env=place.env, expect=2).stderr.decode()
    assert "org gone isn't configured any more" in said
    assert place.states(ids) == ["d"]
