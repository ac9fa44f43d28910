"""JSON Lines, and JSON with an array of objects. Each object keeps its own text: see OwnText."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import msgspec

from journal.format.size_limits import MAX_DEPTH
from journal.format.values import DECODE_ERRORS, nests_deeper_than, read_object
from journal.inputs.read_options import Rows, Source
from journal.inputs.text_lines import Text

_elements_of = msgspec.json.Decoder(list[msgspec.Raw]).decode
_MAX_QUOTED = 200


def read_json_lines(
    source: Source, stream: io.BufferedReader, stack: ExitStack
) -> tuple[None, Rows]:
    """One row for each line. Each line must be a JSON object. Blank lines are skipped."""
    return None, _json_lines(Text(stream, source, stack).lines(), source)


def read_json(source: Source, stream: io.BufferedReader, stack: ExitStack) -> tuple[None, Rows]:
    """One row for each element of an array. The text of the array is in memory as a whole."""
    text = "".join(Text(stream, source, stack).pieces())
    try:
        elements = _elements_of(text)
    except DECODE_ERRORS as error:
        reason = f"is not valid JSON: {error}"
        if not text.lstrip().startswith("["):
            reason = (
                "must be an array of JSON objects: if each line is an object, add "
                f"{source.give('format', 'jsonl')}; if an array is within an object, take "
                "it out by jq: jq .rows FILE > rows.json"
            )
        raise source.refused(reason, value=text[:_MAX_QUOTED]) from None
    texts = (bytes(element).decode() for element in elements)
    return None, (_object(each, source, f"element {n}") for n, each in enumerate(texts, 1))


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
