"""For macOS: a replacement of ``os`` whose syncs reach the disk. Also reads the boot id."""

from __future__ import annotations

import ctypes
import fcntl
import sys
from os import *  # noqa: F403  (this module replaces ``os``)
from typing import Any

assert sys.platform != "win32"  # for mypy

# According to the page fsync(2) of macOS, fsync leaves the data in the cache of the drive, and the
# drive may write the data in any order. "F_FULLFSYNC asks the drive to flush all buffered data to
# permanent storage." F_FULLFSYNC works for directories, too. F_BARRIERFSYNC only orders writes.
# Order isn't enough here. After a sync, a change is acknowledged, or an old file is removed because
# the synced file replaces it.
_F_FULLFSYNC = 51  # of <sys/fcntl.h>


def _sync(fd: Any) -> None:
    """Sync a file or directory. On return, it survives a power cut.

    Raises OSError on file systems that don't support the call. Some network file systems lack this
    call.
    """
    fcntl.fcntl(fd, _F_FULLFSYNC)


fdatasync = fsync = _sync


def boot_id() -> str:
    """Return the id of the system's current boot, or "" if the system doesn't report an id."""
    text = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(len(text))
    try:
        call = ctypes.CDLL(None).sysctlbyname
    except (AttributeError, OSError):
        return ""
    if call(b"kern.bootsessionuuid", text, ctypes.byref(size), None, ctypes.c_size_t(0)):
        return ""
    return text.value.decode("ascii", "replace")
