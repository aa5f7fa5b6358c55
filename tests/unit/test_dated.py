"""Dates as people write them: read in the format and zone that were said, or refused."""

from __future__ import annotations

import io
import re
from datetime import date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workbooks import content, package, parts, saved, sheet, texts

from worker.domain.badge import BadgeIssue
from worker.domain.invalid import Invalid
from worker.domain.item import Remarks
from worker.domain.localdates import DateFormat, fitting, in_zone, read_zone
from worker.domain.parsing import parse_item
from worker.errors import ConfigError
from worker.files.dated import Dating, dated
from worker.files.reader import read_rows

BADGE = "696f0fd40772ad476ecf74ac"
BERLIN = read_zone("Europe/Berlin")


def taken(
    cells: list[str], how: Dating, *, field: str = "earnExpiresOn", remarks: Remarks | None = None
) -> list[object]:
    """Return what becomes of these cells of a column: the ISO date, the epoch, or what is wrong."""
    text = f"badgeMetaId,customerId,{field}\n" + "".join(f'{BADGE},1,"{cell}"\n' for cell in cells)
    rows = read_rows(io.BytesIO(text.encode()), name="f.csv")
    said: list[object] = []
    for row in dated(rows, how, remarks or Remarks(), name="f.csv"):
        parsed = row.problem or parse_item(row.item)
        if isinstance(parsed, BadgeIssue):
            sent = parsed.badge.body("s")
            said.append(sent.get(f"{field.removesuffix('ISO')}ISO", sent.get(field)))
        else:
            assert isinstance(parsed, Invalid)
            said.append(str(parsed))
    return said


@pytest.mark.parametrize(
    ("form", "cell", "sent"),
    [
        ("DD.MM.YYYY", "31.12.2026", "2026-12-31T23:59:59+01:00"),
        ("DD/MM/YYYY HH:mm", "01/07/2026 08:30", "2026-07-01T08:30:00+02:00"),
        ("MM/DD/YYYY HH:mm:ss", "07/01/2026 08:30:05", "2026-07-01T08:30:05+02:00"),
        ("D/M/YY", "1/7/26", "2026-07-01T23:59:59+02:00"),
        ("YYYYMMDD", "20261231", "2026-12-31T23:59:59+01:00"),
        ("YYYYMMDDHHmmss", "20261231120000", "2026-12-31T12:00:00+01:00"),
        ("iso", "2026-12-31", "2026-12-31T23:59:59+01:00"),
        ("iso", "2026-12-31 12:00", "2026-12-31T12:00:00+01:00"),
        ("iso", "2026-12-31T12:00:00.250", "2026-12-31T12:00:00.250+01:00"),
        ("DD.MM.YYYY", "2026-12-31T00:00:00Z", "2026-12-31T00:00:00Z"),
        ("DD.MM.YYYY", "1798758000", 1798758000),
        ("DD.MM.YYYY", "31.12.9999", "9999-12-31T23:59:59+01:00"),
        ("M/D/YYYY h:mm A", "7/1/2026 12:05 am", "2026-07-01T00:05:00+02:00"),
        ("M/D/YYYY h:mm A", "7/1/2026 1:05 P.M.", "2026-07-01T13:05:00+02:00"),
        ("DD.MM.YYYY or YYYY-MM-DD", "31.12.2026", "2026-12-31T23:59:59+01:00"),
        ("DD.MM.YYYY or YYYY-MM-DD", "2026-12-31", "2026-12-31T23:59:59+01:00"),
        ("DD.MM.YYYY or epoch", "1798758000", 1798758000),
    ],
)
def test_a_date_is_read_as_it_was_said(form: str, cell: str, sent: object) -> None:
    """In its zone; an expiry without a time of day is the day's last second. What is certain stays."""
    assert taken([cell], Dating(DateFormat.parse(form), BERLIN)) == [sent]


