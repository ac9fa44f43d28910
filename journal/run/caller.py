"""The caller of a run: a thread, or a coroutine in an event loop. The caller waits for the driver.

The driver always runs in a thread of its own. Functions of the caller (``tell``, ``on_progress``
and the display of the progress) are called where the caller waits, with the caller's context.
Signals and other interrupts reach only the caller, and ask the driver to stop. So they can't stop
the driver between two statements.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext, suppress
from queue import Empty, SimpleQueue
from typing import Any, Concatenate, ParamSpec, TypeVar

from journal.display.session import is_cell
from journal.run.driver import POLL_S
from journal.run.run_report import RunReport
from journal.run.signals import MAX_STOPS, OwnProcess, Stops, raise_signal, stopping_signals
from journal.service import JobService

Options = ParamSpec("Options")
Self = TypeVar("Self")
Handler = TypeVar("Handler")
Result = TypeVar("Result")

Drive = Callable[[], RunReport]

_CANCELLED = "its task was cancelled"
_UNFINISHED = "its task was destroyed before its end"
_CLOSED = "the event loop was closed before the end of the run"


class _Driver:
    """The thread of a driver.

    The thread is a daemon, so it doesn't keep a program alive after the end of its caller.

    ``report`` and ``error`` say how the driver has ended.
    """

    def __init__(self, drive: Drive, ended: Callable[[], object]) -> None:
        self._drive = drive
        self._ended = ended
        self._first: dict[str, str] = {}
        self.report: RunReport | None = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._work,),
            name="journal-driver",
            daemon=True,
        )

    def _work(self) -> None:
        if self._first.setdefault("thread", "driver") != "driver":
            return
        try:
            with OwnProcess():  # the caller's code, such as ``where``, may fork
                self.report = self._drive()
        except BaseException as error:  # noqa: BLE001  (the caller raises it)
            self.error = error
        self._ended()

    def is_over(self) -> bool:
        """Whether the driver has ended, or an interrupt has prevented the start of the driver.

        Always true in a forked process.
        """
        if self.thread.is_alive():
            return False
        never_begins = self._first.setdefault("thread", "caller") == "caller"
        return never_begins or not self.thread.is_alive()

    def result(self) -> RunReport:
        """The report of a driver that has ended, or its error."""
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
            assert self.report is not None
            return self.report
        finally:
            del error  # its traceback has this frame, which keeps the job's files open


class CallersThread:
    """The thread that has called :meth:`JobRun.run`."""

    def __init__(self, stops: Stops) -> None:
        self.stops = stops
        stops.can_be_left = True
        self._own_process = OwnProcess()  # the caller's code may fork
        self._calls: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def post(self, call: Callable[[], object]) -> None:
        """Pass a call to the caller. Called by the driver."""
        self._calls.put(call)

    def wait(
        self, drive: Drive, within: AbstractContextManager[object], *, handle_signals: bool
    ) -> RunReport:
        """Call ``drive()`` in a thread, wait for its end, and return its report.

        An interrupt, or an exception of a posted call, asks the run to stop, and is raised after
        the end of the run. The fourth signal or interrupt is raised at once, even if a call hangs.
        The rows in flight are then left to the next start, as after the death of a run.
        """
        driver = _Driver(drive, lambda: self._calls.put(driver.thread.join))
        signals = stopping_signals(self._stop) if handle_signals else nullcontext()
        with signals, within:
            try:
                try:
                    with self._own_process:
                        driver.thread.start()
                    self._listen(driver)
                except BaseException:
                    self._listen_to_the_end(driver)
                    raise
            except BaseException:  # another interrupt came before _listen_to_the_end had begun
                self._listen_to_the_end(driver)
                raise
        return driver.result()

    def _stop(self, number: int) -> None:
        self.stops.add(number)
        if self.stops.count > MAX_STOPS:
            self.stops.is_left = True
            raise_signal(self.stops.signal or number)

    def _listen(self, driver: _Driver) -> None:
        with self._own_process:
            while not (self._calls.empty() and driver.is_over()):
                call = self._next()
                if call is not None:
                    _call(call)

    def _next(self) -> Callable[[], object] | None:
        with suppress(Empty):  # with a timeout, because a signal may have reached another thread
            return self._calls.get(timeout=POLL_S)
        return None

    def _listen_to_the_end(self, driver: _Driver) -> None:
        """After an interrupt, wait for the end of the run.

        Each further interrupt counts as a stop.
        """
        while not self.stops.is_left:
            try:
                self.stops.at_least(1)
                self.stops.wake()
                self._listen(driver)
                return
            except BaseException:
                if not self.stops.is_left:
                    self.stops.add()
                    self.stops.is_left = self.stops.count > MAX_STOPS
                if self.stops.is_left:
                    raise


class CallersLoop:
    """The event loop with the coroutine that has called :meth:`JobRun.arun`."""

    def __init__(self, stops: Stops) -> None:
        self.stops = stops
        self.loop = asyncio.get_running_loop()

    def post(self, call: Callable[[], object]) -> None:
        """Pass a call to the loop. Called by the driver."""
        try:
            self.loop.call_soon_threadsafe(_call, call)
        except RuntimeError:  # the loop is closed: no handler can end any more
            self.stops.reason = self.stops.reason or _CLOSED
            self.stops.at_least(3)

    async def wait(
        self, drive: Drive, within: AbstractContextManager[object], *, handle_signals: bool | None
    ) -> RunReport:
        """Call ``drive()`` in a thread, wait for its end, and return its report.

        - ``handle_signals``: None means True if the caller is a cell of IPython, and False
          otherwise.

        Each time that the caller's task is cancelled, the run is asked once more to stop.
        """
        if handle_signals is None:
            task = asyncio.current_task(self.loop)
            handle_signals = task is not None and is_cell(task.get_coro())
        ended: asyncio.Future[None] = self.loop.create_future()
        driver = _Driver(drive, lambda: self.post(lambda: ended.set_result(None)))
        signals = stopping_signals(self.stops.add) if handle_signals else nullcontext()
        with signals, within:
            driver.thread.start()
            cancelled = await self._until(ended)
        try:
            report = driver.result()
            if cancelled is not None:
                raise cancelled
            return report
        finally:
            del cancelled  # its traceback has this frame, which keeps the job's files open

    async def _until(self, ended: asyncio.Future[Any]) -> asyncio.CancelledError | None:
        """Wait for ``ended``, even if this task is cancelled. Returns the last cancellation."""
        cancelled = None
        try:
            while not ended.done():
                try:
                    await asyncio.wait([ended])
                except asyncio.CancelledError as error:
                    cancelled = error
                    self.stops.add(reason=_CANCELLED)
        finally:
            if not ended.done():  # nobody runs this coroutine any more
                self.stops.add(reason=_UNFINISHED)
        return cancelled


def _call(call: Callable[[], object]) -> None:
    with OwnProcess():
        call()


def of_its_job(
    method: Callable[Concatenate[JobService, str, Options], Result],
) -> Callable[Concatenate[Any, Options], Result]:
    """Make a method of JobRun that calls a method of JobService with the job of the JobRun."""

    @functools.wraps(method)
    def call(run: Any, /, *args: Options.args, **options: Options.kwargs) -> Result:
        return method(run.service, run.id, *args, **options)

    signature = inspect.signature(method)
    options = [each for name, each in signature.parameters.items() if name != "job_id"]
    call.__signature__ = signature.replace(parameters=options)  # type: ignore[attr-defined]
    return call


def with_options_of(
    run: Callable[Concatenate[Self, Handler, None, Options], RunReport],
) -> Callable[
    [Callable[..., Coroutine[Any, Any, RunReport]]],
    Callable[Concatenate[Self, Handler, Options], Coroutine[Any, Any, RunReport]],
]:
    """Give a coroutine function the signature of ``run``, except the argument ``executor``."""

    def decorate(
        function: Callable[..., Coroutine[Any, Any, RunReport]],
    ) -> Callable[Concatenate[Self, Handler, Options], Coroutine[Any, Any, RunReport]]:
        signature = inspect.signature(run)
        options = dict(signature.parameters)
        del options["executor"]
        options["handle_signals"] = options["handle_signals"].replace(default=None)
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=list(options.values())
        )
        return function

    return decorate
