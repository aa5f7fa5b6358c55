"""How a workbook shows a number or a text: what its format makes of it, and when that misleads.

A format has sections, apart by semicolons: for positive numbers, negative ones, zero and texts, or each with
a condition of its own. What is seen of a cell must be what is taken from it: else the cell is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

_DIGITS: Final = (
    "is shown by its format with other digits than its own, and isn't what is seen: format the column as "
    "text, and enter it as it is meant"
)
_NOTHING: Final = (
    "is shown by its format as nothing of its own: format the column as text, and enter it as it is meant"
)
_PART: Final = (
    "is a date of which its format shows no {}: format the column with day, month and year, and see that "
    "they are the dates that are meant"
)
_ZONE: Final = (
    "is a date whose format writes a zone beside it, which the cell itself hasn't: take that out of the "
    "format, and say --timezone"
)
_LONGEST_CODE: Final = 255  # that Excel takes
_TEXT_SECTION: Final = 4
_TOKEN: Final = re.compile(
    r'"(?P<quoted>[^"]*)"?|\\(?P<escaped>.)|[_*].|\[(?P<bracket>[^\]]*)\]?|(?P<half>AM/PM|A/P)|(?P<general>general)'
    r"|(?P<exponent>E[+-])|(?P<date>y+|m+|d+|h+|s+|e+|g+|b+)|(?P<sign>.)",
    re.IGNORECASE | re.DOTALL,
)
_SYMBOL: Final = re.compile(r"\$([^-]*)")
_ELAPSED: Final = re.compile(r"h+|m+|s+", re.IGNORECASE)
_CONDITION: Final = re.compile(r"[<>=].*")
_CENTURY: Final = ("19", "20")
_WORDS: Final = {"yeb": "year", "d": "day", "h": "hour", "s": "second"}  # e and b are years of other eras
_DAY: Final = ("day", "month", "year")
_NAME: Final = 3  # letters from which on they stand for a name: Dec, Tue
_ZONES: Final = re.compile(r"\b(Z|UTC|GMT)\b", re.IGNORECASE)
_SCALED: Final = re.compile(r"%|[0#?],+(?![0#?,])")  # which shows 5 as 500%, or 5000 as 5
_BUILT_IN: Final = (
    {9: "0%", 10: "0.00%", 14: "m/d/yy", 15: "d-mmm-yy", 16: "d-mmm", 17: "mmm-yy", 22: "m/d/yy h:mm"}
    | dict.fromkeys((18, 19, 20, 21, 32, 33, 45, 47), "h:mm")
    | {46: "[h]:mm:ss"}
    | dict.fromkeys((*range(27, 32), 34, 35, 36, *range(50, 59)), "y/m/d")  # which depend on the country
)


@dataclass(frozen=True, slots=True)
class Look:
    """How a cell is shown: a number as ``date``, ``time`` or ``datetime``, with that many digits, or neither.

    ``number`` and ``text`` say why a number or a text that is shown so isn't to be taken.
    """

    kind: str = ""
    zeros: int = 0
    number: str = ""
    text: str = ""


PLAIN: Final = Look()


class _Part(NamedTuple):
    kind: str
    text: str


_Section = Sequence[_Part]


def built_in(number: int) -> Look:
    """Return how a format that every workbook has shows a number."""
    return look_of(_BUILT_IN.get(number, "General"))


@lru_cache(maxsize=1_024)
def look_of(code: str) -> Look:
    """Say what a format makes of a positive number, and of a text."""
    sections = list(_sections(code[:_LONGEST_CODE]))
    of_text = sections.pop() if len(sections) == _TEXT_SECTION or _has(sections[-1], "@") else None
    sections = sections or [of_text or []]
    asked = sections if any(part.kind == "condition" for it in sections for part in it) else sections[:1]
    why = next((why for section in asked if (why := _misleads(section))), "")
    return Look(
        _kind(asked[0]), _zeros(asked[0]), why, "" if of_text is None else _misleads(of_text, needs="@")
    )


def _sections(code: str) -> list[list[_Part]]:
    sections: list[list[_Part]] = [[]]
    for token in _TOKEN.finditer(code):
        kind, text = token.lastgroup or "", token[token.lastgroup or 0]
        if kind == "sign" and text == ";":
            sections.append([])
        elif kind in ("quoted", "escaped"):
            sections[-1].append(_Part("literal", text))
        elif kind == "bracket":
            sections[-1] += _bracket(text)
        elif kind:
            sections[-1].append(_Part(kind, text.lower()))
    return sections


def _bracket(text: str) -> list[_Part]:
    """Say what a bracket stands for; colours and languages for nothing."""
    if symbol := _SYMBOL.match(text):
        return [_Part("literal", symbol[1])]
    for kind, form in (("elapsed", _ELAPSED), ("condition", _CONDITION)):
        if form.fullmatch(text):
            return [_Part(kind, text)]
    return []


def _has(section: _Section, sign: str) -> bool:
    return _Part("sign", sign) in section


def _is_elapsed(section: _Section) -> bool:
    return any(part.kind == "elapsed" for part in section)


def _is_date(section: _Section) -> bool:
    has_letters = any(part.kind == "date" and part.text[0] in "ymdhs" for part in section)
    return has_letters and not _is_elapsed(section)


def _misleads(section: _Section, needs: str = "") -> str:
    """Say why what a section shows isn't to be taken, if it isn't; ``needs``: the sign for the value."""
    if _is_elapsed(section) or _adds_digits(section):
        return _DIGITS
    if _is_date(section) and not needs:
        literal = "".join(part.text if part.kind == "literal" else " " for part in section)
        hidden = _hidden(section)
        return _ZONE if _ZONES.search(literal) else _PART.format(" and no ".join(hidden)) if hidden else ""
    signs = _signs(section)
    if not re.search(needs or "[0#?@]", signs) and not any(part.kind == "general" for part in section):
        return _NOTHING
    return _DIGITS if _SCALED.search(signs) else ""


def _adds_digits(section: _Section) -> bool:
    """Say whether digits are written beside the value; the century before a short year is none of these."""
    return any(
        part.kind == "literal"
        and re.search(r"\d", part.text)
        and not (part.text in _CENTURY and after == _Part("date", "yy"))
        for part, after in pairwise([*section, _Part("", "")])
    )


def _signs(section: _Section) -> str:
    return "".join(part.text for part in section if part.kind == "sign" and not part.text.isspace())


def _shown(section: _Section) -> set[str]:
    """Return what of a date is shown; names of weekdays are none of it."""
    runs = [part.text for part in section if part.kind == "date"]
    found = set()
    for before, run, after in zip(["", *runs], runs, [*runs[1:], ""], strict=False):
        if run[0] == "m":
            is_minute = len(run) < _NAME and (before[:1] == "h" or after[:1] == "s")
            found.add("minute" if is_minute else "month")
        elif run[0] != "d" or len(run) < _NAME:
            found |= {word for letters, word in _WORDS.items() if run[0] in letters}
    return found


def _hidden(section: _Section) -> list[str]:
    """Return what of its day a date's format hides; nothing of what is but a time."""
    return [word for word in _DAY if word not in _shown(section)] if _kind(section) != "time" else []


def _kind(section: _Section) -> str:
    if not _is_date(section):
        return ""
    shown = _shown(section)
    of_clock = bool(shown.difference(_DAY))
    return "date" if not of_clock else "datetime" if shown.intersection(_DAY) else "time"


def _zeros(section: _Section) -> int:
    """Return how many digits a number has at least, where that is more than one."""
    if _is_date(section) or any(part.kind == "exponent" for part in section):
        return 0
    _, zero, more = re.sub("[^0#?]", "", _signs(section).partition(".")[0]).partition("0")
    return len(zero + more) if more else 0
