"""Workers in any ``concurrent.futures.Executor``: processes, or other machines."""

from __future__ import annotations

import functools
import os
import pickle
import signal
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.model import JobRow
from journal.run.handover import Claim, Outcomes
from journal.run.outcome import Errors, Handler, Outcome, call_handler, lost

_Task = tuple[int, JobRow, Claim, threading.Lock]

_MOST_BREAKS = 10  # in a row; one row may break it three times
_DRIVERS_SIGNALS = (signal.SIGINT, signal.SIGHUP)

# All that a handler raises ends in its outcome: these come of sending it to a worker.
_NEVER_BEGAN = (ImportError, AttributeError, pickle.PickleError)


def executor_workers(
    handler: Handler,
    executor: Executor | Callable[[], Executor],
    count: int | None,
    retry_on: Errors,
    outcomes: Outcomes,
) -> ExecutorWorkers:
    """The workers that fit the executor, or the function that makes one. InvalidValueError."""
    is_made = hasattr(executor, "submit") and not isinstance(executor, type)
    make: Any = None if is_made or not callable(executor) else executor
    made = _executor_of(executor if make is None else make())
    kind = DaskWorkers if _is_dask(made) else ExecutorWorkers
    return kind(handler, made, make, count, retry_on, outcomes)


class ExecutorWorkers:
    """Any executor: a process pool, loky, ...; :class:`DaskWorkers` for dask.

    One that its owner made stays his to shut down. One that we were told how to make is made anew
    when it breaks, and shut down at the end; its processes are killed then if they hang.

    Rows are submitted by a thread of our own, where no signal handler runs: an interrupt inside of
    ``submit`` may leave a pool with a lock that is never released. The driver waits for it, so that
    a pool forks while nothing of the driver's is half done.
    """

    queues = False  # a pool that breaks doesn't say which of its rows had begun

    def __init__(
        self,
        handler: Handler,
        executor: Executor,
        make: Callable[[], Executor] | None,
        count: int | None,
        retry_on: Errors,
        outcomes: Outcomes,
    ) -> None:
        self._executor = executor
        self._make = make
        usual, most = self._places()
        wanted = count or usual or os.cpu_count() or 1
        self.count = min(wanted, most or wanted)
        self._call = functools.partial(_call_for_text, handler, retry_on)
        self._outcomes = outcomes
        self._futures: dict[int, Future[bytes]] = {}
        self._breaks = 0  # since the last row that came back
        self._closed = False
        self._feeder: threading.Thread | None = None
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        _check_picklable(executor, handler)
        tracker = sys.modules.get("multiprocessing.resource_tracker")
        if tracker is not None and hasattr(executor, "_processes"):
            tracker.ensure_running()  # its start unblocks the signals that the thread blocks

    def _places(self) -> tuple[int | None, int | None]:
        """How many rows at a time by default, and at most: more would only wait in there."""
        most = getattr(self._executor, "_max_workers", None)
        return most, most

    def hand_out(self, ticket: int, row: JobRow, claim: Claim) -> None:
        if self._feeder is None:
            feeder = threading.Thread(target=self._feed, name="journal-feeder", daemon=True)
            try:
                feeder.start()
            except RuntimeError as error:
                self._outcomes.put(ticket, _unstarted(error, "can't start a thread for it"))
                return
            self._feeder = feeder
        fed = threading.Lock()
        fed.acquire()
        self._tasks.put((ticket, row, claim, fed))
        fed.acquire()

    def _feed(self) -> None:
        """Submit rows until the end. Nothing but what is submitted is in flight in the executor."""
        while (task := self._tasks.get()) is not None:
            ticket, row, claim, fed = task
            # A pool starts its processes when it is given work. Ctrl-C and the end of a terminal
            # reach them too, and are the driver's business: one that has no row yet would die and
            # break the pool. Each time anew, for a pool's resource tracker unblocks them here.
            signal.pthread_sigmask(signal.SIG_BLOCK, _DRIVERS_SIGNALS)
            try:
                if not self._closed and claim.begin():
                    self._feed_row(ticket, row)
            finally:
                fed.release()

    def _feed_row(self, ticket: int, row: JobRow) -> None:
        try:
            future = self._submit_or_make(ticket, row)
        except BaseException as error:  # noqa: BLE001  (whatever an executor raises when it is broken)
            self._outcomes.put(ticket, _unstarted(error, "the executor takes no more rows"))
            return
        self._futures[ticket] = future
        future.add_done_callback(functools.partial(self._take_back, ticket))

    def _submit_or_make(self, ticket: int, row: JobRow) -> Future[bytes]:
        try:
            return self._submit(ticket, row)
        except Exception:
            if self._make is None or self._closed or self._breaks >= _MOST_BREAKS:
                raise
            self._breaks += 1
            self._executor.shutdown(wait=False)
            self._executor = _executor_of(self._make())
            return self._submit(ticket, row)

    def _submit(self, ticket: int, row: JobRow) -> Future[bytes]:  # noqa: ARG002
        return self._executor.submit(self._call, row)

    def _take_back(self, ticket: int, future: Future[bytes]) -> None:
        self._futures.pop(ticket, None)
        try:
            outcome = self._outcome_of(future)
        except BaseException as error:  # noqa: BLE001  (whatever it has come back with, it is back)
            outcome = lost(error)
        self._outcomes.put(ticket, outcome)

    def _outcome_of(self, future: Future[bytes]) -> Outcome:
        if future.cancelled():
            return Outcome(kind="unstarted")
        error = future.exception()
        if error is None:
            self._breaks = 0
            return _outcome_of_text(future.result())
        if isinstance(error, _NEVER_BEGAN):
            return _unstarted(error, "the handler can't be had in a worker")
        return lost(error)

    def cancel(self, ticket: int, row_id: str, *, force: bool) -> bool:  # noqa: ARG002
        future = self._futures.get(ticket)
        return future is None or future.cancel()

    def abandon(self, ticket: int) -> bool:  # noqa: ARG002
        return False

    def close(self) -> None:
        self._closed = True
        self._tasks.put(None)
        if self._make is None:
            return
        processes = getattr(self._executor, "_processes", None)
        if self._futures and processes:  # they hang: this process couldn't exit before they do
            for process in list(processes.values()):
                if process.is_alive():
                    with suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
            # Waited for in any case: a pool that is forgotten while it breaks may deadlock.
            self._executor.shutdown(wait=True)
        else:
            self._executor.shutdown(wait=not self._futures)


