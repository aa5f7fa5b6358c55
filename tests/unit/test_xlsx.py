"""What a person sees in a workbook is what is read, row by row; what can't be certain is named."""

import datetime as dt
import gzip
import io
import random
import string
import struct
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import libreoffice
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st
from python_calamine import CalamineWorkbook
from workbooks import DECLARED, content, package, parts, saved, sheet, texts

from worker.domain.invalid import Invalid
from worker.domain.item import Remarks, Source
from worker.domain.parsing import parse_item
from worker.errors import ConfigError, FileError
from worker.files.columns import Names
from worker.files.reader import read_rows
from worker.files.totals import LEFT_OUT
from worker.files.xlsx_looks import Look, look_of
from worker.files.xlsx_rows import SheetOptions
from worker.files.xlsx_writer import xlsx_pieces

BADGE = "696f0fd40772ad476ecf74ac"
HEADER = ("badgeMetaId", "customerId", "earnEventDateISO", "earnExpiresOn")
HEAD = texts(1, *HEADER)
A2 = f'<c r="A2" t="str"><v>{BADGE}</v></c>'
SHEET = "xl/worksheets/sheet1.xml"


def read(
    data: bytes, *mappings: str, name: str = "book.xlsx", **options: Any
) -> tuple[list[Source], Remarks]:
    """Read all rows of a workbook, and what is to be said of it."""
    sheets = SheetOptions(**options)
    stream = io.BytesIO(data)
    names = Names.parse(mappings)
    return list(read_rows(stream, name=name, names=names, without_dates=True, sheets=sheets)), sheets.remarks


def said(remarks: Remarks) -> list[str]:
    """Return what is to be said, with its rows."""
    return [f"{it.reason}: {', '.join(it.rows)}" for it in remarks.warned()]


def refusal(data: bytes, error: type[Exception] = FileError, **options: Any) -> str:
    """Return why a workbook is refused."""
    with pytest.raises(error) as caught:
        read(data, **options)
    return str(caught.value)


def row_of(cells: str, **options: Any) -> Source:
    """Return the one row that these cells, of row 2, make."""
    (found,), _ = read(package(parts(sheet(f'{HEAD}<row r="2">{cells}</row>'), **options)))
    return found


def value_of(cell: str, column: str = "customerId", **options: Any) -> Any:
    """Return what a cell of a column, B or C or D, is read as."""
    return row_of(f'<c r="A2" t="inlineStr"><is><t>{BADGE}</t></is></c>{cell}', **options).item.get(column)


def fault_of(source: Source) -> str:
    """Return what is wrong with a row."""
    issue = parse_item(source.item)
    assert isinstance(issue, Invalid), source
    return str(issue)


def test_a_table_is_found_where_it_is() -> None:
    """Title, blank rows, a header below them, columns from B on: rows keep Excel's numbers."""
    rows = [[], ["", "Campaign of autumn 2026"], [], ["", *HEADER], ["", BADGE, 7, None, 1705828011]]
    rows += [[], ["", BADGE, "8", "2025-09-10T15:00:00+05:30", "1705828011"]]
    found, remarks = read(content(saved(rows)))
    assert [(row.row, row.item) for row in found] == [
        ("5", {"badgeMetaId": BADGE, "customerId": "7", "earnExpiresOn": "1705828011"}),
        (
            "7",
            {"badgeMetaId": BADGE, "customerId": "8"}
            | {"earnEventDateISO": "2025-09-10T15:00:00+05:30", "earnExpiresOn": "1705828011"},
        ),
    ]
    assert not said(remarks)


def test_names_are_mapped_as_in_any_file() -> None:
    """Columns of other names are mapped, kept beside or refused; line breaks in a name are blanks."""
    data = content(saved([["Badge", "Customer\nnumber", "Who"], [BADGE, 7, "Ann"]]))
    ((row,), _) = read(data, "Badge=badgeMetaId", "Customer number=customerId", "Who=")
    assert row.item == {"badgeMetaId": BADGE, "customerId": "7"}
    assert row.others == {"Who": "Ann"}
    assert "none of the first 50 rows" in refusal(data)
    with pytest.raises(FileError, match=r"unknown column “Who”.*badges import book.xlsx --map.*Who="):
        read(data, "Badge=badgeMetaId", "Customer number=customerId", sheet="members")


def test_the_sheet_that_is_meant_is_read_and_the_others_are_named() -> None:
    """Empty sheets are nothing; others, hidden ones above all, are named; two that fit are a question."""
    workbook = saved([HEADER, [BADGE, 7]])
    workbook.create_sheet("Sheet2")
    workbook.create_sheet("Notes").append(["Ask Ann"])
    hidden = workbook.create_sheet("Old list")
    hidden.append(HEADER)
    hidden.append([BADGE, 8])
    hidden.sheet_state = "veryHidden"
    found, remarks = read(content(workbook))
    assert [row.item["customerId"] for row in found] == ["7"]
    assert said(remarks) == [
        "the sheet “Notes” names no columns of a badge, and isn't read: ",
        "the sheet “Old list” is hidden, and isn't read: ",
    ]
    found, remarks = read(content(workbook), sheet="old LIST")
    assert [row.item["customerId"] for row in found] == ["8"]
    hidden.sheet_state = "visible"
    assert "--sheet Members or --sheet 'Old list'" in refusal(content(workbook), ConfigError)
    assert "has no sheet “Nope”; it has “Members”, “Sheet2”" in refusal(
        content(workbook), ConfigError, sheet="Nope"
    )
    assert "“Sheet2” is empty" in refusal(content(workbook), sheet="Sheet2")


def test_a_workbook_with_nothing_to_see_is_empty() -> None:
    """A hidden sheet alone isn't taken."""
    workbook = saved([HEADER, [BADGE, 7]], "Secret")
    workbook.create_sheet("Front")
    workbook["Secret"].sheet_state = "hidden"
    assert "is empty; the sheet “Secret” is hidden" in refusal(content(workbook))
    workbook["Front"].append(["Read me"])
    assert "row 1 reads “Read me”; the sheet “Secret” is hidden, and isn't read" in refusal(content(workbook))


