"""Runs a job from a coroutine. The driver runs in a thread, the handlers in the caller's loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable, Coroutine
from contextlib import nullcontext, suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

from journal.display.session import is_cell
from journal.model import Job
from journal.progress.terminal import above_bar
from journal.run.held_job import RunReport
from journal.run.signals import OwnProcess, Stops, stopping_signals
from journal.run.workers.event_loop import CallersLoop

Options = ParamSpec("Options")
Self = TypeVar("Self")
Handler = TypeVar("Handler")

_CANCELLED = "its task was cancelled"
_UNFINISHED = "its task was destroyed before its end"
_CLOSED = "the event loop was closed before the end of the run"


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


async def run_in_callers_loop(
    run: Callable[..., RunReport],
    caller: CallersLoop,
    options: dict[str, Any],
    *,
    handle_signals: bool | None,
) -> RunReport:
    """Call ``run(**options)`` in a thread, and wait for its end.

    - ``handle_signals``: None means True if the caller is a cell of IPython, and False otherwise.

    Each time that the caller's task is cancelled, the run is asked once more to stop.
    """
    stops = caller.stops
    if handle_signals is None:
        task = asyncio.current_task(caller.loop)
        handle_signals = task is not None and is_cell(task.get_coro())
    ended: asyncio.Future[None] = caller.loop.create_future()
    outcomes: list[RunReport | BaseException] = []
    options = {**options, **_callbacks(caller, options), "handle_signals": False}

    def drive() -> None:
        try:
            outcomes.append(run(**options))
        except BaseException as error:  # noqa: BLE001  (the caller raises it)
            outcomes.append(error)
        with suppress(RuntimeError):  # the loop is closed
            caller.loop.call_soon_threadsafe(ended.set_result, None)

    # Functions that the driver calls in the loop get the context of this task. The thread is a
    # daemon: if the loop dies before the run ends, the thread must not keep the program alive.
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(drive,), name="journal-driver", daemon=True).start()
    with stopping_signals(stops.add) if handle_signals else nullcontext():
        cancelled = await _until(ended, stops)
    outcome = outcomes.pop()
    try:
        if isinstance(outcome, BaseException):
            raise outcome
        if cancelled is not None:
            raise cancelled
        return outcome
    finally:
        del outcome, cancelled  # a traceback would keep this frame, and so the job's files


async def _until(ended: asyncio.Future[Any], stops: Stops) -> asyncio.CancelledError | None:
    """Wait for ``ended``, even if this task is cancelled. Returns the last cancellation."""
    cancelled = None
    try:
        while not ended.done():
            try:
                await asyncio.wait([ended])
            except asyncio.CancelledError as error:
                cancelled = error
                stops.add(reason=_CANCELLED)
    finally:
        if not ended.done():  # nobody runs this coroutine any more
            stops.add(reason=_UNFINISHED)
    return cancelled


def _callbacks(caller: CallersLoop, options: dict[str, Any]) -> dict[str, Any]:
    """The callbacks for the driver. They call the caller's functions in the caller's loop."""
    loop, stops = caller.loop, caller.stops
    on_progress = options.get("on_progress")

    def tick(job: Job) -> None:
        if loop.is_closed():  # no handler can end any more
            stops.reason = stops.reason or _CLOSED
            stops.at_least(3)
        elif on_progress is not None:
            with suppress(RuntimeError):  # the loop was closed in between
                loop.call_soon_threadsafe(_call, on_progress, job)

    callbacks: dict[str, Any] = {"on_progress": tick}
    if options.get("tell") is not None:
        tell: Any = above_bar(options["tell"])
        callbacks["tell"] = functools.partial(loop.call_soon_threadsafe, _call, tell)
    return callbacks


def _call(function: Callable[..., object], *arguments: Any) -> None:
    with OwnProcess():
        function(*arguments)
