"""Reads the rows of a run from CSV, TSV, JSON Lines or plain lines.

Errors name the line and the value. An input is read row by row, in constant memory.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import PurePath
from typing import IO, Any

import msgspec

from journal.errors import InvalidValueError
from journal.format.records import MAX_DEPTH, MAX_LINE_BYTES
from journal.format.values import DECODE_ERRORS, nests_deeper_than
from journal.text import Number, decode_json_exact

FORMATS = ("csv", "tsv", "jsonl", "lines")
NULL = "null"  # the format of --null: as lines, but each ends with a NUL
LINE_COLUMN = "line"
_READ_BYTES = 4096

_FORMAT_OF_SUFFIX = {
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "lines",
}

_BOMS = (  # longest first, since the mark of UTF-32 begins with the mark of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class RowInput:
    """The rows of an input as dicts, in order. They can be iterated only once.

    ``columns``: the names in the header; None if each row has its own names. Iterating raises
    InvalidValueError for the first invalid row, and if there are no rows.
    """

    def __init__(self, columns: list[str] | None, rows: Iterator[dict[str, Any]]) -> None:
        self.columns = columns
        self._rows = rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._rows


def format_of(name: str) -> str:
    """The format that a file's extension selects. Default: CSV."""
    return _FORMAT_OF_SUFFIX.get(PurePath(name).suffix.lower(), "csv")


def open_rows(stream: IO[bytes], name: str, encoding: str, format: str) -> RowInput:  # noqa: A002  (the word)
    """Return the rows in ``stream``. Reads the header, if the format has one. Errors contain
    ``name``.

    ``format`` is one of FORMATS, or NULL. Raises InvalidValueError for an invalid header or encoding.
    """
    if format not in (*FORMATS, NULL):
        raise InvalidValueError("format", format, f"must be one of {', '.join(FORMATS)}")
    lines = _text(stream, name, encoding, format)
    if format == NULL:
        items = (item.removesuffix("\0") for item in lines)
        return RowInput([LINE_COLUMN], _line_rows(items, name))
    if format == "jsonl":
        return RowInput(None, _json_rows(lines, name))
    if format == "lines":
        return RowInput([LINE_COLUMN], _line_rows(map(_without_end, lines), name))
    table = _csv_cells(lines, name) if format == "csv" else _tsv_cells(lines, name)
    columns = _header(table, name)
    return RowInput(columns, _table_rows(columns, table, name))


# --- tables: each line is a pair of its number and its cells; empty lines are skipped

Table = Iterator[tuple[int, list[str]]]


