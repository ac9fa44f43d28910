"""``sync.mark``: the note that a sync of the journal is under way, or has failed.

The kernel reports a failed write to the disk once, to the next sync. The pages stay in its cache as
if they were on the disk. Suppose that the process which got the error dies at once. Then the next
one reads valid commits and its own sync succeeds, but a power cut takes commits that it has
acknowledged.

So each sync sets the mark first and clears it after success. Whoever holds the commit lock and
finds the mark set doesn't trust the bytes in the cache after the offset in the mark. Unless they
were cut off, it writes the journal to a new file.

Only processes that share a cache need the mark. So it is written but never synced, and it holds the
boot id. After a power cut everything is read from the disk, and a mark of an earlier boot means
nothing.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from pathlib import Path

from journal.errors import StorageError
from journal.fs import system
from journal.fs.handles import Descriptor, JournalFile, close_fd, open_regular, write_all
from journal.fs.names import NEW_SYNC_MARK_NAME, SYNC_MARK_NAME

_BYTES = 160
_CLEAR = b" " * (_BYTES - 1) + b"\n"
_SET = re.compile(rb"a sync is under way or has failed behind byte ([0-9]{1,19}), boot (.*?) *\n")


class SyncMark(Descriptor):
    """The mark beside a journal. The caller holds the commit lock. Raises ``OSError`` as it is."""

    def __init__(self, directory: Path, journal: JournalFile) -> None:
        """Open the mark, or make a clear one with the owner of the journal.

        A mark with a second hard link is replaced by a copy of it. A mark of another user is
        replaced by one that puts the whole journal in doubt.
        """
        path = directory / SYNC_MARK_NAME
        self._boot = _boot()
        text = b""
        try:
            fd, stat = open_regular(path, system.os.O_RDWR | system.os.O_CREAT)
            if stat.st_nlink > 1:
                text = system.os.pread(fd, _BYTES, 0) or _CLEAR
                close_fd(fd)
        except PermissionError:
            text = _text(0, self._boot)
        if text:
            fd, stat = _replace(path, text)
        super().__init__(path, fd)
        self._inode, self._device = stat.st_ino, stat.st_dev
        if not stat.st_size:
            with suppress(StorageError):  # so a job that root worked on stays the user's
                self.take_owner_of(journal)

    def is_at_path(self) -> bool:
        """False if the mark was deleted or replaced, or has a second hard link."""
        try:
            stat = system.os.stat(self.path)
        except FileNotFoundError:
            return False
        here = (stat.st_ino, stat.st_dev, stat.st_nlink)
        return bool(here == (self._inode, self._device, 1))

    def doubtful_from(self) -> int | None:
        """The offset after which a failed or interrupted sync leaves the journal in doubt.

        None if there was no such sync since the system started.
        """
        return _doubtful_from(self.fd, self._boot)

    def set(self, start: int) -> None:
        """Set the mark before a sync. Up to ``start`` the journal is on the disk already."""
        if system.os.pwrite(self.fd, _text(start, self._boot), 0) != _BYTES:
            raise OSError(errno.ENOSPC, system.os.strerror(errno.ENOSPC))

    def clear(self) -> None:
        """Clear the mark. If that fails, the next writer copies the journal once."""
        with suppress(OSError):
            system.os.pwrite(self.fd, _CLEAR, 0)


def is_marked(directory: Path) -> bool:
    """Whether there is a mark and it is set; False if it can't be read. It makes none."""
    try:
        fd, _ = open_regular(directory / SYNC_MARK_NAME, system.os.O_RDONLY)
    except OSError:
        return False
    try:
        return _doubtful_from(fd, _boot()) is not None
    except OSError:
        return False
    finally:
        close_fd(fd)


def _replace(path: Path, text: bytes) -> tuple[int, os.stat_result]:
    """Replace the mark by a new one with ``text``; return its descriptor and ``stat``."""
    new = path.with_name(NEW_SYNC_MARK_NAME)
    with suppress(FileNotFoundError):
        system.os.unlink(new)  # left by a process that died
    fd, stat = open_regular(new, system.os.O_RDWR | system.os.O_CREAT | system.os.O_EXCL)
    try:
        write_all(fd, text)
        system.os.rename(new, path)
    except BaseException:
        close_fd(fd)
        raise
    return fd, stat


def _boot() -> bytes:
    return system.boot_id().encode() or b"of an unknown id"


def _text(start: int, boot: bytes) -> bytes:
    text = b"a sync is under way or has failed behind byte %d, boot %b" % (start, boot)
    return text[: _BYTES - 1].ljust(_BYTES - 1) + b"\n"


def _doubtful_from(fd: int, boot: bytes) -> int | None:
    found = _SET.fullmatch(system.os.pread(fd, _BYTES, 0))
    return int(found[1]) if found and found[2] == boot else None
