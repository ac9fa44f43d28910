"""All exit codes of `journal`, of jobs and of runs. The exit codes of errors are in ``errors``."""

from __future__ import annotations

from journal.errors import RefusedError, UnreadableError
from journal.model import Job, JobStatus

EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_NEEDS_PERSON = 3  # rows failed or need a review, or damage needs a decision
EXIT_OPEN = 4  # rows are still open
EXIT_REFUSED = RefusedError.exit_code
EXIT_DAMAGED = UnreadableError.exit_code
EXIT_TIMED_OUT = 124  # as timeout(1)
EXIT_INTERRUPTED = 130  # as shells: 128 + SIGINT
EXIT_CLOSED_PIPE = 141  # as shells: 128 + SIGPIPE


def job_exit_code(job: Job) -> int:
    """The exit code for a job, for ``sys.exit``. `journal help exceptions` lists all exit codes.

    - 0: all rows are completed or skipped.
    - 3: some rows failed or need a review.
    - 4: rows are still open, whatever the job's status is.
    """
    if job.count(*(status for status in job.counts if status.needs_person)):
        return EXIT_NEEDS_PERSON
    if job.done_rows == job.total_rows:
        return EXIT_OK
    # A caller may have set any counts. After a merge, rows may be open in a completed job.
    is_completed = job.status is JobStatus.COMPLETED and not job.open_rows
    return EXIT_OK if is_completed else EXIT_OPEN


def run_exit_code(job: Job, *, reason: str | None, signal: int | None, is_lost: bool) -> int:
    """The exit code for a run with these members of its report."""
    if is_lost:
        return EXIT_OPEN  # the state of the job is unknown
    if not job.status.is_ended:
        if signal is not None:
            return 128 + signal
        if reason is None:
            return EXIT_OPEN  # another process has paused the job
    return job_exit_code(job)
