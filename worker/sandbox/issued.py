"""What the sandbox vendor is told and what it notes down: its settings, its faults, and its ledger.

Also the words of its answers; which of them it gives is decided in `vendor.py`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import ConfigDict, Field

Endpoint = Literal["import", "token", "read", "revoke", "other"]
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
    # What a repeated X-CAP-REQUEST-ID means, unknown of the vendor's: nothing; the first answer once more,
    # issuing nothing; or 809. An import's id is noted when that is applied.
    request_ids: Literal["ignores", "honours", "refuses"] = "ignores"
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong. Badges that a call issued stay issued, independent of the answer.

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
class Armed:
    """A fault, and how often it still strikes."""

    fault: Fault
    skip: int
    left: int | None

    def strikes(self) -> bool:
        """Say whether it strikes this time, and count it."""
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
    request_id: str = ""  # of the call that issued it


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
    request_id: str = ""  # the one that it carried, or that was made for it
    revoked: str | None = None  # the earnedBadgeId, if it took one back


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything up to one moment: a copy, which no later call changes."""

    exchanges: tuple[Exchange, ...]
    issues: tuple[Issue, ...]
    revoked: frozenset[str] = frozenset()  # earnedBadgeIds that were revoked

    @property
    def statuses(self) -> Counter[int]:
        """How often each HTTP status was answered."""
        return Counter(e.status for e in self.exchanges if e.status is not None)

    @property
    def batch_sizes(self) -> list[int]:
        """The number of items of each import, refused ones included, in order of arrival."""
        return [e.items for e in self.exchanges if e.items is not None]

    @property
    def active(self) -> tuple[Issue, ...]:
        """The badges that were issued and not revoked since."""
        return tuple(issue for issue in self.issues if issue.earned_badge_id not in self.revoked)

    @property
    def issued_more_than_once(self) -> dict[tuple[str, int], int]:
        """How many badges each (badgeMetaId, customerId) has, where that is more than one."""
        counts = Counter((i.badge_meta_id, i.customer_id) for i in self.issues)
        return {pair: count for pair, count in counts.items() if count > 1}


# -- the words of its answers


def an_error(code: int, message: str) -> dict[str, Any]:
    """Return an error as the vendor writes it."""
    return {"code": code, "message": message, "reference": None}


def failure(code: int, message: str) -> dict[str, Any]:
    """Refuse a whole request: a row without data."""
    return {"data": None, "errors": [an_error(code, message)], "warnings": None}


def success(data: dict[str, Any]) -> dict[str, Any]:
    """Return a row without errors."""
    return {"data": data, "errors": None, "warnings": None}


def data_of(item: Mapping[str, Any], request_id: str) -> dict[str, Any]:
    """Return the data of an item's row, as it is before a badge is issued."""
    return {
        "badgeMetaId": item.get("badgeMetaId"),
        "customerId": item.get("customerId"),
        "earnedBadgeId": None,
        "expiresOn": None,
        "expiresOnISO": None,
        "requestId": request_id,
        "issuedId": None,
    }


def shaped(errors: list[dict[str, Any]] | None, shape: Literal["null", "object", "array"]) -> object:
    """Write a row's errors in one of the shapes that the vendor's documents have."""
    errors = errors or []
    return {"null": None, "object": errors[0] if errors else {}, "array": errors}[shape]


def read_expiry_s(item: Mapping[str, Any]) -> float | None:
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
def write_iso(epoch_s: float) -> str:
    """Write a time in the server's zone (doc), here UTC; years that ISO 8601 lacks as Java does, signed."""
    cycles, rest_s = divmod(int(epoch_s // 1), FOUR_CENTURIES_S)
    moment = datetime.fromtimestamp(rest_s, UTC)
    year = moment.year + 400 * cycles
    # Not strftime, which takes twice as long: a benchmark is to measure the worker.
    return (f"{year:04d}" if 0 <= year <= 9999 else f"{year:+05d}") + moment.isoformat()[4:19] + "Z"
