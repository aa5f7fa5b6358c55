"""Find the rows of a file of badge items: CSV, JSON Lines, or a JSON array as the vendor's endpoint takes it.

A row that can't be read becomes a row with a problem, and the others go on; memory stays flat. Whether an
item is a valid badge is for ``badge.py`` to say; bytes, encodings and line ends live in ``textlines.py``.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import itertools
import json
import math
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, BinaryIO, Final, NoReturn, Self

from worker.errors import FileError
from worker.textlines import MAX_RECORD, Window, damage_of, printable, read_lines, read_text

FIELDS: Final = (
    "badgeMetaId",
    "customerId",
    "earnEventDate",
    "earnEventDateISO",
    "earnExpiresOn",
    "earnExpiresOnISO",
    "job_id",
)
"""The names that an item may have."""

_NEEDED: Final = FIELDS[:2]
_REPORT: Final = (  # what our own reports add: a person mends a report and imports it again
    *("row", "field", "reason", "run", "org", "state", "attempts", "earnedBadgeId", "issuedId", "requestId"),
    *("warnings", "error", "error_kind", "error_code", "error_message", "enqueued_at", "finished_at"),
)
# The vendor's answer: ignored as well, but only beside other columns of a report. In a person's own file they
# are earnExpiresOn misnamed, and to ignore them there would issue badges that never expire.
_ANSWER_ONLY: Final = ("expiresOn", "expiresOnISO")
_SIGNS_OF_A_REPORT: Final = frozenset(("state", "reason"))
_COMPLAINTS: Final = 5
_RAW_LIMIT: Final = 2_000
_LINES_IN_A_RECORD: Final = 1_000


@dataclass(frozen=True, slots=True)
class Row:
    """One row: an item (not validated), or the problem that keeps it from being one.

    ``number`` is the line where the record begins or, in a JSON array, the place of the element, both from 1;
    no two rows of a file have the same. ``raw`` is what was written, cut at 2,000 characters. ``problem``
    says what is wrong, and ``field`` where, if it is one field.
    """

    number: int
    item: Mapping[str, Any] | None
    raw: str
    problem: str | None = None
    field: str | None = None


def read_rows(stream: BinaryIO, *, name: str) -> Iterator[Row]:
    """Give the file's rows one by one, in order, blank ones left out.

    The format is told by the content, and by the name's ending where that leaves doubt.

    Args:
        stream: read once, forwards, in pieces; standard input will do.
        name: the file's name.

    Raises:
        FileError: at the call, never later, if the file as a whole can't be read.
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
            return _array_rows(Window(pieces, line))
        case "lines":
            return _json_rows(read_lines(pieces), line)
        case _:
            return _open_csv(read_lines(pieces), line, name)


def _format_of(text: str, name: str) -> str:
    suffix = PurePath(name).suffix.lower()
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
            f"{name} begins with {printable(text, 20)!r}: neither a JSON array nor an object a line"
        )
    return "lines" if text[0] == "{" else "csv"


def _refused(number: int, raw: str, problem: str, field: str | None = None) -> Row:
    return Row(number, None, printable(raw, _RAW_LIMIT), problem, field)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()


_BY_PLAIN_NAME: Final[dict[str, str | None]] = {
    **{_plain(name): None for name in (*_REPORT, *_ANSWER_ONLY)},
    **{_plain(name): name for name in FIELDS},
}
_ANSWER_NAMES: Final = frozenset(map(_plain, _ANSWER_ONLY))


def _unknown(names: Iterable[str]) -> list[str]:
    """Return those names that are neither a field's nor a report's."""
    plain = {name: _plain(name) for name in names}
    is_report = not _SIGNS_OF_A_REPORT.isdisjoint(plain.values())
    return [
        name
        for name, key in plain.items()
        if key not in _BY_PLAIN_NAME or (key in _ANSWER_NAMES and not is_report)
    ]


