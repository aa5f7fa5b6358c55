"""Forgetting a customer: nothing of one is left, nobody else loses anything, and nothing comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hands import claimed, settle
from support import (
    BADGE,
    FIRST_CUSTOMER,
    OTHER_BADGE,
    Outcome,
    Probe,
    badge,
    configured,
    environment,
    in_process,
    item,
)

from worker.domain.batch import Item, Replay
from worker.domain.identity import content_id
from worker.domain.job import DeadKind
from worker.domain.outcome import Issued
from worker.domain.settlement import DeadLetter
from worker.errors import StoreError
from worker.operate import forgetting
from worker.server.connection import Connection
from worker.store import forgets, keys, undos
from worker.store.outbox import Outbox
from worker.store.queue import Queue, new_id
from worker.store.record import badge_fields
from worker.store.undos import Word

ORG = configured(batch_size=2)
CUSTOMER = FIRST_CUSTOMER + 1
MINE, OTHERS = item(1), item(2)
ISSUED, DOUBT = Issued("E1"), DeadLetter(DeadKind.IN_DOUBT, "timeout", "no answer")


class Place:
    """A queue, and the command line of who is to forget."""

    def __init__(self, queue: Queue, url: str, folder: Path) -> None:
        self.queue, self.client, self.probe = queue, queue.client, Probe(queue.client)
        self.env = environment(redis_url=url)
        self.folder = folder

    def accept(self, *items: Item, run: str = "spring") -> None:
        """Bring jobs in."""
        self.queue.enqueue(ORG, run=run, items=items, call=new_id())

    def issue(self, *items: Item) -> None:
        """Have badges issued."""
        self.accept(*items)
        batch = claimed(self.queue, ORG)
        assert settle(self.queue, ORG, batch, ISSUED).issued == len(items)

    def badges(self, *arguments: object) -> Outcome:
        """Run a command."""
        return in_process(*arguments, env=self.env)

    def forget(self, *options: object, customer: int = CUSTOMER, status: int = 0) -> Any:
        """Forget the customer; return what was done."""
        done = self.badges("forget", "--customer", customer, "--yes", "--json", *options)
        assert done.status == status, done
        return done.json()

    def dump(self) -> str:
        """Return everything that the server holds, as text; but for what calls answered, for a while."""
        told = []
        for key in map(str, self.client.scan_iter(count=1000)):
            if "/call/" in key:
                continue
            read = {
                "hash": self.client.hgetall,
                "list": lambda key: self.client.lrange(key, 0, -1),
                "zset": lambda key: self.client.zrange(key, 0, -1, withscores=True),
                "set": self.client.smembers,
            }.get(str(self.client.type(key)), self.client.get)
            told.append(f"{key} {read(key)}")
        return "\n".join(told)


@pytest.fixture
def place(queue: Queue, connection: Connection, tmp_path: Path) -> Iterator[Place]:
    """An empty server."""
    return Place(queue, connection.url, tmp_path)


def test_nothing_is_left_of_a_customer(place: Place) -> None:
    """Issued, dead, waiting, invalid, expired, replayed, under an id of its own: nowhere any more."""
    expired = item(1, badge_id="7" * 24)
    place.issue(expired)
    place.client.delete(keys.key("default", "job", expired.id))
    own = MINE._replace(id="order-7", fingerprint=item(1, badge_id=OTHER_BADGE).id)
    place.issue(MINE, OTHERS)
    place.accept(own, item(1, badge_id="6" * 24), item(3))
    file = place.folder / "rows.csv"
    file.write_text(
        f"badgeMetaId,customerId,earnEventDate\n{BADGE},{CUSTOMER},soon\n{BADGE},{CUSTOMER}1,soon\n"
        f'"{BADGE},{CUSTOMER},1674292011\n'
    )
    assert place.badges("import", file, "--run", "bad").status == 3
    place.badges("dead", "replay", "--customer", CUSTOMER, "--yes", "--note", "asked for")
    place.badges("dead", "discard", "--customer", CUSTOMER, "--yes")
    assert str(CUSTOMER) in place.dump()
    done = place.forget()
    assert done["records"] == {"issued": 1, "queued": 2, "dead": 2}
    assert (done["raw_rows"], done["cancelled"], done["forgotten"]) == (2, 2, 6)
    left = place.dump()
    assert str(CUSTOMER) not in left.replace(f"{CUSTOMER}1", "")
    for gone in (MINE.id, own.id, own.fingerprint, expired.id, MINE.id[3:13], expired.id[3:13]):
        assert gone not in left, gone
    assert f"{CUSTOMER}1" in left
    assert place.probe.record(OTHERS.id)["state"] == "i"
    assert place.probe.record(item(3).id)["state"] == "q"
    assert place.badges("find", "--customer", CUSTOMER, "--json").json() == []
    assert place.forget()["forgotten"] == 0


def test_counters_and_the_audit_trail(place: Place) -> None:
    """Each run counts what it still has, and how many were forgotten; the trail says it, and not who."""
    place.issue(MINE, OTHERS)
    place.accept(
        item(1, badge_id=OTHER_BADGE),
        Item("bad", "9", {"code": "row", "raw_row": f"x,{CUSTOMER}"}, "", "invalid"),
    )
    place.forget("--note", "case 12")
    run = place.badges("run", "show", "spring", "--json").json()
    counted = {
        name: run[name] for name in ("total", "issued", "queued", "dead", "invalid", "unhandled", "forgotten")
    }
    assert counted == {
        "total": 1, "issued": 1, "queued": 0, "dead": 0, "invalid": 0, "unhandled": 0, "forgotten": 3,
    }  # fmt: skip
    assert run["finished_at"]
    assert place.client.get(keys.key("default", "remembered")) == "1"
    assert place.badges("dead", "groups", "--json").json() == []
    (entry,) = [one for one in place.badges("audit", "--json").json() if one["action"] == "forget"]
    assert (entry["count"], entry["note"], entry["which"]) == (3, "case 12", {"customer": "forgotten"})
    assert "1 beside" not in place.badges("run", "show", "spring").out
    assert "3 beside them of customers that were forgotten" in place.badges("run", "show", "spring").out


def test_a_plan_is_shown_and_nothing_done_unasked(place: Place) -> None:
    """The plan says what is there, what ends and what isn't reached; without --yes it is refused."""
    place.issue(MINE)
    place.accept(item(1, badge_id=OTHER_BADGE))
    plan = place.badges("forget", "--customer", CUSTOMER, "--dry-run")
    assert plan.status == 0
    for words in (
        "1 issued",
        "1 queued",
        "2 remembered",
        "issued again",
        "append-only",
        "backups",
        "log files",
    ):
        assert words in plan.out, words
    refused = place.badges("forget", "--customer", CUSTOMER)
    assert refused.status == 2
    assert "--yes" in refused.err
    said = place.badges("forget", "--customer", CUSTOMER, "--dry-run", "--json").json()
    assert (said["forgotten"], said["dry_run"], said["cancelled"]) == (0, True, 1)
    assert place.probe.record(MINE.id)
    nobody = place.badges("forget", "--customer", 77, "--yes")
    assert (nobody.status, "nothing is kept" in nobody.out) == (0, True)


