"""The open journal of one job: a :class:`Journal` reads it, recovers it, and commits to it.

The class is spread over three files: ``reader.py`` keeps the index up to date, ``recovery.py`` puts
the file in order before a commit, and this file makes commits. A journal is a context manager whose
block is one commit::

    with journal:                # take the mutex and the commit lock, read commits of others
        journal.append(record)   # encode the record into the buffer
    # the commit is written and synced, and the lock released; an exception discards the commit

Inside a :class:`Batch`, blocks nest. An inner block joins the commit of the batch. An exception in
an inner block undoes only the changes of that block. The batch can continue.

A record is in the index as soon as it is appended. So a block sees its own changes. Other threads
and processes see the changes only after the commit.
"""

from __future__ import annotations

import errno
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import get_ident
from time import time_ns
from types import TracebackType
from typing import Any, Self, TypeVar
from zlib import crc32

from journal.errors import (
    InvalidValueError,
    JobLockedError,
    ServiceClosedError,
    StorageError,
)
from journal.format.commits import START
from journal.format.records import MAX_LINE_BYTES, UNSET_TIME, Record, encode_into, now
from journal.format.seal import SEAL_BYTES, sealed_end
from journal.fs import system
from journal.fs.handles import JournalFile, outcome_unknown, reset_in_child
from journal.index import hint
from journal.index.index import Index
from journal.store.group_commit import GroupCommit
from journal.store.recovery import Recovery

SPILL_BYTES = 1 << 20
_FORKED = "this batch belongs to the process that forked: nothing was written here"
# Any record may become the last of its commit and get a seal.
_MAX_RECORD_BYTES = MAX_LINE_BYTES - SEAL_BYTES

Result = TypeVar("Result")

# The state of a commit at the beginning of an inner block. After an exception in the block, this
# state is restored. The items are the buffer's offset in the file, the buffer's length, the crc of
# everything before the buffer, the mark and last_at of the index, and the number of at_end
# callbacks. Each change in a batch makes a savepoint, so a savepoint is a plain tuple, which is
# faster than a class.
Savepoint = tuple[int, int, int, int, datetime, int]


