"""Find the rows of a file of badge items: CSV, JSON Lines, a JSON array as the vendor takes it, or XLSX.

Each may be gzip-compressed. A row that can't be read becomes a row with a problem, and the others go on;
memory stays flat. Whether an item is a valid badge is for ``domain/parsing.py`` to say; bytes, encodings and
line ends are in ``text.py``, what the first rows together tell is in ``sample.py``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import PurePath
from tempfile import TemporaryFile
from typing import BinaryIO, Final, cast

from worker.domain.invalid import Invalid
from worker.domain.item import Source
from worker.domain.text import escaped
from worker.errors import ConfigError, FileError
from worker.files.columns import AS_THEY_ARE, Names
from worker.files.csv_rows import open_csv
from worker.files.header import Given
from worker.files.json_rows import array_rows, json_rows
from worker.files.sample import Sample, missing_dates, unmapped_dates
from worker.files.text import Window, read_blocks, read_bytes, read_text
from worker.files.xlsx_package import OLD, ZIP, markup, older
from worker.files.xlsx_rows import SheetOptions, open_xlsx

_LARGEST_BOOK: Final = 512 << 20


def read_rows(
    stream: BinaryIO,
    *,
    name: str,
    names: Names = AS_THEY_ARE,
    without_dates: bool = False,
    sheets: SheetOptions | None = None,
) -> Iterator[Source]:
    """Give the file's rows one by one, in order, blank ones left out.

    The format is told by the content, and by the name's ending where that leaves doubt; gzip is unpacked.

    Args:
        stream: read once, forwards, in pieces; standard input will do.
        name: the file's name.
        names: what its columns or keys stand for.
        without_dates: columns of dates that are mapped to nothing may be left out, though a date is missing.
        sheets: which sheet of a workbook is read, what of it, and who hears what is left out.

    Raises:
        FileError: at the call, if the file as a whole can't be read; later, where it is cut off, its gzip is
            damaged, or an array so that no more of it is certain. A row that is cut in two is never given.
        ConfigError: at the call, if a date is missing and a column that is mapped to nothing holds dates, or
            a workbook's sheet isn't certain.
    """
    sheets = sheets or SheetOptions()
    rows = _rows(stream, Given(name, names, without_dates, sheets.remarks), sheets)
    return (_fixed(row, names.fixed) for row in rows) if names.fixed else rows


def _rows(stream: BinaryIO, given: Given, sheets: SheetOptions) -> Iterator[Source]:
    name = given.file
    head, rest = read_bytes(stream, name=name)
    if head.startswith(ZIP):
        book = _seekable(stream, head, rest, name)
        opened = partial(open_xlsx, given=given, options=sheets)
        return opened(book) if book is stream else _closing(book, opened)
    if head.startswith(OLD):
        raise older(itertools.chain([head], rest), name)
    if what := markup(head):
        raise FileError(f"{name} {what}")
    sheets.refuse(name)
    return _text_rows(read_text(head, rest, name=name), given)


def _text_rows(pieces: Iterator[str], given: Given) -> Iterator[Source]:
    name, names = given.file, given.names
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
            rows = json_rows(itertools.chain.from_iterable(read_blocks(pieces)), line, names)
        case _:
            return open_csv(read_blocks(pieces), line, given)
    sample = Sample.of(rows)
    dates, missing = sample.date_columns(), missing_dates(sample.fields() | names.fixed.keys())
    if dates and missing and not given.without_dates:
        raise ConfigError(unmapped_dates(name, dates, missing))
    return sample.rows()


def _fixed(row: Source, fixed: Mapping[str, str]) -> Source:
    """Give a row what is set for all of them; one that has such a field itself is refused."""
    if row.problem or not isinstance(row.item, Mapping):
        return row
    if own := next((name for name in fixed if row.item.get(name) not in (None, "")), None):
        return row._replace(problem=Invalid(own, "is set for all rows, and this one has a value of its own"))
    return row._replace(item={**row.item, **fixed})


def _closing(book: BinaryIO, opened: Callable[[BinaryIO], Iterator[Source]]) -> Iterator[Source]:
    """Give the rows of a file of our own, and close it behind them."""
    with ExitStack() as closing:
        closing.enter_context(book)
        rows = opened(book)
        return _and_close(rows, closing.pop_all())


def _and_close(rows: Iterator[Source], closing: ExitStack) -> Iterator[Source]:
    with closing:
        yield from rows


def _seekable(stream: BinaryIO, head: bytes, rest: Iterator[bytes], name: str) -> BinaryIO:
    """Return the same bytes as a file that can be read anywhere; what came through a pipe is put on disk."""
    if stream.seekable():
        at = stream.tell()
        stream.seek(0)
        if stream.read(len(head)) == head:  # it wasn't compressed
            return stream
        stream.seek(at)
    with ExitStack() as closing:
        spooled, size = closing.enter_context(TemporaryFile()), 0
        for piece in itertools.chain([head], rest):
            size += spooled.write(piece)
            if size > _LARGEST_BOOK:
                raise FileError(
                    f"{name}: the workbook is larger than {_LARGEST_BOOK >> 20:,} MiB: save it as CSV"
                )
        closing.pop_all()
        return cast(BinaryIO, spooled)


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
