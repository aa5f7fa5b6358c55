"""Rows that are found by patterns are the rows that a parser finds, whoever wrote the sheet, and however."""

from __future__ import annotations

import io
import random
import string

from hypothesis import given, settings
from hypothesis import strategies as st
from workbooks import package, parts, sheet

from worker.errors import FileError
from worker.files.xlsx_package import Package
from worker.files.xlsx_sheet import Row
from worker.files.xlsx_workbook import Workbook

_TEXTS = st.sampled_from(
    [
        "",
        "7",
        "696f0fd40772ad476ecf74ac",
        "a b",
        " x ",
        "&lt;&amp;",
        "ä\u20ac𝄞",
        "a>b",
        "x\ny",
        "x\r\ny",
        "]]&gt;",
    ]
)
_ATTRIBUTES = st.sampled_from(
    [
        *("", ' spans="1:4"', ' spans="1:4" x14ac:dyDescent="0.25"', ' hidden="1"', ' hidden="false"'),
        *(' customFormat="false" ht="12.8" hidden="true" collapsed="false"', " hidden='1'", ' s="1"  ht="3"'),
    ]
)
_CELLS = st.sampled_from(
    [
        *('<c r="{at}"{s}><v>{text}</v></c>', '<c r="{at}"{s} t="n"><v>{text}</v></c>'),
        *(
            '<c r="{at}"{s} t="inlineStr"><is><t>{text}</t></is></c>',
            '<c r="{at}"{s}/>',
            '<c r="{at}"{s}></c>',
        ),
        '<c r="{at}" t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>',
        '<c r="{at}" t="inlineStr"><is><r><t>{text}</t></r><r><t>more</t></r></is></c>',
        *('<c r="{at}" t="str"{s}><f>A1</f><v>{text}</v></c>', "<c r='{at}'><v>{text}</v></c>"),
        *("<c><v>{text}</v></c>",),
        '<c r="{at}" cm="1"><v>{text}</v></c>',
    ]
)
_STYLES = st.sampled_from(["", ' s="0"', ' s="12"'])
_rows = st.lists(
    st.tuples(
        _ATTRIBUTES, st.lists(st.tuples(_CELLS, _STYLES, _TEXTS), max_size=4), st.sampled_from(["", "\n  "])
    ),
    max_size=6,
)


def written(rows: list[tuple[str, list[tuple[str, str, str]], str]]) -> str:
    """Write rows as XML."""
    text = ""
    for number, (attributes, cells, between) in enumerate(rows, 1):
        inner = "".join(
            cell.format(at=f"{column}{number}", s=style, text=value)
            for column, (cell, style, value) in zip(("A", "B", "AB", "XFD"), cells, strict=False)
        )
        text += between + (
            f'<row r="{number}"{attributes}>{inner}</row>' if inner else f'<row r="{number}"/>'
        )
    return text


def found(xml: str) -> tuple[list[Row], bool]:
    """Return a sheet's rows, and whether it is damaged behind them."""
    workbook = Workbook(Package(io.BytesIO(package(parts(xml))), "book.xlsx"))
    rows: list[Row] = []
    try:
        rows.extend(workbook.sheets[0].rows())
    except FileError:
        return rows, True
    return rows, False


def parsed(xml: str) -> tuple[list[Row], bool]:
    """Do so with nothing but the parser: a comment before the rows leaves all to it."""
    return found(xml.replace("<sheetData>", "<!-- a --><sheetData>", 1))


@given(_rows)
@settings(deadline=None, max_examples=80)
def test_rows_are_the_same_as_the_parser_has_them(
    rows: list[tuple[str, list[tuple[str, str, str]], str]],
) -> None:
    """Of any program, with comments, rich texts, formulas and blanks between them."""
    xml = sheet(written(rows), behind='<mergeCells><mergeCell ref="A1:B2"/></mergeCells>')
    assert found(xml) == parsed(xml)


@given(_rows, st.integers(0, 10**6))
@settings(deadline=None, max_examples=60)
def test_damage_is_damage(rows: list[tuple[str, list[tuple[str, str, str]], str]], seed: int) -> None:
    """Where the parser refuses a sheet it is refused; the rows before the damage are the same."""
    chance = random.Random(seed)
    text = list(written(rows))
    for _ in range(chance.randint(1, 3) if text else 0):
        at = chance.randrange(len(text))
        text[at : at + chance.randint(0, 3)] = chance.choice(
            string.printable + "<>/&\ufffe"
        ) * chance.randint(0, 2)
    xml = sheet("".join(text))
    (its, is_damaged), (by_parser, too) = found(xml), parsed(xml)
    assert (is_damaged, its[: len(by_parser)]) == (too, by_parser)
    assert is_damaged or len(its) == len(by_parser)


def test_rows_go_on_from_piece_to_piece() -> None:
    """However they are cut where they are read; a comment in the middle leaves the rest to the parser."""
    one = '<row r="{}"><c r="A{}" t="inlineStr"><is><t>text €{}</t></is></c><c r="B{}"><v>{}</v></c></row>'
    many = [one.format(*[n] * 5) for n in range(1, 5001)]
    rows, _ = found(sheet("".join(many)))
    assert [row.number for row in rows] == list(range(1, 5001))
    assert rows[4321].cells[1].text == "text €4322"
    for odd in ("<!-- </row> -->", "<?odd </row>?>"):
        assert found(sheet("".join([*many[:2500], odd, *many[2500:]])))[0] == rows
    cell = '<row r="5001"><c r="A5001"><v><![CDATA[</row>]]></v></c></row>'
    assert found(sheet("".join([*many, cell])))[0][-1].cells[1].text == "</row>"
