"""The way to the vendor: what ``VendorClient`` promises, against the sandbox's vendor, in virtual time.

The way past the fence is the program's own. A request that has left arrives, or doesn't, whatever becomes of
its process.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from greenlet import getcurrent
from simulation.hub import SECOND
from simulation.knowledge import Broken, Knowledge, Pair
from simulation.world import World

from worker.domain.job import Job
from worker.domain.org import Org
from worker.domain.outcome import NoReply, Reply
from worker.sandbox.issued import Answer, Exchange, Fault, failure
from worker.sandbox.vendor import Vendor
from worker.vendor.client import TOO_LATE, Fence, Passage, TooLateError

# What the sandbox does for a fault of the plan.
ANSWERS: dict[str, Fault] = {
    "throttled": Fault(fault="status", status=429, headers={"retry-after": "2"}),
    "unavailable": Fault(fault="status", status=503, body=json.dumps([failure(4001, "service unavailable")])),
    "error_unapplied": Fault(fault="status", status=500, body="oops"),
    "error_applied": Fault(fault="status", status=502, body="oops", apply="all"),
    "unauthorized": Fault(fault="status", status=401, body=json.dumps([failure(401, "who?")])),
    "forbidden": Fault(fault="status", status=403, body=json.dumps([failure(4000, "Access group missing")])),
    "too_large": Fault(fault="status", status=413, body="too large"),
    "refused": Fault(
        fault="status", status=400, body=json.dumps([failure(400, "something is wrong with it")])
    ),
    "rows_missing": Fault(fault="drop_rows", count=1),
    "rows_shuffled": Fault(fault="shuffle"),
    "rows_added": Fault(fault="add_rows"),
    "busy": Fault(fault="item_error", times=1),
}
UNAPPLIED = {"reset_unapplied", "timeout_unapplied", "crash_unapplied"}


@dataclass
class _Call:
    """A request on its way, and its answer once there is one."""

    answer: Answer | None = None


class Line:
    """Calls the vendor; what a process has instead of a ``VendorClient``."""

    def __init__(self, world: World, vendor: Vendor) -> None:
        self._world, self._vendor = world, vendor

    def put(
        self,
        org: Org,
        jobs: Sequence[Job],
        headers: Mapping[str, str],
        *,
        fence: Fence,
    ) -> Reply | NoReply:
        """Send a batch, unless it has become too late; see ``VendorClient.put``."""
        world, known = self._world, self._world.known[org.name]
        fault = world.strike("put")
        world.before(fault)
        world.hub.pause(world.random.randint(0, 3000))  # until the connection stands
        if fault == "not_connected":
            known.tried(len(jobs))
            return NoReply(sent=False, code="ConnectError", reason="refused")
        passage = Passage(fence, world.time)
        try:
            passage.wait()
            looked_s = world.time.steady_s()
            passage.enter()
        except TooLateError:
            return NoReply(sent=False, code=TOO_LATE, reason="the time to send had passed")
        self._look(org, jobs)
        if self._world.time.steady_s() > getattr(getcurrent(), "send_by", math.inf):
            raise Broken("a call leaves later than it may after its claim and its slot")
        body = json.loads(json.dumps([job.badge.body(org.epoch_unit) for job in jobs]))
        timeout_us = int(org.http_timeout_s * SECOND)
        until_us = world.hub.now_us + timeout_us
        known.tried(len(jobs))
        known.sent(world.hub.now_us, len(jobs), until_us)
        world.tell(f"PUT {[job.id for job in jobs]}")
        pairs = [Pair.of(job.badge) for job in jobs]
        call, its = _Call(), {name.lower(): value for name, value in headers.items()}
        if fault not in UNAPPLIED:
            known.on_the_way.update(pairs)
            transit_us = (
                timeout_us + 5 * SECOND if fault == "applied_late" else world.random.randint(500, 40_000)
            )
            world.hub.later(transit_us, lambda: self._arrive(known, call, body, pairs, fault, its))
        if world.time.steady_s() - looked_s > fence.slack_s:  # on its way through the fence it was held up:
            world.excuse(known)  # who claimed in the meantime counted it too early, as README.md says
        passage.has_left()
        passage.is_over()
        answer = self._await(call, fault, timeout_us)
        known.call_is_over(until_us)
        world.after(fault)
        return answer

    def post(
        self,
        org: Org,
        path: str,  # noqa: ARG002
        body: Any,
        headers: Mapping[str, str],  # noqa: ARG002
        *,
        fence: Fence,
    ) -> Reply | NoReply:
        """Take a badge back at the vendor."""
        world = self._world
        fault = world.strike("post")
        world.before(fault)
        if too_late := self._leave(org, fence):
            return too_late
        if body["earnedBadgeId"] not in {issue.earned_badge_id for issue in self._vendor.issues}:
            raise Broken(f"{body} is to be taken back, and was never issued")
        if fault == "reset_unapplied":
            return NoReply(sent=True, code="ReadError", reason="reset")
        world.hub.pause(world.random.randint(1000, 80_000))
        self._vendor.clear_faults()
        if fault in ANSWERS:
            self._vendor.add_fault(replace(ANSWERS[fault], on="revoke"))
        exchange, _ = self._vendor.arrive("revoke")
        answer = self._vendor.respond(exchange, {}, lambda e: self._vendor.revoke(e, body))
        world.tell(f"POST {body['earnedBadgeId']} -> {answer.status}")
        world.after(fault)
        world.hub.pause(world.random.randint(500, 40_000))
        if fault == "reset_applied":
            return NoReply(sent=True, code="ReadError", reason="reset")
        return _reply(answer)

    def get(
        self,
        org: Org,
        path: str,
        headers: Mapping[str, str],  # noqa: ARG002
        *,
        fence: Fence,
    ) -> Reply | NoReply:
        """Read from the vendor."""
        world = self._world
        fault = world.strike("get")
        world.before(fault)
        if too_late := self._leave(org, fence):
            return too_late
        world.hub.pause(world.random.randint(1000, 80_000))
        exchange, _ = self._vendor.arrive("read")
        *_, customer, _, badge = urlsplit(path).path.split("/")
        statistics = "includeStatistics" in parse_qs(urlsplit(path).query)
        answer = self._vendor.respond(
            exchange, {}, lambda _: self._vendor.read_badge(int(customer), badge, statistics=statistics)
        )
        world.tell(f"GET {customer} {badge} -> {answer.body}")
        world.after(fault)
        return _reply(answer)

    def _leave(self, org: Org, fence: Fence) -> NoReply | None:
        """Let a call without jobs past its fence, if it isn't too late for that."""
        world, known = self._world, self._world.known[org.name]
        passage = Passage(fence, world.time)
        looked_s = world.time.steady_s()
        try:
            passage.enter()
        except TooLateError:
            return NoReply(sent=False, code=TOO_LATE, reason="the time to send had passed")
        known.sent(world.hub.now_us, 0, 0)
        if world.time.steady_s() - looked_s > fence.slack_s:
            world.excuse(known)  # as in put
        passage.has_left()
        passage.is_over()
        return None

    def _look(self, org: Org, jobs: Sequence[Job]) -> None:
        """Hold what leaves against what the store holds: a live batch, and its own jobs."""
        known, batch = self._world.known[org.name], getattr(getcurrent(), "batch", "")
        stand = self._world.probe.batch(org.name, batch)
        for job in jobs:
            is_its_own = stand.get(job.id) in {"sending", "issued"} or job.id in known.doubtful
            if not is_its_own and self._world.hub.now_us >= known.unsure_until_us:
                raise Broken(f"{job.id} leaves in batch {batch}, whose jobs are {stand}")
            if job.id in known.discarded and job.id not in known.doubtful:
                raise Broken(f"{job.id} leaves, and was discarded")

    def _arrive(  # noqa: PLR0917 - a request
        self,
        known: Knowledge,
        call: _Call,
        body: list[dict[str, Any]],
        pairs: list[Pair],
        fault: str,
        headers: Mapping[str, str],
    ) -> None:
        """Let a request arrive, and what it asks for be done."""
        known.on_the_way.subtract(pairs)
        self._vendor.clear_faults()
        if fault in ANSWERS:
            self._vendor.add_fault(ANSWERS[fault])
        before = len(self._vendor.issues)
        exchange, _ = self._vendor.arrive("import")
        act: Callable[[Exchange], Answer] = lambda e: self._vendor.import_badges(e, body)  # noqa: E731
        call.answer = self._vendor.respond(exchange, headers, act)
        self._world.tell(f"the vendor answers {call.answer.status}, {exchange.issued} issued")
        for issue in self._vendor.issues[before:]:
            known.issued(Pair(issue.badge_meta_id, issue.customer_id))

    def _await(self, call: _Call, fault: str, timeout_us: int) -> Reply | NoReply:
        world = self._world
        match fault:
            case "reset_unapplied" | "reset_applied":
                world.hub.pause(60_000)
                return NoReply(sent=True, code="ReadError", reason="reset")
            case "crash_unapplied" | "crash_applied":
                world.hub.pause(world.random.randint(0, 60_000))
                world.hub.crash()
            case "timeout_unapplied" | "timeout_applied" | "applied_late":
                world.hub.pause(timeout_us)
                return NoReply(sent=True, code="timeout", reason="no whole answer")
            case "late_answer":
                world.hub.pause(int(0.95 * timeout_us))
        while call.answer is None:
            world.hub.pause(20_000)
        world.hub.pause(world.random.randint(500, 40_000))
        answer = _reply(call.answer)
        return Reply(answer.status, answer.body[:-7], answer.headers) if fault == "truncated" else answer


def _reply(answer: Answer) -> Reply:
    body = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
    return Reply(
        answer.status, body.encode(), {name.lower(): value for name, value in answer.headers.items()}
    )
