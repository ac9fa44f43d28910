"""Starts commands, ends them with all processes that they started, and says how they ended.

process = start(argv, environment(), stdin=stdin, stdout=output, stderr=errors)
process.wait()
status = process.close()

``posix`` describes all of these functions. Those of Windows do the same by other calls.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from journal.run.platform import windows as _system
else:
    from journal.run.platform import posix as _system

MAX_STATUS = _system.MAX_STATUS  # the maximum exit status

Environment = _system.Environment
Process = _system.Process
start = _system.start
environment = _system.environment
variables = _system.variables
is_lack_of_resources = _system.is_lack_of_resources
keep_exit_statuses = _system.keep_exit_statuses

status_code = _system.status_code
is_of_signal = _system.is_of_signal
is_of_console = _system.is_of_console
exit_code = _system.exit_code

command_line = _system.command_line
wait = _system.wait
find_program = _system.find_program
why_not_started = _system.why_not_started
