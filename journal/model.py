"""Jobs, rows, their statuses, and the only two tables of what may follow what."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict

import msgspec

from journal.errors import InvalidValueError


class JobStatus(StrEnum):
    """What a job is doing.

    ``completed``, ``failed`` and ``cancelled`` end a pass: see :meth:`JobService.reopen_job`.
    """

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"


class RowStatus(StrEnum):
    """What happened to a row.

    ``processing`` is an attempt under way; if its process died it becomes ``needs_review``:
    whether the side effect happened is unknown. ``completed`` is final, so that nothing counts
    twice: see :meth:`JobService.redo_row`.
    """

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    NEEDS_REVIEW = "needs_review"


TERMINAL_STATUSES = frozenset((JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED))

# Within a pass. JobService.reopen_job() begins another one, and is no transition. One exemption: a
# failed job whose last open, failed or doubtful row is settled by hand becomes completed.
VALID_TRANSITIONS: Mapping[JobStatus, tuple[JobStatus, ...]] = MappingProxyType(
    {
        JobStatus.PENDING: (JobStatus.RUNNING, JobStatus.CANCELLED),
        JobStatus.RUNNING: (
            JobStatus.COMPLETED,
            JobStatus.FAILED,
            JobStatus.CANCELLED,
            JobStatus.PAUSED,
        ),
        JobStatus.PAUSED: (JobStatus.RUNNING, JobStatus.CANCELLED),
        JobStatus.COMPLETED: (),
        JobStatus.FAILED: (),
        JobStatus.CANCELLED: (),
    }
)

VALID_ROW_TRANSITIONS: Mapping[RowStatus, tuple[RowStatus, ...]] = MappingProxyType(
    {
        RowStatus.PENDING: (
            RowStatus.PROCESSING,
            RowStatus.COMPLETED,
            RowStatus.FAILED,
            RowStatus.SKIPPED,
        ),
        RowStatus.PROCESSING: (
            RowStatus.COMPLETED,
            RowStatus.FAILED,
            RowStatus.SKIPPED,
            RowStatus.PENDING,
            RowStatus.NEEDS_REVIEW,
        ),
        RowStatus.FAILED: (RowStatus.PROCESSING, RowStatus.PENDING, RowStatus.SKIPPED),
        RowStatus.NEEDS_REVIEW: (
            RowStatus.PENDING,
            RowStatus.COMPLETED,
            RowStatus.FAILED,
            RowStatus.SKIPPED,
        ),
        RowStatus.SKIPPED: (RowStatus.PENDING,),
        RowStatus.COMPLETED: (),
    }
)


LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as of one commit.

    Times are aware datetimes in UTC. ``total_cost_cents`` is the sum over all completions.
    ``processed_rows`` is completed plus failed; each ``_count`` is the number of rows of that
    status. ``passes`` is 1, and one more for each time that the job was reopened, which was at
    ``reopened_at``; ``created_at`` and ``started_at`` are of the first, ``completed_at`` and the
    error of the last. ``pass_started_at`` is when the pass under way was started, and ``worked_s``
    (seconds) how long those that have ended took, each from its start to its end. ``key`` is the
    column by which rows were known when the job was made, ``idempotency_key`` the one that holds
    their idempotency keys ("": each row was added with its own). ``retry_of`` is the id of the job
    whose unfinished rows this one took over, as older versions did it.
    ``repaired``: a repair has lost lines, so rows may be missing. ``metadata`` is the caller's own
    JSON object. ``hosts``: where its runs were started, the last one last; ``resume_command`` is
    what to type, in any directory, to go on with the last one.
    """

    id: str
    name: str
    original_command: str = ""
    description: str | None = None
    mode: str = "confirm"
    metadata: dict[str, Any] | None = None
    key: str | None = None
    idempotency_key: str | None = None
    retry_of: str | None = None
    passes: int = 1
    reopened_at: tuple[datetime, ...] = ()
    status: JobStatus = JobStatus.PENDING
    total_rows: int = 0
    processed_rows: int = 0
    successful_rows: int = 0
    failed_rows: int = 0
    pending_count: int = 0
    processing_count: int = 0
    skipped_count: int = 0
    needs_review_count: int = 0
    total_cost_cents: int = 0
    error_code: str | None = None
    error_message: str | None = None
    repaired: bool = False
    hosts: tuple[str, ...] = ()
    resume_command: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    pass_started_at: datetime | None = None
    worked_s: float = 0.0
    completed_at: datetime | None = None
    updated_at: datetime

    def pass_of(self, at: datetime) -> int:
        """The pass in which that moment lies, from 1."""
        return 1 + bisect_right(self.reopened_at, at)


def done_rows(job: Job) -> int:
    """How many rows of a job are done: completed or skipped. Failed ones are to be done."""
    return job.successful_rows + job.skipped_count


