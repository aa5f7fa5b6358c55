"""Rows of an Excel workbook: sheet and header are found, and nothing that nobody sees is taken silently.

A row keeps the number that Excel shows. The archive is read in ``xlsx_package.py``, cells in
``xlsx_sheet.py``, and what they mean is in ``xlsx_cells.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from shlex import quote
from typing import BinaryIO, Final

from worker.domain.item import NOTHING, Remarks, Source
from worker.domain.numbers import INVISIBLE, BadCell
from worker.domain.text import escaped
from worker.errors import ConfigError, FileError
from worker.files.columns import FIELDS, NEEDED, Names, unguarded
from worker.files.header import NAMED, NAMED_AGAIN, Given, Header
from worker.files.sample import Sample, missing_dates
from worker.files.totals import LEFT_OUT, Added, has_badge, is_row, is_total
from worker.files.xlsx_cells import Meanings, Rounded, Value
from worker.files.xlsx_merged import Merged
from worker.files.xlsx_nameless import Nameless
from worker.files.xlsx_package import Package
from worker.files.xlsx_sheet import Row, Sheet, letters
from worker.files.xlsx_workbook import Workbook

_ROWS_LOOKED_AT: Final = 50  # for the header
_HIDDEN_LEFT_OUT: Final = (
    "a row that is hidden in the sheet, by a filter or by hand, is left out (--hidden-rows takes it)"
)
_CUSTOMER: Final = "customerId"
_TEXTS: Final = ("s", "str", "inlineStr")  # kinds of cells
_IDS: Final = ("badgeMetaId", "customerId", "job_id")
_ROUNDED: Final = (
    "is a number of more than 15 digits, of which a spreadsheet keeps 15: format the column as text and "
    "take the id from its source once more"
)
_ABOVE: Final = "row {} names columns as well, but fewer than row {}: what stands between them isn't read"
_MERGED: Final = "is one of the merged cells {}, which show one value: unmerge them and fill in each cell"


@dataclass(frozen=True, slots=True)
class SheetOptions:
    """Which sheet of a workbook is read, and whether its hidden rows are taken.

    ``remarks`` gets what is left out, and what is taken though nobody sees it, until the last row was given.
    """

    sheet: str | None = None
    hidden_rows: bool = False
    remarks: Remarks = field(default_factory=Remarks)

    def refuse(self, name: str) -> None:
        """Refuse options that mean nothing for a file without sheets.

        Raises:
            ConfigError: there are such.
        """
        if self.sheet is not None or self.hidden_rows:
            option = "--hidden-rows" if self.sheet is None else "--sheet"
            raise ConfigError(f"{name} is no Excel workbook, so that {option} means nothing: leave it out")


@dataclass(frozen=True, slots=True)
class _Top:
    """Where a sheet's columns are named, by their places; ``fields`` counts the badge's among them."""

    sheet: Sheet
    row: int
    names: Mapping[int, str]
    fields: int
    above: int = 0  # the last row above it that names fields as well, but fewer
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which column is which field, and the names of the others."""

    fields: Mapping[int, str]
    others: Mapping[int, str]
    is_report: bool


def open_xlsx(stream: BinaryIO, given: Given, options: SheetOptions) -> Iterator[Source]:
    """Find the sheet and its header, and give the rows below it.

    Args:
        stream: a file that can be read anywhere.
        given: what the messages call it, and what a person says of its columns.
        options: which sheet, and whether its hidden rows are taken.

    Raises:
        FileError: the workbook is damaged, or names no columns of a badge.
        ConfigError: several sheets could be meant, or a date is missing, and a column of dates isn't mapped.
    """
    names = given.names
    workbook = Workbook(Package(stream, given.file))
    meanings = Meanings(workbook)
    top = _chosen(workbook, meanings, names, options)
    header = Header(given.file, names, tuple(top.names.values()))
    header.check_names("; ".join([_no_header(top), *(it.reason for it in options.remarks.warned())]))
    header.tell(options.remarks)
    if top.above:
        options.remarks.add(_ABOVE.format(top.above, top.row))
    if top.hidden:
        options.remarks.add(f"row {top.row}, which names the columns, is hidden, and is read")
    is_report, field_of = header.is_report, header.field_of
    fields = {at: its for at, column in top.names.items() if (its := field_of(column))}
    others = {} if is_report else {at: it for at, it in top.names.items() if at not in fields}
    rows = _Rows(top, header, _Columns(fields, others, is_report), meanings, options)
    sample = Sample.of(rows.sources())
    header.check(sample, without_dates=given.without_dates)
    if not is_report and not given.without_dates:
        where = f"{given.file}, sheet {_quoted(top.sheet.name)},"
        rows.nameless.refuse_dates(where, top.row, missing_dates({*fields.values(), *names.fixed}))
    return sample.rows()


