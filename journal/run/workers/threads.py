"""Workers in threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import SimpleQueue
from time import monotonic

from journal.run.workers.base import Call, Results, Workers
from journal.run.workers.handler import Target, call_handler

_JOIN_S = 0.5


class ThreadWorkers(Workers):
    """Workers in daemon threads.

    The threads are daemons, so a handler that hangs doesn't keep the program from exiting.

    A handler may have a method ``cancel(row_id, *, force) -> bool``. The method asks a call to end,
    and returns whether the call will end. ``row_id``: the id of the call's first row.
    """

    def __init__(self, target: Target, count: int, results: Results) -> None:
        self.count = count
        self._target = target
        self._results = results
        self._end = getattr(target.handler, "cancel", None)
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._closed = False
        self._threads = 0  # without threads that are about to end; changed under the lock
        self._lock = threading.Lock()
        self._started: list[threading.Thread] = []
        self._abandoned: set[Call] = set()

    def dispatch(self, call: Call) -> None:
        if self._threads < self.count and not self._start_thread() and not self._threads:
            message = "can't start a thread for it: the system has no more"
            self._results.put_unstarted(call, "RuntimeError", message)
            return
        self._calls.put(call)

    def resize(self, count: int) -> None:
        with self._lock:
            self.count, threads = count, self._threads
        self._started = [thread for thread in self._started if thread.is_alive()]
        for _ in range(min(count - threads, self._calls.qsize())):
            self._start_thread()
        nothing = Call((), 0)  # for an idle thread, which ends if there are too many threads
        nothing.cancel()
        for _ in range(threads - count):
            self._calls.put(nothing)

    def _retires(self) -> bool:
        """Whether the calling thread has to end, because there are more threads than workers."""
        with self._lock:
            is_surplus = self._threads > self.count
            self._threads -= is_surplus
        return is_surplus

    def _start_thread(self) -> bool:
        thread = threading.Thread(target=self._work, name="journal-worker", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # "can't start new thread": continue with fewer threads
            self.count = max(self._threads, 1)
            return False
        with self._lock:
            self._threads += 1
        self._started.append(thread)
        return True

    def _work(self) -> None:
        target, take, put = self._target, self._calls.get, self._results.put
        while (call := take()) is not None:
            if self._closed or not call.begin():
                if self._retires():
                    return
                continue
            put(call, call_handler(target, call.rows))
            if call in self._abandoned:
                return  # another thread has taken the slot of this thread
        self._calls.put(None)  # pass the end marker on to the next thread

    def cancel(self, call: Call, *, force: bool) -> bool:
        return self._end is not None and bool(self._end(call.rows[0].id, force=force))

    def abandon(self, call: Call) -> bool:
        self._abandoned.add(call)
        with self._lock:
            self._threads -= 1
        return self._start_thread()

    def close(self) -> None:
        self._closed = True
        self._calls.put(None)
        _join(self._started)


def _join(threads: Sequence[threading.Thread]) -> None:
    """Wait a short time for the threads to end. Some threads may hang.

    If a daemon thread still runs when the program exits, its objects are not freed. So a file that
    the handler has open would not be flushed.
    """
    until_s = monotonic() + _JOIN_S
    for thread in threads:
        thread.join(max(0.0, until_s - monotonic()))
