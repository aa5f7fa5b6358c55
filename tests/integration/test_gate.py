"""The promises of the gate: an outage costs time, not jobs, and one answer speaks for all processes."""

from __future__ import annotations

import pytest
import redis
from hands import claimed, ids
from support import configured, item, wait_for

from worker.domain.batch import Batch, Item, Sent, Settled, Wait
from worker.domain.job import DeadKind
from worker.domain.org import Org
from worker.domain.outcome import Issued, Signal, Verdict
from worker.domain.settlement import DeadLetter, PutBack, Settlement
from worker.errors import NoRoom
from worker.operate.standstill import Gate
from worker.operate.survey import Survey
from worker.store import audit, keys
from worker.store.pool import Seats, fleet
from worker.store.protocol import GUARD, HORIZON_US
from worker.store.queue import Queue, new_id

ORG = configured(batch_size=8, max_in_flight=3)
RUN = "spring"
GATE = keys.key("default", "gate")

BACK = PutBack("-", "certainly not applied")
DONE = Issued("earned")
DEAD = DeadLetter(DeadKind.REJECTED, "400", "bad request")


@pytest.fixture(autouse=True)
def work(queue: Queue) -> None:
    """There is always something ripe."""
    queue.enqueue(ORG, run=RUN, items=[item(n) for n in range(200)], call="fixture")


def waits(queue: Queue, org: Org = ORG) -> Wait:
    """Claim; fail if there is a batch."""
    wait = queue.claim(org, new_id())
    assert isinstance(wait, Wait), wait
    return wait


def answer(
    queue: Queue,
    batch: Batch,
    signal: Signal,
    *,
    each: Settlement = BACK,
    retry_after_s: float | None = None,
    org: Org = ORG,
) -> Settled:
    """Settle a batch with what its answer says about the org."""
    verdict = Verdict((), signal, "-", f"the vendor said {signal}", retry_after_s)
    return queue.settle(org, batch, [each] * len(batch.jobs), verdict=verdict, sent=Sent("-", 1))


def closed_s(queue: Queue, client: redis.Redis) -> float:
    """Say for how long nothing may start from now on; then open the gate, and forget the learned rate."""
    wait = waits(queue)
    seconds, micros = client.time()
    client.hdel(GATE, "closed_until", "learned")
    return wait.look_at_ms / 1000 - seconds - micros / 1e6


def gate(client: redis.Redis) -> dict[str, str]:
    """Read the gate."""
    return client.hgetall(GATE)


def shown_gate(client: redis.Redis) -> Gate:
    """Return the gate as status shows it."""
    (state,) = Survey(client).states({"default": ORG})
    return state.gate


# -- throttled


def test_retry_after_closes_the_gate_for_all(queue: Queue, client: redis.Redis) -> None:
    """The batch is put back, and nothing starts before the time that the vendor said."""
    batch = claimed(queue, ORG)
    done = answer(queue, batch, Signal.THROTTLED, retry_after_s=40)
    assert (done.queued, done.more) == (8, False)
    assert waits(queue).why == queue.look(ORG).why == "throttled"
    assert done.look_at_ms == waits(queue).look_at_ms
    assert 39 < closed_s(queue, client) <= 40
    assert ids(claimed(queue, ORG)) == ids(batch)


def test_without_retry_after_each_429_closes_for_longer(queue: Queue, client: redis.Redis) -> None:
    """1, 2, 4 … seconds, a minute at most; a success begins anew."""
    closed = []
    for _ in range(8):
        answer(queue, claimed(queue, ORG), Signal.THROTTLED)
        closed.append(round(closed_s(queue, client)))
    assert closed == [1, 2, 4, 8, 16, 32, 60, 60]
    answer(queue, claimed(queue, ORG), Signal.OK, each=DONE)
    answer(queue, claimed(queue, ORG), Signal.THROTTLED)
    assert round(closed_s(queue, client)) == 1


def test_a_refusal_after_a_long_time_without_one_closes_for_a_moment(
    queue: Queue, client: redis.Redis
) -> None:
    """What was learned was right until then; one more at once, and it closes for as long as otherwise."""
    org = configured(batch_size=1, rate_limit="60/second", max_in_flight=9)
    claimed(queue, org)
    closed = []
    for ago_us in (12_000_000, 0):
        slower(client)
        batch = wait_for(lambda: _claim(queue, org))
        client.hset(GATE, "learned_from", int(gate(client)["clock"]) - ago_us)
        answer(queue, batch, Signal.THROTTLED, org=org)
        closed.append(int(gate(client)["closed_until"]) - int(gate(client)["clock"]) / 1000)
        client.hdel(GATE, "closed_until", "throttled")
    assert closed == pytest.approx([250, 1000], abs=60)