@pytest.mark.parametrize("form", ["", "iso", "DD.MM.YYYY or iso"])
@pytest.mark.parametrize(
    ("cell", "sent"),
    [
        ("2026-07-01 08:30:00+00", "2026-07-01T08:30:00+00:00"),
        ("2026-07-01 08:30:00.25 UTC", "2026-07-01T08:30:00.25Z"),
        ("2026-07-01 08:30:00 -05:00", "2026-07-01T08:30:00-05:00"),
        ("2026-07-01 08:30Z", "2026-07-01T08:30Z"),
        ("2026-07-01T08:30:00-05", "2026-07-01T08:30:00-05:00"),
    ],
)
def test_a_date_with_an_offset_of_its_own_has_that(form: str, cell: str, sent: str) -> None:
    """Whatever zone is said, and as databases write it; without one it is told what would read it."""
    how = Dating(DateFormat.parse(form) if form else None, BERLIN)
    assert taken([cell], how) == [sent]
    remarks = Remarks()
    (said,) = taken([cell], Dating(), field="earnExpiresOnISO", remarks=remarks)
    assert f"write “{cell}” as {sent}" in str(said)
    (said,) = remarks.warned()
    assert said.reason.endswith("with --timezone, of any zone, they are read by their own")


@pytest.mark.parametrize(
    ("form", "cell", "sent"),
    [
        ("YYYY-DD-MM HH:mm:ss", "2026-03-04 10:00:00+00", None),
        ("YYYY-MM-DD HH-mm-ss", "2026-01-15 10-30-45", "2026-01-15T10:30:45+01:00"),
        ("", "2026-01-15 10:00-12:00", None),
        ("", "2026-01-15 10:00 -05", None),
        ("", "2026-01-15 10:00:00 +0000 UTC", None),
        ("epoch", "2026-01-15 10:00:00+00", None),
    ],
)
def test_what_only_looks_like_an_offset_is_none(form: str, cell: str, sent: str | None) -> None:
    """A stretch of time, or an order of day and month that is said: it is as was said, or refused."""
    how = DateFormat.parse(form) if form else None
    (said,) = taken([cell], Dating(how, BERLIN))
    assert said == sent or (sent is None and str(said).startswith("earnExpiresOn"))
    remarks = Remarks()
    assert form or str(taken([cell], Dating(), remarks=remarks)).startswith("['earnExpiresOn")
    assert not [it for it in remarks.warned() if "--timezone" in it.reason]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("29.03.2026 02:30", "there is no 2026-03-29 02:30:00 in Europe/Berlin, where clocks skip it"),
        (
            "25.10.2026 02:30",
            "comes twice in Europe/Berlin: write it as ISO with its offset, +02:00 or",
        ),
        ("31.12.2026 24:00", "isn't written as DD.MM.YYYY HH:mm"),
        ("31.02.2026 00:00", "isn't written as DD.MM.YYYY HH:mm: “31.02.2026 00:00”"),
        ("12/31/2026 00:00", "isn't written as DD.MM.YYYY HH:mm"),
        ("tomorrow", "isn't written as DD.MM.YYYY HH:mm"),
        ("01.01.1899 00:00", "must lie in the years 1973 to 2199"),
    ],
)
def test_a_date_that_is_not_certain_is_refused_in_its_row(cell: str, words: str) -> None:
    """The others go on."""
    how = Dating(DateFormat.parse("DD.MM.YYYY HH:mm"), BERLIN)
    bad, good = taken([cell, "31.12.2026 12:00"], how)
    assert words in str(bad)
    assert str(bad).startswith("earnExpiresOn")
    assert good == "2026-12-31T12:00:00+01:00"


@pytest.mark.parametrize(("cell", "sent"), [("31.12.72", "2072-12-31T23:59:59+01:00"), ("31.12.73", None)])
def test_a_year_of_two_digits_is_never_guessed(cell: str, sent: str | None) -> None:
    """To a spreadsheet 99 is 1999; where both could be meant, the row is refused."""
    (said,) = taken([cell], Dating(DateFormat.parse("DD.MM.YY"), BERLIN))
    assert said == sent or (not sent and "“31.12.73” could be 1973 or 2073: write it as ISO" in str(said))


