"""Runs that aren't sent yet: nothing of them goes before its time, or a person's word."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
import redis
import time_machine
from support import BADGE, OTHER_BADGE, Outcome, Probe, configured, environment, in_process, item, wait_for

from worker.domain.batch import Batch, Item, Replay
from worker.domain.job import DeadKind
from worker.errors import ConfigError, NoRoom
from worker.operate.cancelling import cancel_run
from worker.operate.deadlist import Filter
from worker.operate.following import follow
from worker.operate.operator import Operator, this_user
from worker.operate.replaying import replay_all
from worker.operate.runs import JobReader
from worker.operate.starting import see_that_it_can_wait, start
from worker.operate.survey import Survey
from worker.server.connection import Connection
from worker.store import forgets, keys
from worker.store.pool import Seats
from worker.store.queue import Queue, new_id

ORG = configured(batch_size=1000, max_queued=4000)
HEAD = "badgeMetaId,customerId,earnEventDate,earnExpiresOn\n"


def take_in(queue: Queue, run: str, items: list[Item], starts_ms: float | None = math.inf) -> None:
    """Accept jobs, into a run that is held unless said otherwise."""
    queue.enqueue(ORG, run=run, items=items, call=new_id(), starts_ms=starts_ms)


def claimed(queue: Queue) -> list[str]:
    """Return the ids of all jobs that can be claimed."""
    found = []
    while isinstance(batch := queue.claim(ORG, new_id()), Batch):
        found += [job.id for job in batch.jobs]
    return found


def reader(client: redis.Redis) -> JobReader:
    """Return what reads runs."""
    return JobReader(client=client, orgs={"default": ORG})


def test_nothing_of_a_held_run_is_sent_before_it_is_started(queue: Queue, client: redis.Redis) -> None:
    """Others pass it; its jobs count as queued; started, all of them go, in their order, each once."""
    held = [item(n) for n in range(2500)]
    for first in (0, 1000, 2000):
        take_in(queue, "held", held[first : first + 1000])
    take_in(queue, "other", [item(9000)], None)
    assert claimed(queue) == [item(9000).id]
    run = reader(client).run("held")
    assert (run.queued, run.on_hold, run.starts_at, run.eta_s) == (2500, True, None, None)
    assert "badges run start held" in (run.held or "")
    (state,) = Survey(client).states({"default": ORG})
    assert (state.queued, state.as_json()["held"]) == (0, 2500)
    assert queue.start(ORG, "held", call="c") == 2500
    assert queue.start(ORG, "held", call="c") == 2500, "the same call"
    assert queue.start(ORG, "held", call="another") is None
    assert claimed(queue) == [it.id for it in held]
    assert not client.exists(keys.key("default", "later", "held"), keys.key("default", "starts"))
    assert not reader(client).run("held").later


def test_what_comes_in_while_it_is_started_is_sent_with_it(queue: Queue) -> None:
    """An import goes on as it began; a person's word holds for all of the run."""
    take_in(queue, "held", [item(0)])
    queue.start(ORG, "held", call="c")
    take_in(queue, "held", [item(1)])
    assert set(claimed(queue)) == {item(0).id, item(1).id}


def test_one_without_the_option_goes_into_a_held_run_as_held(queue: Queue) -> None:
    """It is the run that is held, whoever adds to it."""
    take_in(queue, "held", [item(0)])
    take_in(queue, "held", [item(1)], None)
    assert claimed(queue) == []


def test_it_begins_by_itself_when_its_time_has_come(queue: Queue, client: redis.Redis) -> None:
    """Somebody looks at the org then; a time that is over holds nothing up."""
    soon_ms = int(time.time() * 1000) + 1500
    take_in(queue, "soon", [item(0)], soon_ms)
    take_in(queue, "late", [item(1)], soon_ms - 10_000)
    assert claimed(queue) == [item(1).id]
    assert queue.look(ORG).look_at_ms == soon_ms
    assert client.zscore(keys.WAKE, "default") or soon_ms >= 0
    assert wait_for(lambda: claimed(queue)) == [item(0).id]
    assert int(time.time() * 1000) >= soon_ms


