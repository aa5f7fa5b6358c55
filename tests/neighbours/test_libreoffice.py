"""A real LibreOffice, where one is there: what it saves today is read as what it saved for the unit tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import libreoffice
import pytest

from worker.domain.item import Source
from worker.files.reader import read_rows


@pytest.mark.skipif(not shutil.which("soffice"), reason="a LibreOffice is too large for the gate to install")
def test_what_it_saves_today_is_read_as_what_is_kept(tmp_path: Path) -> None:
    """The same rows, from each workbook."""
    libreoffice.save_again("soffice", tmp_path)
    for name in libreoffice.BOOKS:
        assert rows_of(tmp_path / name) == rows_of(libreoffice.FOLDER / name), name


def rows_of(file: Path) -> list[Source]:
    """Return the rows of a workbook."""
    with file.open("rb") as stream:
        return list(read_rows(stream, name=file.name, without_dates=True))