def test_a_day_is_told_to_be_a_day() -> None:
    """An event begins its day; both are said, with their rows."""
    remarks, how = Remarks(), Dating(DateFormat.parse("DD.MM.YYYY"), BERLIN)
    assert taken(["01.07.2026"], how, field="earnEventDate", remarks=remarks) == ["2026-07-01T00:00:00+02:00"]
    (said,) = remarks.warned()
    assert (said.reason, said.rows) == (
        "earnEventDateISO has dates without a time of day: 00:00:00 in Europe/Berlin is meant",
        ("2",),
    )


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["31.12.2026", "01.02.2026"], "say --date-format DD.MM.YYYY --timezone ZONE"),
        (["12/31/2026 10:00"], "say --date-format 'MM/DD/YYYY HH:mm' --timezone ZONE"),
        (["01/02/2026"], "they fit --date-format DD/MM/YYYY or --date-format MM/DD/YYYY: say which"),
        (["2025-09-10"], "say --date-format YYYY-MM-DD"),
        (["31 Dec 2026", "2. Jan 2027"], "which no --date-format reads: write them as 2026-12-31T00:00"),
        (["31.12.2026 02:30", "30.12.2026"], "say --date-format 'DD.MM.YYYY HH:mm or DD.MM.YYYY' --timezone"),
        (["1/27/2026", "2/3/2026 14:05"], "say --date-format 'M/D/YYYY HH:mm or M/D/YYYY' --timezone"),
        (["31.12.2026", "12/31/2026"], "in several ways: say --date-format for each, and --timezone ZONE"),
        (["2/13/2026 3:04"], "say --date-format 'M/D/YYYY H:mm' --timezone ZONE"),
        (["2/13/2026 3:04 PM"], "say --date-format 'M/D/YYYY h:mm A' --timezone ZONE"),
        (["13/02/26"], "they fit --date-format YY/MM/DD or --date-format DD/MM/YY: say which"),
    ],
)
def test_a_format_that_nobody_said_ends_the_import_before_its_first_row(cells: list[str], words: str) -> None:
    """With what to say; what fits two formats is never detected as one."""
    with pytest.raises(ConfigError) as caught:
        taken(cells, Dating())
    assert words in str(caught.value)
    assert "f.csv: earnExpiresOn has dates such as" in str(caught.value)


def test_without_a_zone_nothing_is_assumed() -> None:
    """A format alone is refused; an ISO date without an offset is refused in its row, as ever."""
    with pytest.raises(ConfigError, match="has no zone: say --timezone"):
        taken(["31.12.2026"], Dating(DateFormat.parse("DD.MM.YYYY")))
    (said,) = taken(["2026-12-31T00:00:00"], Dating(), field="earnExpiresOnISO")
    assert "must be ISO 8601 with an offset" in str(said)
    assert taken(["2026-12-31T00:00:00"], Dating(None, BERLIN)) == ["2026-12-31T00:00:00+01:00"]


def both(event: str, expiry: str, how: Dating, remarks: Remarks | None = None) -> dict[str, object]:
    """Return what is sent of a row that has both dates."""
    text = f"badgeMetaId,customerId,earnEventDate,earnExpiresOn\n{BADGE},1,{event},{expiry}\n"
    (row,) = dated(
        read_rows(io.BytesIO(text.encode()), name="f.csv"), how, remarks or Remarks(), name="f.csv"
    )
    parsed = parse_item(row.item)
    return parsed.badge.body("s") if isinstance(parsed, BadgeIssue) else {}


