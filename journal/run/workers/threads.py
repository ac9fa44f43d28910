"""Workers in threads of this process."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from journal.run.handler import AttemptedRow, Handler, call_handler
from journal.run.outcome import Errors, Outcome
from journal.run.workers.handover import Claim, Results, SingleRows, join


class ThreadWorkers(SingleRows):
    """Workers in daemon threads.

    The threads are daemons, so a handler that hangs doesn't keep the program from exiting.

    A handler may have a method ``cancel(row_id, *, force) -> bool``, which asks an attempt to end
    and returns whether the attempt will end.
    """

    queues = True

    def __init__(self, handler: Handler, count: int, retry_on: Errors, results: Results) -> None:
        self.count = count
        self._handler = handler
        self._retry_on = retry_on
        self._results = results
        self._end = getattr(handler, "cancel", None)
        self._tasks: SimpleQueue[tuple[int, AttemptedRow, Claim] | None] = SimpleQueue()
        self._closed = False
        self._threads = 0
        self._started: list[threading.Thread] = []
        self._abandoned: set[int] = set()

    def dispatch(self, ticket: int, row: AttemptedRow, claim: Claim) -> None:
        if self._threads < self.count and not self._start_thread() and not self._threads:
            message = "can't start a thread for it: the system has no more"
            unstarted = Outcome(kind="unstarted", error_code="RuntimeError", error_message=message)
            self._results.put(ticket, unstarted)
            return
        self._tasks.put((ticket, row, claim))

    def _start_thread(self) -> bool:
        thread = threading.Thread(target=self._work, name="journal-worker", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # "can't start new thread": continue with fewer threads
            self.count = max(self._threads, 1)
            return False
        self._threads += 1
        self._started.append(thread)
        return True

    def _work(self) -> None:
        handler, retry_on = self._handler, self._retry_on
        take, put = self._tasks.get, self._results.put
        while (task := take()) is not None:
            ticket, row, claim = task
            if self._closed or not claim.begin():
                continue
            put(ticket, call_handler(handler, retry_on, row))
            if ticket in self._abandoned:
                return  # another thread has taken the slot of this thread
        self._tasks.put(None)  # pass the end marker on to the next thread

    def cancel(self, ticket: int, row_id: str, *, force: bool) -> bool:  # noqa: ARG002
        return self._end is not None and bool(self._end(row_id, force=force))

    def abandon(self, ticket: int) -> bool:
        self._abandoned.add(ticket)
        self._threads -= 1
        return self._start_thread()

    def close(self) -> None:
        self._closed = True
        self._tasks.put(None)
        join(self._started)
