"""Where handlers run: threads, an event loop, or any ``concurrent.futures.Executor``.

Workers never touch the journal. Each row that is handed out and begun comes back once, into the
:class:`Outcomes` of the one who drives them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, Protocol

from journal.errors import InvalidValueError
from journal.model import JobRow
from journal.run.handover import Claim, Outcomes
from journal.run.outcome import Errors, Handler
from journal.run.workers.executors import executor_workers
from journal.run.workers.threads import LoopWorkers, ThreadWorkers


class Workers(Protocol):
    """``count`` rows at a time are worked on.

    ``queues``: more may be handed out, and wait for their turn. Not where rows that had not begun
    are lost together with those that had, and so need a review.
    """

    count: int
    queues: bool

    def hand_out(self, ticket: int, row: JobRow, claim: Claim) -> None:
        """Have the row worked on, by a worker that begins its claim first.

        Never raises for what the row brings about; blocks only while an executor's ``submit`` does.
        """

    def cancel(self, ticket: int, row_id: str, *, force: bool) -> bool:
        """Ask an attempt to end at once; False if it can't be asked and may go on for ever."""

    def abandon(self, ticket: int) -> bool:
        """Stop counting on an attempt; whether another one can take its place."""

    def close(self) -> None:
        """Take no more rows. Doesn't wait for attempts that were abandoned."""


def make_workers(
    handler: Handler | Callable[[JobRow], Awaitable[Any]],
    executor: Executor | Callable[[], Executor] | None,
    count: int | None,
    retry_on: Errors,
    outcomes: Outcomes,
) -> Workers:
    """The workers that fit the handler. Raises InvalidValueError."""
    if not callable(handler):
        raise InvalidValueError("handler", handler, "must be a function that takes a row")
    if executor is None:
        if _is_coroutine_function(handler):
            return LoopWorkers(handler, count or 1, retry_on, outcomes)
        cancel = getattr(handler, "cancel", None)
        return ThreadWorkers(handler, count or 1, retry_on, outcomes, cancel)
    if _is_coroutine_function(handler):
        raise InvalidValueError(
            "handler", handler, "a coroutine function runs in an event loop: leave out the executor"
        )
    return executor_workers(handler, executor, count, retry_on, outcomes)


def _is_coroutine_function(handler: Any) -> bool:
    while isinstance(handler, functools.partial):
        handler = handler.func
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004  (it is asked what kind it is, not whether)
    )
