"""The promises of replaying dead letters: each once, with a new count of attempts, and nothing beside."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier

import pytest
import redis
from hands import bury, claimed, expire_discarded
from support import BADGE, OTHER_BADGE, Probe, badge, configured, item, some

from worker.domain.actor import Actor, Via
from worker.domain.batch import Batch, Item, Replay, Wait
from worker.domain.job import DeadKind
from worker.domain.org import Org
from worker.errors import NotFound
from worker.operate import cancelling, deadletters, deadlist, following, replaying
from worker.operate.deadlist import Filter
from worker.operate.operator import Operator
from worker.operate.progress import RunProgress
from worker.operate.runs import JobReader
from worker.server.connection import Connection
from worker.store import audit, keys
from worker.store.queue import Queue, new_id
from worker.store.record import badge_fields

ORG = configured(batch_size=10)
RUN = "spring"


def replay(queue: Queue, *items: Replay | str, call: str = "call", run: str = "mended") -> dict[str, int]:
    """Replay; answers the numbers."""
    given = [Replay(it) if isinstance(it, str) else it for it in items]
    return queue.replay(ORG, run=run, items=given, call=call)


def mended(job_id: str, n: int, *, badge_id: str = OTHER_BADGE) -> Replay:
    """Return what replays a dead letter as a new job."""
    return Replay(job_id, item(n, badge_id=badge_id))


def progress(client: redis.Redis, run: str = RUN) -> RunProgress:
    """Read a run."""
    return JobReader(client=client, orgs={}).run(run)


def test_a_replayed_job_is_as_new_and_keeps_its_id(queue: Queue, client: redis.Redis) -> None:
    """It is queued with no attempt spent and no reason of death, ready as of now; its run is open again."""
    one, two = bury(queue, ORG, range(2))
    born_ms = int(Probe(client).record(one)["enqueued_at"])
    assert replay(queue, one) == {"replayed": 1, "duplicates": 0, "skipped": 0, "undos": 0}
    kept = Probe(client).record(one)
    assert (kept["state"], kept["attempts"]) == ("q", "0")
    assert not {"kind", "code", "message", "finished_at", "group"} & kept.keys()
    assert int(kept["ready_since"]) >= born_ms
    assert (Probe(client).listed("rejected"), Probe(client).queued()) == ([two], [one])
    run = progress(client)
    assert (run.states(), run.dead_kinds, run.finished_at) == ([1, 0, 0, 0, 1, 0], {"rejected": 1}, None)
    assert not client.exists(keys.key("default", "run", "mended"))


def test_it_wakes_somebody(queue: Queue, client: redis.Redis) -> None:
    """What is queued again is looked at without anybody else's doing."""
    bury(queue, ORG, range(1))
    assert client.zcard(keys.WAKE) == 0
    replay(queue, item(0).id)
    assert client.zscore(keys.WAKE, "default") is not None


def test_a_call_repeated_gets_the_same_answer(queue: Queue, client: redis.Redis) -> None:
    """Also when the job has died again in the meantime: it isn't replayed twice by one wish."""
    (one,) = bury(queue, ORG, range(1))
    first = replay(queue, one)
    claimed(queue, ORG, "b1")
    Probe(client).make_due("leases")
    assert isinstance(queue.claim(ORG, "b2"), Wait)
    assert replay(queue, one) == first
    assert (Probe(client).listed("in_doubt"), Probe(client).queued()) == ([one], [])


def test_what_is_dead_no_more_is_skipped(queue: Queue, client: redis.Redis) -> None:
    """A job that is queued, issued or gone isn't queued by a replay that comes too late."""
    (one, two) = bury(queue, ORG, range(2))
    replay(queue, one)
    Probe(client).change(two, state="i")
    answer = replay(queue, one, two, "no such job", call="late")
    assert answer == {"replayed": 0, "duplicates": 0, "skipped": 3, "undos": 0}
    assert Probe(client).queued() == [one]


def test_the_same_job_twice_in_one_call_is_replayed_once(queue: Queue, client: redis.Redis) -> None:
    """The second is no dead letter any more."""
    (one,) = bury(queue, ORG, range(1))
    assert replay(queue, one, one) == {"replayed": 1, "duplicates": 0, "skipped": 1, "undos": 0}
    assert Probe(client).queued() == [one]


