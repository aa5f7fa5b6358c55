"""Whatever a file of badge items looks like, every row of it is found, or named with what is wrong."""

import codecs
import csv
import gzip
import io
import itertools
import json
import re
import time
import tracemalloc
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from shlex import quote
from typing import Any, BinaryIO, cast

import pytest
import workbooks
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from samples import AS_PRINTED

from worker.domain.invalid import Invalid
from worker.domain.item import Remarks, Source
from worker.domain.parsing import parse_item
from worker.errors import ConfigError, FileError
from worker.files.columns import FIELDS, Names, fixed_fields
from worker.files.header import NAMED_AGAIN
from worker.files.reader import read_rows
from worker.files.totals import LEFT_OUT, NO_FIELD, reads_as_total
from worker.files.xlsx_rows import SheetOptions

BADGE = "696f0fd40772ad476ecf74ac"
HEADER = "badgeMetaId,customerId,earnExpiresOn"
LINE = f"{BADGE},555567088,1705828011"
ITEM = {"badgeMetaId": BADGE, "customerId": "555567088", "earnExpiresOn": "1705828011"}
OBJECT = f'{{"badgeMetaId": "{BADGE}", "customerId": 7}}'
SEVEN = {"badgeMetaId": BADGE, "customerId": 7}


class Pipe(io.RawIOBase):
    """A stream that can't seek and has no end until its source has, like standard input."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)
        self._rest = b""

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Give what is left of one part, never more."""
        while not self._rest:
            self._rest = next(self._parts, b"")
            if not self._rest:
                return 0
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def pipe(parts: Iterable[bytes]) -> BinaryIO:
    """Make a stream of the parts."""
    return cast("BinaryIO", Pipe(parts))


def read(content: bytes | str, name: str = "badges", *mappings: str) -> list[Source]:
    """Read all rows of a file with this content."""
    data = content.encode() if isinstance(content, str) else content
    return list(read_rows(io.BytesIO(data), name=name, names=Names.parse(mappings)))


def refusal(content: bytes | str, name: str = "badges", *mappings: str) -> str:
    """Return the reason for which such a file is refused at once."""
    data = content.encode() if isinstance(content, str) else content
    with pytest.raises(FileError) as caught:
        read_rows(io.BytesIO(data), name=name, names=Names.parse(mappings))
    return str(caught.value)


def read_to_the_end(content: str, name: str = "badges") -> tuple[list[Source], str]:
    """Read the rows of a file that fails half-way, and return the reason as well."""
    rows: list[Source] = []
    with pytest.raises(FileError) as caught:
        rows.extend(read_rows(io.BytesIO(content.encode()), name=name))
    return rows, str(caught.value)


def numbers(rows: Iterable[Source], *, good: bool = True) -> list[int]:
    """Return the numbers of the good rows, or of the bad."""
    return [int(row.row) for row in rows if (row.problem is None) == good]


def only_problem(rows: Iterable[Source]) -> Source:
    """Return the one row that was refused."""
    (bad,) = (row for row in rows if row.problem is not None)
    assert bad.item is None
    return bad


# -- CSV: the header


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_the_header_tells_the_delimiter(delimiter: str, quote: str) -> None:
    """Comma, semicolon, tab and pipe are told apart, with quoted names or without."""
    names = delimiter.join(f"{quote}{name}{quote}" for name in HEADER.split(","))
    rows = read(names + "\n" + LINE.replace(",", delimiter) + "\n")
    assert rows == [Source("2", ITEM, LINE.replace(",", delimiter))]


def test_names_are_taken_whatever_their_case_and_underscores() -> None:
    """A name differs from another in more than case, spaces, underscores and dashes."""
    rows = read("Badge_Meta_Id, CUSTOMER-ID ,earn event date iso,Job Id\nb,1,2,3\n")
    item = {"badgeMetaId": "b", "customerId": "1", "earnEventDateISO": "2", "job_id": "3"}
    assert [row.item for row in rows] == [item]


def test_a_mended_report_can_be_read_again() -> None:
    """Columns that our report adds are ignored, but for those that tell of the job; guards are taken off."""
    header = f"row,reason,raw,state,run,org,expiresOn,error,{','.join(FIELDS)}"
    rows = read(
        f'{header}\n7,"was, oh,\n""wrong""",x,dead,r,o,1,e,b,\'{2**62},,,,,J1\n8,,,,,,,,b,2,,,,,\'=2\n'
    )
    assert [row.item for row in rows] == [
        {"state": "dead", "org": "o", "job_id": "J1", "badgeMetaId": "b", "customerId": str(2**62)},
        {"state": "", "job_id": "=2", "badgeMetaId": "b", "customerId": "2"},
    ]
    assert numbers(rows) == [2, 4]


def test_a_report_must_keep_its_columns() -> None:
    """A badge mended without its expiry would never expire; a person's own file may be called as it likes."""
    header = "state,run,badgeMetaId,customerId,earnEventDate,earnEventDateISO,earnExpiresOnISO,job_id"
    said = refusal(f"{header}\ndead,r,b,1,,,,J\n")
    assert "a report must keep its earnExpiresOn; write it again with badges results." in said
    assert "which may issue badges again, remove “state”, “run”.)" in said
    item = dict.fromkeys(header.split(","), "1")
    assert "must keep its earnExpiresOn" in str(only_problem(read(json.dumps(item), "x.jsonl")).problem)
    assert [row.item for row in read("state,badgeMetaId,customerId\nCA,b,1\n")] == [
        {"badgeMetaId": "b", "customerId": "1"}
    ]


@pytest.mark.parametrize("sign", ["reason", "Error_Kind", "error_code", "earnedBadgeId", "requestId"])
def test_what_is_left_of_a_report_is_no_new_file(sign: str) -> None:
    """Its rows were handed in before: without id and state they would be issued again; who maps it knows."""
    header = f"row,{sign},badgeMetaId,customerId"
    said = refusal(f"{header}\n2,x,b,1\n")
    assert "must keep its earnEventDate" in said
    assert "job_id, state; write it again" in said
    assert f"remove “{sign}”.)" in said
    line = json.dumps({"badgeMetaId": "b", "customerId": 1, sign: None})
    assert "must keep its" in str(only_problem(read(line, "x.jsonl")).problem)
    assert [row.item for row in read(f"{header}\n2,x,b,1\n", "x.csv", f"{sign}=")] == [
        {"badgeMetaId": "b", "customerId": "1"}
    ]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            "badgeMetaId,customer",
            ["unknown column “customer” (did you mean customerId?)", "no column customerId"],
        ),
        (
            "customerId,earnExpiresOn",
            ["no column badgeMetaId", "The columns may be badgeMetaId, customerId,"],
        ),
        ("badgeMetaId,customerId,colour", ["unknown column “colour”"]),
        ("badgeMetaId,customerId,expiresOn", ["“expiresOn” (did you mean earnExpiresOn?)"]),
        ("badgeMetaId,customerId,org,Org", ["2 columns that mean org"]),
        ("badgeMetaId,customerId,badge_meta_id", ["2 columns that mean badgeMetaId"]),
        ("badgeMetaId,customerId,custmerId,x", ["badges import badges.csv --map custmerId= --map x="]),
        (
            "Member No,Name;x,expiresOn,badge_meta_id",
            ["badges import badges.csv --map 'Member No=' --map 'Name;x=' --map expiresOn=earnExpiresOn"],
        ),
        (",badgeMetaId,customerId", ["a column without a name", "as pandas does, --map = leaves it out"]),
        (LINE, ["the first line must name the columns", f"“{BADGE}"]),
        (",,,", ["the first line must name the columns"]),
        ('badgeMetaId,"customerId', ["the first line must name the columns"]),
        ("badgeMetaId,customerId,\0", ["header", "NUL"]),
    ],
)
def test_a_header_that_will_not_do_is_explained(header: str, words: list[str]) -> None:
    """The message names the columns at fault, the nearest right ones, and all there are."""
    message = refusal(f"{header}\n{BADGE},555567088,red\n", "badges.csv")
    assert message.startswith("badges.csv")
    for word in words:
        assert word in message