def test_hidden_rows_and_columns_are_never_taken_silently() -> None:
    """Rows that a filter hides are left out and named, or taken by option; a hidden column is named."""
    workbook = saved([HEADER, [BADGE, 7], [BADGE, 8], [BADGE, 9]])
    workbook["Members"].row_dimensions[3].hidden = True
    workbook["Members"].column_dimensions["B"].hidden = True
    found, remarks = read(content(workbook))
    assert [row.row for row in found] == ["2", "4"]
    assert said(remarks) == [
        "column B (customerId) is hidden, and is read: ",
        "a row that is hidden in the sheet, by a filter or by hand, is left out (--hidden-rows takes it): 3",
    ]
    found, _ = read(content(workbook), hidden_rows=True)
    assert [row.row for row in found] == ["2", "3", "4"]


@pytest.mark.parametrize(
    "last",
    [
        ["Total", 2],
        ["Total:", 2],
        ["Gesamt", 15],
        ["Total (2 rows)", 2],
        ["Gesamt: 2 Kunden", 2],
        [None, "=SUM(B2:B3)"],
        ["", "=SUBTOTAL(103,Table1[customerId])"],
    ],
)
def test_a_row_of_totals_is_no_badge(last: list[Any]) -> None:
    """It is left out and named, also where its number could be a customer's."""
    found, remarks = read(content(saved([HEADER, [BADGE, 7], [BADGE, 8], [], last])))
    assert [row.row for row in found] == ["2", "3"]
    assert said(remarks) == [f"{LEFT_OUT}: 5"]


@pytest.mark.parametrize(
    "formula",
    [
        "=SUM(D2:E2)",
        "=MAX($D2, $E2)",
        "=SUM(D$2:D2)",
        "=SUM(Points!C7:M7)",
        "=SUM(Table1[[#This Row],[Q1]:[Q2]])",
        "=SUM(@C:C)",
    ],
)
def test_a_formula_along_its_row_adds_up_what_one_customer_has(formula: str) -> None:
    """Such a row is a customer's, also where the badge is set for all rows; below them is the total."""
    rows = [[*HEADER[:2], "Points"], ["Gold", 7, formula], ["Gold", 8, 3], [None, 2, "=SUM(C2:C3)"]]
    found, remarks = read(content(saved([*rows, [None, "=SUM(Members!B2:B3)", 3]])), "Points=")
    assert [row.item["customerId"] for row in found] == ["7", "8"]
    assert said(remarks) == [f"{LEFT_OUT}: 4, 5"]


@pytest.mark.parametrize(
    "formula", ["=MAX(C:C)", "=AVERAGE(Members[Points])", "=SUM(Data!C10:C14)", "=SUM($C$9:$C$20)"]
)
def test_a_formula_that_stands_in_every_row_is_no_total(formula: str) -> None:
    """Whatever it adds up: below them is the total."""
    rows = [
        ["customerId", "Points", "Best"],
        *([n, 3, formula] for n in (7, 8, 9)),
        [None, "=SUM(B2:B4)", None],
    ]
    names = Names({"Points": None, "Best": None}, {"badgeMetaId": BADGE})
    sheets = SheetOptions()
    found = [*read_rows(io.BytesIO(content(saved(rows))), name="f", names=names, sheets=sheets)]
    assert [row.item["customerId"] for row in found] == ["7", "8", "9"]
    assert [it.rows for it in sheets.remarks.warned()] == [("5",)]


def test_a_total_above_the_rows_is_one() -> None:
    """In the first row a customer's number tells."""
    rows = [[*HEADER[:2], "Points"], [None, "=COUNT(B3:B4)", "=SUM(C3:C4)"], [None, 7, 3], [None, 8, 4]]
    names = Names({"Points": None}, {})
    sheets = SheetOptions()
    found = [*read_rows(io.BytesIO(content(saved(rows))), name="f", names=names, sheets=sheets)]
    assert [row.row for row in found] == ["3", "4"]


@pytest.mark.parametrize("hidden", [1, 3])
def test_names_of_columns_that_are_hidden_are_read_and_told(hidden: int) -> None:
    """By a filter, say: what stands below them would be misread else."""
    rows = [[*HEADER[:2], "Store"], [BADGE, 7, 601], ["badgeMetaId", "Store", "customerId"], [BADGE, 602, 8]]
    workbook = saved(rows)
    workbook["Members"].row_dimensions[hidden].hidden = True
    if hidden == 1:
        workbook["Members"].delete_rows(3, 2)
        found, remarks = read(content(workbook), "Store=")
        assert [row.row for row in found] == ["2"]
        assert said(remarks) == ["row 1, which names the columns, is hidden, and is read: "]
    else:
        with pytest.raises(FileError, match="row 3 names the columns again, but otherwise"):
            read(content(workbook), "Store=")


def test_a_badge_is_a_badge_whatever_stands_beside_it() -> None:
    """A person called Total, and a customer that a formula looked up, are no totals."""
    rows = [[*HEADER[:2], "Name"], [BADGE, 7, "Total"]]
    found, remarks = read(content(saved(rows)), "Name=")
    assert len(found) == 1
    assert not said(remarks)


def test_a_sheet_s_number_is_that_of_its_tab() -> None:
    """Hidden sheets have no tab, charts have one; which sheet a number means is said."""
    workbook = saved([HEADER, [BADGE, 999]], "Old")
    workbook["Old"].sheet_state = "hidden"
    workbook.create_chartsheet("Chart")
    for customer, title in enumerate(("January", "February"), 1):
        sheet = workbook.create_sheet(title)
        sheet.append(HEADER)
        sheet.append([BADGE, customer])
    data = content(workbook)
    for number, title in enumerate(("January", "February"), 2):
        (row,), remarks = read(data, sheet=str(number))
        assert row.item["customerId"] == str(number - 1)
        assert said(remarks) == [f"the sheet “{title}” is read: "]
    assert "tab 1, “Chart”, is a chart" in refusal(data, ConfigError, sheet="1")
    assert "has no sheet “4”" in refusal(data, ConfigError, sheet="4")
    (row,), remarks = read(data, sheet="old")
    assert said(remarks) == ["the sheet “Old” is hidden, and is read: "]


