"""The zip archive that an Excel workbook is: its parts, read in pieces, and never more than is plausible.

A file can claim anything: what it unpacks to, how many parts it has and what they refer to is bounded here.
What other programs' files are is told as well, with what to do about them.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Final
from xml.parsers import expat

from worker.domain.text import plain
from worker.errors import FileError

ZIP: Final = b"PK\x03\x04"
OLD: Final = b"\xd0\xcf\x11\xe0"
_MIB: Final = 1 << 20
LARGEST_SHEET: Final = 4096 * _MIB
LARGEST_TEXTS: Final = 1024 * _MIB
_LARGEST_PART: Final = 32 * _MIB
_LARGEST_TAG: Final = _MIB
_LARGEST_DIRECTORY: Final = 4 * _MIB  # some 50,000 parts
_PIECE: Final = 65_536
_END, _END_64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q")
_LOCATOR: Final = struct.Struct("<4sLQL")
_LONGEST_COMMENT: Final = 65_535
AS_XLSX: Final = "open it and save it as “Excel Workbook (.xlsx)” or “CSV UTF-8”, and import that"
_OTHERS: Final = (
    ("xl/workbook.bin", f"is a binary Excel workbook (.xlsb): {AS_XLSX}"),
    ("content.xml", f"is an OpenDocument spreadsheet (.ods): {AS_XLSX}"),
    ("index/document.iwa", "is a document of Apple's Numbers: export it as Excel or CSV, and import that"),
    ("word/document.xml", "is a Word document, not a table"),
    ("ppt/presentation.xml", "is a PowerPoint presentation, not a table"),
)
_ENCRYPTED: Final = "EncryptedPackage".encode("utf-16-le")
_ODD: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)

Start = Callable[[str, Mapping[str, str]], None]


class Package:
    """An archive of parts; each is found without regard to case."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        """Read the archive's directory.

        Raises:
            FileError: it is none, is cut off, or holds no workbook.
        """
        self.name: Final = name
        try:
            _bound_directory(stream)
            self._zip = zipfile.ZipFile(stream)
        except _ODD as error:
            raise self.damaged(error) from None
        infos = self._zip.infolist()
        self._parts = {it.filename.replace("\\", "/").lstrip("/").casefold(): it for it in infos}
        for part, what in _OTHERS:
            if part in self._parts:
                raise FileError(f"{name} {what}")
        if "[content_types].xml" not in self._parts:
            raise FileError(f"{name} is a zip archive, not a table: unpack it and import what is in it")

    def damaged(self, error: object) -> FileError:
        """Return the error for a workbook that can't be read."""
        words = plain(str(error), 100)
        return FileError(f"{self.name}: the Excel workbook is damaged or cut off ({words}): save it again")

    def has(self, part: str) -> bool:
        """Say whether there is such a part."""
        return part.casefold() in self._parts

    @contextmanager
    def open(self, part: str, most: int = _LARGEST_PART) -> Iterator[BinaryIO]:
        """Open a part; what is wrong with it while the block lasts is a ``FileError``.

        Raises:
            FileError: there is none, it is larger than ``most`` bytes, or damaged.
        """
        info = self._parts.get(part.casefold())
        if info is None:
            raise self.damaged(f"it has no {part}")
        if info.file_size > most:
            raise FileError(
                f"{self.name}: its {plain(part, 60)} unpacks to {info.file_size // _MIB:,} MiB, more than "
                f"{most // _MIB:,} MiB: split the sheet, or save it as CSV"
            )
        try:
            with self._zip.open(info) as stream:  # which gives no more than it says it has
                yield stream  # type: ignore[misc]  # IO[bytes] that is only read
        except _ODD as error:
            raise self.damaged(error) from None

    def parse(self, part: str, start: Start, most: int = _LARGEST_PART) -> None:
        """Read a small part's elements."""
        with self.open(part, most) as stream:
            parser = Xml(self)
            parser.on_start(start)
            for _ in parser.read(stream):
                pass

    def related(self, part: str) -> dict[str, tuple[str, str]]:
        """Return what a part refers to: by id the type's last word and the other part's name."""
        folder, _, file = part.rpartition("/")
        found: dict[str, tuple[str, str]] = {}

        def start(name: str, has: Mapping[str, str]) -> None:
            if name == "Relationship" and has.get("TargetMode") != "External":
                kind = has.get("Type", "").rpartition("/")[2]
                found[has.get("Id", "")] = kind, _resolved(folder, has.get("Target", ""))

        rels = f"{folder}/_rels/{file}.rels".lstrip("/")
        if self.has(rels):
            self.parse(rels, start)
        return found


