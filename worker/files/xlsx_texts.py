"""The texts of a workbook that its cells refer to by number, and how Excel writes what XML can't."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from typing import Final

from worker.errors import FileError
from worker.files.xlsx_package import LARGEST_TEXTS, Package, Xml

_MOST: Final = 8_000_000
_MOST_BYTES: Final = 200 << 20
_ESCAPED: Final = re.compile("_x([0-9A-Fa-f]{4})_")


def unescaped(text: str) -> str:
    """Return a text without Excel's own way of writing what XML can't: ``_x000D_``."""
    return _ESCAPED.sub(lambda it: chr(int(it[1], 16)), text) if "_x" in text else text


class Texts:
    """The texts, packed: many of them take little more memory than their letters."""

    def __init__(self, package: Package, part: str | None) -> None:
        """Read all of a part.

        Raises:
            FileError: it is damaged, or holds more than fits into memory.
        """
        self._package = package
        self._packed = bytearray()
        self._ends = array("Q", [0])
        self._phonetic = False
        self._xml = Xml(package)
        if part:
            self._read(part)

    def __getitem__(self, number: int) -> str:
        """Return the text of a number."""
        if not 0 <= number < len(self._ends) - 1:
            raise self._package.damaged(f"it has no text {number}")
        return self._packed[self._ends[number] : self._ends[number + 1]].decode("utf-8", "surrogatepass")

    def _read(self, part: str) -> None:
        self._xml.on_start(self._start)
        self._xml.on_end(self._end)
        with self._package.open(part, LARGEST_TEXTS) as stream:
            for _ in self._xml.read(stream):
                if len(self._ends) > _MOST or len(self._packed) > _MOST_BYTES:
                    raise FileError(
                        f"{self._package.name} holds more text than fits into memory ({_MOST:,} different "
                        f"texts, {_MOST_BYTES >> 20} MiB): save the sheet as CSV"
                    )

    def _take(self, text: str) -> None:
        self._packed.extend(text.encode("utf-8", "surrogatepass"))

    def _start(self, name: str, _: Mapping[str, str]) -> None:
        if name == "t" and not self._phonetic:
            self._xml.on_text(self._take)
        elif name == "rPh":  # how a text is spoken, in Japanese
            self._phonetic = True

    def _end(self, name: str) -> None:
        if name == "t":
            self._xml.on_text(None)
        elif name == "rPh":
            self._phonetic = False
        elif name == "si":
            self._ends.append(len(self._packed))
