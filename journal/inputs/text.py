"""Decodes the bytes of an input to lines or pieces of text."""

from __future__ import annotations

import codecs
import io
import itertools
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import IO, Any, NamedTuple

from journal.errors import InvalidValueError
from journal.format.records import MAX_LINE_BYTES
from journal.inputs.formats import NULL, is_binary
from journal.inputs.source import Source

_READ_BYTES = 4096
_PIECE_BYTES = 1 << 16

_BOMS = (  # longest first, since the mark of UTF-32 begins with the mark of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class _Text(NamedTuple):
    """How to decode an input. ``wide``: whether an LF has more than one byte in this encoding."""

    source: Source
    encoding: str
    decoder: codecs.IncrementalDecoder
    wide: bool


def _text(stream: io.BufferedReader, source: Source) -> _Text:
    """Choose the decoding.

    Raises InvalidValueError if the given encoding is unknown, or if the byte order mark shows a
    different encoding.
    """
    encoding = source.encoding or "utf-8"
    try:
        name = codecs.lookup(encoding).name
        start = stream.peek(4)[:4]
        for bom, right in _BOMS:
            if start.startswith(bom):
                if source.encoding and not name.startswith(right.removesuffix("-sig")):
                    reason = f"the input begins with a byte order mark of {right}: leave it out"
                    raise source.refused_option("encoding", reason)
                encoding = right
                break
        decoder = codecs.getincrementaldecoder(encoding)()
        wide = len("\n\n".encode(encoding)) - len("\n".encode(encoding)) > 1
    except InvalidValueError:
        raise
    except (LookupError, TypeError, ValueError):  # an unknown encoding, or not one for text
        reason = "is not a text encoding that Python knows, such as cp1252"
        raise source.refused_option("encoding", reason) from None
    return _Text(source, encoding, decoder, wide)


def text_lines(
    stream: io.BufferedReader,
    source: Source,
    format: str,  # noqa: A002  (the word)
    stack: ExitStack,
) -> Iterator[str]:
    """The lines of text, with their ends. If ``format`` is NULL: items that end with a NUL.

    Errors name the line.
    """
    text = _text(stream, source)
    # Bytes can be split at LF only if LF is one byte. Otherwise TextIOWrapper is used. It decodes
    # ahead, so the line of an error is unknown.
    if format != NULL:
        file: IO[Any] = stream
        if text.wide:
            file = io.TextIOWrapper(stream, text.encoding, newline="\n")
            stack.callback(file.detach)  # the code that opened the stream also closes it
        lines = iter(partial(file.readline, MAX_LINE_BYTES + 1), None)
        at_most = 1 if format in ("csv", "tsv") else None  # the header; a cell may have a NUL
        return _decoded(_bounded(_without_nuls(lines, text, at_most), text, "line"), text, "line")
    if text.wide:
        reason = f"has NULs within its characters, so {source.option('null')} can't be used"
        raise source.refused_option("encoding", reason)
    return _decoded(_bounded(_items(stream), text, "item"), text, "item")


def text_pieces(stream: io.BufferedReader, source: Source) -> Iterator[str]:
    """The text in pieces of about 64 KiB. No piece is empty. Errors name the line."""
    text, line = _text(stream, source), 1
    data = b"x"
    while data:
        data = stream.read1(_PIECE_BYTES)
        try:
            piece = text.decoder.decode(data, final=not data)
        except UnicodeError as error:
            if isinstance(error, UnicodeDecodeError):
                line += error.object[: error.start].count(b"\n")
            raise _undecodable(error, text, f"line {line}") from None
        line += piece.count("\n")
        if "\0" in piece:
            raise _with_nuls(text, f"line {line}", piece[max(piece.index("\0") - 20, 0) :])
        if piece:
            yield piece


def _items(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the parts of the stream that end with a NUL. The last part may lack the NUL."""
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
    lines: Iterator[str | bytes], text: _Text, at_most: int | None
) -> Iterator[str | bytes]:
    """Yield the lines. Raises InvalidValueError for a NUL.

    ``at_most``: how many lines are checked; None: all.
    """
    for number, line in enumerate(itertools.islice(lines, at_most), 1):
        if ("\0" in line) if isinstance(line, str) else (b"\0" in line):
            raise _with_nuls(text, f"line {number}", line)
        yield line
    yield from lines


def _with_nuls(text: _Text, where: str, value: str | bytes) -> InvalidValueError:
    items = "add -0 if its rows end with them, as those of `find -print0`; or "
    rest = "give its encoding, such as " + text.source.give("encoding", "utf-16")
    reason = f"has NUL bytes: {items if text.source.in_shell else ''}{rest}"
    return text.source.refused(reason, where, value)


def _bounded(lines: Iterator[str | bytes], text: _Text, what: str) -> Iterator[str | bytes]:
    """Yield the lines. Raises InvalidValueError for a line that is too long for a journal."""
    for number, line in enumerate(lines, 1):
        if not line:
            return
        if len(line) > MAX_LINE_BYTES:
            reason = f"is longer than {MAX_LINE_BYTES >> 20} MiB"
            raise text.source.refused(reason, f"{what} {number}", line)
        yield line


def _decoded(lines: Iterable[str | bytes], text: _Text, what: str) -> Iterator[str]:
    number = 0
    decode = text.decoder.decode
    try:
        for line in lines:
            number += 1
            yield line if isinstance(line, str) else decode(line)
        decode(b"", final=True)
    except UnicodeError as error:
        if what == "item" and text.source.in_shell:  # otherwise a command would get a wrong name
            reason = (
                f"is not valid {text.encoding}, as file names must be: rename it or leave it out"
            )
            raise text.source.refused(
                reason, f"{what} {max(1, number)}", _undecoded(error)
            ) from None
        raise _undecodable(error, text, f"{what} {max(1, number)}") from None


def _undecoded(error: UnicodeError) -> bytes:
    """The bytes that could not be decoded."""
    if isinstance(error, UnicodeDecodeError):
        return error.object[error.start : error.end]
    return b""


def _undecodable(error: UnicodeError, text: _Text, where: str) -> InvalidValueError:
    value = _undecoded(error)
    # In UTF-16 and UTF-32, text has many NUL bytes.
    whole = error.object if isinstance(error, UnicodeDecodeError) and not text.wide else b""
    if is_binary(whole.removesuffix(b"\0")):
        return text.source.refused("is binary data, not text: name a table", where, value)
    another = text.source.give("encoding", "cp1252")
    reason = f"is not valid {text.encoding}: give its encoding, such as {another}"
    return text.source.refused(reason, where, value)
