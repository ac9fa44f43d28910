"""JSON Lines, and JSON: an array of objects. Each object keeps its own text: see OwnText."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.format.records import MAX_DEPTH, MAX_LINE_BYTES
from journal.format.values import DECODE_ERRORS, nests_deeper_than, read_object
from journal.inputs.lines import without_end
from journal.inputs.source import Source

Rows = Iterator[dict[str, Any]]


def json_lines(lines: Iterator[str], source: Source) -> Rows:
    """Yield one row for each line. Each line must be a JSON object. Blank lines are skipped."""
    is_empty = True
    for number, line in enumerate(lines, 1):
        if not line.isspace():
            if is_empty and line.lstrip().startswith("["):
                reason = f"is an array, not an object: add {source.give('format', 'json')}"
                raise source.refused(reason, f"line {number}", without_end(line))
            is_empty = False
            yield _object(line, source, f"line {number}", "one object a line")
    if is_empty:
        raise source.refused("is empty: each of its lines must be a JSON object")


# --- an array ----------------------------------------------------------------------------------

_SPACE = re.compile(r"[ \t\r\n]*")
# Finds the end of an element, in C. The element is decoded afterwards.
_find_end = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
_IN_STRING = "Unterminated string"
_MAX_TOKEN = 64  # characters; no literal or escape is longer
_MAX_QUOTED = 200


def json_array(pieces: Iterator[str], source: Source) -> Rows:
    """Yield one row for each element of the array. Only one element is in memory at a time."""
    array = _Array(pieces, source)
    if array.next_character() != "[":
        raise _no_array(array, source)
    array.at += 1
    number, character = 0, array.next_character()
    while character != "]":
        number += 1
        yield array.element(f"element {number}")
        character = array.next_character()
        if character == ",":
            array.at += 1
            if array.next_character() == "]":
                raise array.refused("must not follow a comma", "]")
        elif character != "]":
            raise array.refused(f"a comma or ] must follow element {number}")
    array.at += 1
    if array.next_character():
        raise array.refused("nothing may follow the array")
    if not number:
        raise source.refused("is an array with no elements: each must be a JSON object")


class _Array:
    """The text of an array, read piece by piece. ``at``: the index of the next character."""

    def __init__(self, pieces: Iterator[str], source: Source) -> None:
        self._pieces, self._source = pieces, source
        self._text = ""
        self._line, self._counted = 1, 0  # the line of the character with this index
        self.at = 0

    def next_character(self) -> str:
        """The next character that isn't white space; "" at the end."""
        while True:
            match = _SPACE.match(self._text, self.at)
            assert match is not None
            self.at = match.end()
            if self.at < len(self._text) or not self._read():
                return self._text[self.at : self.at + 1]

    def _read(self) -> bool:
        self._line, self._counted = self.line, 0
        piece = next(self._pieces, "")
        # Read as much text again, so that the end of a long element isn't searched too often.
        parts, length = [self._text[self.at :], piece], len(piece)
        while piece and length < len(parts[0]):
            piece = next(self._pieces, "")
            parts.append(piece)
            length += len(piece)
        self._text, self.at = "".join(parts), 0
        return length > 0

    def element(self, where: str) -> dict[str, Any]:
        if self.at == len(self._text):
            raise self.refused(f"the file ends before {where}: copy it or download it again")
        if self._text[self.at] != "{":
            raise self.refused(f'{where} must be a JSON object, such as {{"order":"A-1"}}')
        while True:
            try:
                _, end = _find_end(self._text, self.at)
                break
            except RecursionError:
                end = len(self._text)  # where the refused text ends
                break
            except json.JSONDecodeError as error:
                if len(self._text) - self.at > MAX_LINE_BYTES:
                    reason = f"{where} is longer than {MAX_LINE_BYTES >> 20} MiB"
                    raise self.refused(reason) from None
                # Otherwise the element may become valid with more text.
                is_within = error.pos + _MAX_TOKEN < len(self._text)
                is_invalid = is_within and not error.msg.startswith(_IN_STRING)
                at = error.pos - self.at
                if is_invalid or not self._read():
                    raise self._invalid(error.msg, self.at + at, where) from None
        text = self._text[self.at : end]
        place = f"{where} (line {self.line})"
        self.at = end
        return _object(text, self._source, place, "an array of objects")

    def _invalid(self, message: str, at: int, where: str) -> InvalidValueError:
        if at >= len(self._text.rstrip()) or message.startswith(_IN_STRING):
            return self.refused(f"the file ends within {where}: copy it or download it again")
        begin, self.at = self.at, at
        value = self._text[max(begin, at - 20) :]
        return self.refused(f"{where} is not valid JSON: {message}", value)

    @property
    def line(self) -> int:
        """The line of the next character."""
        self._line += self._text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def refused(self, reason: str, value: str | None = None) -> InvalidValueError:
        rest = self._text[self.at :] if value is None else value
        return self._source.refused(reason, f"line {self.line}", rest[:_MAX_QUOTED])


