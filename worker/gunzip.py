"""Unpack what is gzip-compressed, in pieces of bounded size: a terabyte packed into a megabyte does no harm.

That a stream is compressed is told by its first bytes, in ``textlines.py``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from worker.errors import FileError

GZIP: Final = b"\x1f\x8b"
"""What every gzip-compressed stream begins with."""

_PIECE_BYTES: Final = 65_536
_GZIP_FORMAT: Final = zlib.MAX_WBITS | 16


def gunzip(chunks: Iterable[bytes], *, name: str) -> Iterator[bytes]:
    """Give what the chunks unpack to, in pieces of at most 64 KiB; several members in a row are one text.

    Args:
        chunks: the compressed bytes; one is held at a time.
        name: what the messages call them.

    Raises:
        FileError: they are damaged, or end too early; what was given before is right, and checked no further
            than that.
    """
    member, begun = zlib.decompressobj(_GZIP_FORMAT), False
    for chunk in chunks:
        rest = chunk
        while True:
            if not begun:
                rest = rest.lstrip(b"\0")  # some programs pad the end with it
                begun = bool(rest)
            if not rest:
                break
            try:
                piece = member.decompress(rest, _PIECE_BYTES)
            except zlib.error as error:
                raise FileError(f"{name}: the gzip data are damaged: {_words(error)}") from None
            if piece:
                yield piece
            rest = member.unconsumed_tail
            if member.eof:
                rest, member, begun = member.unused_data, zlib.decompressobj(_GZIP_FORMAT), False
    if begun:
        raise FileError(f"{name}: the gzip data end too early: the file is cut off")


def _words(error: zlib.error) -> str:
    """Return zlib's own words without its number: "Error -3 while decompressing data: …"."""
    return str(error).rpartition(": ")[2]
