"""The exit codes of the command line, and which errors have which."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any

import click

from journal.cli.output import echo_err
from journal.errors import (
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
    PackError,
    RowChangedError,
    RowNotFoundError,
    StorageError,
    StoreError,
)

EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_USAGE = 2
EXIT_ROWS_OPEN = 3
EXIT_REFUSED = 4
EXIT_BUSY = 5
EXIT_DAMAGED = 6
EXIT_TIMED_OUT = 124  # as timeout(1)
EXIT_INTERRUPTED = 130  # as shells: 128 + SIGINT
EXIT_CLOSED_PIPE = 141  # as shells: 128 + SIGPIPE

_EXIT_CODES: dict[type[JournalError], int] = {
    InvalidValueError: EXIT_USAGE,
    RowChangedError: EXIT_USAGE,
    StoreError: EXIT_USAGE,
    CopiesDivergedError: EXIT_ROWS_OPEN,
    InvalidStateTransition: EXIT_REFUSED,
    JobExistsError: EXIT_REFUSED,
    JobMismatchError: EXIT_REFUSED,
    JobNotFoundError: EXIT_REFUSED,
    RowNotFoundError: EXIT_REFUSED,
    JobBusyError: EXIT_BUSY,
    JobLockedError: EXIT_BUSY,
    FormatVersionError: EXIT_DAMAGED,
    JournalDamagedError: EXIT_DAMAGED,
    PackError: EXIT_DAMAGED,
}


def exit_code_of(error: JournalError) -> int:
    """The exit code for an error. Errors that only the system can have caused have 1."""
    codes = (code for kind, code in _EXIT_CODES.items() if isinstance(error, kind))
    return next(codes, EXIT_UNEXPECTED)


def exit_code_of_store(errors: Iterable[JournalError]) -> int:
    """The exit code of a command that skips unreadable jobs of a store.

    It is 6 if the store holds anything that this version can't read as a job.
    """
    unreadable = (JournalDamagedError, JobMismatchError, FormatVersionError, StorageError)
    codes = (
        EXIT_DAMAGED if isinstance(error, unreadable) else exit_code_of(error) for error in errors
    )
    return max(codes, default=EXIT_OK)


class Refused(click.ClickException):
    """Ends a command that refuses to do what was asked. Nothing was changed."""

    exit_code = EXIT_REFUSED

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002  (click's signature)
        echo_err(f"journal: {self.message}")


class NoVerdict(Refused):
    """Ends a comparison of unreadable copies, since exit code 1 means that one copy is ahead."""

    exit_code = EXIT_DAMAGED
