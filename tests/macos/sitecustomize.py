"""Takes away what macOS lacks, so that the suite runs on Linux nearly as it would run there.

Python imports this file at its start if its directory is in PYTHONPATH, in child processes, too::

    PYTHONPATH=tests/macos python -m pytest

``sys.platform`` says "darwin", so code and libraries choose their ways for macOS. ``F_FULLFSYNC`` is
done by the real fsync. At most 256 files can be open, which is the default there.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import pathlib
import resource
import select
import signal
import sys
import sysconfig
from typing import Any

_MISSING = {
    os: (
        *("fdatasync", "posix_fadvise", "posix_fallocate", "copy_file_range", "sendfile", "splice"),
        *("O_TMPFILE", "O_DIRECT", "O_PATH", "O_NOATIME", "O_LARGEFILE"),
        *("waitid", "P_PID", "P_PIDFD", "pidfd_open", "memfd_create", "eventfd", "pipe2"),
        *(
            "sched_getaffinity",
            "sched_setaffinity",
            "getrandom",
            "getxattr",
            "setxattr",
            "listxattr",
        ),
        *("getresuid", "setresuid", "getresgid", "setresgid", "unshare", "setns"),
    ),
    select: ("epoll",),
    signal: ("sigtimedwait", "sigwaitinfo", "SIGRTMIN", "SIGRTMAX", "SIGPWR", "SIGSTKFLT"),
}
_F_FULLFSYNC, _F_BARRIERFSYNC = 51, 85
_MAX_FILES = 256

for module, names in _MISSING.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
os.__all__ = [name for name in os.__all__ if hasattr(os, name)]

_fcntl = fcntl.fcntl


def _fcntl_of_macos(fd: Any, command: int, argument: Any = 0) -> Any:
    if command in (_F_FULLFSYNC, _F_BARRIERFSYNC):
        return os.fsync(fd)
    return _fcntl(fd, command, argument)


fcntl.fcntl = _fcntl_of_macos


class _LibraryOfMacos(ctypes.CDLL):
    """Has sysctlbyname, which tells one name's value: the id of the boot."""

    @staticmethod
    def sysctlbyname(name: bytes, text: Any, *_: Any) -> int:
        assert name == b"kern.bootsessionuuid"
        text.value = _BOOT_ID
        return 0


ctypes.CDLL = _LibraryOfMacos  # type: ignore[misc]
_BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
sysconfig.get_config_vars()  # reads a file that is named for the platform
sys.platform = "darwin"
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if not 0 <= _soft <= _MAX_FILES:
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_FILES, _hard))
