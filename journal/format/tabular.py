"""Records as CSV, TSV and JSON, a line or an element at a time: in UTF-8, whatever the locale."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from journal.format.records import time_text


def as_text(value: Any) -> str:
    """A value as a cell of text: text as it is, nothing for null, else JSON; times as ISO 8601."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, datetime):
        return time_text(value)
    return msgspec.json.encode(value).decode()


def csv_liner() -> Callable[[Iterable[str]], bytes]:
    """A function that makes a line of CSV of its cells."""
    import csv  # noqa: PLC0415  (`journal list` starts without it)

    class Echo:
        @staticmethod
        def write(line: str) -> str:
            return line

    # With its own line end csv quotes a lone CR in every version of Python.
    write_row = csv.writer(Echo, lineterminator="\r\n").writerow
    return lambda cells: write_row(cells).removesuffix("\r\n").encode() + b"\n"


def tsv_line(cells: Iterable[str]) -> bytes:
    """A line of cells that hold no tab and no line end."""
    return "\t".join(cells).encode() + b"\n"


def tsv_cell(text: str) -> str:
    r"""The text with ``\t``, ``\n`` and ``\r`` for what a cell can't hold: for the eye."""
    return text.replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")


def json_array(elements: Iterable[bytes]) -> Iterator[bytes]:
    """One array, an element a line: a part for each element as it comes, and one for the end."""
    before = b"["
    for element in elements:
        yield before + element
        before = b",\n "
    yield b"[]\n" if before == b"[" else b"]\n"
