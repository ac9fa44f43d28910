"""Writes text for people and JSON for programs. Control characters in data are escaped."""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import IO, Any, cast

import click

from journal.display.colors import TERMINAL
from journal.fs import system
from journal.text import encode_json, escaped, escaped_json, json_array


def local_text(at: datetime | None, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """The moment as text in local time, or "" for None. These texts sort in the order of time.

    If the local time is outside the calendar's range, the text is in UTC.
    """
    if at is None:
        return ""
    with contextlib.suppress(OverflowError, OSError):  # Windows: after the year 3000
        at = at.astimezone()
    return f"{at:{form}}"


def first_of(names: Sequence[str], at_most: int) -> str:
    """The first ``at_most`` names, and an ellipsis if there are more."""
    return ", ".join(names[:at_most]) + (", ..." if len(names) > at_most else "")


# --- how wide text is on a terminal


def width_of(text: str) -> int:
    """The number of terminal cells of ``text``: 2 for a wide character, 0 for a combining mark."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(character: str) -> int:
    if unicodedata.east_asian_width(character) in "WF":
        return 2
    # Hangul vowels and final consonants are drawn in the cell of the preceding consonant.
    joins = unicodedata.category(character) in ("Mn", "Me") or "\u1160" <= character <= "\u11ff"
    return 0 if joins else 1


def cut(text: str, width: int) -> str:
    """``text`` cut to ``width`` cells. An ellipsis replaces the rest."""
    if len(text) * 2 <= width or width_of(text) <= width:
        return text
    ellipsis = "…" if can_show("…") else "~"
    cells = 0
    for place, character in enumerate(text):
        cells += _cells(character)
        if cells >= width:
            # A combining mark belongs to the character before it.
            return text[:place] + ellipsis
    return text


def pad(text: str, width: int, *, right: bool = False) -> str:
    """``text`` with spaces, up to ``width`` cells.

    With ``right``, the spaces come before the text.
    """
    spaces = " " * (width - width_of(text))
    return spaces + text if right else text + spaces


def can_show(text: str) -> bool:
    """Return whether the encoding of standard output has these characters."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def terminal_width() -> int | None:
    """The width of the terminal on standard output; None if standard output isn't a terminal."""
    if not sys.stdout.isatty():
        return None
    # COLUMNS takes precedence, as in other programs
    with contextlib.suppress(ValueError, KeyError):
        if (columns := int(os.environ["COLUMNS"])) > 0:
            return columns
    with contextlib.suppress(OSError):
        if (columns := os.get_terminal_size(sys.stdout.fileno()).columns) > 0:
            return columns
    return 80


def bar(done: int, total: int, width: int) -> str:
    """A bar of ``width`` cells. The bar is full only when ``done`` equals ``total``."""
    full, empty = ("█", "░") if can_show("█░") else ("#", ".")
    filled = min(done * width // total, width) if total > 0 else 0
    return full * filled + empty * (width - filled)


def use_color() -> bool:
    """Return whether to use colours: on a terminal, unless NO_COLOR is set or TERM is "dumb"."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty():
        return False
    system.let_control_cursor()
    return True


def colored(text: str, status: str) -> str:
    """``text`` in the colour of a job's or row's status."""
    code = TERMINAL.get(status)
    return text if code is None else f"\x1b[{code}m{text}\x1b[0m"


# --- writing


def echo_err(text: str) -> None:
    """Write a line to standard error. If writing fails, the command continues."""
    with contextlib.suppress(OSError):
        click.echo(escaped(text), err=True)


def echo_problems(*problems: object) -> None:
    """Write a line for each problem to standard error. The command continues."""
    for problem in problems:
        echo_err(f"journal: {problem}")


class _Shown:
    """A stream that escapes control characters, for standard output on a terminal.

    Each write must have whole lines.
    """

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json

    def write(self, data: bytes) -> int:
        text = data.decode()
        if self._is_json:
            text = "\n".join(map(escaped_json, text.split("\n")))
        else:
            text = escaped(text, keep="\t\n")
        return sys.stdout.buffer.write(text.encode())

    def writelines(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self.write(line)


def data_stream(*, is_json: bool) -> IO[bytes]:
    """A stream for data on standard output. On a terminal, control characters are escaped."""
    if sys.stdout.isatty():
        return cast("IO[bytes]", _Shown(is_json=is_json))  # only its methods are used
    return sys.stdout.buffer


def as_json(value: Any) -> str:
    """Compact JSON with escaped control characters, so that they can't control a terminal."""
    return escaped_json(encode_json(value).decode())


def echo_json(value: Any) -> None:
    """Write a line of JSON, in UTF-8 in every locale."""
    sys.stdout.buffer.write(as_json(value).encode() + b"\n")


def echo_result(value: Any, text: Callable[[Any], str], *, is_json: bool) -> None:
    """Write the result of a command as a line of JSON, or as the text that ``text`` returns."""
    if is_json:
        echo_json(value)
    else:
        click.echo(text(value))


def echo_json_list(values: Iterable[Any]) -> None:
    """Write a JSON array, one element per line. Each value is written as soon as it is known."""
    sys.stdout.buffer.writelines(json_array(as_json(value).encode() for value in values))
