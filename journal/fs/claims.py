"""Claims: which kind of system has a journal open for writing, Windows or Linux.

The commit locks of a program under wine and of a program on Linux have no effect on each other:
``flock`` knows nothing of the locked byte. But wine makes the lock of a byte by ``fcntl``, which
Linux sees. So each writer keeps a shared lock on the byte of its own kind of system, as long as it
has the file open, and then looks whether somebody has locked the byte of the other kind. Both
steps are done once for each open file, with the commit lock held.

Like all locks, a claim ends with its process, and isn't copied with the file.
"""

from __future__ import annotations

import errno
import sys

from journal.fs import system

if sys.platform == "win32":
    claim = system.fcntl.claim
    OTHER_KIND = "Linux"
elif sys.platform == "linux":
    import struct

    LINUX_BYTE, WINDOWS_BYTE = (1 << 62) + 1, (1 << 62) + 2  # as in fs/windows/locks.py
    OTHER_KIND = "Windows"

    def claim(fd: int) -> bool:
        """Claim a file whose lock the caller holds. Returns False if the other kind has claimed it.

        Raises ``OSError``.
        """
        fcntl = system.fcntl
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _lock(fcntl.F_RDLCK, LINUX_BYTE))
            found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _lock(fcntl.F_WRLCK, WINDOWS_BYTE))
            is_free = bool(struct.unpack(_FLOCK, found)[0] == fcntl.F_UNLCK)
        except OSError as error:
            # Other errors: a file system without such locks, which wine couldn't take there, either.
            return error.errno not in (errno.EAGAIN, errno.EACCES)
        try:
            # Some network file systems make flock, too, by locks of bytes: there, a claim would stop
            # the next commit. On others, this changes nothing.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_free = True
        else:
            if is_free:
                return True
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _lock(fcntl.F_UNLCK, LINUX_BYTE))
        return is_free

    _FLOCK = "hhqqi"  # struct flock: type, whence, start, length, process

    def _lock(kind: int, offset: int) -> bytes:
        return struct.pack(_FLOCK, kind, system.os.SEEK_SET, offset, 1, 0)
else:
    OTHER_KIND = ""

    def claim(fd: int) -> bool:
        """No other kind of system can see the locks of this one."""
        del fd
        return True
