"""Workbooks that LibreOffice saved; ``python tests/libreoffice.py`` makes those of ``tests/unit`` again.

Each is written by another program, opened and saved by a real LibreOffice, and kept: so the tests read what
it writes without it. ``tests/neighbours`` makes them anew where a LibreOffice is there.
"""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import xlsxwriter
from xlsxwriter.workbook import Workbook

FOLDER = Path(__file__).parent / "unit" / "libreoffice"
BADGE = "696f0fd40772ad476ecf74ac"
HEADER = ("badgeMetaId", "customerId", "earnEventDateISO", "earnExpiresOn")
DAY, NEVER = dt.datetime(2025, 9, 10, 15, 0, 1), 1_905_828_011  # noqa: DTZ001 - as cells are
WITHIN_S = 180


def members(book: Workbook) -> None:
    """Write a table below a title: ids as texts and numbers, zeros by a format, dates, an error, totals."""
    sheet = book.add_worksheet("Members")
    stamp = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
    zeros = book.add_format({"num_format": "00000000"})
    sheet.merge_range("A1:D1", "Campaign of autumn")
    sheet.write_row(2, 0, HEADER)
    sheet.write_row(3, 0, (BADGE, 500_000_001))
    sheet.write_datetime(3, 2, DAY, stamp)
    sheet.write_number(3, 3, NEVER)
    sheet.write_row(4, 0, (BADGE, "500000002"))
    sheet.write_row(5, 0, (BADGE, 1234))
    sheet.write_number(5, 1, 1234, zeros)
    sheet.write_row(6, 0, (BADGE,))
    sheet.write_formula(6, 1, "=500000000+4", None, 500_000_004)
    sheet.write_row(7, 0, (BADGE,))
    sheet.write_formula(7, 1, "=NA()", None, "#N/A")
    sheet.write_row(8, 0, (BADGE, 500_000_006))
    sheet.set_row(8, None, None, {"hidden": True})
    sheet.write_row(9, 0, (BADGE, 1_234_567_890_123_456_789))
    sheet.write_row(10, 0, (BADGE, True))
    sheet.write(12, 0, "Total")
    sheet.write_formula(12, 1, "=SUM(B4:B11)", None, 1)
    book.add_worksheet("Empty")
    book.add_worksheet("Notes").hide()


def since_1904(book: Workbook) -> None:
    """Write dates that count from 1904, and merged cells that hide a field."""
    sheet = book.add_worksheet("Sheet1")
    sheet.write_row(0, 0, HEADER)
    stamp = book.add_format({"num_format": "dd/mm/yyyy hh:mm:ss"})
    for row in (1, 2):
        sheet.write_row(row, 0, (BADGE, 500_000_000 + row))
        sheet.write_datetime(row, 2, DAY, stamp)
    sheet.merge_range("D2:D3", NEVER)


BOOKS: dict[str, tuple[Callable[[Workbook], None], dict[str, bool]]] = {
    "members.xlsx": (members, {}),
    "since_1904.xlsx": (since_1904, {"date_1904": True}),
}


def save_again(program: str, into: Path) -> None:
    """Write each workbook, and have LibreOffice open it and save it into a folder."""
    with TemporaryDirectory() as folder:
        for name, (write, options) in BOOKS.items():
            with xlsxwriter.Workbook(Path(folder, name), options) as book:
                write(book)
        profile = f"-env:UserInstallation=file://{folder}/profile"
        command = [program, profile, "--headless", "--convert-to", "xlsx", "--outdir", str(into)]
        files = [str(Path(folder, name)) for name in BOOKS]
        subprocess.run([*command, *files], check=True, timeout=WITHIN_S, capture_output=True)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    found = shutil.which("soffice") or sys.exit("soffice isn't here: apt-get install libreoffice-calc")
    save_again(found, FOLDER)
