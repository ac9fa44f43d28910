"""Workers for coroutine functions: an event loop in a separate thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any

import msgspec

from journal.run.evidence import current_row
from journal.run.handler import AttemptedRow, outcome_of_raised, outcome_of_returned
from journal.run.outcome import Errors, Outcome
from journal.run.workers.handover import Claim, Results, SingleRows


class LoopWorkers(SingleRows):
    """Runs ``count`` coroutines at a time in one event loop."""

    queues = True

    def __init__(
        self, handler: Callable[[AttemptedRow], Any], count: int, retry_on: Errors, results: Results
    ) -> None:
        self.count = count
        self._handler = handler
        self._retry_on = retry_on
        self._results = results
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
                # A SystemExit in a task that a handler started stops the loop. Restart the loop, so
                # that only that task ends.
                with suppress(BaseException):
                    self._loop.run_forever()
        finally:
            for task in self._tasks.values():
                task.cancel()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def dispatch(self, ticket: int, row: AttemptedRow, claim: Claim) -> None:
        self._loop.call_soon_threadsafe(self._start, ticket, row, claim)

    def _start(self, ticket: int, row: AttemptedRow, claim: Claim) -> None:
        task = self._tasks[ticket] = self._loop.create_task(self._work(ticket, row, claim))
        task.add_done_callback(lambda _: self._tasks.pop(ticket))

    async def _work(self, ticket: int, row: AttemptedRow, claim: Claim) -> None:
        async with self._turns:
            if not claim.begin():
                return
            current_row.set(row)  # of this task and the tasks that it makes
            begin_s = perf_counter()
            outcome = await self._call(row)
            outcome = msgspec.structs.replace(
                outcome, elapsed_s=perf_counter() - begin_s, logs=row.take_logs()
            )
            self._results.put(ticket, outcome)

    async def _call(self, row: AttemptedRow) -> Outcome:
        try:
            return outcome_of_returned(row, await self._handler(row))
        except BaseException as error:  # noqa: BLE001  (also what would stop the loop)
            return outcome_of_raised(row, error, self._retry_on)

    def cancel(self, ticket: int, row_id: str, *, force: bool) -> bool:  # noqa: ARG002
        def ask() -> None:
            task = self._tasks.get(ticket)
            if task is not None:
                task.cancel()

        self._loop.call_soon_threadsafe(ask)
        return True

    def abandon(self, ticket: int) -> bool:  # noqa: ARG002
        return False  # the coroutine keeps its slot, or blocks the whole loop

    def close(self) -> None:
        self._closing = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=1.0)  # longer only if a handler blocks the loop
