"""``sync.mark``: says that a sync of the journal is under way, or has failed.

The kernel reports a failed write to the disk once, to the process whose sync comes next. The pages
stay in its cache as if they were on the disk. If the process that was told dies before it has acted
on it, the next one reads good commits, its own sync succeeds, and a power cut takes commits that it
has acknowledged. So each sync is announced here before it is asked for, and struck out when it has
succeeded. Whoever finds the mark set, and holds the commit lock, doesn't trust what it reads from
the cache: it writes the journal to a new file.

The mark is for processes that share a cache: it is written, never synced, and holds the id of the
system's boot. After a power cut what is read comes from the disk, and a mark of an earlier boot
says nothing.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

from journal import system
from journal.errors import StorageError
from journal.handles import Descriptor, JournalFile, close_fd, open_regular, write_all

SYNC_MARK_NAME = "sync.mark"
_BYTES = 96
_CLEAR = b" " * (_BYTES - 1) + b"\n"


class SyncMark(Descriptor):
    """The mark beside a journal; the caller holds the commit lock. Raises ``OSError`` as it is."""

    def __init__(self, directory: Path, journal: JournalFile) -> None:
        """Open it, or make it: then it belongs to whom the journal does, and starts clear."""
        path = directory / SYNC_MARK_NAME
        fd, stat = open_regular(path, system.os.O_RDWR | system.os.O_CREAT)
        if stat.st_nlink > 1:
            fd = _make_own(path, fd)
        super().__init__(path, fd)
        self._set = _set_text()
        if not stat.st_size:
            with suppress(StorageError):  # a job that root has worked on stays the user's
                self.take_owner_of(journal)

    def is_set(self) -> bool:
        """Whether a sync has failed, or its process has died within it, since the system started."""
        return system.os.pread(self.fd, _BYTES, 0) == self._set

    def set(self) -> None:
        if system.os.pwrite(self.fd, self._set, 0) != _BYTES:
            raise OSError(errno.ENOSPC, system.os.strerror(errno.ENOSPC))

    def clear(self) -> None:
        """Strike it out; a mark that can't be struck out costs a copy, no more."""
        with suppress(OSError):
            system.os.pwrite(self.fd, _CLEAR, 0)


def is_marked(directory: Path) -> bool:
    """What :meth:`SyncMark.is_set` says, for who makes no mark; False if it can't be read."""
    try:
        fd, _ = open_regular(directory / SYNC_MARK_NAME, system.os.O_RDONLY)
    except OSError:
        return False
    try:
        return system.os.pread(fd, _BYTES, 0) == _set_text()
    except OSError:
        return False
    finally:
        close_fd(fd)


def _set_text() -> bytes:
    boot_id = system.boot_id() or "of an unknown id"
    text = f"a sync is under way or has failed, boot {boot_id}"
    return text.encode()[: _BYTES - 1].ljust(_BYTES - 1) + b"\n"


def _make_own(path: Path, fd: int) -> int:
    """In the place of a mark that another copy shares, by a hard link, one that says the same."""
    try:
        text = system.os.pread(fd, _BYTES, 0)
        system.os.unlink(path)
        own, _ = open_regular(path, system.os.O_RDWR | system.os.O_CREAT | system.os.O_EXCL)
        write_all(own, text)
    finally:
        close_fd(fd)
    return own
