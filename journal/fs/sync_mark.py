"""``sync.mark``: says that a sync of the journal is under way, or has failed.

The kernel reports a failed write to the disk once, to the process whose sync comes next. The pages
stay in its cache as if they were on the disk. If the process that was told dies before it has acted
on it, the next one reads good commits, its own sync succeeds, and a power cut takes commits that it
has acknowledged. So each sync is announced here before it is asked for, and struck out when it has
succeeded. Whoever finds the mark set, and holds the commit lock, doesn't trust what it reads from
the cache behind the byte that the mark names: unless that was cut off, it writes the journal to a
new file.

The mark is for processes that share a cache: it is written, never synced, and holds the id of the
system's boot. After a power cut what is read comes from the disk, and a mark of an earlier boot
says nothing.
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
    """The mark beside a journal; the caller holds the commit lock. Raises ``OSError`` as it is."""

    def __init__(self, directory: Path, journal: JournalFile) -> None:
        """Open it, or make it: then it belongs to whom the journal does, and starts clear.

        In the place of one that isn't this journal's alone, or is another user's, comes one that
        says the same, or that all is in doubt.
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
            with suppress(StorageError):  # a job that root has worked on stays the user's
                self.take_owner_of(journal)

    def is_at_path(self) -> bool:
        """False if it was deleted or replaced, or a copy shares it by a hard link."""
        try:
            stat = system.os.stat(self.path)
        except FileNotFoundError:
            return False
        here = (stat.st_ino, stat.st_dev, stat.st_nlink)
        return bool(here == (self._inode, self._device, 1))

    def doubtful_from(self) -> int | None:
        """Where what is in doubt begins, by a sync that failed, or whose process died in it.

        None if none has since the system started.
        """
        return _doubtful_from(self.fd, self._boot)

    def set(self, start: int) -> None:
        """Announce a sync: up to ``start`` the journal is on the disk already."""
        if system.os.pwrite(self.fd, _text(start, self._boot), 0) != _BYTES:
            raise OSError(errno.ENOSPC, system.os.strerror(errno.ENOSPC))

    def clear(self) -> None:
        """Strike it out; a mark that can't be struck out costs a copy, no more."""
        with suppress(OSError):
            system.os.pwrite(self.fd, _CLEAR, 0)


def is_marked(directory: Path) -> bool:
    """Whether there is a mark that is set, for who makes none; False if it can't be read."""
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
    """A new mark in the place of another, which is there until the new one says its text."""
    new = path.with_name(NEW_SYNC_MARK_NAME)
    with suppress(FileNotFoundError):
        system.os.unlink(new)  # of one that died
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
