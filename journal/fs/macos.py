"""macOS: the calls of ``os``, with syncs that reach the disk, and the id of the current boot."""

from __future__ import annotations

import ctypes
import fcntl
import sys
from os import *  # noqa: F403  (stands for ``os``)
from typing import Any

assert sys.platform != "win32"  # for mypy

# fsync(2) of macOS: fsync leaves the data in the cache of the drive, which may write it in any
# order, and "F_FULLFSYNC asks the drive to flush all buffered data to permanent storage". Directories
# take it, too. F_BARRIERFSYNC only orders writes; no sync here is for order alone, since each of them
# comes before an acknowledgement, or before the removal of what the new file replaces.
_F_FULLFSYNC = 51  # of <sys/fcntl.h>


def _sync(fd: Any) -> None:
    """Return when the file or directory survives a power cut.

    Raises OSError on file systems that can't promise it, as some network file systems.
    """
    fcntl.fcntl(fd, _F_FULLFSYNC)


fdatasync = fsync = _sync


def boot_id() -> str:
    """Return the id of the system's current boot, or "" if the system doesn't tell."""
    text = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(len(text))
    try:
        call = ctypes.CDLL(None).sysctlbyname
    except (AttributeError, OSError):
        return ""
    if call(b"kern.bootsessionuuid", text, ctypes.byref(size), None, ctypes.c_size_t(0)):
        return ""
    return text.value.decode("ascii", "replace")
