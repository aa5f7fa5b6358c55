"""Values as text for people: what foreign text may contain where it is shown, stored or logged.

How files are decoded is in ``files/text.py``.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

LATEST_MS = 9_999_999_999_999  # in the year 2286, of what somebody asks for: after 9999 none can be shown

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    """Replace what steers a terminal, line ends included, by blanks."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else " " for sign in text)


def plain(text: str, size: int) -> str:
    """Keep what can be shown on a terminal and in a report, within ``size`` bytes; blanks for the rest."""
    if len(text) <= size and text.isascii() and text.isprintable():
        return text
    return printable(text[:size]).encode()[:size].decode("utf-8", "ignore")


def plain_lines(text: str, size: int) -> str:
    """Do the same line by line, indented, so that no line looks like one of the caller's own."""
    return "\n".join(f"  {plain(line, size)}" for line in text.splitlines())


def escaped(text: str, limit: int) -> str:
    r"""Cut the text at the limit and write bytes that are no text as ``\xE9``, to be stored and shown."""
    cut = text if len(text) <= limit else text[:limit] + "…"
    return cut if cut.isascii() else _LONE_SURROGATE.sub(_escape, cut)


def counted(number: int, what: str) -> str:
    """Write a number with its noun: ``1 badge``, ``1,200 badges``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def cell(value: object) -> str:
    """Write a value as one cell of text, on one line; ``None`` is an empty cell."""
    if value is None:
        return ""
    if type(value) is int:  # as JSON writes it, in a tenth of its time
        return str(value)
    return printable(value if isinstance(value, str) else json.dumps(value))


def iso_time(at_ms: str | int | None) -> str | None:
    """Return an instant in the record's milliseconds as ISO 8601 in UTC."""
    if at_ms is None:
        return None
    instant = datetime.fromtimestamp(int(at_ms) / 1000, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _escape(lone: re.Match[str]) -> str:
    code = ord(lone[0])
    return f"\\x{code & 0xFF:02X}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04X}"


def in_words(seconds: float) -> str:
    """Say how long something takes."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