def _resolved(folder: str, target: str) -> str:
    path: list[str] = [] if target.startswith("/") else folder.split("/")
    for step in target.replace("\\", "/").split("/"):
        if step == ".." and path:
            path.pop()
        elif step not in ("", ".", ".."):
            path.append(step)
    return "/".join(filter(None, path))


class _LocalNames(dict[str, str]):
    """Names without their prefixes, each found once."""

    def __missing__(self, name: str) -> str:
        self[name] = local = name.rpartition(":")[2]
        return local


class Xml:
    """Reads XML of a package in pieces; names come without their prefixes."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._given = 0
        self._named = _LocalNames()
        self._parser.StartDoctypeDeclHandler = self._refuse

    def on_start(self, start: Start) -> None:
        """Call this at every start of an element, with its name and its attributes."""
        named = self._named
        self._parser.StartElementHandler = lambda name, has: start(named[name], has)

    def on_end(self, end: Callable[[str], None]) -> None:
        """Call this at every end of an element."""
        named = self._named
        self._parser.EndElementHandler = lambda name: end(named[name])

    def on_text(self, text: Callable[[str], None] | None) -> None:
        """Call this with the text in elements, piece by piece."""
        self._parser.CharacterDataHandler = text

    def read(self, stream: BinaryIO) -> Iterator[None]:
        """Read the stream to its end, and pause after every piece.

        Raises:
            FileError: as ``feed`` tells.
        """
        while piece := stream.read(_PIECE):
            self.feed(piece)
            yield
        self.feed(b"")
        yield

    def feed(self, piece: bytes) -> None:
        """Read a piece more; an empty one is the end.

        Raises:
            FileError: it isn't well-formed, declares entities, or has a tag of more than 1 MiB.
        """
        try:
            self._parser.Parse(piece, not piece)
        except (expat.ExpatError, LookupError, ValueError) as error:  # the others: of unknown encodings
            raise self._package.damaged(error) from None
        self._given += len(piece)
        if self._given - self._parser.CurrentByteIndex > _LARGEST_TAG:
            raise self._package.damaged("a tag of more than 1 MiB")

    def _refuse(self, *_: Any) -> None:
        raise self._package.damaged("its XML has a document type, which no workbook has")


def _bound_directory(stream: BinaryIO) -> None:
    """Refuse an archive whose list of parts alone would fill the memory.

    Raises:
        zipfile.BadZipFile: it has too many parts, or its end is missing.
    """
    size = stream.seek(0, 2)
    stream.seek(max(0, size - _LONGEST_COMMENT - _END.size - _LOCATOR.size))
    tail = stream.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise zipfile.BadZipFile("its end is missing")
    directory = _END.unpack_from(tail, at)[5]
    if tail[max(0, at - _LOCATOR.size) :].startswith(b"PK\6\7") and at >= _LOCATOR.size:
        stream.seek(_LOCATOR.unpack_from(tail, at - _LOCATOR.size)[2])
        end = stream.read(_END_64.size)
        directory = _END_64.unpack(end)[8] if len(end) == _END_64.size else 2**64
    if directory > _LARGEST_DIRECTORY:
        raise zipfile.BadZipFile("it has too many parts")
    stream.seek(0)


def older(pieces: Iterator[bytes], name: str) -> FileError:
    """Return the error for a file in Microsoft's older container: a workbook of old, or an encrypted one."""
    before = b""
    for piece in pieces:
        if _ENCRYPTED in before + piece:
            return FileError(
                f"{name} is encrypted with a password: open it, remove the password (File, Info, Protect "
                "Workbook, Encrypt with Password, leave it empty), save it, and import that"
            )
        before = piece[-len(_ENCRYPTED) :]
    return FileError(f"{name} is an old Excel workbook (.xls): {AS_XLSX}")


_MARKUP: Final = (
    (
        re.compile(rb"<\?mso-application|urn:schemas-microsoft-com:office:spreadsheet"),
        "an XML spreadsheet of 2003",
    ),
    (re.compile(rb"urn:oasis:names:tc:opendocument"), "an OpenDocument spreadsheet (.fods)"),
    (re.compile(rb"(?i)<(!doctype html|html|table)\b"), "a web page, not a workbook, whatever its name"),
)


def markup(head: bytes) -> str | None:
    """Say what a text is that programs give the name of a workbook, and what to do."""
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return None
    return next((f"is {what}: {AS_XLSX}" for form, what in _MARKUP if form.search(head)), None)
