"""Where a run came from: who brought it, which file, how that was read, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Final

from worker.domain.text import plain

_FIELD: Final = "from_"  # begins the names in a run's record
_BYTES: Final = 400


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a run came from, as far as it is known; "" is unknown.

    ``by`` is an ``Actor`` as the audit trail shows it: a user, a key or a message. ``mapping`` says how
    columns were read, ``sha256`` is that of the file's bytes.
    """

    by: str = ""
    file: str = ""
    sha256: str = ""
    mapping: str = ""
    note: str = ""

    def as_fields(self) -> dict[str, str]:
        """Return what is known as a run's record keeps it."""
        return {f"{_FIELD}{name}": plain(value, _BYTES) for name, value in asdict(self).items() if value}

    @classmethod
    def of(cls, record: Mapping[str, str]) -> Provenance:
        """Read it back from a run's record."""
        return cls(**{field.name: record.get(f"{_FIELD}{field.name}", "") for field in fields(cls)})


NOWHERE: Final = Provenance()
