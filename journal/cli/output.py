"""Text for people and JSON for programs, neither with control characters of the data's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import click
import msgspec

# C0, DEL and C1 steer terminals; the bidirectional marks reorder what a reader sees.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def clean(text: str) -> str:
    """``text`` with characters that a terminal acts on shown as escapes."""
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)


def local_time(at: datetime) -> datetime:
    """The moment in the local zone; in UTC where the calendar ends before that."""
    try:
        return at.astimezone()
    except OverflowError:
        return at


def shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def tell(text: str) -> None:
    """A line to standard error; if nobody listens any more, what is done matters more."""
    with contextlib.suppress(OSError):
        click.echo(clean(text), err=True)


def as_json(value: Any) -> str:
    """Compact JSON; every character a terminal acts on is escaped, which JSON allows."""
    text = msgspec.json.encode(value).decode()
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def echo_json_list(values: Iterable[Any]) -> None:
    """One JSON array, an element a line, written as the values come."""
    separator = "["
    for value in values:
        click.echo(f"{separator}{as_json(value)}", nl=False)
        separator = ",\n "
    click.echo("[]" if separator == "[" else "]")


def echo_table(header: tuple[str, ...], lines: list[tuple[str, ...]]) -> None:
    """Columns padded to their widest cell."""
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    for line in (header, *lines):
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