ONE_WAY = [  # the last row, and how many rows are left out of it and the one before
    (["badgeMetaId", "customerId"], ["Total", "2"], 1),
    (["customerId", "badgeMetaId"], ["Total:", "2"], 1),
    (["badgeMetaId", "customerId", "earnExpiresOn"], ["Summe", "2", "1905828011"], 1),
    (["badgeMetaId", "customerId", "earnExpiresOn"], ["Total", "", "2"], 1),
    (["badgeMetaId", "customerId", "Name"], ["gold", "2", "Total"], 0),
    (["badgeMetaId", "customerId", "Name"], ["", "2", "Total"], 1),
    (["badgeMetaId", "customerId", "Name", "City"], ["", "2", "Total", "Paris"], 0),
    (["badgeMetaId", "customerId"], [BADGE, "Total"], 0),
    (["badgeMetaId", "customerId"], ["count", "5"], 1),
    (["badgeMetaId", "customerId"], [" TOTAL", "5"], 1),
    (["badgeMetaId", "customerId"], ["ИТОГО", "5"], 1),
    (["badgeMetaId", "customerId"], ["counting", "5"], 0),
]


@pytest.mark.parametrize(("header", "last", "left_out"), ONE_WAY)
def test_a_row_of_totals_is_told_one_way_in_all_tables(
    header: list[str], last: list[str], left_out: int
) -> None:
    """What reads as a total where a badge stands would go out as one."""
    first = [BADGE if name == "badgeMetaId" else "7" for name in header]
    text = "".join(",".join(row) + "\n" for row in (header, first, last)).encode()
    for data, name in ((content(saved([header, first, last])), "f.xlsx"), (text, "f.csv")):
        remarks = Remarks()
        names = Names({it: None for it in ("Name", "City") if it in header})
        rows = [*read_rows(io.BytesIO(data), name=name, names=names, sheets=SheetOptions(remarks=remarks))]
        assert [row.row for row in rows] == ["2", "3"][: 2 - left_out]
        assert said(remarks) == [f"{LEFT_OUT}: 3"] * left_out


ADDED = [
    *('"10"0000', "\\1\\0####", '[Red]"No 4-"0', '0"00"', 'General"00"', "0\\0", '0"-01"', '"10"General'),
    *('"10"?', '"10"@', '"10"-0000', "[$10]0000", '"7"', '[=42]"43";0', '"VIP";"x"', "[h]:mm", ";;;"),
]
SCALED = [
    *("0%", "0.00%", "#,##0.0 %", "0,", "#,##0,,", "#,##0.0,", '0.0,"k"', "#,", '[<1000]0;0.0,"K"'),
    '[>999]0,"K";0',
]


@pytest.mark.parametrize("code", [*ADDED, *SCALED])
def test_a_number_that_is_shown_with_other_digits_is_no_id(code: str) -> None:
    """Its format makes 100042 or 4200% of 42, or nothing, and nobody who sees it means customer 42."""
    workbook = saved([HEADER, [BADGE, 42]])
    workbook["Members"]["B2"].number_format = code
    (row,), _ = read(content(workbook))
    assert "is shown by its format" in fault_of(row)


@pytest.mark.parametrize("code", ['"10"@', '0;0;0;"10"@', ";;;", '0;0;0;"x"'])
def test_a_text_that_is_shown_otherwise_is_no_id(code: str) -> None:
    """A format has a part for texts as well."""
    workbook = saved([HEADER, [BADGE, "42"]])
    workbook["Members"]["B2"].number_format = code
    (row,), _ = read(content(workbook))
    assert "is shown by its format" in fault_of(row)


OWN = [
    *("0", "#,##0", "#,##0.00", "#,##0 \\%", '0"%"', "General", "0.00E+00", "# ?/?", "@", "[Red]0;[Blue]-0"),
    *('_-* #,##0_-;-* #,##0_-;_-* "-"??_-;_-@_-', "[$€-407] 0", "[<=9999999]###-####;(###) ###-####"),
    "0;;;@",
]


@pytest.mark.parametrize("code", OWN)
def test_a_number_that_is_shown_with_its_own_digits_is_one(code: str) -> None:
    """However they are grouped, and whatever is written beside them."""
    assert look_of(code) == Look()


ZEROS = [("00000", 5), ("00,000", 5), ("0000-0000", 8), ("0000#", 5), ("000.0", 3)]


@pytest.mark.parametrize(("code", "zeros"), ZEROS)
def test_leading_zeros_count_however_they_are_grouped(code: str, zeros: int) -> None:
    """They are seen, and a number doesn't keep them."""
    assert look_of(code) == Look(zeros=zeros)


DATES = [
    *(("dd.mm.yyyy", "date"), ('dd.mm."20"yy', "date"), ("[$-409]d-mmm-yy;@", "date")),
    ("[$-411]ge.m.d", "date"),
    *(("yyyy-mm-dd\\Thh:mm:ss", "datetime"), ("m/d/yy h:mm", "datetime"), ("[$-F400]h:mm:ss AM/PM", "time")),
    *(("dddd, mmmm dd, yyyy", "date"), ("mm:ss.0", "time"), ('yyyy"年"m"月"d"日"', "date")),
]


@pytest.mark.parametrize(("code", "kind"), DATES)
def test_a_format_of_dates_is_one(code: str, kind: str) -> None:
    """Minutes are told from months by what stands beside them."""
    assert look_of(code) == Look(kind)


HIDING = [
    *(("mmm-yy", "no day"), ("mm/yy", "no day"), ("yyyy", "no day and no month"), ("d-mmm", "no year")),
    *(("dddd mmm yyyy", "no day"), ('"31.12."yyyy', "other digits"), ('dd.mm.yyyy "-05:00"', "other digits")),
    *(('yyyy-mm-dd"T"hh:mm:ss"Z"', "writes a zone"), ('d.m.yyyy h:mm" UTC"', "writes a zone")),
    *(("yyyy-mm-dd hh:mm\\Z", "writes a zone"), ("hh:mm", "without its day")),
    *(("h:mm AM/PM", "without its day"), ("dddd", "no day and no month and no year")),
]


@pytest.mark.parametrize(("code", "why"), HIDING)
def test_a_date_is_taken_only_if_its_format_shows_all_of_it(code: str, why: str) -> None:
    """Dec-27 may be any day of December, and the zone that a format writes is none of the cell's."""
    workbook = saved([HEADER, [BADGE, 42, dt.datetime(2027, 12, 1, 12, 30)]])  # noqa: DTZ001
    workbook["Members"]["C2"].number_format = code
    (row,), _ = read(content(workbook))
    assert why in fault_of(row)