def _with_hint(name: str) -> str:
    near = difflib.get_close_matches(_plain(name), map(_plain, FIELDS), n=1, cutoff=0.7)
    hint = f" (did you mean {_BY_PLAIN_NAME[near[0]]}?)" if near else ""
    return f"“{printable(name.strip(), 60)}”{hint}"


@dataclass(frozen=True, slots=True)
class _Table:
    """How a CSV file is laid out: a column without a name is ignored, and stands in no item."""

    delimiter: str
    columns: tuple[str | None, ...]
    width: int


def _open_csv(lines: Iterator[str], number: int, name: str) -> Iterator[Row]:
    for at, line in enumerate(lines, number):
        if line.strip() and not re.fullmatch("sep=.", line):  # Excel's hint; the header itself tells
            if problem := damage_of(line):
                raise FileError(f"{name}: the header can't be read: {problem}")
            return _csv_rows(lines, at, _table_of(line, name))
    raise FileError(f"{name} is empty")


def _table_of(header: str, name: str) -> _Table:
    def split(delimiter: str) -> list[str]:
        try:
            return next(csv.reader([header], delimiter=delimiter, strict=True))
        except csv.Error:
            return []

    def known(delimiter: str) -> int:
        return sum(_plain(column) in _BY_PLAIN_NAME for column in split(delimiter))

    delimiter = max(",;\t|", key=known)
    names = split(delimiter)
    width = len(names)
    while names and not names[-1].strip():  # a spreadsheet pads its rows
        names.pop()
    _check_header(names, name, printable(header, 60))
    return _Table(delimiter, tuple(_BY_PLAIN_NAME[_plain(column)] for column in names), width)


def _check_header(names: list[str], name: str, begin: str) -> None:
    """Refuse a header with a column missing, unknown, without a name, or there twice."""
    found = Counter(_BY_PLAIN_NAME.get(_plain(column)) for column in names)
    allowed = f"The columns may be {', '.join(FIELDS)}"
    if not any(found[field] for field in FIELDS):
        raise FileError(f"{name}: the first line must name the columns, but reads “{begin}”. {allowed}.")
    complaints = [
        f"unknown column {_with_hint(column)}" if column.strip() else "a column without a name"
        for column in _unknown(names)[:_COMPLAINTS]
    ]
    complaints += [f"no column {field}" for field in _NEEDED if not found[field]]
    complaints += [f"{found[field]} columns that mean {field}" for field in FIELDS if found[field] > 1]
    if complaints:
        raise FileError(f"{name} has {'; '.join(complaints)}. {allowed}.")


