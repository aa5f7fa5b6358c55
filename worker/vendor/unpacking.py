"""An answer's body: read up to a bound, and unpacked no further than that.

What can be read without guessing is read, despite its label: gzip begins with a magic number and ends
with a checksum, and JSON begins with neither.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

from worker.domain.text import plain

ANSWER_MAX_BYTES = 16 * 1024 * 1024
GZIP_BEGINS = b"\x1f"  # which no text does
# zlib's window bits: for gzip, and for what HTTP calls "deflate"; each has a checksum at its end.
WINDOW_BITS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
BEGINS_AS_TEXT = b'[{<"\t\r\n \xef'


class TooLongError(Exception):
    """The answer is longer than any that an honest vendor gives."""


def unpacked(pieces: Iterable[bytes], label: str) -> bytes:
    """Read a body, and no more of it than a byte too many.

    Raises:
        TooLongError: it is larger than ``ANSWER_MAX_BYTES``, packed or unpacked.
        zlib.error: it is packed in a way that can't be read, or broken.
    """
    body, piece = bytearray(), b""
    unpacker: Any = None
    begun = False
    for piece in pieces:
        if not begun and piece:
            begun, unpacker = True, _unpacker(label, piece)
        body += unpacker.decompress(piece, ANSWER_MAX_BYTES + 1 - len(body)) if unpacker else piece
        if len(body) > ANSWER_MAX_BYTES:
            raise TooLongError
        if unpacker and unpacker.unused_data:
            raise zlib.error("more follows its end")
    if unpacker and not unpacker.eof:
        raise zlib.error("its end is missing")
    return bytes(body)


def _unpacker(label: str, start: bytes) -> Any:
    """Choose by what is there; the label alone decides only where that says nothing."""
    codings = [
        coding for part in label.lower().split(",") if (coding := part.strip()) not in ("", "identity")
    ]
    if len(codings) > 1 or not set(codings) <= set(WINDOW_BITS):
        raise zlib.error(f"it is packed as {plain(label, 40)}; only gzip was asked for")
    if start.startswith(GZIP_BEGINS):
        return zlib.decompressobj(WINDOW_BITS["gzip"])
    if not codings or start[0] in BEGINS_AS_TEXT:
        return None
    return zlib.decompressobj(WINDOW_BITS[codings[0]])
