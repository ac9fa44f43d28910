"""The live view of a job or a set: an alternate screen that is redrawn in place, keys, signals."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from time import sleep
from typing import Self

import msgspec

from journal.cli.find import FoundJob
from journal.cli.output import colored, use_color
from journal.cli.watch.drawing import Line, job_lines, set_lines
from journal.cli.watch.reading import JobReader, SetReader
from journal.fs import system
from journal.progress.terminal import has_terminal, size_of
from journal.run.platform.keyboard import Keyboard, is_foreground, suspendable
from journal.run.signals import ending_signals
from journal.sets.shard_states import Whole

# The alternate screen, without a cursor. Lines that are too long are cut.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J", "\x1b[?7h\x1b[?25h\x1b[?1049l"
_FULL_S = 0.01  # the time until the next attempt if the terminal has no room


class QuitError(Exception):
    """A person has pressed q."""


def can_draw() -> bool:
    """Return whether standard error is a terminal on which this program may draw."""
    return has_terminal() and is_foreground(sys.stderr.fileno())


class Screen:
    """A context manager that draws lines on the terminal of standard error.

    At the end of the block, also after a signal, the terminal is restored. While the program is
    suspended, or in the background, nothing is drawn.
    """

    def __init__(self) -> None:
        self._terminal = sys.stderr.fileno()
        self._colors = use_color()
        self._keyboard = Keyboard()
        self._is_open = False
        self._size = 0, 0
        self._shown: list[Line] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        system.let_control_cursor()
        with ExitStack() as stack:
            stack.enter_context(ending_signals())
            stack.callback(self._leave)
            stack.enter_context(suspendable(self._leave))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def size(self) -> tuple[int, int]:
        """The columns and lines of the terminal."""
        return size_of(sys.stderr)

    def draw(self, lines: Sequence[Line]) -> None:
        """Draw lines that fit the :attr:`size`. Only lines that have changed are written."""
        if not is_foreground(self._terminal):
            self._is_open = False  # the terminal is another program's
            return
        self._enter()
        shown, size = self._shown, self.size
        parts = []
        if size != self._size:
            self._size, shown, parts = size, [], ["\x1b[2J"]
        for number in range(max(len(lines), len(shown))):
            line = lines[number] if number < len(lines) else ("", "")
            if number >= len(shown) or line != shown[number]:
                parts.append(f"\x1b[{number + 1};1H\x1b[K{self._text(line)}")
        self._shown = list(lines)
        if parts:
            self._write("".join(parts))

    def wait(self, timeout_s: float) -> None:
        """Wait until the next drawing is due. Raises QuitError if q is pressed."""
        # Keys such as F2 send sequences of characters.
        keys = re.sub(r"\x1b(\[[0-9;]*.|O.)?", "", self._keyboard.read(timeout_s))
        if not {"q", "Q", "\x03"}.isdisjoint(keys):
            raise QuitError
        if "\x0c" in keys:  # Ctrl-L
            self._size = 0, 0

    def leave_behind(self, lines: Sequence[Line]) -> None:
        """Write lines to the normal screen. Call this after the ``with`` block."""
        self._write("".join(f"{self._text(line)}\n" for line in lines))

    def _text(self, line: Line) -> str:
        text, status = line
        return colored(text, status) if self._colors else text

    def _enter(self) -> None:
        if not self._is_open:
            self._is_open, self._size = True, (0, 0)
            self._keyboard.begin()
            self._write(_ENTER)

    def _leave(self) -> None:
        if self._is_open:
            self._is_open = False
            with suppress(OSError):  # the terminal is gone
                self._write(_LEAVE)
        self._keyboard.end()

    def _write(self, text: str) -> None:
        # Not by sys.stderr: a signal handler can't use this stream while the stream is in use.
        data = text.encode(sys.stderr.encoding, "backslashreplace")
        while data:
            try:
                data = data[os.write(self._terminal, data) :]
            except BlockingIOError:  # another program has left the terminal non-blocking
                sleep(_FULL_S)


_DRAW_EVERY_S = 0.25
_LEFT_LINES = 10  # for the outcome and commands to paste, below what was seen last


class LiveView:
    """A context manager that shows a job or a set on the terminal.

    At the end, also after an error or a signal, the last state stays on the normal screen.
    """

    def __init__(self, found: FoundJob) -> None:
        found.service.store.leaves_hints = False  # a view writes nothing
        self._screen = Screen()
        self._job, self._set = JobReader(found), SetReader(found)
        self._last: Callable[[int, int], list[Line]] | None = None
        self.has_advice = False  # whether the last shown job needs a person

    def __enter__(self) -> Self:
        self._screen.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._screen.__exit__()
        if self._last is not None:
            columns, lines = self._screen.size
            self._screen.leave_behind(self._last(columns, max(lines - _LEFT_LINES, _LEFT_LINES)))

    def show_job(self, state: str, *, ended: bool = False) -> None:
        """Show the current job. ``state``: the result of :func:`state_of_job`.

        With ``ended``, the job is only shown on the normal screen, and without commands to paste:
        the edge of the screen would cut these commands.
        """
        seen = self._job.read(state)
        self.has_advice = bool(seen.next)
        self._last = partial(job_lines, msgspec.structs.replace(seen, next=()))
        if not ended:
            self._screen.draw(job_lines(seen, *self._screen.size))

    def show_set(self, whole: Whole, *, ended: bool = False) -> None:
        """Show a set: see :meth:`show_job`."""
        self._last = partial(set_lines, self._set.read(whole))
        if not ended:
            self._screen.draw(self._last(*self._screen.size))

    def wait(self, least_s: float) -> None:
        """Wait until the view is due again. Raises QuitError if a person presses q."""
        self._screen.wait(max(least_s, _DRAW_EVERY_S))
