"""The rows of a run, from a CSV file or from lines; whatever is wrong with them is named."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator
from typing import IO

from journal.errors import InvalidValueError
from journal.format import MAX_LINE_BYTES

LINE_COLUMN = "line"

_BOMS = (  # longest first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class CsvInput:
    """A CSV with a header line; ``columns`` in its order, then rows as dicts of text."""

    def __init__(self, stream: IO[bytes], name: str, encoding: str) -> None:
        """Reads the header. Raises InvalidValueError for a header that can't be."""
        csv.field_size_limit(MAX_LINE_BYTES)  # its own default is 128 KiB
        self._name = name
        self._reader = csv.reader(_text(stream, name, encoding), strict=True)
        header = self._next()
        if header is None:
            raise InvalidValueError(
                name, "", "is empty: its first line must name the columns, and rows must follow"
            )
        self.columns = header
        for place, column in enumerate(header, 1):
            if not column.strip():
                raise InvalidValueError(
                    f"{name}, line 1", column, f"column {place} has no name: give it one"
                )
            if column in header[: place - 1]:
                raise InvalidValueError(
                    f"{name}, line 1", column, "this column is there twice: rename one of them"
                )

    def __iter__(self) -> Iterator[dict[str, str]]:
        """The rows in order. Raises InvalidValueError for a ragged line, or if there is none."""
        rows = 0
        while (cells := self._next()) is not None:
            if len(cells) != len(self.columns):
                raise InvalidValueError(
                    f"{self._name}, line {self._reader.line_num}",
                    cells,
                    f"has {len(cells)} cells, and the header names {len(self.columns)} columns",
                )
            rows += 1
            yield dict(zip(self.columns, cells, strict=True))
        if not rows:
            raise InvalidValueError(self._name, "", "has a header and no rows")

    def _next(self) -> list[str] | None:
        """The next line that isn't blank; None at the end."""
        try:
            return next((cells for cells in self._reader if cells), None)
        except csv.Error as error:
            line = self._reader.line_num
            raise InvalidValueError(
                f"{self._name}, line {line}", str(error), "is not valid CSV"
            ) from None


class LineInput:
    """Lines of text, each a row with one column; empty lines are passed over."""

    def __init__(self, stream: IO[bytes], name: str, encoding: str) -> None:
        self.columns = [LINE_COLUMN]
        self._name = name
        self._text = _text(stream, name, encoding)

    def __iter__(self) -> Iterator[dict[str, str]]:
        rows = 0
        for line in self._text:
            text = line.removesuffix("\n").removesuffix("\r")
            if text:
                rows += 1
                yield {LINE_COLUMN: text}
        if not rows:
            raise InvalidValueError(self._name, "", "has no lines")


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
    return _decoded(lines, decoder, name, encoding)


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
