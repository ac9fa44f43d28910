"""Writes a bar or lines to standard error. Messages go above the bar. Errors are ignored."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TextIO

from journal.fs import system
from journal.model import Job, expected_cost_cents
from journal.text import counted, escaped, shorten, spent_text


def redirect_handlers(streams: Mapping[Any, Any]) -> None:
    """In the handlers of all loggers, replace the streams that are keys of ``streams`` by the
    values.

    The caller must not hold the lock of the bar, because this function waits for the locks of
    handlers. A handler that is writing holds its own lock, and waits for the lock of the bar. If
    the caller held the lock of the bar, this function and the handler would wait for each other
    forever.
    """
    logging = sys.modules.get("logging")  # without this module, there are no handlers
    if logging is None:
        return
    for logger in (logging.root, *list(logging.root.manager.loggerDict.values())):
        for handler in list(getattr(logger, "handlers", ())):
            if not isinstance(handler, logging.StreamHandler):
                continue
            for old, new in streams.items():
                if handler.stream is old:
                    with suppress(Exception):  # a handler's own code may raise anything
                        handler.setStream(new)
                    break


_LABEL_COLUMNS = 24
_BAR_COLUMNS = (5, 30)  # the minimum and the maximum length
_AGAIN_S = 0.05  # the minimum time between two drawings of the bar below lines of other writers


def print_err(text: str) -> None:
    """Print a line to standard error, if standard error is open."""
    if sys.stderr is None:  # print() would use standard output instead
        return
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201  (a message for people)
    except (OSError, ValueError, AttributeError):  # standard error is closed, or there is none
        return


def has_terminal() -> bool:
    """Whether standard error is a terminal that can show a bar."""
    try:
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    except (ValueError, AttributeError):  # standard error is closed, or there is none
        return False


class Bar:
    """A bar in the last line of the terminal. A process has one bar at a time.

    While the bar is shown, ``sys.stdout`` and ``sys.stderr`` write above it, if they are terminals.
    Handlers of ``logging`` that use these streams also write above it.
    """

    every_s = 0.1
    _lock = threading.RLock()
    _shown: Bar | None = None

    @classmethod
    def begin(cls) -> Bar | None:
        """A new bar, or None if another run of this process already shows a bar."""
        with cls._lock:
            if cls._shown is not None:
                return None
            system.let_control_cursor()
            bar = cls._shown = cls()
        redirect_handlers({above.stream: above for _, above in bar._replaced})
        return bar

    @classmethod
    def forget(cls) -> None:
        """Remove the bar in a forked process.

        A forked process has only the thread that forked. If another thread of the parent held the
        lock of the bar, nobody releases the lock in the forked process.
        """
        cls._lock, cls._shown = threading.RLock(), None

    def __init__(self) -> None:
        self._line = ""
        self._is_drawn = False
        self._may_draw = True  # False while another writer's line isn't complete
        self._drawn_s = 0.0
        self._terminal = sys.stderr
        self._replaced: list[tuple[str, _AboveBar]] = []
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and stream.isatty():
                above = _AboveBar(stream, self)
                self._replaced.append((name, above))
                setattr(sys, name, above)

    def draw(self, job: Job, details: Sequence[str]) -> None:
        """Draw the bar in one line. Text over several lines could not be overwritten."""
        with self._lock:
            shown = [*map(escaped, all_details(job, details))]
            self._line = bar_line(job, shown, size_of(self._terminal)[0])
            self.draw_again()

    def draw_again(self) -> None:
        if Bar._shown is self and self._may_draw:
            self._is_drawn = True
            self._drawn_s = time.monotonic()
            self._put(self._line)

    def erase(self) -> None:
        if self._is_drawn:
            self._is_drawn = False
            self._put("")

    def write_above(self, stream: TextIO, text: str) -> int:
        """Write the text to the stream.

        Draw the bar below it, unless the last drawing was a moment ago.
        """
        if Bar._shown is not self:  # in a forked process; or other code has kept the stream
            return stream.write(text)
        with self._lock:
            self.erase()
            written = stream.write(text)
            if text:
                self._may_draw = text.endswith("\n")
            if time.monotonic() - self._drawn_s >= _AGAIN_S:
                self.draw_again()
            return written

    def close(self, *, withdraw: bool = False) -> None:
        """End the bar. With ``withdraw``, erase it.

        Without ``withdraw``, the bar stays on the terminal, and the cursor goes to the next line.
        """
        with self._lock:
            Bar._shown = None
            for name, above in self._replaced:
                if getattr(sys, name) is above:
                    setattr(sys, name, above.stream)
            if withdraw:
                self.erase()
            else:
                self._put(self._line + "\n" if self._may_draw else "\n")
            self._is_drawn = False
        redirect_handlers({above: above.stream for _, above in self._replaced})

    def _put(self, text: str) -> None:
        start = "\r\x1b[K" if self._may_draw else ""
        with suppress(Exception):  # the caller's print() must not raise an error of the bar
            self._terminal.write(start + text)
            self._terminal.flush()


system.call_after_fork(Bar.forget)


def unwrapped(stream: Any) -> Any:
    """The original of a stream that writes above the bar.

    Any other stream is returned unchanged.
    """
    return stream.stream if isinstance(stream, _AboveBar) else stream


class _AboveBar:
    """A stream of the terminal that writes above the bar."""

    def __init__(self, stream: TextIO, bar: Bar) -> None:
        self.stream = stream
        self._bar = bar

    def write(self, text: str) -> int:
        return self._bar.write_above(self.stream, text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def all_details(job: Job, details: Sequence[str]) -> list[str]:
    """The details, with the job's failures before them and its cost after them."""
    parts = [f"{job.failed_rows} failed"]
    if job.needs_review_count:
        parts.append(f"{job.needs_review_count} need review")
    parts += details
    cost = spent_text(job.total_cost_cents, expected_cost_cents(job))
    if cost:
        parts.append(f"cost {cost}")
    return parts