def test_a_columns_name_may_go_over_lines() -> None:
    """As a spreadsheet breaks it within its cell; rows keep the numbers of their lines."""
    text = f'badgeMetaId,"customer\nId","Member\nsince"\n{BADGE},7,x\n{BADGE},8,"y"\n'
    rows = read(text, "f.csv", "Member since=")
    assert [(row.row, row.item["customerId"], row.others) for row in rows] == [
        ("4", "7", {"Member since": "x"}), ("5", "8", {"Member since": "y"}),
    ]  # fmt: skip
    assert "the first line must name the columns" in refusal(f'badgeMetaId,"customerId\n{BADGE},7\n' * 30)


def test_a_header_without_rows_is_an_empty_import() -> None:
    """No rows is no error."""
    assert read(HEADER) == []


def test_padding_of_a_spreadsheet_is_no_column() -> None:
    """Empty columns at the end do no harm; a cell in them is a problem: its column's name may be lost."""
    rows = read(f"sep=,\n{HEADER},,\n{LINE},, \n{LINE},,x\n,,,,\n")
    assert numbers(rows) == [3]
    assert "under no column" in str(only_problem(rows).problem)


# -- CSV: the rows


def test_empty_and_blank_cells_are_absent() -> None:
    """A cell without content is a field that was not given."""
    assert read(f"{HEADER}\nb,1,\nb,,  \n")[1].item == {"badgeMetaId": "b"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_every_line_end_is_one(end: str, last: bool) -> None:  # noqa: FBT001
    """LF, CRLF and CR end a line, the last may have none, and blank lines count as lines."""
    text = end.join(["", HEADER, LINE, "", "  ", LINE]) + (end if last else "")
    warning = "" if last else "the file's last line has no end: if the file was cut off, row 6 isn't whole"
    assert read(text) == [Source("3", ITEM, LINE), Source("6", ITEM, LINE, warning=warning)]


def test_a_line_end_may_fall_between_two_reads() -> None:
    """CRLF and characters cut in two by the stream's pieces are read as whole ones."""
    data = f"{HEADER}\r\n".encode() + f"é,1,2\r\n{LINE}\r\n".encode() * 20_000
    rows = list(read_rows(pipe(data[at : at + 777] for at in range(0, len(data), 777)), name="-"))
    assert numbers(rows) == list(range(2, 40_002))
    assert rows[0].item == {"badgeMetaId": "é", "customerId": "1", "earnExpiresOn": "2"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("b,1,2,3", "4 cells, the header 3"),
        ("b,1,2,", "4 cells, the header 3"),
        ('"b"x,1,2', "not CSV: something stands between a closing quote and the next delimiter"),
        ("b,\0,2", "NUL character stands at offset 2"),
        ('b,"1,2', "a quote opens here and is not closed"),
    ],
)
def test_a_bad_row_is_named_and_the_others_go_on(line: str, words: str) -> None:
    """One row's damage is one row's problem."""
    rows = read(f"{HEADER}\n{LINE}\n{line}\n{LINE}\n")
    assert numbers(rows) == [2, 4]
    bad = only_problem(rows)
    assert (int(bad.row), bad.raw) == (3, line)
    assert words in str(bad.problem)


def test_a_byte_that_is_not_utf8_is_named() -> None:
    """Latin-1 is not guessed: the row is refused with byte and offset, and what is shown can be encoded."""
    rows = read(f"{HEADER}\n{LINE}\nü,".encode() + "Jos\u00e9".encode("latin-1") + f",2\n{LINE}\n".encode())
    assert numbers(rows) == [2, 4]
    bad = only_problem(rows)
    assert "byte 0xE9 at offset 6 is not UTF-8" in str(bad.problem)
    assert bad.raw == "ü,Jos\\xE9,2"


def test_bytes_that_are_not_utf8_do_no_harm_where_they_are_ignored() -> None:
    """A Windows-1252 file goes in as long as header and fields are ASCII; other columns may hold anything."""
    rows = f'Name,{HEADER}\nJürgen,{LINE}\n"Zoë\n""Ü"", Köln",{LINE}\nx,b,7,é\nJö,b\n'.encode("cp1252")
    *good, bad, short = read(rows, "x.csv", "Name=")
    assert [row.item for row in good] == [ITEM, ITEM]
    assert good[0].raw == f"J\\xFCrgen,{LINE}"
    assert "byte 0xE9" in str(bad.problem)
    assert "iconv -f windows-1252" in str(bad.problem)
    assert short.item == {"badgeMetaId": "b"}


@pytest.mark.parametrize("later", ["", f'{BADGE},"1",2', f'{BADGE},"",2', f'{BADGE},"1', 'b,"', "b,\0,2"])
def test_an_unclosed_quote_does_not_swallow_the_file(later: str) -> None:
    """The row where it opens is refused, those after it are read, though a later quote seems to close it."""
    lines = [HEADER, 'b,1,"2', *[LINE] * 900, later, *[LINE] * 1_500]
    rows = read("\n".join(lines))
    assert [int(row.row) for row in rows if row.item == ITEM] == [
        number for number, line in enumerate(lines, 1) if line == LINE
    ]
    assert rows[0].problem is not None
    assert int(rows[0].row) == 2


def test_an_unclosed_quote_closed_within_reach_is_seen() -> None:
    """A field never holds a line break: the rows between two stray quotes are read, the halves are not."""
    rows = read(f'{HEADER}\n"b\n{LINE}\n{LINE}\n3",1,2\n')
    assert numbers(rows) == [3, 4]
    assert [str(row.problem) for row in rows if not row.item] == [
        "a quote opens here and is closed only on a later line",
        "a quote stands within a cell that is not quoted",
    ]


def test_quotes_on_every_line_cost_no_more_than_reading_twice() -> None:
    """A file full of unclosed quotes ends as soon as any other."""
    rows = read(f"{HEADER}\n" + 'b,"1,2\n' * 20_000)
    assert numbers(rows, good=False) == list(range(2, 20_002))


def test_a_quoted_cell_may_hold_anything_csv_allows() -> None:
    """Delimiters and doubled quotes; and line breaks around the value, that a spreadsheet leaves there."""
    rows = read(f'{HEADER}\n"a,""b""",1,2\n"b\n",1,"2"\n{LINE}\n')
    assert numbers(rows) == [2, 3, 5]
    assert rows[0].item == {"badgeMetaId": 'a,"b"', "customerId": "1", "earnExpiresOn": "2"}
    assert rows[1].raw == '"b\n",1,"2"'


