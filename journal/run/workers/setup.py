"""The ``setup`` of a run: a context manager whose value handlers get as their second argument."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from time import monotonic
from typing import Any

from journal.errors import InvalidValueError
from journal.run.held_job import POLL_S
from journal.run.signals import Stops
from journal.run.workers.handover import Results

# A function that makes an async or a plain context manager, such as the class of a client.
SetupFactory = Callable[[], Any]


class StoppedInSetupError(Exception):
    """The run was stopped before its setup was complete. No row was started."""


def check_setup(setup: Any, handler: Callable[..., Any]) -> None:
    """Raise InvalidValueError if ``setup`` or ``handler`` is unsuitable.

    ``setup`` must be callable, and ``handler`` must take the value of the setup as its second
    argument.
    """
    if setup is None:
        return
    if not callable(setup):
        raise InvalidValueError(
            "setup", setup, "must be a function that makes a context manager: lambda: Client(...)"
        )
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # for example, a function in C has no signature
        return
    try:
        signature.bind("row", "value")
    except TypeError:
        raise InvalidValueError(
            "handler",
            handler,
            "must take the value of setup as its second argument: def handler(row, client), or "
            "leave out setup",
        ) from None


def _made(setup: SetupFactory) -> tuple[Any, bool]:
    """Call the factory. Returns its context manager, and whether this context manager is async."""
    manager = setup()
    kind = type(manager)
    is_async = hasattr(kind, "__aenter__")
    if not is_async and not hasattr(kind, "__enter__"):
        if asyncio.iscoroutine(manager):
            manager.close()  # otherwise Python warns that nobody has awaited the coroutine
        raise InvalidValueError(
            "setup",
            manager,
            "what it returned is no context manager: return a client, or decorate a "
            "generator with contextlib.asynccontextmanager",
        )
    return manager, is_async


class ThreadSetup:
    """The setup of handlers in threads. The driver's thread enters and exits it."""

    def __init__(self, setup: SetupFactory | None) -> None:
        self._setup = setup
        self._entered = ExitStack()
        self.arguments: tuple[Any, ...] = ()  # of each handler, after its row

    def enter(self) -> None:
        """Enter the context manager. Raises its exceptions, and InvalidValueError."""
        if self._setup is None:
            return
        manager, is_async = _made(self._setup)
        if is_async and not hasattr(type(manager), "__enter__"):
            raise InvalidValueError(
                "setup",
                manager,
                "what it returned is an async context manager, and the handler is a plain "
                "function: make the handler a coroutine function (async def)",
            )
        self.arguments = (self._entered.enter_context(manager),)

    def close(self) -> None:
        self._entered.close()


class LoopSetup:
    """The setup of handlers in an event loop.

    One task of the event loop enters the setup, and later exits the setup. The driver's thread
    calls ``enter`` and ``close``, and waits for the task in these methods.
    """

    def __init__(self, setup: SetupFactory, results: Results, stops: Stops) -> None:
        self._setup = setup
        self._results = results
        self._stops = stops
        self._task: asyncio.Task[None] | None = None
        self._is_open = self._is_leaving = self._is_closed = self._is_cancelled = False
        self._may_close = asyncio.Event()
        self._error: BaseException | None = None
        self.arguments: tuple[Any, ...] = ()  # of each handler, after its row

    def enter(self, loop: asyncio.AbstractEventLoop, begin: Callable[..., object]) -> None:
        """Enter the context manager in the loop. ``begin`` calls a function in the loop.

        If the run is stopped during this call, the task that enters the context manager is
        cancelled. Raises exceptions of the context manager, and StoppedInSetupError if the context
        manager wasn't entered because the run was stopped.
        """
        self._loop = loop
        if self._stops.count:
            self._is_closed = True
            raise StoppedInSetupError
        begin(self._begin)
        self._wait(lambda: self._is_open or self._is_closed, 0)
        if self._was_stopped():
            raise StoppedInSetupError from self._error
        self._raise_error()

    def close(self, patience_s: float = math.inf) -> None:
        """Exit the context manager. Raises its exceptions.

        If the run is asked to stop (again) during this call, the exit is cancelled.

        Does nothing if a handler blocks the loop for longer than ``patience_s``.
        """
        stops = self._stops.count
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._leave)
            self._wait(lambda: self._is_leaving or self._is_closed, stops, patience_s)
            if self._is_leaving:
                self._wait(lambda: self._is_closed, stops)
        if not self._was_stopped():
            self._raise_error()

    def _was_stopped(self) -> bool:
        """Whether a stop of the run, and not other code, has cancelled the task."""
        return self._is_cancelled and isinstance(self._error, asyncio.CancelledError)

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _wait(self, is_done: Callable[[], bool], stops: int, timeout_s: float = math.inf) -> None:
        until_s = monotonic() + timeout_s
        while not is_done() and monotonic() < until_s:
            self._results.wait(POLL_S)
            if self._stops.count > stops:
                stops = self._stops.count
                self._loop.call_soon_threadsafe(self._cancel)
            elif self._loop.is_closed():
                return

    # --- in the loop

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._host())
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before its first step
            self._error = asyncio.CancelledError()
        self._is_closed = True
        self._results.wake()

    def _leave(self) -> None:
        self._may_close.set()
        if not self._is_open:
            self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._is_cancelled = True
            self._task.cancel()

    async def _host(self) -> None:
        try:
            async with _entered(self._setup) as value:
                self.arguments = (value,)
                self._is_open = True
                self._results.wake()
                await self._until_close()
                self._is_leaving = True
                self._results.wake()
        except BaseException as error:  # noqa: BLE001  (the driver raises it)
            self._error = error

    async def _until_close(self) -> None:
        """Wait until :meth:`close` is called.

        A loop that shuts down may cancel this task earlier. The task then continues to wait.
        """
        while not self._may_close.is_set():
            try:
                await self._may_close.wait()
            except asyncio.CancelledError:
                asyncio.current_task().uncancel()  # type: ignore[union-attr]


@asynccontextmanager
async def _entered(setup: SetupFactory) -> AsyncIterator[Any]:
    manager, is_async = _made(setup)
    if is_async:
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value