@pytest.mark.parametrize("number", ["x", "1.0", "+1", "-1", "1e0", "٣", "99", "0x1"])
def test_a_text_that_is_not_there_is_damage(number: str) -> None:
    """Any other text in its place would be somebody else's id."""
    cell = f'<c r="B2" t="s"><v>{number}</v></c>'
    data = package(parts(sheet(f'{HEAD}<row r="2">{A2}{cell}</row>'), strings=["<t>7</t>", "<t>42</t>"]))
    assert "damaged" in refusal(data)
    assert value_of('<c r="B2" t="s"><v> 1\n</v></c>', strings=["<t>7</t>", "<t>42</t>"]) == "42"


SPOKEN = '<rPh sb="0" eb="2"><t>no</t></rPh>'


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('<c r="B2"><v>555567088</v></c>', "555567088"),
        ('<c r="B2" t="n"><v>555567088.0</v></c>', "555567088"),
        ('<c r="B2"><v>5.5556708800000003E8</v></c>', "555567088"),
        ('<c r="B2"><v>999999999999999</v></c>', "999999999999999"),
        ('<c r="B2"><v>1.5</v></c>', "1.5"),
        ('<c r="B2"><v>-3</v></c>', "-3"),
        ('<c r="B2" s="3"><v>12345</v></c>', "00012345"),
        ('<c r="B2" t="s"><v>0</v></c>', "0042"),
        ('<c r="B2" t="s"><v>1</v></c>', "in two"),
        ('<c r="B2" t="s"><v>2</v></c>', "a\tb_x0009_"),
        (
            f'<c r="B2" t="inlineStr"><is><r><t>4</t></r>{SPOKEN}<r><t>2</t></r></is></c>',
            "42",
        ),
        ('<c r="B2" t="str"><f>A1&amp;""</f><v>42</v></c>', "42"),
        ('<c r="B2" t="b"><v>1</v></c>', True),
        ('<c r="B2" t="b"><v>0</v></c>', False),
        ('<c r="B2" t="s"><v></v></c>', None),
        ('<c r="B2" s="1"/>', None),
    ],
)
def test_a_cell_is_read_as_it_is_typed(cell: str, value: object) -> None:
    """Numbers keep their digits, texts are texts, a format's leading zeros count, nothing is nothing."""
    strings = [
        "<t>0042</t>",
        f'<r><rPr><b/></rPr><t xml:space="preserve">in </t></r><r><t>two</t></r>{SPOKEN}',
        "<t>a_x0009_b_x005F_x0009_</t>",
    ]
    assert value_of(cell, strings=strings) == value


@pytest.mark.parametrize(
    ("style", "number", "value"),
    [
        (2, "45910.625", "2025-09-10T15:00:00"),
        (2, "45910.6249884259", "2025-09-10T14:59:59"),  # 15 digits, as LibreOffice writes
        (2, "45910.624999999993", "2025-09-10T15:00:00"),
        (2, "45910.6250014699", "2025-09-10T15:00:00.127"),
        (2, "45910", "2025-09-10T00:00:00"),
        (1, "45910", "2025-09-10"),
        (1, "45910.5", "2025-09-10T12:00:00"),
        (1, "2958465", "9999-12-31"),
        (0, "45910", "45910"),
        (5, "45910", "number 45910"),
    ],
)
def test_a_date_is_what_the_cell_shows(style: int, number: str, value: str) -> None:
    """Whole milliseconds, no zone, a time only where there is one; a number without the format is none."""
    cell = f'<c r="C2" s="{style}"><v>{number}</v></c>'
    assert value_of(cell, "earnEventDateISO") == value


def test_dates_may_count_from_1904() -> None:
    """The workbook says so, and its dates are four years later."""
    cell = '<c r="C2" s="1"><v>44448</v></c>'
    for flag in ("1", "true"):
        assert (
            value_of(cell, "earnEventDateISO", properties=f'<workbookPr date1904="{flag}"/>') == "2025-09-10"
        )
    assert value_of(cell, "earnEventDateISO", properties='<workbookPr date1904="0"/>') == "2021-09-09"


def test_a_date_of_a_cell_has_no_zone() -> None:
    """So it is refused as any such date is: UTC is never assumed."""
    row = row_of(
        f'<c r="A2" t="str"><v>{BADGE}</v></c><c r="B2"><v>7</v></c><c r="C2" s="2"><v>45910.5</v></c>'
    )
    assert "earnEventDateISO: is a cell's date, “2025-09-10T12:00:00”, which has no zone" in fault_of(row)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ('<c r="B2"><v>1000000000000000</v></c>', "customerId: is a number of more than 15 digits"),
        ('<c r="B2"><v>9.2233720368547758E+18</v></c>', "customerId: is a number of more than 15 digits"),
        ('<c r="B2" t="e"><v>#N/A</v></c>', "customerId: the cell shows the error #N/A"),
        ('<c r="B2" t="e"><v>#REF!</v></c>', "customerId: the cell shows the error #REF!"),
        ('<c r="B2" t="b"><v>1</v></c>', "customerId: must be a whole number, not true or false"),
        ('<c r="B2"><f>A1*2</f><v/></c>', "customerId: the cell is a formula whose value isn't stored"),
        ('<c r="B2"><f>A1*2</f></c>', "customerId: the cell is a formula whose value isn't stored"),
        ('<c r="B2"><v>nonsense</v></c>', "customerId: the cell shows the error #NUM!"),
        ('<c r="C2" s="4"><v>0.5</v></c>', "earnEventDateISO: the cell is a time without a day"),
        (
            '<c r="C2" s="1"><v>-5</v></c>',
            "earnEventDateISO: the cell is shown as a date",
        ),
        ('<c r="C2" s="1"><v>2958466</v></c>', "earnEventDateISO: the cell is shown as a date"),
        ('<c r="D2"><v>45910</v></c>', "earnExpiresOn: must be an epoch, and “45910” would be"),
        ('<c r="D2" s="1"><v>45910</v></c>', "earnExpiresOn: is a cell's date, “2025-09-10”"),
        ('<c r="D2"><v>1705828011000000</v></c>', "reads as microseconds"),
    ],
)
def test_what_cannot_be_certain_is_a_fault_of_its_field(cell: str, words: str) -> None:
    """Also when the row is read again, as a text of a report: it never becomes a badge by that."""
    customer = "" if 'r="B2"' in cell else '<c r="B2"><v>7</v></c>'
    row = row_of(f"{A2}{customer}{cell}")
    assert words in fault_of(row)
    fault_of(row._replace(item={name: str(value) for name, value in row.item.items()}))


