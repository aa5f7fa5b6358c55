"""The vendor as a ledger: what its badge API does with a call, without any HTTP (that is in ``server.py``).

What the vendor's document says is marked "doc"; the rest is chosen here, where it is silent, and much of
that can be set. The fact to keep in mind (doc): an import is **not idempotent**. Two identical items are two
badges, in one call or in two.
"""

import base64
import hashlib
import random
import re
import threading
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import formatdate
from math import ceil
from typing import Any, Protocol

from worker.domain.badge import one_case
from worker.sandbox.issued import (
    Answer,
    Armed,
    Endpoint,
    Exchange,
    Fault,
    Issue,
    Ledger,
    SandboxSettings,
    an_error,
    data_of,
    failure,
    read_expiry_s,
    shaped,
    success,
    write_iso,
)

OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")
REQUEST_ID = "X-CAP-REQUEST-ID"


class Timepiece(Protocol):
    """What the vendor asks of a clock: what Python's ``time`` has."""

    def time(self) -> float:
        """Return seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that nobody sets."""
        ...


class Vendor:
    """The vendor's state and behaviour.

    Any thread may use it, except that the endpoints (`import_badges` to `read_customer`) are for `respond` to
    call, which holds the lock.
    """

    def __init__(self, *, settings: SandboxSettings | None = None, clock: Timepiece = time) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._settings = settings or SandboxSettings()
        self._random = random.Random(self._settings.seed)  # noqa: S311 - repeatable on purpose
        self._exchanges: list[Exchange] = []
        self._issues: list[Issue] = []
        self._by_customer: dict[int, list[Issue]] = defaultdict(list)
        self._revoked: set[str] = set()
        self._applied: dict[str, list[dict[str, Any]]] = {}  # imports by request id, and what they answered
        self._admitted: deque[float] = deque()
        self._tokens: dict[str, float] = {}  # when each was given out, monotonic
        self._armed: list[Armed] = []

    @property
    def settings(self) -> SandboxSettings:
        """The settings in force."""
        return self._settings

    def configure(self, settings: SandboxSettings) -> None:
        """Replace the settings. Another OAuth client ends all tokens, another seed starts again."""
        with self._lock:
            if settings.oauth != self._settings.oauth:
                self._tokens.clear()
            if settings.seed != self._settings.seed:
                self._random.seed(settings.seed)
            self._settings = settings

    def add_fault(self, fault: Fault) -> None:
        """Queue a fault. A call meets one of kind `status` at most, and all others that are due."""
        with self._lock:
            self._armed.append(Armed(fault, fault.after, fault.times))

    def clear_faults(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._armed.clear()

    def ledger(self) -> Ledger:
        """Copy the ledger."""
        with self._lock:
            exchanges = tuple(replace(e) for e in self._exchanges)
            return Ledger(exchanges, tuple(self._issues), frozenset(self._revoked))

    @property
    def issues(self) -> tuple[Issue, ...]:
        """What was issued so far; costs less than the ledger."""
        with self._lock:
            return tuple(self._issues)

    def arrive(self, endpoint: Endpoint) -> tuple[Exchange, Answer | None]:
        """Note a request when it arrives, and answer 429 if there were too many.

        The limit is a sliding log of the admitted requests, so a refused one costs nothing.
        """
        with self._lock:
            exchange = Exchange(endpoint, self._clock.monotonic(), self._clock.time())
            self._exchanges.append(exchange)
            wait_s = self._wait_s(exchange.arrived_s)
            if wait_s <= 0:
                self._admitted.append(exchange.arrived_s)
                return exchange, None
            at = formatdate(ceil(exchange.arrived_at + wait_s), usegmt=True)
            value = {"seconds": str(ceil(wait_s)), "date": at}.get(self._settings.retry_after)
            # Its body is unknown; one that isn't vendor-shaped keeps everybody from reading things into it.
            return exchange, Answer(429, "Too Many Requests", {"Retry-After": value} if value else {})

    def respond(
        self, exchange: Exchange, headers: Mapping[str, str], carry_out: Callable[[Exchange], Answer]
    ) -> Answer:
        """Carry a call out, as far as credentials, settings and faults let it, and say what to answer.

        Args:
            exchange: The call's place in the ledger, from `arrive`.
            headers: Its headers, names in lower case.
            carry_out: Calls the endpoint it is for.
        """
        with self._lock:
            exchange.request_id = headers.get("x-cap-request-id") or self._uuid()
            answer = None if exchange.endpoint == "token" else self._unauthorised(headers)
            answer = answer or self._meet_faults(exchange, carry_out)
            delay_s = answer.delay_s + self._random.uniform(*self._settings.latency_s)
            said = {REQUEST_ID: exchange.request_id, **answer.headers}
            return replace(answer, headers=said, delay_s=delay_s)

    def import_badges(self, exchange: Exchange, items: object) -> Answer:
        """Issue badges. Doc: the answer is an array of {data, errors, warnings}."""
        settings = self._settings
        if not isinstance(items, list):
            return Answer(400, [failure(400, "The body must be a JSON array")])
        if settings.max_batch is not None and len(items) > settings.max_batch:
            too_many = Answer(200, [failure(1060, "Batch limit exceeded")])
            return too_many if settings.over_batch == "1060" else Answer(413, "Request Entity Too Large")
        items = [item if isinstance(item, dict) else {} for item in items]
        if settings.missing_badge_fails == "request" and not all(map(self._exists, items)):
            return Answer(400, [failure(1054, "GLOBAL.BADGE_NOT_FOUND")])
        # A vendor that ignores our request ids makes its own.
        its_id = self._uuid() if settings.request_ids == "ignores" else exchange.request_id
        if its_id in self._applied:
            if settings.request_ids == "refuses":
                return Answer(400, [failure(809, "Request with the same requestId is not allowed")])
            return Answer(200, [dict(row) for row in self._applied[its_id]])
        issued_before = len(self._issues)
        rows = [self._row(item, f"{its_id}_{n}", exchange) for n, item in enumerate(items, start=1)]
        exchange.issued = len(self._issues) - issued_before
        if settings.request_ids != "ignores":
            self._applied[its_id] = [dict(row) for row in rows]
        return Answer(200, rows)

    def revoke(self, exchange: Exchange, asked: object) -> Answer:
        """Take an earned badge back. Doc: 814 if no such earn is active; the status with it is unknown."""
        asked = asked if isinstance(asked, dict) else {}
        badge, customer, earned = (asked.get(name) for name in ("badgeMetaId", "customerId", "earnedBadgeId"))
        for issue in self._by_customer.get(customer, ()) if isinstance(customer, int) else ():
            its = issue.earned_badge_id == earned and issue.badge_meta_id == one_case(str(badge))
            if its and earned not in self._revoked:
                self._revoked.add(issue.earned_badge_id)
                exchange.revoked = issue.earned_badge_id
                data = {"badgeMetaId": badge, "customerId": customer, "earnedBadgeId": earned}
                return Answer(200, {"data": data | {"isActive": False}, "errors": [], "warnings": []})
        return Answer(400, failure(814, "Active earn instance is not present"))

    def generate_token(self, body: object) -> Answer:
        """Give out a token. Doc: a bad key is errors[0].code 320001; the HTTP status with it is unknown."""
        sent = (body.get("key"), body.get("secret")) if isinstance(body, dict) else None
        if sent is None or sent != self._settings.oauth:
            return Answer(401, failure(320001, "Invalid client key or secret"))
        token = f"{self._random.getrandbits(256):064x}"
        self._tokens[token] = self._clock.monotonic()
        return Answer(200, success({"accessToken": token, "ttlSeconds": self._settings.token_ttl_s}))

    def read_badge(self, customer_id: int, badge_meta_id: str, *, statistics: bool) -> Answer:
        """Read a customer's badge. Doc: its statistics: earnDetails.earnCount, activeEarnedCount."""
        data: dict[str, Any] = {"badgeMetaId": badge_meta_id, "customerId": customer_id}
        if not self._exists(data):
            return Answer(400, failure(1054, "GLOBAL.BADGE_NOT_FOUND"))
        if statistics:
            badge = one_case(badge_meta_id)
            earned = [issue for issue in self._visible(customer_id) if issue.badge_meta_id == badge]
            now_s = self._clock.time()
            ends = [i.expires_on_s for i in earned if i.earned_badge_id not in self._revoked]
            active = sum(end is None or end > now_s for end in ends)
            data |= {"earnDetails": {"earnCount": len(earned)}, "activeEarnedCount": active}
        return Answer(200, success(data))

    def read_customer(self, customer_id: int, badge_type: str) -> Answer:
        """Read a customer's badges. Doc: badges[] of badgeMetaId and earnedCount."""
        if badge_type != "EARNED":
            return Answer(400, failure(400, "This sandbox knows badgeType=EARNED only"))
        counts = Counter(issue.badge_meta_id for issue in self._visible(customer_id))
        badges = [{"badgeMetaId": badge, "earnedCount": count} for badge, count in counts.items()]
        return Answer(200, success({"customerId": customer_id, "badges": badges}))

    def _wait_s(self, now_s: float) -> float:
        if self._settings.rate is None:
            return 0
        limit, window_s = self._settings.rate
        while self._admitted and self._admitted[0] <= now_s - window_s:
            self._admitted.popleft()
        if len(self._admitted) < limit:
            return 0
        return self._admitted[-limit] + window_s - now_s if limit > 0 else window_s

    def _unauthorised(self, headers: Mapping[str, str]) -> Answer | None:
        """Doc: an invalid token is code 401, an expired one 498, a missing access group 403 / 4000."""
        settings = self._settings
        given_out_s = self._tokens.get(headers.get("x-cap-api-oauth-token", ""))
        by_basic = settings.basic and headers.get("authorization") == _basic(*settings.basic)
        if not by_basic and (settings.basic or settings.oauth):
            if given_out_s is None:
                return Answer(401, failure(401, "Invalid credentials"))
            if self._clock.monotonic() - given_out_s >= settings.token_ttl_s:
                return Answer(401, failure(498, "Token expired"))
        return None if settings.has_access else Answer(403, failure(4000, "Access group missing"))

    def _meet_faults(self, exchange: Exchange, carry_out: Callable[[Exchange], Answer]) -> Answer:
        faults = self._due(exchange.endpoint)
        status = next((fault for fault in faults if fault.fault == "status"), None)
        if status is None:
            answer = self._spoil(carry_out(exchange), faults)
        else:
            if status.apply == "all":
                carry_out(exchange)
            answer = Answer(status.status, status.body, status.headers)
        return replace(answer, delay_s=sum(fault.seconds for fault in faults if fault.fault == "delay"))

    def _due(self, endpoint: Endpoint) -> list[Fault]:
        due: list[Fault] = []
        for armed in self._armed:
            fault = armed.fault
            second = fault.fault == "status" and any(other.fault == "status" for other in due)
            if fault.on == endpoint and fault.fault != "item_error" and not second and armed.strikes():
                due.append(fault)
        return due

    def _spoil(self, answer: Answer, faults: list[Fault]) -> Answer:
        if not isinstance(answer.body, list):
            return answer
        rows: list[dict[str, Any]] = answer.body
        for fault in faults:
            match fault.fault:
                case "shuffle":
                    self._random.shuffle(rows)
                case "drop_rows":
                    del rows[-fault.count :]
                case "add_rows":
                    rows.extend(self._strange_row() for _ in range(fault.count))
                case "errors_shape":
                    rows = [row | {"errors": shaped(row["errors"], fault.shape)} for row in rows]
        return replace(answer, body=rows)

    def _strange_row(self) -> dict[str, Any]:
        nobody = {"badgeMetaId": self._new_id(), "customerId": self._random.getrandbits(31)}
        return success(data_of(nobody, f"{self._uuid()}_1") | {"earnedBadgeId": self._new_id()})

    def _row(self, item: dict[str, Any], request_id: str, exchange: Exchange) -> dict[str, Any]:
        """Issue an item's badge, or say why not; an error row too has the data that tells whose it is."""
        data = data_of(item, request_id)
        error, expires_s = self._objection(item), None
        try:
            expires_s = read_expiry_s(item)
        except (TypeError, ValueError):
            error = error or an_error(400, "The expiry is not a date")
        if error:
            return {"data": data, "errors": [error], "warnings": None}
        badge = one_case(item["badgeMetaId"])
        issued_s = self._clock.monotonic()
        issue = Issue(
            self._new_id(), badge, item["customerId"], expires_s, issued_s, request_id=exchange.request_id
        )
        self._issues.append(issue)
        self._by_customer[issue.customer_id].append(issue)
        data["earnedBadgeId"] = issue.earned_badge_id
        if expires_s is not None:
            data["expiresOn"], data["expiresOnISO"] = expires_s, write_iso(expires_s)
        return success(data)

    def _objection(self, item: dict[str, Any]) -> dict[str, Any] | None:
        if type(item.get("customerId")) is not int:  # not isinstance: a bool is an int, too
            return an_error(812, "customerId missing or not an integer")
        if not self._exists(item):
            return an_error(1054, "GLOBAL.BADGE_NOT_FOUND")
        for armed in self._armed:
            if _is_meant(armed.fault, item) and armed.strikes():
                return an_error(armed.fault.code, armed.fault.message)
        return None

    def _exists(self, item: dict[str, Any]) -> bool:
        badge, settings = item.get("badgeMetaId"), self._settings
        if not isinstance(badge, str) or badge in settings.unknown_badges:
            return False
        return bool(OBJECT_ID.fullmatch(badge)) if settings.badges is None else badge in settings.badges

    def _visible(self, customer_id: int) -> list[Issue]:
        until_s = self._clock.monotonic() - self._settings.read_delay_s
        return [issue for issue in self._by_customer.get(customer_id, ()) if issue.issued_s <= until_s]

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def _new_id(self) -> str:
        """Make an id as MongoDB does: seconds, then what keeps it unique within this ledger."""
        return f"{int(self._clock.time()):08x}{self._random.getrandbits(32):08x}{len(self._issues):08x}"


def _basic(username: str, password: str) -> str:
    """Doc: base64(username:md5hex(password))."""
    digest = hashlib.md5(password.encode(), usedforsecurity=False).hexdigest()
    return "Basic " + base64.b64encode(f"{username}:{digest}".encode()).decode()


def _is_meant(fault: Fault, item: Mapping[str, Any]) -> bool:
    return (
        fault.fault == "item_error"
        and fault.badge_meta_id in {None, item["badgeMetaId"]}
        and fault.customer_id in {None, item["customerId"]}
    )