class _Lines:
    """An iterator that takes back what it gave, even after its end."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._again: deque[str] = deque()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        return self._again.popleft() if self._again else next(self._lines)

    def give_back(self, lines: list[str]) -> None:
        """Give these lines again, before all others."""
        self._again.extendleft(reversed(lines))


def _csv_rows(lines: Iterator[str], number: int, table: _Table) -> Iterator[Row]:
    source = _Lines(lines)
    for line in source:
        number += 1
        if not line or line.isspace():
            continue
        taken = [line]
        found = _record(taken, source, table)
        if isinstance(found, str):
            source.give_back(taken[1:])
            yield _refused(number, line, found)
            continue
        if found:
            yield Row(number, found, printable("\n".join(taken), _RAW_LIMIT))
        number += len(taken) - 1


def _record(taken: list[str], source: Iterator[str], table: _Table) -> dict[str, str] | str:
    """Read the record that begins with the line taken; return its item, or what is wrong.

    While a quote is open more lines are taken, and the caller must give them back if the record is refused.
    """
    line = taken[0]
    if problem := damage_of(line):
        return problem
    if '"' not in line:
        return _item_in(line.split(table.delimiter), table)
    try:
        cells = next(csv.reader(_feed(taken, source), delimiter=table.delimiter, strict=True))
    except csv.Error as error:
        unclosed = len(taken) > 1 or str(error) == "unexpected end of data"
        return "a quote opens here and is not closed properly" if unclosed else f"the row is not CSV: {error}"
    item = _item_in(cells, table)
    return _misquoted(taken, cells, item) or item


def _misquoted(taken: list[str], cells: list[str], item: dict[str, str] | str) -> str | None:
    """Find quotes that the csv module allows but no program writes: what is left of a record cut in two."""
    # No field holds a line break. One that seems to has an unclosed quote, and a later row has closed it.
    if len(taken) > 1 and (isinstance(item, str) or any("\n" in cell.strip() for cell in item.values())):
        return "a quote opens here and is closed only on a later line"
    text = "\n".join(taken)
    if any('"' in cell and '"{}"'.format(cell.replace('"', '""')) not in text for cell in cells):
        return "a quote stands within a cell that is not quoted"
    return None


def _item_in(cells: list[str], table: _Table) -> dict[str, str] | str:
    if len(cells) != table.width:
        return f"the row has {len(cells)} cells, the header {table.width}"
    if table.width > len(table.columns) and any(map(str.strip, cells[len(table.columns) :])):
        return "a cell stands under no column's name"
    return {
        name: cell
        for name, cell in zip(table.columns, cells, strict=False)
        if name and cell and not cell.isspace()
    }


def _feed(taken: list[str], source: Iterator[str]) -> Iterator[str]:
    yield taken[0] + "\n"
    size = len(taken[0])
    while size <= MAX_RECORD and len(taken) < _LINES_IN_A_RECORD and (line := next(source, None)) is not None:
        taken.append(line)
        size += len(line)
        if damage_of(line):
            return
        yield line + "\n"


class _Refusal(Exception):  # noqa: N818 - no error, but the way out of the decoder's hooks
    """A JSON value that is no item: the reason, and the field or the offset where it lies."""

    def __init__(self, problem: str, *, field: str | None = None, at: int | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.field = field
        self.at = at


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    item = dict(pairs)
    if len(item) != len(pairs):
        name = printable(Counter(name for name, _ in pairs).most_common(1)[0][0], 60)
        raise _Refusal(f"“{name}” is given twice", field=name)
    return item


def _constant(text: str) -> NoReturn:
    raise _Refusal(f"{text} is not a number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _Refusal(f"the number {printable(text, 60)} is too large")
    return number


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite)
_LENIENT: Final = json.JSONDecoder(parse_int=str, parse_float=str)  # only tells where a value ends
_FIELD_SET: Final = frozenset(FIELDS)
_LOOK_AHEAD: Final = 8  # so that "1" is not taken for the whole of "1.5e+3" at a piece's end
_TOKEN: Final = re.compile(r'"(?:[^"\\{}\n]++|\\[^\n])*+"|["{}\[\]:,]')
_CLOSER: Final = {"{": "}", "[": "]"}
_KINDS: Final = {list: "an array", str: "a text", int: "a number", float: "a number", bool: "true or false"}


def _decode(text: str, start: int) -> tuple[Any, int]:
    """Return the JSON value that begins at `start`, and its end."""
    try:
        return _STRICT.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise _Refusal(f"not valid JSON: {error.msg}", at=error.pos) from None
    except RecursionError:
        raise _Refusal("the value is nested too deeply") from None
    except ValueError:
        raise _Refusal("a whole number has too many digits") from None


def _item_of(value: Any, text: str) -> dict[str, Any]:
    """Return the fields of a value by their proper names; ``text`` is how it was written."""
    if not isinstance(value, dict):
        raise _Refusal(f"an item is an object, and this is {_KINDS.get(type(value), 'null')}")
    if "\\u" in text and not _is_text(value.values()):
        raise _Refusal("a text holds half a character (a lone \\u surrogate)")
    if _FIELD_SET.issuperset(value):
        return value
    if unknown := _unknown(value):
        raise _Refusal(f"unknown field {_with_hint(unknown[0])}", field=printable(unknown[0], 60))
    return _unique([(name, value[key]) for key in value if (name := _BY_PLAIN_NAME[_plain(key)])])


def _is_text(values: Iterable[Any]) -> bool:
    try:
        "".join(value for value in values if isinstance(value, str)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_rows(lines: Iterable[str], number: int) -> Iterator[Row]:
    for at, line in enumerate(lines, number):
        if line and not line.isspace():
            yield _json_row(at, line)


def _json_row(number: int, line: str) -> Row:
    try:
        if problem := damage_of(line):
            raise _Refusal(problem)  # noqa: TRY301 - one way out
        value, end = _decode(line, len(line) - len(line.lstrip()))
        if end != len(line) and not line[end:].isspace():
            raise _Refusal("there is more after the object", at=end)  # noqa: TRY301
        return Row(number, _item_of(value, line), printable(line, _RAW_LIMIT))
    except _Refusal as refusal:
        place = "" if refusal.at is None else f" (column {refusal.at + 1})"
        return _refused(number, line, refusal.problem + place, refusal.field)


def _array_rows(window: Window) -> Iterator[Row]:
    window.peek()
    window.pos += 1  # the bracket that opens the array
    number, separated = 1, True
    while window.peek() != "]" or (number > 1 and separated):
        row, end = _element(window, number, separated=separated)
        yield row
        if end is None:
            return
        window.pos = end
        number += 1
        separated = window.peek() == ","
        window.pos += separated
    window.pos += 1
    if window.peek():
        problem = (
            f"there is more after the array's end ({window.place(window.pos)}); nothing from here on was read"
        )
        yield _refused(number, window.ahead(_RAW_LIMIT + 1), problem)


def _element(window: Window, number: int, *, separated: bool) -> tuple[Row, int | None]:
    """Return the row of the element at the window's position, and its end, or None if that is in doubt."""
    while True:
        end: int | None
        try:
            value, end = _decode(window.text, window.pos)
            if end + _LOOK_AHEAD > len(window.text) and window.fill():
                continue
            raw = window.text[window.pos : end]
            if problem := damage_of(raw) or (None if separated else "no comma before this element"):
                raise _Refusal(problem)  # noqa: TRY301 - one way out
            item = _item_of(value, raw)
            return Row(number, item, printable(raw, _RAW_LIMIT)), end
        except _Refusal as refusal:
            end = _end_of(window.text, window.pos)
            if end is None and window.fill():
                continue
            return _refused_element(window, number, refusal, end), end