@pytest.mark.parametrize("ahead_s", [7200, -7200])
def test_a_run_waits_by_the_clock_of_redis(
    connection: Connection, client: redis.Redis, tmp_path: Path, ahead_s: int
) -> None:
    """Two hours beside it, a machine shows, adds to and starts what waits; it takes no time that is over."""
    env = environment(redis_url=connection.url)
    (file := tmp_path / "a.csv").write_text(HEAD + f"{BADGE},500000001,1674292011,1905828011\n")
    now = datetime.now(UTC)

    def import_at(after_s: int) -> Outcome:
        at = (now + timedelta(seconds=after_s)).isoformat()
        return in_process("import", file, "--run", "soon", "--at", at, env=env)

    with time_machine.travel(timedelta(seconds=ahead_s)):
        over = import_at(-60)
        assert (over.status, "is over already" in over.err) == (2, True)
        assert import_at(3600).status == 0
        run = reader(client).run("soon")
        assert (run.later, run.held is not None) == (True, True)
        assert import_at(3600).status == 0, "more of it"
        assert in_process("run", "start", "soon", env=env).status == 0
        assert not reader(client).run("soon").later
        assert len(claimed(Queue(client))) == 1


def test_a_held_run_is_cancelled_and_a_replay_is_held_again(queue: Queue, client: redis.Redis) -> None:
    """Nothing of it is sent by that; started then, each goes once."""
    jobs = [item(n) for n in range(3)]
    take_in(queue, "held", jobs)
    reports = reader(client)
    operator = Operator(queue, reports, {"default": ORG}, this_user())
    cancel_run(operator, "default", "held", action="", on_progress=lambda _: None)
    assert len(Probe(client).listed(DeadKind.CANCELLED)) == 3
    assert not client.exists(keys.key("default", "starts"))
    queue.replay(ORG, run="", items=[Replay(it.id) for it in jobs], call="again")
    assert claimed(queue) == []
    queue.start(ORG, "held", call="c")
    assert claimed(queue) == [it.id for it in jobs]


def test_who_follows_a_replay_into_a_held_run_is_told(queue: Queue, client: redis.Redis) -> None:
    """Nobody knows when it ends, and how to begin is said; others of the replay that go on hide nothing."""
    take_in(queue, "held", [item(0), item(1)])
    take_in(queue, "goes", [item(2)], None)
    ids = [item(n).id for n in range(3)]
    assert queue.cancel("default", ids, call="c") == 3
    queue.replay(ORG, run="again", items=[Replay(job_id) for job_id in ids], call="r")
    Seats(queue=queue).offer("worker", 4)
    told = next(follow(reader(client), "again", every_s=0))
    assert (told.queued, told.eta_s) == (3, None)
    assert told.held == "nothing of run held is sent yet: on hold; to send it: badges run start held"
    queue.start(ORG, "held", call="s")
    told = next(follow(reader(client), "again", every_s=0))
    assert (told.queued, told.eta_s is None, told.held) == (3, False, None)


def test_what_an_org_holds_is_counted_without_its_settings(queue: Queue, client: redis.Redis) -> None:
    """One that isn't configured any more has jobs on hold as before."""
    take_in(queue, "held", [item(0), item(1)])
    (state,) = Survey(client).states({"default": None})
    assert (state.as_json()["held"], state.pace) == (2, None)


def test_one_that_was_dealt_with_otherwise_is_not_sent_by_the_start(queue: Queue) -> None:
    """Cancelled by itself before."""
    take_in(queue, "held", [item(0), item(1)])
    assert queue.cancel("default", [item(0).id], call="c") == 1
    queue.start(ORG, "held", call="s")
    assert claimed(queue) == [item(1).id]


def test_held_jobs_take_room(queue: Queue) -> None:
    """A queue that is full of them takes no more."""
    numbers = count()
    for _ in range(4):
        take_in(queue, "held", [item(next(numbers)) for _ in range(1000)])
    with pytest.raises(NoRoom):
        take_in(queue, "other", [item(next(numbers))], None)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (("--at", "2199-01-01T00:00Z"), ("--at", "2199-02-01T00:00Z")),
        (("--at", "2199-01-01T00:00Z"), ("--hold",)),
        (("--hold",), ("--at", "2199-01-01T00:00Z")),
    ],
)
def test_a_run_begins_as_a_whole(
    connection: Connection, client: redis.Redis, tmp_path: Path, first: tuple[str, ...], then: tuple[str, ...]
) -> None:
    """Who says another time than the one that holds is told so, and nothing is taken in; the same is fine."""
    env = environment(redis_url=connection.url)
    (file := tmp_path / "a.csv").write_text(HEAD + f"{BADGE},500000001,1674292011,1905828011\n")
    (more := tmp_path / "b.csv").write_text(HEAD + f"{BADGE},500000002,1674292011,1905828011\n")
    assert in_process("import", file, "--run", "one", *first, env=env).status == 0
    refused = in_process("import", more, "--run", "one", *then, env=env)
    assert (refused.status, "a run begins as a whole" in refused.err) == (2, True)
    assert reader(client).run("one").total == 1
    for again in (first, ()):
        assert in_process("import", more, "--run", "one", *again, env=env).status == 0
    assert (reader(client).run("one").queued, claimed(Queue(client))) == (2, [])


