"""Starts commands, ends them with all processes that they started, and says how they ended.

process = start(argv, environment(), stdin=stdin, stdout=output, stderr=errors)
process.wait()
status = process.close()
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any, Protocol

if sys.platform == "win32":
    from journal.run.platform import windows as _system
else:
    from journal.run.platform import posix as _system

MAX_STATUS = _system.MAX_STATUS  # of an exit

Environment = dict[Any, Any]  # of str or bytes, as the system wants it


class Process(Protocol):
    """A command that was started, and all processes that it has started.

    ``close`` must be called one time, after which no method may be called. Any thread, and a signal
    handler, may call ``end``.
    """

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end of the command, not of what it has started. False: the time is over."""
        ...

    def end(self, *, force: bool) -> None:
        """Ask all processes of the command to end; with ``force``, end them.

        Does nothing if they have ended. Another process can't be hit by mistake until ``close``.
        """
        ...

    def close(self) -> int:
        """The exit status of the command, which must have ended. Processes that it has started in
        the background continue to run.

        The status is negative if a signal ended the command: see :func:`status_code`.
        """
        ...


def start(
    argv: Sequence[str],
    environment: Environment,
    *,
    stdin: IO[bytes] | int,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int,
) -> Process:
    """Start a command that no Ctrl-C of the terminal reaches. No shell is involved.

    - POSIX: it leads a session of its own. If this process is killed, the command goes on.
    - Windows: it leads a process group of its own, in a job object that ends with this process. A
      .bat or .cmd file is run by cmd; others must be programs.

    Raises OSError and ValueError if the command can't be started.
    """
    return _system.start(argv, environment, stdin=stdin, stdout=stdout, stderr=stderr)


def command_line(argv: Sequence[str]) -> tuple[str | None, str | Sequence[str]]:
    """The arguments ``executable`` and ``args`` of :class:`subprocess.Popen`, for a command that
    stays in the group of this process. Raises OSError and ValueError as :func:`start` does.
    """
    return _system.command_line(argv)


def wait(popen: subprocess.Popen[bytes]) -> int:
    """Wait for a command that was started so. Signals are handled meanwhile. Returns its status."""
    return _system.wait(popen)


def find_program(name: str) -> str | None:
    """The path of a program on PATH or at a path; None if there is none that can be started."""
    return _system.find_program(name)


def why_not_started(name: str) -> str:
    """Why an existing file isn't a program, and what to do."""
    return _system.why_not_started(name)


def environment() -> Environment:
    """A copy of this process's environment, in a form that takes no time at each start."""
    return _system.environment()


def variables(texts: Mapping[str, str]) -> Environment:
    """Variables in the same form."""
    return _system.variables(texts)


def is_lack_of_resources(error: OSError | ValueError) -> bool:
    """Whether a command wasn't started because the system, or this process, has no more room."""
    return isinstance(error, OSError) and _system.is_lack_of_resources(error)


def status_code(status: int) -> str:
    """The exit status as an error code: a number, or the name of the signal that ended it."""
    return _system.status_code(status)


def is_of_signal(status: int) -> bool:
    """Whether a signal ended the command, or, by its exit status, a command that a shell ran."""
    return _system.is_of_signal(status)


def is_of_console(status: int) -> bool:
    """Whether an event of the console ended the command, because it reaches commands, too."""
    return _system.is_of_console(status)


def exit_code(status: int) -> int:
    """The exit code by which this process says that its command has ended with the status."""
    return _system.exit_code(status)


def keep_exit_statuses() -> None:
    """Undo what this process has inherited that would discard exit statuses. In the main thread."""
    _system.keep_exit_statuses()
