"""The rows of a run, from CSV, TSV, JSON Lines or lines; whatever is wrong with them is named.

Every input is read as it is asked for: how many rows it has makes no difference to memory.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import PurePath
from typing import IO, Any, Protocol

import msgspec

from journal.errors import InvalidValueError
from journal.format.records import MAX_DEPTH, MAX_LINE_BYTES
from journal.format.values import DECODE_ERRORS, nests_deeper_than

FORMATS = ("csv", "tsv", "jsonl", "lines")
LINE_COLUMN = "line"

_FORMAT_OF_SUFFIX = {
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "lines",
}

_BOMS = (  # longest first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class RowInput(Protocol):
    """Rows as dicts, in order, once. ``columns`` None: each row has its own, known when read.

    Iterating raises InvalidValueError for the first row that can't be, and if there is none.
    """

    @property
    def columns(self) -> list[str] | None: ...
    def __iter__(self) -> Iterator[dict[str, Any]]: ...


def format_of(name: str) -> str:
    """What a file of this name holds, by its extension; CSV if that says nothing."""
    return _FORMAT_OF_SUFFIX.get(PurePath(name).suffix.lower(), "csv")


def open_rows(stream: IO[bytes], name: str, encoding: str, format: str) -> RowInput:  # noqa: A002  (the word)
    """The rows in ``stream``, which errors call ``name``. Reads the header if there is one.

    ``format`` is one of FORMATS. Raises InvalidValueError for what is wrong so far.
    """
    inputs: dict[str, Callable[[IO[bytes], str, str], RowInput]] = {
        "csv": CsvInput,
        "tsv": TsvInput,
        "jsonl": JsonlInput,
        "lines": LineInput,
    }
    if format not in inputs:
        raise InvalidValueError("format", format, f"must be one of {', '.join(FORMATS)}")
    return inputs[format](stream, name, encoding)


class _TableInput(ABC):
    """A header line, and lines of as many cells; blank lines are passed over."""

    def __init__(self, name: str) -> None:
        self._name = name
        header = self._next()
        if header is None:
            raise InvalidValueError(
                name, "", "is empty: its first line must name the columns, and rows must follow"
            )
        self.columns = header
        seen = set()
        for place, column in enumerate(header, 1):
            if not column.strip():
                raise InvalidValueError(
                    f"{name}, line {self._line()}",
                    column,
                    f"column {place} has no name: give it one",
                )
            if column in seen:
                raise InvalidValueError(
                    f"{name}, line {self._line()}",
                    column,
                    "this column is there twice: rename one of them",
                )
            seen.add(column)

    def __iter__(self) -> Iterator[dict[str, str]]:
        rows = 0
        while (cells := self._next()) is not None:
            if len(cells) != len(self.columns):
                raise InvalidValueError(
                    f"{self._name}, line {self._line()}",
                    cells,
                    f"has {len(cells)} cells, and the header names {len(self.columns)} columns",
                )
            rows += 1
            yield dict(zip(self.columns, cells, strict=True))
        if not rows:
            raise InvalidValueError(self._name, "", "has a header and no rows")

    @abstractmethod
    def _next(self) -> list[str] | None:
        """The cells of the next line that isn't blank; None at the end."""

    @abstractmethod
    def _line(self) -> int:
        """The number of the line that was read last."""


class CsvInput(_TableInput):
    """A CSV with a header line; ``columns`` in its order, then rows as dicts of text."""

    def __init__(self, stream: IO[bytes], name: str, encoding: str) -> None:
        """Reads the header. Raises InvalidValueError for a header that can't be."""
        csv.field_size_limit(MAX_LINE_BYTES)  # its own default is 128 KiB
        self._reader = csv.reader(_text(stream, name, encoding), strict=True)
        super().__init__(name)

    def _next(self) -> list[str] | None:
        try:
            return next((cells for cells in self._reader if cells), None)
        except csv.Error as error:
            raise InvalidValueError(
                f"{self._name}, line {self._line()}", str(error), "is not valid CSV"
            ) from None

    def _line(self) -> int:
        return self._reader.line_num


class TsvInput(_TableInput):
    """Cells between tabs, as they stand: a quote is a character like any other.

    So text/tab-separated-values is defined, and so `cut`, `awk`, database clients and Google
    Sheets write it; a reader that takes quotes for more would swallow the lines up to the next
    one. Excel and LibreOffice do put a cell in quotes if it holds a comma, a quote or a tab: a cell
    that looks so is refused, rather than shipped with its quotes on or off by a guess.
    """

    def __init__(self, stream: IO[bytes], name: str, encoding: str) -> None:
        """Reads the header. Raises InvalidValueError for a header that can't be."""
        self._text = _text(stream, name, encoding)
        self._number = 0
        super().__init__(name)

    def _next(self) -> list[str] | None:
        for line in self._text:
            self._number += 1
            text = _without_end(line)
            if text:
                cells = text.split("\t")
                if '"' in text:
                    self._check_quotes(cells)
                return cells
        return None

    def _check_quotes(self, cells: list[str]) -> None:
        for cell in cells:
            if _SPREADSHEET_CELL.fullmatch(cell) and ("," in cell or '""' in cell[1:-1]):
                raise InvalidValueError(
                    f"{self._name}, line {self._number}",
                    cell,
                    "is a cell in quotes, as spreadsheets write it, and quotes mean nothing in TSV: "
                    "save it as CSV, or as JSON Lines if the quotes are part of the value",
                )

    def _line(self) -> int:
        return self._number


