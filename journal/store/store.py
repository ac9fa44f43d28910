"""The store: a directory with one directory for each job. Creates, finds and deletes jobs.

While a job is created or deleted, its directory is in the staging directory and locked (see
:mod:`journal.fs.staging`). If a process dies, the next writer removes the directories that the
process left there. So a crash leaves no incomplete job.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Literal

from journal.errors import (
    InvalidValueError,
    JobBusyError,
    JobExistsError,
    JobNotFoundError,
    JournalError,
    RefusedError,
    ServiceClosedError,
    StorageError,
)
from journal.format.pruned import check_may_be_made, forget_pruned
from journal.fs import files, handles
from journal.fs.file_names import JOB_STAGING_NAME, JOURNAL_NAME
from journal.fs.locks import LOCK_TIMEOUT_S
from journal.fs.staging import Staging
from journal.ids import (
    check_job_id,
    is_job_id,
    shard_name,
    split_row_id,
    split_shard_name,
)
from journal.model import JobStatus
from journal.store.batch import Batch
from journal.store.journal import Journal
from journal.store.log import Log
from journal.store.run_lock import Held, RunLock, RunLocks, busy_error, run_holder

MAX_OPEN_JOURNALS = 64
# Files beside a journal. A directory with one of these files, but no journal, is a job without its
# journal.
_OF_A_JOB = (
    r"artifacts|claims|index\.hint|run\.lock|sync\.mark(\.new)?|journal\.(damaged|torn|other)-.*"
)
_LEADS_AWAY = "[/:]"  # on Windows, a path may begin with a drive, or contain slashes


class Store:
    """The jobs in one root directory. Thread-safe."""

    def __init__(self, root: Path, *, sync: bool, lock_timeout_s: float = LOCK_TIMEOUT_S) -> None:
        self.root = root
        self.root_text = os.fspath(root)  # joining Paths takes as long as opening a file
        self.sync = sync
        self.exact = False  # whether numbers in rows keep their text
        self.lock_timeout_s = lock_timeout_s
        self.leaves_hints = True  # False: journals that are opened from now on write no hint
        self._mutex = threading.Lock()
        self._journals: OrderedDict[str, Journal] = OrderedDict()
        # Most calls are for the same job as the previous call.
        self._latest: tuple[str, Journal] | None = None
        self.runs = RunLocks(root, lock_timeout_s)
        self._holders = set[tuple[str, int]]()  # jobs, and the threads that hold their run locks
        # The number of shards of each known set. For a job, the number is 0.
        self._shard_counts: dict[str, int] = {}
        self._closed = False
        self._root_synced = False  # True if the root's own name survives a power cut
        handles.reset_in_child(self)
        with handles.refusals_of(root, "look at"):
            in_the_way = root.exists() and not root.is_dir()
        if os.path.lexists(root / JOURNAL_NAME):
            reason = f"it is a job, and not the directory of the jobs: give {str(root.parent)!r}"
            raise InvalidValueError("root", os.fspath(root), reason)
        if in_the_way:
            reason = "it is not a directory; choose another root"
            raise InvalidValueError("root", os.fspath(root), reason)

    def directory(self, job_id: str) -> Path:
        """Return the path of a job's directory. The directory needn't exist.

        Raises InvalidValueError if the directory would be outside the root.
        """
        if (
            job_id[:1] in ("", ".")
            or os.sep in job_id
            or (os.altsep and re.search(_LEADS_AWAY, job_id))
        ):
            check_job_id(job_id)
        return self.root / job_id

    def locate(self, row_id: str) -> tuple[str, int]:
        """Return the id of the job, or of the shard, that has a row, and the row's number.

        The row needn't exist. Raises InvalidValueError for text that isn't a row's id.
        """
        job_id, number = found = split_row_id(row_id)
        count = self._shard_counts.get(job_id)
        if count == 0:
            return found
        if count:
            shard_id = _shard_id(job_id, number, count)
            if self.runs.has(shard_id) or os.path.lexists(f"{self.root_text}{os.sep}{shard_id}"):
                return shard_id, number
        # Another process may have made the set anew, with another count.
        count = 0 if (is_job := self.holds_job(job_id)) else self.count_shards(job_id)
        if is_job or count:
            self._shard_counts[job_id] = count
        return _shard_id(job_id, number, count) if count else job_id, number

    def shards(self, set_id: str) -> Iterator[str]:
        """Yield the ids of a set's shards that are here, in no particular order."""
        directory = self.directory(set_id)
        with handles.refusals_of(directory, "list"), suppress(NotADirectoryError):
            for name in files.subdirectories(directory):
                if split_shard_name(name) and files.exists(directory / name / JOURNAL_NAME):
                    yield f"{set_id}/{name}"

    def count_shards(self, set_id: str) -> int:
        """Return how many shards a set has, or 0 if there is no such set.

        Raises RefusedError if the set's directory has shards of two sets: a row may be in both
        sets.
        """
        # The first shard of each count.
        examples = {each.rpartition("-")[2]: each for each in sorted(self.shards(set_id))[::-1]}
        if len(examples) > 1:
            found = " and ".join(sorted(examples.values()))
            raise RefusedError(
                f"{self.directory(set_id)} has shards of several sets, such as {found}, so a row may be in "
                "two of them: move those of all but one set to another directory"
            )
        return int(next(iter(examples), 0))

    # --- open journals

    def journal(self, job_id: str) -> Journal:
        """Return the job's journal. The store keeps the most recently used journals open."""
        latest = self._latest
        if latest is not None and latest[0] == job_id:
            return latest[1]
        with self._mutex:
            self.check_open()
            journal = self._journals.get(job_id)
            if journal is None:
                journal = self._new_journal(job_id)
                self._journals[job_id] = journal
                if len(self._journals) > MAX_OPEN_JOURNALS:
                    self._evict()
            self._journals.move_to_end(job_id)
            self._latest = (job_id, journal)
            return journal

    def check_open(self) -> None:
        """Raise ServiceClosedError if the store is closed."""
        if self._closed:
            raise ServiceClosedError("closed, as after a `with`: call journal.open_job again")

    def peek(self, job_id: str) -> Journal:
        """Return the job's journal, but don't keep it open. Use this to read many jobs."""
        with self._mutex:
            self.check_open()
            return self._journals.get(job_id) or self._new_journal(job_id)

    def _new_journal(self, job_id: str) -> Journal:
        journal = Journal(
            self.directory(job_id), sync=self.sync, lock_timeout_s=self.lock_timeout_s
        )
        journal.exact = self.exact
        journal.leaves_hints = self.leaves_hints
        journal.log.use_claim(self.runs.claim(job_id))
        return journal

    def _evict(self) -> None:
        for job_id, journal in self._journals.items():
            if not journal.depth:  # a second Journal would wait for the lock of this journal
                del self._journals[job_id]
                journal.close(wait=False)
                return

    def reset_after_fork(self) -> None:
        """In a forked child: drop run locks, and replace the mutex.

        A thread of the parent may have held the mutex during the fork.
        """
        self._mutex = threading.Lock()
        self.runs = RunLocks(self.root, self.lock_timeout_s)
        self._holders.clear()

    def forget(self, job_id: str) -> None:
        with self._mutex:
            self._journals.pop(job_id, None)
            self._latest = None
            self._shard_counts.clear()

    def close(self) -> None:
        with self._mutex:
            self._closed = True
            self._latest = None
            journals = list(self._journals.values())
            self._journals.clear()
        self.runs.close()
        for journal in journals:
            journal.close()

    def check_uncut(self, job_id: str) -> None:
        """Raise JournalDamagedError if the hint proves that the job's journal was cut.

        For a cut journal, all commits are refused with the same error. Reading is allowed.
        """
        with self.reading(job_id) as journal:
            journal.check_uncut()

    @contextmanager
    def reading(self, job_id: str) -> Iterator[Journal]:
        """Yield the up-to-date journal of the job, and lock out other threads of this process.

        Raises JobNotFoundError.
        """
        journal = self.journal(check_job_id(job_id))
        journal.acquire()
        try:
            try:
                journal.refresh()
            except JobNotFoundError:
                self.forget(job_id)
                raise
            if self.runs:
                self.runs.release_if_over(journal)
            yield journal
        finally:
            journal.mutex.release()

    # --- the runs of this process

    @contextmanager
    def hold_run(self, job_id: str) -> Iterator[None]:
        """Hold the job's run lock during the block, so that no run starts.

        A nested block in the same thread does nothing. Raises JobBusyError while a run has the run
        lock, even if the run belongs to this store.
        """
        holder = (job_id, threading.get_ident())
        if holder in self._holders:
            yield
            return
        run = Held()
        self.check_open()
        try:
            self._take_run(check_job_id(job_id), run)
            self._holders.add(holder)
            yield
        finally:
            self._holders.discard(holder)
            self.runs.settle(job_id, run, written=False)

    def _take_run(self, job_id: str, run: Held) -> None:
        """Take the run lock. Raises JobBusyError if the lock is taken, even by this store."""
        self.runs.take(job_id, run)
        if (claim := self.runs.claim(job_id)) is not None:
            journal = self.journal(job_id)
            if journal.in_own_commit:
                self.runs.release(job_id)
                reason = "is open: on a network file system, end it before a run begins"
                raise InvalidValueError("batch", job_id, reason)
            journal.acquire()
            try:
                journal.log.use_claim(claim)
            finally:
                journal.mutex.release()

    def check_no_other_run(self, job_id: str) -> None:
        """Raise JobBusyError if a run has the run lock, and isn't a run of this store."""
        directory = self.directory(job_id)
        if not self.runs.holds(job_id) and run_holder(directory) is not None:
            raise busy_error(directory)

    @contextmanager
    def committing_run(
        self, job_id: str, take: Literal["no", "if_free", "yes"] = "yes", *, keep: bool = False
    ) -> Iterator[tuple[Journal, bool]]:
        """Make a commit that may change the job's status.

        Yields the journal, and whether the run lock was taken for the commit.

        - ``take``: whether to take the run lock. If the commit fails, the lock is released.
        - ``keep``: whether a run uses the lock. Otherwise, the lock is released by the commit that
          ends the status "running".

        With ``take="yes"``, raises JobBusyError if the lock is taken, even by this store.
        """
        has_ended, run = False, Held(keep=keep)
        check_job_id(job_id)
        self.check_open()
        try:
            if take != "no":
                with suppress(*(() if take == "yes" else (JobBusyError,))):
                    self._take_run(job_id, run)
            with Batch(self.journal(job_id)) as journal:

                def settle(written: bool) -> None:
                    nonlocal has_ended
                    with journal.mutex:
                        state = journal.index.state
                        running = state is not None and state.status is JobStatus.RUNNING
                    self.runs.settle(job_id, run, written=written)
                    # In doubt: the commit may be in the file, and may have ended the run.
                    if not running and (written or journal.in_doubt):
                        has_ended = self.runs.release_unless_kept(job_id)

                journal.at_end(settle)
                yield journal, run.lock is not None
        except BaseException:
            self.runs.settle(job_id, run, written=False)
            raise
        if has_ended:
            self._leave_witness(job_id)

    def release_run(self, job_id: str) -> None:
        """Release the run lock if this store holds it."""
        try:
            if self.runs.has(job_id):
                self._leave_witness(job_id)  # first, since later another node may have the job
        finally:
            self.runs.release(job_id)

    def _leave_witness(self, job_id: str) -> None:
        """Write a hint after the end of a run: see :meth:`Journal.leave_witness`."""
        with suppress(JournalError):  # the run has ended in any case
            self.journal(job_id).leave_witness()

    # --- finding jobs

    def job_ids(self) -> Iterator[str]:
        """Yield the ids of all jobs, in no particular order."""
        return filter(is_job_id, self.directory_names())

    def directory_names(self) -> Iterator[str]:
        """Yield the names of all directories with a journal, even names that aren't job ids."""
        return filter(self.holds_job, self.subdirectories())

    def subdirectories(self) -> Iterator[str]:
        """Yield the names of all directories, with or without a journal."""
        with handles.refusals_of(self.root, "list"):
            yield from files.subdirectories(self.root)

    def holds_job(self, job_id: str) -> bool:
        """Return whether the job's directory has a journal."""
        return files.exists(self.directory(job_id) / JOURNAL_NAME)

    def set_ids(self) -> Iterator[str]:
        """Yield the ids of all sets of shards, in no particular order."""
        return filter(self.is_set, filter(is_job_id, self.subdirectories()))

    def is_set(self, name: str) -> bool:
        """Return whether a directory has shards of a set, and is no job."""
        return not self.holds_job(name) and next(self.shards(name), None) is not None

    def check_not_lost(self, job_id: str) -> None:
        """Raise StorageError if a directory has files of a job, but no journal."""
        path = self.directory(job_id)
        with handles.refusals_of(path, "list"):
            lost = any(re.fullmatch(_OF_A_JOB, name) for name in files.names_in(path))
        if lost and not self.holds_job(job_id):  # the job may have been created meanwhile
            reason = (
                "it is gone, and other files of its job are still there: restore it from a copy, "
                "or move the directory away"
            )
            raise StorageError(path / JOURNAL_NAME, "read", errno.ENOENT, reason)

    # --- making and deleting jobs

    def create(self, job_id: str, fill: Callable[[Journal], None], *, anew: bool = False) -> None:
        """Create a job, completely or not at all. ``fill`` commits the job's first records.

        If the store syncs, the job survives a power cut after this method has returned. Raises
        JobPrunedError if the job was pruned, unless ``anew`` is given.
        """

        def build(directory: Path) -> None:
            journal = Journal(
                directory, sync=self.sync, lock_timeout_s=self.lock_timeout_s, create=True
            )
            fill(journal)
            journal.close()

        self.make(job_id, build, anew=anew)
        if anew:
            with suppress(StorageError):  # a line about an existing job doesn't count
                forget_pruned(self.root, job_id)

    def make(self, job_id: str, build: Callable[[Path], None], *, anew: bool) -> None:
        """Create a job like :meth:`create`. ``build(directory)`` must make and sync all files."""
        target = self.directory(job_id)
        with self._staged(target, job_id) as (staging, made):
            directory = made
            self._check_free(target, job_id, anew=anew)
            if target.parent != self.root:
                # The parent of a shard becomes the directory of the set if the set has no directory
                # yet. So a set is never empty, and a job of the same name can't take its place.
                directory = made / target.name
                files.make_directory(directory)
            build(directory)
            if self.sync:
                files.sync_directory(directory)
            self._check_free(target, job_id, anew=anew)
            try:
                if target.parent == self.root:
                    staging.place(directory, target)
                else:
                    staging.place_shard(directory, target)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another process was faster
                    raise JobExistsError(job_id) from None
                raise
        with suppress(StorageError):  # if the check is refused, the job counts as made
            if not files.exists(target / JOURNAL_NAME):  # another process has deleted the job
                raise JobNotFoundError(job_id)
        self.forget(job_id)
        self._sync_names(target, target)

    @contextmanager
    def scratch(self, job_id: str) -> Iterator[Path]:
        """Make a private temporary directory in the store for a ``with`` block.

        After a crash, the next writer removes the directory.
        """
        with self._staged(self.root / JOB_STAGING_NAME, job_id) as (_, directory):
            yield directory

    @contextmanager
    def _staged(self, path: Path, job_id: str) -> Iterator[tuple[Staging, Path]]:
        """Make a locked directory in the staging directory for a ``with`` block.

        If the system refuses a call in the block, raises StorageError about ``path``.
        """
        with handles.refusals_of(path, "create"), closing(self._staging()) as staging:
            with staging.locked(self.lock_timeout_s):
                lock = staging.make(_staging_name(job_id))
            try:
                yield staging, lock.directory
            finally:
                with suppress(OSError):  # after the job got its place, there is nothing to remove
                    staging.remove(lock.directory)
                lock.close()

    def _sync_names(self, moved: Path, target: Path) -> None:
        """Make the rename of a directory to ``moved`` durable. ``target``: the job's directory."""
        if self.sync:
            try:
                # On btrfs, the new name may be lost although the parent was synced, as in Linux
                # 6.18 (https://lkml.iu.edu/hypermail/linux/kernel/2510.3/01018.html).
                with suppress(FileNotFoundError):  # another process has removed the directory
                    files.sync_directory(moved)
                if target.parent != self.root:  # the directory of a shard
                    with suppress(FileNotFoundError):
                        files.sync_directory(target.parent)
                files.sync_directory(self.root)
            except OSError as error:
                refused = handles.storage_error(self.root, "sync", error)
                raise handles.outcome_unknown(refused) from error

    def _check_free(self, target: Path, job_id: str, *, anew: bool) -> None:
        set_id, _, shard = job_id.partition("/")
        if shard:
            self._check_set(set_id, shard)
        elif self.is_set(job_id):
            reason = f"{target} is a set of shards: give the shard to start, by shard= or --shard"
            raise InvalidValueError("job_id", job_id, reason)
        # On Windows, a deletion that died may leave an empty directory.
        if files.exists(target) and not files.is_empty(target):
            if files.exists(target / JOURNAL_NAME):  # the job may have been made meanwhile
                raise JobExistsError(job_id)
            reason = f"{target} exists but has no journal: move it away, or restore the journal"
            raise InvalidValueError("job_id", job_id, reason)
        if not anew:
            check_may_be_made(self.root, job_id)

    def _check_set(self, set_id: str, shard: str) -> None:
        """Raise InvalidValueError if the shard doesn't fit.

        A job may have the set's name, or the set may have another count of shards.
        """
        if self.holds_job(set_id):
            reason = f"{self.directory(set_id)} is a job, and not a set of shards"
            raise InvalidValueError("shard", shard, reason)
        count, found = self.count_shards(set_id), split_shard_name(shard)
        if found and count not in (0, found[1]):
            reason = f"{self.directory(set_id)} is a set of {count} shards: give that count"
            raise InvalidValueError("shard", shard, reason)

    def delete(
        self, job_id: str, first: Callable[[Path], object] = lambda _directory: None
    ) -> bool:
        """Delete a job with all its files. Returns False if there is no such job.

        ``first(directory)`` is called before the deletion, while the run lock and the commit lock
        are held. So nothing is committed between this call and the deletion. If ``first`` raises,
        nothing is deleted.

        Raises JobBusyError while a process holds the job's run lock, and JobNotFoundError for the
        id of a set.
        """
        self.check_open()
        directory = self.directory(job_id)
        if not files.exists(directory / JOURNAL_NAME):
            if (error := handles.no_job(directory, job_id)).shard:
                raise error
            return False
        try:
            run = RunLock.take(directory, job_id, sign=False)  # signing would need disk space
        except JobNotFoundError:
            return False
        try:
            log = Log(directory, sync=self.sync, lock_timeout_s=self.lock_timeout_s)
            with log.locked():
                first(directory)
                staging = self._staging()
                with staging.locked(self.lock_timeout_s):
                    leftover = staging.take(directory, _staging_name(job_id), log.file)
            log.close()
            self.forget(job_id)
            with closing(staging):
                # Do this before files are removed: a power cut must not leave an empty job.
                if directory.parent != self.root:
                    files.remove_if_empty(directory.parent)  # the directory of the set
                self._sync_names(leftover, directory)
                with suppress(OSError):  # files that can't be removed now stay as a leftover
                    staging.remove(leftover)
        except (FileNotFoundError, JobNotFoundError):
            return False
        except OSError as error:
            raise handles.storage_error(directory, "delete", error) from error
        finally:
            run.release()
        return True

    def _staging(self) -> Staging:
        """Open the staging directory. If the directory and the store are missing, make them."""
        self.check_open()
        if not self._root_synced and any(map(split_shard_name, self.subdirectories())):
            reason = "is a set of shards, whose commands see no job in it: give its parent"
            raise InvalidValueError("root", self.root_text, reason)
        with handles.refusals_of(self.root, "make jobs in"):
            files.make_store(self.root, sync=self.sync and not self._root_synced)
            self._root_synced = True
            return Staging(self.root)


def _staging_name(job_id: str) -> str:
    """Return a unique name in the staging directory, which nobody can guess."""
    return f"{job_id.partition('/')[0]}.{os.urandom(6).hex()}"


def _shard_id(set_id: str, number: int, count: int) -> str:
    return f"{set_id}/{shard_name((number - 1) % count, count)}"
