"""Turn a stream of bytes, compressed or not, into text and lines of bounded size, for any bytes.

Bytes that aren't text are kept as lone surrogates, so that only the row they stand in is refused:
``damage_of`` finds and names them. What the lines mean lives in ``csv_rows.py`` and ``json_rows.py``.
"""

from __future__ import annotations

import codecs
import io
import itertools
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from worker.errors import FileError

MAX_RECORD: Final = 1_000_000
"""The longest record, in characters. Nothing longer is held in memory."""

_CHUNK_BYTES: Final = 65_536
GZIP: Final = b"\x1f\x8b"  # what every gzip-compressed stream begins with
_GZIP_FORMAT: Final = zlib.MAX_WBITS | 16
_HEAD_BYTES: Final = 4_096
_HALF_PAIR: Final = "\ud800"
_BLANKS: Final = re.compile(r"\s*")
_LONE: Final = re.compile("[\ud800-\udfff]")
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NOT_FOR_US: Final = (
    (GZIP, "is gzip-compressed twice: `gunzip -c FILE | badges import -` imports it"),
    (b"%PDF", "is a PDF, not a table"),
    (codecs.BOM_UTF32_LE, "is UTF-32: save it as UTF-8"),
    (codecs.BOM_UTF32_BE, "is UTF-32: save it as UTF-8"),
)


def read_bytes(stream: BinaryIO, *, name: str) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes of a stream, which tell what it is, and the pieces behind them, gzip unpacked.

    The stream is only ever read forwards.

    Args:
        stream: where the bytes come from; standard input will do.
        name: what the messages call it.

    Raises:
        FileError: gzip is damaged: at the call, or later.
    """
    # Compared with b"", so that the None of a non-blocking stream is an error and not the file's end.
    head, rest = _headed(iter(lambda: stream.read(_CHUNK_BYTES), b""))
    return (
        _headed(gunzip(itertools.chain([head], rest), name=name)) if head.startswith(GZIP) else (head, rest)
    )


def read_text(head: bytes, rest: Iterator[bytes], *, name: str) -> Iterator[str]:
    r"""Give the text that ``read_bytes`` found piece by piece, every line end as ``\n``; UTF-8 or UTF-16.

    Raises:
        FileError: at the call, if the first bytes aren't text that we know; later if gzip is damaged.
    """
    encoding, start = _encoding_of(head, name)
    return _decode(itertools.chain([head[start:]], rest), encoding)


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
                piece = member.decompress(rest, _CHUNK_BYTES)
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


class Unended(str):
    """The last line of a file, where no line end follows: what is behind it may have been cut off."""

    __slots__ = ()

    def warning(self, row: int) -> str:
        """Say so, and which row it is."""
        return f"the file's last line has no end: if the file was cut off, row {row} isn't whole"


def read_blocks(pieces: Iterable[str]) -> Iterator[list[str]]:
    """Give the lines without their ends, many at once; of one longer than ``MAX_RECORD`` a longer part.

    The last is an ``Unended`` if it has no end.
    """
    rest = ""
    for piece in pieces:
        rest += piece
        *lines, rest = rest.split("\n")
        rest = rest[: MAX_RECORD + 1]
        if lines:
            yield lines
    if rest:
        yield [Unended(rest)]


class Window:
    """A bounded window that moves along a text; ``text`` from ``pos`` on is still unread."""

    def __init__(self, pieces: Iterable[str], line: int) -> None:
        """Begin before the first piece, which begins on this line."""
        self.text = ""
        self.pos = 0
        self._pieces = iter(pieces)
        self._line = line
        self._column = 1

    @property
    def is_full(self) -> bool:
        """Whether as much is held as one record may have."""
        return len(self.text) - self.pos > MAX_RECORD

    def fill(self) -> bool:
        """Read more and drop the text before ``pos``, which becomes 0; False at the end, or without room."""
        piece = None if self.is_full else next(self._pieces, None)
        if piece is None:
            return False
        self._line, self._column = self._line_and_column(self.pos)
        self.text = self.text[self.pos :] + piece
        self.pos = 0
        return True

    def peek(self) -> str:
        """Move to the next character that isn't white space and return it; empty at the end."""
        while True:
            self.pos = _BLANKS.match(self.text, self.pos).end()  # type: ignore[union-attr]  # matches anything
            if self.pos < len(self.text):
                return self.text[self.pos]
            if not self.fill():
                return ""

    def ahead(self, size: int) -> str:
        """Return at most that many characters from the position on."""
        return self.text[self.pos : self.pos + size]

    def place(self, pos: int) -> str:
        """Say where in the whole text a position of the window is."""
        line, column = self._line_and_column(pos)
        return f"line {line}, column {column}"

    def _line_and_column(self, pos: int) -> tuple[int, int]:
        ends = self.text.count("\n", 0, pos)
        column = pos - self.text.rfind("\n", 0, pos) if ends else self._column + pos
        return self._line + ends, column


def damage_of(text: str) -> str | None:
    """Say what makes this record unreadable in any format: its length, a NUL, or bytes that aren't text."""
    if len(text) > MAX_RECORD:
        return f"the row is longer than {MAX_RECORD:,} characters"
    if "\0" in text:
        return f"a NUL character stands at offset {text.index(chr(0))}"
    if text.isascii() or not (lone := _LONE.search(text)):
        return None
    if lone[0] == _HALF_PAIR:
        return f"half a character (a lone UTF-16 surrogate) stands at offset {lone.start()}"
    offset = len(text[: lone.start()].encode())
    hint = "save it as “CSV UTF-8”, or pipe it through: iconv -f windows-1252 -t utf-8"
    return f"byte 0x{ord(lone[0]) & 0xFF:02X} at offset {offset} is not UTF-8 (Windows-1252?): {hint}"


def _headed(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Take enough of the first chunks to tell what they are; return that, and what is left."""
    head = b""
    while len(head) < _HEAD_BYTES and (more := next(chunks, b"")) != b"":
        head += more
    return head, chunks


def _encoding_of(head: bytes, name: str) -> tuple[str, int]:
    """Return the encoding and the number of bytes to skip (the byte order mark)."""
    for magic, complaint in _NOT_FOR_US:
        if head.startswith(magic):
            raise FileError(f"{name} {complaint}")
    for mark, encoding in _MARKS:
        start = 0
        while head.startswith(mark, start):  # some programs write it once more
            start += len(mark)
        if start:
            return encoding, start
    even, odd, half = head[::2].count(0), head[1::2].count(0), len(head) // 2
    if odd > half * 0.7 and not even:
        return "utf-16-le", 0
    if even > half * 0.7 and not odd:
        return "utf-16-be", 0
    if even + odd > len(head) // 50 + 1:
        raise FileError(f"{name} is not text: {even + odd} of its first {len(head)} bytes are NUL")
    return "utf-8", 0


def _decode(chunks: Iterable[bytes], encoding: str) -> Iterator[str]:
    wide = encoding != "utf-8"
    inner = codecs.getincrementaldecoder(encoding)("surrogatepass" if wide else "surrogateescape")
    decoder = io.IncrementalNewlineDecoder(inner, translate=True)
    for chunk in chunks:
        if text := decoder.decode(chunk):
            yield _LONE.sub(_HALF_PAIR, text) if wide else text
    try:
        if text := decoder.decode(b"", final=True):
            yield text
    except UnicodeDecodeError:  # UTF-16 that ends within a character: the last line is damaged, no other
        yield _HALF_PAIR
