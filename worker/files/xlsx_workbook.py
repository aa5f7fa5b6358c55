"""What an Excel workbook says of itself: its sheets, its texts, and how its numbers are shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from worker.files.xlsx_package import Package
from worker.files.xlsx_sheet import Sheet, is_true, whole
from worker.files.xlsx_texts import Texts

_MOST_STYLES: Final = 100_000
_PERCENT: Final = ("9", "10")
_BUILT_IN: Final = (
    dict.fromkeys((*range(14, 18), *range(27, 32), 34, 35, 36, *range(50, 59)), "date")
    | dict.fromkeys((*range(18, 22), 32, 33, 45, 47), "time")
    | {22: "datetime"}
)  # 46 is a duration
_NO_SIGNS: Final = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?![hms]+\])[^][]*\]|AM/PM|A/P', re.IGNORECASE)
_LONGEST_CODE: Final = 255  # that Excel takes
_IN_BRACKETS: Final = re.compile(r"\[[^\]]*\]")
_ADDED: Final = re.compile(r'"[^"]*\d[^"]*"\s*[0#]|\\\d.*[0#]')  # as "10"0000, which shows 42 as 100042
_SCALED: Final = re.compile(r"%|[0#?],+(?![0#?,])")  # which shows 5 as 500%, or 5000 as 5


@dataclass(frozen=True, slots=True)
class Look:
    """How a number is shown: as ``date``, ``time`` or ``datetime``, or with that many digits, or neither.

    ``misleads``: with other digits than the number's.
    """

    kind: str = ""
    zeros: int = 0
    misleads: bool = False


PLAIN: Final = Look()


def look_of(code: str) -> Look:
    """Say what a number format makes of a number."""
    positive = code.partition(";")[0]
    if _ADDED.search(_IN_BRACKETS.sub("", positive[:_LONGEST_CODE])):
        return Look(misleads=True)
    first = _NO_SIGNS.sub("", positive).strip().lower()
    if _SCALED.search(first):
        return Look(misleads=True)
    if first == "general":
        return PLAIN
    if first and not first.strip("0"):
        return Look(zeros=len(first)) if len(first) > 1 else PLAIN
    if "[" in first:  # [h]:mm, which counts on
        return PLAIN
    of_clock = "h" in first or "s" in first
    of_calendar = "y" in first or "d" in first or ("m" in first and not of_clock)
    kind = {(True, True): "datetime", (True, False): "date", (False, True): "time"}
    return Look(kind.get((of_calendar, of_clock), ""))


class Workbook:
    """A workbook; what is wrong with it is a ``FileError``."""

    def __init__(self, package: Package) -> None:
        self.file: Final = package.name
        self._package = package
        root = next((at for kind, at in package.related("").values() if kind == "officeDocument"), "")
        self._part = root if root and package.has(root) else "xl/workbook.xml"
        self._related = package.related(self._part)
        self.is_1904 = False
        self.sheets: list[Sheet] = []
        package.parse(self._part, self._start)

    def _start(self, name: str, has: Mapping[str, str]) -> None:
        if name == "workbookPr":
            self.is_1904 = is_true(has.get("date1904"))
        elif name == "sheet":
            ids = (value for key, value in has.items() if key.rpartition(":")[2] == "id")
            # Taken out: no two sheets are one part, which would be unpacked for each of them.
            kind, part = self._related.pop(next(ids, ""), ("", ""))
            if kind == "worksheet":
                hidden = has.get("state", "visible") != "visible"
                self.sheets.append(Sheet(self._package, part, has.get("name", ""), hidden))

    def _one(self, kind: str) -> str | None:
        return next((at for its, at in self._related.values() if its == kind and self._package.has(at)), None)

    @cached_property
    def texts(self) -> Texts:
        """The texts that cells refer to."""
        return Texts(self._package, self._one("sharedStrings"))

    @cached_property
    def looks(self) -> list[Look]:
        """How the numbers of each style are shown."""
        codes: dict[str, Look] = {}
        looks: list[Look] = []
        of_cells = False

        def start(name: str, has: Mapping[str, str]) -> None:
            nonlocal of_cells
            if name == "numFmt":
                codes[has.get("numFmtId", "")] = look_of(has.get("formatCode", ""))
            elif name in ("cellXfs", "cellStyleXfs", "dxfs"):
                of_cells = name == "cellXfs"
            elif name == "xf" and of_cells and len(looks) < _MOST_STYLES:
                number = has.get("numFmtId", "0")
                built_in = Look(_BUILT_IN.get(whole(number), ""), misleads=number in _PERCENT)
                looks.append(codes.get(number) or built_in)

        if part := self._one("styles"):
            self._package.parse(part, start)
        return looks
