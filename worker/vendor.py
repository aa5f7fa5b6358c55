"""The vendor as a ledger: what its badge API does with a call, without any HTTP (that is in `sandbox.py`).

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
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from math import ceil
from typing import Any, Literal

from worker.ledger import Answer, Armed, Endpoint, Exchange, Fault, Issue, Ledger, SandboxSettings

OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")
FOUR_CENTURIES_S = 12_622_780_800  # after which the calendar repeats
LAST_INSTANT_S = 31_556_889_864_403_199  # of Java's Instant, and so of the vendor's dates


class Vendor:
    """The vendor's state and behaviour.

    Any thread may use it, except that the endpoints (`import_badges` to `read_customer`) are for `respond` to
    call, which holds the lock.
    """

    def __init__(self, *, settings: SandboxSettings | None = None) -> None:
        self._lock = threading.Lock()
        self._settings = settings or SandboxSettings()
        self._random = random.Random(self._settings.seed)  # noqa: S311 - repeatable on purpose
        self._exchanges: list[Exchange] = []
        self._issues: list[Issue] = []
        self._by_customer: dict[int, list[Issue]] = defaultdict(list)
        self._admitted: deque[float] = deque()
        self._tokens: dict[str, float] = {}  # when each was given out, monotonic
        self._armed: list[Armed] = []

    @property
    def settings(self) -> SandboxSettings:
        """The settings in force."""
        return self._settings

    def configure(self, settings: SandboxSettings) -> None:
        """Replace the settings. Another OAuth client ends all tokens, another seed starts anew."""
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
            return Ledger(tuple(replace(e) for e in self._exchanges), tuple(self._issues))

    def arrive(self, endpoint: Endpoint) -> tuple[Exchange, Answer | None]:
        """Note a request when it arrives, and answer 429 if there were too many.

        The limit is a sliding log of the admitted requests, so a refused one costs nothing.
        """
        with self._lock:
            exchange = Exchange(endpoint, time.monotonic(), time.time())
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
            answer = None if exchange.endpoint == "token" else self._unauthorised(headers)
            answer = answer or self._meet_faults(exchange, carry_out)
            return replace(answer, delay_s=answer.delay_s + self._random.uniform(*self._settings.latency_s))

    def import_badges(self, exchange: Exchange, items: object) -> Answer:
        """Issue badges. Doc: the answer is an array of {data, errors, warnings}."""
        settings = self._settings
        if not isinstance(items, list):
            return Answer(400, [_failure(400, "The body must be a JSON array")])
        if settings.max_batch is not None and len(items) > settings.max_batch:
            too_many = Answer(200, [_failure(1060, "Batch limit exceeded")])
            return too_many if settings.over_batch == "1060" else Answer(413, "Request Entity Too Large")
        items = [item if isinstance(item, dict) else {} for item in items]
        if settings.missing_badge_fails == "request" and not all(map(self._exists, items)):
            return Answer(400, [_failure(1054, "GLOBAL.BADGE_NOT_FOUND")])
        issued_before, request_uuid = len(self._issues), self._uuid()
        rows = [self._row(item, f"{request_uuid}_{n}") for n, item in enumerate(items, start=1)]
        exchange.issued = len(self._issues) - issued_before
        return Answer(200, rows)

    def generate_token(self, body: object) -> Answer:
        """Give out a token. Doc: a bad key is errors[0].code 320001; the HTTP status with it is unknown."""
        sent = (body.get("key"), body.get("secret")) if isinstance(body, dict) else None
        if sent is None or sent != self._settings.oauth:
            return Answer(401, _failure(320001, "Invalid client key or secret"))
        token = f"{self._random.getrandbits(256):064x}"
        self._tokens[token] = time.monotonic()
        return Answer(200, _success({"accessToken": token, "ttlSeconds": self._settings.token_ttl_s}))

    def read_badge(self, customer_id: int, badge_meta_id: str, *, statistics: bool) -> Answer:
        """Read a customer's badge. Doc: its statistics: earnDetails.earnCount, activeEarnedCount."""
        data: dict[str, Any] = {"badgeMetaId": badge_meta_id, "customerId": customer_id}
        if not self._exists(data):
            return Answer(400, _failure(1054, "GLOBAL.BADGE_NOT_FOUND"))
        if statistics:
            ends = [i.expires_on_s for i in self._visible(customer_id) if i.badge_meta_id == badge_meta_id]
            active = sum(end is None or end > time.time() for end in ends)
            data |= {"earnDetails": {"earnCount": len(ends)}, "activeEarnedCount": active}
        return Answer(200, _success(data))

    def read_customer(self, customer_id: int, badge_type: str) -> Answer:
        """Read a customer's badges. Doc: badges[] of badgeMetaId and earnedCount."""
        if badge_type != "EARNED":
            return Answer(400, _failure(400, "This sandbox knows badgeType=EARNED only"))
        counts = Counter(issue.badge_meta_id for issue in self._visible(customer_id))
        badges = [{"badgeMetaId": badge, "earnedCount": count} for badge, count in counts.items()]
        return Answer(200, _success({"customerId": customer_id, "badges": badges}))

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
                return Answer(401, _failure(401, "Invalid credentials"))
            if time.monotonic() - given_out_s >= settings.token_ttl_s:
                return Answer(401, _failure(498, "Token expired"))
        return None if settings.has_access else Answer(403, _failure(4000, "Access group missing"))

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
                    rows = [row | {"errors": _shaped(row["errors"], fault.shape)} for row in rows]
        return replace(answer, body=rows)

    def _strange_row(self) -> dict[str, Any]:
        nobody = {"badgeMetaId": self._new_id(), "customerId": self._random.getrandbits(31)}
        return _success(_data(nobody, f"{self._uuid()}_1") | {"earnedBadgeId": self._new_id()})

    def _row(self, item: dict[str, Any], request_id: str) -> dict[str, Any]:
        """Issue an item's badge, or say why not; an error row too has the data that tells whose it is."""
        data = _data(item, request_id)
        error, expires_s = self._objection(item), None
        try:
            expires_s = _expires_s(item)
        except (TypeError, ValueError):
            error = error or _error(400, "The expiry is not a date")
        if error:
            return {"data": data, "errors": [error], "warnings": None}
        issue = Issue(self._new_id(), item["badgeMetaId"], item["customerId"], expires_s, time.monotonic())
        self._issues.append(issue)
        self._by_customer[issue.customer_id].append(issue)
        data["earnedBadgeId"] = issue.earned_badge_id
        if expires_s is not None:
            data["expiresOn"], data["expiresOnISO"] = expires_s, _iso(expires_s)
        return _success(data)

    def _objection(self, item: dict[str, Any]) -> dict[str, Any] | None:
        if type(item.get("customerId")) is not int:  # not isinstance: a bool is none
            return _error(812, "customerId missing or not an integer")
        if not self._exists(item):
            return _error(1054, "GLOBAL.BADGE_NOT_FOUND")
        for armed in self._armed:
            if _is_meant(armed.fault, item) and armed.strikes():
                return _error(armed.fault.code, armed.fault.message)
        return None

    def _exists(self, item: dict[str, Any]) -> bool:
        badge, settings = item.get("badgeMetaId"), self._settings
        if not isinstance(badge, str) or badge in settings.unknown_badges:
            return False
        return bool(OBJECT_ID.fullmatch(badge)) if settings.badges is None else badge in settings.badges

    def _visible(self, customer_id: int) -> list[Issue]:
        until_s = time.monotonic() - self._settings.read_delay_s
        return [issue for issue in self._by_customer.get(customer_id, ()) if issue.issued_s <= until_s]

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def _new_id(self) -> str:
        """Make an id as MongoDB does: seconds, then what keeps it unique within this ledger."""
        return f"{int(time.time()):08x}{self._random.getrandbits(32):08x}{len(self._issues):08x}"


