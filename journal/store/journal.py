"""The open journal of one job: a :class:`Journal` reads it, recovers it, and commits to it.

A journal owns the log (the file) and the index (the job in memory), and keeps them in agreement. It
is a context manager whose block is one commit::

    with journal:                # take the mutex and the commit lock, read commits of others
        journal.append(record)   # encode the record into the buffer
    # the commit is written and synced, and the lock released; an exception discards the commit

Inside a :class:`Batch`, blocks nest. An inner block joins the commit of the batch. An exception in
an inner block undoes only the changes of that block. The batch can continue.

A record is in the index as soon as it is appended. So a block sees its own changes. Other threads
and processes see the changes only after the commit.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import get_ident
from types import TracebackType
from typing import Any, Self, TypeVar

from journal.errors import (
    CommitOutcomeUnknownError,
    InvalidValueError,
    JobLockedError,
    JobMismatchError,
    JournalDamagedError,
    ServiceClosedError,
    StorageError,
)
from journal.format.commits import START, Position, cut_error
from journal.format.records import Record, encode_into, now, writable
from journal.format.size_limits import MAX_RECORD_BYTES, too_long
from journal.fs import system
from journal.fs.handles import JournalFile, reset_in_child
from journal.fs.sync_mark import is_marked
from journal.ids import id_of_directory
from journal.index import hint
from journal.index.index import Index, Mark
from journal.index.replay import apply_block
from journal.store.group_commit import GroupCommit
from journal.store.log import Log
from journal.store.recovery import recover

SPILL_BYTES = 1 << 20
_FORKED = "this batch belongs to the process that forked: nothing was written here"
# Any record may become the last of its commit and get a seal.

Result = TypeVar("Result")

# The state of a commit at the beginning of an inner block. After an exception in the block, this
# state is restored. The items are the position after the written part of the commit, the buffer's
# length, the mark of the index, and the number of at_end callbacks. Each change in a batch makes a
# savepoint. So a savepoint is a plain tuple: a class would be slower.
Savepoint = tuple[Position, int, Mark, int]


class Journal:
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
        self.directory = directory
        self.job_id = id_of_directory(directory)
        self.id_of_rows = self.job_id.partition("/")[0]  # the id of the job, or of a shard's set
        self.log = Log(directory, sync=sync, lock_timeout_s=lock_timeout_s, create=create)
        self.path = self.log.path
        self.exact = False  # True if numbers in rows keep their text: see own_number
        self.leaves_hints = True
        self._lock_timeout_s = lock_timeout_s
        # The identity of the hint that check_uncut() read last, or None.
        self._asked: tuple[int, int] | None = None
        # Set by a pull that brings back the lost end. The function gets the position of the lost
        # end.
        self.brings_back: Callable[[Position], bool] | None = None
        self.in_doubt = False  # True if the latest commit ended with CommitOutcomeUnknownError
        self._took_long = False  # True if the caller's code has run since the file was checked
        self._begin()
        reset_in_child(self)

    def _begin(self) -> None:
        """Begin without an index and without an open commit."""
        self.mutex = threading.RLock()
        self.index = Index()
        self._mark: Mark  # the mark of the index at the beginning of the open commit
        self._stale = False  # True if the index may differ from the log, and must be rebuilt
        self.depth = 0  # the nesting depth of the open blocks, or 0 if no commit is open
        self._joinable: list[tuple[weakref.ref[Any], int]] = []  # open batches and their depths
        self._saves: list[Savepoint] = []  # one for each open inner block
        self._buffer = bytearray()  # the part of the open commit that is not written yet
        self._failed: StorageError | None = None  # set after a failed write: discard the commit
        self._at_end: list[Callable[[bool], None]] = []
        self._owner = 0  # the id of the thread that has a commit open
        self._task: object = None  # the asyncio task that has a batch open
        self._group = GroupCommit(self.path, self._lock_timeout_s)

    @property
    def file(self) -> JournalFile:
        """The open file. Read from it at the offsets in the index. Call :meth:`refresh` first."""
        return self.log.file

    @property
    def in_own_commit(self) -> bool:
        """Whether the calling thread has a commit open."""
        return self._owner == get_ident()

    def close(self, *, wait: bool = True) -> None:
        """Close the file, unless a view still reads from it.

        Without ``wait``, does nothing if another thread uses the journal.
        """
        if self.mutex.acquire(blocking=wait):
            try:
                if not self.depth:  # a batch that this thread has open must be able to end
                    if not (self._stale or self.log.is_new):
                        self._leave_hint()
                    self.log.close()
            finally:
                self.mutex.release()

    # --- reading

    def acquire(self) -> None:
        """Take the mutex. Raises JobLockedError if another thread keeps a batch open too long."""
        taken: list[bool] = []
        try:  # one call of C code takes the mutex, as in __enter__
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

        In an open commit, the index includes the changes that the commit has made so far.

        ``locked``: whether the caller holds the commit lock (by another open file).

        Raises JobNotFoundError, JobMismatchError, JournalDamagedError, FormatVersionError,
        StorageError.
        """
        if self.depth:
            self._unwind(self._living_depth())
        if not self.depth:
            log = self.log
            size, begin = log.size(), log.end.offset
            if size != begin or self._stale or not log.continues(size):
                self._catch_up(size, locked=locked)
                if log.end.offset - begin >= hint.MIN_BYTES:
                    self._leave_hint()
        return self.index

    def _catch_up(self, size: int, *, locked: bool) -> None:
        """Apply the commits that the index lacks, from the first ``size`` bytes of the file."""
        log = self.log
        if self._stale or not log.continues(size):
            self._begin_again()
        elif not locked and log.is_still_torn(size):
            return
        begin, self._stale = log.end, True  # after an error, the index may contain half of a block
        is_sure = log.read(size, partial(apply_block, self.index, log.file), locked=locked)
        if log.end != begin:
            log.known_ns = max(log.known_ns, hint.written_ns(self.index.last_at))
        if is_sure:
            self._check_header()
        self._stale = False
        if not is_sure:
            with log.locked() as locked_size:
                self._catch_up(locked_size, locked=True)

    def _begin_again(self) -> None:
        """Drop the index. If the file was just opened, load the index from the hint file."""
        log, hinted = self.log, None
        self._stale, self._asked = True, None
        log.known_ns = log.file.size_and_change()[1]
        if log.is_new:
            hinted = hint.read_hint(self.directory, log.file)
        self.index, position = hinted or (Index(), START)
        log.begin_at(position)

    def _check_header(self) -> None:
        if self.index.state is None:
            raise JournalDamagedError(self.path, 1, 0, "a job record", "an empty file")
        if self.index.state.header.job_id != self.job_id:
            raise JobMismatchError(self.directory, self.index.state.header.job_id)

    def read_line(self, offset: int) -> bytes:
        """Return the line at an offset from the index, without LF.

        The line may be in the open commit.
        """
        if self.depth and offset >= self.log.written.offset:
            if self._failed is not None:
                raise self._failed
            start = offset - self.log.written.offset
            return bytes(self._buffer[start : self._buffer.index(b"\n", start)])
        return self.log.file.read_line(offset)

    def row_line(self, offset: int) -> bytes:
        """Return what :meth:`read_line` returns.

        This method is faster for lines near each other.
        """
        log = self.log
        return log.row_line(offset) if offset < log.end.offset else self.read_line(offset)

    # --- the hint

    def _leave_hint(self, *, small: bool = False) -> None:
        """Write a hint (the saved index) if enough was read or written since the last hint.

        With ``small``, the hint is written in any case.
        """
        log = self.log
        # A hint must end with a complete commit. If the sync mark is set, the bytes on the disk may
        # differ from the bytes that were read.
        if log.file.unended_at >= 0 or is_marked(self.directory):
            return
        is_due = small or hint.is_worth_writing(log.end.offset, log.hint_end)
        if self.leaves_hints and is_due:
            log.hint_end = log.end.offset
            hint.write_hint(
                self.directory,
                log.file,
                self.index,
                log.end,
                durable=log.syncs and log.is_synced,
                known_ns=log.known_ns,
            )

    def leave_witness(self) -> None:
        """If this journal syncs, write a durable hint of all commits, even a small hint.

        Call this when a run has ended. If the journal is cut later, the hint proves the cut.
        """
        if self.log.syncs and not (self.in_own_commit or self.log.is_after_claim):
            with self:  # under the lock, everything is read and synced
                self._leave_hint(small=True)

    def check_uncut(self) -> None:
        """Raise JournalDamagedError if the hint proves that the journal was cut.

        A commit makes this check under the commit lock. Readers that only warn need no lock: a hint
        is written after its commits, and code that replaces a journal removes the hint first. The
        same hint isn't read twice, because this index has the commits of the hint.
        """
        asked = hint.identity(self.directory)
        if asked == self._asked:
            return
        missing = hint.find_cut(self.directory, self.file)
        if missing is not None and not (self.brings_back and self.brings_back(missing)):
            raise cut_error(self.file, self.log.end.offset, missing)
        self._asked = asked

    # --- committing

    def change(self, change: Callable[..., Result], *arguments: Any) -> Result:
        """Call ``change(journal, *arguments)`` in a commit. Returns the result after the commit.

        If the journal syncs, changes that several threads request during a commit share the next
        commit. One of the threads calls all these changes while the other threads wait. So
        ``change`` must be quick. A thread that finds no commit open makes its own commit. If the
        previous commit was shared, other threads can join this new commit, too, because the threads
        of a shared commit are about to request more changes.
        """
        group = self._group
        is_busy = self.log.syncs and (self.depth or group.open.requests or group.was_shared)
        if is_busy and self._owner != get_ident():
            return group.run(self, partial(self.attempt, partial(change, self, *arguments)))
        with self:
            return change(self, *arguments)

    def attempt(self, change: Callable[[], Result]) -> Result:
        """Call ``change`` in the open commit. If ``change`` raises, its changes are undone."""
        save = self._savepoint()
        try:
            return change()
        except BaseException:
            self._rollback_to(save)
            raise

    def __enter__(self) -> Self:
        # acquire() is inlined, because each function call makes a commit slower.
        taken: list[bool] = []
        try:
            # One call of C code takes the mutex and records the result. So no signal handler can
            # raise between these two steps and leave the mutex taken.
            taken.extend(map(self.mutex.acquire, (True,), (self._lock_timeout_s,)))
            if not taken[0]:
                raise JobLockedError(self.job_id, self._lock_timeout_s)
            if self.depth:
                self._unwind(self._living_depth())
            if self.depth:
                if self._task is not None and self._task is not system.current_task():
                    raise JobLockedError(self.job_id, 0, by_task=True)
                self._saves.append(self._savepoint())
                self.depth, taken = self.depth + 1, []  # from here on, _unwind releases the mutex
                return self
            self.depth, self._owner = 1, get_ident()
        except BaseException:
            if any(taken):
                self.mutex.release()
            raise
        try:
            self._failed = None
            self._took_long = self.in_doubt = False
            if self._buffer:  # a signal handler raised in the last commit
                self._buffer.clear()
            log = self.log
            size = log.lock()
            if self._stale or not log.is_as_left(size):
                self._catch_up(size, locked=True)
                self.check_uncut()
                recover(log)
            log.written, log.is_foreign = log.end, False
            self._mark = self.index.mark()
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
        if not self.depth:  # the process forked inside the block, and the parent has the commit
            if error is None:
                raise ServiceClosedError(_FORKED)
            return
        if self.depth > 1:
            self.depth -= 1
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
            else:
                if self._buffer:
                    self._commit()
                self.index.undo = None
                self._stale, written = False, True
        finally:
            self._leave(written)
        if self._failed is not None:
            failed, self._failed = self._failed, None
            try:
                if error is None:
                    raise failed
            finally:
                del failed  # the error would keep this frame alive, and with it the file

    # A signal handler may raise just before the first line of a block's __exit__ runs. Then the
    # block has ended, but its commit is still open. Later changes would join this commit, and
    # would be acknowledged, but never written. So on entry to a block, the journal first looks for
    # such blocks, and ends them.

    def let_join(self, block: weakref.ref[Any]) -> None:
        """Let inner blocks join the commit of the block that was just entered.

        Inner blocks may join as long as the weak reference ``block`` is alive.
        """
        self._joinable.append((block, self.depth))
        self._took_long = True
        if self.depth == 1:
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
        while self.depth > max(depth, 1):
            self._rollback_to(self._saves.pop())
            self.depth -= 1
            self.mutex.release()
        if self.depth > depth:
            self._stale = True
            self._leave(False)

    def _leave(self, written: bool) -> None:
        """End the outermost block: release the commit lock, and call the at_end callbacks.

        ``depth`` is reset last. If this method is interrupted, the block still counts as open. Then
        the next use of the journal in this thread ends the block.
        """
        self.log.unlock()
        if self._at_end:
            self._call_at_end(0, written)
        self.depth, self._owner, self._task = 0, 0, None
        self.mutex.release()

    def at_end(self, call: Callable[[bool], None]) -> None:
        """Call ``call(was_written)`` when the open commit ends."""
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
        return at if at >= last_at else writable(last_at)

    def append(self, record: Record) -> None:
        """Encode a record into the open commit, and apply it to the index.

        The caller has checked that the record can be applied.
        """
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
        if (length := len(buffer) - start) > MAX_RECORD_BYTES:
            del buffer[start:]
            raise self._too_long(length, getattr(record, "row", None))
        self.index.last_at = record.at
        if not self.index.apply_one(record, self.log.written.offset + start):
            raise RuntimeError(f"readers would refuse this record: {record}")

    def append_line(self, line: bytes, at: datetime, row: int | None = None) -> int:
        """Append an encoded record, with its LF, to the open commit. Returns the record's offset.

        ``row`` is the row number for an error message.
        """
        if len(line) > MAX_RECORD_BYTES:
            raise self._too_long(len(line), row)
        self._took_long = True  # the caller's iterable yields the rows
        buffer = self._buffer
        start = len(buffer)
        if start >= SPILL_BYTES:
            self._spill()
            start = 0
        buffer += line
        self.index.last_at = at
        return self.log.written.offset + start

    def _too_long(self, length: int, row: int | None) -> InvalidValueError:
        subject = "the record" if row is None else f"row {self.id_of_rows}:{row}: its record"
        return too_long(subject, length)

    def _spill(self) -> None:
        """Write the buffered lines to the file, without a seal.

        Readers ignore these lines until the seal of the commit follows.
        """
        if self._failed is not None:
            raise self._failed
        if not self.depth:  # the process forked inside the block, and the parent has the commit
            raise ServiceClosedError(_FORKED)
        try:
            self.log.append(self._buffer)
        except StorageError as error:
            self._failed = error
            raise
        self._buffer.clear()

    def _savepoint(self) -> Savepoint:
        return self.log.written, len(self._buffer), self.index.mark(), len(self._at_end)

    def _rollback_to(self, save: Savepoint) -> None:
        """Undo all changes since ``save``."""
        written, buffer_bytes, mark, at_end = save
        self.index.rollback(mark)
        self._call_at_end(at_end, written=False)
        if self.log.written == written:
            del self._buffer[buffer_bytes:]
            return
        if self._failed is not None:
            return  # the commit will be discarded anyway
        # The buffer was written to the file after the savepoint.
        try:
            self._buffer[:] = self.log.cut_back(written, buffer_bytes)
        except StorageError as error:
            self._failed = error

    def _commit(self) -> None:
        """Write and sync the commit. If that fails, undo the commit."""
        log = self.log
        try:
            log.commit(self._buffer, check=self._took_long)
        except CommitOutcomeUnknownError:
            self.in_doubt = True
            raise
        except StorageError:
            self._undo()
            self._stale = log.is_foreign
            raise
        self._buffer.clear()
        if hint.is_due_while_open(log.end.offset, log.hint_end):
            self._leave_hint()

    def _abandon(self) -> None:
        """Restore the index and the file to their states before the commit."""
        self._undo()
        try:
            self.log.abandon(half_written=self._failed is not None)
        except StorageError as error:
            self._failed = error  # the index stays stale
        else:
            self._stale = self.log.is_foreign

    def _undo(self) -> None:
        """Restore the index to its state before the commit."""
        self._buffer.clear()
        self.index.rollback(self._mark)
        self.index.undo = None

    def reset_after_fork(self) -> None:
        """In a forked child: drop the parent's file, locks and open commit."""
        self.log.close()
        self._begin()
