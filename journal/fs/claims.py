"""Claims: locks that programs on Linux and programs under wine both see.

A ``flock`` on Linux doesn't stop a program under wine. The lock that such a program takes for each
commit doesn't stop ``flock``, either. But wine locks bytes of a file by ``fcntl``, and programs on
Linux see these locks. So a writer on Linux **claims** each journal that it opens. To claim a
journal, the writer takes a shared lock on one byte. A writer under wine locks this byte, and one
more, for each commit. Writers on Linux don't hinder each other, since their claims are shared. A
claim is taken once for each open file.

A program under wine holds its lock only during a commit. The reason is that wineserver keeps every
handle of a file open as long as the file has a lock.

Like all locks, a claim ends with its process, and isn't copied with the file.
"""

from __future__ import annotations

import sys

if sys.platform == "linux":
    import errno
    import struct

    from journal.fs import system

    # The same values are in fs/windows/locks.py.
    FIRST_BYTE = 1 << 62
    CLAIMED_BYTE = FIRST_BYTE + 1
    _FLOCK = "hhqqi"  # struct flock: type, whence, start, length, process

    def claim(fd: int) -> bool:
        """Lock a byte of the file against writers under wine.

        The caller must hold the file's ``flock``.

        Returns False if a program under wine has locked the file. Raises ``OSError``.
        """
        fcntl = system.fcntl
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _lock(fcntl.F_RDLCK, CLAIMED_BYTE))
        except OSError as error:
            # If the error isn't one of these two, the file system has no such locks. Then a program
            # under wine has no lock, either.
            return error.errno not in (errno.EAGAIN, errno.EACCES)
        try:
            # Some network file systems implement flock by locks of bytes. There, the claim may stop
            # the next commit. If so, this call fails, and the claim is released. On other file
            # systems, this call changes nothing.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _lock(fcntl.F_UNLCK, CLAIMED_BYTE))
        return True

    def is_locked_under_wine(fd: int) -> bool:
        """Return whether a program under wine has the file locked."""
        fcntl = system.fcntl
        try:
            found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _lock(fcntl.F_RDLCK, FIRST_BYTE))
        except OSError:  # the file system has no such locks
            return False
        return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)

    def _lock(kind: int, offset: int) -> bytes:
        return struct.pack(_FLOCK, kind, system.os.SEEK_SET, offset, 1, 0)
else:

    def claim(fd: int) -> bool:
        """Return True without taking a lock. Only programs on Linux take claims."""
        del fd
        return True

    def is_locked_under_wine(fd: int) -> bool:
        """Return False. Only programs on Linux see the locks of programs under wine."""
        del fd
        return False
