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

MAX_STATUS = _system.MAX_STATUS  # the maximum exit status

Environment = dict[Any, Any]  # of str on Windows, of bytes on POSIX


class Process(Protocol):
    """A command that was started, and all processes that it has started.

    ``close`` must be called one time. After that, no method may be called. Any thread or signal
    handler may call ``end``.
    """

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the command has ended.

        Processes that it has started may still run. Returns False if the timeout has passed.
        """
        ...

    def end(self, *, force: bool) -> None:
        """Ask all processes of the command to end; with ``force``, end them.

        Does nothing if the processes have ended. Until ``close`` is called, no other process can be
        ended by mistake.
        """
        ...

    def close(self) -> int:
        """Return the exit status of the command, which must have ended.

        Processes that the command has started in the background continue to run.

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

    - POSIX: the command leads a session of its own. If this process is killed, the command
      continues.
    - Windows: the command leads a process group of its own. It is in a job object, whose processes
      end when this process ends. A .bat or .cmd file is run by cmd. Any other file must be a
      program.

    Raises OSError and ValueError if the command can't be started.
    """
    return _system.start(argv, environment, stdin=stdin, stdout=stdout, stderr=stderr)


def command_line(argv: Sequence[str]) -> tuple[str | None, str | Sequence[str]]:
    """The arguments ``executable`` and ``args`` of :class:`subprocess.Popen` for a command.

    The command stays in the group of this process. Raises OSError and ValueError as :func:`start`
    does.
    """
    return _system.command_line(argv)


def wait(popen: subprocess.Popen[bytes]) -> int:
    """Wait for a command that was started by Popen.

    Signals are handled while this function waits. Returns the command's status.
    """
    return _system.wait(popen)


def find_program(name: str) -> str | None:
    """The path of a program.

    ``name``: a name on PATH, or a path. Returns None if no such program can be started.
    """
    return _system.find_program(name)


def why_not_started(name: str) -> str:
    """Text that says why an existing file isn't a program, and what to do."""
    return _system.why_not_started(name)


def environment() -> Environment:
    """A copy of this process's environment, in the form that :func:`start` takes."""
    return _system.environment()


def variables(texts: Mapping[str, str]) -> Environment:
    """Variables in the form of :func:`environment`."""
    return _system.variables(texts)


def is_lack_of_resources(error: OSError | ValueError) -> bool:
    """Whether a command wasn't started because this process or the system lacks resources."""
    return isinstance(error, OSError) and _system.is_lack_of_resources(error)


def status_code(status: int) -> str:
    """The exit status as an error code: a number, or the name of the signal that ended it."""
    return _system.status_code(status)


def is_of_signal(status: int) -> bool:
    """Whether a signal ended the command.

    Also true if the command is a shell, and its exit status says that a signal ended the command
    that the shell ran last.
    """
    return _system.is_of_signal(status)


def is_of_console(status: int) -> bool:
    """Whether an event of the console ended the command.

    On Windows, such events reach this process and also its commands.
    """
    return _system.is_of_console(status)


def exit_code(status: int) -> int:
    """The exit code of this process after its command has ended with ``status``."""
    return _system.exit_code(status)


def keep_exit_statuses() -> None:
    """Undo an inherited setting by which the system discards exit statuses.

    For the main thread only.
    """
    _system.keep_exit_statuses()
