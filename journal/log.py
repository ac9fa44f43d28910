"""One job's journal held open: refresh, commit, and what a crash or a fault leaves behind.

A :class:`Log` is a context manager whose block is one commit::

    with log:                      # mutex, commit lock, catch up with other writers
        log.append(record)         # encoded now, written at the end
    # written, synced, indexed, lock released; an exception in the block undoes all of it

Blocks nest: an inner one joins the outer one's commit. What is appended is in the index at once,
so that a block sees its own changes; nobody else can look before it ends.
"""

from __future__ import annotations

import os
import threading
import weakref
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from zlib import crc32

from journal import files
from journal.errors import (
    CommitOutcomeUnknownError,
    InvalidValueError,
    JobLockedError,
    JobMismatchError,
    JobNotFoundError,
    JournalDamagedError,
    ServiceClosedError,
    StorageError,
)
from journal.files import JournalFile
from journal.format import (
    MAX_LINE_BYTES,
    SEAL_BYTES,
    UNSET_TIME,
    Record,
    encode_into,
    now,
    read_error,
)
from journal.index import BadRecordError, Index
from journal.replay import START, Position, TailVerdict, judge_tail, verified_blocks

JOURNAL_NAME = "journal.jsonl"
SPILL_BYTES = 1 << 20
_LONGEST_BYTES = MAX_LINE_BYTES - SEAL_BYTES  # any record may get a seal

_logs: weakref.WeakSet[Log] = weakref.WeakSet()


class Savepoint(NamedTuple):
    """A state within a commit that :meth:`Log.rollback_to` returns to."""

    buffer_at: int
    buffer_bytes: int
    crc: int
    undo: int
    last_at: datetime


class Fate:
    """What became of a commit, for those who hold on to what they read inside of it."""

    __slots__ = ("discarded", "settled")

    def __init__(self) -> None:
        self.settled = False
        self.discarded = False


