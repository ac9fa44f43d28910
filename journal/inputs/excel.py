"""Excel workbooks (.xlsx, .xlsm), with openpyxl, row by row.

openpyxl reads a sheet as a stream. All distinct texts of the workbook are in memory.
"""

from __future__ import annotations

import datetime as dt
import io
import itertools
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from journal.errors import InvalidValueError
from journal.inputs.columns_and_cells import check_columns, json_cell
from journal.inputs.read_options import Rows, Source
from journal.text import as_text

Cells = tuple[Any, ...]

_BATCH_ROWS = 500


def read_workbook(
    source: Source, stream: io.BufferedReader, stack: ExitStack
) -> tuple[list[str], Rows]:
    """The columns and the rows of a sheet. The first row that isn't empty names the columns."""
    import zipfile  # noqa: PLC0415  (slow to import)

    with zipfile.ZipFile(stream) as archive:
        if "xl/workbook.xml" not in archive.namelist():
            reason = "is a ZIP archive, and no Excel workbook: unzip it first, or save it as .xlsx"
            raise source.refused(reason)
    import openpyxl  # noqa: PLC0415  (an extra)

    def load(*, values: bool) -> Any:
        stream.seek(0)
        with warnings.catch_warnings():  # warnings about things that aren't values, such as styles
            warnings.simplefilter("ignore")
            book = openpyxl.load_workbook(stream, read_only=True, data_only=values)
        stack.callback(book.close)
        return book

    sheet = _sheet(load(values=False), source)
    table = _with_values(sheet, lambda: load(values=True)[sheet.title], source)
    first, header = next(table, (1, ()))
    names = [as_text(_value(cell, source, sheet.title)) for cell in header]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise source.refused(f"sheet {sheet.title!r} is empty: its first row must name the columns")
    columns = check_columns(names, source, f"sheet {sheet.title!r}, row {first}")
    return columns, _rows(columns, table, source, sheet.title)


def _rows_of(sheet: Any) -> Iterator[Cells]:
    """All rows of a sheet. An empty row may be ()."""
    sheet.reset_dimensions()  # some programs declare too few rows
    rows = sheet.iter_rows()
    while True:
        with warnings.catch_warnings():  # warnings about dates out of range, which become errors
            warnings.simplefilter("ignore")
            some = list(itertools.islice(rows, _BATCH_ROWS))
        if not some:
            return
        yield from some


def _with_values(
    sheet: Any, load: Callable[[], Any], source: Source
) -> Iterator[tuple[int, Cells]]:
    """Yield the numbers and cells of the rows that aren't empty, with the values of formulas.

    ``load``: loads the sheet with values. ``load`` is called only if there are formulas.
    """
    values: Iterator[Cells] | None = None
    for number, row in enumerate(_rows_of(sheet), 1):
        cells, formulas = row, [cell.data_type == "f" for cell in row]
        if values is None and any(formulas):
            values = itertools.islice(_rows_of(load()), number - 1, None)
        if values is not None:
            cells = next(values)
            for formula in itertools.compress(range(len(row)), formulas):
                # Empty text also has no value.
                if cells[formula].value is None and cells[formula].data_type != "str":
                    reason = (
                        "has a formula without a value: open the file in Excel and save it again"
                    )
                    raise _refused(reason, row[formula], source, sheet.title)
        if any(cell.value is not None for cell in cells):
            yield number, cells


def _rows(
    columns: list[str], table: Iterator[tuple[int, Cells]], source: Source, title: str
) -> Rows:
    width = len(columns)
    for _, cells in table:
        for cell in cells[width:]:
            if cell.value is not None:
                raise _refused("is in a column without a name: give it one", cell, source, title)
        values = [_value(cell, source, title) for cell in cells[:width]]
        yield dict(itertools.zip_longest(columns, values))


def _value(cell: Any, source: Source, title: str) -> Any:
    value = cell.value
    if value is None or type(value) in (int, bool):
        return value
    if cell.data_type == "e":
        raise _refused("is an error: correct it", cell, source, title)
    if type(value) is str:
        from openpyxl.utils.escape import unescape  # noqa: PLC0415  (an extra)

        return unescape(value) if "_x" in value else value
    if isinstance(value, dt.datetime) and value.time() == dt.time():
        from openpyxl.styles.numbers import is_datetime  # noqa: PLC0415  (an extra)

        # If the cell shows no time, the value is a date.
        value = value.date() if is_datetime(cell.number_format.lower()) == "date" else value
    return json_cell(value, source, f"cell {title}!{cell.coordinate}")


def _refused(reason: str, cell: Any, source: Source, title: str) -> InvalidValueError:
    return source.refused(reason, f"cell {title}!{cell.coordinate}", cell.value)


def _sheet(book: Any, source: Source) -> Any:
    """The sheet with the given name, or the only visible sheet that isn't empty."""
    if source.sheet is not None:
        names = [sheet.title for sheet in book.worksheets]
        if source.sheet in names:
            return book[source.sheet]
        raise source.refused_option(
            "sheet", f"there is no such sheet: the sheets are {_listed(names)}"
        )
    visible = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
    full = [
        sheet.title
        for sheet in visible
        if any(cell.value is not None for row in _rows_of(sheet) for cell in row)
    ]
    if len(full) > 1:
        choose = source.give("sheet", full[0])
        raise source.refused(f"has {len(full)} sheets: {_listed(full)}: choose one, as by {choose}")
    if not full:
        raise source.refused("has no visible sheet with cells: the first row must name the columns")
    return book[full[0]]


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names))