def test_columns_may_be_written_differently() -> None:
    """Each in one of the formats that are said; what nobody said is named before the first row."""
    with pytest.raises(ConfigError, match="say --date-format 'DD/MM/YYYY HH:mm or YYYY-MM-DD' --timezone"):
        both("21/02/2026 10:00", "2026-12-31", Dating())
    one = Dating(DateFormat.parse("DD/MM/YYYY HH:mm"), BERLIN)
    with pytest.raises(ConfigError, match=r"earnExpiresOn has dates .* 'DD/MM/YYYY HH:mm or YYYY-MM-DD'$"):
        both("21/02/2026 10:00", "2026-12-31", one)
    sent = both("21/02/2026 10:00", "2026-12-31", Dating(DateFormat.parse("DD/MM/YYYY HH:mm or iso"), BERLIN))
    assert sent["earnEventDateISO"] == "2026-02-21T10:00:00+01:00"
    assert sent["earnExpiresOnISO"] == "2026-12-31T23:59:59+01:00"
    with pytest.raises(ConfigError, match="in several ways: say"):  # no format reads both columns
        both("21/02/2026", "12/31/2026", Dating())
    with pytest.raises(ConfigError, match="say --date-format for each, or write them as"):
        both("21/02/2026", "12/31/2026", Dating(None, BERLIN))
    with pytest.raises(ConfigError, match="which isn't DD/MM/YYYY: say their format as well, or write them"):
        both("21/02/2026", "12/31/2026", Dating(DateFormat.parse("DD/MM/YYYY"), BERLIN))


@pytest.mark.parametrize(
    "text", ["DD/MM/YYYY or MM/DD/YYYY", "D/M/YY or MM/DD/YY", "iso or YYYY-DD-MM", "DD.MM.YY or YY.MM.DD"]
)
def test_formats_that_cannot_be_told_apart_are_none(text: str) -> None:
    """Nothing is tried until it fits."""
    with pytest.raises(ValueError, match="can't be told apart: both read"):
        DateFormat.parse(text)


def test_dates_that_lack_only_a_zone_say_how_they_get_one() -> None:
    """Beside their refusal, row by row."""
    remarks = Remarks()
    assert "must be an epoch" in str(taken(["2026-12-31 10:00:00"], Dating(), remarks=remarks))
    (said,) = remarks.warned()
    assert "without a zone, such as “2026-12-31 10:00:00”: with --timezone they can be read" in said.reason


def test_ten_digits_are_epochs_if_that_is_said() -> None:
    """A column that reads as dates is taken at the person's word."""
    (refused,) = taken(["2026123123"], Dating())
    assert "reads as a date" in str(refused)
    assert taken(["2026123123"], Dating(DateFormat.parse("epoch"))) == [2026123123]


@pytest.mark.parametrize("written", ["31.12.2026", "2026-12-31T00:00:00+01:00"])
def test_dates_with_signs_decide_what_ten_digits_are_too(written: str) -> None:
    """Those that read as a date are none there; an epoch that reads as none stays one."""
    how = Dating(DateFormat.parse("DD.MM.YYYY"), BERLIN)
    *_, compact, epoch = taken([written] * 9 + ["2026123123", "1767225600"], how)
    assert "reads as a date" in str(compact)
    assert epoch == 1767225600


def test_a_format_without_signs_is_kept_to() -> None:
    """Digits that aren't written so are no epochs, unless that is said too; a number may have lost its 0."""
    said = Dating(DateFormat.parse("YYMMDDHHmm"), BERLIN)
    assert taken(["2603041530"], said) == ["2026-03-04T15:30:00+01:00"]
    assert "isn't written as YYMMDDHHmm" in str(taken(["2613041530"], said))
    assert "isn't written as DDMMYYHHmm" in str(
        taken(["403261530"], Dating(DateFormat.parse("DDMMYYHHmm"), BERLIN))
    )
    either = Dating(DateFormat.parse("YYMMDDHHmm or epoch"), BERLIN)
    assert taken(["2603041530", "1705828011"], either) == ["2026-03-04T15:30:00+01:00", 1705828011]
    assert taken(["1705828011"], Dating(DateFormat.parse("YYYYMMDD"), BERLIN)) == [1705828011]