@pytest.mark.parametrize(
    "cell",
    [
        '<c r="A2"><v>6.9600704007208476E+23</v></c>',
        '<c r="A2" t="e"><v>#FIELD!</v></c>',
        '<c r="A2" t="b"><v>1</v></c>',
        '<c r="A2"><f>B7</f></c>',
        '<c r="A2" s="4"><v>0.5</v></c>',
    ],
)
def test_what_is_no_id_never_becomes_one(cell: str) -> None:
    """A badge's id takes nearly any text: what a cell shows instead of one is told from it, also later."""
    row = row_of(f'{cell}<c r="B2"><v>7</v></c>')
    assert "badgeMetaId" in fault_of(row)
    kept = {name: str(value) for name, value in row.item.items() if not isinstance(value, bool)}
    assert "badgeMetaId" in fault_of(row._replace(item=kept))


def test_a_number_can_be_an_id_of_ones_own() -> None:
    """Short numbers are what was typed, with the zeros that a format shows: one job, by CSV or XLSX."""
    data = content(saved([[*HEADER[:2], "job_id"], [BADGE, 7, 42], [BADGE, 7, 43]]))
    found, _ = read(data)
    assert [row.item["job_id"] for row in found] == ["42", "43"]
    cells = f'<c r="A2" t="str"><v>{BADGE}</v></c><c r="B2"><v>7</v></c><c r="C2" s="3"><v>42</v></c>'
    book = package(parts(sheet(f'{texts(1, *HEADER[:2], "job_id")}<row r="2">{cells}</row>')))
    assert read(book)[0][0].item["job_id"] == "00000042"


def test_formulas_are_taken_by_their_stored_value_with_a_warning() -> None:
    """The field is named; one of a column that stands for no field is nothing to warn of."""
    row = row_of(f'<c r="A2" t="str"><f>X1</f><v>{BADGE}</v></c><c r="B2"><f t="shared" si="0"/><v>7</v></c>')
    assert row.item == {"badgeMetaId": BADGE, "customerId": "7"}
    taken = "is a formula: its stored value is taken"
    assert row.warning == f"badgeMetaId {taken}; customerId {taken}"


@pytest.mark.parametrize("kind", ["array", "dataTable"])
def test_what_a_formula_of_another_cell_fills_is_one_s_value(kind: str) -> None:
    """Only the first of its cells has the formula; the range may end in any row, and lie beside others."""
    first = f'<c r="A2" t="str"><v>{BADGE}</v></c><c r="B2"><f t="{kind}" ref="B2:B3">X1:X2</f><v>7</v></c>'
    rows = f'{HEAD}<row r="2">{first}</row>' + "".join(
        f'<row r="{n}"><c r="A{n}" t="str"><v>{BADGE}</v></c><c r="B{n}"><v>{n}</v></c></row>' for n in (3, 4)
    )
    found, _ = read(package(parts(sheet(rows))))
    taken = "customerId is a formula: its stored value is taken"
    assert [(row.row, row.warning) for row in found] == [("2", taken), ("3", taken), ("4", "")]


@pytest.mark.parametrize("slowly", [False, True])
def test_what_has_no_height_or_width_is_hidden(*, slowly: bool) -> None:
    """Nobody sees it either; other heights are nothing."""
    heights = {2: ' ht="15"', 3: ' ht="0" customHeight="1"', 4: ' ht="0.75"', 5: ' ht="0.0"'}
    rows = "".join(
        texts(n, BADGE, str(n)).replace(f'r="{n}">', f'r="{n}"{ht}>', 1) for n, ht in heights.items()
    )
    rows = rows.replace("<c ", "<c  ") if slowly else rows
    data = package(parts(sheet(HEAD + rows, '<cols><col min="2" max="2" width="0" customWidth="1"/></cols>')))
    found, remarks = read(data)
    assert [row.row for row in found] == ["2", "4"]
    assert [it.rows for it in remarks.warned()] == [(), ("3", "5")]


def test_of_two_tables_the_other_is_told() -> None:
    """The lower one has more of the fields, and is read; nothing of the upper one is."""
    above = [["customerId", "earnExpiresOn"], [7, 1905828011], [8, 1905828011], []]
    found, remarks = read(content(saved([*above, HEADER[:3], [BADGE, 9]])))
    assert [row.item["customerId"] for row in found] == ["9"]
    why = "row 1 names columns as well, but fewer than row 5: what stands between them isn't read"
    assert said(remarks) == [f"{why}: "]


def test_merged_ranges_are_named_where_they_hide_a_field() -> None:
    """Only the first cell of a range has the value; a stale one below it isn't taken."""
    rows = [HEADER, [BADGE, 7], [None, 8], [BADGE, 9, "2025-09-10T15:00:00+05:30"], [BADGE, 10]]
    workbook = saved([["All of it"], *rows, [], ["a", "b"]])
    members = workbook["Members"]
    for merged in ("A1:D1", "A3:A4", "C5:C6", "A8:B8"):
        members.merge_cells(merged)
    found, _ = read(content(workbook))
    assert not isinstance(parse_item(found[0].item), Invalid)
    assert "badgeMetaId: is one of the merged cells A3:A4" in fault_of(found[1])
    assert not isinstance(parse_item(found[2].item), Invalid)
    assert "earnEventDateISO: is one of the merged cells C5:C6" in fault_of(found[3])
    stale = sheet(
        f"{HEAD}{texts(2, BADGE, '7')}{texts(3, BADGE, '8')}",
        behind='<mergeCells count="1"><mergeCell ref="B2:B3"/></mergeCells>',
    )
    found, _ = read(package(parts(stale)))
    assert "customerId: is one of the merged cells B2:B3" in fault_of(found[1])


