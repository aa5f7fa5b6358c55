"""What a message may ask for: the arguments of ``badges.replay``, as Flower's API hands them in."""

from __future__ import annotations

import re
import time
from dataclasses import fields
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
)

from worker.domain.job import DeadKind
from worker.errors import ConfigError
from worker.operate.deadlist import Filter

_AGO = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def since_ms(text: str) -> int:
    """Read ``90m``, ``12h``, ``7d`` ago or a date with offset; return that instant in milliseconds.

    Raises:
        ValueError: it is neither; the text says what would be.
    """
    if ago := _AGO.fullmatch(text.strip()):
        return int((time.time() - int(ago[1]) * _SECONDS[ago[2]]) * 1000)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ValueError(f"takes 90m, 12h, 7d or 2026-11-01T00:00Z, not {text!r}")
    return int(instant.timestamp() * 1000)


def _sendable(kind: DeadKind) -> DeadKind:
    if kind is DeadKind.INVALID:
        raise ValueError("an invalid row can't be replayed: mend the file and import it again")
    return kind


class ReplayArguments(BaseModel):
    """The arguments of ``badges.replay``; they mean what the options of ``badges dead replay`` mean.

    ``by`` is a name for the audit trail, which has nothing but the sender's process otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    org: str | None = None
    kind: Annotated[DeadKind, AfterValidator(_sendable)] | None = None
    run: str | None = None
    code: str | None = None
    badge: str | None = None
    customer: int | None = None
    job: str | None = None
    since_ms: Annotated[int, BeforeValidator(lambda text: since_ms(str(text)))] | None = Field(
        default=None, alias="since"
    )
    changes: dict[str, str] | None = Field(default=None, alias="set")
    limit: PositiveInt | None = None
    dry_run: bool = False
    may_issue_twice: bool = False
    note: str | None = None
    by: str | None = None

    @classmethod
    def read(cls, arguments: dict[str, Any]) -> Self:
        """Check the arguments.

        Raises:
            ConfigError: some are wrong; all that are, by name.
        """
        try:
            return cls.model_validate(arguments)
        except ValidationError as error:
            wrong = [
                f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].removeprefix('Value error, ')}"
                for problem in error.errors(include_url=False)
            ]
            raise ConfigError("; ".join(wrong)) from None

    @property
    def which(self) -> Filter:
        """Which dead letters are meant."""
        mine = (said.name for said in fields(Filter) if said.name in type(self).model_fields)
        return Filter(**{name: getattr(self, name) for name in mine})
