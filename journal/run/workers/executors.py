"""Workers in any ``concurrent.futures.Executor``: process pools, loky and the like."""

from __future__ import annotations

import functools
import io
import os
import pickle
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import ExitStack, suppress
from multiprocessing import connection
from pathlib import Path
from typing import Any

import msgspec

from journal.errors import InvalidValueError, StorageError
from journal.fs import files, system
from journal.fs.files import scratch_directory
from journal.run.outcome import Outcome, lost, text_of
from journal.run.platform.processes import status_code
from journal.run.signals import (
    OwnProcess,
    interrupts_kept_from_new_processes,
    leave_interrupts_to_the_driver,
)
from journal.run.workers.base import Call, Results, Workers
from journal.run.workers.handler import Rows, Target, call_handler
from journal.store.interrupted_rows import NEIGHBOR_DIED
from journal.text import counted, encode_json, own_number

# --- which process of a broken pool died, with which row, and how
#
# A broken pool doesn't report this, and ends its other processes, too. So each process notes the row
# that it works on, in a file that outlives the process.

_BYTES = 8  # the size of a note, which is the number of a row


class Notes:
    """The notes of a pool's processes, as the driver reads them.

    ``directory`` has a file for each process, named by the process id.
    """

    def __init__(self) -> None:
        stack = ExitStack()
        self.directory = str(stack.enter_context(scratch_directory()))
        self.close = stack.close
        self._error: BaseException | None = None
        self._died: dict[int, str] = {}  # by row: how the row's process died

    def outcome(self, error: BaseException, executor: Executor, in_flight: list[int]) -> Outcome:
        """The outcome of a call whose pool has broken. Call this before the pool is replaced.

        ``in_flight``: the first row of each call in flight. The first of these rows belongs to the
        call.
        """
        if error is not self._error:  # a pool that breaks gives all of its futures the same error
            self._error = error
            found = ((self._row(pid), how) for pid, how in _dead_processes(executor))
            self._died = {row: how for row, how in found if row in in_flight}
        if not self._died:
            return lost(error)
        how = self._died.get(in_flight[0])
        if how is not None:
            return lost(error, f"its process {how}")
        row, how = next(iter(self._died.items()))
        why = f"the process of row {row} {how}, and then the pool ended its other processes"
        return msgspec.structs.replace(lost(error, why), error_code=NEIGHBOR_DIED)

    def _row(self, pid: int) -> int:
        with suppress(OSError):  # the process died before its first row
            return int.from_bytes(Path(self.directory, str(pid)).read_bytes(), "little")
        return 0


def _dead_processes(executor: Executor) -> Iterator[tuple[int, str]]:
    """The ids of a pool's dead processes, and how each died."""
    processes = getattr(executor, "_processes", None) or {}
    by_sentinel = {process.sentinel: process for process in list(processes.values())}
    for sentinel in connection.wait(by_sentinel, 0):
        process: Any = by_sentinel[sentinel]
        process.join(1)  # the process has ended, but its exit status may come a moment later
        status = process.exitcode
        if status is not None:
            verb = "died of" if status < 0 else "exited with status"
            yield process.pid, f"{verb} {status_code(status)}"


def take_note(directory: str, row: int) -> None:
    """Note that this process works on the row. Only the first note makes system calls."""
    _note(directory, system.process_id())[:] = row.to_bytes(_BYTES, "little")


# A pool may work for many runs, and each run has its notes. A forked process inherits the cache.
@functools.lru_cache(maxsize=4)
def _note(directory: str, process_id: int) -> Any:
    try:
        return files.map_new_file(f"{directory}/{process_id}", _BYTES)
    except OSError:  # then a death can't be explained
        return bytearray(_BYTES)


_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # on Windows, SIGTERM ends a process by force
_NONE: Any = object()  # not a future; a wrong executor may return None
_WITH_DESCRIPTORS = (
    socket.socket,
    connection.Connection,
    getattr(connection, "PipeConnection", connection.Connection),  # on Windows
)
_MAX_BREAKS = 10  # in succession; a single row may break a pool three times

# Exceptions of sending a row to a worker. The handler's own exceptions are part of its outcome.
_NEVER_BEGAN = (ImportError, AttributeError, pickle.PickleError)


# --- the workers