def _chosen(workbook: Workbook, meanings: Meanings, names: Names, options: SheetOptions) -> _Top:
    """Return the sheet that is meant: by name, or the only one that names columns of a badge."""
    file, wanted = workbook.file, options.sheet
    if wanted is not None:
        sheet = _named(workbook, wanted)
        if sheet.hidden or not _is_called(sheet, wanted):
            options.remarks.add(f"the sheet {_quoted(sheet.name)} {'is hidden, and ' * sheet.hidden}is read")
        top = _top(sheet, meanings, names)
        if top is None:
            raise FileError(f"{file}: the sheet {_quoted(sheet.name)} is empty")
        return top
    tops = [top for sheet in workbook.sheets if (top := _top(sheet, meanings, names))]
    seen = [top for top in tops if not top.sheet.hidden]
    fitting = [top for top in seen if top.fields] or seen
    if not fitting:
        hidden = "".join(
            f"; the sheet {_quoted(it.sheet.name)} is hidden, and read with --sheet" for it in tops
        )
        raise FileError(f"{file} is empty{hidden}")
    if len(fitting) > 1:
        which = " or ".join(f"--sheet {quote(escaped(top.sheet.name, 60))}" for top in fitting)
        raise ConfigError(f"{file} has several sheets that could be meant: say which, with {which}")
    for top in tops:
        if top is not fitting[0]:
            why = "is hidden" if top.sheet.hidden else "names no columns of a badge"
            options.remarks.add(f"the sheet {_quoted(top.sheet.name)} {why}, and isn't read")
    return fitting[0]


def _named(workbook: Workbook, wanted: str) -> Sheet:
    """Return the sheet of that name, or with that number among the tabs that are seen."""
    for sheet in workbook.sheets:
        if _is_called(sheet, wanted):
            return sheet
    tabs = workbook.tabs
    number = int(wanted[:4]) if wanted.isascii() and wanted.isdigit() else 0
    if 0 < number <= len(tabs):
        if isinstance(tab := tabs[number - 1], Sheet):
            return tab
        raise ConfigError(f"{workbook.file}: tab {number}, {_quoted(tab)}, is a chart: say another one")
    there = ", ".join(_quoted(sheet.name) for sheet in workbook.sheets)
    raise ConfigError(f"{workbook.file} has no sheet {_quoted(wanted)}; it has {there}")


def _is_called(sheet: Sheet, wanted: str) -> bool:
    return sheet.name.strip().casefold() == wanted.strip().casefold()


def _quoted(name: str) -> str:
    return f"“{escaped(name, 60)}”"


def _top(sheet: Sheet, meanings: Meanings, names: Names) -> _Top | None:
    """Return the row that names a sheet's columns, among the first: that with most fields; none if empty."""
    best: _Top | None = None
    looked_at = 0
    for row in sheet.rows():
        shown = {at: _text(meanings.value(cell)) for at, cell in sorted(row.cells.items())}
        shown = {at: text for at, text in shown.items() if text}
        found = {names.field(text) for text in shown.values()}.intersection(FIELDS)
        if shown and (best is None or len(found) > best.fields):
            above = best.row if best and best.fields else 0
            best = _Top(sheet, row.number, shown, len(found), above, row.hidden)
        looked_at += bool(shown)
        if found.issuperset(NEEDED) or looked_at == _ROWS_LOOKED_AT:
            break
    return best


def _text(value: Value) -> str:
    """Return what a cell shows, as the name of a column."""
    if value is None or isinstance(value, bool):
        return ""
    return " ".join(INVISIBLE.sub("", value).split())


def _no_header(top: _Top) -> str:
    begin = escaped(", ".join(top.names.values()), 60)
    return (
        f"none of the first {_ROWS_LOOKED_AT} rows of the sheet {_quoted(top.sheet.name)} names the columns; "
        f"row {top.row} reads “{begin}”"
    )


