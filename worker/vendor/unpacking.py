"""An answer's body: read up to a bound, unpacked no further than that, and read as JSON.

What can be read without guessing is read, despite its label: gzip begins with a magic number and ends
with a checksum, and JSON begins with neither.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from pydantic_core import from_json

from worker.domain.text import plain

ANSWER_MAX_BYTES = 16 * 1024 * 1024
GZIP_BEGINS = b"\x1f"  # which no text does
# zlib's window bits: for gzip, and for what HTTP calls "deflate"; each has a checksum at its end.
WINDOW_BITS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
BEGINS_AS_TEXT = b'[{<"\t\r\n \xef'
BEGINS_AS_JSON = (b"[", b"{", b"\xef\xbb\xbf")


class TooLongError(Exception):
    """The answer is longer than any that an honest vendor gives."""


def unpacked(pieces: Iterable[bytes], label: str) -> bytes:
    """Read a body, at most one byte beyond the bound.

    Raises:
        TooLongError: it is larger than ``ANSWER_MAX_BYTES``, packed or unpacked.
        zlib.error: it is packed in a way that can't be read, or broken.
    """
    codings = [
        coding for part in label.lower().split(",") if (coding := part.strip()) not in ("", "identity")
    ]
    is_known = len(codings) <= 1 and set(codings) <= set(WINDOW_BITS)
    body, unpacker, begun = bytearray(), None, False
    for piece in pieces:
        if not begun and piece:
            begun, unpacker = True, _unpacker(codings[:1] if is_known else [], piece)
        if unpacker:
            unpacker = _unpack(body, unpacker, piece)
        else:
            body += piece
        if len(body) > ANSWER_MAX_BYTES:
            raise TooLongError
    if unpacker and not unpacker.eof:
        raise zlib.error("its end is missing")
    if begun and not is_known and json_in(bytes(body)) is None:
        raise zlib.error(f"it is packed as {plain(label, 40)}; only gzip was asked for")
    return bytes(body)


def _unpacker(codings: list[str], start: bytes) -> Any:
    """Choose by what is there; the label alone decides only where that says nothing."""
    if start.startswith(GZIP_BEGINS):
        return zlib.decompressobj(WINDOW_BITS["gzip"])
    if not codings or start[0] in BEGINS_AS_TEXT:
        return None
    return zlib.decompressobj(WINDOW_BITS[codings[0]])


def _unpack(body: bytearray, unpacker: Any, piece: bytes) -> Any:
    """Unpack a piece; behind the end of what is packed another part may follow, packed like it, or padding.

    Return what unpacks the next piece.
    """
    while len(body) <= ANSWER_MAX_BYTES:
        if unpacker.eof:
            if not (piece := piece.lstrip(b"\0")):
                break
            unpacker = zlib.decompressobj(WINDOW_BITS["gzip"])
        body += unpacker.decompress(piece, ANSWER_MAX_BYTES + 1 - len(body))
        if not unpacker.eof:
            break
        piece = unpacker.unused_data
    return unpacker


def json_in(body: bytes) -> Any:
    """Read a body as JSON; ``None`` if it is none.

    Letters of another encoding, or a bare line end, in somebody's text make no row unreadable: all that JSON
    is made of is ASCII.
    """
    with suppress(ValueError):
        # Twice as fast, and pickier: what it takes, json takes alike; what it refuses, json is asked.
        return from_json(body)
    with suppress(ValueError, RecursionError):
        return json.loads(body)
    if body.lstrip().startswith(BEGINS_AS_JSON):
        with suppress(ValueError, RecursionError):
            return json.loads(body.decode("utf-8-sig", "replace"), strict=False)
    return None
