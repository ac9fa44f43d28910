"""The open rows of a job, in the order in which a run takes them, and what becomes of them.

Rows are found as they are needed and never kept: what waits for another attempt is a number and a
time. All that is recorded here joins the batch that the caller has open.
"""

from __future__ import annotations

import heapq
import os
import shlex
from collections import deque
from collections.abc import Callable
from time import monotonic

from journal.errors import InvalidStateTransition, JournalError
from journal.fs import system
from journal.model import TERMINAL_STATUSES, FoundRow, Job, JobRow, JobStatus, RowStatus
from journal.run.limits import Limits
from journal.run.outcome import Outcome
from journal.service import JobService, existing_job
from journal.store.transitions import Policy

Tell = Callable[[str], object]

_MOST_WAITING = 100_000  # rows that wait for another attempt; beyond that no new ones are taken
_FOUND_AT_ONCE = 100
_LOOK_AGAIN_S = 0.5  # at the end of the rows: whether others have put some back
_LOST_ATTEMPTS = 3  # of a row whose workers die, where interrupted rows are repeated

# What becomes of a row, by the kind of its outcome.
_STATUSES = {
    "completed": (RowStatus.COMPLETED,),
    "skipped": (RowStatus.SKIPPED,),
    "review": (RowStatus.NEEDS_REVIEW,),
    "unstarted": (RowStatus.PENDING,),
    "failed": (RowStatus.FAILED, RowStatus.PENDING),
    "lost": (RowStatus.FAILED, RowStatus.PENDING, RowStatus.NEEDS_REVIEW),
}
_OPEN_KINDS = ("review", "failed", "lost")  # of which the error code tells whose word it was


class RowQueue:
    """The pending rows of one job, for one run. Not thread-safe."""

    def __init__(
        self, service: JobService, job_id: str, limits: Limits, on_interrupted: Policy
    ) -> None:
        self._service = service
        self._job_id = job_id
        self._limits = limits
        self._on_interrupted = on_interrupted
        self._position = 0
        self._found: deque[FoundRow] = deque()  # pending when we looked
        self.is_past_fresh = False  # those that were never started, which come first
        self._passed_by = False  # others among them
        self._at_end = False
        self._look_again_s = 0.0
        self._due: list[tuple[float, int]] = []  # a heap: when a row may be tried again
        self._waiting: dict[int, float] = {}  # until when

    @property
    def next_due_s(self) -> float | None:
        """When the next row that waits for another attempt is due, by the monotonic clock."""
        return self._due[0][0] if self._due else None

    def is_lost(self) -> bool:
        """Whether what is at the job's path is sure not to be what this service holds."""
        try:
            return self._service.has_lost_run(self._job_id)
        except JournalError:
            return False

    def has_fresh(self) -> bool:
        """Whether rows are left that were never started."""
        found = self._peek()
        return found is not None and found.is_fresh

    def start(self, count: int, job: Job, *, fresh_first: bool = False) -> list[JobRow]:
        """Start up to ``count`` rows: set them to processing, and return them.

        Those that were never started come first, and then those of earlier runs. What waits for
        another attempt of this one comes when it is due or, with ``fresh_first``, behind the first.
        ``job``: as it is now. It is over once none of its rows is pending.
        """
        if self._at_end and job.pending_count and monotonic() >= self._look_again_s:
            self._rewind()  # another process may have put rows back, or added some
        started: list[JobRow] = []
        while len(started) < count:
            number, attempts = self._next(fresh_first=fresh_first)
            if not number:
                break
            row_id = f"{self._job_id}:{number}"
            try:
                if attempts >= self._limits.max_attempts > 1 and self._is_used_up(row_id):
                    continue
                started.append(self._service.start_row(row_id))
            except InvalidStateTransition:
                continue  # another process has settled it
        return started

    def _next(self, *, fresh_first: bool) -> tuple[int, int]:
        """The number of the next row, and its attempts so far; (0, 0) if there is none now."""
        if self._due and not (fresh_first and self.has_fresh()):
            while self._due and self._due[0][0] <= monotonic():
                due_s, number = heapq.heappop(self._due)
                if self._waiting.get(number) == due_s:  # else it was taken back, or put off anew
                    del self._waiting[number]
                    if self._is_pending(number):  # and not settled by somebody else meanwhile
                        return number, 0  # its attempts are counted where they end
        found = self._peek() if len(self._waiting) < _MOST_WAITING else None
        if found is None:
            return 0, 0
        self._found.popleft()
        return found.row_number, found.attempts

    def _is_pending(self, number: int) -> bool:
        row = self._service.get_row(f"{self._job_id}:{number}")
        return row is not None and row.status is RowStatus.PENDING

    def _peek(self) -> FoundRow | None:
        """The row that is next in the job, if any: first the fresh ones, then the others."""
        while not self._at_end:
            if not self._found:
                self._find()
                continue
            found = self._found[0]
            if found.row_number not in self._waiting:
                if found.is_fresh or self.is_past_fresh:
                    return found
                self._passed_by = True
            self._found.popleft()
        return None

    def _find(self) -> None:
        """Look for more pending rows: once for fresh ones, and again for those passed by."""
        self._found.extend(
            self._service.find_rows(self._job_id, RowStatus.PENDING, self._position, _FOUND_AT_ONCE)
        )
        if self._found:
            self._position = self._found[-1].position + 1
        elif self._passed_by and not self.is_past_fresh:
            self._position = 0
            self.is_past_fresh = True
        else:
            self._at_end = self.is_past_fresh = True

    def _rewind(self) -> None:
        self._look_again_s = monotonic() + _LOOK_AGAIN_S
        self._position = 0
        self._found.clear()
        self.is_past_fresh = self._passed_by = self._at_end = False

    def _is_used_up(self, row_id: str) -> bool:
        """Fail a row that has died of its last attempt in an earlier run.

        A row that somebody has put back, which says no error, gets one more.
        """
        row = self._service.get_row(row_id)
        if row is None or row.error_code is None:
            return False
        self._service.fail_row(row_id, row.error_code, row.error_message or "")
        return True

    def settle(self, row: JobRow, outcome: Outcome, unstarted_wait_s: float = 0.0) -> bool:
        """Record how an attempt has ended; whether the row is to be tried again.

        Then it isn't taken before it is due. Raises InvalidStateTransition if another process has
        settled it.
        """
        delay_s = self._record(row, outcome, unstarted_wait_s)
        if delay_s is None:
            return False
        due_s = monotonic() + delay_s
        self._waiting[row.row_number] = due_s
        heapq.heappush(self._due, (due_s, row.row_number))
        return True

    def settle_once(self, row: JobRow, outcome: Outcome) -> bool:
        """As :meth:`settle`, but of an attempt that may be settled already; whether it is now.

        False if somebody has settled it otherwise. A commit that was interrupted may be there.
        """
        with self._service.batch(self._job_id):
            now = self._service.get_row(row.id)
            if now is None:
                return False
            if now.attempts == row.attempts and now.status is RowStatus.PROCESSING:
                self.settle(row, outcome)
                return True
        return now.attempts > row.attempts or _says(now, outcome)

    def _record(self, row: JobRow, outcome: Outcome, unstarted_wait_s: float) -> float | None:
        """What :meth:`settle` records; after how many seconds the row is to be tried again."""
        service = self._service
        match outcome.kind:
            case "completed":
                service.complete_row(
                    row.id,
                    outcome.tracking_number,
                    outcome.label_path,
                    outcome.cost_cents,
                    result=outcome.result,
                )
            case "skipped":
                service.skip_row(row.id, outcome.reason)
            case "review":
                service.review_row(row.id, outcome.error_code, outcome.error_message)
            case "unstarted":
                service.give_back_row(row.id)
                return unstarted_wait_s
            case "failed" | "lost":
                return self._settle_failure(row, outcome)
        return None

    def _settle_failure(self, row: JobRow, outcome: Outcome) -> float | None:
        code, message = outcome.error_code, outcome.error_message
        attempts = row.attempts - row.earlier_attempts
        again = outcome.retryable and attempts < self._limits.max_attempts
        if outcome.kind == "lost":
            if self._on_interrupted == "review":
                self._service.review_row(row.id, code, message)
                return None
            most = max(self._limits.max_attempts, _LOST_ATTEMPTS)
            again = self._on_interrupted == "retry" and attempts < most
        if again and not self._has_ended():
            self._service.retry_row(row.id, code, message)
            return self._limits.delay_s(attempts) if outcome.after_s is None else outcome.after_s
        self._service.fail_row(row.id, code, message, unknown=outcome.kind == "lost")
        return None

    def _has_ended(self) -> bool:
        job = self._service.get_job(self._job_id)
        return job is None or job.status in TERMINAL_STATUSES