@pytest.mark.parametrize("start", ["b,1,", '{"x": "', 'b,1,"'])
@pytest.mark.parametrize("name", ["f.csv", "f.jsonl"])
def test_a_line_of_10_mb_is_one_problem_in_little_memory(start: str, name: str) -> None:
    """It is never held whole, and the rows after it are read."""
    first, good = (HEADER, LINE) if name == "f.csv" else (OBJECT, OBJECT)
    parts = itertools.chain(
        [f"{first}\n{good}\n{start}".encode()],
        itertools.repeat(b"x" * 100_000, 100),
        [f"\n{good}\n{good}".encode()],
    )
    tracemalloc.start()
    rows = list(read_rows(pipe(parts), name=name))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [number for number in numbers(rows) if number > 1] == [2, 4, 5]
    bad = only_problem(rows)
    assert "longer than 1,000,000 characters" in str(bad.problem)
    assert len(bad.raw) == 2_001
    assert bad.raw.endswith("…")
    assert peak < 2_500_000


# -- the file as a whole


@pytest.mark.parametrize(
    "content", [b"", b" \r\n\n", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, b"\n" * 200_000, b"sep=;\n"]
)
def test_an_empty_file_is_said_to_be(content: bytes) -> None:
    """Nothing, or nothing but blanks, is empty; so is a byte order mark alone."""
    assert "is empty" in refusal(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(gzip.compress(LINE.encode(), mtime=0), mtime=0), "gunzip -c"),
        (gzip.compress(b"PK\x03\x04...", mtime=0), "Excel"),
        (gzip.compress(LINE.encode(), mtime=0)[:12], "end too early"),
        (b"\x1f\x8b" + bytes(50), "gzip data are damaged: unknown compression method"),
        (b"PK\x03\x04...", "Excel workbook is damaged"),
        (b"\xd0\xcf\x11\xe0...", "Excel"),
        (b"%PDF-1.7", "PDF"),
        (HEADER.encode("utf-32"), "UTF-32"),
        (bytes(range(256)) + bytes(100), "not text"),
        ("badgeMetaId;Größe;customerId".encode("latin-1"), "byte 0xF6 at offset 14 is not UTF-8"),
        (b'{\n  "badgeMetaId": "b"\n}', "over several lines"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_the_cure(content: bytes, words: str) -> None:
    """What is no table says so before any row is read."""
    assert words in refusal(content)


def test_a_json_file_without_json_is_refused() -> None:
    """The name says JSON, the content doesn't."""
    assert "neither a JSON array" in refusal("badge 1", "badges.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "content", [f"{HEADER}\n{LINE},\n{LINE}\nä€🎖,1,2\n", f"{OBJECT}\n" * 3, f"[{OBJECT}, {OBJECT}]"]
)
def test_utf8_and_utf16_are_told_apart(encoding: str, content: str) -> None:
    """With a byte order mark or without, both ways round."""
    assert read(content.encode(encoding)) == read(content)


def test_utf16_damage_stays_where_it_is() -> None:
    """Half a surrogate pair is one row's problem, and so is half a character at the end."""
    data = f"{HEADER}\nb,1,2\nb,X,2\n{LINE}\nb,1,2".encode("utf-16-le").replace(b"X\0", b"\x00\xdc") + b"!"
    rows = read(codecs.BOM_UTF16_LE + data)
    assert numbers(rows) == [2, 4]
    assert ["half a character" in str(row.problem) for row in rows] == [False, True, False, True]


# -- gzip


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("f.csv.gz", f"{HEADER}\n{LINE},\n{LINE}\nb,1,2\n"),
        ("f.JSON.GZ", f"[{OBJECT}]"),
        ("f.jsonl.gz", f"{OBJECT}\n" * 3),
        ("f.jsonl.gz", "nonsense"),
        ("f.csv", f"{HEADER}\n{LINE}"),
        ("-", f"[{OBJECT}]"),
    ],
)
def test_what_is_compressed_is_read_as_what_it_was(name: str, content: str) -> None:
    """Told by its first bytes, whatever the name; in one member or several, padded or not, byte by byte."""
    data = content.encode()
    members = gzip.compress(data[:37]) + gzip.compress(b"") + gzip.compress(data[37:]) + bytes(700)
    expected = read(content, name.removesuffix(".gz"))
    for packed in (gzip.compress(data), members):
        assert read(packed, name) == expected
        parts = (packed[at : at + 1] for at in range(len(packed)))
        assert list(read_rows(pipe(parts), name=name)) == expected
    assert read(gzip.compress(content.encode("utf-16")), name) == expected


def compressed_rows(count: int) -> bytes:
    """Compress a file of that many good rows."""
    rows = "".join(f"{BADGE},{n},1705828011\n" for n in range(1, count + 1))
    return gzip.compress(f"{HEADER}\n{rows}".encode())


@pytest.mark.parametrize("kept", [0.3, 0.999])
def test_a_compressed_file_cut_off_gives_no_row_that_is_cut(kept: float) -> None:
    """What stands before the cut is read; the row that the cut falls into, and might be another's, is not."""
    data = compressed_rows(50_000)
    rows = read_rows(io.BytesIO(data[: int(len(data) * kept)]), name="f.csv.gz")
    seen: list[int] = []
    with pytest.raises(FileError, match=r"f\.csv\.gz: the gzip data end too early: the file is cut off"):
        seen.extend(int((row.item or {})["customerId"]) for row in rows)
    assert seen == list(range(1, len(seen) + 1))
    assert 50_000 * kept * 0.8 < len(seen) < 50_000


@pytest.mark.parametrize("broken", ["body", "checksum", "tail"])
def test_a_compressed_file_that_is_damaged_says_so(broken: str) -> None:
    """A changed byte, a wrong checksum, and something else behind the end are named."""
    data = bytearray(compressed_rows(20_000))
    if broken == "tail":
        data += b"rubbish"
    else:
        at = len(data) // 2 if broken == "body" else len(data) - 8
        data[at : at + 4] = bytes(byte ^ 0xFF for byte in data[at : at + 4])
    with pytest.raises(FileError, match=r"the gzip data are damaged: [a-z]"):
        list(read_rows(io.BytesIO(bytes(data)), name="f.csv.gz"))


def test_a_bomb_goes_off_in_little_memory() -> None:
    """100 MB in one line, packed into 1,000 times less, are one problem and never held whole."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = packer.compress(f"{HEADER}\n{LINE}\n".encode())
    data += b"".join(packer.compress(b"x" * 1_000_000) for _ in range(100))
    data += packer.compress(f"\n{LINE}".encode()) + packer.flush()
    assert len(data) < 150_000
    tracemalloc.start()
    rows = list(read_rows(io.BytesIO(data), name="bomb.csv.gz"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert numbers(rows) == [2, 4]
    assert "longer than 1,000,000 characters" in str(only_problem(rows).problem)
    assert peak < 3_000_000


# -- columns of other names


MAPPED = ("Badge = badge_meta_id", "kunden-nr=customerId", "a=b=earnExpiresOn", "Colour=")


def test_columns_of_other_names_are_mapped() -> None:
    """A name may hold signs and is told as the fields' own are; what is mapped to nothing is ignored."""
    item = {"badgeMetaId": "b", "customerId": "1", "earnExpiresOn": "2"}
    rows = read('COLOUR;"badge";Kunden_Nr;"a=b"\nred;b;1;2\n;b;1;2\n', "f.csv", *MAPPED)
    assert [row.item for row in rows] == [item, item]
    line = '{"colour": [1], "BADGE": "b", "kundennr": "1", "a=b": "2"}'
    assert [row.item for row in read(f"{line}\n{line}", "f.jsonl", *MAPPED)] == [item, item]
    assert [row.item for row in read(f"[{line}, {line}]", "f.json", *MAPPED)] == [item, item]


