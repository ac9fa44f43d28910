"""CSV and TSV. Empty lines are skipped."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from journal.format.size_limits import MAX_LINE_BYTES
from journal.inputs.columns_and_cells import check_columns
from journal.inputs.read_options import Rows, Source
from journal.inputs.text_lines import Text

_DELIMITERS = {"\\t": "\t", "tab": "\t"}
_PROBABLE = ";\t|"  # other separators that occur in files with the extension .csv
_CR = (
    "has a carriage return (CR) without a line feed: replace it, as by tr '\\r' '\\n', or quote it"
)
# A cell that spreadsheets put into quotes, because it has a comma or a quote.
_SPREADSHEET_CELL = re.compile(r'"(?=[^"]*(?:,|""))(?:[^"]|"")*"')


def read_csv(source: Source, stream: io.BufferedReader, stack: ExitStack) -> tuple[list[str], Rows]:
    given = "," if source.delimiter is None else source.delimiter
    delimiter = _DELIMITERS.get(given, given)
    if len(delimiter) != 1 or delimiter in '"\r\n\0 ':
        reason = "must be one character, such as ; or |, or tab"
        raise source.refused_option("delimiter", reason)
    # By default, Python limits a cell to 128 KiB. The limit applies to the whole process. So a
    # higher limit that other code has set isn't lowered.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    lines = Text(stream, source, stack).lines()
    return _read(csv.reader(lines, strict=True, delimiter=delimiter), source, is_csv=True)


def read_tsv(source: Source, stream: io.BufferedReader, stack: ExitStack) -> tuple[list[str], Rows]:
    """Read TSV, in which quotes have no special meaning.

    The media type text/tab-separated-values has this rule. `cut`, `awk`, database clients and
    Google Sheets follow the rule. A reader that interprets quotes could join lines up to the next
    quote.

    Excel and LibreOffice put cells with a comma, a quote or a tab into quotes. Such a quoted cell
    is refused, since the quotes might also belong to the value.
    """
    lines = Text(stream, source, stack).lines()
    reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    return _read(reader, source, is_csv=False)


def _read(reader: Any, source: Source, *, is_csv: bool) -> tuple[list[str], Rows]:
    table = _cells(reader, source)
    header = next(table, None)
    if header is None:
        raise source.refused("is empty: its first line must name the columns")
    where = f"line {reader.line_num}"
    if len(header) == 1 and is_csv and source.delimiter is None:
        _check_delimiter(header[0], source, where)
    columns = check_columns(header, source, where)
    return columns, _rows(columns, table, reader, source, is_csv=is_csv)


def _cells(reader: Any, source: Source) -> Iterator[list[str]]:
    try:
        yield from filter(None, reader)
    except csv.Error as error:
        reason = _CR if str(error).startswith("new-line character") else "is not valid CSV"
        if source.delimiter is None:
            give = source.give("delimiter", ";")
            reason += (
                f"; if another character than a comma separates its cells, add it, as by {give}"
            )
        raise source.refused(reason, f"line {reader.line_num}", str(error)) from None


def _check_delimiter(header: str, source: Source, where: str) -> None:
    """Refuse a header that was read as one column if it probably has a different delimiter.

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


def _rows(
    columns: list[str], table: Iterator[list[str]], reader: Any, source: Source, *, is_csv: bool
) -> Rows:
    for cells in table:
        if len(cells) != len(columns):
            reason = f"has {len(cells)} cells, but the header names {len(columns)} columns"
            raise source.refused(reason, f"line {reader.line_num}", cells)
        if not is_csv and '"' in "".join(cells):
            _check_quotes(cells, source, f"line {reader.line_num}")
        yield dict(zip(columns, cells, strict=True))


def _check_quotes(cells: list[str], source: Source, where: str) -> None:
    for cell in filter(_SPREADSHEET_CELL.fullmatch, cells):
        reason = (
            "is a cell in quotes, as spreadsheets write it, but quotes have no meaning in TSV: "
            f"add {source.give('format', 'csv')} {source.give('delimiter', 'tab')}, or save it "
            "as JSON Lines if the quotes are part of the value"
        )
        raise source.refused(reason, where, cell)