def test_a_column_of_dates_without_a_name_is_not_lost() -> None:
    """As below a merged “Dates”, or a second row of names: without it, badges would go out that never end."""
    day = dt.date(2027, 3, 4)
    rows: list[list[Any]] = [[*HEADER[:3], None], [None, None, "From", "Until"]]
    data = content(saved([*rows, *([BADGE, n, day, day] for n in range(1, 8))]))
    with pytest.raises(
        ConfigError, match=r"book\.xlsx, sheet “Members”, lacks earnExpiresOn, and column D"
    ) as no:
        list(read_rows(io.BytesIO(data), name="book.xlsx"))
    assert "which has no name in row 1, looks like a date: name it there" in str(no.value)
    found, _ = read(data)  # which says --without-dates
    assert len(found) == 8


def test_a_note_beside_the_table_is_named() -> None:
    """A cell under no column's name harms nothing, and is said."""
    workbook = saved([HEADER, [BADGE, 7], [BADGE, 8]])
    workbook["Members"]["G3"] = "called on Monday"
    found, remarks = read(content(workbook))
    assert len(found) == 2
    assert said(remarks) == ["a cell under no column's name isn't read: 3"]


LIBREOFFICE_ROW = (
    '<row r="{n}" customFormat="false" ht="12.8" hidden="{hidden}" customHeight="false" outlineLevel="0" '
    'collapsed="false"><c r="A{n}" s="0" t="s"><v>4</v></c><c r="B{n}" s="0" t="n"><v>{customer}</v></c>'
    '<c r="C{n}" s="2" t="n"><v>45910.6250115741</v></c><c r="D{n}" s="0"/></row>'
)


def test_what_libreoffice_saves_is_read() -> None:
    """Truth values in words, every attribute written out, styles without values, formulas with ``aca``."""
    rows = '<row r="1" hidden="false">' + "".join(
        f'<c r="{column}1" s="0" t="s"><v>{n}</v></c>' for n, column in enumerate("ABCD")
    )
    rows += "</row>" + LIBREOFFICE_ROW.format(n=2, hidden="false", customer=7)
    rows += LIBREOFFICE_ROW.format(n=3, hidden="true", customer=8)
    for n, kind, formula, value in ((4, "n", "3*3", "9"), (5, "e", "NA()", "#N/A")):
        rows += f'<row r="{n}"><c r="A{n}" s="0" t="s"><v>4</v></c>'
        rows += f'<c r="B{n}" t="{kind}"><f aca="false">{formula}</f><v>{value}</v></c></row>'
    rows += '<row r="1048576" customFormat="false" ht="12.8" hidden="false"></row>'
    before = (
        '<sheetPr filterMode="true"><pageSetUpPr fitToPage="false"/></sheetPr>'
        '<dimension ref="A1:XFD1048576"/><cols><col collapsed="false" customWidth="false" hidden="false" '
        'min="1" max="1024" width="11"/></cols>'
    )
    strings = [f'<t xml:space="preserve">{text}</t>' for text in (*HEADER, BADGE)]
    data = package(
        parts(
            sheet(rows, before),
            sheet("", "<sheetPr/>"),
            strings=strings,
            properties='<workbookPr backupFile="false" date1904="false"/>',
        )
    )
    found, remarks = read(data)
    assert [row.row for row in found] == ["2", "4", "5"]
    assert found[0].item["earnEventDateISO"] == "2025-09-10T15:00:01"
    assert found[1].warning == "customerId is a formula: its stored value is taken"
    assert "the error #N/A" in fault_of(found[2])
    assert said(remarks) == [
        "a row that is hidden in the sheet, by a filter or by hand, is left out (--hidden-rows takes it): 3"
    ]


def test_what_a_real_libreoffice_saved_is_read() -> None:
    """Workbooks that it opened and saved again (tests/libreoffice.py): what a person sees there is read."""
    found, remarks = read((libreoffice.FOLDER / "members.xlsx").read_bytes())
    assert [(row.row, row.item["customerId"], row.warning) for row in found] == [
        ("4", "500000001", ""),
        ("5", "500000002", ""),
        ("6", "00001234", ""),
        ("7", "500000004", "customerId is a formula: its stored value is taken"),
        ("8", "error #N/A", ""),
        ("10", "rounded 1.23456789012346E+18", ""),
        ("11", True, "customerId is a formula: its stored value is taken"),
    ]
    assert found[0].item["earnEventDateISO"] == "2025-09-10T15:00:01"
    assert said(remarks) == [
        "a row that is hidden in the sheet, by a filter or by hand, is left out (--hidden-rows takes it): 9",
        f"{LEFT_OUT}: 13",
    ]
    found, remarks = read((libreoffice.FOLDER / "since_1904.xlsx").read_bytes())
    assert [row.item["earnEventDateISO"] for row in found] == ["2025-09-10T15:00:01"] * 2
    assert (found[0].item["earnExpiresOn"], fault_of(found[1]).count("D2:D3")) == ("1905828011", 1)


def test_what_other_programs_save_is_read(tmp_path: Path) -> None:
    """Prefixed names, rows and cells without references, Strict's names, parts in another place or case."""
    cells = (
        "".join(f'<x:c t="str"><x:v>{value}</x:v></x:c>' for value in row) for row in (HEADER, (BADGE, "7"))
    )
    rows = "".join(f"<x:row>{of_one}</x:row>" for of_one in cells)
    book = parts(f'<x:worksheet xmlns:x="urn:x"><x:sheetData>{rows}</x:sheetData></x:worksheet>')
    book["XL\\Worksheets\\Sheet1.xml"] = book.pop(SHEET)
    book["_rels/.rels"] = str(book["_rels/.rels"]).replace(
        "schemas.openxmlformats.org", "purl.oclc.org/ooxml"
    )
    (row,), _ = read(package(book))
    assert (row.row, row.item) == ("2", {"badgeMetaId": BADGE, "customerId": "7"})

    file = tmp_path / "constant.xlsx"
    with xlsxwriter.Workbook(file, {"constant_memory": True}) as workbook:
        written = workbook.add_worksheet()
        day = workbook.add_format({"num_format": "d mmmm yyyy"})
        for at, name in enumerate(HEADER):
            written.write(0, at, name)
        written.write_row(1, 0, [BADGE, 7])
        written.write_datetime(1, 2, dt.datetime(2025, 9, 10), day)  # noqa: DTZ001 - as cells are
    (row,), _ = read(file.read_bytes())
    assert row.item == {"badgeMetaId": BADGE, "customerId": "7", "earnEventDateISO": "2025-09-10"}