@pytest.mark.parametrize(
    ("cells", "taken"),
    [
        (["5.000", "5.123"], []),
        (["1.234.567", "5.000", "6"], [6]),
        (["5.000", "6.000"], [5, 6]),
        (["5.000", "6.0000", "7.00"], [5, 6, 7]),
    ],
)
def test_the_column_decides_what_points_are(cells: list[str], taken: list[int]) -> None:
    """5.000 beside 5.123 is no 5, which would be another customer."""
    rows = read("badgeMetaId,customerId\n" + "".join(f"B,{cell}\n" for cell in cells))
    issues = [parse_item(row.item) for row in rows]
    assert [it.customer_id for it in issues if not isinstance(it, Invalid)] == taken
    assert ("others of the column have them between thousands" in str(issues)) is (5 not in taken)


TOTALS = [
    ("Name;customerId\nAnn;7\nTotal;2", ["2"]),
    ("Name;customerId;Points\nAnn;7;1\n\nSumme: 1 Kunde;7;1.234,50 €", ["2"]),
    ("Name;customerId;Points\nAnn;7;1\n3;Gesamt;", ["2"]),
    ("job_id;customerId\nA-1;7\nTotal;2", ["2"]),
    ("Name;customerId;badgeMetaId\nAnn;7;B\nTotal;2;", ["2"]),
    ("Name;customerId\nTotal Sports;7\nSumner;8\nAnn;9", ["2", "3", "4"]),
    ("Name;customerId;City\nTotal;7;Paris\nAnn;9;", ["2", "3"]),
    ("Name;customerId;earnEventDateISO\nTotal;7;2026-01-01T00:00:00Z", ["2"]),
    ("Name;customerId;badgeMetaId\nTotal;7;B", ["2"]),
]


@pytest.mark.parametrize(("text", "taken"), TOTALS)
def test_a_line_of_totals_is_no_customer(text: str, taken: list[str]) -> None:
    """It has a word for it and numbers, and neither a badge nor a date; what has more is a customer's."""
    remarks = Remarks()
    fixed = {} if "badgeMetaId" in text else {"badgeMetaId": BADGE}
    names = Names({it: None for it in ("Name", "Points", "City") if it in text}, fixed)
    found = read_rows(
        io.BytesIO(text.encode()), name="f.csv", names=names, sheets=SheetOptions(remarks=remarks)
    )
    assert [row.row for row in found] == taken
    assert [it.reason for it in remarks.warned()] == [LEFT_OUT] * (text.count("\n") > len(taken))


def to_workbook(text: str) -> bytes:
    """Return a workbook of the same cells."""
    return workbooks.content(workbooks.saved([line.split(",") for line in text.splitlines()]))


@pytest.mark.parametrize("to_table", [str.encode, to_workbook], ids=["csv", "xlsx"])
@pytest.mark.parametrize(
    "again", ["badgeMetaId,customerId,earnEventDate", "Badge meta ID,client,earn event date"]
)
def test_columns_that_are_named_again_are_left_out(to_table: Callable[[str], bytes], again: str) -> None:
    """As where one file was put behind another: it is no customer, and no dead letter."""
    text = f"badgeMetaId,customerId,earnEventDate\n{BADGE},1,1705828011\n{again}\n{BADGE},2,1705828011"
    remarks = Remarks()
    names = Names({"client": "customerId"} if "client" in again else {})
    if "client" in again:
        text = text.replace("badgeMetaId,customerId,", "badgeMetaId,client,", 1)
    found = read_rows(io.BytesIO(to_table(text)), name="f", names=names, sheets=SheetOptions(remarks=remarks))
    assert [(row.row, row.item["customerId"]) for row in found] == [("2", "1"), ("4", "2")]
    assert [(it.reason, it.rows) for it in remarks.warned()] == [(NAMED_AGAIN, ("3",))]


@pytest.mark.parametrize("to_table", [str.encode, to_workbook], ids=["csv", "xlsx"])
def test_columns_that_are_named_again_in_another_order_end_the_reading(
    to_table: Callable[[str], bytes],
) -> None:
    """What stands below would go out with each other's dates."""
    text = "badgeMetaId,customerId,earnEventDate,earnExpiresOn\n" + f"{BADGE},1,1705828011,1905828011\n"
    swapped = "badgeMetaId,customerId,earnExpiresOn,earnEventDate\n" + f"{BADGE},2,1905828011,1705828011"
    found = read_rows(io.BytesIO(to_table(text + swapped)), name="f")
    assert next(found).row == "2"
    with pytest.raises(
        FileError, match="row 3 names the columns again, but otherwise: “earnExpiresOn” is out of its place"
    ):
        next(found)


LONG_NAME = "loyalty_badge_identifier"  # as long as a badge's id
OTHERWISE = {
    "an ignored column": f"badgeMetaId,customerId,Store\n{BADGE},1,501\nbadgeMetaId,Store,customerId",
    "a single field": "customerId,Store\n1,501\nStore,customerId",
    "a name that nobody knows": (
        f"badgeMetaId,customerId,earnEventDate,earnExpiresOn\n{BADGE},1,1705828011,1905828011\n"
        "Badge,customerId,earnExpiresOn,earnEventDate"
    ),
    "quotes behind a byte order mark": (
        f'"badgeMetaId","customerId","Store"\n"{BADGE}","1","501"\n\ufeff"badgeMetaId","Store","customerId"'
    ),
    "no end of the line before": (
        f"badgeMetaId,customerId,earnEventDate,earnExpiresOn\n{BADGE},1,1705828011,1905828011\n"
        f"{BADGE},2,1705828011,1905828011badgeMetaId,customerId,earnExpiresOn,earnEventDate"
    ),
    "a column more": f"badgeMetaId,customerId,Store\n{BADGE},1,501\nbadgeMetaId,Store,customerId,Comment",
    "a name like an id": f"{LONG_NAME},customerId,Store\n{BADGE},1,501\n{LONG_NAME},Store,customerId",
}


@pytest.mark.parametrize("why", OTHERWISE)
def test_however_columns_are_named_again_in_another_order_nothing_below_is_read(why: str) -> None:
    """A store's number would go out as a customer's."""
    text = OTHERWISE[why] + f"\n{BADGE},502,2,9\n"
    said = {"Store": None, LONG_NAME: "badgeMetaId"}
    names = Names(
        {name: its for name, its in said.items() if name in text},
        {} if BADGE in text.partition("\n")[2].partition("\n")[0] else {"badgeMetaId": BADGE},
    )
    found = read_rows(io.BytesIO(text.encode()), name="f.csv", names=names, without_dates=True)
    assert next(found).row == "2"
    with pytest.raises(FileError, match="row 3 names the columns again, but otherwise"):
        next(found)


@pytest.mark.parametrize("to_table", [str.encode, to_workbook], ids=["csv", "xlsx"])
def test_a_row_without_its_customer_is_not_lost(to_table: Callable[[str], bytes]) -> None:
    """Other cells tell that it is one; a single one is a note, and told."""
    text = (
        "customerId,Name,Email\n1,Al,al@x\n,Bob,bob@x\nSee the other sheet,,\n,Checked by Eve,\n,,\n3,Cy,cy@x"
    )
    remarks = Remarks()
    names = Names({"Name": None, "Email": None}, {"badgeMetaId": BADGE})
    options = SheetOptions(remarks=remarks)
    found = [*read_rows(io.BytesIO(to_table(text)), name="f", names=names, sheets=options)]
    assert [(row.row, row.item.get("customerId")) for row in found] == [
        ("2", "1"), ("3", None), ("4", "See the other sheet"), ("7", "3"),
    ]  # fmt: skip
    assert [(it.reason, it.rows) for it in remarks.warned()] == [(NO_FIELD, ("5",))]