def test_numbers_of_json_are_read_as_a_format_without_signs_says() -> None:
    """With quotes or without."""
    lines = "".join(
        f'{{"badgeMetaId": "{BADGE}", "customerId": 1, "earnExpiresOn": {value}}}\n'
        for value in ('"2603041530"', "2603041530")
    )
    rows = read_rows(io.BytesIO(lines.encode()), name="f.jsonl")
    how = Dating(DateFormat.parse("YYMMDDHHmm"), BERLIN)
    read = [row.item["earnExpiresOnISO"] for row in dated(rows, how, Remarks(), name="f.jsonl")]
    assert read == ["2026-03-04T15:30:00+01:00"] * 2


def booked(cells: list[object], how: Dating, *, field: str = "earnExpiresOn") -> list[object]:
    """Return what becomes of these cells of a workbook's column."""
    data = content(saved([["badgeMetaId", "customerId", field], *([BADGE, 1, cell] for cell in cells)]))
    rows = read_rows(io.BytesIO(data), name="f.xlsx")
    said: list[object] = []
    for row in dated(rows, how, Remarks(), name="f.xlsx"):
        parsed = row.problem or parse_item(row.item)
        iso = f"{field.removesuffix('ISO')}ISO"
        said.append(parsed.badge.body("s").get(iso) if isinstance(parsed, BadgeIssue) else str(parsed))
    return said


@pytest.mark.parametrize("form", [None, "DD.MM.YYYY", "iso", "epoch"])
@pytest.mark.parametrize("suffix", ["", "ISO"])
def test_a_date_of_a_workbook_needs_only_its_zone(form: str | None, suffix: str) -> None:
    """No format, and none that is said for texts changes it; a day is the whole day."""
    how = Dating(DateFormat.parse(form) if form else None, BERLIN)
    cells: list[object] = [date(2026, 12, 31), datetime(2026, 7, 1, 8, 30)]  # noqa: DTZ001 - as cells are
    until, at = "2026-12-31T23:59:59+01:00", "2026-07-01T08:30:00+02:00"
    assert booked(cells, how, field=f"earnExpiresOn{suffix}") == [until, at]
    assert booked(cells, how, field=f"earnEventDate{suffix}") == ["2026-12-31T00:00:00+01:00", at]


def test_a_workbook_may_have_both_dates_and_texts() -> None:
    """The format is for the texts."""
    how = Dating(DateFormat.parse("DD.MM.YYYY"), BERLIN)
    both = booked([date(2026, 12, 31), "31.12.2026", "12/31/2026"], how)
    assert both[:2] == ["2026-12-31T23:59:59+01:00"] * 2
    assert "isn't written as DD.MM.YYYY" in str(both[2])


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (datetime(2026, 3, 29, 2, 30), "where clocks skip it"),  # noqa: DTZ001 - as cells are
        (datetime(2026, 10, 25, 2, 30), "comes twice in Europe/Berlin"),  # noqa: DTZ001
    ],
)
def test_a_time_of_a_workbook_that_clocks_skip_is_refused_in_its_row(at: datetime, words: str) -> None:
    """The others go on."""
    bad, good = booked([at, date(2026, 12, 31)], Dating(None, BERLIN))
    assert words in str(bad)
    assert good == "2026-12-31T23:59:59+01:00"


@pytest.mark.parametrize("form", [None, "epoch", "iso"])
def test_without_a_zone_a_workbook_of_dates_is_refused(form: str | None) -> None:
    """Before its first row, with what is missing, and no format is asked for; a single one in its row."""
    how = Dating(DateFormat.parse(form) if form else None)
    with pytest.raises(ConfigError) as caught:
        booked([date(2026, 12, 31)], how)
    assert "say --timezone, such as Europe/Berlin" in str(caught.value)
    assert "--date-format" not in str(caught.value)
    one, *_ = booked([date(2026, 12, 31), *["1798758000"] * 9], how)
    assert "is a cell's date, “2026-12-31”, which has no zone" in str(one)


