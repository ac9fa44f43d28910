"""CSV and TSV. Errors name the line. Empty lines are skipped."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator
from typing import Any

from journal.format.records import MAX_LINE_BYTES
from journal.inputs.lines import without_end
from journal.inputs.source import Source, check_columns

Table = Iterator[tuple[int, list[str]]]  # the number of each line, and its cells
Rows = Iterator[dict[str, Any]]

_DELIMITERS = {"\\t": "\t", "tab": "\t"}
_SEPARATOR_LINE = re.compile(r'"?sep=([^"\r\n\0 ])"?\r?\n', re.IGNORECASE)  # a hint for Excel
_PROBABLE = ";\t|"  # other separators that occur in files with the extension .csv


_CR = (
    "has a carriage return (CR) without a line feed: replace it, as by tr '\\r' '\\n', or quote it"
)


def read_table(lines: Iterator[str], source: Source, format: str) -> tuple[list[str], Rows]:  # noqa: A002  (the word)
    """Read the header. Returns the columns and the rows."""
    table = _tsv_cells(lines, source) if format == "tsv" else _csv_cells(lines, source)
    columns = _header(table, source, format)
    return columns, _rows(columns, table, source)


def _csv_cells(lines: Iterator[str], source: Source) -> Table:
    # By default, Python limits a cell to 128 KiB. The limit applies to the whole process, so if
    # other code has set a higher limit, it isn't lowered.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    delimiter, before = _delimiter(source), 0
    first = next(lines, "")
    told = _SEPARATOR_LINE.fullmatch(first)
    if told is not None:
        before = 1
        delimiter = told[1] if source.delimiter is None else delimiter
    else:
        lines = itertools.chain((first,), lines)
    reader = csv.reader(lines, strict=True, delimiter=delimiter)
    try:
        for cells in reader:
            if cells:
                yield before + reader.line_num, cells
    except csv.Error as error:
        where = f"line {before + reader.line_num}"
        is_first = before + reader.line_num == 1
        if is_first and source.delimiter is None and "," not in first:
            _check_delimiter(without_end(first), source, where)  # such as "a";"b"
        if str(error).startswith("new-line character"):
            raise source.refused(_CR, where) from None
        raise source.refused("is not valid CSV", where, str(error)) from None


def _delimiter(source: Source) -> str:
    given = "," if source.delimiter is None else source.delimiter
    delimiter = _DELIMITERS.get(given, given)
    if len(delimiter) != 1 or delimiter in '"\r\n\0 ':
        reason = "must be one character, such as ; or |, or tab"
        raise source.refused_option("delimiter", reason)
    return delimiter


def _tsv_cells(lines: Iterator[str], source: Source) -> Table:
    """Yield the cells of each line, which are separated by tabs. Quotes have no special meaning.

    The media type text/tab-separated-values is defined in this way. `cut`, `awk`, database clients
    and Google Sheets follow this definition. A reader that interprets quotes could join lines up to
    the next quote.

    Excel and LibreOffice put cells with a comma, a quote or a tab into quotes. Such a quoted cell
    is refused, since the quotes might also belong to the value.
    """
    for number, line in enumerate(lines, 1):
        text = without_end(line)
        if text:
            if number == 1 and "\r" in text:
                raise source.refused(_CR, "line 1", text)
            cells = text.split("\t")
            if '"' in text:
                _check_quotes(cells, source, f"line {number}")
            yield number, cells


_SPREADSHEET_CELL = re.compile(r'"(?:[^"]|"")*"')


def _check_quotes(cells: list[str], source: Source, where: str) -> None:
    for cell in cells:
        if _SPREADSHEET_CELL.fullmatch(cell) and ("," in cell or '""' in cell[1:-1]):
            reason = (
                "is a cell in quotes, as spreadsheets write it, but quotes have no meaning in TSV: "
                f"add {source.give('format', 'csv')} {source.give('delimiter', 'tab')}, or save it "
                "as JSON Lines if the quotes are part of the value"
            )
            raise source.refused(reason, where, cell)


def _header(table: Table, source: Source, format: str) -> list[str]:  # noqa: A002  (the word)
    number, columns = next(table, (0, None))
    if columns is None:
        reason = "is empty: its first line must name the columns, and rows must follow"
        raise source.refused(reason)
    where = f"line {number}"
    if source.format is None and columns[0][:1] in ("{", "["):
        name = "jsonl" if columns[0].startswith("{") else "json"
        reason = f"looks like JSON, not like a header: add {source.give('format', name)}"
        raise source.refused(reason, where, columns[0])
    if len(columns) == 1 and format == "csv" and source.delimiter is None:
        _check_delimiter(columns[0], source, where)
    return check_columns(columns, source, where)


def _check_delimiter(header: str, source: Source, where: str) -> None:
    """Refuse a header that was read as one column, but probably has a different delimiter.

    With the wrong delimiter, each row would become a single cell.
    """
    for delimiter in _PROBABLE:
        if delimiter in header:
            given = source.give("delimiter", "tab" if delimiter == "\t" else delimiter)
            reason = (
                f"looks like columns separated by {delimiter!r}: add {given}; or, if this is the "
                f"name of one column, {source.give('delimiter', ',')}"
            )
            raise source.refused(reason, where, header)


def _rows(columns: list[str], table: Table, source: Source) -> Rows:
    number = 0
    for number, cells in table:
        if len(cells) != len(columns):
            reason = f"has {len(cells)} cells, but the header names {len(columns)} columns"
            raise source.refused(reason, f"line {number}", cells)
        yield dict(zip(columns, cells, strict=True))
    if not number:
        raise source.refused("has a header and no rows")
