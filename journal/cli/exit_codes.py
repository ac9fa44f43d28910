"""What the exit codes of the command mean."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any

import click

from journal.cli.output import tell
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
EXIT_INTERRUPTED = 130  # as shells say it: 128 + SIGINT,
EXIT_CLOSED_PIPE = 141  # and SIGPIPE

_EXIT_CODES: tuple[tuple[tuple[type[JournalError], ...], int], ...] = (
    ((InvalidValueError, RowChangedError, StoreError), EXIT_USAGE),
    (
        (
            InvalidStateTransition,
            JobExistsError,
            JobMismatchError,
            JobNotFoundError,
            RowNotFoundError,
        ),
        EXIT_REFUSED,
    ),
    ((CopiesDivergedError,), EXIT_ROWS_OPEN),
    ((JobBusyError, JobLockedError), EXIT_BUSY),
    ((FormatVersionError, JournalDamagedError, PackError), EXIT_DAMAGED),
)


def exit_code_of(error: JournalError) -> int:
    """The exit code that an error means; 1 for what only the system can have caused."""
    for kinds, code in _EXIT_CODES:
        if isinstance(error, kinds):
            return code
    return EXIT_UNEXPECTED


def exit_code_of_store(errors: Iterable[JournalError]) -> int:
    """The exit code of a command that goes on past what it can't read in a store.

    6 for whatever lies there and is no job that this version can read.
    """
    unreadable = (JournalDamagedError, JobMismatchError, FormatVersionError, StorageError)
    return max(
        (
            EXIT_DAMAGED if isinstance(error, unreadable) else exit_code_of(error)
            for error in errors
        ),
        default=EXIT_OK,
    )


class NoVerdict(click.ClickException):
    """What was to be compared can't be read: 1 would say that one is ahead of the other."""

    exit_code = EXIT_DAMAGED

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002  (click's)
        tell(f"journal: {self.message}")


class Refused(click.ClickException):
    """What was asked for isn't allowed as things stand; nothing was changed."""

    exit_code = EXIT_REFUSED

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002  (click's)
        tell(f"journal: {self.message}")