def test_what_is_in_flight_or_in_doubt_holds_it_back(place: Place) -> None:
    """What waits is cancelled at once; nothing is removed until the call has ended and the doubt is over."""
    place.accept(MINE, OTHERS)
    batch = claimed(place.queue, ORG)
    waiting = item(1, badge_id=OTHER_BADGE)
    place.accept(waiting)
    done = place.forget(status=1)
    assert (done["in_flight"], done["cancelled"], done["forgotten"]) == (1, 1, 0)
    assert place.probe.record(waiting.id)["kind"] == "cancelled"
    settle(place.queue, ORG, batch, DOUBT)
    done = place.forget(status=1)
    assert (done["in_doubt"], done["forgotten"]) == (1, 0)
    said = place.badges("forget", "--customer", CUSTOMER, "--yes")
    assert f"badges dead resolve --issued {MINE.id}" in said.out
    place.queue.resolve(ORG, [MINE.id], call=new_id())
    assert place.forget()["forgotten"] == 2
    assert place.probe.record(OTHERS.id)["kind"] == "in_doubt"


def test_an_answer_that_comes_later_brings_nothing_back(place: Place) -> None:
    """The batch was given up and its doubt ended by a person: what its call says then is about nobody."""
    place.accept(MINE, OTHERS)
    batch = claimed(place.queue, ORG)
    place.client.zadd(keys.key("default", "leases"), {batch.id: 1})
    place.queue.claim(ORG, new_id())
    assert place.probe.record(MINE.id)["kind"] == "in_doubt"
    place.queue.discard("default", [MINE.id], keep_ms=60_000, call=new_id())
    assert place.forget()["forgotten"] == 1
    done = settle(place.queue, ORG, batch, ISSUED)
    assert (done.issued, done.twice) == (1, ())
    assert place.probe.record(MINE.id) == {}
    assert place.probe.record(OTHERS.id)["state"] == "i"
    assert MINE.id not in place.dump()
    run = place.badges("run", "show", "spring", "--json").json()
    assert (run["total"], run["issued"], run["forgotten"]) == (1, 1, 1)


