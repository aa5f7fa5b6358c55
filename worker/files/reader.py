"""Find the rows of a file of badge items: CSV, JSON Lines, or a JSON array as the vendor's endpoint takes it.

Each may be gzip-compressed. A row that can't be read becomes a row with a problem, and the others go on;
memory stays flat. Whether an item is a valid badge is for ``badge.py`` to say; bytes, encodings and line
ends live in ``textlines.py``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import BinaryIO

from worker.domain.item import Source
from worker.domain.text import escaped
from worker.errors import FileError
from worker.files.columns import AS_THEY_ARE, Names
from worker.files.csv_rows import open_csv
from worker.files.json_rows import array_rows, json_rows
from worker.files.text import Window, read_lines, read_text


def read_rows(stream: BinaryIO, *, name: str, names: Names = AS_THEY_ARE) -> Iterator[Source]:
    """Give the file's rows one by one, in order, blank ones left out.

    The format is told by the content, and by the name's ending where that leaves doubt; gzip is unpacked.

    Args:
        stream: read once, forwards, in pieces; standard input will do.
        name: the file's name.
        names: what its columns or keys stand for.

    Raises:
        FileError: at the call, if the file as a whole can't be read; later, only where its gzip is damaged.
            A row that the damage cuts in two is never given.
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
            return array_rows(Window(pieces, line), names)
        case "lines":
            return json_rows(read_lines(pieces), line, names)
        case _:
            return open_csv(read_lines(pieces), line, name, names)


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