def _csv_cells(lines: Iterator[str], name: str) -> Table:
    csv.field_size_limit(MAX_LINE_BYTES)  # Python's default is 128 KiB
    reader = csv.reader(lines, strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise InvalidValueError(
            f"{name}, line {reader.line_num}", str(error), "is not valid CSV"
        ) from None


def _tsv_cells(lines: Iterator[str], name: str) -> Table:
    """Yield the cells of each line, which are separated by tabs. Quotes have no special meaning.

    This is the definition of text/tab-separated-values, and how `cut`, `awk`, database clients and
    Google Sheets write TSV. A reader that interprets quotes could join lines up to the next quote.

    Excel and LibreOffice do quote cells with a comma, a quote or a tab. Such a cell is refused,
    since nobody knows whether its quotes belong to the value.
    """
    for number, line in enumerate(lines, 1):
        text = _without_end(line)
        if text:
            cells = text.split("\t")
            if '"' in text:
                _check_quotes(cells, f"{name}, line {number}")
            yield number, cells


_SPREADSHEET_CELL = re.compile(r'"(?:[^"]|"")*"')


def _check_quotes(cells: list[str], where: str) -> None:
    for cell in cells:
        if _SPREADSHEET_CELL.fullmatch(cell) and ("," in cell or '""' in cell[1:-1]):
            raise InvalidValueError(
                where,
                cell,
                "is a cell in quotes, as spreadsheets write it, but quotes have no meaning in TSV: "
                "save it as CSV, or as JSON Lines if the quotes are part of the value",
            )


def _header(table: Table, name: str) -> list[str]:
    number, columns = next(table, (0, None))
    if columns is None:
        reason = "is empty: its first line must name the columns, and rows must follow"
        raise InvalidValueError(name, "", reason)
    where = f"{name}, line {number}"
    seen = set[str]()
    for place, column in enumerate(columns, 1):
        if not column.strip():
            raise InvalidValueError(where, column, f"column {place} has no name: give it one")
        if column in seen:
            raise InvalidValueError(where, column, "two columns have this name: rename one")
        seen.add(column)
    return columns


def _table_rows(columns: list[str], table: Table, name: str) -> Iterator[dict[str, Any]]:
    number = 0
    for number, cells in table:
        if len(cells) != len(columns):
            reason = f"has {len(cells)} cells, but the header names {len(columns)} columns"
            raise InvalidValueError(f"{name}, line {number}", cells, reason)
        yield dict(zip(columns, cells, strict=True))
    if not number:
        raise InvalidValueError(name, "", "has a header and no rows")


# --- lines and JSON Lines


def _line_rows(lines: Iterator[str], name: str) -> Iterator[dict[str, Any]]:
    """Yield one row, with one column, for each line. Empty lines are skipped."""
    is_empty = True
    for line in lines:
        if line:
            is_empty = False
            yield {LINE_COLUMN: line}
    if is_empty:
        raise InvalidValueError(name, "", "has no lines")


def _json_rows(lines: Iterator[str], name: str) -> Iterator[dict[str, Any]]:
    """Yield one row for each line. Each line must be a JSON object. Blank lines are skipped."""
    is_empty = True
    for number, line in enumerate(lines, 1):
        if not line.isspace():
            is_empty = False
            yield _json_object(line, f"{name}, line {number}")
    if is_empty:
        raise InvalidValueError(name, "", "is empty: each of its lines must be a JSON object")


# Decodes numbers of any size, to name one that is too large.
_decode_lax = msgspec.json.Decoder(float_hook=Number).decode
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"')


def _json_object(line: str, where: str) -> dict[str, Any]:
    if line.count("{") + line.count("[") >= MAX_DEPTH and nests_deeper_than(
        line.encode(errors="replace"), MAX_DEPTH - 1
    ):
        raise InvalidValueError(where, line, f"must nest at most {MAX_DEPTH - 1} deep")
    try:
        value = decode_json_exact(line)
    except (*DECODE_ERRORS, UnicodeEncodeError) as error:  # UnicodeError: a lone surrogate
        with suppress(*DECODE_ERRORS, UnicodeEncodeError):
            _refuse_large_numbers(_decode_lax(line), where, ": ")
        raise InvalidValueError(
            where, _without_end(line), f"is not valid JSON, one object a line: {error}"
        ) from None
    if not isinstance(value, dict):
        raise InvalidValueError(where, value, 'must be a JSON object, such as {"order":"A-1"}')
    # Each member has one colon outside of strings. More colons mean that a key is repeated.
    members = _count_members(value)
    if line.count(":") != members and _STRING.sub("", line).count(":") != members:
        _refuse_repetition(line, where)
    return value


def _refuse_large_numbers(value: Any, where: str, before: str = ".") -> None:
    """Raise InvalidValueError for the first number that is beyond the range of a double."""
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_large_numbers(item, f"{where}{before}{key}")
    elif isinstance(value, list):
        for item in value:
            _refuse_large_numbers(item, where)
    elif isinstance(value, Number) and value.is_too_large:
        reason = "is beyond the range of a double, about 1.8e308: make it text"
        raise InvalidValueError(where, value.text, reason)


def _count_members(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_count_members, value.values()))
    if isinstance(value, list):
        return sum(map(_count_members, value))
    return 0


def _refuse_repetition(line: str, where: str) -> None:
    """Raise InvalidValueError if an object in the line has the same key twice."""
    import json  # noqa: PLC0415  (msgspec silently keeps the last one)

    def check(pairs: list[tuple[str, Any]]) -> None:
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidValueError(where, key, "this key occurs twice: remove one")
            seen.add(key)

    json.loads(line, object_pairs_hook=check, parse_int=str)