def _basic(username: str, password: str) -> str:
    """Doc: base64(username:md5hex(password))."""
    digest = hashlib.md5(password.encode(), usedforsecurity=False).hexdigest()
    return "Basic " + base64.b64encode(f"{username}:{digest}".encode()).decode()


def _error(code: int, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "reference": None}


def _failure(code: int, message: str) -> dict[str, Any]:
    """Refuse a whole request: a row without data."""
    return {"data": None, "errors": [_error(code, message)], "warnings": None}


def _success(data: dict[str, Any]) -> dict[str, Any]:
    return {"data": data, "errors": None, "warnings": None}


def _data(item: Mapping[str, Any], request_id: str) -> dict[str, Any]:
    return {
        "badgeMetaId": item.get("badgeMetaId"),
        "customerId": item.get("customerId"),
        "earnedBadgeId": None,
        "expiresOn": None,
        "expiresOnISO": None,
        "requestId": request_id,
        "issuedId": None,
    }


def _shaped(errors: list[dict[str, Any]] | None, shape: Literal["null", "object", "array"]) -> object:
    errors = errors or []
    return {"null": None, "object": errors[0] if errors else {}, "array": errors}[shape]


def _is_meant(fault: Fault, item: Mapping[str, Any]) -> bool:
    return (
        fault.fault == "item_error"
        and fault.badge_meta_id in {None, item["badgeMetaId"]}
        and fault.customer_id in {None, item["customerId"]}
    )


def _expires_s(item: Mapping[str, Any]) -> float | None:
    """Read the expiry, in epoch seconds; None if the item has none.

    Doc: the table says milliseconds, but the samples are read as seconds, and so are all numbers here:
    milliseconds lead to the year 56000, as they do in a sibling API.

    Raises:
        TypeError: It is of a wrong type.
        ValueError: It is no date, or ISO without an offset.
    """
    epoch, iso = item.get("earnExpiresOn"), item.get("earnExpiresOnISO")
    if epoch is None and iso is not None:
        moment = datetime.fromisoformat(iso)
        if moment.tzinfo is None:
            raise ValueError("no region offset")
        epoch = moment.timestamp()
    if epoch is None:
        return None
    if isinstance(epoch, bool) or abs(epoch) > LAST_INSTANT_S:
        raise ValueError("not a date")
    return float(epoch)


@lru_cache(maxsize=1024)
def _iso(epoch_s: float) -> str:
    """Write a time in the server's zone (doc), here UTC; years that ISO 8601 lacks as Java does, signed."""
    cycles, rest_s = divmod(int(epoch_s // 1), FOUR_CENTURIES_S)
    moment = datetime.fromtimestamp(rest_s, UTC)
    year = moment.year + 400 * cycles
    # Not strftime, which takes twice as long: a benchmark is to measure the worker.
    return (f"{year:04d}" if 0 <= year <= 9999 else f"{year:+05d}") + moment.isoformat()[4:19] + "Z"