def test_a_shorter_wait_doesnt_shorten_a_longer_one(queue: Queue, client: redis.Redis) -> None:
    """Of two answers that close the gate the later end counts."""
    one, two = claimed(queue, ORG), claimed(queue, ORG)
    answer(queue, one, Signal.THROTTLED, retry_after_s=40)
    answer(queue, two, Signal.THROTTLED, retry_after_s=5)
    assert 39 < closed_s(queue, client) <= 40


def test_a_success_doesnt_open_what_retry_after_closed(queue: Queue, client: redis.Redis) -> None:
    """The call that was in flight beside the refused one says nothing about the limit."""
    one, two = claimed(queue, ORG), claimed(queue, ORG)
    answer(queue, one, Signal.THROTTLED, retry_after_s=40)
    answer(queue, two, Signal.OK, each=DONE)
    assert waits(queue).why == "throttled"
    assert 39 < closed_s(queue, client) <= 40


# -- unavailable


def test_three_failures_in_a_row_put_the_org_into_probing(queue: Queue, client: redis.Redis) -> None:
    """From then on one job at a time, one call at a time, with growing pauses, until a success."""
    widths, closed = [], []
    for _ in range(5):
        batch = claimed(queue, ORG)
        widths.append(len(batch.jobs))
        answer(queue, batch, Signal.UNAVAILABLE)
        assert waits(queue).why == "vendor unavailable"
        closed.append(round(closed_s(queue, client)))
    assert widths == [8, 8, 8, 1, 1]
    assert closed == [1, 2, 4, 8, 16]
    probe = claimed(queue, ORG)
    assert waits(queue).why == "in flight"
    assert answer(queue, probe, Signal.OK, each=DONE).more
    assert [len(claimed(queue, ORG).jobs) for _ in range(3)] == [8, 8, 8]


def test_a_success_in_between_begins_anew(queue: Queue, client: redis.Redis) -> None:
    """Failures that don't follow each other are no outage."""
    for _ in range(4):
        for _ in range(2):
            answer(queue, claimed(queue, ORG), Signal.UNAVAILABLE)
            client.hdel(GATE, "closed_until")
        answer(queue, claimed(queue, ORG), Signal.OK, each=DONE)
    assert len(claimed(queue, ORG).jobs) == 8


# -- in doubt


def test_the_first_doubt_is_probed_at_once_and_failed_probes_ever_later(
    queue: Queue, client: redis.Redis
) -> None:
    """An outage puts a handful of jobs in doubt and not thousands: one job, one call, growing pauses."""
    in_doubt = DeadLetter(DeadKind.IN_DOUBT, "timeout", "no whole answer")
    widths, closed = [], []
    for n in range(5):
        batch = claimed(queue, ORG)
        widths.append(len(batch.jobs))
        answer(queue, batch, Signal.IN_DOUBT, each=in_doubt)
        assert gate(client)["why"] == "answer in doubt"
        closed.append(round(closed_s(queue, client)) if n else 0)
    assert (widths, closed) == ([8, 1, 1, 1, 1], [0, 1, 2, 4, 8])
    assert len(claimed(queue, ORG).jobs) == 1
    assert waits(queue).why == "in flight"


def test_calls_that_were_in_flight_together_are_one_doubt(queue: Queue, client: redis.Redis) -> None:
    """They say one thing: the pauses grow with the probes that fail, not with them."""
    for batch in [claimed(queue, ORG) for _ in range(3)]:
        answer(queue, batch, Signal.IN_DOUBT)
    assert "closed_until" not in gate(client)
    probe = claimed(queue, ORG)
    assert (len(probe.jobs), waits(queue).why) == (1, "in flight")
    answer(queue, probe, Signal.IN_DOUBT)
    assert round(closed_s(queue, client)) == 1


