"""Lines of text, each of which is a row with one column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from journal.inputs.formats import NULL
from journal.inputs.source import Source

LINE_COLUMN = "line"


def without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def line_rows(lines: Iterator[str], source: Source, format: str) -> Iterator[dict[str, Any]]:  # noqa: A002  (the word)
    """Yield one row, with one column, for each line. Empty lines are skipped."""
    is_empty = True
    for line in lines:
        text = line.removesuffix("\0") if format == NULL else without_end(line)
        if text:
            is_empty = False
            yield {LINE_COLUMN: text}
    if is_empty:
        raise source.refused("has no lines")