def test_an_invalid_row_is_never_queued_as_it_is(queue: Queue, client: redis.Redis) -> None:
    """It holds no badge: whoever asks for it, it is skipped, and claiming goes on undisturbed."""
    queue.enqueue(
        ORG, run=RUN, items=[Item("bad", "1", {"code": "row", "raw_item": "{"}, kind="invalid")], call="c"
    )
    assert replay(queue, "bad")["skipped"] == 1
    assert Probe(client).listed("invalid") == ["bad"]
    assert queue.claim(ORG, new_id()) == Wait("idle", -1)


def test_a_replay_with_a_correction_is_a_new_job(queue: Queue, client: redis.Redis) -> None:
    """The new one is in its own run and says whose place it took; the old one needs nobody any more."""
    (one,) = bury(queue, ORG, range(1))
    assert replay(queue, mended(one, 0))["replayed"] == 1
    new = item(0, badge_id=OTHER_BADGE).id
    assert (Probe(client).record(one)["state"], Probe(client).record(one)["replayed_as"]) == ("d", new)
    assert (Probe(client).record(new)["state"], Probe(client).record(new)["replay_of"]) == ("q", one)
    assert Probe(client).record(new)["badge"] == OTHER_BADGE
    assert (Probe(client).listed("rejected"), Probe(client).queued()) == ([], [new])
    assert progress(client, "mended").states() == [1, 0, 0, 0, 0, 0]
    assert progress(client, "mended").started_at is not None
    assert client.lrange(keys.key("default", "jobs", "mended"), 0, -1) == [new]
    assert queue.enqueue(ORG, run="again", items=[item(0)], call="again") == list("R")


@pytest.mark.parametrize(("badge_id", "noted"), [("GOLD-1", "GOLD-1"), (OTHER_BADGE.upper(), OTHER_BADGE)])
def test_a_correction_is_found_by_its_badge(
    queue: Queue, client: redis.Redis, badge_id: str, noted: str
) -> None:
    """Ids of the vendor's count in either case, others as they are written."""
    (one,) = bury(queue, ORG, range(1))
    client.delete(keys.key("default", "badges"))
    replay(queue, mended(one, 0, badge_id=badge_id))
    assert client.smembers(keys.key("default", "badges")) == {noted}


def test_a_correction_to_what_is_known_is_a_duplicate(queue: Queue, client: redis.Redis) -> None:
    """The dead letter stays where it is: that badge was accepted before, and isn't issued again."""
    (one,) = bury(queue, ORG, range(1))
    known = item(0, badge_id=OTHER_BADGE)
    queue.enqueue(ORG, run="other", items=[known], call="other")
    assert replay(queue, mended(one, 0)) == {"replayed": 0, "duplicates": 1, "skipped": 0, "undos": 0}
    assert (Probe(client).listed("rejected"), Probe(client).queued()) == ([one], [known.id])


def test_what_another_job_took_the_place_of_is_not_replayed(queue: Queue, client: redis.Redis) -> None:
    """Neither as it is nor corrected once more."""
    (one,) = bury(queue, ORG, range(1))
    replay(queue, mended(one, 0))
    answer = replay(queue, one, mended(one, 5), call="again")
    assert answer == {"replayed": 0, "duplicates": 0, "skipped": 2, "undos": 0}
    assert len(Probe(client).queued()) == 1


def test_a_replay_asks_the_vendor_about_the_badge_again(queue: Queue, client: redis.Redis) -> None:
    """Whoever replays believes the badge to exist now: it is no longer known to be missing."""
    (one,) = bury(queue, ORG, range(1))
    client.zadd(keys.key("default", "missing"), {BADGE: 4e12})
    replay(queue, one)
    batch = claimed(queue, ORG)
    assert [job.badge for job in batch.jobs] == [badge(0)]


def test_two_operators_replay_each_letter_once(connection: Connection, client: redis.Redis) -> None:
    """Whoever comes second finds no dead letters."""
    with connection.client() as own:
        ids = bury(Queue(own), ORG, range(300))
    together = Barrier(2)

    def operate(call: str) -> int:
        with connection.client() as mine:
            together.wait()
            return sum(
                replay(Queue(mine), *ids[at : at + 30], call=f"{call}{at}")["replayed"]
                for at in range(0, 300, 30)
            )

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(operate, "ab")) == 300
    assert sorted(Probe(client).queued()) == sorted(ids)
    assert progress(client).states() == [300, 0, 0, 0, 0, 0]