class ExecutorWorkers(Workers):
    """Workers in any executor, except dask: see :class:`DaskWorkers`.

    An executor of the caller stays open at the end. An executor from ``make`` is shut down at the
    end. If it breaks, ``make`` is called again. If a row is still running at the end, all processes
    of this executor are killed.

    A pool that breaks doesn't report which rows had begun. So an executor with N workers gets at
    most N rows at a time. The other rows wait here.
    """

    def __init__(
        self,
        target: Target,
        executor: Executor,
        make: Callable[[], Executor] | None,
        count: int | None,
        results: Results,
    ) -> None:
        self._executor = executor
        self._make = make
        usual, maximum = self._slots()
        wanted = count or usual or os.cpu_count() or 1
        self.count = min(wanted, maximum or wanted)
        self._notes = None
        if hasattr(executor, "_processes"):
            with suppress(StorageError):  # there is no temporary directory
                self._notes = Notes()
        notes = None if self._notes is None else self._notes.directory
        self._call = functools.partial(call_for_json, _to_send(executor, target), notes=notes)
        self._results = results
        self._futures: dict[Call, Future[bytes]] = {}
        self._breaks = 0  # since the last result
        self._closed = False
        self._refused: TypeError | None = None  # the executor's futures can't be used
        self._waiting: deque[Call] = deque()
        self._submits = threading.Lock()  # held by the thread that submits
        _check_repetitions(executor)
        tracker = sys.modules.get("multiprocessing.resource_tracker")
        if tracker is not None and hasattr(executor, "_processes"):
            tracker.ensure_running()  # otherwise, the tracker would unblock our signals later

    def _slots(self) -> tuple[int | None, int | None]:
        """The default and the maximum number of rows at a time.

        More rows than the maximum would only wait in the executor.
        """
        maximum = getattr(self._executor, "_max_workers", None)
        return maximum, maximum

    @property
    def maximum(self) -> int | None:
        return self._slots()[1]

    def dispatch(self, call: Call) -> None:
        self._waiting.append(call)

    def flush(self) -> None:
        """Submit rows that wait, if workers are free. Only the driver calls this method."""
        if self._waiting:
            # A pool starts its processes when it gets work. Ctrl-C and a hangup reach these
            # processes, too. They would kill an idle process, and its death would break the pool.
            with self._submits, interrupts_kept_from_new_processes():
                self._submit_waiting(is_driver=True)
        if self._refused is not None:
            raise self._refused

    def _submit_next(self) -> None:
        """Submit rows in the thread in which a task has ended. The driver may be in a commit.

        So this method starts no process, and waits for nobody. If it can't submit rows, the driver
        does so after it has seen the outcome.
        """
        if not self._may_fork() and self._submits.acquire(blocking=False):
            try:
                self._submit_waiting(is_driver=False)
            finally:
                self._submits.release()

    def _may_fork(self) -> bool:
        """Return whether the next row may start a process.

        This is true if the executor is a new pool or a broken pool.
        """
        processes = getattr(self._executor, "_processes", ())
        if getattr(self._executor, "_broken", False) or processes is None:
            return True
        return isinstance(processes, dict) and len(processes) < self.count

    def _submit_waiting(self, *, is_driver: bool) -> None:
        while self._waiting and (not self.queues or len(self._futures) < self.count):
            call = self._waiting.popleft()
            if self._closed or not call.begin():
                continue
            try:
                with OwnProcess():
                    future = (self._submit_or_make if is_driver else self._submit)(call)
            except BaseException as error:  # noqa: BLE001  (a broken executor may raise anything)
                if not is_driver:
                    call.give_back()  # the driver may cancel the call, instead of submitting it
                    self._waiting.appendleft(call)
                    return
                what = "the executor takes no more rows"
                if isinstance(error, BrokenExecutor) and self._make is None:
                    what += " (a function that makes it, in its place, lets a run make a new one)"
                unstarted = _unstarted(error, what)
                self._results.put_for_each(call, unstarted)
            else:
                self._keep(call, future)

    def _keep(self, call: Call, future: Future[bytes]) -> None:
        self._futures[call] = future
        try:
            future.add_done_callback(functools.partial(self._on_done, call))
        except BaseException as error:  # noqa: BLE001  (the executor may call the handler anyway)
            self._closed, self._refused = True, _no_callbacks(type(future), error)
            if self._futures.pop(call, _NONE) is not _NONE:  # else _on_done took the future
                self._results.put_for_each(call, lost(self._refused))

    def _submit_or_make(self, call: Call) -> Future[bytes]:
        try:
            return self._submit(call)
        except Exception:
            if self._make is None or self._closed or self._breaks >= _MAX_BREAKS:
                raise
        # This call is outside of the ``except`` block, since it forks workers. In the block, the
        # handled exception would become the context of each exception in these workers.
        self._breaks += 1
        self._executor.shutdown(wait=False)
        self._executor = self._make()
        return self._submit(call)

    def _submit(self, call: Call) -> Future[bytes]:
        return self._executor.submit(self._call, call.rows)

    def _on_done(self, call: Call, *_: object) -> None:
        future = self._futures.pop(call, _NONE)
        if future is _NONE:  # the outcome of the call is known
            return
        try:
            outcomes = self._outcomes_of(future, call)
        except BaseException as error:  # noqa: BLE001  (the rows may be done)
            outcomes = [lost(error)] * len(call.rows)
        self._results.put(call, outcomes)
        self._submit_next()  # only after the outcomes, since a Hold keeps other calls from starting

    def _outcomes_of(self, future: Future[bytes], call: Call) -> list[Outcome]:
        rows = len(call.rows)
        if future.cancelled():
            if call.ends_asked:
                return [Outcome(kind="unstarted")] * rows
            # The executor has cancelled the call, and may cancel each later call, too.
            cancelled = CancelledError("it has cancelled a row that the run has not cancelled")
            return [_unstarted(cancelled, "the executor takes no more rows")] * rows
        error = future.exception()
        if error is None:
            self._breaks = 0
            outcomes: list[Outcome] = _decode_outcomes(future.result())
            if len(outcomes) != rows:  # nobody knows which outcome belongs to which row
                raise ValueError(f"{counted(len(outcomes), 'outcome|outcomes')} for {rows}")
            return outcomes
        if isinstance(error, _NEVER_BEGAN):
            return [_unstarted(error, "the worker can't load the handler")] * rows
        if isinstance(error, BrokenExecutor) and self._notes is not None:
            in_flight = [each.rows[0].row_number for each in (call, *list(self._futures))]
            return [self._notes.outcome(error, self._executor, in_flight)] * rows
        return [lost(error)] * rows

    def cancel(self, call: Call, *, force: bool) -> bool:  # noqa: ARG002
        future = self._futures.get(call)
        try:
            return future is None or bool(future.cancel())
        except Exception:  # noqa: BLE001  (a future of another library may raise anything)
            return False

    def close(self) -> None:
        self._closed = True
        if self._notes is not None:
            self._notes.close()
        if self._make is None:
            return
        processes = getattr(self._executor, "_processes", None)
        # Processes that still run a row would prevent the exit of this process.
        if self._futures and processes:
            for process in list(processes.values()):
                if process.is_alive():
                    with suppress(ProcessLookupError, PermissionError):  # it has just ended
                        os.kill(process.pid, _KILL)
            # Always wait, since dropping a pool while it breaks may cause a deadlock.
            self._executor.shutdown(wait=True)
        else:
            self._executor.shutdown(wait=not self._futures)


