"""What a dead writer or a failed sync has left in a journal, put in order before the next commit."""

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
    """A reader that may make its journal ready to be written; the caller holds the commit lock."""

    def __init__(self, directory: Path, *, sync: bool, lock_timeout_s: float) -> None:
        super().__init__(directory, lock_timeout_s)
        self._sync = sync
        self._mark: SyncMark | None = None
        self._names_synced = False  # those that lead to the file

    def _open(self) -> JournalFile:
        self._names_synced = False
        self._mark = None
        return super()._open()

    def _is_marked(self) -> bool:
        """Whether a sync of the journal has failed, as far as this writer has to care."""
        return self._doubtful_from() is not None

    def _doubtful_from(self) -> int | None:
        """Where what a failed sync has left in doubt begins; None if there is nothing."""
        try:
            if self._mark is not None and not self._mark.is_at_path():
                self._mark = SyncMark(self.directory, self.file)
            return None if self._mark is None else self._mark.doubtful_from()
        except OSError as error:
            raise handles.storage_error(self._mark_path, "read", error) from error

    def _leave_hint(self, *, durable: bool = False) -> None:
        if not is_marked(self.directory):  # the system may yet read other pages than we did
            super()._leave_hint(durable=durable)

    def _make_ready(self, file: JournalFile) -> None:
        """Recover what a dead writer, or a failed sync, has left behind."""
        if not file.writable:
            raise StorageError(self.path, "write", errno.EROFS, file.refusal)
        files.remove_file(
            self.path.with_name(NEW_JOURNAL_NAME)
        )  # of one that died: we hold its lock
        if file.unended_at >= 0:
            file.end_last_line()
        if self._torn_end:
            self._cut_torn_tail(file)
        if self._sync:
            # After a power cut only the last commit may be damaged: so nothing is written
            # behind commits of a writer that died between its write and its sync.
            self._sync_names()
            self._sync_commits(file)
        if self.file.is_shared:
            self._write_anew("so that no copy shares it by a hard link")
        self._unsynced = False

    def _sync_commits(self, file: JournalFile) -> None:
        """Bring to the disk what others have committed, or a writer that died."""
        try:
            self._mark = self._mark or SyncMark(self.directory, file)
        except OSError as error:
            raise handles.storage_error(self._mark_path, "open", error) from error
        start = self._doubtful_from()
        if start is None or 0 < start == self._end:  # cut off, and that is not sure yet
            try:
                self.sync_file(start or 0)
            except StorageError:
                if not self._is_marked():
                    raise  # it could not be announced, so it was not asked for
            else:
                return
        self._write_anew("since a sync of it has failed, or its process has died in it")

    @property
    def _mark_path(self) -> Path:
        return self.directory / SYNC_MARK_NAME

    def sync_file(self, start: int) -> None:
        """Return when what the journal holds survives a power cut.

        It is marked meanwhile, and stays so if the sync fails: then what is behind ``start`` is in
        doubt, and must be cut off before the next sync, which takes the mark away. Up to there it
        is on the disk; 0 if nobody knows. Only a new journal, which isn't in its place yet, has no
        mark: if its sync fails, it is given up.
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

    def _write_anew(self, why: str) -> None:
        """Put a copy in the place of a file of which the disk may lack what the cache still holds.

        To write the same bytes over themselves doesn't help: a block that was allocated for a
        write that failed may be read as zeros after the next start, whatever is written to it.
        """
        file, end = self.file, self._end

        def commits() -> Iterator[bytes]:
            found = START.offset
            for block in verified_blocks(file, START, end):
                text = b"\n".join([*block.lines, b""])
                found += len(text)
                yield text
            if found != end:  # the cache has let go of it
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
        """A new file for the journal, locked and, with ``sync``, on the disk; not in its place yet.

        The caller holds the commit lock. ``keep_owner``: StorageError if it can't belong to the
        user that the journal belongs to.
        """
        path = self.path.with_name(NEW_JOURNAL_NAME)
        try:
            new = JournalFile(path, create=True)
        except OSError as error:
            raise handles.storage_error(path, "create", error) from error
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
        """Put a file of :meth:`write_beside` in the place of the journal, and go on with it.

        On return it survives a power cut, and the caller holds its lock instead of the old one's.
        If this raises once it is in its place, the old one may be there after a power cut.
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
        try:
            directories.sync_directory(self.directory)
        except OSError as error:
            raise handles.storage_error(self.directory, "sync", error) from error
        mark.clear()

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

    def _cut_torn_tail(self, file: JournalFile) -> None:
        """Save what a dead writer left behind the last commit, then cut it off."""
        target = self.directory / f"{TORN_NAME}-{self._end}"
        try:
            files.save_copy(file, self._end, self._torn_end, target, sync=self._sync)
            if self._sync:  # else a power cut might take the copy and leave the cut
                directories.sync_directory(self.directory)
        except OSError as error:
            raise handles.storage_error(target, "save the torn tail in", error) from error
        file.truncate(self._end)
        self._torn_end = 0
