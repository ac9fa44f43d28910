"""Reading: keeps the index of a journal up to date with the commits in the file.

Readers take no lock. They use only commits that end with a valid seal (a chained CRC-32). The bytes
after the last such commit are a commit that is being written, or a torn tail (an interrupted
write).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from journal.errors import (
    JobLockedError,
    JobMismatchError,
    JournalDamagedError,
)
from journal.format.commits import START, Position, verified_blocks
from journal.format.extent import seal_after
from journal.format.seal import SEALED_END_BYTES, SEALED_LINE_END, sealed_end
from journal.fs.handles import JournalFile, open_journal
from journal.fs.locks import wait_for_lock
from journal.fs.names import JOURNAL_NAME
from journal.index import hint
from journal.index.hint import read_hint, write_hint, written_ns
from journal.index.index import Index
from journal.index.replay import apply_block

_WINDOW_BYTES = 4096


class Reader:
    """The part of :class:`Journal` that reads. Hold ``mutex`` while you use the index."""

    def __init__(self, directory: Path, lock_timeout_s: float) -> None:
        self.directory = directory
        self.job_id = directory.name
        self.path = directory / JOURNAL_NAME
        self.mutex = threading.RLock()
        self.index = Index()
        self.exact = False  # True if numbers are read with all their digits: see Number
        self._lock_timeout_s = lock_timeout_s
        self._window = 0, b""  # the bytes that row_line has read last, after their offset
        self._sync = False  # True if this journal syncs its commits
        self._file: JournalFile | None = None
        self._stale = True  # True if the index may differ from the file, and must be rebuilt
        self._end = 0  # the end of the last commit in the index, and the crc in its seal
        self._end_crc = 0
        self._seal = b""  # this seal, as it is in the file
        self._torn_end = 0  # the end of the torn tail, or 0
        self._torn_head = b""  # the first bytes of the torn tail, or b"" if it has a seal
        self._unsynced = True  # True if the file may contain commits that no process has synced
        self._is_new = False  # True if the file was opened and not read yet
        self._known_ns = 0  # a later ctime of the file means that somebody edited the file
        self._hint_end = 0  # the end of the last commit that the hint covers, as far as known
        self._may_be_cut = True  # False once the hint was asked whether the journal was cut

    @property
    def file(self) -> JournalFile:
        """The open file. Read from it at the offsets in the index. Call :meth:`refresh` first."""
        assert self._file is not None
        return self._file

    @property
    def end(self) -> int:
        """The end of the last commit in the index, in bytes."""
        return self._end

    @property
    def position(self) -> Position:
        """The position after the last commit in the index."""
        return Position(self._end, self._end_crc)

    def acquire(self) -> None:
        """Take the mutex. Raises JobLockedError if another thread keeps a batch open too long."""
        taken: list[bool] = []
        try:  # one call of C code takes the mutex, as in Journal.__enter__
            taken.extend(map(self.mutex.acquire, (True,), (self._lock_timeout_s,)))
        except BaseException:
            if any(taken):
                self.mutex.release()
            raise
        if not taken[0]:
            raise JobLockedError(self.job_id, self._lock_timeout_s)

    @contextmanager
    def reading(self, *, locked: bool = False) -> Iterator[Index]:
        """Hold the mutex for a ``with`` block, and yield the up-to-date index.

        ``locked`` and errors: as in :meth:`refresh`.
        """
        self.acquire()
        try:
            yield self.refresh(locked=locked)
        finally:
            self.mutex.release()

    def refresh(self, *, locked: bool = False) -> Index:
        """Bring the index up to date with the last commit in the file, and return it.

        ``locked``: whether the caller holds the commit lock, by a file that it has opened itself.

        Raises JobNotFoundError, JobMismatchError, JournalDamagedError, FormatVersionError,
        StorageError.
        """
        file = self._file
        size = file.size_at_path() if file is not None else None
        if file is None or size is None:
            file = self._open()
            size = file.size_bytes()
        if not self._knows(file, size):
            begin = self._end
            self._catch_up(size, locked=locked)
            if hint.is_due_after_replay(self._end - begin):
                self._leave_hint()
        return self.index

    def _open(self) -> JournalFile:
        """Open the journal that is at the path now. This method doesn't read it."""
        self._file = None
        self._stale = self._is_new = True
        self._file = open_journal(self.path, self.job_id)
        return self._file

    def _knows(self, file: JournalFile, size: int) -> bool:
        """Return whether the file ends with the last commit in the index.

        The size alone doesn't show this: somebody may have overwritten the file with a diverged
        copy of the same length. So the seal (the CRC-32 at the end of the last commit) is
        compared, too. Each seal covers all bytes before it.
        """
        return size == self._end and not self._stale and self._has_our_seal(file)

    def _has_our_seal(self, file: JournalFile) -> bool:
        begin = self._end - SEALED_END_BYTES
        return begin < 0 or file.read_at(begin, SEALED_END_BYTES) == self._seal

    def _catch_up(self, size: int, *, locked: bool) -> None:
        """Apply the commits that the index lacks, from the first ``size`` bytes of the file."""
        file = self.file
        if self._stale or size < self._end or not self._has_our_seal(file):
            self._stale = True
            self._torn_end = 0
            self._begin_again()
            self._replay(size, locked=locked)
            self._check_header()
            self._stale = False
        elif locked or not self._is_still_torn(file, size):
            self._replay(size, locked=locked)
        else:
            self._torn_end = size

    def _begin_again(self) -> None:
        """Drop the index. If the file was just opened, load the index from the hint file."""
        hinted = None
        self._may_be_cut = True
        self._known_ns = self.file.size_and_change()[1]
        if self._is_new:
            self._is_new = False
            hinted = read_hint(self.directory, self.file)
        self._window = 0, b""
        self.index, position = hinted or (Index(), START)
        self._set_end(position)
        self._hint_end = self._end

    def _leave_hint(self, *, small: bool = False) -> None:
        """Write a hint (the saved index) if enough was read or written since the last hint.

        With ``small``, the hint is written in any case.
        """
        if self.file.unended_at >= 0:  # a hint must end with a complete commit
            return
        if small or hint.is_worth_writing(self._end, self._hint_end):
            self._hint_end = self._end
            position = Position(self._end, self._end_crc)
            write_hint(
                self.directory,
                self.file,
                self.index,
                position,
                durable=self._sync and not self._unsynced,
                known_ns=self._known_ns,
            )

    def _is_still_torn(self, file: JournalFile, size: int) -> bool:
        """Return whether the bytes after the last commit are still a torn tail (an interrupted
        write) that needs no reading again.

        A large commit is written in parts, and only its end has a seal (a CRC-32). So a torn tail
        without a seal that has grown by bytes without a seal is still one. If the writer died, and
        another one has written a commit in place of the tail, the tail begins differently.
        """
        if not self._torn_end or size < self._torn_end:
            return False
        # The LF of the last seal may be missing.
        end = file.read_at(size - SEALED_END_BYTES, SEALED_END_BYTES)
        if SEALED_LINE_END.search(end + b"\n"):
            return False
        return size == self._torn_end or (
            bool(self._torn_head)
            and file.read_at(self._end, len(self._torn_head)) == self._torn_head
            and seal_after(file, self._torn_end, size) is None
        )

    def _check_header(self) -> None:
        if self.index.state is None:
            raise JournalDamagedError(self.path, 1, 0, "a job record", "an empty file")
        if self.index.state.header.id != self.job_id:
            raise JobMismatchError(self.directory, self.index.state.header.id)

    def _replay(self, size: int, *, locked: bool) -> None:
        """Apply the commits from the index's position up to ``size``, and judge the bytes after
        them.
        """
        self._unsynced = True
        begin = Position(self._end, self._end_crc)
        try:
            for block in verified_blocks(self.file, begin, size):
                apply_block(self.index, self.file, block)
                if block.ends:
                    self._set_end(block.after)
        except BaseException:
            self._stale = True  # the index may contain a part of a block
            raise
        self._torn_end = 0
        if self._end > begin.offset:
            self._known_ns = max(self._known_ns, written_ns(self.index.last_at))
        if self._end < size:
            self._judge_tail(size, locked=locked)

    def _set_end(self, position: Position) -> None:
        self._end, self._end_crc = position
        self._seal = sealed_end(position.crc)

    def _judge_tail(self, size: int, *, locked: bool) -> None:
        """Decide whether the bytes after the last commit are an interrupted write or damage."""
        from journal.format.torn_tail import judge_tail, tail_error  # noqa: PLC0415  (rarely used

        tail = judge_tail(self.file, size, self.position)
        if tail.kind == "torn":
            self._torn_end = size
            head_bytes = 0 if tail.sealed_end else min(_WINDOW_BYTES, size - self._end)
            self._torn_head = self.file.read_at(self._end, head_bytes)
            return
        if not locked:
            self._look_again()
            return
        if tail.kind == "unended":
            self.file.unended_at = size
            self._replay(size + 1, locked=True)
            return
        self._stale = True
        raise tail_error(self.file, self.position, tail)

    def _look_again(self) -> None:
        """Read again with the commit lock held.

        A writer may have truncated the file while it was read without the lock.
        """
        file = self.file
        self._lock(file)
        try:
            size = file.size_at_path()
            if size is not None:
                self._catch_up(size, locked=True)
        finally:
            self._unlock(file)
        if size is None:  # the file was replaced or deleted: open the file that is there now
            self._stale = True
            self.refresh()

    def _lock(self, file: JournalFile) -> None:
        if not file.try_lock() and not wait_for_lock(file, self._lock_timeout_s):
            raise JobLockedError(self.job_id, self._lock_timeout_s)

    def _unlock(self, file: JournalFile) -> None:
        file.unlock()

    def read_line(self, offset: int) -> bytes:
        """Return the line at an offset from the index, without its LF."""
        return self.file.read_line(offset)

    def row_line(self, offset: int) -> bytes:
        """Return the line at an offset from the index, without its LF.

        This method keeps a window of the file in memory. So for lines near each other, it is faster
        than :meth:`read_line`. The window stays valid, since bytes before the end of the last
        commit never change.
        """
        start, data = self._window
        begin = offset - start
        end = data.find(b"\n", begin) if begin >= 0 else -1
        if end < 0 and offset < self._end:
            data = self.file.read_some(offset, min(_WINDOW_BYTES, self._end - offset))
            self._window = offset, data  # one assignment, since a signal handler may raise
            begin, end = 0, data.find(b"\n")
        return data[begin:end] if end >= 0 else self.read_line(offset)