@pytest.mark.parametrize(
    "text", ["", "DD.MM", "D.M.YYYY h:mm", "iso or", "YYYY-MM-DD DD", "dd/mm/yyyy", "%d.%m.%Y", "YYYY MM D5"]
)
def test_what_is_no_format(text: str) -> None:
    """It is refused with what a format looks like."""
    with pytest.raises(ValueError, match="is no format: write it with YYYY MM DD"):
        DateFormat.parse(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("GMT+5", "+05:00"), ("utc-3:30", "-03:30"), ("Etc/GMT+5", "-05:00"), ("Etc/GMT-8", "+08:00")],
)
def test_a_zone_whose_sign_means_two_things_is_none(text: str, meant: str) -> None:
    """Etc/GMT+5 is five hours behind; nobody who writes GMT+5 means that."""
    with pytest.raises(ValueError, match=f"can be read in two ways: write {re.escape(meant)}$"):
        read_zone(text)


@pytest.mark.parametrize("text", ["DMYYYY", "YYYYMD", "YYYY-MM-DD", "DD.MM.YYYYHm", "DMMYYYY", "YYYYMMDDhA"])
def test_digits_that_could_be_cut_in_two_ways_are_no_format(text: str) -> None:
    """1112026 would be the first of November as well as the eleventh of January; one such part is certain."""
    if text in ("YYYY-MM-DD", "DMMYYYY", "YYYYMMDDhA"):
        assert DateFormat.parse(text).text == text
        return
    with pytest.raises(ValueError, match=r"can be read in several ways|is no format"):
        DateFormat.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Europe/Berln", "did you mean Europe/Berlin"),
        ("new york", "did you mean America/New_York"),
        ("CET", "such as"),
        ("+25:00", "such as"),
        ("", "such as"),
    ],
)
def test_what_is_no_zone(text: str, words: str) -> None:
    """Abbreviations, which mean several zones, are none."""
    with pytest.raises(ValueError, match=words):
        read_zone(text)


@given(st.datetimes(datetime(1973, 1, 2), datetime(2199, 12, 30)))  # noqa: DTZ001 - local times
def test_a_local_time_comes_back_or_is_refused(at: datetime) -> None:
    """What was read is that time of day in that zone."""
    at = at.replace(microsecond=0, fold=0)
    try:
        read = datetime.fromisoformat(in_zone(at, BERLIN))
    except ValueError:
        return
    assert read.astimezone(BERLIN).replace(tzinfo=None, fold=0) == at


@given(st.dates(datetime(1973, 1, 1).date(), datetime(2199, 1, 1).date()))  # noqa: DTZ001 - dates
def test_what_is_detected_reads_what_it_was_detected_from(day: object) -> None:
    """The format that a date was written in is among those that fit it."""
    for form, written in (("DD/MM/YYYY", f"{day:%d/%m/%Y}"), ("YYYY-MM-DD", f"{day:%Y-%m-%d}")):
        assert form in fitting([written])


def test_a_day_number_of_a_spreadsheet_is_named_beside_a_format() -> None:
    """It says which day that is, as without a format."""
    (said,) = taken(["46387"], Dating(DateFormat.parse("DD.MM.YYYY"), BERLIN))
    assert "if it is a spreadsheet's date, write it as 2026-12-31T" in str(said)