def test_a_name_is_the_same_however_its_letters_are_put_together() -> None:
    """A Mac writes them taken apart."""
    text = unicodedata.normalize("NFD", f"badgeMetaId,Mitgliedsschlüssel\n{BADGE},7\n")
    assert read(text, "f", "Mitgliedsschlüssel=customerId")[0].item["customerId"] == "7"


@pytest.mark.parametrize("cells", ["customerId,,", f"{BADGE},customerId,1705828011"])
def test_a_cell_that_reads_as_a_column_s_name_is_a_fault_of_its_row(cells: str) -> None:
    """One is a mistake; its row is invalid."""
    (row,) = read_rows(io.BytesIO(f"badgeMetaId,customerId,earnEventDate\n{cells}\n".encode()), name="f")
    assert row.item
    assert isinstance(parse_item(row.item), Invalid)


@pytest.mark.parametrize("field", ["earnExpiresOn", "earnEventDate"])
def test_ten_digits_that_read_as_a_date_arent_set_for_all_rows(field: str) -> None:
    """As a column of nothing else they would be refused; an epoch and the ISO field are taken."""
    with pytest.raises(ValueError, match=f"{field}=2026123123.*2026-12-31"):
        fixed_fields([f"{field}=2026123123"])
    said = [f"{field}=1905828011", f"{field}ISO=2026-12-31T23:00:00Z"]
    assert [*fixed_fields(said).values()] == ["1905828011", "2026-12-31T23:00:00Z"]


def test_a_mapping_goes_before_a_fields_own_name() -> None:
    """A column may bear the name of a field, or of a report, and be another one all the same."""
    mappings = ("customerId=job_id", "client=customerId", "expiresOn=earnExpiresOn")
    item = {"badgeMetaId": "b", "job_id": "7", "customerId": "1", "earnExpiresOn": "2"}
    assert read("badgeMetaId,customerId,client,expiresOn\nb,7,1,2\n", "f", *mappings)[0].item == item
    line = '{"badgeMetaId": "b", "customerId": "7", "client": "1", "expiresOn": "2"}'
    assert read(line, "f", *mappings)[0].item == item


@pytest.mark.parametrize(
    ("header", "mapping", "words"),
    [
        (
            "badge,customer",
            "Bagde=badgeMetaId",
            "no column “Bagde” that could be mapped; its columns are “badge”,",
        ),
        ("badge,customerId,badgeMetaId", "badge=badgeMetaId", "2 columns that mean badgeMetaId"),
        ("badgeMetaId,customerId", "customerId=", "no column customerId"),
        ("badgeMetaId,customerId,colour", "badgeMetaId=badgeMetaId", "ignored with --map COLUMN="),
        ("badge;customer", "badge=badgeMetaId", "“customer” (did you mean customerId?)"),
    ],
)
def test_a_mapping_that_does_not_fit_the_header_is_explained(header: str, mapping: str, words: str) -> None:
    """The column that isn't there, the field that two columns mean, and the one that is left without any."""
    assert words in refusal(f"{header}\nb,1,2\n", "f.csv", mapping)


def test_columns_without_a_name_are_left_out_where_a_person_says_so() -> None:
    """As those in which pandas counts the rows; no command that is proposed does it, whatever they hold."""
    header, row = ",badgeMetaId,customerId,,Member", f"0,{BADGE},7,2026-12-31,x"
    assert "--map Member=" in (text := refusal(f"{header}\n{row}\n", "f.csv"))
    assert "--map = --map" not in text
    assert read(f"{header}\n{row}\n", "f.csv", "=", "Member=")[0].item == plainly(SEVEN | {"customerId": "7"})


def test_a_key_that_is_given_under_two_names_is_refused() -> None:
    """In JSON each item has keys of its own, so the item is refused and not the file."""
    row = read('{"badgeMetaId": "b", "customerId": 1, "client": 2}', "f", "client=customerId")[0]
    assert row.problem == Invalid("customerId", "“customerId” is given twice")


@pytest.mark.parametrize(
    ("mappings", "words"),
    [
        (["customer"], "“customer” is no mapping: write COLUMN=FIELD"),
        (["=customerId"], "“=customerId” is no mapping"),
        (
            ["c=custmerId"],
            "no field “custmerId” (did you mean customerId?); the fields are badgeMetaId, customerId,",
        ),
        (["c=state"], "there is no field “state”"),
        (["a=customerId", "b=customer_id"], "“a” and “b” are both mapped to customerId"),
        (["a b=customerId", "A_B="], "the column “A_B” is mapped twice"),
    ],
)
def test_a_mapping_that_means_nothing_is_explained(mappings: list[str], words: str) -> None:
    """The words name what is wrong, and every field there is."""
    with pytest.raises(ValueError, match=r".") as caught:
        Names.parse(mappings)
    assert words in str(caught.value)


# -- what programs make of files


@pytest.mark.parametrize(
    ("line", "customer"),
    [
        ('b,="555",2', "555"),
        ('b,"=""555""",2', "555"),
        ('b, "555",2', "555"),
        ("b, 555 ,2", " 555 "),
        ("b,555", "555"),
    ],
)
def test_what_exporters_make_of_a_row_is_read(line: str, customer: str) -> None:
    """A number written as a formula, a blank before a quote, and empty cells that are left out at the end."""
    (row,) = read(f"{HEADER}\n{line}\n")
    assert (row.item or {})["customerId"] == customer
    assert ("earnExpiresOn" in (row.item or {})) == line.endswith(",2")


def test_a_short_row_of_a_report_is_refused() -> None:
    """In a report an empty cell would be a date that somebody took out."""
    header = f"state,run,{','.join(FIELDS)}"
    assert "8 cells, the header 9" in str(only_problem(read(f"{header}\ndead,r,b,1,,,,\n")).problem)