def _no_array(array: _Array, source: Source) -> InvalidValueError:
    character = array.next_character()
    if not character:
        return source.refused("is empty: it must be an array of JSON objects")
    if character != "{":
        return array.refused("must begin with [, as an array of JSON objects")
    reason = (
        f"is an object, not an array: if each line is an object, add "
        f"{source.give('format', 'jsonl')}; if an array is within the object, take it out by jq: "
        "jq .rows FILE > rows.json"
    )
    return array.refused(reason)


# --- one object ----------------------------------------------------------------------------------

# Decodes numbers of any size, so that an error can quote a number that is too large.
_decode_lax = msgspec.json.Decoder(float_hook=lambda text: msgspec.Raw(text.encode())).decode
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"')


def _object(text: str, source: Source, where: str, form: str) -> dict[str, Any]:
    if text.count("{") + text.count("[") >= MAX_DEPTH and nests_deeper_than(
        text.encode(errors="replace"), MAX_DEPTH - 1
    ):
        raise source.refused(f"must nest at most {MAX_DEPTH - 1} deep", where, text)
    try:
        value = read_object(text.encode())
    except (*DECODE_ERRORS, UnicodeEncodeError) as error:  # UnicodeError: a lone surrogate
        with suppress(*DECODE_ERRORS, UnicodeEncodeError):
            _refuse_large_numbers(_decode_lax(text), source, where, ": ")
        one_line = without_end(text)
        reason = f"is not valid JSON, {form}: {error}"
        if one_line.strip() == "{":
            reason = "is an object over several lines: write one a line, as by jq -c"
        raise source.refused(reason, where, one_line) from None
    if not isinstance(value, dict):
        raise source.refused('must be a JSON object, such as {"order":"A-1"}', where, value)
    # Each member has one colon outside of strings. More colons mean that a key is repeated.
    members = _count_members(value)
    if text.count(":") != members and _STRING.sub("", text).count(":") != members:
        _refuse_repetition(text, source, where)
    return value


def _refuse_large_numbers(value: Any, source: Source, where: str, before: str = ".") -> None:
    """Raise InvalidValueError for the first number that is beyond the range of a double."""
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_large_numbers(item, source, f"{where}{before}{key}")
    elif isinstance(value, list):
        for item in value:
            _refuse_large_numbers(item, source, where)
    elif type(value) is msgspec.Raw and math.isinf(float(bytes(value))):
        reason = "is beyond the range of a double, about 1.8e308: make it text"
        raise source.refused(reason, where, bytes(value).decode())


def _count_members(value: Any) -> int:
    """The number of members of all objects in a dict or a list."""
    is_object = isinstance(value, dict)
    count = len(value) if is_object else 0
    for item in value.values() if is_object else value:
        if type(item) is dict or type(item) is list:
            count += _count_members(item)
    return count


def _refuse_repetition(text: str, source: Source, where: str) -> None:
    """Raise InvalidValueError if an object in the text has the same key twice."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise source.refused("this key occurs twice: remove one", where, key)
            seen.add(key)

    # msgspec silently keeps the last value of a repeated key.
    json.loads(text, object_pairs_hook=check, parse_int=str)
