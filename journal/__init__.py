"""rowjournal: an embedded, file-based job journal that survives whatever dies.

>>> import journal
>>> with journal.JobService("jobs") as service:  # doctest: +SKIP
...     job = service.create_job("Ship CA orders")
...     rows = service.create_rows(job.id, [{"data": {"order": "A-1"}}])
"""

from __future__ import annotations

import importlib

from journal.version import VERSION

TYPE_CHECKING = False  # that of typing, which takes longer to import than all of this
if TYPE_CHECKING:
    from journal.attempts import Attempt, AttemptedRow
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
    from journal.jobrun import JobRun, open_job
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
    from journal.outcome import Fail, NeedsReview, Retry, RowResult, Skip
    from journal.replay import Position
    from journal.run import RunReport
    from journal.service import JobService

# Where the names are looked for, in this order, when they are asked for: a look at a job needs no
# threads, executors or event loops, and a command that is interrupted while it imports can say so.
_MODULES = (
    *("errors", "model", "replay", "history", "service"),
    *("outcome", "attempts", "run", "jobrun"),
)


if not TYPE_CHECKING:  # which would believe that there is whatever is asked for

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return importlib.import_module(f"journal.{name}")
        if name in __all__:
            for module in _MODULES:
                found = getattr(importlib.import_module(f"journal.{module}"), name, None)
                if found is not None:
                    globals()[name] = found
                    return found
        raise AttributeError(f"module 'journal' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


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
