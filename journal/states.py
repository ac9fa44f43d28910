"""How a job stands, in a word."""

from __future__ import annotations

from journal.errors import StorageError
from journal.model import Job, JobStatus
from journal.service import JobService


def state_of(service: JobService, job: Job) -> str:
    """The job's status; "interrupted" for a running job whose run died, "unknown" if hidden."""
    try:
        if job.status is JobStatus.RUNNING and service.run_holder(job.id) is None:
            return "interrupted"
    except StorageError:
        return "unknown"  # it may not be looked at, and must not hide other jobs
    return job.status.value