def test_calls_that_failed_together_are_one_failure(queue: Queue, client: redis.Redis) -> None:
    """Three in flight at once that can't connect are no three failures in a row."""
    for batch in [claimed(queue, ORG) for _ in range(3)]:
        answer(queue, batch, Signal.UNAVAILABLE)
    assert "probing" not in gate(client)
    assert round(closed_s(queue, client)) == 1


def test_the_429s_of_one_wave_are_one_lesson(queue: Queue, client: redis.Redis) -> None:
    """They close the gate once, and a success among them doesn't begin the pauses again."""
    first, second, third = (claimed(queue, ORG) for _ in range(3))
    answer(queue, first, Signal.THROTTLED)
    learned = gate(client)["learned"]
    answer(queue, second, Signal.OK, each=DONE)
    answer(queue, third, Signal.THROTTLED)
    assert gate(client)["learned"] == learned
    assert gate(client)["throttled"] == "1"
    assert round(closed_s(queue, client)) == 1


def test_calm_is_counted_from_when_the_gate_opens(queue: Queue, client: redis.Redis) -> None:
    """The time that it was closed is no sign that the vendor has recovered."""
    answer(queue, claimed(queue, ORG), Signal.THROTTLED, retry_after_s=40)
    now_us = int(gate(client)["clock"])
    assert 39e6 < int(gate(client)["learned_from"]) - now_us < 42e6


def test_probing_waits_for_the_calls_that_are_under_way(queue: Queue) -> None:
    """Nothing starts beside them; the first that comes back well ends the probing."""
    one, two, three = claimed(queue, ORG), claimed(queue, ORG), claimed(queue, ORG)
    answer(queue, one, Signal.IN_DOUBT)
    assert waits(queue).why == "in flight"
    answer(queue, two, Signal.IN_DOUBT)
    assert waits(queue).why == "in flight"
    assert answer(queue, three, Signal.OK, each=DONE).more
    assert len(claimed(queue, ORG).jobs) == 8


# -- paused


@pytest.mark.parametrize(("signal", "why"), [(Signal.UNAUTHORIZED, "auth"), (Signal.MISCONFIGURED, "config")])
def test_what_a_person_must_mend_pauses_the_org(
    queue: Queue, client: redis.Redis, signal: Signal, why: str
) -> None:
    """The jobs stay queued, the reason is kept in words, and nothing starts until it is resumed."""
    batch = claimed(queue, ORG)
    done = answer(queue, batch, signal)
    assert (done.queued, done.look_at_ms, done.paused) == (8, -1, why)
    assert gate(client)["paused"] == why
    assert gate(client)["pause_reason"] == f"the vendor said {signal}"
    assert waits(queue) == Wait("paused", -1)
    assert queue.resume(ORG)
    assert ids(claimed(queue, ORG)) == ids(batch)


def test_a_stale_token_is_nobodys_fault(queue: Queue) -> None:
    """The batch is put back and goes again at once, with a token that is fetched anew."""
    batch = claimed(queue, ORG)
    answer(queue, batch, Signal.STALE_TOKEN)
    assert ids(claimed(queue, ORG)) == ids(batch)


def test_a_pause_keeps_its_first_reason(queue: Queue, client: redis.Redis) -> None:
    """By hand or by an answer: who comes second changes nothing, and is told so."""
    batch = claimed(queue, ORG)
    assert queue.pause("default", why="operator", reason="a bad file")
    assert not queue.pause("default", why="auth", reason="another")
    assert not answer(queue, batch, Signal.UNAUTHORIZED).paused
    assert (gate(client)["paused"], gate(client)["pause_reason"]) == ("operator", "a bad file")


def test_a_pause_lets_what_is_in_flight_end(queue: Queue, client: redis.Redis) -> None:
    """Its outcomes are written as ever, and no place stays taken."""
    batch = claimed(queue, ORG)
    queue.pause("default", why="operator", reason="tests")
    done = answer(queue, batch, Signal.OK, each=DONE)
    assert (done.issued, done.more, done.look_at_ms) == (8, False, -1)
    assert client.zcard(keys.key("default", "inflight")) == 0


