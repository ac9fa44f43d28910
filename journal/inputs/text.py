"""Decodes the bytes of an input to lines, or to other pieces of text."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from journal.errors import InvalidValueError
from journal.format.records import MAX_LINE_BYTES
from journal.inputs.source import Source

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
    """The text of an input. Its errors name the line.

    A byte order mark decides only if no encoding is given, and it is never a part of the text.
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
        """The parts of the text that end with a NUL. The last one may lack the NUL."""
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
        """``number``: the line or item that the undecoded text begins with."""
        value = b""
        if isinstance(error, UnicodeDecodeError):
            end = b"\n" if what == "line" else b"\0"
            number += error.object[: error.start].count(end)
            value = error.object[error.start : error.end]
        another = self._source.give("encoding", "cp1252")
        reason = f"is not valid {self._encoding}: give its encoding, such as {another}"
        return self._source.refused(reason, f"{what} {number}", value)