class JobRow(msgspec.Struct, frozen=True):
    """A row as of one commit.

    ``id`` is ``JOB_ID:ROW_NUMBER``, for good. ``idempotency_key`` is what to give to the far side:
    the same for every attempt and in every copy of the job, and of no other row. ``attempts``
    counts how often the row was started; ``earlier_attempts`` are those of them before it was last
    retried or redone, which count for no limit. ``processed_at`` is when it was completed, failed
    or skipped; ``updated_at`` when its status last changed. ``label_path`` is as the caller gave
    it, by custom relative to the job's directory. ``reason`` says why it was skipped, or is to be done
    again. The error of a pending row is that of the attempt which is to be repeated. ``unknown``:
    it failed, and nobody knows whether it took effect. ``version`` is that of the run in which the
    attempt began that is under way or ended with this status: None if no attempt did.
    ``row_checksum`` is of the row's last input; its ``data`` may have been
    changed since, by :meth:`JobService.update_row_data`.
    """

    id: str
    job_id: str
    row_number: int
    row_checksum: str
    data: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    status: RowStatus = RowStatus.PENDING
    attempts: int = 0
    tracking_number: str | None = None
    label_path: str | None = None
    cost_cents: int | None = None
    result: Any = None
    error_code: str | None = None
    error_message: str | None = None
    reason: str | None = None
    processed_at: datetime | None = None
    idempotency_key: str = ""
    earlier_attempts: int = 0
    version: str | None = None
    unknown: bool = False


class FoundRow(NamedTuple):
    """Where a row stands in its job: what :meth:`JobService.find_rows` knows without reading it.

    ``position`` counts from 0 in the order in which the rows were made; ``attempts`` are those
    since the row was last retried or redone, ``is_fresh`` says that it was never started.
    """

    position: int
    row_number: int
    attempts: int
    is_fresh: bool


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody has written into a job's log, for people.

    ``at`` is an aware datetime in UTC. ``level`` is one of :data:`LOG_LEVELS`; ``row_number`` the
    row that it is about, if it is about one; ``details`` the writer's own JSON object.
    """

    at: datetime
    level: str
    message: str
    row_number: int | None = None
    details: dict[str, Any] | None = None


class JobSummary(TypedDict):
    """Counts, status and times of a job, ready for ``json.dumps``; times are ISO 8601 text."""

    total_rows: int
    processed_rows: int
    successful_rows: int
    failed_rows: int
    pending_count: int
    processing_count: int
    skipped_count: int
    needs_review_count: int
    total_cost_cents: int
    status: str
    created_at: str
    started_at: str | None
    completed_at: str | None


class RunHolder(msgspec.Struct, frozen=True):
    """Who holds a job's run lock; ``started_at`` is ISO 8601 text."""

    host: str = ""
    pid: int = 0
    started_at: str = ""


def job_exit_code(job: Job) -> int:
    """For ``sys.exit``: 0 if all rows are completed or skipped; see `journal help exceptions`.

    3: some failed or need a review; 4: rows are open, whatever the job's status says.
    """
    if job.failed_rows or job.needs_review_count:
        return 3
    if job.successful_rows + job.skipped_count == job.total_rows:
        return 0
    # Counts that were set by hand may say anything; rows may be open after a merge.
    is_open = job.pending_count or job.processing_count
    return 0 if job.status is JobStatus.COMPLETED and not is_open else 4


def job_status(value: JobStatus | str, where: str = "status") -> JobStatus:
    """The enum for a status given as itself or as its text."""
    try:
        return JobStatus(value if isinstance(value, str) else "")
    except ValueError:
        raise InvalidValueError(where, value, f"must be one of {', '.join(JobStatus)}") from None


def row_status(value: RowStatus | str, where: str = "status") -> RowStatus:
    """The enum for a row status given as itself or as its text."""
    try:
        return RowStatus(value if isinstance(value, str) else "")
    except ValueError:
        raise InvalidValueError(where, value, f"must be one of {', '.join(RowStatus)}") from None


def row_statuses(
    value: RowStatus | str | Collection[RowStatus | str] | None, where: str = "status"
) -> frozenset[RowStatus] | None:
    """The enums for a status or a collection of them; None, for all, stays None."""
    if value is None:
        return None
    if isinstance(value, (str, bytes)) or not isinstance(value, Collection):
        return frozenset((row_status(value, where),))
    return frozenset(row_status(each, where) for each in value)


def log_level(value: str, where: str = "level") -> str:
    """One of :data:`LOG_LEVELS`, written as there, for a level in any case."""
    level = str.upper(value) if isinstance(value, str) else ""
    if level not in LOG_LEVELS:
        raise InvalidValueError(where, value, f"must be one of {', '.join(LOG_LEVELS)}")
    # The very string that is the record's default: msgspec knows a default to omit by identity.
    return LOG_LEVELS[LOG_LEVELS.index(level)]


def is_at_least(level: str, lowest: str) -> bool:
    """Whether ``level`` is as grave as ``lowest`` or graver."""
    return LOG_LEVELS.index(level) >= LOG_LEVELS.index(lowest)