def test_a_thousand_are_one_call(queue: Queue, client: redis.Redis) -> None:
    """As many as were accepted in one."""
    ids = bury(queue, ORG, range(1000), kind="exhausted")
    assert replay(queue, *ids)["replayed"] == 1000
    assert Probe(client).queued() == ids
    assert badge_fields(badge(0)) == item(0).fields


# Many: what a filter selects, across pages and orgs


MANY = 2300
ORGS = {"default": ORG, "eu": configured(name="eu")}


def bury_many(queue: Queue, *, same_ms: bool = False) -> list[str]:
    """Make more dead letters than several pages hold, on demand all of one millisecond."""
    ids = [
        job_id
        for first in range(0, MANY, 1000)
        for job_id in bury(queue, ORG, range(first, min(first + 1000, MANY)))
    ]
    if same_ms:
        Probe(queue.client).set_died(dict.fromkeys(ids, 1_700_000_000_000))
    return ids


def reports(queue: Queue) -> JobReader:
    """Return what reads."""
    return JobReader(client=queue.client, orgs=ORGS)


def operator(queue: Queue, *, orgs: Mapping[str, Org] = ORGS, note: str = "") -> Operator:
    """Return somebody who acts."""
    return Operator(queue, reports(queue), orgs, Actor(Via.USER, "me"), note)


@pytest.mark.parametrize("same_ms", some([False, True], 1))
def test_none_is_skipped_and_none_is_taken_twice(queue: Queue, client: redis.Redis, *, same_ms: bool) -> None:
    """Not even if, at every step, all that was replayed has died again, of whatever kind."""
    ids = bury_many(queue, same_ms=same_ms)

    def die_again(_: int, __: int) -> None:
        waiting = Probe(client).queued()
        for at in range(0, len(waiting), 1000):
            queue.cancel("default", waiting[at : at + 1000], call=new_id())
        client.delete(keys.key("default", "queue"))

    done = replaying.replay_all(operator(queue), Filter(), on_progress=die_again)
    assert (done.replayed, done.skipped) == (MANY, 0)
    assert sorted(reports(queue).ids("default", done.replay)) == sorted(ids)


@pytest.mark.parametrize("same_ms", some([False, True], 1))
def test_all_are_discarded_in_few_calls(queue: Queue, client: redis.Redis, *, same_ms: bool) -> None:
    """While the list shrinks under the reader; their records stay, for a while."""
    ids = bury_many(queue, same_ms=same_ms)
    client.config_resetstat()
    which = Filter(kind=DeadKind.REJECTED)
    assert deadletters.discard_all(operator(queue), which) == MANY
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] < MANY / 100
    assert Probe(client).listed("rejected") == []
    assert expire_discarded(queue) == MANY
    assert all(client.pttl(keys.key("default", "job", job_id)) > 0 for job_id in ids)


@pytest.mark.parametrize("same_ms", some([False, True], 1))
def test_they_are_listed_oldest_first(queue: Queue, *, same_ms: bool) -> None:
    """Each once, whatever the number that died in one millisecond."""
    ids = bury_many(queue, same_ms=same_ms)
    found = [letter for _, page in deadlist.pages(reports(queue), Filter()) for letter in page]
    assert sorted(letter.id for letter in found) == sorted(ids)
    assert all(one.at_ms <= other.at_ms for one, other in pairwise(found))
    assert [row["job_id"] for row in deadlist.rows(reports(queue), Filter())] == [it.id for it in found]


def test_kind_and_time_alone_need_no_records(queue: Queue, client: redis.Redis) -> None:
    """They stand in the index: replaying or discarding by them reads nothing else, however many there are."""
    bury_many(queue)
    client.config_resetstat()
    which = Filter(kind=DeadKind.REJECTED, since_ms=1)
    deadletters.discard_all(operator(queue), which)
    commands = client.info("commandstats")
    assert commands["cmdstat_get"]["calls"] < MANY + 100  # the script's own look at each