class Journal(Recovery):
    """The open journal of one job: see the module. Thread-safe.

    Hold ``mutex`` while you read from the index.
    """

    def __init__(
        self,
        directory: Path,
        *,
        sync: bool,
        lock_timeout_s: float,
        create: bool = False,
    ) -> None:
        """Use the journal in ``directory``. With ``create``, make a new, empty journal there.

        The first commit of a new journal must begin with the job record.
        """
        super().__init__(directory, sync=sync, lock_timeout_s=lock_timeout_s)
        self._depth = 0
        self._joinable: list[tuple[weakref.ref[Any], int]] = []  # open batches and their depths
        self._saves: list[Savepoint] = []  # one for each open inner block
        self._buffer = bytearray()
        self._buffer_at = 0  # the offset in the file of the buffer's first byte
        self._crc = 0  # the crc of everything before the buffer
        self._begin_at = UNSET_TIME
        self._took_long = False  # True if the caller's code has run since the file was checked
        self._foreign = False  # True if another program wrote to the file during this commit
        self._failed: StorageError | None = None  # set after a failed write: discard the commit
        self.in_doubt = False  # True if the latest commit ended with CommitOutcomeUnknownError
        self._at_end: list[Callable[[bool], None]] = []
        self._names_synced = create  # the code that moves a new job into place syncs the names
        self._owner = 0  # the id of the thread that has a commit open
        self._task: object = None  # the asyncio task that has a batch open
        self._group = GroupCommit(self.path, lock_timeout_s)
        if create:
            self._file = JournalFile(self.path, create=True)
            self._stale = self._unsynced = False  # the file is empty
        reset_in_child(self)

    @property
    def in_commit(self) -> bool:
        """Whether a commit is open. Without the mutex, the answer may change at any time."""
        return self._depth > 0

    @property
    def depth(self) -> int:
        """The nesting depth of the open blocks. 0 means that no block is open."""
        return self._depth

    @property
    def in_own_commit(self) -> bool:
        """Whether the calling thread has a commit open."""
        return self._owner == get_ident()

    def close(self) -> None:
        """Close the file, unless a view still reads from it."""
        with self.mutex:
            if not self._depth:  # a batch that this thread has open must be able to end
                if not self._stale:
                    self._leave_hint()
                self._file = self._mark = None
                self._stale = True

    def leave_witness(self) -> None:
        """Write a durable hint of all commits, however small, if this journal syncs.

        Call this when a run has ended. If the journal is cut later, the hint proves it.
        """
        if self._sync and not self.in_own_commit:
            with self:  # under the lock, everything is read and synced
                self._leave_hint(small=True)

    def close_unless_used(self) -> None:
        """Close the file as :meth:`close` does, unless another thread uses the journal."""
        if self.mutex.acquire(blocking=False):
            try:
                self.close()
            finally:
                self.mutex.release()

    def refresh(self, *, locked: bool = False) -> Index:
        """Bring the index up to date, and return it: see :meth:`Reader.refresh`.

        In an open commit, the index includes the changes that the commit has made so far.
        """
        if self._depth:
            self._unwind(self._living_depth())
        return self.index if self._depth else super().refresh(locked=locked)

    def read_line(self, offset: int) -> bytes:
        """Return the line at an offset from the index, without LF.

        The line may be in the open commit.
        """
        if self._depth and offset >= self._buffer_at:
            if self._failed is not None:
                raise self._failed
            start = offset - self._buffer_at
            return bytes(self._buffer[start : self._buffer.index(b"\n", start)])
        assert self._file is not None
        return self._file.read_line(offset)

    # --- committing

    def change(self, change: Callable[..., Result], *arguments: Any) -> Result:
        """Call ``change(journal, *arguments)`` in a commit; return its result after the commit.

        If the journal syncs, changes that several threads request during a commit share the next
        commit. One of the threads calls all these changes while the other threads wait. So
        ``change`` must be quick. A thread that finds no commit open makes its own commit. But if
        the last commit was shared, changes of other threads can join this commit, too, since the
        threads that shared the last commit are about to request more changes.
        """
        group = self._group
        is_busy = self._sync and (self._depth or group.open.requests or group.was_shared)
        if is_busy and self._owner != get_ident():
            return group.run(self, partial(self.attempt, partial(change, self, *arguments)))
        with self:
            return change(self, *arguments)

    def attempt(self, change: Callable[[], Result]) -> Result:
        """Call ``change`` in the open commit. If the call raises, its changes are undone."""
        save = self._savepoint()
        try:
            return change()
        except BaseException:
            self._rollback_to(save)
            raise

    def __enter__(self) -> Self:
        # acquire() is inlined, since each function call makes a commit slower.
        taken: list[bool] = []
        try:
            # One call of C code takes the mutex and records the result. So no signal handler can
            # raise between the two and leave the mutex taken.
            taken.extend(map(self.mutex.acquire, (True,), (self._lock_timeout_s,)))
            if not taken[0]:
                raise JobLockedError(self.job_id, self._lock_timeout_s)
            if self._depth:
                self._unwind(self._living_depth())
            if self._depth:
                if self._task is not None and self._task is not system.current_task():
                    raise JobLockedError(self.job_id, 0, by_task=True)
                self._saves.append(self._savepoint())
                self._depth, taken = self._depth + 1, []  # from here on, _unwind releases the mutex
                return self
            self._depth, self._owner = 1, get_ident()
        except BaseException:
            if any(taken):
                self.mutex.release()
            raise
        try:
            self._failed = None
            self._took_long = self._foreign = self.in_doubt = False
            if self._buffer:  # a signal handler raised in the last commit
                self._buffer.clear()
            self._lock_and_recover()
            self._buffer_at, self._crc = self._end, self._end_crc
            self._begin_at = self.index.last_at
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
        if not self._depth:  # the process forked inside the block, and the parent has the commit
            if error is None:
                raise ServiceClosedError(_FORKED)
            return
        if self._depth > 1:
            self._depth -= 1
            save = self._saves.pop()
            if error is not None:
                self._rollback_to(save)
            self.mutex.release()
            return
        # A signal handler may raise anywhere below. Then the next use must read the file again.
        self._stale = True
        written = False
        try:
            if error is not None or self._failed is not None:
                self._abandon()
            elif self._buffer:
                written = self._write_commit(self.file)
            else:  # nothing was appended
                self.index.forget_undo()
                self._stale, written = False, True
        finally:
            self._leave(written)
        if self._failed is not None:
            failed, self._failed = self._failed, None
            if error is None:
                try:
                    raise failed
                finally:
                    del failed  # the error would keep this frame alive, and with it the file

    # A signal handler may raise just before the first line of a block's __exit__ runs. Then the
    # block has ended, but its commit is still open. Later changes would join this commit, and
    # would be acknowledged, but never written. So on entry to a block, the journal first looks for
    # such blocks, and ends them.

    def let_join(self, block: weakref.ref[Any]) -> None:
        """Let inner blocks join the commit of the block that was just entered.

        They may join as long as the weak reference ``block`` is alive.
        """
        self._joinable.append((block, self._depth))
        self._took_long = True
        if self._depth == 1:
            self._task = system.current_task()

    def stop_joining(self, block: weakref.ref[Any]) -> None:
        """Undo :meth:`let_join`, and end inner blocks that are still open."""
        for number, (other, depth) in enumerate(self._joinable):
            if other is block:
                self._unwind(depth)
                del self._joinable[number:]

    def _living_depth(self) -> int:
        while self._joinable and self._joinable[-1][0]() is None:
            self._joinable.pop()
        return self._joinable[-1][1] if self._joinable else 0

    def _unwind(self, depth: int) -> None:
        """Undo and end the blocks deeper than ``depth``. Their ``__exit__`` didn't run."""
        while self._depth > max(depth, 1):
            self._rollback_to(self._saves.pop())
            self._depth -= 1
            self.mutex.release()
        if self._depth > depth:
            self._stale = True
            self._leave(False)

    def _leave(self, written: bool) -> None:
        """End the outermost block: release the commit lock, and call the at_end callbacks.

        ``_depth`` is reset last. So if this method is interrupted, the block still counts as open,
        and the next use of the journal in this thread ends the block.
        """
        if self._file is not None:
            self._unlock(self._file)
        if self._at_end:
            self._call_at_end(0, written)
        self._depth, self._owner, self._task = 0, 0, None
        self.mutex.release()

    def outcome(self) -> list[bool] | None:
        """Return a list that gets one item when the open commit ends.

        The item is True if the commit was written, else False. Returns None if no commit is open.
        """
        if not self._depth:
            return None
        outcome: list[bool] = []
        self.at_end(outcome.append)
        return outcome

    def at_end(self, call: Callable[[bool], None]) -> None:
        """Call ``call(written)`` when the open commit ends."""
        self._at_end.append(call)

    def _call_at_end(self, first: int, written: bool) -> None:
        calls = self._at_end[first:]
        del self._at_end[first:]
        for call in calls:
            call(written)

    def now(self) -> datetime:
        """Return the time for the next record.

        If the clock was set back, this is the time of the latest record.
        """
        at, last_at = now(), self.index.last_at
        if at < last_at:
            return last_at
        return at

    def append(self, record: Record) -> int:
        """Encode a record into the open commit; return its offset in the file."""
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
        if (length := len(buffer) - start) > _MAX_RECORD_BYTES:
            del buffer[start:]
            raise self._too_long(length, getattr(record, "row", None))
        self.index.last_at = record.at
        return self._buffer_at + start

    def append_line(self, line: bytes, at: datetime, row: int | None = None) -> int:
        """Append an encoded record, with its LF, to the open commit; return the record's offset.

        ``row`` is the row number for an error message.
        """
        if len(line) > _MAX_RECORD_BYTES:
            raise self._too_long(len(line), row)
        self._took_long = True  # the caller's iterable yields the rows
        buffer = self._buffer
        start = len(buffer)
        if start >= SPILL_BYTES:
            self._spill()
            start = 0
        buffer += line
        self.index.last_at = at
        return self._buffer_at + start

    def _too_long(self, length: int, row: int | None) -> InvalidValueError:
        subject = "the record" if row is None else f"row {self.job_id}:{row}: its record"
        limit = f"must be at most {_MAX_RECORD_BYTES} bytes as JSON"
        return InvalidValueError(subject, f"{length} bytes", limit)

    def _spill(self) -> None:
        """Write the buffered lines to the file, without a seal.

        Readers ignore these lines until the seal of the commit follows.
        """
        if self._failed is not None:
            raise self._failed
        if not self._depth:  # the process forked inside the block, and the parent has the commit
            raise ServiceClosedError(_FORKED)
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
        """Undo all changes since ``save``."""
        buffer_at, buffer_bytes, crc, mark, last_at, at_end = save
        self.index.rollback(mark)
        self.index.last_at = last_at
        self._call_at_end(at_end, written=False)
        if self._buffer_at == buffer_at:
            del self._buffer[buffer_bytes:]
            return
        if self._failed is not None:
            return  # the commit will be discarded anyway
        # The buffer was written to the file after the savepoint. Read it back, and truncate.
        try:
            self._check_end(self.file)
            self._buffer[:] = self.file.read_at(buffer_at, buffer_bytes)
            self.file.truncate(buffer_at)
            if self._sync:  # otherwise a power cut could bring the truncated blocks back
                self.sync_file(self._end)
        except StorageError as error:
            self._failed = error
        self._buffer_at, self._crc = buffer_at, crc

    def _write_commit(self, file: JournalFile) -> bool:
        """Seal, write and sync the commit. If that fails, roll back the commit and return False."""
        buffer = self._buffer
        del buffer[-2:]  # the closing brace and LF of the last record
        crc = crc32(buffer, self._crc)
        seal = sealed_end(crc)
        buffer += seal
        try:
            if self._took_long:
                self._check_end(file)
            file.append(buffer)
        except StorageError as error:
            self._failed = error
            self._abandon()
            # The rollback has failed, too. If only the LF wasn't written, the commit is valid.
            if self._failed is not error:
                failed, self._failed = self._failed, None
                self.in_doubt = True
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
        self._end, self._end_crc, self._seal = end, crc, seal
        self._known_ns = time_ns()
        self.index.forget_undo()
        self._stale = False
        grown = end - self._hint_end
        if grown >= hint.GROWTH_BYTES and hint.is_due_while_open(end, self._hint_end):
            self._leave_hint()
        return True

    def _check_end(self, file: JournalFile) -> None:
        """Raise StorageError if another program has replaced the file or written to the file."""
        size = file.size_at_path()
        if size != self._buffer_at or not self._has_our_seal(file):
            self._foreign = size is not None
            reason = "it was moved, replaced or written over while this commit was open"
            raise StorageError(self.path, "write", errno.ESTALE, reason)

    def _take_back(self, refused: StorageError) -> None:
        """Truncate the file to remove a commit whose sync failed. Earlier commits are on the disk.

        The sync can't be repeated, since the kernel has marked the pages clean. The next sync would
        report success although the pages may never reach the disk
        (https://wiki.postgresql.org/wiki/Fsync_Errors). Raises CommitOutcomeUnknownError if the
        truncation or its sync fails, too.
        """
        with suppress(StorageError):
            self.file.truncate(self._end)
            self._undo()
            self._stale, self._unsynced = False, True
            self.sync_file(self._end)
            self._unsynced = False
            reason = f"{refused.reason}; the change was undone: nothing of it is recorded"
            self._failed = StorageError(self.path, "sync", refused.errno, reason)
            return
        self.in_doubt = True
        raise outcome_unknown(refused) from refused

    def _undo(self) -> None:
        """Restore the index to its state before the commit."""
        self._buffer.clear()
        self.index.rollback(0)
        self.index.last_at = self._begin_at

    def _abandon(self) -> None:
        """Restore the index and the file to their states before the commit."""
        self._undo()
        if self._foreign:
            return  # the bytes of another writer must not be truncated, so the index stays stale
        spilled = self._buffer_at > self._end
        if spilled or self._failed is not None:
            try:
                self.file.truncate(self._end)
                self._unsynced = True  # the truncated blocks may appear inside the next commit
            except StorageError as error:
                # The index stays stale. The next use finds a torn tail and saves it.
                self._failed = StorageError(
                    self.path, "roll back a half-written commit of", error.errno, error.reason
                )
                return
        self._stale = False

    def reset_after_fork(self) -> None:
        """In a forked child: drop the parent's file, locks and open commit."""
        self.mutex = threading.RLock()
        self._file = self._mark = None
        self._stale = True
        self._depth, self._owner, self._task = 0, 0, None
        self._group = GroupCommit(self.path, self._lock_timeout_s)
        self._joinable = []
        self._saves = []
        self._buffer = bytearray()
        self._failed = None
        self._at_end = []
        self.index = Index()
        self._set_end(START)