@pytest.mark.parametrize(
    ("column", "words"),
    [("Zeitstempel", "If it is earnExpiresOn, say --map Zeitstempel="), ("Gültig bis", "such as with --map")],
)
def test_a_date_is_proposed_only_as_what_its_name_says(column: str, words: str) -> None:
    """When a form was sent in is no expiry."""
    text = f"badgeMetaId,customerId,earnEventDateISO,{column}\n{BADGE},1,2026-01-27T10:00:00Z,27.01.2026\n"
    with pytest.raises(ConfigError, match=words):
        read_rows(io.BytesIO(text.encode()), name="f.csv")


US = ["10/19/2026", "08/19/2026", "08/03/2026"]


@pytest.mark.parametrize(
    ("form", "cells", "say"),
    [
        ("DD/MM/YYYY", US, "--date-format MM/DD/YYYY"),
        ("D/M/YYYY or iso", ["2026-01-02", "1/2/2026", "1/13/2026"], "--date-format M/D/YYYY"),
        ("M/D/YYYY h:mm A", ["1/2/2026 3:04 PM", "13/2/2026 3:04 PM"], "--date-format 'D/M/YYYY h:mm A'"),
        ("MM.DD.YY", ["01.02.26", "13.02.26", "unknown"], "--date-format DD.MM.YY"),
        ("D/M/YYYY HH:mm", ["1/27/2026", "2/3/2026 14:05"], "--date-format 'M/D/YYYY HH:mm'"),
        ("DDMMYYYY", ["10192026", "08192026", "08032026"], "--date-format MMDDYYYY"),
        ("YYYYDDMM", ["10032026", "20261019", "20261103"], "--date-format YYYYMMDD"),
    ],
)
def test_a_format_that_would_swap_day_and_month_is_refused(form: str, cells: list[str], say: str) -> None:
    """The rows that seem to fit would go out with wrong dates, while only the others are reported."""
    with pytest.raises(
        ConfigError, match=r"^f\.csv: earnExpiresOn has “[12].*\(row \d\).*change places"
    ) as caught:
        taken(cells, Dating(DateFormat.parse(form), BERLIN))
    assert say in str(caught.value)


def test_one_date_in_another_order_is_refused_alone() -> None:
    """Where others are certainly as was said, the format is right."""
    how = Dating(DateFormat.parse("DD/MM/YYYY"), BERLIN)
    first, *_, last = taken(["31/12/2026", "12/31/2026", "01/02/2026"], how)
    assert (first, last) == ("2026-12-31T23:59:59+01:00", "2026-02-01T23:59:59+01:00")
    assert "change places" not in str(taken(["12/31/2026", "n/a"], how))


@pytest.mark.parametrize("text", ["never", "", "2026-3-4", "2026-03-04T00:00:00Z", "١٢"])
def test_what_a_workbook_calls_a_date_may_be_none(text: str) -> None:
    """Another program wrote it so; its row is refused, or it is read."""
    head = texts(1, "badgeMetaId", "customerId", "earnExpiresOn")
    cells = f'<c r="A2" t="str"><v>{BADGE}</v></c><c r="B2"><v>7</v></c><c r="C2" t="d"><v>{text}</v></c>'
    data = package(parts(sheet(f'{head}<row r="2">{cells}</row>')))
    rows = dated(read_rows(io.BytesIO(data), name="f.xlsx"), Dating(None, BERLIN), Remarks(), name="f.xlsx")
    assert [row.row for row in rows] == ["2"]


@pytest.mark.parametrize("form", [None, "DD/MM/YYYY"])
def test_dates_that_a_spreadsheet_of_another_country_swapped_are_refused(form: str | None) -> None:
    """It took 3 April for 4 March, and left 31 January as text."""
    how = Dating(DateFormat.parse(form) if form else None, BERLIN)
    with pytest.raises(ConfigError, match=r"“31/01/2026” \(row 3\).*real dates such as 2026-03-04 \(row 2\)"):
        booked([date(2026, 3, 4), "31/01/2026", date(2026, 5, 5)], how)