class DaskWorkers(ExecutorWorkers):
    """A dask cluster, in which three things are not as elsewhere.

    When a worker dies, its tasks are run again, also those of which only the result was lost, and
    no setting keeps all of them from it. So a task first asks the scheduler, which says yes to the
    first that asks for an attempt: what runs again ends as lost without a call of the handler.
    A task that is cancelled may be running, so attempts are given up instead. And tasks of one
    key are one task, so each attempt has its own.
    """

    def __init__(self, *arguments: Any) -> None:
        self._run = uuid.uuid4().hex
        self._prepared: Executor | None = None
        super().__init__(*arguments)
        self._prepare()

    @property
    def _client(self) -> Any:
        executor: Any = self._executor
        return executor._client  # noqa: SLF001  (there is no other way to it)

    def _prepare(self) -> None:
        """Have the scheduler answer :func:`_ask_scheduler`."""
        if self._prepared is self._executor:
            return

        # Defined in here it is sent as it is: the scheduler needs no copy of this package.
        def keep_tickets(dask_scheduler: Any) -> None:
            runs: dict[str, set[int]] = {}

            def begin(run: str, ticket: int | None) -> bool:
                if ticket is None:
                    return runs.pop(run, None) is not None
                begun = runs.setdefault(run, set())
                is_first = ticket not in begun
                begun.add(ticket)
                return is_first

            dask_scheduler.handlers.setdefault("rowjournal_begin", begin)

        self._client.run_on_scheduler(keep_tickets)
        self._prepared = self._executor

    def _places(self) -> tuple[int | None, int | None]:
        client = self._client
        if client.asynchronous:
            raise InvalidValueError("executor", client, "its client must not be asynchronous")
        return sum(client.nthreads().values()), None  # for now: there may be more later

    def _submit(self, ticket: int, row: JobRow) -> Future[bytes]:
        self._prepare()
        key = f"journal-{self._run}-{ticket}"
        submit: Any = self._executor.submit
        future: Future[bytes] = submit(
            _call_if_first, self._call, self._run, ticket, row, key=key, retries=0
        )
        return future

    def _outcome_of(self, future: Future[bytes]) -> Outcome:
        if future.cancelled():  # with its worker, or with the cluster
            return lost(CancelledError("dask has cancelled its task"))
        return super()._outcome_of(future)

    def cancel(self, ticket: int, row_id: str, *, force: bool) -> bool:  # noqa: ARG002
        return False

    def close(self) -> None:
        abandoned = list(self._futures.values())
        for future in abandoned:
            future.cancel()  # what hasn't begun must not begin when nobody listens
        client = self._client
        if not abandoned and client.status == "running":
            with suppress(Exception):  # a cluster that is gone has forgotten it, too
                _ask_scheduler(client, self._run, None)
        super().close()


