"""One job's journal held open for reading: its index, kept up with what writers append.

Readers take no lock. They believe sealed commits only, and whatever follows the last of them is
a writer at work or a torn tail: neither is theirs to touch.
"""

from __future__ import annotations

import threading
from pathlib import Path

from journal.errors import (
    FormatVersionError,
    JobLockedError,
    JobMismatchError,
    JobNotFoundError,
    JournalDamagedError,
)
from journal.format.commits import START, Position, verified_blocks
from journal.format.extent import has_seal, not_continued
from journal.format.records import SEALED_END_BYTES, SEALED_LINE_END
from journal.fs.handles import JournalFile, storage_error
from journal.fs.locks import wait_for_lock
from journal.fs.names import JOURNAL_NAME
from journal.index.hint import read_hint, write_hint, written_ns
from journal.index.index import Index
from journal.index.replay import apply_block

# Less than this is replayed in the time that a hint takes.
HINT_BYTES = 1 << 18


class Reader:
    """See the module. The caller holds ``mutex`` around what it does with the index."""

    def __init__(self, directory: Path, lock_timeout_s: float) -> None:
        self.directory = directory
        self.job_id = directory.name
        self.path = directory / JOURNAL_NAME
        self.mutex = threading.RLock()
        self.index = Index()
        self._lock_timeout_s = lock_timeout_s
        self._file: JournalFile | None = None
        self._stale = False  # what we know may not be what the file holds: read all of it again
        self._end = 0  # of the last commit in the index: its offset, and its crc
        self._end_crc = 0
        self._torn_end = 0  # up to here the bytes behind the last commit were judged a torn tail
        self._unsynced = True  # the file may hold commits that no one has synced
        self._is_new = False  # the file was opened since it was read
        self._known_ns = 0  # until when changes of the file are accounted for, since 1970
        self._hint_end = 0  # of the commit that the hint stands for, as far as we know

    @property
    def file(self) -> JournalFile:
        """The open file, for reading what the index points to; call :meth:`refresh` first."""
        assert self._file is not None
        return self._file

    @property
    def end(self) -> int:
        """Where the last commit that the index knows ends, in bytes."""
        return self._end

    @property
    def position(self) -> Position:
        """Behind the last commit that the index knows."""
        return Position(self._end, self._end_crc)

    def refresh(self) -> Index:
        """The index as of the last commit in the file.

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
            self._catch_up(size, locked=False)
            if self._end - begin >= HINT_BYTES:
                self._leave_hint()
        return self.index

    def _open(self) -> JournalFile:
        """Open the journal that the path names now; what it holds is not known yet."""
        self._file = None
        self._stale = self._is_new = True
        try:
            self._file = JournalFile(self.path)
        except (FileNotFoundError, NotADirectoryError):
            raise JobNotFoundError(self.job_id) from None
        except OSError as error:
            raise storage_error(self.path, "open", error) from error
        return self._file

    def _knows(self, file: JournalFile, size: int) -> bool:
        """Whether the file ends with the last commit in the index.

        The size alone doesn't say so: a copy that went another way, of the same length, may
        have been written over it in place. The seal does, since it vouches for all before it.
        """
        return size == self._end and not self._stale and self._has_our_seal(file)

    def _has_our_seal(self, file: JournalFile) -> bool:
        return has_seal(file, self.position)

    def _catch_up(self, size: int, *, locked: bool) -> None:
        """Take over what the file holds, ``size`` bytes, that the index doesn't."""
        file = self.file
        if self._stale or size < self._end or not self._has_our_seal(file):
            self._stale = True
            self._torn_end = 0
            self._begin_again()
            self._replay(size, locked=locked)
            self._check_header()
            self._stale = False
        elif locked or size != self._torn_end or self._ends_with_seal(file, size):
            self._replay(size, locked=locked)

    def _begin_again(self) -> None:
        """Forget the index; go on from the hint, unless there are doubts about this very file."""
        hinted = None
        self._known_ns = self.file.size_and_change()[1]
        if self._is_new:
            self._is_new = False
            hinted = read_hint(self.directory, self.file)
        self.index, position = hinted or (Index(), START)
        self._set_end(position)
        self._hint_end = self._end

    def _leave_hint(self, *, durable: bool = False) -> None:
        """Spare the next one who opens the job what we have read, if it was much."""
        if self.file.unended_at >= 0:  # a hint is about commits that are there to the last byte
            return
        if self._end - self._hint_end >= max(HINT_BYTES, self._end >> 6):
            self._hint_end = self._end
            position = Position(self._end, self._end_crc)
            write_hint(
                self.directory,
                self.file,
                self.index,
                position,
                durable=durable,
                known_ns=self._known_ns,
            )

    def _ends_with_seal(self, file: JournalFile, size: int) -> bool:
        """Whether a torn tail may have become a commit of the same length since it was judged."""
        end = file.read_at(size - SEALED_END_BYTES, SEALED_END_BYTES)
        return SEALED_LINE_END.search(end + b"\n") is not None  # its own LF may be missing

    def _check_header(self) -> None:
        if self.index.state is None:
            raise JournalDamagedError(self.path, 1, 0, "a job record", "an empty file")
        if self.index.state.header.id != self.job_id:
            raise JobMismatchError(self.directory, self.index.state.header.id)

    def _replay(self, size: int, *, locked: bool) -> None:
        """Apply the commits from our position up to ``size``; judge what is left over."""
        self._unsynced = True
        begin = Position(self._end, self._end_crc)
        try:
            for block in verified_blocks(self.file, begin, size):
                apply_block(self.index, self.file, block)
                if block.ends:
                    self._set_end(block.after)
        except BaseException:
            self._stale = True  # half of a block may be in the index
            raise
        self._torn_end = 0
        if self._end > begin.offset:
            self._known_ns = max(self._known_ns, written_ns(self.index.last_at))
        if self._end < size:
            self._judge_tail(size, locked=locked)

    def _set_end(self, position: Position) -> None:
        self._end, self._end_crc = position

    def _judge_tail(self, size: int, *, locked: bool) -> None:
        """Decide what the bytes from our position to ``size`` are: torn tail, or damage."""
        from journal.format.scan import judge_tail  # noqa: PLC0415  (a sound journal is read without it)

        tail = judge_tail(self.file, size, self.position)
        if tail.kind == "torn":
            self._torn_end = size
            return
        if not locked:
            self._look_again()
            return
        if tail.kind == "unended":
            self.file.unended_at = size
            self._replay(size + 1, locked=True)
            return
        self._stale = True
        if tail.kind == "newer":
            raise FormatVersionError(self.path, tail.reason)
        raise not_continued(self.file, self.position, tail.reason)

    def _look_again(self) -> None:
        """A reader may have read across a writer's truncation: look again with it locked out."""
        file = self.file
        self._lock(file)
        try:
            size = file.size_at_path()
            if size is not None:
                self._catch_up(size, locked=True)
        finally:
            self._unlock(file)
        if size is None:  # replaced or deleted: look at what is there now
            self._stale = True
            self.refresh()

    def _lock(self, file: JournalFile) -> None:
        if not file.try_lock() and not wait_for_lock(file, self._lock_timeout_s):
            raise JobLockedError(self.job_id, self._lock_timeout_s)

    def _unlock(self, file: JournalFile) -> None:
        file.unlock()

    def read_line(self, offset: int) -> bytes:
        """The record at an offset that the index gave, without its LF."""
        return self.file.read_line(offset)
