"""Processes on POSIX: a command leads a session, and so a process group."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic, sleep
from typing import IO, Any

assert sys.platform != "win32"

MAX_STATUS = 255

_POLL_S = 0.02  # how late a wait with a timeout may end
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_OUR_OWN_LIMITS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)

# Bytes, since os.environ would decode each variable for each command.
Environment = dict[bytes, bytes]


class Process:
    """See :class:`journal.run.platform.processes.Process`."""

    def __init__(self, process_id: int) -> None:
        self._id = process_id
        self._status: int | None = None

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the command has ended.

        If the system has ``waitid``, this doesn't reap the command. Until the command is reaped, no
        other process can get the id of its process group.
        """
        until_s = monotonic() + (timeout_s or 0)
        while not self._has_ended(0 if timeout_s is None else os.WNOHANG):
            if monotonic() >= until_s:
                return False
            sleep(_POLL_S)
        return True

    def _has_ended(self, flags: int) -> bool:
        if self._status is not None:
            return True
        if hasattr(os, "waitid"):
            flags |= os.WEXITED | os.WNOWAIT
            return os.waitid(os.P_PID, self._id, flags) is not None
        process_id, status = os.waitpid(self._id, flags)  # macOS before Python 3.13
        if process_id:
            self._status = os.waitstatus_to_exitcode(status)
        return bool(process_id)

    def end(self, *, force: bool) -> None:
        # PermissionError is raised on macOS if only the ended leader is left in the group. It is
        # also raised for set-uid programs.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._id, signal.SIGKILL if force else signal.SIGTERM)

    def close(self) -> int:
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
    # Popen would encode the environment in Python for each command, and read a pipe to learn of
    # errors: a third of the time of a start. Python opens no inheritable descriptors. Descriptors
    # that we inherited are passed on, as shells do.
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
    return dict(os.environb)


def variables(texts: Mapping[str, str]) -> Environment:
    return {name.encode(): os.fsencode(text) for name, text in texts.items()}


def is_lack_of_resources(error: OSError) -> bool:
    return error.errno in _OUR_OWN_LIMITS


def keep_exit_statuses() -> None:
    """Stop ignoring SIGCHLD.

    While it is ignored, the system discards exit statuses, and Python reads 0.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def status_code(status: int) -> str:
    if status >= 0:
        return str(status)
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def is_of_signal(status: int) -> bool:
    return status < 0 or status - 128 in signal.valid_signals()


def is_of_console(status: int) -> bool:  # noqa: ARG001
    return False  # a command in a session of its own gets no events


def exit_code(status: int) -> int:
    return status if status >= 0 else 128 - status


def wait(popen: subprocess.Popen[bytes]) -> int:
    return popen.wait()


# --- programs


def command_line(argv: Sequence[str]) -> tuple[None, Sequence[str]]:
    return None, argv


def find_program(name: str) -> str | None:
    return shutil.which(name)


def why_not_started(name: str) -> str:  # noqa: ARG001
    return "it is not executable: chmod +x it"
