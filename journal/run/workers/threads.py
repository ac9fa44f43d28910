"""Workers in this process: threads, and an event loop in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from queue import SimpleQueue
from time import perf_counter
from typing import Any

import msgspec

from journal.model import JobRow
from journal.run.handover import Claim, Outcomes
from journal.run.outcome import (
    Errors,
    Handler,
    Outcome,
    call_handler,
    outcome_of_error,
    outcome_of_value,
)

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
        self._tasks: SimpleQueue[tuple[int, JobRow, Claim] | None] = SimpleQueue()
        self._closed = False
        self._threads = 0
        self._abandoned: set[int] = set()

    def hand_out(self, ticket: int, row: JobRow, claim: Claim) -> None:
        if self._threads < self.count and not self._start_thread() and not self._threads:
            message = "can't start a thread for it: the system has no more"
            unstarted = Outcome(kind="unstarted", error_code="RuntimeError", error_message=message)
            self._outcomes.put(ticket, unstarted)
            return
        self._tasks.put((ticket, row, claim))

    def _start_thread(self) -> bool:
        thread = threading.Thread(target=self._work, name="journal-worker", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # "can't start new thread": with fewer, then
            self.count = max(self._threads, 1)
            return False
        self._threads += 1
        return True

    def _work(self) -> None:
        handler, retry_on = self._handler, self._retry_on
        take, put = self._tasks.get, self._outcomes.put
        while (task := take()) is not None:
            ticket, row, claim = task
            if self._closed or not claim.begin():
                continue
            put(ticket, call_handler(handler, retry_on, row))
            if ticket in self._abandoned:
                return  # another thread has taken this one's place
        self._tasks.put(None)  # for the next, however many there are

    def cancel(self, ticket: int, row_id: str, *, force: bool) -> bool:  # noqa: ARG002
        return self._end is not None and self._end(row_id, force=force)

    def abandon(self, ticket: int) -> bool:
        self._abandoned.add(ticket)
        self._threads -= 1
        return self._start_thread()

    def close(self) -> None:
        self._closed = True
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
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._turns = asyncio.Semaphore(count)
        self._thread = threading.Thread(target=self._run, name="journal-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            while not self._closing:
                # SystemExit in a task that a handler has started ends the loop, and no more than that
                # handler is to end by it.
                with suppress(BaseException):
                    self._loop.run_forever()
        finally:
            for task in self._tasks.values():
                task.cancel()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def hand_out(self, ticket: int, row: JobRow, claim: Claim) -> None:
        self._loop.call_soon_threadsafe(self._start, ticket, row, claim)

    def _start(self, ticket: int, row: JobRow, claim: Claim) -> None:
        task = self._tasks[ticket] = self._loop.create_task(self._work(ticket, row, claim))
        task.add_done_callback(lambda _: self._tasks.pop(ticket))

    async def _work(self, ticket: int, row: JobRow, claim: Claim) -> None:
        async with self._turns:
            if not claim.begin():
                return
            begin_s = perf_counter()
            outcome = await self._call(row)
            outcome = msgspec.structs.replace(outcome, elapsed_s=perf_counter() - begin_s)
            self._outcomes.put(ticket, outcome)

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
        self._closing = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=1.0)  # longer only if a handler blocks the loop
