"""Handles and counts Ctrl-C, SIGTERM and SIGHUP. The effect depends on the count: see :class:`Stops`.

On Windows, SIGBREAK takes the place of SIGHUP. It comes from Ctrl-Break, or when the console
closes.

:class:`OwnProcess` ends processes that were forked during a run and would continue the run.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Never

from journal.display.session import interrupt_again
from journal.fs import system
from journal.model import EarlyEnd

END_ROWS = 2  # this number of stops ends the rows in flight
MAX_STOPS = 3  # after one more signal, the caller leaves the run, because the run hangs


class Stops:
    """Counts how often a run was asked to stop.

    A run is asked to stop by signals (for example by Ctrl-C), by interrupts and by limits.

    ``count`` decides what the run does:

    - 0: continue.
    - 1: start no more rows, and wait for the rows in flight.
    - 2: end the rows in flight.
    - 3 or more: end the rows in flight by force. A fourth signal or interrupt leaves the run.

    ``can_be_left``: whether the caller can leave the run in this way. An event loop can't.
    ``is_left``: whether the caller has left the run. The driver of the run may continue to work.
    """

    def __init__(self) -> None:
        self.count = 0
        self.signal: int | None = None  # the first signal that came
        self.reason: str | None = None  # the first reason that was given
        self.wake: Callable[[], object] = lambda: None  # makes the driver look for changes
        self.can_be_left = self.is_left = False
        self._reported = 0

    def add(self, number: int | None = None, reason: str | None = None) -> None:
        """Count one more stop. Any thread or signal handler may call this.

        ``number``: the number of the signal, if a signal is the reason. If rows are already being
        ended for another reason, the first signal doesn't count. Otherwise it would end these rows
        by force.
        """
        is_first = number is not None and self.signal is None
        self.signal = self.signal or number
        self.reason = self.reason or reason
        if is_first and self.count == 2:  # a limit or a call ends the rows; repeat the message
            self._reported = 1
        else:
            self.count += 1
        self.wake()

    def ask(self, reason: str, *, end_rows: bool = False) -> None:
        """Raise the count to 1, if it is 0. Any thread may call this.

        ``end_rows``: raise the count to 2, or to 3 if it is already 2.
        """
        self.reason = self.reason or reason
        self.at_least(max(2, min(self.count + 1, 3)) if end_rows else 1)
        self.wake()

    def at_least(self, count: int) -> None:
        if self.count < count:  # noqa: PLR1730  (max() would lose a signal that comes meanwhile)
            self.count = count

    @property
    def end(self) -> EarlyEnd | None:
        """The end of a run that was asked to stop for a reason."""
        return None if self.reason is None else EarlyEnd("stopped", self.reason)

    @property
    def interrupt(self) -> EarlyEnd | None:
        """The end of a run that was asked to stop, for a reason or by a signal or an interrupt."""
        if self.reason is not None or not self.count:
            return self.end
        name = signal.Signals(self.signal).name if self.signal else "an interrupt"
        return EarlyEnd("signal", f"stopped by {name}")

    def messages(self, in_flight: int, end: EarlyEnd | None) -> Iterator[str]:
        """Messages for the stops that were not reported yet."""
        while self._reported < min(self.count, 3):
            self._reported += 1
            why = "" if end is None else f"{end.message}: "
            again = f"; {interrupt_again()} {{}} them" if self.signal else ""
            if self._reported == 1:
                waiting = f"; waiting for the rows in flight ({in_flight}){again.format('ends')}"
                yield f"{why}pausing{waiting if in_flight else ''}"
            elif self._reported == 2:
                yield f"{why}ending the rows in flight ({in_flight}){again.format('kills')}"
            else:
                leaves = again.format("leaves") if self.can_be_left else ""
                yield f"ending the rows in flight ({in_flight}) by force{leaves}"


@contextmanager
def ending_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise an exception in the block, as Ctrl-C does.

    The block can then clean up.

    If this exception ends the process, the exit code is 128 plus the number of the signal.
    """
    with stopping_signals(raise_signal):
        yield


def raise_signal(number: int) -> None:
    """Raise the exception of a signal: KeyboardInterrupt, or SystemExit with the exit code."""
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