_SPREADSHEET_CELL = re.compile(r'"(?:[^"]|"")*"')


class LineInput:
    """Lines of text, each a row with one column; empty lines are passed over."""

    def __init__(self, stream: IO[bytes], name: str, encoding: str) -> None:
        self.columns = [LINE_COLUMN]
        self._name = name
        self._text = _text(stream, name, encoding)

    def __iter__(self) -> Iterator[dict[str, str]]:
        rows = 0
        for line in self._text:
            text = _without_end(line)
            if text:
                rows += 1
                yield {LINE_COLUMN: text}
        if not rows:
            raise InvalidValueError(self._name, "", "has no lines")


class JsonlInput:
    """JSON Lines: each line an object, with whatever members it has; blank lines are passed over."""

    columns = None

    def __init__(self, stream: IO[bytes], name: str, encoding: str) -> None:
        self._name = name
        self._text = _text(stream, name, encoding)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rows = 0
        for number, line in enumerate(self._text, 1):
            if not line.isspace():
                rows += 1
                yield _json_object(line, f"{self._name}, line {number}")
        if not rows:
            raise InvalidValueError(
                self._name, "", "is empty: each of its lines must be a JSON object"
            )


_decode = msgspec.json.Decoder().decode
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"')


def _json_object(line: str, where: str) -> dict[str, Any]:
    if line.count("{") + line.count("[") >= MAX_DEPTH and nests_deeper_than(
        line.encode(errors="replace"), MAX_DEPTH - 1
    ):
        raise InvalidValueError(where, line, f"must nest at most {MAX_DEPTH - 1} deep")
    try:
        value = _decode(line)
    except (*DECODE_ERRORS, UnicodeEncodeError) as error:  # the latter: a lone surrogate
        raise InvalidValueError(
            where, _without_end(line), f"is not valid JSON, one object a line: {error}"
        ) from None
    if not isinstance(value, dict):
        raise InvalidValueError(where, value, 'must be a JSON object, such as {"order":"A-1"}')
    # A member has a colon. There are others too, in strings: those are looked at more closely.
    members = _count_members(value)
    if line.count(":") != members and _STRING.sub("", line).count(":") != members:
        _refuse_repetition(line, where)
    return value


def _count_members(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_count_members, value.values()))
    if isinstance(value, list):
        return sum(map(_count_members, value))
    return 0


def _refuse_repetition(line: str, where: str) -> None:
    """Name the key that an object of the line has twice: which value would count is a guess."""
    import json  # noqa: PLC0415  (msgspec keeps the last of them and can't say so)

    def check(pairs: list[tuple[str, Any]]) -> None:
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidValueError(where, key, "this key is there twice: remove one of them")
            seen.add(key)

    json.loads(line, object_pairs_hook=check, parse_int=str)


def _without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _text(stream: IO[bytes], name: str, encoding: str) -> Iterator[str]:
    """The stream's lines as text with their line ends. A byte order mark must be asked for."""
    buffered = io.BufferedReader(stream) if isinstance(stream, io.RawIOBase) else stream
    start = buffered.peek(4)[:4] if isinstance(buffered, io.BufferedReader) else b""
    for bom, right in _BOMS:
        if start.startswith(bom) and encoding.lower().replace("_", "-") == "utf-8":
            raise InvalidValueError(
                name, bom, f"begins with a byte order mark: say --encoding {right}"
            )
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        wide = len("\n\n".encode(encoding)) - len("\n".encode(encoding)) > 1
    except (LookupError, TypeError, UnicodeError):  # not known, or known and not for text
        raise InvalidValueError(
            "--encoding", encoding, "is not a text encoding that Python knows, such as cp1252"
        ) from None
    # Bytes can be cut at LF only where LF is one byte; TextIOWrapper can't tell the line of an
    # error, since it decodes ahead.
    lines = io.TextIOWrapper(buffered, encoding, newline="\n") if wide else buffered
    return _decoded(_bounded(lines, name), decoder, name, encoding)


def _bounded(lines: IO[Any], name: str) -> Iterator[str | bytes]:
    """The lines, none of them longer than a journal takes: a file without LF is no line."""
    for number, line in enumerate(iter(partial(lines.readline, MAX_LINE_BYTES + 1), None), 1):
        if not line:
            return
        if len(line) > MAX_LINE_BYTES:
            raise InvalidValueError(
                f"{name}, line {number}", line, f"is longer than {MAX_LINE_BYTES >> 20} MiB"
            )
        yield line


def _decoded(
    lines: Iterable[str | bytes], decoder: codecs.IncrementalDecoder, name: str, encoding: str
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
            f"{name}, line {max(1, number)}",
            value,
            f"is not {encoding}: say what it is, as in --encoding cp1252",
        ) from None
