"""Writes to standard error: a bar that messages don't break, and lines. Errors are ignored."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from journal.model import Job, done_rows
from journal.text import counted, escaped, shorten

_LABEL_COLUMNS = 24
_BAR_COLUMNS = (5, 30)  # the shortest and the longest bar

Message = TypeVar("Message")


def print_err(text: str) -> None:
    """Print a line to standard error, if that is possible."""
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201
    except (OSError, ValueError, AttributeError):  # standard error is closed or doesn't exist
        return


def has_terminal() -> bool:
    """Whether standard error is a terminal that can show a bar."""
    try:
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    except (ValueError, AttributeError):  # it is closed or doesn't exist
        return False


class Bar:
    """A bar in the last line of the terminal. A process has one at a time."""

    every_s = 0.1
    _lock = threading.RLock()
    _shown: Bar | None = None

    @classmethod
    def begin(cls) -> Bar | None:
        """A new bar; None if another run of this process shows its own."""
        with cls._lock:
            if cls._shown is not None:
                return None
            cls._shown = cls()
            return cls._shown

    @classmethod
    @contextmanager
    def out_of_the_way(cls) -> Iterator[None]:
        """Take the bar off the terminal while the block writes lines to it."""
        with cls._lock:
            bar = cls._shown
            if bar is None:
                yield
                return
            bar.erase()
            try:
                yield
            finally:
                bar.redraw()

    def __init__(self) -> None:
        self._line = ""

    def draw(self, job: Job, details: Sequence[str]) -> None:
        """Draw the bar, in one line, since a longer text can't be overwritten."""
        with self._lock:
            line = bar_line(job, details, _columns())
            if line != self._line:
                self._line = line
                self._write(line)

    def erase(self) -> None:
        self._write("")

    def redraw(self) -> None:
        self._write(self._line)

    def close(self) -> None:
        """Leave the bar as it is. The cursor goes to the next line."""
        with self._lock:
            Bar._shown = None
            if self._line:
                self._write(self._line + "\n")

    @staticmethod
    def _write(text: str) -> None:
        try:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            return


def above_bar(tell: Callable[[Message], object]) -> Callable[[Message], None]:
    """``tell``, but the bar is out of its way."""

    def tell_above(message: Message) -> None:
        with Bar.out_of_the_way():
            tell(message)

    return tell_above


def bar_line(job: Job, details: Sequence[str], columns: int) -> str:
    """The bar with its label, counts and details, in fewer than ``columns`` columns.

    Details that don't fit are left out, the last ones first. What room they leave is the bar.
    """
    label = shorten(escaped(job.id), min(_LABEL_COLUMNS, columns // 3))
    done = done_rows(job)  # decreases when rows become pending again
    count = f"{done}/{job.total_rows}"
    shortest, longest = _BAR_COLUMNS
    room = columns - 1 - len(f"{label}  []  {count}  ")
    kept = list(details)
    while len(kept) > 1 and len(", ".join(kept)) + shortest > room:
        kept.pop()
    text = ", ".join(kept)
    width = min(longest, room - len(text))
    if width < shortest:
        return f"{label}  {count}  {text}"[: columns - 1]
    filled = min(done * width // job.total_rows, width) if job.total_rows else width
    return f"{label}  [{'#' * filled}{'-' * (width - filled)}]  {count}  {text}"


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


class Lines:
    """A line every 10 seconds."""

    every_s = 10.0

    def draw(self, job: Job, details: Sequence[str]) -> None:
        """Print the line."""
        total = counted(job.total_rows, "row|rows")
        text = f"{done_rows(job)} of {total} done, {', '.join(details)}"
        print_err(f"{job.id}: {escaped(text)}")

    def close(self) -> None:
        """Nothing is left to do."""
