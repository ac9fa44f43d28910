"""The exit codes of the command line, and the exit code of each error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any

import click

from journal import errors
from journal.cli.output import echo_err
from journal.errors import JournalError

EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_USAGE = 2
EXIT_ROWS_OPEN = 3
EXIT_REFUSED = 4
EXIT_BUSY = 5
EXIT_DAMAGED = 6
EXIT_TIMED_OUT = 124  # as of timeout(1)
EXIT_INTERRUPTED = 130  # as shells: 128 + SIGINT
EXIT_CLOSED_PIPE = 141  # as shells: 128 + SIGPIPE

_EXIT_CODES: dict[type[JournalError], int] = {
    errors.InvalidValueError: EXIT_USAGE,
    errors.RowChangedError: EXIT_USAGE,
    errors.StoreError: EXIT_USAGE,
    errors.CopiesDivergedError: EXIT_ROWS_OPEN,
    errors.AttemptEndedError: EXIT_REFUSED,
    errors.InvalidStateTransition: EXIT_REFUSED,
    errors.JobExistsError: EXIT_REFUSED,
    errors.JobMismatchError: EXIT_REFUSED,
    errors.JobNotFoundError: EXIT_REFUSED,
    errors.RowNotFoundError: EXIT_REFUSED,
    errors.StepInDoubtError: EXIT_REFUSED,
    errors.StepRepeatedError: EXIT_REFUSED,
    errors.JobBusyError: EXIT_BUSY,
    errors.JobLockedError: EXIT_BUSY,
    errors.FormatVersionError: EXIT_DAMAGED,
    errors.JournalDamagedError: EXIT_DAMAGED,
    errors.PackError: EXIT_DAMAGED,
}


def exit_code_of(error: JournalError) -> int:
    """Return the exit code for an error.

    It is 1 for an unexpected error, and if the system refused something.
    """
    codes = (code for kind, code in _EXIT_CODES.items() if isinstance(error, kind))
    return next(codes, EXIT_UNEXPECTED)


def exit_code_of_store(met: Iterable[JournalError]) -> int:
    """The exit code of a command that skips unreadable jobs of a store.

    The exit code is 6 if the store holds anything that this version can't read as a job.
    """
    # Here, such jobs count as damaged. Elsewhere, the same errors have other exit codes.
    unreadable = (errors.JobMismatchError, errors.StorageError)
    codes = (
        EXIT_DAMAGED if isinstance(error, unreadable) else exit_code_of(error) for error in met
    )
    return max(codes, default=EXIT_OK)


class Refused(click.ClickException):
    """Ends a command that refuses to do what was asked. Nothing was changed."""

    exit_code = EXIT_REFUSED

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002  (click's signature)
        echo_err(f"journal: {self.message}")


class NoVerdict(Refused):
    """Ends a comparison that failed. The exit code is 6, since 1 means that one copy is ahead."""

    exit_code = EXIT_DAMAGED
