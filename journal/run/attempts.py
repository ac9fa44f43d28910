"""A loop of the caller's own over the open rows, an attempt at a time."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any

from journal.errors import (
    InvalidStateTransition,
    InvalidValueError,
    JobLockedError,
    JournalError,
)
from journal.model import TERMINAL_STATUSES, JobRow, JobStatus
from journal.run.limits import Limits
from journal.run.outcome import (
    Errors,
    Fail,
    NeedsReview,
    Outcome,
    Retry,
    RowResult,
    Skip,
    outcome_of_bad_value,
    outcome_of_error,
    outcome_of_value,
)
from journal.run.plan import HowTo, nothing_to_do, take_up
from journal.run.row_queue import (
    RowQueue,
    Tell,
    end_job,
    lost_words,
    start_run,
    unrecorded_words,
)
from journal.service import JobService, existing_job
from journal.store.transitions import Policy

_POLL_S = 0.2


class AttemptedRow:
    """The row of an attempt, and how to say what became of it. Say it once; the last word counts."""

    def __init__(self, row: JobRow) -> None:
        self.row = row
        self.outcome: Outcome | None = None

    @property
    def id(self) -> str:
        """``JOB_ID:ROW_NUMBER``."""
        return self.row.id

    @property
    def idempotency_key(self) -> str:
        """What to give to the far side: :class:`JobRow`."""
        return self.row.idempotency_key

    @property
    def row_number(self) -> int:
        return self.row.row_number

    @property
    def data(self) -> dict[str, Any]:
        return self.row.data

    @property
    def attempts(self) -> int:
        """How often the row was started, this time included."""
        return self.row.attempts

    def complete(
        self,
        tracking_number: str | None = None,
        label_path: str | os.PathLike[str] | None = None,
        cost_cents: int | None = None,
        *,
        result: Any = None,
    ) -> None:
        """It is done, as :meth:`JobService.complete_row` records it. What JSON can't hold: review."""
        self.outcome = outcome_of_value(
            RowResult(
                result=result,
                tracking_number=tracking_number,
                label_path=label_path,
                cost_cents=cost_cents,
            )
        )

    def fail(self, code: str, message: str = "") -> None:
        """It has failed for good."""
        self.outcome = outcome_of_error(Fail(code, message), ())

    def retry(self, after_s: float | None = None) -> None:
        """Nothing has happened: try it again, if attempts are left."""
        self.outcome = outcome_of_error(Retry(after_s), ())

    def skip(self, reason: str | None = None) -> None:
        """It needs nothing done."""
        self.outcome = outcome_of_error(Skip(reason), ())

    def review(self, message: str) -> None:
        """Whether it took effect isn't known: a person must look."""
        self.outcome = outcome_of_error(NeedsReview(message), ())


class Attempt:
    """``with attempt as row:`` one try at one row, which was started on the disk already.

    Left without an exception the row is completed, or what ``row.complete(...)``,
    ``row.fail(...)``, ``row.skip(...)``, ``row.retry(...)`` or ``row.review(...)`` said. An
    ``Exception`` fails it and goes no further, as does :class:`Fail` and its like; anything else
    (KeyboardInterrupt) leaves it to the policy for interrupted rows, and goes on its way. What was
    said before stands. On leaving, what happened is on the disk. An attempt that isn't entered
    before the next one is taken leaves its row pending, and can't be entered any more.
    """

    def __init__(self, queue: RowQueue, row: JobRow, retry_on: Errors, tell: Tell) -> None:
        self.row = AttemptedRow(row)
        self.entered = False
        self.settled = False
        self._queue = queue
        self._retry_on = retry_on
        self._tell = tell

    def __enter__(self) -> AttemptedRow:
        if self.settled:
            raise InvalidValueError(
                "attempt",
                self.row.id,
                "is over, and its row was given back: enter each attempt before you take the next, "
                "and hold on to attempts() while you work",
            )
        self.entered = True
        return self.row

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        said = self.row.outcome
        if said is not None:
            outcome = said  # an error behind it doesn't undo that
        elif error is None:
            outcome = Outcome(kind="completed")
        elif isinstance(error, Exception):
            outcome = outcome_of_error(error, self._retry_on)
        else:
            outcome = interrupted_by(error)
        self.settle(outcome)
        return error is None or isinstance(error, Exception)

    def settle(self, outcome: Outcome) -> None:
        """Record the outcome, however long another writer holds the lock.

        Tell it, if the job at its path is another run's by now.
        """
        self.settled = True
        row = self.row.row
        if self._queue.is_lost():
            self._tell(unrecorded_words(row, outcome, "another run has the job now"))
            return
        while True:
            try:
                self._queue.settle(row, outcome, math.inf)  # not begun: it is for another loop
            except JobLockedError as error:
                if error.by_task:  # there is no waiting for that
                    self._tell(unrecorded_words(row, outcome, error))
                    raise
                continue
            except InvalidStateTransition:
                raise
            except ValueError as error:  # InvalidValueError: too long for a record, say
                outcome = outcome_of_bad_value(error)
                continue
            return


def interrupted_by(error: BaseException) -> Outcome:
    """Of an attempt that something ended which isn't about the row."""
    name = type(error).__name__
    return Outcome(kind="lost", error_code=name, error_message=f"{name} while it was in flight")


def iterate_attempts(
    service: JobService,
    job_id: str,
    limits: Limits,
    retry_on: Errors,
    on_interrupted: Policy,
    resume_command: str,
    version: str | None,
    tell: Tell,
    how_to: HowTo,
) -> Iterator[Attempt]:
    """See :meth:`JobRun.attempts`."""
    job = take_up(service, job_id)
    if job.status in TERMINAL_STATUSES:
        tell(nothing_to_do(service, job, how_to, retry_failed=False))
        return
    may_be_ours = not service.keeps_run(job_id)
    is_started = False
    attempt = None
    passed = 0
    try:
        try:
            start_run(service, job_id, on_interrupted, resume_command, version, tell)
        except JournalError:
            may_be_ours = False
            raise
        is_started = True
        queue = RowQueue(service, job_id, limits, on_interrupted)
        while (row := _next_row(service, job_id, queue, passed, tell)) is not None:
            attempt = Attempt(queue, row, retry_on, tell)
            yield attempt
            if not attempt.entered:  # nothing was done, and is left for another loop
                attempt.settle(Outcome(kind="unstarted"))
                passed += 1
    except GeneratorExit:  # the loop was left
        if attempt is not None and not attempt.entered:
            attempt.settle(Outcome(kind="unstarted"))
        raise
    finally:
        if is_started or (may_be_ours and service.keeps_run(job_id)):
            with suppress(JournalError):
                if service.holds_run(job_id):
                    end_job(service, job_id)
            with suppress(JournalError):
                service.release_run(job_id)


def _next_row(
    service: JobService, job_id: str, queue: RowQueue, passed: int, tell: Tell
) -> JobRow | None:
    """Start the next row; wait for one that is to be tried again, and while the job is paused."""
    while True:
        if not service.holds_run(job_id):
            tell(f"{job_id}: {lost_words(service, job_id)}")
            return None
        job = existing_job(service, job_id)
        if job.status in TERMINAL_STATUSES:
            return None
        if job.pending_count <= passed:  # also of a paused job: there is nothing to wait for
            return None
        if job.status is JobStatus.RUNNING:
            started = queue.start(1, job)
            if started:
                return started[0]
        due_s = queue.next_due_s
        wait_s = _POLL_S if due_s is None else min(_POLL_S, max(0.0, due_s - time.monotonic()))
        time.sleep(wait_s)
