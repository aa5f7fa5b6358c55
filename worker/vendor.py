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
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from math import ceil
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import ConfigDict, Field

Endpoint = Literal["import", "token", "read", "other"]

OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")
FOUR_CENTURIES_S = 12_622_780_800  # after which the calendar repeats
LAST_INSTANT_S = 31_556_889_864_403_199  # of Java's Instant, and so of the vendor's dates


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """How the vendor behaves; any of it may be changed while it runs."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    badges: frozenset[str] | None = None  # the badgeMetaIds that exist; None: all that look like an ObjectId
    unknown_badges: frozenset[str] = frozenset()  # these answer 1054 all the same
    basic: tuple[str, str] | None = None  # username, plain password
    oauth: tuple[str, str] | None = None  # key, secret; with neither of the two, all calls are open
    has_access: bool = True  # False: good credentials answer 403 / 4000
    token_ttl_s: int = 300
    rate: tuple[int, float] | None = None  # requests of every kind, window in seconds
    retry_after: Literal["seconds", "date", "absent"] = "seconds"
    latency_s: tuple[float, float] = (0.0, 0.0)  # least, most; spent after the badges were issued
    max_batch: int | None = None
    over_batch: Literal["413", "1060"] = "413"  # an HTTP status, or the vendor's code in a 200
    missing_badge_fails: Literal["item", "request"] = "item"  # doc says both
    read_delay_s: float = 0.0  # until a write shows in the read endpoints
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong. Badges that a call issued stay issued, whatever is then answered.

    `status` answers something else, before the call is carried out or (`apply="all"`) after; `delay` answers
    late; `item_error` refuses the items that match; `shuffle`, `drop_rows` (the last ones), `add_rows` (of
    nobody) and `errors_shape` (null, object or {}, array or []; of every row) spoil an import's answer.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    fault: Literal["status", "delay", "item_error", "shuffle", "drop_rows", "add_rows", "errors_shape"]
    times: int | None = None  # requests it strikes (for item_error: items); None: until cleared
    after: int = 0  # lets this many of them go by first
    on: Endpoint = "import"
    status: Annotated[int, Field(ge=200, le=599)] = 503
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    apply: Literal["none", "all"] = "none"
    seconds: Annotated[float, Field(ge=0)] = 0.0
    badge_meta_id: Annotated[str | None, Field(alias="badgeMetaId")] = None  # None: any
    customer_id: Annotated[int | None, Field(alias="customerId")] = None  # None: any
    code: int = 521
    message: str = "multiple actions running for same customer"
    count: Annotated[int, Field(ge=1)] = 1
    shape: Literal["null", "object", "array"] = "object"


@dataclass(slots=True)
class _Armed:
    """A fault, and how often it still strikes."""

    fault: Fault
    skip: int
    left: int | None

    def strikes(self) -> bool:
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.left is not None:
            self.left -= 1
        return self.left is None or self.left >= 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: `body` is a JSON value, but a string is sent as it is; `delay_s` comes before it."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


class Issue(NamedTuple):
    """A badge that was issued; `earned_badge_id` is its identity (doc: issuedId is null in every sample)."""

    earned_badge_id: str
    badge_meta_id: str
    customer_id: int
    expires_on_s: float | None  # epoch
    issued_s: float  # monotonic


@dataclass(slots=True)
class Exchange:
    """One request that arrived, and what became of it; None as long as that isn't known."""

    endpoint: Endpoint
    arrived_s: float  # monotonic
    arrived_at: float  # wall clock, epoch seconds
    items: int | None = None  # in the request, if it is an import that can be read
    issued: int = 0
    status: int | None = None
    answered_s: float | None = None  # monotonic, when the answer went to the network


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything up to one moment: a copy, which no later call changes."""

    exchanges: tuple[Exchange, ...]
    issues: tuple[Issue, ...]

    @property
    def statuses(self) -> Counter[int]:
        """How often each HTTP status was answered."""
        return Counter(e.status for e in self.exchanges if e.status is not None)

    @property
    def batch_sizes(self) -> list[int]:
        """The number of items of each import, refused ones included, in order of arrival."""
        return [e.items for e in self.exchanges if e.items is not None]

    @property
    def issued_more_than_once(self) -> dict[tuple[str, int], int]:
        """How many badges each (badgeMetaId, customerId) has, where that is more than one."""
        counts = Counter((i.badge_meta_id, i.customer_id) for i in self.issues)
        return {pair: count for pair, count in counts.items() if count > 1}


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
        self._armed: list[_Armed] = []

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
            self._armed.append(_Armed(fault, fault.after, fault.times))

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
