"""rowjournal: an embedded, file-based job journal that survives whatever dies.

>>> import journal
>>> with journal.JobService("jobs") as service:  # doctest: +SKIP
...     job = service.create_job("Ship CA orders")
...     rows = service.create_rows(job.id, [{"data": {"order": "A-1"}}])
"""

from journal.errors import (
    CommitOutcomeUnknownError,
    FormatVersionError,
    InvalidStateTransition,
    InvalidValueError,
    JobBusyError,
    JobExistsError,
    JobLockedError,
    JobMismatchError,
    JobNotFoundError,
    JournalDamagedError,
    JournalError,
    NothingToSalvageError,
    RowChangedError,
    RowNotFoundError,
    ServiceClosedError,
    StorageError,
    StoreError,
)
from journal.model import (
    VALID_ROW_TRANSITIONS,
    VALID_TRANSITIONS,
    FoundRow,
    Job,
    JobRow,
    JobStatus,
    JobSummary,
    RowStatus,
    RunHolder,
)
from journal.service import JobService

__version__ = "0.1.0"

__all__ = [
    "VALID_ROW_TRANSITIONS",
    "VALID_TRANSITIONS",
    "CommitOutcomeUnknownError",
    "FormatVersionError",
    "FoundRow",
    "InvalidStateTransition",
    "InvalidValueError",
    "Job",
    "JobBusyError",
    "JobExistsError",
    "JobLockedError",
    "JobMismatchError",
    "JobNotFoundError",
    "JobRow",
    "JobService",
    "JobStatus",
    "JobSummary",
    "JournalDamagedError",
    "JournalError",
    "NothingToSalvageError",
    "RowChangedError",
    "RowNotFoundError",
    "RowStatus",
    "RunHolder",
    "ServiceClosedError",
    "StorageError",
    "StoreError",
]
