"""The module whose system calls the package makes here, before a test replaces the module."""

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
        import msvcrt  # noqa: PLC0415

        from journal.fs.windows.api import path_of as path_of_handle  # noqa: PLC0415

        return Path(path_of_handle(msvcrt.get_osfhandle(fd)))
    return Path(os.readlink(f"/proc/self/fd/{fd}"))