def test_every_filter_selects(queue: Queue) -> None:
    """Alone and together."""
    (one,) = bury(queue, ORG, range(1))
    bury(queue, ORG, range(1, 4), kind="exhausted")
    queue.enqueue(
        ORG, run="other", items=[Item("x", "1", {**item(9).fields, "code": "521"}, kind="rejected")], call="c"
    )

    queue.enqueue(ORG, run="waits", items=[item(7)], call="w")
    queue.cancel("default", [item(7).id], call="w2")

    def found(**which: object) -> int:
        return sum(len(page) for _, page in deadlist.pages(reports(queue), Filter(**which)))  # type: ignore[arg-type]

    assert (found(), found(kind=DeadKind.REJECTED), found(code="521"), found(run=RUN)) == (6, 2, 1, 4)
    assert (found(job=one), found(job=one, kind=DeadKind.EXHAUSTED), found(job="none")) == (1, 0, 0)
    assert (found(customer=500_000_007), found(customer=0), found(badge=BADGE, code="812")) == (1, 0, 4)
    assert (found(customer=500_000_007, run=RUN), found(customer=500_000_007, since_ms=4 * 10**12)) == (0, 0)
    assert (found(since_ms=10), found(since_ms=4 * 10**12), found(job=one, since_ms=4 * 10**12)) == (6, 0, 0)
    assert (found(org="default"), found(org="eu")) == (6, 0)
    upper = BADGE.upper()  # the vendor's ids are numbers in base 16
    assert (found(badge=upper, code="812"), found(job=one, badge=upper)) == (4, 1)
    assert found(customer=500_000_007, badge=upper) == 1


def test_groups_say_since_when_and_until_when(queue: Queue, client: redis.Redis) -> None:
    """The first and the last that died, and the first as a sample."""
    ids = bury(queue, ORG, range(3))
    bury(queue, ORG, range(5, 6), kind="exhausted")
    died = {ids[1]: 1_700_000_000_000, ids[0]: 1_700_000_001_000, ids[2]: 1_700_000_002_000}
    Probe(client).set_died(died)
    largest, other = deadlist.groups(reports(queue), Filter())
    assert (largest.count, largest.sample, largest.message) == (3, ids[1], "no good")
    assert (largest.first_at, largest.last_at) == ("2023-11-14T22:13:20.000Z", "2023-11-14T22:13:22.000Z")
    assert (other.kind, other.count, other.first_at) == ("exhausted", 1, other.last_at)


def test_an_org_that_nobody_configures_holds_up_no_other(queue: Queue, client: redis.Redis) -> None:
    """Its letters stay, and are counted; they can still be discarded."""
    gone = configured(name="gone")
    lost = Item(item(7).id, "1", item(7).fields, kind="rejected")
    for org in (ORG, gone, ORGS["eu"]):
        queue.enqueue(org, run=RUN, items=[lost], call=new_id())
    done = replaying.replay_all(operator(queue), Filter())
    assert (done.replayed, done.unconfigured) == (2, {"gone": 1})
    assert client.llen(keys.key("gone", "queue")) == 0
    assert list(audit.entries(client, "gone")) == []
    assert deadletters.discard_all(operator(queue), Filter(org="gone")) == 1


def test_a_limit_counts_what_was_replayed(queue: Queue) -> None:
    """Not what was refused: so a second go with the same limit gets on."""
    bury(queue, ORG, range(5))
    known = [item(n, badge_id=OTHER_BADGE) for n in range(2)]
    queue.enqueue(ORG, run="other", items=known, call="other")
    rehearsed, done = (
        replaying.replay_all(
 operator(queue), Filter(), limit=2, dry_run=dry_run,
            changes={"badgeMetaId": OTHER_BADGE},
        )
        for dry_run in (True, False)
    )  # fmt: skip
    assert (done.replayed, done.duplicates) == (rehearsed.replayed, rehearsed.duplicates) == (2, 2)
    again = replaying.replay_all(operator(queue), Filter(), limit=1)
    assert again.replayed == 1