@pytest.mark.parametrize(
    ("code", "kind", "zeros"),
    [
        ("General", "", 0),
        ("0", "", 0),
        ("0000", "", 4),
        ("000000;-000000", "", 6),
        ("00-00", "", 4),
        ('#,##0.00\\ "Tage";[Red]-#,##0.00', "", 0),
        ("_-* #,##0.00\\ _€_-", "", 0),
        ("0.00E+00", "", 0),
        ("@", "", 0),
        ("yyyy-mm-dd", "date", 0),
        ("d. mmm", "date", 0),
        ("mmmm", "date", 0),
        ("[$-F800]dddd\\,\\ mmmm\\ dd\\,\\ yyyy", "date", 0),
        ("dd/mm/yy hh:mm AM/PM", "datetime", 0),
        ("mm:ss.0", "time", 0),
        ("h:mm", "time", 0),
        ("[h]:mm:ss", "", 0),
        ('"day "0', "", 0),
    ],
)
def test_a_format_tells_what_a_number_is(code: str, kind: str, zeros: int) -> None:
    """By its signs, without texts, colours and padding."""
    look = look_of(code)
    assert (look.kind, look.zeros) == (kind, zeros)


def test_the_content_decides_and_not_the_name() -> None:
    """A workbook called .csv, one that is compressed, one that comes through a pipe, and CSV called .xlsx."""
    data = content(saved([HEADER, [BADGE, 7]]))
    assert read(data, name="members.csv")[0][0].item["customerId"] == "7"
    assert read(gzip.compress(data), name="members.xlsx.gz")[0][0].item["customerId"] == "7"
    piped = io.BufferedReader(_Unseekable(data))
    assert len(list(read_rows(piped, name="-", without_dates=True))) == 1
    csv = f"badgeMetaId,customerId\n{BADGE},7\n".encode()
    assert read(csv, name="members.xlsx")[0][0].item["customerId"] == "7"
    assert "is no Excel workbook, so that --sheet means nothing" in refusal(csv, ConfigError, sheet="A")
    assert "--hidden-rows means nothing" in refusal(csv, ConfigError, hidden_rows=True)


class _Unseekable(io.RawIOBase):
    def __init__(self, data: bytes) -> None:
        self._inner = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._inner.readinto(buffer)


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(5000)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (OLE + "EncryptedPackage".encode("utf-16-le") + bytes(100), "is encrypted with a password"),
        (OLE + "Workbook".encode("utf-16-le"), "is an old Excel workbook (.xls)"),
        (package({"[Content_Types].xml": "", "xl/workbook.bin": ""}), "binary Excel workbook (.xlsb)"),
        (package({"mimetype": "x", "content.xml": ""}), "OpenDocument spreadsheet (.ods)"),
        (package({"[Content_Types].xml": "", "word/document.xml": ""}), "is a Word document"),
        (package({"Index/Document.iwa": ""}), "Apple's Numbers"),
        (package({"members.csv": "a,b"}), "is a zip archive, not a table"),
        (
            b'<?xml version="1.0"?>\n<?mso-application progid="Excel.Sheet"?>\n<Workbook/>',
            "XML spreadsheet of 2003",
        ),
        (b"\xef\xbb\xbf<html><table><tr><td>badgeMetaId</td></tr></table></html>", "is a web page"),
        (b"PK\x03\x04" + bytes(100), "is damaged or cut off"),
    ],
)
def test_what_is_no_xlsx_is_named_with_what_to_do(data: bytes, words: str) -> None:
    """Whatever its name; the words say how to save it."""
    assert words in refusal(data, name="members.xlsx")


def test_a_workbook_that_is_cut_off_or_damaged_gives_no_row() -> None:
    """All of it is held against its checksums before the first row is given."""
    data = content(saved([HEADER, *([BADGE, n] for n in range(1, 4000))]))
    for kept in (0.3, 0.9, 0.999):
        assert "is damaged or cut off" in refusal(data[: int(len(data) * kept)])
    at = data.index(SHEET.encode()) + 2000
    assert "is damaged or cut off" in refusal(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])


def _bomb(part: str, xml: str) -> bytes:
    book = parts(sheet(HEAD + '<row r="2"><c r="A2" s="1"><v>7</v></c><c r="B2" t="s"><v>0</v></c></row>'))
    book[part] = xml
    return package(book)


