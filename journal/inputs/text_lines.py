"""Decodes the bytes of an input to text, and reads lines. Each line is a row with one column.

In `journal run`, lines may be names of files, and such names are bytes. If a line isn't UTF-8, its
row has a second column with the bytes. The command gets these bytes.
"""

from __future__ import annotations

import base64
import codecs
import io
import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

from journal.errors import InvalidValueError
from journal.format.size_limits import MAX_LINE_BYTES
from journal.inputs.read_options import Rows, Source
from journal.text import as_text

_PIECE_CHARACTERS, _ITEMS_CHARACTERS = 1 << 16, 1 << 12

_MARKS = (  # longest first, since the mark of UTF-32 begins with the mark of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of_mark(head: bytes) -> str | None:
    """The encoding of a byte order mark, unless it is UTF-8."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


class Text:
    """The text of an input. Errors name the line.

    A byte order mark decides the encoding only if no encoding is given. The mark is never a part of
    the text.
    """

    def __init__(
        self,
        stream: io.BufferedReader,
        source: Source,
        stack: ExitStack,
        *,
        keep_bytes: bool = False,
    ) -> None:
        """``keep_bytes``: bytes that aren't UTF-8 become lone surrogates, unless an encoding is
        given.
        """
        self._source = source
        self._encoding = source.encoding or encoding_of_mark(stream.peek(4)[:4]) or "utf-8"
        is_kept = keep_bytes and not source.encoding and self._encoding == "utf-8"
        errors = "surrogateescape" if is_kept else "strict"
        try:
            self._file = io.TextIOWrapper(stream, self._encoding, errors, newline="\n")
        except LookupError:
            reason = "is not a text encoding that Python knows, such as cp1252"
            raise source.refused_option("encoding", reason) from None
        stack.callback(self._file.detach)  # the code that opened the stream also closes it

    def lines(self) -> Iterator[str]:
        """The lines with their ends, in bounded memory."""
        for number, line in enumerate(self.pieces(MAX_LINE_BYTES + 1), 1):
            if len(line) > MAX_LINE_BYTES:
                raise self._too_long(f"line {number}", line)
            yield line

    def pieces(self, size: int = _PIECE_CHARACTERS) -> Iterator[str]:
        """The lines with their ends. Longer lines are cut after ``size`` characters."""
        number, mark = 1, "\ufeff"
        try:
            for piece in iter(partial(self._file.readline, size), ""):
                yield piece.removeprefix(mark)
                number, mark = number + (piece[-1] == "\n"), ""
        except UnicodeError as error:
            raise self._undecodable(error, "line", number) from None

    def items(self) -> Iterator[str]:
        """The parts of the text that end with a NUL. The last part may lack the NUL."""
        number, left = 1, ""
        try:
            while piece := self._file.read(max(_ITEMS_CHARACTERS, len(left))):
                *items, left = (left + piece).split("\0")
                yield from items
                number += len(items)
                if len(left) > MAX_LINE_BYTES:
                    raise self._too_long(f"item {number}", left)
        except UnicodeError as error:
            raise self._undecodable(error, "item", number) from None
        yield left

    def _too_long(self, where: str, text: str) -> InvalidValueError:
        return self._source.refused(f"is longer than {MAX_LINE_BYTES >> 20} MiB", where, text)

    def _undecodable(self, error: UnicodeError, what: str, number: int) -> InvalidValueError:
        """The error for bytes that aren't text. ``number``: the first line or item of the bytes."""
        value = b""
        if isinstance(error, UnicodeDecodeError):
            end = b"\n" if what == "line" else b"\0"
            number += error.object[: error.start].count(end)
            value = error.object[error.start : error.end]
        another = self._source.give("encoding", "cp1252")
        reason = f"is not valid {self._encoding}: give its encoding, such as {another}"
        return self._source.refused(reason, f"{what} {number}", value)


# --- lines ------------------------------------------------------------------------------------

LINE_COLUMN = "line"
BYTES_COLUMN = "line_bytes"  # in base64
_BYTES = re.compile("[\udc80-\udcff]")


def without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def read_lines(
    source: Source, stream: io.BufferedReader, stack: ExitStack
) -> tuple[list[str], Rows]:
    """One row for each line. Empty lines are skipped."""
    lines = map(without_end, Text(stream, source, stack, keep_bytes=source.in_shell).lines())
    return [LINE_COLUMN], (_row(line) for line in lines if line)


def read_items(
    source: Source, stream: io.BufferedReader, stack: ExitStack
) -> tuple[list[str], Rows]:
    """Like ``read_lines``, but each line ends with a NUL."""
    items = Text(stream, source, stack, keep_bytes=source.in_shell).items()
    return [LINE_COLUMN], (_row(item) for item in items if item)


def _row(line: str) -> dict[str, Any]:
    if line.isascii() or not _BYTES.search(line):
        return {LINE_COLUMN: line}
    data = line.encode(errors="surrogateescape")
    return {LINE_COLUMN: _shown(data), BYTES_COLUMN: base64.b64encode(data).decode()}


def _shown(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def exact_line(data: dict[str, Any]) -> str:
    """Return the line of a row. Bytes that aren't UTF-8 become surrogates, as in ``os.fsdecode``."""
    line = as_text(data[LINE_COLUMN])
    if data.keys() == {LINE_COLUMN, BYTES_COLUMN}:
        with suppress(TypeError, ValueError):  # the row is of a table with columns of these names
            found = base64.b64decode(data[BYTES_COLUMN], validate=True)
            if _shown(found) == line:
                return found.decode(errors="surrogateescape")
    return line