def test_two_that_would_become_one_job(queue: Queue, client: redis.Redis) -> None:
    """The second is a duplicate, and a dry run knows it and changes nothing."""
    for n, badge_id in enumerate((BADGE, "6" * 24)):
        one = item(0, badge_id=badge_id)
        queue.enqueue(ORG, run=RUN, items=[Item(one.id, str(n), one.fields, kind="rejected")], call=new_id())
    before = client.dbsize()
    for dry_run in (True, False):
        done = replaying.replay_all(
 operator(queue), Filter(), dry_run=dry_run,
            changes={"badgeMetaId": OTHER_BADGE},
        )  # fmt: skip
        assert (done.replayed, done.duplicates) == (1, 1)
        assert (client.dbsize() == before) == dry_run


def test_one_that_can_not_be_mended_holds_up_no_other(queue: Queue) -> None:
    """It stays a dead letter, and is said with its reason."""
    for n, expires_on in enumerate((2_000_000_000, 1_800_000_000)):
        late = badge_fields(badge(n, earn_expires_on=expires_on))
        queue.enqueue(ORG, run=RUN, items=[Item(f"late{n}", str(n), late, kind="rejected")], call=new_id())
    strict = {"default": configured(strict_dates=True)}
    done = replaying.replay_all(
        operator(queue, orgs=strict), Filter(), changes={"earnEventDate": "1900000000"}
    )
    assert (done.replayed, done.skipped) == (1, 1)
    assert "before" in str(done.problem)


# Urgency


@pytest.mark.parametrize("was_urgent", [True, False])
@pytest.mark.parametrize("is_urgent", [True, False])
@pytest.mark.parametrize("as_new", [True, False])
def test_what_is_urgent_overtakes_the_bulk_again(
    queue: Queue, client: redis.Redis, *, was_urgent: bool, is_urgent: bool, as_new: bool
) -> None:
    """Replayed or mended, an urgent dead letter is urgent; a mended one also if its import is."""
    bulk, dead_one = item(1), item(0)
    queue.enqueue(ORG, run=RUN, items=[bulk], call=new_id())
    letter = Item(dead_one.id, "7", dead_one.fields, kind="rejected")
    queue.enqueue(ORG, run=RUN, items=[letter], call=new_id(), urgent=was_urgent)
    new = Replay(dead_one.id, item(0, badge_id=OTHER_BADGE)._replace(row="9"), is_urgent)
    assert replay(queue, new if as_new else dead_one.id)["replayed"] == 1
    (in_bulk, *_), batch = Probe(client).queued(), queue.claim(configured(batch_size=1), new_id())
    assert in_bulk == bulk.id
    assert isinstance(batch, Batch)
    overtakes = was_urgent or (is_urgent and as_new)
    assert (batch.jobs[0].id == bulk.id) != overtakes
    if as_new and new.new:
        kept = Probe(client).record(new.new.id)
        assert (kept["row"], kept.get("urgent")) == ("9", "1" if overtakes else None)


# Following and cancelling a replay


def test_a_replay_is_followed_to_its_end(queue: Queue, client: redis.Redis) -> None:
    """Its own progress, though its jobs stay in their runs; whatever became of them is counted."""
    bury(queue, ORG, range(4))
    bury(queue, ORG, range(9, 10), kind="exhausted")
    done = replaying.replay_all(operator(queue), Filter(kind=DeadKind.REJECTED))
    snapshots = following.follow(reports(queue), done.replay, every_s=0)
    first = next(snapshots)
    assert (first.total, first.queued, first.open) == (4, 4, 4)
    ids = Probe(client).queued()
    queue.cancel("default", ids[:1], call=new_id())
    Probe(client).change(ids[1], state="i")
    client.delete(keys.key("default", "job", ids[2]))
    Probe(client).change(ids[3], state="s")
    second = next(snapshots)
    assert (second.issued, second.dead, second.gone, second.sending) == (1, 1, 1, 1)
    Probe(client).change(ids[3], state="i")
    last = list(snapshots)[-1]
    assert (last.issued, last.open, last.dead_kinds) == (2, 0, {"cancelled": 1})
    assert 0 < client.pttl(keys.key("default", "jobs", done.replay)) <= 30 * 86_400_000


