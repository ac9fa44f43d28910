"""System calls, the clock, the names of host, process and user, and the standard streams.

All access to a journal's files goes through this module's ``os``. So a test can make calls fail by
replacing ``os``.
"""

from __future__ import annotations

import errno
import io
import stat
import sys
import time
from collections.abc import Callable
from typing import TextIO

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
    except (AttributeError, RuntimeError):  # asyncio is being imported, or no event loop runs
        return None


# --- the standard streams

if sys.platform == "win32":

    def set_encoding(stream: TextIO | None) -> None:
        """Make the stream write UTF-8 with LF at line ends, whatever the code page is.

        Characters that UTF-8 can't encode are written as backslash escapes.
        """
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")

    def let_control_cursor() -> None:
        """Let the console interpret the sequences that move the cursor and set colours."""
        from colorama import just_fix_windows_console  # noqa: PLC0415  (click needs it there)

        just_fix_windows_console()

    def can_answer() -> bool:
        """Return whether somebody can answer at standard input.

        Call this only if standard input reports to be a terminal.

        On Windows, the device NUL reports to be a terminal, too, but nobody can answer there.
        """
        import ctypes  # noqa: PLC0415  (`journal list` starts without it)
        import msvcrt  # noqa: PLC0415

        mode = ctypes.c_ulong()
        handle = ctypes.c_void_p(msvcrt.get_osfhandle(0))
        return bool(ctypes.windll.kernel32.GetConsoleMode(handle, ctypes.byref(mode)))

    def is_closed_pipe(error: OSError) -> bool:
        """Return whether a write failed because nobody reads standard output any more.

        On Windows, the error is EINVAL, which can have other causes, too.
        """
        if error.errno != errno.EINVAL or error.filename is not None:
            return isinstance(error, BrokenPipeError)
        return stat.S_ISFIFO(os.fstat(1).st_mode)
else:

    def set_encoding(stream: TextIO | None) -> None:
        """Make the stream write characters that its encoding lacks as backslash escapes."""
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def let_control_cursor() -> None:
        """Do nothing: terminals interpret the sequences that move the cursor and set colours."""

    def can_answer() -> bool:
        """Return True: if standard input reports to be a terminal, it is one."""
        return True

    def is_closed_pipe(error: OSError) -> bool:
        """Return whether a write failed because nobody reads standard output any more."""
        return isinstance(error, BrokenPipeError)