def test_a_job_that_another_batch_carries_still_is_in_flight(place: Place) -> None:
    """A late answer issued it, and the newer call goes on: its answer must find the job, for the alarm."""
    place.accept(MINE, OTHERS)
    first = claimed(place.queue, ORG)
    place.client.zadd(keys.key("default", "leases"), {first.id: 1})
    place.queue.claim(ORG, new_id())
    place.queue.replay(ORG, run="again", items=[Replay(MINE.id)], call=new_id())
    place.client.hdel(keys.key("default", "gate"), "closed_until", "probing", "why")
    second = claimed(place.queue, ORG)
    settle(place.queue, ORG, first, ISSUED)
    assert place.probe.record(MINE.id)["state"] == "i"
    assert place.forget(status=1)["in_flight"] == 1
    assert settle(place.queue, ORG, second, Issued("E2")).twice == (MINE.id,)
    assert place.forget()["forgotten"] == 1


def test_it_can_be_imported_again(place: Place) -> None:
    """As new: that is what was said, and what promise 2 loses."""
    place.issue(MINE)
    assert place.queue.enqueue(ORG, run="x", items=[MINE], call=new_id()) == ["d"]
    place.forget()
    assert place.queue.enqueue(ORG, run="x", items=[MINE], call=new_id()) == ["a"]


def test_all_that_is_remembered_goes_however_much(place: Place) -> None:
    """More jobs of one badge than are read at once where some are enough, with ids of their own too."""
    dates = [badge(1)._replace(earn_event_date=1_674_300_000 + n) for n in range(230)]
    items = [Item(content_id("default", it), str(n), badge_fields(it)) for n, it in enumerate(dates)]
    items[:115] = [it._replace(id=f"mine-{n}", fingerprint=it.id) for n, it in enumerate(items[:115])]
    place.accept(*items)
    place.client.delete(*(keys.key("default", "job", it.id) for it in items))
    assert place.forget()["forgotten"] == 230
    (entry,) = [one for one in place.badges("audit", "--json").json() if one["action"] == "forget"]
    assert entry["count"] == 230
    assert place.client.get(keys.key("default", "remembered")) == "0"
    assert not list(place.client.scan_iter("*/m/*", count=1000))


@pytest.mark.parametrize("after", ["lists", "records"])
def test_what_was_broken_off_is_found_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """Wherever it was: the trail and the lists of replays name nobody any more, once it was said again."""
    expired = item(1, badge_id="7" * 24)
    place.issue(expired)
    place.client.delete(keys.key("default", "job", expired.id))
    place.accept(MINE)
    place.queue.cancel("default", [MINE.id], call=new_id())
    place.badges("dead", "replay", "--customer", CUSTOMER, "--yes")
    what = {"lists": (forgetting, "_leave_lists"), "records": (forgets, "forget_jobs")}[after]
    do = getattr(*what)

    def die(*arguments: Any, **named: Any) -> None:
        do(*arguments, **named)
        raise StoreError("it died")

    with monkeypatch.context() as broken:
        broken.setattr(*what, die)
        assert place.badges("forget", "--customer", CUSTOMER, "--yes").status != 0
    place.forget()
    left = place.dump()
    assert not [it for it in (MINE.id, expired.id, expired.id[3:], f'"customer": {CUSTOMER}') if it in left]


def test_every_org_unless_one_is_said(place: Place) -> None:
    """All orgs are looked at; with --org the others keep what they have."""
    eu = configured(name="eu", batch_size=2)
    theirs = item(1, org="eu")
    place.queue.enqueue(eu, run="r", items=[theirs], call=new_id())
    place.accept(MINE)
    assert place.forget("--org", "default")["forgotten"] == 1
    assert Probe(place.client, "eu").record(theirs.id)
    assert place.forget()["forgotten"] == 1
    assert Probe(place.client, "eu").record(theirs.id) == {}


def test_its_reader_hears_of_it(place: Place) -> None:
    """Whoever keeps results elsewhere is told, after everything else that became of the job."""
    Outbox(place.queue, ORG).open("ledger")
    place.issue(MINE)
    place.forget()
    told = [(ending.how, ending.stored) for ending in Outbox(place.queue, ORG).read()]
    assert told[-1] == ("forgotten", "")


def test_a_badge_taken_back_is_forgotten_with_the_job_that_did(place: Place) -> None:
    """A revoking job goes too, but not while its call is on its way."""
    place.issue(MINE)
    undos.accept(place.queue, ORG, run="u", ids=[(MINE.id, "revoke")])
    taken = undos.take(place.queue, ORG, "me")
    assert isinstance(taken, undos.Revoke)
    done = place.forget(status=1)
    assert (done["in_flight"], done["cancelled"]) == (1, 0)
    assert undos.settle(place.queue, ORG, taken, Word("undone"), "200") == "undone"
    undos.leave(place.queue, ORG, "me")
    assert place.forget()["records"] == {"undone": 2}
    assert "revoke" not in place.dump()