def test_what_a_later_replay_queued_again_is_that_ones(queue: Queue, client: redis.Redis) -> None:
    """Taking the earlier one back leaves it, and what a person resolved; the later one takes it."""
    bury(queue, ORG, range(4))
    one = replaying.replay_all(operator(queue), Filter(kind=DeadKind.REJECTED)).replay
    again, waits, resolved, ended = Probe(client).queued()
    queue.cancel("default", [again, resolved], call=new_id())
    Probe(client).change(ended, state="i")
    other = replaying.replay_all(operator(queue), Filter(kind=DeadKind.CANCELLED, job=again)).replay
    operator(queue).begin("default", "resolve-1", {"job": resolved})
    replay(queue, resolved, run="resolve-1")
    assert following.still_its(reports(queue), one) == {"default": [waits, ended]}
    assert following.still_its(reports(queue), other) == {"default": [again]}
    assert following.waiting(reports(queue), following.still_its(reports(queue), one)) == 1


def test_a_run_is_no_replay(queue: Queue) -> None:
    """To take back what waits of a run is another command; what a replay made as new jobs is one."""
    bury(queue, ORG, range(2))
    with pytest.raises(NotFound, match=f"no replay '{RUN}'"):
        following.still_its(reports(queue), RUN)
    changes = {"badgeMetaId": OTHER_BADGE}
    made = replaying.replay_all(operator(queue), Filter(kind=DeadKind.REJECTED), changes=changes).replay
    assert len(following.still_its(reports(queue), made)["default"]) == 2


def test_rightful_twins_stay_two_when_they_are_mended(queue: Queue, client: redis.Redis) -> None:
    """Ids of their producer's own say so: each is sent, once; a second replay of one makes no third."""
    own = [Item(f"own-{n}", "1", item(1).fields, kind="rejected", fingerprint=item(1).id) for n in (1, 2)]
    queue.enqueue(ORG, run=RUN, items=own, call=new_id())
    changes = {"badgeMetaId": OTHER_BADGE}
    done = replaying.replay_all(operator(queue), Filter(kind=DeadKind.REJECTED), changes=changes)
    assert (done.replayed, done.duplicates) == (2, 0)
    assert len(set(Probe(client).queued())) == 2


def test_there_is_nothing_to_follow(queue: Queue) -> None:
    """A replay that nobody made is not found."""
    with pytest.raises(NotFound, match="no replay 'replay-x'"):
        next(following.follow(reports(queue), "replay-x", every_s=0))


# Who did what


def test_whatever_breaks_off_the_trail_counts_what_was_done(queue: Queue, client: redis.Redis) -> None:
    """The entry is there before the first job, and counts with each of them."""
    bury_many(queue)

    def break_off(looked_at: int, total: int) -> None:
        assert total == MANY
        if looked_at >= 1000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replaying.replay_all(
 operator(queue, note="fixed"), Filter(run=RUN), replay="replay-1",
            on_progress=break_off,
        )  # fmt: skip
    (entry,) = audit.entries(client, "default")
    assert entry.count == len(Probe(client).queued()) == 1000
    assert (entry.id, entry.by, entry.action, entry.note) == ("replay-1", "me", "replay", "fixed")
    assert (entry.which, bool(entry.at)) == ({"run": RUN}, True)


def test_the_trail_keeps_the_newest(queue: Queue, client: redis.Redis) -> None:
    """It is bounded, and an old action that still goes on doesn't come back in pieces."""
    for n in range(12):
        audit.begin(queue, "default", f"pause-{n:02}", by="me", kept=10)
    kept = [entry.id for entry in audit.entries(client, "default")]
    assert sorted(kept) == [f"pause-{n:02}" for n in range(2, 12)]
    bury(queue, ORG, range(1))
    queue.discard("default", [item(0).id], keep_ms=9999, call="c", action="pause-00")
    assert len(list(client.scan_iter(f"{keys.key('default', 'audit')}*", count=1000))) == 10


