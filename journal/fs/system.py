"""System calls, the clock, and the names of host, process and user.

All access to a journal's files goes through this module's ``os``. So a test can make calls fail by
replacing ``os``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

if sys.platform == "win32":
    from os import environ, getlogin

    from journal.fs import windows as _windows

    os = fcntl = _windows
elif sys.platform == "darwin":
    import fcntl as fcntl  # noqa: PLC0414  (this and os are re-exported)
    import pwd

    from journal.fs import macos as _macos

    os = _macos
else:
    import fcntl as fcntl  # noqa: PLC0414  (re-exported)
    import os as os  # noqa: PLC0414  (re-exported)
    import pwd


def now_ns() -> int:
    """Return the time in ns since 1970, by the clock that file systems use."""
    return time.time_ns()


_process_id = os.getpid()


def process_id() -> int:
    """Return the number of this process, without a system call."""
    return _process_id


def call_after_fork(call: Callable[[], object]) -> None:
    """Call a function in each process that is forked from now on."""
    os.register_at_fork(after_in_child=call)


def _look_for_process_id() -> None:
    global _process_id  # noqa: PLW0603  (read in each call of a handler)
    _process_id = os.getpid()


call_after_fork(_look_for_process_id)

if sys.platform == "win32":

    def host_name() -> str:
        return environ.get("COMPUTERNAME", "")

    def user_name() -> str:
        return getlogin()
else:

    def host_name() -> str:
        return os.uname().nodename

    def user_name() -> str:
        """Return the name of the user who runs this process, or the number if there is no name."""
        try:
            return pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            return str(os.getuid())


def current_directory() -> str:
    """Return the process's current directory, or "" if it was deleted or its name isn't UTF-8."""
    try:
        directory = os.getcwd()
        directory.encode()
    except (FileNotFoundError, UnicodeEncodeError):
        return ""
    return directory


def nonce() -> str:
    """Return 16 random hex digits, which no other call in any process returns."""
    return os.urandom(8).hex()


if sys.platform == "darwin":
    boot_id = os.boot_id
elif sys.platform == "win32":

    def boot_id() -> str:
        """Return "".

        Windows reports only the time of the boot, which changes if the clock is set.
        """
        return ""
else:

    def boot_id() -> str:
        """Return the id of the system's current boot, or "" if the system has no boot ids."""
        try:
            fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY)
            try:
                return os.read(fd, 64).decode("ascii").strip()
            finally:
                os.close(fd)
        except (OSError, UnicodeDecodeError):
            return ""


def mounts() -> list[str]:
    """Return the lines of /proc/self/mountinfo, or nothing if the system has no such file."""
    try:
        fd = os.open("/proc/self/mountinfo", os.O_RDONLY)
        try:
            parts = iter(lambda: os.read(fd, 1 << 16), b"")
            return b"".join(parts).decode(errors="replace").splitlines()
        finally:
            os.close(fd)
    except OSError:
        return []


def current_task() -> object:
    """Return the asyncio task that runs in this thread, or None."""
    asyncio = sys.modules.get("asyncio")  # if asyncio isn't imported, there are no tasks
    try:
        return asyncio and asyncio.current_task()
    except (AttributeError, RuntimeError):  # it is being imported; no event loop is running
        return None
