"""Find the rows of a file of badge items: CSV, JSON Lines, or a JSON array as the vendor's endpoint takes it.

Each may be gzip-compressed. A row that can't be read becomes a row with a problem, and the others go on;
memory stays flat. Whether an item is a valid badge is for ``domain/badge.py`` to say; bytes, encodings and
line ends are in ``text.py``, what the first rows together tell is in ``sample.py``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import BinaryIO

from worker.domain.item import Source
from worker.domain.text import escaped
from worker.errors import ConfigError, FileError
from worker.files.columns import AS_THEY_ARE, Names
from worker.files.csv_rows import open_csv
from worker.files.json_rows import array_rows, json_rows
from worker.files.sample import Sample, missing_dates, unmapped_dates
from worker.files.text import Window, read_lines, read_text


def read_rows(
    stream: BinaryIO, *, name: str, names: Names = AS_THEY_ARE, without_dates: bool = False
) -> Iterator[Source]:
    """Give the file's rows one by one, in order, blank ones left out.

    The format is told by the content, and by the name's ending where that leaves doubt; gzip is unpacked.

    Args:
        stream: read once, forwards, in pieces; standard input will do.
        name: the file's name.
        names: what its columns or keys stand for.
        without_dates: columns of dates that are mapped to nothing may be left out, though a date is missing.

    Raises:
        FileError: at the call, if the file as a whole can't be read; later, where it is cut off, its gzip is
            damaged, or an array so that no more of it is certain. A row that is cut in two is never given.
        ConfigError: at the call, if a date is missing and a column that is mapped to nothing holds dates.
    """
    pieces = read_text(stream, name=name)
    line, first = 1, ""
    for first in pieces:
        if not first.isspace():
            break
        line += first.count("\n")
    if not first.strip():
        raise FileError(f"{name} is empty")
    pieces = itertools.chain([first], pieces)
    match _format_of(first.lstrip(), name):
        case "array":
            rows = array_rows(Window(pieces, line), name, names)
        case "lines":
            rows = json_rows(read_lines(pieces), line, names)
        case _:
            return open_csv(read_lines(pieces), line, name, names, without_dates=without_dates)
    sample = Sample.of(rows)
    dates, missing = sample.date_columns(), missing_dates(sample.fields())
    if dates and missing and not without_dates:
        raise ConfigError(unmapped_dates(name, dates, missing))
    return sample.rows()


def _format_of(text: str, name: str) -> str:
    suffix = PurePath(re.sub(r"\.gz$", "", name.lower())).suffix
    of_lines = suffix in {".jsonl", ".ndjson"}
    if text[0] == "[" and (not of_lines or re.match(r"\[\s*\{", text)):
        return "array"
    if of_lines:
        return "lines"
    if re.match(r"\{[ \t]*\n", text):
        raise FileError(
            f"{name} has one JSON object over several lines: put each on one line, or all in an array"
        )
    if suffix == ".json" and text[0] != "{":
        raise FileError(
            f"{name} begins with {escaped(text, 20)!r}: neither a JSON array nor an object a line"
        )
    return "lines" if text[0] == "{" else "csv"