ENTITIES = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'
)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: _bomb(SHEET, f"{ENTITIES}<worksheet>&c;</worksheet>"), "document type"),
        (lambda: _bomb("xl/sharedStrings.xml", f"{ENTITIES}<sst><si><t>&c;</t></si></sst>"), "document type"),
        (
            lambda: _bomb("xl/workbook.xml", '<!DOCTYPE x SYSTEM "file:///etc/passwd"><workbook/>'),
            "document type",
        ),
        (lambda: _bomb(SHEET, sheet(f'<row r="1"><c r="A1" x="{"a" * 3_000_000}"')), "1 MiB"),
        (
            lambda: _bomb(SHEET, sheet(f'<row><c t="str"><v>{"a" * 3_000_000}</v></c></row>')),
            "longer",
        ),
        (lambda: _bomb(SHEET, sheet('<row r="1048577"/>')), "row 1048577"),
        (lambda: _bomb(SHEET, sheet('<row r="2"/><row r="2"/>')), "row 2 follows row 2"),
        (
            lambda: _bomb(SHEET, sheet('<row r="1"><c r="XFE1"><v>1</v></c></row>')),
            "no column XFE",
        ),
        (
            lambda: _bomb(SHEET, sheet(HEAD + '<row r="2"><c r="A2" t="s"><v>9</v></c></row>')),
            "no text 9",
        ),
        (lambda: _bomb(SHEET, sheet(f"<row>{'<c><v>1</v></c>' * 17_000}</row>")), "more than 16,384 cells"),
        (lambda: _bomb(SHEET, sheet(f"<row><c>{'<v>1</v>' * 1_000_001}</c></row>")), "longer"),
        (lambda: _bomb(SHEET, sheet("<row/>", '<cols><col hidden="1"/>' * 17_000)), "hides more"),
        (lambda: _bomb("xl/styles.xml", "x" * (33 << 20)), "unpacks to 33 MiB, more than 32 MiB"),
        (lambda: _bomb(SHEET, "<worksheet><sheetData>"), "damaged"),
        (lambda: package(dict.fromkeys((f"{n:0250}.xml" for n in range(15_000)), "")), "too many parts"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_bombs_are_refused_in_little_memory(make: Callable[[], bytes], words: str) -> None:
    """Entities, endless tags, absurd places and sizes: each is named, and none fills the memory."""
    with pytest.raises(FileError, match=words):
        sum(1 for _ in read_rows(io.BytesIO(make()), name="bomb.xlsx"))


def _commented(part: str, comment: str) -> bytes:
    book = parts(sheet(HEAD + texts(2, BADGE, "7")))
    before, end, rest = str(book[part]).rpartition("</")
    return package(book | {part: f"{before}<!--{comment}-->{end}{rest}"})


@pytest.mark.parametrize(
    "make",
    [
        lambda: _commented(SHEET, "<mergeCell " * 8_000),
        lambda: package(
            parts(sheet(HEAD + texts(2, BADGE, "7"), f"<!--{'<?xml' * 20_000}-->").removeprefix(DECLARED))
        ),
        lambda: _bomb(
            "xl/styles.xml",
            f'<styleSheet><numFmt numFmtId="164" formatCode="{"[h" * 100_000}"/><cellXfs><xf/>'
            '<xf numFmtId="164"/></cellXfs></styleSheet>',
        ),
        lambda: package(
            parts(
                sheet(
                    HEAD + "".join(texts(n, BADGE, str(n)) for n in range(2, 1_000)),
                    behind='<mergeCell ref="B1:B9999"/>' * 20_000,
                )
            )
        ),
    ],
    ids=["merged ranges", "declarations", "a format", "ranges over each other"],
)
def test_nothing_takes_longer_than_its_length(make: Callable[[], bytes]) -> None:
    """Parts that a pattern could go through again from each of their letters, or rows through each range."""
    data = make()
    began = time.process_time()
    with suppress(FileError):
        read(data)
    assert time.process_time() - began < 2


def test_a_sheet_is_unpacked_once_however_often_it_is_named() -> None:
    """A workbook of a few KiB could otherwise name one large part a million times."""
    book = parts(sheet(HEAD + texts(2, BADGE, "7")))
    listed = str(book["xl/workbook.xml"])
    again = listed.replace("<sheets>", "<sheets>" + '<sheet name="again" r:id="rId1"/>' * 100_000)
    found, _ = read(package(book | {"xl/workbook.xml": again}))
    assert [row.row for row in found] == ["2"]


def test_a_size_that_is_claimed_bounds_what_is_unpacked() -> None:
    """A part gives no more than the archive says, which is held against the bound."""
    data = bytearray(package(parts(sheet(HEAD + texts(2, BADGE, "7") + " " * 50_000_000))))
    at = data.rindex(b"PK\1\2" + data[data.rindex(b"PK\1\2") + 4 : data.rindex(b"PK\1\2") + 6])
    struct.pack_into("<L", data, at + 24, 1000)
    tracemalloc.start()
    assert "is damaged" in refusal(bytes(data))
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_far_cells_and_false_dimensions_cost_nothing() -> None:
    """A sheet is read by what is written in it, not by the rectangle it claims to fill."""
    far = '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    before = '<dimension ref="A1:XFD1048576"/>'
    tracemalloc.start()
    found, _ = read(package(parts(sheet(HEAD + texts(2, BADGE, "7") + far, before))))
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    assert [row.row for row in found] == ["2"]


def test_memory_is_flat() -> None:
    """Thousands of rows, each with a text of its own, take little more than their letters."""
    rows = 10_000
    cells = "".join(
        f'<row r="{n + 2}"><c r="A{n + 2}" t="s"><v>{n}</v></c><c r="B{n + 2}"><v>{n + 1}</v></c></row>'
        for n in range(rows)
    )
    data = package(parts(sheet(HEAD + cells), strings=[f"<t>{n:024x}</t>" for n in range(rows)]))
    stream = io.BytesIO(data)
    tracemalloc.start()
    assert sum(1 for _ in read_rows(stream, name="book", without_dates=True)) == rows
    assert tracemalloc.get_traced_memory()[1] < 3_500_000
    tracemalloc.stop()


CELLS = st.one_of(
    st.none(),
    st.integers(-(10**14), 10**14),
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=20),
    st.sampled_from(["=1+1", "@SUM(A1)", "+5", "'x", "''", "_x0041_", " a ", '<&>"', "0042", "2026-12-31"]),
)


@given(st.lists(st.tuples(CELLS, CELLS), max_size=5))
@settings(deadline=None, max_examples=60)
def test_what_is_written_is_read_back(rows: list[tuple[Any, Any]]) -> None:
    """By this program and by another reader: texts are texts, formulas never are."""
    data = b"".join(xlsx_pieces(("a", "b", "c"), ((BADGE, *row) for row in rows)))
    other = CalamineWorkbook.from_filelike(io.BytesIO(data)).get_sheet_by_index(0)
    there = [["" if it is None else it for it in row] + [""] * (3 - len(row)) for row in other.to_python()]
    assert there == [["a", "b", "c"], *([BADGE, *("" if it is None else it for it in row)] for row in rows)]
    found, _ = read(data, "a=badgeMetaId", "b=customerId", "c=job_id")
    shown = [tuple(row.item.get(name, "") for name in ("customerId", "job_id")) for row in found]
    texts_of = [tuple("" if it is None else str(it) for it in row) for row in rows]
    assert shown == [tuple(it if it.strip() else "" for it in row) for row in texts_of]


@given(st.integers(0, 10**6), st.sampled_from([SHEET, "xl/workbook.xml", "xl/styles.xml"]))
@settings(deadline=None, max_examples=100)
def test_no_bytes_are_too_strange(seed: int, part: str) -> None:
    """Damaged XML ends in rows or in words, never in another error."""
    chance = random.Random(seed)
    book = parts(sheet(HEAD + texts(2, BADGE, "7") + '<row r="3"><c r="A3" s="1"><f>1</f><v>5</v></c></row>'))
    text = bytearray(str(book[part]).encode())
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(text))
        new = chance.choice(string.printable).encode() * chance.randint(0, 3)
        text[at : at + chance.randint(0, 3)] = new
    book[part] = bytes(text)
    with suppress(FileError, ConfigError):
        read(package(book))