@contextmanager
def stopping_signals(stop: Callable[[int], object]) -> Iterator[None]:
    """Call ``stop`` with the number of each signal of STOPPING_SIGNALS that comes during the block.

    Signals that were ignored stay ignored. At the end the earlier handlers are restored. Outside of
    the main thread, this function does nothing, because Python allows no signal
    handlers there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    handle_console_events()
    handler = _Handler(stop)
    previous: dict[signal.Signals, Any] = {}
    try:
        for number in STOPPING_SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # nohup ignores SIGHUP
                previous[number] = signal.signal(number, handler)
        yield
    finally:
        for number, earlier in previous.items():
            signal.signal(number, earlier)


class _Handler:
    """Handles stopping signals in the process that made it. In forked processes, does nothing."""

    def __init__(self, stop: Callable[[int], object]) -> None:
        self._stop = stop
        self._process_id = os.getpid()

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() == self._process_id:
            self._stop(number)


def leave_interrupts_to_the_driver() -> None:
    """Ignore SIGINT in a process of a pool, since the driver handles Ctrl-C for all processes.

    Otherwise Ctrl-C would kill an idle worker, which breaks the pool.
    """
    multiprocessing = sys.modules.get("multiprocessing")
    if (
        multiprocessing is not None
        and multiprocessing.parent_process() is not None
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    ):
        signal.signal(signal.SIGINT, signal.SIG_IGN)


# --- processes that are forked during a run


class OwnProcess:
    """A block that calls the caller's code, such as a handler. No forked process leaves the block.

    If the code forks, and the child returns or raises an exception (for example because ``execvp``
    has failed), the child ends at the end of the block. Otherwise, the child would continue as a
    second worker or driver, with copies of the parent's rows in flight.

    The object may be made before the block. The block belongs to the process that made the object.
    """

    __slots__ = ("_process",)

    def __init__(self) -> None:
        self._process = system.process_id()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self.end_child(error)

    def end_child(self, error: BaseException | None) -> None:
        """End a process that was forked in the block and is about to leave it by ``error``."""
        if system.process_id() != self._process:
            end_process(error)


def end_process(error: BaseException | None) -> Never:
    """End this process at once, as Python does after ``error``: same message, same exit status.

    No ``finally`` block, ``atexit`` function or other thread runs any more, because they belong to
    the parent.
    """
    status = 0
    try:
        if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
            status = (error.code or 0) & 0xFF
        elif error is not None:
            status = 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
            if isinstance(error, SystemExit):
                print(error.code, file=sys.stderr)  # noqa: T201  (as Python does)
            else:
                sys.excepthook(type(error), error, error.__traceback__)
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # the stream is closed, or there is none
                stream.flush()
    finally:
        os._exit(status)


def _end_with_pool_task() -> None:
    """End this forked process when the forking task of a thread pool ends.

    Otherwise, the thread of the pool would take the next tasks. These tasks, such as the queued
    calls of other rows, belong to the parent. A call of ``asyncio.to_thread`` is such a task.
    """
    pools = sys.modules.get("concurrent.futures.thread")
    frame = None if pools is None else sys._getframe()  # noqa: SLF001
    while frame is not None:
        if frame.f_code is pools._WorkItem.run.__code__:  # type: ignore[union-attr]  # noqa: SLF001
            # The first callback: the other callbacks belong to the parent, too.
            callbacks = frame.f_locals["self"].future._done_callbacks  # noqa: SLF001
            callbacks.insert(0, lambda task: end_process(task.exception()))
        frame = frame.f_back


if sys.platform != "win32":
    _masks = threading.local()

    def _before_fork() -> None:
        _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def _after_fork_in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)

    def _after_fork_in_child() -> None:
        if isinstance(signal.getsignal(signal.SIGTERM), _Handler):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)
        _end_with_pool_task()

    # A pool ends its worker processes with SIGTERM and waits for them. If the parent handles
    # SIGTERM in Python, a new process loses a SIGTERM that comes before the process runs Python.
    # The pool would then wait forever. So SIGTERM stays blocked until the new process has the
    # default handler.
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


# --- signals and events that a terminal or console sends

if sys.platform == "win32":
    import _thread

    # SIGTERM never comes from another process.
    STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
    # The console sends these events to all processes of a group, so nobody has to pass them on.
    SHARED_SIGNALS = (signal.SIGINT, signal.SIGBREAK)

    _CTRL_C = 0
    _CTRL_BREAK = 1
    _LOGOFF = 5  # a service gets this event when any user logs off, and should continue
    _kept: list[object] = []  # the handler must live as long as this process

    def handle_console_events() -> None:
        """Raise SIGBREAK after Ctrl-Break, when the console closes, and at a shutdown.

        When the console closes, the system ends the process as soon as the handler of this event
        has returned. By default, the system waits 5 s for the handler (see "HandlerRoutine callback
        function"). So our handler doesn't return, and the run can use this time to end.
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
