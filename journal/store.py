"""A store: the directory that holds one directory a job. Creates, finds and deletes jobs.

Below the root, ``.staging`` holds jobs that are being made or deleted. Both happen under the
lock of ``.staging/lock``, so whatever else lies in there when the lock is free was left behind
by a process that died, and the next writer removes it: a crash leaves no half job.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from journal import files
from journal.errors import (
    JobExistsError,
    JobLockedError,
    JobNotFoundError,
    JournalDamagedError,
    ServiceClosedError,
    StoreError,
)
from journal.format import (
    JobRecord,
    UndecodableError,
    UnknownRecordError,
    content_crc,
    decode_record,
    read_error,
    stated_crc,
)
from journal.log import Log
from journal.reader import JOURNAL_NAME
from journal.runlock import RunLock
from journal.validate import is_job_id

MAX_OPEN_LOGS = 64
STAGING_NAME = ".staging"

_stores: weakref.WeakSet[Store] = weakref.WeakSet()


class Store:
    """The jobs below one root. Thread-safe."""

    def __init__(self, root: Path, *, sync: bool, lock_timeout_s: float) -> None:
        self.root = root
        self.sync = sync
        self.lock_timeout_s = lock_timeout_s
        self._mutex = threading.Lock()
        self._logs: OrderedDict[str, Log] = OrderedDict()
        self._latest: tuple[str, Log] | None = None  # most calls name the same job again
        self._runs: dict[str, RunLock] = {}
        self._closed = False
        _stores.add(self)
        if root.exists() and not root.is_dir():
            raise StoreError(root, "it is not a directory; choose another root")

    def directory(self, job_id: str) -> Path:
        return self.root / job_id

    # --- open journals

    def log(self, job_id: str) -> Log:
        """The job's log, kept open for the next call; of a bounded number of jobs."""
        latest = self._latest
        if latest is not None and latest[0] == job_id:
            return latest[1]
        with self._mutex:
            log = self._open_log(job_id)
            if log is None:
                log = self._new_log(job_id)
                self._logs[job_id] = log
                if len(self._logs) > MAX_OPEN_LOGS:
                    self._evict()
            self._logs.move_to_end(job_id)
            self._latest = (job_id, log)
            return log

    def check_open(self) -> None:
        """Raise ServiceClosedError if it isn't."""
        if self._closed:
            raise ServiceClosedError("this JobService is closed: open a new one")

    def _open_log(self, job_id: str) -> Log | None:
        self.check_open()
        return self._logs.get(job_id)

    def peek(self, job_id: str) -> Log:
        """The job's log if it is open, else one that is not kept: for a look at many jobs."""
        with self._mutex:
            return self._open_log(job_id) or self._new_log(job_id)

    def _new_log(self, job_id: str) -> Log:
        return Log(self.directory(job_id), sync=self.sync, lock_timeout_s=self.lock_timeout_s)

    def _evict(self) -> None:
        for job_id, log in self._logs.items():
            if not log.in_commit:  # a batch holds its lock: a second log would wait for it
                del self._logs[job_id]
                return

    def reset_after_fork(self) -> None:
        """In a forked child: another thread may have held the mutex; run locks stay behind."""
        self._mutex = threading.Lock()
        self._runs = {}

    def forget(self, job_id: str) -> None:
        with self._mutex:
            self._logs.pop(job_id, None)
            self._latest = None

    def close(self) -> None:
        with self._mutex:
            self._closed = True
            self._latest = None
            logs, runs = list(self._logs.values()), list(self._runs.values())
            self._logs.clear()
            self._runs.clear()
        for run in runs:
            run.release()
        for log in logs:
            log.close()

    # --- the runs of this process

    def take_run(self, job_id: str) -> bool:
        """Hold the job's run lock; False if this store holds it already. Raises JobBusyError."""
        self.check_open()
        if self.holds_run(job_id):
            return False
        lock = RunLock.take(self.directory(job_id), job_id)
        with self._mutex:
            self._runs[job_id] = lock
        return True

    def holds_run(self, job_id: str) -> bool:
        with self._mutex:
            lock = self._runs.get(job_id)
            return lock is not None and lock.held

    def release_run(self, job_id: str) -> None:
        with self._mutex:
            lock = self._runs.pop(job_id, None)
        if lock is not None:
            lock.release()

    # --- the jobs there are

    def job_ids(self) -> Iterator[str]:
        """The ids of the jobs in the store, in no order; other directories are passed over."""
        try:
            for name in files.subdirectories(self.root):
                if is_job_id(name) and files.exists(self.root / name / JOURNAL_NAME):
                    yield name
        except OSError as error:
            raise files.storage_error(self.root, "list", error) from error

    def header(self, job_id: str) -> JobRecord:
        """The job record alone, without replaying the journal."""
        path = self.directory(job_id) / JOURNAL_NAME
        try:
            line = files.JournalFile(path).read_line(0)
        except (FileNotFoundError, NotADirectoryError):
            raise JobNotFoundError(job_id) from None
        except OSError as error:
            raise files.storage_error(path, "read", error) from error
        stated = stated_crc(line)
        if stated is not None and content_crc(line, 0) != stated:
            raise JournalDamagedError(path, 1, 0, f"crc {content_crc(line, 0):08x}", "another")
        try:
            record = decode_record(line)
        except (UndecodableError, UnknownRecordError) as error:
            raise read_error(path, 1, 0, error) from None
        if not isinstance(record, JobRecord):
            raise JournalDamagedError(path, 1, 0, "a job record", "a record of another type")
        return record

    # --- making and deleting jobs

    def create(self, job_id: str, fill: Callable[[Log], None]) -> None:
        """Make a job whole or not at all: ``fill`` commits what it starts with.

        On return the job is there and, with ``sync``, survives a power cut.
        """
        with self._staging() as staging:
            if files.exists(self.directory(job_id)):
                raise JobExistsError(job_id)
            directory = staging / job_id
            try:
                files.make_directory(directory)
                log = Log(
                    directory, sync=self.sync, lock_timeout_s=self.lock_timeout_s, create=True
                )
                fill(log)
                log.close()
                if self.sync:
                    files.sync_directory(directory)
                files.rename(directory, self.directory(job_id))
                if self.sync:
                    files.sync_directory(self.root)
            except OSError as error:
                raise files.storage_error(self.directory(job_id), "create", error) from error
            finally:  # empty after the rename; else what there is of a job that was not to be
                files.remove_tree(directory)
        self.forget(job_id)

    def delete(self, job_id: str) -> bool:
        """Remove a job and all its files; False if there is none. JobBusyError while it runs."""
        self.check_open()
        directory = self.directory(job_id)
        if not files.exists(directory / JOURNAL_NAME):
            return False
        with self._staging() as staging:
            lock = RunLock.take(directory, job_id)
            try:
                files.rename(directory, staging / job_id)
                if self.sync:
                    files.sync_directory(self.root)
                files.remove_tree(staging / job_id)
            except FileNotFoundError:
                return False
            except OSError as error:
                raise files.storage_error(directory, "delete", error) from error
            finally:
                lock.release()
                self.forget(job_id)
        return True

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        """The staging directory, locked and empty but for its lock."""
        self.check_open()
        staging = self.root / STAGING_NAME
        try:
            files.make_store(self.root)
            files.make_directory(staging)
            lock = files.LockFile(staging / "lock")
        except OSError as error:
            raise StoreError(
                self.root, f"{os.strerror(error.errno or 0)}; choose another root"
            ) from error
        try:
            if not lock.acquire(self.lock_timeout_s):
                raise JobLockedError(str(self.root), self.lock_timeout_s)
            for name in files.subdirectories(staging):
                files.remove_tree(staging / name)
            yield staging
        finally:
            lock.close()


def _reset_stores_in_child() -> None:
    for store in list(_stores):
        store.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_stores_in_child)
