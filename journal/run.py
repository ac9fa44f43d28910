"""A run: rows matched with their job, and pushed through a handler until none is open.

This is the part of a run that knows no command line: what is run on a row is a function that
returns a :class:`~journal.command.CommandOutcome`.
"""

from __future__ import annotations

import errno
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from journal.changes import Policy
from journal.command import CommandOutcome
from journal.errors import (
    InvalidStateTransition,
    InvalidValueError,
    JobLockedError,
    JournalError,
    RowChangedError,
    StorageError,
)
from journal.format import LOST_CHECKSUM
from journal.index import TERMINAL_STATUSES
from journal.model import Job, JobRow, JobStatus, JobSummary
from journal.service import JobService

_TICK_S = 0.1

Handler = Callable[[JobRow], CommandOutcome]


class Matched(msgspec.Struct):
    """How an input and a job compare: rows added to the job, and rows that left the input.

    ``lost`` counts rows that a repaired job doesn't have: they may be among what was lost.
    """

    added: int = 0
    gone: int = 0
    lost: int = 0


def match_rows(service: JobService, job: Job, rows: Iterable[dict[str, Any]]) -> Matched:
    """Check that the input's rows, by their place, are the job's; add those that are new.

    Raises RowChangedError, and whatever reading the input raises; then nothing was added. A
    retry job holds some of the rows of the job before it: rows that it doesn't hold are that
    job's, and are left alone. So are rows that a repair has lost, or their data: they may be done.
    """
    matched = Matched()
    repaired = job.repaired
    known = iter(service.get_rows(job.id))
    row = next(known, None)
    numbered = enumerate(rows, 1)
    for number, data in numbered:
        if row is None:
            if repaired:
                matched.lost += 1
            elif job.retry_of is None:
                rest = itertools.chain([(number, data)], numbered)
                matched.added = len(service.create_rows(job.id, numbered_rows(rest)))
                break
            continue
        if row.row_number != number and repaired:
            matched.lost += 1
        elif row.row_number != number and job.retry_of is None:
            raise InvalidValueError(
                f"input row {number}",
                _json(data),
                f"job {job.id!r} has no row {number} though it has later ones: it was not made "
                "from such an input; run the input as a job of its own",
            )
        if row.row_number == number:
            if row.data != data and row.row_checksum != LOST_CHECKSUM:
                raise RowChangedError(row.id, _json(row.data), _json(data))
            row = next(known, None)
    while row is not None:
        matched.gone += 1
        row = next(known, None)
    return matched


def numbered_rows(rows: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Rows of an input and their places in it, as the service takes them."""
    for number, data in rows:
        yield {"row_number": number, "data": data}


def _json(data: dict[str, Any]) -> str:
    return msgspec.json.encode(data).decode()


class Run:
    """One pass over a job's pending rows, with ``workers`` threads.

    Each start is committed before the work begins, each outcome after it has ended: if the
    process dies between the two, the row is in processing and its outcome unknown.
    """

    def __init__(self, service: JobService, job_id: str, handler: Handler, workers: int) -> None:
        self._service = service
        self._job_id = job_id
        self._handler = handler
        self._workers = workers
        self._stop = threading.Event()
        self._taking = threading.Lock()
        self._rows: Iterator[JobRow] = iter(())
        self._failure: BaseException | None = None
        self.problems: list[str] = []

    def stop(self) -> None:
        """Start no more rows; those in flight go on to their end. Safe in a signal handler."""
        self._stop.set()

    def work(self, on_interrupted: Policy, tick: Callable[[], object] = lambda: None) -> JobSummary:
        """Start the job, work until no row is pending or :meth:`stop`, and end or pause it.

        ``tick`` is called some ten times a second meanwhile. Raises JobBusyError,
        InvalidStateTransition, and the error of a commit that failed; the job is paused then, if
        that can still be written, and ``problems`` may say more.
        """
        service = self._service
        service.start_job(self._job_id, on_interrupted)
        threads: list[threading.Thread] = []
        try:
            self._rows = iter(service.get_pending_rows(self._job_id))
            for _ in range(self._workers):
                threads.append(threading.Thread(target=self._worker))
                threads[-1].start()
            self._wait_for(threads, tick)
            if self._failure is not None:
                raise self._failure
        except BaseException as error:
            self._stop.set()
            self._wait_for([thread for thread in threads if thread.ident is not None], tick)
            self._leave(JobStatus.PAUSED)
            if isinstance(error, RuntimeError):  # "can't start new thread"
                raise StorageError("-j", "start a thread for", errno.EAGAIN, str(error)) from error
            raise
        summary = service.get_job_summary(self._job_id)
        if summary["status"] != JobStatus.RUNNING:
            return summary  # another process has paused or ended it: its word stands
        if summary["pending_count"] or summary["processing_count"]:
            self._leave(JobStatus.PAUSED)
        elif summary["failed_rows"] or summary["needs_review_count"]:
            self._leave(JobStatus.FAILED)
        else:
            self._leave(JobStatus.COMPLETED)
        return service.get_job_summary(self._job_id)

    @staticmethod
    def _wait_for(threads: list[threading.Thread], tick: Callable[[], object]) -> None:
        # With a timeout: the system may hand a signal to any thread, which doesn't wake this
        # one from a wait, and only this one runs Python's signal handlers.
        for thread in threads:
            while thread.is_alive():
                thread.join(_TICK_S)
                tick()

    def _leave(self, status: JobStatus) -> None:
        try:
            self._service.update_status(self._job_id, status)
        except InvalidStateTransition:
            pass  # another process was faster
        except JournalError as error:
            if self._failure is None:
                raise
            self.problems.append(f"could not set the job to {status}: {error}")

    def _worker(self) -> None:
        try:
            while not self._stop.is_set():
                with self._taking:
                    row = next(self._rows, None)
                if row is None or not self._still_running():
                    return
                self._do(row)
        except BaseException as error:  # noqa: BLE001  (raised again by the thread that waits)
            self._failure = self._failure or error
            self._stop.set()

    def _still_running(self) -> bool:
        job = self._service.get_job(self._job_id)
        return job is not None and job.status is JobStatus.RUNNING

    def _do(self, row: JobRow) -> None:
        try:
            self._service.start_row(row.id)
        except InvalidStateTransition:
            return  # another process has settled it, or ended the job, since we looked
        try:
            outcome = self._handler(row)
        except JournalError:
            self._service.retry_row(row.id)  # it did not begin
            raise
        try:
            self._record(row, outcome)
        except InvalidStateTransition as error:
            self.problems.append(_unrecorded(row, outcome, error))
        except JournalError as error:
            self.problems.append(_unrecorded(row, outcome, error))
            raise

    def _record(self, row: JobRow, outcome: CommandOutcome) -> None:
        while True:
            try:
                if outcome.error_code is None:
                    self._service.complete_row(row.id, result=outcome.output)
                else:
                    self._service.fail_row(row.id, outcome.error_code, outcome.error_message)
            except JobLockedError:
                continue  # what has happened is worth any wait
            return


def _unrecorded(row: JobRow, outcome: CommandOutcome, error: JournalError) -> str:
    what = "succeeded" if outcome.error_code is None else f"failed with {outcome.error_code}"
    text = (outcome.output or outcome.error_message)[:1000]
    return f"row {row.id} {what} and this could not be recorded ({error}); it said: {text!r}"


def has_ended(job: Job) -> bool:
    """Whether the job's status is final."""
    return job.status in TERMINAL_STATUSES
