"""The test of the test: each guard of the program, its promise, and what takes it out.

A mutation is a text of a script that is replaced by another, or a method of a class. With it the simulation
must fail; one whose text isn't there any more is an error, so that none is left behind by a change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from simulation.server import virtual

from worker.store.clock import OrgClocks
from worker.store.scripts import Scripts, Store
from worker.vendor import client
from worker.vendor.doubt import DoubtChecker

Patch = tuple[type, str, Callable[[Any], Any]]  # of a class, which method, and what is made of it


@dataclass(frozen=True, slots=True)
class Mutation:
    """A guard that is taken out: ``lua`` are texts of scripts, ``python`` a method."""

    name: str
    promise: str
    lua: tuple[tuple[str, str, str], ...] = ()
    python: Patch | None = None
    quick: bool = False  # found within some dozen rounds, so that every run of the tests takes it out


def _plain_claim(durably: Callable[..., Any]) -> Callable[..., Any]:
    def called(store: Store, name: str, *args: Any) -> Any:
        return store.call(name, *args) if name == "claim" else durably(store, name, *args)

    return called


def _one_look(_: Callable[..., Any]) -> Callable[..., Any]:
    def look(checker: Any, org: Any, suspects: Any) -> str:
        count = checker._earn_count(org, suspects.badge, suspects.customer)  # noqa: SLF001
        return "unknown" if count is None else "cleared" if count == 0 else "seen"

    return look


def _without(bound: str) -> Callable[[Any], Any]:
    """Return what makes fences that lack a bound."""

    def patch(init: Callable[..., Any]) -> Callable[..., Any]:
        def made(fence: Any, **bounds: Any) -> None:
            init(fence, **bounds | {bound: math.inf})

        return made

    return patch


def _eager(expected: Callable[..., Any]) -> Callable[..., Any]:
    def called(clocks: Any, org: str) -> Any:
        found = expected(clocks, org)
        if found:
            last, (shows_us, more_us) = clocks._heard[org][-1], found["clock"]  # noqa: SLF001
            unsure_us = round((last.replied_at - last.asked_at) * 1e6)
            found = {"clock": (shows_us + unsure_us, more_us - unsure_us)}
        return found

    return called


MUTATIONS = (
    Mutation("fence: send_by", "at most so many calls at once; none for a batch that others gave up",
        python=(client.Fence, "__init__", _without("send_by")), quick=True),
    Mutation("fence: slot", "no window over its limit", python=(client.Fence, "__init__", _without("slot"))),
    Mutation("durable claim", "nothing is issued twice",
        python=(Store, "durably", _plain_claim), quick=True),
    Mutation("two looks at doubt", "nothing is issued twice",
        python=(DoubtChecker, "_look", _one_look), quick=True),
    Mutation("fencing of settle", "a batch settles its own jobs alone",
        lua=(("settle", "VERB.issued and holders[n] == batch then", "VERB.issued then"),), quick=True),
    Mutation("settle: doubt that was discarded", "discarded for good",
        lua=(("settle", " and is_listed(job.id, fields)", ""),)),
    Mutation('settle: a late "issued" wins', "nothing is lost",
        lua=(("settle", "if job.verb == VERB.issued then return issue_late",
              "if job.verb == VERB.issued and state == STATE.issued then return issue_late"),)),
    Mutation("repetition: settle", "counted once",
        lua=(("settle", "if before then return before end", ""),), quick=True),
    Mutation("repetition: claim of a settled batch", "nothing is lost to nobody",
        lua=(("claim", "if recall('settle:' .. batch) then", "if false then"),)),
    Mutation("repetition: claim", "the same batch, the same jobs",
        lua=(("claim", "if before then return before end", ""),)),
    Mutation("repetition: enqueue", "duplicates are counted once",
        lua=(("enqueue", "if before then return cjson.decode(before) end", ""),)),
    Mutation("repetition: replay", "nothing is issued twice",
        lua=(("replay", "if before then return before end", ""),)),
    Mutation("repetition: reserve_call", "a call is paid once",
        lua=(("reserve_call", "tonumber((recall(ARGV[1]) or ''):match('^%d+'))", "nil"),)),
    Mutation("NX on enqueue", "nothing is issued twice",
        lua=(("enqueue", "  if raw then\n", "  if false then\n"),
             ("enqueue", "elseif not remember(id) then", "elseif remember(id) == nil then")), quick=True),
    Mutation("NX on a changed replay", "nothing is issued twice",
        lua=(("replay", "if redis.call('EXISTS', K.job .. new_id) == 1 or not is_new(new_id, how) then",
              "if not is_new(new_id, how) and false then"),)),
    Mutation("a popped id: the record says that it is queued", "one item, one state",
        lua=(("claim", "if state ~= STATE.queued or", "if"),)),
    Mutation("a popped id: no live batch carries it", "no job in two batches",
        lua=(("claim", " or is_live(holder) then return end", " then return end"),)),
    Mutation("a changed record leaves its batch", "no job in two batches, none in two states",
        lua=(("settle", "if live then take_from_batch(job.id) end", ""),)),
    Mutation("the slot's ring", "no window over its limit",
        lua=(("*", "sent_at(gate, math.max(past - 1, oldest(gate))) + limit[2] + limit[3]", "T_US"),)),
    Mutation("a late send moves its slot", "no window over its limit",
        lua=(("retime",
              "write_send(gate, n, at, items_before(gate, n + 1) - items)\nredis", "redis"),)),
    Mutation("too late to move a slot", "no window over its limit",
        lua=(("retime", "if since > limit[1] then return 0 end", ""),)),
    Mutation("the clock that stepped back", "no window over its limit; everything ends",
        lua=(("*", "T_US = math.max(shows, known)", "T_US = NOW_US"),)),
    Mutation("the clock that leapt ahead", "no window over its limit",
        lua=(("*", "if T_US > least + cfg.clock[2] then", "if false then"),)),
    Mutation("after a leap, no more than is certain", "no window over its limit",
        python=(OrgClocks, "expected", _eager)),
    Mutation("the cap of calls at once", "at most so many calls at once",
        lua=(("*", "if room(cfg, gate) <= 0 then wait", "if false then wait"),), quick=True),
    Mutation("seats expire", "everything ends",
        lua=(("take_seat", "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', int(NOW))\n", ""),
             ("*", "redis.call('ZRANGEBYSCORE', seats, int(NOW), int(NOW + LONGEST_SEAT_MS))",
              "redis.call('ZRANGEBYSCORE', seats, '-inf', '+inf')"))),
    Mutation("seats from before a step back", "everything ends",
        lua=(("*", "int(NOW + LONGEST_SEAT_MS)", "'+inf'"),)),
    Mutation("a silent holder is given up", "everything ends",
        lua=(("claim", "give_up_leases()\nput_back", "put_back"),)),
    Mutation("given up means in doubt", "nothing is issued twice",
        lua=(("claim", "if cfg.in_doubt == 'resend' and attempts", "if attempts"),), quick=True),
    Mutation("due retries come back", "everything ends",
        lua=(("claim", "put_back_due_retries()\nlater.begin()", "later.begin()"),)),
    Mutation("a run begins when its time has come", "everything ends",
        lua=(("claim", "later.begin()\nlocal at", "local at"),)),
    Mutation("replay: only what is on the list", "discarded for good",
        lua=(("replay", " or not is_listed(id, fields) or", " or"),)),
    Mutation("replay: only what is dead", "nothing is issued twice",
        lua=(("replay", "if new_id == '' and unlisted[id] then", "if new_id == '' and fields then"),)),
    Mutation("resolve: only what is on the list", "discarded for good",
        lua=(("resolve", " and is_listed(id, fields) then", " then"),)),
    Mutation("check: only what is on the list", "discarded for good",
        lua=(("conclude_check", " and is_listed(id, fields) then", " then"),)),
    Mutation("cancel: only what waits", "counters are what the records are",
        lua=(("cancel", "if not waits or is_being_revoked(id) then return false end",
              "if state == STATE.dead then return false end"),)),
    Mutation("cancel: not what is being sent", "counters are what the records are",
        lua=(("cancel", " and not (holders[n] and is_live(holders[n])) and cancel", " and cancel"),)),
    Mutation("cancel leaves no retry", "one item, one state",
        lua=(("cancel", "if state == STATE.retrying then redis.call('ZREM', K.retry, id) end", ""),
             ("claim", "if fields and fields[FIELD.state] == STATE.retrying then", "if fields then"))),
    Mutation("exhumed is listed no more", "counters are what the records are",
        lua=(("*", "  function exhume(id, fields)\n    unlist(id, fields)",
              "  function exhume(id, fields)"),)),
    Mutation("customers are freed", "everything ends",
        lua=(("*", "if redis.call('EXISTS', K.leases) == 0 then redis.call('DEL', K.busy) end", ""),)),
    Mutation("the same request: only while all of it is in doubt", "nothing is issued twice",
        lua=(("claim", " and fields[FIELD.kind] == KIND.in_doubt and fields[FIELD.batch] == last", ""),
             ("claim", "if not is_its or not is_listed(ids[n], fields) or", "if not is_its or"))),
    Mutation("the same request: not sent means in doubt", "nothing is issued twice",
        lua=(("settle", "return job.verb == VERB.put_back and job.rest == '' and is_again(batch) end",
              "return false end"),)),
    Mutation("the same request: in doubt again, sent again", "nothing stays in doubt",
        lua=(("settle", "keep_request(batch, ids, died)\n", ""),)),
    Mutation("the same request: the same id", "nothing is issued twice",
        lua=(("claim", "batch = memoize('claim:' .. asked, again.batch)", ""),)),
    Mutation("undo: what was issued twice loses both", "undone means taken back",
        lua=(("settle_revoke", "verb == 'undone' and second_of(job) or ''", "''"),)),
    Mutation("undo: due by the org's own clock", "everything ends",
        lua=(("settle_revoke", "int(T + tonumber(argument)), id", "int(NOW + tonumber(argument)), id"),
             ("take_revoke", "'-inf', int(T)", "'-inf', int(NOW)"),
             ("*", "return math.max(first, T, ", "return math.max(first, NOW, "))),
    Mutation("paused", "what is paused isn't sent",
        lua=(("*", "if gate.paused then return NEVER, 'paused' end", ""),)),
)  # fmt: skip


def scripts(mutation: Mutation) -> Scripts:
    """Return the scripts as the mutation leaves them."""
    return virtual(mutation.lua)


@contextmanager
def without(mutation: Mutation) -> Iterator[Scripts]:
    """Take the guard out while the block lasts; yields the scripts to play with."""
    if mutation.python is None:
        yield scripts(mutation)
        return
    owner, method, patch = mutation.python
    before = getattr(owner, method)
    setattr(owner, method, patch(before))
    try:
        yield scripts(mutation)
    finally:
        setattr(owner, method, before)