def _refused_element(window: Window, number: int, refusal: _Refusal, end: int | None) -> Row:
    problem = refusal.problem
    if not window.ahead(1):
        problem = "the file ends before the array does"
    elif end is None and window.is_full:
        problem = f"{problem}, and no end of this element within {MAX_RECORD:,} characters"
    problem += f" ({window.place(window.pos if refusal.at is None else refusal.at)})"
    if end is None:
        problem += "; nothing from here on was read"
    raw = window.ahead(_RAW_LIMIT + 1) if end is None else window.text[window.pos : end]
    return _refused(number, raw, problem, refusal.field)


def _end_of(text: str, start: int) -> int | None:
    """Find where a refused value ends; None if there is any doubt, since what stands after it will be issued.

    Doubtful are braces that don't match, an object within another that is no field's value (a brace is lost),
    and a string with a brace or a line end in it (a quote is lost; what seems inside strings is outside).
    """
    with contextlib.suppress(ValueError, RecursionError):
        return _LENIENT.raw_decode(text, start)[1]
    closers: list[str] = []
    before = ""
    for match in _TOKEN.finditer(text, start):
        sign = match[0]
        if sign == '"' or (sign == "{" and closers[-1:] == ["}"] and before != ":"):
            return None
        if sign in _CLOSER:
            closers.append(_CLOSER[sign])
        elif sign in {"}", "]"} and (not closers or closers.pop() != sign):
            return None
        if not closers:
            return match.end() if sign == "}" else None
        before = sign
    return None
