"""Excel workbooks (.xlsx, .xlsm), with openpyxl, row by row.

Some libraries are faster than openpyxl, but load a whole sheet. openpyxl reads a sheet as a stream.
It also provides the format of each cell, and shows which cells are errors. All distinct texts of
the workbook are in memory, each of them once.
"""

from __future__ import annotations

import datetime as dt
import io
import itertools
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from journal.errors import InvalidValueError, MissingExtraError
from journal.inputs.cells import json_cell
from journal.inputs.source import Source, check_columns
from journal.text import as_text, similar

Rows = Iterator[dict[str, Any]]
Cells = tuple[Any, ...]

_BATCH_ROWS = 500
# What openpyxl, and the modules for ZIP and XML, raise for damaged files.
_REFUSALS = (
    *(zipfile.BadZipFile, zlib.error, EOFError, SyntaxError, OSError, RuntimeError),
    *(LookupError, ValueError, TypeError, AttributeError, AssertionError),
)
_PIECE_BYTES = 1 << 20


def read_workbook(
    source: Source, stream: io.BufferedReader, stack: ExitStack
) -> tuple[list[str], Rows]:
    """The columns and the rows of a sheet. Its first row that isn't empty names the columns."""
    if not source.is_file:
        raise source.refused("is a pipe, but a workbook is read from its end: save it as a file")
    try:
        import openpyxl  # noqa: PLC0415  (an extra)
    except ImportError:
        raise MissingExtraError("an Excel workbook as input", "openpyxl", "excel") from None

    def load(*, values: bool) -> Any:
        stream.seek(0)
        with warnings.catch_warnings():  # about things that aren't values, such as styles
            warnings.simplefilter("ignore")
            book = openpyxl.load_workbook(stream, read_only=True, data_only=values)
        stack.callback(book.close)
        return book

    try:
        book = load(values=True)
        sheet = _sheet(book, source)
        table = _Sheet(sheet, source)
        if _has_formulas_without_values(source):
            table.formulas = _rows_of(load(values=False)[sheet.title])
        return table.columns, table.rows()
    except _REFUSALS as error:
        if isinstance(error, InvalidValueError):
            raise
        raise source.refused(f"can't be read as an Excel workbook: {error}") from None


def _rows_of(sheet: Any) -> Iterator[Cells]:
    """All rows of a sheet. An empty row may be ()."""
    sheet.reset_dimensions()  # some programs declare too few rows
    rows = sheet.iter_rows()
    while True:
        with warnings.catch_warnings():  # about dates out of range, which raise errors below
            warnings.simplefilter("ignore")
            some = list(itertools.islice(rows, _BATCH_ROWS))
        if not some:
            return
        yield from some


def _sheet(book: Any, source: Source) -> Any:
    """The sheet with the given name, or the only sheet that isn't empty."""
    names = [sheet.title for sheet in book.worksheets]
    if source.sheet is not None:
        if source.sheet in names:
            return book[source.sheet]
        like = similar(source.sheet, names)
        meant = f"; did you mean {like!r}?" if like else ""
        raise source.refused_option(
            "sheet", f"there is no such sheet: the sheets are {_listed(names)}{meant}"
        )
    visible = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
    full = [sheet for sheet in visible if any(map(_is_full, _rows_of(sheet)))]
    if not full:
        raise source.refused("has no visible sheet with cells: the first row must name the columns")
    if len(full) > 1:
        listed = _listed([sheet.title for sheet in full])
        choose = source.give("sheet", full[0].title)
        raise source.refused(f"has {len(full)} sheets: {listed}: choose one, as by {choose}")
    return full[0]


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:20]))


def _is_full(row: Cells) -> bool:
    return any(cell.value is not None for cell in row)


