"""Choose the workers for a handler: threads, an event loop, or an executor."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any

from journal.display.session import ipython
from journal.errors import InvalidValueError
from journal.run.caller import CallersLoop
from journal.run.workers.base import Results, Workers
from journal.run.workers.dask import DaskWorkers
from journal.run.workers.event_loop import LoopWorkers
from journal.run.workers.executors import ExecutorWorkers
from journal.run.workers.handler import Target
from journal.run.workers.steps import is_coroutine_function, is_generator_function
from journal.run.workers.threads import ThreadWorkers


def make_workers(
    target: Target,
    executor: Executor | Callable[[], Executor] | CallersLoop | None,
    count: int | None,
    results: Results,
) -> Workers:
    """Make the workers for the handler. The workers put outcomes into ``results``.

    ``executor`` may also be the event loop in which coroutine functions run. Raises
    InvalidValueError, and TypeError if ``executor`` is a number.
    """
    handler = target.handler
    if isinstance(executor, int):
        raise TypeError(f"run(handler, executor, *, workers=…): write workers={executor}")
    _check_handler(handler, "a batch of rows" if target.is_batch else "a row")
    is_coroutine = is_coroutine_function(handler)
    loop = executor.loop if isinstance(executor, CallersLoop) else None
    if isinstance(executor, CallersLoop):
        executor = None
    if executor is None and is_coroutine:
        with suppress(RuntimeError):  # no loop runs in this thread, unlike in a notebook
            if loop is None and asyncio.get_running_loop() and ipython() is None:
                reason = "an event loop runs here already: write `await job.arun(handler)`"
                raise InvalidValueError("handler", handler, reason)
        return LoopWorkers(target, count or 1, results, loop=loop)
    if executor is None:
        return ThreadWorkers(target, count or 1, results)
    if is_coroutine:
        raise InvalidValueError(
            "handler", handler, "a coroutine function runs in an event loop: leave out the executor"
        )
    is_made = hasattr(executor, "submit") and not isinstance(executor, type)
    make = None if is_made or not callable(executor) else functools.partial(_make, executor)
    made = _as_executor(executor) if make is None else make()
    kind = DaskWorkers if _is_dask(made) else ExecutorWorkers
    return kind(target, made, make, count, results)


def _check_handler(handler: object, taken: str) -> None:
    """Raise InvalidValueError for an unsuitable handler.

    A suitable handler can be called with a row, and returns a result.
    """
    must = f"must be a function that takes {taken}"
    if inspect.iscoroutine(handler):
        handler.close()  # otherwise Python warns that nobody has awaited the coroutine
        must += ": give the function, without calling it"
    elif handler is None:
        must += ": give the function itself, and not what it returns"
    if not callable(handler):
        raise InvalidValueError("handler", handler, must)
    if is_generator_function(handler):
        raise InvalidValueError("handler", handler, "is a generator: use return instead of yield")
    try:
        inspect.signature(handler, follow_wrapped=False).bind("row")
    except ValueError:  # for example, a function in C has no signature
        return
    except TypeError as error:
        reason = f"{must} as its only argument ({error})"
        raise InvalidValueError("handler", handler, reason) from None


def _make(factory: Callable[[], Executor]) -> Executor:
    return _as_executor(factory())


def _as_executor(given: Any) -> Executor:
    """The given executor, or the executor of the given dask client. Raises InvalidValueError."""
    # Here and in _is_dask: while another thread still imports the module, the module lacks its
    # classes.
    client: Any = getattr(sys.modules.get("distributed"), "Client", ())
    if isinstance(given, client):
        given = given.get_executor()
    if not hasattr(given, "submit"):
        raise InvalidValueError(
            "executor", given, "must be an Executor, or a function that makes one"
        )
    executor: Executor = given
    return executor


def _is_dask(executor: Executor) -> bool:
    module = sys.modules.get("distributed.cfexecutor")
    return isinstance(executor, getattr(module, "ClientExecutor", ()))
