"""The module of the package's system calls on this system, before a test replaces the module."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import journal.fs.system

SYSTEM_OS: Any = journal.fs.system.os  # the module ``os`` on Linux alone


def path_of(fd: int) -> Path:
    """Return the path of an open file or directory."""
    if sys.platform == "win32":
        import ctypes  # noqa: PLC0415
        import msvcrt  # noqa: PLC0415

        directory = SYSTEM_OS._directories.get(fd)  # whose descriptor is of the null device
        if directory is not None:
            return Path(directory)
        text = ctypes.create_unicode_buffer(1 << 15)
        handle = ctypes.c_void_p(msvcrt.get_osfhandle(fd))
        ctypes.windll.kernel32.GetFinalPathNameByHandleW(handle, text, len(text), 0)
        return Path(text.value)
    return Path(os.readlink(f"/proc/self/fd/{fd}"))
