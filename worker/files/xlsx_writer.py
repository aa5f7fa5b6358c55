"""Writes a table as an Excel workbook, piece by piece: texts stay texts, whatever they look like.

A text is never a formula, and its cell is formatted as text, so that what a person enters there stays as it
was typed as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape
from zipfile import ZIP_DEFLATED, ZipFile

from worker.errors import FileError
from worker.files.xlsx_sheet import LAST_ROW, letters

_LONGEST_TEXT: Final = 32_767  # what a cell may hold
_PIECE_ROWS: Final = 200
_LOOKS_ESCAPED: Final = re.compile(r"_(?=x[0-9A-Fa-f]{4}_)")
_HEADING, _TEXT = 1, 2  # styles, by their places in cellXfs

_DECLARED: Final = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_TYPES: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_RELATIONS: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006"
_MAIN: Final = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_PARTS: Final = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPES}.sheet.main+xml"/>'
    f'<Override PartName="/xl/styles.xml" ContentType="{_TYPES}.styles+xml"/>'
    f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_TYPES}.worksheet+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_RELATIONS}/worksheet" Target="worksheets/sheet1.xml"/>'
    f'<Relationship Id="rId2" Type="{_RELATIONS}/styles" Target="styles.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook {_MAIN} xmlns:r="{_RELATIONS}"><sheets>'
    '<sheet name="Report" sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/styles.xml": f"<styleSheet {_MAIN}>"
    '<fonts count="2"><font><sz val="11"/><name val="Calibri"/></font>'
    '<font><b/><sz val="11"/><name val="Calibri"/></font></fonts>'
    '<fills count="2"><fill><patternFill patternType="none"/></fill>'
    '<fill><patternFill patternType="gray125"/></fill></fills>'
    '<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
    '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>'
    '<cellXfs count="3"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>'
    '<xf numFmtId="49" fontId="1" fillId="0" borderId="0" xfId="0" applyNumberFormat="1" applyFont="1"/>'
    '<xf numFmtId="49" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/></cellXfs>'
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>',
}
_HEAD: Final = (
    f'<worksheet {_MAIN}><sheetViews><sheetView workbookViewId="0"><pane ySplit="1" topLeftCell="A2" '
    'activePane="bottomLeft" state="frozen"/></sheetView></sheetViews><cols>{columns}</cols><sheetData>'
)
_FOOT: Final = "</sheetData></worksheet>"

CellOut = str | int | None


class _Sink(io.RawIOBase):
    """Keeps what is written until somebody takes it; it can't be moved in, as a pipe can't."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # any bytes-like is what zipfile gives
        self._kept += data
        return len(data)

    def take(self) -> bytes:
        taken, self._kept = bytes(self._kept), bytearray()
        return taken


def xlsx_pieces(names: Sequence[str], rows: Iterable[Sequence[CellOut]]) -> Iterator[bytes]:
    """Give a workbook with one sheet in pieces: its columns' names, and the rows below them.

    Raises:
        FileError: there are more rows than a sheet may have.
    """
    sink = _Sink()
    columns = [letters(at) for at in range(1, len(names) + 1)]
    widths = "".join(
        f'<col min="{at}" max="{at}" width="22" style="{_TEXT}" customWidth="1"/>'
        for at in range(1, len(names) + 1)
    )
    with ZipFile(sink, "w", ZIP_DEFLATED) as archive:
        for part, text in _PARTS.items():
            archive.writestr(part, _DECLARED + text)
        with archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet:
            sheet.write((_DECLARED + _HEAD.format(columns=widths)).encode())
            sheet.write(_row(1, columns, names, _HEADING).encode())
            for number, row in enumerate(rows, 2):
                if number > LAST_ROW:
                    raise FileError(
                        f"there are more rows than the {LAST_ROW:,} of a sheet: choose fewer "
                        "(--state, --run, --limit), or --format csv"
                    )
                sheet.write(_row(number, columns, row, _TEXT).encode())
                if not number % _PIECE_ROWS:
                    yield sink.take()
            sheet.write(_FOOT.encode())
    yield sink.take()


def _row(number: int, columns: Sequence[str], values: Sequence[CellOut], style: int) -> str:
    cells = "".join(
        _cell(f"{column}{number}", value, style)
        for column, value in zip(columns, values, strict=True)
        if value is not None and value != ""
    )
    return f'<row r="{number}">{cells}</row>'


def _cell(at: str, value: str | int, style: int) -> str:
    if isinstance(value, int):
        return f'<c r="{at}"><v>{value}</v></c>'
    text = escape(_LOOKS_ESCAPED.sub("_x005F_", value[:_LONGEST_TEXT]))
    return f'<c r="{at}" s="{style}" t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'
