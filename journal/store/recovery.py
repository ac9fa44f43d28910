"""Recovery: puts a journal in order before the next commit.

What can be found: a torn tail or unsynced commits of a writer that died, the mark of a failed sync,
a last line without its LF, and a file that another copy shares by a hard link.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from pathlib import Path

from journal.errors import StorageError
from journal.format.commits import START, verified_blocks
from journal.fs import directories, files, handles
from journal.fs.handles import JournalFile
from journal.fs.names import NEW_JOURNAL_NAME, SYNC_MARK_NAME, TORN_NAME
from journal.fs.sync_mark import SyncMark, is_marked
from journal.store.reader import Reader


class Recovery(Reader):
    """The part of :class:`Journal` that locks the file and makes it ready for a commit."""

    def __init__(self, directory: Path, *, sync: bool, lock_timeout_s: float) -> None:
        super().__init__(directory, lock_timeout_s)
        self._sync = sync
        self._mark: SyncMark | None = None
        self._names_synced = False  # whether the names of the file and its directories are synced

    def _open(self) -> JournalFile:
        self._names_synced = False
        self._mark = None
        return super()._open()

    def _lock_and_recover(self) -> None:
        """Lock the file that the path names, read all commits in it, and make it ready."""
        while True:
            file = self._file
            if file is None or not file.writable:  # it may have become writable
                file = self._open()
            if not file.try_lock():
                self._lock(file)
            size = file.size_at_path()
            if size is not None:
                if self._knows(file, size):
                    self._torn_end = 0  # a reader saw an open commit that was rolled back
                else:
                    self._catch_up(size, locked=True)
                ready = file.writable and not (self._torn_end or self._unsynced or file.is_shared)
                if not ready or self._is_marked():
                    self._make_ready(file)
                return
            self._unlock(file)
            self._open()  # the file was deleted or replaced before it was locked

    def _unlock(self, file: JournalFile) -> None:
        try:
            file.unlock()
        except StorageError:
            file.close()  # which releases the lock in any case
            self._file = None
            self._stale = True

    def _is_marked(self) -> bool:
        """Whether a sync of the journal has failed, or was interrupted."""
        return self._doubtful_from() is not None

    def _doubtful_from(self) -> int | None:
        """The offset after which a failed sync leaves the file in doubt; None if there was none."""
        if self._mark is None:
            return None
        try:
            if not self._mark.is_at_path():
                self._mark = SyncMark(self.directory, self.file)
            return self._mark.doubtful_from()
        except OSError as error:
            raise handles.storage_error(self._mark_path, "read", error) from error

    def _leave_hint(self, *, durable: bool = False) -> None:
        if not is_marked(self.directory):  # the system may later read other bytes than we did
            super()._leave_hint(durable=durable)

    def _make_ready(self, file: JournalFile) -> None:
        """Repair what a writer that died, or a failed sync, has left."""
        if not file.writable:
            raise StorageError(self.path, "write", errno.EROFS, file.refusal)
        # A leftover: whoever made it has died, for we hold the lock.
        files.remove_file(self.path.with_name(NEW_JOURNAL_NAME))
        if file.unended_at >= 0:
            file.end_last_line()
        if self._torn_end:
            self._cut_torn_tail(file)
        if self._sync:
            # A power cut may damage only the last commit. So before the next one, sync the commits
            # of a writer that died between its write and its sync.
            self._sync_names()
            self._sync_commits(file)
        if self.file.is_shared:
            self._rewrite("so that no copy shares it by a hard link")
        self._unsynced = False

    def _sync_commits(self, file: JournalFile) -> None:
        """Sync what other writers have committed, or rewrite the journal if that can't be done."""
        with handles.refusals_of(self._mark_path, "open"):
            self._mark = self._mark or SyncMark(self.directory, file)
        start = self._doubtful_from()
        if start is None or 0 < start == self._end:  # it was cut off, which isn't synced yet
            try:
                self.sync_file(start or 0)
            except StorageError:
                if not self._is_marked():
                    raise  # the mark could not be set, so nothing was synced
            else:
                return
        self._rewrite("since a sync of it has failed, or its process has died in it")

    @property
    def _mark_path(self) -> Path:
        return self.directory / SYNC_MARK_NAME

    def sync_file(self, start: int) -> None:
        """Sync the journal: return when all of it survives a power cut.

        ``start``: up to there it is on the disk already; 0 if that isn't known. The mark is set
        meanwhile, and stays set if the sync fails. Then everything after ``start`` is in doubt and
        must be cut off before the next sync, which clears the mark. Only a new journal that isn't
        in its place yet has no mark: if its sync fails, it is discarded.
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
        """Replace the journal by a copy, since the disk may lack what the cache still holds.

        Writing the same bytes over themselves doesn't help. A block that was allocated for a failed
        write may read as zeros after the next boot, whatever is written to it later.
        """
        file, end = self.file, self._end

        def commits() -> Iterator[bytes]:
            found = START.offset
            for block in verified_blocks(file, START, end):
                text = b"\n".join([*block.lines, b""])
                found += len(text)
                yield text
            if found != end:  # the cache has dropped it
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
        """Write a new file for the journal beside it. It is locked and, with ``sync``, synced.

        The caller holds the commit lock. ``keep_owner``: raise StorageError if the new file can't
        have the owner of the journal.
        """
        path = self.path.with_name(NEW_JOURNAL_NAME)
        with handles.refusals_of(path, "create"):
            new = JournalFile(path, create=True)
        try:
            for chunk in chunks:
                new.append(chunk)
            if not new.take_owner_of(self.file) and keep_owner:
                reason = "it belongs to another user, who would lose it: let that one commit first"
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
        """Replace the journal by a file from :meth:`write_beside`, and use that from now on.

        On return it survives a power cut, and the caller holds its lock instead of the old one. If
        this raises after the rename, a power cut may bring back the old file.
        """
        mark, old = self._mark, self.file
        try:
            if mark is not None:
                mark.set(0)
            new.rename(self.path)
        except BaseException as error:
            new.close()
            files.remove_file(self.path.with_name(NEW_JOURNAL_NAME))
            if isinstance(error, OSError):
                raise handles.storage_error(self.path, "replace", error) from error
            raise
        self._file = new
        self._hint_end = 0
        self._known_ns = new.size_and_change()[1]
        old.unlock()
        if mark is None:
            return
        with handles.refusals_of(self.directory, "sync"):
            directories.sync_directory(self.directory)
        mark.clear()

    def _sync_names(self) -> None:
        """Sync the names that lead to the file: who made or copied the job may not have done so."""
        if self._names_synced:
            return
        root = self.directory.parent.resolve()
        for path in (self.directory, root, root.parent):
            try:
                directories.sync_directory(path)
            except OSError as error:
                if path == root.parent and isinstance(error, PermissionError):
                    continue  # without permission to open it, we made no name in it
                raise handles.storage_error(path, "sync", error) from error
        self._names_synced = True

    def _cut_torn_tail(self, file: JournalFile) -> None:
        """Save the torn tail to a file, then cut it off."""
        target = self.directory / f"{TORN_NAME}-{self._end}"
        with handles.refusals_of(target, "save the torn tail in"):
            files.save_copy(file, self._end, self._torn_end, target, sync=self._sync)
            if self._sync:  # else a power cut might take the copy and leave the cut
                directories.sync_directory(self.directory)
        file.truncate(self._end)
        self._torn_end = 0