def test_resume_forgets_what_closed_the_org_but_not_what_was_sent(queue: Queue, client: redis.Redis) -> None:
    """Retry-After and token are forgotten; breaker, limit and the learned batch size hold on."""
    org = configured(batch_size=8, rate_limit="1/minute", max_in_flight=3)
    answer(queue, claimed(queue, org), Signal.TOO_LARGE, org=org)
    client.set(keys.key("default", "token"), "{}")
    client.hset(GATE, mapping={"closed_until": 4e12, "why": "throttled", "probing": 3, "failures": 9})
    queue.pause("default", why="auth", reason="tests")
    before = gate(client)
    assert [queue.resume(org) for _ in range(2)] == ["paused", "probing"]
    kept = {"n", "items", "carried", "first", "last", "due", "size", "clock", "offset", "behind"}
    kept |= {"batch_size", "batch_size_until", "why", "probing", "failures"}
    assert gate(client) == {name: before[name] for name in kept}
    assert not client.exists(keys.key("default", "token"))
    assert waits(queue, org).why == "rate"


@pytest.mark.parametrize("signal", [Signal.IN_DOUBT, Signal.UNAVAILABLE, Signal.THROTTLED])
@pytest.mark.parametrize("paused", [False, True])
def test_resume_in_an_outage_tries_one_job(
    queue: Queue, client: redis.Redis, signal: Signal, *, paused: bool
) -> None:
    """Whoever is impatient doesn't put whole batches in doubt: a success comes first, as ever."""
    answer(queue, claimed(queue, ORG), signal, retry_after_s=40)
    if paused:
        queue.pause("default", why="operator", reason="tests")
    was = "probing" if signal is Signal.IN_DOUBT else "closed"
    assert queue.resume(ORG) == ("paused" if paused else was)
    assert not paused or gate(client)["probing"]
    probe = claimed(queue, ORG)
    assert (len(probe.jobs), waits(queue).why) == (1, "in flight")
    answer(queue, probe, Signal.OK, each=DONE)
    assert len(claimed(queue, ORG).jobs) == 8
    assert queue.resume(ORG) == ""


def test_trouble_is_dated_from_its_first_failure(queue: Queue, client: redis.Redis) -> None:
    """Until a success: the probes that fail don't make it younger, and what is next begins anew."""
    answer(queue, claimed(queue, ORG), Signal.IN_DOUBT)
    client.hset(GATE, "since", 1000)
    for _ in range(3):
        client.hdel(GATE, "closed_until")
        answer(queue, claimed(queue, ORG), Signal.IN_DOUBT)
        assert gate(client)["since"] == "1000"
    client.hdel(GATE, "closed_until")
    answer(queue, claimed(queue, ORG), Signal.OK, each=DONE)
    assert "since" not in gate(client)
    answer(queue, claimed(queue, ORG), Signal.THROTTLED)
    assert int(gate(client)["since"]) > 1000


def test_a_pause_in_an_outage_leaves_what_is_known_of_that(queue: Queue, client: redis.Redis) -> None:
    """While it lasts its own reason is shown, and after it that of the outage, with when that began."""
    answer(queue, claimed(queue, ORG), Signal.IN_DOUBT)
    shown = shown_gate(client)
    assert (shown.state, shown.reason, shown.since is None) == ("probing", "the vendor said in_doubt", False)
    queue.pause("default", why="operator", reason="tests")
    paused = shown_gate(client)
    assert (paused.state, paused.reason, paused.since is None) == ("paused", "tests", False)
    queue.resume(ORG)
    assert shown_gate(client) == shown


def test_resume_wakes_somebody(queue: Queue, client: redis.Redis) -> None:
    """Whatever hints were lost during the pause, the org is looked at."""
    queue.pause("default", why="operator", reason="tests")
    client.delete(keys.WAKE)
    queue.resume(ORG)
    assert client.zscore(keys.WAKE, "default") is not None


def test_a_full_server_can_still_be_operated(queue: Queue, client: redis.Redis) -> None:
    """Who is alive says so, and what a person does about the trouble needs no memory to speak of."""
    dead = Item("dead", "1", {**item(300).fields, "code": "812"}, kind="rejected")
    queue.enqueue(ORG, run=RUN, items=[dead], call="dead")
    client.config_set("maxmemory", "1")
    try:
        Seats(queue=queue).offer("worker", 4)
        Seats(queue=queue).offer_own("default")
        audit.begin(queue, "default", "pause-1", by="me")
        assert queue.pause("default", why="operator", reason="full")
        assert queue.resume(ORG) == "paused"
        assert queue.discard("default", ["dead"], keep_ms=60_000, call="c") == 1
        with pytest.raises(NoRoom):
            queue.claim(ORG, new_id())
    finally:
        client.config_set("maxmemory", "0")
    assert fleet(queue).own == {"default"}
    assert fleet(queue).serves("another")


