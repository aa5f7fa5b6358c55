"""What a check of rows found, before any of them is accepted: plain values, in the order they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Good rows that aren't sent again: equal to an earlier row, or accepted before (null: not known)."""

    in_file: int
    before: int | None
    in_file_rows: tuple[int, ...] = ()
    before_rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """What makes rows invalid: how many, the first of them, and some of the values that are wrong."""

    field: str | None
    reason: str
    count: int
    rows: tuple[int, ...]
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckWarning:
    """What is odd about rows that are sent all the same."""

    reason: str
    count: int
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CheckedBadge:
    """A badge of the file; ``known`` says if the vendor has it, null if nobody asked."""

    badgeMetaId: str | None  # noqa: N815 - the contract's name
    rows: int
    known: bool | None = None


@dataclass(frozen=True, slots=True)
class CheckedColumn:
    """A column of the file, or a key: the field that it stands for (null: it is ignored), and some cells."""

    column: str
    field: str | None
    samples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Would:
    """What ``badges import`` would answer, into a new run; ``held`` with ``--hold-repeats``.

    With ``--again``, ``again`` of the accepted are sent once more, since their badge was undone.
    """

    accepted: int
    duplicates: int
    invalid: int
    held: int = 0
    again: int = 0


@dataclass(frozen=True, slots=True)
class CheckGroup:
    """A fault or a warning as the first version printed it."""

    kind: Literal["invalid", "warning"]
    field: str | None
    reason: str
    row: int
    count: int


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found; ``valid`` and ``groups`` are from the first version.

    A near-duplicate has the badge and customer of an earlier row, or of a job that was accepted before, but
    other dates or an id of its own: it is sent, or held back with ``--hold-repeats``. ``calls`` is how many
    its rows need, ``seconds`` how long that takes at the present limit, behind the ``waiting`` jobs that are
    there already; null where nobody can tell. ``incomplete`` says why the rows weren't read to their end.
    """

    rows: int
    good: int
    invalid: int
    duplicates: Duplicates
    near_duplicates: int
    near_duplicate_rows: tuple[int, ...]
    faults: tuple[Fault, ...]
    warnings: tuple[CheckWarning, ...]
    badges: tuple[CheckedBadge, ...]
    columns: tuple[CheckedColumn, ...]
    would: Would | None
    calls: int | None
    seconds: float | None
    waiting: int | None
    incomplete: str | None
    valid: int
    groups: tuple[CheckGroup, ...]
