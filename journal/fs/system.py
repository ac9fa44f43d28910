"""The system under everything: its calls, its clock, and what it calls itself.

What touches the disk for a journal does so through this module's ``os``, so that a test can put a
faulty one in its place.
"""

from __future__ import annotations

import fcntl as fcntl  # noqa: PLC0414  (these two are for the modules above to call)
import os as os  # noqa: PLC0414
import pwd
import time


def now_ns() -> int:
    """The time, in ns since 1970, by the clock that file systems go by."""
    return time.time_ns()


def host_name() -> str:
    return os.uname().nodename


def process_id() -> int:
    return os.getpid()


def user_name() -> str:
    """Who runs this, by name or else by number."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def nonce() -> str:
    """16 hex digits that nobody else has had, whatever its host, process id and clock."""
    return os.urandom(8).hex()


def boot_id() -> str:
    """What the system calls itself until it starts anew; empty where it has no such name."""
    try:
        fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY)
        try:
            return os.read(fd, 64).decode("ascii").strip()
        finally:
            os.close(fd)
    except (OSError, UnicodeDecodeError):
        return ""