@pytest.mark.parametrize("mark", ["\ufeff\ufeff", "\u200b", "\ufeff\u200e"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_what_cannot_be_seen_is_no_part_of_a_name(mark: str, encoding: str) -> None:
    """Byte order marks, however many, and characters without width in a header, or in the keys of JSON."""
    text = f"{mark}badge\u200bMetaId,customerId\u2060\nb,1\n"
    data = text.encode(encoding) if encoding == "utf-8" else codecs.BOM_UTF16_LE + text.encode(encoding)
    assert [row.item for row in read(data)] == [{"badgeMetaId": "b", "customerId": "1"}]
    (row,) = read('{"badgeMetaId\u200b": "b", "customerId": 1}')
    assert row.item == {"badgeMetaId": "b", "customerId": 1}


# -- columns of dates


@pytest.mark.parametrize(
    ("cells", "is_date"),
    [
        (["2025-09-10"], True),
        (["10/09/2025 10:00"], True),
        (["10.09.2025"], True),
        (["10 Sep 2025"], True),
        (["September 10, 2025"], True),
        (["20250910"], True),
        (["202509101200"], True),
        (["1705828011"], True),
        (["1705828011000"], True),
        (["", "2025-09-10", " "], True),
        (["2025-09-10"] * 4 + ["soon"], True),
        (["2025-09-10"] * 3 + ["soon"], False),
        (["555567088"], False),
        (["45992"], False),
        (["1.2.3"], False),
        (["Ann"], False),
        ([""], False),
    ],
)
def test_a_column_of_dates_is_told_by_its_cells(cells: list[str], *, is_date: bool) -> None:
    """80 % of those that aren't empty; then nothing goes in while a date is missing, unless that is said."""
    csv_file = "Day,badgeMetaId,customerId\n" + "".join(f'"{cell}",b,1\n' for cell in cells)
    lines = "".join(json.dumps({"Day": cell} | SEVEN) + "\n" for cell in cells)
    for content, name in (
        (csv_file, "f.csv"),
        (lines, "f.jsonl"),
        (f"[{','.join(lines.split(chr(10))[:-1])}]", "f"),
    ):
        stream = io.BytesIO(content.encode())
        if not is_date:
            assert len(list(read_rows(stream, name=name, names=Names.parse(["Day="])))) == len(cells)
            continue
        with pytest.raises(
            ConfigError, match=r"lacks earnEventDate and earnExpiresOn, and “Day” looks like a date"
        ):
            read_rows(stream, name=name, names=Names.parse(["Day="]))
        rows = read_rows(
            io.BytesIO(content.encode()), name=name, names=Names.parse(["Day="]), without_dates=True
        )
        assert len(list(rows)) == len(cells)


@pytest.mark.parametrize(
    ("column", "field"),
    [
        *(
            (it, "earnEventDate")
            for it in ("Attendance date", "Valid from", "Send date", "Calendar", "Validated on")
        ),
        *((it, "earnEventDate") for it in ("validFrom", "Gültig ab", "vendor_date", "Weekend")),
        *(
            (it, "earnExpiresOn")
            for it in ("Valid until", "validUntil", "END_DATE", "endDate", "Expiry", "expires_at")
        ),
        *(
            (it, "earnExpiresOn")
            for it in ("Gültig bis", "Ablaufdatum", "Fecha de caducidad", "data scadenza")
        ),
    ],
)
def test_a_date_is_proposed_by_whole_words_of_its_name(column: str, field: str) -> None:
    """A wrong one would be pasted, and the event become the expiry."""
    with pytest.raises(ConfigError) as caught:
        read(f"badgeMetaId,customerId,{column},x\nb,1,2025-09-10T00:00:00Z,y\n", "f.csv")
    assert str(caught.value).endswith(f"--map {quote(f'{column}={field}ISO')} --map x=")


@pytest.mark.parametrize(
    "cell",
    [
        *(
            "Thu, 15 Jan 2026 10:00:00 GMT",
            "Thu Jan 15 2026 10:00:00 GMT+0000",
            "Thu Jan 15 10:00:00 UTC 2026",
        ),
        *("20260115T100000Z", "Thursday, January 15, 2026"),
    ],
)
def test_a_column_of_dates_that_programs_write_is_never_left_out(cell: str) -> None:
    """No format reads them; what is said doesn't lose them."""
    with pytest.raises(ConfigError) as caught:
        read(f'badgeMetaId,customerId,created,x\nb,1,"{cell}",y\n', "f.csv")
    assert str(caught.value).endswith("--map created=earnEventDateISO --map x=")


def test_a_column_of_dates_is_never_proposed_to_be_left_out() -> None:
    """The command that is printed maps it; where all dates are there, it is left to the person."""
    header = "badgeMetaId,customerId,earnEventDate,earnExpiresOn,Seen,x"
    proposed = refusal(f"{header}\nb,1,1,2,2025-09-10,y\n", "f.csv")
    assert proposed.endswith("To be completed: badges import f.csv --map x=")
    with pytest.raises(ConfigError) as caught:
        read("badgeMetaId,customerId,Valid until,x\nb,1,2025-09-10T00:00:00Z,y\n", "f.csv")
    assert str(caught.value).endswith("badges import f.csv --map 'Valid until=earnExpiresOnISO' --map x=")


@pytest.mark.parametrize("share", [0.79, 0.8])
def test_a_column_decides_what_ten_digits_are(share: float) -> None:
    """From 80 % of dates on, those are refused, also behind the rows that decide; below, they are epochs."""
    dates = ["2026123123"] * round(100 * share) + ["1705828011"] * round(100 * (1 - share)) + [""] * 50
    rows = read(f"{HEADER}\n" + "".join(f"{BADGE},{n},{day}\n" for n, day in enumerate(dates * 11, 1)))
    problems = [parse_item(row.item) for row in rows]
    refused = sum(isinstance(problem, Invalid) for problem in problems)
    assert refused == (1100 if share == 0.8 else 0)


# -- JSON Lines


@pytest.mark.parametrize(
    ("line", "words", "field"),
    [
        ('{"badgeMetaId": "b" "customerId": 1}', "a comma is missing (column 21)", None),
        (OBJECT + ",", "more after the object (column 61)", None),
        ("[1]", "this is an array", None),
        ('"x"', "this is a text", None),
        ("17", "this is a number", None),
        ("null", "this is null", None),
        ("true", "this is true or false", None),
        ("nonsense", "a value is missing", None),
        ('{"customerId": NaN}', "NaN is not a number in JSON", None),
        ('{"customerId": -Infinity}', "-Infinity is not a number", None),
        ('{"customerId": 1e999}', "1e999 is too large", None),
        ('{"customerId": ' + "1" * 5_000 + "}", "too many digits", None),
        ('{"customerId": ' + "[" * 100_000 + "}", "nested too deeply", None),
        ('{"customerId": 1, "customerId": 2}', "“customerId” is given twice", "customerId"),
        ('{"customerId": 1, "customer_id": 2}', "“customerId” is given twice", "customerId"),
        ('{"badgeMetaId": "b", "customer": 2}', "“customer” (did you mean customerId?)", "customer"),
        ('{"badgeMetaId": "b", "customerId": 1, "expiresOn": 2}', "did you mean earnExpiresOn?", "expiresOn"),
        ('{"badgeMetaId": "\\ud83d"}', "half a character", None),
        ('{"badgeMetaId": "\0"}', "NUL", None),
        (b'{"badgeMetaId": "\xe9"}', "byte 0xE9 at offset 17", None),
        (b'{"\xe9": 1}', "byte 0xE9", None),
    ],
)
def test_a_bad_value_is_one_problem(line: str | bytes, words: str, field: str | None) -> None:
    """The reason is named, in JSON Lines and in an array, and what stands after it is read."""
    data = line.encode() if isinstance(line, str) else line
    good = OBJECT.encode()
    rows = read(b"\n".join([good, data, b"", good]))
    assert numbers(rows) == [1, 4]
    bad = only_problem(rows)
    assert words in str(bad.problem)
    assert bad.problem == Invalid(field, bad.problem.reason if bad.problem else "")
    bad.raw.encode()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('{"badgeMetaId": "b" "customerId": 1}', "a comma is missing (line 3, column 21)"),
        ('{"badgeMetaId": "b", "customerId": }', "(line 3, column 36)"),
        ('{"a": {"x": [1 2]} "b": 1}', "a comma is missing"),
        ("[1, [{}]]", "this is an array"),
        ("null", "this is null (line 3, column 1)"),
        ('{"customerId": NaN, "reason": "{"}', "NaN"),
        ('{"customerId": ' + "1" * 5_000 + "}", "too many digits"),
        ('{"customerId": ' + "[" * 20_000 + "]" * 20_000 + "}", "nested too deeply"),
        ('{"customerId": 1, "customerId": 2}', "given twice"),
        (b'{"badgeMetaId": "\xe9"}', "byte 0xE9 at offset 17"),
        (b"123456789", "this is a number"),
    ],
)
def test_a_bad_element_is_skipped_where_its_end_is_certain(value: str | bytes, words: str) -> None:
    """The array goes on after it, and positions stay right."""
    data = value.encode() if isinstance(value, str) else value
    good = OBJECT.encode()
    rows = read(b"[\n" + good + b",\n" + data + b",\n" + good + b"]\n")
    assert numbers(rows) == [1, 3]
    assert words in str(only_problem(rows).problem)


