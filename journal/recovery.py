"""What a dead writer or a failed sync has left in a journal, put in order before the next commit."""

from __future__ import annotations

import errno
from pathlib import Path
from zlib import crc32

from journal import directories, files, handles
from journal.errors import StorageError
from journal.format import SEAL_BYTES, stated_crc
from journal.handles import JournalFile
from journal.reader import Reader


class Recovery(Reader):
    """A reader that may make its journal ready to be written; the caller holds the commit lock."""

    def __init__(self, directory: Path, *, sync: bool, lock_timeout_s: float) -> None:
        super().__init__(directory, lock_timeout_s)
        self._sync = sync
        self._doubtful_from: int | None = None  # from here a failed sync may have lost pages
        self._names_synced = False  # those that lead to the file

    @property
    def in_doubt(self) -> bool:
        """Whether a failed sync has left commits that have to be written again."""
        return self._doubtful_from is not None

    def _leave_hint(self, *, durable: bool = False) -> None:
        if not self.in_doubt:  # the system may yet read other pages than we did
            super()._leave_hint(durable=durable)

    def _make_ready(self, file: JournalFile) -> None:
        """Recover what a dead writer, or a failed sync, has left behind."""
        if not file.writable:
            raise StorageError(self.path, "write", errno.EROFS, "it may only be read")
        if self._torn_end:
            self._complete_line(file)
        if self._torn_end:
            self._cut_torn_tail(file)
        if self._sync:
            if self._doubtful_from is not None:
                file.rewrite(self._doubtful_from, self._end)
            # After a power cut only the last commit may be damaged: so nothing is written
            # behind commits of a writer that died between its write and its sync.
            self._sync_names()
            try:
                file.sync()
            except StorageError:
                self._doubtful_from = 0  # whose commits it has lost isn't known
                raise
            self._doubtful_from = None
        self._unsynced = False

    def _sync_names(self) -> None:
        """Whoever made or copied the job may not have waited until its name was on the disk."""
        if self._names_synced:
            return
        root = self.directory.parent.resolve()
        for path in (self.directory, root, root.parent):
            try:
                directories.sync_directory(path)
            except OSError as error:
                if path == root.parent and isinstance(error, PermissionError):
                    continue  # whoever may not read it has hardly made a name in there
                raise handles.storage_error(path, "sync", error) from error
        self._names_synced = True

    def _open(self) -> JournalFile:
        self._names_synced = False
        return super()._open()

    def _complete_line(self, file: JournalFile) -> None:
        """A commit that lacks nothing but its LF has happened: an editor may have taken that."""
        offset, seal, crc = self._end, self._torn_end - SEAL_BYTES, self._end_crc
        stated = stated_crc(file.read_at(seal, SEAL_BYTES)) if seal > offset else None
        if stated is None:
            return
        while offset < seal and (data := file.read_at(offset, min(1 << 20, seal - offset))):
            crc = crc32(data, crc)
            offset += len(data)
        if crc == stated:
            file.append(b"\n")
            self._catch_up(self._torn_end + 1, locked=True)

    def _cut_torn_tail(self, file: JournalFile) -> None:
        """Save what a dead writer left behind the last commit, then cut it off."""
        target = self.directory / f"journal.torn-{self._end}"
        try:
            files.save_copy(file, self._end, self._torn_end, target, sync=self._sync)
            if self._sync:  # else a power cut might take the copy and leave the cut
                directories.sync_directory(self.directory)
        except OSError as error:
            raise handles.storage_error(target, "save the torn tail in", error) from error
        file.truncate(self._end)
        self._torn_end = 0
