"""Recovery: puts a journal in order before the next commit.

Recovery handles

- a torn tail (an interrupted write) or unsynced commits of a writer that died,
- the mark of a failed sync (see ``fs/sync_mark.py``),
- a last line without its LF,
- a journal that was cut, which takes no commits (see :func:`journal.index.hint.find_cut`),
- a file that another copy of the job shares by a hard link.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from journal.errors import StorageError
from journal.format.commits import START, Position, verified_blocks
from journal.format.extent import cut_error
from journal.fs import directories, files, handles
from journal.fs.handles import JournalFile
from journal.fs.names import HINT_NAME, NEW_JOURNAL_NAME, SYNC_MARK_NAME, TORN_NAME
from journal.fs.sync_mark import SyncMark, is_marked
from journal.index.hint import find_cut, remove_hint
from journal.store.reader import Reader


class Recovery(Reader):
    """The part of :class:`Journal` that locks the file, and puts it in order before a commit."""

    def __init__(self, directory: Path, *, sync: bool, lock_timeout_s: float) -> None:
        super().__init__(directory, lock_timeout_s)
        self._sync = sync
        self._mark: SyncMark | None = None
        self._names_synced = False  # True if the names of the file and its directories are synced
        # Set by a pull that brings back what was cut off. It gets the end of the cut journal.
        self.brings_back: Callable[[Position], bool] | None = None

    def _open(self) -> JournalFile:
        self._names_synced = False
        self._mark = None
        return super()._open()

    def _lock_and_recover(self) -> None:
        """Lock the file at the path, read the commits of others, and put the file in order."""
        while True:
            file = self._file
            if file is None or not file.writable:  # the file may have become writable
                file = self._open()
            if not file.try_lock():
                self._lock(file)
            if self._is_as_left(file):
                return
            size = file.size_at_path()
            if size is not None:
                if self._knows(file, size):
                    self._torn_end = 0  # an open commit was read earlier, then rolled back
                else:
                    self._catch_up(size, locked=True)
                if self._may_be_cut:
                    self.check_uncut()
                ready = file.writable and not (self._torn_end or self._unsynced or file.is_shared)
                if not ready or self._is_marked():
                    self._make_ready(file)
                return
            self._unlock(file)
            self._open()  # the file was deleted or replaced before it was locked

    def _is_as_left(self, file: JournalFile) -> bool:
        """Return whether the locked file can be used as it is: there is nothing to read or repair.

        Usually it can be used, since nobody else has written after the last commit in the index.
        """
        return (
            not (self._stale or self._torn_end or self._unsynced)
            and file.writable
            and file.ends_as(self._end, self._seal)
            and (self._mark is None or self._mark.is_clear())
        )

    def check_uncut(self) -> None:
        """Raise JournalDamagedError if the hint proves that the journal was cut.

        Hold the commit lock. Then nobody else writes the hint's commits at the moment.
        """
        missing = find_cut(self.directory, self.file)
        if missing is not None and not (self.brings_back and self.brings_back(missing)):
            raise cut_error(self.file, self._end, missing)
        self._may_be_cut = False

    def _unlock(self, file: JournalFile) -> None:
        try:
            file.unlock()
        except StorageError:
            file.close()  # closing releases the lock in any case
            self._file = None
            self._stale = True

    def _is_marked(self) -> bool:
        """Return whether a sync of the journal has failed, or was interrupted."""
        return self._doubtful_from() is not None

    def _doubtful_from(self) -> int | None:
        """Return the offset after which bytes may be missing on the disk, or None."""
        if self._mark is None:
            return None
        try:
            if not self._mark.is_at_path():
                self._mark = SyncMark(self.directory, self.file)
            return self._mark.doubtful_from()
        except OSError as error:
            raise handles.storage_error(self._mark_path, "read", error) from error

    def _leave_hint(self, *, small: bool = False) -> None:
        # With a set mark, the bytes on the disk may differ from those that were read.
        if not is_marked(self.directory):
            super()._leave_hint(small=small)

    def _make_ready(self, file: JournalFile) -> None:
        """Put the file in order after a writer that died, or after a failed sync."""
        if not file.writable:
            raise StorageError(self.path, "write", errno.EROFS, file.refusal)
        # A writer that died may have left this file. This process holds the lock, so no other
        # process uses the file.
        files.remove_file(self.path.with_name(NEW_JOURNAL_NAME))
        if file.unended_at >= 0:
            file.end_last_line()
        if self._torn_end:
            self._cut_torn_tail(file)
        if self._sync:
            # If a writer died between its write and its sync, its commits may not be on the disk.
            # Sync them now, since a power cut must not damage more than the last commit.
            self._sync_names()
            self._sync_commits(file)
        if self.file.is_shared:
            self._rewrite("so that no copy shares it by a hard link")
        self._unsynced = False

    def _sync_commits(self, file: JournalFile) -> None:
        """Sync the commits of other writers.

        Rewrite the journal if an earlier sync has left bytes in doubt, or if this sync fails.
        """
        with handles.refusals_of(self._mark_path, "open"):
            self._mark = self._mark or SyncMark(self.directory, file)
        start = self._doubtful_from()
        # Nothing is in doubt, or all bytes in doubt were cut off.
        if start is None or 0 < start == self._end:
            try:
                self.sync_file(start or 0)
            except StorageError:
                if not self._is_marked():
                    raise  # the mark could not be set, so nothing was synced
            else:
                return
        self._rewrite("since a sync of it has failed or was interrupted")

    @property
    def _mark_path(self) -> Path:
        return self.directory / SYNC_MARK_NAME

    def sync_file(self, start: int) -> None:
        """Sync the journal. On return, all of the journal survives a power cut.

        ``start`` is the offset up to which the journal is already on the disk, or 0 if unknown.

        The sync mark is set during the sync, and stays set if the sync fails. After a failed sync,
        all bytes after ``start`` are in doubt. They must be cut off before the next sync, since a
        successful sync clears the mark.

        A new journal that isn't in its place yet has no mark. If its sync fails, the journal is
        discarded.
        """
        mark = self._mark
        if mark is None:
            self.file.sync()
            return
        try:
            mark.set(start)
        except OSError as error:
            raise handles.storage_error(self._mark_path, "write", error) from error
        self.file.sync()
        mark.clear()

    def _rewrite(self, why: str) -> None:
        """Replace the journal with a copy, since bytes in the cache may be missing on the disk.

        Overwriting the file with the same bytes wouldn't help. A block that was allocated for a
        failed write may read as zeros after the next boot, even if it was written again.
        """
        file, end = self.file, self._end

        def commits() -> Iterator[bytes]:
            found = START.offset
            for block in verified_blocks(file, START, end):
                text = b"\n".join([*block.lines, b""])
                found += len(text)
                yield text
            if found != end:  # the cache no longer has the bytes
                self._stale = True
                reason = f"only {found} of its {end} bytes can be read again"
                raise StorageError(self.path, "read", errno.EIO, reason)

        try:
            self.replace_file(self.write_beside(commits(), keep_owner=True))
        except StorageError as error:
            at = "" if error.path == str(self.path) else f"{error.path}: "
            reason = f"{at}{error.reason} (the copy takes {end} bytes; your change was not made)"
            operation = f"write, {why}, a copy of"
            raise StorageError(self.path, operation, error.errno, reason) from error

    def write_beside(self, chunks: Iterable[bytes], *, keep_owner: bool = False) -> JournalFile:
        """Write a new journal file next to the current one.

        The new file is locked. If this journal syncs, the new file is synced, too. The caller must
        hold the commit lock. With ``keep_owner``, raises StorageError if the new file can't have
        the owner of the current one.
        """
        path = self.path.with_name(NEW_JOURNAL_NAME)
        with handles.refusals_of(path, "create"):
            new = JournalFile(path, create=True)
        try:
            for chunk in chunks:
                new.append(chunk)
            if not new.take_owner_of(self.file) and keep_owner:
                reason = "it belongs to another user, who would lose it: let that user commit first"
                raise StorageError(self.path, "replace", errno.EPERM, reason)
            if self._sync:
                new.sync()
            self._lock(new)
        except BaseException:
            new.close()
            files.remove_file(path)
            raise
        return new

    def replace_file(self, new: JournalFile) -> None:
        """Replace the journal with a file from :meth:`write_beside`, and use the new file.

        On return, the new file survives a power cut if this journal syncs. The lock of the old file
        is released, and the caller holds the lock of the new file. If this method raises after the
        rename, a power cut may bring back the old file.
        """
        mark, old = self._mark, self.file
        try:
            if mark is not None:
                mark.set(0)
            remove_hint(self.directory, old)
            new.rename(self.path)
        except BaseException as error:
            new.close()
            files.remove_file(self.path.with_name(NEW_JOURNAL_NAME))
            if isinstance(error, OSError):
                raise handles.storage_error(self.path, "replace", error) from error
            raise
        self._file = new
        self._window = 0, b""
        self._hint_end = 0
        self._known_ns = new.size_and_change()[1]
        files.remove_file(self.directory / HINT_NAME)  # of the old file, if it was cut
        old.unlock()
        if mark is None:
            return
        with handles.refusals_of(self.directory, "sync"):
            directories.sync_directory(self.directory)
        mark.clear()

    def _sync_names(self) -> None:
        """Sync the directories that lead to the file.

        The program that made or copied the job may not have synced these directories.
        """
        if self._names_synced:
            return
        root = self.directory.parent.resolve()
        for path in (self.directory, root, root.parent):
            try:
                directories.sync_directory(path)
            except OSError as error:
                if path == root.parent and isinstance(error, PermissionError):
                    continue  # this process may not open the directory, so it made no name there
                raise handles.storage_error(path, "sync", error) from error
        self._names_synced = True

    def _cut_torn_tail(self, file: JournalFile) -> None:
        """Save the torn tail (an interrupted write) to a file, then truncate the journal."""
        target = self.directory / f"{TORN_NAME}-{self._end}"
        with handles.refusals_of(target, "save the torn tail in"):
            files.save_copy(file, self._end, self._torn_end, target, sync=self._sync)
            if self._sync:  # sync before the truncation, so that a power cut can't lose both
                directories.sync_directory(self.directory)
        file.truncate(self._end)
        self._torn_end = 0
