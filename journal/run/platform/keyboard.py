"""Reads keys from a terminal while they are pressed, and lets Ctrl-Z suspend a program that draws."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

if sys.platform == "win32":
    import msvcrt

    _POLL_S = 0.05

    def is_foreground(_terminal: int) -> bool:
        """Return True. Windows has no processes in the background of a console."""
        return True

    @contextmanager
    def suspendable(_leave: Callable[[], object]) -> Iterator[None]:
        """Do nothing. Windows can't suspend a program."""
        yield

    class Keyboard:
        """The keys of standard input. On Windows, the console needs no change for reading keys."""

        def begin(self) -> None:
            """Do nothing."""

        def end(self) -> None:
            """Do nothing."""

        def read(self, timeout_s: float) -> str:
            """Return the keys that are pressed within ``timeout_s``, or "" after this time."""
            end_s = time.monotonic() + timeout_s
            while not (sys.stdin.isatty() and msvcrt.kbhit()):
                if time.monotonic() >= end_s:
                    return ""
                time.sleep(_POLL_S)
            key = msvcrt.getwch()
            if key not in ("\x00", "\xe0"):
                return key
            msvcrt.getwch()  # the code of a key without a character, such as an arrow
            return ""
else:
    import termios

    def is_foreground(terminal: int) -> bool:
        """Return whether this process may draw on a terminal, because a shell waits for the
        process.
        """
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        except OSError:  # the terminal belongs to another session, so there is no shell
            return True

    @contextmanager
    def suspendable(leave: Callable[[], object]) -> Iterator[None]:
        """During the block, call ``leave`` before Ctrl-Z suspends this process, or SIGQUIT ends it."""

        def suspend(number: int, _frame: object) -> None:
            leave()
            # Not SIGSTOP, which would suspend even a program that no shell can resume.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            signal.signal(number, suspend)

        # A signal that is ignored stays ignored: for example, the signal of Ctrl-Z in a shell
        # without job control.
        numbers = (signal.SIGTSTP, signal.SIGQUIT)
        handled = [each for each in numbers if signal.getsignal(each) is signal.SIG_DFL]
        for number in handled:
            signal.signal(number, suspend)
        try:
            yield
        finally:
            for number in handled:
                signal.signal(number, signal.SIG_DFL)

    class Keyboard:
        """The keys of standard input, if it is a terminal. They aren't shown while they are read."""

        def __init__(self) -> None:
            self._before: list[Any] | None = None
            self._is_open = sys.stdin.isatty()

        def begin(self) -> None:
            """Let keys be read when they are pressed.

            Call this in the foreground: see :func:`is_foreground`.
            """
            if self._before is None and self._is_open:
                with suppress(termios.error):
                    self._before = termios.tcgetattr(0)
                    changed = termios.tcgetattr(0)
                    changed[3] &= ~(termios.ICANON | termios.ECHO)  # keys still send signals
                    termios.tcsetattr(0, termios.TCSADRAIN, changed)

        def end(self) -> None:
            """Restore the terminal."""
            before, self._before = self._before, None
            if before is not None:
                with suppress(termios.error):
                    termios.tcsetattr(0, termios.TCSADRAIN, before)

        def read(self, timeout_s: float) -> str:
            """Return the keys that are pressed within ``timeout_s``, or "" after this time."""
            if self._before is None:
                time.sleep(timeout_s)
                return ""
            if not select.select([0], [], [], timeout_s)[0]:
                return ""
            with suppress(OSError):
                if keys := os.read(0, 64):
                    return keys.decode(errors="replace")
            self.end()  # nobody types any more
            self._is_open = False
            return ""
