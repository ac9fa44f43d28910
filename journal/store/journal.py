"""One job's journal held open: refresh, commit, and what a crash or a fault leaves behind.

A :class:`Journal` is a context manager whose block is one commit::

    with log:                      # mutex, commit lock, catch up with other writers
        log.append(record)         # encoded now, written at the end
    # written, synced, indexed, lock released; an exception in the block undoes all of it

Inside of a :class:`Batch` blocks nest: an inner one joins the batch's commit, and an exception in
it undoes what the inner one did, so that the batch can go on. What is appended is in the index at
once, so that a block sees its own changes; nobody else can look before it ends.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from time import time_ns
from types import TracebackType
from typing import Any, Self, TypeVar
from zlib import crc32

from journal.errors import (
    CommitOutcomeUnknownError,
    InvalidValueError,
    JobLockedError,
    ServiceClosedError,
    StorageError,
)
from journal.format.commits import START
from journal.format.records import (
    MAX_LINE_BYTES,
    SEAL_BYTES,
    UNSET_TIME,
    Record,
    encode_into,
    now,
    sealed_end,
)
from journal.fs.handles import JournalFile, outcome_unknown
from journal.index.index import Index
from journal.store.group_commit import Group
from journal.store.recovery import Recovery

SPILL_BYTES = 1 << 20
# If nobody comes to close the job, so much has to be replayed, or a quarter of it if that is more:
# so writing hints, for which other writers wait, remains a small part of the work.
_HINT_GROWTH_BYTES = 64 << 20
_MAX_RECORD_BYTES = MAX_LINE_BYTES - SEAL_BYTES  # any record may get a seal

Result = TypeVar("Result")

_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


# How far a commit was when an inner block began, and what an exception in it returns to: where the
# buffer would stand in the file, its length, the crc up to it, the index's mark and last_at, and
# how many wait for the end. A plain tuple, for each change within a batch makes one.
Savepoint = tuple[int, int, int, int, datetime, int]


class Fate:
    """What became of a commit, for those who hold on to what they read inside of it."""

    __slots__ = ("discarded", "settled")

    def __init__(self) -> None:
        self.settled = False
        self.discarded = False

    def settle(self, written: bool) -> None:
        self.discarded = not written
        self.settled = True


class Journal(Recovery):
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
        super().__init__(directory, sync=sync, lock_timeout_s=lock_timeout_s)
        self._depth = 0
        self._joinable: list[tuple[weakref.ref[Any], int]] = []  # open batches, and their depth
        self._saves: list[Savepoint] = []  # one for each inner block that is open
        self._buffer = bytearray()
        self._buffer_at = 0  # where in the file the buffer's first byte will stand
        self._crc = 0  # of the commit under way, up to the buffer
        self._begin_at = UNSET_TIME
        self._took_long = False  # code of the caller's has run since the file was looked at
        self._foreign = False  # somebody else wrote into the file meanwhile
        self._failed: StorageError | None = None  # of a write: the commit can't be kept
        self._outcome_unknown = False  # of the latest commit: it may be in the file, or not
        self._at_end: list[Callable[[bool], None]] = []
        self._names_synced = create  # of a new job, whoever moves it to its place syncs them
        self._owner = 0  # the thread that is in a commit
        self._task: object = None  # in that thread, the asyncio task whose batch is open
        self._group = Group(lock_timeout_s)
        if create:
            self._file = JournalFile(self.path, create=True)
            self._unsynced = False  # there is nothing in it
        _journals.add(self)

    @property
    def in_commit(self) -> bool:
        """Whether a commit is under way; sure only for a thread that holds the mutex."""
        return self._depth > 0

    @property
    def in_doubt(self) -> bool:
        """Whether the latest commit ended with CommitOutcomeUnknownError."""
        return self._outcome_unknown

    @property
    def in_own_commit(self) -> bool:
        """Whether the calling thread is in a commit."""
        return self._owner == threading.get_ident()

    def close(self) -> None:
        """Let go of the file; views that still read from it keep it open for themselves."""
        with self.mutex:
            if not self._depth:  # a batch that is open in this thread ends as it would have
                if not self._stale:
                    self._leave_hint(durable=self._sync and not self._unsynced)
                self._file = self._mark = None
                self._stale = True

    def close_unless_used(self) -> None:
        """As :meth:`close`, but not if another thread is at work: it lets go of it all by itself."""
        if self.mutex.acquire(blocking=False):
            try:
                self.close()
            finally:
                self.mutex.release()

    def acquire(self) -> None:
        """Take the mutex, or raise JobLockedError: another thread may hold a batch open."""
        if not self.mutex.acquire(timeout=self._lock_timeout_s):
            raise JobLockedError(self.job_id, self._lock_timeout_s)

    def refresh(self) -> Index:
        """As :meth:`Reader.refresh`; inside a commit, with the changes made so far."""
        if self._depth:
            self._unwind(self._living_depth())
        return self.index if self._depth else super().refresh()

    def read_line(self, offset: int) -> bytes:
        """As :meth:`Reader.read_line`, of the commit under way too."""
        if self._depth and offset >= self._buffer_at:
            if self._failed is not None:
                raise self._failed
            start = offset - self._buffer_at
            return bytes(self._buffer[start : self._buffer.index(b"\n", start)])
        assert self._file is not None
        return self._file.read_line(offset)

    # --- committing

    def change(self, change: Callable[..., Result], *arguments: Any) -> Result:
        """Have ``change(log, *arguments)`` called in a commit of this thread, or in another's.

        Where commits are synced, those that threads ask for at a time share one. ``change`` must
        be quick: it may be called by another thread, and others wait for it.
        """
        if self._sync and self._owner != threading.get_ident():
            return self._group.run(self, partial(change, self, *arguments))
        with self:
            return change(self, *arguments)

    def attempt(self, change: Callable[[], Result]) -> Result:
        """Call ``change`` within the commit under way; what it did until it raised is undone."""
        save = self._savepoint()
        try:
            return change()
        except BaseException:
            self._rollback_to(save)
            raise

    def interrupted(self) -> CommitOutcomeUnknownError:
        """What to tell a thread whose change another one was writing when it was interrupted."""
        reason = "the thread that wrote it for this one was interrupted"
        return CommitOutcomeUnknownError(self.path, "write", errno.EINTR, reason)

    def __enter__(self) -> Self:
        if not self.mutex.acquire(True, self._lock_timeout_s):
            raise JobLockedError(self.job_id, self._lock_timeout_s)
        if self._depth:
            self._unwind(self._living_depth())
        if self._depth:
            if self._task is not None and self._task is not _current_task():
                self.mutex.release()
                raise JobLockedError(self.job_id, 0, by_task=True)
            self._saves.append(self._savepoint())
            self._depth += 1
            return self
        self._depth, self._owner = 1, threading.get_ident()
        try:
            self._begin()
        except BaseException:
            self._leave(False)
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
        if self._depth > 1:
            self._depth -= 1
            save = self._saves.pop()
            if error is not None:
                self._rollback_to(save)
            self.mutex.release()
            return
        # Until the end is reached, whatever ends this early (a signal handler may raise anywhere)
        # leaves it to the next use to read what has become of the file.
        self._stale = True
        written = False
        try:
            written = self._finish(discard=error is not None or self._failed is not None)
        finally:
            self._leave(written)
        failed, self._failed = self._failed, None
        if error is None and failed is not None:
            try:
                raise failed
            finally:
                del failed  # it would keep this frame, and with it the file, alive

    # A signal handler may raise in the very moment in which a block's __exit__ begins, before a
    # single line of it has run. The block is then left and its commit still open: to join it
    # would acknowledge what is never written. So whoever enters asks first which blocks live.

    def let_join(self, block: weakref.ref[Any]) -> None:
        """Let later blocks join the one that was just entered, while ``block`` lives."""
        self._joinable.append((block, self._depth))
        self._took_long = True
        if self._depth == 1:
            self._task = _current_task()

    def stop_joining(self, block: weakref.ref[Any]) -> None:
        """End what :meth:`let_join` began, and all that was left over inside of it."""
        for number, (other, depth) in enumerate(self._joinable):
            if other is block:
                self._unwind(depth)
                del self._joinable[number:]

    def _living_depth(self) -> int:
        while self._joinable and self._joinable[-1][0]() is None:
            self._joinable.pop()
        return self._joinable[-1][1] if self._joinable else 0

    def _unwind(self, depth: int) -> None:
        """Undo what blocks deeper than ``depth`` did: they have been left without their __exit__."""
        while self._depth > max(depth, 1):
            self._rollback_to(self._saves.pop())
            self._depth -= 1
            self.mutex.release()
        if self._depth > depth:
            self._stale = True
            self._leave(False)

    def _leave(self, written: bool) -> None:
        """End the outermost block: unlock, and tell those that wait for the commit's fate.

        The depth goes last: whoever is interrupted in here is left with an open block, and the next
        use of this log by the same thread finishes it.
        """
        if self._file is not None:
            self._unlock(self._file)
        if self._at_end:
            self._call_at_end(0, written)
        self._depth, self._owner, self._task = 0, 0, None
        self.mutex.release()

    def _begin(self) -> None:
        """Lock the file that the path names, and know all that is in it."""
        self._failed = None
        self._took_long = self._foreign = self._outcome_unknown = False
        self._buffer.clear()
        while True:
            file = self._file
            if file is None or not file.writable:  # it may have become writable since
                file = self._open()
            if not file.try_lock():
                self._lock(file)
            size = file.size_at_path()
            if size is not None:
                if self._knows(file, size):
                    self._torn_end = 0  # a reader saw a commit under way that was taken back
                else:
                    self._catch_up(size, locked=True)
                ready = file.writable and not (self._torn_end or self._unsynced or file.is_shared)
                if not ready or self._is_marked():
                    self._make_ready(file)
                self._buffer_at, self._crc = self._end, self._end_crc
                self._begin_at = self.index.last_at
                return
            self._unlock(file)
            self._open()  # it was deleted or replaced between opening and locking

    def _finish(self, discard: bool) -> bool:
        """Write what was appended, or take it back; whether it was written."""
        file = self._file
        assert file is not None
        if discard:
            self._abandon()
            return False
        if self._buffer:
            return self._write_commit(file)
        self.index.forget_undo()  # nothing was appended, so nothing happened
        self._stale = False
        return True

    def fate(self) -> Fate | None:
        """The fate of what was appended so far, if the calling thread is in a commit; else None."""
        if not self._depth:
            return None
        fate = Fate()
        self.at_end(fate.settle)
        return fate

    def at_end(self, call: Callable[[bool], None]) -> None:
        """Have ``call`` told, once the commit under way is over, whether it was written."""
        self._at_end.append(call)

    def _call_at_end(self, first: int, written: bool) -> None:
        calls = self._at_end[first:]
        del self._at_end[first:]
        for call in calls:
            call(written)

    def now(self) -> datetime:
        """The time for the next record: a clock that steps back is held, not followed."""
        at, last_at = now(), self.index.last_at
        if at < last_at:
            return last_at
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
        if len(buffer) - start > _MAX_RECORD_BYTES:
            self._refuse_length(start, getattr(record, "row", None))
        self.index.last_at = record.at
        return self._buffer_at + start

    def append_line(self, line: bytes, at: datetime, row: int | None = None) -> int:
        """As :meth:`append`, for a record that is encoded already, LF included.

        ``row``: the number to name if it is refused.
        """
        self._took_long = True  # rows come from the caller's iterable
        buffer = self._buffer
        start = len(buffer)
        if start >= SPILL_BYTES:
            self._spill()
            start = 0
        buffer += line
        if len(line) > _MAX_RECORD_BYTES:
            self._refuse_length(start, row)
        self.index.last_at = at
        return self._buffer_at + start

    def _refuse_length(self, start: int, row: int | None) -> None:
        length = len(self._buffer) - start
        del self._buffer[start:]
        raise InvalidValueError(
            "the record" if row is None else f"row {self.job_id}:{row}: its record",
            f"{length} bytes",
            f"must be at most {_MAX_RECORD_BYTES} bytes as JSON",
        )

    def _spill(self) -> None:
        """Write the lines so far: none of them is the commit's last, so no reader sees them."""
        if self._failed is not None:
            raise self._failed
        try:
            self._check_end(self.file)
            self.file.append(self._buffer)
        except StorageError as error:
            self._failed = error
            raise
        self._crc = crc32(self._buffer, self._crc)
        self._buffer_at += len(self._buffer)
        self._buffer.clear()

    def _savepoint(self) -> Savepoint:
        index = self.index
        return (
            self._buffer_at,
            len(self._buffer),
            self._crc,
            index.mark(),
            index.last_at,
            len(self._at_end),
        )

    def _rollback_to(self, save: Savepoint) -> None:
        """Undo what was appended since ``save`` and keep what was before it."""
        buffer_at, buffer_bytes, crc, mark, last_at, at_end = save
        self.index.rollback(mark)
        self.index.last_at = last_at
        self._call_at_end(at_end, written=False)
        if self._buffer_at == buffer_at:
            del self._buffer[buffer_bytes:]
            return
        if self._failed is not None:
            return  # the commit can't be kept anyhow
        try:  # what was in the buffer then has been spilled since: take it back
            self._check_end(self.file)
            self._buffer[:] = self.file.read_at(buffer_at, buffer_bytes)
            self.file.truncate(buffer_at)
            if self._sync:  # else blocks of it may show up inside of what is written next
                self.sync_file(self._end)
        except StorageError as error:
            self._failed = error
        self._buffer_at, self._crc = buffer_at, crc

    def _write_commit(self, file: JournalFile) -> bool:
        """Seal, write and sync; False if it could not be written and was taken back."""
        buffer = self._buffer
        del buffer[-2:]  # the closing brace and LF of the last record
        crc = crc32(buffer, self._crc)
        buffer += sealed_end(crc)
        try:
            if self._took_long:
                self._check_end(file)
            file.append(buffer)
        except StorageError as error:
            self._failed = error
            self._abandon()
            if self._failed is not error:  # all of it but its LF may be there, and that counts
                failed, self._failed = self._failed, None
                self._outcome_unknown = True
                raise outcome_unknown(failed) from error
            return False
        end = self._buffer_at + len(buffer)
        buffer.clear()
        if self._sync:
            try:
                self.sync_file(self._end)
            except StorageError as error:
                self._take_back(error)
                return False
        self._end, self._end_crc = end, crc
        self._known_ns = time_ns()
        self.index.forget_undo()
        self._stale = False
        if end - self._hint_end >= max(_HINT_GROWTH_BYTES, self._hint_end >> 2):
            self._leave_hint(durable=self._sync and not self._unsynced)
        return True

    def _check_end(self, file: JournalFile) -> None:
        """Raise StorageError if the path no longer names this file, or it is not as we left it."""
        size = file.size_at_path()
        if size != self._buffer_at or not self._has_our_seal(file):
            self._foreign = size is not None
            reason = "it was moved, replaced or written over while this commit was open"
            raise StorageError(self.path, "write", errno.ESTALE, reason)

    def _take_back(self, refused: StorageError) -> None:
        """Cut off a commit whose sync was refused; all that is before it is on the disk.

        The kernel takes its pages for clean and would report success the next time, and they may
        never reach the disk (https://wiki.postgresql.org/wiki/Fsync_Errors). Raises
        CommitOutcomeUnknownError if the cut, too, is refused.
        """
        with suppress(StorageError):
            self.file.truncate(self._end)
            self._undo()
            self._stale, self._unsynced = False, True
            self.sync_file(self._end)
            self._unsynced = False
            reason = f"{refused.reason}; the change was taken back: nothing of it is recorded"
            self._failed = StorageError(self.path, "sync", refused.errno, reason)
            return
        self._outcome_unknown = True
        raise outcome_unknown(refused) from refused

    def _undo(self) -> None:
        """Leave the index as it was before the commit."""
        self._buffer.clear()
        self.index.rollback(0)
        self.index.last_at = self._begin_at

    def _abandon(self) -> None:
        """Leave index and file as they were before the commit."""
        self._undo()
        if self._foreign:
            return  # stale as it is: what is in there now is not ours to cut
        spilled = self._buffer_at > self._end
        if spilled or self._failed is not None:
            try:
                self.file.truncate(self._end)
                self._unsynced = True  # blocks of it may show up inside of the next commit
            except StorageError as error:
                # Stale as it is: the next use finds a torn tail and saves it.
                self._failed = StorageError(
                    self.path, "take back a half-written commit of", error.errno, error.reason
                )
                return
        self._stale = False

    def _unlock(self, file: JournalFile) -> None:
        try:
            file.unlock()
        except StorageError:
            file.close()  # which lets go of the lock, whatever the system says
            self._file = None
            self._stale = True

    def reset_after_fork(self) -> None:
        """In a forked child: nothing of the parent's files, locks or open commit is ours."""
        self.mutex = threading.RLock()
        self._file = self._mark = None
        self._stale = True
        self._depth, self._owner, self._task = 0, 0, None
        self._group = Group(self._lock_timeout_s)
        self._joinable = []
        self._saves = []
        self._buffer = bytearray()
        self._failed = None
        self._at_end = []
        self.index = Index()
        self._set_end(START)


def _current_task() -> object:
    """The asyncio task that runs in this thread; None if none does."""
    asyncio = sys.modules.get("asyncio")  # else nobody can be in a task
    try:
        return asyncio and asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None


def _reset_journals_in_child() -> None:
    for journal in list(_journals):
        journal.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_journals_in_child)