def test_a_mended_job_of_a_held_run_isnt_sent_before_it(queue: Queue, client: redis.Redis) -> None:
    """It would be in a run of its own, which nothing holds; a run that is held as well may take it."""
    take_in(queue, "held", [item(0), item(1)])
    reports = reader(client)
    operator = Operator(queue, reports, {"default": ORG}, this_user())
    cancel_run(operator, "default", "held", action="", on_progress=lambda _: None)
    done = replay_all(operator, Filter(run="held"), changes={"badgeMetaId": OTHER_BADGE})
    assert (done.replayed, done.skipped) == (0, 2)
    assert "badges run start held" in (done.problem or "")
    new = Replay(item(0).id, item(0, badge_id=OTHER_BADGE))
    assert queue.replay(ORG, run="free", items=[new], call="1")["skipped"] == 1
    assert claimed(queue) == []
    take_in(queue, "waits", [item(5)])
    assert queue.replay(ORG, run="waits", items=[new], call="2")["replayed"] == 1
    assert claimed(queue) == []
    queue.start(ORG, "waits", call="s")
    assert claimed(queue) == [item(5).id, new.new.id if new.new else ""]


def test_a_cancel_that_was_broken_off_is_no_run_to_start(queue: Queue, client: redis.Redis) -> None:
    """What is left is counted as it is, and it is said what there is to be done about it."""
    for first in range(0, 3000, 1000):
        take_in(queue, "held", [item(n) for n in range(first, first + 1000)])
    queue.cancel_run("default", "held", 2000, call="c")
    run = reader(client).run("held")
    assert (run.queued, run.cancelled, run.later) == (2000, True, True)
    assert (run.held or "").endswith("badges run cancel held")
    (state,) = Survey(client).states({"default": ORG})
    assert state.as_json()["held"] == 2000
    operator = Operator(queue, reader(client), {"default": ORG}, this_user())
    with pytest.raises(ConfigError, match="was cancelled, so that nothing of it would be sent"):
        start(operator, run, action="")
    assert queue.start(ORG, "held", call="s") is None
    cancel_run(operator, "default", "held", action="", on_progress=lambda _: None)
    assert start(operator, reader(client).run("held"), action="") == 0, "so that it keeps nothing back"
    done = replay_all(operator, Filter(run="held"), changes={"badgeMetaId": OTHER_BADGE}, limit=1)
    assert (done.replayed, len(claimed(queue))) == (1, 1)


def test_a_run_without_jobs_can_be_held(queue: Queue, client: redis.Redis) -> None:
    """A report that mended nothing has left its name."""
    queue.enqueue(ORG, run="empty", items=[], call=new_id(), duplicates=1)
    see_that_it_can_wait(reader(client), "default", "empty")
    take_in(queue, "empty", [item(0)])
    assert (reader(client).run("empty").later, claimed(queue)) == (True, [])


@pytest.mark.parametrize("starts_ms", [math.inf, 1.0])
def test_a_run_without_jobs_keeps_its_time(queue: Queue, client: redis.Redis, starts_ms: float) -> None:
    """What was said first holds, whether jobs came or not: who says another time would say it in vain."""
    queue.enqueue(ORG, run="empty", items=[], call=new_id(), duplicates=1, starts_ms=starts_ms)
    with pytest.raises(ConfigError, match=r"a run begins as a whole|has begun already"):
        see_that_it_can_wait(reader(client), "default", "empty", until_ms=7e12)


