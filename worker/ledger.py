"""What the sandbox vendor is told and what it notes down: its settings, its faults, and its ledger."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import ConfigDict, Field

Endpoint = Literal["import", "token", "read", "other"]


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
