"""The exit codes that commands choose themselves.

Those of errors are in ``errors``, that of a job is ``job_exit_code()`` in ``model``, and that of a
run is ``RunReport.exit_code`` in ``run/run_report``.
"""

from __future__ import annotations

from journal.errors import RefusedError, UnreadableError

EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_NEEDS_PERSON = 3  # as of job_exit_code()
EXIT_REFUSED = RefusedError.exit_code
EXIT_DAMAGED = UnreadableError.exit_code
EXIT_TIMED_OUT = 124  # as of timeout(1)
EXIT_INTERRUPTED = 130  # as shells: 128 + SIGINT
EXIT_CLOSED_PIPE = 141  # as shells: 128 + SIGPIPE