class Log:
    """See the module. Thread-safe; readers hold ``mutex`` around what they read of the index."""

    def __init__(
        self,
        directory: Path,
        *,
        sync: bool,
        lock_timeout_s: float,
        create: bool = False,
    ) -> None:
        """``create`` makes a new, empty journal, whose first commit must be the job record."""
        self.directory = directory
        self.path = directory / JOURNAL_NAME
        self.mutex = threading.RLock()
        self.index = Index()
        self._sync = sync
        self._lock_timeout_s = lock_timeout_s
        self._end = 0  # of the last commit in the index: its offset in the file, and its crc
        self._end_crc = 0
        self._file: JournalFile | None = None
        self._stale = False  # what we know may not be what the file holds: read all of it again
        self._unsynced = True  # the file may hold commits that no one has synced
        self._torn_end = 0  # up to here the bytes behind the last commit were judged a torn tail
        self._depth = 0
        self._buffer = bytearray()
        self._buffer_at = 0  # where in the file the buffer's first byte will stand
        self._crc = 0  # of the commit under way, up to the buffer
        self._begin_at = UNSET_TIME
        self._fate: Fate | None = None
        self._failed: StorageError | None = None
        if create:
            self._file = JournalFile(self.path, create=True)
        _logs.add(self)

    @property
    def in_commit(self) -> bool:
        """Whether the calling thread, which must hold the mutex, is inside a commit."""
        return self._depth > 0

    @property
    def file(self) -> JournalFile:
        """The open file, for reading what the index points to; call :meth:`refresh` first."""
        assert self._file is not None
        return self._file

    def close(self) -> None:
        """Let go of the file; views that still read from it keep it open for themselves."""
        with self.mutex:
            if not self._depth:  # a batch that is open in this thread ends as it would have
                self._file = None
                self._stale = True

    # --- reading

    def refresh(self) -> Index:
        """The index as of the last commit in the file. The caller holds the mutex.

        Raises JobNotFoundError, JobMismatchError, JournalDamagedError, FormatVersionError,
        StorageError.
        """
        if self._depth:
            return self.index
        size = self._file.size_at_path() if self._file is not None else None
        if size is None:
            size = self._open().size_bytes()
        if self._stale or size != self._end:
            self._catch_up(size, locked=False)
        return self.index

    def _open(self) -> JournalFile:
        """Open the journal that the path names now; what it holds is not known yet."""
        self._file = None
        self._stale = True
        try:
            self._file = JournalFile(self.path)
        except (FileNotFoundError, NotADirectoryError):
            raise JobNotFoundError(self.directory.name) from None
        except OSError as error:
            raise self._storage_error("open", error) from error
        return self._file

    def _catch_up(self, size: int, *, locked: bool) -> None:
        """Take over what the file holds, ``size`` bytes, that the index doesn't."""
        if self._stale or size < self._end:
            self._stale = True
            self._unsynced = True
            self._end, self._end_crc = START
            self._torn_end = 0
            self.index = Index()
            self._replay(size, locked=locked)
            self._check_identity()
            self._stale = False
        elif size != self._torn_end or locked:
            self._unsynced = True
            self._replay(size, locked=locked)

    def _check_identity(self) -> None:
        state = self.index.state
        if state is not None and state.header.id != self.directory.name:
            raise JobMismatchError(self.directory, state.header.id)

    def _replay(self, size: int, *, locked: bool) -> None:
        """Apply the commits from our position up to ``size``; judge what is left over."""
        start = Position(self._end, self._end_crc)
        try:
            for block in verified_blocks(self.file, start, size):
                self.index.apply(block.offset, block.lines)
                if block.ends:
                    self._end, self._end_crc = block.after
        except BadRecordError as error:
            self._stale = True
            line = self.file.count_lines(error.offset) + 1
            raise read_error(self.path, line, error.offset, error.why) from None
        except OSError as error:
            self._stale = True
            raise self._storage_error("read", error) from error
        except BaseException:
            self._stale = True  # half of a block may be in the index
            raise
        self._torn_end = 0
        if self._end < size:
            self._judge(size, start, locked=locked)

    def _judge(self, size: int, start: Position, *, locked: bool) -> None:
        """Decide what the bytes from our position to ``size`` are: torn tail, or damage."""
        if locked and start != START:
            # Before it is cut off or called damage: is it still the file that we began with, or
            # was another copied over it in place? Then our position means nothing.
            self._stale = True
            self._catch_up(size, locked=True)
            return
        verdict = judge_tail(self.file, size, Position(self._end, self._end_crc))
        if verdict.torn:
            self._torn_end = size
        elif locked:
            self._raise_damage(verdict)
        else:
            self._look_again()

    def _look_again(self) -> None:
        """A reader may have read across a writer's truncation: look again with it locked out."""
        file = self.file
        self._wait_for_lock(file)
        try:
            size = file.size_at_path()
            if size is not None:
                self._catch_up(size, locked=True)
        finally:
            self._unlock(file)
        if size is None:
            self._open()
            self.refresh()

    def _raise_damage(self, verdict: TailVerdict) -> None:
        self._stale = True
        offset = verdict.span.offset
        raise JournalDamagedError(
            self.path,
            self.file.count_lines(offset) + 1,
            offset,
            f"a commit that continues crc {self._end_crc:08x}",
            verdict.span.reason,
        )

    def read_line(self, offset: int) -> bytes:
        """The record at an offset that the index gave, without its LF; of this commit too."""
        if self._depth and offset >= self._buffer_at:
            start = offset - self._buffer_at
            return bytes(self._buffer[start : self._buffer.index(b"\n", start)])
        assert self._file is not None
        data = self._file.read_some(offset, 1024)
        end = data.find(b"\n")
        return data[:end] if end >= 0 else read_line(self.file, offset)

    # --- committing

    def __enter__(self) -> Self:
        if not self.mutex.acquire(True, self._lock_timeout_s):
            raise JobLockedError(self.directory.name, self._lock_timeout_s)
        try:
            if not self._depth:
                self._begin()
            self._depth += 1
        except BaseException:
            self.mutex.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._depth:  # forked inside the block: it is the parent's commit
            if error is None:
                raise ServiceClosedError(
                    "this batch belongs to the process that forked: nothing was written here"
                )
            return
        try:
            if self._depth == 1:
                self._finish(error is not None or self._failed is not None)
        finally:
            self._depth -= 1
            self.mutex.release()
        if error is None and self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed

    def _begin(self) -> None:
        """Lock the file that the path names, and know all that is in it."""
        self._failed = None
        while True:
            file = self._file or self._open()
            if not file.try_lock():
                self._wait_for_lock(file)
            try:
                size = file.size_at_path()
                if size is not None:
                    if self._stale or size != self._end:
                        self._catch_up(size, locked=True)
                    if self._torn_end or self._unsynced or not file.writable:
                        self._make_ready(file)
                    self._buffer_at, self._crc = self._end, self._end_crc
                    self._begin_at = self.index.last_at
                    return
            except BaseException:
                self._unlock(file)
                raise
            self._unlock(file)
            self._open()  # it was deleted or replaced between opening and locking

    def _finish(self, discard: bool) -> None:
        file = self.file
        written = False
        try:
            if discard:
                self._abandon()
            elif self._buffer:
                written = self._write_commit(file)
            else:  # nothing was appended, so nothing happened
                self.index.forget_undo()
                self.index.last_at = self._begin_at
                written = True
        finally:
            if self._fate is not None:
                self._fate.settled = True
                self._fate.discarded = not written
                self._fate = None
            self._unlock(file)

    def fate(self) -> Fate | None:
        """The fate of the commit under way, which the calling thread is in; else None."""
        if self._depth and self._fate is None:
            self._fate = Fate()
        return self._fate

    def _make_ready(self, file: JournalFile) -> None:
        if not file.writable:
            raise StorageError(self.path, "write", 30, "it or its file system is read-only")
        try:
            if self._torn_end:
                self._cut_torn_tail(file)
            if self._sync:
                # After a power cut only the last commit may be damaged: so nothing is written
                # behind commits of a writer that died between its write and its sync.
                file.sync()
            self._unsynced = False
        except OSError as error:
            raise self._storage_error("recover", error) from error

    def _cut_torn_tail(self, file: JournalFile) -> None:
        """Save what a dead writer left behind the last commit, then cut it off."""
        start = self._end
        name = f"journal.torn-{start}"
        files.save_copy(file, start, self._torn_end, self.directory / name, sync=self._sync)
        file.truncate(start)
        self._torn_end = 0
        self._unsynced = True

    def now(self) -> datetime:
        """The time for the next record: a clock that steps back is held, not followed."""
        index, at = self.index, now()
        if at < index.last_at:
            return index.last_at
        index.last_at = at
        return at

    def append(self, record: Record) -> int:
        """Encode a record into the commit under way; return the offset it will have."""
        buffer = self._buffer
        start = len(buffer)
        if start >= SPILL_BYTES:
            self._spill()
            start = 0
        try:
            encode_into(record, buffer, start)
            buffer += b"\n"
        except BaseException:
            del buffer[start:]
            raise
        if len(buffer) - start > _LONGEST_BYTES:
            self._refuse_length(start)
        return self._buffer_at + start

    def append_line(self, line: bytes) -> int:
        """As :meth:`append`, for a record that is encoded already, LF included."""
        if len(self._buffer) >= SPILL_BYTES:
            self._spill()
        start = len(self._buffer)
        self._buffer += line
        if len(line) > _LONGEST_BYTES:
            self._refuse_length(start)
        return self._buffer_at + start

    def _refuse_length(self, start: int) -> None:
        length = len(self._buffer) - start
        del self._buffer[start:]
        raise InvalidValueError(
            "record", f"{length} bytes", f"must be at most {_LONGEST_BYTES} bytes as JSON"
        )

    def _spill(self) -> None:
        """Write the lines so far: none of them is the commit's last, so no reader sees them."""
        if self._failed is not None:
            raise self._failed
        try:
            self.file.append(self._buffer)
        except OSError as error:
            self._failed = self._storage_error("write", error)
            raise self._failed from error
        self._crc = crc32(self._buffer, self._crc)
        self._buffer_at += len(self._buffer)
        self._buffer.clear()

    def savepoint(self) -> Savepoint:
        """Where the commit under way stands, for :meth:`rollback_to`."""
        return Savepoint(
            self._buffer_at,
            len(self._buffer),
            self._crc,
            self.index.mark(),
            self.index.last_at,
        )

    def rollback_to(self, save: Savepoint) -> None:
        """Undo what was appended since ``save`` and keep what was before it."""
        self.index.rollback(save.undo)
        self.index.last_at = save.last_at
        if self._buffer_at == save.buffer_at:
            del self._buffer[save.buffer_bytes :]
            return
        if self._failed is not None:
            return  # the commit can't be kept anyhow
        try:  # what was in the buffer then has been spilled since: take it back
            self._buffer[:] = self.file.read_at(save.buffer_at, save.buffer_bytes)
            self.file.truncate(save.buffer_at)
        except OSError as error:
            self._failed = self._storage_error("truncate", error)
        self._buffer_at, self._crc = save.buffer_at, save.crc

    def _write_commit(self, file: JournalFile) -> bool:
        """Seal, write and sync; False if it could not be written and was taken back."""
        buffer = self._buffer
        del buffer[-2:]  # the closing brace and LF of the last record
        crc = crc32(buffer, self._crc)
        buffer += b',"crc":"%08x"}\n' % crc  # the seal
        try:
            file.append(buffer)
        except OSError as error:
            self._failed = self._storage_error("write", error)
            self._abandon()
            return False
        except BaseException:
            self._stale = True
            self._buffer.clear()
            raise
        end = self._buffer_at + len(buffer)
        buffer.clear()
        if self._sync:
            try:
                file.sync()
            except OSError as error:
                # Never again on these pages: the kernel may have dropped them and would report
                # success (https://wiki.postgresql.org/wiki/Fsync_Errors).
                self._stale = True
                raise CommitOutcomeUnknownError(
                    self.path, "sync", error.errno or 0, os.strerror(error.errno or 0)
                ) from error
            except BaseException:
                self._stale = True
                raise
        self._end, self._end_crc = end, crc
        self.index.forget_undo()
        return True

    def _abandon(self) -> None:
        """Leave index and file as they were before the commit."""
        self._buffer.clear()
        self.index.rollback(0)
        self.index.last_at = self._begin_at
        spilled = self._buffer_at > self._end
        if spilled or self._failed is not None:
            try:
                self.file.truncate(self._end)
            except OSError as error:
                self._stale = True  # the next use finds a torn tail and saves it
                self._failed = self._storage_error("take back a half-written commit of", error)

    # --- locks

    def _wait_for_lock(self, file: JournalFile) -> None:
        try:
            if files.wait_for_lock(file, self._lock_timeout_s):
                return
        except OSError as error:
            raise self._storage_error("lock", error) from error
        raise JobLockedError(self.directory.name, self._lock_timeout_s)

    def _unlock(self, file: JournalFile) -> None:
        try:
            file.unlock()
        except OSError:
            self._file = None  # closing it lets go of the lock
            self._stale = True

    def _storage_error(self, operation: str, error: OSError) -> StorageError:
        number = error.errno or 0
        return StorageError(self.path, operation, number, os.strerror(number))

    def reset_after_fork(self) -> None:
        """In a forked child: nothing of the parent's files, locks or open commit is ours."""
        self.mutex = threading.RLock()
        self._file = None
        self._stale = True
        self._depth = 0
        self._buffer = bytearray()
        self._failed = None
        self._fate = None
        self.index = Index()
        self._end, self._end_crc = START


def read_line(file: JournalFile, offset: int, length: int = 1024) -> bytes:
    """The line at ``offset`` without its LF; ``length`` is a first guess, in bytes."""
    while True:
        data = file.read_at(offset, length)
        end = data.find(b"\n")
        if end >= 0:
            return data[:end]
        if len(data) < length or length > MAX_LINE_BYTES:
            raise StorageError(file.path, "read", 5, f"no whole line at byte {offset}")
        length *= 8


def _reset_logs_in_child() -> None:
    for log in list(_logs):
        log.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_logs_in_child)