# -- what a good call of a person's says


def test_a_good_call_ends_the_probing_of_an_idle_org(queue: Queue, client: redis.Redis) -> None:
    """Nothing waits that could be the probe: the call that somebody made is as good."""
    queue.cancel("default", client.lrange(keys.key("default", "queue"), 1, -1), call="c")
    answer(queue, claimed(queue, ORG), Signal.IN_DOUBT, each=DEAD)
    assert gate(client)["probing"] == "1"
    assert [queue.probed("default") for _ in range(2)] == [True, False]
    assert not {"probing", "closed_until", "since", "why"} & set(gate(client))


@pytest.mark.parametrize("in_flight", [False, True])
def test_where_something_waits_a_job_is_the_probe(
    queue: Queue, client: redis.Redis, *, in_flight: bool
) -> None:
    """A read that succeeds doesn't say that the import does: the growing pauses stay."""
    answer(queue, claimed(queue, ORG), Signal.IN_DOUBT, each=DEAD)
    if in_flight:
        claimed(queue, ORG)
        queue.cancel("default", client.lrange(keys.key("default", "queue"), 0, -1), call="c")
    assert not queue.probed("default")
    assert gate(client)["probing"] == "1"


def test_a_good_call_doesnt_open_what_retry_after_closed(queue: Queue, client: redis.Redis) -> None:
    """Nor what a person paused: both are the word of somebody else."""
    queue.cancel("default", client.lrange(keys.key("default", "queue"), 2, -1), call="c")
    one, two = (claimed(queue, configured(batch_size=1)) for _ in range(2))
    answer(queue, one, Signal.IN_DOUBT, each=DEAD)
    answer(queue, two, Signal.THROTTLED, each=DEAD, retry_after_s=40)
    queue.pause("default", why="operator", reason="tests")
    assert queue.probed("default")
    assert {"closed_until", "paused", "since"} <= set(gate(client))


# -- too large


def test_a_batch_that_is_too_large_halves_the_size(queue: Queue, client: redis.Redis) -> None:
    """From batch to batch, down to one; after an hour it is as configured again."""
    widths = []
    for _ in range(5):
        batch = claimed(queue, ORG)
        widths.append(len(batch.jobs))
        assert answer(queue, batch, Signal.TOO_LARGE).queued == len(batch.jobs)
    assert widths == [8, 4, 2, 1, 1]
    seconds, _ = client.time()
    assert 3_590 < int(gate(client)["batch_size_until"]) / 1000 - seconds <= 3_601
    client.hset(GATE, "batch_size_until", seconds * 1000)
    assert len(claimed(queue, ORG).jobs) == 8


def test_a_learned_size_is_ripe_when_it_is_full(queue: Queue) -> None:
    """What is left of the queue doesn't linger for a batch size that isn't in force."""
    org = configured(batch_size=200, batch_linger_s=60)
    answer(queue, claimed(queue, org), Signal.TOO_LARGE, org=org)
    assert [len(claimed(queue, org).jobs) for _ in range(2)] == [100, 100]


# -- refused


def test_many_refusals_in_a_row_pause_the_org(queue: Queue, client: redis.Redis) -> None:
    """A bad file or setting must not cost two requests a row."""
    for _ in range(19):
        answer(queue, claimed(queue, ORG), Signal.REFUSED, each=DEAD)
    assert "paused" not in gate(client)
    answer(queue, claimed(queue, ORG), Signal.REFUSED, each=DEAD)
    assert gate(client)["paused"] == "config"


def test_a_badge_that_is_issued_in_between_makes_them_single_cases(queue: Queue, client: redis.Redis) -> None:
    """Only an answer that issued something says that the configuration is right."""
    for _ in range(19):
        answer(queue, claimed(queue, ORG), Signal.REFUSED, each=DEAD)
    answer(queue, claimed(queue, ORG), Signal.OK, each=DEAD)
    assert gate(client)["refusals"] == "19"
    answer(queue, claimed(queue, ORG), Signal.OK, each=DONE)
    answer(queue, claimed(queue, ORG), Signal.REFUSED, each=DEAD)
    assert gate(client)["refusals"] == "1"
    assert "paused" not in gate(client)


