"""Lines of text, each of which is a row with one column."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from journal.inputs.source import Source
from journal.inputs.text import Text

LINE_COLUMN = "line"

Rows = Iterator[dict[str, Any]]


def without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def read_lines(
    source: Source, stream: io.BufferedReader, stack: ExitStack
) -> tuple[list[str], Rows]:
    """One row for each line. Empty lines are skipped."""
    lines = map(without_end, Text(stream, source, stack).lines())
    return [LINE_COLUMN], ({LINE_COLUMN: line} for line in lines if line)


def read_items(
    source: Source, stream: io.BufferedReader, stack: ExitStack
) -> tuple[list[str], Rows]:
    """As ``read_lines``, but each line ends with a NUL."""
    items = Text(stream, source, stack).items()
    return [LINE_COLUMN], ({LINE_COLUMN: item} for item in items if item)