@pytest.mark.parametrize(
    "cells",
    [
        [date(2026, 3, 14), "31/01/2026"],  # no month has the number 14
        [date(2026, 3, 4), "31/01/2026", "02/01/2026"],  # which it would have taken for a date as well
        [date(2026, 5, 5), "31/01/2026"],
    ],
)
def test_a_column_that_no_spreadsheet_swapped_is_read(cells: list[object]) -> None:
    """One date that can't have been swapped says so of all."""
    read = booked(cells, Dating(DateFormat.parse("DD/MM/YYYY"), BERLIN))
    assert all(str(it).startswith("2026") for it in read)


LOW, HIGH = [f"2026-0{n}-1{n % 3}" for n in range(3, 9)], [f"{n}/04/2026" for n in range(13, 19)]
MADE_OF_US = [cell.replace("-", ".") for cell in ("03-04-2026", "05-06-2026", "01-02-2026")]


def told(cells: list[str], form: str) -> list[str]:
    """Return what is said of a text file's column of these cells as a whole."""
    remarks = Remarks()
    taken(cells, Dating(DateFormat.parse(form), BERLIN), remarks=remarks)
    return [it.reason for it in remarks.warned() if "time of day" not in it.reason]


@pytest.mark.parametrize("form", ["iso", "DD/MM/YYYY or iso", "DD/MM/YYYY or YYYY-MM-DD"])
def test_a_swapped_column_that_was_saved_as_text_is_refused(form: str) -> None:
    """Its dates of days up to 12 have the spreadsheet's form, and only those."""
    with pytest.raises(ConfigError, match=r"“13/04/2026” \(row 8\).*dates such as “2026-03-10” \(row 2\)"):
        told(LOW + HIGH, form)


def test_few_cells_of_a_swapped_column_are_only_told() -> None:
    """It may be chance; the rows are taken."""
    (said,) = told([*LOW[:2], *HIGH[:2]], "DD/MM/YYYY or iso")
    assert said.startswith("earnExpiresOn has text such as “13/04/2026” (row 4) only where the day is beyond")


@pytest.mark.parametrize(
    ("before", "cells", "form"),
    [
        ("1798758000", [*LOW, *HIGH], "iso"),
        ("2026-12-31T00:00:00Z", [*LOW, *HIGH], "DD/MM/YYYY or iso"),
        ("05/05/2026", US, "DD/MM/YYYY"),
        ("05/05/2026 10:00", US, "DD/MM/YYYY or DD/MM/YYYY HH:mm"),
    ],
)
def test_a_column_is_looked_at_to_its_end(before: str, cells: list[str], form: str) -> None:
    """What the first 1,000 rows don't show is told behind the last."""
    (said,) = told([before] * 1_500 + cells, form)
    assert "(row 150" in said


@pytest.mark.parametrize(
    ("form", "count"), [("DD.MM.YYYY or MM/DD/YYYY", 1), ("MM.DD.YYYY or MM/DD/YYYY", 0)]
)
def test_a_spreadsheet_may_write_other_signs(form: str, count: int) -> None:
    """One of Germany makes 03.04.2026 of 3/4/2026 of the USA, and leaves 4/13/2026: the order stays."""
    assert len(told([*MADE_OF_US, "04/13/2026", "04/14/2026"], form)) == count


@pytest.mark.parametrize(
    "cells",
    [
        [*LOW, *HIGH, "2026-04-13"],  # so dates are written in both ways
        [*LOW, *HIGH, "03/04/2026"],  # which a spreadsheet would have taken
        [*LOW, *HIGH, "05/05/2026"],
        [*("2026-05-05", "2026-06-06"), *HIGH],  # nothing could change places
        [*(f"{cell}T00:00:00Z" for cell in LOW), *HIGH],  # no spreadsheet writes an offset
        HIGH,
    ],
)
def test_of_other_columns_nothing_is_told(cells: list[str]) -> None:
    """One date that no swap leaves says so of all."""
    assert told(cells, "DD/MM/YYYY or iso") == []
