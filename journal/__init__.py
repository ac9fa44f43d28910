"""rowjournal: an embedded, file-based, crash-safe journal of jobs and their rows.

>>> import journal
>>> with journal.JobService("jobs") as service:  # doctest: +SKIP
...     job = service.create_job("Ship CA orders")
...     rows = service.create_rows(job.id, [{"data": {"order": "A-1"}}])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from journal.version import VERSION

if TYPE_CHECKING:
    from journal.errors import (
        BusyError,
        CommitOutcomeUnknownError,
        CopiesDivergedError,
        FormatVersionError,
        InvalidInputError,
        InvalidStateTransition,
        InvalidValueError,
        JobBusyError,
        JobExistsError,
        JobLockedError,
        JobMismatchError,
        JobNotFoundError,
        JobPausedError,
        JobPrunedError,
        JournalDamagedError,
        JournalError,
        MissingExtraError,
        PackError,
        RefusedError,
        RowChangedError,
        RowNotFoundError,
        ServiceClosedError,
        StepInDoubtError,
        StepRepeatedError,
        StorageError,
        SystemFailureError,
        UnreadableError,
    )
    from journal.format.commits import Position
    from journal.history.events import Event
    from journal.history.history import Entry
    from journal.history.row_history import RowAttempt, RowHistory
    from journal.inputs.read import read_rows
    from journal.model import (
        LOG_LEVELS,
        InputSeen,
        Job,
        JobRow,
        JobStatus,
        JobSummary,
        LogEntry,
        RowStatus,
        RowStep,
        RunHolder,
        Shard,
        Tuned,
    )
    from journal.run.open_job import JobRun, open_job
    from journal.run.outcome import Fail, Hold, NeedsReview, Retry, RowResult, Skip, Wait
    from journal.run.run_report import RunReport
    from journal.run.workers.handler import AttemptedRow, Batch
    from journal.run.workers.row_log import RowLogHandler
    from journal.service import JobService
    from journal.store.transitions import VALID_ROW_TRANSITIONS, VALID_TRANSITIONS
    from journal.tables.rows import Rows

# A name is imported from these modules when the name is first used, since reading a job needs no
# threads, executors or event loops.
_MODULES = (
    *("errors", "model", "format.commits", "history.history", "service"),
    *("store.transitions",),
    *("tables.rows", "inputs.read"),
    *(
        "run.outcome",
        "run.workers.row_log",
        "run.workers.handler",
        "run.driver",
        "run.open_job",
        "history.row_history",
    ),
)


if not TYPE_CHECKING:  # otherwise, type checkers would accept any name

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


_NOT_PUBLIC = {"TYPE_CHECKING", "VERSION", "annotations", "importlib", "version"}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - _NOT_PUBLIC)


__version__ = VERSION

__all__ = [
    "LOG_LEVELS",
    "VALID_ROW_TRANSITIONS",
    "VALID_TRANSITIONS",
    "AttemptedRow",
    "Batch",
    "BusyError",
    "CommitOutcomeUnknownError",
    "CopiesDivergedError",
    "Entry",
    "Event",
    "Fail",
    "FormatVersionError",
    "Hold",
    "InputSeen",
    "InvalidInputError",
    "InvalidStateTransition",
    "InvalidValueError",
    "Job",
    "JobBusyError",
    "JobExistsError",
    "JobLockedError",
    "JobMismatchError",
    "JobNotFoundError",
    "JobPausedError",
    "JobPrunedError",
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
    "PackError",
    "Position",
    "RefusedError",
    "Retry",
    "RowAttempt",
    "RowChangedError",
    "RowHistory",
    "RowLogHandler",
    "RowNotFoundError",
    "RowResult",
    "RowStatus",
    "RowStep",
    "Rows",
    "RunHolder",
    "RunReport",
    "ServiceClosedError",
    "Shard",
    "Skip",
    "StepInDoubtError",
    "StepRepeatedError",
    "StorageError",
    "SystemFailureError",
    "Tuned",
    "UnreadableError",
    "Wait",
    "open_job",
    "read_rows",
]
