"""Locks that programs on Linux and programs under wine both see.

``flock`` has no effect on a program under wine, and its commit lock none on ``flock``. But wine
makes its locks of bytes by ``fcntl``. So a writer on Linux claims each journal that it opens: it
keeps a shared lock on one of the two bytes that a writer under wine locks for each commit. Writers
on Linux don't hinder each other, and take the claim once for each open file.

Under wine there is no claim that lasts, since wineserver keeps every handle of a file open as long
as the file has a lock.

Like all locks, a claim ends with its process, and isn't copied with the file.
"""

from __future__ import annotations

import sys

if sys.platform == "linux":
    import errno
    import struct

    from journal.fs import system

    # As in fs/windows/locks.py.
    FIRST_BYTE = 1 << 62
    CLAIMED_BYTE = FIRST_BYTE + 1
    _FLOCK = "hhqqi"  # struct flock: type, whence, start, length, process

    def claim(fd: int) -> bool:
        """Claim a file whose ``flock`` the caller holds.

        Returns False if a program under wine has it locked. Raises ``OSError``.
        """
        fcntl = system.fcntl
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _lock(fcntl.F_RDLCK, CLAIMED_BYTE))
        except OSError as error:
            # Other errors: a file system without such locks. wine has none there, either.
            return error.errno not in (errno.EAGAIN, errno.EACCES)
        try:
            # Some network file systems make flock, too, by locks of bytes: there, the claim would
            # stop the next commit. On others, this changes nothing.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _lock(fcntl.F_UNLCK, CLAIMED_BYTE))
        return True

    def is_locked_under_wine(fd: int) -> bool:
        """Return whether a program under wine has the file locked."""
        fcntl = system.fcntl
        try:
            found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _lock(fcntl.F_RDLCK, FIRST_BYTE))
        except OSError:  # a file system without such locks
            return False
        return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)

    def _lock(kind: int, offset: int) -> bytes:
        return struct.pack(_FLOCK, kind, system.os.SEEK_SET, offset, 1, 0)
else:

    def claim(fd: int) -> bool:
        """Only programs on Linux take the claim."""
        del fd
        return True

    def is_locked_under_wine(fd: int) -> bool:
        """Only programs on Linux see locks of another system."""
        del fd
        return False
