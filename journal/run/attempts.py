"""Attempts for the caller's own loop over the open rows: ``for attempt in job.attempts()``."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Never

import msgspec

from journal.errors import InvalidValueError, JobLockedError, JournalError
from journal.model import JobRow, JobStatus
from journal.run.evidence import current_row
from journal.run.handler import AttemptedRow, StepStore, outcome_of_raised
from journal.run.held_job import POLL_S, HeldJob, unrecorded_message
from journal.run.outcome import Outcome, interrupted
from journal.run.pacing.holds import Holds
from journal.run.pacing.limits import Limits
from journal.run.plan import nothing_to_do, take_up
from journal.run.row_queue import RowQueue
from journal.run.signals import OwnProcess

_NONE_ENTERED = (
    "the loop has entered none of its attempts, so all rows are still pending: write "
    "`with attempt as row:` in the loop"
)


class Attempt:
    """One attempt at one row, used as ``with attempt as row:``. Its start is already on the disk.

    When the block ends, the attempt gets its outcome. The first of these rules that applies counts:

    - if the block has called ``row.complete(...)``, ``row.fail(...)``, ``row.skip(...)``,
      ``row.retry(...)``, ``row.hold(...)`` or ``row.review(...)``: the outcome that this call sets;
    - if the block ends without an exception: ``completed``;
    - if the block raises an ``Exception``: the outcome that :meth:`JobRun.run` makes of it. The
      exception is not raised again;
    - if the block raises another exception, such as KeyboardInterrupt: the outcome that
      ``on_interrupted`` asks for. The exception is raised again.

    The outcome is on the disk when the block has ended.

    If the loop takes the next attempt without entering this one, the row of this attempt becomes
    pending again, and this attempt can't be entered any more.
    """

    def __init__(
        self, queue: RowQueue, row: AttemptedRow, job: HeldJob, limits: Limits, holds: Holds
    ) -> None:
        self.row = row
        self._holds = holds
        self.entered = False
        self.settled = False
        self._queue = queue
        self._job = job
        self._retry_on = limits.retry_classes

    def __getattr__(self, name: str) -> Never:
        raise AttributeError(
            f"'Attempt' has no {name!r}: write `with attempt as row:`, and use row.{name} in the "
            "block",
            name=name,
            obj=self,
        )

    def __enter__(self) -> AttemptedRow:
        if self.settled:
            raise InvalidValueError(
                "attempt",
                self.row.id,
                "is over, and its row was given back: enter each attempt before you take the next, "
                "and keep the iterator while you work",
            )
        self.entered = True
        self._own_process = OwnProcess()
        self._outer_row = current_row.get()
        current_row.set(self.row)
        return self.row

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._own_process.__exit__(kind, error, traceback)
        current_row.set(self._outer_row)
        if self.row.outcome is not None:
            outcome = self.row.outcome  # a later exception doesn't undo a set outcome
        elif error is None:
            outcome = Outcome(kind="completed")
        elif isinstance(error, Exception):
            outcome = outcome_of_raised(self.row, error, self._retry_on)
        else:
            outcome = interrupted(error)
        self.settle(msgspec.structs.replace(outcome, logs=self.row.take_logs()))
        return error is None or isinstance(error, Exception)

    def settle(self, outcome: Outcome) -> None:
        """Record the outcome. Waits for the commit lock without a time limit.

        If another run holds the job by now, the outcome isn't recorded. Instead, a message reports
        the outcome.
        """
        self.settled = True
        row = self.row.row
        if lost := self._job.why_lost():
            self._job.warn(unrecorded_message(row, outcome, lost))
            return
        while True:
            try:
                # This loop doesn't take a row again that it has left without entering the attempt.
                self._queue.settle(row, outcome, unstarted_wait_s=math.inf)
            except JobLockedError as error:
                if error.by_task:  # waiting would not help
                    self._job.warn(unrecorded_message(row, outcome, error))
                    raise
            else:
                with suppress(JournalError):
                    self._holds.hear_latest(outcome)
                self._holds.report()
                return


def iterate_attempts(held: HeldJob, limits: Limits) -> Iterator[Attempt]:
    """See :meth:`JobRun.attempts`."""
    job = take_up(held.service, held.id)
    if job.status.is_ended:
        held.report(nothing_to_do(held.service, job, held.settings.how_to, retry_failed=False))
        return
    queue, holds = RowQueue(held, limits), Holds(limits, held)
    store, row_type = StepStore(held.service), held.settings.row_type
    attempt = None
    passed = count = 0
    try:
        held.start()
        while (row := _next_row(held, queue, holds, passed)) is not None:
            attempt = Attempt(queue, AttemptedRow(row, store, row_type), held, limits, holds)
            count += 1
            yield attempt
            if not attempt.entered:  # nothing was done
                attempt.settle(Outcome(kind="unstarted"))
                passed += 1
        if count and passed == count:
            held.warn(f"{held.id}: {_NONE_ENTERED}")
    except GeneratorExit:  # the caller has left the loop
        if attempt is not None and not attempt.entered:
            attempt.settle(Outcome(kind="unstarted"))
        raise
    finally:
        if held.is_ours():
            with suppress(JournalError):
                if held.is_held():
                    held.end()
            held.release()


def _next_row(held: HeldJob, queue: RowQueue, holds: Holds, passed: int) -> JobRow | None:
    """Start the next row.

    Waits while the job is paused, during a hold (see :class:`Hold`), and while no row is due.

    ``passed``: the number of earlier attempts that the caller's loop has not entered. Their rows
    are pending again, but this loop doesn't start them again.
    """
    while True:
        if not held.is_held():
            held.warn(f"{held.id}: {held.lost_message()}")
            return None
        job = held.job()
        if job.status.is_ended:
            return None
        if job.pending_count <= passed:  # no row to wait for, even if the job is paused
            return None
        now_s = time.monotonic()
        held_too_long = holds.reason_to_pause()
        if held_too_long is not None:
            held.warn(f"{held.id}: {held_too_long[0]}: pausing")
            return None
        due_s = queue.next_due_s
        if now_s < holds.until_s:
            due_s = holds.until_s
        elif job.status is JobStatus.RUNNING:
            started = queue.start(1, job, fresh_first=holds.count > 0)
            if started:
                holds.start()
                return started[0]
        time.sleep(POLL_S if due_s is None else min(POLL_S, max(0.0, due_s - now_s)))