class _Sheet:
    """The table in a sheet.

    ``formulas``: the rows of the sheet, with formulas in place of values. This iterator is empty if
    every formula of the workbook has its value.
    """

    def __init__(self, sheet: Any, source: Source) -> None:
        self.formulas: Iterator[Cells] = iter(())
        self._source, self._title = source, sheet.title
        self._numbered = enumerate(_rows_of(sheet), 1)
        self._header = 0
        self.columns = self._read_header()

    def _read_header(self) -> list[str]:
        for number, row in self._numbered:
            if _is_full(row):
                names = [as_text(self._value(cell)) for cell in row]
                while not names[-1]:
                    names.pop()
                self._header = number
                where = f"sheet {self._title!r}, row {number}"
                return check_columns(names, self._source, where)
        raise self._source.refused(f"sheet {self._title!r} is empty")

    def rows(self) -> Rows:
        number, is_empty, columns = self._header, True, self.columns
        formulas = itertools.islice(self.formulas, self._header, None)
        try:
            for number, row in self._numbered:  # noqa: B007  (see below)
                self._check_formulas(row, next(formulas, ()))
                if not _is_full(row):
                    continue
                is_empty = False
                values = [self._value(cell) for cell in row[: len(columns)]]
                values += [None] * (len(columns) - len(values))
                for cell in row[len(columns) :]:
                    if cell.value is not None:
                        reason = f"is in a column without a name: name it in row {self._header}"
                        raise self._refused(reason, cell, cell.value)
                yield dict(zip(columns, values, strict=True))
        except _REFUSALS as error:
            if isinstance(error, InvalidValueError):
                raise
            reason = f"can't be read as an Excel workbook: {error}"
            raise self._source.refused(reason, f"after row {number}") from None
        if is_empty:
            raise self._source.refused(f"sheet {self._title!r} has a header and no rows")

    def _value(self, cell: Any) -> Any:
        value = cell.value
        if type(value) is str:
            if cell.data_type == "e":
                raise self._refused("is an error: correct it", cell, value)
            return _unescaped(value)
        if (
            isinstance(value, dt.datetime)
            and value.time() == dt.time()
            and _is_date(cell.number_format)
        ):
            value = value.date()
        if value is None or type(value) in (int, bool):
            return value
        return json_cell(value, self._source, f"cell {self._title}!{cell.coordinate}")

    def _check_formulas(self, row: Cells, formulas: Cells) -> None:
        for cell, formula in zip(row, formulas, strict=False):
            # Empty text also has no value.
            if cell.value is None and formula.data_type == "f" and cell.data_type != "str":
                reason = "has a formula without a value: open the file in Excel and save it again"
                raise self._refused(reason, formula, formula.value)

    def _refused(self, reason: str, cell: Any, value: object) -> InvalidValueError:
        return self._source.refused(reason, f"cell {self._title}!{cell.coordinate}", value)


def _is_date(number_format: str) -> bool:
    """Whether the format of a cell shows a date without a time."""
    from openpyxl.styles.numbers import is_datetime  # noqa: PLC0415

    return bool(is_datetime(number_format.lower()) == "date")


_ESCAPE = re.compile("_x(00[01][0-9A-Fa-f]|005[Ff])_")


def _unescaped(text: str) -> str:
    """Decode the control characters in text. A workbook stores CR, for example, as ``_x000D_``.

    If text itself contains ``_x000D_``, Excel escapes its underscore: ``_x005F_x000D_``.
    """
    if "_x" not in text:
        return text
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)


_PLACE = re.compile(rb"""<(?:\w+:)?(?:row|c)\s(?:[^>]*\s)?r=["']([A-Z]*)(\d+)["']""")


class _Order:
    """Checks that rows and cells are in ascending order.

    openpyxl would silently drop rows and cells that are out of order.
    """

    def __init__(self, name: str, source: Source) -> None:
        self._name, self._source = name, source
        self._left = b""
        self._is_sheet = False  # other parts of a workbook may have cells in any order
        self._row, self._column = 0, (0, b"")

    def check(self, data: bytes) -> None:
        text = self._left + data
        self._is_sheet = self._is_sheet or b"sheetData>" in text
        if not self._is_sheet:
            return
        end = text.rfind(b"<")
        self._left = text[end:][:_MAX_CELL_BYTES]
        for letters, digits in _PLACE.findall(text[:end]):
            column = (len(letters), letters)
            if (self._column if letters else (self._row,)) >= (
                column if letters else (int(digits),)
            ):
                place = (letters + digits).decode()
                raise self._source.refused(_UNORDERED, f"{self._name}, row or cell {place}")
            if letters:
                self._column = column
            else:
                self._row, self._column = int(digits), (0, b"")


_UNORDERED = "is out of order: open the file in Excel and save it again"
# A cell that isn't text, with a formula that has no value. Some programs write <x:c> for <c>.
_VALUELESS = re.compile(
    rb'<(\w+:|)c\b(?![^>]*\bt="str")[^>]*>\s*<\1f\b(?:[^>]*/>|[^>]*>[^<]*</\1f>)\s*'
    rb"(?:<\1v\s*/>|<\1v>\s*</\1v>)?\s*</\1c>"
)
_MAX_CELL_BYTES = 1 << 15


def _has_formulas_without_values(source: Source) -> bool:
    """Whether any sheet has formulas without values.

    Programs that don't compute formulas write such sheets. openpyxl reads a cell with such a
    formula as empty. Raises InvalidValueError if rows or cells of a sheet are out of order.
    """
    with zipfile.ZipFile(source.path) as archive:
        for name in archive.namelist():
            if name.endswith(".xml"):  # a program may keep its sheets anywhere
                left = b""
                order = _Order(name, source)
                with archive.open(name) as file:
                    while data := file.read(_PIECE_BYTES):
                        order.check(data)
                        left = left[-_MAX_CELL_BYTES:] + data
                        if (b"<f" in left or b":f" in left) and _VALUELESS.search(left):
                            return True
    return False
