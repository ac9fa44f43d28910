"""Processes on POSIX. A command leads a session, and so a process group."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

assert sys.platform != "win32"

MAX_STATUS = 255

_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_OUR_OWN_LIMITS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)

# Bytes, since os.environ would decode each variable for each command.
Environment = dict[bytes, bytes]


class Process:
    """A command that was started, and all processes that it has started.

    ``close`` must be called one time. After that, no method may be called. Any thread or signal
    handler may call ``end``.
    """

    def __init__(self, process_id: int) -> None:
        self._id = process_id
        self._status: int | None = None

    def wait(self) -> None:
        """Wait until the command has ended. Processes that it has started may still run.

        If the system has ``waitid``, the command isn't reaped here. Until the command is reaped, no
        other process can get the id of its process group.
        """
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self._id, os.WEXITED | os.WNOWAIT)
        else:  # macOS before Python 3.13
            self.close()

    def end(self, *, force: bool) -> None:
        """Ask all processes of the command to end. With ``force``, end the processes.

        Does nothing if the processes have ended. Until ``close`` is called, no other process can be
        ended by mistake.
        """
        # PermissionError is raised on macOS if only the ended leader is left in the group. The
        # exception is also raised for set-uid programs.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._id, signal.SIGKILL if force else signal.SIGTERM)

    def close(self) -> int:
        """Return the exit status of the command, which must have ended.

        Processes that the command has started in the background continue to run.

        The status is negative if a signal ended the command: see :func:`status_code`.
        """
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self._id, 0)[1])
        return self._status


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
    - Windows: the command leads a process group of its own. The command is in a job object. The
      processes of a job object end when this process ends. A .bat or .cmd file is run by cmd. Any
      other file must be a program.

    Raises OSError and ValueError if the command can't be started.
    """
    # Popen would encode the environment in Python for each command, and would read a pipe to learn
    # of errors. Together, both take a third of the time of a start. Python opens no inheritable
    # descriptors. Descriptors that this process has inherited are passed on, as shells do.
    process_id = os.posix_spawnp(
        argv[0],
        tuple(argv),
        environment,
        file_actions=[
            _action(stream, descriptor) for descriptor, stream in enumerate((stdin, stdout, stderr))
        ],
        setsid=True,
        setsigdef=_IGNORED_BY_PYTHON,
    )
    return Process(process_id)


def _action(stream: IO[bytes] | int, descriptor: int) -> tuple[Any, ...]:
    if stream == subprocess.DEVNULL:
        return os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0
    number = stream if isinstance(stream, int) else stream.fileno()
    return os.POSIX_SPAWN_DUP2, number, descriptor


def environment() -> Environment:
    """A copy of this process's environment, in the form that :func:`start` takes.

    A variable with an empty name is left out, since Python would start no command with such a
    variable.
    """
    return {name: text for name, text in os.environb.items() if name}


def variables(texts: Mapping[str, str]) -> Environment:
    """Variables in the form of :func:`environment`."""
    return {name.encode(): os.fsencode(text) for name, text in texts.items()}


def is_lack_of_resources(error: Exception) -> bool:
    """Whether a command wasn't started because this process or the system lacks resources."""
    return isinstance(error, OSError) and error.errno in _OUR_OWN_LIMITS


def keep_exit_statuses() -> None:
    """Stop ignoring SIGCHLD. For the main thread only.

    While SIGCHLD is ignored, the system discards exit statuses.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def status_code(status: int) -> str:
    """The exit status as an error code, which is a number or the name of the signal."""
    if status >= 0:
        return str(status)
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def is_of_signal(status: int) -> bool:
    """Whether a signal ended the command.

    Also true if the command is a shell that reports, by its exit status, a signal that ended its
    last command.
    """
    return status < 0 or status - 128 in signal.valid_signals()


def is_of_console(status: int) -> bool:  # noqa: ARG001
    """Whether an event of the console ended the command.

    On Windows, such events reach this process and also its commands.
    """
    return False  # a command in a session of its own gets no events


def exit_code(status: int) -> int:
    """The exit code of this process after its command has ended with ``status``."""
    return status if status >= 0 else 128 - status


def wait(popen: subprocess.Popen[bytes]) -> int:
    """Wait for a command that was started by Popen.

    Signals are handled while this function waits. Returns the command's status.
    """
    return popen.wait()


# --- programs


def command_line(argv: Sequence[str]) -> tuple[None, Sequence[str]]:
    """The arguments ``executable`` and ``args`` of :class:`subprocess.Popen` for a command.

    The command stays in the group of this process. Raises OSError and ValueError, like
    :func:`start`.
    """
    return None, argv


def find_program(name: str) -> str | None:
    """The path of a program.

    ``name``: a name on PATH, or a path. Returns None if no such program can be started.
    """
    return shutil.which(name)


def why_not_started(name: str) -> str:  # noqa: ARG001
    """Text that says why an existing file isn't a program, and what a person can do."""
    return "it is not executable: chmod +x it"