def _unstarted(error: BaseException, what: str) -> Outcome:
    return Outcome(
        kind="unstarted", error_code=type(error).__name__, error_message=f"{what}: {error}"
    )


def _no_callbacks(kind: type, error: BaseException) -> TypeError:
    return TypeError(
        f"the executor's submit() returns {kind.__name__}, which has no add_done_callback() that can "
        f"be used ({type(error).__name__}: {text_of(error)}): give an executor with futures like "
        "those of concurrent.futures (`journal help executors` lists what works)"
    )


def _check_repetitions(executor: Any) -> None:
    """Raise InvalidValueError if Parsl would call the handler again after a worker has died."""
    # While another thread still imports the module, there are no pools.
    pool: Any = getattr(sys.modules.get("parsl.concurrent"), "ParslPoolExecutor", ())
    if isinstance(executor, pool):
        retries = executor._dfk.config.retries  # noqa: SLF001  (Parsl has no public name for it)
        if retries:
            reason = f"its Config has retries={retries}: Parsl would repeat rows; leave out retries"
            raise InvalidValueError("executor", executor, reason)


def _to_send(executor: Executor, target: Target) -> Target | bytes:
    """The target, pickled for a process pool. Each worker of the pool loads the target once.

    A target with a socket or connection isn't pickled here. The pool itself sends such a target
    with each row. Raises InvalidValueError if the handler can't be pickled.
    """
    process = sys.modules.get("concurrent.futures.process")
    if type(executor) is not getattr(process, "ProcessPoolExecutor", None):
        return target
    file = io.BytesIO()
    pickler = _Pickler(file)
    try:
        pickler.dump(target)
        return target if pickler.has_descriptors else file.getvalue()
    except Exception as error:  # noqa: BLE001  (pickling runs the object's own code)
        raise InvalidValueError(
            "handler",
            target.handler,
            f"can't be sent to another process ({error}): define it at the top of a module",
        ) from None


class _Pickler(pickle.Pickler):
    """Notes whether the pickled objects include a socket or a connection.

    A copy of either would have no descriptor.
    """

    has_descriptors = False

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, _WITH_DESCRIPTORS):
            return NotImplemented
        self.has_descriptors = True
        return object, ()


# --- what runs in a worker


def call_for_json(target: Target | bytes, rows: Rows, notes: str | None = None) -> bytes:
    """Call the handler and encode the outcomes as JSON. ``notes``: where to note the row.

    The driver gets JSON, because it may lack the classes of the outcomes' values.
    """
    leave_interrupts_to_the_driver()
    if notes is not None:
        take_note(notes, rows[0].row_number)
    loaded = _load(target) if isinstance(target, bytes) else target
    return encode_json(call_handler(loaded, rows))


@functools.lru_cache(maxsize=1)
def _load(target: bytes) -> Target:
    try:
        loaded: Target = pickle.loads(target)  # noqa: S301  (from the driver)
    except Exception as error:
        raise pickle.UnpicklingError(text_of(repr(error))) from error  # one of _NEVER_BEGAN
    return loaded


_decode_outcomes = msgspec.json.Decoder(list[Outcome], float_hook=own_number).decode