def _says(row: JobRow, outcome: Outcome) -> bool:
    """Whether the row is as that outcome leaves it."""
    if outcome.kind in _OPEN_KINDS and row.error_code != outcome.error_code:
        return False
    return row.status in _STATUSES[outcome.kind]


def start_run(
    service: JobService,
    job_id: str,
    on_interrupted: Policy,
    resume_command: str,
    version: str | None,
    tell: Tell,
) -> None:
    """Start the job, to be let go of by :meth:`JobService.release_run`.

    ``tell`` is given a warning first, if another host ran it last: nothing is changed by then.
    """
    job = existing_job(service, job_id)
    if job.hosts and job.hosts[-1] != system.host_name():
        tell(
            f"{job_id}: was last run on {job.hosts[-1]}; make sure that nothing of that run is "
            "still at work there"
        )
    command = _from_here(resume_command)
    service.start_job(
        job_id, on_interrupted, keep_lock=True, resume_command=command, version=version
    )


def _from_here(command: str) -> str:
    """The command as it can be typed anywhere: what it names is named from where we are."""
    try:
        return f"cd {shlex.quote(os.getcwd())} && {command}" if command else ""
    except FileNotFoundError:  # a directory that was removed under us
        return command


def lost_words(service: JobService, job_id: str) -> str:
    """Why a run ends that no longer holds the lock of what is at the job's path."""
    return (
        f"{service.root / job_id} was moved or replaced, or another run works on the same files: "
        "make sure that only one of them goes on"
    )


def unrecorded_words(row: JobRow, outcome: Outcome, error: JournalError | str) -> str:
    """What a person must know of a row whose outcome the journal doesn't hold."""
    said = outcome.tracking_number or outcome.result or outcome.error_message or outcome.reason
    text = str("" if said is None else said)[:1000]
    return (
        f"row {row.id} ended as {outcome.kind} {outcome.error_code}".rstrip()
        + f" and this could not be recorded ({error}); it said: {text!r}"
    )


def end_job(service: JobService, job_id: str) -> Job:
    """Give a running job that nobody works on the status that its rows call for.

    Completed, or failed if a row failed or needs a review, once none is open; else paused. If
    another process has moved the job, its word stands.
    """
    job = existing_job(service, job_id)
    if job.status is not JobStatus.RUNNING:
        return job
    if job.pending_count or job.processing_count:
        target = JobStatus.PAUSED
    elif job.failed_rows or job.needs_review_count:
        target = JobStatus.FAILED
    else:
        target = JobStatus.COMPLETED
    try:
        return service.update_status(job_id, target)
    except InvalidStateTransition:  # another process was faster
        return service.get_job(job_id) or job
