"""Choose the workers for a handler: threads, an event loop, or an executor."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Protocol

from journal.errors import InvalidValueError
from journal.run.handler import AttemptedRow, Handler, is_coroutine_function
from journal.run.outcome import Errors
from journal.run.workers.dask import DaskWorkers
from journal.run.workers.event_loop import LoopWorkers
from journal.run.workers.executors import ExecutorWorkers
from journal.run.workers.handover import Claim, Results
from journal.run.workers.threads import ThreadWorkers


class Workers(Protocol):
    """The interface of workers, which process ``count`` rows at a time. Called by one thread.

    ``queues``: whether more than ``count`` rows may be dispatched, to wait for their turn. False if
    a dying worker also loses rows that had not begun, since all of them would need a review.
    """

    count: int
    queues: bool

    def dispatch(self, ticket: int, row: AttemptedRow, claim: Claim) -> None:
        """Pass the row to a worker, which calls ``claim.begin()`` before it processes the row.

        If the worker could begin the claim, it stores exactly one outcome for ``ticket`` in the
        :class:`Results`. It also stores one, "unstarted", if the row can't be started at all.
        Errors of a row become outcomes and are not raised. Blocks only while an executor's
        ``submit`` blocks.
        """

    def cancel(self, ticket: int, row_id: str, *, force: bool) -> bool:
        """Ask an attempt to end now.

        Returns False if the attempt can't be asked, and so may never end.
        """

    def abandon(self, ticket: int) -> bool:
        """Give up an attempt. Returns True if another attempt can take its slot."""

    def close(self) -> None:
        """Stop taking rows. Doesn't wait for attempts that were given up."""


def make_workers(
    handler: Handler,
    executor: Executor | Callable[[], Executor] | None,
    count: int | None,
    retry_on: Errors,
    results: Results,
) -> Workers:
    """Make the workers for the handler. They put outcomes into ``results``. May raise
    InvalidValueError, and TypeError for a number in place of the executor.
    """
    if isinstance(executor, int):
        raise TypeError(f"run(handler, executor, *, workers=…): write workers={executor}")
    if not callable(handler):
        raise InvalidValueError("handler", handler, "must be a function that takes a row")
    is_coroutine = is_coroutine_function(handler)
    if executor is None and is_coroutine:
        return LoopWorkers(handler, count or 1, retry_on, results)
    if executor is None:
        return ThreadWorkers(handler, count or 1, retry_on, results)
    if is_coroutine:
        raise InvalidValueError(
            "handler", handler, "a coroutine function runs in an event loop: leave out the executor"
        )
    is_made = hasattr(executor, "submit") and not isinstance(executor, type)
    make = None if is_made or not callable(executor) else functools.partial(_make, executor)
    made = _as_executor(executor) if make is None else make()
    kind = DaskWorkers if _is_dask(made) else ExecutorWorkers
    return kind(handler, made, make, count, retry_on, results)


def _make(factory: Callable[[], Executor]) -> Executor:
    return _as_executor(factory())


def _as_executor(given: Any) -> Executor:
    """The executor, or the executor of a dask client. Raises InvalidValueError."""
    distributed = sys.modules.get("distributed")
    if distributed is not None and isinstance(given, distributed.Client):
        given = given.get_executor()
    if not hasattr(given, "submit"):
        raise InvalidValueError(
            "executor", given, "must be an Executor, or a function that makes one"
        )
    executor: Executor = given
    return executor


def _is_dask(executor: Executor) -> bool:
    module = sys.modules.get("distributed.cfexecutor")
    return module is not None and isinstance(executor, module.ClientExecutor)
