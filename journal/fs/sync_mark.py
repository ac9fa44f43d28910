"""``sync.mark``: the note that a sync of the journal is under way, or has failed.

The kernel reports a failed write to the disk only once, to the next sync. After this report, the
unwritten pages stay in the cache as if they were on the disk. Suppose that process A gets the error
and dies. Then process B reads valid commits from the cache, and B's own sync succeeds. But a power
cut would destroy commits that B has acknowledged.

So the mark is set before each sync, and cleared after the sync has succeeded. The mark states the
offset up to which the journal was already synced. A writer reads the mark after it has taken the
commit lock. If the mark is set, the writer doesn't trust the cached bytes after that offset. Either
the writer cuts these bytes off, or it writes the whole journal to a new file.

Only processes that share the cache need the mark. So the mark is never synced. The mark contains
the boot id. A mark of an earlier boot is ignored, since after a restart everything is read from the
disk.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from pathlib import Path

from journal.errors import StorageError
from journal.fs import system
from journal.fs.file_names import NEW_SYNC_MARK_NAME, SYNC_MARK_NAME
from journal.fs.files import read_small, remove_file, rename, write_file
from journal.fs.handles import Descriptor, JournalFile, close_fd, open_regular

_BYTES = 160
_CLEAR = b" " * (_BYTES - 1) + b"\n"
_SET = rb'\{"synced_bytes":([0-9]{1,19}),"boot":"([^"]*)"\} *\n'


class SyncMark(Descriptor):
    """The file that says whether a sync of the journal is under way or has failed.

    Hold the commit lock to use the mark. The methods raise ``OSError``.
    """

    def __init__(self, directory: Path, journal: JournalFile) -> None:
        """Open the mark, or make a clear mark that belongs to the journal's owner.

        A mark with a second hard link is replaced by a copy. If this user may not write the mark, a
        new mark replaces it. The new mark says that the whole journal may be missing on the disk.
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
        self._path_text = system.os.fspath(path)  # stat of a Path takes 50% longer than of text
        self._stat = (stat.st_ino, stat.st_dev, 1)  # with one hard link
        if not stat.st_size:
            # If root works on a user's job, the mark still belongs to the user.
            with suppress(StorageError):
                self.take_owner_of(journal)

    def is_at_path(self) -> bool:
        """Return whether the path still names this mark, and the mark has no second hard link."""
        try:
            stat = system.os.stat(self._path_text)
        except FileNotFoundError:
            return False
        return (stat.st_ino, stat.st_dev, stat.st_nlink) == self._stat

    def is_clear(self) -> bool:
        """Return whether the mark is at its path, and was cleared after every sync.

        If the system refuses a call, this method returns False. :meth:`is_at_path` and
        :meth:`doubtful_from` raise the error.
        """
        try:
            return self.is_at_path() and system.os.pread(self.fd, _BYTES, 0) == _CLEAR
        except OSError:
            return False

    def doubtful_from(self) -> int | None:
        """Return the offset after which bytes may be missing on the disk.

        Bytes may be missing if a sync failed or never ended. Returns None if every sync since the
        system was booted has succeeded.
        """
        return _doubtful_from(system.os.pread(self.fd, _BYTES, 0), self._boot)

    def set(self, start: int) -> None:
        """Set the mark before a sync. Up to ``start``, the journal is already on the disk."""
        if system.os.pwrite(self.fd, _text(start, self._boot), 0) != _BYTES:
            raise OSError(errno.ENOSPC, system.os.strerror(errno.ENOSPC))

    def clear(self) -> None:
        """Clear the mark.

        If the mark can't be cleared, the next writer copies the journal needlessly.
        """
        try:  # noqa: SIM105  (suppress() takes longer, and each synced commit clears the mark)
            system.os.pwrite(self.fd, _CLEAR, 0)
        except OSError:
            pass


def is_marked(directory: Path) -> bool:
    """Return whether there is a mark that is set. If the mark can't be read, return False."""
    try:
        text = read_small(directory / SYNC_MARK_NAME)
    except OSError:
        return False
    return _doubtful_from(text, _boot()) is not None


def _replace(path: Path, text: bytes) -> tuple[int, os.stat_result]:
    """Replace the mark with a new mark of this text.

    Returns the new mark's descriptor and ``stat``.
    """
    new = path.with_name(NEW_SYNC_MARK_NAME)
    remove_file(new)  # left by a process that died
    rename(write_file(new, [text]), path)
    return open_regular(path, system.os.O_RDWR)


def _boot() -> bytes:
    return system.boot_id().encode() or b"unknown"


def _text(start: int, boot: bytes) -> bytes:
    text = b'{"synced_bytes":%d,"boot":"%b"}' % (start, boot)
    return text[: _BYTES - 1].ljust(_BYTES - 1) + b"\n"


def _doubtful_from(text: bytes, boot: bytes) -> int | None:
    if not text.strip(_CLEAR + b"\0"):  # a power cut may leave zeros
        return None
    found = re.fullmatch(_SET, text[:_BYTES])
    if found is None:  # another version of this package has set the mark
        return 0
    return int(found[1]) if found[2] == boot else None