def _executor_of(made: Any) -> Executor:
    """What was given as an executor; a dask client is taken for its own. Raises InvalidValueError."""
    distributed = sys.modules.get("distributed")
    if distributed is not None and isinstance(made, distributed.Client):
        made = made.get_executor()
    if not hasattr(made, "submit"):
        raise InvalidValueError(
            "executor", made, "must be an Executor, or a function that makes one"
        )
    executor: Executor = made
    return executor


def _is_dask(executor: Executor) -> bool:
    module = sys.modules.get("distributed.cfexecutor")
    return module is not None and isinstance(executor, module.ClientExecutor)


def _unstarted(error: BaseException, what: str) -> Outcome:
    return Outcome(
        kind="unstarted", error_code=type(error).__name__, error_message=f"{what}: {error}"
    )


# --- what runs in a worker


def _call_for_text(handler: Handler, retry_on: Errors, row: JobRow) -> bytes:
    """The outcome as JSON: what a handler returns may be of a class that only its worker knows."""
    return _text_of_outcome(call_handler(handler, retry_on, row))


def _text_of_outcome(outcome: Outcome) -> bytes:
    return msgspec.json.encode(outcome, enc_hook=_plain)


def _plain(value: Any) -> Any:
    """Of a number of somebody's own class, such as ``Retry(after_s=numpy.float64(1))`` has."""
    return float(value)


def _outcome_of_text(text: bytes) -> Outcome:
    return msgspec.json.decode(text, type=Outcome)


def _call_if_first(call: Callable[[JobRow], bytes], run: str, ticket: int, row: JobRow) -> bytes:
    """In a worker of dask: unless the attempt was begun before."""
    try:
        is_first = _ask_scheduler(sys.modules["distributed"].get_client(), run, ticket)
        why = "dask has run its task again"
    except Exception as error:  # noqa: BLE001  (whatever it is, it is no answer)
        is_first = False
        why = f"the scheduler could not be asked whether it was begun before: {error!r}"
    if is_first:
        return call(row)
    return _text_of_outcome(
        msgspec.structs.replace(lost(RuntimeError(why)), error_code="KilledWorker")
    )


def _ask_scheduler(client: Any, run: str, ticket: int | None) -> bool:
    """Whether this is the first to ask for the ticket; None: forget the run."""
    answer = client.sync(client.scheduler.rowjournal_begin, run=run, ticket=ticket)
    return answer is True


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