def bar_line(job: Job, details: Sequence[str], columns: int) -> str:
    """The bar with its label, counts and details, in fewer than ``columns - 2`` columns.

    Details that don't fit are left out, the last ones first. The bar fills the remaining columns.
    """
    label = shorten(escaped(job.id), min(_LABEL_COLUMNS, columns // 3))
    done = job.done_rows  # the number decreases when rows become pending again
    count = f"{done}/{job.total_rows}"
    shortest, longest = _BAR_COLUMNS
    columns -= 3  # for the cursor, and the ^C of a terminal
    room = columns - len(f"{label}  []  {count}  ")
    kept = list(details)
    while len(kept) > 1 and len(", ".join(kept)) + shortest > room:
        kept.pop()
    text = ", ".join(kept)
    width = min(longest, room - len(text))
    if width < shortest:
        return f"{label}  {count}  {text}"[:columns]
    filled = min(done * width // job.total_rows, width) if job.total_rows else width
    return f"{label}  [{'#' * filled}{'-' * (width - filled)}]  {count}  {text}"


def size_of(terminal: TextIO) -> tuple[int, int]:
    """The columns and lines of a terminal, or 80 and 24 if they are unknown."""
    try:
        columns, lines = os.get_terminal_size(terminal.fileno())
    except (OSError, ValueError):
        columns = lines = 0
    return columns or 80, lines or 24


class Lines:
    """Prints a line every 10 seconds."""

    every_s = 10.0

    def draw(self, job: Job, details: Sequence[str]) -> None:
        """Print the line."""
        total = counted(job.total_rows, "row|rows")
        text = f"{job.done_rows} of {total} done, {', '.join(all_details(job, details))}"
        print_err(f"{job.id}: {escaped(text)}")

    def close(self, *, withdraw: bool = False) -> None:
        """Do nothing."""
