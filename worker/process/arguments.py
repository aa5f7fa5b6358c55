"""What a message may ask for: the arguments of an operator's tasks, as Flower's API hands them in."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
)

from worker.domain.faults import words_of
from worker.domain.job import DeadKind
from worker.domain.names import DEFAULT_ORG
from worker.domain.text import LATEST_MS, counted, plain
from worker.errors import ConfigError
from worker.operate.which import Which

_Which = TypeVar("_Which", bound=Which)
_AGO = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def since_ms(text: str) -> int:
    """Read ``90m``, ``12h``, ``7d`` ago or a date with offset; return that instant in milliseconds.

    Raises:
        ValueError: it is neither; the text says what would be.
    """
    at_ms = None
    if ago := _AGO.fullmatch(text.strip()):
        at_ms = int((time.time() - int(ago[1]) * _SECONDS[ago[2]]) * 1000)
    with suppress(ValueError, OverflowError):
        if not ago and (instant := datetime.fromisoformat(text)).tzinfo:
            at_ms = int(instant.timestamp() * 1000)
    if at_ms is None or not 0 <= at_ms <= LATEST_MS:
        raise ValueError(f"takes 90m, 12h, 7d or 2026-11-01T00:00Z, not {text!r}")
    return at_ms


def _sendable(kind: DeadKind) -> DeadKind:
    if kind is DeadKind.INVALID:
        raise ValueError("an invalid row can't be replayed: mend the file and import it again")
    return kind


Named = Annotated[str, Field(min_length=1)] | None  # an empty name isn't all there are
Since = Annotated[int, BeforeValidator(lambda text: since_ms(str(text)))] | None


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    @classmethod
    def read(cls, named: Mapping[str, Any], given: Sequence[Any] = ()) -> Self:
        """Check the arguments; ``given`` are those that come by their order.

        Raises:
            ConfigError: some are wrong; all that are, by name.
        """
        names = [field.alias or name for name, field in cls.model_fields.items()]
        if len(given) > len(names):
            raise ConfigError(f"{counted(len(given), 'argument')} are too many; there are {', '.join(names)}")
        by_order = dict(zip(names, given, strict=False))
        if twice := next((name for name in by_order if name in named), None):
            raise ConfigError(f"{twice}: is given twice, by its place and by its name")
        try:
            return cls.model_validate(by_order | dict(named))
        except ValidationError as error:
            raise ConfigError("; ".join(map(cls._fault, error.errors(include_url=False)))) from None

    def which(self, kind: type[_Which]) -> _Which:
        """Return which jobs are meant: what these arguments have of such a filter."""
        ours = type(self).model_fields
        return kind(**{said.name: getattr(self, said.name) for said in fields(kind) if said.name in ours})

    @classmethod
    def _fault(cls, problem: Mapping[str, Any]) -> str:
        name = plain(".".join(map(str, problem["loc"])), 64)
        if problem["type"] != "extra_forbidden":
            return f"{name}: {words_of(problem)}"
        takes = [field.alias or name for name, field in cls.model_fields.items()]
        near = difflib.get_close_matches(name, takes, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(takes)}"
        return f"{name}: is no argument; {hint}"


class PauseArguments(_Arguments):
    """The arguments of ``badges.pause``, as the options of ``badges pause``."""

    org: str = DEFAULT_ORG
    reason: str = ""
    by: str | None = None


class ResumeArguments(_Arguments):
    """The arguments of ``badges.resume``, as the options of ``badges resume``."""

    org: str = DEFAULT_ORG
    note: str = ""
    by: str | None = None


class UndoArguments(_Arguments):
    """The arguments of ``badges.undo``, as the options of ``badges run undo``."""

    run: Named = None
    org: Named = None
    badge: str | None = None
    customer: int | None = None
    job: str | None = None
    since_ms: Since = Field(default=None, alias="since")
    dry_run: bool = False
    yes: bool = False
    note: str = ""
    by: str | None = None


class ReplayArguments(_Arguments):
    """The arguments of ``badges.replay``; they mean what the options of ``badges dead replay`` mean.

    ``by`` is a name for the audit trail, which has nothing but the sender's process otherwise.
    """

    org: Named = None
    kind: Annotated[DeadKind, AfterValidator(_sendable)] | None = None
    run: Named = None
    code: str | None = None
    badge: str | None = None
    customer: int | None = None
    job: str | None = None
    since_ms: Since = Field(default=None, alias="since")
    changes: dict[str, str] | None = Field(default=None, alias="set")
    limit: PositiveInt | None = None
    dry_run: bool = False
    may_issue_twice: bool = False
    note: str | None = None
    by: str | None = None
