"""JSON Lines, and JSON: an array of objects. Each object keeps its own text: see OwnText."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from journal.errors import InvalidValueError
from journal.format.records import MAX_DEPTH, MAX_LINE_BYTES
from journal.format.values import DECODE_ERRORS, nests_deeper_than, read_object
from journal.inputs.source import Rows, Source
from journal.inputs.text import Text

_SPACE = re.compile(r"[ \t\r\n]*")
# Finds the end of an element, in C. The element is decoded afterwards.
_find_end = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
_MIN_READ = 1 << 16
_MAX_QUOTED = 200


def read_json_lines(
    source: Source, stream: io.BufferedReader, stack: ExitStack
) -> tuple[None, Rows]:
    """One row for each line. Each line must be a JSON object. Blank lines are skipped."""
    return None, _json_lines(Text(stream, source, stack).lines(), source)


def read_json(source: Source, stream: io.BufferedReader, stack: ExitStack) -> tuple[None, Rows]:
    """One row for each element of an array. Only one element is in memory at a time."""
    return None, _Array(Text(stream, source, stack).pieces(), source).rows()


def _json_lines(lines: Iterator[str], source: Source) -> Rows:
    for number, line in enumerate(lines, 1):
        if text := line.strip():
            yield _object(text, source, f"line {number}")


def _object(text: str, source: Source, where: str) -> dict[str, Any]:
    try:
        if text.count("{") + text.count("[") >= MAX_DEPTH and nests_deeper_than(
            text.encode(), MAX_DEPTH - 1
        ):
            raise source.refused(f"must nest at most {MAX_DEPTH - 1} deep", where, text)
        value = read_object(text.encode())
    except DECODE_ERRORS as error:
        raise source.refused(
            f"is not valid JSON: {error}{_hint(text, source)}", where, text
        ) from None
    if not isinstance(value, dict):
        reason = f'must be a JSON object, such as {{"order":"A-1"}}{_hint(text, source)}'
        raise source.refused(reason, where, text)
    return value


def _hint(text: str, source: Source) -> str:
    if text == "{":
        return "; if an object has several lines, write one a line, as by jq -c"
    is_array = text.startswith("[")
    return f"; if the file is an array, add {source.give('format', 'json')}" if is_array else ""


class _Array:
    """The text of an array, read piece by piece. ``_at``: the index of the next character."""

    def __init__(self, pieces: Iterator[str], source: Source) -> None:
        self._pieces, self._source = pieces, source
        self._text = ""
        self._at, self._line = 0, 1

    def rows(self) -> Rows:
        if self._next() != "[":
            raise self._refused(
                "must be an array of JSON objects: if each line is an object, add "
                f"{self._source.give('format', 'jsonl')}; if an array is within an object, take "
                "it out by jq: jq .rows FILE > rows.json"
            )
        self._move(self._at + 1)
        number, found = 0, self._next()
        while found != "]":
            number += 1
            yield self._element(number)
            found = self._next()
            if found == ",":
                self._move(self._at + 1)
                self._next()
            elif found != "]":
                raise self._refused(f"a comma or ] must follow element {number}")
        self._move(self._at + 1)
        if self._next():
            raise self._refused("nothing may follow the array")

    def _next(self) -> str:
        """Go to the next character that isn't white space, and return it; "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._move(match.end() if match else self._at)
            if self._at < len(self._text) or not self._read():
                return self._text[self._at : self._at + 1]

    def _move(self, end: int) -> None:
        self._line += self._text.count("\n", self._at, end)
        self._at = end

    def _read(self) -> bool:
        """Read as much text again, so that the end of a long element isn't searched too often."""
        parts = [self._text[self._at :]]
        wanted = max(len(parts[0]), _MIN_READ)
        while wanted > 0 and (piece := next(self._pieces, "")):
            parts.append(piece)
            wanted -= len(piece)
        self._text, self._at = "".join(parts), 0
        return len(parts) > 1

    def _element(self, number: int) -> dict[str, Any]:
        while True:
            try:
                _, end = _find_end(self._text, self._at)
                break
            except RecursionError:
                end = len(self._text)  # where the refused text ends
                break
            except json.JSONDecodeError as error:
                offset = error.pos - self._at
                if len(self._text) - self._at <= MAX_LINE_BYTES and self._read():
                    continue
                self._move(self._at + offset)
                reason = (
                    f"element {number} is not valid JSON, is cut short, or is longer than "
                    f"{MAX_LINE_BYTES >> 20} MiB: {error.msg}"
                )
                raise self._refused(reason) from None
        text, where = self._text[self._at : end], f"element {number} (line {self._line})"
        self._move(end)
        return _object(text, self._source, where)

    def _refused(self, reason: str) -> InvalidValueError:
        rest = self._text[self._at : self._at + _MAX_QUOTED]
        return self._source.refused(reason, f"line {self._line}", rest)
