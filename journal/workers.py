"""Where handlers run: threads, an event loop, or any ``concurrent.futures.Executor``.

Workers never touch the journal. Each row that is handed out comes back once, as ``(ticket,
outcome)`` in the queue of the one who drives them; ``None`` in that queue only wakes him up.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import pickle
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from time import perf_counter
from typing import Any, Protocol

import msgspec

from journal.errors import InvalidValueError
from journal.model import JobRow
from journal.outcome import (
    Errors,
    Handler,
    Outcome,
    call_handler,
    lost,
    outcome_of_error,
    outcome_of_value,
)

Outcomes = SimpleQueue[tuple[int, Outcome] | None]
Cancel = Callable[..., bool]  # (row_id, *, force): end an attempt; whether it will end

_MOST_BREAKS = 3


class Workers(Protocol):
    """``count`` rows at a time are worked on; more may be handed out, and wait for their turn."""

    count: int

    def hand_out(self, ticket: int, row: JobRow) -> None:
        """Have the row worked on. Never blocks, never raises for what the row brings about."""

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
    return ExecutorWorkers(handler, executor, count, retry_on, outcomes)


def _is_coroutine_function(handler: Any) -> bool:
    while isinstance(handler, functools.partial):
        handler = handler.func
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004  (it is asked what kind it is, not whether)
    )


class ThreadWorkers:
    """Threads of our own: daemons, so that a handler that hangs keeps nobody from leaving."""

    def __init__(
        self,
        handler: Handler,
        count: int,
        retry_on: Errors,
        outcomes: Outcomes,
        end: Cancel | None = None,
    ) -> None:
        self.count = count
        self._handler = handler
        self._retry_on = retry_on
        self._outcomes = outcomes
        self._end = end
        self._tasks: SimpleQueue[tuple[int, JobRow] | None] = SimpleQueue()
        self._threads = 0
        self._abandoned: set[int] = set()

    def hand_out(self, ticket: int, row: JobRow) -> None:
        self._tasks.put((ticket, row))
        if self._threads < self.count:
            self._start_thread()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="journal-worker", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # "can't start new thread"
            if not self._threads:
                raise
            self.count = self._threads  # with fewer, then
            return
        self._threads += 1

    def _work(self) -> None:
        handler, retry_on = self._handler, self._retry_on
        take, put = self._tasks.get, self._outcomes.put
        while (task := take()) is not None:
            ticket, row = task
            put((ticket, call_handler(handler, retry_on, row)))
            if ticket in self._abandoned:
                return  # another thread has taken this one's place

    def cancel(self, ticket: int, row_id: str, *, force: bool) -> bool:  # noqa: ARG002
        return self._end is not None and self._end(row_id, force=force)

    def abandon(self, ticket: int) -> bool:
        self._abandoned.add(ticket)
        self._threads -= 1
        self._start_thread()
        return True

    def close(self) -> None:
        for _ in range(self._threads):
            self._tasks.put(None)


class LoopWorkers:
    """An event loop in a thread of its own."""

    def __init__(
        self,
        handler: Callable[[JobRow], Any],
        count: int,
        retry_on: Errors,
        outcomes: Outcomes,
    ) -> None:
        self.count = count
        self._handler = handler
        self._retry_on = retry_on
        self._outcomes = outcomes
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._loop = asyncio.new_event_loop()
        self._turns = asyncio.Semaphore(count)
        self._thread = threading.Thread(target=self._run, name="journal-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def hand_out(self, ticket: int, row: JobRow) -> None:
        self._loop.call_soon_threadsafe(self._start, ticket, row)

    def _start(self, ticket: int, row: JobRow) -> None:
        self._tasks[ticket] = self._loop.create_task(self._work(ticket, row))

    async def _work(self, ticket: int, row: JobRow) -> None:
        outcome = Outcome(kind="unstarted")
        try:
            async with self._turns:
                begin_s = perf_counter()
                outcome = await self._call(row)
                outcome = msgspec.structs.replace(outcome, elapsed_s=perf_counter() - begin_s)
        except asyncio.CancelledError:
            pass  # while it waited for its turn
        finally:
            del self._tasks[ticket]
            self._outcomes.put((ticket, outcome))

    async def _call(self, row: JobRow) -> Outcome:
        try:
            coroutine: Coroutine[Any, Any, Any] = self._handler(row)
            return outcome_of_value(await coroutine)
        except BaseException as error:  # noqa: BLE001  (also what would end the loop)
            return outcome_of_error(error, self._retry_on)

    def cancel(self, ticket: int, row_id: str, *, force: bool) -> bool:  # noqa: ARG002
        def ask() -> None:
            task = self._tasks.get(ticket)
            if task is not None:
                task.cancel()

        self._loop.call_soon_threadsafe(ask)
        return True

    def abandon(self, ticket: int) -> bool:  # noqa: ARG002
        return False  # it holds its turn, or the whole loop

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=1.0)  # longer only if a handler blocks the loop


class ExecutorWorkers:
    """Any executor: a process pool, loky, dask's, ...

    One that its owner made stays his to shut down. One that we were told how to make is made anew
    when it breaks, and shut down at the end.
    """

    def __init__(
        self,
        handler: Handler,
        executor: Executor | Callable[[], Executor],
        count: int | None,
        retry_on: Errors,
        outcomes: Outcomes,
    ) -> None:
        self._make: Callable[[], Executor] | None = None
        made: Any = executor
        if not hasattr(executor, "submit") and callable(executor):
            self._make, made = executor, executor()
        if not hasattr(made, "submit"):
            raise InvalidValueError(
                "executor", executor, "must be an Executor, or a function that makes one"
            )
        self._executor: Executor = made
        self.count: int = count or getattr(made, "_max_workers", None) or os.cpu_count() or 1
        self._call = functools.partial(call_handler, handler, retry_on)
        self._outcomes = outcomes
        self._futures: dict[int, Future[Outcome]] = {}
        self._breaks = 0  # since the last row that came back
        _check_picklable(made, handler)

    def hand_out(self, ticket: int, row: JobRow) -> None:
        try:
            future = self._submit(row)
        except Exception as error:  # noqa: BLE001  (whatever an executor raises when it is broken)
            unstarted = Outcome(
                kind="unstarted",
                error_code=type(error).__name__,
                error_message=f"the executor takes no more rows: {error}",
            )
            self._outcomes.put((ticket, unstarted))
            return
        self._futures[ticket] = future
        future.add_done_callback(functools.partial(self._take_back, ticket))

    def _submit(self, row: JobRow) -> Future[Outcome]:
        try:
            return self._executor.submit(self._call, row)
        except Exception:
            if self._make is None or self._breaks >= _MOST_BREAKS:
                raise
            self._breaks += 1
            self._executor.shutdown(wait=False)
            self._executor = self._make()
            return self._executor.submit(self._call, row)

    def _take_back(self, ticket: int, future: Future[Outcome]) -> None:
        self._futures.pop(ticket, None)
        if future.cancelled():
            outcome = Outcome(kind="unstarted")
        else:
            error = future.exception()
            if error is None:
                outcome = future.result()
                self._breaks = 0
            else:
                outcome = lost(error)
        self._outcomes.put((ticket, outcome))

    def cancel(self, ticket: int, row_id: str, *, force: bool) -> bool:  # noqa: ARG002
        future = self._futures.get(ticket)
        return future is None or future.cancel()

    def abandon(self, ticket: int) -> bool:  # noqa: ARG002
        return False

    def close(self) -> None:
        if self._make is not None:
            self._executor.shutdown(wait=not self._futures, cancel_futures=True)


def _check_picklable(executor: Executor, handler: Handler) -> None:
    """Refuse at once what a process pool would refuse row by row."""
    process = sys.modules.get("concurrent.futures.process")
    if process is None or type(executor) is not process.ProcessPoolExecutor:
        return
    try:
        pickle.dumps(handler)
    except Exception as error:  # noqa: BLE001  (pickle raises what the object's own code raises)
        raise InvalidValueError(
            "handler",
            handler,
            f"can't be sent to another process ({error}): define it at the top of a module",
        ) from None