def test_fields_of_json_have_their_proper_names() -> None:
    """Names are taken as in CSV, values as they are: whole numbers whole, fractions as written."""
    (row,) = read(
        '{"customer_id": 12345678901234567890123, "earnExpiresOn": 1705828011.0, "JOB_ID": null, "row": 3}'
    )
    assert row.item == {
        "customerId": 12345678901234567890123,
        "earnExpiresOn": "1705828011.0",
        "job_id": None,
    }


def test_the_name_decides_where_the_first_line_is_damaged() -> None:
    """A .jsonl file stays one whatever its first line is; an array in it is an array all the same."""
    assert numbers(read(f"oops\n{OBJECT}\n", "x.jsonl")) == [2]
    assert numbers(read(f"[1]\n{OBJECT}\n", "x.ndjson")) == [2]
    assert numbers(read(f"[{OBJECT}]", "x.jsonl")) == [1]
    assert numbers(read(f"\n[{OBJECT}]", "x.csv")) == [1]


# -- JSON array


@pytest.mark.parametrize("content", ["[]", " [ ]\n", f"[{OBJECT}]", f"\n\n[ {OBJECT}\n ] \n"])
def test_a_sound_array_has_no_problems(content: str) -> None:
    """Empty or not, with or without white space."""
    rows = read(content)
    assert [row.item for row in rows] == [SEVEN] * len(rows)


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        (",]", "a value is missing, or is none that JSON knows (line 2, column 62); nothing"),
        ("}, " + OBJECT + "]", "a value is missing"),
        (f"] {OBJECT}", "more after the array's end (line 2, column 63); nothing from here on was read"),
        ("]]", "more after the array's end"),
        (f', {{"badgeMetaId": "b, "customerId": 1}}, {OBJECT}]', "; nothing from here on was read"),
        (f', {{"badgeMetaId": "b", "customerId": 1, {OBJECT}, {OBJECT}]', "; nothing from here on was read"),
        (f', {{"x": [1, 2, "customerId": 1}}, {OBJECT}]', "; nothing from here on was read"),
        (f', {{"x": "y" z: "w\n"}}, {OBJECT}]', "; nothing from here on was read"),
        (f", x, {OBJECT}]", "; nothing from here on was read"),
        (
            ', {"x": "' + "y" * 2_000_000 + f'"}}, {OBJECT}]',
            "no end of this element within 1,000,000 characters",
        ),
    ],
)
def test_damage_in_doubt_ends_the_array(tail: str, words: str) -> None:
    """What stands before it is delivered; nothing is made out of what stands after it, and it fails."""
    rows, words_at_the_end = read_to_the_end(f"[{OBJECT},\n{OBJECT}{tail}")
    assert "nothing after row 3 was read" in words_at_the_end
    assert numbers(rows) == [1, 2]
    assert rows[2:] == [only_problem(rows)]
    assert int(rows[2].row) == 3
    assert words in str(rows[2].problem)
    assert len(rows[2].raw) <= 2_001


@pytest.mark.parametrize(
    "tail", ["", ",", ",\n ", ', {"badgeMetaId": "b', ', {"badgeMetaId": "b", "customerId"', ", {"]
)
def test_an_array_cut_off_gives_no_row_that_is_cut(tail: str) -> None:
    """As for gzip: what is whole is read, then the reading fails, and says from which row on."""
    rows, words = read_to_the_end(f"[{OBJECT},\n{OBJECT}{tail}")
    assert [row.item for row in rows] == [SEVEN, SEVEN]
    assert words.startswith("badges is cut off: nothing from row 3 on was read (line ")


def test_a_missing_comma_between_elements_costs_one() -> None:
    """The element after the gap is refused, the next one isn't."""
    rows = read(f"[{OBJECT}\n{OBJECT}, {OBJECT}]")
    assert numbers(rows) == [1, 3]
    assert "no comma before this element (line 2, column 1)" in str(only_problem(rows).problem)


def test_the_sample_of_the_vendors_document_is_refused_row_by_row() -> None:
    """Its three commas are missing: both elements say where, none is issued."""
    assert [(int(row.row), str(row.problem)) for row in read(AS_PRINTED)] == [
        (1, "not valid JSON: a comma is missing (line 5, column 8)"),
        (2, "not valid JSON: a comma is missing (line 12, column 4)"),
    ]


@pytest.mark.parametrize("size", [1, 7, 5_000])
def test_elements_may_be_cut_by_the_streams_pieces(size: int) -> None:
    """Any cut gives the same rows: numbers above all."""
    data = json.dumps([SEVEN, 1.5e300, 12, {"customerId": 10**30}, -0.25, "é"] * 3).encode()
    data += b" " * 70_000 + b"]"
    rows: list[Source] = []
    with pytest.raises(FileError, match="more after the array's end: nothing after row 19 was read"):
        rows.extend(read_rows(pipe(data[at : at + size] for at in range(0, len(data), size)), name="-"))
    assert rows == read_to_the_end(data.decode())[0]


# -- memory


def _csv_file(count: int) -> Iterator[bytes]:
    yield f"{HEADER}\n".encode()
    yield from (f"{BADGE},{number},1705828011\n".encode() for number in range(count))


def _lines_file(count: int) -> Iterator[bytes]:
    return (f'{{"badgeMetaId": "{BADGE}", "customerId": {number}}}\n'.encode() for number in range(count))


def _array_file(count: int) -> Iterator[bytes]:
    yield b"["
    yield from (line.rstrip() + b"," for line in _lines_file(count - 1))
    yield OBJECT.encode() + b"]"


