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
from typing import IO

assert sys.platform != "win32"

MAX_STATUS = 255

_OUR_OWN_LIMITS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)

# Bytes, since os.environ would decode each variable for each command.
Environment = dict[bytes, bytes]


class Process:
    """See :class:`journal.run.platform.processes.Process`."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the command has ended.

        If the system has ``waitid``, a wait without a timeout doesn't reap the command. Until the
        command is reaped, no other process can get the id of its process group.
        """
        if self._popen.returncode is not None:  # reaped by an earlier call
            return True
        if timeout_s is None and hasattr(os, "waitid"):
            os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOWAIT)
            return True
        try:  # macOS before Python 3.13 has no waitid
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, *, force: bool) -> None:
        # PermissionError is raised on macOS if only the ended leader is left in the group. It is
        # also raised for set-uid programs.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL if force else signal.SIGTERM)

    def close(self) -> int:
        return self._popen.wait()


def start(
    argv: Sequence[str],
    environment: Environment,
    *,
    stdin: IO[bytes] | int,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int,
) -> Process:
    return Process(
        subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            start_new_session=True,
            # Python opens no inheritable descriptors. Descriptors that we inherited are passed on,
            # as shells do. Looking for descriptors to close would double the time of a start.
            close_fds=False,
        )
    )


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
