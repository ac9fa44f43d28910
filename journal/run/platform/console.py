"""Signals and events that a terminal or console sends. New processes can be protected from them."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

if sys.platform == "win32":
    import _thread

    # SIGTERM never comes from another process.
    STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
    # The console sends these to all processes of a group, so nobody has to pass them on.
    SHARED_SIGNALS = (signal.SIGINT, signal.SIGBREAK)

    _CTRL_C = 0
    _CTRL_BREAK = 1
    _LOGOFF = 5  # a service gets it when any user logs off, and should continue
    _kept: list[object] = []  # the handler must live as long as this process

    def handle_console_events() -> None:
        """Raise SIGBREAK for Ctrl-Break, when the console closes, and at a shutdown.

        When the console closes, the system ends the process as soon as the handler of this event
        has returned. By default, the system waits 5 s for the handler (see "HandlerRoutine callback
        function"). So our handler doesn't return, and the run has this time to end.
        """
        if _kept:
            return
        import ctypes  # noqa: PLC0415  (most programs on Windows don't need it)

        def handle(event: int) -> int:  # called in a thread of the system
            if event == _CTRL_C or not callable(signal.getsignal(signal.SIGBREAK)):
                return 0  # the next handler is that of the C runtime
            if event == _LOGOFF:
                return 1
            _thread.interrupt_main(signal.SIGBREAK)
            if event != _CTRL_BREAK:
                threading.Event().wait()
            return 1

        handler = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_ulong)(handle)
        _kept.append(handler)
        ctypes.windll.kernel32.SetConsoleCtrlHandler(handler, 1)

    @contextmanager
    def interrupts_kept_from_new_processes() -> Iterator[None]:
        """Processes that are started in the block ignore Ctrl-C.

        New processes inherit this setting from their parent. So this process ignores Ctrl-C during
        the block, too (see "SetConsoleCtrlHandler function").
        """
        import ctypes  # noqa: PLC0415

        kernel32 = ctypes.windll.kernel32
        kernel32.SetConsoleCtrlHandler(None, 1)
        try:
            yield
        finally:
            kernel32.SetConsoleCtrlHandler(None, 0)
else:
    STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    SHARED_SIGNALS = (signal.SIGINT,)

    _DRIVERS_SIGNALS = (signal.SIGINT, signal.SIGHUP)

    def handle_console_events() -> None:
        """Do nothing. POSIX has signals for all these events."""

    @contextmanager
    def interrupts_kept_from_new_processes() -> Iterator[None]:
        """SIGINT and SIGHUP are blocked in processes that this thread starts within ``with``.

        In this thread, both signals stay blocked even after the ``with`` statement. Each call of
        this function blocks them again, since the resource tracker of a pool unblocks them.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _DRIVERS_SIGNALS)
        yield
