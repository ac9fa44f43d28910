"""Workers in this process: threads, and an event loop in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from queue import SimpleQueue
from time import perf_counter
from typing import Any

import msgspec

from journal.model import JobRow
from journal.outcome import (
    Errors,
    Handler,
    Outcome,
    call_handler,
    outcome_of_error,
    outcome_of_value,
)

# What has come back, by ticket; None only wakes up who waits.
Outcomes = SimpleQueue[tuple[int, Outcome] | None]
Cancel = Callable[..., bool]  # (row_id, *, force): end an attempt; whether it will end


class ThreadWorkers:
    """Threads of our own: daemons, so that a handler that hangs keeps nobody from leaving."""

    queues = True

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

    queues = True

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
