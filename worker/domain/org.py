"""The settings of one org, checked as they are read; what its limits and its URL may say."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from worker.domain.dates import EpochUnit
from worker.domain.names import DEFAULT_ORG as DEFAULT_ORG  # noqa: PLC0414 - whose name of it this is
from worker.domain.outcome import ItemSignal, Signal

_LIMIT = re.compile(r"(?:(items):\s*)?(\d{1,9})\s*/\s*(second|minute|hour|day)s?", re.IGNORECASE | re.ASCII)
_WINDOW_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_ORG_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_TOKEN = re.compile(r"[!-~]+")
# What an operator may say that an answer means: of the whole call, and of a code in an item's row as well.
CALL_MEANINGS = tuple(it.value for it in Signal if it not in (Signal.OK, Signal.STALE_TOKEN))
CODE_MEANINGS = (*(it.value for it in ItemSignal), *CALL_MEANINGS)


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``count`` requests, or items, in any ``window_s`` seconds, across all processes."""

    count: int
    window_s: int
    of_items: bool = False

    def __str__(self) -> str:
        window = next(name for name, seconds in _WINDOW_S.items() if seconds == self.window_s)
        return f"{'items:' if self.of_items else ''}{self.count}/{window}"


@lru_cache(maxsize=1000)
def parse_limits(text: str) -> tuple[Limit, ...]:
    """Read ``100/minute`` or several such with commas between, all of which hold at once.

    Requests first, shortest window first.
    """
    limits = []
    for part in text.split(","):
        found = _LIMIT.fullmatch(part.strip())
        if not found or int(found[2]) == 0:
            raise ValueError(
                f"{part.strip()!r} is no limit; write 100/minute, 100/minute,5/second or "
                "100/minute,items:5000/minute"
            )
        limits.append(Limit(int(found[2]), _WINDOW_S[found[3].lower()], of_items=bool(found[1])))
    if all(limit.of_items for limit in limits):
        raise ValueError(f"{text.strip()!r} limits items alone; say how many requests too: 100/minute,…")
    return tuple(sorted(limits, key=lambda limit: (limit.of_items, limit.window_s)))


