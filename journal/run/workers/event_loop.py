"""Workers for coroutine functions, in the caller's event loop or in a new loop in a thread."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import deque
from contextlib import suppress
from time import perf_counter
from typing import Any

from journal.fs import handles
from journal.run.outcome import interrupted
from journal.run.signals import OwnProcess
from journal.run.workers.base import Call, Results, Workers
from journal.run.workers.handler import Target, with_logs, with_unrecorded
from journal.run.workers.row_log import current_row

# The number of coroutines that may begin in one turn of the loop. Other tasks wait while these
# coroutines run up to their first ``await``. With an HTTP client, that may take milliseconds.
_MAX_BEGUN = 8
_END_S = 1.0  # how long the end of a run waits for a loop that a handler blocks

# If a task raises one of these exceptions, asyncio also raises it in the code that runs the loop.
_OF_THE_LOOP = (KeyboardInterrupt, SystemExit)


class LoopWorkers(Workers):
    """Runs ``count`` coroutines at a time in one event loop.

    ``loop``: the caller's loop. Without the caller's loop, a new loop runs in a separate thread.
    """

    def __init__(
        self,
        target: Target,
        count: int,
        results: Results,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.count = count
        self._target = target
        self._results = results
        self._new: deque[Call] = deque()  # not begun yet
        self._will_look = False  # whether the loop will look into _new
        self._tasks: dict[Call, asyncio.Task[None]] = {}
        self._asked: set[Call] = set()  # calls that the driver has asked to end
        self._closing = False
        self._thread: threading.Thread | None = None
        self._loop = loop or asyncio.new_event_loop()
        self._own_process = OwnProcess()
        handles.reset_in_child(self)
        if loop is None:
            self._thread = threading.Thread(target=self._run, name="journal-loop", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            while not self._closing:
                # If a task of a handler raises SystemExit, the loop stops. Restart the loop, so
                # that only this task ends.
                with suppress(BaseException):
                    self._loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self._loop)  # tasks of given-up rows and of handlers
            for task in tasks:
                task.cancel()
            with suppress(BaseException):
                if tasks:
                    self._loop.run_until_complete(asyncio.wait(tasks, timeout=_END_S / 2))
                self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    # --- in a forked child

    def reset_after_fork(self) -> None:
        """End the child as soon as the task that has forked returns control to the loop.

        The loop belongs to the parent, with all its tasks. The child must run none of them.
        """
        ready = getattr(self._loop, "_ready", None)  # loops of other libraries lack this attribute
        if ready is not None:
            ready.clear()
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon(self._end_child, asyncio.current_task(self._loop))

    def _end_child(self, task: asyncio.Task[Any] | None) -> None:
        with self._own_process:
            if task is not None and task.done():
                task.result()
                return
            error = RuntimeError("a forked process can't wait in the event loop of its parent")
            coroutine: Any = None if task is None else task.get_coro()
            if coroutine is not None:  # it may be handling an exception in ``async with``
                coroutine.throw(error)  # that exception becomes the context of this error
            raise error

    # --- called by the driver

    def dispatch(self, call: Call) -> None:
        self._new.append(call)
        if error := self._wake_loop():
            text = f"can't start it in the event loop: {error}"
            self._put_unstarted(call, "RuntimeError", text)

    def resize(self, count: int) -> None:
        super().resize(count)
        self._wake_loop()

    def _wake_loop(self) -> RuntimeError | None:
        """Make the loop look into ``_new``. Returns the error of a loop that is closed."""
        if self._will_look:
            return None
        self._will_look = True
        try:
            self._loop.call_soon_threadsafe(self._begin_some)
        except RuntimeError as error:
            self._will_look = False
            return error
        return None

    def cancel(self, call: Call, *, force: bool) -> bool:  # noqa: ARG002
        def ask() -> None:
            task = self._tasks.get(call)
            if task is not None:
                self._asked.add(call)
                task.cancel()

        try:
            self._loop.call_soon_threadsafe(ask)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def close(self) -> None:
        self._closing = True
        with suppress(RuntimeError):  # the loop is closed
            # The driver has cancelled the rows in ``_new``. If such a row still got a task, the
            # loop could close before the first step of the task.
            self._loop.call_soon_threadsafe(self._new.clear)
            if self._thread is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join(timeout=_END_S)  # this wait is long only if a handler blocks the loop

    # --- in the loop

    def _begin_some(self) -> None:
        """Begin some of the dispatched rows.

        Then other tasks of the loop run before more rows begin.
        """
        self._will_look = False
        for _ in range(_MAX_BEGUN):
            if not self._new or len(self._tasks) >= self.count:
                return
            call = self._new.popleft()
            task = self._tasks[call] = self._loop.create_task(self._work(call))
            task.add_done_callback(functools.partial(self._end, call))
        self._look_again()

    def _look_again(self) -> None:
        if self._new and not self._will_look:
            self._will_look = True
            self._loop.call_soon(self._begin_some)

    def _end(self, call: Call, task: asyncio.Task[None]) -> None:
        del self._tasks[call]
        self._asked.discard(call)
        if task.cancelled():  # other code has cancelled the task before its first step
            self._put_unstarted(call)
        else:
            task.exception()  # otherwise asyncio warns that nobody has retrieved the exception
        self._look_again()

    def _put_unstarted(self, call: Call, code: str = "", message: str = "") -> None:
        if call.begin():
            self._results.put_unstarted(call, code, message)

    async def _work(self, call: Call) -> None:
        if not call.begin():
            return
        target, rows = self._target, call.rows
        current_row.set(rows[0])  # for this task, and for tasks that it creates
        begin_s = perf_counter()
        raised: BaseException | None = None
        try:
            with self._own_process:
                value = await target.handler(target.given(rows))
                outcomes = target.returned(rows, value)
        except BaseException as error:  # noqa: BLE001  (even exceptions that would stop the loop)
            raised = error
            with self._own_process:  # the exception's own code may fork
                if self._is_cut_short(call, error):
                    outcomes = [with_unrecorded(row, interrupted(error)) for row in rows]
                else:
                    outcomes = target.raised(rows, error)
        self._results.put(call, with_logs(rows, outcomes, perf_counter() - begin_s))
        if self._thread is None and raised is not None and issubclass(type(raised), _OF_THE_LOOP):
            raise raised

    def _is_cut_short(self, call: Call, error: BaseException) -> bool:
        """Whether other code of the caller's loop, not the handler, has ended the call."""
        if self._thread is not None or call in self._asked:
            return False
        if issubclass(type(error), asyncio.CancelledError):  # isinstance() may call its own code
            task = asyncio.current_task()
            return task is not None and task.cancelling() > 0
        return issubclass(type(error), (GeneratorExit, *_OF_THE_LOOP))