def _without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _text(stream: IO[bytes], name: str, encoding: str, format: str) -> Iterator[str]:  # noqa: A002
    """Decode the stream to lines of text, with their line ends; if ``format`` is NULL, with NULs.

    Raises InvalidValueError for a byte order mark that doesn't belong to ``encoding``.
    """
    buffered = io.BufferedReader(stream) if isinstance(stream, io.RawIOBase) else stream
    start = buffered.peek(4)[:4] if isinstance(buffered, io.BufferedReader) else b""
    for bom, right in _BOMS:
        if start.startswith(bom) and encoding.lower().replace("_", "-") == "utf-8":
            raise InvalidValueError(
                name, bom, f"begins with a byte order mark: give --encoding {right}"
            )
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        wide = len("\n\n".encode(encoding)) - len("\n".encode(encoding)) > 1
    except (LookupError, TypeError, UnicodeError):  # unknown, or not for text
        raise InvalidValueError(
            "--encoding", encoding, "is not a text encoding that Python knows, such as cp1252"
        ) from None
    # Bytes can be split at LF only if LF is one byte. Otherwise TextIOWrapper is needed. It decodes
    # ahead, so the line of an error is unknown.
    if format != NULL:
        file: IO[Any] = io.TextIOWrapper(buffered, encoding, newline="\n") if wide else buffered
        lines = iter(partial(file.readline, MAX_LINE_BYTES + 1), None)
        at_most = 1 if format in ("csv", "tsv") else None  # the header; a cell may have a NUL
        bounded = _bounded(_without_nuls(lines, f"{name}, line", at_most), f"{name}, line")
        return _decoded(bounded, decoder, f"{name}, line", encoding)
    if wide:
        reason = "has NULs within its characters, so --null can't be used"
        raise InvalidValueError("--encoding", encoding, reason)
    items = _bounded(_items(buffered), f"{name}, item")
    return _decoded(items, decoder, f"{name}, item", encoding)


def _items(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the parts of the stream that end with a NUL. The last one may lack it."""
    left: list[bytes] = []
    size = 0
    while size <= MAX_LINE_BYTES and (data := stream.read(_READ_BYTES)):
        *items, rest = data.split(b"\0")
        for item in items:
            yield b"".join([*left, item, b"\0"])
            left, size = [], 0
        left.append(rest)
        size += len(rest)
    yield b"".join(left)


def _without_nuls(
    lines: Iterator[str | bytes], where: str, at_most: int | None
) -> Iterator[str | bytes]:
    """Yield the lines. Raises InvalidValueError for a NUL in the first ``at_most`` lines, or in all."""
    for number, line in enumerate(itertools.islice(lines, at_most), 1):
        if ("\0" in line) if isinstance(line, str) else (b"\0" in line):
            raise InvalidValueError(
                f"{where} {number}",
                line,
                "has NUL bytes: add -0 if its rows end with them, as those of `find -print0`; or "
                "give its --encoding",
            )
        yield line
    yield from lines


def _bounded(lines: Iterator[str | bytes], where: str) -> Iterator[str | bytes]:
    """Yield the lines. Raises InvalidValueError for a line that is too long for a journal."""
    for number, line in enumerate(lines, 1):
        if not line:
            return
        if len(line) > MAX_LINE_BYTES:
            raise InvalidValueError(
                f"{where} {number}", line, f"is longer than {MAX_LINE_BYTES >> 20} MiB"
            )
        yield line


def _decoded(
    lines: Iterable[str | bytes], decoder: codecs.IncrementalDecoder, where: str, encoding: str
) -> Iterator[str]:
    number = 0
    try:
        for line in lines:
            number += 1
            yield line if isinstance(line, str) else decoder.decode(line)
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        value: object = ""
        if isinstance(error, UnicodeDecodeError):
            value = error.object[error.start : error.end]
        raise InvalidValueError(
            f"{where} {max(1, number)}",
            value,
            f"is not valid {encoding}: give its encoding, such as --encoding cp1252",
        ) from None