class _Rows:
    """Makes items of a sheet's rows."""

    def __init__(
        self, top: _Top, header: Header, table: _Columns, meanings: Meanings, options: SheetOptions
    ) -> None:
        self._top, self._header, self._table = top, header, table
        self._meanings, self._options, self._remarks = meanings, options, options.remarks
        self._named = table.fields.keys() | table.others.keys()
        self.nameless = Nameless(self._remarks)
        self._added = Added()
        self._merged = Merged(top.sheet.merged(), table.fields)
        for at, name in top.names.items():
            if at in table.fields and any(at in hidden for hidden in top.sheet.hidden_columns):
                self._remarks.add(f"column {letters(at)} ({escaped(name, 60)}) is hidden, and is read")

    def sources(self) -> Iterator[Source]:
        """Give the rows below the header."""
        for row in self._top.sheet.rows():
            if row.number > self._top.row and (source := self._source(row)):
                yield source

    def _source(self, row: Row) -> Source | None:
        if self._is_again(row):
            return None
        item: dict[str, Value] = {}
        formulas = []
        cells, value_of = row.cells, self._meanings.value
        for at, name in self._table.fields.items():
            if (cell := cells.get(at)) is None or (value := value_of(cell)) is None:
                continue
            if isinstance(value, str) and (not value or value.isspace()):
                continue
            is_lost = type(value) is Rounded and name in _IDS
            item[name] = BadCell.of("rounded", str(value), _ROUNDED) if is_lost else value
            if cell.formula is not None and not isinstance(item[name], BadCell):
                formulas.append(name)
        if self._left_out(row, item):
            return None
        for name, merged in self._merged.at(row.number):
            item[name] = BadCell.of("merged", str(merged), _MERGED.format(merged))
        if self._table.is_report:
            shown = {name: unguarded(it) if type(it) is str else it for name, it in item.items()}
            item = {"state": "", **shown}
        elif not cells.keys() <= self._named:
            nameless = row.cells.keys() - self._named
            self.nameless.note(row.number, {at: _text(value_of(cells[at])) for at in nameless})
        warning = "; ".join([f"{name} is a formula: its stored value is taken" for name in formulas])
        return Source(str(row.number), item, others=self._others(row), warning=warning)

    def _others(self, row: Row) -> Mapping[str, str]:
        if not self._table.others:
            return NOTHING
        cells = ((name, row.cells.get(at)) for at, name in self._table.others.items())
        values = ((name, self._meanings.value(cell)) for name, cell in cells if cell)
        return {name: str(value) for name, value in values if value is not None}

    def _is_again(self, row: Row) -> bool:
        """Say whether a row names the columns once more; a hidden one tells what stands below it, too."""
        cells = [row.cells[at] for at in sorted(row.cells)]
        if sum(cell.kind in _TEXTS for cell in cells) < NAMED:
            return False
        shown = [_text(self._meanings.value(it)) if it.kind in _TEXTS else it.text for it in cells]
        if self._header.is_again(shown, row.number):
            self._remarks.add(NAMED_AGAIN, row.number)
            return True
        return False

    def _left_out(self, row: Row, item: Mapping[str, Value]) -> bool:
        if not item and not is_row(self._others(row).values(), self._remarks, row.number):
            return True
        if row.hidden and not self._options.hidden_rows:
            self._remarks.add(_HIDDEN_LEFT_OUT, row.number)
            return True
        if self._table.is_report or has_badge(item) or not self._is_total(row, item):
            return False
        self._remarks.add(LEFT_OUT, row.number)
        return True

    def _is_total(self, row: Row, item: Mapping[str, Value]) -> bool:
        cells = row.cells.items()
        formulas = {at: cell.formula for at, cell in cells if cell.formula}
        customer = next((row.cells.get(at) for at, it in self._table.fields.items() if it == _CUSTOMER), None)
        is_typed = customer is not None and customer.formula is None and str(item.get(_CUSTOMER)).isdigit()
        if self._added.is_by_formula(row.number, formulas, has_customer=is_typed):
            return True
        beside = [_text(self._meanings.value(cell)) for at, cell in cells if at not in self._table.fields]
        return is_total({name: str(it) for name, it in item.items()}, beside)
