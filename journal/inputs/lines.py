"""Lines of text, each of which is a row with one column.

In `journal run`, lines may be names of files, which are bytes. A line that isn't UTF-8 has a second
column with its bytes, from which the command gets them.
"""

from __future__ import annotations

import base64
import io
import re
from contextlib import ExitStack, suppress
from typing import Any

from journal.inputs.source import Rows, Source
from journal.inputs.text import Text
from journal.text import as_text

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
    """As ``read_lines``, but each line ends with a NUL."""
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
        with suppress(TypeError, ValueError):  # a table with columns of these names
            found = base64.b64decode(data[BYTES_COLUMN], validate=True)
            if _shown(found) == line:
                return found.decode(errors="surrogateescape")
    return line
