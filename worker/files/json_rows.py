"""Rows of JSON Lines and of a JSON array: what is damaged is a problem, what is provably whole goes on."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from worker.domain.invalid import Invalid
from worker.domain.item import NOTHING, Source
from worker.domain.numbers import NumberText, kind_of
from worker.domain.parsing import MOST_FIELDS, parse_item
from worker.domain.text import escaped
from worker.errors import FileError
from worker.files.columns import FIELDS, RAW_LIMIT, Names, lacking, refused, with_hint
from worker.files.text import MAX_RECORD, Unended, Window, damage_of


class _Refusal(Exception):  # noqa: N818 - no error, but the way out of the decoder's hooks
    """A JSON value that is no item: the reason, and the field or the offset where it lies."""

    def __init__(
        self,
        problem: str,
        *,
        field: str | None = None,
        at: int | None = None,
        others: Mapping[str, Any] | None = None,
        beside: tuple[Invalid, ...] = (),
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.field = field
        self.at = at
        self.beside = beside  # what else is wrong with it
        self.others = others or {}

    def of(self, row: Source) -> Source:
        """Add to a refused row what else is known of it."""
        problem = row.problem
        if self.beside and problem:
            problem = Invalid(problem.field, problem.reason, self.beside)
        return row._replace(problem=problem, others=self.others)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    item = dict(pairs)
    if len(item) != len(pairs):
        name = escaped(Counter(name for name, _ in pairs).most_common(1)[0][0], 60)
        raise _Refusal(f"“{name}” is given twice", field=name)
    return item


def _constant(text: str) -> NoReturn:
    raise _Refusal(f"{text} is not a number in JSON")


def _as_written(text: str) -> NumberText:
    if math.isinf(float(text)):
        raise _Refusal(f"the number {escaped(text, 60)} is too large")
    return NumberText(text)


_STRICT: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_constant, parse_float=_as_written
)
_LENIENT: Final = json.JSONDecoder(parse_int=str, parse_float=str)  # only tells where a value ends
_LOOK_AHEAD: Final = 8  # so that "1" is not taken for the whole of "1.5e+3" at a piece's end
_TOKEN: Final = re.compile(r'"(?:[^"\\{}\n]++|\\[^\n])*+"|["{}\[\]:,]')
_CLOSER: Final = {"{": "}", "[": "]"}
_NEVER_CLOSED: Final = "a text is never closed"
_WORDS: Final = (  # of Python's decoder, and ours
    ("Expecting value", "a value is missing, or is none that JSON knows"),
    ("Expecting ',' delimiter", "a comma is missing"),
    ("Expecting ':' delimiter", "a colon is missing"),
    ("Expecting property name", "a name in double quotes is missing"),
    ("Illegal trailing comma", "a comma stands before the end"),
    ("Unterminated string", _NEVER_CLOSED),
    ("Invalid control character", "a control character stands in a text"),
    ("Invalid", "a backslash is followed by what no JSON has"),
    ("Extra data", "there is more behind the value"),
    ("Unexpected UTF-8 BOM", "it begins with a byte order mark"),
)


def words_of(error: json.JSONDecodeError) -> str:
    """Say what is wrong with a text that isn't JSON."""
    return next((words for begin, words in _WORDS if error.msg.startswith(begin)), "it can't be read")


def _decode(text: str, start: int) -> tuple[Any, int]:
    """Return the JSON value that begins at `start`, and its end."""
    try:
        return _STRICT.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise _Refusal(f"not valid JSON: {words_of(error)}", at=error.pos) from None
    except RecursionError:
        raise _Refusal("the value is nested too deeply") from None
    except ValueError:
        raise _Refusal("a whole number has too many digits") from None


def _item_of(value: Any, text: str, names: Names) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return a value's fields by their proper names, and what else it has; ``text`` is how it is written."""
    if not isinstance(value, dict):
        raise _Refusal(f"an item is an object, and this is {kind_of(value)}")
    if "\\u" in text and not _is_text(value.values()):
        raise _Refusal("a text holds half a character (a lone \\u surrogate)")
    if names.proper.issuperset(value):
        return value, NOTHING
    if unknown := names.unknown(value):
        others = {name: value[name] for name in unknown}
        first, *beside = _faults_of(value, unknown, names)
        raise _Refusal(first.reason, field=first.field, others=others, beside=tuple(beside))
    ours = names.signs_of_a_report(value)
    if ours and (problem := lacking(value, ours)):
        raise _Refusal(problem)
    field_of = names.field_in_report if ours else names.field
    item = _unique([(field, value[key]) for key in value if (field := field_of(key))])
    return item, {} if ours else {key: value[key] for key in value if not field_of(key)}


