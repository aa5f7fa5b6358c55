"""What an Excel workbook says of itself: its sheets, its texts, and how its cells are shown."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Final

from worker.errors import FileError
from worker.files.xlsx_looks import Look, built_in, look_of
from worker.files.xlsx_package import Package
from worker.files.xlsx_sheet import Sheet, is_true, whole
from worker.files.xlsx_texts import Texts

_MOST_STYLES: Final = 100_000


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
        self.tabs: list[Sheet | str] = []  # as they are seen, a chart by its name alone
        package.parse(self._part, self._start)

    def _start(self, name: str, has: Mapping[str, str]) -> None:
        if name == "workbookPr":
            self.is_1904 = is_true(has.get("date1904"))
        elif name == "sheet":
            ids = (value for key, value in has.items() if key.rpartition(":")[2] == "id")
            # Taken out: no two sheets are one part, which would be unpacked for each of them.
            kind, part = self._related.pop(next(ids, ""), ("", ""))
            hidden, title = has.get("state", "visible") != "visible", has.get("name", "")
            sheet = Sheet(self._package, part, title, hidden) if kind == "worksheet" else None
            self.sheets += [sheet] if sheet else []
            self.tabs += [] if hidden else [sheet or title]

    def damaged(self, words: str) -> FileError:
        """Return the error that says in which way it is damaged."""
        return self._package.damaged(words)

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
                looks.append(codes.get(number) or built_in(whole(number)))

        if part := self._one("styles"):
            self._package.parse(part, start)
        return looks