def test_what_is_forgotten_of_a_held_run_is_counted_no_more(queue: Queue, client: redis.Redis) -> None:
    """Its id leaves the list as well: it says whose badge it was."""
    take_in(queue, "held", [item(0), item(1)])
    forgets.forget_jobs(queue, "default", [item(0).id], action="")
    assert client.lrange(keys.key("default", "later", "held"), 0, -1) == [item(1).id]
    assert queue.start(ORG, "held", call="s") == 1


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("tomorrow", "write it as 2027-01-31T09:00+01:00"),
        ("2199-03-31T02:30", "where clocks skip it"),
        ("2199-10-27T02:30", "comes twice in Europe/Berlin"),
    ],
)
def test_a_time_that_is_none_or_two_is_refused(
    connection: Connection, tmp_path: Path, at: str, words: str
) -> None:
    """As it is in a row."""
    env = environment(redis_url=connection.url)
    (file := tmp_path / "a.csv").write_text(HEAD)
    said = in_process("import", file, "--at", at, "--timezone", "Europe/Berlin", env=env)
    assert (said.status, words in " ".join(said.err.replace("│", " ").split())) == (2, True), said.err


def test_the_commands_hold_and_start_a_run(
    connection: Connection, client: redis.Redis, tmp_path: Path
) -> None:
    """Import with --hold, see it, start it; what has begun can't be held, nor started again."""
    env = environment(redis_url=connection.url)
    (file := tmp_path / "a.csv").write_text(HEAD + f"{BADGE},500000001,1674292011,1905828011\n")
    done = in_process("import", file, "--run", "spring", "--hold", env=env)
    assert done.status == 0
    assert "badges run start spring" in done.err
    assert in_process("import", file, "--run", "spring", "--hold", "--follow", env=env).status == 2
    assert "on hold" in in_process("run", "show", "spring", env=env).out
    assert "1 job on hold" in " ".join(in_process("status", env=env).out.split())
    shown = in_process("run", "show", "spring", "--json", env=env).json()
    assert [shown[name] for name in ("on_hold", "starts_at", "later", "queued")] == [True, None, True, 1]
    started = in_process("run", "start", "spring", "--note", "all is well", "--json", env=env)
    assert started.json() == {"run": "spring", "started": 1}
    assert in_process("run", "start", "spring", env=env).status == 2
    again = in_process("import", file, "--run", "spring", "--hold", env=env)
    assert (again.status, "has begun already" in again.err) == (2, True)
    (entry,) = in_process("audit", "--json", env=env).json()[-1:]
    assert (entry["action"], entry["count"], entry["note"]) == ("start", 1, "all is well")
    unheard_of = ("0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00")  # of which nothing could be shown
    for wrong in ("2001-01-01T00:00Z", "2199-01-01T00:00", "tomorrow", *unheard_of):
        assert in_process("import", file, "--run", "at", "--at", wrong, env=env).status == 2, wrong
    assert in_process("import", file, "--run", "at", "--at", "2199-01-01T00:00Z", env=env).status == 0
    shown = in_process("run", "show", "at", "--json", env=env).json()
    assert (shown["starts_at"], shown["on_hold"]) == ("2199-01-01T00:00:00.000Z", False)
    assert len(claimed(Queue(client))) == 1


@pytest.mark.usefixtures("client")
def test_what_was_cancelled_as_a_whole_is_not_told_to_be_on_the_way(
    connection: Connection, tmp_path: Path
) -> None:
    """Nothing waits to be sent, so that there is nothing to watch."""
    env = environment(redis_url=connection.url)
    (file := tmp_path / "a.csv").write_text(HEAD + f"{BADGE},500000001,1674292011,1905828011\n")
    assert in_process("import", file, "--run", "spring", "--hold", env=env).status == 0
    assert in_process("run", "cancel", "spring", "--yes", env=env).status == 0
    said = in_process("run", "start", "spring", env=env)
    assert "nothing of run spring waits to be sent; see: badges run show spring" in " ".join(said.out.split())
    assert "on the way" not in said.out


def test_a_replay_into_a_held_run_says_so(connection: Connection, queue: Queue) -> None:
    """As it stands, whatever the run is called."""
    take_in(queue, "[/x]", [item(0)])
    assert queue.cancel("default", [item(0).id], call="c") == 1
    said = in_process(
        "dead", "replay", "--kind", "cancelled", "--run", "[/x]", env=environment(redis_url=connection.url)
    )
    assert "nothing of run [/x] is sent yet: on hold" in " ".join(said.out.split()), said.err
