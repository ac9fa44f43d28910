"""The exit codes of the command line. The exit codes of errors are in ``errors.py``."""

from __future__ import annotations

from journal.errors import RefusedError, UnreadableError

EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_ROWS_OPEN = 3
EXIT_REFUSED = RefusedError.exit_code
EXIT_DAMAGED = UnreadableError.exit_code
EXIT_TIMED_OUT = 124  # as of timeout(1)
EXIT_INTERRUPTED = 130  # as shells: 128 + SIGINT
EXIT_CLOSED_PIPE = 141  # as shells: 128 + SIGPIPE
