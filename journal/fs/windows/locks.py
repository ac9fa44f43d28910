"""Locks files on Windows. The functions are named as in ``fcntl`` and ``filelock``.

To lock a file, this module locks a byte far after the end of any file. Windows enforces locks:
other handles can neither read nor write a locked byte. But programs can still read and copy the
file, since the byte is beyond its end. Microsoft's page "LockFileEx function" says that
"locking a region that goes beyond the current end-of-file position is not an error". This module is
used instead of filelock, which locks the first byte.

The system releases the lock when the handle is closed, and so at the end of a process.
"""

from __future__ import annotations

import ctypes
import errno
import msvcrt
import os
import sys

from journal.fs.windows import api

assert sys.platform == "win32"  # mypy skips the rest on other systems

LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8
_OFFSET, _BYTES = 1 << 62, 1


def flock(fd: int, operation: int) -> None:
    """Take or release the lock, as ``fcntl.flock`` does.

    This function never waits, so LOCK_NB must be given. Raises BlockingIOError if another handle
    has the lock.
    """
    handle = msvcrt.get_osfhandle(fd)
    where = ctypes.byref(api.at(_OFFSET))
    if operation & LOCK_UN:
        if not api.unlock_file(handle, 0, _BYTES, 0, where):
            number = ctypes.get_last_error()
            if number != api.NOT_LOCKED:
                raise api.error(number)
        return
    flags = api.LOCK_FAIL_IMMEDIATELY | (api.LOCK_EXCLUSIVE if operation & LOCK_EX else 0)
    if not api.lock_file(handle, flags, 0, _BYTES, 0, where):
        number = ctypes.get_last_error()
        if number == api.LOCK_VIOLATION:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        raise api.error(number)


def lock_descriptor(fd: int, *, blocking: bool = False) -> bool:
    """Take the exclusive lock; return False if another handle has it."""
    assert not blocking
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock_descriptor(fd: int) -> None:
    flock(fd, LOCK_UN)
