"""Rows of a sheet as spreadsheets mostly write them, found by patterns: in a quarter of the parser's time.

Whatever isn't written so, to the letter, is handed on as bytes, in its place, for the parser
(``xlsx_sheet.py``): single rows, or all that follows. A test holds the two ways against each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

_PIECE: Final = 65_536
_LONGEST: Final = 1 << 19  # of a row, and of what stands before the rows
_BEGIN, _ROW_END = b"<sheetData>", b"</row>"
_ENCODING: Final = re.compile(rb"""(?:\xef\xbb\xbf)?<\?xml[^>]*\bencoding=["']([^"']*)""")
_TEXT: Final = r"[^<>&\x00-\x08\x0b-\x1f\ufffe\uffff]*"
_CELL: Final = (
    r'<c r="{}[1-9][0-9]{{0,6}}"(?: s="{}")?(?: t="{}")?'
    r'(?:/>|>(?:<v>{}</v>|<is><t(?: xml:space="preserve")?>{}</t></is>)?</c>)'
)
_PARTS: Final = ("[A-Z]{1,3}", "[0-9]{1,6}", "[A-Za-z]+", _TEXT, _TEXT)
_ROW: Final = re.compile(
    r'<row r="([1-9][0-9]{0,6})"((?: [A-Za-z0-9:]+="[^"<&\x00-\x1f]*")*)>'
    rf"((?:{_CELL.format(*_PARTS)})*)</row>"
)
cells_in: Final = re.compile(_CELL.format(*(f"({part})" for part in _PARTS))).findall
"""Find the cells of a row: the letters of each, its style, its type, and its value or its own text."""

QuickRow = tuple[str, str, str]
"""A row's number, its other attributes, and its cells, as they are written."""


def pieces(stream: BinaryIO) -> Iterator[bytes | list[QuickRow]]:
    """Give a sheet's XML in its order: rows as most are, and all else as it is written."""
    head = b""
    while (at := head.find(_BEGIN)) < 0:
        piece = stream.read(_PIECE)
        head += piece
        if not piece or len(head) > _LONGEST:
            break
    if at < 0 or not _is_simple(head[:at]):
        yield from _as_written(head, stream)
        return
    at += len(_BEGIN)
    yield head[:at]
    text = head[at:]
    while not (b"<!" in text or b"<?" in text or len(text) > _LONGEST):
        if end := text.rfind(_ROW_END) + 1:
            end += len(_ROW_END) - 1
            yield from _rows(text[:end])
        piece = stream.read(_PIECE)
        text = text[end:] + piece
        if not piece:
            break
    yield from _as_written(text, stream)


def _is_simple(head: bytes) -> bool:
    """Say whether the rows' begin is what it seems: in no comment or the like, and in UTF-8."""
    found = _ENCODING.match(head)
    encoding = found[1].lower() if found else b"utf-8"
    return encoding == b"utf-8" and b"<!" not in head and head.count(b"<?") <= 1


def _as_written(begin: bytes, stream: BinaryIO) -> Iterator[bytes]:
    while begin:
        yield begin
        begin = stream.read(_PIECE)


def _rows(block: bytes) -> Iterator[bytes | list[QuickRow]]:
    try:
        text = block.decode()
    except UnicodeDecodeError:
        yield block
        return
    rows: list[QuickRow] = []
    at = 0
    while at < len(text):
        if found := _ROW.match(text, at):
            rows.append((found[1], found[2], found[3]))
            at = found.end()
            continue
        if rows:
            yield rows
            rows = []
        end = text.index("</row>", at) + len(_ROW_END)
        yield text[at:end].encode()
        at = end
    if rows:
        yield rows
