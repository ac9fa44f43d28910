"""rowjournal: an embedded, file-based job journal that survives whatever dies.

>>> import journal
>>> with journal.JobService("jobs") as service:  # doctest: +SKIP
...     job = service.create_job("Ship CA orders")
...     rows = service.create_rows(job.id, [{"data": {"order": "A-1"}}])
"""

import importlib
from typing import TYPE_CHECKING, Any

from journal.errors import (
    CommitOutcomeUnknownError,
    CopiesDivergedError,
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
    MissingExtraError,
    NothingToSalvageError,
    PackError,
    RowChangedError,
    RowNotFoundError,
    ServiceClosedError,
    StorageError,
    StoreError,
)
from journal.history import Entry
from journal.model import (
    LOG_LEVELS,
    VALID_ROW_TRANSITIONS,
    VALID_TRANSITIONS,
    FoundRow,
    Job,
    JobRow,
    JobStatus,
    JobSummary,
    LogEntry,
    RowStatus,
    RunHolder,
)
from journal.replay import Position
from journal.service import JobService
from journal.version import VERSION

if TYPE_CHECKING:
    from journal.attempts import Attempt, AttemptedRow
    from journal.jobrun import JobRun, open_job
    from journal.outcome import Fail, NeedsReview, Retry, RowResult, Skip
    from journal.run import RunReport

# Imported when they are asked for: a look at a job needs no threads, executors or event loops.
_RUNNING = {
    "Attempt": "journal.attempts",
    "AttemptedRow": "journal.attempts",
    "Fail": "journal.outcome",
    "JobRun": "journal.jobrun",
    "NeedsReview": "journal.outcome",
    "Retry": "journal.outcome",
    "RowResult": "journal.outcome",
    "RunReport": "journal.run",
    "Skip": "journal.outcome",
    "open_job": "journal.jobrun",
}


def __getattr__(name: str) -> Any:
    module = _RUNNING.get(name)
    if module is None:
        raise AttributeError(f"module 'journal' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(module), name)
    return value


__version__ = VERSION

__all__ = [
    "LOG_LEVELS",
    "VALID_ROW_TRANSITIONS",
    "VALID_TRANSITIONS",
    "Attempt",
    "AttemptedRow",
    "CommitOutcomeUnknownError",
    "CopiesDivergedError",
    "Entry",
    "Fail",
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
    "JobRun",
    "JobService",
    "JobStatus",
    "JobSummary",
    "JournalDamagedError",
    "JournalError",
    "LogEntry",
    "MissingExtraError",
    "NeedsReview",
    "NothingToSalvageError",
    "PackError",
    "Position",
    "Retry",
    "RowChangedError",
    "RowNotFoundError",
    "RowResult",
    "RowStatus",
    "RunHolder",
    "RunReport",
    "ServiceClosedError",
    "Skip",
    "StorageError",
    "StoreError",
    "open_job",
]
