"""The exit codes of the command line. The exit codes of errors are in ``errors.py``."""

from __future__ import annotations

from collections.abc import Iterable

from journal.errors import (
    JobMismatchError,
    JournalError,
    RefusedError,
    StorageError,
    UnreadableError,
)

EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_ROWS_OPEN = 3
EXIT_REFUSED = RefusedError.exit_code
EXIT_DAMAGED = UnreadableError.exit_code
EXIT_TIMED_OUT = 124  # as of timeout(1)
EXIT_INTERRUPTED = 130  # as shells: 128 + SIGINT
EXIT_CLOSED_PIPE = 141  # as shells: 128 + SIGPIPE


def exit_code_of_store(met: Iterable[JournalError]) -> int:
    """The exit code of a command that skips unreadable jobs of a store.

    The exit code is 6 if the store holds anything that this version can't read as a job.
    """
    # Here, such jobs count as damaged. Elsewhere, the same errors have other exit codes.
    unreadable = (JobMismatchError, StorageError)
    codes = (EXIT_DAMAGED if isinstance(error, unreadable) else error.exit_code for error in met)
    return max(codes, default=EXIT_OK)