# -- the learned rate: how well it learns is in test_pace.py


def spacing_us(queue: Queue, client: redis.Redis, org: Org) -> float:
    """Return how far the next slot is from the last one, by what a call without jobs is given."""
    client.hdel(GATE, "closed_until")
    last = int(gate(client)["last"])
    queue.reserve_call(org, new_id())
    return int(gate(client)["last"]) - last


def test_a_429_to_the_very_first_call_is_learned_from_too(queue: Queue, client: redis.Redis) -> None:
    """However little was sent before, and however large the batch was."""
    org = configured(batch_size=8, rate_limit="100/minute")
    assert answer(queue, claimed(queue, org), Signal.THROTTLED, org=org).queued == 8
    assert "learned" in gate(client)
    configured_us = 600_000 * (1 + GUARD)
    assert 1.04 * configured_us <= spacing_us(queue, client, org) <= 2 * configured_us


@pytest.mark.parametrize("rate", ["60/second", "60/minute"])
@pytest.mark.parametrize(("told_s", "by_window"), [(None, "0"), (1, "0"), (2, "1"), (40, "1")])
def test_who_says_until_when_to_wait_counts_in_windows(
    queue: Queue, client: redis.Redis, rate: str, told_s: float | None, by_window: str
) -> None:
    """However slow it is, so that the lesson holds for longer; a second or less is nobody's window."""
    org = configured(batch_size=1, rate_limit=rate)
    answer(queue, claimed(queue, org), Signal.THROTTLED, org=org, retry_after_s=told_s)
    assert gate(client)["by_window"] == by_window


def test_an_outage_of_429s_teaches_one_lesson(queue: Queue, client: redis.Redis) -> None:
    """Without a success in between the gate is closed for longer; the spacing isn't widened each time."""
    org = configured(batch_size=1, rate_limit="100/minute")
    spaced = []
    for _ in range(12):
        answer(queue, claimed(queue, org), Signal.THROTTLED, org=org)
        spaced.append(float(gate(client)["learned"]))
        client.hdel(GATE, "closed_until", "due", "last")
    assert spaced == [spaced[0]] * 12
    answer(queue, claimed(queue, org), Signal.OK, each=DONE, org=org)
    client.hdel(GATE, "due", "last")
    answer(queue, claimed(queue, org), Signal.THROTTLED, org=org)
    assert float(gate(client)["learned"]) > spaced[0]


def test_a_lesson_never_holds_the_server_up(queue: Queue, client: redis.Redis) -> None:
    """Also where the limit, and so the ring, is large: what was let through is found, not counted."""
    org = configured(batch_size=1, rate_limit="100000/day,1000/second")
    batch = claimed(queue, org)
    now_us, day_us, sends = int(gate(client)["last"]), 86_400_000_000, 100_000
    ring = "".join(f"{now_us - day_us * 2 * (sends - n) // sends:016d}{n:016d}" for n in range(sends))
    client.set(keys.key("default", "ring"), ring)
    client.hset(GATE, "n", sends)
    before = int(client.info("commandstats")["cmdstat_getrange"]["calls"])
    answer(queue, batch, Signal.THROTTLED, org=org)
    assert int(client.info("commandstats")["cmdstat_getrange"]["calls"]) - before < 100
    assert "learned" in gate(client)


# -- sending late


def test_a_batch_sent_late_counts_from_when_it_is_sent(queue: Queue, client: redis.Redis) -> None:
    """Its place in the ring is moved, so that the next window begins with the call that was really made."""
    org = configured(batch_size=1, rate_limit="2/second")
    batch = claimed(queue, org)
    slot = int((client.get(keys.key("default", "ring")) or "")[:16])
    wait_for(lambda: client.time()[0] * 1_000_000 + client.time()[1] > slot + 50_000)
    assert queue.retime(org, batch.id)
    moved = int((client.get(keys.key("default", "ring")) or "")[:16])
    assert moved > slot + 50_000
    assert int(gate(client)["last"]) == moved
    wait_for(lambda: isinstance(queue.claim(org, new_id()), Batch))
    assert waits(queue, org).look_at_ms >= moved / 1000 + 1015 - HORIZON_US / 1000


