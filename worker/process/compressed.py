"""Compressed Celery messages, unpacked within bounds: kombu would unpack 40 KB of them to gigabytes.

A worker that dies of it gets the message again when it is back, and dies again.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from kombu import compression

MOST_BYTES: Final = 64 << 20
_LARGEST_DICTIONARY: Final = 256 << 20  # what lzma takes beside; its strongest preset takes 65 MiB
_UNPACKERS: Final[dict[str, Callable[[], Any]]] = {
    "application/x-gzip": zlib.decompressobj,
    "application/x-bz2": bz2.BZ2Decompressor,
    "application/x-lzma": partial(lzma.LZMADecompressor, memlimit=_LARGEST_DICTIONARY),
}


def bound_unpacking() -> None:
    """Let kombu, in this process, unpack no message to more than ``MOST_BYTES``."""
    for name in compression.encoders():
        unpacker = _UNPACKERS.get(name)
        unpack = partial(_unpacked, unpacker) if unpacker else partial(_refused, name)
        encoder: Any = compression.get_encoder(name)  # a pair, which its types don't say
        compression.register(encoder[0], unpack, name)


def _unpacked(unpacker: Callable[[], Any], packed: bytes) -> bytes:
    """Unpack a body.

    Raises:
        ValueError: it is too large, or isn't whole.
    """
    unpacking = unpacker()
    body: bytes = unpacking.decompress(packed, MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        raise ValueError(f"it unpacks to more than {MOST_BYTES >> 20} MiB")
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError("what is packed is cut off, or something stands behind it")
    return body


def _refused(name: str, _: bytes) -> bytes:
    raise ValueError(f"{name} isn't unpacked: send it plain, or packed with zlib")
