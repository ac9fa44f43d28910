"""Text for people and JSON for programs, neither with control characters of the data's."""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from typing import IO, Any, cast

import click
import msgspec

from journal.text import escaped, escaped_json, json_array

_COLORS = {
    "running": 36,  # cyan
    "paused": 33,  # yellow
    "interrupted": 35,  # magenta: a person has to do something
    "needs_review": 35,
    "processing": 36,
    "completed": 32,  # green
    "failed": 31,  # red
    "cancelled": 33,
    "unknown": 35,
    "review": 35,  # and other events of a log
    "error": 31,
    "ERROR": 31,
    "CRITICAL": 31,
    "WARNING": 33,
}


def clean(text: str) -> str:
    """``text`` with characters that a terminal acts on shown as escapes."""
    return escaped(text)


def local_time(at: datetime) -> datetime:
    """The moment in the local zone; in UTC where the calendar ends before that."""
    try:
        return at.astimezone()
    except OverflowError:
        return at


def time_cell(at: datetime | None) -> str:
    """The moment as tables show it: local, to the minute, and in an order that sorts."""
    return "" if at is None else f"{local_time(at):%Y-%m-%d %H:%M}"


def shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


# --- how wide text is on a terminal


def width_of(text: str) -> int:
    """How many cells of a terminal ``text`` takes: two for a wide character, none for a mark."""
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def _cells(character: str) -> int:
    if unicodedata.east_asian_width(character) in "WF":
        return 2
    # Hangul vowels and final consonants join the syllable before them.
    joins = unicodedata.category(character) in ("Mn", "Me") or "\u1160" <= character <= "\u11ff"
    return 0 if joins else 1


def cut(text: str, width: int) -> str:
    """``text`` in at most ``width`` cells; an ellipsis stands for what doesn't fit."""
    if len(text) * 2 <= width or width_of(text) <= width:
        return text
    ellipsis = "…" if can_show("…") else "~"
    cells = 0
    for place, character in enumerate(text):
        cells += _cells(character)
        if cells >= width:
            # A mark behind the last character that fits belongs to it.
            return text[:place] + ellipsis
    return text


def pad(text: str, width: int, *, right: bool = False) -> str:
    """``text`` with spaces up to ``width`` cells, behind it or (``right``) before it."""
    spaces = " " * (width - width_of(text))
    return spaces + text if right else text + spaces


def can_show(text: str) -> bool:
    """Whether standard output's encoding has these characters."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def terminal_width() -> int | None:
    """The columns of the terminal that standard output is; None if it is none."""
    if not sys.stdout.isatty():
        return None
    with contextlib.suppress(ValueError, KeyError):  # as all programs do
        if (columns := int(os.environ["COLUMNS"])) > 0:
            return columns
    with contextlib.suppress(OSError):
        if (columns := os.get_terminal_size(sys.stdout.fileno()).columns) > 0:
            return columns
    return 80


def bar(done: int, total: int, width: int) -> str:
    """How much is done, as a bar: full only when all of it is."""
    full, empty = ("█", "░") if can_show("█░") else ("#", ".")
    filled = min(done * width // total, width) if total > 0 else 0
    return full * filled + empty * (width - filled)


def use_color(choice: str | None) -> bool:
    """What ``--color`` means here; ``auto``: on a terminal, unless NO_COLOR or TERM says no."""
    if choice in ("always", "never"):
        return choice == "always"
    return (
        not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and sys.stdout.isatty()
    )


def colored(text: str, status: str) -> str:
    """``text`` in the colour of a job's or row's status."""
    code = _COLORS.get(status)
    return text if code is None else f"\x1b[{code}m{text}\x1b[0m"


# --- writing


def tell(text: str) -> None:
    """A line to standard error; if nobody listens any more, what is done matters more."""
    with contextlib.suppress(OSError):
        click.echo(clean(text), err=True)


class _Shown:
    """Standard output as a terminal: lines of JSON or of cells, each written whole, as escapes."""

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json

    def write(self, data: bytes) -> int:
        text = data.decode()
        if self._is_json:
            text = "\n".join(map(escaped_json, text.split("\n")))
        else:
            text = escaped(text, keep="\t\n")
        return sys.stdout.buffer.write(text.encode())


def data_stream(*, is_json: bool) -> IO[bytes]:
    """Where data goes as it is: standard output; a terminal gets what would steer it as escapes."""
    if sys.stdout.isatty():
        return cast("IO[bytes]", _Shown(is_json=is_json))  # of which only write is used
    return sys.stdout.buffer


def as_json(value: Any) -> str:
    """Compact JSON; every character a terminal acts on is escaped, which JSON allows."""
    return escaped_json(msgspec.json.encode(value).decode())


def echo_json(value: Any) -> None:
    """A line of JSON, in UTF-8: what programs read doesn't depend on the locale."""
    sys.stdout.buffer.write(as_json(value).encode() + b"\n")


def echo_json_list(values: Iterable[Any]) -> None:
    """One JSON array, an element a line, written as the values come."""
    sys.stdout.buffer.writelines(json_array(as_json(value).encode() for value in values))