def test_a_batch_that_others_have_overtaken_isnt_sent_late(queue: Queue) -> None:
    """Where a later send relied on its time, it may not be sent any more: the limit comes first."""
    org = configured(batch_size=1, rate_limit="1/second", max_in_flight=3)
    first = claimed(queue, org)
    wait_for(lambda: isinstance(queue.claim(org, new_id()), Batch))
    assert not queue.retime(org, first.id)
    assert not queue.retime(org, "no such call")


def slots_of(client: redis.Redis, number: int) -> list[int]:
    """Return when the last calls are to be sent, us."""
    ring = str(client.get(keys.key("default", "ring")))
    return [int(ring[at : at + 16]) for at in range(0, len(ring), 32)][-number:]


def slower(client: redis.Redis, *, by_window: int = 0) -> None:
    """Let it be known that the vendor allows 20 calls a second."""
    now_us = int(gate(client)["clock"])
    span = 15_000_000
    lesson = {"learned": 50_000, "swing": 0.03, "span": span, "by_window": by_window}
    learned = lesson | {"learned_from": now_us - span}
    client.hset(GATE, mapping=learned | {"taught_at": now_us - span, "due": now_us, "last": now_us})


def test_who_may_be_refused_for_its_distance_is_told_it(queue: Queue, client: redis.Redis) -> None:
    """Not where calls are as configured, nor where the vendor has shown that it counts in windows."""
    org = configured(batch_size=1, rate_limit="60/second", max_in_flight=9)
    assert claimed(queue, org).gap_s == 0
    slower(client)
    assert claimed(queue, org).gap_s == pytest.approx(0.05, rel=0.05)
    slower(client, by_window=1)
    assert claimed(queue, org).gap_s == 0


def test_where_calls_keep_their_distance_a_late_one_moves_what_isnt_given_out(
    queue: Queue, client: redis.Redis
) -> None:
    """Those that have their slots will be late as well, so that the next one is that much later: once."""
    org = configured(batch_size=1, rate_limit="60/second", max_in_flight=9)
    claimed(queue, org)
    slower(client)
    first = wait_for(lambda: _claim(queue, org))
    wait_for(lambda: _claim(queue, org))
    due, (slot, second) = int(gate(client)["due"]), slots_of(client, 2)
    assert due == second
    assert queue.retime(org, first.id, 0.2)
    moved = int(gate(client)["last"])
    assert slot + 50_000 < moved
    assert int(gate(client)["due"]) == moved, "it is the last now"
    assert queue.retime(org, first.id, 0.2)
    third = wait_for(lambda: _claim(queue, org))
    assert third.send_at - first.send_at >= 0.2


# -- a slot that is given back


def test_a_claim_that_is_given_back_gives_back_its_slot(queue: Queue, client: redis.Redis) -> None:
    """Ten times in a row: the next one may start at once, and no window holds more for it."""
    org = configured(batch_size=8, rate_limit="3/second")
    sent: list[Batch] = []
    while len(sent) < 7:
        for _ in range(10):
            back = wait_for(lambda: _claim(queue, org))
            before = gate(client)
            queue.release(org, back.id, back.jobs)
            again = _claim(queue, org)  # at once
            assert again, gate(client)
            after = gate(client)
            assert (after["n"], after["items"]) == (before["n"], before["items"])
            queue.release(org, again.id, again.jobs)
        last = wait_for(lambda: _claim(queue, org))
        sent.append(last)
        answer(queue, last, Signal.OK, each=DONE, org=org)
    slots = [batch.slot_from for batch in sent]
    assert all(fourth - first > 0.99 for first, fourth in zip(slots, slots[3:], strict=False))


def _claim(queue: Queue, org: Org) -> Batch | None:
    found = queue.claim(org, new_id())
    return found if isinstance(found, Batch) else None


def test_a_slot_in_the_middle_is_given_back(queue: Queue, client: redis.Redis) -> None:
    """What was claimed after it keeps its time, and can still be sent later."""
    org = configured(batch_size=8, rate_limit="1000/second", max_in_flight=9)
    first, back, last = (claimed(queue, org) for _ in range(3))
    queue.release(org, back.id, back.jobs)
    assert gate(client)["n"] == "2"
    assert queue.retime(org, last.id)
    assert queue.retime(org, first.id)
    for batch in (first, last):
        answer(queue, batch, Signal.OK, each=DONE, org=org)
    assert gate(client)["items"] == "16"