class Org(BaseModel):
    """One target organisation at the vendor: where, as whom, how fast, and what to do when it goes wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    name: str = DEFAULT_ORG
    api_base_url: str | None = Field(
        default=None, description="The vendor's host: https://, unless it is loopback"
    )
    api_path: str = Field(
        default="/api_gateway/v1/badges/import/customerBadges",
        description="The path of the import call",
    )
    api_method: Literal["PUT", "POST"] = Field(default="PUT", description="The method of the import call")
    auth: Literal["none", "basic", "oauth"] = Field(
        default="none",
        description="`basic` needs `BASIC_USERNAME` and `BASIC_PASSWORD`, or `BASIC_TOKEN`; `oauth` needs "
        "`OAUTH_KEY` and `OAUTH_SECRET`",
    )
    basic_username: str | None = Field(default=None, description="The user's name")
    basic_password: SecretStr | None = Field(
        default=None, description="The plain password; it is sent in the vendor's md5 form"
    )
    basic_token: SecretStr | None = Field(
        default=None, description="A ready Basic token, instead of name and password"
    )
    oauth_key: SecretStr | None = Field(default=None, description="The key that tokens are fetched with")
    oauth_secret: SecretStr | None = Field(default=None, description="The secret that belongs to the key")
    intake_keys: SecretStr | None = Field(
        default=None, description="API keys of `badges intake` that stand for this org, separated by commas"
    )
    rate_limit: str = Field(
        default="100/minute",
        description="Requests, across all workers. Several limits hold at once, of items too: "
        "`100/minute,5/second,items:5000/minute`",
    )
    batch_size: int = Field(default=100, ge=1, le=1000, description="Jobs in one call, at most")
    batch_linger_s: float = Field(
        default=1.0, ge=0, le=3600, description="Seconds that a partial batch waits for more jobs"
    )
    max_in_flight: int = Field(
        default=4, ge=1, le=1000, description="Calls at the same time, across all workers"
    )
    http_timeout_s: float = Field(
        default=30, gt=0, le=600, description="Seconds for a whole call, from connecting to the last byte"
    )
    max_queued: int = Field(
        default=10_000_000,
        ge=1000,
        le=10**12,
        description="Jobs that may wait; when it is full, producers wait",
    )
    max_attempts: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="Attempts of an item that the vendor defers; throttling and outages spend none",
    )
    retry_base_s: float = Field(
        default=2, gt=0, le=3600, description="Seconds before the first retry; exponential, with full jitter"
    )
    retry_max_s: float = Field(default=600, gt=0, le=86400, description="Seconds before a retry, at most")
    in_doubt: Literal["park", "check", "same_request", "resend"] = Field(
        default="park",
        description="What happens to a job whose call got no certain answer. `park` makes it a dead letter, "
        "`check` asks the vendor, `same_request` sends the same call again under its id, `resend` is "
        "at-least-once: a badge may be issued twice",
    )
    request_ids: Literal["ignores", "honours", "refuses"] = Field(
        default="ignores",
        description="What the vendor does with a call whose request id it has seen: `honours` gives the "
        "first answer and issues nothing, `refuses` answers 809. `IN_DOUBT=same_request` goes by your word",
    )
    result_ttl_days: float = Field(
        default=30,
        gt=0,
        le=36500,
        description="Days that a result is kept. That a row was accepted is remembered for good",
    )
    request_id_header: str = Field(
        default="X-CAP-REQUEST-ID",
        pattern=r"^[A-Za-z0-9-]{0,64}$",
        description="The header with an id of each import call, to ask the vendor's support by; empty "
        "sends none",
    )
    epoch_unit: EpochUnit = Field(
        default="s", description="The unit of the dates that are sent: seconds, milliseconds, or as given"
    )
    strict_dates: bool = Field(
        default=False, description="Refuse missing or contradicting dates instead of warning of them"
    )
    statuses: tuple[tuple[int, str], ...] = Field(
        default=(),
        description="What an HTTP status means, beside the built-in table: `BADGES_STATUS_503=throttled`; in "
        'a table `statuses = { 503 = "throttled" }`',
    )
    codes: tuple[tuple[str, str], ...] = Field(
        default=(),
        description="What an error code of the vendor means: `BADGES_CODE_9001=busy`; in a table "
        '`codes = { 9001 = "busy" }`',
    )

    @field_validator("statuses", mode="before")
    @classmethod
    def _statuses_are_known(cls, said: object) -> object:
        return tuple(_meanings(said, "STATUS", r"[3-9]\d\d", CALL_MEANINGS))

    @field_validator("codes", mode="before")
    @classmethod
    def _codes_are_known(cls, said: object) -> object:
        return tuple(_meanings(said, "CODE", r"[!-~]{1,32}", CODE_MEANINGS))

    @field_validator("name")
    @classmethod
    def _name_fits_a_key(cls, name: str) -> str:
        if not _ORG_NAME.fullmatch(name):
            raise ValueError("an org's name is 1 to 32 of a-z 0-9 . _ -")
        return name

    @field_validator("api_base_url")
    @classmethod
    def _base_url_is_safe(cls, url: str | None) -> str | None:
        return None if url is None else _checked_url(url)

    @field_validator("api_path")
    @classmethod
    def _is_a_path(cls, path: str) -> str:
        if not re.fullmatch(r"/\S*", path):
            raise ValueError("must be a path that begins with / and holds no spaces")
        return path

    @field_validator("rate_limit")
    @classmethod
    def _limit_reads(cls, text: str) -> str:
        parse_limits(text)
        return text

    @field_validator("basic_token")
    @classmethod
    def _token_fits_a_header(cls, token: SecretStr | None) -> SecretStr | None:
        if token is None:
            return None
        bare = token.get_secret_value().strip().removeprefix("Basic ").strip()
        if not _TOKEN.fullmatch(bare):
            raise ValueError("must be the Basic token alone: letters, digits and signs without spaces")
        return SecretStr(bare)

    @field_validator("api_method", "auth", "in_doubt", "request_ids", "epoch_unit", mode="before")
    @classmethod
    def _any_case(cls, value: object, info: Any) -> object:
        if not isinstance(value, str):
            return value
        return value.upper() if info.field_name == "api_method" else value.lower()

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> Self:
        if self.auth == "basic" and not (self.basic_token or (self.basic_username and self.basic_password)):
            raise ValueError("AUTH=basic needs BASIC_USERNAME and BASIC_PASSWORD, or BASIC_TOKEN")
        if self.auth == "oauth" and not (self.oauth_key and self.oauth_secret):
            raise ValueError("AUTH=oauth needs OAUTH_KEY and OAUTH_SECRET")
        return self

    @model_validator(mode="after")
    def _same_request_is_known(self) -> Self:
        if self.in_doubt == "same_request" and self.request_ids == "ignores":
            raise ValueError(
                "IN_DOUBT=same_request needs REQUEST_IDS=honours or refuses: a vendor that ignores request "
                "ids would issue the badges twice"
            )
        if self.in_doubt == "same_request" and not self.request_id_header:
            raise ValueError("IN_DOUBT=same_request needs a REQUEST_ID_HEADER: it is what the vendor goes by")
        return self

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The rate limits: those of requests first, shortest window first."""
        return parse_limits(self.rate_limit)

    @property
    def basic_header(self) -> str:
        """The ``Authorization`` header; doc: ``base64(username:md5hex(password))``."""
        if self.basic_token:
            return f"Basic {self.basic_token.get_secret_value()}"
        password = self.basic_password.get_secret_value() if self.basic_password else ""
        # What is no UTF-8 in the environment goes out byte for byte as it came in.
        digest = hashlib.md5(password.encode(errors="surrogateescape"), usedforsecurity=False).hexdigest()
        pair = f"{self.basic_username}:{digest}"
        return "Basic " + b64encode(pair.encode(errors="surrogateescape")).decode()


def _meanings(said: object, what: str, form: str, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Read what answers mean, in the order of their names: a table's, or the pairs that one was read to."""
    said = said.items() if isinstance(said, Mapping) else said
    pairs: list[Any] = list(said) if isinstance(said, Iterable) else [said]
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        example = "503 = 'throttled'" if what == "STATUS" else "9001 = 'busy'"
        raise ValueError(f"must be a table, such as {example}")
    for name, word in sorted((str(name), str(word).strip().lower()) for name, word in pairs):
        if not re.fullmatch(form, name, re.ASCII):
            which = "a status is 300 to 999" if what == "STATUS" else "a code has no blank, and 1 to 32 signs"
            raise ValueError(f"{what}_{name} has no meaning that could be changed: {which}")
        if word not in words:
            raise ValueError(f"{what}_{name} must be one of {', '.join(words)}")
        yield name, word


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in ("http", "https") and parts.port != 0 else None
    except ValueError:  # its words would quote the URL, credentials and all
        host = None
    if not host or not _TOKEN.fullmatch(url):
        raise ValueError("must be a URL such as https://eu.api.capillarytech.com")
    if "@" in parts.netloc:
        raise ValueError("must not hold credentials; use BASIC_USERNAME and BASIC_PASSWORD")
    if parts.query or parts.fragment:
        raise ValueError("must be the host's URL alone, without ? and #")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError("must be https://, since credentials travel over it (http:// only for loopback)")
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Say whether this names this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