@pytest.mark.parametrize("file", [_csv_file, _lines_file, _array_file])
def test_memory_is_flat(file: Callable[[int], Iterator[bytes]]) -> None:
    """Twenty thousand rows from a pipe take no more memory than a few pieces of it, and 1,000 rows."""
    lines = file(20_000)
    parts = iter(lambda: b"".join(itertools.islice(lines, 999)), b"")
    tracemalloc.start()
    count = sum(row.item is not None for row in read_rows(pipe(parts), name="-"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 2_000_000


# -- whatever it is

# Not "TOTAL", which hypothesis finds in our own code: what becomes of such rows is tested by themselves.
_cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=20).filter(
    lambda text: bool(text.strip()) and not reads_as_total(text)
)
_optional: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(FIELDS[2:], _cell)
_csv_items = st.lists(
    st.fixed_dictionaries({"badgeMetaId": _cell, "customerId": _cell}, optional=_optional), max_size=20
)
_value: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
_json_items = st.lists(st.dictionaries(st.sampled_from(FIELDS), _value), max_size=20)


@given(
    _csv_items, st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from([0, 1, 2])
)
def test_what_csv_writes_is_read_back(
    items: list[dict[str, str]], delimiter: str, end: str, quoting: int
) -> None:
    """Whatever stands in the cells, item for item and line for line."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(
        text, FIELDS, delimiter=delimiter, lineterminator=end, quoting=cast("Any", quoting)
    )
    writer.writeheader()
    writer.writerows(items)
    rows = read(text.getvalue(), "x.csv")
    # But for blanks before a cell, which are skipped where cells are quoted.
    assert [stripped(row.item) for row in rows] == [stripped(item) for item in items]
    assert numbers(rows) == list(range(2, len(items) + 2))


_cells = st.sampled_from(["7", "31.12.2026 10:00:00", "a b", " 7", "7 ", " ", "", "total", "Badge ID", BADGE])


@given(st.lists(st.tuples(_cells, _cells, _cells), min_size=1, max_size=9), st.sampled_from(",;|"))
@example([(BADGE, "555567088", "31.12.2026 10:00:00")], ",")
@example([(" ", " ", " "), (BADGE, "7", " ")], ",")
def test_lines_read_at_once_are_read_as_one_by_one(lines: list[tuple[str, ...]], delimiter: str) -> None:
    """Blanks within cells as well; a line with quotes among them makes each be read by itself."""
    text = "".join(delimiter.join(cells) + "\n" for cells in (HEADER.split(","), *lines))
    quoted = delimiter.join(f'"{cell}"' for cell in LINE.split(",")) + "\n"
    at_once = read(text + LINE.replace(",", delimiter) + "\n", "x.csv")
    one_by_one = read(text + quoted, "x.csv")
    assert at_once[:-1] == one_by_one[:-1]
    assert at_once[-1].item == one_by_one[-1].item == ITEM


def stripped(item: dict[str, str]) -> dict[str, str]:
    """Return an item without the blanks before its cells."""
    return {name: cell.lstrip(" ") for name, cell in item.items()}


def plainly(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item with fractions as JSON writes them, which is how they are read."""
    return {name: json.dumps(value) if isinstance(value, float) else value for name, value in item.items()}


@given(_json_items, st.booleans())
def test_what_json_writes_is_read_back(items: list[dict[str, Any]], ascii_only: bool) -> None:  # noqa: FBT001
    """As lines and as arrays, indented or not; NUL and line separators in texts as well."""
    lines = "\n".join(json.dumps(item, ensure_ascii=ascii_only) for item in items)
    for text, name in [
        (lines or "\n[]", "x.jsonl" if items else "x"),
        (json.dumps(items, ensure_ascii=ascii_only), "x.json"),
        (json.dumps(items, ensure_ascii=ascii_only, indent=2), "-"),
    ]:
        rows = read(text, name)
        assert [row.item for row in rows] == [plainly(item) for item in items]
        assert numbers(rows) == list(range(1, len(items) + 1))


_scraps = st.sampled_from(
    [
        HEADER.encode(),
        LINE.encode(),
        OBJECT.encode(),
        *[sign.encode() for sign in '\n,[]{}":\\\0 1é'],
        b"\r",
        b"\xff",
    ]
)


@settings(deadline=None)
@given(st.binary() | st.lists(_scraps).map(b"".join), st.sampled_from(["-", "x.csv", "x.json", "x.jsonl"]))
@example(b"[" * 100_000, "-")
@example(b'[{"x":' * 50_000, "-")
@example((HEADER + "\n").encode() + b'"' * 99_999, "x.csv")
@example(b'["' + b'\\"' * 99_999, "-")
def test_no_bytes_are_too_strange(data: bytes, name: str) -> None:
    """All there ever is: rows, each with an item or a problem, and numbers that rise; or a FileError."""
    for content in (data, HEADER.encode() + b"\n" + data, b"[" + OBJECT.encode() + data):
        try:
            rows = read(content, name)
        except FileError as error:
            str(error).encode()
            continue
        assert all(int(before.row) < int(after.row) for before, after in itertools.pairwise(rows))
        for row in rows:
            assert (row.item is None) == (row.problem is not None)
            f"{row.raw}{row.problem}".encode()


@given(st.integers(1, 8), st.binary(max_size=30))
def test_damage_to_a_line_of_json_moves_no_other(at: int, damage: bytes) -> None:
    """The others are what they were."""
    assume(not set(damage) & set(b"\r\n"))
    lines = [f'{{"badgeMetaId": "b", "customerId": {number}}}'.encode() for number in range(10)]
    before = read(b"\n".join(lines), "x.jsonl")
    lines[at] = lines[at][:5] + damage + lines[at][9:]
    after = read(b"\n".join(lines), "x.jsonl")
    assert [row for row in before if int(row.row) != at + 1] == [
        row for row in after if int(row.row) != at + 1
    ]


@given(st.integers(1, 8), st.binary(max_size=30), st.sampled_from(["", '"']))
def test_damage_to_a_line_of_csv_moves_no_other(at: int, damage: bytes, quote: str) -> None:
    """The others are what they were, even where the damage is a stray quote."""
    assume(not set(damage) & set(b"\r\n"))
    lines = [f"{quote}b{quote},{number},{quote}1{quote}".encode() for number in range(10)]
    lines.insert(0, HEADER.encode())
    before = read(b"\n".join(lines), "x.csv")
    lines[at] = lines[at][:4] + damage + lines[at][5:]
    after = read(b"\n".join(lines), "x.csv")
    assert [row for row in before if int(row.row) != at + 1] == [
        row for row in after if int(row.row) != at + 1
    ]


@given(st.data(), st.sampled_from([None, 1]), st.booleans())
def test_damage_to_an_array_makes_up_no_item(data: st.DataObject, indent: int | None, cut: bool) -> None:  # noqa: FBT001
    """One sign lost or put in alters one item at most; the others are as written, once each, in order."""
    items = [{"badgeMetaId": f"b{number}", "customerId": number, "error": {"x": [1]}} for number in range(6)]
    text = json.dumps(items, indent=indent)
    at = data.draw(st.integers(1, len(text) - 1))
    sign = "" if cut else data.draw(st.sampled_from('{}[]",:1 \\'))
    rows, words = list[Source](), ""
    try:
        rows.extend(read_rows(io.BytesIO((text[:at] + sign + text[at + cut :]).encode()), name="x.json"))
    except FileError as error:
        words = str(error)
    written = [{"badgeMetaId": f"b{number}", "customerId": number} for number in range(6)]
    places = [written.index(dict(row.item)) for row in rows if row.item in written]
    assert places == sorted(set(places))
    assert sum(row.item is not None and row.item not in written for row in rows) <= 1
    assert len(rows) >= 6 or re.search("nothing (after|from) row", words)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (f"{HEADER}\n" + ",".join(f'"a""{n}"' for n in range(80_000)), "badges.csv"),
        (json.dumps(SEVEN | {f"badge{n}": 1 for n in range(40_000)}), "badges.jsonl"),
    ],
    ids=["quotes", "unknown fields"],
)
def test_a_long_row_takes_no_longer_than_its_length(content: str, name: str) -> None:
    """A row of a megabyte costs what a megabyte of rows costs, and not its square."""
    began = time.process_time()
    (row,) = read(content, name)
    assert row.problem
    assert len(row.problem.faults) <= 50
    assert time.process_time() - began < 3
