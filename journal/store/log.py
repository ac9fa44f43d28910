"""The journal file of one job.

A :class:`Log` reads the file's verified commits, appends to the file, and truncates the file.

Readers take no lock. They use only commits that end with a valid seal (a chained CRC-32). The bytes
after the last such commit are a commit that is being written, or a torn tail (an interrupted
write). Writers hold the commit lock, which is the lock of the file itself.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time_ns
from typing import NoReturn
from zlib import crc32

from journal.errors import JobLockedError, StorageError
from journal.format.commits import START, Block, Position, has_seal, seal_after, verified_blocks
from journal.format.seal import SEAL, SEAL_HEAD, SEALED_END_BYTES, sealed_end
from journal.format.torn_tail_or_damage import judge_tail, tail_error
from journal.fs import files, handles
from journal.fs.file_names import HINT_NAME, JOURNAL_NAME, NEW_JOURNAL_NAME, SYNC_MARK_NAME
from journal.fs.handles import Guard, JournalFile, open_journal, outcome_unknown
from journal.fs.locks import wait_for_lock
from journal.fs.network_claims import Claim, network_of
from journal.fs.sync_mark import SyncMark
from journal.ids import id_of_directory
from journal.index.hint import find_cut, remove_hint

_WINDOW_BYTES = 4096
# Matches the end of a commit with a flipped bit in its `SEAL_HEAD`, or with CR LF (text mode).
_LIKE_SEALED_END = re.compile(rb'(?:[0-9a-f]{8}"}|}\r)\n\Z')


class Log:
    """The journal file of one job: see the module. Not thread-safe."""

    def __init__(
        self, directory: Path, *, sync: bool, lock_timeout_s: float, create: bool = False
    ) -> None:
        """Use the journal in ``directory``. With ``create``, make a new, empty file there."""
        self.directory = directory
        self.path = directory / JOURNAL_NAME
        self.syncs = sync
        self.claim: Claim | None = None  # see `use_claim`
        self._lock_timeout_s = lock_timeout_s
        self._file = JournalFile(self.path, create=True) if create else None
        self._mark: SyncMark | None = None  # None for a new file that isn't in its place yet
        self._window = 0, b""  # the last bytes that row_line has read: offset, bytes
        self.is_new = not create  # True if the file at the path was not read yet
        self.is_synced = create  # False if the file may contain commits that nobody has synced
        # True if the names of the file and its directories are synced. The code that moves a new
        # job into place syncs these names.
        self.are_names_synced = create
        self.end = START  # the position after the last commit that was read
        self.seal = b""  # the seal of this commit, as in the file
        self.torn_end = 0  # the end of the torn tail or of the padding, or 0
        self._torn_head = (
            b""  # the first bytes of that tail or padding, or b"" if it must be read each time
        )
        # A commit begins with ``written = end``.
        self.written = START  # the position after the written part of the open commit
        self.is_foreign = False  # True if another program wrote to the file during the open commit
        self.known_ns = 0  # if the file's ctime is later, somebody edited the file
        self.hint_end = 0  # the end of the last commit that the hint covers, as far as known

    @property
    def file(self) -> JournalFile:
        """The open file."""
        assert self._file is not None
        return self._file

    def reopen(self) -> JournalFile:
        """Open the current journal at the path, without reading it.

        Raises StorageError if another run has claimed the job. The journal then belongs to that
        run.
        """
        self.close()
        self._file = file = open_journal(self.path, id_of_directory(self.directory))
        if self.claim is not None:
            self._check_claim()
        self._guard(file)
        return file

    # --- on a network file system: see fs/network_claims.py

    def use_claim(self, claim: Claim | None) -> None:
        """Work for the run with this claim. On a local file system, there is no claim."""
        if claim is not None:
            self.close()  # another node may have replaced the file
            self.claim = claim

    def _guard(self, file: JournalFile) -> None:
        """Let a file on a network file system ask for changes, unless this process has the job.

        Each commit is synced there, because other nodes see only the data on the server.
        """
        if network_of(file.device):
            self.syncs = True
            file.guard = self.claim or Guard()
            file.forget_cached()

    @property
    def is_after_claim(self) -> bool:
        """Whether the claim is over. Another node's run may have the job now."""
        return self.claim is not None and self.claim.is_over

    def _check_claim(self) -> None:
        """If another run has claimed the job, close the file, and raise StorageError.

        This method lists the claims once. The journal of a run that claims the job after the
        listing has all data that was synced before the listing.
        """
        claim = self.claim
        assert claim is not None
        if claim.is_over:
            self.claim = None
            return
        with handles.refusals_of(claim.path, "look at"):
            why = claim.why_lost()
        if why:
            self.close()
            raise StorageError(self.path, "use", errno.ESTALE, why)

    def take_over(self, claim: Claim) -> None:
        """Replace the journal with a copy, because an earlier run may still write to the file.

        Then the earlier claims are removed. A journal that was cut isn't replaced, because the hint
        proves the cut only for the same file. In this case, the earlier claims stay.
        """
        self.use_claim(claim)
        with self.locked() as size:
            if self.file.writable and find_cut(self.directory, self.file) is None:
                self.doubtful_from(make=True)
                self.replace(self.write_beside(self.file.pieces(0, size)))
                files.remove_file(self.directory / SYNC_MARK_NAME)  # the earlier run has it open
                claim.forget_earlier()
        self.close()

    def close(self) -> None:
        """Close the file, unless a view still reads from it."""
        self._file = self._mark = None
        self.is_new, self.are_names_synced = True, False

    # --- reading

    def size(self) -> int:
        """Return the size of the file at the path. Open the file, if it isn't open yet."""
        size = None if self._file is None else self._file.size_at_path()
        return self.reopen().size_bytes() if size is None else size

    def begin_at(self, position: Position) -> None:
        """Read the file from ``position`` on."""
        self.is_new = self.is_synced = False
        self._window = 0, b""
        self.torn_end = 0
        self._set_end(position)
        self.hint_end = position.offset

    def _set_end(self, position: Position) -> None:
        self.end, self.seal = position, sealed_end(position.crc)

    def continues(self, size: int) -> bool:
        """Return whether the first ``size`` bytes of the file begin with all that was read.

        Comparing the size isn't enough: somebody may have overwritten the file with a diverged
        copy. So the seal of the last commit is compared. Each seal covers all bytes before the
        seal.
        """
        return not self.is_new and size >= self.end.offset and has_seal(self.file, self.end)

    def is_still_torn(self, size: int) -> bool:
        """Return whether the known tail or padding after the last commit needn't be read again.

        A torn tail is an interrupted write. A large commit is written in parts, and only its end
        has a seal (a CRC-32). So a torn tail that has grown by bytes without a seal is still a torn
        tail, unless its end looks like a damaged seal. If another writer has written a commit in
        place of the tail or the padding, the bytes there begin differently.
        """
        file, head = self.file, self._torn_head
        if not self.torn_end or size < self.torn_end or not head:
            return False
        end = file.read_at(size - SEALED_END_BYTES, SEALED_END_BYTES)
        if SEAL_HEAD in end or _LIKE_SEALED_END.search(end):
            return False
        if file.read_at(self.end.offset, len(head)) != head:
            return False
        if seal_after(file, self.torn_end, size, SEAL) is not None:
            return False
        self.torn_end = size
        return True

    def read(self, size: int, apply: Callable[[Block], object], *, locked: bool) -> bool:
        """Call ``apply`` for the verified commits up to ``size``, and judge the bytes after them.

        ``locked``: whether the caller holds the commit lock. If the bytes are neither a torn tail
        nor padding, the result depends on the lock. Without the lock, a writer may have truncated
        the file during this call, and the method returns False: try again with the lock. With the
        lock, the method raises JournalDamagedError or FormatVersionError.
        """
        file = self.file
        self.torn_end = 0
        while self.end.offset < size:
            self.is_synced = False
            for block in verified_blocks(file, self.end, size):
                apply(block)
                if block.ends:
                    self._set_end(block.after)
            if self.end.offset == size:
                break
            tail = judge_tail(file, size, self.end)
            if tail.kind in ("torn", "padding"):
                self.torn_end = size
                # Padding may follow the first lines of a commit, and be replaced by the rest of the
                # commit. If a seal has lost its LF, later bytes may show that it is a seal.
                is_fickle = tail.end < size or seal_after(file, self.end.offset, size, SEAL)
                head_bytes = 0 if is_fickle else min(_WINDOW_BYTES, size - self.end.offset)
                self._torn_head = file.read_at(self.end.offset, head_bytes)
                break
            if not locked:
                return False
            if tail.kind != "unended":
                raise tail_error(file, self.end, tail)
            file.unended_at = size
            size += 1
        return True

    def row_line(self, offset: int) -> bytes:
        """Return the line at an offset before the end of the last commit, without its LF.

        A window of the file is kept in memory. So this method is faster than ``file.read_line`` for
        lines near each other, such as rows. Bytes before the end of the last commit never change.
        """
        start, data = self._window
        begin = offset - start
        end = data.find(b"\n", begin) if begin >= 0 else -1
        if end < 0:
            data = self.file.read_some(offset, min(_WINDOW_BYTES, self.end.offset - offset))
            self._window = offset, data  # one assignment: a signal handler may raise
            begin, end = 0, data.find(b"\n")
        return data[begin:end] if end >= 0 else self.file.read_line(offset)

    # --- locking

    def lock(self) -> int:
        """Take the commit lock of the file at the path; return the file's size. Raises JobLockedError."""
        while True:
            file = self._file
            if file is None or not file.writable:  # the file may have become writable
                file = self.reopen()
            if not file.try_lock():
                lock_journal(file, self.directory.name, self._lock_timeout_s)
            size = file.size_at_path()
            if size is not None:
                return size
            self.unlock()
            self.reopen()  # the file was deleted or replaced before it was locked

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the commit lock of the file at the path for a ``with`` block. Yields the size."""
        try:
            yield self.lock()
        finally:
            self.unlock()

    def is_as_left(self, size: int) -> bool:
        """Return whether there is nothing to read, and nothing to put in order, before a commit.

        ``size``: the size of the locked file. Usually nobody else has written after the last
        commit.
        """
        file = self._file
        return (
            file is not None
            and size == self.end.offset
            and self.is_synced
            and not (self.is_new or self.torn_end or file.is_shared)
            and file.writable
            and (not size or file.read_some(size - SEALED_END_BYTES, SEALED_END_BYTES) == self.seal)
            and (self._mark is None or self._mark.is_clear())
        )

    def unlock(self) -> None:
        """Release the commit lock."""
        if self._file is not None:
            try:
                self._file.unlock()
            except StorageError:
                self._file.close()  # closing releases the lock in any case
                self.close()

    # --- writing, with the commit lock

    def append(self, data: bytearray) -> None:
        """Append a part of a commit, without a seal.

        Readers ignore this part until the seal follows.
        """
        if self.claim is not None:
            self.claim.is_writing = True
        self._check_end()
        self.file.append(data)
        self.written = Position(self.written.offset + len(data), crc32(data, self.written.crc))

    def commit(self, data: bytearray, *, check: bool) -> None:
        """Append the last part of a commit with its seal, and sync the file.

        ``check``: whether another program may have written to the file since the commit began.
        After a failure, raises StorageError if nothing of the commit is recorded, else
        CommitOutcomeUnknownError.
        """
        if self.claim is not None:
            self.claim.is_writing = True
        del data[-2:]  # the closing brace and LF of the last record
        crc = crc32(data, self.written.crc)
        seal = sealed_end(crc)
        data += seal
        end = Position(self.written.offset + len(data), crc)
        try:
            if check:
                self._check_end()
            self.file.append(data)
        except StorageError as error:
            try:
                self.abandon(half_written=True)
            except StorageError as refused:  # if only the LF wasn't written, the commit is valid
                raise outcome_unknown(refused) from error
            raise
        if self.syncs:
            try:
                self.sync(self.end.offset)
            except StorageError as error:
                self._take_back(error)
        self.end, self.seal = end, seal
        self.known_ns = time_ns()
        if self.claim is not None:
            self.claim.is_writing = False
            try:
                self._check_claim()
            except StorageError as error:
                raise outcome_unknown(error) from error

    def _check_end(self) -> None:
        """Raise StorageError if another program has replaced the file or written to the file."""
        size = self.file.size_at_path()
        if size != self.written.offset or not has_seal(self.file, self.end):
            self.is_foreign = size is not None
            reason = "it was moved, replaced or written over while this commit was open"
            raise StorageError(self.path, "write", errno.ESTALE, reason)

    def abandon(self, *, half_written: bool) -> None:
        """Cut off what was written of the open commit."""
        if self.is_foreign:  # the bytes of another writer must not be cut off
            return
        if half_written or self.written != self.end:
            try:
                self.file.truncate(self.end.offset)
            except StorageError as error:  # the next use finds a torn tail and saves it
                operation = "roll back a half-written commit of"
                raise StorageError(self.path, operation, error.errno, error.reason) from error
            self.is_synced = False  # a power cut may put the cut blocks inside the next commit

    def cut_back(self, position: Position, length: int) -> bytes:
        """Cut off what was written of the open commit after ``position``.

        Returns the first ``length`` bytes of what was cut off.
        """
        self._check_end()
        data = self.file.read_at(position.offset, length)
        self.file.truncate(position.offset)
        self.written = position
        if self.syncs:  # otherwise a power cut could bring the truncated blocks back
            self.sync(self.end.offset)
        return data

    def _take_back(self, refused: StorageError) -> NoReturn:
        """Truncate the file to remove a commit whose sync failed. Earlier commits are on the disk.

        The sync can't be repeated, since the kernel has marked the pages clean. The next sync would
        report success although the pages may never reach the disk
        (https://wiki.postgresql.org/wiki/Fsync_Errors).
        """
        try:
            self.file.truncate(self.end.offset)
            self.is_synced = False
            self.sync(self.end.offset)
            self.is_synced = True
        except StorageError:
            raise outcome_unknown(refused) from refused
        reason = f"{refused.reason}; the change was undone: nothing of it is recorded"
        raise StorageError(self.path, "sync", refused.errno, reason) from refused

    def sync(self, start: int) -> None:
        """Sync the file. On return, all of the journal survives a power cut.

        ``start`` is the offset up to which the journal is already on the disk, or 0 if unknown.

        The sync mark is set during the sync, and stays set if the sync fails. After a failed sync,
        all bytes after ``start`` are in doubt. These bytes must be cut off before the next sync,
        because a successful sync clears the mark. A new journal that isn't in its place yet has no
        mark. If its sync fails, the new journal is discarded.
        """
        mark = self._mark
        if mark is None:
            self.file.sync()
            return
        try:
            mark.set(start)
        except OSError as error:
            raise handles.storage_error(mark.path, "write", error) from error
        self.file.sync()
        mark.clear()

    def doubtful_from(self, *, make: bool = False) -> int | None:
        """Return the offset after which bytes may be missing on the disk, or None.

        Bytes may be missing if a sync has failed, or was interrupted. If the sync mark isn't open
        yet, ``make`` makes the mark. Without ``make``, returns None.
        """
        path = self.directory / SYNC_MARK_NAME
        if self._mark is None and make:
            with handles.refusals_of(path, "open"):
                self._mark = SyncMark(self.directory, self.file)
        if self._mark is None:
            return None
        with handles.refusals_of(path, "read"):
            if not self._mark.is_at_path():
                self._mark = SyncMark(self.directory, self.file)
            return self._mark.doubtful_from()

    def write_beside(self, chunks: Iterable[bytes], *, keep_owner: bool = False) -> JournalFile:
        """Write a new journal file next to the current one.

        The new file is locked. If this log syncs, the new file is synced, too. With ``keep_owner``,
        raises StorageError if the new file can't have the owner of the current file.
        """
        path = self.path.with_name(NEW_JOURNAL_NAME)
        if self.claim is not None:
            path = self.claim.new_journal
        with handles.refusals_of(path, "create"):
            new = JournalFile(path, create=True)
        try:
            for chunk in chunks:
                new.append(chunk)
            if not new.take_owner_of(self.file) and keep_owner:
                reason = "it belongs to another user, who would lose it: let that user commit first"
                raise StorageError(self.path, "replace", errno.EPERM, reason)
            if self.syncs:
                new.sync()
            lock_journal(new, self.directory.name, self._lock_timeout_s)
        except BaseException:
            self.discard(new)
            raise
        return new

    def discard(self, new: JournalFile) -> None:
        """Remove a file of :meth:`write_beside` that won't replace the journal."""
        new.close()
        files.remove_file(new.path)

    def replace(self, new: JournalFile) -> None:
        """Replace the journal with a file from :meth:`write_beside`, and use the new file.

        On return, the new file survives a power cut if this log syncs. The lock of the old file is
        released, and the caller holds the lock of the new file. If this method raises after the
        rename, a power cut may bring back the old file.
        """
        mark, old = self._mark, self.file
        try:
            if self.claim is not None:
                self._check_claim()
            if mark is not None:
                mark.set(0)
            remove_hint(self.directory, old)
            new.rename(self.path)
        except BaseException as error:
            self.discard(new)
            if isinstance(error, OSError):
                raise handles.storage_error(self.path, "replace", error) from error
            raise
        self._file = new
        self._guard(new)
        self._window = 0, b""
        self.hint_end = 0
        self.known_ns = new.size_and_change()[1]
        files.remove_file(self.directory / HINT_NAME)  # until now, the hint proved any cut
        old.unlock()
        if mark is None:
            return
        with handles.refusals_of(self.directory, "sync"):
            files.sync_directory(self.directory)
        mark.clear()


def lock_journal(file: JournalFile, job_id: str, timeout_s: float) -> None:
    """Take the commit lock of a job's journal. Raises JobLockedError."""
    if not wait_for_lock(file, timeout_s):
        raise JobLockedError(job_id, timeout_s)