def test_whole_groups_are_dealt_with_by_the_server(queue: Queue, client: redis.Redis) -> None:
    """A thousand a call, ids of a producer's own too; a limit holds, and somebody is woken for what waits."""
    own = [item(n)._replace(id=f"order-{n}", fingerprint=item(n).id) for n in range(3000, 3003)]
    many = [item(n) for n in range(2100)]
    for at in range(0, len(many), 700):
        queue.enqueue(ORG, run=RUN, items=many[at : at + 700], call=f"c{at}")
    queue.enqueue(ORG, run=RUN, items=[*own, item(1, badge_id=OTHER_BADGE)], call="own")
    assert cancel_all(queue) == 2104
    assert counts(client)["dead:cancelled"] == 2104
    assert not Probe(client).queued()
    client.config_resetstat()
    done = replaying.replay_all(operator(queue), Filter(kind=DeadKind.CANCELLED), limit=2050)
    assert (done.replayed, done.skipped, len(Probe(client).queued())) == (2050, 0, 2050)
    assert client.zscore(keys.WAKE, "default") is not None
    assert client.info("commandstats")["cmdstat_get"]["calls"] < 200, "no record is read by itself"
    assert cancel_all(queue) == 2050
    assert deadletters.discard_all(operator(queue), Filter(kind=DeadKind.CANCELLED)) == 2104
    assert counts(client)["unhandled"] == 0
    assert expire_discarded(queue) == 2101
    assert client.get(keys.key("default", "remembered")) == "0"
    client.delete(*(keys.key("default", "job", it.id) for it in own))
    assert queue.enqueue(ORG, run="again", items=own, call="again") == ["a"] * 3


def test_those_of_a_run_are_dealt_with_by_the_server_too(queue: Queue, client: redis.Redis) -> None:
    """Among letters of other runs that lie in the same groups; counted there, not read here."""
    for run, first in (("a", 0), ("b", 1500)):
        letters = [item(n)._replace(kind="rejected") for n in range(first, first + 1500)]
        for at in range(0, 1500, 500):
            queue.enqueue(ORG, run=run, items=letters[at : at + 500], call=f"{run}{at}")
    of_b = Filter(run="b", kind=DeadKind.REJECTED)
    (group,) = deadlist.groups(reports(queue), of_b)
    assert (group.count, deadlist.count(reports(queue), of_b)) == (1500, {"rejected": 1500})
    assert group.sample in {item(n).id for n in range(1500, 2000)}
    client.config_resetstat()
    done = replaying.replay_all(operator(queue), of_b, limit=1200)
    assert (done.replayed, done.skipped) == (1200, 0)
    assert deadletters.discard_all(operator(queue), of_b) == 300
    assert client.info("commandstats")["cmdstat_get"]["calls"] < 100, "no record is read by itself"
    assert [deadlist.count(reports(queue), Filter(run=run)) for run in "ab"] == [{"rejected": 1500}, {}]
    assert {state.run for state in reports(queue).runs() if state.queued} == {"b"}


@pytest.mark.parametrize("act", ["replay", "discard"])
@pytest.mark.parametrize("how", ["others", "all"])
def test_what_others_take_out_meanwhile_makes_it_skip_none(
    queue: Queue, client: redis.Redis, act: str, how: str
) -> None:
    """Letters of another run lie in the same group; somebody discards them, or all that were passed."""
    for n, run in enumerate("ab" * 4):
        bury(queue, ORG, range(500 * n, 500 * n + 500), run=run)
    rows = {run: JobReader(client=client, orgs={}).ids("default", run) for run in "ab"}
    others = list(rows["a"])
    group = keys.key("default", "dead", next(iter(client.hgetall(keys.key("default", "groups")))))
    by_hand = operator(queue)

    def meanwhile(*_: object) -> None:
        gone, others[:] = others[:300], others[300:]
        if how == "all":  # whatever its page ended with
            gone = [str(one) for one in client.zrange(group, 0, -1) if one in rows["a"]][:900]
        queue.discard("default", gone, keep_ms=60_000, call=new_id())

    of_b = Filter(run="b", kind=DeadKind.REJECTED)
    if act == "replay":
        assert replaying.replay_all(by_hand, of_b, on_progress=meanwhile).replayed == 2000
    else:
        assert deadletters.discard_all(by_hand, of_b, on_progress=meanwhile) == 2000


def cancel_all(queue: Queue) -> int:
    """Cancel the run as a whole."""
    run = reports(queue).run(RUN)
    return cancelling.cancel_run(operator(queue), run.org, run.run, action="", on_progress=lambda _: None)


def counts(client: redis.Redis) -> dict[str, int]:
    """Return what the run counts."""
    held = client.hgetall(keys.key("default", "run", RUN))
    return {name: int(value) for name, value in held.items() if value.isdecimal()}