def _faults_of(value: Mapping[str, Any], unknown: Sequence[str], names: Names) -> list[Invalid]:
    """Say of each unknown key that it is, and what is wrong with the fields beside them."""
    named, all_unknown = unknown[:MOST_FIELDS], frozenset(unknown)  # a row may have 100,000
    faults = [Invalid(escaped(name, 60), f"unknown field {with_hint(name)}") for name in named]
    ours = {
        field: value[key] for key in value if key not in all_unknown and (field := names.field(key)) in FIELDS
    }
    parsed = parse_item(ours)
    meant = " ".join(fault.reason for fault in faults)
    beside = parsed.faults if isinstance(parsed, Invalid) else ()
    # What is missing may be just what a misspelt key has.
    return faults + [fault for fault in beside if f"did you mean {fault.field}?" not in meant]


def _is_text(values: Iterable[Any]) -> bool:
    try:
        "".join(value for value in values if isinstance(value, str)).encode()
    except UnicodeEncodeError:
        return False
    return True


def json_rows(lines: Iterable[str], number: int, names: Names) -> Iterator[Source]:
    """Give a row for every line that isn't blank; the first is line ``number`` of the file."""
    for at, line in enumerate(lines, number):
        if line and not line.isspace():
            yield _json_row(at, line, names)


def _json_row(number: int, line: str, names: Names) -> Source:
    try:
        if problem := damage_of(line):
            raise _Refusal(problem)  # noqa: TRY301 - one way out
        value, end = _decode(line, len(line) - len(line.lstrip()))
        if end != len(line) and not line[end:].isspace():
            raise _Refusal("there is more after the object", at=end)  # noqa: TRY301
        item, others = _item_of(value, line, names)
        row = Source(str(number), item, escaped(line, RAW_LIMIT), others=others)
    except _Refusal as refusal:
        place = "" if refusal.at is None else f" (column {refusal.at + 1})"
        row = refusal.of(refused(number, line, refusal.problem + place, refusal.field))
    return row._replace(warning=line.warning(number)) if isinstance(line, Unended) else row


def array_rows(window: Window, name: str, names: Names) -> Iterator[Source]:
    """Give a row for every element, numbered from 1.

    Raises:
        FileError: it can't be read to its end, since it is cut off, or damaged so that no more is certain.
    """
    window.peek()
    window.pos += 1  # the bracket that opens the array
    number, separated = 1, True
    while window.peek() != "]" or (number > 1 and separated):
        row, end = _element(window, number, names, separated=separated)
        if row:
            yield row
        if end is None:
            what = (
                f"is damaged: nothing after row {number}"
                if row
                else f"is cut off: nothing from row {number} on"
            )
            raise FileError(f"{name} {what} was read ({window.place(window.pos)})")
        window.pos = end
        number += 1
        separated = window.peek() == ","
        window.pos += separated
    window.pos += 1
    if window.peek():
        problem = (
            f"there is more after the array's end ({window.place(window.pos)}); nothing from here on was read"
        )
        yield refused(number, window.ahead(RAW_LIMIT + 1), problem)
        raise FileError(f"{name} has more after the array's end: nothing after row {number} was read")


def _element(
    window: Window, number: int, names: Names, *, separated: bool
) -> tuple[Source | None, int | None]:
    """Return the row of the element at the window's position, and its end, or None if that is in doubt.

    There is no row where the file ends before the element does.
    """
    while True:
        end: int | None
        try:
            value, end = _decode(window.text, window.pos)
            if end + _LOOK_AHEAD > len(window.text) and window.fill():
                continue
            raw = window.text[window.pos : end]
            if problem := damage_of(raw) or (None if separated else "no comma before this element"):
                raise _Refusal(problem)  # noqa: TRY301 - one way out
            item, others = _item_of(value, raw, names)
            return Source(str(number), item, escaped(raw, RAW_LIMIT), others=others), end
        except _Refusal as refusal:
            end = _end_of(window.text, window.pos)
            if end is None and window.fill():
                continue
            if end is None and _is_cut_off(window, refusal):
                return None, None
            return refusal.of(_refused_element(window, number, refusal, end)), end


def _is_cut_off(window: Window, refusal: _Refusal) -> bool:
    """Say whether the text simply ends where more was to come."""
    unclosed = refusal.problem.endswith(_NEVER_CLOSED) and not window.is_full
    return unclosed or (refusal.at or 0) >= len(window.text.rstrip())


def _refused_element(window: Window, number: int, refusal: _Refusal, end: int | None) -> Source:
    problem = refusal.problem
    if end is None and window.is_full:
        problem = f"{problem}, and no end of this element within {MAX_RECORD:,} characters"
    problem += f" ({window.place(window.pos if refusal.at is None else refusal.at)})"
    if end is None:
        problem += "; nothing from here on was read"
    raw = window.ahead(RAW_LIMIT + 1) if end is None else window.text[window.pos : end]
    return refused(number, raw, problem, refusal.field)


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
