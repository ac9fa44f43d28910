"""Handle SIGINT, SIGTERM and SIGHUP: stop a run in order, or unwind a command."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_STOPPING_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def ending_signals() -> Iterator[None]:
    """In the block SIGTERM and SIGHUP unwind the program as Ctrl-C does, so that it cleans up.

    The exit code is the one of an end by that signal.
    """

    def end(number: int) -> None:
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    with stopping_signals(end):
        yield


@contextmanager
def stopping_signals(stop: Callable[[int], object]) -> Iterator[None]:
    """In the block ``stop`` is called with the number of each signal that asks the program to end.

    Ignored signals stay ignored. Outside of the main thread, where Python has no signal handlers,
    nothing changes. The earlier handlers are restored at the end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    driver = os.getpid()

    def handle(number: int, _frame: FrameType | None) -> None:
        if os.getpid() == driver:
            stop(number)
        elif number == signal.SIGTERM:  # a pool ends its forked workers by it
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    previous: dict[int, Any] = {}
    try:
        for name in _STOPPING_SIGNALS:
            number = getattr(signal, name)
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # nohup ignores SIGHUP
                previous[number] = signal.signal(number, handle)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
